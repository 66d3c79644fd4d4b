/** Rewards of the rollouts of one round, and which rollouts are trained on. */
import type { z } from 'zod';
import type { RewardConfig, RewardRow } from '../../workflows/contract/index.js';
import { groupedBy } from '../artifacts/collections.js';
import type { ScoreScale } from '../policy/score.js';
import { qualityWeights, weightedShares } from '../statistics/verifier-quality.js';
import { credited, groupOf } from './repair.js';

/** Penalty of an answer that the limit of tokens cut: the last case of DAPO's equation 13 (arXiv 2503.14476). */
const CUT_PENALTY = 1;

/** How often the tests of a question pass right programs, and wrong ones: see docs/explanation/verifier-quality.md. */
export interface VerifierRates {
  truePositive: number;
  falsePositive: number;
}

export interface JudgedRollout {
  id: string;
  questionId: string;
  completionTokens: number;
  /** Of a repair turn: which answer of its conversation it is, and the rollout that it mends. Absent: the first. */
  turn?: number | undefined;
  repairs?: string | undefined;
  /** Whether the limit of tokens cut the answer; absent: it did not. */
  truncated?: boolean;
  /** 0 where the policy has no room for an answer to the question. */
  promptTokens: number;
  /** Absent where some test could not be judged. */
  passRate?: number | undefined;
  /** Whether it passes each test of its question; needed where the reward weighs tests. */
  passed?: readonly boolean[] | undefined;
  /** Share of the hidden tests that it passes; it is told and rewarded by nobody. */
  hiddenPassRate?: number | undefined;
  /** Whether it is no program that runs; absent: it is one. */
  invalid?: boolean;
  /** Measured rates of the tests of its question; absent: nobody measured them. */
  rates?: VerifierRates | undefined;
  /** Why the watch for reward hacking flags it. */
  flagged?: RewardRow['flagged'];
  /** Raw reward-model score, where one is asked for; absent where the reward model cannot read so long an answer. */
  score?: number | undefined;
}

export interface RewardRule {
  reward: z.infer<typeof RewardConfig>;
  rewardClip: number;
  dropDegenerateGroups: boolean;
  /** Whether flagged rollouts leave their groups; absent: they do not. */
  dropFlagged?: boolean;
  /** What a turn earns of what came after it; absent: there are no repair turns. */
  repair?: Parameters<typeof credited>[1] | undefined;
  /** Upper limit of an answer, in tokens; the length penalty counts from it. */
  maxNewTokens: number;
  scale?: ScoreScale | undefined;
}

/**
 * Reward = testsWeight x (what the tests earn: pass rate, plain or by the weights of tests, or 1 for all passed and 0
 * otherwise, as it is or corrected by the measured rates of the tests) + rewardModelWeight x the score, normalised
 * by the held-out scores and clipped to ±`rewardClip` (the clip of the authors' OpenRLHF fork), less the penalty of
 * long answers.
 *
 * An answer that the limit of tokens cut is rewarded as any other, leaves its group, or loses {@link CUT_PENALTY} and
 * earns nothing, as `reward.truncated` says. With repair turns, a turn then earns what `repair` says, and the answers of
 * each turn to a question are a group. An unjudged or unscored rollout leaves its group, one without tokens has
 * nothing to train, and one whose tests are too weak, or that the watch flags, leaves it where that is asked for. A
 * group below two is dropped, and where asked for a group whose rewards are all equal. Every row of the round comes
 * back, trained or with the reason.
 */
