/**
 * Starts the workers of some roles in this process and runs them until a signal. The Temporal server is that of the
 * user's profile or `TEMPORAL_*` variables; the embedded stack's commands set those for the processes they start.
 * `ACECODER_QUEUE` is the base of the queue names. What is not there yet is waited for: see readiness.ts.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { loadClientConnectConfig } from '@temporalio/envconfig';
import { Worker, type NativeConnection, type WorkflowBundleOption } from '@temporalio/worker';
import { activitiesOf, queueName, QUEUES, type QueueRole } from '../workflows/contract/index.js';
import { AceCoderPlugin } from './plugins/acecoder-plugin.js';
import { searchAttributesOf } from './plugins/search-attributes.js';
import { createServices, type OwnedServices } from './plugins/services.js';
import { workflowBundle } from './workflow-bundle.js';
import { diskObstacle, parseDuration, storeObstacle, TemporalServer, waitFor } from './readiness.js';

export interface CreateWorkersOptions {
  connection: NativeConnection;
  namespace: string;
  roles: readonly QueueRole[];
  services: OwnedServices;
  /** Base of the queue names; another one keeps two deployments in a namespace apart. */
  queueBase?: string;
  deviceClass?: string | undefined;
  /** Built once where many workers of a process share it. */
  workflowBundle?: WorkflowBundleOption | undefined;
  identity?: string;
}

/** One worker for each role that has activities, on its queue, with the plugin. @throws Error when none of the roles has. */
export async function createWorkers({
  connection,
  namespace,
  roles,
  services,
  queueBase = QUEUES.pipeline,
  deviceClass,
  workflowBundle,
  identity,
}: CreateWorkersOptions): Promise<Worker[]> {
  // Temporal refuses a worker that has nothing to do.
  const serving = roles.filter((role) => activitiesOf(role).length > 0);
  if (serving.length === 0) throw new Error(`No activity runs on ${roles.join(', ')} workers.`);
  return Promise.all(
    serving.map((role) =>
      Worker.create({
        connection,
        namespace,
        taskQueue: queueName(role, queueBase, role === 'gpu' ? deviceClass : undefined),
        plugins: [new AceCoderPlugin({ role, services })],
        ...(role === 'pipeline' && workflowBundle ? { workflowBundle } : {}),
        ...(identity ? { identity } : {}),
      }),
    ),
  );
}

export interface RunOptions {
  /** Seconds to wait for what the workers need; without it there is no end to the waiting. */
  waitSeconds?: number | undefined;
}

/** Runs the workers of `roles` until SIGINT or SIGTERM; ends the Python processes whatever happens. */
export async function runWorkers(roles: readonly QueueRole[], { waitSeconds }: RunOptions = {}): Promise<void> {
  // On a host with much memory V8 lets garbage grow to several times of what is alive; models and programs need that memory.
  setFlagsFromString('--heap-growing-percent=20');
  const config = loadClientConnectConfig();
  const namespace = config.namespace ?? 'default';
  const address = config.connectionOptions.address ?? 'localhost:7233';
  const queueBase = process.env['ACECODER_QUEUE'] ?? QUEUES.pipeline;
  // A worker process of the GPU launcher has one device, and the queue of its class.
  const { ACECODER_DEVICE: device, ACECODER_DEVICE_CLASS: deviceClass } = process.env;
  const server = new TemporalServer({ ...config.connectionOptions, address }, namespace);
  const services = createServices({
    label: device,
    searchAttributes: searchAttributesOf(
      () => server.connection,
      () => namespace,
      (text) => console.warn(text),
    ),
  });
  try {
    await untilSignal((signal) =>
      waitFor(
        {
          'Temporal server': () => server.obstacle(),
          'Artifact store': () => storeObstacle(services.store),
          Disk: () => diskObstacle(join(services.settings.home, 'cache')),
        },
        { seconds: waitSeconds, signal, log: (line) => console.warn(line) },
      ),
    );
    await services.searchAttributes();
    if (roles.includes('sandbox')) {
      const { level, isolation, trouble } = await services.sandbox.versions();
      if (trouble) throw new Error(trouble);
      console.log(`untrusted programs run at isolation level ${level} (${isolation})`);
    }
    const bundle = roles.includes('pipeline')
      ? await workflowBundle(join(services.settings.home, 'cache', 'workflows'), services)
      : undefined;
    const workers = await createWorkers({
      connection: server.connection,
      namespace,
      roles,
      services,
      queueBase,
      deviceClass,
      workflowBundle: bundle,
    });
    // The model runtime takes seconds to import: it starts while the first work is on its way.
    if (roles.includes('gpu')) services.models.versions().catch(() => undefined);
    console.log(
      `workers of ${roles.join(', ')} serve ${workers.map(({ options }) => options.taskQueue).join(', ')} of namespace '${namespace}' at ${address}`,
    );
    if (roles.includes('gpu') && device === undefined)
      console.log('GPU work runs on the first GPU that PyTorch sees, or else on CPU');
    const results = await Promise.allSettled(
      workers.map((worker) =>
        worker.run().finally(() => {
          // One worker that ends takes the others with it: half a process would look alive.
          for (const other of workers) if (other.getState() === 'RUNNING') other.shutdown();
        }),
      ),
    );
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  } finally {
    await services.close();
    await server.close();
  }
}

/** Runs `work` with a signal that SIGINT and SIGTERM abort: while workers wait for their surroundings, there is no worker that would take it. */
async function untilSignal(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const stop = new AbortController();
  const onSignal = (name: NodeJS.Signals): void => stop.abort(new Error(`Ended by ${name} while waiting.`));
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, onSignal);
  try {
    await work(stop.signal);
  } finally {
    for (const signal of signals) process.off(signal, onSignal);
  }
}

/** `--wait` of this process's arguments. */
function waitArgument(): string | undefined {
  return parseArgs({ options: { wait: { type: 'string' } } }).values.wait;
}

/** Runs an entry point: one clear sentence and exit code 1 when it cannot go on. `--wait 60s` limits the waiting. */
export function main(roles: readonly QueueRole[], wait: () => string | undefined = waitArgument): void {
  Promise.resolve()
    .then(() => {
      const duration = wait();
      return runWorkers(roles, { waitSeconds: duration === undefined ? undefined : parseDuration(duration) });
    })
    .catch((error: unknown) => {
      console.error(error instanceof Error ? error.message : error);
      // The SDK's threads may wait for a server that never answers.
      process.exit(1);
    });
}
