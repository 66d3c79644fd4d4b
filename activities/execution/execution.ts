/**
 * Verdicts of untrusted programs. A program's pass rate is passed over kept test cases; where one test could not be
 * judged there is no rate, and the type makes it impossible to read one.
 */
import { add } from '../metrics.js';
import type { Result, SandboxOperation } from '../runtime/operations.js';
import type { PythonProcess } from '../runtime/python-service.js';
import {
  canonicalJson,
  StageFailure,
  type CpuLimits,
  type Harness,
  type SandboxLimits,
  type Test,
  type TestOutcome,
} from '../../workflows/contract/index.js';

export interface Job {
  id: string;
  program: string;
  tests: readonly Test[];
  /** Limits of this program; those of the call hold where they are absent. */
  limits?: Partial<SandboxLimits> | undefined;
}

/**
 * A program with all its tests judged, or one that the infrastructure could not judge. With a `fault`, the checker of a
 * test could not: a retry does not help, and the program is left out.
 */
export type Judgement = Rated | Faulty | Unrated;

interface Verdicts {
  id: string;
  outcomes: TestOutcome[];
  flags: string[];
}
interface Rated extends Verdicts {
  judged: true;
  passRate: number;
}
interface Faulty extends Verdicts {
  judged: false;
  fault: string;
}
interface Unrated extends Verdicts {
  judged: false;
  fault?: undefined;
}

export interface ExecutionOptions {
  limits: SandboxLimits;
  /**
   * Programs that are to pass all their tests, run before and after the others: one that cannot is reported as broken.
   */
  references?: readonly Job[];
  /** Pass rates that decide something: programs within 0.05 of one are run again alone. */
  thresholds?: readonly number[];
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** A reference that fails one of its own tests on a host that judges well: its question says nothing about programs. */
type BrokenReference = Result<'judge'>['brokenReferences'][number];

export interface Judged {
  /** In job order. */
  judgements: Judgement[];
  cpuSeconds: number;
  brokenReferences: BrokenReference[];
  /** What the verdicts depend on: part of the rows. */
  harness: Harness;
  /** Where they were made, which they do not depend on: beside the rows. */
  host: { isolation: string; calibrationSeconds: string };
}

/**
 * Runs programs against their tests.
 *
 * @throws StageFailure `SandboxUnavailable` when the sandbox is lost, judges nothing, or fails its own control program.
 */
export async function judgePrograms(
  sandbox: PythonProcess<SandboxOperation>,
  jobs: readonly Job[],
  options: ExecutionOptions,
): Promise<Judged> {
  const versions = await sandbox.versions();
  const about: Pick<Judged, 'harness' | 'host'> = {
    harness: { version: versions['harness']!, python: versions['python']!, importPolicy: versions['importPolicy']! },
    host: {
      isolation: `${versions['level']} (${versions['isolation']})`,
      calibrationSeconds: versions['calibrationSeconds']!,
    },
  };
  if (jobs.length === 0) return { judgements: [], cpuSeconds: 0, brokenReferences: [], ...about };
  const result = await sandbox.call(
    'judge',
    {
      jobs,
      limits: options.limits,
      references: options.references ?? [],
      thresholds: options.thresholds ?? [],
    },
    {
      ...(options.signal ? { signal: options.signal } : {}),
      onProgress: ({ done, total }) => options.onProgress?.(done, total),
    },
  );
  const judgements = jobs.map((job, index): Judgement => {
    const verdict = result.verdicts[index];
    if (verdict?.id !== job.id || verdict.outcomes.length !== job.tests.length) {
      throw new StageFailure(
        'SandboxUnavailable',
        `the sandbox answered program ${job.id} with ${verdict?.outcomes.length ?? 'no'} outcomes for ` +
          `${job.tests.length} tests`,
      );
    }
    return judgementOf(
      job.id,
      verdict.outcomes.map(({ status, reason, inside, weak, repaired, checker }) => ({
        status,
        ...(reason ? { reason } : {}),
        ...(inside ? { inside } : {}),
        ...(weak ? { weak } : {}),
        ...(repaired ? { repaired } : {}),
        ...(checker ? { checker } : {}),
      })),
      verdict.flags,
    );
  });
  add('verdicts', judgements.length, {});
  return {
    judgements,
    cpuSeconds: result.measurements.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0),
    brokenReferences: result.brokenReferences,
    ...about,
  };
}

/** Characters of programs and tests that are sent at once. Each program is sent with its tests. */
const BATCH_TEXT = 64 * 2 ** 20;

/** A program whose tests are read when it is its turn. */
interface LateJob extends Omit<Job, 'tests'> {
  tests: () => Promise<Job['tests']>;
}

/**
 * Runs programs against tests that may be megabytes, as contests have them: as many at once as memory bears.
 *
 * @throws StageFailure as {@link judgePrograms}.
 * @example
 * await judgeInBatches(sandbox, [{ id: 'p', program, tests: () => readTests('p') }], { limits });
 */
