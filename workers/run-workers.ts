/**
 * Starts the workers of some roles in this process and runs them until a signal. The Temporal server is that of the
 * user's profile or `TEMPORAL_*` variables; the embedded stack's commands set those for the processes they start.
 * `ACECODER_QUEUE` is the base of the queue names.
 */
import { loadClientConnectConfig } from '@temporalio/envconfig';
import { NativeConnection, Worker, type WorkflowBundleOption } from '@temporalio/worker';
import { queueName, QUEUES, SEARCH_ATTRIBUTES, type QueueRole } from '../workflows/contract/index.js';
import { AceCoderPlugin } from './plugins/acecoder-plugin.js';
import { createServices, type OwnedServices } from './plugins/services.js';

export interface CreateWorkersOptions {
  connection: NativeConnection;
  namespace: string;
  roles: readonly QueueRole[];
  services: OwnedServices;
  /** Base of the queue names; another one keeps two deployments in a namespace apart. */
  queueBase?: string;
  deviceClass?: string | undefined;
  /** Built once where many workers of a process share it. */
  workflowBundle?: WorkflowBundleOption;
  identity?: string;
}

/** One worker for each role, on its queue, with the plugin. */
export async function createWorkers({ connection, namespace, roles, services, queueBase = QUEUES.pipeline, deviceClass, workflowBundle, identity }: CreateWorkersOptions): Promise<Worker[]> {
  return Promise.all(roles.map((role) => Worker.create({
    connection,
    namespace,
    taskQueue: queueName(role, queueBase, role === 'gpu' ? deviceClass : undefined),
    plugins: [new AceCoderPlugin({ role, services })],
    ...(role === 'pipeline' && workflowBundle ? { workflowBundle } : {}),
    ...(identity ? { identity } : {}),
  })));
}

/** Whether the namespace has all search attributes; says once which command registers those that are missing. */
export async function checkSearchAttributes(connection: NativeConnection, namespace: string, warn: (text: string) => void): Promise<boolean> {
  const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
  const missing = Object.entries(SEARCH_ATTRIBUTES).filter(([name]) => !(name in (customAttributes ?? {})));
  if (missing.length === 0) return true;
  const flags = missing.map(([name, type]) => `--name ${name} --type ${type}`).join(' ');
  warn(`The namespace '${namespace}' has no search attribute ${missing.map(([name]) => name).join(', ')}; experiments run without. To register: temporal operator search-attribute create --namespace ${namespace} ${flags}`);
  return false;
}

/** Runs the workers of `roles` until SIGINT or SIGTERM; ends the Python processes whatever happens. */
export async function runWorkers(roles: readonly QueueRole[]): Promise<void> {
  const config = loadClientConnectConfig();
  const namespace = config.namespace ?? 'default';
  const address = config.connectionOptions.address ?? 'localhost:7233';
  const connection = await NativeConnection.connect(config.connectionOptions).catch((error: unknown) => {
    throw new Error(`The Temporal server at ${address} (TEMPORAL_ADDRESS or profile) does not answer: ${(error as Error).message}`);
  });
  const queueBase = process.env['ACECODER_QUEUE'] ?? QUEUES.pipeline;
  // A worker process of the GPU launcher has one device, and the queue of its class.
  const { ACECODER_DEVICE: device, ACECODER_DEVICE_CLASS: deviceClass } = process.env;
  const services = createServices({ label: device, searchAttributes: () => checkSearchAttributes(connection, namespace, (text) => console.warn(text)) });
  try {
    await services.store.check();
    await services.searchAttributes();
    if (roles.includes('sandbox')) {
      const { level, isolation, trouble } = await services.sandbox.versions();
      if (trouble) throw new Error(trouble);
      console.log(`untrusted programs run at isolation level ${level} (${isolation})`);
    }
    const workers = await createWorkers({ connection, namespace, roles, services, queueBase, deviceClass });
    // The model runtime takes seconds to import: it starts while the first work is on its way.
    if (roles.includes('gpu')) services.models.versions().catch(() => undefined);
    console.log(`workers of ${roles.join(', ')} serve ${workers.map(({ options }) => options.taskQueue).join(', ')} of namespace '${namespace}' at ${address}`);
    if (roles.includes('gpu') && device === undefined) console.log('GPU work runs on the first GPU that PyTorch sees, or else on CPU');
    const results = await Promise.allSettled(workers.map((worker) => worker.run().finally(() => {
      // One worker that ends takes the others with it: half a process would look alive.
      for (const other of workers) if (other.getState() === 'RUNNING') other.shutdown();
    })));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  } finally {
    await services.close();
    await connection.close();
  }
}

/** Runs an entry point: one clear sentence and exit code 1 when it cannot go on. */
export function main(roles: readonly QueueRole[]): void {
  runWorkers(roles).catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  });
}
