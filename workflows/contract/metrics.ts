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

/**
 * One policy on one benchmark. Every figure is over `tasks` tasks; `mean`, pass@k, Best-of-N and oracle need samples.
 */
export const EvaluationResult = z.strictObject({
  benchmark: z.string(),
  policy: z.string(),
  tasks: z.number().int().nonnegative(),
  samples: z.number().int().nonnegative(),
  greedy: rate.nullable(),
  /** Wilson interval of the greedy rate over tasks, 95 %. */
  greedyInterval: z.tuple([z.number(), z.number()]).nullable(),
  mean: rate.nullable(),
  passAtK: z.record(z.string(), rate),
  bestOfN: z.record(z.string(), rate),
  oracle: rate.nullable(),
});
export type EvaluationResult = z.infer<typeof EvaluationResult>;
