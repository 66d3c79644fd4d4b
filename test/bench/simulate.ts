/** `npm run simulate`: workflows in virtual time, with faults from a seed, and how large histories become. */
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { difference, SCRIPTS, simulatedCourses } from '../simulation/conformance.js';
import { CAUSES, OUTAGES, simulateFleet, TIMES, usefulShare } from '../simulation/fleet.js';
import { DevServer } from '../simulation/dev-server.js';
import { simulateNights } from '../simulation/nights.js';
import { BUGS, type BugName } from '../simulation/planted-bugs.js';
import { SIMULATED, type Schedule, type SimulatedWorkflow } from '../simulation/schedules.js';
import { isBug, Searcher, type Answer, type Task } from '../simulation/search.js';
import { grow, LARGEST_HISTORY_BYTES, LARGEST_PAYLOAD_BYTES, SIZES, type SizeName } from '../simulation/sizes.js';
import { bundledWorkflows, WorkflowCode } from '../simulation/workflow-vm.js';
import { report, type Measure } from './table.js';

const HELP = `npm run simulate -- [options]

Runs the real workflow code in virtual time, with modelled activities. No server, no store and no model are needed.

  --schedules N    N schedules with faults from the seeds S to S+N-1; each is held against an undisturbed run
  --seed S         the first seed (1); "--schedules 1 --seed S" repeats one
  --replay-faults F,F,...
                   with "--schedules 1": only these faults happen, as a violation prints them
  --workflow W     of one workflow: ${SIMULATED.join(', ')};
                   by default a whole experiment, with others beside it on the same store and devices
  --bug NAME       plants a bug in all schedules: ${Object.keys(BUGS).join(', ')}
  --planted        looks for every planted bug, or that of --bug, in at most 300 schedules each
  --size NAME=N    one long run without faults: rounds=1000 of reinforcement, shards=10000 of sampling,
                   retries=500 or pauses=100 of an experiment; nights=365 of a refresh by a schedule, with faults
  --conformance    plays ${SCRIPTS.length} scripts in the simulation and on Temporal's dev server;
                   both must go the same way
  --script TEXT    of the scripts those whose names hold TEXT
  --fleet          what 125 hosts of eight GPUs lose in 30 days, by cause, at published rates of failures
  --days N         of the fleet (30)
  --processes P    processes beside each other (2)
  --json           one JSON object on the last line
  --help           print this`;

/** Totals at a size over ten times those at a tenth of it: 1 is linear. */
const LINEAR_BAR = 1.1;
/** The same of nights, whose faults and new seeds differ by chance. */
const LINEAR_NIGHTS_BAR = 1.3;
/** Schedules in which a planted bug is found. */
const MOST_SCHEDULES = 300;
/** Schedules of a whole experiment that are wanted in 10 minutes, where as many are asked for. */
const MANY_SCHEDULES = 1000;
/** Faults that a schedule should have. */
const MANY_FAULTS = 3;
const ME = fileURLToPath(import.meta.url);

function count(text: string, option: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new Error(`--${option} is a whole number: ${text}`);
  return value;
}

function sizeOf(text: string): [SizeName | 'nights', number] {
  const [name, number] = text.split('=');
  const size = Number(number);
  const names = [...Object.keys(SIZES), 'nights'];
  if (!name || !names.includes(name) || !Number.isInteger(size) || size < 10)
    throw new Error(`--size is NAME=N with a name of ${names.join(', ')} and N of 10 or more: ${text}`);
  return [name as SizeName | 'nights', size];
}

