/** The pace of requests and tokens, so that a share of a limit per minute is never passed. Pure. */

/** Spreads units evenly over time: what is taken is followed by the pause that it costs. */
export class Pace {
  #next: number;

  /** @param perMinute units per minute; undefined: no limit. Times are in milliseconds. */
  constructor(
    private readonly perMinute: number | undefined,
    now: number,
  ) {
    this.#next = now;
  }

  /** Takes units; returns the time from which they may be used. */
  take(units: number, now: number): number {
    if (this.perMinute === undefined) return now;
    const start = Math.max(now, this.#next);
    this.#next = start + this.#milliseconds(units);
    return start;
  }

  /** Gives units back that were taken and not used; a negative number takes what was used beyond them. */
  giveBack(units: number): void {
    this.#next -= this.#milliseconds(units);
  }

  #milliseconds(units: number): number {
    return this.perMinute === undefined ? 0 : (units * 60_000) / this.perMinute;
  }
}

/** Longest pause between two attempts of one request, in milliseconds, where the endpoint asks for none. */
const LONGEST_PAUSE_MS = 60_000;

/** Pause before the next attempt: what the endpoint asked for, or twice as long each time; `jitter` in [0, 1) spreads requests that failed together. */
export function pauseMs(attempt: number, afterMs: number | undefined, jitter: number): number {
  const own = Math.min(LONGEST_PAUSE_MS, 500 * 2 ** Math.min(attempt, 10)) * (0.5 + jitter / 2);
  // All that were refused would come back at the same moment.
  return afterMs === undefined ? own : afterMs + jitter * 250;
}
