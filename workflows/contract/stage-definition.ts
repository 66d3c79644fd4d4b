/**
 * What a stage is, in one value: inputs, settings, metrics, steps with queue and version, and what it will take.
 * Queues,
 * activities, schemas, the estimate and the report's reading of metrics follow from the list of these values.
 */
import { z } from 'zod';
import type { ArtifactKind, ArtifactRef } from './artifacts.js';
import type { Benchmark, PublicBenchmark } from './benchmarks.js';
import type { EstimateRun, StageEstimate } from './estimation.js';
import { HOSTS_WAIT_SECONDS, schemaField, type Engine, ENGINES } from './fields.js';
import { leftOutText, noRowsText, type Made } from './made.js';
import type { QueueRole } from './queues.js';

/** One step of a stage: an activity named `<stage>.<step>`. */
export interface StepDefinition {
  /** The kind of worker that runs the step. */
  queue: QueueRole;
  /**
   * Part of the step's key. Raise it when the step gives another result for the same input: the store then answers no
   * longer with what the old code made.
   */
  version: number;
  /** Source files that decide the step's result. `npm run steps` keeps a digest of them, and a test holds it. */
  code: readonly string[];
}

/** A step that makes an artifact of its own, under a key of its own. */
export interface ArtifactStep<Config> extends StepDefinition {
  kind: ArtifactKind;
  /** The settings that the result depends on. */
  semantics: (config: Semantics<Config>) => object;
}

/** References by the names of inputs; an input may hold several by names of their own. */
export type InputRefs = Readonly<Record<string, ArtifactRef | Readonly<Record<string, ArtifactRef>> | undefined>>;

/** What workflows read of the execution of any stage. */
const StageExecution = z.object({
  /** Shards in flight at once. */
  window: z.number().int().positive().default(1),
  deviceClass: z.string().optional(),
  /** Of a training: GPU workers that train together. */
  hosts: z.number().int().positive().default(1),
  hostsWaitSeconds: z.number().positive().default(HOSTS_WAIT_SECONDS),
});
export type StageExecution = z.infer<typeof StageExecution>;

/**
 * What the settings of a stage name that lies on workers. It is looked up before the stage starts.
 *
 * @public The declarations of all stages name it.
 */
export interface NamedBySettings {
  /** Benchmarks, by the setting that lists them. */
  benchmarks?: Readonly<Record<string, readonly (PublicBenchmark | Benchmark)[]>>;
  /** What a policy samples with. */
  engine?: Engine;
}

/**
 * A configuration as the key of its result sees it: without `execution`, and without the engine where it is the
 * default.
 */
export type Semantics<Config> = Omit<Config, 'execution' | 'engine'> & { engine?: Engine };

export interface StageDefinition<
  Name extends string,
  Config extends z.ZodType<{ execution: unknown }>,
  Settings extends z.ZodType,
  Input extends z.ZodType<{ inputs: object; config: unknown }, object>,
  Measured extends z.ZodType<object>,
  Steps extends Record<string, StepDefinition>,
> {
  /** Workflow type, activity prefix, and key in configuration, status and summary. */
  name: Name;
  /** The stage in a few words: what it turns into what. */
  does: string;
  /** Kind of the artifact that the stage makes. */
  kind: ArtifactKind;
  /** Name of the trained model in the report and of its folder there; absent: the stage trains none. */
  model?: string;
  /** Settings of the stage: *semantics*, and `execution`, which is in no key. */
  config: Config;
  /** What stands for the stage in an experiment: its settings with all defaults, or optional settings. */
  settings: Settings;
  /** What the stage's workflow takes when it is started alone. */
  input: Input;
  /** An input to start from, for the documentation. A test checks it. */
  example: z.input<Input>;
  /** Metrics of the stage's artifact. The report reads them by this schema. */
  metrics: Measured;
  /**
   * What the stage made, for those that make rows: where it is nothing, the stage ends with `NoRows` and the reasons.
   * Absent: it trains a model.
   */
  makes?: (metrics: z.output<Measured>) => Made;
  steps: Steps;
  /** The steps of one shard, in order; absent where the stage has no shards. */
  shardSteps?: (config: z.output<Config>) => readonly (keyof Steps & string)[];
  /** Whether the step `prepare` runs, once, after the plan and before the first shard; absent: there is none. */
  prepares?: (config: z.output<Config>) => boolean;
  /** The settings that the stage's result depends on, where they are not just all but `execution`. */
  semantics?: (config: Semantics<z.output<Config>>, inputs: Record<string, ArtifactRef>) => object;
  /**
   * A configuration as the store may hold it from an earlier version, in the form of today; absent: no form has
   * changed.
   */
  stored?: (config: unknown) => unknown;
  /** What the settings name that lies on workers; absent: nothing. */
  names?: (config: z.output<Config>) => NamedBySettings;
  /** The inputs that decide the result under these settings, by their names in the key; absent: all of them. */
  decides?: (inputs: InputRefs, config: z.output<Config>) => InputRefs;
  /** Whether an endpoint is asked, for money, by the step `request`; absent: never. */
  asks?: (config: z.output<Config>) => boolean;
  /** Rows, tokens, time and bytes of the stage; tells later stages what it gives. */
  estimate: (config: z.output<Config>, run: EstimateRun) => StageEstimate;
}

