/** Following an experiment from outside: its status, and the heartbeats of what is being worked on. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import type { ExperimentStatus, StageStatus } from '../../workflows/contract/index.js';

export interface Snapshot {
  /** `RUNNING`, `COMPLETED`, `FAILED`, … as the server says. */
  execution: string;
  /** Absent while no worker answers. */
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
export async function snapshot(client: Client, workflowId: string): Promise<Snapshot> {
  const handle = client.workflow.getHandle(workflowId);
  const { status: execution } = await handle.describe();
  // A query needs a worker; while none is there, the status is not known and the execution's state is.
  const status = await Promise.race([
    handle.query<ExperimentStatus>('status').catch(() => undefined),
    sleep(5_000, undefined, { ref: false }),
  ]);
  const running = status?.stages.find(({ state }) => state === 'running' || state === 'paused');
  const activity = await newestHeartbeat(client, running ? `${workflowId}/${running.name}` : workflowId);
  return { execution: execution.name, status: status ?? undefined, activity };
}

async function newestHeartbeat(client: Client, workflowId: string): Promise<string | undefined> {
  const description = await client.workflow.getHandle(workflowId).describe().catch(() => undefined);
  for (const { heartbeatDetails, activityType } of description?.raw.pendingActivities ?? []) {
    const [payload] = heartbeatDetails?.payloads ?? [];
    const details = payload && (defaultPayloadConverter.fromPayload(payload) as Details | null);
    if (details) return `${activityType?.name}: ${details.message ?? 'working'} ${details.done}${details.total ? ` of ${details.total}` : ''}`;
  }
  return undefined;
}

/** One line that says what a stage is doing or has done. */
export function stageLine({ name, state, progress, seconds, reused, metrics }: StageStatus): string {
  const parts = [name.padEnd(14), state];
  if (state === 'done') {
    parts.push(`${Math.round(seconds ?? 0)} s${reused ? ', reused' : ''}`);
    const figures = Object.entries(metrics ?? {}).filter(([, value]) => typeof value === 'number').slice(0, 5)
      .map(([key, value]) => `${key} ${Number.isInteger(value) ? value : (value as number).toFixed(3)}`);
    if (figures.length > 0) parts.push(figures.join(', '));
  } else if (progress) parts.push(`${progress.done} of ${progress.total} ${progress.unit}`);
  return parts.join('  ');
}

/**
 * Follows an experiment until it ends or parks, handing over each new line. `recover` is called when the server does not
 * answer, and may bring it back.
 */
export async function follow(client: Client, workflowId: string, say: (line: string) => void, recover: () => Promise<void>, signal: AbortSignal): Promise<Snapshot | undefined> {
  const said = new Set<string>();
  const once = (line: string): void => {
    if (said.has(line)) return;
    said.add(line);
    say(line);
  };
  let activityAt = 0;
  while (!signal.aborted) {
    let now: Snapshot;
    try {
      now = await snapshot(client, workflowId);
    } catch (error) {
      if (signal.aborted) return undefined;
      say(`the Temporal server does not answer (${(error as Error).message.split('\n')[0]})`);
      await recover();
      await sleep(2_000, undefined, { signal }).catch(() => undefined);
      continue;
    }
    for (const stage of now.status?.stages ?? []) if (stage.state !== 'waiting') once(stageLine(stage));
    if (now.activity && Date.now() - activityAt > 10_000 && !said.has(now.activity)) {
      activityAt = Date.now();
      once(now.activity);
      said.delete(now.activity);
    }
    if (now.execution !== 'RUNNING' || now.status?.state === 'parked') return now;
    await sleep(1_500, undefined, { signal }).catch(() => undefined);
  }
  return undefined;
}
