/** All activities of the plugin by name. */
import { ACTIVITIES, activitiesOf, type Part, type QueueRole } from '../workflows/contract/index.js';
import { comparisonActivities } from './comparison/activities.js';
import { datasetRefreshActivities } from './dataset-refresh/activities.js';
import { endpointActivities } from './endpoint/activities.js';
import { sandboxActivities } from './execution/activities.js';
import { experimentActivities } from './experiment/activities.js';
import { garbageCollectionActivities } from './garbage-collection/activities.js';
import { modelActivities } from './models/activities.js';
import { previewActivities } from './preview/activities.js';
import { queueActivities } from './queues/activities.js';
import { reverifyActivities } from './reverify/activities.js';
import { stageActivities, stageAsks } from './stages.js';
import { tableActivities } from './tables/activities.js';
import type { Services } from './runtime/services.js';

export type Activity = (...args: never[]) => Promise<unknown>;

/**
 * The activities of a part of the plugin that a kind of worker runs.
 *
 * @throws Error naming an activity that two stages define, or that the contract gives to no kind of worker.
 */
export function createActivities(services: Services, role: QueueRole, part: Part = 'all'): Record<string, Activity> {
  const all =
    part === 'sandbox'
      ? composeActivities(sandboxActivities(services))
      : composeActivities(
          ...stageActivities(services),
          endpointActivities(services, stageAsks),
          modelActivities(services),
          experimentActivities(services),
          queueActivities(services),
          datasetRefreshActivities(services),
          reverifyActivities(services),
          comparisonActivities(services),
          garbageCollectionActivities(services),
          sandboxActivities(services),
          previewActivities(services),
          tableActivities(services),
        );
  const unassigned = Object.keys(all).filter((name) => !(name in ACTIVITIES));
  if (unassigned.length > 0)
    throw new Error(`ACTIVITIES of the contract does not say on which kind of worker ${unassigned.join(', ')} runs`);
  return Object.fromEntries(activitiesOf(role, part).map((name) => [name, all[name]!]));
}

/** One set of activities out of several. @throws Error naming the activities that more than one of them defines. */
export function composeActivities(...sets: readonly object[]): Record<string, Activity> {
  const all: Record<string, Activity> = {};
  const twice: string[] = [];
  for (const [name, activity] of sets.flatMap((set) => Object.entries(set) as [string, Activity][])) {
    if (Object.hasOwn(all, name)) twice.push(name);
    all[name] = activity;
  }
  if (twice.length > 0) throw new Error(`defined more than once: the activities ${twice.join(', ')}`);
  return all;
}
