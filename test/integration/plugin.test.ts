/**
 * The packed plugin in an application elsewhere: the code of docs/how-to/own-cluster.md, as it stands there, in an
 * empty folder with the tarball that `npm pack` makes, on a Temporal server and a store that the application brings.
 */
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createSecureServer, type Http2SecureServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from 'vitest';
import { runTemporalCli } from '../../infra/stack/embedded-stack.js';
import { root } from '../../infra/setup/paths.mjs';
import { artifactStore } from '../fixtures/harness.js';
import { programsFile } from '../fixtures/programs.js';

interface PackageJson {
  devDependencies: Record<string, string>;
  peerDependencies: Record<string, string>;
  overrides: Record<string, string>;
}

const app = mkdtempSync(join(tmpdir(), 'acecoder-app-'));
const PREFIX = `team-${randomUUID().slice(0, 8)}`;
const running: { child: ChildProcess; output: Promise<string> }[] = [];

/** The code blocks of the page that are files of an application, by their names. */
function filesOfThePage(): Record<string, string> {
  const page = readFileSync(join(root, 'docs/how-to/own-cluster.md'), 'utf8');
  return Object.fromEntries([...page.matchAll(/```js (\S+)\n([\s\S]*?)```/g)].map(([, name, code]) => [name!, code!]));
}

