/**
 * The plugin: everything a Temporal worker needs to do AceCoder work on one of its queues.
 *
 * It brings the activities of the queue's kind of work with their services, the activity interceptor (heartbeats,
 * failure classes) and the slots. On the pipeline queue it brings the workflows too. A name that the application or
 * another plugin defines as well is an error.
 */
import { fileURLToPath } from 'node:url';
import type { DataConverter, PayloadCodec } from '@temporalio/common';
import { SimplePlugin } from '@temporalio/plugin';
import {
  Runtime,
  type BundleOptions,
  type NativeConnection,
  type Worker,
  type WorkerOptions,
} from '@temporalio/worker';
import { composeActivities, createActivities, type Activity } from '../../activities/index.js';
import { activityInterceptor, movementLimits } from '../../activities/runtime/interceptor.js';
import { useMeter } from '../../activities/metrics.js';
import { HEARTBEAT_TIMEOUT_SECONDS, workflowsOf, type Part, type QueueRole } from '../../workflows/contract/index.js';
import { graceOf } from '../../activities/runtime/settings.js';
import { dataConverterOf, payloadCodec } from '../payloads/codec.js';
import { storeObstacle } from '../readiness.js';
import { DeviceSlots } from './device-slots.js';
import { refuseHiddenWorkflows } from './hidden-workflows.js';
import { searchAttributesOf } from './search-attributes.js';
import { createServices, type OwnedServices } from './services.js';
import { taskQueuesOf } from './task-queues.js';

/**
 * Which work the plugin brings to a worker.
 *
 * - `part`: `all` (default), `data` (seeds to preference pairs) or `sandbox` (the activity `sandbox.judge` alone, on
 * any   queue of the application).
 * - `role`: the kind of work of the worker's queue, `pipeline` by default.
 * - `services`: shared with other workers of the process. Without them the plugin makes its own and closes them with
 * the   worker.
 * - `payloadCodec`: what encrypts payloads; by default that of `ACECODER_PAYLOAD_KEY`. Clients need the same one. Codecs
 * that   the worker itself has come first: then the plugin brings none.
 *
 * @example
 * ```ts
 * import { createServices, type AceCoderPluginOptions } from 'acecoder-temporal';
 *
 * const services = createServices();
 * const data: AceCoderPluginOptions = { part: 'data', services };
 * const gpu: AceCoderPluginOptions = { role: 'gpu', services };
 * ```
 */
export type AceCoderPluginOptions = {
  services?: OwnedServices;
  payloadCodec?: PayloadCodec | undefined;
} & ({ part?: Exclude<Part, 'sandbox'>; role?: QueueRole } | { part: 'sandbox'; role?: 'sandbox' });

