import { readsRecorded, type ActivityName, type StageResult, type Teacher } from './contract/index.js';
import { paidRequests } from './lib/endpoint.js';
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
  const { inputs, config } = await stageInput('synthesis', input, carry !== undefined);
  const { seeds, replies } = inputs;
  return runShardedStage(run, {
    stage: 'synthesis',
    config,
    // Replies that no teacher replays decide nothing, and are no input then.
    inputs: { seeds, ...(replies && readsRecorded('synthesis', config) ? { replies } : {}) },
    input: { inputs, config },
    carry,
    steps: STEPS[config.teacher.kind],
    ...(config.teacher.kind === 'openai'
      ? { stepRunner: (planned) => paidRequests(run, 'synthesis', config.execution, planned) }
      : {}),
  });
}
