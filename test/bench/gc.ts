/**
 * `npm run bench:gc`: garbage collection of a store of many objects, by the real workflow on a worker of its own.
 *
 * The store is filled with keys and documents as stages write them. Filling is not counted.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Client, Connection } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import { Client as S3Client } from 'minio';
import { eachOf } from '../../activities/artifacts/collections.js';
import { objectKeys } from '../../activities/artifacts/keys.js';
import { createArtifactStore, storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import type { SweepResult } from '../../activities/garbage-collection/activities.js';
import type { HeartbeatDetails } from '../../activities/runtime/context.js';
import { onEndSignal } from '../../infra/setup/processes.mjs';
import { venvPython } from '../../infra/setup/paths.mjs';
import { startStack, stackEnvironment, stopStack } from '../../infra/stack/embedded-stack.js';
import { startWorker } from '../fixtures/start-worker.js';
import { report, type Measure } from './table.js';

const HELP = `npm run bench:gc -- [options]

  --objects N   objects in the store, in thousands (20000)
  --folder DIR  where the store's data lies for as long as it runs; a million objects take two million inodes
  --json        one JSON object on the last line
  --help        print this`;

/** Bars for a million objects, in seconds. Fewer objects have their share. */
const DRY_RUN_BAR = 300;
const SWEEP_BAR = 720;
const MEMORY_BAR_MB = 64;
const SHARES = [0.1, 0.5, 1] as const;
const LANES = 48;

/** What a thousand objects are. Half of the blobs are garbage. */
const BLOCK = { named: 300, garbage: 300, shards: 240, plans: 10, manifests: 60, kept: 20, replies: 50 };
/** Checkpoints of trainings in a block. Of the first, all but the newest two are left behind. */
const TRAININGS = [4, 2, 2, 2];
const LEFT_CHECKPOINTS = 2;
const EXPERIMENTS = 10;
const BLOCK_OBJECTS = 1000;
const SHARDS_PER_STAGE = 80;

const digest = (...parts: unknown[]): string => createHash('sha256').update(JSON.stringify(parts)).digest('hex');
const blobContent = (block: number, index: number): string => JSON.stringify({ block, index, text: 'row '.repeat(20) });
const blobOf = (block: number, index: number): string =>
  createHash('sha256').update(blobContent(block, index)).digest('hex');

/** The objects of a block, documents as stages write them. */
function objectsOf(block: number): [key: string, content: string][] {
  const file = (index: number) => ({
    name: `rows-${String(index).padStart(6, '0')}.jsonl`,
    sha256: blobOf(block, index),
    bytes: 120,
    rows: 1,
    encoding: 'gzip',
  });
  const all = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, at) => make(at));
  const blobs = all(BLOCK.named + BLOCK.garbage, (index): [string, unknown] => [
    objectKeys.blob(blobOf(block, index)),
    blobContent(block, index),
  ]);
  const shards = all(BLOCK.shards, (index): [string, unknown] => [
    objectKeys.shard(digest(block, Math.floor(index / SHARDS_PER_STAGE)), index % SHARDS_PER_STAGE, 'execute'),
    { file: file(index), metrics: { kept: 1 }, notes: {}, seconds: 1.5, workflowId: `bench-${block}/sampling` },
  ]);
  const planned = (BLOCK.named - BLOCK.shards) / BLOCK.plans;
  const plans = all(BLOCK.plans, (plan): [string, unknown] => [
    objectKeys.plan(digest('plan', block, plan)),
    { config: {}, inputs: {}, shards: all(planned, (at) => file(BLOCK.shards + plan * planned + at)), metrics: {} },
  ]);
  const manifests = all(BLOCK.manifests, (index): [string, unknown] => [
    objectKeys.manifest(index % 2 ? 'programs' : 'rollouts', digest('manifest', block, index)),
    { schema: 1, kind: 'programs', files: all(4, (at) => file(4 * index + at)), inputs: {}, config: {}, metrics: {} },
  ]);
  const checkpoints = TRAININGS.flatMap((steps, training) =>
    all(steps, (step): [string, unknown] => [
      objectKeys.checkpoint(digest('training', block, training), step),
      { step, files: [file(training)] },
    ]),
  );
  const others: [string, unknown][] = [
    ...all(BLOCK.kept, (index): [string, unknown] => [
      objectKeys.kept(objectKeys.manifest('policy', digest('kept', block, index))),
      {},
    ]),
    ...all(BLOCK.replies, (index): [string, unknown] => [
      objectKeys.reply(digest('reply', block, index)),
      { text: 'an answer of an endpoint', index },
    ]),
    ...all(EXPERIMENTS, (index): [string, unknown] => [
      `experiments/${digest('experiment', block, index)}.json`,
      { name: `bench-${block}-${index}` },
    ]),
  ];
  return [...blobs, ...shards, ...plans, ...manifests, ...checkpoints, ...others].map(([key, content]) => [
    key,
    typeof content === 'string' ? content : JSON.stringify(content),
  ]);
}

