/**
 * What a stage will take: rates that were measured or, where said, extrapolated, and the arithmetic over them. Pure.
 */
import type { ModelSource } from './models.js';

/**
 * Tokens, answers and shares of one finished run of `quickstart` (SmolLM2-135M-Instruct, the project's own 120 seeds).
 */
export const MEASURED_RUN = {
  where: 'quickstart on 2 CPU cores (AVX-512), SmolLM2-135M-Instruct',
  /** Questions per seed: 117 of 120; the others repeat HumanEval. */
  questionsPerSeed: 0.975,
  promptTokens: 91,
  /** Tokens of an answer as a share of `maxNewTokens`, which was 64. */
  answerShare: 0.67,
  /** Train pairs as a share of all pairs of a question's programs: 29 of 40 x 15. */
  pairShare: 0.048,
  /** Sandbox CPU seconds of one judged program with 17 test cases. */
  sandboxSeconds: 0.0165,
  /** Loading a model into the runtime, in seconds. */
  loadSeconds: 4,
  /** Stored JSON of one row, in bytes. */
  rowBytes: { question: 3_400, program: 1_500, pair: 520, rollout: 1_700, answer: 1_700 },
  parameters: 134.5e6,
} as const;

/** Test cases that an oracle keeps of a language model's (paper, table 1: 15.87 of 18.26). */
export const KEPT_OF_A_LANGUAGE_MODEL = 0.87;
/** Bytes of a seed, where nobody counted them. */
const SEED_BYTES = 600;
/** An answer is taken to be no longer than this, in tokens, however high the limit: nothing longer was measured. */
export const LONGEST_ANSWER = 300;
const FLOAT_BYTES = 4;

/**
 * How fast a device works. Arithmetic in floating-point operations a second, 2 a parameter and token forwards, 4
 * backwards.
 */
export interface Device {
  description: string;
  /** Where the rates come from; `extrapolated` ones were never measured. */
  basis: 'measured' | 'extrapolated';
  forward: number;
  training: number;
  /** Tokens a second of sampling `rows` answers at once from a model of `parameters`. */
  generation: (parameters: number, rows: number) => number;
  /** Device memory; absent where the host's memory is used. */
  memoryBytes?: number;
}

/** Sampling is bound by steps of at most 30 a second, each of which reads the bfloat16 weights once. */
const gpuGeneration =
  (bytesPerSecond: number) =>
  (parameters: number, rows: number): number =>
    rows * Math.min(30, (0.6 * bytesPerSecond) / (2 * parameters));

export const DEVICES: Record<string, Device> = {
  cpu: {
    description: '2 CPU cores',
    basis: 'measured',
    forward: 800 * 2 * MEASURED_RUN.parameters,
    training: 7e10,
    generation: (parameters) => (140 * MEASURED_RUN.parameters) / parameters,
  },
  'gpu-24gb': {
    description: 'GPU of 24 GB, 1 TB/s, 165 Tflop/s',
    basis: 'extrapolated',
    forward: 0.35 * 165e12,
    training: 0.35 * 165e12,
    generation: gpuGeneration(1e12),
    memoryBytes: 24e9,
  },
  'gpu-80gb': {
    description: 'GPU of 80 GB, 3.3 TB/s, 990 Tflop/s',
    basis: 'extrapolated',
    forward: 0.35 * 990e12,
    training: 0.35 * 990e12,
    generation: gpuGeneration(3.3e12),
    memoryBytes: 80e9,
  },
};

/** Size of a model: parameters, and decoder blocks where they are known. */
export interface ModelSize {
  parameters: number;
  blocks?: number | undefined;
}

const KNOWN_MODELS: [RegExp, ModelSize][] = [
  [/SmolLM2-135M/i, { parameters: 134.5e6, blocks: 30 }],
  [/Qwen2\.5-Coder-0\.5B/i, { parameters: 494e6, blocks: 24 }],
  [/Qwen2\.5-Coder-1\.5B/i, { parameters: 1.54e9, blocks: 28 }],
  [/Qwen2\.5-Coder-7B/i, { parameters: 7.62e9, blocks: 28 }],
];

/** The size that a model's name tells; undefined where it tells none. */
export function sizeOf(source: ModelSource): ModelSize | undefined {
  const name =
    source.kind === 'gguf'
      ? source.file
      : source.kind === 'ggufFile'
        ? source.paths[0]!
        : source.kind === 'hub'
          ? source.id
          : source.kind === 'folder'
            ? source.path
            : '';
  const known = KNOWN_MODELS.find(([pattern]) => pattern.test(name))?.[1];
  if (known) return known;
  const [, number, unit] = /(\d+(?:\.\d+)?)([BM])\b/i.exec(name) ?? [];
  return number === undefined ? undefined : { parameters: Number(number) * (unit!.toUpperCase() === 'B' ? 1e9 : 1e6) };
}

export interface EstimateFacts {
  /** Number of seed programs. */
  seeds: number;
  /** Bytes of a seed on average; absent: {@link SEED_BYTES}. */
  seedBytes?: number | undefined;
  policy: ModelSize;
  /** The model that samples programs; absent: the policy. */
  sampler?: ModelSize | undefined;
  backbone: ModelSize;
  device: Device;
  /** Devices that sample and evaluate at once; a training uses one. */
  devices: number;
  /** Price of one device for an hour, in US dollars; absent: not counted. */
  dollarsPerDeviceHour?: number | undefined;
}

/** Expected replies of an endpoint: tokens, what they cost, and what they cost when each is as long as it may be. */
export interface RepliesEstimate {
  promptTokens: number;
  completionTokens: number;
  /** US dollars. */
  dollars: number;
  /** US dollars. */
  atMost: number;
}

