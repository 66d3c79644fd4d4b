/** What an oracle of several programs says of a question's test cases. Pure. */
import type { TestOutcome } from '../../workflows/contract/index.js';
import { qualityWeights } from '../statistics/verifier-quality.js';

export interface OracleVerdict {
  /** Of each test case; only `pass` keeps it. */
  outcomes: TestOutcome[];
  /** Index of the first program that passes all that is kept; absent where none does. */
  program?: number;
}

const passes = ({ status }: TestOutcome): boolean => status === 'pass';
const count = (outcomes: readonly TestOutcome[]): number => outcomes.filter(passes).length;

/**
 * Any-of-n: a test case is kept if at least one program passes it, as in the authors' code (maximum over samples).
 * With one program this is the paper's oracle. What no program passes has the outcome of the program that passes
 * most. `outcomes[p][t]` is the verdict of program p on test case t; there is at least one program.
 */
export function anyOf(outcomes: readonly (readonly TestOutcome[])[]): OracleVerdict {
  const best = outcomes.reduce((most, each) => (count(each) > count(most) ? each : most));
  const kept = best.map((outcome, test) => outcomes.find((each) => passes(each[test]!))?.[test] ?? outcome);
  return withProgram(kept, outcomes);
}

/**
 * Dual execution agreement (CodeT, arXiv 2207.10397, section 2.2): programs that pass the same test cases form a
 * consensus set, whose score is the number of its programs times the number of those test cases; the test cases of
 * the best set are kept. Among equal scores the set with more test cases wins, then the one whose first program comes
 * first. A set that passes nothing keeps nothing.
 */
export function agreement(outcomes: readonly (readonly TestOutcome[])[]): OracleVerdict {
  const sets = new Map<string, { programs: number; first: readonly TestOutcome[] }>();
  for (const each of outcomes) {
    const passed = each.map((outcome) => (passes(outcome) ? '1' : '0')).join('');
    const set = sets.get(passed);
    if (set) set.programs += 1;
    else sets.set(passed, { programs: 1, first: each });
  }
  const score = ({ programs, first }: { programs: number; first: readonly TestOutcome[] }): number =>
    programs * count(first);
  const best = [...sets.values()].reduce((most, each) =>
    score(each) > score(most) || (score(each) === score(most) && count(each.first) > count(most.first)) ? each : most,
  );
  return withProgram([...best.first], outcomes);
}

/**
 * The test cases whose weight by the quality of programs reaches a minimum, and that some program passes. What is
 * dropped has the outcome of the best program that fails it, with the weight in its reason.
 *
 * `outcomes[p][t]` is the verdict of program p on test case t; there are at least two programs, because the weight of
 * one program is its own verdict.
 *
 * @throws RangeError for fewer programs.
 * @example
 * weighted([passes, passes, fails], 0.5).outcomes; // the verdicts of `passes`
 */
export function weighted(outcomes: readonly (readonly TestOutcome[])[], minimumWeight: number): OracleVerdict {
  if (outcomes.length < 2) throw new RangeError(`weights need at least 2 programs, and there is ${outcomes.length}`);
  const { tests, programs } = qualityWeights(outcomes.map((each) => each.map(passes)));
  const best = [...outcomes.keys()].sort((a, b) => programs[b]! - programs[a]!).map((program) => outcomes[program]!);
  const kept = tests.map((weight, test): TestOutcome => {
    const verdicts = best.map((each) => each[test]!);
    const passed = verdicts.find(passes);
    if (passed && weight >= minimumWeight) return passed;
    const { reason, ...failed } = verdicts.find((outcome) => !passes(outcome)) ?? { status: 'assertion_failed' };
    const why = `weight ${weight.toFixed(2)}, and ${minimumWeight} is needed`;
    return { ...failed, reason: reason === undefined ? why : `${why}; the best program that fails it: ${reason}` };
  });
  const { program, ...verdict } = withProgram(kept, best);
  return { ...verdict, ...(program === undefined ? {} : { program: outcomes.indexOf(best[program]!) }) };
}

function withProgram(kept: TestOutcome[], outcomes: readonly (readonly TestOutcome[])[]): OracleVerdict {
  const program = kept.some(passes)
    ? outcomes.findIndex((each) => kept.every((outcome, test) => !passes(outcome) || passes(each[test]!)))
    : -1;
  return { outcomes: kept, ...(program < 0 ? {} : { program }) };
}
