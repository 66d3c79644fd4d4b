/**
 * The activities of a sharded stage: plan, one activity per step and shard, seal.
 *
 * The plan is stored once under the stage key and holds the rows of every shard, so that a shard reads nothing but its
 * own rows and a later attempt, on any host, does the same work. A step whose shard stands in the store returns its
 * counts. Steps of a shard run in order, each on the queue that suits it; the workflow decides the window.
 */
import { z } from 'zod';
import {
  ArtifactRef,
  ManifestFile,
  Metrics,
  StageFailure,
  type ArtifactKind,
  type Produced,
  type StageAnswers,
  type StageName,
  type StepDefinition,
} from '../../workflows/contract/index.js';
import { objectKeys, stageKey } from '../artifacts/keys.js';
import { produce, reused, type Product } from '../artifacts/produce.js';
import { stageRecipe } from '../artifacts/recipes.js';
import { collect, count } from '../artifacts/collections.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { currentProducer, leaveDevice } from './context.js';
import { add } from '../metrics.js';

const PlanDocument = z.object({
  config: z.json(),
  inputs: z.record(z.string(), ArtifactRef),
  shards: z.array(ManifestFile),
  /** Counts of the planning itself, such as what was left out and why. */
  metrics: Metrics,
});
type PlanDocument = z.infer<typeof PlanDocument>;

const ShardDocument = z.object({
  file: ManifestFile,
  metrics: z.record(z.string(), z.number()),
  notes: z.record(z.string(), z.array(z.string())).default({}),
  seconds: z.number(),
  workflowId: z.string(),
});
type ShardDocument = z.infer<typeof ShardDocument>;

export interface PlanInput {
  config: { execution: unknown };
  inputs: Record<string, ArtifactRef>;
}

export interface PlanOutput {
  stageKey: string;
  shards: number;
  done?: Produced;
}

export interface ShardInput {
  stageKey: string;
  shard: number;
  /** The stage's execution settings: how, never what. */
  execution: unknown;
}

export interface ShardOutput {
  rows: number;
  reused: boolean;
  metrics: Record<string, number>;
  /** True when the step stopped before its end and is to be called again. */
  incomplete?: true;
}

/**
 * What a shard step gives: rows, counts that are summed over shards, and texts of which each distinct one is kept. A
 * step that is `incomplete` stores nothing here.
 */
export type StepResult<R> =
  | { rows: R[]; metrics?: Record<string, number>; notes?: Record<string, string[]> }
  | { incomplete: true; metrics: Record<string, number> };

/** Something that gives rows: the plan of a stage, or one of its steps. */
export interface RowSource<R> {
  row: z.ZodType<R>;
}
type RowOf<S> = S extends RowSource<infer R> ? R : never;

/** The rows of each shard, one shard after the other, and counts that are read when all shards were taken. */
interface Planned<R, M> {
  shards: Iterable<R[]> | AsyncIterable<R[]>;
  metrics?: M;
}

interface StageArguments<C> {
  config: C;
  inputs: Record<string, ArtifactRef>;
}

export interface PlanStep<C, R, M> extends RowSource<R> {
  run: (args: StageArguments<C>) => Promise<Planned<R, M>>;
}

/** What a step that runs once, before the first shard, is given. */
interface PrepareArguments<C, M> extends StageArguments<C> {
  stageKey: string;
  planMetrics: M;
  /** The rows of the plan, shard after shard. */
  rows: <R>(source: RowSource<R>) => AsyncGenerator<R>;
}

interface StepArguments<C> extends StageArguments<C> {
  stageKey: string;
  execution: unknown;
  shard: number;
}

/**
 * A step whose rows and whose predecessor's rows were tied together when it was made: see {@link ShardedStage.step}.
 */
export interface ShardStep<C, R = unknown> extends RowSource<R> {
  execute: (
    args: StepArguments<C>,
    read: <P>(source: RowSource<P>) => Promise<P[]>,
    previous: RowSource<unknown>,
  ) => Promise<StepResult<R>>;
}

/** What a stage knows when all of its shards are done. */
interface SealArguments<C, M> extends StageArguments<C> {
  stageKey: string;
  /** What the last of the given steps that the shards went through wrote, shard after shard. */
  rows: <R>(...steps: RowSource<R>[]) => AsyncGenerator<R>;
  /** The files of the last step, which the artifact has where the seal gives no others. */
  files: readonly ManifestFile[];
  counts: Record<string, number>;
  notes: Record<string, string[]>;
  planMetrics: M;
}

