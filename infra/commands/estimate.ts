/** `npm run estimate -- experiment.json`: what an experiment will take, before anything is started or paid. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import {
  checkInput,
  cellsOf,
  compact,
  DEVICES,
  dollarsText,
  estimate,
  isTable,
  MEASURED_RUN,
  planOf,
  refusalText,
  sizeOf,
  type Cell,
  type Estimate,
  type EstimateFacts,
  type Experiment,
  type ModelSize,
  type ModelSource,
  type StageName,
} from '../../workflows/contract/index.js';
import { root } from '../setup/paths.mjs';
import { asTyped, FLAG, runCommand, type CommandLine } from './command.js';

const HELP = `npm run estimate -- FILE [options]

Rows, tokens, time, money and disk of the experiment in FILE, from its configuration and measured rates. Of a sweep,
those of each cell: stages that it shares with an earlier one are counted there.

  --device NAME     ${Object.entries(DEVICES)
    .map(([name, { description, basis }]) => `${name}: ${description} (${basis})`)
    .join('\n                    ')}
  --devices N       devices that sample and evaluate at once (1)
  --price X         US dollars for one device and hour
  --seeds N         number of seeds, where FILE names a reference or a file that is not here
  --parameters N    parameters of the policy, such as 7.6e9, where its name does not tell
  --blocks N        decoder blocks of the policy, where its name does not tell
  --json            one JSON object
  --help            print this`;

export interface EstimateOptions {
  device?: string | undefined;
  devices?: number | undefined;
  price?: number | undefined;
  seeds?: number | undefined;
  parameters?: number | undefined;
  blocks?: number | undefined;
}

/** The experiment in a file, with its preset. @throws Error with every mistake. */
export function readExperiment(path: string): Experiment {
  const { data, mistakes } = checkInput('experiment', JSON.parse(readFileSync(path, 'utf8')));
  if (mistakes) throw new Error(`${path}: ${refusalText('experiment', mistakes)}`);
  return data;
}

/**
 * The cells of the sweep in a file; undefined where it is no sweep.
 *
 * @throws Error with every mistake of every cell.
 */
export function readSweep(path: string): Cell[] | undefined {
  const input: unknown = JSON.parse(readFileSync(path, 'utf8'));
  if (typeof input !== 'object' || input === null || !('grid' in input)) return undefined;
  const { data, mistakes } = checkInput('sweep', input);
  const found = mistakes ? { mistakes } : cellsOf(data, (each) => checkInput('experiment', each));
  if (found.mistakes) throw new Error(`${path}: ${refusalText('sweep', found.mistakes)}`);
  return found.cells;
}

/** What a cell of a sweep will take: of the stages that no earlier cell computes. */
interface CellEstimate {
  name: string;
  values: Record<string, unknown>;
  computes: StageName[];
  deviceSeconds: number;
  /** Seconds that pass. */
  seconds: number;
  /** US dollars for replies. */
  dollars: number;
}

/**
 * The estimate of each cell of a sweep on this host's files.
 *
 * @throws Error that names the option which says what cannot be found out.
 * @example
 * estimateSweep(readSweep('infra/experiments/paper-table-8.json')!, { device: 'gpu-80gb' })[1]!.computes;
 */
export function estimateSweep(cells: readonly Cell[], options: EstimateOptions = {}): CellEstimate[] {
  return planOf(cells).map(({ cell: { name, values, experiment }, computes }) => {
    const { result } = estimateExperiment(experiment, options);
    const own = result.stages.filter(({ stage }) => computes.includes(stage));
    return {
      name,
      values,
      computes,
      deviceSeconds: own.reduce((sum, each) => sum + each.deviceSeconds, 0),
      seconds: own.reduce((sum, each) => sum + each.seconds, 0),
      dollars: result.replies.reduce((sum, each) => sum + (computes.includes(each.stage) ? each.dollars : 0), 0),
    };
  });
}

/**
 * The estimate of an experiment on this host's files.
 *
 * @throws Error that names the option which says what cannot be found out.
 */
export function estimateExperiment(
  experiment: Experiment,
  options: EstimateOptions = {},
): { facts: EstimateFacts; result: Estimate } {
  const { device: name = 'cpu', devices = 1, price } = options;
  const device = DEVICES[name];
  if (!device) throw new Error(`--device is ${JSON.stringify(name)}; known are ${Object.keys(DEVICES).join(', ')}.`);
  const policy =
    options.parameters === undefined
      ? modelSize(experiment.models.policy)
      : { parameters: options.parameters, blocks: options.blocks };
  const { sampler, rewardModel } = experiment.models;
  const backbone = rewardModel ? modelSize(rewardModel) : policy;
  const facts = {
    ...seedsOf(experiment, options.seeds),
    policy,
    ...(sampler ? { sampler: modelSize(sampler) } : {}),
    backbone,
    device,
    devices,
    dollarsPerDeviceHour: price,
  };
  return { facts, result: estimate(experiment, facts) };
}

