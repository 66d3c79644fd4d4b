/** Activities around the stages: look up what an input names, import files, record an experiment, write its report. */
import { cp, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  canonicalJson,
  TRAINED,
  TEACHERS,
  type ArtifactPath,
  type ArtifactRef,
  type Experiment,
  type Mistake,
  type StageStatus,
} from '../../workflows/contract/index.js';
import { importArtifact } from './import-artifact.js';
import { safeName, sha256 } from '../artifacts/keys.js';
import { manifestsOfRounds } from '../report/timeline.js';
import { renderReport } from '../report/report.js';
import { currentProducer } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { lookUp, type Named } from './look-up.js';
import { seedsOf, summarise } from '../report/summarise.js';

export interface ReportInput {
  experiment: Experiment;
  stages: StageStatus[];
  rounds: ArtifactRef[];
  policy: ArtifactRef;
}

/** `inputs.check`, `artifacts.import`, `experiment.record`, `experiment.report`. */
export function experimentActivities({
  store,
  settings,
  searchAttributes,
}: Pick<Services, 'store' | 'settings' | 'searchAttributes'>) {
  return {
    /** Every mistake of references, files and benchmarks; stores nothing. */
    'inputs.check': (named: Named): Promise<Mistake[]> => lookUp(named, store, settings),

    'artifacts.import': async ({ input }: { input: ArtifactRef | ArtifactPath }): Promise<{ ref: ArtifactRef }> => ({
      ref: await importArtifact(store, input, currentProducer()),
    }),

    /** Stores the configuration as it runs, presets and defaults filled in. */
    'experiment.record': async ({ experiment }: { experiment: Experiment }): Promise<{ searchAttributes: boolean }> => {
      await store.putJson(`experiments/${sha256(canonicalJson(experiment))}.json`, experiment);
      return { searchAttributes: await searchAttributes() };
    },

    /** Writes `report.html`, `summary.json` and the trained models into the reports folder of the worker's home. */
    'experiment.report': async (input: ReportInput): Promise<{ html: string; summary: string }> => {
      const name = currentProducer().workflowId;
      const folder = join(settings.home, 'reports', safeName(name));
      const manifests = await manifestsOfRounds(input.rounds, (ref) => store.manifest(ref));
      for (const ref of [...input.stages.flatMap(({ artifact }) => artifact ?? []), input.policy])
        manifests.set(ref.key, await store.manifest(ref));
      for (const seeds of [...manifests.values()].filter(({ kind }) => kind === 'questions').map(seedsOf))
        manifests.set(seeds.key, await store.manifest(seeds));
      const folders: Record<string, string> = {};
      for (const { name: stage, model } of TRAINED) {
        const ref = input.stages.find((status) => status.name === stage)?.artifact;
        if (!ref) continue;
        folders[model] = join(folder, 'models', model);
        await replaceFolder(await store.materialise(ref), folders[model]);
      }
      const summary = summarise({ ...input, name, folders }, manifests);
      const report = renderReport({
        ...summary,
        teacherNote: TEACHERS.named(input.experiment.stages.synthesis.teacher.kind).note,
      });
      const paths = { html: join(folder, 'report.html'), summary: join(folder, 'summary.json') };
      await writeWhole(paths.summary, `${JSON.stringify(summary, null, 2)}\n`);
      await writeWhole(paths.html, report);
      return paths;
    },
  };
}

/**
 * Copies a model's folder so that `target` is the old or the new one, whole; a user's edits there never reach the
 * cache.
 */
async function replaceFolder(source: string, target: string): Promise<void> {
  const building = `${target}.part`;
  await rm(building, { recursive: true, force: true });
  await mkdir(building, { recursive: true });
  await cp(source, building, { recursive: true });
  await rm(target, { recursive: true, force: true });
  await rename(building, target);
}

async function writeWhole(path: string, text: string): Promise<void> {
  await writeFile(`${path}.part`, text);
  await rename(`${path}.part`, path);
}
