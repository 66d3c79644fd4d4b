/**
 * What `npm run bench:real` keeps of each part, and the tables that it prints of them: Markdown, as the page of results
 * has it. Pure: a part that has no result has no row.
 */
import { z } from 'zod';
import {
  ArtifactRef,
  Metrics,
  STAGE,
  type EvaluationResult,
  type SELECTIONS,
  type Selection,
} from '../../workflows/contract/index.js';

/** The parts in the order in which they run. */
export const PARTS = ['greedy', 'pairs', 'samples', 'reward-model', 'best-of-n'] as const;
export type Part = (typeof PARTS)[number];

const Spent = z.strictObject({
  /** From the start of the part, over all runs that worked on it. */
  wallSeconds: z.number(),
  /** Of the bench, its worker with all below it, and the servers. */
  cpuSeconds: z.number(),
});

const StageRecord = z.object({ ref: ArtifactRef, metrics: Metrics });
export type StageRecord = z.infer<typeof StageRecord>;

/** A finished part. `settings` are those that it ran with: another run with others makes it again. */
const PartRecord = z.strictObject({
  settings: z.json(),
  commit: z.string(),
  finished: z.string(),
  stages: z.record(z.string(), StageRecord),
  /** What no metric of a stage says: the share of `truncated` programs, and questions that repeat a task. */
  figures: z.partialRecord(z.enum(['truncated', 'repeated']), z.number()).optional(),
});
export type PartRecord = z.infer<typeof PartRecord>;

/** Numbers in which the model computes on a CPU. */
export const DTYPES = ['float32', 'bfloat16'] as const;
export type Dtype = (typeof DTYPES)[number];

export const RealRecord = z.strictObject({
  machine: z.string(),
  /** Of all parts: samples of one type are not scored in another. */
  dtype: z.enum(DTYPES).default('float32'),
  parts: z.partialRecord(z.enum(PARTS), PartRecord),
  /** Also of parts that have not ended. */
  spent: z.partialRecord(z.enum(PARTS), Spent),
});
export type RealRecord = z.infer<typeof RealRecord>;

/**
 * What the model's report says (arXiv 2409.12186, version 3, table of instruct models), as shares: of 164 problems, and
 * of 378 tasks, because 43.7 % is no whole number of tasks of 399.
 */
const REPORTED: Record<string, number> = { humaneval: 0.616, 'mbppPlus base': 0.524, mbppPlus: 0.437 };

const TITLES: Record<string, string> = { humaneval: 'HumanEval', 'mbppPlus base': 'MBPP', mbppPlus: 'MBPP+' };
const titleOf = (benchmark: string): string => TITLES[benchmark] ?? benchmark;

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const points = (share: number): string => `${share < 0 ? '−' : '+'}${Math.abs(100 * share).toFixed(1)}`;
const ends = ([low, high]: readonly [number, number]): string =>
  `${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)} %`;
const sure = (share: number, interval: readonly [number, number] | null | undefined): string =>
  interval ? `${percent(share)} (${ends(interval)})` : percent(share);
const hours = (seconds: number): string =>
  seconds < 3600 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
const whole = (value: number): string => value.toLocaleString('en-US', { maximumFractionDigits: 0 });

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n');
}

const evaluationOf = (part: PartRecord | undefined, stage: string) => {
  const found = part?.stages[stage];
  return found && STAGE.evaluation.metrics.parse(found.metrics);
};

/** The greedy answers next to the model's report. */
function greedyTable({ parts }: RealRecord): string | undefined {
  const results = ['humaneval', 'mbpp'].flatMap((stage) => evaluationOf(parts.greedy, stage)?.results ?? []);
  if (results.length === 0) return undefined;
  return table(
    ['benchmark', 'tasks', 'passed', 'share (95 %)', "the model's report", 'cut by the limit', 'without a verdict'],
    results.map(({ benchmark, tasks, greedy, greedyInterval, truncated, unjudged }) => [
      titleOf(benchmark),
      `${tasks}`,
      `${Math.round((greedy ?? 0) * tasks)}`,
      sure(greedy ?? 0, greedyInterval),
      REPORTED[benchmark] === undefined ? '' : percent(REPORTED[benchmark]),
      percent(truncated?.greedy ?? 0),
      `${unjudged ?? 0}`,
    ]),
  );
}