export async function judgeInBatches(
  sandbox: PythonProcess<SandboxOperation>,
  jobs: readonly LateJob[],
  {
    batchText = BATCH_TEXT,
    ...options
  }: Pick<ExecutionOptions, 'limits' | 'signal' | 'onProgress'> & { batchText?: number },
): Promise<Judged> {
  let [batch, text]: [Job[], number] = [[], 0];
  let all: Judged | undefined;
  const judge = async (): Promise<Judged> => {
    const done = all?.judgements.length ?? 0;
    const judged = await judgePrograms(sandbox, batch, {
      ...options,
      onProgress: (more) => options.onProgress?.(done + more, jobs.length),
    });
    [batch, text] = [[], 0];
    return {
      ...judged,
      judgements: [...(all?.judgements ?? []), ...judged.judgements],
      cpuSeconds: (all?.cpuSeconds ?? 0) + judged.cpuSeconds,
      brokenReferences: [],
    };
  };
  let sized: { tests: Job['tests']; text: number } | undefined;
  for (const job of jobs) {
    const tests = await job.tests();
    if (sized?.tests !== tests) sized = { tests, text: JSON.stringify(tests).length };
    const more = job.program.length + sized.text;
    if (batch.length > 0 && text + more > batchText) all = await judge();
    batch.push({ ...job, tests });
    text += more;
  }
  return judge();
}

/**
 * Limits for programs that answer as each of the references does, from its CPU time, in job order. None is above
 * `options.limits`.
 */
export async function deriveLimits(
  sandbox: PythonProcess<SandboxOperation>,
  references: readonly Job[],
  { limits, signal }: Pick<ExecutionOptions, 'limits' | 'signal'>,
): Promise<CpuLimits[]> {
  if (references.length === 0) return [];
  const result = await sandbox.call('limits', { jobs: references, limits }, { ...(signal ? { signal } : {}) });
  return result.limits;
}

/**
 * What the tests of each question are, however they are written, in order. A checked test may expect no value; what
 * the question's `program` answers then stands for it, so that a question with one answer to everything is found.
 */
export async function normalTests(
  sandbox: PythonProcess<SandboxOperation>,
  questions: readonly { tests: readonly Test[]; program?: string | undefined }[],
  options: Pick<ExecutionOptions, 'limits'> & { signal: AbortSignal },
): Promise<Result<'normalize'>['tests'][]> {
  const texts = questions.flatMap(({ tests }) => tests.flatMap((test) => textOf(test) ?? []));
  const { signal } = options;
  const normal = texts.length === 0 ? [] : (await sandbox.call('normalize', { tests: texts }, { signal })).tests;
  const asked = questions.flatMap(({ tests, program = '' }, at) => {
    const calls = tests.flatMap((test) => openCall(test) ?? []);
    return program === '' || calls.length === 0 ? [] : [{ id: String(at), program, calls }];
  });
  const answers = new Map<string, string>();
  for (const [at, values] of (await evaluateCalls(sandbox, asked, options)).entries()) {
    const { id, calls } = asked[at]!;
    for (const [place, value] of values.entries())
      answers.set(`${id} ${calls[place]!}`, value.status === 'value' ? value.literal : value.status);
  }
  let next = 0;
  return questions.map(({ tests }, at) =>
    tests.map((test) => {
      if (textOf(test) !== undefined) return normal[next++]!;
      const written = canonicalJson(test);
      const call = openCall(test);
      return { test: written, output: (call && answers.get(`${at} ${call}`)) ?? expectedOf(test) ?? written };
    }),
  );
}

/** A test as the text of an assert; undefined where it is none. */
function textOf(test: Test): string | undefined {
  if (typeof test === 'string') return test;
  const isEqual = 'call' in test && 'expect' in test && !('checker' in test) && (test.compare ?? 'exact') === 'exact';
  return isEqual ? `assert (${test.call}) == (${test.expect})` : undefined;
}

/** The call of a test that expects no value. */
function openCall(test: Test): string | undefined {
  return typeof test !== 'string' && 'call' in test && expectedOf(test) === undefined ? test.call : undefined;
}

/** What a test that is no text expects. */
function expectedOf(test: Test): string | undefined {
  if (typeof test === 'string') return undefined;
  if ('anyOf' in test && test.anyOf) return canonicalJson([...test.anyOf].sort());
  return 'expect' in test ? test.expect : 'stdout' in test ? test.stdout : undefined;
}

/** How many wrong answers the checkers of tests reject, of answers that right programs give and that are changed. */
export async function checkerQuality(
  sandbox: PythonProcess<SandboxOperation>,
  references: readonly Job[],
  options: Pick<ExecutionOptions, 'limits' | 'signal'> & { mutants?: number; seed?: number },
): Promise<Result<'mutants'>['checkers']> {
  if (references.length === 0) return [];
  const { limits, signal, mutants, seed } = options;
  const result = await sandbox.call(
    'mutants',
    {
      jobs: references,
      limits,
      ...(mutants === undefined ? {} : { mutants }),
      ...(seed === undefined ? {} : { seed }),
    },
    { ...(signal ? { signal } : {}) },
  );
  return result.checkers;
}

