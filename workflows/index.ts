/** All workflows of the plugin, and nothing else: the entry of the workflow bundle. Applications export it again. */
export { synthesis } from './synthesis.js';
export { filtering } from './filtering.js';
export { sampling } from './sampling.js';
export { preferences } from './preferences.js';
export { rewardModel } from './reward-model.js';
export { reinforcement } from './reinforcement.js';
export { evaluation } from './evaluation.js';
export { experiment } from './experiment.js';
export { preview } from './preview.js';
export { datasetRefresh } from './dataset-refresh.js';
export { datasetExport } from './dataset-export.js';
export { garbageCollection } from './garbage-collection.js';
