import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'minio';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  attachStack,
  runTemporalCli,
  stackEnvironment,
  startStack,
  stopStack,
  type Stack,
} from '../../infra/stack/embedded-stack.js';
import * as paths from '../../infra/setup/paths.mjs';
import { identify } from '../../infra/setup/processes.mjs';
import { checkStore, type StoreName } from '../../infra/setup/store-choice.mjs';
import { checkTemporal, type TemporalName } from '../../infra/setup/temporal-choice.mjs';
import { askGrpc, askHttp, field, listenersOf } from '../fixtures/stranger.js';

const ANY_PORTS = { frontend: 0, ui: 0, store: 0 };

function bucketClient({ s3 }: Stack): Client {
  const { hostname, port } = new URL(s3.endpoint);
  return new Client({ endPoint: hostname, port: Number(port), useSSL: false, ...s3 });
}

async function temporal(stack: Stack, ...args: string[]): Promise<string> {
  const { stdout, stderr, code } = await runTemporalCli(stack, args);
  expect(stderr, `temporal ${args.join(' ')}`).toBe('');
  expect(code).toBe(0);
  return stdout;
}

async function workflowIds(stack: Stack): Promise<string[]> {
  const listed = JSON.parse(await temporal(stack, 'workflow', 'list', '--output', 'json')) as {
    execution: { workflowId: string };
  }[];
  return listed.map(({ execution }) => execution.workflowId).sort();
}

async function startWorkflow(stack: Stack, id: string): Promise<void> {
  await temporal(stack, 'workflow', 'start', '--type', 'experiment', '--task-queue', 'nobody', '--workflow-id', id);
}

async function textOf(stack: Stack, name: string): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of await bucketClient(stack).getObject(stack.s3.bucket, name)) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

/** What gives the names in the bucket, and what deletes an object, from inside SeaweedFS. */
const LIST = ['/filer_pb.SeaweedFiler/ListEntries', field(1, '/buckets/acecoder')] as const;
const DELETE = [
  '/filer_pb.SeaweedFiler/DeleteEntry',
  Buffer.concat([field(1, '/buckets/acecoder'), field(2, 'secret'), Buffer.from([0x20, 1])]),
] as const;

/** Visibility is written a moment after the start of a workflow is acknowledged. */
async function expectWorkflows(stack: Stack, ids: string[]): Promise<void> {
  await expect.poll(() => workflowIds(stack), { timeout: 10_000 }).toEqual(ids);
}

/** Threads of a process that are not stopped. */
function runningThreads(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).filter((thread) => {
    const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2)[0] !== 'T';
  });
}

/** Programs of a store. A home on SeaweedFS has no MinIO where neither Go nor MinIO is there. */
const STORE_PROGRAMS: Record<StoreName, string> = {
  minio: paths.minio(),
  seaweedfs: paths.weed(),
  versitygw: paths.versitygw(),
};

/** What every checkout has, and what this run is for: the rest is built on demand. */
const STACKS = new Map<string, [StoreName, TemporalName]>(
  (
    [
      ['minio', 'dev-server'],
      ['seaweedfs', 'dev-server'],
      [
        checkStore(process.env['ACECODER_TEST_STORE']) ?? 'seaweedfs',
        checkTemporal(process.env['ACECODER_TEST_TEMPORAL']) ?? 'dev-server',
      ],
    ] as [StoreName, TemporalName][]
  ).map((pair) => [pair.join(), pair]),
);

