import { call } from './lib/activities.js';
import { parseInput } from './lib/inputs.js';

/** Sweeps blobs that nothing names; by default it only counts them. */
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
