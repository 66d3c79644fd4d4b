/**
 * The plugin: everything a Temporal worker needs to do AceCoder work on one of its queues.
 *
 * It wires the activities with their services, the activity interceptor (heartbeats, failure classes), the slots of the
 * queue's kind of work, and, on the pipeline queue, the workflows. An application that has workflows of its own keeps
 * them and re-exports ours from its module, because a bundle has one entry; with none, ours are used. Give the plugin to
 * the worker, not to the connection too: it would be applied twice.
 */
import { fileURLToPath } from 'node:url';
import { SimplePlugin } from '@temporalio/plugin';
import type { WorkerOptions } from '@temporalio/worker';
import { createActivities } from '../../activities/index.js';
import { activityInterceptor } from '../../activities/runtime/interceptor.js';
import { HEARTBEAT_TIMEOUT_SECONDS, type QueueRole } from '../../workflows/contract/index.js';
import { createServices, type OwnedServices } from './services.js';

export interface AceCoderPluginOptions {
  /** The kind of work of the worker's queue. */
  role?: QueueRole;
  /** Services shared with other workers of the process; without them the plugin makes its own and ends them with the worker. */
  services?: OwnedServices;
}

/** Module that holds all workflows; `workflowsPath` of a worker that has no others. */
export const workflowsPath = fileURLToPath(new URL(`../../workflows/index${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url));

/**
 * Activities at once. A GPU does one thing at a time; a sandbox supervisor keeps all cores busy with one batch, and a
 * second one hides the time between batches; the rest waits for the network.
 */
const SLOTS: Record<QueueRole, number> = { pipeline: 40, llm: 40, sandbox: 2, gpu: 1 };

export class AceCoderPlugin extends SimplePlugin {
  readonly #role: QueueRole;

  constructor({ role = 'pipeline', services: shared }: AceCoderPluginOptions = {}) {
    const services = shared ?? createServices();
    super({
      name: 'acecoder.AceCoderPlugin',
      activities: createActivities(services),
      ...(role === 'pipeline' ? { workflowsPath: (own: string | undefined) => own ?? workflowsPath } : {}),
      workerInterceptors: { activity: [activityInterceptor()] },
      ...(shared ? {} : { runContext: (next: () => Promise<void>) => next().finally(() => services.close()) }),
    });
    this.#role = role;
  }

  override configureWorker(options: WorkerOptions): WorkerOptions {
    const configured = super.configureWorker(options);
    // A prebuilt bundle and a path exclude each other.
    if (options.workflowBundle) delete configured.workflowsPath;
    return {
      ...configured,
      maxConcurrentActivityTaskExecutions: options.maxConcurrentActivityTaskExecutions ?? SLOTS[this.#role],
      // Cancellation reaches an activity with its heartbeat: the throttle is how long a cancelled training goes on.
      maxHeartbeatThrottleInterval: options.maxHeartbeatThrottleInterval ?? '5s',
      defaultHeartbeatThrottleInterval: options.defaultHeartbeatThrottleInterval ?? `${HEARTBEAT_TIMEOUT_SECONDS / 3}s`,
      // Long enough for a training to reach the end of its step and write a checkpoint.
      shutdownForceTime: options.shutdownForceTime ?? '60s',
    };
  }
}
