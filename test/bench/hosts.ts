/**
 * `npm run test:hosts`: two hosts with workers, Temporal and the store on a third, and in each stage of a micro
 * experiment one of the two is lost for good. A new host with an empty disk comes in its place.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Client, Connection, WorkflowNotFoundError, type WorkflowHandle } from '@temporalio/client';
import {
  createArtifactStore,
  storeOptionsFromEnvironment,
  type ArtifactStore,
} from '../../activities/artifacts/store.js';
import { home as acecoderHome, root, venvPython } from '../../infra/setup/paths.mjs';
import { onEndSignal, withoutTemporal } from '../../infra/setup/processes.mjs';
import { checkStore } from '../../infra/setup/store-choice.mjs';
import { checkTemporal } from '../../infra/setup/temporal-choice.mjs';
import { startStack, stackEnvironment, stopStack, type Stack } from '../../infra/stack/embedded-stack.js';
import { createServices } from '../../workers/plugins/services.js';
import { merge, MESSAGES, STAGES, type ArtifactRef, type StageName } from '../../workflows/contract/index.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { microModel, microSeeds } from '../fixtures/micro-model.js';
import { NetworkHost, noNetworkHosts } from '../fixtures/network-host.js';
import { until } from '../fixtures/until.js';
import { report, type Measure } from './table.js';

const HELP = `npm run test:hosts -- [options]

Runs a micro experiment undisturbed, and then again while in each stage the host is lost that works at it: its network
is
cut, its processes are killed, and its disk is removed. Every artifact has to be the same. It needs root and iproute2.

  --stage S      lose a host in this stage only; may be given several times
  --store S      minio, seaweedfs or versitygw; by default that of a new home
  --temporal T   dev-server (default) or postgresql
  --json         one JSON object on the last line
  --help         print this`;

/** From the loss of a host until another one begins its work again, in seconds. */
const NEW_WORK_BAR = 30;
/** Experiments in which a stage is waited for that was over before its host could be lost. */
const MOST_EXPERIMENTS = 5;
/** As the server tells the state of a pending activity. */
const STARTED = 2;
/** Activities that are over in a moment, before the work of a stage. */
const CHECKS: readonly string[] = ['inputs.check'];
/** Activities that leave checkpoints. */
const TRAININGS: readonly string[] = ['rewardModel.train', 'fineTuning.train', 'reinforcement.update'];
const MICRO_STAGES = STAGES.filter((stage) => stage in (microExperiment('', '', '')['stages'] as object));

/** Trainings that last for several checkpoints also on a fast host, so that each can be met at work. */
const LONGER = {
  stages: {
    rewardModel: { epochs: 24 },
    fineTuning: { epochs: 24 },
    reinforcement: {
      promptsPerRound: 8,
      samplesPerPrompt: 8,
      algorithm: { batchSize: 2 },
      execution: { microBatch: 2 },
    },
  },
};

interface Result {
  stages: { name: StageName; artifact: ArtifactRef }[];
}

/** An activity that went with its host. */
interface Lost {
  stage: StageName;
  type: string;
  activityId: string;
  attempt: number;
  workflow: WorkflowHandle;
  /** Milliseconds since 1970, by the clock of the one machine. */
  startedAt: number;
  lostAt: number;
  /** Newest step of a checkpoint in the store, where the activity is a training. */
  step?: number;
}

class Cluster {
  readonly hosts: NetworkHost[] = [];
  readonly queue: string;
  readonly store: ArtifactStore;

  constructor(
    private readonly stack: Stack,
    private readonly folder: string,
    private readonly environment: NodeJS.ProcessEnv,
    name: string,
  ) {
    this.queue = name;
    const own = { ...environment, ACECODER_S3_PREFIX: name };
    this.store = createArtifactStore(storeOptionsFromEnvironment(own, join(folder, `cache-${name}`)));
  }

