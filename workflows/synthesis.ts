import { ApplicationFailure, condition } from '@temporalio/workflow';
import { dollarsText, type ActivityName, type ArtifactRef, type StageConfig, type StageResult, type Teacher } from './contract/index.js';
import { call } from './lib/activities.js';
import { resolveInputs } from './lib/inputs.js';
import { stageInput, StageRun } from './lib/stage.js';
import { runShardedStage, type PlannedStage, type ShardedCarry, type StepRunner } from './lib/sharded-stage.js';
import { limitsOf, Shares } from './lib/shares.js';

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
  const { config, replies } = await withReplies(given);
  return runShardedStage(run, {
    stage: 'synthesis', config, inputs: { ...inputs, ...(replies ? { replies } : {}) }, input: { inputs, config }, carry,
    steps: STEPS[config.teacher.kind],
    ...(config.teacher.kind === 'openai' ? { stepRunner: (planned: PlannedStage) => paidRequests(run, config, planned) } : {}),
  });
}

/** The configuration with a reference in the place of the recorded teacher's file. */
async function withReplies(config: StageConfig['synthesis']): Promise<{ config: StageConfig['synthesis']; replies?: ArtifactRef }> {
  const { teacher } = config;
  if (teacher.kind !== 'recorded') return { config };
  const { replies } = await resolveInputs('synthesis', { replies: teacher.replies }, { at: 'config.teacher.' });
  return { config: { ...config, teacher: { ...teacher, replies: replies as never } }, replies };
}

/**
 * Calls `synthesis.request` with a share of the endpoint's limits and of the budget. What is stored already counts against
 * the budget, so that no kill, retry or continuation loses sight of what was paid.
 *
 * @throws ApplicationFailure `BudgetExceeded` when what is left does not pay for the next request.
 */
async function paidRequests(run: StageRun, { execution }: StageConfig['synthesis'], { stageKey, shards, nextShard }: PlannedStage): Promise<StepRunner> {
  const costs = await call('synthesis.paid', { summary: 'add up what stored replies cost' }, { stageKey, execution });
  const shares = new Shares(limitsOf(execution), new Map(Object.entries(costs).map(([shard, usd]) => [Number(shard), usd])));
  let started = nextShard;
  run.costUsd = shares.spentUsd;
  return async (step, shard, callStep) => {
    if (step !== 'synthesis.request') {
      await callStep(execution);
      return;
    }
    for (let all = false; ; all = true) {
      if (all) shares.waitForAll();
      // One change may let several shards go on, of which the first leaves the others nothing.
      while (!shares.canTake(all)) await condition(() => shares.canTake(all));
      const share = shares.take(shard, shards - started, all);
      if (!all) started += 1;
      const { metrics, incomplete } = await callStep({ ...execution, share });
      shares.give(shard, metrics['costUsd'] ?? 0);
      run.costUsd = shares.spentUsd;
      if (!incomplete) return;
      if (all) {
        await run.tell();
        throw ApplicationFailure.create({
          type: 'BudgetExceeded', nonRetryable: true,
          message: `the replies cost ${dollarsText(shares.spentUsd)} of execution.budgetUsd ${execution.budgetUsd} US dollars, and the next one could pass it; everything that arrived is stored`,
        });
      }
    }
  };
}
