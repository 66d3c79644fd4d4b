/** The two shapes that nearly all stages have: shards that go through steps, and one training. */
import {
  AskingExecution,
  canAsk,
  type ShardedStageName,
  type StageResult,
  type TrainingStageName,
} from '../contract/index.js';
import { trainingCall } from './activities.js';
import { byGang } from './gang.js';
import { paidRequests } from './endpoint.js';
import { runShardedStage, type ShardedCarry } from './sharded-stage.js';
import { carriedOver, decidingInputs, stageInput, StageRun } from './stage.js';

/** The workflow of a stage that works on shards: plan, the steps of its settings for each shard, seal. */
export function shardedStage(stage: ShardedStageName): (input: unknown, carry?: ShardedCarry) => Promise<StageResult> {
  return async (input, given) => {
    const carry = carriedOver(given);
    const run = new StageRun(stage);
    const { inputs, config, settings } = await stageInput(stage, input, carry !== undefined);
    return runShardedStage(run, {
      stage,
      config,
      execution: settings.execution(),
      inputs: decidingInputs(inputs, settings),
      input: { inputs, config },
      carry,
      steps: settings.shardSteps(),
      prepares: settings.prepares(),
      ...(settings.asks() && canAsk(stage)
        ? { stepRunner: (planned) => paidRequests(run, stage, AskingExecution.parse(config.execution), planned) }
        : {}),
    });
  };
}

/** The workflow of a stage that is one training: a long activity that a pause stops at a checkpoint. */
export function trainingStage(stage: TrainingStageName): (input: unknown) => Promise<StageResult> {
  return async (input) => {
    const run = new StageRun(stage);
    const { inputs, config, settings } = await stageInput(stage, input);
    const { deviceClass, hosts, hostsWaitSeconds } = settings.execution();
    const deciding = decidingInputs(inputs, settings);
    await run.progress({ done: 0, total: 1, unit: 'trainings' });
    const [rows] = Object.values(deciding);
    const summary = `train on ${rows?.rows ?? '?'} ${rows?.kind ?? 'rows'}`;
    const given = { config, inputs: deciding };
    const trained = await run.interruptible(() =>
      hosts === 1
        ? trainingCall(stage, { deviceClass, summary }, given)
        : byGang({ members: hosts, waitSeconds: hostsWaitSeconds, progress: () => run.done }, (gang) =>
            trainingCall(stage, { deviceClass, summary, gang }, { ...given, gang }),
          ),
    );
    await run.progress({ done: 1, total: 1, unit: 'trainings' });
    return run.finish(trained);
  };
}
