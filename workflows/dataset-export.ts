import { setCurrentDetails } from '@temporalio/workflow';
import type { ExportResult } from '../activities/tables/activities.js';
import { call } from './lib/activities.js';
import { parseInput, resolveInputs } from './lib/inputs.js';

/** Questions or pairs as a Parquet file with a public schema and a data card, in the exports folder of a GPU worker. */
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
