import type { StageResult } from './contract/index.js';
import { importInput, parseStageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Programs to preference pairs. */
export async function preferences(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('preferences');
  const { inputs, config } = parseStageInput('preferences', input);
  const programs = await importInput(inputs.programs, 'programs');
  return runShardedStage(run, { stage: 'preferences', config, inputs: { programs }, input: { inputs: { programs }, config }, carry,
    steps: [{ name: 'pair', role: 'pipeline' }],
  });
}
