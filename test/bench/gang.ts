/**
 * `npm run bench:gang`: one training by two hosts, which are two network namespaces, and kills on either side. Each
 * kill ends the model runtime of a host with SIGKILL. Every `--lose`-th attempt loses a whole host instead: its network
 * is cut, its processes are killed, and a new host with an empty disk comes.
 */
import { randomUUID } from 'node:crypto';
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Client, Connection, type WorkflowHandle } from '@temporalio/client';
import { home as acecoderHome, root, venvPython } from '../../infra/setup/paths.mjs';
import { onEndSignal, withoutTemporal } from '../../infra/setup/processes.mjs';
import { startStack, stackEnvironment, stopStack, type Stack } from '../../infra/stack/embedded-stack.js';
import { createServices } from '../../workers/plugins/services.js';
import type { StageResult } from '../../workflows/contract/index.js';
import {
  countedSteps,
  gangPairs,
  gangTraining,
  memberProcesses,
  newestStep,
  type MemberProcess,
} from '../fixtures/gang.js';
import { microModel, microSeeds } from '../fixtures/micro-model.js';
import { HostNetwork, NetworkHost, noNetworkHosts } from '../fixtures/network-host.js';
import { until } from '../fixtures/until.js';
import { report, type Measure } from './table.js';

const HELP = `npm run bench:gang -- [options]

Trains a reward model on two hosts undisturbed, and then again while either side is killed over and over. It needs root
and iproute2.

  --kills N      kills, in turn of the leader and of the other (default 50)
  --lose N       lose a whole host instead, every N kills (default 10; 0: never)
  --json         one JSON object on the last line
  --help         print this`;

const HOSTS = 2;
/** Steps an epoch of the training. */
const STEPS = 6;
/** Epochs for each kill: what an attempt trains at least, and what it may train until it is killed. */
const EPOCHS_PER_KILL = 4;
const MOST_EPOCHS = 120;

interface Host {
  network: NetworkHost;
  worker: ChildProcess;
}

const entry = (role: string): string[] => [
  ...['--import', import.meta.resolve('tsx')],
  join(root, `workers/${role}.ts`),
];

/** Waits until a worker says in its log that it serves. */
async function serving(log: string): Promise<void> {
  await until(
    () => (existsSync(log) ? readFileSync(log, 'utf8') : ''),
    (text) => /^workers of .* serve /m.test(text),
  );
}

class Pair {
  hosts: Host[] = [];
  readonly #network = HostNetwork.make();
  #pipeline: ChildProcess | undefined;

  constructor(
    private readonly stack: Stack,
    private readonly folder: string,
    private readonly environment: NodeJS.ProcessEnv,
    readonly queue: string,
  ) {}

