/**
 * What the first screen of a report tells in words: what was trained on what, where, when and at what cost. It comes
 * from the configuration, from manifests with their producers, and from what shards and rewards of rounds have stored.
 */
import { basename, isAbsolute } from 'node:path';
import { z } from 'zod';
import {
  ArtifactRef,
  RewardRow,
  RoundCurriculum,
  RoundRepair,
  RoundWatch,
  STAGE,
  STAGES,
  TEACHERS,
  type Experiment,
  type Manifest,
  type ModelSource,
  type StageName,
  type StageStatus,
} from '../../workflows/contract/index.js';
import { eachOf } from '../artifacts/collections.js';
import { objectKeys } from '../artifacts/keys.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { isCpu } from '../runtime/settings.js';
import type { Manifests, StagesMetrics } from './summarise.js';
import { plural } from './text.js';

/** Tokens that some stage had written or read. */
interface Tokens {
  /** Name of the figure. */
  id: string;
  what: string;
  tokens: number;
  artifact: ArtifactRef;
}

/** What a round's rollouts and rewards say beyond the metrics of its policy. Absent values were not recorded. */
interface RoundDetails {
  rollouts?: ArtifactRef;
  rewards?: ArtifactRef;
  /** Tokens that were sampled, and the mean length of an answer. */
  tokens?: number;
  meanTokens?: number;
  /** Share of the answers that were cut at the token limit. */
  truncated?: number;
  /** Mean pass rate, mean raw score of the reward model, and standard deviation of the rewards over the round. */
  passRate?: number;
  score?: number;
  rewardDeviation?: number;
  /** What the watch for reward hacking saw, where there is one. */
  watch?: RoundWatch;
  /** What came of the draws, where questions are chosen. */
  curriculum?: RoundCurriculum;
  /** What came of the repair turns, where there are some. */
  repair?: RoundRepair;
}

export interface About {
  baseModel: string;
  /** The model that samples programs, where it is another one. */
  sampler?: string;
  /** The backbone of the reward model, where it is another one. */
  backbone?: string;
  seeds: string;
  teacher: string;
  teacherNote: string;
  oracle: string;
  /** How answers are decoded. */
  sampling: string;
  evaluation: string[];
  /** When the first stage of the run began and the last one ended, as ISO texts. */
  ran?: { from: string; to: string };
  /** When the first and the last artifact was stored. Reused ones may be older than the run. */
  made?: { from: string; to: string };
  hosts: string[];
  /** Devices of the trainings, as their environments name them. */
  devices: string[];
  versions: Record<string, string>;
  commits: string[];
  /** Seconds of the device by stage; a stage whose shards are gone is absent. */
  deviceSeconds: { stage: StageName; seconds: number }[];
  tokens: Tokens[];
  rounds: RoundDetails[];
}

type Reading = Pick<ArtifactStore, 'getJson' | 'rowsOf'>;

/** Steps that work on the device, of stages with shards. */
const DEVICE_STEPS: Partial<Record<StageName, readonly string[]>> = {
  sampling: ['generate'],
  evaluation: ['generate', 'score'],
};

/** Whether a stage is one training. */
function isTraining(stage: StageName): boolean {
  return 'train' in STAGE[stage].steps;
}