/** A stage's answers for settings whose type the caller does not know. */
export interface StageAnswers {
  /** The steps of one shard, in order. */
  shardSteps: () => readonly string[];
  /** Whether the step `prepare` runs before the first shard. */
  prepares: () => boolean;
  /** What is in the key of the stage's result. */
  semantics: (inputs: Record<string, ArtifactRef>) => object;
  names: () => NamedBySettings;
  /** The inputs that decide the result, by their names in the key. */
  decides: (inputs: InputRefs) => Record<string, ArtifactRef>;
  asks: () => boolean;
  /** Settings of how the stage runs that its workflow reads itself. */
  execution: () => StageExecution;
  estimate: (run: EstimateRun) => StageEstimate;
}

/**
 * Keeps the types of a stage's parts, and adds `withSettings` for those who go through all stages.
 *
 * @example
 * STAGE.sampling.withSettings({ samples: 16 }).shardSteps(); // ['generate', 'judge']
 */
export function defineStage<
  const Name extends string,
  Config extends z.ZodType<{ execution: unknown }>,
  Settings extends z.ZodType,
  Input extends z.ZodType<{ inputs: object; config: unknown }, object>,
  Measured extends z.ZodType<object>,
  const Steps extends Record<string, StepDefinition>,
>(definition: StageDefinition<Name, Config, Settings, Input, Measured, Steps>) {
  const {
    config: schema,
    metrics: measured,
    makes,
    shardSteps,
    prepares,
    semantics,
    names,
    decides,
    asks,
    estimate,
  } = definition;
  return {
    ...definition,
    /**
     * Why a result of these metrics is nothing to go on with, and what to change; undefined where there is something.
     */
    noRows: (metrics: unknown): string | undefined => {
      const { data } = z.safeParse(measured, metrics);
      return data && makes && noRowsText(definition.name, makes(data));
    },
    /** What is not in a result of these metrics, by reason, for people; undefined where nothing was left out. */
    leftOut: (metrics: unknown): string | undefined => {
      const { data } = z.safeParse(measured, metrics);
      return data && makes && leftOutText(makes(data).leftOut);
    },
    /** @throws ZodError where the settings are none of this stage. */
    withSettings: (settings: unknown): StageAnswers => {
      const config = schema.parse(settings);
      return {
        shardSteps: () => shardSteps?.(config) ?? [],
        prepares: () => prepares?.(config) ?? false,
        semantics: (inputs) => semantics?.(semanticsOf(config), inputs) ?? semanticsOf(config),
        names: () => names?.(config) ?? {},
        decides: (inputs) => flattened(decides?.(inputs, config) ?? inputs),
        asks: () => asks?.(config) ?? false,
        execution: () => StageExecution.parse(config.execution),
        estimate: (run) => estimate(config, run),
      };
    },
  };
}

/** References by one name each: an input that holds several gives `input:name`. */
function flattened(inputs: InputRefs): Record<string, ArtifactRef> {
  return Object.fromEntries(
    Object.entries(inputs).flatMap(([name, input]): [string, ArtifactRef][] => {
      if (input === undefined) return [];
      return isRef(input) ? [[name, input]] : Object.entries(input).map(([key, ref]) => [`${name}:${key}`, ref]);
    }),
  );
}

function isRef(input: ArtifactRef | Readonly<Record<string, ArtifactRef>>): input is ArtifactRef {
  return typeof input['digest'] === 'string';
}

/** The input of a stage's workflow: one JSON object, so that the stage can be started alone. */
export function stageInput<I extends z.ZodRawShape, C extends z.ZodType>(inputs: I, config: C) {
  return z.strictObject({
    ...schemaField,
    inputs: z.strictObject(inputs).describe('what the stage works on'),
    config: config.describe('settings of the stage'),
  });
}

/**
 * The part of a stage's configuration that is in the stage key. `execution` never is, and of the engines only one that
 * is
 * not the default.
 *
 * @example
 * semanticsOf({ samples: 16, engine: 'transformers', execution: { window: 4 } }); // { samples: 16 }
 */
export function semanticsOf<C extends { execution: unknown }>(config: C): Semantics<C> {
  const { execution: _execution, engine, ...semantics } = config as C & { engine?: Engine };
  return { ...semantics, ...(engine === undefined || engine === ENGINES[0] ? {} : { engine }) };
}

/**
 * The version in the key of a sharded stage: the number that all of its steps have, or, where they differ, the version
 * of
 * each step. A stage whose steps all stay at one number keeps its keys.
 */
export function shardedVersion(
  steps: Record<string, StepDefinition>,
  shardSteps: readonly string[],
): number | Record<string, number> {
  const versions = Object.fromEntries(['plan', ...shardSteps, 'seal'].map((name) => [name, steps[name]!.version]));
  const [first, ...others] = [...new Set(Object.values(versions))];
  return others.length === 0 ? first! : versions;
}
