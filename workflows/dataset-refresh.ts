import { ApplicationFailure, executeChild, setCurrentDetails, workflowInfo } from '@temporalio/workflow';
import { z } from 'zod';
import { artifactInput, describeMistakes, mistakesOf, StageConfigs, type ArtifactRef } from './contract/index.js';
import { call } from './lib/activities.js';
import { importInput } from './lib/stage.js';
import { filtering } from './filtering.js';
import { synthesis } from './synthesis.js';

const Input = z.strictObject({
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, 'letters, digits, dot, dash and underscore').describe('name of the data set'),
  seeds: artifactInput('seeds'),
  synthesis: StageConfigs.synthesis.prefault({}),
  filtering: StageConfigs.filtering.prefault({}),
});

export interface RefreshResult {
  version: number;
  added: number;
  total: number;
  dataset?: ArtifactRef;
}

/** The next version of a data set: new seeds only, and the difference to the last version. Made to be run by a schedule. */
export async function datasetRefresh(input: unknown): Promise<RefreshResult> {
  const parsed = Input.safeParse(input);
  if (!parsed.success) throw ApplicationFailure.nonRetryable(describeMistakes(mistakesOf(parsed.error, input)), 'InvalidExperiment');
  const { name, ...config } = parsed.data;
  const seeds = await importInput(config.seeds, 'seeds');
  const { previous, fresh } = await call('datasetRefresh.plan', { role: 'pipeline', summary: 'find new seeds' }, { name, seeds });
  if (!fresh) {
    setCurrentDetails(`No new seeds; version ${previous?.version ?? 0} stays the newest.`);
    return { version: previous?.version ?? 0, added: 0, total: previous?.total ?? 0, ...(previous ? { dataset: previous.dataset } : {}) };
  }
  const { workflowId } = workflowInfo();
  const asked = await executeChild(synthesis, {
    workflowId: `${workflowId}/synthesis`, args: [{ inputs: { seeds: fresh }, config: config.synthesis }], staticSummary: `${fresh.rows ?? '?'} new seeds`,
  });
  const filtered = await executeChild(filtering, {
    workflowId: `${workflowId}/filtering`, args: [{ inputs: { questions: asked.ref }, config: config.filtering }], staticSummary: `${asked.ref.rows ?? '?'} questions`,
  });
  const { version, added, total, dataset } = await call('datasetRefresh.publish', { role: 'pipeline', summary: 'publish the next version' }, {
    name, seeds, questions: filtered.ref, ...(previous ? { previous } : {}),
  });
  setCurrentDetails(`Version ${version}: ${added} questions added, ${total} in all.`);
  return { version, added, total, dataset };
}
