/**
 * Runs the workers of some roles in this process until a signal. The user's profile or the `TEMPORAL_*` variables name
 * the Temporal server. `ACECODER_QUEUE` is the base of the queue names. The process waits for a server or store that is
 * not there yet: see readiness.ts.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { loadClientConnectConfig } from '@temporalio/envconfig';
import {
  GracefulShutdownPeriodExpiredError,
  Worker,
  type NativeConnection,
  type WorkerOptions,
  type WorkflowBundleOption,
} from '@temporalio/worker';
import { activitiesOf, queueName, QUEUES, type QueueRole } from '../workflows/contract/index.js';
import { AceCoderPlugin } from './plugins/acecoder-plugin.js';
import { searchAttributesOf } from './plugins/search-attributes.js';
import { createServices, type OwnedServices } from './plugins/services.js';
import { taskQueuesOf } from './plugins/task-queues.js';
import { workflowBundle } from './workflow-bundle.js';
import { deadlineOf, sayDeadline, watchDeadline } from './deadline.js';
import { keepRunningWithoutLog } from './log.js';
import { addressOf } from './observability/addresses.js';
import { workingConditions } from './observability/conditions.js';
import { Health } from './observability/health.js';
import { installTelemetry } from './observability/telemetry.js';
import { startTraces, workflowSpans, type Traces } from './observability/traces.js';
import { dataConverterOf, payloadCodec } from './payloads/codec.js';
import { diskObstacle, parseDuration, storeObstacle, TemporalServer, waitFor, type Conditions } from './readiness.js';
import { onEndSignal } from './signals.js';

interface CreateWorkersOptions {
  connection: NativeConnection;
  namespace: string;
  roles: readonly QueueRole[];
  services: OwnedServices;
  /** Base of the queue names. Two bases keep two deployments in one namespace apart. */
  queueBase?: string;
  deviceClass?: string | undefined;
  /** Built once and shared by the workers of a process. */
  workflowBundle?: WorkflowBundleOption | undefined;
  /** What sends traces, before the plugin's own interceptors. */
  traces?: Traces['options'] | undefined;
  identity?: string;
}

/** One worker with the plugin per role that has activities, on the role's queue. @throws Error when no role has any. */
async function createWorkers({
  connection,
  namespace,
  roles,
  services,
  queueBase = QUEUES.pipeline,
  deviceClass,
  workflowBundle,
  traces,
  identity,
}: CreateWorkersOptions): Promise<Worker[]> {
  // Temporal refuses a worker without activities and workflows.
  const serving = roles.filter((role) => activitiesOf(role).length > 0);
  if (serving.length === 0) throw new Error(`No activity runs on ${roles.join(', ')} workers.`);
  return Promise.all(
    serving.map((role) =>
      Worker.create({
        connection,
        namespace,
        taskQueue: queueName(role, queueBase, role === 'gpu' ? deviceClass : undefined),
        plugins: [new AceCoderPlugin({ role, services })],
        ...traces,
        ...deploymentVersion(),
        ...(role === 'pipeline' && workflowBundle ? { workflowBundle } : {}),
        ...(identity ? { identity } : {}),
      }),
    ),
  );
}

/**
 * The version that the environment gives this worker, as Temporal's Worker Controller sets it. A workflow then stays on
 * the version that started it. An experiment goes over to the current version between two stages.
 *
 * @throws Error that names the variable that is missing.
 */
function deploymentVersion(env = process.env): Pick<WorkerOptions, 'workerDeploymentOptions'> {
  const { TEMPORAL_DEPLOYMENT_NAME: deploymentName, TEMPORAL_WORKER_BUILD_ID: buildId } = env;
  if (!deploymentName && !buildId) return {};
  if (!deploymentName || !buildId)
    throw new Error(
      `${deploymentName ? 'TEMPORAL_WORKER_BUILD_ID' : 'TEMPORAL_DEPLOYMENT_NAME'} is missing: ` +
        'a worker version has both, a deployment name and a build id.',
    );
  return {
    workerDeploymentOptions: {
      version: { deploymentName, buildId },
      useWorkerVersioning: true,
      defaultVersioningBehavior: 'PINNED',
    },
  };
}

/**
 * How {@link runWorkers} waits.
 *
 * @example
 * ```ts
 * import { runWorkers, type RunOptions } from 'acecoder-temporal';
 *
 * const options: RunOptions = { waitSeconds: 60 };
 * await runWorkers(['pipeline'], options);
 * ```
 */
export interface RunOptions {
  /** Seconds to wait for the Temporal server, the store and the disk. Without it the waiting has no limit. */
  waitSeconds?: number | undefined;
}

/**
 * Runs the workers of `roles` in this process until SIGINT, SIGTERM or SIGHUP, or until its allocation is about to end
 * (`ACECODER_DEADLINE`), then ends the Python processes. Settings come from the environment (`TEMPORAL_*`, `ACECODER_*`).
 *
 * @throws Error that names what is missing when `waitSeconds` are over, or the failure of a worker.
 * @example
 * ```ts
 * import { runWorkers } from 'acecoder-temporal';
 *
 * // A host without a GPU: the workflows, and untrusted programs.
 * await runWorkers(['pipeline', 'sandbox'], { waitSeconds: 300 });
 * ```
 */
