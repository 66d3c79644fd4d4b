/**
 * The tables of docs/results/paper.md: the settings of `paper-7b` as the preset has them, and figures of the paper next
 * to those that were measured. A measured cell comes from the `summary.json` of a cell of the table's sweep, which lies
 * under the cell's name in docs/results/paper. `npm run docs:paper` writes them.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  expandPreset,
  PRESETS,
  Summary,
  type Cell,
  type EvaluationResult,
  type Experiment,
} from '../../workflows/contract/index.js';
import { readSweep } from '../commands/estimate.js';
import { root } from '../setup/paths.mjs';
import { COLUMNS, PAPER_TABLES, type Figure, type PaperRow, type PaperTable } from './paper-figures.js';

export const PAPER_PAGE = join(root, 'docs/results/paper.md');
/** Where the summaries of measured cells lie, each as `<name of the cell>.json`. */
const MEASURED = join(root, 'docs/results/paper');

/** The cells of the sweep of a table. @throws Error with every mistake. */
export function cellsOfTable({ sweep }: PaperTable): Cell[] {
  const path = join(root, `infra/experiments/${sweep}.json`);
  const cells = readSweep(path);
  if (!cells) throw new Error(`${path} is no sweep`);
  return cells;
}

/** The cell that measures a row. @throws Error where the sweep has none. */
export function cellOfRow({ preset, policy }: PaperRow, cells: readonly Cell[]): Cell {
  const found = cells.find(
    ({ values, experiment }) => values['extends'] === preset && hubId(experiment.models.policy) === policy,
  );
  if (!found) throw new Error(`no cell has the preset ${preset} and the policy ${policy}`);
  return found;
}

function hubId(model: Experiment['models']['policy']): string | undefined {
  return model.kind === 'hub' ? model.id : undefined;
}

/** A figure of a result, as a share; undefined where it was not measured. */
function valueOf(result: EvaluationResult | undefined, figure: Figure): number | undefined {
  if (typeof figure === 'object') return result?.bestOfN[figure.bestOf];
  return result?.[figure] ?? undefined;
}

/**
 * The nine figures of a row and their average, in percent with a decimal as the paper has them; empty texts where they
 * were not measured.
 */
export function measuredCells({ of, figure }: PaperRow, summary: Summary | undefined): string[] {
  const values = COLUMNS.map(({ result: name }) =>
    valueOf(
      summary?.evaluation.find(({ benchmark, policy }) => benchmark === name && policy === of),
      figure,
    ),
  );
  const known = values.filter((value) => value !== undefined);
  const average =
    known.length === values.length ? known.reduce((sum, value) => sum + value, 0) / known.length : undefined;
  return [...values, average].map((value) => (value === undefined ? '' : (100 * value).toFixed(1)));
}

/** The summary of a cell, where it was measured. @throws Error where the file is that of another experiment. */
function summaryOf({ name }: Cell): Summary | undefined {
  const path = join(MEASURED, `${name}.json`);
  if (!existsSync(path)) return undefined;
  const summary = Summary.parse(JSON.parse(readFileSync(path, 'utf8')));
  if (summary.experiment !== name) throw new Error(`${path} is the summary of ${summary.experiment}, not of ${name}`);
  return summary;
}

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

function tableOf(table: PaperTable): string {
  const { number, title, sweep, rows } = table;
  const cells = cellsOfTable(table);
  const head = ['', '', ...COLUMNS.map(({ name }) => name), 'average'];
  return [
    `### Table ${number}: ${title}\n`,
    `Sweep: [\`${sweep}.json\`](../../infra/experiments/${sweep}.json).\n`,
    line(head),
    line(head.map(() => '---')),
    ...rows.flatMap((row) => [
      line([row.name, `paper, table ${number}`, ...row.published.map((value) => value.toFixed(1))]),
      line(['', 'here', ...measuredCells(row, summaryOf(cellOfRow(row, cells)))]),
    ]),
  ].join('\n');
}

