import type { StageResult } from './contract/index.js';
import { paidRequests, recordedInputs, withReferences } from './lib/endpoint.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Questions and an oracle to questions with kept test cases. */
export async function filtering(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('filtering');
  const { inputs, config: given } = await stageInput('filtering', input, carry !== undefined);
  const recorded = await recordedInputs('filtering', given);
  const config = withReferences('filtering', given, recorded);
  const { oracle } = config;
  const asks = oracle.kind !== 'reference' && oracle.programs.kind === 'openai';
  return runShardedStage(run, {
    stage: 'filtering',
    config,
    inputs: { ...inputs, ...recorded },
    input: { inputs, config },
    carry,
    steps: oracle.kind === 'reference' ? ['filtering.judge'] : ['filtering.request', 'filtering.judge'],
    ...(asks ? { stepRunner: (planned) => paidRequests(run, 'filtering', config.execution, planned) } : {}),
  });
}
