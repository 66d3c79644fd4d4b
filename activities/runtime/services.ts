/** What the activities of a worker work with. A worker starts only the services that its queues need. */
import type { EndpointExecution, Engine } from '../../workflows/contract/index.js';
import type { Settings } from './settings.js';
import type { ArtifactStore } from '../artifacts/store.js';
import type { EngineOperation, RuntimeOperation, SandboxOperation } from './operations.js';
import type { PythonProcess } from './python-service.js';

/** A Python process with its end. */
interface ClosablePythonProcess<N extends RuntimeOperation> extends PythonProcess<N> {
  /** Ends the process with all its children. */
  close(): Promise<void>;
}

interface GangRuntimeOptions {
  /** What `ACECODER_GANG` tells the process. */
  gang: object;
  startSeconds: number;
  /** Takes the address at which the leader's process takes the others in. */
  onListening?: (address: string) => void;
}

export interface Services {
  settings: Settings;
  /** The key of an endpoint, out of the variable that a configuration names: `ACECODER_ENDPOINTS` says which may be. */
  secret: (endpoint: Pick<EndpointExecution, 'baseUrl' | 'keyVariable'>) => string | undefined;
  store: ArtifactStore;
  /** The resident model runtime: GPU workers. */
  models: PythonProcess<RuntimeOperation>;
  /** A model runtime of its own for one attempt at a training on several hosts. It starts with its first call. */
  gangRuntime: (options: GangRuntimeOptions) => ClosablePythonProcess<RuntimeOperation>;
  /** What samples, by the engine's name: the model runtime itself, or a process next to it. */
  engines: Record<Engine, PythonProcess<EngineOperation>>;
  /** The sandbox supervisor: sandbox workers. */
  sandbox: PythonProcess<SandboxOperation>;
  /** Whether the namespace has the search attributes; a workflow that sets an unregistered one would hang. */
  searchAttributes: () => Promise<boolean>;
  /** Of task queues, those that no worker serves; and all queues of which the server knows a worker. */
  taskQueues: (queues: readonly string[]) => Promise<{ unserved: string[]; served: string[] }>;
}