/** Settings of the paper: what it says where, and the field of `paper-7b` that holds it. */
const SETTINGS: readonly { what: string; paper: string; field: string }[] = [
  { what: 'seeds', paper: '124,006 of three sets (section 2.2, table 1)', field: 'seeds' },
  { what: 'teacher', paper: 'GPT-4o-mini (2.2); temperature 0.7, JSON mode (code)', field: 'stages.synthesis.teacher' },
  { what: 'near-duplicate seeds', paper: 'stay', field: 'stages.synthesis.nearDuplicate' },
  { what: 'seeds that repeat a benchmark', paper: 'stay', field: 'stages.synthesis.decontaminate' },
  {
    what: 'test filter',
    paper: 'Qwen2.5-Coder-32B-Instruct, greedy (2.2); two tests shown (code)',
    field: 'stages.filtering.oracle',
  },
  { what: 'questions that stay', paper: 'at least 5 test cases (2.2)', field: 'stages.filtering.minimumTestCases' },
  { what: 'held out', paper: '0.5 % of the pairs (code)', field: 'stages.filtering.heldOutShare' },
  { what: 'limits of the oracle', paper: '0.8 s for all tests (code, wall time)', field: 'stages.filtering.limits' },
  { what: 'sampler', paper: 'Qwen2.5-Coder-7B-Instruct (2.3)', field: 'models.sampler' },
  { what: 'programs per question', paper: '16 (2.3)', field: 'stages.sampling.samples' },
  { what: 'temperature of sampling', paper: '1.0 (table 2); 0.7 (code)', field: 'stages.sampling.temperature' },
  { what: 'limits of samples', paper: '0.2 s for all tests (code, wall time)', field: 'stages.sampling.limits' },
  {
    what: 'pairs',
    paper: 'best > 0.8, gap > 0.4, worst > 0 (equation 3); ≥ for the first two (code)',
    field: 'stages.preferences',
  },
  { what: 'backbone of the reward model', paper: 'Qwen2.5-Coder-7B-Instruct (3.1)', field: 'models.rewardModel' },
  {
    what: 'training of the reward model',
    paper: 'learning rate 1e-5, 1 epoch, batch 128, 2,048 tokens (3.1); cosine, warm-up 0.1 (code)',
    field: 'stages.rewardModel',
  },
  { what: 'policy', paper: 'three (3.2, table 4)', field: 'models.policy' },
  {
    what: 'questions of RL',
    paper: 'hard quarter (3.2); mean at most the median, then spread at least the median (code)',
    field: 'stages.reinforcement.questions',
  },
  { what: 'rounds', paper: '80 steps, one episode (abstract, 3.2)', field: 'stages.reinforcement.rounds' },
  { what: 'prompts of a round', paper: '256 (3.2)', field: 'stages.reinforcement.promptsPerRound' },
  { what: 'rollouts per prompt', paper: '8 (3.2)', field: 'stages.reinforcement.samplesPerPrompt' },
  { what: 'tokens of an answer', paper: '2,048 (code)', field: 'stages.reinforcement.maxNewTokens' },
  {
    what: 'update',
    paper: 'Reinforce++, learning rate 5e-7, batch 128 (3.2); KL 0.01, clip 0.2, warm-up 3 % (code)',
    field: 'stages.reinforcement.algorithm',
  },
  { what: 'reward of the rule', paper: '1 where all tests pass, else 0 (3.2)', field: 'stages.reinforcement.reward' },
  {
    what: 'limits of rollouts',
    paper: '4 s a test, 16 s a program, 4 GiB (code, wall time)',
    field: 'stages.reinforcement.limits',
  },
];

/** The reward of `paper-7b-reward-model` stands next to that of `paper-7b`. */
function settingsTable(): string {
  const values = expandPreset({ extends: 'paper-7b' });
  const rows = SETTINGS.map(({ what, paper, field }) =>
    line([what, paper, `\`${field}\``, `\`${shown(at(values, field))}\``]),
  );
  return [line(['what', 'paper', 'field', '`paper-7b`']), line(['---', '---', '---', '---']), ...rows].join('\n');
}

/** A value of the preset at a path. @throws Error where the preset says nothing. */
function at(values: unknown, field: string): unknown {
  const found = field
    .split('.')
    .reduce<unknown>((inner, name) => (inner as Record<string, unknown> | undefined)?.[name], values);
  if (found === undefined) throw new Error(`paper-7b says nothing of ${field}`);
  return found;
}

function shown(value: unknown): string {
  return JSON.stringify(value).replaceAll('|', '\\|').replaceAll('":', '": ').replaceAll(',"', ', "');
}

function presetsTable(): string {
  const rows = Object.entries(PRESETS)
    .filter(([name]) => name.startsWith('paper-'))
    .map(([name, { about, extends: bases = [] }]) =>
      line([`\`${name}\``, bases.map((base) => `\`${base}\``).join(', '), about]),
    );
  return [line(['preset', 'extends', 'what it is, and why']), line(['---', '---', '---']), ...rows].join('\n');
}

/** The page with its tables as they are now. @throws Error naming a mark that the page lacks. */
export function paperPage(page: string): string {
  const parts = { settings: settingsTable(), presets: presetsTable(), tables: PAPER_TABLES.map(tableOf).join('\n\n') };
  return Object.entries(parts).reduce((text, [name, part]) => {
    const marks = new RegExp(`<!-- ${name}:start -->[^]*<!-- ${name}:end -->`);
    if (!marks.test(text)) throw new Error(`${PAPER_PAGE} lacks the marks of ${name}`);
    return text.replace(marks, () => `<!-- ${name}:start -->\n${part}\n<!-- ${name}:end -->`);
  }, page);
}

if (process.argv[1] === import.meta.filename) {
  writeFileSync(PAPER_PAGE, paperPage(readFileSync(PAPER_PAGE, 'utf8')));
  console.log(`${PAPER_TABLES.length} tables in ${PAPER_PAGE}`);
}
