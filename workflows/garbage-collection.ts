import { setCurrentDetails } from '@temporalio/workflow';
import type { SweepResult } from '../activities/garbage-collection/activities.js';
import { call } from './lib/activities.js';
import { parseInput } from './lib/inputs.js';

/**
 * Deletes blobs that no manifest, plan, shard or checkpoint names, checkpoints that no training comes back to, and
 * parts of uploads that nobody ends. By default it only counts them, by prefix.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { garbageCollection } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { swept, sweptBytes } = await client.workflow.execute<typeof garbageCollection>('garbageCollection', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'garbage-collection-1',
 *   args: [{ minimumAgeHours: 24, dryRun: false }],
 * });
 * ```
 */
export async function garbageCollection(input: unknown = {}): Promise<SweepResult> {
  const settings = parseInput('garbageCollection', input);
  const result = await call(
    'garbageCollection.sweep',
    { summary: settings.dryRun ? 'count unnamed blobs' : 'sweep unnamed blobs' },
    settings,
  );
  setCurrentDetails(tableOf(result, settings.dryRun));
  return result;
}

/** Objects and megabytes by prefix. Results of workers of an earlier version have none. */
function tableOf({ prefixes = {} }: Partial<SweepResult>, dryRun: boolean): string {
  const size = (objects: number, bytes: number): string => `${objects} | ${(bytes / 1e6).toFixed(1)}`;
  return [
    `| prefix | objects | MB | ${dryRun ? 'would be removed' : 'removed'} | MB |`,
    '|---|---|---|---|---|',
    ...Object.entries(prefixes).map(
      ([prefix, { objects, bytes, removed, removedBytes }]) =>
        `| ${prefix} | ${size(objects, bytes)} | ${size(removed, removedBytes)} |`,
    ),
  ].join('\n');
}
