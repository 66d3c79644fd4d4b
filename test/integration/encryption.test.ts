/** Encrypted payloads, with real workers, the real Temporal CLI and the codec server as the CLI asks it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Client } from '@temporalio/client';
import { afterAll, describe, expect, inject, it } from 'vitest';
import { root } from '../../infra/setup/paths.mjs';
import { startExperiment } from '../../infra/commands/start-experiment.js';
import { runTemporalCli } from '../../infra/stack/embedded-stack.js';
import { dataConverterOf, payloadCodec } from '../../workers/payloads/codec.js';
import { failureOf, temporalCli, temporalClient, workerProcess } from '../fixtures/harness.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { programsFile } from '../fixtures/programs.js';
import { until } from '../fixtures/until.js';

const keyOf = (id: string): string => `${id}:${randomBytes(32).toString('base64')}`;
const KEY = keyOf('spring');
/** What must not be read: it is in paths, in configurations and in messages of failures. */
const SECRET = `secret-${randomUUID()}`;
const folder = mkdtempSync(join(tmpdir(), `acecoder-${SECRET}-`));
const seeds = join(folder, 'seeds.jsonl');
copyFileSync(inject('seeds'), seeds);
const codeLines = readFileSync(seeds, 'utf8')
  .split('\n')
  .filter(Boolean)
  .flatMap((line) => (JSON.parse(line) as { code: string }).code.split('\n'))
  .filter((line) => line.trim().length > 12);

const stops: (() => unknown)[] = [];
afterAll(async () => {
  for (const stop of stops) await stop();
});

function startWorker(queue: string, key: string | undefined): ReturnType<typeof workerProcess> {
  const worker = workerProcess(queue, {
    ...inject('environment'),
    ...(key === undefined ? {} : { ACECODER_PAYLOAD_KEY: key }),
  });
  stops.unshift(worker.stop);
  return worker;
}

async function clientWith(key: string | undefined): Promise<Client> {
  const { connection, options } = await temporalClient();
  return new Client({
    connection,
    namespace: options.namespace,
    dataConverter: dataConverterOf(payloadCodec({ ACECODER_PAYLOAD_KEY: key })),
  });
}

/** Text with everything in it that base64 hides. */
const readable = (text: string): string =>
  text.replace(/"([\w+/]{8,}={0,2})"/g, (_, base64: string) => Buffer.from(base64, 'base64').toString());

/** The history and the description of a workflow, as the CLI shows them. */
async function shown(workflowId: string, ...options: string[]): Promise<string> {
  const commands = ['show', 'describe'].map((verb) =>
    temporalCli('workflow', verb, '--workflow-id', workflowId, '--output', 'json', ...options),
  );
  return readable((await Promise.all(commands)).join('\n'));
}

/** `npm run codec` as it is started from a checkout; its address. */
async function codecProcess(key: string, token?: string): Promise<string> {
  const child: ChildProcess = spawn(
    process.execPath,
    ['--import', 'tsx', join(root, 'infra/commands/codec.ts'), '--port', '0'],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ACECODER_PAYLOAD_KEY: key, ...(token ? { ACECODER_CODEC_TOKEN: token } : {}) },
    },
  );
  stops.unshift(async () => {
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
  });
  const [line] = (await once(createInterface({ input: child.stdout! }), 'line')) as [string];
  return /http:\S+/.exec(line)![0];
}

