import type { StageResult } from './contract/index.js';
import { importInput, parseStageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Seeds and a teacher to questions with test cases. */
export async function synthesis(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('synthesis');
  const { inputs, config } = parseStageInput('synthesis', input);
  const seeds = await importInput(inputs.seeds, 'seeds');
  return runShardedStage(run, {
    stage: 'synthesis', config, inputs: { seeds }, input: { inputs: { seeds }, config }, carry,
    // The offline teacher answers by running the seed, which only the sandbox may do.
    steps: [{ name: 'ask', role: 'sandbox' }],
  });
}
