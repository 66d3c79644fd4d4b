// Made by `npm run stages` from the list of stages in workflows/contract/stages/index.ts.
/** The activities of the stages, and what they ask endpoints. */
import { evaluationActivities } from './evaluation/activities.js';
import { filteringActivities, filteringAsks } from './filtering/activities.js';
import { fineTuningActivities } from './fine-tuning/activities.js';
import { hardeningActivities } from './hardening/activities.js';
import { preferencesActivities } from './preferences/activities.js';
import { reinforcementActivities } from './reinforcement/activities.js';
import { rewardModelActivities } from './reward-model/activities.js';
import { rewardModelCardActivities } from './reward-model-card/activities.js';
import { samplingActivities, samplingAsks } from './sampling/activities.js';
import { synthesisActivities, synthesisAsks } from './synthesis/activities.js';
import type { Services } from './runtime/services.js';

export const stageActivities = (services: Services): object[] => [
  synthesisActivities(services),
  filteringActivities(services),
  samplingActivities(services),
  hardeningActivities(services),
  preferencesActivities(services),
  rewardModelActivities(services),
  rewardModelCardActivities(services),
  fineTuningActivities(services),
  reinforcementActivities(services),
  evaluationActivities(services),
];

export const stageAsks = {
  synthesis: synthesisAsks,
  filtering: filteringAsks,
  sampling: samplingAsks,
};
