/** What an experiment works on, as the server tells it: for seeing that work goes on after a fault. */
import type { Client } from '@temporalio/client';
import { z } from 'zod';

/** An activity that the server has given to a worker. */
interface Running {
  type: string;
  attempt: number;
  /** Milliseconds since 1970, of the server's clock. */
  startedAt: number;
  /** What its last heartbeat said. */
  done: number;
}

export interface Look {
  ended: boolean;
  /** By workflow and activity id. */
  running: Map<string, Running>;
  /** The same, and what waits for a worker or for its next attempt. */
  pending: Set<string>;
}

/** `PENDING_ACTIVITY_STATE_STARTED` of Temporal's API. */
const STARTED = 2;
const Details = z.object({ done: z.number() });
/** Activities that look whether work goes on, and are none themselves. */
const LOOKING = /^queues\./;

/** What runs of an experiment and its stages. @throws what the client throws while the server is away. */
export async function lookAt(client: Client, workflowId: string): Promise<Look> {
  const running = new Map<string, Running>();
  const pending = new Set<string>();
  const handle = client.workflow.getHandle(workflowId);
  const { raw, status } = await handle.describe();
  const children = await Promise.all(
    (raw.pendingChildren ?? []).map(async ({ workflowId: id }) =>
      id ? { id, raw: (await client.workflow.getHandle(id).describe()).raw } : undefined,
    ),
  );
  for (const found of [{ id: workflowId, raw }, ...children]) {
    for (const activity of found?.raw.pendingActivities ?? []) {
      const type = activity.activityType?.name ?? '';
      const key = `${found!.id} ${activity.activityId}`;
      pending.add(key);
      if (Number(activity.state) !== STARTED || LOOKING.test(type)) continue;
      const data = activity.heartbeatDetails?.payloads?.[0]?.data;
      // An attempt that has said nothing yet passes on that the one before had said nothing.
      const details = Details.safeParse(data?.length ? JSON.parse(Buffer.from(data).toString()) : undefined);
      const { seconds, nanos } = activity.lastStartedTime ?? {};
      running.set(key, {
        type,
        attempt: activity.attempt ?? 1,
        startedAt: Number(seconds ?? 0) * 1000 + (nanos ?? 0) / 1e6,
        done: details.data?.done ?? 0,
      });
    }
  }
  return { ended: status.name !== 'RUNNING', running, pending };
}

/**
 * Whether something has begun, gone on or ended after a moment. `before` is a look from that moment or later, `since`
 * the moment in milliseconds since 1970.
 */
export function isNewWork(before: Look, now: Look, since: number): boolean {
  if (now.ended) return true;
  for (const { startedAt } of now.running.values()) if (startedAt > since) return true;
  for (const [key, { startedAt, done }] of before.running) {
    const still = now.running.get(key);
    if (still ? still.startedAt === startedAt && still.done > done : !now.pending.has(key)) return true;
  }
  return false;
}
