/** All workflows of the plugin, and nothing else: the entry of the workflow bundle. Applications export it again. */
export * from './stages.js';
export { experiment } from './experiment.js';
export { sweep } from './sweep.js';
export { preview } from './preview.js';
export { datasetRefresh } from './dataset-refresh.js';
export { datasetExport } from './dataset-export.js';
export { reverify } from './reverify.js';
export { compare } from './compare.js';
export { garbageCollection } from './garbage-collection.js';
