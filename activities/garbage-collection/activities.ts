/** Garbage collection: blobs that no manifest, plan, shard or checkpoint needs. */
import { Documents, DOCUMENTS, neededBlobs, prunedParts, sweep } from '../artifacts/pruning.js';
import type { Services } from '../runtime/services.js';
import { reportProgress } from '../runtime/context.js';

export interface SweepInput {
  /** Younger blobs stay: their manifest may be about to be written. */
  minimumAgeHours: number;
  dryRun: boolean;
}

export interface SweepResult {
  documents: number;
  blobs: number;
  swept: number;
  sweptBytes: number;
}

/** `garbageCollection.sweep`. */
export function garbageCollectionActivities({ store }: Pick<Services, 'store'>) {
  return {
    'garbageCollection.sweep': async ({ minimumAgeHours, dryRun }: SweepInput): Promise<SweepResult> => {
      // The documents are read last. A blob that is named meanwhile is young; a part that is pruned meanwhile stays.
      const before = new Date(Date.now() - minimumAgeHours * 3_600_000);
      const blobs = (await store.list('blobs/sha256/')).map(({ key, bytes }) => ({
        sha256: key.slice(key.lastIndexOf('/') + 1),
        bytes,
      }));
      const pruned = await prunedParts(store);
      const documents = await new Documents(store, DOCUMENTS).read((done) =>
        reportProgress({ done, total: 0, message: 'documents read' }),
      );
      const { swept, sweptBytes } = await sweep(store, blobs, {
        needed: neededBlobs(documents, pruned),
        before,
        dryRun,
      });
      return { documents: documents.size, blobs: blobs.length, swept, sweptBytes };
    },
  };
}
