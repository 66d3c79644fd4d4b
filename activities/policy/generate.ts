/** Sampling from a policy by an engine's process: requests out, answers in, by files. */
import { rm } from 'node:fs/promises';
import { z } from 'zod';
import type { Engine } from '../../workflows/contract/index.js';
import type { Services } from '../runtime/services.js';
import { collect } from '../artifacts/collections.js';
import { readLines, writeRows } from '../artifacts/rows.js';
import type { Prompt } from './prompt.js';

/** Row of the engines' `sample` operation. `completionIds` end with EOS only where the model wrote it. */
export const Answer = z.object({
  id: z.string(),
  index: z.number().int(),
  text: z.string(),
  /** A prompt that leaves the model no room has no ids and no text. */
  finish: z.enum(['stop', 'length', 'promptTooLong']),
  promptIds: z.array(z.number().int()),
  completionIds: z.array(z.number().int()),
  logProbs: z.array(z.number()).optional(),
});
export type Answer = z.infer<typeof Answer>;

export interface SampleRequest {
  id: string;
  prompt: Prompt;
  n: number;
  /** 0 is greedy. */
  temperature: number;
  topP: number;
  maxNewTokens: number;
  /** One for each of the `n` samples: an answer depends on its own seed, not on its neighbours in a batch. */
  seeds: number[];
}

export interface GenerateOptions {
  engine: Engine;
  /** Model folder. */
  model: string;
  /** Folder of adapters on top of the model. */
  adapter?: string | undefined;
  /** Rows of one batch; memory and speed only. */
  maxRows: number;
  /** Whether answers carry the log-probability of each completion token. */
  logProbs?: boolean;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** Answers in request order, then sample order. */
export async function generate(
  services: Pick<Services, 'models' | 'engines' | 'store'>,
  requests: readonly SampleRequest[],
  options: GenerateOptions,
): Promise<Answer[]> {
  if (requests.length === 0) return [];
  const { models, engines, store } = services;
  const { model, adapter } = options;
  const engine = engines[options.engine];
  if (engine === models || adapter === undefined) return ask(services, requests, options);
  // Such an engine gets the merged model, which exists on this host for as long as it samples.
  const merged = await store.spoolPath('.policy');
  const { signal } = options;
  try {
    await models.call('mergeAdapters', { model, adapter, output: merged }, signal ? { signal } : {});
    return await ask(services, requests, { ...options, model: merged, adapter: undefined });
  } finally {
    await rm(merged, { recursive: true, force: true });
  }
}

async function ask(
  { models, engines, store }: Pick<Services, 'models' | 'engines' | 'store'>,
  requests: readonly SampleRequest[],
  options: GenerateOptions,
): Promise<Answer[]> {
  const engine = engines[options.engine];
  // An engine beside the runtime shares its device, and finds no room while the runtime keeps models warm.
  if (engine !== models && models.isRunning)
    await models.call('releaseModels', {}, options.signal ? { signal: options.signal } : {});
  const input = await store.spoolPath('.requests.jsonl');
  const output = await store.spoolPath('.answers.jsonl');
  try {
    await writeRows(
      input,
      requests.map(({ prompt, ...request }) => ({ ...request, ...prompt })),
    );
    await engine.call(
      'sample',
      {
        model: options.model,
        ...(options.adapter === undefined ? {} : { adapter: options.adapter }),
        requests: input,
        output,
        maxRows: options.maxRows,
        ...(options.logProbs ? { logProbs: true } : {}),
      },
      {
        ...(options.signal ? { signal: options.signal } : {}),
        onProgress: ({ done, total }) => options.onProgress?.(done, total),
      },
    );
    return await collect(readLines(output, Answer));
  } finally {
    await Promise.all([rm(input, { force: true }), rm(output, { force: true })]);
  }
}
