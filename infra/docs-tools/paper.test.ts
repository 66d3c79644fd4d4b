/** The page about the paper: its tables as they are written, figures without a slip of the pen, and sweeps that share. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { cellOfRow, cellsOfTable, measuredCells, PAPER_PAGE, paperPage } from './paper.js';
import { COLUMNS, PAPER_TABLES, type PaperRow } from './paper-figures.js';
import {
  benchmarkResults,
  canonicalJson,
  planOf,
  STAGE,
  STAGES,
  stagesOf,
  usedSources,
  type Cell,
  type EvaluationResult,
  type Source,
  type Summary,
} from '../../workflows/contract/index.js';

const rows = PAPER_TABLES.flatMap(({ number, rows: all }) => all.map((row) => ({ ...row, number })));
const published = (number: number, name: string): readonly number[] =>
  rows.find((row) => row.number === number && row.name === name)!.published;

describe('the page', () => {
  it('is up to date: npm run docs:paper', () => {
    const page = readFileSync(PAPER_PAGE, 'utf8');
    expect(page).toBe(paperPage(page));
  });
});

describe('figures of the paper', () => {
  it.each(rows.map((row) => [`table ${row.number}: ${row.name}`, row] as const))(
    '%s have the average of their nine columns',
    (_, { published: figures }) => {
      expect(figures).toHaveLength(COLUMNS.length + 1);
      expect(figures.every((figure) => figure > 0 && figure < 100)).toBe(true);
      const mean = figures.slice(0, -1).reduce((sum, figure) => sum + figure, 0) / COLUMNS.length;
      // Averages of rounded figures, rounded again.
      expect(Math.abs(mean - figures.at(-1)!)).toBeLessThan(0.1 + 1e-9);
    },
  );

  it('agree where two tables have the same run', () => {
    for (const model of ['Llama-3.1-8B-Instruct', 'Qwen2.5-Coder-7B-Instruct'])
      for (const table of [7, 8])
        expect(published(table, `${model}, the paper's`)).toEqual(published(3, `${model}, RM-7B, N = 16`));
    const coder = 'Qwen2.5-Coder-7B-Instruct';
    expect(published(4, `${coder}, before`)).toEqual(published(3, `${coder}, greedy`));
  });

  it('have more passed tasks in a benchmark than in its harder form, and most by the oracle', () => {
    for (const { published: figures } of rows)
      for (const harder of [1, 3, 5, 7]) expect(figures[harder]).toBeLessThanOrEqual(figures[harder - 1]!);
    for (const { policy, published: oracle } of rows.filter(({ figure }) => figure === 'oracle'))
      for (const row of rows.filter((each) => each.number === 3 && each.policy === policy))
        row.published.forEach((figure, column) => expect(figure).toBeLessThanOrEqual(oracle[column]!));
  });
});

describe.each(PAPER_TABLES.map((table) => [table.number, table] as const))('the sweep of table %i', (_, table) => {
  const cells = cellsOfTable(table);

  it('has a cell for each row, and a row for each cell, with the nine columns', () => {
    const measured = new Set(table.rows.map((row) => cellOfRow(row, cells).name));
    expect([...measured].sort()).toEqual(cells.map(({ name }) => name).sort());
    for (const { experiment } of cells) {
      const { benchmarks, samples, bestOf } = experiment.stages.evaluation;
      expect(benchmarks.flatMap(benchmarkResults).map(({ name }) => name)).toEqual(COLUMNS.map(({ result }) => result));
      const wanted = table.rows.flatMap(({ figure }) => (typeof figure === 'object' ? [figure.bestOf] : []));
      for (const N of wanted) expect([bestOf, samples >= N]).toEqual([expect.arrayContaining([N]), true]);
    }
  });

  it('has rows that need reinforcement learning, and runs it for these alone', () => {
    for (const row of table.rows)
      if (row.of === 'trained') expect(stagesOf(cellOfRow(row, cells).experiment.stages)).toContain('reinforcement');
    const runs = cells.some(({ experiment }) => experiment.stages.reinforcement !== null);
    expect(runs).toBe(table.rows.some(({ of }) => of === 'trained'));
  });

  it('computes each stage once for each key', () => {
    const computed = planOf(cells).flatMap(({ cell, computes }) =>
      computes.map((stage) => `${stage} ${keyOf(cell, stage)}`),
    );
    const needed = cells.flatMap((cell) =>
      stagesOf(cell.experiment.stages).map((stage) => `${stage} ${keyOf(cell, stage)}`),
    );
    expect(computed.sort()).toEqual([...new Set(needed)].sort());
    expect(computed.length).toBeLessThan(needed.length);
  });
});

/** What the key of a stage follows from: its settings, and all that feeds it, without the store. */
function keyOf({ experiment }: Cell, source: Source): string {
  const stage = STAGES.find((each) => each === source);
  const { seeds, models, stages } = experiment;
  if (stage === undefined)
    return canonicalJson(source === 'seeds' ? seeds : models[source.replace('models.', '') as keyof typeof models]);
  const given = (['policy', 'sampler', 'rewardModel'] as const).filter((name) => models[name] !== undefined);
  const existing: Source[] = ['seeds', ...given.map((name) => `models.${name}` as const), ...stagesOf(stages)];
  const feeds = usedSources(stage, existing).map((each) => keyOf({ experiment } as Cell, each));
  return canonicalJson([stage, STAGE[stage].withSettings(stages[stage]).semantics({}), feeds]);
}

describe('measured cells', () => {
  const row: PaperRow = { ...PAPER_TABLES[0]!.rows[0]!, figure: { bestOf: 16 } };
  const result = (benchmark: string, policy: string, rate: number): EvaluationResult => ({
    benchmark,
    policy,
    tasks: 10,
    samples: 64,
    greedy: rate / 2,
    greedyInterval: null,
    mean: null,
    passAtK: {},
    bestOfN: { 16: rate },
    oracle: null,
  });
  const summary = (results: EvaluationResult[]): Summary => ({ evaluation: results }) as unknown as Summary;
  const nine = COLUMNS.map(({ result: name }, at) => result(name, 'initial', (at + 1) / 10));

  it('are empty where nothing ran', () => {
    expect(measuredCells(row, undefined)).toEqual(Array.from({ length: 10 }, () => ''));
  });

  it('are the figure of the policy in percent, and their average where all are there', () => {
    const others = nine.map((each) => ({ ...each, policy: 'trained', bestOfN: { 16: 0 } }));
    expect(measuredCells(row, summary([...others, ...nine]))).toEqual([
      '10.0',
      '20.0',
      '30.0',
      '40.0',
      '50.0',
      '60.0',
      '70.0',
      '80.0',
      '90.0',
      '50.0',
    ]);
    expect(measuredCells({ ...row, figure: 'greedy' }, summary(nine)).slice(0, 2)).toEqual(['5.0', '10.0']);
    expect(measuredCells({ ...row, figure: 'mean' }, summary(nine)).every((cell) => cell === '')).toBe(true);
    expect(measuredCells(row, summary(nine.slice(1))).filter((cell) => cell === '')).toHaveLength(2);
  });
});