/** What is known of an experiment; see {@link About}. `rounds` are the policies of its rounds, oldest first. */
export async function aboutOf(
  store: Reading,
  experiment: Experiment,
  statuses: readonly StageStatus[],
  rounds: readonly ArtifactRef[],
  manifests: Manifests,
  metrics: StagesMetrics,
): Promise<About> {
  const { stages, models, seeds } = experiment;
  const { teacher } = stages.synthesis;
  const refs: Partial<Record<StageName, ArtifactRef>> = Object.fromEntries(
    statuses.flatMap(({ name, artifact }) => (artifact ? [[name, artifact]] : [])),
  );
  // What the experiment was given may have been imported long before.
  const made = [...manifests.values()].filter(({ kind }) => kind !== 'seeds' && kind !== 'model');
  const stored = made.map(({ createdAt }) => createdAt).sort();
  const starts = statuses.flatMap(({ startedAt }) => (startedAt === undefined ? [] : [Date.parse(startedAt)]));
  const ends = statuses.flatMap(({ startedAt, seconds = 0 }) =>
    startedAt === undefined ? [] : [Date.parse(startedAt) + 1000 * seconds],
  );
  const details: RoundDetails[] = [];
  for (const ref of rounds) details.push(await roundDetails(store, manifests.get(ref.key)!, manifests));
  return {
    baseModel: modelText(models.policy),
    ...(models.sampler ? { sampler: modelText(models.sampler) } : {}),
    ...(models.rewardModel ? { backbone: modelText(models.rewardModel) } : {}),
    seeds: inputText(seeds),
    teacher: 'model' in teacher ? `${teacher.kind} (${String(teacher.model)})` : teacher.kind,
    teacherNote: TEACHERS.named(teacher.kind).note,
    oracle: stages.filtering.oracle.kind,
    sampling:
      `${stages.sampling.samples} programs per question, ` +
      (stages.sampling.sampler.kind === 'policy' ? '' : `by '${stages.sampling.sampler.kind}', `) +
      decodingText(stages.sampling),
    evaluation: stages.evaluation.benchmarks.map((benchmark) => {
      const samples = benchmark.samples ?? stages.evaluation.samples;
      const maxNewTokens = benchmark.maxNewTokens ?? stages.evaluation.maxNewTokens;
      const sampled =
        samples === 0 ? '' : ` and ${samples} samples at ${decodingText({ ...stages.evaluation, maxNewTokens })}`;
      return `${benchmark.kind}: one greedy answer of at most ${maxNewTokens} tokens${sampled}`;
    }),
    ...(starts.length > 0
      ? { ran: { from: new Date(Math.min(...starts)).toISOString(), to: new Date(Math.max(...ends)).toISOString() } }
      : {}),
    ...(stored.length > 0 ? { made: { from: stored[0]!, to: stored.at(-1)! } } : {}),
    hosts: distinct(made.map(({ producer: { host } }) => host)),
    devices: devicesOf(made),
    versions: Object.assign({}, ...made.map(({ producer: { versions } }) => versions)) as Record<string, string>,
    commits: distinct(made.flatMap(({ producer }) => producer.commit ?? producer.package)),
    deviceSeconds: await deviceSeconds(store, refs, rounds, manifests),
    tokens: tokensOf(refs, metrics, details),
    rounds: details,
  };
}

const distinct = (texts: readonly string[]): string[] => [...new Set(texts)].sort();

/** A model by where it comes from. */
function modelText(model: ModelSource): string {
  switch (model.kind) {
    case 'gguf':
      return `${model.file.replace(/\.gguf$/, '')} (GGUF file of the package ${model.package})`;
    case 'ggufFile': {
      const parts = model.paths.length > 1 ? `, in ${model.paths.length} parts` : '';
      return `${basename(model.paths[0]!).replace(/\.gguf$/, '')} (GGUF file${parts})`;
    }
    case 'hub':
      return `${model.id} (Hugging Face hub, revision ${model.revision})`;
    case 'folder':
      return `The model in the folder ${placeText(model.path)}`;
    case 'artifact':
      return `A stored ${model.ref.kind}`;
  }
}

/** A path as far as it says something elsewhere: the name alone where it is one of this host. */
function placeText(path: string): string {
  return isAbsolute(path) ? basename(path) : path;
}

function inputText(input: Experiment['seeds']): string {
  if ('format' in input)
    return [
      input.format,
      input.dataset ?? input.package ?? placeText(input.path ?? ''),
      input.revision ? `revision ${input.revision}` : '',
    ]
      .filter(Boolean)
      .join(', ');
  return 'path' in input ? placeText(input.path) : `a stored artifact of ${input.rows ?? 'unknown many'} rows`;
}

