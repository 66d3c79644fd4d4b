import type { StageResult } from './contract/index.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/**
 * Makes preference pairs from programs with pass rates.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { preferences } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof preferences>('preferences', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'preferences-1',
 *   args: [{
 *     inputs: { programs: { kind: 'programs', path: '/data/programs.jsonl' } },
 *     config: { maximumPerQuestion: 8 },
 *   }],
 * });
 * ```
 */
export async function preferences(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('preferences');
  const { inputs, config } = await stageInput('preferences', input, carry !== undefined);
  return runShardedStage(run, {
    stage: 'preferences',
    config,
    inputs,
    input: { inputs, config },
    carry,
    steps: ['preferences.pair'],
  });
}
