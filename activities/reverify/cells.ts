/**
 * Cells of verdicts: the outcome of one test of one program, under limits, by a harness. What is known of a program is
 * a list of runs. Each is the outcomes of tests that shared a process, in their order. Pure.
 *
 * A test that shares a process may fail because of the tests before it: they ended the process, or took its time. Such
 * outcomes (`killed`, `timeout`, `not_run`, out of memory) are facts about the test only after the same tests. They are
 * taken from a run only where each test that came before still does. Tests that come in between take nothing from them,
 * because a new test runs in a process for itself.
 */
import { canonicalJson, type SandboxLimits, type TestOutcome } from '../../workflows/contract/index.js';
import { sha256 } from '../artifacts/keys.js';

/** Outcomes of tests of one program that shared a process, by the digests of the tests. */
export interface Run {
  tests: readonly string[];
  outcomes: readonly TestOutcome[];
}

/**
 * `new`: a new test runs in a process for itself. `whole`: a program whose list of tests is another runs all of it, as
 * stages do.
 */
export type How = 'new' | 'whole';

/** Hexadecimal digits of a digest: 128 bits. Objects of cells hold many of them. */
const DIGITS = 32;

/** What names a test: its JSON value, whatever the order of its members. */
export function testDigest(test: unknown): string {
  return sha256(canonicalJson(test)).slice(0, DIGITS);
}

/** What names a program under limits. White space at its end is no part of it, as in the sandbox. */
export function programKey(program: string, limits: SandboxLimits): string {
  return sha256(canonicalJson({ program: program.trimEnd(), limits }));
}

/** Whether an outcome can come from the tests before, which shared the process. */
function dependsOnOthers({ status, reason }: TestOutcome): boolean {
  if (status === 'killed' || status === 'timeout' || status === 'not_run') return true;
  return status === 'raised' && /^MemoryError\b/.test(reason ?? '');
}

/** Whether each of `some` is in `all`, in the same order. */
function isSubsequence(some: readonly string[], all: readonly string[]): boolean {
  let next = 0;
  for (const each of all) if (each === some[next]) next += 1;
  return next === some.length;
}

const isSame = (one: readonly string[], other: readonly string[]): boolean =>
  one.length === other.length && one.every((each, at) => each === other[at]);

/**
 * What is known of each test of a list, by the first run that says it; undefined where none does. A run of exactly this
 * list says all of it.
 *
 * @example
 * outcomesOf(['a', 'b'], [{ tests: ['a'], outcomes: [{ status: 'pass' }] }], 'new'); // [{ status: 'pass' }, undefined]
 */
export function outcomesOf(list: readonly string[], runs: readonly Run[], how: How): (TestOutcome | undefined)[] {
  const whole = runs.find(({ tests }) => isSame(tests, list));
  if (whole) return [...whole.outcomes];
  if (how === 'whole') return list.map(() => undefined);
  return list.map((test, place) => {
    for (const { tests, outcomes } of runs) {
      const at = tests.indexOf(test);
      const outcome = outcomes[at];
      if (at < 0 || !outcome || outcome.status === 'unjudged') continue;
      if (!dependsOnOthers(outcome) || isSubsequence(tests.slice(0, at), list.slice(0, place))) return outcome;
    }
    return undefined;
  });
}

/**
 * What has to run so that all of a list is known: lists of places in it, each for a process. A program of which nothing
 * is known runs its whole list.
 *
 * @example
 * runsNeeded(['a', 'b', 'c'], [{ status: 'pass' }, undefined, undefined], 'new'); // [[1], [2]]
 */
export function runsNeeded(list: readonly string[], known: readonly (TestOutcome | undefined)[], how: How): number[][] {
  const missing = list.flatMap((test, place) => (known[place] || list.indexOf(test) < place ? [] : [place]));
  if (missing.length === 0) return [];
  const nothing = known.every((outcome) => outcome === undefined);
  return nothing || how === 'whole' ? [list.map((_, place) => place)] : missing.map((place) => [place]);
}

/** Hexadecimal digits of a program's key in the name of an object of cells. */
const RANGE = 8;

/**
 * The range of keys in the name of an object with cells of sorted programs. A later search for a program then reads the
 * objects around its key alone.
 *
 * @example
 * rangeOf(['00aa11bb22', '3c00ffee00']); // 00aa11bb-3c00ffee
 */
export function rangeOf(sorted: readonly string[]): string {
  return `${sorted[0]!.slice(0, RANGE)}-${sorted.at(-1)!.slice(0, RANGE)}`;
}

/**
 * Whether an object of cells may hold one of these sorted programs: `name` is its key, below the folder of the
 * harness.
 */
export function mayHold(name: string, sorted: readonly string[]): boolean {
  const [first = '', last = ''] = name.split('-');
  let [low, high] = [0, sorted.length];
  // The first program that is not before the range.
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (sorted[middle]!.slice(0, RANGE) < first) low = middle + 1;
    else high = middle;
  }
  const next = sorted[low];
  return next !== undefined && next.slice(0, RANGE) <= last;
}

/** Hexadecimal digits by which programs go to shards: 1, 16 or 256 shards. */
export function shardDigits(programs: number, shardSize: number): 0 | 1 | 2 {
  return programs <= shardSize ? 0 : programs <= 16 * shardSize ? 1 : 2;
}

/** The shard of a program. */
export function shardOf(key: string, digits: 0 | 1 | 2): number {
  return digits === 0 ? 0 : Number.parseInt(key.slice(0, digits), 16);
}
