/** What the report says of two policies on one benchmark, in a sentence. */
import type { Comparison, EvaluationResult } from '../../workflows/contract/metrics.js';
import { comparisonText } from '../comparison/text.js';
import { percent, percentRange, plural } from './text.js';

/**
 * Compares two greedy results of one benchmark that no paired test compares. There is a difference only where the
 * intervals do not overlap.
 */
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

/**
 * What an evaluation says of the policies of each benchmark: its paired tests, or, where version 0.1.0 made it, the
 * intervals of each policy against those of the first one.
 */
export function comparisons(evaluation: readonly EvaluationResult[], paired: readonly Comparison[] = []): string[] {
  const tested = new Set(paired.map(({ benchmark }) => benchmark));
  const first = new Map<string, EvaluationResult>();
  const others = evaluation.filter(({ benchmark }) => !tested.has(benchmark));
  const statements = others.flatMap((result) => {
    const before = first.get(result.benchmark);
    if (before === undefined) first.set(result.benchmark, result);
    return before === undefined ? [] : [compareGreedy(before, result)];
  });
  return [...paired.map(comparisonText), ...statements];
}
