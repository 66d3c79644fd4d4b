/** What the package offers to a worker process and, as types, to the workflows of an application. */
export { AceCoderPlugin, workflowsPath, type AceCoderPluginOptions } from './plugins/acecoder-plugin.js';
export { dataConverterOf, payloadCodec } from './payloads/codec.js';
export { createServices, type OwnedServices, type ServicesOptions } from './plugins/services.js';
export { runWorkers, type RunOptions } from './run-workers.js';
export type { SandboxActivities } from '../activities/execution/activities.js';
export type { SandboxRow } from '../activities/execution/rows.js';