/** Seeds of the paper's three sets (table 1). */
const PAPER_SEEDS = 124_006;

/** Number of seeds, as told or counted, and their mean size where that can be seen. */
function seedsOf({ seeds }: Experiment, told: number | undefined): { seeds: number; seedBytes?: number } {
  if ('digest' in seeds) {
    const rows = seeds.rows ?? told;
    if (rows === undefined)
      throw new Error('The reference to the seeds does not say how many there are; give --seeds.');
    return { seeds: told ?? rows, seedBytes: seeds.bytes / Math.max(1, rows) };
  }
  if (isTable(seeds)) {
    if (told !== undefined) return { seeds: told };
    if (seeds.format === 'aceCoderSeeds') return { seeds: PAPER_SEEDS };
    throw new Error(
      `The number of seeds in ${seeds.path ?? seeds.dataset ?? seeds.package} is known when they are read: ` +
        'give --seeds.',
    );
  }
  const path = [resolve(seeds.path), join(root, seeds.path)].find(existsSync);
  if (path === undefined) {
    if (told !== undefined) return { seeds: told };
    throw new Error(`There is no file ${seeds.path} here to count its seeds; give --seeds.`);
  }
  const lines = readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.trim() !== '');
  return { seeds: told ?? lines.length, seedBytes: lines.join('').length / Math.max(1, lines.length) };
}

function modelSize(source: ModelSource): ModelSize {
  const known = sizeOf(source);
  if (known) return known;
  const folder =
    source.kind === 'folder'
      ? [resolve(source.path), join(root, source.path)].find((path) => existsSync(join(path, 'config.json')))
      : undefined;
  if (folder === undefined)
    throw new Error(`The size of the model ${JSON.stringify(source)} is not known; give --parameters.`);
  const bytes = readdirSync(folder)
    .filter((name) => name.endsWith('.safetensors'))
    .reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  const { num_hidden_layers: blocks, torch_dtype: dtype } = JSON.parse(
    readFileSync(join(folder, 'config.json'), 'utf8'),
  ) as { num_hidden_layers?: number; torch_dtype?: string };
  return { parameters: bytes / (dtype === 'bfloat16' || dtype === 'float16' ? 2 : 4), blocks };
}

/** The estimate in a line, for who is about to start. */
export function estimateLine({
  facts,
  result: { stages, total, replies },
}: ReturnType<typeof estimateExperiment>): string {
  const rows = Object.assign({}, ...stages.map((each) => each.rows)) as Record<string, number>;
  const dollars = dollarsText(replies.reduce((sum, each) => sum + each.dollars, 0));
  return (
    `About ${duration(total.seconds)} on ${facts.device.description}: ${rows['programs']} programs to sample, ` +
    `${rows['rounds']} RL rounds, ${compact(total.tokens.generated)} tokens to write, ` +
    `${compact(total.diskBytes)}B of disk, ${dollars} dollars for replies.`
  );
}

