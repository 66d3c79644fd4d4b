/** Rows of benchmarks, from where each one says that they are. Knows no benchmark by name. */
import { readFile } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import { z } from 'zod';
import {
  benchmarkFile,
  benchmarkName,
  benchmarkOf,
  StageFailure,
  TaskRow,
  testText,
  type ArtifactRef,
  type Benchmark,
  type PublicBenchmark,
} from '../../workflows/contract/index.js';
import { sha256 } from '../artifacts/keys.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { packageFile, resolvePath, type Settings } from '../runtime/settings.js';
import { existsSync } from 'node:fs';
import type { Task } from './benchmark.js';
import { publishedRows } from './published.js';

/** A benchmark of a configuration with its tasks. */
export interface LoadedBenchmark<B> {
  benchmark: B;
  name: string;
  tasks: Task[];
  /** Of the rows of its file, or of the file of its package; absent for questions, which are an input. */
  digest?: string;
  /** Data set of the hub and commit that its rows were first read from. */
  source?: string;
}

/** Where rows come from while a stage plans. */
export interface BenchmarkSources {
  settings: Settings;
  store: Pick<ArtifactStore, 'rowsOf' | 'manifest'>;
  /** Inputs of the stage, among them the files of benchmarks. */
  inputs: Readonly<Record<string, ArtifactRef>>;
  /** The held-out questions that are asked. */
  questions: () => Promise<readonly unknown[]>;
}

/**
 * The tasks of benchmarks, in the order of the configuration.
 *
 * @throws StageFailure `InvalidExperiment` naming the benchmark, and what is missing or which row is none.
 */
export async function loadBenchmarks<B extends PublicBenchmark | Benchmark>(
  benchmarks: readonly B[],
  { settings, store, inputs, questions }: BenchmarkSources,
): Promise<LoadedBenchmark<B>[]> {
  const loaded: LoadedBenchmark<B>[] = [];
  for (const [index, benchmark] of benchmarks.entries()) {
    const { data } = benchmarkOf(benchmark);
    const file = inputs[benchmarkFile(index)];
    const { rows, ...about }: { rows: readonly unknown[]; digest?: string; source?: string } =
      data.from === 'questions'
        ? { rows: await questions() }
        : data.from === 'package'
          ? await packageRows(benchmark, settings)
          : { rows: [], digest: file!.digest, ...(await sourceOf(store, file!)) };
    const tasks =
      data.from === 'file' ? await tasksOfRows(benchmark, store.rowsOf(file!, TaskRow)) : tasksOf(benchmark, rows);
    loaded.push({ benchmark, name: benchmarkName(benchmark), tasks, ...about });
  }
  return loaded;
}

/**
 * Looks at the data of a benchmark before anything is stored or paid for.
 *
 * @throws StageFailure `InvalidExperiment` as {@link loadBenchmarks} would.
 */
export async function checkBenchmark(
  benchmark: PublicBenchmark | Benchmark,
  settings: Settings,
  store: Pick<ArtifactStore, 'rowsOf'>,
): Promise<void> {
  const { data } = benchmarkOf(benchmark);
  if (data.from === 'package') tasksOf(benchmark, (await packageRows(benchmark, settings)).rows);
  if (!('data' in benchmark)) return;
  const rows = benchmark.data;
  // Whether a path or a reference leads to a file of rows at all, the look-up of inputs tells.
  if ('digest' in rows) await tasksOfRows(benchmark, store.rowsOf(rows, TaskRow));
  else if ('path' in rows && !('format' in rows)) {
    const path = resolvePath(rows.path, existsSync);
    if (existsSync(path)) await tasksOfRows(benchmark, rowsOfFile(path));
  }
}

/** Characters of the texts of a benchmark that are asked at once: they stand in the memory of a worker several times. */
const MOST_TEXT = 512 * 1024 * 1024;
/** Characters of the first tests of a task, up to which they are held where rows are read one by one. */
const TESTS_TEXT = 64 * 1024;

