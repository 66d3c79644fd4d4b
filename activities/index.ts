/** All activities of the plugin by name. */
import { datasetRefreshActivities } from './dataset-refresh/activities.js';
import { evaluationActivities } from './evaluation/activities.js';
import { experimentActivities } from './experiment/activities.js';
import { filteringActivities } from './filtering/activities.js';
import { garbageCollectionActivities } from './garbage-collection/activities.js';
import { modelActivities } from './models/activities.js';
import { preferencesActivities } from './preferences/activities.js';
import { reinforcementActivities } from './reinforcement/activities.js';
import { rewardModelActivities } from './reward-model/activities.js';
import { samplingActivities } from './sampling/activities.js';
import { synthesisActivities } from './synthesis/activities.js';
import type { Services } from './runtime/services.js';

type Activity = (...args: never[]) => Promise<unknown>;

/** @throws Error naming an activity that two stages define. */
export function createActivities(services: Services): Record<string, Activity> {
  const parts: Record<string, Activity>[] = [
    synthesisActivities(services), filteringActivities(services), samplingActivities(services), preferencesActivities(services),
    rewardModelActivities(services), reinforcementActivities(services), evaluationActivities(services), modelActivities(services),
    experimentActivities(services), datasetRefreshActivities(services), garbageCollectionActivities(services),
  ];
  const all: Record<string, Activity> = {};
  for (const [name, activity] of parts.flatMap((part) => Object.entries(part))) {
    if (name in all) throw new Error(`the activity ${name} is defined twice`);
    all[name] = activity;
  }
  return all;
}
