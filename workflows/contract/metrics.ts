/** Parts of metrics that several stages have. */
import { z } from 'zod';

/** Counts by reason. */
export const Counts = z.record(z.string(), z.number());
export type Counts = z.infer<typeof Counts>;

/** Distinct texts by what they are about, such as the harness of verdicts. */
export const Notes = z.record(z.string(), z.array(z.string()));

/** Where a training ran: one entry for each change of hardware or libraries. */
export const Environments = z.array(z.record(z.string(), z.json()));

const rate = z.number().min(0).max(1);

const interval = z.tuple([z.number(), z.number()]);
const rates = z.record(z.string(), rate);
const intervals = z.record(z.string(), interval);

/**
 * Who chooses one of N samples: the reward model, the most frequent program, the leading tests of a task, these tests
 * by their weights, or these tests first and the reward model among equals. Choosing at random is the mean, and the oracle of N is pass@N.
 */
export const SELECTIONS = ['rewardModel', 'majority', 'tests', 'weightedTests', 'testsAndRewardModel'] as const;

/** Best-of-N by one method. Intervals are those of a bootstrap over tasks, 95 %. */
export const Selection = z.strictObject({
  method: z.enum(SELECTIONS),
  N: z.number().int().positive(),
  rate,
  interval,
  /** The rate less that of a sample at random, on the same tasks. */
  gain: z.number(),
  gainInterval: interval,
});
export type Selection = z.infer<typeof Selection>;

/** How the answers of an evaluation came about. Two rates are comparable where all of this is the same. */
export const Conditions = z.strictObject({
  temperature: z.number(),
  topP: z.number(),
  maxNewTokens: z.number().int(),
  /** Version of the prompt, and of the way from an answer to its program. */
  prompt: z.number().int(),
  /** Harnesses that made the verdicts. */
  harness: z.array(z.string()),
});
export type Conditions = z.infer<typeof Conditions>;

/** Figures over tasks. `mean`, pass@k, Best-of-N and oracle need samples. */
const TaskFigures = z.strictObject({
  /** Tasks with a judged answer. */
  tasks: z.number().int().nonnegative(),
  /** Judged samples of the task that has fewest. */
  samples: z.number().int().nonnegative(),
  greedy: rate.nullable(),
  /** Wilson interval of the greedy rate over tasks, 95 %. */
  greedyInterval: interval.nullable(),
  mean: rate.nullable(),
  passAtK: rates,
  /** Best-of-N by the reward model. */
  bestOfN: rates,
  oracle: rate.nullable(),
  /** Intervals by a bootstrap over tasks, 95 %. */
  intervals: z
    .strictObject({ mean: interval.nullable(), passAtK: intervals, bestOfN: intervals, oracle: interval.nullable() })
    .optional(),
  selections: z.array(Selection).optional(),
  /** Share of the answers that the limit of tokens cut. */
  truncated: z.strictObject({ greedy: rate.nullable(), samples: rate.nullable() }).optional(),
  /** Tasks that the policy could not read, because their prompt is too long for it: they count as failed. */
  promptTooLong: z.number().int().positive().optional(),
  /** Answers without a verdict: they are in no rate. */
  unjudged: z.number().int().nonnegative().optional(),
  /** Tasks without a judged answer: they are in no rate. */
  tasksWithoutVerdict: z.number().int().nonnegative().optional(),
});

/**
 * The parts of a benchmark by contamination: problems that no question of the training solves or is like, and the
 * others. A part without a judged task is null; without questions that were looked at, both are absent.
 */
export const TASK_PARTS = ['clean', 'suspect'] as const;
export type TaskPart = (typeof TASK_PARTS)[number];

/**
 * One policy on one benchmark. Every figure is over `tasks` tasks, and stands once more for the clean and for the
 * suspect ones. What version 0.1.0 did not record is optional.
 */
export const EvaluationResult = TaskFigures.extend({
  benchmark: z.string(),
  policy: z.string(),
  conditions: Conditions.optional(),
  clean: TaskFigures.nullable().optional(),
  suspect: TaskFigures.nullable().optional(),
});
export type EvaluationResult = z.infer<typeof EvaluationResult>;

const ComparedTasks = z.strictObject({
  benchmark: z.string(),
  before: z.string(),
  after: z.string(),
  /** What is compared: greedy answers by McNemar's exact test, or means over samples by a paired bootstrap. */
  measure: z.enum(['greedy', 'mean']),
  /** Tasks that both have a judged answer to. */
  tasks: z.number().int().positive(),
  /** Tasks of one of the two alone. */
  notCompared: z.number().int().nonnegative(),
  rateBefore: rate,
  rateAfter: rate,
  difference: z.number(),
  /** Interval of the difference by a paired bootstrap over tasks, 95 %. */
  interval,
  /** Tasks on which the second policy is better, and worse. */
  gained: z.number().int().nonnegative(),
  lost: z.number().int().nonnegative(),
  p: z.number(),
  /** The p-value with allowance for all comparisons that were made together (Holm). */
  adjustedP: z.number(),
  /** Smallest true difference that a test on these tasks finds in 80 % of runs. */
  minimalDetectable: z.number(),
  verdict: z.enum(['higher', 'lower', 'noDifference']),
});

/** Two policies on the same tasks of one benchmark, and on its clean and its suspect ones. */
export const Comparison = ComparedTasks.extend({
  clean: ComparedTasks.nullable().optional(),
  suspect: ComparedTasks.nullable().optional(),
});
export type Comparison = z.infer<typeof Comparison>;
