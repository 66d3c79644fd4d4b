/** `summary.json` of an experiment: the machine-readable side of the report. */
import { z } from 'zod';
import { ArtifactRef } from './artifacts.js';
import { Frontier } from './frontier.js';
import { Comparison, EvaluationResult } from './metrics.js';
import { STAGES } from './stages/index.js';

const rate = z.number().min(0).max(1);
const interval = z.tuple([z.number(), z.number()]);

/** When a step of an RL round worked, in seconds since the first step of the first round began. */
export const RoundStep = z.strictObject({
  step: z.enum(['sampling', 'judging', 'scoring', 'training']),
  from: z.number(),
  to: z.number(),
});
export type RoundStep = z.infer<typeof RoundStep>;

export const RoundResult = z.object({
  round: z.number().int().positive(),
  /** Mean reward of the trained rollouts. */
  reward: z.number(),
  kl: z.number(),
  entropy: z.number(),
  clipFraction: z.number(),
  nonZeroAdvantages: z.number().int().nonnegative(),
  rollouts: z.number().int().nonnegative(),
  trained: z.number().int().nonnegative(),
  dropped: z.record(z.string(), z.number().int().nonnegative()),
  steps: z.array(RoundStep),
  artifact: ArtifactRef,
});
export type RoundResult = z.infer<typeof RoundResult>;

/**
 * The file `summary.json` of an experiment.
 *
 * @example
 * ```ts
 * import { Summary } from 'acecoder-temporal/contract';
 *
 * const { reinforcement } = Summary.parse(JSON.parse(text));
 * console.log(reinforcement.rounds.length);
 * ```
 */
export const Summary = z.strictObject({
  experiment: z.string(),
  state: z.enum(['done']),
  stages: z.array(
    z.strictObject({
      name: z.enum(STAGES),
      state: z.string(),
      seconds: z.number().nonnegative(),
      reused: z.boolean(),
      artifact: ArtifactRef,
    }),
  ),
  data: z.strictObject({
    questions: z.number().int().nonnegative(),
    testCases: z.number().int().nonnegative(),
    keptTestCases: z.number().int().nonnegative(),
    programs: z.number().int().nonnegative(),
    pairs: z.number().int().nonnegative(),
    /** What was left out where, in the order of the stages. */
    dropped: z.array(
      z.strictObject({
        stage: z.enum(STAGES),
        what: z.enum(['seed', 'question', 'testCase', 'program', 'pair']),
        reason: z.string(),
        count: z.number().int().positive(),
        artifact: ArtifactRef,
      }),
    ),
    /**
     * What the filter dropped against the errors that the offline teacher injected; absent for other teachers, whose
     * errors nobody knows.
     */
    filterQuality: z
      .strictObject({
        injected: z.number().int().nonnegative(),
        dropped: z.number().int().nonnegative(),
        droppedInjected: z.number().int().nonnegative(),
      })
      .optional(),
  }),
  /**
   * What was learnt by which settings: those of the stages that decide what the models learn, without where and how
   * fast they ran.
   */
  recipe: z.array(
    z.strictObject({
      stage: z.enum(STAGES),
      setting: z.string(),
      value: z.union([z.string(), z.number(), z.boolean(), z.null()]),
      artifact: ArtifactRef,
    }),
  ),
  passRateHistogram: z.array(
    z.strictObject({ from: z.number(), to: z.number(), programs: z.number().int().nonnegative() }),
  ),
  rewardModel: z.strictObject({
    pairs: z.number().int().nonnegative(),
    heldOutAccuracy: rate.nullable(),
    heldOutPairs: z.number().int().nonnegative(),
    heldOutQuestions: z.number().int().nonnegative(),
    interval95: interval.nullable(),
    baselineAccuracy: rate.nullable(),
    calibration: z.array(z.strictObject({ predicted: rate, observed: rate, count: z.number().int().positive() })),
    curve: z.array(z.strictObject({ step: z.number().int(), loss: z.number() })),
  }),
  reinforcement: z.strictObject({
    rounds: z.array(RoundResult),
    /** Share of the time between the first and the last work of the device in which it waited. */
    deviceWaiting: rate,
  }),
  evaluation: z.array(EvaluationResult),
  /** The other policies against the initial one, on the same tasks; absent in version 0.1.0. */
  comparisons: z.array(Comparison).optional(),
  cost: z.strictObject({ teacher: z.string(), currency: z.literal('USD'), amount: z.number().nonnegative() }),
  /** `folder` is that of a worker which keeps results on its disk; empty where the store alone has the model. */
  models: z.array(z.strictObject({ name: z.string(), artifact: ArtifactRef, folder: z.string() })),
  /** Of a fork: what it reused, what it made again, and why. */
  fork: Frontier.optional(),
  /** What makes the run a real one; each is checked on the artifacts. */
  assertions: z.array(z.strictObject({ text: z.string(), ok: z.boolean() })),
});
export type Summary = z.infer<typeof Summary>;

/**
 * The name of a figure out of any texts: what is no letter, digit or dash becomes `_`, and a dot parts names.
 *
 * @example
 * figureName('evaluation', 'my benchmark', 'trained', 'greedy'); // evaluation.my_benchmark.trained.greedy
 */
export function figureName(...parts: (string | number)[]): string {
  return parts.map((part) => String(part).replaceAll(/[^\p{L}\p{N}@-]/gu, '_')).join('.');
}
