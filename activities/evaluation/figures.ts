/**
 * The figures of an evaluation from its rows: one policy on one benchmark, and two policies on the same tasks. Pure.
 * Callers: the seal of an evaluation, re-verification, and comparisons of experiments.
 *
 * An answer that could not be judged is left out of every rate and counted; it is never a wrong one.
 */
import {
  TASK_PARTS,
  type Comparison,
  type EvaluationResult,
  type EvaluationRow,
  type TaskPart,
  type Selection,
  type Verdict,
} from '../../workflows/contract/index.js';
import { deriveSeed } from '../artifacts/keys.js';
import { bootstrapMeans, type BootstrappedMean } from '../statistics/bootstrap.js';
import { wilsonInterval } from '../statistics/intervals.js';
import { holm, mcnemar, minimalDetectableDifference } from '../statistics/paired.js';
import { bestOfN, majority, mean, passAtK, type Ranked } from '../statistics/pass-at-k.js';
import { qualityWeights, weightedShares } from '../statistics/verifier-quality.js';

/** Chance of a false alarm up to which a difference is told, over all comparisons together. */
const SIGNIFICANT = 0.05;
/** Draws by which Best-of-N by majority is estimated where N is less than all samples. */
const MAJORITY_DRAWS = 256;

export interface FigureSettings {
  /** Each k of pass@k. */
  passAtK: readonly number[];
  /** Each N of Best-of-N; absent: all samples. */
  bestOf?: readonly number[] | undefined;
  /** Leading tests of each task by which Best-of-N may choose; the verdict is that of all tests. */
  selectionTests?: number | undefined;
  /** Whether Best-of-N may choose by these tests with weights, too. */
  selectionWeights?: true | undefined;
  /** Seed of the evaluation, from which the draws of intervals follow. */
  seed?: number | undefined;
}

/** Figures of a part of the tasks, which is no policy on a benchmark of its own. */
type PartFigures = NonNullable<EvaluationResult[TaskPart]>;

/** What figures read of a row. */
export type FigureRow = Pick<
  EvaluationRow,
  'benchmark' | 'policy' | 'taskId' | 'mode' | 'passed' | 'outcomes' | 'finish' | 'program' | 'score'
>;

/** Ids of a benchmark's tasks that a question of the training repeats; undefined where nobody looked. */
export type SuspectsOf = (benchmark: string) => ReadonlySet<string> | undefined;

/** Rows of a part of the tasks. */
function rowsOf(part: TaskPart, rows: readonly FigureRow[], suspects: ReadonlySet<string>): FigureRow[] {
  return rows.filter(({ taskId }) => suspects.has(taskId) === (part === 'suspect'));
}

interface TaskAnswers {
  id: string;
  greedy?: FigureRow;
  samples: FigureRow[];
}

/**
 * The figures of one policy on one benchmark. Each is a mean over tasks.
 *
 * @throws RangeError for no row, or rows of several policies or benchmarks.
 * @example
 * evaluate(rows, { passAtK: [1], seed: 7 }).intervals?.passAtK['1']; // [0.31, 0.44]
 */
