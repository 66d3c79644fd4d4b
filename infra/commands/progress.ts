/** Following an experiment from outside: its status, and the heartbeats of what is being worked on. */
import { setTimeout as sleep } from 'node:timers/promises';
import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import type { Payload } from '@temporalio/common';
import { figuresOf, type ExperimentStatus, type StageStatus } from '../../workflows/contract/index.js';

export interface Snapshot {
  /** `RUNNING`, `COMPLETED`, `FAILED`, … as the server says. */
  execution: string;
  /** Absent while no worker answers, and for a workflow that is no experiment. */
  status?: ExperimentStatus | undefined;
  /** What an activity last said of its progress. */
  activity?: string | undefined;
}

interface Details {
  done: number;
  total: number;
  message?: string;
}

/** How an experiment stands at this moment. @throws when the server does not answer or knows no such workflow. */
async function snapshot(client: Client, workflowId: string): Promise<Snapshot> {
  const handle = client.workflow.getHandle(workflowId);
  const { status: execution } = await handle.describe();
  // A query needs a worker; while none is there, the status is not known and the execution's state is.
  const status = await Promise.race([
    handle.query<ExperimentStatus>('status').catch(() => undefined),
    sleep(5_000, undefined, { ref: false }),
  ]);
  const running = status?.stages?.find(({ state }) => state === 'running' || state === 'paused');
  const activity = await newestHeartbeat(client, running ? `${workflowId}/${running.name}` : workflowId);
  return { execution: execution.name, status: status && 'stages' in status ? status : undefined, activity };
}

/** The value of the payload of an event, the first one unless told; undefined where there is none. */
export async function valueOf(
  { options: { loadedDataConverter } }: Client,
  given: { payloads?: Payload[] | null } | null | undefined,
  index = 0,
): Promise<unknown> {
  const { payloadCodecs, payloadConverter } = loadedDataConverter;
  const payload = given?.payloads?.[index];
  if (!payload) return undefined;
  let decoded = [payload];
  for (const codec of payloadCodecs.toReversed()) decoded = await codec.decode(decoded);
  return payloadConverter.fromPayload(decoded[0]!);
}

/** What an activity of a workflow last said of its progress. */
export async function newestHeartbeat(client: Client, workflowId: string): Promise<string | undefined> {
  const description = await client.workflow
    .getHandle(workflowId)
    .describe()
    .catch(() => undefined);
  for (const { heartbeatDetails, activityType } of description?.raw.pendingActivities ?? []) {
    const details = (await valueOf(client, heartbeatDetails)) as Details | null | undefined;
    if (!details) continue;
    const total = details.total ? ` of ${details.total}` : '';
    return `${activityType?.name}: ${details.message ?? 'working'} ${details.done}${total}`;
  }
  return undefined;
}

/** One line that says what a stage is doing or has done. */
function stageLine({ name, state, progress, seconds, reused, metrics }: StageStatus): string {
  const parts = [name.padEnd(14), state];
  if (state === 'done') {
    parts.push(`${Math.round(seconds ?? 0)} s${reused ? ', reused' : ''}`);
    const figures = figuresOf(metrics ?? {}, 5);
    if (figures) parts.push(figures);
  } else if (progress) parts.push(`${progress.done} of ${progress.total} ${progress.unit}`);
  return parts.join('  ');
}

/**
 * Watches an experiment until it ends or parks, and hands over how it stands every 1.5 s. Undefined when `signal` ended
 * it.
 * `lost` is called when the server does not answer, and may bring it back. @throws WorkflowNotFoundError
 */
export async function watch(
  client: Client,
  workflowId: string,
  {
    see,
    lost,
    signal,
  }: { see: (now: Snapshot) => void; lost: (why: string) => Promise<void> | void; signal: AbortSignal },
): Promise<Snapshot | undefined> {
  while (!signal.aborted) {
    try {
      const now = await snapshot(client, workflowId);
      see(now);
      if (now.execution !== 'RUNNING' || now.status?.state === 'parked') return now;
    } catch (error) {
      if (signal.aborted) return undefined;
      if (error instanceof WorkflowNotFoundError) throw error;
      await lost(`the Temporal server does not answer (${(error as Error).message.split('\n')[0]})`);
    }
    await sleep(1_500, undefined, { signal }).catch(() => undefined);
  }
  return undefined;
}

/** Says each new line of snapshots that follow each other, and what is being worked on, at most every ten seconds. */
export function lineTeller(say: (line: string) => void): (now: Snapshot) => void {
  const said = new Set<string>();
  let activity: string | undefined;
  let activityAt = 0;
  return (now) => {
    for (const stage of now.status?.stages ?? []) {
      const line = stageLine(stage);
      if (stage.state === 'waiting' || said.has(line)) continue;
      said.add(line);
      say(line);
    }
    if (now.activity && now.activity !== activity && Date.now() - activityAt > 10_000) {
      activityAt = Date.now();
      activity = now.activity;
      say(activity);
    }
  };
}

/** The sentences for a parked experiment: why, and what to type. Empty when it is not parked. */
export function parkedText({ stages }: ExperimentStatus): { why: string; advice: string } | undefined {
  const stage = stages.find(({ state }) => state === 'parked');
  return (
    stage?.failure && {
      why: `The experiment is parked: stage ${stage.name}: ${stage.failure.type}: ${stage.failure.message}`,
      advice: stage.failure.advice,
    }
  );
}
