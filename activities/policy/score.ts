/** Scores of a reward model by the resident runtime. */
import { rm } from 'node:fs/promises';
import { z } from 'zod';
import { ScoreRow } from '../../workflows/contract/index.js';
import { collect } from '../artifacts/collections.js';
import { readLines, writeRows } from '../artifacts/rows.js';
import type { ArtifactStore } from '../artifacts/store.js';
import type { RuntimeOperation } from '../runtime/operations.js';
import type { PythonProcess } from '../runtime/python-service.js';
import { conversationForms } from './prompt.js';

/** File in the model's folder: mean and standard deviation of its held-out scores, by which RL normalises. */
export const SCORE_SCALE_FILE = 'acecoder_score_scale.json';
export const ScoreScale = z.strictObject({ mean: z.number(), std: z.number().positive() });
export type ScoreScale = z.infer<typeof ScoreScale>;

export interface ScoreRequest {
  id: string;
  question: string;
  language?: string | undefined;
  program: string;
}

/** Scores in request order. A conversation that is longer than the reward model's context has none. */
export async function score(
  models: PythonProcess<RuntimeOperation>,
  store: ArtifactStore,
  requests: readonly ScoreRequest[],
  options: {
    model: string;
    microBatch: number;
    signal?: AbortSignal;
    onProgress?: (done: number, total: number) => void;
  },
): Promise<ScoreRow[]> {
  if (requests.length === 0) return [];
  const rows = await store.spoolPath('.rows.jsonl');
  const output = await store.spoolPath('.scores.jsonl');
  try {
    await writeRows(
      rows,
      requests.map(({ id, question, language, program }) => ({
        id,
        messages: [{ role: 'user', content: question }],
        ...(language === undefined ? {} : { language }),
        response: program,
      })),
    );
    await models.call(
      'score',
      { model: options.model, rows, forms: conversationForms(), output, microBatch: options.microBatch },
      {
        ...(options.signal ? { signal: options.signal } : {}),
        onProgress: ({ done, total }) => options.onProgress?.(done, total),
      },
    );
    return await collect(readLines(output, ScoreRow));
  } finally {
    await Promise.all([rm(rows, { force: true }), rm(output, { force: true })]);
  }
}