export function evaluate(rows: readonly FigureRow[], settings: FigureSettings): EvaluationResult {
  const first = rows[0];
  if (!first || rows.some(({ benchmark, policy }) => benchmark !== first.benchmark || policy !== first.policy))
    throw new RangeError('figures are those of one policy on one benchmark');
  const { benchmark, policy } = first;
  const { tasks, asked, unjudged } = tasksOf(rows);
  const greedy = tasks.flatMap((task) => (task.greedy ? [task.greedy.passed ? 1 : 0] : []));
  const samples = tasks.length === 0 ? 0 : Math.min(...tasks.map((task) => task.samples.length));
  const seed = deriveSeed(settings.seed ?? 0, 'figures', benchmark, policy);

  const columns: Record<string, number[]> = {};
  const sizes = (wanted: readonly number[]): number[] => wanted.filter((size) => size > 0 && size <= samples);
  const [ks, Ns] = [sizes(settings.passAtK), sizes(settings.bestOf ?? [samples])];
  const passing = ({ samples: of }: TaskAnswers): number => of.filter(({ passed }) => passed).length;
  if (samples > 0) {
    columns['mean'] = tasks.map((task) => passing(task) / task.samples.length);
    columns['oracle'] = tasks.map((task) => (passing(task) > 0 ? 1 : 0));
    for (const k of ks) columns[`pass@${k}`] = tasks.map((task) => passAtK(task.samples.length, passing(task), k));
  }
  const chosen = samples > 0 ? selections(tasks, Ns, settings, seed) : [];
  for (const { method, N, rates } of chosen) {
    columns[`${method}@${N}`] = rates;
    columns[`${method}@${N} gain`] = rates.map((rate, task) => rate - columns['mean']![task]!);
  }
  const drawn: Record<string, BootstrappedMean> = samples > 0 ? bootstrapMeans(columns, { seed }) : {};
  const table = <T>(of: readonly number[], name: string, value: (figure: BootstrappedMean) => T): Record<string, T> =>
    Object.fromEntries(
      of.flatMap((size) => {
        const figure = drawn[`${name}@${size}`];
        return figure ? [[String(size), value(figure)]] : [];
      }),
    );
  const rate = ({ mean: value }: BootstrappedMean): number => value;
  const interval = ({ interval: ends }: BootstrappedMean): [number, number] => ends;
  const tooLong = new Set(rows.flatMap(({ finish, taskId }) => (finish === 'promptTooLong' ? [taskId] : []))).size;
  const cut = (mode: EvaluationRow['mode']): number | null =>
    mean(rows.filter((row) => row.mode === mode).map(({ finish }) => (finish === 'length' ? 1 : 0)));

  return {
    benchmark,
    policy,
    tasks: tasks.length,
    samples,
    greedy: mean(greedy),
    greedyInterval: wilsonInterval(greedy.filter((passed) => passed === 1).length, greedy.length) ?? null,
    mean: drawn['mean']?.mean ?? null,
    passAtK: table(ks, 'pass', rate),
    bestOfN: table(Ns, 'rewardModel', rate),
    oracle: drawn['oracle']?.mean ?? null,
    intervals: {
      mean: drawn['mean']?.interval ?? null,
      passAtK: table(ks, 'pass', interval),
      bestOfN: table(Ns, 'rewardModel', interval),
      oracle: drawn['oracle']?.interval ?? null,
    },
    selections: chosen.map(({ method, N }): Selection => {
      const [own, gain] = [drawn[`${method}@${N}`]!, drawn[`${method}@${N} gain`]!];
      return {
        method,
        N,
        rate: own.mean,
        interval: own.interval,
        gain: gain.mean,
        gainInterval: gain.interval,
      };
    }),
    truncated: { greedy: cut('greedy'), samples: cut('sample') },
    ...(tooLong > 0 ? { promptTooLong: tooLong } : {}),
    unjudged,
    tasksWithoutVerdict: asked - tasks.length,
  };
}

/**
 * The figures of one policy on one benchmark, and those of its clean and its suspect tasks. A part without a judged task
 * is null.
 *
 * @throws RangeError as {@link evaluate}.
 * @example
 * evaluateParts(rows, settings, new Set(['HumanEval/0'])).clean?.greedy; // 0.36
 */
export function evaluateParts(
  rows: readonly FigureRow[],
  settings: FigureSettings,
  suspects: ReadonlySet<string>,
): EvaluationResult {
  const parts = TASK_PARTS.map((part): [TaskPart, PartFigures | null] => {
    const own = rowsOf(part, rows, suspects);
    if (own.length === 0) return [part, null];
    const { benchmark: _benchmark, policy: _policy, ...figures } = evaluate(own, settings);
    return [part, figures.tasks === 0 ? null : figures];
  });
  return { ...evaluate(rows, settings), ...Object.fromEntries(parts) };
}

/** What {@link comparePolicies} says of a part of the tasks; null where both have no judged answer to one of them. */
export function compareParts(
  before: readonly FigureRow[],
  after: readonly FigureRow[],
  suspects: ReadonlySet<string>,
  options: { seed?: number | undefined } = {},
): Pick<Comparison, TaskPart> {
  const judged = (rows: readonly FigureRow[]): Set<string> =>
    new Set(rows.flatMap((row) => (isUnjudged(row) ? [] : [`${row.mode} ${row.taskId}`])));
  return Object.fromEntries(
    TASK_PARTS.map((part) => {
      const [was, is] = [rowsOf(part, before, suspects), rowsOf(part, after, suspects)];
      const common = judged(is);
      const isComparable = [...judged(was)].some((key) => common.has(key));
      return [part, isComparable ? comparePolicies(was, is, options) : null];
    }),
  );
}

/**
 * Two policies on the tasks that both were asked and judged on: by their greedy answers where both have them, else by
 * the mean over samples. `verdict` holds for this comparison alone; {@link adjusted} allows for several.
 *
 * @throws RangeError where they share no task with such answers.
 */
