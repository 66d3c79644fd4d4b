/**
 * The plugin: everything a Temporal worker needs to do AceCoder work on one of its queues.
 *
 * It wires the activities of the queue's kind of work with their services, the activity interceptor (heartbeats, failure
 * classes), the slots, and, on the pipeline queue, the workflows. An application that has workflows of its own keeps them
 * and re-exports ours from its module, because a bundle has one entry; with none, ours are used. A name that the
 * application or another plugin defines too is an error. Give the plugin to the worker, not to the connection too: it
 * would be applied twice.
 */
import { fileURLToPath } from 'node:url';
import { SimplePlugin } from '@temporalio/plugin';
import type { BundleOptions, NativeConnection, Worker, WorkerOptions } from '@temporalio/worker';
import { composeActivities, createActivities, type Activity } from '../../activities/index.js';
import { activityInterceptor } from '../../activities/runtime/interceptor.js';
import { HEARTBEAT_TIMEOUT_SECONDS, workflowsOf, type Part, type QueueRole } from '../../workflows/contract/index.js';
import { DeviceSlots } from './device-slots.js';
import { refuseHiddenWorkflows } from './hidden-workflows.js';
import { searchAttributesOf } from './search-attributes.js';
import { createServices, type OwnedServices } from './services.js';

export type AceCoderPluginOptions = {
  /** Services shared with other workers of the process; without them the plugin makes its own and ends them with the worker. */
  services?: OwnedServices;
} & (
  | { part?: Exclude<Part, 'sandbox'>; /** The kind of work of the worker's queue. */ role?: QueueRole }
  /** The sandbox alone: the activity `sandbox.judge`, on whatever queue the application's workflows call it. */
  | { part: 'sandbox'; role?: 'sandbox' }
);

const module = (name: string): string =>
  fileURLToPath(new URL(`../../workflows/${name}${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url));

/** Modules that hold the workflows of a part; `workflowsPath` of a worker that has no others. */
export const workflowsPath = { all: module('index'), data: module('data') } as const;

/**
 * Activities at once. A sandbox supervisor keeps all cores busy with one batch, and a second one hides the time between
 * batches; what works on a device waits for it ({@link DeviceSlots}); the rest waits for the network.
 */
const SLOTS: Record<Exclude<QueueRole, 'gpu'>, number> = { pipeline: 40, llm: 40, sandbox: 2 };

export class AceCoderPlugin extends SimplePlugin {
  readonly #part: Part;
  readonly #slots: DeviceSlots | number;
  readonly #activities: Record<string, Activity>;
  /** Where the worker's namespace is, once it is known. */
  readonly #server: { connection?: NativeConnection | undefined; namespace?: string | undefined };

  /** @throws Error naming the missing settings of the store, or a part that has no work on such a worker. */
  constructor({
    part = 'all',
    role = part === 'sandbox' ? 'sandbox' : 'pipeline',
    services: shared,
  }: AceCoderPluginOptions = {}) {
    const server: { connection?: NativeConnection | undefined; namespace?: string | undefined } = {};
    const services =
      shared ??
      createServices({
        searchAttributes: searchAttributesOf(
          () => server.connection,
          () => server.namespace ?? 'default',
          (text) => console.warn(text),
        ),
      });
    const activities = createActivities(services, role, part);
    const slots = role === 'gpu' ? new DeviceSlots() : SLOTS[role];
    if (Object.keys(activities).length === 0)
      throw new Error(`The part '${part}' has no activity for '${role}' workers.`);
    super({
      name: 'acecoder.AceCoderPlugin',
      activities: (others: object | undefined) => composeActivities(others ?? {}, activities),
      ...(role === 'pipeline' && part !== 'sandbox'
        ? { workflowsPath: (own: string | undefined) => own ?? workflowsPath[part] }
        : {}),
      workerInterceptors: {
        activity: [activityInterceptor(typeof slots === 'number' ? undefined : () => slots.leave())],
      },
      ...(shared ? {} : { runContext: (next: () => Promise<void>) => next().finally(() => services.close()) }),
    });
    this.#part = part;
    this.#slots = slots;
    this.#activities = activities;
    this.#server = server;
  }

  override configureWorker(options: WorkerOptions): WorkerOptions {
    const configured = super.configureWorker(options);
    Object.assign(this.#server, { connection: options.connection, namespace: options.namespace });
    // A prebuilt bundle and a path exclude each other.
    if (options.workflowBundle) delete configured.workflowsPath;
    return {
      ...configured,
      ...this.#slotsOf(options),
      // Cancellation reaches an activity with its heartbeat: the throttle is how long a cancelled training goes on.
      maxHeartbeatThrottleInterval: options.maxHeartbeatThrottleInterval ?? '5s',
      defaultHeartbeatThrottleInterval: options.defaultHeartbeatThrottleInterval ?? `${HEARTBEAT_TIMEOUT_SECONDS / 3}s`,
      // Long enough for a training to reach the end of its step and write a checkpoint.
      shutdownForceTime: options.shutdownForceTime ?? '60s',
    };
  }

  /** Slots that the application gives its worker count; Temporal takes either numbers or a tuner, which has them all. */
  #slotsOf(options: WorkerOptions): Partial<WorkerOptions> {
    if (options.tuner || options.maxConcurrentActivityTaskExecutions !== undefined) return {};
    if (typeof this.#slots === 'number') return { maxConcurrentActivityTaskExecutions: this.#slots };
    const own = [
      options.maxConcurrentWorkflowTaskExecutions,
      options.maxConcurrentLocalActivityExecutions,
      options.maxConcurrentNexusTaskExecutions,
    ];
    return own.some((number) => number !== undefined)
      ? { maxConcurrentActivityTaskExecutions: 1 }
      : { tuner: this.#slots.tuner };
  }

  override configureBundler(options: BundleOptions): BundleOptions {
    return refuseHiddenWorkflows(super.configureBundler(options), workflowsOf(this.#part), workflowsPath.all);
  }

  /** @throws Error naming activities that a plugin behind this one has replaced. */
  override async runWorker(worker: Worker, next: (worker: Worker) => Promise<void>): Promise<void> {
    const replaced = Object.keys(this.#activities).filter(
      (name) => worker.options.activities.get(name) !== this.#activities[name],
    );
    if (replaced.length > 0)
      throw new Error(`A plugin that stands behind ${this.name} replaces the activities ${replaced.join(', ')}.`);
    return super.runWorker(worker, next);
  }
}
