/** Rewards of the rollouts of one round, and which rollouts are trained on. */
import type { z } from 'zod';
import type { RewardConfig, RewardRow } from '../../workflows/contract/index.js';
import type { ScoreScale } from '../policy/score.js';
import { qualityWeights, weightedShares } from '../statistics/verifier-quality.js';

/** Penalty of an answer that the limit of tokens cut: the last case of DAPO's equation 13 (arXiv 2503.14476). */
const CUT_PENALTY = 1;

export interface JudgedRollout {
  id: string;
  questionId: string;
  completionTokens: number;
  /** Whether the limit of tokens cut the answer; absent: it did not. */
  truncated?: boolean;
  /** 0 where the policy has no room for an answer to the question. */
  promptTokens: number;
  /** Absent where some test could not be judged. */
  passRate?: number | undefined;
  /** Whether it passes each test of its question; needed where the reward weighs tests. */
  passed?: readonly boolean[] | undefined;
  /** Raw reward-model score, where one is asked for; absent where the reward model cannot read so long an answer. */
  score?: number | undefined;
}

export interface RewardRule {
  reward: z.infer<typeof RewardConfig>;
  rewardClip: number;
  dropDegenerateGroups: boolean;
  /** Upper limit of an answer, in tokens; the length penalty counts from it. */
  maxNewTokens: number;
  scale?: ScoreScale | undefined;
}

/**
 * Reward = testsWeight x (pass rate, plain or by the weights of tests, or 1 for all passed and 0 otherwise) +
 * rewardModelWeight x the score, normalised
 * by the held-out scores and clipped to ±`rewardClip` (the clip of the authors' OpenRLHF fork), less the penalty of
 * long answers.
 *
 * An answer that the limit of tokens cut is rewarded as any other, leaves its group, or loses {@link CUT_PENALTY} and earns nothing, as
 * `reward.truncated` says. An unjudged or unscored rollout leaves its group, and one without tokens has nothing to train; a group below two is
 * dropped, and where asked for a group whose rewards are all equal. Every row of the round comes back, trained or with
 * the reason.
 */
export function rewardRollouts(rollouts: readonly JudgedRollout[], rule: RewardRule): RewardRow[] {
  const weighted = rule.reward.tests === 'weightedPassRate' ? weightedPassRates(rollouts) : undefined;
  const rows = rollouts.map((rollout): RewardRow => {
    const { id, questionId, passRate, score } = rollout;
    const weightedPassRate = weighted?.get(id);
    const known = {
      id,
      questionId,
      ...(passRate === undefined ? {} : { passRate }),
      ...(weightedPassRate === undefined ? {} : { weightedPassRate }),
      ...(score === undefined ? {} : { score }),
    };
    if (rollout.promptTokens === 0) return { ...known, dropped: 'promptTooLong' };
    if (rollout.completionTokens === 0) return { ...known, dropped: 'empty' };
    if (rollout.truncated && rule.reward.truncated === 'mask') return { ...known, dropped: 'truncated' };
    const isPenalised = rollout.truncated && rule.reward.truncated === 'penalise';
    if (rule.reward.rewardModelWeight > 0 && score === undefined && !isPenalised)
      return { ...known, dropped: 'tooLongToScore' };
    const reward = rewardOf({ ...rollout, weightedPassRate }, rule);
    return reward === undefined ? { ...known, dropped: 'unjudged' } : { ...known, reward };
  });
  const groups = new Map<string, RewardRow[]>();
  for (const row of rows)
    if (row.reward !== undefined) groups.set(row.questionId, [...(groups.get(row.questionId) ?? []), row]);
  const reasonOf = (group: RewardRow[]): RewardRow['dropped'] => {
    if (group.length < 2) return 'smallGroup';
    if (rule.dropDegenerateGroups && group.every(({ reward }) => reward === group[0]!.reward)) return 'degenerateGroup';
    return undefined;
  };
  const reasons = new Map([...groups].map(([questionId, group]) => [questionId, reasonOf(group)]));
  return rows.map((row) => {
    const dropped = row.reward === undefined ? undefined : reasons.get(row.questionId);
    if (dropped === undefined) return row;
    const { reward: _reward, ...rest } = row;
    return { ...rest, dropped };
  });
}

/**
 * Of each judged rollout the share of the tests that it passes, each by its weight from the rollouts of its question.
 *
 * @throws RangeError where rollouts of one question were judged by different numbers of tests.
 */
function weightedPassRates(rollouts: readonly JudgedRollout[]): Map<string, number> {
  const groups = new Map<string, { id: string; passed: readonly boolean[] }[]>();
  for (const { id, questionId, passRate, passed } of rollouts)
    if (passRate !== undefined && passed) groups.set(questionId, [...(groups.get(questionId) ?? []), { id, passed }]);
  return new Map(
    [...groups.values()].flatMap((group) => {
      const matrix = group.map(({ passed }) => passed);
      const shares = weightedShares(matrix, qualityWeights(matrix).tests);
      return group.map(({ id }, at): [string, number] => [id, shares[at]!]);
    }),
  );
}

/** What a reward is computed from; `weightedPassRate` is needed where the reward asks for it. */
type Earned = Pick<JudgedRollout, 'passRate' | 'score' | 'completionTokens' | 'truncated'> &
  Pick<RewardRow, 'weightedPassRate'>;

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
  { passRate, weightedPassRate, score, completionTokens, truncated }: Earned,
  { reward, rewardClip, scale, maxNewTokens }: Omit<RewardRule, 'dropDegenerateGroups'>,
): RewardParts | undefined {
  if (truncated && reward.truncated === 'penalise') return { lengthPenalty: CUT_PENALTY };
  const parts: RewardParts = { lengthPenalty: lengthPenalty(completionTokens, reward.lengthPenalty, maxNewTokens) };
  if (reward.testsWeight > 0) {
    const rate = reward.tests === 'weightedPassRate' ? weightedPassRate : passRate;
    if (rate === undefined) return undefined;
    parts.tests = reward.testsWeight * (reward.tests === 'allPass' ? (rate === 1 ? 1 : 0) : rate);
  }
  if (reward.rewardModelWeight > 0) {
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