export function comparePolicies(
  before: readonly FigureRow[],
  after: readonly FigureRow[],
  { seed = 0 }: { seed?: number | undefined } = {},
): Comparison {
  const [was, is] = [before, after].map((rows) => new Map(tasksOf(rows).tasks.map((task) => [task.id, task]))) as [
    Map<string, TaskAnswers>,
    Map<string, TaskAnswers>,
  ];
  const common = [...was.keys()].filter((id) => is.has(id)).sort();
  const measures = { greedy: greedyRate, mean: sampledRate } as const;
  const measure = (['greedy', 'mean'] as const).find((name) =>
    common.some((id) => [was, is].every((tasks) => measures[name](tasks.get(id)!) !== undefined)),
  );
  const [benchmark, beforeName, afterName] = [
    before[0]?.benchmark ?? '',
    before[0]?.policy ?? '',
    after[0]?.policy ?? '',
  ];
  if (measure === undefined)
    throw new RangeError(`${beforeName} and ${afterName} have no judged answer to one task of ${benchmark}`);
  const pairs = common.flatMap((id) => {
    const [from, to] = [was, is].map((tasks) => measures[measure](tasks.get(id)!));
    return from === undefined || to === undefined ? [] : [{ id, from, to }];
  });
  const differences = pairs.map(({ from, to }) => to - from);
  const gained = pairs.filter(({ from, to }) => to > from).length;
  const lost = pairs.filter(({ from, to }) => to < from).length;
  const { difference } = bootstrapMeans(
    { difference: differences },
    { seed: deriveSeed(seed, 'comparison', benchmark, beforeName, afterName) },
  );
  const spread = Math.sqrt(
    differences.reduce((sum, value) => sum + (value - difference.mean) ** 2, 0) / Math.max(1, pairs.length - 1),
  );
  const p = measure === 'greedy' ? mcnemar(gained, lost) : difference.p;
  return {
    benchmark,
    before: beforeName,
    after: afterName,
    measure,
    tasks: pairs.length,
    notCompared: was.size + is.size - common.length - pairs.length,
    rateBefore: mean(pairs.map(({ from }) => from))!,
    rateAfter: mean(pairs.map(({ to }) => to))!,
    difference: difference.mean,
    interval: difference.interval,
    gained,
    lost,
    p,
    adjustedP: p,
    minimalDetectable: minimalDetectableDifference(
      pairs.length,
      // Of means the variance of a difference takes the place of the share of tasks that differ.
      measure === 'greedy' ? (gained + lost) / pairs.length : Math.min(1, spread ** 2),
    ),
    verdict: verdictOf(p, difference.mean),
  };
}

/**
 * The comparisons with p-values and verdicts that allow for their number (Holm): those of all tasks together, and those
 * of each part.
 */
export function adjusted(comparisons: readonly Comparison[]): Comparison[] {
  const parts = TASK_PARTS.map((part) => ({
    part,
    own: allowedFor(comparisons.flatMap((comparison) => comparison[part] ?? [])),
  }));
  return allowedFor(comparisons).map((comparison) => ({
    ...comparison,
    ...Object.fromEntries(parts.flatMap(({ part, own }) => (comparison[part] ? [[part, own.shift()!]] : []))),
  }));
}

function allowedFor<C extends Pick<Comparison, 'p' | 'difference'>>(comparisons: readonly C[]): C[] {
  const pValues = holm(comparisons.map(({ p }) => p));
  return comparisons.map((comparison, at) => ({
    ...comparison,
    adjustedP: pValues[at]!,
    verdict: verdictOf(pValues[at]!, comparison.difference),
  }));
}

/** The other policies of each benchmark against `base`, or against the first one where it was not asked. */
export function comparisonsOf(
  groups: readonly (readonly FigureRow[])[],
  { base, seed, suspectsOf }: { base?: string; seed?: number | undefined; suspectsOf?: SuspectsOf } = {},
): Comparison[] {
  const byBenchmark = new Map<string, (readonly FigureRow[])[]>();
  for (const rows of groups) {
    const { benchmark } = rows[0]!;
    byBenchmark.set(benchmark, [...(byBenchmark.get(benchmark) ?? []), rows]);
  }
  return adjusted(
    [...byBenchmark.values()].flatMap((policies) => {
      const first = policies.find(([row]) => row!.policy === base) ?? policies[0]!;
      const suspects = suspectsOf?.(first[0]!.benchmark);
      return policies.flatMap((rows): Comparison[] => {
        if (rows === first) return [];
        const whole = comparePolicies(first, rows, { seed });
        return [suspects ? { ...whole, ...compareParts(first, rows, suspects, { seed }) } : whole];
      });
    }),
  );
}

function verdictOf(p: number, difference: number): Comparison['verdict'] {
  return p > SIGNIFICANT ? 'noDifference' : difference > 0 ? 'higher' : 'lower';
}

