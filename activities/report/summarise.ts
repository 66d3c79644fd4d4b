/** From the manifests of an experiment's artifacts to what its report says, and to `summary.json`. */
import {
  ArtifactRef,
  Counts,
  metricsOf,
  POLICIES,
  semanticsOf,
  stagesOf,
  Summary,
  TRAINED,
  TEACHERS,
  type EvaluationResult,
  type Experiment,
  type Manifest,
  type RoundResult,
  type StageMetrics,
  type StageName,
  type StageStatus,
} from '../../workflows/contract/index.js';
import { deviceWaiting, timeLine } from './timeline.js';

export interface SummaryInput {
  experiment: Experiment;
  /** Workflow id of the run. */
  name: string;
  /** State of the experiment: `done`, `running`, `parked`, … */
  state: string;
  stages: readonly StageStatus[];
  /** Policies of the RL rounds, oldest first. */
  rounds: readonly ArtifactRef[];
  /** The policy before RL, as far as it is known. */
  policy?: ArtifactRef | undefined;
  /** Folders on this host that hold the trained models, by name. */
  folders: Record<string, string>;
}

/** Manifests by artifact key. */
export type Manifests = ReadonlyMap<string, Manifest>;

/** Metrics of the stages that have ended. */
export type StagesMetrics = { [S in StageName]?: StageMetrics<S> };

/** A stage as the report shows it: one that has not ended has no artifact. */
interface ReportStage {
  name: StageName;
  state: string;
  seconds: number;
  reused: boolean;
  artifact?: ArtifactRef | undefined;
  /** How far it is, in words; of a stage that runs. */
  progress?: string | undefined;
  /** Why it is parked or failed. */
  failure?: string | undefined;
}

/** What the manifests say of an experiment, whole or not. */
export interface Facts extends Pick<
  Summary,
  'recipe' | 'evaluation' | 'comparisons' | 'models' | 'assertions' | 'cost'
> {
  experiment: string;
  state: string;
  stages: ReportStage[];
  metrics: StagesMetrics;
  dropped: Summary['data']['dropped'];
  filterQuality?: NonNullable<Summary['data']['filterQuality']>;
  rounds: RoundResult[];
  deviceWaiting: number;
}

/** What the parts read. */
interface Sources {
  manifests: Manifests;
  /** Artifacts of the stages that have ended. */
  refs: Partial<Record<StageName, ArtifactRef>>;
  metrics: StagesMetrics;
}

/**
 * What is known of an experiment, while it runs or at its end. Every figure comes from the metrics of the artifact that
 * is named next to it.
 *
 * @throws ZodError that names a figure which an artifact should have.
 */
