import type { StageResult } from './contract/index.js';
import { paidRequests } from './lib/endpoint.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/**
 * Samples programs for questions from a policy, or from another source, and judges them: verdicts and pass rates.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { sampling } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof sampling>('sampling', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'sampling-1',
 *   args: [{
 *     inputs: {
 *       questions: { kind: 'filteredQuestions', path: '/data/questions.jsonl' },
 *       policy: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', revision: 'main' },
 *     },
 *     config: { samples: 16 },
 *   }],
 * });
 * ```
 */
export async function sampling(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('sampling');
  const { inputs, config } = await stageInput('sampling', input, carry !== undefined);
  const { questions, policy, samples } = inputs;
  const { kind } = config.sampler;
  return runShardedStage(run, {
    stage: 'sampling',
    config,
    // A policy that writes nothing, and samples that nobody reads, decide nothing. They are no inputs then.
    inputs: {
      questions,
      ...(policy && kind === 'policy' ? { policy } : {}),
      ...(samples && kind === 'recorded' ? { samples } : {}),
    },
    input: { inputs, config },
    carry,
    steps: [kind === 'policy' ? 'sampling.generate' : 'sampling.request', 'sampling.judge'],
    ...(kind === 'openai' ? { stepRunner: (planned) => paidRequests(run, 'sampling', config.execution, planned) } : {}),
  });
}
