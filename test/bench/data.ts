/**
 * `npm run bench:data`: the data half at the scale of the paper, on a Temporal server and a MinIO of its own.
 *
 * Every ratio is measured in one run, its two sides by turns. Rows are synthetic, of the size of real ones, and the
 * same in every run.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createGzip } from 'node:zlib';
import { Client, Connection } from '@temporalio/client';
import { Client as MinioClient } from 'minio';
import { sha256 } from '../../activities/artifacts/keys.js';
import {
  createArtifactStore,
  storeOptionsFromEnvironment,
  type ArtifactStore,
} from '../../activities/artifacts/store.js';
import { root } from '../../infra/setup/paths.mjs';
import { startStack, stackEnvironment, stopStack, type Stack } from '../../infra/stack/embedded-stack.js';
import { ProgramRow, type ArtifactRef, type StageResult } from '../../workflows/contract/index.js';
import { fakeEndpoint, fakeSeeds } from '../fixtures/fake-endpoint.js';
import { startWorker } from '../fixtures/start-worker.js';
import { contamination } from './data/contamination.js';
import { hub } from './data/hub.js';
import { teachers } from './data/teachers.js';
import { report, type Measure } from './table.js';
import { seedMeasures } from './data/seeds.js';
import { onEndSignal } from '../../infra/setup/processes.mjs';

const HELP = `npm run bench:data -- [options]

  --only NAME    only this part: store, pairs, teacher, seeds, teachers, contamination, hub (may be given several
                 times)
  --questions N  questions of the pairs part (87149, as many as AceCode-87K)
  --seeds LIST   numbers of seeds of the teacher part (1000,10000,124006, the last as many as the paper used)
  --tree NAME    of the seeds part only this tree: standard library, more_itertools, toolz, boltons (several times)
  --json         one JSON object on the last line
  --help         print this`;

const PROGRAMS_PER_QUESTION = 16;
const TESTS = 16;

interface Surroundings {
  stack: Stack;
  environment: Record<string, string>;
  store: ArtifactStore;
  client: Client;
}

/**
 * Programs of as many questions. Half of the questions give pairs, six each; in the paper 53 % of AceCode-87K's do, 6.6
 * each.
 */
function* programs(questions: number, text = 260): Generator<ProgramRow> {
  for (let question = 0; question < questions; question += 1) {
    const questionId = `q-${sha256(`question ${question}`).slice(0, 24)}`;
    for (let index = 0; index < PROGRAMS_PER_QUESTION; index += 1) {
      // A question that every program solves, or none, gives no pair. Of the others, two programs pass all tests, and
      // three pass few.
      const passed =
        question % 2 === 0 ? (index < 2 ? TESTS : index < 5 ? 2 + index : TESTS - 5) : question % 4 === 1 ? TESTS : 0;
      const body = sha256(`${question}/${index}`);
      const lines = '    total += len(values)\n'.repeat(Math.ceil((text - 110) / 26));
      yield {
        id: `p-${body.slice(0, 24)}`,
        questionId,
        split: question % 10 === 9 ? 'heldOut' : 'train',
        question: `Write the function that ${questionId} describes. `.repeat(6),
        index,
        program: `def solve(values):\n    total = 0x${body}\n${lines}    return total\n`,
        finish: 'stop',
        passRate: passed / TESTS,
        testCases: TESTS + 4,
        outcomes: Array.from({ length: TESTS }, (_, test) =>
          test < passed ? { status: 'pass' } : { status: 'assertion_failed', reason: 'not equal' },
        ),
      };
    }
  }
}

/** Seconds that `work` takes. */
async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/**
 * Rows through the store, with validation, spool, digest and gzip, against a bare client that gzips and writes the same
 * rows: as they come, and, which no bar is about, in chunks.
 */