/** What the activities of a sharded stage need of its definition. */
interface ShardedDefinition {
  name: StageName;
  kind: ArtifactKind;
  config: z.ZodType<{ execution: unknown }>;
  metrics: z.ZodType<object>;
  steps: Record<'plan' | 'seal', StepDefinition> & Record<string, StepDefinition>;
  stored?: ((config: unknown) => unknown) | undefined;
  withSettings: (settings: unknown) => StageAnswers;
}
type ConfigOf<D extends ShardedDefinition> = z.output<D['config']>;
type MetricsOf<D extends ShardedDefinition> = z.input<D['metrics']>;

/**
 * The parts of a stage: its plan, a step for each name of the definition, and what makes one artifact of all shards.
 */
export interface StageParts<D extends ShardedDefinition> {
  plan: PlanStep<ConfigOf<D>, unknown, Partial<MetricsOf<D>>>;
  steps: { [N in Exclude<keyof D['steps'], 'plan' | 'prepare' | 'seal'>]: ShardStep<ConfigOf<D>> };
  /** Runs once, after the plan and before the first shard. Steps read what it returns by {@link readPrepared}. */
  prepare?: (args: PrepareArguments<ConfigOf<D>, Partial<MetricsOf<D>>>) => Promise<object>;
  /** Metrics, and where the stage's rows need a look at all shards, other files than the last step's. */
  seal: (
    args: SealArguments<ConfigOf<D>, Partial<MetricsOf<D>>>,
  ) => Promise<{ files?: ManifestFile[]; rows?: number; metrics: Partial<MetricsOf<D>> }>;
}

/**
 * Makes the parts of a sharded stage so that rows keep their types from step to step, and the activities out of the
 * parts.
 *
 * @example
 * const stage = new ShardedStage(STAGE.preferences);
 * const plan = stage.plan({ row: PlannedQuestion, run: async ({ config, inputs }) => ({ shards }) });
 * const pair = stage.step({ after: [plan], row: PairRow, run: async ({ rows }) => ({ rows: rows.flatMap(pairsOf) }) });
 * return stage.activities(store, { plan, steps: { pair }, seal });
 */
export class ShardedStage<D extends ShardedDefinition> {
  constructor(readonly definition: D) {}

  /** The rows that each shard starts with. */
  plan<R>(step: PlanStep<ConfigOf<D>, R, Partial<MetricsOf<D>>>): PlanStep<ConfigOf<D>, R, Partial<MetricsOf<D>>> {
    return step;
  }

  /**
   * A step of each shard. `after` are the sources whose rows it takes: the plan, or the step that can come before it.
   */
  step<S extends RowSource<unknown>, R>({
    after,
    row,
    run,
  }: {
    after: readonly S[];
    row: z.ZodType<R>;
    run: (args: StepArguments<ConfigOf<D>> & { rows: RowOf<S>[] }) => Promise<StepResult<R>>;
  }): ShardStep<ConfigOf<D>, R> {
    return {
      row,
      execute: async (args, read, previous) => {
        const source = after.find((each) => each === previous);
        if (!source) throw new Error(`a step of ${this.definition.name} follows one whose rows it does not take`);
        return run({ ...args, rows: await read(source as RowSource<RowOf<S>>) });
      },
    };
  }

  /** Activities by name: `<stage>.plan`, `<stage>.<step>` for each step, `<stage>.seal`. */
  activities(store: ArtifactStore, parts: StageParts<D>): Record<string, (input: never) => Promise<unknown>> {
    return shardedStageActivities(store, this.definition, parts);
  }
}

