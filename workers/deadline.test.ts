import { describe, expect, it, vi } from 'vitest';
import { deadlineOf, watchDeadline } from './deadline.js';

const NOW = Date.parse('2026-12-01T12:00:00Z');
const at = (text: string, more = {}) => deadlineOf({ ACECODER_DEADLINE: text, ...more }, NOW);

describe('a deadline', () => {
  it('is a time with its zone, or seconds since 1970, and the drain begins the grace time of the process earlier', () => {
    const evening = Date.parse('2026-12-01T18:00:00Z');
    expect(at('2026-12-01T18:00:00Z')).toEqual({ at: evening, drainsAt: evening - 95_000 });
    expect(at('2026-12-01T19:00+01:00')).toEqual(at('2026-12-01T18:00:00Z'));
    expect(at(String(evening / 1000))).toEqual(at('2026-12-01T18:00:00Z'));
    expect(at('2026-12-01T18:00:00Z', { ACECODER_GRACE_SECONDS: '25' })?.drainsAt).toBe(evening - 60_000);
  });

  it('is none where the variable is not set, or empty', () => {
    expect(deadlineOf({}, NOW)).toBeUndefined();
    expect(at('')).toBeUndefined();
  });

  it.each(['tomorrow', '2026-12-01', '2026-12-01T18:00:00', '2026-13-01T18:00:00Z', '1e9', '3600', '-1'])(
    'is refused where it is %s',
    (text) => {
      expect(() => at(text)).toThrow(
        `ACECODER_DEADLINE is ${JSON.stringify(text)}; it is a time with its zone, such as 2026-12-01T18:00:00Z, ` +
          'or seconds since 1970.',
      );
    },
  );

  it('is refused where it is over', () => {
    expect(() => at('2026-12-01T11:59:59Z')).toThrow('that time is over');
    expect(at('2026-12-01T12:00:01Z')).toBeDefined();
  });
});

describe('the watch', () => {
  it('calls from the beginning of the drain on, by the clock, until it is ended', () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    try {
      let [now, calls] = [NOW, 0];
      const end = watchDeadline(
        at('2026-12-01T18:00:00Z'),
        () => (calls += 1),
        () => now,
      );
      vi.advanceTimersByTime(3_600_000);
      expect(calls).toBe(0);
      // The clock of the host may be set.
      now = at('2026-12-01T18:00:00Z')!.drainsAt;
      vi.advanceTimersByTime(2000);
      expect(calls).toBe(2);
      end();
      vi.advanceTimersByTime(60_000);
      expect(calls).toBe(2);
    } finally {
      vi.useRealTimers();
    }
  });

  it('calls at once where the drain has begun already', () => {
    let calls = 0;
    watchDeadline(
      { at: NOW, drainsAt: NOW - 1 },
      () => (calls += 1),
      () => NOW,
    )();
    expect(calls).toBe(1);
  });
});