describe.each([...STACKS.values()])('embedded stack on %s and %s', { timeout: 120_000 }, (store, temporalName) => {
  const program = STORE_PROGRAMS[store];
  const missing = !existsSync(program);
  beforeEach((context) => context.skip(missing, `${program} is not installed`));

  const home = mkdtempSync(join(tmpdir(), 'acecoder-stack-'));
  const userEnvironment = { TEMPORAL_ADDRESS: 'production.invalid:7233', TEMPORAL_CONFIG_FILE: '/nonexistent.toml' };
  let stack: Stack;

  beforeAll(async () => {
    // Whoever configured a server of their own must not have it touched.
    Object.assign(process.env, userEnvironment);
    if (!missing) stack = await startStack({ home, store, temporal: temporalName, ports: ANY_PORTS });
  }, 120_000);

  afterAll(async () => {
    for (const name of Object.keys(userEnvironment)) delete process.env[name];
    await stopStack({ home });
    rmSync(home, { recursive: true, force: true });
  });

  it('keeps the processes it has when it is started again', async () => {
    const [again, sameTime] = await Promise.all([startStack({ home }), startStack({ home, ports: ANY_PORTS })]);
    expect(again).toEqual(stack);
    expect(sameTime).toEqual(stack);
    expect(await attachStack({ home })).toEqual(stack);
  });

  it('has the search attributes and the retention', async () => {
    const listed = await temporal(stack, 'operator', 'search-attribute', 'list', '--output', 'json');
    expect((JSON.parse(listed) as { customAttributes: object }).customAttributes).toEqual({
      AceCoderExperiment: 'INDEXED_VALUE_TYPE_KEYWORD',
      AceCoderStage: 'INDEXED_VALUE_TYPE_KEYWORD',
      AceCoderState: 'INDEXED_VALUE_TYPE_KEYWORD',
      AceCoderDataset: 'INDEXED_VALUE_TYPE_KEYWORD',
      AceCoderPassAt1: 'INDEXED_VALUE_TYPE_DOUBLE',
    });
    const namespace = await temporal(stack, 'operator', 'namespace', 'describe', '-n', 'default', '--output', 'json');
    const { config } = JSON.parse(namespace) as { config: { workflowExecutionRetentionTtl: string } };
    expect(config.workflowExecutionRetentionTtl).toBe(`${30 * 24 * 3600}s`);
  });

  it('has the bucket, and credentials that only the user can read', async () => {
    expect(await bucketClient(stack).bucketExists('acecoder')).toBe(true);
    expect(statSync(join(home, 's3.json')).mode & 0o777).toBe(0o600);
    const stranger = bucketClient({ ...stack, s3: { ...stack.s3, secretKey: 'another-secret' } });
    await expect(stranger.bucketExists('acecoder')).rejects.toThrow();
  });

  it('writes an object once where it is to be new', async () => {
    const client = bucketClient(stack);
    const writers = Array.from({ length: 8 }, (_, writer) =>
      client.putObject('acecoder', 'once', `writer ${writer}`, undefined, { 'If-None-Match': '*' }),
    );
    const results = await Promise.allSettled(writers);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    const winner = results.findIndex(({ status }) => status === 'fulfilled');
    expect(await textOf(stack, 'once')).toBe(`writer ${winner}`);
  });

  it('gives and deletes nothing without keys, on any port or socket where the store listens', async () => {
    const text = 'for those with keys alone '.repeat(4_000);
    await bucketClient(stack).putObject('acecoder', 'secret', text);
    const { listeners, addresses } = listenersOf(stack.pids.store);
    const loopback = ['0100007F', '0000000000000000FFFF00000100007F', '00000000000000000000000001000000'];
    expect(addresses.filter((address) => !loopback.includes(address))).toEqual([]);
    expect(listeners).toContainEqual({ port: Number(new URL(stack.s3.endpoint).port) });

    const paths = ['/', '/acecoder', '/acecoder/secret', '/buckets/', '/buckets/acecoder/secret', '/dir/status'];
    const deleting = ['/col/delete?collection=acecoder', '/vol/vacuum?garbageThreshold=0.0001'];
    const volumes = [1, 2, 3, 4, 5, 6, 7].map((volume) => `/${volume},0100000000`);
    const requests = [
      ...[...paths, ...deleting, ...volumes].map((path) => ['GET', path]),
      ...['/acecoder/secret', '/acecoder', '/buckets/acecoder?recursive=true'].map((path) => ['DELETE', path]),
      ...['/acecoder/secret', '/buckets/acecoder/secret'].map((path) => ['PUT', path]),
    ] as [string, string][];
    const answers = await Promise.all(
      listeners.flatMap((listener) => requests.map(([method, path]) => askHttp(listener, method, path))),
    );
    expect(answers.filter((answer) => answer.includes('for those with keys'))).toEqual([]);
    const ports = listeners.flatMap((listener) => ('port' in listener ? [listener.port] : []));
    const calls = await Promise.all(
      ports.flatMap((port) =>
        [true, false].flatMap((secure) =>
          [LIST, DELETE].map(([method, message]) => askGrpc(port, method, message, secure)),
        ),
      ),
    );
    expect(calls.filter((answer) => answer.includes('secret'))).toEqual([]);
    expect(await textOf(stack, 'secret')).toBe(text);
  });

  if (store === 'seaweedfs')
    it('gives, lists and deletes inside for its own certificate alone', async () => {
      const client = bucketClient(stack);
      await client.putObject('acecoder', 'secret', 'for those with keys alone '.repeat(4_000));
      const [cert, key] = ['certificate.pem', 'key.pem'].map((name) => {
        expect(statSync(join(home, 'seaweedfs', name)).mode & 0o777).toBe(0o600);
        return readFileSync(join(home, 'seaweedfs', name), 'utf8');
      });
      const { listeners } = listenersOf(stack.pids.store);
      // What a stranger is refused above is what this one is given: the requests are good ones.
      const ask = ([method, message]: readonly [string, Buffer]): Promise<string[]> =>
        Promise.all(
          listeners.flatMap((listener) =>
            'port' in listener ? [askGrpc(listener.port, method, message, true, { cert, key })] : [],
          ),
        );
      const listed = (await ask(LIST)).filter((answer) => answer.includes('secret'));
      expect(listed).toHaveLength(1);

      // Where the bytes lie is known now, and the volume that holds them gives and deletes nothing by that name.
      const pieces = [...new Set(listed[0]!.match(/\d+,[0-9a-f]{9,}/g))];
      expect(pieces).not.toEqual([]);
      for (const method of ['GET', 'DELETE', 'GET']) {
        const answers = await Promise.all(
          listeners.flatMap((listener) => pieces.map((piece) => askHttp(listener, method, `/${piece}`))),
        );
        expect(answers.filter((answer) => answer.startsWith('401 '))).toHaveLength(pieces.length);
        expect(answers.filter((answer) => answer.includes('for those with keys'))).toEqual([]);
      }
      expect(await textOf(stack, 'secret')).toContain('for those with keys alone');

      await ask(DELETE);
      await expect(client.statObject('acecoder', 'secret')).rejects.toThrow();
    });

  it('gives an environment without the Temporal settings of the user', () => {
    const environment = stackEnvironment(stack);
    expect(Object.keys(environment).filter((name) => name.startsWith('TEMPORAL_'))).toEqual(['TEMPORAL_CONFIG_FILE']);
    const profile = readFileSync(environment['TEMPORAL_CONFIG_FILE']!, 'utf8');
    expect(profile).toBe(`[profile.default]\naddress = "${stack.address}"\nnamespace = "default"\n`);
    expect(environment).toMatchObject({ ACECODER_HOME: home, ACECODER_S3_ENDPOINT: stack.s3.endpoint });
    expect(environment['PATH']).toBe(process.env['PATH']);
  });

  it('continues on its data and ports after kill -9 of each server', async () => {
    await startWorkflow(stack, 'before');
    await bucketClient(stack).putObject('acecoder', 'before', 'kept');
    await expectWorkflows(stack, ['before']);
    const servers = Object.keys(stack.pids) as (keyof Stack['pids'])[];
    expect(servers).toHaveLength(temporalName === 'postgresql' ? 3 : 2);
    for (const killed of servers) {
      process.kill(stack.pids[killed]!, 'SIGKILL');
      await expect.poll(() => attachStack({ home })).toBeUndefined();
      const after = await startStack({ home });
      expect(after.pids[killed]).not.toBe(stack.pids[killed]);
      expect(after).toEqual({ ...stack, pids: { ...stack.pids, [killed]: after.pids[killed] } });
      stack = after;
      await expectWorkflows(stack, ['before']);
      expect(await textOf(stack, 'before')).toBe('kept');
    }
  });

  it('keeps its ports through a start that failed', async () => {
    const servers = Object.values(stack.pids);
    for (const pid of servers) process.kill(pid, 'SIGKILL');
    await expect.poll(() => servers.filter(identify)).toEqual([]);
    const objects = join(home, 'data', store);
    renameSync(objects, `${objects}.away`);
    writeFileSync(objects, 'no folder');
    await expect(startStack({ home })).rejects.toThrow(/ended at once|did not answer|ENOTDIR|EEXIST/);
    rmSync(objects);
    renameSync(`${objects}.away`, objects);
    const after = await startStack({ home });
    expect(after).toEqual({ ...stack, pids: after.pids });
    stack = after;
    expect(await textOf(stack, 'before')).toBe('kept');
  });

  it('replaces a server that runs and does not answer', async () => {
    process.kill(stack.pids.store, 'SIGSTOP');
    // Its threads stop one after another: until all have, it may answer once more.
    await expect.poll(() => runningThreads(stack.pids.store)).toEqual([]);
    const lines: string[] = [];
    const after = await startStack({ home, log: (line) => lines.push(line) });
    expect(lines[0]).toBe(`${stack.store} (process ${stack.pids.store}) does not answer and is replaced`);
    expect(identify(stack.pids.store)).toBeUndefined();
    stack = after;
    expect(await textOf(stack, 'before')).toBe('kept');
  });

  it('refuses other ports while it runs', async () => {
    const other = Number(stack.address.split(':')[1]) + 1;
    await expect(startStack({ home, ports: { frontend: other } })).rejects.toThrow(
      `already runs on port ${other - 1}, not ${other}: stop the stack first (npm run stack:stop), or leave out --port`,
    );
  });

  it('refuses another store over its objects', async () => {
    const other = store === 'minio' ? 'seaweedfs' : 'minio';
    await expect(startStack({ home, store: other })).rejects.toThrow(
      `--store ${other} is refused: ${home}/data/${store} holds objects of ${store}, as ${home}/store.json remembers.`,
    );
  });

  it('refuses another Temporal server over its workflows', async () => {
    const other = temporalName === 'dev-server' ? 'postgresql' : 'dev-server';
    await expect(startStack({ home, temporal: other })).rejects.toThrow(
      `--temporal ${other} is refused: ${home}/data/${other === 'postgresql' ? 'temporal.db' : 'postgresql'} holds ` +
        `workflows of ${temporalName}.`,
    );
  });

  it('stops without leaving a process, and starts again on the same data', async () => {
    const sockets = listenersOf(stack.pids.store).listeners.flatMap((each) =>
      'socketPath' in each ? [each.socketPath] : [],
    );
    expect(sockets.length > 0).toBe(store === 'seaweedfs');
    expect(await stopStack({ home })).toBe(true);
    expect(Object.values(stack.pids).filter(identify)).toEqual([]);
    expect(sockets.filter(existsSync)).toEqual([]);
    expect(existsSync(join(home, 'stack.json'))).toBe(false);
    expect(await attachStack({ home })).toBeUndefined();
    expect(await stopStack({ home })).toBe(false);

    stack = await startStack({ home, ports: ANY_PORTS });
    await expectWorkflows(stack, ['before']);
    expect(await textOf(stack, 'before')).toBe('kept');
  });
});

describe('ports in use', { timeout: 60_000 }, () => {
  it.each([
    ['frontend', 'the Temporal server', '--port'],
    ['ui', 'the Temporal UI', '--ui-port'],
    ['store', 'the object store', '--store-port'],
  ])('names the port for %s and the option', async (name, use, option) => {
    const home = mkdtempSync(join(tmpdir(), 'acecoder-stack-'));
    const taken = createServer();
    try {
      await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
      const { port } = taken.address() as AddressInfo;
      await expect(startStack({ home, ports: { ...ANY_PORTS, [name]: port } })).rejects.toThrow(
        `Port ${port} on 127.0.0.1, wanted for ${use}, is in use by another program: choose another one with ` +
          `npm run stack -- ${option} N (0 takes any free port).`,
      );
      expect(existsSync(join(home, 'stack.json'))).toBe(false);
    } finally {
      await new Promise((resolve) => taken.close(resolve));
      rmSync(home, { recursive: true, force: true });
    }
  });
});