/** A year of refreshes, and its tenth for comparison. */
async function yearOf(code: WorkflowCode, nights: number, seed: number): Promise<Measure[]> {
  const tenth = Math.floor(nights / 10);
  const small = await simulateNights(code, tenth, seed);
  const year = await simulateNights(code, nights, seed);
  for (const violation of [...small.violations, ...year.violations]) console.log(`VIOLATION: ${violation}`);
  const name = `nights=${nights}`;
  const faults = Object.entries(year.happened).map(([kind, times]) => `${kind} ${times}`);
  return [
    { name: `${name}: nights`, value: year.nights, unit: 'nights', bar: nights, note: faults.join(', ') },
    { name: `${name}: versions, each after the one before`, value: year.versions, unit: 'versions' },
    { name: `${name}: nights that failed`, value: year.failed, unit: 'nights' },
    { name: `${name}: nights that hung, ended by the execution timeout`, value: year.hung, unit: 'nights', bar: 1 },
    { name: `${name}: nights that did not start`, value: year.skipped, unit: 'nights', bar: 0, at: 'most' },
    {
      name: `${name}: replies asked for beyond one a seed`,
      value: year.asked - year.seeds,
      unit: 'replies',
      bar: 0,
      at: 'most',
      note: `${year.seeds} seeds`,
    },
    {
      name: `${name}: violations`,
      value: small.violations.length + year.violations.length,
      unit: 'violations',
      bar: 0,
      at: 'most',
    },
    {
      name: `${name}: largest history of a run`,
      value: year.largestBytes,
      unit: 'bytes',
      bar: LARGEST_HISTORY_BYTES,
      at: 'most',
    },
    { name: `${name}: runs`, value: year.runs, unit: 'runs' },
    {
      name: `${name}: all histories, over those of a tenth in proportion`,
      value: year.totalBytes / ((nights / tenth) * small.totalBytes),
      unit: 'times',
      bar: LINEAR_NIGHTS_BAR,
      at: 'most',
      note: `${small.totalBytes} bytes in ${tenth} nights, ${year.totalBytes} in all`,
    },
  ];
}

async function sizes(wanted: readonly string[], seed: number): Promise<Measure[]> {
  const measures: Measure[] = [];
  const named = wanted.map(sizeOf);
  const code = await WorkflowCode.load(await bundledWorkflows());
  for (const [name, size] of named) {
    if (name === 'nights') {
      measures.push(...(await yearOf(code, size, seed)));
      continue;
    }
    const tenth = Math.floor(size / 10);
    const small = await grow(code, name, tenth, seed);
    const large = await grow(code, name, size, seed);
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
      {
        name: `${name}=${size}: largest event, with its payloads`,
        value: large.largestEventBytes,
        unit: 'bytes',
        bar: LARGEST_PAYLOAD_BYTES,
        at: 'most',
      },
      { name: `${name}=${size}: all histories`, value: large.totalBytes, unit: 'bytes' },
      {
        name: `${name}=${size}: all histories, over those of a tenth in proportion`,
        value: large.totalBytes / ((size / tenth) * small.totalBytes),
        unit: 'times',
        bar: LINEAR_BAR,
        at: 'most',
        note: `${small.totalBytes} bytes at ${tenth}`,
      },
    );
  }
  return measures;
}

/** Does all tasks, each process one at a time. */
async function answers(tasks: readonly Task[], processes: number, told: (answer: Answer) => void): Promise<Answer[]> {
  const waiting = [...tasks];
  const all: Answer[] = [];
  const take = (answer: Answer): void => {
    all.push(answer);
    told(answer);
  };
  if (processes <= 1) {
    const searcher = new Searcher();
    for (const task of tasks) take(await searcher.answer(task));
    return all;
  }
  const child = (): Promise<void> =>
    new Promise((done, failed) => {
      const worker: ChildProcess = fork(ME, ['--serve'], {
        // Runs come and go: with more room for what is young, less of it is copied.
        execArgv: [...process.execArgv, '--max-semi-space-size=64'],
      });
      const next = (): void => {
        const task = waiting.shift();
        if (task) worker.send(task);
        else worker.disconnect();
      };
      worker.on('message', (answer: Answer) => {
        take(answer);
        next();
      });
      worker.once('error', failed);
      worker.once('exit', (code, signal) =>
        code === 0 ? done() : failed(new Error(`a process of the simulation ended with ${signal ?? code}`)),
      );
      next();
    });
  await Promise.all(Array.from({ length: Math.min(processes, tasks.length) }, child));
  return all;
}

/** The part of a process that does tasks of another one. */
function serve(): void {
  const searcher = new Searcher();
  process.once('disconnect', () => process.exit());
  process.on('message', (task: Task) => {
    searcher.answer(task).then(
      (answer) => process.send!(answer),
      (error: unknown) => {
        console.error(error);
        process.exit(1);
      },
    );
  });
}

function repeatedBy({ seed, workflow }: Schedule, bug: BugName | undefined): string {
  const planted = bug === undefined ? '' : ` --bug ${bug}`;
  return `npm run simulate -- --schedules 1 --seed ${seed} --workflow ${workflow}${planted}`;
}