async function storeThroughput({ store, environment }: Surroundings): Promise<Measure[]> {
  const url = new URL(environment['ACECODER_S3_ENDPOINT']!);
  const bare = new MinioClient({
    endPoint: url.hostname,
    port: Number(url.port),
    useSSL: false,
    accessKey: environment['ACECODER_S3_ACCESS_KEY']!,
    secretKey: environment['ACECODER_S3_SECRET_KEY']!,
  });
  const turns: { ours: number; rows: number; chunks: number }[] = [];
  let bytes = 0;
  for (let turn = 0; turn < 5; turn += 1) {
    // Texts of another length each turn: a blob that stands is not sent again.
    const rows = [...programs(1_200, 300 + turn)];
    const lines = rows.map((row) => JSON.stringify(row));
    bytes = lines.reduce((sum, line) => sum + line.length + 1, 0);
    const ours = (): Promise<unknown> => store.putRows('rows.jsonl', ProgramRow, rows);
    const theirs = (characters: number) => async (): Promise<unknown> => {
      const zipped = await buffer(
        Readable.from(
          (function* () {
            let text = '';
            for (const row of rows) {
              text += `${JSON.stringify(row)}\n`;
              if (text.length < characters) continue;
              yield text;
              text = '';
            }
            yield text;
          })(),
        ).pipe(createGzip()),
      );
      return bare.putObject(
        environment['ACECODER_S3_BUCKET']!,
        `bench/bare-${turn}-${characters}`,
        zipped,
        zipped.length,
      );
    };
    const seconds: Record<string, number> = {};
    const sides = [
      ['ours', ours],
      ['rows', theirs(1)],
      ['chunks', theirs(65_536)],
    ] as const;
    for (const [name, work] of turn % 2 === 0 ? sides : [...sides].reverse()) seconds[name] = await secondsOf(work);
    turns.push(seconds as (typeof turns)[number]);
  }
  // The first turn warms all sides.
  const median = (of: (turn: (typeof turns)[number]) => number): number => {
    const values = turns
      .slice(1)
      .map(of)
      .sort((a, b) => a - b);
    return (values[1]! + values[2]!) / 2;
  };
  return [
    {
      name: 'rows through the store, share of a bare client',
      value: 100 * median((turn) => turn.rows / turn.ours),
      unit: '%',
      bar: 90,
      note: 'median of 4 turns; the bare client gzips the same rows in memory, unchecked',
    },
    {
      name: 'the same, of one that gzips them in chunks',
      value: 100 * median((turn) => turn.chunks / turn.ours),
      unit: '%',
      note: 'what checking, digest and spool cost on one core',
    },
    { name: 'rows through the store', value: bytes / 1e6 / Math.min(...turns.map(({ ours }) => ours)), unit: 'MB/s' },
  ];
}

/** Highest resident memory of a process so far, in bytes. */
function peakMemory(pid: number): number {
  return 1024 * Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);
}

/** A stage on a worker process of its own: seconds, result, and the worker's highest memory. */
async function onWorker(
  surroundings: Surroundings,
  type: string,
  input: unknown,
): Promise<{ seconds: number; result: StageResult; memory: number; events: number; bytes: number }> {
  const queue = `bench-${type}`;
  const worker = startWorker(queue, surroundings.environment);
  const ended = once(worker.child, 'exit').then(() => {
    throw new Error(`The worker of ${queue} ended; its log is in ${surroundings.stack.home}/logs.`);
  });
  ended.catch(() => undefined);
  try {
    const { workflow } = surroundings.client;
    const warm = await workflow.start('garbageCollection', {
      taskQueue: queue,
      workflowId: `warm-${randomUUID()}`,
      args: [{}],
    });
    await Promise.race([warm.result(), ended]);
    const started = performance.now();
    const handle = await workflow.start(type, {
      taskQueue: queue,
      workflowId: `bench-${type}-${randomUUID()}`,
      args: [input],
    });
    const result = await Promise.race([handle.result() as Promise<StageResult>, ended]);
    const seconds = (performance.now() - started) / 1000;
    // A stage that continued as new has many runs; the longest counts.
    const last = await handle.describe();
    let events = last.historyLength;
    let bytes = last.historySize ?? 0;
    // Found in the visibility store a little later than they end.
    for await (const { historyLength, historySize } of workflow.list({
      query: `WorkflowId = '${handle.workflowId}'`,
    })) {
      events = Math.max(events, historyLength);
      bytes = Math.max(bytes, historySize ?? 0);
    }
    return { seconds, result, memory: peakMemory(worker.child.pid!), events, bytes };
  } finally {
    await worker.stop();
  }
}

