/** What a fork reused, what it made again, and why. In its status, its result and its summary. */
import { z } from 'zod';
import { STAGES } from './stages/index.js';

/**
 * How many rounds of each step the store answered, and how many were made; `madeFrom` is the first round of which it
 * was made.
 */
export const StepCounts = z.record(
  z.string(),
  z.strictObject({
    reused: z.number().int().nonnegative(),
    made: z.number().int().nonnegative(),
    madeFrom: z.number().int().positive().optional(),
  }),
);
export type StepCounts = z.infer<typeof StepCounts>;

/** Where a fork leaves its experiment. */
const ForkOrigin = z.strictObject({
  /** Workflow id of the experiment. */
  of: z.string(),
  from: z.string(),
  /** Fields that are others in the fork. What was absent is null. */
  differences: z.array(z.strictObject({ field: z.string(), was: z.json(), is: z.json() })),
});
export type ForkOrigin = z.infer<typeof ForkOrigin>;

export const Frontier = ForkOrigin.extend({
  stages: z.array(
    z.strictObject({
      name: z.enum(STAGES),
      /** Absent while the stage is not done. */
      reused: z.boolean().optional(),
      /** Of a stage of rounds. */
      steps: StepCounts.optional(),
      /** Fields that differ, and stages made again, which decide this one. Empty where it was reused. */
      because: z.array(z.string()),
    }),
  ),
});
export type Frontier = z.infer<typeof Frontier>;

/** Characters of a value in a sentence. */
const SHOWN = 60;

/**
 * A frontier in sentences: what is another, what was reused and what was made again.
 *
 * @example
 * frontierText(frontier).join('\n');
 */
export function frontierText({ of, from, differences, stages }: Frontier): string[] {
  const list = (names: readonly string[]): string => names.join(', ') || 'nothing';
  const shown = (value: unknown): string => {
    const text = JSON.stringify(value);
    return text.length > SHOWN ? `${text.slice(0, SHOWN - 3)}...` : text;
  };
  const reused = stages.filter((stage) => stage.reused).map(({ name }) => name);
  const made = stages.filter((stage) => stage.reused === false);
  const changes = differences.map(({ field, was, is }) => `${field} ${shown(was)} -> ${shown(is)}`);
  return [
    `It forks ${of} from ${from}: ${changes.join(', ')}.`,
    `Reused: ${list(reused)}. Made again: ${list(made.map(({ name, because }) => `${name} (${because.join(', ')})`))}.`,
    ...stages.flatMap(({ name, steps }) => (steps ? [`${name}, rounds: ${stepsText(steps)}.`] : [])),
  ];
}

function stepsText(steps: StepCounts): string {
  return Object.entries(steps)
    .map(([step, { reused, made, madeFrom }]) =>
      madeFrom === undefined
        ? `${step} ${reused} reused`
        : `${step} ${reused} reused, ${made} made from ${madeFrom} on`,
    )
    .join('; ');
}
