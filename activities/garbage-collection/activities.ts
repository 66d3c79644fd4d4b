/** Garbage collection: blobs that no manifest, plan, shard or checkpoint names. */
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

const DOCUMENTS = ['artifacts/', 'plans/', 'shards/', 'checkpoints/'];

/** `garbageCollection.sweep`. */
export function garbageCollectionActivities({ store }: Pick<Services, 'store'>) {
  return {
    'garbageCollection.sweep': async ({ minimumAgeHours, dryRun }: SweepInput): Promise<SweepResult> => {
      // Blobs are listed before the documents: one that is referenced in between is old enough to be judged by them.
      const blobs = await store.list('blobs/sha256/');
      const named = new Set<string>();
      let documents = 0;
      for (const prefix of DOCUMENTS) {
        for (const { key } of await store.list(prefix)) {
          collectDigests(await store.getJson(key), named);
          documents += 1;
          reportProgress({ done: documents, total: 0, message: 'documents read' });
        }
      }
      const before = Date.now() - minimumAgeHours * 3_600_000;
      const unnamed = blobs.filter(({ key, modified }) => !named.has(key.slice(key.lastIndexOf('/') + 1)) && modified.getTime() < before);
      if (!dryRun) await store.remove(unnamed.map(({ key }) => key));
      return { documents, blobs: blobs.length, swept: unnamed.length, sweptBytes: unnamed.reduce((sum, { bytes }) => sum + bytes, 0) };
    },
  };
}

/** Adds every member called `sha256` of a document, however deep. */
function collectDigests(value: unknown, into: Set<string>): void {
  if (typeof value !== 'object' || value === null) return;
  for (const [key, member] of Object.entries(value)) {
    if (key === 'sha256' && typeof member === 'string') into.add(member);
    else collectDigests(member, into);
  }
}
