/** What an activity needs of Temporal, in one place: progress, cancellation and who it is. */
import { hostname } from 'node:os';
import { Context } from '@temporalio/activity';
import type { Logger } from '@temporalio/common';
import type { Producer } from '../../workflows/contract/index.js';
import { PACKAGE, gitCommit } from './package.js';

/** Progress shown by `temporal workflow describe` and by follow; display only, nothing depends on it. */
export interface HeartbeatDetails {
  done: number;
  total: number;
  message?: string;
  metrics?: Partial<Record<string, number>>;
}

const latest = new WeakMap<Context, HeartbeatDetails>();

/** Sets the details that the heartbeat interceptor sends with its next beat. */
export function reportProgress(details: HeartbeatDetails): void {
  latest.set(Context.current(), details);
}

/** The details last reported in an activity. */
export function lastProgress(context: Context): HeartbeatDetails | undefined {
  return latest.get(context);
}

/** The log of the worker, whose lines name workflow and activity. */
export function log(): Logger {
  return Context.current().log;
}

const devices = new WeakMap<Context, () => void>();

/** What {@link leaveDevice} calls in an activity. */
export function onLeavingDevice(context: Context, leave: () => void): void {
  devices.set(context, leave);
}

/**
 * Says that this activity works on the worker's device no more: what it still stores goes on beside the next activity's
 * work.
 * Without it the device is the activity's to its end.
 */
export function leaveDevice(): void {
  devices.get(Context.current())?.();
}

/** Aborted when the activity is cancelled, paused, reset or its worker shuts down; its reason is to be thrown on. */
export function cancellationSignal(): AbortSignal {
  return Context.current().cancellationSignal;
}

/** Who makes an artifact here and now; goes beside digests, never into them. */
export function currentProducer(versions: Record<string, string> = {}): Producer {
  const { info } = Context.current();
  const commit = gitCommit();
  return {
    workflowId: info.workflowExecution?.workflowId ?? '',
    runId: info.workflowExecution?.runId ?? '',
    activity: info.activityType,
    attempt: info.attempt,
    host: hostname(),
    ...(commit ? { commit } : {}),
    package: `${PACKAGE.name}@${PACKAGE.version}`,
    versions: { node: process.versions.node, ...versions },
  };
}