  /** A new host with workers of every kind; returns when they serve their queues. */
  async add(): Promise<void> {
    const host = await NetworkHost.make('host', this.folder);
    this.hosts.push(host);
    const port = (address: string): number => Number(address.split(':').at(-1));
    const temporary = join(host.disk, 'tmp');
    mkdirSync(temporary);
    host.spawn(
      process.execPath,
      ['--import', import.meta.resolve('tsx'), join(root, 'workers/all.ts')],
      {
        ...withoutTemporal(this.environment),
        TEMPORAL_ADDRESS: await host.reach(port(this.stack.address)),
        TEMPORAL_NAMESPACE: this.stack.namespace,
        ACECODER_S3_ENDPOINT: `http://${await host.reach(port(this.stack.s3.endpoint))}`,
        ACECODER_S3_PREFIX: this.queue,
        ACECODER_QUEUE: this.queue,
        ACECODER_HOME: host.disk,
        TMPDIR: temporary,
      },
      this.logOf(host),
    );
    await until(
      () => (existsSync(this.logOf(host)) ? readFileSync(this.logOf(host), 'utf8') : ''),
      (text) => /^workers of .* serve /m.test(text),
    );
  }

  logOf(host: NetworkHost): string {
    return join(this.folder, `${this.queue}-${host.name}.log`);
  }

  /** All that workers have logged, also those of lost hosts. */
  log(): string {
    return this.hosts
      .map((host) => this.logOf(host))
      .filter(existsSync)
      .map((path) => readFileSync(path, 'utf8'))
      .join('\n');
  }

  /** The newest step of a checkpoint in the store. */
  async step(): Promise<number | undefined> {
    const keys = await this.store.keys('checkpoints/');
    const steps = [...keys].map((key) => Number(/(\d+)\.json$/.exec(key)?.[1] ?? Number.NaN));
    return steps.length > 0 ? Math.max(...steps) : undefined;
  }

  async remove(): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.remove()));
  }
}

/** Waits until a host works at a stage, and loses it; undefined where the stage was over before. */
async function loseIn(stage: StageName, id: string, client: Client, cluster: Cluster): Promise<Lost[] | undefined> {
  const workflow = client.workflow.getHandle(`${id}/${stage}`);
  for (;;) {
    const described = await workflow.describe().catch((error: unknown) => {
      if (error instanceof WorkflowNotFoundError) return undefined;
      throw error;
    });
    if (described && described.status.name !== 'RUNNING') return undefined;
    const { status } = await client.workflow.getHandle(id).describe();
    if (status.name !== 'RUNNING') return undefined;
    const pending = (described?.raw.pendingActivities ?? []).filter(
      ({ state, lastWorkerIdentity }) => Number(state) === STARTED && lastWorkerIdentity,
    );
    const training = pending.find(({ activityType }) => TRAININGS.includes(activityType!.name!));
    const [chosen] = training
      ? [training]
      : pending.filter(({ activityType }) => !CHECKS.includes(activityType!.name!));
    const step = training ? await cluster.step() : undefined;
    // A training is lost once there is something to go on from. Rounds begin with sampling: their training is waited
    // for.
    const isRipe = training ? step !== undefined : chosen && stage !== 'reinforcement';
    const host = isRipe
      ? cluster.hosts.find((each) => each.has(Number(chosen!.lastWorkerIdentity!.split('@')[0])))
      : undefined;
    if (!described || !host) {
      await sleep(20);
      continue;
    }
    const onHost = pending.filter(({ lastWorkerIdentity }) => host.has(Number(lastWorkerIdentity!.split('@')[0])));
    const lostAt = Date.now();
    await host.lose();
    const atRun = client.workflow.getHandle(workflow.workflowId, described.runId);
    return onHost.map(({ activityId, activityType, attempt, lastStartedTime }) => ({
      stage,
      type: activityType!.name!,
      activityId: activityId!,
      attempt: attempt ?? 1,
      workflow: atRun,
      startedAt: millisecondsOf(lastStartedTime),
      lostAt,
      ...(step !== undefined && TRAININGS.includes(activityType!.name!) ? { step } : {}),
    }));
  }
}

interface Again {
  lost: Lost;
  /** Seconds from the loss until another worker began the activity again. */
  seconds: number;
  attempt: number;
}

/** When the activity was begun again; undefined where its result had come before its host was lost. */
async function begunAgain(lost: Lost): Promise<Again | undefined> {
  for (;;) {
    const { raw } = await lost.workflow.describe();
    const pending = (raw.pendingActivities ?? []).find(({ activityId }) => activityId === lost.activityId);
    // What is over within a poll stands in the history alone.
    if (!pending) return begunByHistory(lost);
    const attempt = pending.attempt ?? 1;
    if (attempt > lost.attempt && Number(pending.state) === STARTED)
      return { lost, seconds: (millisecondsOf(pending.lastStartedTime) - lost.lostAt) / 1000, attempt };
    await sleep(20);
  }
}

