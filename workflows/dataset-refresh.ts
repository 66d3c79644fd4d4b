import { executeChild, setCurrentDetails, workflowInfo } from '@temporalio/workflow';
import type { Difference } from '../activities/dataset-refresh/activities.js';
import type { ArtifactRef } from './contract/index.js';
import { call } from './lib/activities.js';
import { parseInput, resolveInputs } from './lib/inputs.js';
import { benchmarksOf } from './lib/stage.js';
import { filtering } from './filtering.js';
import { synthesis } from './synthesis.js';

export interface RefreshResult {
  version: number;
  added: number;
  total: number;
  dataset?: ArtifactRef;
  /** Absent where there were no new seeds. */
  difference?: Difference;
}

/** The next version of a data set: new seeds only, and the difference to the last version. Made to be run by a schedule. */
export async function datasetRefresh(input: unknown): Promise<RefreshResult> {
  const { name, seeds: given, ...config } = parseInput('datasetRefresh', input);
  const { seeds } = await resolveInputs(
    'datasetRefresh',
    { seeds: given },
    { at: '', benchmarks: benchmarksOf(config.synthesis, 'synthesis.') },
  );
  const { previous, fresh } = await call('datasetRefresh.plan', { summary: 'find new seeds' }, { name, seeds });
  if (!fresh) {
    setCurrentDetails(`No new seeds; version ${previous?.version ?? 0} stays the newest.`);
    return {
      version: previous?.version ?? 0,
      added: 0,
      total: previous?.total ?? 0,
      ...(previous ? { dataset: previous.dataset } : {}),
    };
  }
  const { workflowId } = workflowInfo();
  const asked = await executeChild(synthesis, {
    workflowId: `${workflowId}/synthesis`,
    args: [{ inputs: { seeds: fresh }, config: config.synthesis }],
    staticSummary: `${fresh.rows ?? '?'} new seeds`,
  });
  const filtered = await executeChild(filtering, {
    workflowId: `${workflowId}/filtering`,
    args: [{ inputs: { questions: asked.ref }, config: config.filtering }],
    staticSummary: `${asked.ref.rows ?? '?'} questions`,
  });
  const { version, added, total, dataset, difference } = await call(
    'datasetRefresh.publish',
    { summary: 'publish the next version' },
    {
      name,
      seeds,
      fresh,
      asked: asked.ref,
      questions: filtered.ref,
      ...(previous ? { previous } : {}),
    },
  );
  const dropped = Object.entries(difference.dropped)
    .map(([reason, times]) => `${reason} ${times}`)
    .join(', ');
  setCurrentDetails(
    `Version ${version}: ${added} questions added, ${difference.changed} changed, ${total} in all.${dropped && `\n\nNew seeds without a question: ${dropped}.`}`,
  );
  return { version, added, total, dataset, difference };
}