function shardedStageActivities<D extends ShardedDefinition>(
  store: ArtifactStore,
  definition: D,
  parts: StageParts<D>,
): Record<string, (input: never) => Promise<unknown>> {
  const { name: stage, kind } = definition;
  const steps = new Map(Object.entries<ShardStep<ConfigOf<D>>>(parts.steps));
  const configOf = (config: unknown): ConfigOf<D> => definition.config.parse(config) as ConfigOf<D>;
  /** The configuration in a plan, which an earlier version may have stored. */
  const plannedConfig = ({ config }: PlanDocument): ConfigOf<D> => configOf(definition.stored?.(config) ?? config);
  const stepsOf = (config: unknown): readonly string[] => definition.withSettings(config).shardSteps();
  const recipe = (config: unknown, inputs: Record<string, ArtifactRef>) => stageRecipe(definition, config, inputs);

  /**
   * The stage key holds the versions of the steps that the planning worker has. A worker with another version would
   * store other rows under that key.
   *
   * @throws StageFailure `VersionMismatch`.
   */
  function refuseOtherVersion(key: string, config: unknown, { inputs }: PlanDocument): void {
    const own = recipe(config, inputs);
    if (stageKey(own) === key) return;
    throw new StageFailure(
      'VersionMismatch',
      `this worker has version ${JSON.stringify(own.version)} of the stage ${stage}, ` +
        `and the plan ${key.slice(0, 12)} was made by another build. ` +
        'Keep workers of both builds until running stages end, or run the stage again ' +
        'when all workers have the new build',
    );
  }

  async function plan(input: PlanInput): Promise<PlanOutput> {
    const config = configOf(input.config);
    const key = stageKey(recipe(config, input.inputs));
    const finished = await store.findManifest(objectKeys.manifest(kind, key));
    const planned = await store.getJson(objectKeys.plan(key));
    if (planned !== undefined) {
      const { shards } = PlanDocument.parse(planned);
      return {
        stageKey: key,
        shards: shards.length,
        ...(finished ? { done: reused(finished, currentProducer()) } : {}),
      };
    }
    const { shards, metrics } = await parts.plan.run({ config, inputs: input.inputs });
    const files: ManifestFile[] = [];
    for await (const rows of shards) files.push(await store.putRows(shardName(files.length), parts.plan.row, rows));
    const document = PlanDocument.parse({ config, inputs: input.inputs, shards: files, metrics: metrics ?? {} });
    await store.putJson(objectKeys.plan(key), document);
    return { stageKey: key, shards: (await readPlan(store, key)).shards.length };
  }

  function runStep(name: string, step: ShardStep<ConfigOf<D>>): (input: ShardInput) => Promise<ShardOutput> {
    return async ({ stageKey: key, shard, execution }) => {
      const done = await readShard(store, key, shard, name);
      const { workflowId } = currentProducer();
      if (done) return { rows: done.file.rows ?? 0, reused: done.workflowId !== workflowId, metrics: done.metrics };
      const planned = await readPlan(store, key);
      const config = plannedConfig(planned);
      refuseOtherVersion(key, config, planned);
      const order = stepsOf(config);
      const before = order[order.indexOf(name) - 1];
      const file = before === undefined ? planned.shards[shard] : (await readShard(store, key, shard, before))?.file;
      if (!file) throw new StageFailure('ArtifactCorrupt', `shard ${shard} of ${key} has no rows for ${stage}.${name}`);
      const previous = before === undefined ? parts.plan : steps.get(before)!;
      const args = { config, inputs: planned.inputs, execution, shard, stageKey: key };
      const started = performance.now();
      const result = await step.execute(args, ({ row }) => collect(store.readRows([file], row)), previous);
      leaveDevice();
      if ('incomplete' in result) return { rows: 0, reused: false, ...result };
      const document: ShardDocument = {
        file: await store.putRows(shardName(shard), step.row, result.rows),
        metrics: result.metrics ?? {},
        notes: result.notes ?? {},
        seconds: (performance.now() - started) / 1000,
        workflowId,
      };
      await store.putJson(objectKeys.shard(key, shard, name), document);
      add('rows', result.rows.length, { activity: `${stage}.${name}` });
      return { rows: result.rows.length, reused: false, metrics: document.metrics };
    };
  }

  async function prepare({ stageKey: key }: { stageKey: string }): Promise<{ reused: boolean }> {
    if ((await store.getJson(objectKeys.prepared(key))) !== undefined) return { reused: true };
    const planned = await readPlan(store, key);
    const config = plannedConfig(planned);
    refuseOtherVersion(key, config, planned);
    const prepared = await parts.prepare!({
      stageKey: key,
      config,
      inputs: planned.inputs,
      rows: ({ row }) => store.readRows(planned.shards, row),
      // Stored by this stage's plan, and typed by it.
      planMetrics: planned.metrics as Partial<MetricsOf<D>>,
    });
    await store.putJson(objectKeys.prepared(key), prepared);
    return { reused: false };
  }

  async function seal(input: { stageKey: string }): Promise<Produced> {
    const planned = await readPlan(store, input.stageKey);
    const config = plannedConfig(planned);
    refuseOtherVersion(input.stageKey, config, planned);
    const order = stepsOf(config);
    const lastStep = order.at(-1)!;
    const producer = currentProducer();
    return produce(store, recipe(config, planned.inputs), planned.inputs, producer, async (key): Promise<Product> => {
      const { files, counts, notes, seconds } = await addUp(store, key, planned.shards.length, order);
      const rows = async function* <R>(...given: RowSource<R>[]): AsyncGenerator<R> {
        const name = order.findLast((each) => given.some((source) => source === steps.get(each)));
        const source = given.find((each) => name !== undefined && each === steps.get(name));
        if (name === undefined || !source) throw new Error(`the shards of ${stage} went through none of the steps`);
        for (let index = 0; index < planned.shards.length; index += 1) {
          const document = await readShard(store, key, index, name);
          yield* store.readRows([document!.file], source.row);
        }
      };
      const sealed = await parts.seal({
        stageKey: key,
        config,
        inputs: planned.inputs,
        rows,
        files: files.get(lastStep)!,
        counts,
        notes,
        // Stored by this stage's plan, and typed by it.
        planMetrics: planned.metrics as Partial<MetricsOf<D>>,
      });
      const own = sealed.files ?? files.get(lastStep)!;
      const metrics = { ...planned.metrics, ...sealed.metrics };
      // A number that the report reads is missed here and not after the last stage.
      definition.metrics.parse(metrics);
      return {
        files: own,
        rows: sealed.rows ?? own.reduce((sum, file) => sum + (file.rows ?? 0), 0),
        metrics: Metrics.parse(metrics),
        seconds,
      };
    });
  }

  return {
    [`${stage}.plan`]: plan,
    ...(parts.prepare ? { [`${stage}.prepare`]: prepare } : {}),
    ...Object.fromEntries([...steps].map(([name, step]) => [`${stage}.${name}`, runStep(name, step)])),
    [`${stage}.seal`]: seal,
  };
}