export function factsOf(input: SummaryInput, manifests: Manifests): Facts {
  const { experiment, name, state, stages, rounds, folders } = input;
  const refs: Sources['refs'] = Object.fromEntries(
    stages.flatMap(({ name: stage, artifact }) => (artifact ? [[stage, artifact]] : [])),
  );
  const ran = stagesOf(experiment.stages);
  const metrics: StagesMetrics = Object.fromEntries(
    ran.flatMap((stage) => {
      const ref = refs[stage];
      return ref ? [[stage, metricsOf(stage, manifestOf(manifests, ref))]] : [];
    }),
  );
  const sources: Sources = { manifests, refs, metrics };
  const { teacher } = experiment.stages.synthesis;
  const steps = timeLine(rounds, manifests);
  return {
    experiment: name,
    state,
    stages: ran.map((stage): ReportStage => {
      const found = stages.find(({ name: other }) => other === stage);
      const { progress, failure } = found ?? {};
      return {
        name: stage,
        state: found?.state ?? 'waiting',
        seconds: found?.seconds ?? 0,
        reused: found?.reused ?? false,
        artifact: refs[stage],
        ...(progress && found?.state !== 'done'
          ? { progress: `${progress.done} of ${progress.total} ${progress.unit}` }
          : {}),
        ...(failure && found?.state !== 'done' ? { failure: `${failure.type}: ${failure.message}` } : {}),
      };
    }),
    metrics,
    dropped: droppedOf(sources),
    // The errors of other teachers are not known.
    ...(metrics.filtering && TEACHERS.named(teacher.kind).injectsErrors
      ? { filterQuality: qualityOf(metrics.filtering) }
      : {}),
    recipe: recipeOf(experiment, refs),
    rounds: roundsOf(rounds, steps, manifests),
    deviceWaiting: deviceWaiting(steps),
    evaluation: inOrderOfTraining(metrics.evaluation?.results ?? []),
    ...(metrics.evaluation?.comparisons ? { comparisons: metrics.evaluation.comparisons } : {}),
    cost: {
      teacher: teacher.kind,
      currency: 'USD',
      amount: [metrics.synthesis, metrics.filtering, metrics.sampling].reduce(
        (sum, each) => sum + (each?.costUsd ?? 0),
        0,
      ),
    },
    models: TRAINED.flatMap(({ name: stage, model }) => {
      const artifact = refs[stage];
      return artifact ? [{ name: model, artifact, folder: folders[model] ?? '' }] : [];
    }),
    assertions: assertionsOf(input, sources),
  };
}

/**
 * `summary.json`, validated.
 *
 * @throws ZodError that names what is missing, where the experiment is not done.
 */
export function summaryOf({
  metrics: { filtering, sampling, preferences, rewardModel },
  stages,
  dropped,
  filterQuality,
  rounds,
  deviceWaiting: waiting,
  ...same
}: Facts): Summary {
  return Summary.parse({
    ...same,
    stages: stages.map(({ progress: _progress, failure: _failure, ...stage }) => stage),
    data: {
      questions: filtering?.questions,
      testCases: filtering?.testCases,
      keptTestCases: filtering?.keptTestCases,
      programs: sampling?.programs,
      pairs: preferences?.pairs,
      dropped,
      ...(filterQuality ? { filterQuality } : {}),
    },
    passRateHistogram: sampling && passRateHistogram(sampling),
    rewardModel: rewardModel && {
      pairs: rewardModel.pairs,
      heldOutAccuracy: rewardModel.heldOutAccuracy,
      heldOutPairs: rewardModel.heldOutPairs,
      heldOutQuestions: rewardModel.heldOutQuestions,
      interval95: rewardModel.interval95,
      baselineAccuracy: rewardModel.baselineAccuracy,
      calibration: rewardModel.calibration,
      curve: rewardModel.curve,
    },
    reinforcement: { rounds, deviceWaiting: waiting },
  });
}

/** Results with the policies of a benchmark in the order of training: the others are compared with the first one. */
function inOrderOfTraining(results: readonly EvaluationResult[]): EvaluationResult[] {
  const order: readonly string[] = [POLICIES.before, POLICIES.fineTuned, POLICIES.after];
  const place = ({ policy }: EvaluationResult): number =>
    order.includes(policy) ? order.indexOf(policy) : order.length;
  const benchmarks = [...new Set(results.map(({ benchmark }) => benchmark))];
  return benchmarks.flatMap((name) =>
    results.filter(({ benchmark }) => benchmark === name).sort((a, b) => place(a) - place(b)),
  );
}

/** Programs by pass rate, in tenths; the last bin holds 1 too. */
export function passRateHistogram({ histogram }: Pick<StageMetrics<'sampling'>, 'histogram'>) {
  return histogram.map((programs, bin) => ({ from: bin / 10, to: (bin + 1) / 10, programs }));
}

function manifestOf(manifests: Manifests, ref: ArtifactRef): Manifest {
  const manifest = manifests.get(ref.key);
  if (!manifest) throw new Error(`the manifest of ${ref.key} was not read`);
  return manifest;
}

