/** The pace of requests and tokens, and the pauses between attempts. */
import { describe, expect, it } from 'vitest';
import { Pace, pauseMs } from './pace.js';

describe('the pace', () => {
  it('spreads requests over the minute', () => {
    const pace = new Pace(60, 0);
    expect([0, 0, 0].map((now) => pace.take(1, now))).toEqual([0, 1000, 2000]);
    expect(pace.take(1, 10_000)).toBe(10_000);
    expect([5, 5].map((now) => new Pace(undefined, 0).take(1, now))).toEqual([5, 5]);
  });

  it('takes back what was not used', () => {
    const pace = new Pace(6000, 0);
    pace.take(600, 0);
    expect(pace.take(0, 0)).toBe(6000);
    pace.giveBack(500);
    expect(pace.take(0, 0)).toBe(1000);
  });

  it('pauses longer each time, or as long as the endpoint asks', () => {
    expect([0, 1, 2, 20].map((attempt) => pauseMs(attempt, undefined, 1))).toEqual([500, 1000, 2000, 60_000]);
    expect(pauseMs(5, 3000, 0)).toBe(3000);
  });
});