export async function runWorkers(roles: readonly QueueRole[], { waitSeconds }: RunOptions = {}): Promise<void> {
  const deadline = deadlineOf(process.env, Date.now());
  for (const line of installTelemetry(process.env)) console.log(line);
  const { failureConverterPath } = dataConverterOf(payloadCodec(process.env)) ?? {};
  const given = await startTraces(process.env);
  const traces = typeof given === 'string' ? undefined : given;
  if (given) console.log(traces ? traces.says : given);
  // With much memory, V8 lets garbage grow to several times the live heap. Models and programs need that memory.
  setFlagsFromString('--heap-growing-percent=20');
  const config = loadClientConnectConfig();
  const namespace = config.namespace ?? 'default';
  const address = config.connectionOptions.address ?? 'localhost:7233';
  const queueBase = process.env['ACECODER_QUEUE'] ?? QUEUES.pipeline;
  // A worker process of the GPU launcher has one assignment, and serves the queue of its device class.
  const { ACECODER_DEVICE: device, ACECODER_DEVICE_CLASS: deviceClass } = process.env;
  const server = new TemporalServer({ ...config.connectionOptions, address }, namespace);
  const services = createServices({
    label: device,
    searchAttributes: searchAttributesOf(
      () => server.connection,
      () => namespace,
      (text) => console.warn(text),
    ),
    taskQueues: taskQueuesOf(
      () => server.connection,
      () => namespace,
    ),
  });
  const needs: Conditions = {
    'Temporal server': () => server.obstacle(),
    'Artifact store': () => storeObstacle(services.store),
    Disk: () => diskObstacle(join(services.settings.home, 'cache')),
  };
  const health = new Health();
  const listen = addressOf(process.env, 'ACECODER_HEALTH');
  const drain = new AbortController();
  let workers: Worker[] = [];
  // A worker that ends shuts the others down, because half a process would look healthy.
  const shutDown = (): void => {
    for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
  };
  const forgetDeadline = watchDeadline(deadline, () => {
    if (!drain.signal.aborted) console.log(sayDeadline(deadline!));
    drain.abort();
    shutDown();
  });
  try {
    if (listen) console.log(`health: ${await health.listen(listen)}`);
    health.watch({ ...needs, Workers: () => Promise.resolve('not started yet') });
    await untilSignal((ended) => {
      const signal = AbortSignal.any([ended, drain.signal]);
      return waitFor(needs, { seconds: waitSeconds, signal, log: (line) => console.warn(line) });
    });
    await services.searchAttributes();
    if (roles.includes('sandbox')) {
      const { level, isolation, trouble } = await services.sandbox.versions();
      if (trouble) throw new Error(trouble);
      console.log(`untrusted programs run at isolation level ${level} (${isolation})`);
    }
    const bundle = roles.includes('pipeline')
      ? await workflowBundle(join(services.settings.home, 'cache', 'workflows'), services, {
          ...(traces ? { workflowInterceptorModules: [workflowSpans] } : {}),
          ...(failureConverterPath ? { failureConverterPath } : {}),
        })
      : undefined;
    workers = await createWorkers({
      connection: server.connection,
      namespace,
      roles,
      services,
      queueBase,
      deviceClass,
      workflowBundle: bundle,
      traces: traces?.options,
    });
    // The model runtime takes seconds to import, so it starts before the first task arrives.
    if (roles.includes('gpu')) services.models.versions().catch(() => undefined);
    health.watch({ ...needs, ...workingConditions(roles, workers, services, server, namespace) });
    const queues = workers.map(({ options }) => options.taskQueue).join(', ');
    console.log(`workers of ${roles.join(', ')} serve ${queues} of namespace '${namespace}' at ${address}`);
    if (roles.includes('gpu') && device === undefined)
      console.log('GPU work runs on the first GPU that PyTorch sees, or else on CPU');
    const results = await Promise.allSettled(workers.map((worker) => worker.run().finally(shutDown)));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed?.reason instanceof GracefulShutdownPeriodExpiredError)
      console.warn('Activities did not end in the grace time. They are left alone, and start again on other workers.');
    else if (failed) throw failed.reason;
  } catch (error) {
    if (!drain.signal.aborted || workers.length > 0) throw error;
    // It still waited, and no work is lost.
  } finally {
    forgetDeadline();
    await health.close();
    await services.close();
    await traces?.close();
    // An activity that was left alone may still hold the connection. It ends with the process.
    await server.close().catch(() => undefined);
  }
}

/**
 * Runs `work` with a signal that SIGINT, SIGTERM and SIGHUP abort. While it waits, no worker exists that takes them.
 */
async function untilSignal(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const stop = new AbortController();
  const giveBack = onEndSignal((name) => stop.abort(new Error(`Ended by ${name} while waiting.`)));
  try {
    await work(stop.signal);
  } finally {
    giveBack();
  }
}

/** `--wait` of this process's arguments. */
function waitArgument(): string | undefined {
  return parseArgs({ options: { wait: { type: 'string' } } }).values.wait;
}

/** Runs an entry point. A failure prints one sentence and exits with code 1. `--wait 60s` limits the waiting. */
export function main(roles: readonly QueueRole[], wait: () => string | undefined = waitArgument): void {
  keepRunningWithoutLog();
  Promise.resolve()
    .then(() => {
      const duration = wait();
      return runWorkers(roles, { waitSeconds: duration === undefined ? undefined : parseDuration(duration) });
    })
    .then(() => {
      // What an activity that was left alone still holds, must not hold the process.
      setTimeout(() => process.exit(0), 5000).unref();
    })
    .catch((error: unknown) => {
      console.error(error instanceof Error ? error.message : error);
      // The SDK's threads may wait for a server that never answers.
      process.exit(1);
    });
}
