/** From the manifests of an experiment's artifacts to `summary.json`. */
import { deviceWaiting, timeLine } from './timeline.js';
import {
  ArtifactRef,
  Counts,
  metricsOf,
  STAGES,
  semanticsOf,
  Summary,
  type Experiment,
  type Manifest,
  type StageMetrics,
  type StageName,
  type StageStatus,
} from '../../workflows/contract/index.js';

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

/** The summary, validated. Every figure is taken from the metrics of the artifact that is named beside it. */
export function summarise(
  { experiment, name, stages, rounds, policy, folders }: SummaryInput,
  manifests: Manifests,
): Summary {
  const refs = Object.fromEntries(
    stages.flatMap(({ name: stage, artifact }) => (artifact ? [[stage, artifact]] : [])),
  ) as Record<StageName, ArtifactRef>;
  const manifestOf = (ref: ArtifactRef): Manifest => {
    const manifest = manifests.get(ref.key);
    if (!manifest) throw new Error(`the manifest of ${ref.key} was not read`);
    return manifest;
  };
  const metrics = <S extends StageName>(stage: S): StageMetrics<S> => metricsOf(stage, manifestOf(refs[stage]));
  const synthesis = metrics('synthesis');
  const filtering = metrics('filtering');
  const sampling = metrics('sampling');
  const preferences = metrics('preferences');
  const rewardModel = metrics('rewardModel');
  const seeds = seedsOf(manifestOf(refs.synthesis));
  const droppedIn = (
    stage: StageName,
    what: Dropped[number]['what'],
    counts: Counts | undefined,
    artifact = refs[stage],
  ): Dropped =>
    Object.entries(counts ?? {})
      .filter(([, count]) => count > 0)
      .map(([reason, count]) => ({ stage, what, reason, count, artifact }));
  const { histogram } = sampling;
  const roundMetrics = rounds.map((artifact) => ({
    artifact,
    values: metricsOf('reinforcement', manifestOf(artifact)),
  }));
  const steps = timeLine(rounds, manifests);
  const weights = (ref: ArtifactRef): string =>
    manifestOf(ref)
      .files.filter(({ name: file }) => file.endsWith('.safetensors') && !file.includes('/'))
      .map(({ sha256 }) => sha256)
      .sort()
      .join();
  return Summary.parse({
    experiment: name,
    state: 'done',
    stages: STAGES.map((stage) => {
      const status = stages.find(({ name: other }) => other === stage)!;
      return {
        name: stage,
        state: status.state,
        seconds: status.seconds ?? 0,
        reused: status.reused ?? false,
        artifact: refs[stage],
      };
    }),
    data: {
      questions: filtering.questions,
      testCases: filtering.testCases,
      keptTestCases: filtering.keptTestCases,
      programs: sampling.programs,
      pairs: preferences.pairs,
      dropped: [
        // What reading a table or a source tree left out stands with the seeds that it gave.
        ...droppedIn('synthesis', 'seed', Counts.optional().parse(manifestOf(seeds).metrics['dropped']), seeds),
        ...droppedIn('synthesis', 'seed', synthesis.droppedSeeds),
        ...droppedIn('synthesis', 'question', synthesis.failures),
        ...droppedIn('synthesis', 'testCase', synthesis.rejectedTests),
        ...droppedIn('filtering', 'testCase', filtering.droppedTestCases),
        ...droppedIn('filtering', 'question', filtering.droppedQuestions),
        ...droppedIn('sampling', 'question', sampling.droppedQuestions),
        ...droppedIn('preferences', 'pair', preferences.skipped),
      ],
      ...(experiment.stages.synthesis.teacher.kind === 'offline'
        ? { filterQuality: filterQuality(filtering.quality) }
        : {}),
    },
    recipe: (['preferences', 'rewardModel', 'reinforcement'] as const).flatMap((stage) =>
      settingsOf(semanticsOf(experiment.stages[stage])).map(([setting, value]) => ({
        stage,
        setting,
        value,
        artifact: refs[stage],
      })),
    ),
    passRateHistogram: histogram.map((programs, bin) => ({ from: bin / 10, to: (bin + 1) / 10, programs })),
    rewardModel: {
      pairs: rewardModel.pairs,
      heldOutAccuracy: rewardModel.heldOutAccuracy,
      heldOutPairs: rewardModel.heldOutPairs,
      heldOutQuestions: rewardModel.heldOutQuestions,
      interval95: rewardModel.interval95,
      baselineAccuracy: rewardModel.baselineAccuracy,
      calibration: rewardModel.calibration,
      curve: rewardModel.curve,
    },
    reinforcement: {
      rounds: roundMetrics.map(({ artifact, values }, at) => ({
        round: values.round,
        reward: values.rewardMean,
        kl: values.kl,
        entropy: values.entropy,
        clipFraction: values.clipFraction,
        nonZeroAdvantages: values.nonZeroAdvantages,
        rollouts: values.rollouts,
        trained: values.trained,
        dropped: values.dropped,
        steps: steps[at],
        artifact,
      })),
      deviceWaiting: deviceWaiting(steps),
    },
    evaluation: metrics('evaluation').results,
    cost: {
      teacher: experiment.stages.synthesis.teacher.kind,
      currency: 'USD',
      amount: [synthesis, filtering, sampling].reduce((sum, { costUsd }) => sum + (costUsd ?? 0), 0),
    },
    models: [
      { name: 'policy', artifact: refs.reinforcement, folder: folders['policy'] ?? '' },
      { name: 'rewardModel', artifact: refs.rewardModel, folder: folders['rewardModel'] ?? '' },
    ],
    assertions: [
      { text: 'preference pairs exist', ok: preferences.pairs > 0 },
      {
        text: "the trained policy's weights differ from the initial policy's",
        ok: weights(refs.reinforcement) !== weights(policy),
      },
      {
        text: "the reward model's weights differ from the initial policy's",
        ok: weights(refs.rewardModel) !== weights(policy),
      },
      { text: 'some advantages are not zero', ok: roundMetrics.some(({ values }) => values.nonZeroAdvantages > 0) },
      {
        text: 'programs of different pass rates were sampled',
        ok: histogram.filter((programs) => programs > 0).length > 1,
      },
    ],
  });
}

/** The seeds that questions were made of. */
export function seedsOf({ inputs }: Manifest): ArtifactRef {
  return ArtifactRef.parse(inputs['seeds']);
}

/** The settings of a stage by their paths, without those that only divide the work. */
function settingsOf(config: object, path = ''): [string, string | number | boolean | null][] {
  return Object.entries(config).flatMap(([name, value]: [string, unknown]) => {
    if (value === undefined || (path === '' && (name === 'shardSize' || name === 'salt'))) return [];
    return typeof value === 'object' && value !== null
      ? settingsOf(value, `${path}${name}.`)
      : [[path + name, value as string | number | boolean | null]];
  });
}

type Dropped = Summary['data']['dropped'];

function filterQuality({
  corrupted,
  droppedTestCases,
  droppedCorrupted,
}: StageMetrics<'filtering'>['quality']): Summary['data']['filterQuality'] {
  return { injected: corrupted, dropped: droppedTestCases, droppedInjected: droppedCorrupted };
}