const reasons = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([reason, count]) => `${reason} ${count}`)
    .join(', ') || 'none';

/** From questions to pairs. */
function pairsTable({ parts }: RealRecord): string | undefined {
  const { pairs } = parts;
  if (!pairs) return undefined;
  const filtering = STAGE.filtering.metrics.parse(pairs.stages['filtering']!.metrics);
  const sampling = STAGE.sampling.metrics.parse(pairs.stages['sampling']!.metrics);
  const preferences = STAGE.preferences.metrics.parse(pairs.stages['preferences']!.metrics);
  return table(
    ['what', 'figure'],
    [
      ['questions left out, because they repeat a task of the test split', `${pairs.figures?.repeated ?? 0}`],
      ['questions kept (train, held out)', `${filtering.questions} (${filtering.train}, ${filtering.heldOut})`],
      ['questions dropped, by reason', reasons(filtering.droppedQuestions)],
      ['tests kept', `${filtering.keptTestCases} of ${filtering.testCases}`],
      ['programs with a verdict', whole(sampling.programs)],
      ['mean pass rate over tests', percent(sampling.meanPassRate)],
      [
        'programs cut by the limit',
        pairs.figures?.truncated === undefined ? 'not known' : percent(pairs.figures.truncated),
      ],
      [
        'questions with a pair (train, held out)',
        `${preferences.pairedQuestions}, ${preferences.heldOutPairedQuestions}`,
      ],
      ['pairs (train, held out)', `${preferences.pairs}, ${preferences.heldOutPairs}`],
      ['left out, by reason', reasons(preferences.skipped)],
    ],
  );
}

/** What the reward model learnt. */
function rewardModelTable({ parts }: RealRecord): string | undefined {
  const record = parts['reward-model']?.stages['rewardModel'];
  if (!record) return undefined;
  const metrics = STAGE.rewardModel.metrics.parse(record.metrics);
  const { heldOutAccuracy, interval95, baselineAccuracy, curve } = metrics;
  const mean = (some: typeof curve): string =>
    (some.reduce((sum, { loss }) => sum + loss, 0) / Math.max(1, some.length)).toFixed(3);
  const fifth = Math.max(1, Math.floor(curve.length / 5));
  return table(
    ['what', 'figure'],
    [
      ['held-out pairs (questions)', `${metrics.heldOutPairs} (${metrics.heldOutQuestions})`],
      ['accuracy on them (95 %)', heldOutAccuracy === null ? '' : sure(heldOutAccuracy, interval95)],
      ['accuracy before the training', baselineAccuracy === null ? '' : percent(baselineAccuracy)],
      ['pairs, steps', `${metrics.pairs}, ${metrics.steps}`],
      ['pairs longer than the limit (train, held out)', `${metrics.tooLong}, ${metrics.heldOutTooLong}`],
      [
        'loss, mean of the first and last fifth of steps',
        `${mean(curve.slice(0, fifth))}, ${mean(curve.slice(-fifth))}`,
      ],
    ],
  );
}

const METHODS: [(typeof SELECTIONS)[number], string][] = [
  ['rewardModel', 'reward model'],
  ['tests', 'tests'],
  ['testsAndRewardModel', 'tests, then reward model'],
  ['majority', 'majority'],
];

