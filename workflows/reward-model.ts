import type { StageResult } from './contract/index.js';
import { call } from './lib/activities.js';
import { stageInput, StageRun } from './lib/stage.js';

/**
 * Trains a reward model on preference pairs: one long activity, which a pause stops at a checkpoint.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { rewardModel } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof rewardModel>('rewardModel', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'reward-model-1',
 *   args: [{
 *     inputs: {
 *       pairs: { kind: 'pairs', path: '/data/pairs.jsonl' },
 *       backbone: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', revision: 'main' },
 *     },
 *     config: { learningRate: 0.00001, batchSize: 128 },
 *   }],
 * });
 * ```
 */
export async function rewardModel(input: unknown): Promise<StageResult> {
  const run = new StageRun('rewardModel');
  const { inputs, config } = await stageInput('rewardModel', input);
  await run.progress({ done: 0, total: 1, unit: 'trainings' });
  const trained = await run.interruptible(() =>
    call(
      'rewardModel.train',
      { deviceClass: config.execution.deviceClass, summary: `train on ${inputs.pairs.rows ?? '?'} pairs` },
      { config, inputs },
    ),
  );
  await run.progress({ done: 1, total: 1, unit: 'trainings' });
  return run.finish(trained);
}
