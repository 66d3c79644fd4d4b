/** The pace of requests and tokens, which keeps a shard within its share of a limit per minute. Pure. */

/** Spreads units evenly over time: taking units costs a pause, which the next taker waits for. */
export class Pace {
  #next: number;

  /** @param perMinute units per minute; undefined for no limit. Times are in milliseconds. */
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

  /** Gives unused units back. A negative number takes the units that were used beyond the taken ones. */
  giveBack(units: number): void {
    this.#next -= this.#milliseconds(units);
  }

  #milliseconds(units: number): number {
    return this.perMinute === undefined ? 0 : (units * 60_000) / this.perMinute;
  }
}

/** Longest pause between two attempts of one request, in milliseconds, where the endpoint asks for none. */
const LONGEST_PAUSE_MS = 60_000;

/**
 * Milliseconds before the next attempt: what the endpoint asked for, or twice as long each time. `jitter` in [0, 1)
 * spreads requests that failed together.
 */
export function pauseMs(attempt: number, afterMs: number | undefined, jitter: number): number {
  const own = Math.min(LONGEST_PAUSE_MS, 500 * 2 ** Math.min(attempt, 10)) * (0.5 + jitter / 2);
  // Without jitter, all refused requests would come back at the same moment.
  return afterMs === undefined ? own : afterMs + jitter * 250;
}
