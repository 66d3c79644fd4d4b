/** The workflows of the part `data`, and nothing else: from seeds to preference pairs, and the data set that grows. */
export { synthesis, filtering, sampling, preferences } from './stages.js';
export { preview } from './preview.js';
export { datasetRefresh } from './dataset-refresh.js';
export { datasetExport } from './dataset-export.js';
export { reverify } from './reverify.js';
export { garbageCollection } from './garbage-collection.js';
