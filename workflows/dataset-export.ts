import { setCurrentDetails, workflowInfo } from '@temporalio/workflow';
import { resultText, type ArtifactRef } from './contract/index.js';
import { call } from './lib/activities.js';
import { parseInput, resolveInputs } from './lib/inputs.js';
import { resultMemo } from './lib/result-memo.js';

export interface DatasetExportResult {
  /** A repository of the Hugging Face hub in the store: `README.md` and `data/train-00000-of-00001.parquet`. */
  export: ArtifactRef;
  /** The command that gets them, without a worker. */
  fetch: string;
  rows: number;
  /** Of the Parquet file. */
  bytes: number;
  /** Folder on a GPU worker that keeps results on its disk. */
  folder?: string;
}

/**
 * Stores questions or pairs as a data set repository of the Hugging Face hub: a Parquet file with the columns of a
 * published one, and its card.
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
export async function datasetExport(input: unknown): Promise<DatasetExportResult> {
  const { inputs, ...settings } = parseInput('datasetExport', input);
  const resolved = await resolveInputs('datasetExport', inputs, { at: 'inputs.' });
  const result = await call(
    'tables.export',
    { summary: `write ${settings.name} as ${settings.format}` },
    { ...settings, inputs: resolved },
  );
  const { artifact, rows, bytes, folder } = result;
  const { workflowId } = workflowInfo();
  setCurrentDetails(resultText(`**${settings.name}**: ${rows} rows`, result, workflowId, folder));
  return {
    export: artifact,
    fetch: resultMemo('export', artifact),
    rows,
    bytes,
    ...(folder === undefined ? {} : { folder }),
  };
}
