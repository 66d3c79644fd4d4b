/**
 * Sweeps: a grid of patches over one experiment. A cell whose first stages are those of an earlier cell forks it, so
 * that each stage is computed once. Pure.
 */
import { z } from 'zod';
import { stagesOf } from './chain.js';
import type { Experiment } from './experiment.js';
import { count, Name, schemaField } from './fields.js';
import { differing, type ForkInput } from './fork.js';
import { mistake, type Mistake } from './mistakes.js';
import { merge } from './presets.js';
import { STAGES, type StageName } from './stages/index.js';

/** Cells of one sweep, at most. */
const MOST_CELLS = 500;

export const SweepInput = z.strictObject({
  ...schemaField,
  name: Name.describe('name of the sweep, which the names of its cells begin with'),
  base: z.record(z.string(), z.json()).describe('an experiment, as it is started alone; `name` may be left out'),
  grid: z
    .record(
      z.string().regex(/^\w+(\.\w+)*$/, 'path of a field, such as stages.rewardModel.epochs'),
      z.array(z.json()).min(1),
    )
    .refine((grid) => Object.keys(grid).length > 0, { error: 'at least one field with its values' })
    .refine((grid) => cellCount(grid) <= MOST_CELLS, { error: `at most ${MOST_CELLS} cells` })
    .describe('values by the path of their field; every combination is a cell'),
  atOnce: count.default(2).describe('cells that run at the same time'),
});
export type SweepInput = z.infer<typeof SweepInput>;

/** One combination of the grid's values. */
export interface Cell {
  /** From 1 on, in the order of the grid: the values of the last field change first. */
  number: number;
  name: string;
  /** By the paths of their fields. */
  values: Record<string, unknown>;
  experiment: Experiment;
}

/** What a cell waits for, or how it starts. */
export type Start =
  | { how: 'wait' }
  /** By itself: it shares no stage. */
  | { how: 'whole' }
  | { how: 'fork'; of: Cell; from: StageName };

/**
 * The cells of a grid, or every mistake of them. `check` gives the experiment of an input, or its mistakes.
 *
 * @example
 * cellsOf({ name: 's', base, grid: { 'stages.rewardModel.epochs': [1, 2] }, atOnce: 2 }, check).cells?.length; // 2
 */
export function cellsOf(
  { name, base, grid }: SweepInput,
  check: (input: unknown) => { data: Experiment; mistakes?: undefined } | { mistakes: Mistake[]; data?: undefined },
): { cells: Cell[]; mistakes?: undefined } | { mistakes: Mistake[]; cells?: undefined } {
  const combinations = Object.entries(grid).reduce<Record<string, unknown>[]>(
    (all, [path, values]) => all.flatMap((each) => values.map((value) => ({ ...each, [path]: value }))),
    [{}],
  );
  const cells: Cell[] = [];
  const mistakes = new Map<string, Mistake>();
  for (const [index, values] of combinations.entries()) {
    const cell = { number: index + 1, name: `${name}-${index + 1}`, values };
    const checked = check(merge(base, { ...patchOf(values), name: cell.name }));
    for (const each of checked.mistakes ?? []) {
      const path = each.path in values ? `grid.${each.path}` : `base.${each.path}`;
      mistakes.set(`${path} ${JSON.stringify(each.value)}`, { ...each, path });
    }
    if (!checked.data) continue;
    const twin = cells.find(({ experiment }) => differing(experiment, checked.data).length === 0);
    if (twin)
      mistakes.set(
        `cell ${cell.number}`,
        mistake('grid', values, `makes the same as cell ${twin.number}: leave one out`),
      );
    cells.push({ ...cell, experiment: checked.data });
  }
  return mistakes.size > 0 ? { mistakes: [...mistakes.values()] } : { cells };
}

/**
 * How a cell starts: as a fork of the cell that shares most of its first stages. It waits where that one is not done,
 * so that no two cells run an equal stage at the same time. Cells that failed share nothing.
 *
 * @param done cells that are done
 * @param open cells that run, and those before this one that wait
 */
export function startOf(cell: Cell, done: readonly Cell[], open: readonly Cell[]): Start {
  const best = (cells: readonly Cell[]): { of: Cell; shared: number } | undefined =>
    cells
      .map((of) => ({ of, shared: sharedStages(of.experiment, cell.experiment) }))
      .filter(({ shared }) => shared > 0)
      .sort((a, b) => b.shared - a.shared || a.of.number - b.of.number)[0];
  const [finished, awaited] = [best(done), best(open)];
  if (awaited && awaited.shared > (finished?.shared ?? 0)) return { how: 'wait' };
  if (!finished) return { how: 'whole' };
  // What no patch says runs whole. The store answers for the stages that are shared.
  const patched = merge(finished.of.experiment, patchBetween(finished.of.experiment, cell.experiment)) as Experiment;
  if (differing(patched, cell.experiment).length > 0) return { how: 'whole' };
  const from = stagesOf(cell.experiment.stages).find((stage) => STAGES.indexOf(stage) >= finished.shared);
  return from ? { how: 'fork', of: finished.of, from } : { how: 'whole' };
}

/** The fork that a cell starts as. */
export function forkOfCell(cell: Cell, { of, from }: Start & { how: 'fork' }, workflowId: string): ForkInput {
  const { name: _name, ...patch } = patchBetween(of.experiment, cell.experiment);
  return { name: cell.name, fork: { of: workflowId, from, patch: patch as ForkInput['fork']['patch'] } };
}

/**
 * The members of an experiment that another one has otherwise. An object with a kind stands whole: the fork may find a
 * reference in the place of what the other one had.
 */
function patchBetween(from: object, to: object): Record<string, unknown> {
  const before = new Map<string, unknown>(Object.entries(from));
  return Object.fromEntries(
    Object.entries(to).flatMap(([name, value]: [string, unknown]): [string, unknown][] => {
      const was = before.get(name);
      if (JSON.stringify(was) === JSON.stringify(value)) return [];
      return [[name, isGroup(was) && isGroup(value) ? patchBetween(was, value) : value]];
    }),
  );
}

/** An object whose members a merge takes one by one. */
function isGroup(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !Object.hasOwn(value, 'kind');
}

/** How each cell of a sweep starts where none fails, and the stages that it computes itself. */
export function planOf(cells: readonly Cell[]): { cell: Cell; start: Start; computes: StageName[] }[] {
  return cells.map((cell, index) => {
    const start = startOf(cell, cells.slice(0, index), []);
    const first = start.how === 'fork' ? STAGES.indexOf(start.from) : 0;
    return {
      cell,
      start,
      computes: stagesOf(cell.experiment.stages).filter((stage) => STAGES.indexOf(stage) >= first),
    };
  });
}

/** How many of the first stages are the same. */
function sharedStages(one: Experiment, other: Experiment): number {
  const ran = [...new Set([...stagesOf(one.stages), ...stagesOf(other.stages)])];
  const differs = differing(one, other).map(({ stage }) => STAGES.indexOf(stage ?? ran[0]!));
  return Math.min(...differs, STAGES.length);
}

function cellCount(grid: Readonly<Record<string, readonly unknown[]>>): number {
  return Object.values(grid).reduce((product, { length }) => product * length, 1);
}

/** Values by their paths, as an object. */
function patchOf(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.entries(values).reduce<Record<string, unknown>>((patch, [path, value]) => {
    const nested = path.split('.').reduceRight<unknown>((inner, name) => ({ [name]: inner }), value);
    return merge(patch, nested) as Record<string, unknown>;
  }, {});
}
