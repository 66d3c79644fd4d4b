/**
 * `npm run bench:data`: the data half at the scale of the paper, on a Temporal server and a MinIO of its own.
 *
 * Every ratio is measured in one run, its two sides by turns. Rows are synthetic, of the size of real ones, and the same in
 * every run.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
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
import { ArtifactStore, storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import { startStack, stackEnvironment, stopStack, type Stack } from '../../infra/dev/embedded-stack.js';
import { ProgramRow, type ArtifactRef, type StageResult } from '../../workflows/contract/index.js';
import { workerProcess } from '../fixtures/harness.js';
import { report, type Measure } from './table.js';

const HELP = `npm run bench:data -- [options]

  --only NAME    only this part: store, pairs (may be given several times)
  --questions N  questions of the pairs part (87149, as many as AceCode-87K)
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
 * Programs of as many questions. Half of the questions give pairs, six each; in the paper 53 % of AceCode-87K's do, 6.6 each.
 */
function* programs(questions: number, text = 260): Generator<ProgramRow> {
  for (let question = 0; question < questions; question += 1) {
    const questionId = `q-${sha256(`question ${question}`).slice(0, 24)}`;
    for (let index = 0; index < PROGRAMS_PER_QUESTION; index += 1) {
      // A question that every program solves, or none, gives no pair; of the others, two programs pass all and three few.
      const passed = question % 2 === 0 ? (index < 2 ? TESTS : index < 5 ? 2 + index : TESTS - 5) : question % 4 === 1 ? TESTS : 0;
      const body = sha256(`${question}/${index}`);
      yield {
        id: `p-${body.slice(0, 24)}`, questionId, split: question % 10 === 9 ? 'heldOut' : 'train', question: `Write the function that ${questionId} describes. `.repeat(6), index,
        program: `def solve(values):\n    total = 0x${body}\n${'    total += len(values)\n'.repeat(Math.ceil((text - 110) / 26))}    return total\n`,
        finish: 'stop', passRate: passed / TESTS, testCases: TESTS + 4,
        outcomes: Array.from({ length: TESTS }, (_, test) => (test < passed ? { status: 'pass' } : { status: 'assertion_failed', reason: 'not equal' })),
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

/** Rows through the store, with validation, spool, digest and gzip, against a bare client that gzips and writes the same rows. */
async function storeThroughput({ store, environment }: Surroundings): Promise<Measure[]> {
  const url = new URL(environment['ACECODER_S3_ENDPOINT']!);
  const bare = new MinioClient({
    endPoint: url.hostname, port: Number(url.port), useSSL: false,
    accessKey: environment['ACECODER_S3_ACCESS_KEY']!, secretKey: environment['ACECODER_S3_SECRET_KEY']!,
  });
  const turns: { ours: number; bare: number }[] = [];
  let bytes = 0;
  for (let turn = 0; turn < 5; turn += 1) {
    // Texts of another length each turn: a blob that stands is not sent again.
    const rows = [...programs(1_200, 300 + turn)];
    const lines = rows.map((row) => JSON.stringify(row));
    bytes = lines.reduce((sum, line) => sum + line.length + 1, 0);
    const ours = (): Promise<unknown> => store.putRows('rows.jsonl', ProgramRow, rows);
    const theirs = async (): Promise<unknown> => {
      const zipped = await buffer(Readable.from(function* () {
        for (const row of rows) yield `${JSON.stringify(row)}\n`;
      }()).pipe(createGzip()));
      return bare.putObject(environment['ACECODER_S3_BUCKET']!, `bench/bare-${turn}`, zipped, zipped.length);
    };
    const first = await secondsOf(turn % 2 === 0 ? ours : theirs);
    const second = await secondsOf(turn % 2 === 0 ? theirs : ours);
    turns.push(turn % 2 === 0 ? { ours: first, bare: second } : { ours: second, bare: first });
  }
  // The first turn warms both sides.
  const ratios = turns.slice(1).map((turn) => turn.bare / turn.ours).sort((a, b) => a - b);
  const median = (ratios[1]! + ratios[2]!) / 2;
  return [
    { name: 'rows through the store, share of a bare client', value: 100 * median, unit: '%', bar: 90, note: 'median of 4 turns; the bare client gzips the same rows in memory, unchecked' },
    { name: 'rows through the store', value: bytes / 1e6 / Math.min(...turns.map(({ ours }) => ours)), unit: 'MB/s' },
  ];
}

/** Highest resident memory of a process so far, in bytes. */
function peakMemory(pid: number): number {
  return 1024 * Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);
}

/** A stage on a worker process of its own: seconds, result, and the worker's highest memory. */
async function onWorker(surroundings: Surroundings, type: string, input: unknown): Promise<{ seconds: number; result: StageResult; memory: number; events: number }> {
  const queue = `bench-${type}`;
  const worker = workerProcess(queue, surroundings.environment);
  const ended = once(worker.child, 'exit').then(() => { throw new Error(`The worker of ${queue} ended; its log is in ${surroundings.stack.home}/logs.`); });
  ended.catch(() => undefined);
  try {
    const { workflow } = surroundings.client;
    const warm = await workflow.start('garbageCollection', { taskQueue: queue, workflowId: `warm-${randomUUID()}`, args: [{}] });
    await Promise.race([warm.result(), ended]);
    const started = performance.now();
    const handle = await workflow.start(type, { taskQueue: queue, workflowId: `bench-${type}-${randomUUID()}`, args: [input] });
    const result = await Promise.race([handle.result() as Promise<StageResult>, ended]);
    const seconds = (performance.now() - started) / 1000;
    const { historyLength } = await handle.describe();
    return { seconds, result, memory: peakMemory(worker.child.pid!), events: historyLength };
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
    { kind: 'programs', stage: 'import', stageKey, files: [file], rows: file.rows!, inputs: {}, config: {}, metrics: {}, seconds: 0 },
    { workflowId: 'bench', runId: 'bench', activity: 'bench', attempt: 1, host: 'bench', package: 'bench', versions: {} },
  );
  const ref: ArtifactRef = { kind: 'programs', key: `artifacts/programs/${stageKey}.json`, digest: manifest.digest, rows: file.rows!, bytes: manifest.bytes };
  const input = { inputs: { programs: ref }, config: {} };
  const { seconds, result, memory, events } = await onWorker(surroundings, 'preferences', input);
  const again = await onWorker(surroundings, 'preferences', input);
  if (!again.result.reused) throw new Error('the second run made the pairs again');
  return [
    { name: `pairs from ${questions} questions x ${PROGRAMS_PER_QUESTION} programs`, value: seconds, unit: 's', bar: 120, at: 'most', note: `${result.ref.rows} pairs; ${(file.bytes / 1e9).toFixed(2)} GB of rows` },
    { name: 'highest memory of the worker', value: memory / 2 ** 20, unit: 'MiB', bar: 1024, at: 'most' },
    { name: 'events of the workflow', value: events, unit: 'events', bar: 51_200, at: 'most' },
    { name: 'the same configuration again', value: again.seconds, unit: 's', bar: 10, at: 'most', note: 'from the store' },
  ];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { only: { type: 'string', multiple: true }, questions: { type: 'string', default: '87149' }, json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
  });
  if (values.help) return console.log(HELP);
  const questions = Number(values.questions);
  if (!Number.isInteger(questions) || questions < 20) throw new Error(`--questions is ${values.questions}: give a number from 20 on.`);
  const parts: Record<string, (surroundings: Surroundings) => Promise<Measure[]>> = { store: storeThroughput, pairs: (surroundings) => pairs(surroundings, questions) };
  const chosen = values.only ?? Object.keys(parts);
  for (const name of chosen) if (!(name in parts)) throw new Error(`--only is ${name}: the parts are ${Object.keys(parts).join(', ')}.`);

  const home = mkdtempSync(join(tmpdir(), 'acecoder-bench-'));
  const stack = await startStack({ home, ports: { frontend: 0, ui: 0, minio: 0 } });
  const environment = Object.fromEntries(Object.entries(stackEnvironment(stack)).filter((entry): entry is [string, string] => entry[1] !== undefined));
  const connection = await Connection.connect({ address: stack.address });
  const stopped = new Promise<never>((_, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => reject(new Error(`Ended by ${signal}.`)));
  });
  try {
    const surroundings: Surroundings = {
      stack, environment, client: new Client({ connection, namespace: stack.namespace }),
      store: new ArtifactStore(storeOptionsFromEnvironment(environment, join(home, 'bench-cache'))),
    };
    const measures: Measure[] = [];
    for (const name of chosen) {
      console.error(`${name} ...`);
      measures.push(...await Promise.race([parts[name]!(surroundings), stopped]));
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
