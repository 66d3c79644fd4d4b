/**
 * The experiment configuration. Each stage's object holds its *semantics* (what the result is; part of the stage key)
 * and, under `execution`, how it is got (never part of a key): a change of execution repeats nothing.
 */
import { z } from 'zod';
import { artifactInput, ArtifactRef } from './artifacts.js';

const count = z.number().int().positive();
const share = z.number().min(0).max(1);
const seed = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const deviceClass = z.string().regex(/^[a-z0-9-]+$/).optional().describe('device class whose queue the GPU work goes to');

/** Where a model comes from. It becomes an artifact before any stage uses it, so that its digest is an input of the key. */
export const ModelSource = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('gguf'), package: z.string().min(1), file: z.string().min(1) }),
  z.strictObject({ kind: z.literal('hub'), id: z.string().min(1), revision: z.string().min(1) }),
  z.strictObject({ kind: z.literal('folder'), path: z.string().min(1) }),
  z.strictObject({ kind: z.literal('artifact'), ref: ArtifactRef }),
]);
export type ModelSource = z.infer<typeof ModelSource>;

/** A benchmark: the experiment's own held-out questions, or every `every`-th HumanEval problem from `offset` on. */
export const Benchmark = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('heldOut') }),
  z.strictObject({
    kind: z.literal('humaneval'),
    every: count.default(1),
    offset: z.number().int().nonnegative().default(0),
  }).refine(({ every, offset }) => offset < every, { path: ['offset'], error: 'smaller than `every`' }),
]);
export type Benchmark = z.infer<typeof Benchmark>;

/** Name of a benchmark in rows and reports; a slice says so. */
export function benchmarkName(benchmark: Benchmark): string {
  if (benchmark.kind === 'heldOut') return 'heldOut';
  return benchmark.every === 1 ? 'humaneval' : `humaneval[${benchmark.offset}::${benchmark.every}]`;
}

/** Limits of one program in the sandbox. CPU time, because wall time makes verdicts depend on the neighbours. */
export const SandboxLimits = z.strictObject({
  cpuSecondsPerTest: z.number().positive().default(1),
  cpuSecondsPerProgram: z.number().positive().default(3),
  memoryBytes: count.default(512 * 1024 * 1024),
});
export type SandboxLimits = z.infer<typeof SandboxLimits>;

const Decoding = {
  temperature: z.number().positive().default(0.8),
  topP: z.number().positive().max(1).default(1),
  maxNewTokens: count.default(96),
};

const shardedExecution = { window: count.default(4).describe('shards in flight at once') };
const trainingExecution = {
  microBatch: count.default(8).describe('rows of one forward pass; lower it when memory runs out'),
  checkpointSeconds: z.number().positive().default(30),
  deviceClass,
};

export const SynthesisConfig = z.strictObject({
  teacher: z.discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('offline'),
      testCases: count.default(20).describe('test cases asked for per question'),
      corruptedShare: share.default(0.15).describe('share of expected values that are made wrong on purpose'),
      seed: seed.default(0),
    }),
  ]).prefault({ kind: 'offline' }),
  decontaminate: z.array(Benchmark).default([{ kind: 'humaneval', every: 1, offset: 0 }])
    .describe('benchmarks whose problems no seed may match'),
  limits: SandboxLimits.prefault({}),
  shardSize: count.default(256),
  salt: z.string().default(''),
  execution: z.strictObject({ ...shardedExecution }).prefault({}),
});

export const FilteringConfig = z.strictObject({
  oracle: z.discriminatedUnion('kind', [z.strictObject({ kind: z.literal('reference') })]).prefault({ kind: 'reference' }),
  minimumTestCases: count.default(5).describe('questions with fewer kept test cases are dropped'),
  minimumDistinctOutputs: count.default(2),
  heldOutShare: share.default(0.25),
  nearDuplicate: z.number().positive().max(1).default(0.8).describe('Jaccard similarity of shingles from which two questions go to one side'),
  limits: SandboxLimits.prefault({}),
  shardSize: count.default(256),
  salt: z.string().default(''),
  execution: z.strictObject({ ...shardedExecution }).prefault({}),
});

