/** Numbers of pauses: what the experiment counts, and what anybody may send in place of it. */
import { describe, expect, it } from 'vitest';
import { pauseNumber } from './messages.js';

describe('the number of a pause', () => {
  const now = Date.UTC(2026, 0, 1);

  it('is that of the experiment, which is near the time', () => {
    for (const number of [now - 1e9, now, now + 3]) expect(pauseNumber({ number }, now)).toBe(number);
  });

  it('is none where somebody sends another message, or one that no later pause could pass', () => {
    for (const message of [undefined, null, 7, 'x', [], {}, { number: 'x' }, { number: Infinity }, { number: NaN }])
      expect(pauseNumber(message, now)).toBeUndefined();
    for (const number of [1e300, Number.MAX_SAFE_INTEGER, now + 24 * 3600 * 1000])
      expect(pauseNumber({ number }, now)).toBeUndefined();
  });
});
