/** The workflows of the part `data`, and nothing else: from seeds to preference pairs, and data sets that grow. */
export { synthesis } from './synthesis.js';
export { filtering } from './filtering.js';
export { sampling } from './sampling.js';
export { preferences } from './preferences.js';
export { preview } from './preview.js';
export { datasetRefresh } from './dataset-refresh.js';
export { datasetExport } from './dataset-export.js';
export { garbageCollection } from './garbage-collection.js';