  /** What every worker of this bench needs. */
  get #common(): NodeJS.ProcessEnv {
    return {
      ...withoutTemporal(this.environment),
      TEMPORAL_NAMESPACE: this.stack.namespace,
      ACECODER_S3_PREFIX: this.queue,
      ACECODER_QUEUE: this.queue,
    };
  }

  /** Starts the worker of workflows, which is on neither host. */
  async servePipeline(): Promise<void> {
    const log = join(this.folder, 'pipeline.log');
    const output = openSync(log, 'a');
    this.#pipeline = spawn(process.execPath, entry('pipeline'), {
      stdio: ['ignore', output, output],
      env: { ...this.#common, TEMPORAL_ADDRESS: this.stack.address, ACECODER_HOME: join(this.folder, 'pipeline') },
    });
    closeSync(output);
    await serving(log);
  }

  /** As many new hosts as are missing. */
  async fill(): Promise<void> {
    const missing = HOSTS - this.hosts.length;
    this.hosts.push(...(await Promise.all(Array.from({ length: missing }, () => this.#serve()))));
  }

  /** Loses a host for good, and sets up another one. */
  async replace(host: Host): Promise<void> {
    await host.network.remove();
    this.hosts = this.hosts.filter((each) => each !== host);
    await this.fill();
  }

  async #serve(): Promise<Host> {
    const network = await NetworkHost.make('host', this.folder);
    const address = network.plug(this.#network);
    const port = (text: string): number => Number(text.split(':').at(-1));
    const temporary = join(network.disk, 'tmp');
    mkdirSync(temporary);
    const log = join(this.folder, `${network.name}.log`);
    const worker = network.spawn(
      process.execPath,
      entry('gpu'),
      {
        ...this.#common,
        TEMPORAL_ADDRESS: await network.reach(port(this.stack.address)),
        ACECODER_S3_ENDPOINT: `http://${await network.reach(port(this.stack.s3.endpoint))}`,
        ACECODER_HOME: network.disk,
        ACECODER_GANG_ADDRESS: address,
        CUDA_VISIBLE_DEVICES: '',
        TMPDIR: temporary,
      },
      log,
    );
    await serving(log);
    return { network, worker };
  }

  /** The member of the attempt that is at work above a step; undefined where the training is over. */
  async atWork(
    member: number,
    above: number,
    before: string,
    over: () => boolean,
  ): Promise<{ host: Host; process: MemberProcess } | undefined> {
    for (;;) {
      if (over()) return undefined;
      const found = this.hosts.flatMap((host) =>
        memberProcesses(host.worker.pid!)
          .filter((process) => process.member === member && process.token !== before)
          .map((process) => ({ host, process })),
      )[0];
      if (found && this.step() > above) return found;
      await sleep(20);
    }
  }

  /** The newest step of a checkpoint on any host. */
  step(): number {
    return Math.max(0, ...this.hosts.map(({ network }) => newestStep(network.disk)));
  }

  async remove(): Promise<void> {
    await Promise.all(this.hosts.map(({ network }) => network.remove()));
    this.#network.remove();
    this.#pipeline?.kill('SIGKILL');
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '50' },
      lose: { type: 'string', default: '10' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(HELP);
  const [kills, lose] = [Number(values.kills), Number(values.lose)];
  if (!Number.isInteger(kills) || kills < 1) throw new Error(`--kills is ${values.kills}; it is a number from 1 on.`);
  if (!Number.isInteger(lose) || lose < 0) throw new Error(`--lose is ${values.lose}; it is a number from 0 on.`);
  const problem = noNetworkHosts();
  if (problem !== undefined) {
    console.log(`SKIPPED: this machine cannot have two hosts of its own: ${problem}.`);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'acecoder-gang-'));
  let pair: Pair | undefined;
  let connection: Connection | undefined;
  const stopped = new Promise<never>((_, reject) => {
    onEndSignal((signal) => reject(new Error(`Ended by ${signal}.`)));
  });
  try {
    const work = async (): Promise<Measure[]> => {
      const stack = await startStack({ home: folder, ports: { frontend: 0, ui: 0, store: 0 } });
      const environment = { ...stackEnvironment(stack), ACECODER_PYTHON: venvPython(), ACECODER_TORCH_THREADS: '1' };
      const seeds = microSeeds(join(root, 'infra/seeds/simple.jsonl'));
      const services = createServices({ env: environment, label: 'micro' });
      const model = await microModel(services.models, seeds, join(acecoderHome(), 'models')).finally(() =>
        services.close(),
      );
      const pairs = await gangPairs(folder);
      connection = await Connection.connect({ address: stack.address });
      const client = new Client({ connection, namespace: stack.namespace });
      pair = new Pair(stack, folder, environment, `gang-${randomUUID().slice(0, 8)}`);
      await Promise.all([pair.servePipeline(), pair.fill()]);
      const epochs = Math.min(MOST_EPOCHS, EPOCHS_PER_KILL * kills + 2);
      const start = (salt: string): Promise<WorkflowHandle> =>
        client.workflow.start('rewardModel', {
          taskQueue: pair!.queue,
          workflowId: `${pair!.queue}-${salt}`,
          args: [gangTraining({ pairs, model, salt, epochs })],
        });
      return measure(pair, start, { kills, lose, steps: STEPS * epochs });
    };
    report('gang', await Promise.race([work(), stopped]), values.json);
  } finally {
    await pair?.remove();
    await connection?.close();
    await stopStack({ home: folder });
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measure(
  pair: Pair,
  start: (salt: string) => Promise<WorkflowHandle>,
  { kills, lose, steps }: { kills: number; lose: number; steps: number },
): Promise<Measure[]> {
  const say = (line: string): void => console.error(line);
  say(`a training of ${steps} steps by two hosts ...`);
  const began = performance.now();
  const undisturbed = (await (await start('undisturbed')).result()) as StageResult;
  const seconds = (performance.now() - began) / 1000;
  let [done, lost, trainings] = [[0, 0], 0, 0];
  let [different, twice, uneven] = [0, 0, 0];
  while (done[0]! + done[1]! < kills) {
    trainings += 1;
    const handle = await start(`killed-${trainings}`);
    let over = false;
    const result = handle.result().finally(() => {
      over = true;
    }) as Promise<StageResult>;
    result.catch(() => undefined);
    let [above, token] = [0, ''];
    while (done[0]! + done[1]! < kills) {
      const count = done[0]! + done[1]! + 1;
      const member = count % 2;
      const found = await pair.atWork(member, above, token, () => over);
      if (!found) break;
      ({ token } = found.process);
      // At any point of a step, also while a checkpoint is written.
      await sleep(Math.random() * 300);
      above = pair.step();
      if (lose > 0 && count % lose === 0) {
        await pair.replace(found.host);
        above = pair.step();
        lost += 1;
      } else {
        try {
          process.kill(found.process.pid, 'SIGKILL');
        } catch {
          continue; // it has ended meanwhile
        }
      }
      done = [done[0]! + (member === 0 ? 1 : 0), done[1]! + member];
      say(`  ${count}: killed the ${member === 0 ? 'leader' : 'other'} at step ${above}`);
    }
    const { ref, metrics } = await result;
    const counted = countedSteps(metrics);
    if (ref.digest !== undisturbed.ref.digest) different += 1;
    twice += counted.length - new Set(counted.map(({ step }) => step)).size;
    const expected = countedSteps(undisturbed.metrics);
    if (JSON.stringify(counted) !== JSON.stringify(expected)) uneven += 1;
  }
  const note = `${done[0]} of the leader, ${done[1]} of the other; ${lost} hosts lost`;
  return [
    { name: 'kills', value: done[0]! + done[1]!, unit: 'kills', bar: kills, at: 'least', note },
    {
      name: 'models that differ from that of the undisturbed gang',
      value: different,
      unit: 'models',
      bar: 0,
      at: 'most',
      note: `${trainings} trainings of ${steps} steps`,
    },
    { name: 'steps counted twice', value: twice, unit: 'steps', bar: 0, at: 'most' },
    { name: 'curves that differ', value: uneven, unit: 'curves', bar: 0, at: 'most' },
    { name: 'the undisturbed training', value: seconds, unit: 's' },
    {
      name: 'the killed trainings, for each kill',
      value: ((performance.now() - began) / 1000 - seconds) / Math.max(1, done[0]! + done[1]!),
      unit: 's',
    },
  ];
}

await main();
