/** The services of one worker process: store, model runtime and sandbox. All workers of the process share them. */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { safeName } from '../../activities/artifacts/keys.js';
import {
  createArtifactStore,
  storeOptionsFromEnvironment,
  type ArtifactStore,
} from '../../activities/artifacts/store.js';
import { keyFor, readEndpoints } from '../../activities/endpoint/allowed.js';
import { activitySignal, moved } from '../../activities/runtime/context.js';
import { OPERATIONS } from '../../activities/runtime/operations.js';
import { PythonService } from '../../activities/runtime/python-service.js';
import type { Services } from '../../activities/runtime/services.js';
import { graceOf, settingsFromEnvironment, vllmVariables } from '../../activities/runtime/settings.js';

/**
 * Where services come from.
 *
 * @example
 * ```ts
 * import { createServices, type ServicesOptions } from 'acecoder-temporal';
 *
 * const options: ServicesOptions = { env: { ...process.env, ACECODER_HOME: '/data/acecoder' }, label: 'gpu0' };
 * const services = createServices(options);
 * ```
 */
export interface ServicesOptions {
  /** Variables that the settings are read from; those of the process by default. */
  env?: NodeJS.ProcessEnv;
  /** Whether the namespace has the search attributes; asked when an experiment starts. */
  searchAttributes?: () => Promise<boolean>;
  /** Of task queues, those that no worker serves; asked where work waits. */
  taskQueues?: Services['taskQueues'];
  /** Name in the log files, which tells several processes of one host apart. */
  label?: string | undefined;
}

/**
 * Services with their end.
 *
 * @example
 * ```ts
 * import { createServices, type OwnedServices } from 'acecoder-temporal';
 *
 * async function storeIsThere(services: OwnedServices): Promise<boolean> {
 *   return services.store.check().then(
 *     () => true,
 *     () => false,
 *   );
 * }
 * console.log(await storeIsThere(createServices()));
 * ```
 */
export interface OwnedServices extends Services {
  /** Ends the Python processes. Call it once, after the last worker has ended. */
  close(): Promise<void>;
}

/**
 * Services from the environment. A Python process starts with the first work that needs it, and the store's settings
 * are read when the store is first used. Share one instance between all workers of a process, and close it yourself.
 *
 * @throws Error that names a missing or wrong setting.
 * @example
 * ```ts
 * import { NativeConnection, Worker } from '@temporalio/worker';
 * import { AceCoderPlugin, createServices } from 'acecoder-temporal';
 *
 * const connection = await NativeConnection.connect({ address: 'localhost:7233' });
 * const services = createServices();
 * try {
 *   const workers = await Promise.all([
 *     Worker.create({ connection, taskQueue: 'acecoder', plugins: [new AceCoderPlugin({ services })] }),
 *     Worker.create({
 *       connection,
 *       taskQueue: 'acecoder-sandbox',
 *       plugins: [new AceCoderPlugin({ role: 'sandbox', services })],
 *     }),
 *   ]);
 *   await Promise.all(workers.map((worker) => worker.run()));
 * } finally {
 *   await services.close();
 * }
 * ```
 */
export function createServices({
  env = process.env,
  searchAttributes = () => Promise.resolve(false),
  taskQueues = () => Promise.resolve({ unserved: [], served: [] }),
  label,
}: ServicesOptions = {}): OwnedServices {
  const settings = settingsFromEnvironment(env);
  const grace = graceOf(env);
  const endpoints = readEndpoints(env['ACECODER_ENDPOINTS']);
  const logs = join(settings.home, 'logs');
  const named = (name: string): string => (label ? `${name}-${safeName(label, { keepCase: true })}` : name);
  const runtime = {
    name: named('runtime'),
    python: settings.python,
    args: ['-m', 'runtime'],
    pythonPath: settings.pythonPath,
    logs,
    env: {
      ACECODER_PROCESSES: String(settings.processes),
      ACECODER_CPU_DTYPE: settings.cpuDtype,
      ...(env['ACECODER_TORCH_THREADS'] ? { ACECODER_TORCH_THREADS: env['ACECODER_TORCH_THREADS'] } : {}),
    },
    // Importing torch and transformers takes 5 to 13 s, and longer on a busy host.
    startSeconds: 180,
    graceSeconds: grace.python,
    lostAs: 'RuntimeLost',
  } as const;
  const models = new PythonService(OPERATIONS, runtime);
  const vllm = new PythonService(OPERATIONS, {
    name: named('vllm'),
    python: settings.vllmPython,
    args: ['-m', 'vllm_engine'],
    pythonPath: settings.pythonPath,
    logs,
    env: vllmVariables(env),
    startSeconds: 300,
    graceSeconds: grace.python,
    lostAs: 'RuntimeLost',
  });
  const sandbox = new PythonService(OPERATIONS, {
    name: named('sandbox'),
    python: settings.sandboxPython,
    args: [
      '-m',
      'sandbox',
      '--workers',
      String(Math.min(availableParallelism(), 16)),
      '--minimum',
      settings.sandboxMinimum,
      ...(settings.sandboxLibraries ? ['--libraries', settings.sandboxLibraries] : []),
      '--scratch-mib',
      String(settings.sandboxScratchMib),
      ...(settings.sandboxProcesses ? ['--processes'] : []),
    ],
    pythonPath: settings.pythonPath,
    logs,
    startSeconds: 60,
    graceSeconds: 5,
    lostAs: 'SandboxUnavailable',
  });
  let store: ArtifactStore | undefined;
  return {
    settings,
    secret: (endpoint) => keyFor(endpoints, endpoint, env),
    // Made on first use, because the sandbox alone works without a store.
    get store() {
      return (store ??= createArtifactStore({
        ...storeOptionsFromEnvironment(env, join(settings.home, 'cache')),
        signal: activitySignal,
        moved: () => moved(),
      }));
    },
    models,
    gangRuntime: ({ gang, ...options }) =>
      new PythonService(OPERATIONS, {
        ...runtime,
        ...options,
        name: named('gang'),
        env: { ...runtime.env, ACECODER_GANG: JSON.stringify(gang) },
      }),
    engines: { transformers: models, vllm },
    sandbox,
    searchAttributes,
    taskQueues,
    close: async () => {
      await Promise.all([models.close(), vllm.close(), sandbox.close()]);
    },
  };
}