function droppedOf({ manifests, refs, metrics }: Sources): Facts['dropped'] {
  const { synthesis, filtering, sampling, preferences } = metrics;
  const dropped = (
    stage: StageName,
    what: Facts['dropped'][number]['what'],
    counts: Counts = {},
    artifact = refs[stage],
  ): Facts['dropped'] =>
    Object.entries(counts)
      .filter(([, count]) => count > 0)
      .map(([reason, count]) => ({ stage, what, reason, count, artifact: artifact! }));
  const seeds = refs.synthesis && seedsOf(manifestOf(manifests, refs.synthesis));
  const droppedSeeds = seeds && Counts.optional().parse(manifestOf(manifests, seeds).metrics['dropped']);
  return [
    // What reading a table or a source tree left out is told with the seeds that it gave.
    ...dropped('synthesis', 'seed', droppedSeeds, seeds),
    ...dropped('synthesis', 'seed', synthesis?.droppedSeeds),
    ...dropped('synthesis', 'question', synthesis?.failures),
    ...dropped('synthesis', 'testCase', synthesis?.rejectedTests),
    ...dropped('filtering', 'testCase', filtering?.droppedTestCases),
    ...dropped('filtering', 'question', filtering?.droppedQuestions),
    ...dropped('sampling', 'question', sampling?.droppedQuestions),
    ...dropped('sampling', 'program', sampling?.droppedPrograms),
    ...dropped('preferences', 'pair', preferences?.skipped),
  ];
}

function qualityOf({
  quality: { corrupted, droppedTestCases, droppedCorrupted },
}: StageMetrics<'filtering'>): NonNullable<Facts['filterQuality']> {
  return { injected: corrupted, dropped: droppedTestCases, droppedInjected: droppedCorrupted };
}

/** The settings of the stages that have ended: what the models learnt, and were asked, by. */
function recipeOf({ stages }: Experiment, refs: Sources['refs']): Summary['recipe'] {
  return (['preferences', 'rewardModel', 'reinforcement'] as const).flatMap((stage) => {
    const [artifact, settings] = [refs[stage], stages[stage]];
    return artifact && settings
      ? settingsOf(semanticsOf(settings)).map(([setting, value]) => ({ stage, setting, value, artifact }))
      : [];
  });
}

function roundsOf(
  rounds: readonly ArtifactRef[],
  steps: readonly RoundResult['steps'][],
  manifests: Manifests,
): RoundResult[] {
  return rounds.map((artifact, at) => {
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
  });
}

/** What makes the run a real one, as far as its stages have ended. */
function assertionsOf({ rounds, policy }: SummaryInput, { manifests, refs, metrics }: Sources): Summary['assertions'] {
  const weights = (ref: ArtifactRef): string =>
    manifestOf(manifests, ref)
      .files.filter(({ name: file }) => file.endsWith('.safetensors') && !file.includes('/'))
      .map(({ sha256 }) => sha256)
      .sort()
      .join();
  const learnt = (what: string, ref: ArtifactRef | undefined): Summary['assertions'] =>
    ref && policy
      ? [{ text: `${what} weights differ from the initial policy's`, ok: weights(ref) !== weights(policy) }]
      : [];
  const advantages = rounds.map((ref) => metricsOf('reinforcement', manifestOf(manifests, ref)).nonZeroAdvantages);
  return [
    ...(metrics.preferences ? [{ text: 'preference pairs exist', ok: metrics.preferences.pairs > 0 }] : []),
    ...learnt("the trained policy's", refs.reinforcement),
    ...learnt("the reward model's", refs.rewardModel),
    ...(refs.reinforcement
      ? [{ text: 'some advantages are not zero', ok: advantages.some((number) => number > 0) }]
      : []),
    ...(metrics.sampling
      ? [
          {
            text: 'programs of different pass rates were sampled',
            ok: metrics.sampling.histogram.filter((programs) => programs > 0).length > 1,
          },
        ]
      : []),
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
