/**
 * The activity interceptor: heartbeats while an activity moves, failures mapped to their classes, and what leaves a
 * device.
 *
 * Heartbeats come from a timer and carry the last reported progress, so that an activity that waits for a child process
 * is told of its cancellation. They stop when nothing has moved for {@link MovementLimits}: a request or a process
 * hangs. The activity then fails as `Stalled`, and its next attempt starts, perhaps on another worker. An activity that
 * was told to end and does not is left alone after a grace time, and its slot is given back.
 *
 * An unknown error is retried until it has come back identically, without progress in between, `IDENTICAL_FAILURES`
 * times on this worker: then it is a defect, and repeating it would only hide it. Lost workers, hosts and servers leave
 * no such trace and are never counted.
 */
import type { Context, Info } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure, TemporalFailure } from '@temporalio/common';
import type {
  ActivityExecuteInput,
  ActivityInboundCallsInterceptor,
  ActivityInterceptors,
  Next,
} from '@temporalio/worker';
import { FAILURES, StageFailure, type FailureType, type QueueRole } from '../../workflows/contract/index.js';
import { isDiskFull } from '../artifacts/files.js';
import { holdingFiles } from '../artifacts/holds.js';
import { add, observe } from '../metrics.js';
import { lastProgress, leaveDevice, onLeavingDevice, watchMovement, type Movement } from './context.js';
import { annotate } from './spans.js';

const HEARTBEAT_SECONDS = 4;
/** Longest pause between attempts while the store is away or a disk is full. Other failures have the workflow's. */
const LONGEST_PAUSE_SECONDS = 60;
const IDENTICAL_FAILURES = 4;
/** Share of a core from which on a worker computes. Waiting for tasks takes a few hundredths. */
const BUSY_SHARE = 0.2;
/** Attempts that workers of another build may refuse: about five minutes, in which a rolling upgrade ends. */
const ATTEMPTS_AT_BUILDS = 10;

interface Seen {
  message: string;
  progress: number;
  times: number;
}

/**
 * What a worker with a device is told when an activity leaves it; what is returned is called when the activity ends.
 */
type LeaveDevice = () => () => void;

/** For how long an activity may stand still, in seconds. */
export interface MovementLimits {
  /** Without bytes to or from the store, an endpoint or a child process, and without CPU time of that process. */
  idle: number;
  /** Without any of that but CPU time: a process that computes for ever. */
  silent: number;
}

/** A process that computes says something at least this many idle times. */
const SILENT_TIMES_IDLE = 15;
const IDLE_SECONDS = 240;

/** Requests to an endpoint have timeouts of their own, and its limits may ask for hours of waiting. */
const ASKING: MovementLimits = { idle: 6 * 3600, silent: 6 * 3600 };

/**
 * `ACECODER_IDLE_SECONDS`, by default four minutes, for all kinds of work but requests to an endpoint.
 *
 * @throws Error where it is no number of seconds.
 */
export function movementLimits(role: QueueRole, env: NodeJS.ProcessEnv = process.env): MovementLimits {
  const text = env['ACECODER_IDLE_SECONDS'];
  const idle = text ? Number(text) : IDLE_SECONDS;
  if (!(idle >= 1)) throw new Error(`ACECODER_IDLE_SECONDS is ${text}; it is a number of seconds, 1 or more.`);
  return role === 'llm' ? ASKING : { idle, silent: SILENT_TIMES_IDLE * idle };
}

export interface InterceptorOptions {
  leave?: LeaveDevice | undefined;
  limits: MovementLimits;
  /** Seconds in which an activity that was told to end has to do so. */
  graceSeconds: number;
  heartbeatSeconds?: number;
}

/** Makes the interceptor of one worker. */
export function activityInterceptor({
  leave,
  limits,
  graceSeconds,
  heartbeatSeconds = HEARTBEAT_SECONDS,
}: InterceptorOptions): (context: Context) => ActivityInterceptors {
  const seen = new Map<string, Seen>();
  return (context) => ({ inbound: new Inbound(context, seen, { leave, limits, graceSeconds, heartbeatSeconds }) });
}

