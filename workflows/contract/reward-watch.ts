/** What the watch for reward hacking sees of a round, and how an operator answers its alarm. Pure. */
import { z } from 'zod';

/** Whether rollouts that the watch flags are trained on. */
export const FlaggedChoice = z
  .enum(['keep', 'drop'])
  .describe('keep: flagged rollouts are trained on as any other; drop: they leave their groups');

/**
 * A gap between what is rewarded and what is found, over the questions of a round, with its standard error. `shared` is
 * the error that all rounds have in common, which therefore no mean over rounds makes smaller.
 */
const Gap = z.strictObject({
  value: z.number(),
  error: z.number().nonnegative(),
  shared: z.number().nonnegative().optional(),
});

/** How likely a program passes all tests by the score of the reward model: logistic, as at the first round. */
export const Calibration = z.strictObject({
  slope: z.number(),
  intercept: z.number(),
  /** Standard error of the mean that it promises, from the rollouts that it was fitted to. */
  error: z.number().nonnegative(),
});
export type Calibration = z.infer<typeof Calibration>;

/** Most programs that an alarm shows, and most characters of each. */
export const MOST_SHOWN = 3;
export const SHOWN_CHARACTERS = 300;

/** A program that is rewarded by what the reward sees, and fails by what it does not. */
export const FlaggedProgram = z.strictObject({
  id: z.string(),
  questionId: z.string(),
  /** `hiddenTests`: it passes the visible tests and fails a hidden one; `rewardModel`: it is promised to pass, and fails. */
  reason: z.enum(['hiddenTests', 'rewardModel']),
  program: z.string().max(SHOWN_CHARACTERS),
});
export type FlaggedProgram = z.infer<typeof FlaggedProgram>;

const rate = z.number().min(0).max(1);

/**
 * What the watch sees of the rollouts of a round. Pass rates are means over questions, of the share of tests and, for
 * the gap, of the programs that pass all.
 */
export const RoundWatch = z.strictObject({
  /** Rollouts with verdicts on all tests, and questions that have some. */
  judged: z.number().int().nonnegative(),
  questions: z.number().int().nonnegative(),
  /** Mean share of passed tests: of those that rewards read, and of the others. Absent where no test is hidden. */
  visiblePassRate: rate.optional(),
  hiddenPassRate: rate.optional(),
  /** Share of the programs that pass the visible tests, less the share that passes all. */
  gap: Gap.optional(),
  /** Share that the reward model promises to pass less the share that passes, where both are known. */
  rewardModelGap: Gap.optional(),
  /** Share of the judged programs that hold at least half of the telling values that their visible tests expect. */
  literals: rate,
  /** Mean tokens of an answer. */
  tokens: z.number().nonnegative(),
  /** Rollouts that are flagged; the first of them are shown. */
  flagged: z.number().int().nonnegative(),
  shown: z.array(FlaggedProgram).max(MOST_SHOWN),
  calibration: Calibration.optional(),
});
export type RoundWatch = z.infer<typeof RoundWatch>;