/** Seconds as `40 s`, `12 min`, `5.3 h` or `12 days`. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.ceil(seconds / 60)} min`;
  if (seconds < 72 * 3600) return `${(seconds / 3600).toFixed(1)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

function moneyText({ dollars, atMostDollars, budgetDollars }: Estimate['replies'][number]): string {
  const more = [
    ...(atMostDollars > 0 ? [`${atMostDollars.toFixed(2)} if every reply is as long as it may be`] : []),
    ...(budgetDollars === null ? [] : [`never more than the budget of ${budgetDollars.toFixed(2)}`]),
  ];
  return `${dollars.toFixed(2)} dollars${more.length > 0 ? ` (${more.join('; ')})` : ''}`;
}

/** Cells below each other, each column as wide as its widest cell. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
}

function sweepTable(cells: readonly CellEstimate[], device = 'cpu'): string {
  const sum = (of: (cell: CellEstimate) => number): number => cells.reduce((total, cell) => total + of(cell), 0);
  const work = DEVICES[device]?.memoryBytes === undefined ? 'CPU time' : 'GPU time';
  const numbers = (deviceSeconds: number, seconds: number, dollars: number): string[] => [
    duration(deviceSeconds),
    duration(seconds),
    `${dollarsText(dollars)} dollars`,
  ];
  return aligned([
    ['cell', 'computes', work, 'passes', 'replies', 'values'],
    ...cells.map(({ name, values, computes, deviceSeconds, seconds, dollars }) => [
      name,
      computes.join(', '),
      ...numbers(deviceSeconds, seconds, dollars),
      Object.values(values)
        .map((value) => JSON.stringify(value))
        .join(' '),
    ]),
    [
      'all',
      '',
      ...numbers(
        sum((cell) => cell.deviceSeconds),
        sum((cell) => cell.seconds),
        sum((cell) => cell.dollars),
      ),
      '',
    ],
  ]).join('\n');
}

function table({ facts, result }: ReturnType<typeof estimateExperiment>): string {
  const { stages, total, replies, extrapolated, warnings } = result;
  const work = facts.device.memoryBytes === undefined ? 'CPU time' : 'GPU-hours';
  const ofWork = (seconds: number): string =>
    facts.device.memoryBytes === undefined ? duration(seconds) : (seconds / 3600).toFixed(2);
  const header = [
    'stage',
    'rows',
    'tokens written',
    'tokens trained',
    'sandbox CPU',
    work,
    'passes',
    'store',
    'device memory',
  ];
  const cells = stages.map(({ stage, rows, tokens, sandboxCpuSeconds, deviceSeconds, seconds, bytes, memoryBytes }) => [
    stage,
    Object.entries(rows)
      .map(([name, count]) => `${compact(count)} ${name}`)
      .join(', '),
    compact(tokens.generated),
    compact(tokens.trained),
    duration(sandboxCpuSeconds),
    ofWork(deviceSeconds),
    duration(seconds),
    `${compact(bytes)}B`,
    memoryBytes === undefined ? '' : `> ${compact(memoryBytes)}B`,
  ]);
  cells.push([
    'all',
    '',
    compact(total.tokens.generated),
    compact(total.tokens.trained),
    duration(total.sandboxCpuSeconds),
    ofWork(total.deviceSeconds),
    duration(total.seconds),
    `${compact(total.storeBytes)}B`,
    '',
  ]);
  const lines = aligned([header, ...cells]);
  const rates = facts.device.basis === 'measured' ? MEASURED_RUN.where : 'extrapolated, see below';
  const rent = total.dollars === null ? 'not counted (--price)' : `${total.dollars.toFixed(2)} dollars`;
  return [
    ...lines,
    '',
    `Device:       ${facts.devices} x ${facts.device.description}; a training uses one. Rates: ${rates}.`,
    `Money:        ${replies.map((each) => `${each.who}: ${moneyText(each)}`).join('; ')}; devices: ${rent}.`,
    `Disk:         ${compact(total.diskBytes)}B on one host with store, cache and report.`,
    ...(extrapolated.length > 0 ? ['Extrapolated, not measured:', ...extrapolated.map((text) => `  - ${text}`)] : []),
    ...(warnings.length > 0 ? ['Will not work as it stands:', ...warnings.map((text) => `  - ${text}`)] : []),
  ].join('\n');
}

const OPTIONS = {
  device: { type: 'string' },
  devices: { type: 'string' },
  price: { type: 'string' },
  seeds: { type: 'string' },
  parameters: { type: 'string' },
  blocks: { type: 'string' },
  json: FLAG,
} as const;

function run({ values, positionals }: CommandLine<typeof OPTIONS>): void {
  const [file, ...more] = positionals;
  if (file === undefined || more.length > 0) return void console.log(asTyped(HELP));
  const number = (name: 'devices' | 'price' | 'seeds' | 'parameters' | 'blocks'): number | undefined => {
    const text = values[name];
    if (text !== undefined && !(Number(text) > 0))
      throw new Error(`--${name} is ${JSON.stringify(text)}; give a number above 0.`);
    return text === undefined ? undefined : Number(text);
  };
  const options = {
    device: values.device,
    devices: number('devices'),
    price: number('price'),
    seeds: number('seeds'),
    parameters: number('parameters'),
    blocks: number('blocks'),
  };
  const sweep = readSweep(file);
  if (sweep) {
    const cells = estimateSweep(sweep, options);
    return void console.log(values.json ? JSON.stringify(cells) : sweepTable(cells, values.device));
  }
  const estimated = estimateExperiment(readExperiment(file), options);
  console.log(values.json ? JSON.stringify(estimated.result) : table(estimated));
}

/** Runs the command with the words of this process, and ends it. */
export function estimateCommand(): void {
  runCommand({ help: HELP, options: OPTIONS, run });
}

if (process.argv[1] === import.meta.filename) estimateCommand();
