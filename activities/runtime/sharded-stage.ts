/**
 * The activities of a sharded stage: plan, one activity per step and shard, seal.
 *
 * The plan is stored once under the stage key and holds the rows of every shard, so that a shard reads nothing but its own
 * rows and a later attempt, on any host, does the same work. A step whose shard stands in the store returns its counts.
 * Steps of a shard run in order, each on the queue that suits it; the workflow decides the window.
 */
import { z } from 'zod';
import {
  ArtifactRef,
  ManifestFile,
  Metrics,
  keyedConfig,
  StageFailure,
  semanticsOf,
  unkeyedConfig,
  type ArtifactKind,
  type Produced,
  type Producer,
  type StageName,
} from '../../workflows/contract/index.js';
import { objectKeys, stageKey } from '../artifacts/keys.js';
import { digestsOf, produce, reused, type Product } from '../artifacts/produce.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { currentProducer, leaveDevice } from './context.js';

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
 * What a shard step gives: rows, counts that are summed over shards, and texts of which each distinct one is kept. A step that
 * is `incomplete` stores nothing here.
 */
export type StepResult =
  | { rows: unknown[]; metrics?: Record<string, number>; notes?: Record<string, string[]> }
  | { incomplete: true; metrics: Record<string, number> };

export interface Step<C> {
  schema: z.ZodType;
  run(args: {
    config: C;
    inputs: Record<string, ArtifactRef>;
    rows: unknown[];
    execution: unknown;
    shard: number;
  }): Promise<StepResult>;
}

export interface ShardedStage<C> {
  stage: StageName;
  version: number;
  kind: ArtifactKind;
  config: z.ZodType<C>;
  /** Schema of the rows that the plan gives each shard. */
  planned: z.ZodType;
  /** The rows of each shard, one shard after the other, and counts that are read when all shards were taken. */
  plan(args: {
    config: C;
    inputs: Record<string, ArtifactRef>;
  }): Promise<{ shards: Iterable<unknown[]> | AsyncIterable<unknown[]>; metrics?: Metrics }>;
  steps: Record<string, Step<C>>;
  /** The steps that a shard goes through, in order; absent: all. */
  stepsOf?(config: C): readonly string[];
  /**
   * Metrics, and where the stage's rows need a look at all shards, other files than the last step's. `rows` reads what a
   * step wrote, shard after shard.
   */
  seal(args: {
    stageKey: string;
    config: C;
    inputs: Record<string, ArtifactRef>;
    rows: (step?: string) => AsyncGenerator<unknown>;
    counts: Record<string, number>;
    notes: Record<string, string[]>;
    planMetrics: Metrics;
  }): Promise<{ files?: ManifestFile[]; rows?: number; metrics: Metrics }>;
}