async function schedules(
  first: number,
  number: number,
  processes: number,
  { workflow, bug, only }: { workflow: SimulatedWorkflow | undefined; bug: BugName | undefined; only?: string[] },
): Promise<Measure[]> {
  const started = performance.now();
  const tasks = Array.from({ length: number }, (_, index): Task => ({
    kind: 'schedule',
    seed: first + index,
    workflow,
    bug,
    only,
  }));
  const done = await answers(tasks, processes, (answer) => {
    if (answer.kind !== 'schedule' || answer.schedule.violations.length === 0) return;
    const { schedule, needs } = answer;
    console.log(`seed ${schedule.seed}, ${schedule.workflow}: VIOLATION`);
    for (const violation of schedule.violations) console.log(`  ${violation}`);
    console.log(`  of its ${schedule.faults.length} faults it needs ${needs.length}; it happens again by`);
    console.log(`  ${repeatedBy(schedule, bug)} --replay-faults '${needs.join(',')}'`);
  });
  const seconds = (performance.now() - started) / 1000;
  const all = done.flatMap((answer) => (answer.kind === 'schedule' ? [answer.schedule] : []));
  const faults = all.map((schedule) => schedule.faults.length);
  const sum = (values: readonly number[]): number => values.reduce((total, each) => total + each, 0);
  const kinds = new Map<string, number>();
  for (const { happened } of all)
    for (const [kind, times] of Object.entries(happened)) kinds.set(kind, (kinds.get(kind) ?? 0) + times);
  return [
    { name: 'schedules', value: all.length, unit: 'schedules', note: `${processes} processes` },
    {
      name: 'schedules with violations',
      value: all.filter(({ violations }) => violations.length > 0).length,
      unit: 'schedules',
      bar: 0,
      at: 'most',
    },
    { name: 'time', value: seconds, unit: 's' },
    {
      name: `with ${MANY_FAULTS} faults or more, in 10 minutes`,
      value: (600 * faults.filter((each) => each >= MANY_FAULTS).length) / seconds,
      unit: 'schedules',
      ...(workflow === undefined && number >= MANY_SCHEDULES ? { bar: MANY_SCHEDULES } : {}),
      note: [...kinds].map(([kind, times]) => `${kind} ${times}`).join(', '),
    },
    {
      name: 'workflow tasks',
      value: sum(all.map(({ workflowTasks }) => workflowTasks)),
      unit: 'tasks',
      note: `${sum(all.map(({ replays }) => replays))} replays of whole runs, ${sum(all.map(({ runs }) => runs))} runs`,
    },
    {
      name: 'largest history of a run',
      value: Math.max(0, ...all.map(({ largestBytes }) => largestBytes)),
      unit: 'bytes',
      bar: LARGEST_HISTORY_BYTES,
      at: 'most',
    },
  ];
}

async function planted(first: number, processes: number, only: BugName | undefined): Promise<Measure[]> {
  const bugs = Object.keys(BUGS)
    .filter(isBug)
    .filter((name) => only === undefined || name === only);
  const tasks = bugs.map((bug): Task => ({ kind: 'find', bug, seed: first, most: MOST_SCHEDULES }));
  const done = await answers(tasks, processes, (answer) => {
    if (answer.kind === 'find')
      console.error(`  ${answer.bug}: ${answer.found ? 'found' : 'NOT found'}, ${answer.schedules} schedules`);
  });
  const found = done.flatMap((answer) => (answer.kind === 'find' ? [answer] : []));
  return [
    {
      name: 'planted bugs found',
      value: found.filter((each) => each.found).length,
      unit: `of ${bugs.length}`,
      bar: bugs.length,
    },
    ...found
      .sort((a, b) => bugs.indexOf(a.bug) - bugs.indexOf(b.bug))
      .map(({ bug, schedules: needed, found: schedule }) => ({
        name: bug,
        value: needed,
        unit: 'schedules',
        note: schedule
          ? `seed ${schedule.seed}, ${schedule.workflow}: ${schedule.violations[0]!.split('\n')[0]!.slice(0, 80)}`
          : `NOT FOUND: ${BUGS[bug].what}`,
      })),
  ];
}

/** Plays scripts on both sides. */
async function conformance(part: string): Promise<Measure[]> {
  const scripts = SCRIPTS.filter(({ name }) => name.includes(part));
  const code = await WorkflowCode.load(await bundledWorkflows());
  const server = await DevServer.start();
  let same = 0;
  try {
    for (const [index, script] of scripts.entries()) {
      const root = `conformance-${index + 1}`;
      const real = await server.courses(script, root);
      const differs = difference(await simulatedCourses(code, script, root), real);
      if (differs === undefined) same += 1;
      else console.log(`DIFFERENCE: ${script.name}: ${differs}`);
      const commands = Object.values(real).reduce((total, texts) => total + texts.length, 0);
      console.error(`  ${index + 1} of ${scripts.length}: ${script.name}: ${commands} commands`);
    }
  } finally {
    await server.stop();
  }
  return [
    { name: 'scripts that go the same way on the dev server', value: same, unit: 'scripts', bar: scripts.length },
  ];
}

