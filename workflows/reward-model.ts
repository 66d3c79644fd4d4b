import type { StageResult } from './contract/index.js';
import { call } from './lib/activities.js';
import { stageInput, StageRun } from './lib/stage.js';

/** Pairs to a reward model: one long activity that a pause stops at a checkpoint. */
export async function rewardModel(input: unknown): Promise<StageResult> {
  const run = new StageRun('rewardModel');
  const { inputs, config } = await stageInput('rewardModel', input);
  await run.progress({ done: 0, total: 1, unit: 'trainings' });
  const trained = await run.interruptible(() =>
    call(
      'rewardModel.train',
      { deviceClass: config.execution.deviceClass, summary: `train on ${inputs.pairs.rows ?? '?'} pairs` },
      { config, inputs },
    ),
  );
  await run.progress({ done: 1, total: 1, unit: 'trainings' });
  return run.finish(trained);
}
