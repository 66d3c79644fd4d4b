/** Garbage collection: blobs that no manifest, plan, shard or checkpoint needs, and what nobody comes back to. */
import { DOCUMENTS } from '../artifacts/pruning.js';
import { cancellationSignal, currentProducer, reportProgress, resumedFrom } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { collectGarbage, type Tally } from './collect.js';

const HOUR_MS = 3_600_000;

export interface SweepInput {
  /** Younger objects stay: their manifest may be about to be written. */
  minimumAgeHours: number;
  /** Checkpoints of a training that stored none for so long go. */
  checkpointDays?: number;
  dryRun: boolean;
}

export interface SweepResult {
  documents: number;
  blobs: number;
  /** Blobs that were removed, or would be, and their bytes as stored. */
  swept: number;
  sweptBytes: number;
  /** The same of checkpoints, which are documents that name blobs, and of uploads in parts. */
  checkpoints: number;
  uploads: number;
  /** What was found below each prefix and removed there, in objects and bytes. */
  prefixes: Record<string, Tally>;
}

/** `garbageCollection.sweep`. */
export function garbageCollectionActivities({ store }: Pick<Services, 'store'>) {
  return {
    'garbageCollection.sweep': async ({
      minimumAgeHours,
      checkpointDays = 30,
      dryRun,
    }: SweepInput): Promise<SweepResult> => {
      const { workflowId, runId } = currentProducer();
      const now = Date.now();
      const { prefixes } = await collectGarbage(store, {
        id: `${workflowId} ${runId}`,
        before: new Date(now - minimumAgeHours * HOUR_MS),
        checkpointsBefore: new Date(now - checkpointDays * 24 * HOUR_MS),
        dryRun,
        signal: cancellationSignal(),
        resume: resumedFrom(),
        onProgress: ({ objects, message, state }) =>
          reportProgress({ done: objects, total: 0, message, resume: state }),
      });
      const sum = (names: readonly string[], field: keyof Tally): number =>
        names.reduce((total, name) => total + (prefixes[name]?.[field] ?? 0), 0);
      const blobs = ['blobs/sha256/'];
      return {
        documents: sum(DOCUMENTS, 'objects'),
        blobs: sum(blobs, 'objects'),
        swept: sum(blobs, 'removed'),
        sweptBytes: sum(blobs, 'removedBytes'),
        checkpoints: sum(['checkpoints/'], 'removed'),
        uploads: sum(['uploads/'], 'removed'),
        prefixes,
      };
    },
  };
}
