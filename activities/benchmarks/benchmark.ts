/**
 * What a benchmark is. Each one is a file of this room and a line of the registry, `index.ts`.
 *
 * These files are pure: the contract builds its schemas from them, and they run inside the workflow bundle. Bytes come
 * through `load.ts`, which knows no benchmark by name.
 */
import { z } from 'zod';
import { artifactInput } from '../../workflows/contract/artifacts.js';
import { count } from '../../workflows/contract/fields.js';
import type { CpuLimits, ModuleTest, QuestionTest, SuiteTest } from '../../workflows/contract/rows.js';
import type { LanguageName } from '../languages/index.js';

/** One benchmark task: what the policy is asked, how its program begins, and what judges it. */
export interface Task {
  id: string;
  question: string;
  entryPoint: string;
  /** The language of the answer; absent: Python. */
  language?: LanguageName | undefined;
  /** Text that the answer is opened with and that belongs to the program. */
  programPrefix: string;
  tests: readonly (QuestionTest | SuiteTest | ModuleTest)[];
  /** The checker program of the tests that leave it open how an answer is judged. */
  checker?: string;
  /** A right program; a benchmark whose references fail is broken. Empty where there is none. */
  reference: string;
  limits?: CpuLimits;
  /** Text that a `completion` of a file of samples continues; absent: `programPrefix`. */
  completes?: string;
  /** Text in front of every program that is judged, as the benchmark's own harness puts it there. */
  precedes?: string;
  /** Tests behind `tests` that the task's row alone has, because they are large: see `rowId` of a benchmark. */
  more?: number;
}

/** A result of a benchmark: of its tasks pass those whose first `tests` tests pass; absent: all of them. */
export interface BenchmarkResult {
  name: string;
  tests?: number;
}

/**
 * Where the rows of a benchmark come from: the held-out questions of the experiment, a file inside an installed Python
 * package, or a JSON Lines file of the user's, which becomes an artifact, so that its content is part of the key.
 */
type BenchmarkData =
  { from: 'questions' } | { from: 'package'; package: string; module: string; file: string } | { from: 'file' };

/** Projects whose forms of result files exist. */
export type ResultFiles = 'evalplus' | 'bigcodebench' | 'livecodebench';

/** Settings that a benchmark has of its own where it is evaluated; absent, those of the stage hold. */
const OWN_SETTINGS = {
  samples: z.number().int().nonnegative().optional().describe("samples per task; absent: the stage's `samples`"),
  maxNewTokens: count.optional().describe("upper limit of an answer, in tokens; absent: the stage's `maxNewTokens`"),
};

type Shape = z.core.$ZodLooseShape & { kind: z.ZodLiteral<string> };
type Slice<S extends Shape> = z.output<z.ZodObject<S, z.core.$strip>>;

/** What a benchmark says of itself. */
export interface BenchmarkDefinition<S extends Shape> {
  /** Which tasks: `kind`, and what selects some of them. Part of every key. */
  shape: S;
  /** A check over several fields of the shape, with the field that is wrong and the sentence that says so. */
  check?: { holds: (slice: Slice<S>) => boolean; path: string[]; error: string };
  /**
   * Raised when tasks, prompts or verdict rules change. It is in the key from 2 on, so that what was stored before
   * versions existed is still found.
   */
  version: number;
  /** Name in rows and reports; a slice says so. */
  name: (slice: Slice<S>) => string;
  data: BenchmarkData;
  /** False where its tasks have no reference; absent: those that are not from questions have one, which is run. */
  references?: false;
  /** Whether seeds can repeat its problems, so that synthesis can be asked to drop those that do. */
  public: boolean;
  /** Tasks of a slice, for the estimate. `heldOut` counts the held-out questions that will be asked. */
  size: (slice: Slice<S>, facts: { heldOut: number }) => number;
  /** Whether a row belongs to a slice at all: no other one is kept in memory, nor given to `tasks`. Absent: all do. */
  holds?: (slice: Slice<S>, row: unknown) => boolean;
  /**
   * The field of a row that is the id of its task, where each row is one task and may be large. Such rows are read one
   * by one, and large tests stay in them until programs are judged. Absent: all rows are in memory at once.
   */
  rowId?: string;
  /** The tasks of a slice, in order. @throws Error naming the row that is none. */
  tasks: (slice: Slice<S>, rows: readonly unknown[]) => Task[];
  /** Results of one run, in order; absent: one with the benchmark's name. */
  results?: (slice: Slice<S>) => readonly BenchmarkResult[];
  /** Whose result files an evaluation writes next to its rows; absent: nobody's. */
  resultFiles?: ResultFiles;
  /** Names under which keys of stored evaluations hold the benchmark's own settings; absent: inside its entry. */
  keyedAs?: { samples: string; maxNewTokens: string };
}