describe('workers and clients with a key', () => {
  const queue = `encrypted-${randomUUID().slice(0, 8)}`;
  const good = `${queue}-preview`;
  const bad = `${queue}-bad`;
  const ids = [good, bad, ...['synthesis', 'filtering', 'sampling', 'preferences'].map((stage) => `${good}/${stage}`)];

  it('work as without one', async () => {
    startWorker(queue, KEY);
    const { workflow } = await clientWith(KEY);
    const result = await workflow.execute('preview', {
      taskQueue: queue,
      workflowId: good,
      args: [microExperiment('encrypted', seeds, inject('model'))],
      memo: { note: SECRET },
      staticSummary: SECRET,
      staticDetails: SECRET,
    });
    expect(result).toMatchObject({ seeds: 5 });
    const failing = await workflow.start('preview', {
      taskQueue: queue,
      workflowId: bad,
      args: [microExperiment('encrypted', `${seeds}-of-nobody`, inject('model'))],
    });
    expect((await failureOf(failing)).message).toContain(SECRET);
  });

  it('leave nothing readable in histories and descriptions', async () => {
    for (const id of ids) {
      const text = await shown(id);
      expect(text, id).toContain('binary/encrypted');
      expect(text, id).not.toContain(SECRET);
      for (const line of codeLines) expect(text, id).not.toContain(line.trim());
    }
  });

  it('are read by the CLI with the codec endpoint', async () => {
    const token = randomBytes(16).toString('hex');
    const url = await codecProcess(KEY, token);
    const endpoint = ['--codec-endpoint', url, '--codec-auth', `Bearer ${token}`];
    for (const id of [good, bad]) {
      const text = await shown(id, ...endpoint);
      expect(text, id).toContain(SECRET);
      expect(text, id).not.toContain('binary/encrypted');
    }
    const { code, stdout } = await runTemporalCli(inject('stack'), [
      ...['workflow', 'show', '--workflow-id', good, '--output', 'json', '--codec-endpoint', url],
    ]);
    expect([code, stdout]).toEqual([1, expect.not.stringContaining(SECRET)]);
  });

  it('are started by the CLI through the same endpoint, so that not even the input is readable', async () => {
    const url = await codecProcess(KEY);
    const id = `${queue}-by-cli`;
    const input = { inputs: { programs: { kind: 'programs', path: programsFile(folder) } }, config: { salt: queue } };
    const options = [
      '--type',
      'preferences',
      '--task-queue',
      queue,
      '--workflow-id',
      id,
      '--input',
      JSON.stringify(input),
    ];
    const printed = await temporalCli('workflow', 'execute', ...options, '--output', 'json', '--codec-endpoint', url);
    expect(JSON.parse(printed)).toMatchObject({ result: { metrics: { pairs: 25 } } });
    expect(await shown(id)).not.toContain(SECRET);
  });

  it('are started by the quickstart in the same way', async () => {
    const id = `${queue}-quickstart`;
    const file = join(folder, 'experiment.json');
    writeFileSync(file, JSON.stringify(microExperiment(SECRET, seeds, inject('model'))));
    const said: string[] = [];
    const client = await clientWith(KEY);
    await startExperiment(inject('stack'), client, file, id, (line) => said.push(line), { ACECODER_PAYLOAD_KEY: KEY });
    expect(said).toEqual([`Started the experiment '${id}'.`]);
    const text = await shown(id);
    await client.workflow.getHandle(id).terminate('the test has seen how it starts');
    expect(text).toContain('binary/encrypted');
    expect(text).not.toContain(SECRET);
  });

  it('read and go on with what began before encryption', { tags: 'long' }, async () => {
    const before = `${queue}-before`;
    const plain = startWorker(before, undefined);
    const client = await clientWith(undefined);
    const input = (salt: string): unknown[] => [
      { inputs: { programs: { kind: 'programs', path: programsFile(folder) } }, config: { salt } },
    ];
    const finished = await client.workflow.start('preferences', {
      taskQueue: before,
      workflowId: `${before}-finished`,
      args: input('a'),
    });
    await finished.result();
    await plain.kill();
    // Nobody works now: what is started waits in plain text.
    const waiting = await client.workflow.start('preferences', {
      taskQueue: before,
      workflowId: `${before}-waiting`,
      args: input('b'),
    });
    expect(await shown(waiting.workflowId)).toContain(SECRET);
    startWorker(before, KEY);
    const { workflow } = await clientWith(KEY);
    for (const { workflowId } of [finished, waiting])
      expect(await workflow.getHandle(workflowId).result()).toMatchObject({ metrics: { pairs: 25 } });
  });
});

describe('a wrong key', () => {
  it('is named by the worker, the client and the codec server, and the work waits for the right one', async () => {
    const queue = `wrong-${randomUUID().slice(0, 8)}`;
    const wrong = startWorker(queue, keyOf('autumn'));
    const { workflow } = await clientWith(KEY);
    const handle = await workflow.start('preferences', {
      taskQueue: queue,
      workflowId: queue,
      args: [{ inputs: { programs: { kind: 'programs', path: programsFile(folder) } }, config: { salt: queue } }],
    });
    const says = "A payload is encrypted by the key 'spring', and ACECODER_PAYLOAD_KEY holds autumn: add that key.";
    const log = join(inject('environment')['ACECODER_HOME']!, 'logs', `workers-${queue}.log`);
    await until(
      () => readFileSync(log, 'utf8'),
      (text) => text.includes(says),
    );
    await wrong.stop();
    const changed = `${keyOf('summer')},${KEY}`;
    startWorker(queue, changed);
    const readers = await clientWith(changed);
    expect(await readers.workflow.getHandle(queue).result()).toMatchObject({ metrics: { pairs: 25 } });
    await expect(handle.result()).rejects.toThrow("the key 'summer'");
    const url = await codecProcess(KEY);
    const printed = await temporalCli('workflow', 'result', '--workflow-id', queue, '--codec-endpoint', url);
    expect(printed).toContain("not readable: A payload is encrypted by the key 'summer'");
  });
});
