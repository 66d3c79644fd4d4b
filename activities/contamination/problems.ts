/**
 * Problems of benchmarks, prepared for finding programs that solve them: with the first inputs that their tests call a
 * function with, and the answers of the reference. The tests run in the sandbox once, against the reference.
 *
 * The rows are an artifact under a key of their content, so that all stages and experiments share them.
 */
import { z } from 'zod';
import {
  canonicalJson,
  CpuLimits,
  Language,
  ModuleTest,
  QuestionTest,
  SuiteTest,
  type ArtifactRef,
  type Producer,
  type SandboxLimits,
} from '../../workflows/contract/index.js';
import { collect } from '../artifacts/collections.js';
import { sha256 } from '../artifacts/keys.js';
import { produce } from '../artifacts/produce.js';
import type { ArtifactStore } from '../artifacts/store.js';
import type { Task } from '../benchmarks/benchmark.js';
import { evaluateCalls } from '../execution/execution.js';
import type { SandboxOperation } from '../runtime/operations.js';
import { sentProgram } from '../runtime/package.js';
import type { PythonProcess } from '../runtime/python-service.js';

/** Raised when other inputs are recorded, or other programs count as solutions. */
const VERSION = 1;

/** A problem with what its tests begin with. `inputs` is absent where they call no function with plain data. */
export const ProblemRow = z.strictObject({
  benchmark: z.string(),
  id: z.string(),
  entryPoint: z.string(),
  question: z.string(),
  reference: z.string(),
  language: Language.optional(),
  tests: z.array(z.union([QuestionTest, SuiteTest, ModuleTest])).readonly(),
  checker: z.string().optional(),
  limits: CpuLimits.optional(),
  /** Text in front of every program that is judged. */
  precedes: z.string().optional(),
  inputs: z.strictObject({ arguments: z.number().int().nonnegative(), packed: z.string() }).optional(),
});
export type ProblemRow = z.infer<typeof ProblemRow>;

/** Calls that are looked at, inputs of which are kept, and bytes of one input with its answer. */
const RECORDED = { calls: 12, inputs: 3, bytes: 4_096 };
/** Tests that are run for recording: the first ones. */
const TESTS = 8;
/** CPU seconds of a reference in them. */
const SECONDS = 10;
/** Problems in one call of the sandbox, so that a cancellation waits for few of them. */
const PROBLEMS_AT_ONCE = 64;
/** Problems whose references share a process: starting one takes longer than the first tests of most. */
const PROBLEMS_PER_PROCESS = 8;

/** What of a task makes a problem. */
type ProblemTask = Omit<Task, 'programPrefix' | 'completes'>;

/** What preparing problems needs. */
interface Preparing {
  store: Pick<ArtifactStore, 'commit' | 'findManifest' | 'putRows'>;
  sandbox: PythonProcess<SandboxOperation>;
}

/**
 * Problems with their first inputs as an artifact of {@link ProblemRow}s: the stored one, or one that is made now.
 *
 * @throws StageFailure `SandboxUnavailable` where the host could not run the references.
 * @example
 * const ref = await problemsOf({ store, sandbox }, tasks.map((task) => problemOf('mine', task)), producer, { memoryBytes: 2 ** 29 });
 */
export async function problemsOf(
  { store, sandbox }: Preparing,
  problems: readonly ProblemRow[],
  producer: Producer,
  options: RecordOptions,
): Promise<ArtifactRef> {
  const { harness, python, importPolicy } = await sandbox.versions();
  const semantics = {
    problems: sha256(canonicalJson(problems)),
    memoryBytes: options.memoryBytes,
    harness: [harness!, python!, importPolicy!],
  };
  const recipe = { stage: 'contamination.problems', version: VERSION, kind: 'tasks' as const, semantics, inputs: {} };
  const { ref } = await produce(store, recipe, {}, producer, async () => {
    const rows = await withInputs(sandbox, problems, options);
    const file = await store.putRows('rows.jsonl', ProblemRow, rows);
    return { files: [file], rows: rows.length, metrics: { recorded: rows.filter(({ inputs }) => inputs).length } };
  });
  return ref;
}

/** The problems that were read last, because shards of one stage follow each other. */
let latest: { digest: string; problems: Promise<ProblemRow[]> } | undefined;

