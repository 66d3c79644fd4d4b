/** Asks a namespace who serves its task queues. */
import type { NativeConnection } from '@temporalio/worker';

/** Kind of the tasks of a queue: activities. */
const ACTIVITY_TASKS = 2;
/** A worker tells that it lives every minute. One that was killed counts for this long. */
const ALIVE_SECONDS = 150;

/** Of the queues asked for, those without a worker; and all queues of which the server knows a worker. */
export interface TaskQueueState {
  unserved: string[];
  served: string[];
}

/**
 * Who serves task queues. A worker counts when it has polled in the last minutes, or tells that it lives: one that
 * works on its only slot does not poll. A server that does not answer counts as serving all.
 */
export function taskQueuesOf(
  connection: () => NativeConnection | undefined,
  namespace: () => string,
): (queues: readonly string[]) => Promise<TaskQueueState> {
  return async (queues) => {
    const service = connection()?.workflowService;
    if (!service) return { unserved: [], served: [] };
    try {
      const alive = await livingWorkers(service, namespace());
      const polled = await Promise.all(
        queues.map(async (name) => {
          if (alive.includes(name)) return true;
          const { pollers } = await service.describeTaskQueue({
            namespace: namespace(),
            taskQueue: { name },
            taskQueueType: ACTIVITY_TASKS,
          });
          return (pollers ?? []).some(({ lastAccessTime }) => isRecent(lastAccessTime));
        }),
      );
      const unserved = queues.filter((_, at) => !polled[at]);
      return { unserved, served: [...new Set([...alive, ...queues.filter((_, at) => polled[at])])].sort() };
    } catch {
      return { unserved: [], served: [] };
    }
  };
}

/** Queues of the workers that tell the server that they live; none where it takes no such telling. */
async function livingWorkers(service: NativeConnection['workflowService'], namespace: string): Promise<string[]> {
  try {
    const { workersInfo } = await service.listWorkers({ namespace });
    return (workersInfo ?? []).flatMap(({ workerHeartbeat: worker }) =>
      worker?.taskQueue && isRecent(worker.heartbeatTime) ? [worker.taskQueue] : [],
    );
  } catch {
    return [];
  }
}

function isRecent(time: { seconds?: { toString(): string } | null } | null | undefined): boolean {
  return time?.seconds != null && Date.now() / 1000 - Number(time.seconds.toString()) < ALIVE_SECONDS;
}