/** The tasks of rows, of which no more are held than the slice asks for, nor more of each than is needed before judging. */
async function tasksOfRows(benchmark: PublicBenchmark | Benchmark, rows: AsyncIterable<TaskRow>): Promise<Task[]> {
  const { holds, rowId } = benchmarkOf(benchmark);
  const held: TaskRow[] = [];
  const tasks: Task[] = [];
  const { every, offset } = Slicing.parse(benchmark);
  let text = 0;
  let index = -1;
  for await (const row of rows) {
    if (!holds(benchmark, row)) continue;
    index += 1;
    if (rowId !== undefined && index % every !== offset % every) continue;
    if (rowId === undefined) held.push(row);
    const task = rowId === undefined ? undefined : shortened(taskOfRow(benchmark, row));
    if (task) tasks.push(task);
    for (const value of Object.values(task ?? row)) if (typeof value === 'string') text += value.length;
    if (text > MOST_TEXT)
      throw new StageFailure(
        'InvalidExperiment',
        `benchmark '${benchmark.kind}': its rows hold more than ${MOST_TEXT / 2 ** 20} MiB of text; ask a window of ` +
          'dates where it has one, or a file of fewer rows',
      );
  }
  return rowId === undefined ? tasksOf(benchmark, held) : checked(benchmark, index + 1, () => tasks);
}

const Slicing = z.object({ every: z.number().default(1), offset: z.number().default(0) });

/**
 * The task of one row, with all its tests.
 *
 * @throws StageFailure `InvalidExperiment` where the row is none.
 */
export function taskOfRow(benchmark: PublicBenchmark | Benchmark, row: TaskRow): Task {
  const [task] = tasksOf({ ...benchmark, every: 1, offset: 0 } as PublicBenchmark, [row]);
  return task!;
}

/** A task with its first tests, as long as they are small together. */
function shortened(task: Task): Task {
  let text = 0;
  const kept = task.tests.findIndex((test) => (text += testText(test).length) > TESTS_TEXT);
  return kept < 0 ? task : { ...task, tests: task.tests.slice(0, kept), more: task.tests.length - kept };
}

/** The rows of a file of which the look-up of inputs tells what is wrong with it. */
async function* rowsOfFile(path: string): AsyncGenerator<TaskRow> {
  for await (const { row } of publishedRows(path)) {
    const { data } = TaskRow.safeParse(row);
    if (data) yield data;
  }
}

/** Where an import of the hub's says that it read rows. A path says nothing elsewhere. */
async function sourceOf(store: Pick<ArtifactStore, 'manifest'>, rows: ArtifactRef): Promise<{ source?: string }> {
  const { metrics } = await store.manifest(rows);
  return z.object({ source: z.string() }).safeParse(metrics).data ?? {};
}

function tasksOf(benchmark: PublicBenchmark | Benchmark, rows: readonly unknown[]): Task[] {
  return checked(benchmark, rows.length, () => benchmarkOf(benchmark).tasks(benchmark, rows));
}

/** Tasks of as many rows, each with an id of its own. */
function checked(benchmark: PublicBenchmark | Benchmark, rows: number, make: () => Task[]): Task[] {
  try {
    const tasks = make();
    if (tasks.length === 0 && rows > 0) throw new Error('its slice holds no task');
    const seen = new Set<string>();
    for (const { id } of tasks) {
      if (seen.has(id)) throw new Error(`task ${id} is there twice; give each task an id of its own`);
      seen.add(id);
    }
    return tasks;
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : (error as Error).message;
    throw new StageFailure('InvalidExperiment', `benchmark '${benchmark.kind}': ${why}`);
  }
}

async function packageRows(
  benchmark: { kind: string },
  settings: Settings,
): Promise<{ rows: unknown[]; digest: string }> {
  const { data } = benchmarkOf(benchmark);
  if (data.from !== 'package') return { rows: [], digest: '' };
  const path = packageFile(settings, data.module, data.file);
  const bytes = path === undefined ? undefined : await readFile(path).catch(() => undefined);
  if (!bytes) {
    throw new StageFailure(
      'InvalidExperiment',
      `benchmark '${benchmark.kind}' needs the PyPI package ${data.package} in ${settings.venv}; \`npm run ` +
        `setup\` installs it`,
    );
  }
  const text = (data.file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8');
  const rows = text
    .trim()
    .split('\n')
    .map((line): unknown => JSON.parse(line));
  return { rows, digest: sha256(bytes) };
}