/** The stage `preferences` on as many questions as AceCode-87K has. */
async function pairs(surroundings: Surroundings, questions: number): Promise<Measure[]> {
  const { store } = surroundings;
  const file = await store.putRows('rows.jsonl', ProgramRow, programs(questions));
  const stageKey = sha256(`programs of ${questions} questions`);
  const { manifest } = await store.commit(
    {
      kind: 'programs',
      stage: 'import',
      stageKey,
      files: [file],
      rows: file.rows!,
      inputs: {},
      config: {},
      metrics: {},
      seconds: 0,
    },
    {
      workflowId: 'bench',
      runId: 'bench',
      activity: 'bench',
      attempt: 1,
      host: 'bench',
      package: 'bench',
      versions: {},
    },
  );
  const ref: ArtifactRef = {
    kind: 'programs',
    key: `artifacts/programs/${stageKey}.json`,
    digest: manifest.digest,
    rows: file.rows!,
    bytes: manifest.bytes,
  };
  const input = { inputs: { programs: ref }, config: {} };
  const { seconds, result, memory, events } = await onWorker(surroundings, 'preferences', input);
  const again = await onWorker(surroundings, 'preferences', input);
  if (!again.result.reused) throw new Error('the second run made the pairs again');
  return [
    {
      name: `pairs from ${questions} questions x ${PROGRAMS_PER_QUESTION} programs`,
      value: seconds,
      unit: 's',
      bar: 120,
      at: 'most',
      note: `${result.ref.rows} pairs; ${(file.bytes / 1e9).toFixed(2)} GB of rows`,
    },
    { name: 'highest memory of the worker', value: memory / 2 ** 20, unit: 'MiB', bar: 1024, at: 'most' },
    { name: 'events of the workflow', value: events, unit: 'events', bar: 51_200, at: 'most' },
    {
      name: 'the same configuration again',
      value: again.seconds,
      unit: 's',
      bar: 10,
      at: 'most',
      note: 'from the store',
    },
  ];
}

