/** Activities around the stages: look up what an input names, import files, record an experiment, write its report. */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  canonicalJson,
  MESSAGES,
  mistake,
  pinned,
  StageFailure,
  TRAINED,
  type ArtifactPath,
  type ArtifactRef,
  type Experiment,
  type ForkSource,
  type Frontier,
  type Given,
  type Mistake,
  type PublishedResult,
  type StageStatus,
} from '../../workflows/contract/index.js';
import { CONFIGURATION_FILE, forkSource } from './fork-source.js';
import { importArtifact } from './import-artifact.js';
import { safeName, sha256 } from '../artifacts/keys.js';
import { placeFiles, placeFolder, publish, storeFiles } from '../artifacts/results.js';
import { buildReport } from '../report/build.js';
import { askWorkflow, currentProducer, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { lookUp, type Named } from './look-up.js';

export interface ReportInput {
  experiment: Experiment;
  stages: StageStatus[];
  policy: ArtifactRef;
  /** What the experiment was given. Version 0.1.0 did not tell. */
  given?: Partial<Record<Given, ArtifactRef>>;
  /** Of a fork. */
  frontier?: Frontier;
}

/** Attempts after which an experiment that does not answer is told to its fork. */
const ASKED = 5;

/** The report in the store, with the paths of its copy on the worker's disk where there is one. */
export interface PublishedReport extends PublishedResult {
  html?: string;
  summary?: string;
}

/** `inputs.check`, `artifacts.import`, `experiment.source`, `experiment.record`, `experiment.report`. */
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

    /** The experiment that a fork starts from, or why there is none. */
    'experiment.source': ({
      of,
    }: {
      of: string;
    }): Promise<{ source: ForkSource; mistakes?: undefined } | { mistakes: Mistake[]; source?: undefined }> => {
      const { attempt } = currentProducer();
      return forkSource(store, of, (workflowId) => askWorkflow(workflowId, MESSAGES.forkSource)).catch(
        (error: unknown) => {
          if (attempt < ASKED || error instanceof StageFailure) throw error;
          const why = `it has stored no result, and no worker answers for it: ${(error as Error).message}`;
          return { mistakes: [mistake('fork.of', of, why)] };
        },
      );
    },

    /** Stores the configuration as it runs, presets and defaults filled in. */
    'experiment.record': async ({ experiment }: { experiment: Experiment }): Promise<{ searchAttributes: boolean }> => {
      await store.putJson(`experiments/${sha256(canonicalJson(experiment))}.json`, experiment);
      return { searchAttributes: await searchAttributes() };
    },

    /** Whether the namespace has the search attributes. */
    'inputs.searchAttributes': (_none: object): Promise<boolean> => searchAttributes(),

    /**
     * Stores `report.html`, `summary.json`, `figures.json`, the configuration and, where they are many, the questions
     * as an artifact.
     * Where the worker keeps results on its disk, they are in the reports folder of its home too, with the trained
     * models as links into the cache.
     */
    'experiment.report': async (input: ReportInput): Promise<PublishedReport> => {
      const producer = currentProducer();
      const name = producer.workflowId;
      const folder = settings.localResults ? join(settings.home, 'reports', safeName(name)) : undefined;
      const made = Object.fromEntries(
        input.stages.flatMap(({ name: stage, artifact }) => (artifact ? [[stage, artifact]] : [])),
      );
      const folders: Record<string, string> = {};
      for (const { name: stage, model } of folder === undefined ? [] : TRAINED) {
        const ref = made[stage];
        if (!ref) continue;
        folders[model] = join(folder!, 'models', model);
        await placeFolder(store, ref, folders[model]);
      }
      const building = await store.spoolPath('.report');
      try {
        const source = { ...input, name, state: 'done', folders, fork: input.frontier };
        const names = await buildReport(store, source, building, {
          onRow: (rows) => reportProgress({ done: rows, total: 0, message: 'rows read' }),
        });
        if (input.given) {
          const configuration = `${JSON.stringify(pinned(input.experiment, input.given), null, 2)}\n`;
          await writeFile(join(building, CONFIGURATION_FILE), configuration);
          names.push(CONFIGURATION_FILE);
        }
        const report = await storeFiles(store, 'report', building, names, made, producer);
        const published = await publish(store, settings, producer, { report, ...made }, 'report.html');
        if (folder === undefined) return published;
        await rm(join(folder, 'questions'), { recursive: true, force: true });
        await placeFiles(store, (await store.manifest(published.artifact)).files, folder, 'copy');
        return { ...published, html: join(folder, 'report.html'), summary: join(folder, 'summary.json') };
      } finally {
        await rm(building, { recursive: true, force: true });
      }
    },
  };
}