async function begunByHistory(lost: Lost): Promise<Again | undefined> {
  const { events } = await lost.workflow.fetchHistory();
  const scheduled = events?.find(
    ({ activityTaskScheduledEventAttributes: attributes }) => attributes?.activityId === lost.activityId,
  );
  const started = events?.find(
    ({ activityTaskStartedEventAttributes: attributes }) =>
      attributes && String(attributes.scheduledEventId) === String(scheduled?.eventId),
  );
  const attempt = started?.activityTaskStartedEventAttributes?.attempt ?? 0;
  if (attempt <= lost.attempt) return undefined;
  return { lost, seconds: (millisecondsOf(started!.eventTime) - lost.lostAt) / 1000, attempt };
}

/** Milliseconds since 1970. */
function millisecondsOf(time: { seconds?: unknown; nanos?: number | null } | null | undefined): number {
  return Number(time?.seconds ?? 0) * 1000 + (time?.nanos ?? 0) / 1e6;
}

const artifactsOf = ({ stages }: Result): Map<StageName, string> =>
  new Map(stages.map(({ name, artifact }) => [name, artifact.digest]));

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      stage: { type: 'string', multiple: true },
      store: { type: 'string' },
      temporal: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(HELP);
  const stages = (values.stage ?? MICRO_STAGES).map((name) => {
    const stage = MICRO_STAGES.find((each) => each === name);
    if (!stage) throw new Error(`--stage is ${name}: the stages are ${MICRO_STAGES.join(', ')}.`);
    return stage;
  });
  const [storeName, temporal] = [checkStore(values.store), checkTemporal(values.temporal)];
  const problem = noNetworkHosts();
  if (problem !== undefined) {
    console.log(`SKIPPED: this machine cannot have two hosts of its own: ${problem}.`);
    return;
  }

  const folder = mkdtempSync(join(tmpdir(), 'acecoder-hosts-'));
  const clusters: Cluster[] = [];
  let connection: Connection | undefined;
  const clean = async (): Promise<void> => {
    await Promise.all(clusters.map((cluster) => cluster.remove()));
    await connection?.close();
    await stopStack({ home: folder });
    rmSync(folder, { recursive: true, force: true });
  };
  const stopped = new Promise<never>((_, reject) => {
    onEndSignal((signal) => reject(new Error(`Ended by ${signal}.`)));
  });
  try {
    const work = async (): Promise<Measure[]> => {
      const stack = await startStack({
        home: folder,
        ports: { frontend: 0, ui: 0, store: 0 },
        ...(storeName ? { store: storeName } : {}),
        ...(temporal ? { temporal } : {}),
      });
      const environment = { ...stackEnvironment(stack), ACECODER_PYTHON: venvPython(), ACECODER_TORCH_THREADS: '1' };
      const seeds = microSeeds(join(root, 'infra/seeds/simple.jsonl'));
      const seedsPath = join(folder, 'seeds.jsonl');
      writeFileSync(seedsPath, seeds.map((seed) => `${JSON.stringify(seed)}\n`).join(''));
      const services = createServices({ env: environment, label: 'micro' });
      const model = await microModel(services.models, seeds, join(acecoderHome(), 'models')).finally(() =>
        services.close(),
      );
      connection = await Connection.connect({ address: stack.address });
      const client = new Client({ connection, namespace: stack.namespace });
      const start = async (cluster: Cluster): Promise<WorkflowHandle> => {
        clusters.push(cluster);
        await Promise.all([cluster.add(), cluster.add()]);
        return client.workflow.start('experiment', {
          taskQueue: cluster.queue,
          workflowId: cluster.queue,
          args: [merge(microExperiment(cluster.queue, seedsPath, model), LONGER)],
        });
      };
      const cluster = (): Cluster => new Cluster(stack, folder, environment, `hosts-${randomUUID().slice(0, 8)}`);
      return measure(stages, client, cluster, start);
    };
    report('hosts', await Promise.race([work(), stopped]), values.json);
  } finally {
    await clean();
  }
}

