import { setCurrentDetails } from '@temporalio/workflow';
import type { Difference } from '../activities/dataset-refresh/activities.js';
import { chainInputs, givenOf, type ArtifactRef, type StageName } from './contract/index.js';
import { call } from './lib/activities.js';
import { lookupsOf, parseInput, resolveInputs } from './lib/inputs.js';
import { findBy } from './lib/search-attributes.js';
import { stageOrNothing } from './lib/stage-child.js';

export interface RefreshResult {
  version: number;
  added: number;
  total: number;
  dataset?: ArtifactRef;
  /** Absent where there were no new seeds. */
  difference?: Difference;
}

/**
 * Makes the next version of a data set from its new seeds, and says how it differs from the last version. A schedule
 * runs it.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { datasetRefresh } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const result = await client.workflow.execute<typeof datasetRefresh>('datasetRefresh', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'nightly',
 *   args: [{
 *     name: 'nightly',
 *     seeds: { kind: 'seeds', path: '/data/seeds.jsonl' },
 *     synthesis: { teacher: { kind: 'offline', testCases: 20 } },
 *     filtering: { minimumTestCases: 5 },
 *   }],
 * });
 * ```
 */
export async function datasetRefresh(input: unknown): Promise<RefreshResult> {
  const { name, seeds: given, inputs: recorded = {}, ...config } = parseInput('datasetRefresh', input);
  await findBy({ AceCoderDataset: name });
  const { seeds, inputs } = await resolveInputs(
    'datasetRefresh',
    { seeds: given, inputs: recorded },
    { at: '', ...lookupsOf(config, (stage) => `${stage}.`) },
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
  const outputs: Partial<Record<StageName, ArtifactRef>> = {};
  for (const stage of ['synthesis', 'filtering'] as const) {
    const fed = chainInputs(stage, config[stage], { given: givenOf({ seeds: fresh, inputs }), outputs });
    // New seeds that give no question are known all the same, with their reasons, and the next night asks no more.
    const { ref } = await stageOrNothing(
      stage,
      { inputs: fed, config: config[stage] },
      outputs.synthesis ? `${outputs.synthesis.rows ?? '?'} questions` : `${fresh.rows ?? '?'} new seeds`,
    );
    outputs[stage] = ref;
  }
  const { synthesis: asked, filtering: questions } = outputs;
  const { version, added, total, dataset, difference } = await call(
    'datasetRefresh.publish',
    { summary: 'publish the next version' },
    {
      name,
      seeds,
      fresh,
      asked: asked!,
      questions: questions!,
      ...(previous ? { previous } : {}),
    },
  );
  const dropped = Object.entries(difference.dropped)
    .map(([reason, times]) => `${reason} ${times}`)
    .join(', ');
  const withoutQuestion = dropped && `\n\nNew seeds without a question: ${dropped}.`;
  setCurrentDetails(
    `Version ${version}: ${added} questions added, ${difference.changed} changed, ${total} in all.${withoutQuestion}`,
  );
  return { version, added, total, dataset, difference };
}