/** The problems of an artifact that {@link problemsOf} made. */
export function readProblems(store: Pick<ArtifactStore, 'rowsOf'>, ref: ArtifactRef): Promise<ProblemRow[]> {
  if (latest?.digest === ref.digest) return latest.problems;
  const problems = collect(store.rowsOf(ref, ProblemRow));
  latest = { digest: ref.digest, problems };
  problems.catch(() => {
    if (latest?.problems === problems) latest = undefined;
  });
  return problems;
}

/** A task as a problem, before its tests ran. */
export function problemOf(benchmark: string, task: ProblemTask): ProblemRow {
  const { id, entryPoint, question, reference, language, tests, checker, limits, precedes } = task;
  return {
    benchmark,
    id,
    entryPoint,
    question,
    reference,
    ...(language === undefined ? {} : { language }),
    // Scripts are not run against problems, and what they read may be large.
    tests: tests.every((test) => typeof test !== 'string' && 'stdin' in test) ? [] : [...tests],
    ...(checker === undefined ? {} : { checker }),
    ...(limits === undefined ? {} : { limits }),
    ...(precedes === undefined ? {} : { precedes }),
  };
}

interface RecordOptions {
  memoryBytes: number;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** What `record.py` says. */
const Recorded = ProblemRow.shape.inputs.nullable();

/** Problems with their first inputs, in order. Those of scripts, and of other languages than Python, have none. */
export async function withInputs(
  sandbox: PythonProcess<SandboxOperation>,
  problems: readonly ProblemRow[],
  { memoryBytes, signal, onProgress }: RecordOptions,
): Promise<ProblemRow[]> {
  const limits: SandboxLimits = {
    cpuSecondsPerTest: SECONDS,
    cpuSecondsPerProgram: PROBLEMS_PER_PROCESS * SECONDS,
    memoryBytes,
  };
  const record = sentProgram('record.py');
  const done: ProblemRow[] = [];
  for (let from = 0; from < problems.length; from += PROBLEMS_AT_ONCE) {
    const batch = problems.slice(from, from + PROBLEMS_AT_ONCE);
    const asked = batch.flatMap((problem, at) => {
      const tests = recordable(problem);
      if (tests.length === 0) return [];
      const { calls, inputs, bytes } = RECORDED;
      const given = [problem.reference, problem.entryPoint, JSON.stringify(tests), calls, inputs, bytes];
      return [{ at, call: `record(${given.map((each) => JSON.stringify(each)).join(', ')})` }];
    });
    const shares = Array.from({ length: Math.ceil(asked.length / PROBLEMS_PER_PROCESS) }, (_, share) =>
      asked.slice(share * PROBLEMS_PER_PROCESS, (share + 1) * PROBLEMS_PER_PROCESS),
    );
    const jobs = shares.map((share, at) => ({ id: String(at), program: record, calls: share.map(({ call }) => call) }));
    const values = await evaluateCalls(sandbox, jobs, { limits, ...(signal ? { signal } : {}) });
    const found = new Map(
      values.flatMap((own, share) =>
        own.map((value, place) => [
          shares[share]![place]!.at,
          'literal' in value ? Recorded.parse(told(value.literal)) : undefined,
        ]),
      ),
    );
    for (const [at, problem] of batch.entries()) {
      const inputs = found.get(at);
      done.push(inputs ? { ...problem, inputs } : problem);
    }
    onProgress?.(done.length, problems.length);
  }
  return done;
}

/** The first tests of a problem as the recorder reads them; none where they call no function of Python. */
function recordable({ language, entryPoint, tests }: ProblemRow): object[] {
  if ((language ?? 'python') !== 'python' || entryPoint === '') return [];
  return tests.slice(0, TESTS).flatMap((test): object[] => {
    if (typeof test === 'string') return [{ text: test }];
    if ('suite' in test) return [{ suite: test.suite }];
    if ('module' in test) return [{ module: test.module }];
    if ('call' in test)
      return [{ call: test.call, ...('expect' in test && test.expect ? { expect: test.expect } : {}) }];
    return [];
  });
}

/**
 * What `record.py` and `screen.py` say: JSON in base64, which every literal of a text holds as it is.
 *
 * @throws Error where a program has said something else in its place.
 */
export function told(literal: string): unknown {
  return JSON.parse(Buffer.from(literal.slice(1, -1), 'base64').toString('utf8'));
}
