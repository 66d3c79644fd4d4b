import { setCurrentDetails } from '@temporalio/workflow';
import type { ExportResult } from '../activities/tables/activities.js';
import { call } from './lib/activities.js';
import { parseInput, resolveInputs } from './lib/inputs.js';

/**
 * Writes questions or pairs as a Parquet file with a public schema and a data card, into the exports folder of a GPU
 * worker.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { datasetExport } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const result = await client.workflow.execute<typeof datasetExport>('datasetExport', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'export-1',
 *   args: [{
 *     format: 'aceCodePair300K',
 *     name: 'my-pairs',
 *     inputs: { pairs: { kind: 'pairs', path: '/data/pairs.jsonl' } },
 *   }],
 * });
 * ```
 */
export async function datasetExport(input: unknown): Promise<ExportResult> {
  const { inputs, ...settings } = parseInput('datasetExport', input);
  const resolved = await resolveInputs('datasetExport', inputs, { at: 'inputs.' });
  const result = await call(
    'tables.export',
    { summary: `write ${settings.name} as ${settings.format}` },
    { ...settings, inputs: resolved },
  );
  setCurrentDetails(`**${settings.name}**: ${result.rows} rows in \`${result.folder}\``);
  return result;
}
