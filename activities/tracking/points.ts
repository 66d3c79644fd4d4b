/**
 * Curves of an experiment as points that trackers take: name, step, value, time. They come from what stages have
 * stored, so that a tracker that is away never stands in the way of a training, and nothing is lost to it. Pure.
 */
import { z } from 'zod';
import {
  metricsOf,
  STAGES,
  type Manifest,
  type RoundCurriculum,
  type StageName,
} from '../../workflows/contract/index.js';

export interface Point {
  /** Such as `reinforcement/reward`. */
  tag: string;
  step: number;
  value: number;
  /** Seconds since 1970. A step of a training has the share of its stage's time that the step is of all steps. */
  time: number;
}

/** Manifests that points come from: those of stages that have ended, and of the rounds so far, oldest first. */
export interface Tracked {
  stages: Readonly<Partial<Record<StageName, Manifest>>>;
  rounds: readonly Manifest[];
}

/**
 * All points, in the order of the chain and within a tag by step. Equal artifacts give equal points.
 *
 * @example
 * pointsOf({ stages: {}, rounds }).find(({ tag }) => tag === 'reinforcement/reward')?.step; // 1
 */
export function pointsOf({ stages, rounds }: Tracked): Point[] {
  return STAGES.flatMap((stage) => {
    // Rounds are there before their stage has ended.
    if (stage === 'reinforcement') return rounds.flatMap(trained);
    const manifest = stages[stage];
    return manifest ? (POINTS[stage] ?? trainingOf(stage))(manifest) : [];
  });
}

/** Stages with points of their own kind; of any other one, the loss of its training. */
const POINTS: Readonly<Partial<Record<StageName, (manifest: Manifest) => Point[]>>> = {
  filtering: filtered,
  sampling: sampled,
  preferences: (manifest) => [single('preferences/pairs', manifest, metricsOf('preferences', manifest).pairs)],
  rewardModel: rewarded,
  evaluation: evaluated,
};

/** What a training says of itself, whatever stage it is. */
const Training = z.object({ curve: z.array(z.object({ step: z.number(), loss: z.number() })) });

function trainingOf(stage: StageName): (manifest: Manifest) => Point[] {
  return (manifest) => curve(stage, manifest, Training.safeParse(manifest.metrics).data?.curve ?? []);
}

const endOf = ({ createdAt }: Manifest): number => Date.parse(createdAt) / 1000;

function single(tag: string, manifest: Manifest, value: number, step = 0): Point {
  return { tag, step, value, time: endOf(manifest) };
}

function filtered(manifest: Manifest): Point[] {
  const { questions, testCases, keptTestCases } = metricsOf('filtering', manifest);
  return [
    single('filtering/questions', manifest, questions),
    single('filtering/keptTestCases', manifest, keptTestCases),
    single('filtering/keptShare', manifest, testCases === 0 ? 0 : keptTestCases / testCases),
  ];
}

function sampled(manifest: Manifest): Point[] {
  return [single('sampling/programs', manifest, metricsOf('sampling', manifest).programs)];
}

function curve(stage: string, manifest: Manifest, steps: readonly { step: number; loss: number }[]): Point[] {
  const last = steps.at(-1)?.step ?? 1;
  const end = endOf(manifest);
  return steps.map(({ step, loss }) => ({
    tag: `${stage}/loss`,
    step,
    value: loss,
    time: end - manifest.seconds * (1 - step / last),
  }));
}

function rewarded(manifest: Manifest): Point[] {
  const { curve: steps, heldOutAccuracy, baselineAccuracy } = metricsOf('rewardModel', manifest);
  const accuracies: [number, number | null][] = [
    [0, baselineAccuracy],
    [steps.at(-1)?.step ?? 1, heldOutAccuracy],
  ];
  return [
    ...curve('rewardModel', manifest, steps),
    ...accuracies.flatMap(([step, value]) =>
      value === null
        ? []
        : [
            {
              ...single('rewardModel/heldOutAccuracy', manifest, value, step),
              time: endOf(manifest) - (step === 0 ? manifest.seconds : 0),
            },
          ],
    ),
  ];
}

function trained(manifest: Manifest): Point[] {
  const metrics = metricsOf('reinforcement', manifest);
  const { round, rewardMean, kl, entropy, clipFraction, nonZeroAdvantages, rollouts, trained: used } = metrics;
  const values = {
    ...{ reward: rewardMean, kl, entropy, clipFraction, nonZeroAdvantages, rollouts, trained: used },
    ...(metrics.curriculum ? drawn(metrics.curriculum) : {}),
    ...(metrics.repair ? { firstPass: metrics.repair.firstPass, lastPass: metrics.repair.lastPass } : {}),
  };
  return Object.entries(values).map(([name, value]) => single(`reinforcement/${name}`, manifest, value, round));
}

/** Shares of groups without signal, what drawing again cost, and questions by pool. */
function drawn({
  groups,
  firstWithoutSignal: first,
  withoutSignal: last,
  extraRollouts,
  pools,
}: RoundCurriculum): Record<string, number> {
  return {
    ...{ firstWithoutSignal: first / groups, withoutSignal: last / groups, extraRollouts },
    ...Object.fromEntries(Object.entries(pools).map(([pool, size]) => [`pools/${pool}`, size])),
  };
}

function evaluated(manifest: Manifest): Point[] {
  return metricsOf('evaluation', manifest).results.flatMap(({ benchmark, policy, greedy, mean, passAtK, bestOfN }) => {
    const values: Record<string, number | null> = {
      greedy,
      mean,
      ...Object.fromEntries(Object.entries(passAtK).map(([k, value]) => [`pass@${k}`, value])),
      ...Object.fromEntries(Object.entries(bestOfN).map(([N, value]) => [`Best-of-${N}`, value])),
    };
    return Object.entries(values).flatMap(([name, value]) =>
      value === null ? [] : [single(`evaluation/${benchmark}/${policy}/${name}`, manifest, value)],
    );
  });
}