function npm(args: string[], cwd: string): string {
  return execFileSync('npm', [...args, '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Starts a program of the application; what it knows of the world is what the page says. */
function start(file: string, profile: string): void {
  const { ACECODER_S3_ENDPOINT, ACECODER_S3_BUCKET, ACECODER_S3_ACCESS_KEY, ACECODER_S3_SECRET_KEY } =
    inject('environment');
  const child = spawn(process.execPath, [file], {
    cwd: app,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      TEMPORAL_CONFIG_FILE: profile,
      ACECODER_S3_ENDPOINT,
      ACECODER_S3_BUCKET,
      ACECODER_S3_ACCESS_KEY,
      ACECODER_S3_SECRET_KEY,
      ACECODER_S3_PREFIX: PREFIX,
    },
  });
  running.push({
    child,
    output: Promise.all([text(child.stdout), text(child.stderr)]).then((parts) => parts.join('')),
  });
}

async function stopAll(): Promise<string> {
  const outputs = await Promise.all(
    running.splice(0).map(async ({ child, output }) => {
      if (child.exitCode === null) child.kill('SIGTERM');
      return output;
    }),
  );
  return outputs.join('\n');
}

/** The result of a workflow that is started by the Temporal CLI. */
async function execute(type: string, taskQueue: string, input: unknown): Promise<unknown> {
  const run = runTemporalCli(inject('stack'), [
    'workflow',
    'execute',
    '--type',
    type,
    '--task-queue',
    taskQueue,
    '--workflow-id',
    `${type}-${randomUUID()}`,
    '--input',
    JSON.stringify(input),
    '--output',
    'json',
  ]);
  // A worker that ends would leave the workflow waiting for ever.
  const ended = Promise.race(
    running.map(({ child, output }) =>
      once(child, 'exit').then(async () => {
        throw new Error(`a worker ended: ${await output}`);
      }),
    ),
  );
  const { stdout, stderr, code } = await Promise.race([run, ended]);
  expect(code, stderr).toBe(0);
  return (JSON.parse(stdout) as { result: unknown }).result;
}

const pairsOf = (taskQueue: string, config: object = {}): Promise<unknown> =>
  execute('preferences', taskQueue, { inputs: { programs: { kind: 'programs', path: programsFile(app) } }, config });

beforeAll(() => {
  const { devDependencies, peerDependencies, overrides } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  ) as PackageJson;
  const [{ filename }] = JSON.parse(npm(['pack', '--json', '--pack-destination', app], root)) as [{ filename: string }];
  writeFileSync(
    join(app, 'package.json'),
    JSON.stringify({
      private: true,
      type: 'module',
      overrides,
      dependencies: {
        'acecoder-temporal': `file:${filename}`,
        ...Object.fromEntries(Object.keys(peerDependencies).map((name) => [name, devDependencies[name]])),
      },
    }),
  );
  for (const [name, code] of Object.entries(filesOfThePage())) writeFileSync(join(app, name), code);
  npm(['install', '--prefer-offline'], app);
}, 300_000);
afterEach(stopAll);
afterAll(() => rmSync(app, { recursive: true, force: true }));

describe('the packed command', () => {
  const command = (...args: string[]) =>
    spawnSync('npx', ['acecoder-temporal', ...args], {
      cwd: app,
      encoding: 'utf8',
      env: { ...process.env, ACECODER_HOME: join(app, 'home') },
    });

  it('judges programs of a file, and says what to type where there is no Python', () => {
    const row = { id: 'a', program: 'def f(x):\n    return x\n', tests: ['assert candidate(1) == 1'] };
    writeFileSync(join(app, 'programs.jsonl'), JSON.stringify(row));
    const files = ['--input', 'programs.jsonl', '--output', 'verdicts.jsonl'];
    const { status, stderr } = command('sandbox', ...files, '--entry-point', 'f', '--workers', '1');
    expect(status, stderr).toBe(0);
    expect(JSON.parse(readFileSync(join(app, 'verdicts.jsonl'), 'utf8'))).toMatchObject({ id: 'a', passRate: 1 });
    expect(command('sandbox', '--help').stdout).toContain('acecoder-temporal sandbox --serve');
    expect(command('sandbox', ...files, '--host', '0.0.0.0', '--serve').stderr).toContain('a token is needed');
    const none = spawnSync('npx', ['acecoder-temporal', 'sandbox', ...files], {
      cwd: app,
      encoding: 'utf8',
      env: { ...process.env, ACECODER_SANDBOX_PYTHON: join(app, 'no-python') },
    });
    expect([none.status, none.stderr]).toEqual([1, expect.stringContaining('Type: sudo apt-get install python3')]);
  });
});

describe('the packed plugin', () => {
  it('serves an application beside its own workflows, under a prefix of its bucket', async () => {
    start('worker.js', inject('stack').configFile);
    start('sandbox-worker.js', inject('stack').configFile);
    expect(await execute('grade', 'my-app', 'def double(x):\n    return 2 * x if x else 1\n')).toBe(0.5);
    expect(await pairsOf('my-app')).toMatchObject({ reused: false, metrics: { pairs: 25, heldOutPairs: 5 } });
    expect((await artifactStore().list(`${PREFIX}/artifacts/pairs/`)).length).toBe(1);
    expect(
      execFileSync(process.execPath, ['node_modules/acecoder-temporal/dist/workers/gpu.js', '--help'], {
        cwd: app,
        encoding: 'utf8',
      }),
    ).toContain('ACECODER_GPU_CLASSES');
    expect(await stopAll()).not.toContain('Error');
  });

  it('serves an application without workflows of its own, through TLS with an API key', async ({ skip }) => {
    skip(
      spawnSync('openssl', ['version']).status !== 0,
      'TLS NOT CHECKED: there is no openssl on PATH to make a certificate',
    );
    const { profile, calls, close } = await tlsInFrontOf(inject('stack').address);
    try {
      start('plain-worker.js', profile);
      expect(await pairsOf('data', { salt: 'tls' })).toMatchObject({ reused: false, metrics: { pairs: 25 } });
      expect(calls().refused).toBe(0);
      expect(calls().forwarded).toBeGreaterThan(10);
    } finally {
      await stopAll();
      await close();
    }
  });
});

/**
 * A front of TLS before a Temporal server, as Temporal Cloud has: it takes calls that carry the API key of the profile.
 */
async function tlsInFrontOf(
  address: string,
): Promise<{ profile: string; calls: () => { forwarded: number; refused: number }; close: () => Promise<void> }> {
  const folder = join(app, 'tls');
  mkdirSync(folder);
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  };
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  writeFileSync(join(folder, 'names'), 'subjectAltName=DNS:temporal.test\n');
  openssl('req', '-x509', ...ec, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=authority');
  openssl('req', ...ec, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=temporal.test');
  openssl(
    'x509',
    '-req',
    '-in',
    'server.csr',
    '-CA',
    'ca.pem',
    '-CAkey',
    'ca.key',
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    'names',
    '-out',
    'server.pem',
  );
  const apiKey = randomUUID();
  let forwarded = 0;
  let refused = 0;
  const backend = connect(`http://${address}`);
  const server: Http2SecureServer = createSecureServer({
    key: readFileSync(join(folder, 'server.key')),
    cert: readFileSync(join(folder, 'server.pem')),
  });
  server.on(
    'stream',
    (stream, { ':path': path, ':method': method, ':scheme': _scheme, ':authority': _authority, ...headers }) => {
      if (headers.authorization !== `Bearer ${apiKey}`) {
        refused += 1;
        stream.respond(
          { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '16' },
          { endStream: true },
        );
        return;
      }
      forwarded += 1;
      const request = backend.request({ ...headers, ':path': path, ':method': method });
      let trailers = {};
      request.on('response', ({ ':status': status, ...answer }) => {
        stream.respond({ ...answer, ':status': status }, { waitForTrailers: true });
        request.pipe(stream);
      });
      request.on('trailers', (received) => {
        trailers = received;
      });
      stream.on('wantTrailers', () => stream.sendTrailers(trailers));
      stream.on('close', () => request.close());
      for (const side of [request, stream]) side.on('error', () => undefined);
      stream.pipe(request);
    },
  );
  server.on('sessionError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const profile = join(folder, 'temporal.toml');
  writeFileSync(
    profile,
    `[profile.default]\naddress = "127.0.0.1:${(server.address() as AddressInfo).port}"\n` +
      `namespace = "${inject('stack').namespace}"\napi_key = "${apiKey}"\n` +
      `[profile.default.tls]\nserver_ca_cert_path = "${join(folder, 'ca.pem')}"\nserver_name = "temporal.test"\n`,
  );
  return {
    profile,
    calls: () => ({ forwarded, refused }),
    close: async () => {
      backend.destroy();
      const closed = once(server, 'close');
      server.close();
      await closed;
    },
  };
}