const module = (name: string): string =>
  fileURLToPath(new URL(`../../workflows/${name}${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url));

/**
 * Paths of the modules that hold the workflows of a part. A worker of the plugin without a `workflowsPath` gets them by
 * itself. Name one where you build the bundle yourself.
 *
 * @example
 * ```ts
 * import { bundleWorkflowCode } from '@temporalio/worker';
 * import { AceCoderPlugin, workflowsPath } from 'acecoder-temporal';
 *
 * const workflowBundle = await bundleWorkflowCode({
 *   workflowsPath: workflowsPath.all,
 *   plugins: [new AceCoderPlugin()],
 * });
 * ```
 */
export const workflowsPath = { all: module('index'), data: module('data') } as const;

/**
 * Activities of a worker at once. A sandbox supervisor keeps all cores busy with one batch; a second batch hides the
 * time between two. The activities of the other roles wait for the network. For devices see {@link DeviceSlots}.
 */
const SLOTS: Record<Exclude<QueueRole, 'gpu'>, number> = { pipeline: 40, llm: 40, sandbox: 2 };

/**
 * Brings AceCoder work to a Temporal worker. Give it to the worker alone: on the connection too, it would apply twice.
 *
 * A bundle has one entry. An application with its own workflows keeps its `workflowsPath` and re-exports ours from that
 * module (`export * from 'acecoder-temporal/workflows'`). Without a `workflowsPath`, ours are used.
 *
 * @example
 * ```ts
 * import { loadClientConnectConfig } from '@temporalio/envconfig';
 * import { NativeConnection, Worker } from '@temporalio/worker';
 * import { AceCoderPlugin } from 'acecoder-temporal';
 *
 * const { connectionOptions, namespace } = loadClientConnectConfig();
 * const connection = await NativeConnection.connect(connectionOptions);
 * const worker = await Worker.create({
 *   connection,
 *   namespace,
 *   taskQueue: 'acecoder',
 *   plugins: [new AceCoderPlugin()],
 * });
 * await worker.run();
 * ```
 */
export class AceCoderPlugin extends SimplePlugin {
  readonly #part: Part;
  readonly #slots: DeviceSlots | number;
  readonly #activities: Record<string, Activity>;
  /** Services that the plugin made itself: nobody else looks whether their store is fit. */
  readonly #own: OwnedServices | undefined;
  /** Where the worker's namespace is; empty until the worker is configured. */
  readonly #server: { connection?: NativeConnection | undefined; namespace?: string | undefined };
  readonly #failureConverterPath: string | undefined;

  /** @throws Error that names the missing settings of the store, or a part without activities for the role. */
  constructor({
    part = 'all',
    role = part === 'sandbox' ? 'sandbox' : 'pipeline',
    services: shared,
    payloadCodec: codec = payloadCodec(process.env),
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
        taskQueues: taskQueuesOf(
          () => server.connection,
          () => server.namespace ?? 'default',
        ),
      });
    const activities = createActivities(services, role, part);
    const slots = role === 'gpu' ? new DeviceSlots() : SLOTS[role];
    const encrypted = dataConverterOf(codec);
    if (Object.keys(activities).length === 0)
      throw new Error(`The part '${part}' has no activity for '${role}' workers.`);
    super({
      name: 'acecoder.AceCoderPlugin',
      activities: (others: object | undefined) => composeActivities(others ?? {}, activities),
      ...(encrypted
        ? {
            dataConverter: (own: DataConverter | undefined) => (own?.payloadCodecs ? own : { ...encrypted, ...own }),
          }
        : {}),
      ...(role === 'pipeline' && part !== 'sandbox'
        ? { workflowsPath: (own: string | undefined) => own ?? workflowsPath[part] }
        : {}),
      workerInterceptors: {
        activity: [
          activityInterceptor({
            leave: typeof slots === 'number' ? undefined : () => slots.leave(),
            limits: movementLimits(role),
            graceSeconds: graceOf(process.env).activity,
          }),
        ],
      },
      ...(shared ? {} : { runContext: (next: () => Promise<void>) => next().finally(() => services.close()) }),
    });
    this.#part = part;
    this.#own = shared || part === 'sandbox' ? undefined : services;
    this.#slots = slots;
    this.#activities = activities;
    this.#server = server;
    this.#failureConverterPath = encrypted?.failureConverterPath;
  }

  override configureWorker(options: WorkerOptions): WorkerOptions {
    const configured = super.configureWorker(options);
    Object.assign(this.#server, { connection: options.connection, namespace: options.namespace });
    // A prebuilt bundle and a path exclude each other.
    if (options.workflowBundle) delete configured.workflowsPath;
    return {
      ...configured,
      ...this.#slotsOf(options),
      // A cancellation reaches an activity with its heartbeat, so a cancelled training goes on for up to the throttle.
      maxHeartbeatThrottleInterval: options.maxHeartbeatThrottleInterval ?? '5s',
      defaultHeartbeatThrottleInterval: options.defaultHeartbeatThrottleInterval ?? `${HEARTBEAT_TIMEOUT_SECONDS / 3}s`,
      // A killed worker keeps its workflows for so long: then the server gives them to another one.
      stickyQueueScheduleToStartTimeout: options.stickyQueueScheduleToStartTimeout ?? '4s',
      // Long enough for a training to reach the end of its step and write a checkpoint.
      shutdownForceTime: options.shutdownForceTime ?? `${graceOf(process.env).worker}s`,
    };
  }

  /** Slots in the application's options win. Temporal takes either numbers or a tuner, which sets all of them. */
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
    const configured = super.configureBundler(options);
    const failureConverterPath = options.failureConverterPath ?? this.#failureConverterPath;
    return refuseHiddenWorkflows(
      { ...configured, ...(failureConverterPath ? { failureConverterPath } : {}) },
      workflowsOf(this.#part),
      workflowsPath.all,
    );
  }

  /**
   * @throws Error that names the activities that a later plugin has replaced.
   * @throws UnfitStore where the store does not honour conditional writes. A store that is away is waited for later, by
   *   the activities.
   */
  override async runWorker(worker: Worker, next: (worker: Worker) => Promise<void>): Promise<void> {
    const replaced = Object.keys(this.#activities).filter(
      (name) => worker.options.activities.get(name) !== this.#activities[name],
    );
    if (replaced.length > 0)
      throw new Error(`A plugin after ${this.name} replaces the activities ${replaced.join(', ')}.`);
    const obstacle = this.#own && (await storeObstacle(this.#own.store));
    if (obstacle !== undefined) console.warn(obstacle);
    useMeter(Runtime.instance().metricMeter);
    return super.runWorker(worker, next);
  }
}
