/** What stages that ask an endpoint share: requests within limits and budget. */
import { ApplicationFailure, condition } from '@temporalio/workflow';
import { dollarsText, type ActivityName, type AskingExecution, type AskingStage } from '../contract/index.js';
import { call } from './activities.js';
import type { PlannedStage, StepRunner } from './sharded-stage.js';
import { limitsOf, Shares } from './shares.js';
import type { StageRun } from './stage.js';

/**
 * Calls the request step of a stage with a share of the endpoint's limits and of the budget. Stored replies count
 * against the budget too, so no kill, retry or continuation loses sight of what was paid.
 *
 * @throws ApplicationFailure `BudgetExceeded` when what is left does not pay for the next request.
 */
export async function paidRequests(
  run: StageRun,
  stage: AskingStage,
  execution: AskingExecution,
  { stageKey, shards, nextShard }: PlannedStage,
): Promise<StepRunner> {
  const costs = await call(
    'endpoint.paid',
    { summary: 'add up what stored replies cost' },
    { stage, stageKey, execution },
  );
  const shares = new Shares(
    limitsOf(execution),
    new Map(Object.entries(costs).map(([shard, usd]) => [Number(shard), usd])),
  );
  let started = nextShard;
  run.costUsd = shares.spentUsd;
  return async (step, shard, callStep) => {
    if (step !== (`${stage}.request` satisfies ActivityName)) {
      await callStep(execution);
      return;
    }
    for (let all = false; ; all = true) {
      if (all) shares.waitForAll();
      // Several shards may wake up at once, and the first of them may leave the others nothing. A pause may have begun
      // while a shard waited for its share.
      const mayAsk = (): boolean => !run.paused && shares.canTake(all);
      while (!mayAsk()) await condition(mayAsk);
      const share = shares.take(shard, shards - started, all);
      if (!all) started += 1;
      const { metrics, incomplete } = await callStep({ ...execution, share });
      shares.give(shard, metrics['costUsd'] ?? 0);
      run.costUsd = shares.spentUsd;
      if (!incomplete) return;
      if (all) {
        await run.tell();
        const spent = `the replies cost ${dollarsText(shares.spentUsd)} of execution.budgetUsd ${execution.budgetUsd}`;
        throw ApplicationFailure.create({
          type: 'BudgetExceeded',
          nonRetryable: true,
          message: `${spent} US dollars, and the next one could pass it; everything that arrived is stored`,
        });
      }
    }
  };
}