/** Highest memory of a process until shares of the work were done. */
class MemoryWatch {
  readonly peaks = new Map<number, number>();
  #highest = 0;
  #stopped = false;
  readonly #watching: Promise<void>;

  constructor(
    private readonly pid: number,
    private readonly objects: number,
    doneOf: () => Promise<number | undefined>,
  ) {
    this.#watching = this.#watch(doneOf);
    this.#watching.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#watching;
    this.#reached(this.objects);
  }

  async #watch(doneOf: () => Promise<number | undefined>): Promise<void> {
    while (!this.#stopped) {
      const resident = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))?.[1];
      this.#highest = Math.max(this.#highest, Number(resident) / 1024);
      this.#reached((await doneOf()) ?? 0);
      await sleep(250);
    }
  }

  #reached(done: number): void {
    for (const share of SHARES)
      if (done >= share * this.objects && !this.peaks.has(share)) this.peaks.set(share, this.#highest);
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      objects: { type: 'string', default: '20000' },
      folder: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(HELP);
  const objects = Number(values.objects);
  if (!Number.isInteger(objects) || objects < BLOCK_OBJECTS || objects % BLOCK_OBJECTS !== 0)
    throw new Error(`--objects is ${values.objects}: give a whole number of thousands.`);
  const blocks = objects / BLOCK_OBJECTS;

  const home = mkdtempSync(join(resolve(values.folder ?? tmpdir()), 'acecoder-bench-'));
  const stack = await startStack({ home, ports: { frontend: 0, ui: 0, store: 0 } });
  const environment = Object.fromEntries(
    Object.entries({ ...stackEnvironment(stack), ACECODER_PYTHON: venvPython() }).filter(
      (entry): entry is [string, string] => entry[1] !== undefined,
    ),
  );
  const connection = await Connection.connect({ address: stack.address });
  let fail: (error: Error) => void = () => undefined;
  const stopped = new Promise<never>((_, reject) => {
    fail = reject;
    onEndSignal((signal) => reject(new Error(`Ended by ${signal}.`)));
  });
  stopped.catch(() => undefined);
  const queue = 'bench-gc';
  const worker = startWorker(queue, environment, 'pipeline');
  worker.child.once('exit', () => fail(new Error(`The worker ended; its log is in ${home}/logs.`)));
  try {
    const options = storeOptionsFromEnvironment(environment, join(home, 'bench-cache'));
    const store = createArtifactStore(options);
    const { hostname, port } = new URL(options.endpoint);
    const { accessKey, secretKey, bucket } = options;
    const s3 = new S3Client({ endPoint: hostname, port: Number(port), useSSL: false, accessKey, secretKey });
    const began = performance.now();
    const fill = async (): Promise<void> => {
      for (let block = 0; block < blocks; block += 1) {
        const made = objectsOf(block);
        await eachOf(made.length, LANES, async (at) => {
          const [key, content] = made[at]!;
          await s3.putObject(bucket, key, Buffer.from(content));
        });
        if (block % 10 === 9) console.error(`filled ${(block + 1) * BLOCK_OBJECTS} of ${objects}`);
      }
    };
    await Promise.race([fill(), stopped]);
    const filled = (performance.now() - began) / 1000;
    // Whole seconds are what a listing tells.
    await sleep(2_000);

    const { workflow } = new Client({ connection, namespace: stack.namespace });
    const collect = async (dryRun: boolean): Promise<{ seconds: number; result: SweepResult; watch: MemoryWatch }> => {
      const handle = await workflow.start('garbageCollection', {
        taskQueue: queue,
        workflowId: `bench-gc-${randomUUID()}`,
        args: [{ minimumAgeHours: 0, dryRun }],
      });
      const started = performance.now();
      const watch = new MemoryWatch(worker.child.pid!, objects, async () => {
        // On a busy host the server may be late. The next look tells more.
        const raw = (await handle.describe().catch(() => undefined))?.raw;
        const payload = raw?.pendingActivities?.[0]?.heartbeatDetails?.payloads?.[0];
        const details = payload && defaultPayloadConverter.fromPayload<HeartbeatDetails | null>(payload);
        return details?.done;
      });
      const result = (await Promise.race([handle.result(), stopped])) as SweepResult;
      const seconds = (performance.now() - started) / 1000;
      await watch.stop();
      return { seconds, result, watch };
    };
    console.error('dry run ...');
    const dry = await collect(true);
    for (const [prefix, { objects: found, bytes, removed, removedBytes }] of Object.entries(dry.result.prefixes))
      console.log(`${prefix}: ${found} objects, ${bytes} bytes; would remove ${removed}, ${removedBytes} bytes`);
    console.error('sweep ...');
    const swept = await collect(false);

    // Marks of the collections are garbage of the next one.
    const left = new Set<string>();
    for await (const page of store.pages('blobs/sha256/')) for (const { key } of page.objects) left.add(key);
    let [lost, forgotten] = [0, 0];
    for (let block = 0; block < blocks; block += 1)
      for (let index = 0; index < BLOCK.named + BLOCK.garbage; index += 1) {
        const isThere = left.has(objectKeys.blob(blobOf(block, index)));
        if (index < BLOCK.named && !isThere) lost += 1;
        if (index >= BLOCK.named && isThere) forgotten += 1;
      }
    const share = objects / 1_000_000;
    const garbage = BLOCK.garbage * blocks;
    const memory = ({ watch }: typeof dry): Map<number, number> => watch.peaks;
    const grown = (of: typeof dry): number => memory(of).get(1)! - (memory(of).get(0.1) ?? 0);
    const measures: Measure[] = [
      { name: 'objects', value: objects, unit: 'objects', note: `filled in ${filled.toFixed(0)} s, not counted` },
      { name: 'dry run', value: dry.seconds, unit: 's', bar: DRY_RUN_BAR * share, at: 'most' },
      { name: 'sweep', value: swept.seconds, unit: 's', bar: SWEEP_BAR * share, at: 'most' },
      { name: 'garbage counted by the dry run', value: dry.result.swept, unit: 'blobs', bar: garbage },
      {
        name: 'garbage left',
        value: forgotten,
        unit: 'blobs',
        bar: 0,
        at: 'most',
        note: `${swept.result.swept} swept`,
      },
      { name: 'needed blobs lost', value: lost, unit: 'blobs', bar: 0, at: 'most' },
      {
        name: 'checkpoints removed that nobody comes back to',
        value: swept.result.checkpoints,
        unit: 'checkpoints',
        bar: LEFT_CHECKPOINTS * blocks,
        at: 'most',
      },
      ...[
        { name: 'dry run', of: dry },
        { name: 'sweep', of: swept },
      ].flatMap(({ name, of }): Measure[] => [
        ...[...memory(of)].map(([part, value]) => ({
          name: `${name}: peak memory of the worker at ${100 * part} %`,
          value,
          unit: 'MB',
        })),
        {
          name: `${name}: what it grows by from 10 % on`,
          value: grown(of),
          unit: 'MB',
          bar: MEMORY_BAR_MB,
          at: 'most' as const,
        },
      ]),
    ];
    report('gc', measures, values.json);
  } finally {
    await worker.stop();
    await connection.close();
    await stopStack({ home });
    rmSync(home, { recursive: true, force: true });
  }
}

await main();
