/** The one shape of all sharded stages: plan, a window of shards in flight, seal. */
import { CancellationScope, continueAsNew, patched } from '@temporalio/workflow';
import type { ShardOutput } from '../../activities/runtime/sharded-stage.js';
import type { ActivityName, ArtifactRef, ShardedStageName, StageExecution, StageResult } from '../contract/index.js';
import { shardedCalls } from './activities.js';
import { historyIsLong, type StageRun } from './stage.js';

/** A step that reads what the stage prepared, and that earlier versions did not have. */
const DECONTAMINATE = 'decontaminate';

/** Carried over a continue-as-new: a second argument of the workflow that no user passes. */
export interface ShardedCarry {
  nextShard: number;
}

/** A stage after its plan. */
export interface PlannedStage {
  stageKey: string;
  shards: number;
  /** The first shard of this run: those before it are done. */
  nextShard: number;
}

/** Calls a step of a shard, once or more often, each time with the execution settings that it is to have. */
export type StepRunner = (
  step: ActivityName,
  shard: number,
  callStep: (execution: unknown) => Promise<ShardOutput>,
) => Promise<void>;

export interface ShardedStageRun {
  stage: ShardedStageName;
  config: { execution: unknown };
  execution: StageExecution;
  inputs: Record<string, ArtifactRef>;
  /** Steps of a shard in order. */
  steps: readonly string[];
  /** Whether something is prepared after the plan and before the first shard. */
  prepares?: boolean;
  /** First argument of the workflow's continuation: references, so that a path is not imported a second time. */
  input: unknown;
  carry?: ShardedCarry | undefined;
  /** How steps are called where that is more than once and with the stage's own settings. */
  stepRunner?: (planned: PlannedStage) => Promise<StepRunner>;
}

/**
 * Keeps `execution.window` shards in flight and returns the sealed reference. A shard that is in the store answers at
 * once. Before the stage continues as new it drains its shards, because a continuation ends what is running.
 */
export async function runShardedStage(
  run: StageRun,
  { stage, config, execution, inputs, steps, prepares = false, input, carry, stepRunner }: ShardedStageRun,
): Promise<StageResult> {
  const plan = await shardedCalls.plan(stage, { summary: `${stage}: plan` }, { config, inputs });
  if (plan.done) return run.finish(plan.done);
  const total = plan.shards;
  let done = carry?.nextShard ?? 0;
  let next = done;
  const runStep: StepRunner =
    (await stepRunner?.({ stageKey: plan.stageKey, shards: total, nextShard: next })) ??
    (async (_step, _shard, callStep) => {
      await callStep(config.execution);
    });
  await run.progress({ done, total, unit: 'shards' });
  // Stages of earlier versions prepared nothing, and go on without it, and without the steps that read it.
  const isPrepared = prepares && patched('prepared-shards');
  if (isPrepared) {
    await run.gate();
    await shardedCalls.prepare(stage, { summary: `${stage}: prepare` }, { stageKey: plan.stageKey });
  }
  const ownSteps = isPrepared ? steps : steps.filter((name) => name !== DECONTAMINATE);

  const runShard = async (shard: number): Promise<void> => {
    for (const name of ownSteps) {
      const step = `${stage}.${name}` as ActivityName;
      await run.gate();
      const options = { deviceClass: execution.deviceClass, summary: `${step}: shard ${shard + 1} of ${total}` };
      await runStep(step, shard, (execution) =>
        shardedCalls.step(step, options, { stageKey: plan.stageKey, shard, execution }),
      );
    }
    done += 1;
    await run.progress({ done, total, unit: 'shards' });
  };

  await CancellationScope.cancellable(async () => {
    const running = new Set<Promise<void>>();
    const failures: unknown[] = [];
    // A shard may fail while a pause is waited for, and nothing waits for the shard then.
    const goOn = (): void => {
      if (failures.length > 0) throw failures[0];
    };
    try {
      while (next < total && !historyIsLong()) {
        await run.gate();
        goOn();
        const shard: Promise<void> = runShard(next).finally(() => running.delete(shard));
        shard.catch((error: unknown) => failures.push(error));
        running.add(shard);
        next += 1;
        if (running.size >= execution.window) await Promise.race(running);
      }
      await Promise.all(running);
      goOn();
    } catch (error) {
      CancellationScope.current().cancel();
      await Promise.allSettled(running);
      throw error;
    }
  });
  if (next < total) {
    // A continued run knows of no pause: it starts when the pause is over.
    await run.gate();
    await continueAsNew(input, { nextShard: next } satisfies ShardedCarry);
  }
  return run.finish(
    await shardedCalls.seal(stage, { summary: `${stage}: seal`, shards: total }, { stageKey: plan.stageKey }),
  );
}
