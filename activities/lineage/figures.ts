/** The figures of an experiment's report by name, each with the artifact and the rows that it comes from. Pure. */
import { z } from 'zod';
import { figureName, TASK_PARTS, type Summary } from '../../workflows/contract/index.js';

/** A line of `figures.json`: a number of the page. */
export const PageFigure = z.object({
  id: z.string(),
  value: z.union([z.string(), z.number(), z.boolean(), z.null()]),
  artifact: z.string(),
});
type PageFigure = z.infer<typeof PageFigure>;

export interface Figure {
  /** Its name, such as `evaluation.humaneval.trained.greedy`. */
  id: string;
  value: PageFigure['value'];
  /** Key of the artifact that it was computed from. */
  artifact: string;
  /** Members that the rows behind it have; absent: all rows. */
  rows?: Readonly<Record<string, string>>;
}

/**
 * Every figure of a summary. A number that is added to a part of the summary is a figure without a word here.
 *
 * @example
 * figuresOfSummary(summary).find(({ id }) => id === 'reinforcement.round.3.reward')?.artifact;
 */
export function figuresOfSummary(summary: Summary): Figure[] {
  const stage = (name: Summary['stages'][number]['name']): string | undefined =>
    summary.stages.find((each) => each.name === name)?.artifact.key;
  const { dropped, filterQuality, ...data } = summary.data;
  const { rounds, ...reinforcement } = summary.reinforcement;
  const madeBy = { programs: 'sampling', pairs: 'preferences' } as const;
  return [
    ...Object.entries(data).flatMap(([name, value]) =>
      figuresIn(value, `data.${name}`, stage(name in madeBy ? madeBy[name as keyof typeof madeBy] : 'filtering')),
    ),
    ...figuresIn(filterQuality, 'data.filterQuality', stage('filtering')),
    ...dropped.flatMap((each) =>
      figuresIn(each.count, `data.dropped.${each.stage}.${each.what}.${each.reason}`, each.artifact.key),
    ),
    ...summary.passRateHistogram.flatMap(({ from, programs }) =>
      figuresIn(programs, `passRateHistogram.${from}`, stage('sampling')),
    ),
    ...figuresIn(summary.rewardModel, 'rewardModel', stage('rewardModel')),
    ...rounds.flatMap(({ round, artifact, ...figures }) =>
      figuresIn(figures, `reinforcement.round.${round}`, artifact.key),
    ),
    ...figuresIn(reinforcement, 'reinforcement', stage('reinforcement')),
    ...summary.evaluation.flatMap(({ benchmark, policy, conditions: _conditions, selections = [], ...figures }) => {
      const at = figureName('evaluation', benchmark, policy);
      return [
        ...figuresIn(figures, at, stage('evaluation')),
        ...selections.flatMap(({ method, N, ...selected }) =>
          figuresIn(selected, `${at}.selections.${method}.${N}`, stage('evaluation')),
        ),
      ].map((figure) => ({ ...figure, rows: { benchmark, policy, ...modeOf(figure.id.slice(at.length + 1)) } }));
    }),
    ...(summary.comparisons ?? []).flatMap(({ benchmark, before: _before, after, measure, ...figures }) =>
      figuresIn(figures, `comparison.${benchmark}.${after}.${measure}`, stage('evaluation')).map((figure) => ({
        ...figure,
        rows: { benchmark, policy: after, mode: measure === 'greedy' ? 'greedy' : 'sample' },
      })),
    ),
    ...summary.stages.flatMap(({ name, seconds, artifact }) =>
      figuresIn(seconds, `stages.${name}.seconds`, artifact.key),
    ),
    ...figuresIn(summary.cost.amount, 'cost.amount', stage('synthesis')),
  ];
}

/**
 * The figures of a report: those of its summary, and those of its page that the summary does not name.
 *
 * @example
 * figuresOfReport(summary, []).length === figuresOfSummary(summary).length;
 */
export function figuresOfReport(summary: Summary, page: readonly PageFigure[]): Figure[] {
  const figures = figuresOfSummary(summary);
  const known = new Set(figures.map(({ id }) => id));
  const rows = summary.evaluation.flatMap(({ benchmark, policy }) => [
    { prefix: `${figureName('evaluation', benchmark, policy)}.`, rows: { benchmark, policy } },
    { prefix: `${figureName('evaluation', benchmark)}.`, rows: { benchmark } },
  ]);
  // The longest prefix says most of the rows.
  rows.sort((a, b) => b.prefix.length - a.prefix.length);
  return [
    ...figures,
    ...page
      .filter(({ id }) => !known.has(id))
      .map((figure) => {
        const found = rows.find(({ prefix }) => figure.id.startsWith(prefix));
        return found ? { ...figure, rows: found.rows } : figure;
      }),
  ];
}

/** Figures of both greedy answers and samples. */
const OF_BOTH: readonly string[] = ['tasks', 'samples', 'unjudged', 'tasksWithoutVerdict'];

/** Greedy figures come from greedy answers, other rates from samples. */
function modeOf(field: string): { mode?: 'greedy' | 'sample' } {
  // Figures of the clean and the suspect tasks are named as those of all tasks, behind the part.
  const name = TASK_PARTS.reduce(
    (rest, part) => (rest.startsWith(`${part}.`) ? rest.slice(part.length + 1) : rest),
    field,
  );
  if (OF_BOTH.includes(name)) return {};
  return { mode: /(^|\.)greedy/.test(field) ? 'greedy' : 'sample' };
}

/** Numbers of an object by their paths; those in lists are none, except the two ends of an interval. */
function figuresIn(value: unknown, id: string, artifact: string | undefined): Figure[] {
  if (artifact === undefined) return [];
  if (typeof value === 'number') return [{ id, value, artifact }];
  if (typeof value !== 'object' || value === null) return [];
  const isInterval = Array.isArray(value) && value.length === 2;
  const members: [string, unknown][] = isInterval
    ? [
        ['low', value[0]],
        ['high', value[1]],
      ]
    : Array.isArray(value)
      ? []
      : Object.entries(value);
  return members.flatMap(([name, member]) => figuresIn(member, `${id}.${name}`, artifact));
}
