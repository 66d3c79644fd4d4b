/** Files of a user become artifacts: validated row by row, named by their content. */
import { isUtf8 } from 'node:buffer';
import { existsSync, statSync } from 'node:fs';
import { z } from 'zod';
import {
  BenchmarkSampleRow,
  FilteredQuestionRow,
  PairRow,
  ProgramRow,
  QuestionRow,
  ReplyRow,
  SampleRow,
  SeedRow,
  StageFailure,
  TaskRow,
  TestsRow,
  type ArtifactKind,
  type ArtifactPath,
  type ArtifactRef,
  type Producer,
} from '../../workflows/contract/index.js';
import { resolvePath } from '../runtime/settings.js';
import { sha256 } from '../artifacts/keys.js';
import { importRows } from '../artifacts/produce.js';
import { linesOf, readLines } from '../artifacts/rows.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { publishedRows } from '../benchmarks/published.js';

const IMPORTABLE: Partial<Record<ArtifactKind, z.ZodType>> = {
  seeds: SeedRow,
  replies: ReplyRow,
  questions: QuestionRow,
  filteredQuestions: FilteredQuestionRow,
  samples: SampleRow,
  programs: ProgramRow,
  pairs: PairRow,
  tasks: TaskRow,
  benchmarkSamples: BenchmarkSampleRow,
  tests: TestsRow,
};

/** Kinds whose files others publish: gzipped, or one JSON document. */
const PUBLISHED: readonly ArtifactKind[] = ['tasks', 'benchmarkSamples'];

/** A line that was left out of an import; its text is cut. */
export const BrokenLineRow = z.strictObject({
  line: z.number().int().positive(),
  reason: z.string(),
  text: z.string(),
});
const BROKEN_TEXT = 1000;

/** Wrong lines of a file that are told; a file of the wrong kind has nothing but wrong lines. */
const FAULTS_TOLD = 5;

/** Why a file cannot be imported: it is not there, or which of its lines are wrong and how. Empty when it can. */
export async function faultsOfFile(path: string, { kind, path: given, brokenLines }: ArtifactPath): Promise<string[]> {
  if (!IMPORTABLE[kind])
    return [
      `artifacts of kind '${kind}' cannot be imported from a file; importable are ` +
        `${Object.keys(IMPORTABLE).join(', ')}`,
    ];
  const lookedAt = path === given ? '' : ` (looked at ${path})`;
  if (!existsSync(path)) return [`there is no such file on the pipeline worker${lookedAt}`];
  if (!statSync(path).isFile()) return [`this is no file${lookedAt}`];
  const faults: string[] = [];
  let lines = 0;
  for await (const { line, text, fault } of linesOfKind(path, kind)) {
    lines = line;
    if (line === 1 && /\0|^(?:\xff\xfe|\xfe\xff)/.test(text))
      return [`the file is no UTF-8${lookedAt}, it looks like UTF-16; save it as UTF-8`];
    if (fault === undefined && brokenLines === 'drop') return [];
    if (fault === undefined) continue;
    if (faults.length < FAULTS_TOLD) faults.push(`line ${line}${lookedAt}: ${fault}`);
    if (faults.length === FAULTS_TOLD && brokenLines !== 'drop') return faults;
  }
  return lines === 0 ? [`the file is empty${lookedAt}; it must hold at least one row of kind '${kind}'`] : faults;
}

/**
 * A line of a file, counted from 1, as the characters of its bytes; with the row that it holds, or what is wrong with
 * it.
 */
type Line = { line: number; text: string } & ({ row: unknown; fault?: undefined } | { row?: undefined; fault: string });

async function* linesOfKind(path: string, kind: ArtifactKind): AsyncGenerator<Line> {
  const schema = IMPORTABLE[kind]!;
  if (PUBLISHED.includes(kind)) {
    for await (const { line, text, row, fault } of publishedRows(path))
      yield fault === undefined ? { line, text, ...checked(row, schema) } : { line, text, fault };
    return;
  }
  const seeds = new SeedIds();
  let line = 0;
  // Bytes as characters, so that a line that is no UTF-8 is found instead of being read with other characters in it.
  for await (const lines of linesOf(path, 'latin1')) {
    for (const text of lines) {
      line += 1;
      const { row, fault } = rowOf(Buffer.from(text, 'latin1'), schema);
      const why = fault ?? (kind === 'seeds' ? seeds.faultOf(row as SeedRow, line) : undefined);
      yield why === undefined ? { line, text, row } : { line, text, fault: why };
    }
  }
}

