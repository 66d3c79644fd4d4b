import type { ArtifactRef, StageResult } from './contract/index.js';
import { paidRequests, recordedInputs, withReferences } from './lib/endpoint.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type ShardedCarry } from './lib/sharded-stage.js';

/** Questions and a policy, or another source of programs, to programs with verdicts and pass rates. */
export async function sampling(input: unknown, carry?: ShardedCarry): Promise<StageResult> {
  const run = new StageRun('sampling');
  const { inputs, config: given } = await stageInput('sampling', input, carry !== undefined);
  const recorded = await recordedInputs('sampling', given);
  const config = withReferences('sampling', given, recorded);
  const { questions, policy } = inputs;
  const { kind } = config.sampler;
  return runShardedStage(run, {
    // A policy that writes nothing decides nothing: it is no input then.
    stage: 'sampling',
    config,
    inputs: { questions, ...(kind === 'policy' ? { policy: policy as ArtifactRef } : recorded) },
    input: { inputs, config },
    carry,
    steps: [kind === 'policy' ? 'sampling.generate' : 'sampling.request', 'sampling.judge'],
    ...(kind === 'openai' ? { stepRunner: (planned) => paidRequests(run, 'sampling', config.execution, planned) } : {}),
  });
}