const HOSTS = 125;
/** Events per 1,000 host days at which the formulas are tried: enough of them that chance leaves less than the bar. */
const OFTEN = 4000;
const FORMULA_BAR = 0.05;

/** What a fleet loses, and each of its causes alone next to its formula. */
function fleet(days: number, seed: number): Measure[] {
  const settings = { hosts: HOSTS, days, seed, times: TIMES };
  const run = (): ReturnType<typeof simulateFleet> => simulateFleet({ ...settings, causes: CAUSES, outages: OUTAGES });
  const shares = run();
  const percent = (value: number): number => 100 * value;
  const { unnoticed, loading, again, out } = shares.parts;
  const endless = { ...TIMES, training: Number.MAX_SAFE_INTEGER };
  return [
    {
      name: 'device time that trains',
      value: percent(shares.useful),
      unit: '%',
      note: `${HOSTS} hosts, ${days} days, seed ${seed}`,
    },
    { name: 'lost to checkpoints that are written', value: percent(shares.checkpoints), unit: '%' },
    { name: 'lost to a store that is away', value: percent(shares.store), unit: '%' },
    ...CAUSES.map(({ name, source }) => ({
      name: `lost to: ${name}`,
      value: percent(shares.causes[name]!),
      unit: '%',
      note: `${shares.events[name]} events; ${source}`,
    })),
    { name: 'of all causes: not noticed yet', value: percent(unnoticed), unit: '%' },
    { name: 'of all causes: trained again', value: percent(again), unit: '%' },
    { name: 'of all causes: loading', value: percent(loading), unit: '%' },
    { name: 'of all causes: the host is out', value: percent(out), unit: '%' },
    {
      name: 'the same seed loses the same',
      value: JSON.stringify(run()) === JSON.stringify(shares) ? 1 : 0,
      unit: 'of 1',
      bar: 1,
    },
    ...CAUSES.map((cause) => {
      const often = { ...cause, perThousandHostDays: OFTEN };
      const { useful } = simulateFleet({ ...settings, days: 30, causes: [often], times: endless });
      return {
        name: `alone, off its formula: ${cause.name}`,
        value: Math.abs((1 - useful) / (1 - usefulShare(often, endless)) - 1),
        unit: 'of the share lost',
        bar: FORMULA_BAR,
        at: 'most' as const,
        note: `${OFTEN / 1000} events per host and day`,
      };
    }),
  ];
}

const { values } = parseArgs({
  options: {
    schedules: { type: 'string', default: '0' },
    seed: { type: 'string', default: '1' },
    workflow: { type: 'string' },
    'replay-faults': { type: 'string' },
    bug: { type: 'string' },
    planted: { type: 'boolean', default: false },
    size: { type: 'string', multiple: true, default: [] },
    conformance: { type: 'boolean', default: false },
    fleet: { type: 'boolean', default: false },
    days: { type: 'string', default: '30' },
    script: { type: 'string', default: '' },
    processes: { type: 'string', default: '2' },
    json: { type: 'boolean', default: false },
    serve: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.serve) {
  serve();
} else {
  const { workflow, bug } = values;
  const known = SIMULATED.find((name) => name === workflow);
  if (workflow !== undefined && !known) throw new Error(`--workflow is one of ${SIMULATED.join(', ')}: ${workflow}`);
  if (bug !== undefined && !isBug(bug)) throw new Error(`--bug is one of ${Object.keys(BUGS).join(', ')}: ${bug}`);
  const number = count(values.schedules, 'schedules');
  const only = values['replay-faults']?.split(',').filter((fault) => fault !== '');
  const seed = count(values.seed, 'seed');
  const processes = Math.max(1, count(values.processes, 'processes'));
  const asked = number > 0 || values.size.length > 0 || values.planted || values.conformance || values.fleet;
  if (values.help || !asked) {
    console.log(HELP);
  } else {
    report(
      'simulate',
      [
        ...(number > 0
          ? await schedules(seed, number, processes, { workflow: known, bug, ...(only ? { only } : {}) })
          : []),
        ...(values.conformance ? await conformance(values.script) : []),
        ...(values.planted ? await planted(seed, processes, bug) : []),
        ...(values.size.length > 0 ? await sizes(values.size, seed) : []),
        ...(values.fleet ? fleet(count(values.days, 'days'), seed) : []),
      ],
      values.json,
    );
  }
}