const greedyRate = ({ greedy }: TaskAnswers): number | undefined => greedy && (greedy.passed ? 1 : 0);
const sampledRate = ({ samples }: TaskAnswers): number | undefined =>
  mean(samples.map(({ passed }) => (passed ? 1 : 0))) ?? undefined;

/** What is no fact about a program. A test that failed decides, whatever others could not be judged. */
const NO_VERDICT: readonly Verdict[] = ['unjudged', 'checker_failed'];

/** Whether an answer has no verdict. */
export function isUnjudged({ outcomes, passed }: FigureRow): boolean {
  return (
    !passed && outcomes.every(({ status }) => status === 'pass' || NO_VERDICT.includes(status)) && outcomes.length > 0
  );
}

/** Tasks with at least one judged answer, in the order of the rows. */
function tasksOf(rows: readonly FigureRow[]): { tasks: TaskAnswers[]; asked: number; unjudged: number } {
  const tasks = new Map<string, TaskAnswers>();
  let unjudged = 0;
  for (const row of rows) {
    const task = tasks.get(row.taskId) ?? { id: row.taskId, samples: [] };
    tasks.set(row.taskId, task);
    if (isUnjudged(row)) unjudged += 1;
    else if (row.mode === 'greedy') task.greedy = row;
    else task.samples.push(row);
  }
  const judged = [...tasks.values()].filter(({ greedy, samples }) => greedy !== undefined || samples.length > 0);
  return { tasks: judged, asked: tasks.size, unjudged };
}

interface ChosenRates {
  method: Selection['method'];
  N: number;
  /** Pass rate of the chosen sample, by task. */
  rates: number[];
}

/** Best-of-N by everything that can choose here. */
function selections(
  tasks: readonly TaskAnswers[],
  sizes: readonly number[],
  { selectionTests = 0, selectionWeights }: FigureSettings,
  seed: number,
): ChosenRates[] {
  const samples = tasks.flatMap((task) => task.samples);
  // A sample that is too long for the reward model has no score, and any other one is preferred.
  const isScored = samples.some(({ score }) => score !== undefined);
  const scoreOf = ({ score }: FigureRow): number => score ?? -Infinity;
  // Tests that are all the tests there are would choose by the verdict itself.
  const haveTests = selectionTests > 0 && samples.every(({ outcomes }) => outcomes.length > selectionTests);
  const visible = ({ outcomes }: FigureRow): number =>
    outcomes.slice(0, selectionTests).filter(({ status }) => status === 'pass').length;
  const methods: Partial<Record<Selection['method'], (row: FigureRow) => Ranked>> = {
    ...(isScored ? { rewardModel: (row: FigureRow) => ({ passed: row.passed, score: scoreOf(row) }) } : {}),
    ...(haveTests ? { tests: (row: FigureRow) => ({ passed: row.passed, score: visible(row) }) } : {}),
    ...(isScored && haveTests
      ? { testsAndRewardModel: (row: FigureRow) => ({ passed: row.passed, score: visible(row), then: scoreOf(row) }) }
      : {}),
  };
  // Weights of tests come from all samples of a task, also where fewer are chosen from.
  const weighted =
    haveTests && selectionWeights
      ? tasks.map(({ samples: own }) => {
          const matrix = own.map(({ outcomes }) =>
            outcomes.slice(0, selectionTests).map(({ status }) => status === 'pass'),
          );
          const scores = own.length > 0 ? weightedShares(matrix, qualityWeights(matrix).tests) : [];
          return own.map(({ passed }, at): Ranked => ({ passed, score: scores[at]! }));
        })
      : undefined;
  return sizes.flatMap((N): ChosenRates[] => [
    ...Object.entries(methods).map(([method, ranked]) => ({
      method: method as Selection['method'],
      N,
      rates: tasks.map((task) => bestOfN(task.samples.map(ranked), N)),
    })),
    ...(weighted ? [{ method: 'weightedTests' as const, N, rates: weighted.map((ranked) => bestOfN(ranked, N)) }] : []),
    {
      method: 'majority',
      N,
      rates: tasks.map((task) =>
        majority(
          task.samples.map(({ passed, program }) => ({ passed, text: withoutComments(program) })),
          N,
          { seed: deriveSeed(seed, 'majority', task.id, N), draws: MAJORITY_DRAWS },
        ),
      ),
    },
  ]);
}

/** A program as majority counts it: without blank lines, line comments and trailing space. */
function withoutComments(program: string): string {
  return program
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '' && !/^\s*(#|\/\/)/.test(line))
    .join('\n');
}
