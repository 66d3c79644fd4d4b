import { call } from './lib/activities.js';
import { parseInput } from './lib/inputs.js';

/**
 * Deletes blobs that no manifest, plan, shard or checkpoint names. By default it only counts them.
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
export async function garbageCollection(
  input: unknown = {},
): Promise<{ documents: number; blobs: number; swept: number; sweptBytes: number }> {
  const settings = parseInput('garbageCollection', input);
  return call(
    'garbageCollection.sweep',
    { summary: settings.dryRun ? 'count unnamed blobs' : 'sweep unnamed blobs' },
    settings,
  );
}
