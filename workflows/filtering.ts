import { readsRecorded, type StageResult } from './contract/index.js';
import { paidRequests } from './lib/endpoint.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/**
 * Keeps the test cases on which an oracle's programs agree, and the questions with enough of them.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { filtering } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof filtering>('filtering', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'filtering-1',
 *   args: [{
 *     inputs: { questions: { kind: 'questions', path: '/data/questions.jsonl' } },
 *     config: { minimumTestCases: 5 },
 *   }],
 * });
 * ```
 */
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
    steps: oracle.kind === 'reference' ? ['filtering.judge'] : ['filtering.request', 'filtering.judge'],
    ...(asks ? { stepRunner: (planned) => paidRequests(run, 'filtering', config.execution, planned) } : {}),
  });
}
