import type { StageResult } from './contract/index.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/**
 * Measures policies on benchmarks, and the choices of a reward model where there is one.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { evaluation } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof evaluation>('evaluation', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'evaluation-1',
 *   args: [{
 *     inputs: { policies: { base: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', revision: 'main' } } },
 *     config: { benchmarks: [{ kind: 'humaneval' }] },
 *   }],
 * });
 * ```
 */
export async function evaluation(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('evaluation');
  const { inputs, config } = await stageInput('evaluation', input, carry !== undefined);
  const { policies, rewardModel, questions } = inputs;
  return runShardedStage(run, {
    stage: 'evaluation',
    config,
    input: { inputs, config },
    carry,
    inputs: {
      ...Object.fromEntries(Object.entries(policies).map(([name, ref]) => [`policy:${name}`, ref])),
      ...(rewardModel ? { rewardModel } : {}),
      ...(questions ? { questions } : {}),
    },
    steps: ['evaluation.generate', 'evaluation.judge', 'evaluation.score'],
  });
}
