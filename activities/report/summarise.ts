/** From the manifests of an experiment's artifacts to `summary.json`. */
import {
  ArtifactRef,
  Counts,
  metricsOf,
  semanticsOf,
  stagesOf,
  Summary,
  TRAINED,
  TEACHERS,
  type Experiment,
  type Manifest,
  type StageMetrics,
  type StageName,
  type StageStatus,
} from '../../workflows/contract/index.js';
import { deviceWaiting, timeLine } from './timeline.js';

export interface SummaryInput {
  experiment: Experiment;
  /** Workflow id of the run. */
  name: string;
  stages: StageStatus[];
  /** Policies of the RL rounds, oldest first. */
  rounds: ArtifactRef[];
  policy: ArtifactRef;
  /** Folders on this host that hold the trained models, by name. */
  folders: Record<string, string>;
}

/** Manifests by artifact key. */
export type Manifests = ReadonlyMap<string, Manifest>;

/** What the parts of the summary read. */
interface Sources {
  manifests: Manifests;
  /** Artifact of each stage. */
  refs: Record<StageName, ArtifactRef>;
  metrics: { [S in StageName]: StageMetrics<S> };
}

/**
 * The summary, validated. Every figure comes from the metrics of the artifact that is named next to it.
 *
 * @throws ZodError that names a figure which is missing.
 */
export function summarise(input: SummaryInput, manifests: Manifests): Summary {
  const { experiment, name, stages, rounds, folders } = input;
  const refs = Object.fromEntries(
    stages.flatMap(({ name: stage, artifact }) => (artifact ? [[stage, artifact]] : [])),
  ) as Record<StageName, ArtifactRef>;
  const ran = stagesOf(experiment.stages);
  const metrics = Object.fromEntries(
    ran.map((stage) => [stage, metricsOf(stage, manifestOf(manifests, refs[stage]))]),
  ) as Sources['metrics'];
  const sources: Sources = { manifests, refs, metrics };
  const { teacher } = experiment.stages.synthesis;
  return Summary.parse({
    experiment: name,
    state: 'done',
    stages: ran.map((stage) => {
      const { state, seconds = 0, reused = false } = stages.find(({ name: other }) => other === stage)!;
      return { name: stage, state, seconds, reused, artifact: refs[stage] };
    }),
    data: dataOf(sources, teacher.kind),
    recipe: recipeOf(experiment, refs),
    passRateHistogram: metrics.sampling.histogram.map((programs, bin) => ({
      from: bin / 10,
      to: (bin + 1) / 10,
      programs,
    })),
    rewardModel: rewardModelOf(metrics.rewardModel),
    reinforcement: reinforcementOf(rounds, manifests),
    evaluation: metrics.evaluation.results,
    comparisons: metrics.evaluation.comparisons,
    cost: {
      teacher: teacher.kind,
      currency: 'USD',
      amount: [metrics.synthesis, metrics.filtering, metrics.sampling].reduce(
        (sum, { costUsd = 0 }) => sum + costUsd,
        0,
      ),
    },
    models: TRAINED.filter(({ name: stage }) => ran.includes(stage)).map(({ name: stage, model }) => ({
      name: model,
      artifact: refs[stage],
      folder: folders[model] ?? '',
    })),
    assertions: assertionsOf(input, sources),
  });
}

function manifestOf(manifests: Manifests, ref: ArtifactRef): Manifest {
  const manifest = manifests.get(ref.key);
  if (!manifest) throw new Error(`the manifest of ${ref.key} was not read`);
  return manifest;
}

type Dropped = Summary['data']['dropped'];

