import type { StageResult } from './contract/index.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Seeds and a teacher to questions with test cases. */
export async function synthesis(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('synthesis');
  const { inputs, config } = await stageInput('synthesis', input, carry !== undefined);
  return runShardedStage(run, {
    stage: 'synthesis', config, inputs, input: { inputs, config }, carry,
    // The offline teacher answers by running the seed, which only the sandbox may do.
    steps: ['synthesis.ask'],
  });
}
