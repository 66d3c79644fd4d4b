/**
 * `npm run chaos`: whole experiments on real servers, to which things happen that happen to hosts, at moments from a
 * seed. At the end their results are held against those of an undisturbed run.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { home as acecoderHome, root, venvPython } from '../../infra/setup/paths.mjs';
import { onEndSignal } from '../../infra/setup/processes.mjs';
import { createServices } from '../../workers/plugins/services.js';
import {
  checkDigests,
  checkModels,
  checkNoneTrainedAgain,
  checkRequests,
  checkStored,
  checkTrainings,
  trainingsOf,
  type Findings,
  type Repeated,
} from '../chaos/checks.js';
import { FAULT_NAMES, FaultDeck, FAULTS, isFault, type Fault, type FaultName } from '../chaos/faults.js';
import {
  Background,
  Budget,
  endpointExecution,
  runExperiment,
  type ExperimentRun,
  type FinishedExperiment,
} from '../chaos/run.js';
import { faketime, Site } from '../chaos/site.js';
import { teacherReplies } from '../chaos/teacher.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { microModel, microSeeds } from '../fixtures/micro-model.js';
import { startSweeper } from '../fixtures/start-sweeper.js';
import { Random } from '../simulation/random.js';
import { report, type Measure } from './table.js';

const HELP = `npm run chaos -- [options]

Runs micro experiments, each on a host of its own: a Temporal server, a store, workers, Python
processes and an endpoint.
Faults come at moments from the seed. What ends is started again, and the experiments go on. Meanwhile a schedule
refreshes a data set, and garbage collection runs in a loop. At the end all is held against an undisturbed run.

  --kills N      faults in all (100)
  --seed S       where kinds, moments and lengths come from (1)
  --minutes M    no fault after so many minutes, even if they are fewer than N
  --sites N      experiments at a time, each on a host of its own (3)
  --only FAULT   only this kind of fault; may be given several times
  --keep         keep the folder with data, logs and records
  --json         one JSON object on the last line
  --help         print this

Faults:
${FAULT_NAMES.map((name) => `  ${name.padEnd(14)} ${FAULTS[name].what}`).join('\n')}`;

const NEW_WORK_BAR_SECONDS = 30;
/** The endpoint takes so long for a reply, so that faults meet requests in flight. */
const REPLY_MS = [100, 900] as const;

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '100' },
    seed: { type: 'string', default: '1' },
    minutes: { type: 'string' },
    sites: { type: 'string', default: '3' },
    only: { type: 'string', multiple: true, default: [] },
    keep: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

function whole(option: 'kills' | 'seed' | 'sites', least: number): number {
  const value = Number(values[option]);
  if (!Number.isInteger(value) || value < least)
    throw new Error(`--${option} is a whole number of ${least} or more: ${values[option]}`);
  return value;
}

const began = performance.now();
const log = (line: string): void => {
  const seconds = (performance.now() - began) / 1000;
  console.error(`${seconds.toFixed(0).padStart(5)} s  ${line}`);
};

/** The kinds that were asked for, without those that this host cannot do. */
function kindsOfFaults(): FaultName[] {
  const unknown = values.only.filter((name) => !isFault(name));
  if (unknown.length > 0) throw new Error(`--only ${unknown.join(', ')}: the faults are ${FAULT_NAMES.join(', ')}.`);
  const wanted = values.only.length > 0 ? values.only.filter(isFault) : FAULT_NAMES;
  const missing: Record<NonNullable<Fault['needs']>, string | undefined> = {
    clock: faketime() ? undefined : 'libfaketime is not installed (apt-get install libfaketime)',
    disk: process.getuid?.() === 0 ? undefined : 'a small disk can be mounted by root only',
  };
  return wanted.filter((name) => {
    const { needs }: Fault = FAULTS[name];
    const why = needs && missing[needs];
    if (why) console.error(`SKIPPED: ${name}, because ${why}.`);
    return !why;
  });
}

function statistics(name: string, of: readonly number[], unit: string, bar?: number): Measure[] {
  const sorted = [...of].sort((a, b) => a - b);
  if (sorted.length === 0) return [];
  return [
    { name: `${name}, median`, value: sorted[Math.floor(sorted.length / 2)]!, unit, note: `${sorted.length} times` },
    { name: `${name}, largest`, value: sorted.at(-1)!, unit, ...(bar === undefined ? {} : { bar, at: 'most' }) },
  ];
}

interface End {
  run: ExperimentRun;
  findings: Findings[];
  repeated: Repeated[];
  interval: number;
  stopSeconds: number;
}