/** Best-of-N by whoever may choose; before the reward model is there, by those that need none. */
function bestOfNTable({ parts }: RealRecord): string | undefined {
  const results = (evaluationOf(parts['best-of-n'], 'scored') ?? evaluationOf(parts.samples, 'samples'))?.results;
  const result = results?.find(({ benchmark }) => benchmark === 'mbppPlus');
  if (!result) return undefined;
  const sizes = [...new Set((result.selections ?? []).map(({ N }) => N))].sort((a, b) => a - b);
  const chosen = (method: string, N: number): Selection | undefined =>
    result.selections?.find((each) => each.method === method && each.N === N);
  const largest = sizes.at(-1) ?? 0;
  const row = (name: string, cells: readonly string[], gain = ''): string[] => [name, ...cells, gain];
  return table(
    ['who chooses', ...sizes.map((N) => `of ${N}`), `points over random, of ${largest} (95 %)`],
    [
      row(
        'random',
        sizes.map(() => sure(result.mean ?? 0, result.intervals?.mean)),
      ),
      ...METHODS.flatMap(([method, title]) => {
        const last = chosen(method, largest);
        if (!last) return [];
        const [low, high] = last.gainInterval;
        const cells = sizes.map((N) => {
          const selection = chosen(method, N);
          return selection ? sure(selection.rate, selection.interval) : '';
        });
        return [row(title, cells, `${points(last.gain)} (${points(low)} to ${points(high)})`)];
      }),
      row(
        'oracle',
        sizes.map((N) => sure(result.passAtK[N] ?? 0, result.intervals?.passAtK[N])),
      ),
    ],
  );
}

/** How the samples of Best-of-N came out as samples. */
function sampledLines({ parts }: RealRecord): string[] {
  const evaluation = evaluationOf(parts.samples, 'samples');
  return (evaluation?.results ?? []).map(
    ({ benchmark, tasks, samples, mean, intervals, truncated, unjudged }: EvaluationResult) =>
      `- ${titleOf(benchmark)}: ${tasks} tasks, ${samples} samples each, a sample passes in ` +
      `${sure(mean ?? 0, intervals?.mean)}, ${percent(truncated?.samples ?? 0)} cut by the limit, ` +
      `${unjudged ?? 0} without a verdict.`,
  );
}

const tokensOf = (part: PartRecord | undefined): number =>
  Object.values(part?.stages ?? {}).reduce((sum, { metrics }) => sum + Number(metrics['tokens'] ?? 0), 0);

/** What each part cost, those that have not ended included. */
function costTable({ parts, spent }: RealRecord): string | undefined {
  const rows = PARTS.flatMap((part) => {
    const cost = spent[part];
    if (!cost) return [];
    const tokens = tokensOf(parts[part]);
    return [
      [
        `\`${part}\``,
        parts[part] ? `${parts[part].finished.slice(0, 10)}, ${parts[part].commit.slice(0, 8)}` : 'has not ended',
        hours(cost.wallSeconds),
        hours(cost.cpuSeconds),
        tokens ? whole(tokens) : '',
      ],
    ];
  });
  return rows.length === 0 ? undefined : table(['part', 'ended, commit', 'wall time', 'CPU time', 'tokens'], rows);
}

/** All tables that there is something for, under their headings, and which parts are not measured yet. */
export function realReport(record: RealRecord): string {
  const missing = PARTS.filter((part) => !record.parts[part]);
  const sections: [string, string | undefined][] = [
    ['Greedy answers', greedyTable(record)],
    ['Pairs', pairsTable(record)],
    ['Reward model', rewardModelTable(record)],
    ['Best-of-N on MBPP+', [bestOfNTable(record), sampledLines(record).join('\n')].filter(Boolean).join('\n\n')],
    ['Cost', costTable(record)],
  ];
  return [
    `Machine: ${record.machine}. The model computes in ${record.dtype}.`,
    ...(missing.length > 0 ? [`Not measured yet: ${missing.join(', ')}.`] : []),
    ...sections.flatMap(([title, text]) => (text ? [`### ${title}`, text] : [])),
  ].join('\n\n');
}