class Inbound implements ActivityInboundCallsInterceptor {
  readonly #movement: Movement;
  /** When the timer last fired: a host that was suspended, or a busy thread, is no standstill of the activity. */
  #lookedAt = performance.now();

  #cpu = process.cpuUsage();

  constructor(
    private readonly context: Context,
    private readonly seen: Map<string, Seen>,
    private readonly options: Required<Omit<InterceptorOptions, 'leave'>> & Pick<InterceptorOptions, 'leave'>,
  ) {
    this.#movement = watchMovement(context);
  }

  async execute(input: ActivityExecuteInput, next: Next<ActivityInboundCallsInterceptor, 'execute'>): Promise<unknown> {
    annotate({ 'acecoder.attempt': this.context.info.attempt });
    this.#beat();
    const timer = setInterval(() => this.#beat(), this.options.heartbeatSeconds * 1000);
    const key = keyOf(this.context.info);
    let ended: (() => void) | undefined;
    const { leave } = this.options;
    if (leave) {
      const began = performance.now();
      observe('deviceWait', Date.now() - this.context.info.currentAttemptScheduledTimestampMs, {});
      onLeavingDevice(this.context, () => {
        if (!ended) add('deviceBusy', performance.now() - began, { activity: this.context.info.activityType });
        ended ??= leave();
      });
    }
    const given = this.#givenUp();
    try {
      const result = await Promise.race([holdingFiles(() => next(input)), given.up]);
      this.seen.delete(key);
      return result;
    } catch (error) {
      // The next attempt goes on from here, although no beat was due.
      const progress = lastProgress(this.context);
      if (progress?.resume !== undefined) this.context.heartbeat(progress);
      const failure = this.#classify(error, key);
      add('failures', 1, { activity: this.context.info.activityType, class: classOf(failure) });
      annotate({ 'acecoder.failure': classOf(failure) });
      throw failure;
    } finally {
      clearInterval(timer);
      given.stop();
      if (leave) leaveDevice();
      ended?.();
    }
  }

  /** A heartbeat, unless the activity stands still: then it is ended. */
  #beat(): void {
    const now = performance.now();
    const between = this.options.heartbeatSeconds * 1000;
    const late = now - this.#lookedAt - between;
    this.#lookedAt = now;
    const movement = this.#movement;
    if (late > between) {
      movement.movedAt += late;
      movement.progressedAt += late;
    }
    // The worker itself computes, perhaps for this activity: that counts as the CPU time of a child process does.
    const cpu = process.cpuUsage(this.#cpu);
    this.#cpu = process.cpuUsage();
    if (movement.waitsForChildren === 0 && (cpu.user + cpu.system) / 1000 > between * BUSY_SHARE)
      movement.movedAt = now;
    const { idle, silent } = this.options.limits;
    const still =
      now - movement.movedAt > idle * 1000 ? idle : now - movement.progressedAt > silent * 1000 ? silent : 0;
    // Until there is something new, what the attempt before has told stays for the one after.
    if (still === 0) this.context.heartbeat(lastProgress(this.context) ?? this.context.info.heartbeatDetails);
    else if (!movement.stalled.signal.aborted)
      movement.stalled.abort(
        new StageFailure(
          'Stalled',
          `${this.context.info.activityType}: nothing has moved for ${still} s (ACECODER_IDLE_SECONDS): ` +
            'no byte of the store or an endpoint and no sign of a child process. It is tried again',
        ),
      );
  }

  /** Rejects when the activity was told to end, or stands still, and has not ended in the grace time. */
  #givenUp(): { up: Promise<never>; stop: () => void } {
    const signals = [this.context.cancellationSignal, this.#movement.stalled.signal];
    let timer: NodeJS.Timeout | undefined;
    let begin = (): void => undefined;
    const up = new Promise<never>((_, reject) => {
      begin = (): void => {
        timer ??= setTimeout(() => {
          const signal = signals.find(({ aborted }) => aborted)!;
          this.context.log.warn('the activity was told to end and does not; it is left alone', {
            activity: this.context.info.activityType,
          });
          reject(signal.reason as Error);
        }, this.options.graceSeconds * 1000);
      };
    });
    up.catch(() => undefined);
    for (const signal of signals) signal.addEventListener('abort', begin, { once: true });
    return {
      up,
      stop: () => {
        clearTimeout(timer);
        for (const signal of signals) signal.removeEventListener('abort', begin);
      },
    };
  }

  /**
   * Milliseconds until the next attempt: 1, 2, 4, … s, up to a minute, by how often this worker has seen the failure in
   * a row. The number of the attempt says less: a training that has outlived ten faults in a day waits a second again.
   * A shard that workers of another build refuse goes from worker to worker, so that the attempts count there.
   */
  #pause(type: FailureType, key: string): number {
    const times = type === 'VersionMismatch' ? this.context.info.attempt : this.#timesInARow(type, key);
    return 1000 * Math.min(2 ** (times - 1), LONGEST_PAUSE_SECONDS);
  }

