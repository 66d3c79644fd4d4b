import type { StageResult } from './contract/index.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Programs to preference pairs. */
export async function preferences(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('preferences');
  const { inputs, config } = await stageInput('preferences', input, carry !== undefined);
  return runShardedStage(run, {
    stage: 'preferences',
    config,
    inputs,
    input: { inputs, config },
    carry,
  });
}