export const SamplingConfig = z.strictObject({
  samples: count.default(16).describe('programs per question'),
  ...Decoding,
  seed: seed.default(0),
  questions: z.strictObject({ train: count.optional(), heldOut: z.number().int().nonnegative().optional() }).prefault({})
    .describe('upper limits per split; absent means all'),
  limits: SandboxLimits.prefault({}),
  shardSize: count.default(256).describe('questions per shard'),
  salt: z.string().default(''),
  execution: z.strictObject({ ...shardedExecution, maxRows: count.default(64), deviceClass }).prefault({}),
});

export const PreferencesConfig = z.strictObject({
  minimumBest: share.default(0.8).describe('the chosen program passes at least this share (paper, equation 3)'),
  minimumGap: share.default(0.4),
  worstAbove: share.default(0).describe('the rejected program passes more than this share'),
  maximumPerQuestion: count.optional().describe('absent: all pairs, as the paper'),
  shardSize: count.default(2048).describe('questions per shard'),
  salt: z.string().default(''),
  execution: z.strictObject({ ...shardedExecution }).prefault({}),
});

export const RewardModelConfig = z.strictObject({
  learningRate: z.number().positive().default(1e-5),
  epochs: count.default(1),
  batchSize: count.default(128),
  maxLength: count.default(2048),
  upperLayers: count.nullable().default(null).describe('train only the upper n blocks and the head; null: all'),
  warmupRatio: share.default(0.1),
  schedule: z.enum(['cosine', 'constant']).default('cosine'),
  centerRewardsCoefficient: z.number().nonnegative().default(0),
  seed: seed.default(0),
  salt: z.string().default(''),
  execution: z.strictObject(trainingExecution).prefault({}),
});

/** Reward of a rollout: a weighted sum of its tests and its normalised reward-model score. */
export const RewardConfig = z.strictObject({
  testsWeight: z.number().nonnegative().default(1),
  tests: z.enum(['passRate', 'allPass']).default('allPass'),
  rewardModelWeight: z.number().nonnegative().default(0),
});

export const ReinforcementConfig = z.strictObject({
  rounds: count.default(1),
  promptsPerRound: count.default(256),
  samplesPerPrompt: z.number().int().min(2).default(8),
  ...Decoding,
  reward: RewardConfig.prefault({}).refine((reward) => reward.testsWeight + reward.rewardModelWeight > 0, {
    error: 'at least one of testsWeight and rewardModelWeight must be above 0',
  }),
  dropDegenerateGroups: z.boolean().default(false).describe('leave out groups whose rewards are all equal'),
  algorithm: z.strictObject({
    name: z.literal('reinforce++').default('reinforce++'),
    learningRate: z.number().positive().default(5e-7),
    beta: z.number().nonnegative().default(0.01).describe('coefficient of the KL penalty per token'),
    clip: z.number().positive().default(0.2),
    rewardClip: z.number().positive().default(10),
    batchSize: count.default(128),
    epochs: count.default(1),
    upperLayers: count.nullable().default(null),
    maxGradNorm: z.number().positive().default(1),
  }).prefault({}),
  seed: seed.default(0),
  limits: SandboxLimits.prefault({}),
  salt: z.string().default(''),
  execution: z.strictObject({ ...trainingExecution, maxRows: count.default(64) }).prefault({}),
});

