import type { StageResult } from './contract/index.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Questions and a policy to programs with verdicts and pass rates. */
export async function sampling(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('sampling');
  const { inputs, config } = await stageInput('sampling', input, carry !== undefined);
  return runShardedStage(run, {
    stage: 'sampling', config, inputs, input: { inputs, config }, carry,
    steps: ['sampling.generate', 'sampling.judge'],
  });
}
