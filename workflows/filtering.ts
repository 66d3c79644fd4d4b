import type { StageResult } from './contract/index.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Questions and an oracle to questions with kept test cases. */
export async function filtering(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('filtering');
  const { inputs, config } = await stageInput('filtering', input, carry !== undefined);
  return runShardedStage(run, { stage: 'filtering', config, inputs, input: { inputs, config }, carry,
    steps: ['filtering.judge'],
  });
}
