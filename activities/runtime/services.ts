/** What the activities of a worker work with. A worker starts only the services that its queues need. */
import type { EndpointExecution, Engine } from '../../workflows/contract/index.js';
import type { Settings } from './settings.js';
import type { ArtifactStore } from '../artifacts/store.js';
import type { EngineOperation, RuntimeOperation, SandboxOperation } from './operations.js';
import type { PythonProcess } from './python-service.js';

export interface Services {
  settings: Settings;
  /** The key of an endpoint, out of the variable that a configuration names: `ACECODER_ENDPOINTS` says which may be. */
  secret: (endpoint: Pick<EndpointExecution, 'baseUrl' | 'keyVariable'>) => string | undefined;
  store: ArtifactStore;
  /** The resident model runtime: GPU workers. */
  models: PythonProcess<RuntimeOperation>;
  /** What samples, by the engine's name: the model runtime itself, or a process next to it. */
  engines: Record<Engine, PythonProcess<EngineOperation>>;
  /** The sandbox supervisor: sandbox workers. */
  sandbox: PythonProcess<SandboxOperation>;
  /** Whether the namespace has the search attributes; a workflow that sets an unregistered one would hang. */
  searchAttributes: () => Promise<boolean>;
  /** Of task queues, those that no worker serves; and all queues of which the server knows a worker. */
  taskQueues: (queues: readonly string[]) => Promise<{ unserved: string[]; served: string[] }>;
}