/** The replies of a stage that asks for none. */
export const NO_REPLIES: RepliesEstimate = { promptTokens: 0, completionTokens: 0, dollars: 0, atMost: 0 };

/** Replies as a line of an estimate. */
export function repliesOf(
  who: string,
  { dollars, atMost }: RepliesEstimate,
  budgetUsd: number | undefined,
): NonNullable<StageEstimate['replies']> {
  return { who, dollars, atMostDollars: atMost, budgetDollars: budgetUsd ?? null };
}

/** What one stage will take. */
export interface StageEstimate {
  /** Rows by what they are. */
  rows: Record<string, number>;
  tokens: { prompt: number; generated: number; trained: number };
  sandboxCpuSeconds: number;
  /** Seconds of all devices together. */
  deviceSeconds: number;
  /** Seconds that pass, with `devices` at work where the stage can use them. */
  seconds: number;
  /** What the store keeps. */
  bytes: number;
  /** Bytes of those that a host's cache does not hold. */
  uncachedBytes?: number;
  /** Device memory that weights, gradients and optimizer need; activations come on top. */
  memoryBytes?: number;
  /** What the stage asks an endpoint. `who` names it in words. */
  replies?: { who: string; dollars: number; atMostDollars: number; budgetDollars: number | null };
  /** What was not measured, in words. */
  extrapolated?: string[];
  /** What will not work as configured, in words. */
  warnings?: string[];
}

/**
 * An experiment on the way through its stages: the facts, what the stages so far give, and the arithmetic that stages
 * share.
 * Each stage reads the counts of those before it and sets its own.
 */
export class EstimateRun {
  /** Questions, and their test cases, out of synthesis. */
  questions = 0;
  testCases = 0;
  /** Test cases that the oracle keeps. */
  keptTestCases = 0;
  /** Questions per split, out of filtering. */
  train = 0;
  heldOut = 0;
  /** Train questions that programs are sampled for, and questions of both splits. */
  sampledTrain = 0;
  sampled = 0;
  /** Programs per question, and the limit of each, in tokens. */
  samples = 0;
  programTokens = 0;
  /** Policies that evaluation asks: the one before RL, and those that stages train. */
  policies = 1;
  /** Preference pairs of train questions, and of held-out ones. */
  pairs = 0;
  heldOutPairs = 0;

  constructor(readonly facts: EstimateFacts) {}

  /** Seconds until a model is loaded. */
  get load(): number {
    const { device, policy } = this.facts;
    return (
      MEASURED_RUN.loadSeconds *
      Math.max(1, device.basis === 'measured' ? policy.parameters / MEASURED_RUN.parameters : 1)
    );
  }

  get seedBytes(): number {
    return this.facts.seedBytes ?? SEED_BYTES;
  }

  /** Tokens of a usual answer under a limit. */
  answerTokens(limit: number): number {
    return Math.min(MEASURED_RUN.answerShare * limit, LONGEST_ANSWER);
  }

  /** Seconds of sampling `tokens`, of `rows` answers with at most `at` in a batch. */
  generating({ parameters }: ModelSize, tokens: number, rows: number, at: number): number {
    return tokens / this.facts.device.generation(parameters, Math.max(1, Math.min(rows, at)));
  }

  /** Seconds of training on `tokens`. */
  training(model: ModelSize, upperLayers: number | null, tokens: number): number {
    return (tokens * (2 * model.parameters + 4 * trained(model, upperLayers))) / this.facts.device.training;
  }

  /** Seconds of a forward pass over `tokens`. */
  forward({ parameters }: ModelSize, tokens: number): number {
    return (tokens * 2 * parameters) / this.facts.device.forward;
  }

  /** Bytes of device memory: float32 weights, gradients and Adam of what is trained, and frozen bfloat16 copies. */
  memory(model: ModelSize, upperLayers: number | null, frozenCopies: number): number {
    return (
      FLOAT_BYTES * model.parameters +
      3 * FLOAT_BYTES * trained(model, upperLayers) +
      frozenCopies * 2 * model.parameters
    );
  }

  /** Bytes of a model's weights as they are stored. */
  stored({ parameters }: ModelSize): number {
    return FLOAT_BYTES * parameters;
  }

  /** Bytes of a model's trained weights as they are stored. */
  storedTrained(model: ModelSize, upperLayers: number | null): number {
    return FLOAT_BYTES * trained(model, upperLayers);
  }

  /** Shards that are at work at once, each on a device. */
  shardsAtOnce(rows: number, shardSize: number, window: number): number {
    return Math.max(1, Math.min(this.facts.devices, window, Math.ceil(rows / shardSize)));
  }

  /** A stage's estimate with what it leaves out filled in; `atOnce` devices work for it at the same time. */
  stage(part: Partial<Omit<StageEstimate, 'seconds'>>, atOnce = 1): StageEstimate {
    const deviceSeconds = part.deviceSeconds ?? 0;
    const sandboxCpuSeconds = part.sandboxCpuSeconds ?? 0;
    return {
      rows: {},
      tokens: { prompt: 0, generated: 0, trained: 0 },
      bytes: 0,
      ...part,
      sandboxCpuSeconds,
      deviceSeconds,
      // Programs are judged while the next ones are sampled: the longer of the two counts.
      seconds: Math.max(deviceSeconds / atOnce, sandboxCpuSeconds),
    };
  }
}

/** Trained parameters: a share of the blocks where their number is known, otherwise all. */
function trained({ parameters, blocks }: ModelSize, upperLayers: number | null): number {
  // Embeddings are no part of the blocks; a fifth of the parameters of a small model is a fair share for them.
  return upperLayers === null || blocks === undefined
    ? parameters
    : 0.8 * parameters * Math.min(1, upperLayers / blocks);
}
