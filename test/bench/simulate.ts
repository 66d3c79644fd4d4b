/** `npm run simulate`: workflows in virtual time, with faults from a seed, and how large histories become. */
import { parseArgs } from 'node:util';
import { grow, LARGEST_HISTORY_BYTES, SIZES, type SizeName } from '../simulation/sizes.js';
import { bundledWorkflows, WorkflowCode } from '../simulation/workflow-vm.js';
import { report, type Measure } from './table.js';

const HELP = `npm run simulate -- [options]

Runs the real workflow code in virtual time, with modelled activities. No server, no store and no model are needed.

  --size NAME=N   one long run: rounds=1000 of reinforcement, shards=10000 of sampling; may be given several times
  --seed S        where schedules begin (1)
  --json          one JSON object on the last line
  --help          print this`;

/** Totals at a size over ten times those at a tenth of it: 1 is linear. */
const LINEAR_BAR = 1.1;

function sizeOf(text: string): [SizeName, number] {
  const [name, count] = text.split('=');
  const size = Number(count);
  if (!name || !Object.hasOwn(SIZES, name) || !Number.isInteger(size) || size < 10)
    throw new Error(`--size is NAME=N with a name of ${Object.keys(SIZES).join(', ')} and N of 10 or more: ${text}`);
  return [name as SizeName, size];
}

async function sizes(code: WorkflowCode, wanted: readonly string[], seed: number): Promise<Measure[]> {
  const measures: Measure[] = [];
  for (const [name, size] of wanted.map(sizeOf)) {
    const small = await grow(code, name, Math.floor(size / 10), seed);
    const large = await grow(code, name, size, seed);
    const ratio = large.totalBytes / ((size / Math.floor(size / 10)) * small.totalBytes);
    measures.push(
      {
        name: `${name}=${size}: largest history of a run`,
        value: large.largestBytes,
        unit: 'bytes',
        bar: LARGEST_HISTORY_BYTES,
        at: 'most',
        note: `${large.largestEvents} events`,
      },
      { name: `${name}=${size}: runs`, value: large.runs, unit: 'runs' },
      { name: `${name}=${size}: all histories`, value: large.totalBytes, unit: 'bytes' },
      {
        name: `${name}=${size}: all histories, over those of a tenth in proportion`,
        value: ratio,
        unit: 'times',
        bar: LINEAR_BAR,
        at: 'most',
        note: `${small.totalBytes} bytes at ${Math.floor(size / 10)}`,
      },
    );
  }
  return measures;
}

const { values } = parseArgs({
  options: {
    size: { type: 'string', multiple: true, default: [] },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(HELP);
} else {
  const code = await WorkflowCode.load(await bundledWorkflows());
  report('simulate', await sizes(code, values.size, Number(values.seed)), values.json);
}