async function main(): Promise<void> {
  const [kills, seed, sites] = [whole('kills', 1), whole('seed', 0), whole('sites', 1)];
  const kinds = kindsOfFaults();
  if (kinds.length === 0) throw new Error('No fault is left that this host can do.');
  const home = mkdtempSync(join(tmpdir(), 'acecoder-chaos-'));
  const sweeper = startSweeper(home);
  const opened = new Set<Site>();
  const closeAll = async (inFlight: boolean): Promise<void> => {
    await Promise.allSettled([...opened].map((site) => site.close({ inFlight })));
    if (!values.keep && !process.exitCode) rmSync(home, { recursive: true, force: true });
    else console.error(`Data, logs and records: ${home}`);
    sweeper.stop();
  };
  onEndSignal(() => {
    console.error('Stopping.');
    process.exitCode = 130;
    void closeAll(true).finally(() => process.exit(130));
  });
  try {
    const seedRows = microSeeds(join(root, 'infra/seeds/simple.jsonl'));
    const seedsFile = join(home, 'seeds.jsonl');
    writeFileSync(seedsFile, seedRows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    const services = createServices({ env: { ACECODER_HOME: home, ACECODER_PYTHON: venvPython() }, label: 'micro' });
    const model = await microModel(services.models, seedRows, join(acecoderHome(), 'models')).finally(() =>
      services.close(),
    );
    const replies = teacherReplies(seedRows);
    log(`seed ${seed}: ${kills} faults of ${kinds.join(', ')} on ${sites} sites in ${home}`);
    const budget = new Budget(kills, values.minutes === undefined ? Infinity : Number(values.minutes));

    /** One experiment on a site of its own, and all checks that are about it alone. */
    const oneExperiment = async (id: string, random: Random, deck: FaultDeck, own?: Budget): Promise<End> => {
      const folder = join(home, id);
      mkdirSync(folder);
      const replyTimes = new Random(random.int(0, 1 << 30));
      const site = await Site.open({
        home: folder,
        replies,
        replyMs: () => replyTimes.int(...REPLY_MS),
        clock: kinds.some((kind) => needsOf(kind) === 'clock'),
        disk: kinds.some((kind) => needsOf(kind) === 'disk'),
      });
      opened.add(site);
      const background = await Background.start(site, `nightly-${id}`, folder);
      const input = microExperiment(id, seedsFile, model);
      const stages = input['stages'] as Record<string, object>;
      const synthesis = {
        ...stages['synthesis'],
        teacher: { kind: 'openai', model: 'teacher' },
        execution: endpointExecution(site),
      };
      const run = await runExperiment({
        site,
        id,
        input: { ...input, onFailure: 'park', stages: { ...stages, synthesis } },
        random,
        deck,
        budget: own,
        log,
      });
      run.violations.push(...(await background.finish()));
      const { seconds: stopSeconds, orphans } = await site.stopWorkers();
      for (const pid of orphans) run.violations.push(`${id}: process ${pid} of a worker goes on after its end`);
      const trainings = trainingsOf(site);
      const { repeated, interval, ...ofTrainings } = checkTrainings(trainings);
      const findings = [
        ofTrainings,
        await checkNoneTrainedAgain(site, trainings),
        await checkRequests(
          site,
          run.faults.map(({ at }) => at),
        ),
        await checkStored(site),
        ...(run.finished ? [await checkModels(site, run.finished)] : []),
        {
          violations: [],
          figures: { orphans: orphans.length, refreshes: background.refreshes, collections: background.collections },
        },
      ];
      await site.close();
      opened.delete(site);
      run.violations.push(...findings.flatMap(({ violations }) => violations.map((each) => `${id}: ${each}`)));
      if (run.violations.length === 0 && !values.keep) rmSync(folder, { recursive: true, force: true });
      return { run, findings, repeated, interval, stopSeconds };
    };

    /** Experiments one after the other, until there are enough faults. */
    const lane = async (index: number): Promise<End[]> => {
      const random = new Random(seed, index);
      const deck = new FaultDeck(kinds, random);
      const ends: End[] = [];
      if (index === 0) ends.push(await oneExperiment('undisturbed', random, deck));
      while (!budget.isSpent) ends.push(await oneExperiment(`chaos-${index}-${ends.length}`, random, deck, budget));
      return ends;
    };

    const ends = (await Promise.all(Array.from({ length: sites }, (_, index) => lane(index)))).flat();
    const reference = ends[0]!.run.finished;
    if (!reference) throw new Error('The undisturbed run did not end.');
    const experiments = ends.slice(1).flatMap(({ run }) => run.finished ?? []);
    const digests = checkDigests(reference, experiments);
    const findings = [digests, ...ends.flatMap((end) => end.findings)];
    const violations = [...ends.flatMap(({ run }) => run.violations), ...digests.violations];
    report('chaos', measuresOf(ends, findings, violations, reference, sites), values.json);
    const faults = ends.flatMap(({ run }) => run.faults).sort((a, b) => a.number - b.number);
    writeFileSync(join(home, 'faults.json'), JSON.stringify({ seed, faults, violations }, null, 2));
    if (violations.length > 0) {
      process.exitCode = 1;
      console.error(`\n${violations.length} violations, seed ${seed}:`);
      for (const violation of violations) console.error(`  ${violation}`);
      console.error('Faults:');
      for (const { number, id, fault, during } of faults)
        console.error(`  ${number}: ${fault} of ${id}, in ${during.join(', ')}`);
      const only = values.only.map((name) => ` --only ${name}`).join('');
      console.error(`Again: npm run chaos -- --kills ${kills} --seed ${seed} --sites ${sites}${only}`);
    }
  } catch (error) {
    process.exitCode = 1;
    throw error;
  } finally {
    await closeAll(true);
  }
}

const needsOf = (kind: FaultName): Fault['needs'] => (FAULTS[kind] as Fault).needs;

function measuresOf(
  ends: readonly End[],
  findings: readonly Findings[],
  violations: readonly string[],
  reference: FinishedExperiment,
  sites: number,
): Measure[] {
  const figures: Record<string, number> = {};
  for (const each of findings)
    for (const [name, value] of Object.entries(each.figures)) figures[name] = (figures[name] ?? 0) + value;
  const figure = (name: string): number => figures[name] ?? 0;
  const faults = ends.flatMap(({ run }) => run.faults);
  const repeated = ends.flatMap((end) => end.repeated);
  const none = { bar: 0, at: 'most' } as const;
  const kinds = new Map<string, number>();
  for (const { fault } of faults) kinds.set(fault, (kinds.get(fault) ?? 0) + 1);
  const newWork = faults.flatMap(({ newWorkMs }) => (newWorkMs === undefined ? [] : [newWorkMs / 1000]));
  return [
    {
      name: 'faults',
      value: faults.length,
      unit: '',
      note: [...kinds].map(([kind, times]) => `${kind} ${times}`).join(', '),
    },
    {
      name: 'experiments',
      value: figure('experiments'),
      unit: '',
      note: `undisturbed ${reference.seconds.toFixed(0)} s each`,
    },
    { name: 'digests other than undisturbed', value: figure('otherDigests'), unit: '', ...none },
    {
      name: 'replies that arrived and were asked for again',
      value: figure('arrivedAskedAgain'),
      unit: '',
      ...none,
      note:
        `${figure('requests')} requests, ${figure('askedAgain')} repeated without a reply or, ` +
        `${figure('lostInKills')} times, with one that a kill took before it was stored`,
    },
    {
      name: 'trained again after the model was stored',
      value: figure('trainedAgain'),
      unit: '',
      ...none,
      note: `${figure('trainings')} trainings, resumed ${figure('resumed')} times, ${figure('rounds')} rounds`,
    },
    { name: 'orphaned processes', value: figure('orphans'), unit: '', ...none },
    {
      name: 'violations of any kind',
      value: violations.length,
      unit: '',
      ...none,
      note:
        `${figure('manifests')} manifests and ${figure('blobs')} blobs verified, ` +
        `${figure('unfinishedUploads')} unfinished uploads that wait for garbage collection`,
    },
    ...statistics('from fault to new work', newWork, 's', NEW_WORK_BAR_SECONDS),
    ...statistics(
      'training repeated after a kill',
      repeated.map(({ seconds }) => seconds),
      's',
      Math.max(...ends.map(({ interval }) => interval)),
    ),
    ...statistics(
      'optimizer steps repeated after a kill',
      repeated.map(({ steps }) => steps),
      'steps',
    ),
    {
      name: 'end of a worker after SIGTERM, longest',
      value: Math.max(...ends.map((end) => end.stopSeconds)),
      unit: 's',
    },
    {
      name: 'refreshes of the data set, garbage collections',
      value: figure('refreshes'),
      unit: '',
      note: `${figure('collections')} collections`,
    },
    { name: 'wall time', value: (performance.now() - began) / 1000, unit: 's', note: `${sites} experiments at a time` },
  ];
}

if (values.help) console.log(HELP);
else await main();
