import type { StageResult } from './contract/index.js';
import { importInput, parseStageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Questions and an oracle to questions with kept test cases. */
export async function filtering(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('filtering');
  const { inputs, config } = parseStageInput('filtering', input);
  const questions = await importInput(inputs.questions, 'questions');
  return runShardedStage(run, { stage: 'filtering', config, inputs: { questions }, input: { inputs: { questions }, config }, carry,
    steps: [{ name: 'judge', role: 'sandbox' }],
  });
}