  /** How often this worker has seen the failure of the activity in a row, without progress in between. */
  #timesInARow(message: string, key: string): number {
    const progress = lastProgress(this.context)?.done ?? 0;
    const before = this.seen.get(key);
    const times = before?.message === message && before.progress === progress ? before.times + 1 : 1;
    this.seen.set(key, { message, progress, times });
    return times;
  }

  /** Whether the next attempt may reach a worker of the build that the stage was planned by. */
  #mayFindItsBuild({ type }: StageFailure): boolean {
    return type === 'VersionMismatch' && this.context.info.attempt < ATTEMPTS_AT_BUILDS;
  }

  #classify(error: unknown, key: string): unknown {
    const signal = this.context.cancellationSignal;
    if (signal.aborted && !(error instanceof StageFailure)) return signal.reason;
    const { stalled } = this.#movement;
    // Whatever the end of a standstill looks like to the code that stood still.
    if (stalled.signal.aborted && !signal.aborted) error = stalled.signal.reason;
    if (error instanceof CancelledFailure || error instanceof TemporalFailure) return error;
    if (error instanceof StageFailure) {
      return ApplicationFailure.create({
        type: error.type,
        message: error.message,
        nonRetryable: FAILURES[error.type] === 'final' && !this.#mayFindItsBuild(error),
        cause: error,
        details: error.details,
        ...(PATIENT.has(error.type) ? { nextRetryDelay: this.#pause(error.type, key) } : {}),
      });
    }
    // Room comes back when somebody makes it: never counted, as a store that is away is not.
    if (error instanceof Error && isDiskFull(error)) {
      return ApplicationFailure.create({
        type: 'DiskFull',
        message: `the disk of this worker's cache (ACECODER_HOME) is full: ${error.message}`,
        cause: error,
        nextRetryDelay: this.#pause('DiskFull', key),
      });
    }
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const times = this.#timesInARow(message, key);
    if (times < IDENTICAL_FAILURES) return error;
    this.seen.delete(key);
    return ApplicationFailure.create({
      type: 'RepeatedFailure',
      nonRetryable: true,
      message: `${message} (the same ${times} times in a row, without progress)`,
      ...(error instanceof Error ? { cause: error } : {}),
    });
  }
}

/** Failures that may last a night, and that nobody mends by asking more often. */
const PATIENT: ReadonlySet<string> = new Set(['StoreUnavailable', 'DiskFull', 'VersionMismatch']);

/** The class of a failure for a label: never a text of its own. */
function classOf(failure: unknown): string {
  if (failure instanceof ApplicationFailure && failure.type && Object.hasOwn(FAILURES, failure.type))
    return failure.type;
  return failure instanceof CancelledFailure ? 'Cancelled' : 'Unknown';
}

function keyOf(info: Info): string {
  return `${info.workflowExecution?.workflowId}/${info.workflowExecution?.runId}/${info.activityId}`;
}
