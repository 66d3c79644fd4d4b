/** What an activity needs of Temporal, in one place: progress, cancellation and who it is. */
import { setMaxListeners } from 'node:events';
import { hostname } from 'node:os';
import { asyncLocalStorage, Context } from '@temporalio/activity';
import type { Logger } from '@temporalio/common';
import { MESSAGES, type Producer } from '../../workflows/contract/index.js';
import { add } from '../metrics.js';
import { PACKAGE, gitCommit } from './package.js';

/** Progress shown by `temporal workflow describe` and by follow. But for `resume` it is for display alone. */
export interface HeartbeatDetails {
  done: number;
  total: number;
  message?: string;
  metrics?: Partial<Record<string, number>>;
  /** What the next attempt goes on from. It may be lost, so that an attempt must also do without. */
  resume?: unknown;
}

const latest = new WeakMap<Context, HeartbeatDetails>();

/** Sets the details that the heartbeat interceptor sends with its next beat. */
export function reportProgress(details: HeartbeatDetails): void {
  const context = Context.current();
  latest.set(context, details);
  add('progress', 1, { activity: context.info.activityType });
  moved();
}

/** What an earlier attempt of the same activity reported as `resume`; undefined where there is none. */
export function resumedFrom(): unknown {
  const details: unknown = Context.current().info.heartbeatDetails;
  return typeof details === 'object' && details !== null ? Reflect.get(details, 'resume') : undefined;
}

/** Most messages of one attempt to its workflow, because each is an event in a history. */
const MESSAGES_TO_WORKFLOW = 20;
const told = new WeakMap<Context, number>();

/**
 * As {@link reportProgress}, of an activity that is a whole stage: its workflow is told too, at most every twentieth of
 * the way. Otherwise a training of days would be `0 of 1` to its end.
 */
export function reportStageProgress(details: HeartbeatDetails, unit: string): void {
  reportProgress(details);
  const { done, total } = details;
  if (total <= 0) return;
  const context = Context.current();
  const part = Math.floor((done / total) * MESSAGES_TO_WORKFLOW);
  if (told.get(context) === part) return;
  told.set(context, part);
  const { activityType, workflowExecution } = context.info;
  const stage = activityType.slice(0, activityType.indexOf('.'));
  const message = { stage, progress: { done, total, unit } };
  // The workflow may have ended, and the message is for display alone.
  context.client?.workflow
    .getHandle(workflowExecution!.workflowId)
    .signal(MESSAGES.stageProgress, message)
    .catch(() => undefined);
}

/** When something of an activity last moved, and what ends it when nothing does. Times are of `performance.now()`. */
export interface Movement {
  /** Bytes, a message or CPU time of a child process. */
  movedAt: number;
  /** As `movedAt`, CPU time apart: a process may also compute without end. */
  progressedAt: number;
  /** Child processes that the activity waits for. While there is one, CPU time of the worker says nothing about it. */
  waitsForChildren: number;
  readonly stalled: AbortController;
  /** Aborted by the activity's cancellation or its standstill. One for all requests: each `any` would cost memory. */
  readonly ended: AbortSignal;
}

/** Sends a signal to the workflow of this activity. @throws Error where the server does not take it. */
export async function signalWorkflow(signal: string, message: unknown): Promise<void> {
  const { client, info } = Context.current();
  if (!client) throw new Error(`This worker has no client, so that its activities cannot send ${signal}.`);
  const { workflowId, runId } = info.workflowExecution!;
  await client.workflow.getHandle(workflowId, runId).signal(signal, message);
}

/** What the workflow of this activity answers to a query, as {@link askWorkflow} does. */
export async function askOwnWorkflow(query: string): Promise<unknown> {
  const { workflowId, runId } = Context.current().info.workflowExecution!;
  return askWorkflow(workflowId, query, runId);
}

/** Errors of a query that say that nobody there can answer it. */
const NO_ANSWER: readonly string[] = ['WorkflowNotFoundError', 'QueryNotRegisteredError'];

/**
 * What another workflow answers to a query; undefined where there is none, or one that does not know the query.
 *
 * @throws Error where no worker was in time for it.
 */
export async function askWorkflow(workflowId: string, query: string, runId?: string): Promise<unknown> {
  try {
    return await Context.current().client?.workflow.getHandle(workflowId, runId).query(query);
  } catch (error) {
    if (error instanceof Error && NO_ANSWER.includes(error.name)) return undefined;
    throw error;
  }
}

const movements = new WeakMap<Context, Movement>();

/** Begins to watch the movement of an activity. */
export function watchMovement(context: Context): Movement {
  const now = performance.now();
  const stalled = new AbortController();
  const ended = AbortSignal.any([context.cancellationSignal, stalled.signal]);
  // As many requests listen as are in flight. Node takes more than ten for a leak, and says so in the worker's log.
  setMaxListeners(0, ended);
  const movement = { movedAt: now, progressedAt: now, waitsForChildren: 0, stalled, ended };
  movements.set(context, movement);
  return movement;
}

/**
 * Says that the activity is not stuck: bytes have moved, or a child process has said something. Outside of an activity
 * it does nothing. `byCpu` says it of a child process that has used CPU time and nothing else.
 */
export function moved({ byCpu = false } = {}): void {
  const context = asyncLocalStorage.getStore();
  const movement = context && movements.get(context);
  if (!movement) return;
  movement.movedAt = performance.now();
  if (!byCpu) movement.progressedAt = movement.movedAt;
}

/** Waits for a child process, which alone moves the activity in that time. */
export async function waitingForChild<T>(waited: Promise<T>): Promise<T> {
  const context = asyncLocalStorage.getStore();
  const movement = context && movements.get(context);
  if (movement) movement.waitsForChildren += 1;
  try {
    return await waited;
  } finally {
    if (movement) movement.waitsForChildren -= 1;
    moved();
  }
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

/**
 * Aborted when the activity is cancelled, paused, reset, stands still or its worker shuts down. Its reason is to be
 * thrown on.
 */
export function cancellationSignal(): AbortSignal {
  const context = Context.current();
  return movements.get(context)?.ended ?? context.cancellationSignal;
}

/** As {@link cancellationSignal}; undefined outside of an activity. */
export function activitySignal(): AbortSignal | undefined {
  return asyncLocalStorage.getStore() ? cancellationSignal() : undefined;
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