function decodingText({
  temperature,
  topP,
  maxNewTokens,
  engine,
}: Pick<Experiment['stages']['sampling'], 'temperature' | 'topP' | 'maxNewTokens' | 'engine'>): string {
  return (
    `temperature ${temperature}${topP === 1 ? '' : `, top-p ${topP}`}, ` +
    `at most ${maxNewTokens} tokens, by ${engine}`
  );
}

/** What a training says of where it ran. */
const Trained = z.object({
  environments: z.array(
    z.object({
      device: z.string(),
      threads: z.number().optional(),
      processes: z.number().optional(),
      hosts: z.number().optional(),
      sharding: z.string().optional(),
    }),
  ),
});

/** What trainings ran on, in words. */
function devicesOf(manifests: readonly Manifest[]): string[] {
  return distinct(
    manifests.flatMap(({ metrics }) =>
      (Trained.safeParse(metrics).data?.environments ?? []).map(
        ({ device, processes = 1, hosts = 1, threads, sharding = 'none' }) => {
          const many = processes > 1 ? `${processes} x ` : '';
          const cores = isCpu(device) && threads !== undefined ? `, ${plural(threads, 'thread')}` : '';
          const where = hosts > 1 ? ` on ${hosts} hosts` : '';
          return `${many}${device}${where}${cores}${sharding === 'none' ? '' : `, ${sharding}`}`;
        },
      ),
    ),
  );
}

/** What the rewards and rollouts of a round say; what was not recorded is absent. */
async function roundDetails(store: Reading, policy: Manifest, manifests: Manifests): Promise<RoundDetails> {
  const [rollouts, rewards] = ['rollouts', 'rewards'].map((name) => ArtifactRef.safeParse(policy.inputs[name]).data);
  const recorded = z
    .object({ tokens: z.number(), rollouts: z.number(), truncated: z.number() })
    .partial()
    .parse((rollouts && manifests.get(rollouts.key)?.metrics) ?? {});
  const sums = { passRate: new Mean(), score: new Mean(), reward: new Mean() };
  if (rewards)
    for await (const row of store.rowsOf(rewards, RewardRow))
      for (const [name, mean] of Object.entries(sums)) mean.add(row[name as keyof typeof sums]);
  const { tokens, rollouts: count, truncated } = recorded;
  const { watch, curriculum, repair } = z
    .looseObject({
      watch: RoundWatch.optional(),
      curriculum: RoundCurriculum.optional(),
      repair: RoundRepair.optional(),
    })
    .parse(policy.metrics);
  return {
    ...(rollouts ? { rollouts } : {}),
    ...(rewards ? { rewards } : {}),
    ...(tokens === undefined ? {} : { tokens }),
    ...(tokens === undefined || !count ? {} : { meanTokens: tokens / count }),
    ...(truncated === undefined || !count ? {} : { truncated: truncated / count }),
    ...sums.passRate.as('passRate'),
    ...sums.score.as('score'),
    ...(sums.reward.count === 0 ? {} : { rewardDeviation: sums.reward.deviation }),
    ...(watch ? { watch } : {}),
    ...(curriculum ? { curriculum } : {}),
    ...(repair ? { repair } : {}),
  };
}

/** Mean and population deviation of numbers that come one by one (Welford). */
class Mean {
  count = 0;
  #mean = 0;
  #squares = 0;

  add(value: number | undefined): void {
    if (value === undefined) return;
    this.count += 1;
    const difference = value - this.#mean;
    this.#mean += difference / this.count;
    this.#squares += difference * (value - this.#mean);
  }

