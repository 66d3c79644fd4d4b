/** The experiment that a fork starts from: out of the store where it has ended, else by asking its workflow. */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import {
  ArtifactRef,
  Experiment,
  mistake,
  StageFailure,
  STAGES,
  type ForkSource,
  type Manifest,
  type Mistake,
} from '../../workflows/contract/index.js';
import { resultsOf } from '../artifacts/results.js';
import type { ArtifactStore } from '../artifacts/store.js';

/** The file of a report with the configuration: what a fork starts from. */
export const CONFIGURATION_FILE = 'experiment.json';

const Answer = z.object({
  workflowId: z.string(),
  experiment: Experiment,
  stages: z.array(z.custom<ForkSource['stages'][number]>((stage) => typeof stage === 'object')),
});

type Found = { source: ForkSource; mistakes?: undefined } | { mistakes: Mistake[]; source?: undefined };

/**
 * The experiment behind a workflow id or the key of a report, or why there is none. `ask` gets what a workflow that has
 * stored no result answers; undefined where there is no such experiment.
 */
export async function forkSource(
  store: Pick<ArtifactStore, 'fetch' | 'findManifest' | 'getJson' | 'list'>,
  of: string,
  ask: (workflowId: string) => Promise<unknown>,
): Promise<Found> {
  const refused = (why: string): Found => ({ mistakes: [mistake('fork.of', of, why)] });
  let key = of;
  if (!of.startsWith('artifacts/')) {
    const { report, refused: none } = await reportOf(store, of);
    if (none !== undefined) return refused(none);
    if (report === undefined) {
      const answer = Answer.safeParse(await ask(of));
      if (answer.success) return { source: answer.data };
      return refused(
        'neither the store nor the Temporal server knows an experiment of this workflow id: ' +
          '`temporal workflow list` shows what there is',
      );
    }
    key = report.key;
  }
  const manifest = await store.findManifest(key);
  if (!manifest) return refused('the store holds no artifact of this key');
  if (manifest.kind !== 'report')
    return refused(`this is of kind '${manifest.kind}'; give the workflow id of an experiment, or its report's key`);
  const file = manifest.files.find(({ name }) => name === CONFIGURATION_FILE);
  if (!file)
    return refused(
      `its report has no ${CONFIGURATION_FILE}: an earlier version or a preview made it. Start the experiment again ` +
        'with the same input, which the store answers, and fork that',
    );
  const experiment = Experiment.safeParse(JSON.parse(await readFile(await store.fetch(file), 'utf8')));
  if (!experiment.success) return refused(`its ${CONFIGURATION_FILE} is none of this version`);
  return {
    source: {
      workflowId: manifest.producer.workflowId,
      experiment: experiment.data,
      stages: await stagesOf(store, manifest),
    },
  };
}

/** The report of a workflow; undefined where the store has no result of it. */
async function reportOf(
  store: Pick<ArtifactStore, 'getJson' | 'list'>,
  workflowId: string,
): Promise<{ report?: ArtifactRef; refused?: string }> {
  try {
    const { results } = await resultsOf(store, workflowId);
    const { report } = results;
    return report ? { report } : { refused: 'this workflow is no experiment' };
  } catch (error) {
    if (error instanceof StageFailure && error.type === 'InvalidExperiment') return {};
    throw error;
  }
}

/** The stages of an experiment that has ended, as its report names them. */
async function stagesOf(
  store: Pick<ArtifactStore, 'findManifest'>,
  { inputs }: Manifest,
): Promise<ForkSource['stages']> {
  const stages: ForkSource['stages'] = [];
  for (const name of STAGES) {
    const { data: artifact } = ArtifactRef.safeParse(inputs[name]);
    const made = artifact && (await store.findManifest(artifact.key));
    if (artifact && made) stages.push({ name, state: 'done', artifact, metrics: made.metrics });
  }
  return stages;
}
