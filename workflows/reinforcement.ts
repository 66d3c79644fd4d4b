import { CancellationScope, continueAsNew } from '@temporalio/workflow';
import { ActivityFailure, ApplicationFailure } from '@temporalio/common';
import {
  PolicyTrained,
  RoundCurriculum,
  RoundRepair,
  roundSettings,
  RoundWatch,
  type ArtifactRef,
  type GangMember,
  type Metrics,
  type Produced,
  type StageResult,
  type StepCounts,
} from './contract/index.js';
import { call } from './lib/activities.js';
import { byGang } from './lib/gang.js';
import { onSignal, policyTrainedSignal } from './lib/messages.js';
import type { UpdateInput } from '../activities/reinforcement/activities.js';
import { carriedOver, historyIsLong, stageInput, StageRun } from './lib/stage.js';
import { alarmOf, alarmText, type SeenRound } from './reward-alarm.js';

/** What a round prepares for its policy update. */
interface Round {
  rollouts: ArtifactRef;
  rewards: ArtifactRef;
}

/** Answers to a plan, with what was made of them. */
interface Answered {
  plan: ArtifactRef;
  rollouts: ArtifactRef;
  verdicts: ArtifactRef | undefined;
  scores: ArtifactRef | undefined;
}

/** A draw of a round's questions, with what was made of it. */
type Draw = Answered & Round;

/** What the watch for reward hacking keeps from round to round. */
interface Watching {
  /** The last rounds, as many as an alarm reads. */
  seen: SeenRound[];
  /** Rewards of the first round with scores and verdicts: what the reward model promises was fitted to it. */
  calibrated?: ArtifactRef;
}

/**
 * Where a stage of many rounds stands, carried over a continue-as-new. It does not grow with the rounds: each policy's
 * manifest names the policy before it.
 */
interface Carry {
  /** The round to do next. */
  round: number;
  policy: ArtifactRef;
  reference: ArtifactRef;
  /** That round, where it was prepared ahead. */
  prepared?: Round;
  /** Where pruning goes on. */
  pruned: { from: number; held: ArtifactRef[] };
  metrics: Metrics;
  anyNew: boolean;
  by?: string;
  /** Absent in what a run of version 0.1.0 carried over. */
  steps?: StepCounts;
  /** Where rounds are watched. */
  watching?: Watching;
  /** Where rounds have a curriculum: the last draw, whose plan says what is known of every question. */
  drawn?: Pick<Draw, 'plan' | 'rewards'>;
}

/** What the details say of the draws of a round. */
function curriculumText(
  round: number,
  { groups, firstWithoutSignal, withoutSignal, draws, extraRollouts, pools }: RoundCurriculum,
): string {
  const again = draws > 1 ? `, ${withoutSignal} after ${draws - 1} more draws of ${extraRollouts} rollouts` : '';
  const sizes = Object.entries(pools).map(([pool, size]) => `${size} ${pool}`);
  return `round ${round}: ${firstWithoutSignal} of ${groups} groups without signal${again}; ${sizes.join(', ')}`;
}

