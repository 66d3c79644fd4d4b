/** Models become artifacts before a stage uses them, so that their digests are inputs of the stage keys. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { StageFailure, type ModelSource, type Produced } from '../../workflows/contract/index.js';
import { sha256 } from '../artifacts/keys.js';
import { produce } from '../artifacts/produce.js';
import { fileDigest, filesOf } from '../artifacts/store.js';
import { cancellationSignal, currentProducer, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { resolvePath } from '../runtime/settings.js';

/** `models.import`. */
export function modelActivities({ store, models }: Services) {
  return {
    /** Imports a model as a Hugging Face folder. @throws StageFailure `ModelNotFound` naming what is missing. */
    'models.import': async ({ source }: { source: ModelSource }): Promise<Produced> => {
      if (source.kind === 'artifact') {
        const manifest = await store.manifest(source.ref);
        return { ref: source.ref, reused: true, metrics: manifest.metrics };
      }
      const versions = await models.versions();
      const located = source.kind === 'folder' ? { ...source, path: resolvePath(source.path, existsSync) } : source;
      if (located.kind === 'folder' && !existsSync(located.path)) {
        throw new StageFailure('ModelNotFound', `there is no model folder ${source.kind === 'folder' ? source.path : ''} on the GPU worker`);
      }
      const semantics = located.kind === 'folder' ? { kind: 'folder', content: await folderDigest(located.path) } : located;
      const recipe = { stage: 'models.import', version: 1, kind: 'model' as const, semantics, inputs: {} };
      return produce(store, recipe, {}, currentProducer(versions), async () => {
        const output = await store.spoolPath('.model');
        try {
          const result = await models.call<{ architecture: string; parameters: number }>('importModel', { source: located, output }, {
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
