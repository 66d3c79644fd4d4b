/**
 * Which tests of a question no reward reads, and which rollouts are judged where rewards read no test at all. Both
 * follow from seeds and ids that are stored, so that a repeated activity chooses alike.
 */
import { canonicalJson } from '../../workflows/contract/index.js';
import { deriveSeed, sha256 } from '../artifacts/keys.js';

/**
 * Places of the hidden tests of a question, in order. Equal tests are hidden together, and at least one different test
 * stays visible: a question whose tests are all equal hides none.
 *
 * @param tests as they are stored.
 * @param share of the different tests, from 0 to 1; at least one of them is hidden.
 * @param options.seed of the stage.
 * @example
 * hiddenTests(['assert f(1) == 1', 'assert f(2) == 2'], 0.25, { seed: 0, questionId: 'q' }); // [1], or [0]
 */
export function hiddenTests(
  tests: readonly unknown[],
  share: number,
  { seed, questionId }: { seed: number; questionId: string },
): number[] {
  const texts = tests.map((test) => canonicalJson(test));
  const own = deriveSeed(seed, 'hidden tests', questionId);
  const order = [...new Set(texts)]
    .map((text) => ({ text, at: sha256(`${own}/${text}`) }))
    .sort((a, b) => (a.at < b.at ? -1 : 1));
  const most = order.length - 1;
  const count = Math.min(most, Math.max(1, Math.round(share * order.length)));
  const hidden = new Set(order.slice(0, count).map(({ text }) => text));
  return texts.flatMap((text, at) => (hidden.has(text) ? [at] : []));
}

/**
 * What rewards see of verdicts, and the pass rate of the rest. An unjudged rollout has neither.
 *
 * @example
 * visiblePart([true, true, false], 2 / 3, [2]); // { passed: [true, true], passRate: 1, hiddenPassRate: 0 }
 */
export function visiblePart(
  passed: readonly boolean[] | undefined,
  passRate: number | undefined,
  hidden: readonly number[],
): { passed?: boolean[] | undefined; passRate?: number | undefined; hiddenPassRate?: number } {
  if (!passed || passRate === undefined || hidden.length === 0) return { passed: passed && [...passed], passRate };
  const places = new Set(hidden);
  const rateOf = (of: readonly boolean[]): number => of.filter(Boolean).length / of.length;
  const visible = passed.filter((_, at) => !places.has(at));
  return {
    passed: visible,
    passRate: rateOf(visible),
    hiddenPassRate: rateOf(passed.filter((_, at) => places.has(at))),
  };
}

/** So many times as many rollouts are judged in the first round: what the reward model promises is fitted to them. */
const FIRST_ROUND = 4;

/**
 * The rollouts that are judged where no reward reads tests, in their order: a share of them, at least one, and four
 * times as many in the first round.
 *
 * @example
 * judgedRollouts(rollouts, 0.04, 2).length; // 10 of 256
 */
export function judgedRollouts<R extends { id: string }>(rollouts: readonly R[], share: number, round: number): R[] {
  const order = rollouts.map((rollout) => ({ rollout, at: sha256(rollout.id) })).sort((a, b) => (a.at < b.at ? -1 : 1));
  const most = Math.max(1, Math.round((round === 1 ? FIRST_ROUND * share : share) * order.length));
  const chosen = new Set(order.slice(0, most).map(({ rollout }) => rollout));
  return rollouts.filter((rollout) => chosen.has(rollout));
}
