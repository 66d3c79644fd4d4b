import { readsRecorded, type StageResult } from './contract/index.js';
import { paidRequests } from './lib/endpoint.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Seeds and a teacher to questions with test cases. */
export async function synthesis(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('synthesis');
  const { inputs, config, benchmarks } = await stageInput('synthesis', input, carry !== undefined);
  const { seeds, replies } = inputs;
  return runShardedStage(run, {
    stage: 'synthesis',
    config,
    // Replies that no teacher replays decide nothing, and are no input then.
    inputs: { seeds, ...(replies && readsRecorded('synthesis', config) ? { replies } : {}), ...benchmarks },
    input: { inputs, config },
    carry,
    ...(config.teacher.kind === 'openai'
      ? { stepRunner: (planned) => paidRequests(run, 'synthesis', config.execution, planned) }
      : {}),
  });
}
