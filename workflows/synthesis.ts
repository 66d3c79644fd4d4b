import type { ActivityName, StageResult, Teacher } from './contract/index.js';
import { paidRequests, recordedInputs, withReferences } from './lib/endpoint.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Steps of a shard. The offline teacher answers by running the seed, which only the sandbox may do. */
const STEPS: Record<Teacher['kind'], readonly ActivityName[]> = {
  offline: ['synthesis.ask'],
  openai: ['synthesis.request', 'synthesis.parse'],
  recorded: ['synthesis.request', 'synthesis.parse'],
};

/** Seeds and a teacher to questions with test cases. */
export async function synthesis(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('synthesis');
  const { inputs, config: given } = await stageInput('synthesis', input, carry !== undefined);
  const recorded = await recordedInputs('synthesis', given);
  const config = withReferences('synthesis', given, recorded);
  return runShardedStage(run, {
    stage: 'synthesis',
    config,
    inputs: { ...inputs, ...recorded },
    input: { inputs, config },
    carry,
    steps: STEPS[config.teacher.kind],
    ...(config.teacher.kind === 'openai'
      ? { stepRunner: (planned) => paidRequests(run, 'synthesis', config.execution, planned) }
      : {}),
  });
}
