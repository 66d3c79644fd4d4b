import type { StageResult } from './contract/index.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Policies, and a reward model where there is one, on benchmarks. */
export async function evaluation(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('evaluation');
  const { inputs, config, benchmarks } = await stageInput('evaluation', input, carry !== undefined);
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
      ...benchmarks,
    },
  });
}
