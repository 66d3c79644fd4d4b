/**
 * Figures of the paper (AceCoder, arXiv 2502.01718 version 4) that this project can measure: the nine benchmark columns
 * of tables 3, 4, 7 and 8, with their average, in percent. A row names the cell of the sweep that measures it.
 */

/** The columns of all four tables in their order, and the result of an evaluation that is each one's figure. */
export const COLUMNS = [
  { name: 'HumanEval', result: 'humanevalPlus base' },
  { name: 'HumanEval+', result: 'humanevalPlus' },
  { name: 'MBPP', result: 'mbppPlus base' },
  { name: 'MBPP+', result: 'mbppPlus' },
  { name: 'BigCodeBench-Complete, full', result: 'bigcodebench-complete' },
  { name: 'BigCodeBench-Complete, hard', result: 'bigcodebench-hard-complete' },
  { name: 'BigCodeBench-Instruct, full', result: 'bigcodebench-instruct' },
  { name: 'BigCodeBench-Instruct, hard', result: 'bigcodebench-hard-instruct' },
  { name: 'LiveCodeBench v4', result: 'livecodebench' },
] as const;

/** What of a policy's results a row holds. */
export type Figure = 'greedy' | 'mean' | 'oracle' | { bestOf: number };

export interface PaperRow {
  name: string;
  /** Preset and policy of the cell. */
  preset: string;
  policy: string;
  of: 'initial' | 'trained';
  figure: Figure;
  /** Nine columns and their average. */
  published: readonly number[];
}

export interface PaperTable {
  /** In version 4 of the paper. */
  number: number;
  title: string;
  /** Name of the sweep, and of its file in infra/experiments. */
  sweep: string;
  rows: readonly PaperRow[];
}

const MISTRAL = 'mistralai/Mistral-7B-Instruct-v0.3';
const LLAMA = 'meta-llama/Llama-3.1-8B-Instruct';
const CODER = 'Qwen/Qwen2.5-Coder-7B-Instruct';
const CODER_BASE = 'Qwen/Qwen2.5-Coder-7B';
const QWEN = 'Qwen/Qwen2.5-7B-Instruct';

