/** Who serves task queues: what a workflow cannot see, and an operator wants to know. */
import type { Services } from '../runtime/services.js';

/** `queues.served`. */
export function queueActivities({ taskQueues }: Pick<Services, 'taskQueues'>) {
  return {
    /**
     * The queues that no worker serves now, and all queues that workers do serve, where the server can tell. A server
     * that cannot be asked counts as serving all: nothing wrong is told.
     */
    'queues.served': async ({
      queues,
    }: {
      queues: readonly string[];
    }): Promise<{ unserved: string[]; served: string[] }> => taskQueues(queues),
  };
}
