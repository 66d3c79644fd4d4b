/** Cells of a grid: which there are, which one forks which, and what is refused before anything runs. */
import { describe, expect, it } from 'vitest';
import type { Experiment } from './experiment.js';
import { checkInput } from './inputs.js';
import { cellsOf, forkOfCell, planOf, startOf, SweepInput, type Cell } from './sweep.js';

const base = {
  seeds: { kind: 'seeds', path: 'seeds.jsonl' },
  models: { policy: { kind: 'folder', path: 'model' } },
};
const sweep = (grid: Record<string, unknown[]>): SweepInput => SweepInput.parse({ name: 's', base, grid });
const check = (input: unknown) =>
  checkInput('experiment', input) as ReturnType<Parameters<typeof cellsOf>[1]> & { data: Experiment };
const cells = (grid: Record<string, unknown[]>): Cell[] => cellsOf(sweep(grid), check).cells!;
const mistakes = (grid: Record<string, unknown[]>): string[] =>
  (cellsOf(sweep(grid), check).mistakes ?? []).map(({ path, message }) => `${path}: ${message}`);

const GRID = { 'stages.rewardModel.epochs': [1, 2], 'stages.evaluation.samples': [8, 16] };

describe('the cells of a grid', () => {
  it('are every combination, each with a name and an experiment', () => {
    const all = cells(GRID);
    expect(all.map(({ name, values }) => [name, ...Object.values(values)])).toEqual([
      ['s-1', 1, 8],
      ['s-2', 1, 16],
      ['s-3', 2, 8],
      ['s-4', 2, 16],
    ]);
    const { name, stages } = all[3]!.experiment;
    expect([name, stages.rewardModel.epochs, stages.evaluation.samples]).toEqual(['s-4', 2, 16]);
  });

  it.each<[string, Record<string, unknown[]>, RegExp]>([
    ['a wrong value', { 'stages.rewardModel.epochs': [1, -2] }, /^grid\.stages\.rewardModel\.epochs: /],
    ['a field that does not exist', { 'stages.rewardModel.epoch': [1, 2] }, /no such field; did you mean "epochs"/],
    ['the same twice', { 'stages.rewardModel.epochs': [1, 1] }, /^grid: makes the same as cell 1: leave one out$/],
    ['only ways of running', { 'stages.sampling.execution.window': [1, 2] }, /^grid: makes the same as cell 1/],
  ])('with %s are refused', (_, grid, sentence) => {
    expect(mistakes(grid).join('\n')).toMatch(sentence);
  });

  it('are 500 at most', () => {
    const values = Array.from({ length: 501 }, (_, index) => index + 1);
    expect(
      SweepInput.safeParse({ name: 's', base, grid: { 'stages.rewardModel.epochs': values } }).error,
    ).toBeDefined();
  });
});

describe('a cell starts', () => {
  const [first, second, third, fourth] = cells(GRID) as [Cell, Cell, Cell, Cell];

  it('whole where it shares nothing with another one', () => {
    expect(startOf(first, [], [])).toEqual({ how: 'whole' });
    const other = cells({ 'stages.synthesis.salt': ['a', 'b'] });
    expect(startOf(other[1]!, [], [other[0]!])).toEqual({ how: 'whole' });
  });

  it('when the cell that shares most of its stages is done, as a fork of it', () => {
    expect(startOf(second, [], [first])).toEqual({ how: 'wait' });
    expect(startOf(second, [first], [])).toEqual({ how: 'fork', of: first, from: 'evaluation' });
    expect(startOf(third, [first], [second])).toEqual({ how: 'fork', of: first, from: 'rewardModel' });
    expect(startOf(fourth, [first, second], [third])).toEqual({ how: 'wait' });
    expect(startOf(fourth, [first, second, third], [])).toEqual({ how: 'fork', of: third, from: 'evaluation' });
  });

  it('from another one where that one failed', () => {
    expect(startOf(fourth, [first, second], [])).toEqual({ how: 'fork', of: first, from: 'rewardModel' });
    expect(startOf(second, [], [])).toEqual({ how: 'whole' });
  });

  it('with the fields in which it differs alone', () => {
    expect(forkOfCell(fourth, { how: 'fork', of: third, from: 'evaluation' }, 'run/s-3')).toEqual({
      name: 's-4',
      fork: { of: 'run/s-3', from: 'evaluation', patch: { stages: { evaluation: { samples: 16 } } } },
    });
  });
});

describe('a grid over presets and models', () => {
  const folder = (path: string) => ({ kind: 'folder', path });
  const grid = { extends: ['paper-7b-best-of-n', 'paper-32b-best-of-n'], 'models.policy': [folder('a'), folder('b')] };
  const all = cells(grid);

  it('computes what cells share once: a model that is evaluated alone makes an evaluation alone', () => {
    expect(planOf(all).map(({ start, computes }) => [start.how === 'fork' ? start.of.number : 0, computes[0]])).toEqual(
      [
        [0, 'synthesis'],
        [1, 'evaluation'],
        [1, 'sampling'],
        [3, 'evaluation'],
      ],
    );
  });

  it('forks by what the other preset has otherwise, with models as a whole', () => {
    const [first, , third] = all as [Cell, Cell, Cell];
    const { fork } = forkOfCell(third, { how: 'fork', of: first, from: 'sampling' }, 'run/s-1');
    const coder = { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-32B-Instruct', revision: 'main' };
    expect(fork.patch).toEqual({
      models: { sampler: coder, rewardModel: coder },
      stages: { rewardModel: { maxLength: 1024 } },
    });
  });

  it('runs whole where no patch takes away what the other one has', () => {
    const [one, other] = cells({ extends: ['paper-7b', 'paper-7b-held-out'] }) as [Cell, Cell];
    expect(startOf(other, [one], []).how).toBe('fork');
    const { sampler: _sampler, ...models } = other.experiment.models;
    const without = { ...other, experiment: { ...other.experiment, models } };
    expect(startOf(without, [one], []).how).toBe('whole');
  });
});