async function measure(
  stages: readonly StageName[],
  client: Client,
  makeCluster: () => Cluster,
  start: (cluster: Cluster) => Promise<WorkflowHandle>,
): Promise<Measure[]> {
  const say = (line: string): void => console.error(line);
  say('an experiment without a loss ...');
  const undisturbed = makeCluster();
  const began = performance.now();
  const expected = artifactsOf((await (await start(undisturbed)).result()) as Result);
  const plain = (performance.now() - began) / 1000;
  await undisturbed.remove();

  const again: Again[] = [];
  let different = 0;
  let compared = 0;
  let losses = 0;
  let unresumed = 0;
  let left = [...stages];
  for (let turn = 1; left.length > 0 && turn <= MOST_EXPERIMENTS; turn += 1) {
    say(`an experiment that loses a host in ${left.join(', ')} ...`);
    const cluster = makeCluster();
    const handle = await start(cluster);
    const found: Again[] = [];
    for (const stage of left) {
      const lost = await loseIn(stage, handle.workflowId, client, cluster);
      if (!lost) continue;
      losses += 1;
      say(`  ${stage}: lost a host at work on ${lost.map(({ type }) => type).join(', ')}`);
      // A pause would cancel what begins again, so it comes after that.
      found.push(...(await Promise.all(lost.map(begunAgain))).filter((each) => each !== undefined));
      // There are two hosts again before the next one is lost.
      await handle.signal(MESSAGES.pause);
      await cluster.add();
      await handle.signal(MESSAGES.resume);
    }
    const digests = artifactsOf((await handle.result()) as Result);
    compared += digests.size;
    different += [...digests].filter(([stage, digest]) => expected.get(stage) !== digest).length;
    again.push(...found);
    const resumed = [...cluster.log().matchAll(/resuming from step (\d+), of a checkpoint of the store/g)].map(
      ([, step]) => Number(step),
    );
    for (const { lost } of found)
      if (lost.step !== undefined && !resumed.some((step) => step >= lost.step!)) unresumed += 1;
    left = left.filter((stage) => !found.some(({ lost }) => lost.stage === stage));
    await cluster.remove();
  }
  const longest = Math.max(...again.map(({ seconds }) => seconds));
  const slowest = again.find(({ seconds }) => seconds === longest);
  const trainings = again.filter(({ lost }) => lost.step !== undefined).length;
  return [
    {
      name: 'stages in which the host at work was lost',
      value: stages.length - left.length,
      unit: 'stages',
      bar: stages.length,
      at: 'least',
      note: left.length > 0 ? `not ${left.join(', ')}` : `${losses} hosts lost`,
    },
    {
      name: 'artifacts that differ from those of the undisturbed run',
      value: different,
      unit: 'artifacts',
      bar: 0,
      at: 'most',
      note: `${compared} compared`,
    },
    {
      name: 'loss until the work begins elsewhere, longest',
      value: longest,
      unit: 's',
      bar: NEW_WORK_BAR,
      at: 'most',
      note: slowest ? slowest.lost.type : '',
    },
    ...stages.flatMap((stage): Measure[] => {
      const of = again.filter(({ lost }) => lost.stage === stage);
      if (of.length === 0) return [];
      const seconds = Math.max(...of.map((each) => each.seconds));
      const lostWork = Math.max(...of.map(({ lost }) => lost.lostAt - lost.startedAt)) / 1000;
      const types = [...new Set(of.map(({ lost }) => lost.type))].join(', ');
      return [
        {
          name: `  ${stage}: work begins elsewhere`,
          value: seconds,
          unit: 's',
          note: `${types}, ${lostWork.toFixed(1)} s into it`,
        },
      ];
    }),
    {
      name: 'attempts of an activity that a lost host had',
      value: Math.max(...again.map(({ attempt }) => attempt)),
      unit: 'attempts',
      bar: 2,
      at: 'most',
    },
    {
      name: 'trainings that did not go on from the newest checkpoint',
      value: unresumed,
      unit: 'trainings',
      bar: 0,
      at: 'most',
      note: `${trainings} trainings lost`,
    },
    { name: 'the undisturbed experiment', value: plain, unit: 's' },
  ];
}

await main();
