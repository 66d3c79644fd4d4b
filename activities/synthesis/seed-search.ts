/**
 * The search for calls of seeds, from outside: what the script `workers/sent/search.py` is asked and answers.
 *
 * The synthesis step calls it, and the bench of own code. Whatever a run prints is hostile, because the seed ran in the
 * same process: it is parsed here, and the oracle runs every test again before anybody trusts it.
 */
import { z } from 'zod';
import { StageFailure, type SandboxLimits } from '../../workflows/contract/index.js';
import { sentProgram } from '../runtime/package.js';
import type { SandboxOperation } from '../runtime/operations.js';
import type { PythonProcess } from '../runtime/python-service.js';
import type { ScriptRun } from '../execution/lanes.js';
import { isPyLiteral } from './python-literal.js';
import { SEARCH_FAILURES, type Searched, type SeedSearch } from './teachers/teacher.js';

/**
 * CPU time of one search, in seconds. Most take a tenth of a second; searches are bounded by calls and lines, and this
 * is for a call that no count ends, such as one long calculation in C.
 */
const SEARCH_SECONDS = 3;
/** How often a search that ran out of time is run again without the call that it hung in. */
const RERUNS = 2;
/** Seeds of one request to the sandbox. */
const BATCH = 64;
const LITERAL = z.string().min(1).max(2_000);

const Answer = z.object({
  entryPoint: z.string().max(200),
  header: z.string().max(10_000),
  documentation: z.string().max(10_000),
  isClass: z.boolean(),
  tests: z
    .array(
      z.object({
        call: z.string().min(1).max(2_000),
        literal: LITERAL,
        origin: z.enum(['docstring', 'tree', 'trial']),
      }),
    )
    .max(1_000),
  reached: z.number().int().nonnegative().default(0),
  lines: z.number().int().nonnegative().default(0),
  wrongClaims: z.number().int().nonnegative().default(0),
  reason: z.enum(SEARCH_FAILURES).optional(),
  detail: z.string().max(1_000).optional(),
});

/**
 * Searches tests of seeds, in order. One seed is one run of the sandbox.
 *
 * @param options.limits of the memory; the CPU time is that of a search.
 * @throws StageFailure `SandboxUnavailable` where the sandbox could not run a seed, so that the shard is tried again.
 * @example
 * const [found] = await searchSeeds(sandbox, [{ code, seed: 1, tests: 16, attempts: 400 }], { limits });
 */
export async function searchSeeds(
  sandbox: PythonProcess<SandboxOperation>,
  seeds: readonly SeedSearch[],
  options: {
    limits: Pick<SandboxLimits, 'memoryBytes'>;
    signal?: AbortSignal;
    onProgress?: (done: number, total: number) => void;
  },
): Promise<Searched[]> {
  const found: Searched[] = [];
  for (let first = 0; first < seeds.length; first += BATCH) {
    const batch = seeds.slice(first, first + BATCH);
    const onDone = (done: number): void => options.onProgress?.(first + done, seeds.length);
    const runs = await runSearches(sandbox, batch, options, onDone);
    // A call that nothing ends but the end of the process is left out of the next run.
    for (let again = 0; again < RERUNS; again += 1) {
      const stuck = batch.flatMap((seed, at) => {
        const call = runs[at]!.status === 'timeout' ? lastCall(runs[at]!.stdout) : undefined;
        if (call === undefined) return [];
        batch[at] = { ...seed, skip: [...(seed.skip ?? []), call] };
        return [at];
      });
      const more = await runSearches(
        sandbox,
        stuck.map((at) => batch[at]!),
        options,
      );
      stuck.forEach((at, place) => (runs[at] = more[place]!));
    }
    found.push(...runs.map(({ status, stdout, reason }) => searchedOf(status, stdout, reason)));
  }
  return found;
}

/** Runs of the script, in the order of the seeds. */
async function runSearches(
  sandbox: PythonProcess<SandboxOperation>,
  seeds: readonly SeedSearch[],
  { limits, signal }: Pick<Parameters<typeof searchSeeds>[2], 'limits' | 'signal'>,
  onDone?: (done: number) => void,
): Promise<ScriptRun[]> {
  if (seeds.length === 0) return [];
  const { runs } = await sandbox.call(
    'run',
    {
      jobs: seeds.map((seed, at) => ({
        id: String(at),
        program: sentProgram('search.py'),
        stdin: JSON.stringify(seed),
      })),
      limits: { memoryBytes: limits.memoryBytes, cpuSecondsPerTest: SEARCH_SECONDS },
    },
    { ...(signal ? { signal } : {}), onProgress: ({ done }) => onDone?.(done) },
  );
  const unjudged = runs.find(({ status }) => status === 'unjudged');
  if (unjudged || runs.length !== seeds.length)
    throw new StageFailure('SandboxUnavailable', `a seed could not be searched: ${unjudged?.reason ?? 'no answer'}`);
  return runs;
}

/** The call that a search tried last; undefined where it tried none. */
function lastCall(stdout: string): string | undefined {
  try {
    const call: unknown = JSON.parse(stdout.trimEnd().split('\n').at(-1)!);
    return typeof call === 'string' ? call : undefined;
  } catch {
    return undefined;
  }
}

/** What the run of a search says; a run without an answer has the reason why. */
function searchedOf(status: string, stdout: string, reason?: string): Searched {
  const none = { entryPoint: '', header: '', documentation: '', isClass: false, tests: [], reached: 0, lines: 0 };
  if (status === 'timeout') return { ...none, wrongClaims: 0, reason: 'tooSlow', detail: 'the search ran out of time' };
  try {
    // What the seed itself wrote stands before it.
    const answer = Answer.parse(JSON.parse(stdout.trimEnd().split('\n').at(-1)!));
    // A seed that writes the answer itself shall not hold up its shard.
    return answer.tests.every(({ literal }) => isPyLiteral(literal))
      ? answer
      : { ...answer, tests: [], reason: 'noLiteral', detail: 'an expected value is no literal' };
  } catch {
    return { ...none, wrongClaims: 0, reason: 'endsItsProcess', detail: reason ?? 'the seed ended the process' };
  }
}