/**
 * Files of each step, counts and notes of all shards.
 * @throws StageFailure `ArtifactCorrupt` where a step is missing.
 */
async function addUp(store: ArtifactStore, key: string, shards: number, order: readonly string[]) {
  const files = new Map<string, ManifestFile[]>(order.map((step) => [step, []]));
  const counts: Record<string, number> = {};
  const notes: Record<string, string[]> = {};
  let seconds = 0;
  for (let index = 0; index < shards; index += 1) {
    for (const step of order) {
      const document = await readShard(store, key, index, step);
      if (!document) throw new StageFailure('ArtifactCorrupt', `shard ${index} of ${key} is missing step ${step}`);
      for (const [name, value] of Object.entries(document.metrics)) count(counts, name, value);
      for (const [name, texts] of Object.entries(document.notes))
        notes[name] = [...new Set([...(notes[name] ?? []), ...texts])].sort();
      seconds += document.seconds;
      files.get(step)!.push(document.file);
    }
  }
  return { files, counts, notes, seconds };
}

/** The plan of a stage. @throws StageFailure `ArtifactCorrupt` when it is missing. */
export async function readPlan(store: ArtifactStore, key: string): Promise<PlanDocument> {
  const plan = await store.getJson(objectKeys.plan(key));
  if (plan === undefined)
    throw new StageFailure('ArtifactCorrupt', `the plan ${objectKeys.plan(key)} is missing from the store`);
  return PlanDocument.parse(plan);
}

/** What a step of a shard stored; undefined where it has not ended. */
export async function readShard(
  store: ArtifactStore,
  key: string,
  index: number,
  step: string,
): Promise<ShardDocument | undefined> {
  const document = await store.getJson(objectKeys.shard(key, index, step));
  return document === undefined ? undefined : ShardDocument.parse(document);
}

/** What a stage prepared before its first shard; undefined where it prepared nothing. */
export function readPrepared(store: Pick<ArtifactStore, 'getJson'>, key: string): Promise<unknown> {
  return store.getJson(objectKeys.prepared(key));
}

/** Cuts rows into shards of at most `size`, in order. */
export function intoShards<T>(rows: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(rows.length / size) }, (_, index) =>
    rows.slice(index * size, (index + 1) * size),
  );
}

/** As {@link intoShards}, for rows that do not stay in memory. */
export async function* inShards<T>(rows: AsyncIterable<T>, size: number): AsyncGenerator<T[]> {
  let shard: T[] = [];
  for await (const row of rows) {
    shard.push(row);
    if (shard.length < size) continue;
    yield shard;
    shard = [];
  }
  if (shard.length > 0) yield shard;
}

function shardName(index: number): string {
  return `rows-${String(index).padStart(6, '0')}.jsonl`;
}