/** What the details say of the repair turns of a round. */
function repairText(round: number, { firstPass, lastPass, repairs, repaired }: RoundRepair): string {
  const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
  return (
    `round ${round}: ${percent(firstPass)} pass at first, ${percent(lastPass)} in the end; ` +
    `${repaired} of ${repairs} repairs pass`
  );
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
 * While a trained policy is on its way to the store, its host samples the next round already.
 *
 * A long history goes on as a new run between two rounds, so that the number of rounds has no limit.
 *
 * After a round that is new, the policies that nobody needs any more are pruned, next to the following round's work. A
 * round that the store answers needs no weights. Where another round or the end needs pruned ones, the round that made
 * them runs again.
 *
 * With a curriculum, a round's plan follows from the plan of the round before and from its rewards. Where groups without
 * signal are drawn again, a round has several draws, each with the artifacts of the whole round.
 *
 * With repair turns, programs that failed get feedback and are sampled again, before the rewards of the round. Each turn
 * has the artifacts of the whole round too.
 *
 * Settings may change from a round on. Every step works by those of its round, so that earlier rounds keep their keys.
 *
 * Where rounds are watched for reward hacking, an alarm ends the stage before it trains on that round. With a decision
 * about the alarm in the settings, the stage goes on from there.
 *
 * Where adapters are trained, the policy of a round is its adapters, and the stage ends with the last ones merged into
 * the model below them.
 *
 * With a gate, the card of the reward model is looked at before anything is trained.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input, `RewardModelRefused` by the gate, or
 *   `RewardHacked` with the round.
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
export async function reinforcement(input: unknown, given?: Carry): Promise<StageResult> {
  const carry = carriedOver(given);
  const run = new StageRun('reinforcement');
  const { inputs, config, settings } = await stageInput('reinforcement', input, carry !== undefined);
  const { questions, hardened } = inputs;
  const { rounds, execution, asynchronous, referenceRefresh, watch, curriculum, repair } = config;
  const { rewardModelGate: gate } = config;
  if (gate && carry === undefined)
    await call(
      'reinforcement.gate',
      { summary: 'gate of the reward model' },
      { gate, card: inputs.rewardModelCard!, rewardModel: inputs.rewardModel! },
    );
  const doing = (round: number, summary: string) => ({
    deviceClass: execution.deviceClass,
    summary: `round ${round}: ${summary}`,
  });

  const steps: StepCounts = carry?.steps ?? {};
  /** Counts whether the store answered a step of a round. */
  const counted = (step: string, round: number, produced: Produced): Produced => {
    const { reused = 0, made = 0, madeFrom } = steps[step] ?? {};
    steps[step] = produced.reused
      ? { reused: reused + 1, made, ...(madeFrom === undefined ? {} : { madeFrom }) }
      : { reused, made: made + 1, madeFrom: Math.min(round, madeFrom ?? round) };
    return produced;
  };

  /** Calls that run next to another one of their round. Where that one fails, nobody waits for them. */
  const besides = new Set<Promise<unknown>>();
  const beside = <T>(work: Promise<T>): Promise<T> => {
    const ended = (): boolean => besides.delete(work);
    besides.add(work);
    work.then(ended, ended);
    return work;
  };

  /** The round that was prepared before; absent: nobody waits for it. */
  let before: Promise<Round> | undefined;
  /** Until the rollouts of the round before are asked for. */
  let asked = Promise.resolve();
  const prepare = (round: number, policy: ArtifactRef): Promise<Round> => {
    const prepared = curriculum ? redrawing(round, policy, before) : drawing(round, policy, before);
    // Rewards of a watched round read what the watch saw before, whatever the speed of either round.
    if (watch) before = prepared;
    return prepared;
  };
  /** Draws a round's questions until no group is left to replace. */
  const redrawing = async (round: number, policy: ArtifactRef, before: Promise<Round> | undefined): Promise<Round> => {
    let draw = await drawing(round, policy, before);
    for (let number = 1; draw.incomplete; number += 1) {
      await run.gate();
      draw = await drawing(round, policy, before, { ...draw.incomplete, number });
    }
    return draw;
  };
  /** The last draw of all. What it made of questions that stay in the round is taken over by the next one. */
  let drawn = carry?.drawn;
  const planned = (round: number, summary: string, isFirst: boolean): Promise<Produced> => {
    const programs = config.questions === 'hard' || (curriculum && isFirst) ? inputs.programs : undefined;
    const earlier = drawn ? { earlier: drawn.plan, rewards: drawn.rewards } : {};
    return call('reinforcement.plan', doing(round, summary), {
      config,
      round,
      inputs: { questions, programs, hardened, ...earlier },
    });
  };
  const drawing = async (
    round: number,
    policy: ArtifactRef,
    before: Promise<Round> | undefined,
    again?: Draw & { number: number },
  ): Promise<Round & { incomplete?: Draw }> => {
    const named = (what: string): string => (again ? `${what}, drawn again ${again.number}` : what);
    const isFirst = drawn === undefined;
    // The first two rounds begin together. Requests of one workflow task may reach a device in any order. The
    // programs of the round that is trained first could then run last. So a plan waits until the rollouts before it
    // are asked for, also where a pause keeps them.
    const planning = asked.then(() => planned(round, named('plan'), isFirst));
    let tellAsked = (): void => undefined;
    asked = new Promise((resolve) => {
      tellAsked = resolve;
    });
    planning.catch(tellAsked);
    const { reward } = roundSettings(config, round);
    const { ref: plan } = counted('plan', round, await planning);
    let turn = await answered(round, { plan, policy, earlier: again, tellAsked }, named);
    for (let number = 2; number <= (repair?.turns ?? 1); number += 1) {
      const repairing = (what: string): string => `${what}, turn ${number}`;
      const feedback = await mended(round, turn, repairing);
      if (!feedback) break;
      turn = await answered(round, { plan: feedback, policy, earlier: turn }, repairing);
    }
    const { rollouts, verdicts, scores } = turn;
    if (before) await before;
    const rewarded = await call('reinforcement.reward', doing(round, named('rewards')), {
      config,
      round,
      inputs: {
        ...{ rollouts, verdicts, scores },
        rewardModel: scores ? inputs.rewardModel : undefined,
        verifiers: reward.verifier ? inputs.verifiers : undefined,
        plan: watch || curriculum ? plan : undefined,
        calibrated: watching.calibrated,
      },
    });
    const { ref: rewards } = counted('reward', round, rewarded);
    if (watch) look(round, watch, rewarded);
    const said = (message: string) => run.progress({ done: round - 1, total: rounds, unit: 'rounds', message });
    if (repair) await said(repairText(round, RoundRepair.parse(rewarded.metrics['repair'])));
    if (!curriculum) return { rollouts, rewards };
    drawn = { plan, rewards };
    const told = RoundCurriculum.parse(rewarded.metrics['curriculum']);
    await said(curriculumText(round, told));
    if (told.replace === 0) return { rollouts, rewards };
    return { rollouts, rewards, incomplete: { ...turn, rewards } };
  };
  /** The plan of the next turn: feedback on the programs that failed. Undefined where there are none. */
  const mended = async (
    round: number,
    { plan, rollouts, verdicts }: Answered,
    named: (what: string) => string,
  ): Promise<ArtifactRef | undefined> => {
    const produced = await call('reinforcement.repair', doing(round, named('feedback')), {
      config,
      round,
      inputs: { plan, rollouts, verdicts: verdicts! },
    });
    const { ref, metrics } = counted('repair', round, produced);
    return metrics['asked'] === 0 ? undefined : ref;
  };
  /** Answers to a plan, with their verdicts and scores. What `earlier` has of them is taken over. */
  const answered = async (
    round: number,
    given: { plan: ArtifactRef; policy: ArtifactRef; earlier?: Answered | undefined; tellAsked?: () => void },
    named: (what: string) => string,
  ): Promise<Answered> => {
    const { plan, policy, earlier: again, tellAsked = () => undefined } = given;
    const { reward } = roundSettings(config, round);
    const isJudged = reward.testsWeight > 0 || watch !== undefined;
    const takenOver = (earlier: ArtifactRef | undefined) => (earlier ? { earlier } : {});
    // What was sampled ahead is in the store then.
    if (early?.round === round) await early.ended;
    const sampling = withWeights(() =>
      run.interruptible(() => {
        const calling = call('reinforcement.rollouts', doing(round, named('rollouts')), {
          config,
          round,
          inputs: { plan, policy, ...takenOver(again?.rollouts) },
        });
        tellAsked();
        return calling;
      }),
    );
    // A cancellation that comes together with the plan leaves nothing to ask for, and the next round waits for that.
    sampling.catch(tellAsked);
    const { ref: rollouts } = counted('rollouts', round, await sampling);
    const [verdicts, scores] = await Promise.all([
      isJudged
        ? beside(
            call('reinforcement.judge', doing(round, named('run programs')), {
              config,
              round,
              inputs: { plan, rollouts, ...takenOver(again?.verdicts) },
            }),
          )
        : undefined,
      reward.rewardModelWeight > 0
        ? beside(
            call('reinforcement.score', doing(round, named('score')), {
              config,
              round,
              inputs: { plan, rollouts, rewardModel: inputs.rewardModel!, ...takenOver(again?.scores) },
            }),
          )
        : undefined,
    ]);
    if (verdicts) counted('judge', round, verdicts);
    if (scores) counted('score', round, scores);
    return { plan, rollouts, verdicts: verdicts?.ref, scores: scores?.ref };
  };
  const watching: Watching = carry?.watching ?? { seen: [] };
  /** Takes what was seen of a round. @throws ApplicationFailure `RewardHacked` where it is an alarm. */
  const look = (round: number, rule: NonNullable<typeof watch>, { ref, metrics }: Produced): void => {
    const seen = RoundWatch.parse(metrics['watch']);
    if (seen.rewardModelGap) watching.calibrated ??= ref;
    const { gap, rewardModelGap } = seen;
    watching.seen.push({ round, ...(gap ? { gap } : {}), ...(rewardModelGap ? { rewardModelGap } : {}) });
    watching.seen = watching.seen.slice(-rule.rounds);
    const alarm = alarmOf(watching.seen, rule);
    if (alarm)
      throw ApplicationFailure.create({
        type: 'RewardHacked',
        message: alarmText(round, alarm, rule, seen),
        nonRetryable: true,
        details: [round],
      });
  };
  /** Prepares a round ahead. It may fail before anybody waits for it. */
  const ahead = (round: number, policy: ArtifactRef): Promise<Round> => {
    const prepared = prepare(round, policy);
    prepared.catch(() => undefined);
    return prepared;
  };

  const scope = new CancellationScope();
  /** The round whose update runs. */
  let training: number | undefined;
  /** The newest sampling that began before its policy was in the store, and whether it made the rollouts. */
  let early: { round: number; ended: Promise<boolean> } | undefined;
  // The worker that has trained a policy samples the next round from it while the policy is on its way to the store. That
  // round finds the rollouts by their key. Where they are not there, it samples as ever.
  onSignal(policyTrainedSignal, PolicyTrained, ({ round, name }) => {
    const next = round + (asynchronous ? 2 : 1);
    if (round !== training || next > rounds) return;
    const before = early?.round === next ? early.ended : undefined;
    const sampling = async (): Promise<boolean> => {
      // Another attempt at the update has told of its policy, too.
      if (await before) return true;
      const { ref: plan } = await planned(next, 'plan', drawn === undefined);
      const options = { ...doing(next, 'rollouts, while the policy is stored'), once: true };
      const { sampled } = await run.interruptible(() =>
        call('reinforcement.ahead', options, { config, round: next, name, inputs: { plan } }),
      );
      return sampled;
    };
    early = { round: next, ended: scope.run(sampling).catch(() => false) };
  });

  /** A policy update, on one host or on several together. */
  const updating = (summary: string, input: UpdateInput): Promise<Produced> => {
    const { deviceClass, hosts, hostsWaitSeconds: waitSeconds } = settings.execution();
    const asking = (gang?: GangMember): Promise<Produced> =>
      call(
        'reinforcement.update',
        { deviceClass, summary, gang },
        { ...input, ...(gang ? { gang } : {}) },
      ) as Promise<Produced>;
    return hosts === 1 ? asking() : byGang({ members: hosts, waitSeconds, progress: () => run.done }, asking);
  };
  const madeAgain = new Map<string, Promise<Produced>>();
  const makeAgain = (policy: string): Promise<Produced> => {
    const running =
      madeAgain.get(policy) ??
      withWeights(() => run.interruptible(() => updating('policy update, made again', { config, again: policy })));
    madeAgain.set(policy, running);
    return running;
  };
  const update = (round: number, consumed: Round & { policy: ArtifactRef; reference: ArtifactRef }) =>
    run.interruptible(() => updating(`round ${round}: policy update`, { config, round, inputs: consumed }));
  /** Does work that needs policies. A pruned policy is made again first, from the first round on if it must be. */
  const withWeights = async <T>(work: () => Promise<T>): Promise<T> => {
    const tried = new Set<string>();
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const policy = prunedArtifact(error);
        // What no round of this stage made, its activity refuses to make.
        if (policy === undefined || tried.has(policy)) throw error;
        tried.add(policy);
        await makeAgain(policy);
      }
    }
  };
  let { from, held } = carry?.pruned ?? { from: 1, held: [] };
  let pruning: Promise<unknown> = Promise.resolve();
  const prune = (round: number, newest: ArtifactRef, needed: ArtifactRef[]): void => {
    pruning = pruning.then(async () => {
      const pruned = await call(
        'reinforcement.prune',
        { summary: `round ${round}: prune` },
        { newest, from, held, needed, keepRounds: execution.keepRounds, done: round === rounds },
      );
      ({ from, held } = pruned);
    });
    pruning.catch(() => undefined);
  };
  let policy: ArtifactRef = carry?.policy ?? inputs.policy;
  let reference: ArtifactRef = carry?.reference ?? inputs.policy;
  let next: Promise<Round> | undefined = carry?.prepared && Promise.resolve(carry.prepared);
  let metrics: Metrics = carry?.metrics ?? {};
  let anyNew = carry?.anyNew ?? false;
  let by = carry?.by;
  const train = async (): Promise<void> => {
    for (let round = carry?.round ?? 1; round <= rounds; round += 1) {
      await run.progress({ done: round - 1, total: rounds, unit: 'rounds' });
      await run.gate();
      if (historyIsLong()) {
        const prepared = await next;
        await early?.ended;
        await pruning;
        // A continued run knows of no pause: it starts when the pause is over.
        await run.gate();
        await continueAsNew({ inputs, config }, {
          ...{ round, policy, reference, metrics, anyNew, pruned: { from, held }, steps },
          ...(prepared ? { prepared } : {}),
          ...(watch ? { watching } : {}),
          ...(drawn ? { drawn } : {}),
          ...(by === undefined ? {} : { by }),
        } satisfies Carry);
      }
      const current = policy;
      if (referenceRefresh !== null && (round - 1) % referenceRefresh === 0) reference = current;
      const prepared = next ?? prepare(round, current);
      next = asynchronous && round < rounds ? ahead(round + 1, current) : undefined;
      const consumed = { policy: current, reference, ...(await prepared) };
      training = round;
      const updated = counted('update', round, await withWeights(() => update(round, consumed)));
      training = undefined;
      policy = updated.ref;
      metrics = updated.metrics;
      anyNew ||= !updated.reused;
      by = updated.by;
      if (updated.pruned && round === rounds) await makeAgain(policy.key);
      if (!updated.reused || round === rounds) prune(round, policy, [reference, ...(next ? [current] : [])]);
    }
    await pruning;
  };
  try {
    await scope.run(train);
  } catch (error) {
    // A round that is prepared or sampled ahead holds a device. It must not go on for a stage that has failed. What is cancelled
    // is waited for: what it still asks for comes before the end of the run, or the server refuses both.
    if (next || early) {
      scope.cancel();
      await CancellationScope.nonCancellable(() => Promise.allSettled([next, early?.ended, ...besides]));
    }
    throw error;
  }
  await run.progress({ done: rounds, total: rounds, unit: 'rounds' });
  if (config.algorithm.lora) {
    const inputs = { policy, reference };
    const merged = await withWeights(() =>
      run.interruptible(() =>
        call('reinforcement.merge', doing(rounds, 'merge the adapters'), { config, round: rounds, inputs }),
      ),
    );
    policy = counted('merge', rounds, merged).ref;
    anyNew ||= !merged.reused;
  }
  return run.finish({
    ref: policy,
    reused: !anyNew,
    ...(by === undefined || anyNew ? {} : { by }),
    metrics,
    steps,
  });
}
