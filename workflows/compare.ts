import { setCurrentDetails, workflowInfo } from '@temporalio/workflow';
import { resultText, type ArtifactRef } from './contract/index.js';
import { call } from './lib/activities.js';
import { parseInput, refused } from './lib/inputs.js';
import { resultMemo } from './lib/result-memo.js';

export interface CompareResult {
  /** `comparison.html` and `comparison.json` in the store. */
  comparison: ArtifactRef;
  /** The command that gets them, without a worker. */
  fetch: string;
  /** One sentence for each comparison, or for why there is none. */
  verdicts: string[];
  /** Path of the page on a worker that keeps results on its disk. */
  html?: string;
}

/**
 * Compares finished experiments, or evaluations, with the first one: on the same tasks, with paired tests.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { compare } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { verdicts } = await client.workflow.execute<typeof compare>('compare', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'compare-1',
 *   args: [{ of: ['my-run', 'other-run'] }],
 * });
 * console.log(verdicts.join('\n'));
 * ```
 */
export async function compare(input: unknown): Promise<CompareResult> {
  const { of, policy } = parseInput('compare', input);
  const mistakes = await call('comparison.check', { summary: 'look up what is compared' }, { of });
  if (mistakes.length > 0) throw refused('compare', mistakes);
  const made = await call('comparison.make', { summary: `compare ${of.length} experiments` }, { of, policy });
  const { artifact, verdicts, html } = made;
  const { workflowId } = workflowInfo();
  setCurrentDetails(
    [...verdicts.map((verdict) => `- ${verdict}`), resultText('**comparison**', made, workflowId, html)].join('\n'),
  );
  return {
    comparison: artifact,
    fetch: resultMemo('comparison', artifact),
    verdicts,
    ...(html === undefined ? {} : { html }),
  };
}