export const EvaluationConfig = z.strictObject({
  benchmarks: z.array(Benchmark).min(1).default([{ kind: 'heldOut' }]),
  samples: z.number().int().nonnegative().default(16).describe('samples per task beside the greedy answer'),
  humanevalSamples: z.number().int().nonnegative().optional().describe('overrides `samples` on HumanEval'),
  ...Decoding,
  humanevalMaxNewTokens: count.optional().describe('overrides `maxNewTokens` on HumanEval'),
  passAtK: z.array(count).default([1]),
  bestOf: z.array(count).optional().describe('absent: all samples'),
  heldOutTasks: count.optional().describe('upper limit of held-out questions; absent means all'),
  seed: seed.default(0),
  limits: SandboxLimits.prefault({}),
  shardSize: count.default(64).describe('tasks per shard'),
  salt: z.string().default(''),
  execution: z.strictObject({ ...shardedExecution, maxRows: count.default(64), microBatch: count.default(8), deviceClass }).prefault({}),
}).superRefine((config, context) => {
  const atMost = (field: 'passAtK' | 'bestOf'): void => {
    (config[field] ?? []).forEach((value, index) => {
      // k = 1 is the default and asks for nothing where there are no samples.
      if (value > config.samples && value > 1) {
        context.addIssue({
          code: 'custom', path: [field, index], input: value,
          message: `${value} is larger than the ${config.samples} samples per task`,
        });
      }
    });
  };
  atMost('passAtK');
  atMost('bestOf');
});

export const StageConfigs = {
  synthesis: SynthesisConfig,
  filtering: FilteringConfig,
  sampling: SamplingConfig,
  preferences: PreferencesConfig,
  rewardModel: RewardModelConfig,
  reinforcement: ReinforcementConfig,
  evaluation: EvaluationConfig,
} as const;
export type StageConfig = { [S in keyof typeof StageConfigs]: z.infer<(typeof StageConfigs)[S]> };

/** What a user writes, after the preset that it extends has been merged in. */
export const Experiment = z.strictObject({
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, 'letters, digits, dot, dash and underscore'),
  seeds: artifactInput('seeds').describe('seed programs: a JSON Lines file on the pipeline worker, or an artifact'),
  models: z.strictObject({
    policy: ModelSource,
    rewardModel: ModelSource.optional().describe('backbone of the reward model; absent: the policy'),
  }),
  stages: z.strictObject({
    synthesis: SynthesisConfig.prefault({}),
    filtering: FilteringConfig.prefault({}),
    sampling: SamplingConfig.prefault({}),
    preferences: PreferencesConfig.prefault({}),
    rewardModel: RewardModelConfig.prefault({}),
    reinforcement: ReinforcementConfig.prefault({}),
    evaluation: EvaluationConfig.prefault({}),
  }).prefault({}),
  onFailure: z.enum(['park', 'fail']).default('park').describe('park: a stage that failed for good waits for retryStage'),
});
export type Experiment = z.infer<typeof Experiment>;

/** Splits a stage's configuration into the part that is in the stage key and the part that never is. */
export function semanticsOf<C extends { execution: unknown }>(config: C): Omit<C, 'execution'> {
  const { execution: _execution, ...semantics } = config;
  return semantics;
}

/** One mistake of an input: where, what stands there, and what is allowed. */
export interface Mistake {
  path: string;
  value: unknown;
  message: string;
}

/** All mistakes of a zod error as path, value and what is allowed. */
export function mistakesOf(error: z.ZodError, input: unknown): Mistake[] {
  return error.issues.flatMap((issue): Mistake[] => {
    const value = valueAt(input, issue.path);
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => ({
        path: [...issue.path, key].join('.'), value: valueAt(input, [...issue.path, key]), message: 'no such field',
      }));
    }
    return [{ path: issue.path.join('.') || '(top)', value, message: issue.message }];
  });
}

/** Mistakes as the text of an error: one line each, values shortened. */
export function describeMistakes(mistakes: readonly Mistake[]): string {
  return mistakes
    .map(({ path, value, message }) => {
      const text = value === undefined ? 'missing' : JSON.stringify(value);
      return `${path}: ${message} (is ${text.length > 80 ? `${text.slice(0, 77)}...` : text})`;
    })
    .join('\n');
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) => (typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined),
    input,
  );
}
