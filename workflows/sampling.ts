import type { StageResult } from './contract/index.js';
import { paidRequests } from './lib/endpoint.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Questions and a policy, or another source of programs, to programs with verdicts and pass rates. */
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
    ...(kind === 'openai' ? { stepRunner: (planned) => paidRequests(run, 'sampling', config.execution, planned) } : {}),
  });
}
