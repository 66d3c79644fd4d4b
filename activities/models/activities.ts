/** Models become artifacts before a stage uses them, so that their digests are inputs of the stage keys. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { FAILURES, mistake, StageFailure, type Mistake, type ModelSource, type Produced } from '../../workflows/contract/index.js';
import { sha256 } from '../artifacts/keys.js';
import { produce } from '../artifacts/produce.js';
import { fileDigest, filesOf } from '../artifacts/store.js';
import { cancellationSignal, currentProducer, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { resolvePath } from '../runtime/settings.js';

/** `models.check`, `models.import`. */
export function modelActivities({ store, models }: Services) {
  /** A source whose folder, if it is one, is an absolute path of this worker. @throws StageFailure `ModelNotFound`. */
  function located(source: Exclude<ModelSource, { kind: 'artifact' }>): Exclude<ModelSource, { kind: 'artifact' }> {
    if (source.kind !== 'folder') return source;
    const path = resolvePath(source.path, existsSync);
    if (!existsSync(path)) throw new StageFailure('ModelNotFound', `there is no model folder ${source.path} on the GPU worker`);
    return { ...source, path };
  }

  return {
    /** Every mistake of model sources, by their paths in the input; stores nothing and loads no weights. */
    'models.check': async ({ sources }: { sources: Record<string, ModelSource> }): Promise<Mistake[]> => {
      const mistakes: Mistake[] = [];
      for (const [path, source] of Object.entries(sources)) {
        try {
          if (source.kind === 'artifact') await store.manifest(source.ref);
          else await models.call('checkModel', { source: located(source) }, { signal: cancellationSignal() });
        } catch (error) {
          if (!(error instanceof StageFailure) || FAILURES[error.type] === 'retried') throw error;
          mistakes.push(source.kind === 'artifact' ? mistake(`${path}.ref.key`, source.ref.key, error.message) : mistake(path, source, error.message));
        }
      }
      return mistakes;
    },

    /** Imports a model as a Hugging Face folder. @throws StageFailure `ModelNotFound` naming what is missing. */
    'models.import': async ({ source }: { source: ModelSource }): Promise<Produced> => {
      if (source.kind === 'artifact') {
        const manifest = await store.manifest(source.ref);
        return { ref: source.ref, reused: true, metrics: manifest.metrics };
      }
      const versions = await models.versions();
      const place = located(source);
      const semantics = place.kind === 'folder' ? { kind: 'folder', content: await folderDigest(place.path) } : place;
      const recipe = { stage: 'models.import', version: 1, kind: 'model' as const, semantics, inputs: {} };
      return produce(store, recipe, {}, currentProducer(versions), async () => {
        const output = await store.spoolPath('.model');
        try {
          const result = await models.call<{ architecture: string; parameters: number }>('importModel', { source: place, output }, {
            signal: cancellationSignal(), onProgress: ({ done, total, message }) => reportProgress({ done, total, message }),
          });
          return { files: await store.putFolder(output), metrics: { ...result } };
        } finally {
          await rm(output, { recursive: true, force: true });
        }
      });
    },
  };
}

/** SHA-256 over the names and contents of a folder's files. */
async function folderDigest(path: string): Promise<string> {
  const files: string[][] = [];
  for (const name of await filesOf(path)) files.push([name, await fileDigest(join(path, name))]);
  return sha256(JSON.stringify(files));
}