function dataOf({ manifests, refs, metrics }: Sources, teacher: string): Summary['data'] {
  const { synthesis, filtering, sampling, preferences, evaluation } = metrics;
  const synthesised = manifestOf(manifests, refs.synthesis);
  const seeds = seedsOf(synthesised);
  const droppedSeeds = Counts.optional().parse(manifestOf(manifests, seeds).metrics['dropped']);
  const dropped = (
    stage: StageName,
    what: Dropped[number]['what'],
    counts: Counts = {},
    artifact = refs[stage],
  ): Dropped =>
    Object.entries(counts)
      .filter(([, count]) => count > 0)
      .map(([reason, count]) => ({ stage, what, reason, count, artifact }));
  const { corrupted, droppedTestCases, droppedCorrupted } = filtering.quality;
  return {
    questions: filtering.questions,
    testCases: filtering.testCases,
    keptTestCases: filtering.keptTestCases,
    programs: sampling.programs,
    pairs: preferences.pairs,
    dropped: [
      // What reading a table or a source tree left out is told with the seeds that it gave.
      ...dropped('synthesis', 'seed', droppedSeeds, seeds),
      ...dropped('synthesis', 'seed', synthesis.droppedSeeds),
      ...dropped('synthesis', 'question', synthesis.failures),
      ...dropped('synthesis', 'testCase', synthesis.rejectedTests),
      ...dropped('filtering', 'testCase', filtering.droppedTestCases),
      ...dropped('filtering', 'question', filtering.droppedQuestions),
      ...dropped('sampling', 'question', sampling.droppedQuestions),
      ...dropped('sampling', 'program', sampling.droppedPrograms),
      ...dropped('preferences', 'pair', preferences.skipped),
      ...dropped('evaluation', 'task', evaluation.droppedTasks),
    ],
    // The errors of other teachers are not known.
    ...(TEACHERS.named(teacher).injectsErrors
      ? { filterQuality: { injected: corrupted, dropped: droppedTestCases, droppedInjected: droppedCorrupted } }
      : {}),
  };
}

function recipeOf({ stages }: Experiment, refs: Sources['refs']): Summary['recipe'] {
  return (['preferences', 'rewardModel', 'reinforcement'] as const).flatMap((stage) =>
    settingsOf(semanticsOf(stages[stage])).map(([setting, value]) => ({
      stage,
      setting,
      value,
      artifact: refs[stage],
    })),
  );
}

function rewardModelOf({
  pairs,
  heldOutAccuracy,
  heldOutPairs,
  heldOutQuestions,
  interval95,
  baselineAccuracy,
  calibration,
  curve,
}: StageMetrics<'rewardModel'>): Summary['rewardModel'] {
  return {
    pairs,
    heldOutAccuracy,
    heldOutPairs,
    heldOutQuestions,
    interval95,
    baselineAccuracy,
    calibration,
    curve,
  };
}

function reinforcementOf(rounds: readonly ArtifactRef[], manifests: Manifests): Summary['reinforcement'] {
  const steps = timeLine(rounds, manifests);
  return {
    rounds: rounds.map((artifact, at) => {
      const metrics = metricsOf('reinforcement', manifestOf(manifests, artifact));
      const { round, rewardMean, kl, entropy, clipFraction, nonZeroAdvantages, rollouts, trained, dropped } = metrics;
      return {
        round,
        reward: rewardMean,
        kl,
        entropy,
        clipFraction,
        nonZeroAdvantages,
        rollouts,
        trained,
        dropped,
        steps: steps[at]!,
        artifact,
      };
    }),
    deviceWaiting: deviceWaiting(steps),
  };
}

/** What makes the run a real one. */
function assertionsOf({ rounds, policy }: SummaryInput, { manifests, refs, metrics }: Sources): Summary['assertions'] {
  const weights = (ref: ArtifactRef): string =>
    manifestOf(manifests, ref)
      .files.filter(({ name: file }) => file.endsWith('.safetensors') && !file.includes('/'))
      .map(({ sha256 }) => sha256)
      .sort()
      .join();
  const advantages = rounds.map((ref) => metricsOf('reinforcement', manifestOf(manifests, ref)).nonZeroAdvantages);
  return [
    { text: 'preference pairs exist', ok: metrics.preferences.pairs > 0 },
    {
      text: "the trained policy's weights differ from the initial policy's",
      ok: weights(refs.reinforcement) !== weights(policy),
    },
    {
      text: "the reward model's weights differ from the initial policy's",
      ok: weights(refs.rewardModel) !== weights(policy),
    },
    { text: 'some advantages are not zero', ok: advantages.some((number) => number > 0) },
    {
      text: 'programs of different pass rates were sampled',
      ok: metrics.sampling.histogram.filter((programs) => programs > 0).length > 1,
    },
  ];
}

/** The seeds that questions were made of. */
export function seedsOf({ inputs }: Manifest): ArtifactRef {
  return ArtifactRef.parse(inputs['seeds']);
}

/** The settings of a stage by their paths, except those that only divide the work. */
function settingsOf(config: object, path = ''): [string, string | number | boolean | null][] {
  return Object.entries(config).flatMap(([name, value]: [string, unknown]) => {
    if (value === undefined || (path === '' && (name === 'shardSize' || name === 'salt'))) return [];
    return typeof value === 'object' && value !== null
      ? settingsOf(value, `${path}${name}.`)
      : [[path + name, value as string | number | boolean | null]];
  });
}