/** What a manifest says of the sandboxes that judged its rows, outside the digest. */
export function notesOf({ harness, host }: Pick<Judged, 'harness' | 'host'>): Record<string, string[]> {
  return {
    harness: [`${harness.version}; Python ${harness.python}; ${harness.importPolicy}`],
    isolation: [host.isolation],
    calibrationSeconds: [host.calibrationSeconds],
  };
}

/**
 * The judgement that outcomes amount to: one test that is `unjudged` or `checker_failed`, or no test at all, means no
 * pass rate.
 */
export function judgementOf(id: string, outcomes: TestOutcome[], flags: string[] = []): Judgement {
  if (outcomes.length === 0 || outcomes.some(({ status }) => status === 'unjudged'))
    return { judged: false, id, outcomes, flags };
  const failed = outcomes.findIndex(({ status }) => status === 'checker_failed');
  if (failed >= 0)
    return { judged: false, id, outcomes, flags, fault: `test ${failed}: ${outcomes[failed]?.reason ?? 'no reason'}` };
  return {
    judged: true,
    id,
    outcomes,
    flags,
    passRate: outcomes.filter(({ status }) => status === 'pass').length / outcomes.length,
  };
}

/**
 * Judgements that running the programs again would not change: with a pass rate, or with the fault of a checker. A
 * program with such a fault is left out and counted.
 *
 * @throws StageFailure `SandboxUnavailable` for one that the infrastructure could not judge, so that the batch is run
 * again.
 * @example
 * for (const each of settled(judgements)) console.log(each.judged ? each.passRate : each.fault);
 */
export function settled(judgements: readonly Judgement[]): (Rated | Faulty)[] {
  return judgements.map((judgement) => {
    if (judgement.judged || judgement.fault !== undefined) return judgement;
    const why = judgement.outcomes.find(({ status }) => status === 'unjudged')?.reason ?? 'no tests';
    throw new StageFailure('SandboxUnavailable', `program ${judgement.id} could not be judged: ${why}`);
  });
}

/** Faults that are told by name, at most; the others are counted only. */
const MOST_TOLD = 20;

/**
 * What a stage says of checkers with a fault: how many programs have no verdict because of one, and the first of them
 * with the reasons. Empty where there are none, so that metrics of other runs stay as they are.
 */
export function faultsOf(judgements: readonly Judgement[]): {
  counts: { checkerFailed?: number };
  notes: { checkerFailed?: string[] };
} {
  const faults = judgements.flatMap((each) =>
    !each.judged && each.fault !== undefined ? [`${each.id}: ${each.fault}`] : [],
  );
  if (faults.length === 0) return { counts: {}, notes: {} };
  return { counts: { checkerFailed: faults.length }, notes: { checkerFailed: faults.slice(0, MOST_TOLD) } };
}

/** Notes of all shards, of which those about faults are the first few. */
export function shortNotes(notes: Record<string, string[]>): Record<string, string[]> {
  const { checkerFailed, ...others } = notes;
  return checkerFailed ? { ...others, checkerFailed: checkerFailed.slice(0, MOST_TOLD) } : notes;
}

/** The value of a call, as a Python literal, or why there is none. */
export type CallResult = Result<'evaluate'>['values'][number]['results'][number];

/**
 * Evaluates call expressions against programs in the sandbox: how the offline teacher learns expected outputs.
 *
 * @param options.keepUnjudged whether calls that could not run are told as `unjudged`.
 * @throws StageFailure `SandboxUnavailable` for calls that could not run, unless they are kept, and for another answer
 *   than that to `jobs`.
 */
export async function evaluateCalls(
  sandbox: PythonProcess<SandboxOperation>,
  jobs: readonly { id: string; program: string; calls: readonly string[]; limits?: Job['limits'] }[],
  options: ExecutionOptions & { keepUnjudged?: boolean },
): Promise<CallResult[][]> {
  if (jobs.length === 0) return [];
  const { values } = await sandbox.call(
    'evaluate',
    { jobs, limits: options.limits },
    {
      ...(options.signal ? { signal: options.signal } : {}),
      onProgress: ({ done, total }) => options.onProgress?.(done, total),
    },
  );
  return jobs.map((job, index) => {
    const { id, results } = values[index] ?? { id: undefined, results: [] };
    if (id !== job.id || results.length !== job.calls.length) {
      throw new StageFailure(
        'SandboxUnavailable',
        `the sandbox answered program ${job.id} with ${results.length} values for ${job.calls.length} calls`,
      );
    }
    if (!options.keepUnjudged && results.some(({ status }) => status === 'unjudged'))
      throw new StageFailure('SandboxUnavailable', `the calls of ${id} could not be evaluated`);
    return results;
  });
}