/** Activities by name: `<stage>.plan`, `<stage>.<step>` for each step, `<stage>.seal`. */
export function shardedStageActivities<C extends { execution: unknown }>(
  store: ArtifactStore,
  stage: ShardedStage<C>,
): Record<string, (input: never) => Promise<unknown>> {
  const stepsOf = (config: C): readonly string[] => stage.stepsOf?.(config) ?? Object.keys(stage.steps);

  function recipe(config: C, inputs: Record<string, ArtifactRef>) {
    return {
      stage: stage.stage,
      version: stage.version,
      kind: stage.kind,
      semantics: semanticsOf(keyedConfig(stage.stage, config, inputs)),
      inputs: digestsOf(inputs),
    };
  }

  async function plan(input: PlanInput): Promise<PlanOutput> {
    const config = stage.config.parse(input.config);
    const key = stageKey(recipe(config, input.inputs));
    const finished = await store.findManifest(objectKeys.manifest(stage.kind, key));
    const planned = await store.getJson(objectKeys.plan(key));
    if (planned !== undefined) {
      const { shards } = PlanDocument.parse(planned);
      return {
        stageKey: key,
        shards: shards.length,
        ...(finished ? { done: reused(finished, currentProducer()) } : {}),
      };
    }
    const { shards, metrics } = await stage.plan({ config, inputs: input.inputs });
    const files: ManifestFile[] = [];
    for await (const rows of shards) files.push(await store.putRows(shardName(files.length), stage.planned, rows));
    const document: PlanDocument = {
      config: config as z.infer<typeof PlanDocument>['config'],
      inputs: input.inputs,
      shards: files,
      metrics: metrics ?? {},
    };
    await store.putJson(objectKeys.plan(key), document);
    return { stageKey: key, shards: (await readPlan(store, key)).shards.length };
  }

  function runStep(step: string): (input: ShardInput) => Promise<ShardOutput> {
    return async ({ stageKey: key, shard, execution }) => {
      const done = await readShard(store, key, shard, step);
      const { workflowId } = currentProducer();
      if (done) return { rows: done.file.rows ?? 0, reused: done.workflowId !== workflowId, metrics: done.metrics };
      const plan = await readPlan(store, key);
      const config = stage.config.parse(unkeyedConfig(stage.stage, plan.config));
      const steps = stepsOf(config);
      const before = steps[steps.indexOf(step) - 1];
      const previous = before === undefined ? plan.shards[shard] : (await readShard(store, key, shard, before))?.file;
      if (!previous)
        throw new StageFailure('ArtifactCorrupt', `shard ${shard} of ${key} has no rows for ${stage.stage}.${step}`);
      const schema = before === undefined ? stage.planned : stage.steps[before]!.schema;
      const rows: unknown[] = [];
      for await (const row of store.readRows([previous], schema)) rows.push(row);
      const started = performance.now();
      const definition = stage.steps[step]!;
      const result = await definition.run({ config, inputs: plan.inputs, rows, execution, shard });
      leaveDevice();
      if ('incomplete' in result) return { rows: 0, reused: false, ...result };
      const document: ShardDocument = {
        file: await store.putRows(shardName(shard), definition.schema, result.rows),
        metrics: result.metrics ?? {},
        notes: result.notes ?? {},
        seconds: (performance.now() - started) / 1000,
        workflowId,
      };
      await store.putJson(objectKeys.shard(key, shard, step), document);
      return { rows: result.rows.length, reused: false, metrics: document.metrics };
    };
  }

  async function seal(input: { stageKey: string }): Promise<Produced> {
    const plan = await readPlan(store, input.stageKey);
    const config = stage.config.parse(unkeyedConfig(stage.stage, plan.config));
    const producer: Producer = currentProducer();
    const steps = stepsOf(config);
    const lastStep = steps.at(-1)!;
    return produce(store, recipe(config, plan.inputs), plan.inputs, producer, async (key): Promise<Product> => {
      const files: ManifestFile[] = [];
      const counts: Record<string, number> = {};
      const notes: Record<string, string[]> = {};
      let seconds = 0;
      for (let index = 0; index < plan.shards.length; index += 1) {
        for (const step of steps) {
          const document = await readShard(store, key, index, step);
          if (!document) throw new StageFailure('ArtifactCorrupt', `shard ${index} of ${key} is missing step ${step}`);
          for (const [name, value] of Object.entries(document.metrics)) counts[name] = (counts[name] ?? 0) + value;
          for (const [name, texts] of Object.entries(document.notes))
            notes[name] = [...new Set([...(notes[name] ?? []), ...texts])].sort();
          seconds += document.seconds;
          if (step === lastStep) files.push(document.file);
        }
      }
      const rows = async function* (step = lastStep): AsyncGenerator<unknown> {
        for (let index = 0; index < plan.shards.length; index += 1) {
          const document = await readShard(store, key, index, step);
          yield* store.readRows([document!.file], stage.steps[step]!.schema);
        }
      };
      const sealed = await stage.seal({
        stageKey: key,
        config,
        inputs: plan.inputs,
        rows,
        counts,
        notes,
        planMetrics: plan.metrics,
      });
      const own = sealed.files ?? files;
      return {
        files: own,
        rows: sealed.rows ?? own.reduce((sum, file) => sum + (file.rows ?? 0), 0),
        metrics: { ...plan.metrics, ...sealed.metrics },
        seconds,
      };
    });
  }

  return {
    [`${stage.stage}.plan`]: plan,
    ...Object.fromEntries(Object.keys(stage.steps).map((step) => [`${stage.stage}.${step}`, runStep(step)])),
    [`${stage.stage}.seal`]: seal,
  };
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