export function rewardRollouts(rollouts: readonly JudgedRollout[], rule: RewardRule): RewardRow[] {
  const weighted = weightedRates(rollouts, rule.reward.tests);
  const separated = separatedGroups(rollouts, rule, weighted);
  const rows = rollouts.map((rollout): RewardRow => {
    const { id, questionId, passRate, hiddenPassRate, score, flagged, rates } = rollout;
    const weightedRate = weighted?.get(id);
    const earned = earnedOf({ ...rollout, weightedRate }, rule.reward);
    const isSeparated = separated.has(groupOf(rollout));
    const known = {
      id,
      questionId,
      ...(rollout.turn === undefined ? {} : { turn: rollout.turn }),
      ...(passRate === undefined ? {} : { passRate }),
      ...(weightedRate === undefined || rule.reward.tests !== 'weightedPassRate'
        ? {}
        : { weightedPassRate: weightedRate }),
      ...(hiddenPassRate === undefined ? {} : { hiddenPassRate }),
      ...(earned === undefined || (rule.reward.tests !== 'rareTests' && !rule.reward.verifier) ? {} : { earned }),
      ...(isSeparated ? { separated: true as const } : {}),
      ...(score === undefined ? {} : { score }),
      ...(flagged === undefined ? {} : { flagged }),
    };
    if (rollout.promptTokens === 0) return { ...known, dropped: 'promptTooLong' };
    if (rollout.completionTokens === 0) return { ...known, dropped: 'empty' };
    if (rollout.truncated && rule.reward.truncated === 'mask') return { ...known, dropped: 'truncated' };
    if (flagged !== undefined && rule.dropFlagged) return { ...known, dropped: 'flagged' };
    if (isWeak(rates, rule.reward)) return { ...known, dropped: 'weakVerifier' };
    const isPenalised = rollout.truncated && rule.reward.truncated === 'penalise';
    const asksModel = rule.reward.rewardModelWeight > 0 && !isSeparated;
    if (asksModel && score === undefined && !isPenalised) return { ...known, dropped: 'tooLongToScore' };
    const reward = rewardOf({ ...rollout, earned, separated: isSeparated }, rule);
    return reward === undefined ? { ...known, dropped: 'unjudged' } : { ...known, reward };
  });
  if (rule.reward.invalidBelowValid)
    capInvalid(rows, new Set(rollouts.filter((each) => each.invalid).map(({ id }) => id)));
  if (rule.repair) giveCredit(rows, rollouts, rule.repair);
  const groups = groupedBy(
    rows.filter(({ reward }) => reward !== undefined),
    groupOf,
  );
  const reasonOf = (group: RewardRow[]): RewardRow['dropped'] => {
    if (group.length < 2) return 'smallGroup';
    if (rule.dropDegenerateGroups && group.every(({ reward }) => reward === group[0]!.reward)) return 'degenerateGroup';
    return undefined;
  };
  const reasons = new Map([...groups].map(([name, group]) => [name, reasonOf(group)]));
  return rows.map((row) => {
    const dropped = row.reward === undefined ? undefined : reasons.get(groupOf(row));
    if (dropped === undefined) return row;
    const { reward: _reward, ...rest } = row;
    return { ...rest, dropped };
  });
}

/** An invalid answer earns at most what the worst valid answer to its question does; changes rows in place. */
function capInvalid(rows: RewardRow[], invalid: ReadonlySet<string>): void {
  const least = new Map<string, number>();
  for (const { id, questionId, reward } of rows)
    if (reward !== undefined && !invalid.has(id))
      least.set(questionId, Math.min(reward, least.get(questionId) ?? Infinity));
  for (const row of rows)
    if (row.reward !== undefined && invalid.has(row.id))
      row.reward = Math.min(row.reward, least.get(row.questionId) ?? Infinity);
}

/** Gives turns credit for what came after them; changes rows, which are in the order of the rollouts, in place. */
function giveCredit(
  rows: RewardRow[],
  rollouts: readonly JudgedRollout[],
  repair: NonNullable<RewardRule['repair']>,
): void {
  const turns = rows.map(({ id, reward }, at) => ({ id, reward, repairs: rollouts[at]!.repairs }));
  for (const [at, reward] of credited(turns, repair).entries()) {
    const row = rows[at]!;
    if (reward !== undefined && row.reward !== undefined) Object.assign(row, { reward, ownReward: row.reward });
  }
}

function isWeak(rates: VerifierRates | undefined, { verifier }: RewardRule['reward']): boolean {
  const least = verifier?.minimumJ;
  return least !== undefined && rates !== undefined && rates.truePositive - rates.falsePositive < least;
}

/**
 * Of each judged rollout the share of the tests that it passes, each by its weight from the rollouts of its question:
 * by the quality of the rollouts that pass it, or by how rarely it passes. Undefined where tests are not weighed.
 *
 * @throws RangeError where rollouts of one question were judged by different numbers of tests.
 */
function weightedRates(
  rollouts: readonly JudgedRollout[],
  tests: RewardRule['reward']['tests'],
): Map<string, number> | undefined {
  if (tests !== 'weightedPassRate' && tests !== 'rareTests') return undefined;
  const judged = rollouts.flatMap(({ id, questionId, passRate, passed }) =>
    passRate !== undefined && passed ? [{ id, questionId, passed }] : [],
  );
  return new Map(
    [...groupedBy(judged, ({ questionId }) => questionId).values()].flatMap((group) => {
      const matrix = group.map(({ passed }) => passed);
      const weights = tests === 'rareTests' ? rareWeights(matrix) : qualityWeights(matrix).tests;
      const shares = weightedShares(matrix, weights);
      return group.map(({ id }, at): [string, number] => [id, shares[at]!]);
    }),
  );
}

/**
 * Weights of tests by how rarely they pass, after VeRPO (arXiv 2601.03525): the share of the rollouts that fail a test,
 * with one more that fails and one that passes, so that no test weighs nothing.
 *
 * @param matrix `matrix[rollout][test]`, of one question.
 * @example
 * rareWeights([[true, false], [true, false]]); // [0.25, 0.75]
 */
export function rareWeights(matrix: readonly (readonly boolean[])[]): number[] {
  return (matrix[0] ?? []).map((_, test) => {
    const fails = matrix.filter((row) => !row[test]).length;
    return (fails + 1) / (matrix.length + 2);
  });
}

/** Least J that a correction divides by: a question whose tests say nothing must not have huge rewards. */
const LEAST_J = 0.1;