/** The seeds of a file whose faults are known; lines that are to be dropped are left out. */
export async function* seedsOfFile(path: string, { kind }: Pick<ArtifactPath, 'kind'>): AsyncGenerator<SeedRow> {
  for await (const { row, fault } of linesOfKind(path, kind)) if (fault === undefined) yield SeedRow.parse(row);
}

/** A row of a file, or what is wrong with its line. */
function rowOf(line: Buffer, schema: z.ZodType): { row?: unknown; fault?: string } {
  if (!isUtf8(line)) return { fault: 'no UTF-8; save the file as UTF-8' };
  let value: unknown;
  try {
    value = JSON.parse(line.toString('utf8'));
  } catch {
    return { fault: 'no JSON' };
  }
  return checked(value, schema);
}

function checked(value: unknown, schema: z.ZodType): { row: unknown; fault?: undefined } | { fault: string } {
  const parsed = schema.safeParse(value);
  if (parsed.success) return { row: parsed.data };
  return {
    fault: parsed.error.issues
      .map(({ path, message }) => (path.length > 0 ? `${path.join('.')}: ${message}` : message))
      .join('; '),
  };
}

/**
 * The ids of a file's seeds: what is known of a seed is found by its id. A seed that is repeated as a whole is dropped
 * by its stage.
 */
class SeedIds {
  readonly #seen = new Map<string, { line: number; digest: string }>();

  faultOf({ id, code }: SeedRow, line: number): string | undefined {
    const digest = sha256(code);
    const first = this.#seen.get(id);
    if (!first) this.#seen.set(id, { line, digest });
    return first && first.digest !== digest
      ? `id: '${id}' is that of another seed in line ${first.line}; give each seed an id of its own`
      : undefined;
  }
}

/**
 * The artifact behind an input: checked when it is a reference, imported when it is a path of JSON Lines.
 *
 * @throws StageFailure `InvalidExperiment` naming what is wrong with the file.
 */
export async function importArtifact(
  store: ArtifactStore,
  input: ArtifactRef | ArtifactPath,
  producer: Producer,
): Promise<ArtifactRef> {
  if ('digest' in input) {
    await store.wholeManifest(input);
    return input;
  }
  const { kind } = input;
  const path = resolvePath(input.path, existsSync);
  const faults = await faultsOfFile(path, input);
  if (faults.length > 0)
    throw new StageFailure('InvalidExperiment', `${kind} file ${input.path}: ${faults.join('; ')}`);
  const schema = IMPORTABLE[kind]!;
  if (input.brokenLines !== 'drop' && !PUBLISHED.includes(kind))
    return (
      await importRows(store, kind, [await store.putRows('rows.jsonl', schema, readLines(path, schema))], producer)
    ).ref;
  const rows = await store.putRows(
    'rows.jsonl',
    schema,
    (async function* () {
      for await (const { fault, row } of linesOfKind(path, kind)) if (fault === undefined) yield row;
    })(),
  );
  if (input.brokenLines !== 'drop') return (await importRows(store, kind, [rows], producer)).ref;
  const broken = await store.putRows(
    'brokenLines.jsonl',
    BrokenLineRow,
    (async function* () {
      for await (const { line, text, fault } of linesOfKind(path, kind)) {
        if (fault !== undefined)
          yield { line, reason: fault, text: Buffer.from(text, 'latin1').toString('utf8').slice(0, BROKEN_TEXT) };
      }
    })(),
  );
  return (
    await importRows(store, kind, broken.rows ? [rows, broken] : [rows], producer, {
      dropped: { brokenLine: broken.rows ?? 0 },
    })
  ).ref;
}
