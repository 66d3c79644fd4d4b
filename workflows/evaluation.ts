import type { StageResult } from './contract/index.js';
import { importInput, parseStageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Policies, and a reward model where there is one, on benchmarks. */
export async function evaluation(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('evaluation');
  const { inputs, config } = parseStageInput('evaluation', input);
  const questions = inputs.questions && (await importInput(inputs.questions, 'filteredQuestions'));
  return runShardedStage(run, {
    stage: 'evaluation', config, input: { inputs: { ...inputs, questions }, config }, carry,
    inputs: {
      ...Object.fromEntries(Object.entries(inputs.policies).map(([name, ref]) => [`policy:${name}`, ref])),
      ...(inputs.rewardModel ? { rewardModel: inputs.rewardModel } : {}),
      ...(questions ? { questions } : {}),
    },
    steps: [{ name: 'generate', role: 'gpu' }, { name: 'judge', role: 'sandbox' }, { name: 'score', role: 'gpu' }],
  });
}
