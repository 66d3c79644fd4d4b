/** Files and folders of a user become artifacts: validated row by row, named by their content. */
import { existsSync } from 'node:fs';
import type { z } from 'zod';
import {
  FilteredQuestionRow, PairRow, ProgramRow, QuestionRow, SeedRow, StageFailure,
  type ArtifactInput, type ArtifactKind, type ArtifactRef, type Producer,
} from '../../workflows/contract/index.js';
import { resolvePath } from '../runtime/settings.js';
import { artifactDigest } from '../artifacts/keys.js';
import { produce } from '../artifacts/produce.js';
import { readLines, type ArtifactStore } from '../artifacts/store.js';

const IMPORTABLE: Partial<Record<ArtifactKind, z.ZodType>> = {
  seeds: SeedRow, questions: QuestionRow, filteredQuestions: FilteredQuestionRow, programs: ProgramRow, pairs: PairRow,
};

/**
 * The artifact behind an input: checked when it is a reference, imported when it is a path of JSON Lines.
 *
 * @throws StageFailure `InvalidExperiment` naming path, line and what is wrong, or the kind that was expected.
 */
export async function importArtifact(store: ArtifactStore, input: ArtifactInput, kind: ArtifactKind, producer: Producer): Promise<ArtifactRef> {
  if (input.kind !== kind) throw new StageFailure('InvalidExperiment', `expected an artifact of kind '${kind}', not '${input.kind}'`);
  if ('digest' in input) {
    await store.manifest(input);
    return input;
  }
  const schema = IMPORTABLE[kind];
  if (!schema) throw new StageFailure('InvalidExperiment', `artifacts of kind '${kind}' cannot be imported from a path; importable are ${Object.keys(IMPORTABLE).join(', ')}`);
  const path = resolvePath(input.path, existsSync);
  if (!existsSync(path)) throw new StageFailure('InvalidExperiment', `there is no file ${input.path} on the pipeline worker (looked at ${path})`);
  let line = 0;
  async function* rows(): AsyncGenerator<unknown> {
    try {
      for await (const row of readLines(path, schema!)) {
        line += 1;
        yield row;
      }
    } catch (error) {
      throw new StageFailure('InvalidExperiment', `${input.kind} file ${path}, line ${line + 1}: ${(error as Error).message}`);
    }
  }
  const file = await store.putRows('rows.jsonl', schema, rows());
  const digest = artifactDigest(kind, [file]);
  const { ref } = await produce(store, { stage: 'import', version: 1, kind, semantics: { digest }, inputs: {} }, {}, producer, async () => ({
    files: [file], rows: file.rows ?? 0, metrics: {},
  }));
  return ref;
}
