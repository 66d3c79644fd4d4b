/** Files of a user become artifacts: validated row by row, named by their content. */
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { z } from 'zod';
import {
  FilteredQuestionRow, PairRow, ProgramRow, QuestionRow, ReplyRow, SampleRow, SeedRow, StageFailure,
  type ArtifactKind, type ArtifactPath, type ArtifactRef, type Producer,
} from '../../workflows/contract/index.js';
import { resolvePath } from '../runtime/settings.js';
import { importRows } from '../artifacts/produce.js';
import { readLines, type ArtifactStore } from '../artifacts/store.js';

const IMPORTABLE: Partial<Record<ArtifactKind, z.ZodType>> = {
  seeds: SeedRow, replies: ReplyRow, questions: QuestionRow, filteredQuestions: FilteredQuestionRow, samples: SampleRow, programs: ProgramRow, pairs: PairRow,
};

/** Wrong lines of a file that are told; a file of the wrong kind has nothing but wrong lines. */
const FAULTS_TOLD = 5;

/** Why a file cannot be imported: it is not there, or which of its lines are wrong and how. Empty when it can. */
export async function faultsOfFile(path: string, { kind, path: given }: ArtifactPath): Promise<string[]> {
  const schema = IMPORTABLE[kind];
  if (!schema) return [`artifacts of kind '${kind}' cannot be imported from a file; importable are ${Object.keys(IMPORTABLE).join(', ')}`];
  const lookedAt = path === given ? '' : ` (looked at ${path})`;
  if (!existsSync(path)) return [`there is no such file on the pipeline worker${lookedAt}`];
  if (!statSync(path).isFile()) return [`this is no file${lookedAt}`];
  const faults: string[] = [];
  let line = 0;
  for await (const text of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    line += 1;
    const fault = faultOfRow(text, schema);
    if (fault === undefined) continue;
    faults.push(`line ${line}${lookedAt}: ${fault}`);
    if (faults.length === FAULTS_TOLD) break;
  }
  return line === 0 ? [`the file is empty${lookedAt}; it must hold at least one row of kind '${kind}'`] : faults;
}

function faultOfRow(text: string, schema: z.ZodType): string | undefined {
  let row: unknown;
  try {
    row = JSON.parse(text);
  } catch {
    return 'no JSON';
  }
  const parsed = schema.safeParse(row);
  return parsed.success ? undefined : parsed.error.issues.map(({ path, message }) => (path.length > 0 ? `${path.join('.')}: ${message}` : message)).join('; ');
}

/**
 * The artifact behind an input: checked when it is a reference, imported when it is a path of JSON Lines.
 *
 * @throws StageFailure `InvalidExperiment` naming what is wrong with the file.
 */
export async function importArtifact(store: ArtifactStore, input: ArtifactRef | ArtifactPath, producer: Producer): Promise<ArtifactRef> {
  if ('digest' in input) {
    await store.wholeManifest(input);
    return input;
  }
  const { kind } = input;
  const path = resolvePath(input.path, existsSync);
  const faults = await faultsOfFile(path, input);
  if (faults.length > 0) throw new StageFailure('InvalidExperiment', `${kind} file ${input.path}: ${faults.join('; ')}`);
  const schema = IMPORTABLE[kind]!;
  const file = await store.putRows('rows.jsonl', schema, readLines(path, schema));
  const { ref } = await importRows(store, kind, file, producer);
  return ref;
}
