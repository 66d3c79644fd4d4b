/** The services of one worker process: store, model runtime and sandbox, shared by all of its workers. */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import {
  createArtifactStore,
  storeOptionsFromEnvironment,
  type ArtifactStore,
} from '../../activities/artifacts/store.js';
import { PythonService } from '../../activities/runtime/python-service.js';
import type { Services } from '../../activities/runtime/services.js';
import { settingsFromEnvironment } from '../../activities/runtime/settings.js';

export interface ServicesOptions {
  env?: NodeJS.ProcessEnv;
  /** Whether the namespace has the search attributes; asked when an experiment starts. */
  searchAttributes?: () => Promise<boolean>;
  /** Name that tells the logs of several processes on one host apart. */
  label?: string | undefined;
}

export interface OwnedServices extends Services {
  /** Ends the Python processes. */
  close(): Promise<void>;
}

/** Services from the environment. Python processes start with the first work that needs them. */
export function createServices({
  env = process.env,
  searchAttributes = () => Promise.resolve(false),
  label,
}: ServicesOptions = {}): OwnedServices {
  const settings = settingsFromEnvironment(env);
  const logs = join(settings.home, 'logs');
  const named = (name: string): string => (label ? `${name}-${label}` : name);
  const models = new PythonService({
    name: named('runtime'),
    python: settings.python,
    args: ['-m', 'runtime'],
    pythonPath: settings.pythonPath,
    logs,
    env: {
      ACECODER_PROCESSES: String(settings.processes),
      ...(env['ACECODER_TORCH_THREADS'] ? { ACECODER_TORCH_THREADS: env['ACECODER_TORCH_THREADS'] } : {}),
    },
    // Importing torch and transformers takes 5 to 13 s, more on a busy host.
    startSeconds: 180,
    graceSeconds: 30,
    lostAs: 'RuntimeLost',
  });
  const vllm = new PythonService({
    name: named('vllm'),
    python: settings.vllmPython,
    args: ['-m', 'vllm_engine'],
    pythonPath: settings.pythonPath,
    logs,
    startSeconds: 300,
    graceSeconds: 30,
    lostAs: 'RuntimeLost',
  });
  const sandbox = new PythonService({
    name: named('sandbox'),
    python: settings.sandboxPython,
    args: [
      '-m',
      'sandbox',
      '--workers',
      String(Math.min(availableParallelism(), 16)),
      '--minimum',
      settings.sandboxMinimum,
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
    secret: (variable) => env[variable],
    // Made when it is asked for: the sandbox alone works without one.
    get store() {
      return (store ??= createArtifactStore(storeOptionsFromEnvironment(env, join(settings.home, 'cache'))));
    },
    models,
    engines: { transformers: models, vllm },
    sandbox,
    searchAttributes,
    close: async () => {
      await Promise.all([models.close(), vllm.close(), sandbox.close()]);
    },
  };
}
