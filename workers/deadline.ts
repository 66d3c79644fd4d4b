/**
 * The end of a worker's allocation. A host that is lent until a fixed time, as by Slurm, is taken away without asking.
 * Before that the worker ends by itself, as at SIGTERM: it takes no more work, and trainings write a checkpoint.
 */
import { graceOf } from '../activities/runtime/settings.js';

/** How often the clock is looked at. A timer of its own would not follow a clock that is set. */
const LOOK_MS = 1000;

export interface Deadline {
  /** When the allocation ends, in milliseconds since 1970. */
  at: number;
  /** When the worker begins to end: the grace time of its process earlier. */
  drainsAt: number;
}

/**
 * The deadline in `ACECODER_DEADLINE`: a time with its zone, or seconds since 1970; undefined where there is none.
 *
 * @throws Error where it is neither, or over at `now` (milliseconds since 1970).
 * @example
 * deadlineOf({ ACECODER_DEADLINE: '2026-12-01T18:00:00Z' }, Date.now());
 */
export function deadlineOf(env: NodeJS.ProcessEnv, now: number): Deadline | undefined {
  const text = env['ACECODER_DEADLINE'];
  if (!text) return undefined;
  const at = /^\d{9,11}$/.test(text) ? 1000 * Number(text) : ISO_TIME.test(text) ? Date.parse(text) : NaN;
  if (Number.isNaN(at))
    throw new Error(
      `ACECODER_DEADLINE is ${JSON.stringify(text)}; it is a time with its zone, such as 2026-12-01T18:00:00Z, ` +
        'or seconds since 1970.',
    );
  if (at <= now) throw new Error(`ACECODER_DEADLINE is ${text}; that time is over, so that no work is taken.`);
  return { at, drainsAt: at - 1000 * graceOf(env).process };
}

/** Without a zone, a time would mean another moment on each host. */
const ISO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/;

/** Says why a worker ends. */
export function sayDeadline({ at }: Deadline): string {
  return `The allocation ends at ${new Date(at).toISOString()} (ACECODER_DEADLINE): this worker takes no more work.`;
}

/**
 * Calls `drain` when the worker has to end, and again every second, because a worker that only starts takes no call.
 * Without a deadline it calls nothing.
 *
 * @param now the time in milliseconds since 1970, which tests replace.
 * @returns a function that ends it.
 */
export function watchDeadline(deadline: Deadline | undefined, drain: () => void, now = Date.now): () => void {
  if (!deadline) return () => undefined;
  const look = (): void => {
    if (now() >= deadline.drainsAt) drain();
  };
  look();
  const timer = setInterval(look, LOOK_MS).unref();
  return () => clearInterval(timer);
}
