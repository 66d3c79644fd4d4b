import type { StageResult } from './contract/index.js';
import { importInput, parseStageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Questions and a policy to programs with verdicts and pass rates. */
export async function sampling(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('sampling');
  const { inputs, config } = parseStageInput('sampling', input);
  const questions = await importInput(inputs.questions, 'filteredQuestions');
  return runShardedStage(run, {
    stage: 'sampling', config, inputs: { questions, policy: inputs.policy }, input: { inputs: { questions, policy: inputs.policy }, config }, carry,
    steps: [{ name: 'generate', role: 'gpu' }, { name: 'judge', role: 'sandbox' }],
  });
}