/** A benchmark as others use it, whatever its settings are. `given` is an entry of a configuration. */
export interface Benchmark {
  kind: string;
  version: number;
  data: BenchmarkData;
  references?: false | undefined;
  rowId?: string | undefined;
  public: boolean;
  keyedAs?: { samples: string; maxNewTokens: string } | undefined;
  resultFiles?: ResultFiles | undefined;
  name: (given: object) => string;
  size: (given: object, facts: { heldOut: number }) => number;
  holds: (given: object, row: unknown) => boolean;
  tasks: (given: object, rows: readonly unknown[]) => Task[];
  results: (given: object) => readonly BenchmarkResult[];
}

/**
 * A benchmark out of its definition, with the two schemas that the contract needs: `slice`, and `evaluated`, which adds
 * its
 * own settings.
 *
 * @example
 * export const mine = defineBenchmark({
 *   shape: { kind: z.literal('mine').describe('my own tasks'), data: taskRows },
 *   version: 1, name: () => 'mine', data: { from: 'file' }, public: true, size: () => 100,
 *   tasks: (slice, rows) => rows.map((row) => taskOf(Row.parse(row))),
 * });
 */
export function defineBenchmark<S extends Shape>({
  shape,
  check,
  name,
  size,
  holds: holdsRow = () => true,
  tasks,
  results,
  ...rest
}: BenchmarkDefinition<S>) {
  const reader = z.object(shape);
  // What is wrong with a field is told by its own schema.
  const holds = (given: object): boolean => {
    const { data } = reader.safeParse(given);
    return check === undefined || data === undefined || check.holds(data);
  };
  const mistake = { path: check?.path ?? [], error: check?.error ?? '' };
  const own: Benchmark = {
    ...rest,
    kind: shape.kind.value,
    name: (given) => name(reader.parse(given)),
    size: (given, facts) => size(reader.parse(given), facts),
    holds: (given, row) => holdsRow(reader.parse(given), row),
    tasks: (given, rows) => {
      const slice = reader.parse(given);
      return tasks(
        slice,
        rows.filter((row) => holdsRow(slice, row)),
      );
    },
    results: (given) => {
      const slice = reader.parse(given);
      return results?.(slice) ?? [{ name: name(slice) }];
    },
  };
  return {
    ...own,
    slice: z.strictObject(shape).refine(holds, mistake),
    evaluated: z.strictObject({ ...shape, ...OWN_SETTINGS }).refine(holds, mistake),
  };
}

/** Fields that take every `every`-th problem from `offset` on, with {@link everyNth}. */
export const slicing = {
  every: count.default(1).describe('take every n-th problem; 1: all'),
  offset: z.number().int().nonnegative().default(0).describe('index of the first problem; below `every`'),
};

/** Every `every`-th row from `offset` on. */
export function everyNth<T>(rows: readonly T[], { every, offset }: { every: number; offset: number }): T[] {
  return rows.filter((_, index) => index % every === offset % every);
}

/** The check of these fields. */
export const sliced = {
  holds: ({ every, offset }: { every: number; offset: number }): boolean => offset < every,
  path: ['offset'],
  error: 'smaller than `every`',
};

/** Name of a slice: `mbpp`, or `mbpp[1::14]`. */
export function sliceName(kind: string, { every, offset }: { every: number; offset: number }): string {
  return every === 1 ? kind : `${kind}[${offset}::${every}]`;
}

/** Field for the rows of a benchmark that comes from a file: a path, or a reference to an artifact of kind `tasks`. */
export const taskRows = artifactInput('tasks').describe(
  'the rows of the benchmark: a JSON Lines file of yours, an artifact, or files of a data set of the hub',
);
