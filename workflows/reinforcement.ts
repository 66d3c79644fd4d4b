import { CancellationScope } from '@temporalio/workflow';
import { ActivityFailure, ApplicationFailure } from '@temporalio/common';
import type { ArtifactRef, Metrics, Produced, StageResult } from './contract/index.js';
import { call } from './lib/activities.js';
import { stageInput, StageRun } from './lib/stage.js';

/** What a round prepares for its policy update. */
interface Round {
  rollouts: ArtifactRef;
  rewards: ArtifactRef;
}

/** What a policy update consumes. */
interface UpdateInputs extends Round {
  policy: ArtifactRef;
  reference: ArtifactRef;
}

/** Key of the pruned artifact whose files an activity needed. Undefined for any other error. */
function prunedArtifact(error: unknown): string | undefined {
  const cause = error instanceof ActivityFailure ? error.cause : undefined;
  return cause instanceof ApplicationFailure && cause.type === 'ArtifactPruned'
    ? (cause.details?.[0] as string | undefined)
    : undefined;
}

/**
 * RL rounds. Each is a plan, rollouts, verdicts and scores, rewards and a policy, all found again by their keys.
 *
 * Synchronous rounds follow each other. In asynchronous rounds, the next round's rollouts come from the policy that
 * this round updates, and they are sampled before the update. So a device samples while programs run. With a second
 * device it also samples while the first one trains. The lag is one update from the second round on, never more,
 * because a round is prepared only when the update of the last round but one is done.
 *
 * After a round that is new, the policies that nobody needs any more are pruned, next to the following round's work. A
 * round that the store answers needs no weights. Where another round or the end needs pruned ones, the round that made
 * them runs again.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { reinforcement } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof reinforcement>('reinforcement', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'reinforcement-1',
 *   args: [{
 *     inputs: {
 *       questions: { kind: 'filteredQuestions', path: '/data/questions.jsonl' },
 *       policy: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', revision: 'main' },
 *     },
 *     config: { rounds: 3 },
 *   }],
 * });
 * ```
 */
export async function reinforcement(input: unknown): Promise<StageResult> {
  const run = new StageRun('reinforcement');
  const { inputs, config } = await stageInput('reinforcement', input);
  const { questions } = inputs;
  const programs = config.questions === 'hard' ? inputs.programs : undefined;
  const { reward, rounds, execution, asynchronous, referenceRefresh } = config;
  const doing = (round: number, summary: string) => ({
    deviceClass: execution.deviceClass,
    summary: `round ${round}: ${summary}`,
  });

  let planned: Promise<unknown> = Promise.resolve();
  const prepare = async (round: number, policy: ArtifactRef): Promise<Round> => {
    // The first two rounds begin together. Requests of one workflow task may reach a device in any order. The
    // programs of the round that is trained first could then run last. So a plan waits until the rollouts before it
    // are asked for.
    const planning = planned.then(() =>
      call('reinforcement.plan', doing(round, 'plan'), { config, round, inputs: { questions, programs } }),
    );
    planned = planning.catch(() => undefined);
    const { ref: plan } = await planning;
    const { ref: rollouts } = await withWeights(() =>
      run.interruptible(() =>
        call('reinforcement.rollouts', doing(round, 'rollouts'), { config, round, inputs: { plan, policy } }),
      ),
    );
    const [verdicts, scores] = await Promise.all([
      reward.testsWeight > 0
        ? call('reinforcement.judge', doing(round, 'run programs'), { config, round, inputs: { plan, rollouts } })
        : undefined,
      reward.rewardModelWeight > 0
        ? call('reinforcement.score', doing(round, 'score'), {
            config,
            round,
            inputs: { plan, rollouts, rewardModel: inputs.rewardModel! },
          })
        : undefined,
    ]);
    const { ref: rewards } = await call('reinforcement.reward', doing(round, 'rewards'), {
      config,
      round,
      inputs: {
        rollouts,
        verdicts: verdicts?.ref,
        scores: scores?.ref,
        rewardModel: scores ? inputs.rewardModel : undefined,
      },
    });
    return { rollouts, rewards };
  };
  /** Prepares a round ahead. It may fail before anybody waits for it. */
  const ahead = (round: number, policy: ArtifactRef): Promise<Round> => {
    const prepared = prepare(round, policy);
    prepared.catch(() => undefined);
    return prepared;
  };

  const policies: ArtifactRef[] = [];
  /** What each round's update consumes, to make it again. */
  const updates: UpdateInputs[] = [];
  const madeAgain = new Map<number, Promise<Produced>>();
  const makeAgain = (round: number): Promise<Produced> => {
    const running = madeAgain.get(round) ?? withWeights(() => update(round, true));
    madeAgain.set(round, running);
    return running;
  };
  const update = (round: number, again = false): Promise<Produced> =>
    run.interruptible(() =>
      call('reinforcement.update', doing(round, again ? 'policy update, made again' : 'policy update'), {
        config,
        round,
        inputs: updates[round - 1]!,
        ...(again ? { again } : {}),
      }),
    );
  /** Does work that needs policies. A pruned policy is made again first, from the first round on if it must be. */
  const withWeights = async <T>(work: () => Promise<T>): Promise<T> => {
    const tried = new Set<number>();
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const round = policies.findIndex(({ key }) => key === prunedArtifact(error)) + 1;
        if (round === 0 || tried.has(round)) throw error;
        tried.add(round);
        await makeAgain(round);
      }
    }
  };
  let pruning: Promise<unknown> = Promise.resolve();
  const prune = (needed: ArtifactRef[], done = false): void => {
    const made = [...policies];
    pruning = pruning.then(() =>
      call(
        'reinforcement.prune',
        { summary: `round ${made.length}: prune` },
        { policies: made, needed, keepRounds: execution.keepRounds, done },
      ),
    );
    pruning.catch(() => undefined);
  };
  let policy: ArtifactRef = inputs.policy;
  let reference: ArtifactRef = inputs.policy;
  let next: Promise<Round> | undefined;
  let metrics: Metrics = {};
  let anyNew = false;
  let by: string | undefined;
  const train = async (): Promise<void> => {
    for (let round = 1; round <= rounds; round += 1) {
      await run.progress({ done: round - 1, total: rounds, unit: 'rounds' });
      await run.gate();
      const current = policy;
      if (referenceRefresh !== null && (round - 1) % referenceRefresh === 0) reference = current;
      const prepared = next ?? prepare(round, current);
      next = asynchronous && round < rounds ? ahead(round + 1, current) : undefined;
      const { rollouts, rewards } = await prepared;
      updates.push({ policy: current, reference, rollouts, rewards });
      const updated = await withWeights(() => update(round));
      policy = updated.ref;
      metrics = updated.metrics;
      anyNew ||= !updated.reused;
      by = updated.by;
      policies.push(policy);
      if (updated.pruned && round === rounds) await makeAgain(round);
      if (!updated.reused || round === rounds) prune([reference, ...(next ? [current] : [])], round === rounds);
    }
    await pruning;
  };
  const scope = new CancellationScope();
  try {
    await scope.run(train);
  } catch (error) {
    // A round that is prepared ahead holds a device. It must not go on for a stage that has failed.
    if (next) {
      scope.cancel();
      await CancellationScope.nonCancellable(() => next!.catch(() => undefined));
    }
    throw error;
  }
  await run.progress({ done: rounds, total: rounds, unit: 'rounds' });
  return run.finish({
    ref: policy,
    reused: !anyNew,
    ...(by === undefined || anyNew ? {} : { by }),
    metrics,
    rounds: policies,
  });
}
