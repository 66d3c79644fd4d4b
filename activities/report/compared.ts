/** What the report says of two policies on one benchmark, in a sentence. */
import type { EvaluationResult } from '../../workflows/contract/metrics.js';
import { percent, percentRange, plural } from './text.js';

/** Compares two greedy results of one benchmark. There is a difference only where the intervals do not overlap. */
export function compareGreedy(before: EvaluationResult, after: EvaluationResult): string {
  const name = `${after.policy} against ${before.policy} on ${after.benchmark}`;
  if (
    before.greedy === null ||
    after.greedy === null ||
    before.greedyInterval === null ||
    after.greedyInterval === null
  ) {
    return `${name}: not compared, because a greedy result is missing.`;
  }
  const [figureAfter, figureBefore] = [percent(after.greedy), percent(before.greedy)];
  const figures =
    `${figureAfter} (95 % interval ${percentRange(after.greedyInterval)}, ${plural(after.tasks, 'task')}) against ` +
    `${figureBefore} (${percentRange(before.greedyInterval)}, ${plural(before.tasks, 'task')})`;
  const [beforeLow, beforeHigh] = before.greedyInterval;
  const [afterLow, afterHigh] = after.greedyInterval;
  if (afterLow > beforeHigh) return `${name}: higher. ${figures}; the intervals do not overlap.`;
  if (afterHigh < beforeLow) return `${name}: lower. ${figures}; the intervals do not overlap.`;
  const overlap = 'the intervals overlap, so this run shows neither a gain nor a loss.';
  return `${name}: no difference shown. ${figures}; ${overlap}`;
}

/** Compares each policy with the first one of its benchmark. */
export function comparisons(evaluation: readonly EvaluationResult[]): string[] {
  const first = new Map<string, EvaluationResult>();
  return evaluation.flatMap((result) => {
    const before = first.get(result.benchmark);
    if (before === undefined) first.set(result.benchmark, result);
    return before === undefined ? [] : [compareGreedy(before, result)];
  });
}
