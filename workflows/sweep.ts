import { CancellationScope, continueAsNew, setCurrentDetails, workflowInfo } from '@temporalio/workflow';
import { ApplicationFailure } from '@temporalio/common';
import {
  cellsOf,
  checkInput,
  forkOfCell,
  startOf,
  type ArtifactRef,
  type Cell,
  type StageName,
  type Start,
} from './contract/index.js';
import type { ExperimentResult } from './experiment.js';
import { parseInput, refused } from './lib/inputs.js';
import { carriedOver, historyIsLong } from './lib/stage.js';
import { executeAlone } from './lib/stage-child.js';

/** A row of the table of a sweep. */
interface SweepRow {
  name: string;
  /** Values of the grid, by the paths of their fields. */
  values: Record<string, unknown>;
  workflowId: string;
  state: 'done' | 'failed';
  /** The cell whose stages it took over, and the first stage that it ran. */
  forkOf?: string;
  from?: StageName;
  /** Pass@1 by `benchmark policy`. */
  passAt1?: Record<string, number>;
  costUsd?: number;
  reused?: StageName[];
  report?: ArtifactRef;
  failure?: string;
}

export interface SweepResult {
  name: string;
  /** In the order of the cells. */
  rows: SweepRow[];
}

/** Carried over a continue-as-new, which happens while no cell runs. Rows by the numbers of their cells. */
interface Carry {
  rows: Record<number, SweepRow>;
}

/**
 * Runs an experiment for every combination of a grid's values, some at once. A cell whose first stages are those of
 * another cell starts when that one is done, as a fork of it. So every stage is computed once. Each cell is an
 * experiment of its own, with a report.
 *
 * A cell that fails is a row that says so. Cells that would have forked it fork another one, or run whole.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of all cells, before anything runs.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { sweep } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { rows } = await client.workflow.execute<typeof sweep>('sweep', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'epochs',
 *   args: [{
 *     name: 'epochs',
 *     base: { extends: 'quickstart' },
 *     grid: { 'stages.rewardModel.epochs': [1, 2] },
 *   }],
 * });
 * ```
 */
export async function sweep(input: unknown, given?: Carry): Promise<SweepResult> {
  const carry = carriedOver(given);
  const settings = parseInput('sweep', input);
  const { cells, mistakes } = cellsOf(settings, (each) => checkInput('experiment', each));
  if (mistakes) throw refused('sweep', mistakes);
  const rows = new Map<number, SweepRow>(
    Object.entries(carry?.rows ?? {}).map(([number, row]) => [Number(number), row]),
  );
  const running = new Map<number, Promise<void>>();
  const show = (): void => setCurrentDetails(details(settings.name, cells, rows, new Set(running.keys())));

  const run = async (cell: Cell, start: Exclude<Start, { how: 'wait' }>): Promise<void> => {
    const workflowId = idOf(cell);
    const fork = start.how === 'fork' ? { forkOf: start.of.name, from: start.from } : {};
    const about = { name: cell.name, values: cell.values, workflowId, ...fork };
    const args: [unknown] = [start.how === 'fork' ? forkOfCell(cell, start, idOf(start.of)) : cell.experiment];
    try {
      const options = { workflowId, args, staticSummary: cell.name };
      const { figures, stages, report } = (await executeAlone('experiment', options, cell.name)) as ExperimentResult;
      rows.set(cell.number, {
        ...about,
        state: 'done',
        ...(figures.passAt1 ? { passAt1: figures.passAt1 } : {}),
        costUsd: figures.costUsd,
        reused: stages.filter(({ reused }) => reused).map(({ name }) => name),
        report,
      });
    } catch (error) {
      // A cell that somebody cancels is a row. Where the sweep itself is cancelled, its cells are too.
      if (CancellationScope.current().consideredCancelled) throw error;
      rows.set(cell.number, { ...about, state: 'failed', failure: reasonOf(error) });
    }
  };

  show();
  for (;;) {
    const long = historyIsLong();
    for (const cell of cells) {
      if (long || running.size >= settings.atOnce) break;
      if (rows.has(cell.number) || running.has(cell.number)) continue;
      const done = cells.filter(({ number }) => rows.get(number)?.state === 'done');
      const open = cells.filter(({ number }) => !rows.has(number) && (running.has(number) || number < cell.number));
      const start = startOf(cell, done, open);
      if (start.how === 'wait') continue;
      const ended = run(cell, start).finally(() => running.delete(cell.number));
      ended.catch(() => undefined);
      running.set(cell.number, ended);
    }
    show();
    if (running.size === 0) break;
    try {
      await Promise.race(running.values());
    } catch (error) {
      // Cancelled: the other cells are cancelled too, and end first.
      CancellationScope.current().cancel();
      await Promise.allSettled(running.values());
      throw error;
    }
  }
  if (rows.size < cells.length) await continueAsNew<typeof sweep>(input, { rows: Object.fromEntries(rows) });
  show();
  return { name: settings.name, rows: cells.map(({ number }) => rows.get(number)!) };
}

/** Workflow id of a cell's experiment. */
function idOf({ name }: Cell): string {
  return `${workflowInfo().workflowId}/${name}`;
}

/** Why an experiment failed, in its own words. */
function reasonOf(error: unknown): string {
  let cause: unknown = error;
  while (cause instanceof Error && !(cause instanceof ApplicationFailure) && cause.cause !== undefined)
    cause = cause.cause;
  const type = cause instanceof ApplicationFailure ? `${cause.type ?? 'Error'}: ` : '';
  return `${type}${cause instanceof Error ? cause.message : String(cause)}`.slice(0, 500);
}

/** Characters of the table in the details, which take 20,000 bytes. The result has all. */
const SHOWN_CHARACTERS = 4500;

function details(
  name: string,
  cells: readonly Cell[],
  rows: ReadonlyMap<number, SweepRow>,
  running: ReadonlySet<number>,
): string {
  const lines = cells.map((cell) => {
    const row = rows.get(cell.number);
    const values = Object.entries(cell.values).map(([path, value]) => `${path} ${JSON.stringify(value)}`);
    const rates = Object.entries(row?.passAt1 ?? {}).map(([of, rate]) => `${of} ${rate.toFixed(3)}`);
    const state = row?.state ?? (running.has(cell.number) ? 'running' : 'waiting');
    const cut = (text: string): string => text.replaceAll(/[|\s]+/g, ' ').slice(0, 120);
    const result = rates.join(', ') || (row?.failure ?? '');
    return `| ${cell.name} | \`${state}\` | ${cut(values.join(', '))} | ${cut(result)} |`;
  });
  let left = SHOWN_CHARACTERS;
  const shown = lines.filter((line) => (left -= line.length) > 0);
  const done = [...rows.values()].filter(({ state }) => state === 'done').length;
  return [
    `**${name}**: ${done} of ${cells.length} cells done, ${running.size} running`,
    ['| cell | state | values | pass@1 |', '|---|---|---|---|', ...shown].join('\n'),
    ...(shown.length < lines.length ? [`${shown.length} cells are shown; the result has all.`] : []),
  ].join('\n\n');
}