/**
 * What tests earn, corrected by their measured rates. With ρ₀ = FPR and ρ₁ = 1 - TPR, `backward` is unbiased where
 * errors are by chance, and `forward` points the same way in expectation (arXiv 2510.00915). `informedness` shrinks
 * what weak tests say instead.
 *
 * @example
 * correctedBy('backward', 1, { truePositive: 0.9, falsePositive: 0.2 }); // 1.142857…
 */
export function correctedBy(
  correction: 'backward' | 'forward' | 'informedness',
  earned: number,
  { truePositive, falsePositive }: VerifierRates,
): number {
  const j = truePositive - falsePositive;
  if (correction === 'backward') return (earned - falsePositive) / Math.max(LEAST_J, j);
  return correction === 'forward' ? earned - truePositive : earned * Math.max(0, j);
}

/** What the tests of a rollout earn before their weight; undefined where they could not be judged. */
function earnedOf(
  { passRate, weightedRate, rates }: Pick<JudgedRollout, 'passRate' | 'rates'> & { weightedRate?: number | undefined },
  { tests, verifier }: RewardRule['reward'],
): number | undefined {
  const rate = tests === 'weightedPassRate' || tests === 'rareTests' ? weightedRate : passRate;
  if (rate === undefined) return undefined;
  const earned = tests === 'allPass' ? Number(rate === 1) : rate;
  return verifier?.correction && rates ? correctedBy(verifier.correction, earned, rates) : earned;
}

/** Groups whose rollouts tests tell apart, where the reward model is asked only for the others. */
function separatedGroups(
  rollouts: readonly JudgedRollout[],
  { reward }: RewardRule,
  weighted: ReadonlyMap<string, number> | undefined,
): Set<string> {
  const first = new Map<string, number>();
  const separated = new Set<string>();
  if (reward.rewardModelWhere !== 'unseparated' || reward.testsWeight === 0) return separated;
  for (const rollout of rollouts) {
    const earned = earnedOf({ ...rollout, weightedRate: weighted?.get(rollout.id) }, reward);
    if (earned === undefined) continue;
    const group = groupOf(rollout);
    const known = first.get(group) ?? earned;
    first.set(group, known);
    if (earned !== known) separated.add(group);
  }
  return separated;
}

/** What a reward is computed from; `weightedPassRate` or `earned` is needed where the reward asks for it. */
type Earned = Pick<JudgedRollout, 'passRate' | 'score' | 'completionTokens' | 'truncated'> &
  Pick<RewardRow, 'weightedPassRate' | 'earned'> & { separated?: boolean | undefined };

function rewardOf(rollout: Earned, rule: RewardRule): number | undefined {
  const parts = rewardParts(rollout, rule);
  return parts && (parts.tests ?? 0) + (parts.rewardModel ?? 0) - parts.lengthPenalty;
}

/** What a reward is made of: tests and score, each by its weight, less the penalty. What has no weight is absent. */
export interface RewardParts {
  tests?: number;
  rewardModel?: number;
  lengthPenalty: number;
}

/**
 * The parts of a rollout's reward; undefined where a verdict or a score that has a weight is missing.
 *
 * @throws Error where the reward model has a weight and the rule no scale of its scores.
 * @example
 * rewardParts({ completionTokens: 40, passRate: 1, score: 0.5 }, rule); // { tests: 1, rewardModel: 0.1, … }
 */
export function rewardParts(
  { passRate, weightedPassRate, earned, separated, score, completionTokens, truncated }: Earned,
  { reward, rewardClip, scale, maxNewTokens }: Omit<RewardRule, 'dropDegenerateGroups'>,
): RewardParts | undefined {
  if (truncated && reward.truncated === 'penalise') return { lengthPenalty: CUT_PENALTY };
  const parts: RewardParts = { lengthPenalty: lengthPenalty(completionTokens, reward.lengthPenalty, maxNewTokens) };
  if (reward.testsWeight > 0) {
    const own = earned ?? earnedOf({ passRate, weightedRate: weightedPassRate }, reward);
    if (own === undefined) return undefined;
    parts.tests = reward.testsWeight * own;
  }
  if (reward.rewardModelWeight > 0 && !separated) {
    if (scale === undefined)
      throw new Error('rewardModelWeight is above 0 and the scale of the reward model is missing');
    if (score === undefined) return undefined;
    const normalised = (score - scale.mean) / scale.std;
    parts.rewardModel = reward.rewardModelWeight * Math.max(-rewardClip, Math.min(rewardClip, normalised));
  }
  return parts;
}

/**
 * Soft overlong punishment (DAPO, arXiv 2503.14476, equation 13): 0 up to `maxNewTokens - tokens`, then linear up to
 * `weight`.
 */
function lengthPenalty(length: number, rule: RewardRule['reward']['lengthPenalty'], maxNewTokens: number): number {
  if (rule === undefined) return 0;
  const over = Math.min(rule.tokens, Math.max(0, length - (maxNewTokens - rule.tokens)));
  return rule.weight * (over / rule.tokens);
}
