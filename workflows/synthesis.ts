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

/**
 * Makes questions with test cases from seed programs. A teacher writes them.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { synthesis } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof synthesis>('synthesis', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'synthesis-1',
 *   args: [{
 *     inputs: { seeds: { kind: 'seeds', path: '/data/seeds.jsonl' } },
 *     config: { teacher: { kind: 'offline', testCases: 12 } },
 *   }],
 * });
 * ```
 */
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
