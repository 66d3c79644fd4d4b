import { readsRecorded, type StageResult } from './contract/index.js';
import { paidRequests } from './lib/endpoint.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Questions and an oracle to questions with kept test cases. */
export async function filtering(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('filtering');
  const { inputs, config } = await stageInput('filtering', input, carry !== undefined);
  const { questions, samples } = inputs;
  const { oracle } = config;
  const asks = oracle.kind !== 'reference' && oracle.programs.kind === 'openai';
  return runShardedStage(run, {
    stage: 'filtering',
    config,
    // Samples that no oracle reads decide nothing, and are no input then.
    inputs: { questions, ...(samples && readsRecorded('filtering', config) ? { samples } : {}) },
    input: { inputs, config },
    carry,
    ...(asks ? { stepRunner: (planned) => paidRequests(run, 'filtering', config.execution, planned) } : {}),
  });
}