const short = (policy: string): string => policy.replace(/^.*\//, '');
const numbers = (text: string): number[] => text.trim().split(/\s+/).map(Number);

/** Rows of Best-of-N for one model, in the order of the lines: greedy, mean, oracle, then N of 16, 32 and 64 by each reward model. */
function bestOfN(policy: string, lines: string): PaperRow[] {
  const [greedy, mean, oracle, ...chosen] = lines.trim().split('\n').map(numbers) as [number[], number[], number[]];
  const row = (name: string, preset: string, figure: Figure, published: number[]): PaperRow => ({
    name: `${short(policy)}, ${name}`,
    preset,
    policy,
    of: 'initial',
    figure,
    published,
  });
  const presets = [
    ['RM-7B', 'paper-7b-best-of-n'],
    ['RM-32B', 'paper-32b-best-of-n'],
  ] as const;
  return [
    row('greedy', presets[0][1], 'greedy', greedy),
    row('mean of 64 samples', presets[0][1], 'mean', mean),
    row('oracle of 64 samples', presets[0][1], 'oracle', oracle),
    ...presets.flatMap(([name, preset], which) =>
      [16, 32, 64].map((N, index) =>
        row(`${name}, N = ${N}`, preset, { bestOf: N }, (chosen as number[][])[3 * which + index]!),
      ),
    ),
  ];
}

/** A policy before reinforcement learning and after it, with the reward of the reward model and with the rule. */
function rewards(policy: string, lines: string): PaperRow[] {
  const [before, rewardModel, rule] = lines.trim().split('\n').map(numbers) as [number[], number[], number[]];
  const row = (name: string, preset: string, of: PaperRow['of'], published: number[]): PaperRow => ({
    name: `${short(policy)}, ${name}`,
    preset,
    policy,
    of,
    figure: 'greedy',
    published,
  });
  return [
    row('before', 'paper-7b', 'initial', before),
    row('reward model', 'paper-7b-reward-model', 'trained', rewardModel),
    row('rule', 'paper-7b', 'trained', rule),
  ];
}

/** Best-of-16 for two models by two reward models: first the ablated one, then the paper's. */
function ablation(name: string, preset: string, lines: string): PaperRow[] {
  const ways = [
    [name, preset],
    ["the paper's", 'paper-7b-best-of-n'],
  ] as const;
  const published = lines.trim().split('\n').map(numbers);
  return [LLAMA, CODER].flatMap((policy, model) =>
    ways.map(([way, of], index): PaperRow => ({
      name: `${short(policy)}, ${way}`,
      preset: of,
      policy,
      of: 'initial',
      figure: { bestOf: 16 },
      published: published[2 * model + index]!,
    })),
  );
}

export const PAPER_TABLES: readonly PaperTable[] = [
  {
    number: 3,
    title: 'Best-of-N for three models by two reward models',
    sweep: 'paper-table-3',
    rows: [
      ...bestOfN(
        MISTRAL,
        `
36.6 31.1 49.5 41.3 25.9 6.1 20.1 5.4 7.3 24.8
37.1 30.8 45.1 38.0 21.7 4.2 17.6 3.0 4.0 22.4
87.2 78.0 83.9 73.5 68.4 37.8 58.5 31.1 24.3 60.3
65.9 56.7 59.3 52.4 35.1 10.1 29.3 8.8 11.9 36.6
68.3 58.5 59.8 51.6 37.4 8.8 30.7 10.8 14.6 37.8
71.3 61.6 59.8 51.6 39.4 6.8 31.8 9.5 15.4 38.6
68.3 61.0 58.7 49.5 37.7 11.5 30.9 10.1 12.9 37.8
72.6 65.9 61.6 51.6 40.5 9.5 33.9 13.5 16.1 40.6
75.0 64.6 60.6 50.0 42.7 15.5 35.6 13.5 17.4 41.7`,
      ),
      ...bestOfN(
        LLAMA,
        `
68.9 62.2 67.2 54.8 38.5 12.8 31.8 13.5 18.0 40.9
61.7 54.9 64.5 54.5 32.8 10.1 26.6 9.0 13.8 36.4
93.9 90.2 92.1 82.3 80.0 54.7 67.9 48.6 40.8 72.3
77.4 70.7 76.5 64.3 45.8 20.3 36.4 12.2 26.1 47.7
79.9 72.6 76.2 62.4 47.6 23.0 37.3 13.5 27.3 48.9
81.7 74.4 74.6 61.9 47.8 23.6 38.1 13.5 27.6 49.3
82.3 74.4 72.8 60.6 49.8 20.3 38.4 13.5 27.5 48.8
81.7 76.2 72.8 60.6 50.4 22.3 39.1 13.5 30.3 49.6
85.4 79.3 72.0 59.0 48.5 19.6 40.0 13.5 31.0 49.8`,
      ),
      ...bestOfN(
        CODER,
        `
91.5 86.0 82.8 71.4 49.5 19.6 41.8 20.3 34.2 55.2
86.0 80.1 77.9 65.6 45.3 18.6 37.3 16.2 31.8 51.0
98.2 95.7 97.4 90.7 80.9 62.8 73.5 53.4 57.4 78.9
90.2 82.9 88.6 74.9 53.8 20.9 45.0 21.6 40.1 57.6
90.9 86.0 87.8 74.1 53.4 25.0 43.9 19.6 39.8 57.8
90.9 85.4 87.6 73.8 52.9 24.3 43.5 21.6 40.1 57.8
90.2 86.6 88.4 74.9 53.9 25.0 45.4 19.6 44.0 58.7
90.2 86.6 88.4 75.4 55.4 29.7 45.6 21.6 43.5 59.6
89.6 86.0 87.8 75.1 55.0 26.4 46.1 22.3 44.5 59.2`,
      ),
    ],
  },
  {
    number: 4,
    title: 'reinforcement learning for three policies by two rewards',
    sweep: 'paper-table-4',
    rows: [
      ...rewards(
        QWEN,
        `
81.7 73.2 79.4 67.7 45.6 16.9 38.4 14.2 29.0 49.6
83.5 77.4 83.1 71.2 46.8 16.9 39.0 14.9 30.3 51.5
84.1 77.4 80.2 68.3 46.8 15.5 40.2 15.5 30.1 50.9`,
      ),
      ...rewards(
        CODER_BASE,
        `
61.6 53.0 76.9 62.9 45.8 16.2 40.2 14.2 28.7 44.4
83.5 75.6 80.2 67.2 41.9 14.9 36.8 16.2 25.7 49.1
84.1 78.0 82.3 69.3 48.6 18.2 43.2 18.2 28.5 52.3`,
      ),
      ...rewards(
        CODER,
        `
91.5 86.0 82.8 71.4 49.5 19.6 41.8 20.3 34.2 55.2
89.0 84.1 86.0 72.8 50.4 18.9 42.0 19.6 35.0 55.3
90.9 84.8 84.1 71.7 50.9 23.0 43.3 19.6 34.9 55.9`,
      ),
    ],
  },
  {
    number: 7,
    title: 'the test filter: Best-of-16 by a reward model of unfiltered test cases',
    sweep: 'paper-table-7',
    rows: ablation(
      'unfiltered',
      'paper-7b-unfiltered',
      `
73.8 65.9 73.3 61.4 44.6 17.6 35.5 9.5 25.1 45.2
77.4 70.7 76.5 64.3 45.8 20.3 36.4 12.2 26.1 47.7
91.5 86.0 86.0 72.2 52.5 21.6 43.4 19.6 36.9 56.6
90.2 82.9 88.6 74.9 53.8 20.9 45.0 21.6 40.1 57.6`,
    ),
  },
  {
    number: 8,
    title: "the reward model's backbone: Best-of-16 by a reward model that starts from Llama-3.1-8B-Instruct",
    sweep: 'paper-table-8',
    rows: ablation(
      'Llama backbone',
      'paper-7b-llama-backbone',
      `
65.9 59.1 69.6 57.9 42.7 12.8 32.9 13.5 19.9 41.6
77.4 70.7 76.5 64.3 45.8 20.3 36.4 12.2 26.1 47.7
87.8 81.7 82.0 67.7 50.5 25.0 39.0 19.6 32.4 54.0
90.2 82.9 88.6 74.9 53.8 20.9 45.0 21.6 40.1 57.6`,
    ),
  },
];