  get deviation(): number {
    return Math.sqrt(this.#squares / this.count);
  }

  as<N extends string>(name: N): Partial<Record<N, number>> {
    return this.count === 0 ? {} : ({ [name]: this.#mean } as Record<N, number>);
  }
}

/** Seconds of work on the device by stage, as far as they were recorded. */
async function deviceSeconds(
  store: Reading,
  refs: Partial<Record<StageName, ArtifactRef>>,
  rounds: readonly ArtifactRef[],
  manifests: Manifests,
): Promise<About['deviceSeconds']> {
  const found: About['deviceSeconds'] = [];
  for (const [stage, ref] of Object.entries(refs) as [StageName, ArtifactRef][]) {
    const manifest = manifests.get(ref.key);
    if (!manifest) continue;
    const steps = DEVICE_STEPS[stage];
    if (isTraining(stage)) found.push({ stage, seconds: manifest.seconds });
    else if (steps) {
      const seconds = await shardSeconds(store, manifest.stageKey, steps);
      if (seconds !== undefined) found.push({ stage, seconds });
    }
  }
  if (rounds.length > 0) {
    const seconds = rounds
      .flatMap((ref) => {
        const policy = manifests.get(ref.key)!;
        const rewards = inputOf(policy, 'rewards', manifests);
        return [policy, inputOf(policy, 'rollouts', manifests), rewards && inputOf(rewards, 'scores', manifests)];
      })
      .reduce((sum, manifest) => sum + (manifest?.seconds ?? 0), 0);
    found.push({ stage: 'reinforcement', seconds });
  }
  return found;
}

function inputOf({ inputs }: Manifest, name: string, manifests: Manifests): Manifest | undefined {
  const ref = ArtifactRef.safeParse(inputs[name]).data;
  return ref && manifests.get(ref.key);
}

/** Documents of shards that are read at once. */
const AT_ONCE = 16;

/** Seconds of some steps over all shards; undefined where the documents are gone. */
async function shardSeconds(store: Reading, key: string, steps: readonly string[]): Promise<number | undefined> {
  const plan = z.object({ shards: z.array(z.unknown()) }).safeParse(await store.getJson(objectKeys.plan(key)));
  if (!plan.success) return undefined;
  const keys = plan.data.shards.flatMap((_, shard) => steps.map((step) => objectKeys.shard(key, shard, step)));
  // By shard, because a sum of floats depends on its order, and documents arrive in any.
  const seconds: number[] = [];
  await eachOf(keys.length, AT_ONCE, async (at) => {
    const shard = z.object({ seconds: z.number() }).safeParse(await store.getJson(keys[at]!));
    if (shard.success) seconds[at] = shard.data.seconds;
  });
  // A sampler that is no policy has no step on the device, and without documents nothing is known.
  const known = Object.values(seconds);
  return known.length > 0 ? known.reduce((sum, each) => sum + each, 0) : undefined;
}

/** Tokens as the stages recorded them. */
function tokensOf(
  refs: Partial<Record<StageName, ArtifactRef>>,
  metrics: StagesMetrics,
  rounds: readonly RoundDetails[],
): Tokens[] {
  const of = (id: string, what: string, tokens: number | undefined, artifact: ArtifactRef | undefined): Tokens[] =>
    tokens === undefined || tokens === 0 || !artifact ? [] : [{ id, what, tokens, artifact }];
  const { synthesis, filtering, sampling, evaluation } = metrics;
  const sampled = rounds.flatMap(({ tokens }) => tokens ?? []);
  return [
    ...of('synthesis.promptTokens', 'read by the teacher', synthesis?.promptTokens, refs.synthesis),
    ...of('synthesis.completionTokens', 'written by the teacher', synthesis?.completionTokens, refs.synthesis),
    ...of('filtering.completionTokens', 'written by the oracle', filtering?.completionTokens, refs.filtering),
    ...of('sampling.completionTokens', 'written by the sampler', sampling?.completionTokens, refs.sampling),
    ...of('sampling.tokens', 'sampled as programs', sampling?.tokens, refs.sampling),
    ...STAGES.filter(isTraining).flatMap((stage) => {
      const trained = z.object({ tokens: z.number() }).safeParse(metrics[stage]);
      return of(`${stage}.tokens`, `trained on by ${stage}, per epoch`, trained.data?.tokens, refs[stage]);
    }),
    ...of(
      'reinforcement.tokens',
      'sampled as rollouts',
      sampled.length === rounds.length && rounds.length > 0 ? sampled.reduce((sum, each) => sum + each, 0) : undefined,
      refs.reinforcement ?? rounds.at(-1)?.rollouts,
    ),
    ...of('evaluation.tokens', 'written as evaluated answers', evaluation?.tokens, refs.evaluation),
  ];
}
