import { ApplicationFailure } from '@temporalio/workflow';
import { z } from 'zod';
import { describeMistakes, mistakesOf } from './contract/index.js';
import { call } from './lib/activities.js';

const Input = z.strictObject({
  minimumAgeHours: z.number().nonnegative().default(24),
  dryRun: z.boolean().default(true),
}).prefault({});

/** Sweeps blobs that nothing names; by default it only counts them. */
export async function garbageCollection(input: unknown = {}): Promise<{ documents: number; blobs: number; swept: number; sweptBytes: number }> {
  const parsed = Input.safeParse(input);
  if (!parsed.success) throw ApplicationFailure.nonRetryable(describeMistakes(mistakesOf(parsed.error, input)), 'InvalidExperiment');
  return call('garbageCollection.sweep', { role: 'pipeline', summary: parsed.data.dryRun ? 'count unnamed blobs' : 'sweep unnamed blobs' }, parsed.data);
}
