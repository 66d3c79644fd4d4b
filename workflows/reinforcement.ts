import type { ArtifactRef, Metrics, StageResult } from './contract/index.js';
import { call } from './lib/activities.js';
import { stageInput, StageRun } from './lib/stage.js';

/** RL rounds, one after the other; each is plan, rollouts, verdicts and scores, rewards, policy, found again by their keys. */
export async function reinforcement(input: unknown): Promise<StageResult> {
  const run = new StageRun('reinforcement');
  const { inputs, config } = await stageInput('reinforcement', input);
  const { questions } = inputs;
  const programs = config.questions === 'hard' ? inputs.programs : undefined;
  const { reward, rounds, execution } = config;
  const reference = inputs.policy;
  let policy: ArtifactRef = inputs.policy;
  let metrics: Metrics = {};
  let anyNew = false;
  let by: string | undefined;
  const policies: ArtifactRef[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    await run.progress({ done: round - 1, total: rounds, unit: 'rounds' });
    await run.gate();
    const doing = (summary: string) => ({ deviceClass: execution.deviceClass, summary: `round ${round}: ${summary}` });
    const { ref: plan } = await call('reinforcement.plan', doing('plan'), { config, round, inputs: { questions, programs } });
    const { ref: rollouts } = await run.interruptible(() => call('reinforcement.rollouts', doing('rollouts'), { config, round, inputs: { plan, policy } }));
    const [verdicts, scores] = await Promise.all([
      reward.testsWeight > 0 ? call('reinforcement.judge', doing('run programs'), { config, round, inputs: { plan, rollouts } }) : undefined,
      reward.rewardModelWeight > 0 ? call('reinforcement.score', doing('score'), { config, round, inputs: { plan, rollouts, rewardModel: inputs.rewardModel! } }) : undefined,
    ]);
    const { ref: rewards } = await call('reinforcement.reward', doing('rewards'), {
      config, round, inputs: { rollouts, verdicts: verdicts?.ref, scores: scores?.ref, rewardModel: scores ? inputs.rewardModel : undefined },
    });
    const current = policy;
    const updated = await run.interruptible(() => call('reinforcement.update', doing('policy update'), { config, round, inputs: { policy: current, reference, rollouts, rewards } }));
    policy = updated.ref;
    metrics = updated.metrics;
    anyNew ||= !updated.reused;
    by = updated.by;
    policies.push(policy);
  }
  await run.progress({ done: rounds, total: rounds, unit: 'rounds' });
  return run.finish({ ref: policy, reused: !anyNew, ...(by === undefined || anyNew ? {} : { by }), metrics, rounds: policies });
}
