/** What a stage made, and the sentence of one that made nothing. Pure. */
import type { Counts } from './metrics.js';

/** What a stage made, and why it made no more. */
export interface Made {
  /** What it makes, in the plural. */
  what: string;
  count: number;
  /** What it was made of, such as `10 seeds`. */
  of: string;
  /** What was left out, by reason. */
  leftOut: readonly (Counts | undefined)[];
  /** What to change, as far as the reasons say it. */
  advice: string;
}

/** Reasons that a message holds. */
const REASONS = 12;

/**
 * Why a stage made nothing; undefined where it made something.
 *
 * @example
 * noRowsText('synthesis', { what: 'questions', count: 0, of: '2 seeds', leftOut: [{ cut: 2 }], advice: 'Ask again.' });
 * // synthesis made no questions of 2 seeds: cut 2. Ask again.
 */
export function noRowsText(stage: string, { what, count, of, leftOut, advice }: Made): string | undefined {
  if (count > 0) return undefined;
  return `${stage} made no ${what} of ${of}: ${leftOutText(leftOut) ?? 'there was nothing to work on'}. ${advice}`;
}

/**
 * What was left out by reason, the most frequent first; undefined where nothing was.
 *
 * @example
 * leftOutText([{ cut: 2 }, { noReply: 3 }]); // noReply 3, cut 2
 */
export function leftOutText(leftOut: Made['leftOut']): string | undefined {
  const reasons = leftOut
    .flatMap((counts) => Object.entries(counts ?? {}))
    .filter(([, times]) => times > 0)
    .sort(([, a], [, b]) => b - a);
  if (reasons.length === 0) return undefined;
  const more = reasons.length > REASONS ? `, and ${reasons.length - REASONS} more reasons` : '';
  return `${reasons
    .slice(0, REASONS)
    .map(([reason, times]) => `${reason} ${times}`)
    .join(', ')}${more}`;
}