/** Synthesis from an instant teacher on loopback that counts, at growing sizes. */
async function teacher(surroundings: Surroundings, sizes: readonly number[]): Promise<Measure[]> {
  const endpoint = await fakeEndpoint();
  const measures: Measure[] = [];
  try {
    const perRow: number[] = [];
    for (const size of sizes) {
      endpoint.requests.length = 0;
      const path = join(surroundings.stack.home, `seeds-${size}.jsonl`);
      writeFileSync(path, fakeSeeds(size, `f${size}`));
      const input = {
        inputs: { seeds: { kind: 'seeds', path } },
        config: {
          teacher: { kind: 'openai', model: 'fake' },
          decontaminate: [],
          nearDuplicate: null,
          execution: {
            window: 4,
            endpoint: { baseUrl: endpoint.url, keyVariable: null, concurrency: 32, prices: { input: 0, output: 0 } },
          },
        },
      };
      const run = await onWorker(surroundings, 'synthesis', input);
      const requests = endpoint.requests.length;
      if (run.result.ref.rows !== size || requests !== size)
        throw new Error(`${size} seeds gave ${run.result.ref.rows} questions from ${requests} requests.`);
      perRow.push((1000 * run.seconds) / size);
      measures.push(
        {
          name: `${size} seeds, instant teacher`,
          value: run.seconds,
          unit: 's',
          note: `${perRow.at(-1)!.toFixed(2)} ms a row: request, stored reply, parsing`,
        },
        {
          name: `${size} seeds: events of the longest workflow`,
          value: run.events,
          unit: 'events',
          bar: 51_200,
          at: 'most',
        },
        {
          name: `${size} seeds: history of the longest workflow`,
          value: run.bytes / 2 ** 20,
          unit: 'MiB',
          bar: 50,
          at: 'most',
        },
        {
          name: `${size} seeds: highest memory of the worker`,
          value: run.memory / 2 ** 20,
          unit: 'MiB',
          bar: 1024,
          at: 'most',
        },
      );
      if (size !== sizes.at(-1)) continue;
      const again = await onWorker(surroundings, 'synthesis', input);
      measures.push(
        { name: `${size} seeds: the same configuration again`, value: again.seconds, unit: 's', bar: 10, at: 'most' },
        {
          name: `${size} seeds: teacher calls of that`,
          value: endpoint.requests.length - requests,
          unit: 'calls',
          bar: 0,
          at: 'most',
        },
      );
    }
    if (perRow.length > 1)
      measures.push({
        name: 'time per row at the largest size against the smallest',
        value: perRow.at(-1)! / perRow[0]!,
        unit: 'times',
        bar: 1.3,
        at: 'most',
        note: 'linear: 1',
      });
  } finally {
    await endpoint.close();
  }
  return measures;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true },
      questions: { type: 'string', default: '87149' },
      seeds: { type: 'string', default: '1000,10000,124006' },
      tree: { type: 'string', multiple: true },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(HELP);
  const questions = Number(values.questions);
  if (!Number.isInteger(questions) || questions < 20)
    throw new Error(`--questions is ${values.questions}: give a number from 20 on.`);
  const sizes = values.seeds.split(',').map(Number);
  if (!sizes.every((size) => Number.isInteger(size) && size > 0))
    throw new Error(`--seeds is ${values.seeds}: give numbers from 1 on, with commas.`);
  const parts: Record<string, (surroundings: Surroundings) => Promise<Measure[]>> = {
    store: storeThroughput,
    pairs: (surroundings) => pairs(surroundings, questions),
    teacher: (surroundings) => teacher(surroundings, sizes),
    seeds: (surroundings) =>
      seedMeasures(surroundings.stack.home, (type, input) => onWorker(surroundings, type, input), values.tree),
  };
  /** Parts that need no server, each a file of `data/`. */
  const alone: Record<string, () => Promise<Measure[]>> = {
    contamination: () => contamination(join(process.env['ACECODER_SHARED'] ?? join(root, '../shared'), 'data')),
    hub,
    teachers,
  };
  const names = [...Object.keys(parts), ...Object.keys(alone)];
  const chosen = values.only ?? names;
  for (const name of chosen)
    if (!names.includes(name)) throw new Error(`--only is ${name}: the parts are ${names.join(', ')}.`);
  const measures: Measure[] = [];
  for (const name of chosen.filter((each) => each in alone)) {
    console.error(`${name} ...`);
    measures.push(...(await alone[name]!()));
  }
  const served = chosen.filter((each) => each in parts);
  if (served.length === 0) {
    report('data', measures, values.json);
    return;
  }

  const home = mkdtempSync(join(tmpdir(), 'acecoder-bench-'));
  const stack = await startStack({ home, ports: { frontend: 0, ui: 0, store: 0 } });
  const environment = Object.fromEntries(
    Object.entries(stackEnvironment(stack)).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
  const connection = await Connection.connect({ address: stack.address });
  const stopped = new Promise<never>((_, reject) => {
    onEndSignal((signal) => reject(new Error(`Ended by ${signal}.`)));
  });
  try {
    const surroundings: Surroundings = {
      stack,
      environment,
      client: new Client({ connection, namespace: stack.namespace }),
      store: createArtifactStore(storeOptionsFromEnvironment(environment, join(home, 'bench-cache'))),
    };
    for (const name of served) {
      console.error(`${name} ...`);
      measures.push(...(await Promise.race([parts[name]!(surroundings), stopped])));
    }
    report('data', measures, values.json);
  } finally {
    await connection.close();
    await stopStack({ home });
    await sleep(100);
    rmSync(home, { recursive: true, force: true });
  }
}

await main();
