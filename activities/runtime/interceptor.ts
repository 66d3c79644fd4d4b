/**
 * The activity interceptor: heartbeats for every activity, failures mapped to their classes, and what leaves a device.
 *
 * Heartbeats come from a timer and carry the last reported progress, so that an activity that waits for a child process
 * is seen to be alive and is told of its cancellation. An unknown error is retried until it has come back identically,
 * without progress in between, `IDENTICAL_FAILURES` times on this worker: then it is a defect, and repeating it would
 * only
 * hide it. Lost workers, hosts and servers leave no such trace and are never counted.
 */
import type { Context, Info } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure, TemporalFailure } from '@temporalio/common';
import type {
  ActivityExecuteInput,
  ActivityInboundCallsInterceptor,
  ActivityInterceptors,
  Next,
} from '@temporalio/worker';
import { FAILURES, StageFailure } from '../../workflows/contract/index.js';
import { lastProgress, onLeavingDevice } from './context.js';

const HEARTBEAT_SECONDS = 4;
const IDENTICAL_FAILURES = 4;

interface Seen {
  message: string;
  progress: number;
  times: number;
}

/**
 * What a worker with a device is told when an activity leaves it; what is returned is called when the activity ends.
 */
export type LeaveDevice = () => () => void;

/** Makes the interceptor of one worker. */
export function activityInterceptor(leave?: LeaveDevice): (context: Context) => ActivityInterceptors {
  const seen = new Map<string, Seen>();
  return (context) => ({ inbound: new Inbound(context, seen, leave) });
}

class Inbound implements ActivityInboundCallsInterceptor {
  constructor(
    private readonly context: Context,
    private readonly seen: Map<string, Seen>,
    private readonly leave: LeaveDevice | undefined,
  ) {}

  async execute(input: ActivityExecuteInput, next: Next<ActivityInboundCallsInterceptor, 'execute'>): Promise<unknown> {
    const beat = (): void => this.context.heartbeat(lastProgress(this.context));
    beat();
    const timer = setInterval(beat, HEARTBEAT_SECONDS * 1000);
    const key = keyOf(this.context.info);
    let ended: (() => void) | undefined;
    const { leave } = this;
    if (leave)
      onLeavingDevice(this.context, () => {
        ended ??= leave();
      });
    try {
      const result = await next(input);
      this.seen.delete(key);
      return result;
    } catch (error) {
      throw this.#classify(error, key);
    } finally {
      clearInterval(timer);
      ended?.();
    }
  }

  #classify(error: unknown, key: string): unknown {
    const signal = this.context.cancellationSignal;
    if (signal.aborted && !(error instanceof StageFailure)) return signal.reason;
    if (error instanceof CancelledFailure || error instanceof TemporalFailure) return error;
    if (error instanceof StageFailure) {
      return ApplicationFailure.create({
        type: error.type,
        message: error.message,
        nonRetryable: FAILURES[error.type] === 'final',
        cause: error,
        details: error.details,
      });
    }
    // Room comes back when somebody makes it: never counted, as a store that is away is not.
    if (error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT')) {
      return ApplicationFailure.create({
        type: 'DiskFull',
        message: `the disk of this worker's cache (ACECODER_HOME) is full: ${error.message}`,
        cause: error,
      });
    }
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const progress = lastProgress(this.context)?.done ?? 0;
    const before = this.seen.get(key);
    const times = before?.message === message && before.progress === progress ? before.times + 1 : 1;
    this.seen.set(key, { message, progress, times });
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

function keyOf(info: Info): string {
  return `${info.workflowExecution?.workflowId}/${info.workflowExecution?.runId}/${info.activityId}`;
}
