/**
 * The packed plugin in an application elsewhere, in an empty folder with the tarball that `npm pack` makes. First
 * INTEGRATION.md is followed word by word, on a stack of its own. Then the code of docs/how-to/own-cluster.md runs as it
 * stands there, on a Temporal server and a store that the application brings, and the commands of the package with it.
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
import { withoutTemporal } from '../../infra/setup/processes.mjs';
import { commandsOf, copiesOf, filesOf, shellBlocks } from '../fixtures/documentation.js';
import type { StageResult } from '../../workflows/contract/index.js';
import { artifactStore } from '../fixtures/harness.js';
import { programsFile } from '../fixtures/programs.js';

const app = mkdtempSync(join(tmpdir(), 'acecoder-app-'));
const PREFIX = `team-${randomUUID().slice(0, 8)}`;
const running: { child: ChildProcess; output: Promise<string> }[] = [];

const INTEGRATION = 'INTEGRATION.md';
const PAGES = [INTEGRATION, 'docs/how-to/own-cluster.md'];

/** What each command of INTEGRATION.md prints. */
const SAID: Record<string, RegExp> = {
  'npm install': /added \d+ packages/,
  'npx acecoder-temporal stack': /The stack is left running; npx acecoder-temporal stack:stop ends it\./,
  'node app.js': /^pass rate: 0\.5$/m,
  'npx acecoder-temporal stack:stop': /The stack is stopped; its data stays\./,
};

/** The commands of INTEGRATION.md, in their order. */
const commandsOfThePage = shellBlocks({
  path: INTEGRATION,
  text: readFileSync(join(root, INTEGRATION), 'utf8'),
}).flatMap(commandsOf);

/** Runs a command of the page in the application, and holds what it prints against {@link SAID}. */
function follow(command: string): void {
  const { ACECODER_HOME: _home, ...env } = withoutTemporal();
  const { status, stdout, stderr } = spawnSync('bash', ['-c', command], { cwd: app, encoding: 'utf8', env });
  expect(status, `${command}\n${stdout}\n${stderr}`).toBe(0);
  const [, says] = Object.entries(SAID).findLast(([part]) => command.includes(part))!;
  expect(stdout).toMatch(says);
}

function npm(args: string[], cwd: string): string {
  return execFileSync('npm', [...args, '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** What a program of the application knows of the world: what the page says. */
function environmentOfApp(profile: string): NodeJS.ProcessEnv {
  const { ACECODER_S3_ENDPOINT, ACECODER_S3_BUCKET, ACECODER_S3_ACCESS_KEY, ACECODER_S3_SECRET_KEY } =
    inject('environment');
  return {
    PATH: process.env['PATH'],
    HOME: process.env['HOME'],
    TEMPORAL_CONFIG_FILE: profile,
    ACECODER_S3_ENDPOINT,
    ACECODER_S3_BUCKET,
    ACECODER_S3_ACCESS_KEY,
    ACECODER_S3_SECRET_KEY,
    ACECODER_S3_PREFIX: PREFIX,
  };
}

/** Starts a program of the application. */
function start([program, ...args]: [string, ...string[]], profile: string, env: NodeJS.ProcessEnv = {}): ChildProcess {
  const child = spawn(program, args, {
    cwd: app,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...environmentOfApp(profile), ...env },
  });
  running.push({
    child,
    output: Promise.all([text(child.stdout), text(child.stderr)]).then((parts) => parts.join('')),
  });
  return child;
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
async function execute(
  type: string,
  taskQueue: string,
  input: unknown,
  id = `${type}-${randomUUID()}`,
): Promise<unknown> {
  const run = runTemporalCli(inject('stack'), [
    'workflow',
    'execute',
    '--type',
    type,
    '--task-queue',
    taskQueue,
    '--workflow-id',
    id,
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

const pairsOf = (taskQueue: string, config: object = {}, id?: string): Promise<unknown> => {
  const inputs = { programs: { kind: 'programs', path: programsFile(app) } };
  return execute('preferences', taskQueue, { inputs, config }, id);
};

beforeAll(() => {
  npm(['pack', '--pack-destination', app], root);
  for (const [name, code] of PAGES.flatMap(filesOf)) writeFileSync(join(app, name), code);
  const started = performance.now();
  for (const command of commandsOfThePage) {
    follow(command);
    if (command.includes('node app.js'))
      console.log(`from npm install to a judged program: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  }
});
afterEach(stopAll);
afterAll(() => rmSync(app, { recursive: true, force: true }));

describe('an application that follows INTEGRATION.md', () => {
  it('has run every command of the page, of which each is known here', () => {
    for (const part of Object.keys(SAID))
      expect(commandsOfThePage.some((command) => command.includes(part))).toBe(true);
  });

  it('has the peers of the package, and one copy of the library of workflows', () => {
    const { peerDependencies, peerDependenciesMeta } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      peerDependencies: Record<string, string>;
      peerDependenciesMeta: Record<string, { optional: boolean }>;
    };
    const needed = Object.keys(peerDependencies).filter((name) => !peerDependenciesMeta[name]?.optional);
    const { dependencies } = JSON.parse(readFileSync(join(app, 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>;
    };
    expect(Object.keys(dependencies)).toEqual(expect.arrayContaining(needed));
    for (const library of ['workflow', 'common', 'worker']) expect(copiesOf(library, app)).toBe(1);
  });

  it('finds an entry for the list of integrations with the fields of that list', () => {
    const [, entry] = /```json\n([\s\S]*?)```/.exec(readFileSync(join(root, INTEGRATION), 'utf8'))!;
    expect(JSON.parse(entry!)).toEqual({
      name: expect.any(String) as string,
      description: expect.stringMatching(/^[A-Z].{20,150}\.$/) as string,
      tags: [expect.any(String)],
      sdk: 'TypeScript',
      href: expect.stringMatching(/^https:.*\/INTEGRATION\.md$/) as string,
    });
  });
});

describe('the packed command', () => {
  /** Apart from what the other tests make. */
  const OWN = { ACECODER_HOME: join(app, 'home'), ACECODER_S3_PREFIX: `${PREFIX}-command` };
  const command = (...args: string[]) =>
    spawnSync('npx', ['acecoder-temporal', ...args], {
      cwd: app,
      encoding: 'utf8',
      env: { ...environmentOfApp(inject('stack').configFile), ...OWN },
    });

  it('prints its help and that of each command, without a word of a checkout', () => {
    const { status, stdout } = command('--help');
    expect(status).toBe(0);
    const names = [...stdout.matchAll(/^ {2}([a-z:]+) {2,}\S/gm)].map(([, name]) => name!);
    expect(names).toEqual(
      expect.arrayContaining(['workers', 'stack', 'sandbox', 'estimate', 'follow', 'report', 'trace']),
    );
    for (const name of names) {
      const help = command(name, '--help');
      expect(help.stdout, help.stderr).toContain(`acecoder-temporal ${name}`);
      expect(help.stdout).not.toContain('npm run');
      expect(help.status).toBe(0);
    }
    expect(command('--version').stdout.trim()).toMatch(/^\d+\.\d+\.\d+$/);
  });

  it('says in one sentence what is wrong', () => {
    const wrong = (...args: string[]): string => {
      const { status, stderr } = command(...args);
      expect(status).toBeGreaterThan(0);
      expect(stderr).not.toMatch(/^ +at /m);
      return stderr;
    };
    expect(wrong('folow')).toContain('There is no command folow; did you mean "follow"?');
    expect(wrong('follow', '--embeded')).toContain('npx acecoder-temporal follow --help says which there are.');
    expect(wrong('follow', 'no-such-workflow')).toContain('There is no workflow no-such-workflow');
    expect(wrong('report', '--embedded', 'x')).toContain('npx acecoder-temporal stack starts it.');
    expect(wrong('workers')).toContain('npx acecoder-temporal setup --python makes it.');
    expect(wrong('trace')).toContain('npx acecoder-temporal trace EXPERIMENT [FIGURE | ROW]');
    expect(wrong('estimate', 'none.json')).toContain('none.json');
  });

  it('estimates an example of the package', () => {
    const example = 'node_modules/acecoder-temporal/infra/experiments/quickstart.json';
    const { status, stdout, stderr } = command('estimate', example, '--json');
    expect(status, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      stages: [{ stage: 'synthesis', rows: { seeds: 120 } }, {}, {}, {}, {}, {}, {}],
    });
  });

  it('runs workers, and finds what they made in the store', async () => {
    const queue = `packed-${randomUUID().slice(0, 8)}`;
    // npx would end at a signal, and leave the workers running.
    const worker = start(
      ['node_modules/.bin/acecoder-temporal', 'workers', '--role', 'pipeline'],
      inject('stack').configFile,
      {
        ...OWN,
        ACECODER_QUEUE: queue,
      },
    );
    const id = `preferences-${queue}`;
    const { ref } = (await pairsOf(queue, {}, id)) as StageResult;
    const said = (...args: string[]): string => {
      const { status, stdout, stderr } = command(...args);
      expect(status, stderr).toBe(0);
      return stdout;
    };
    expect(said('follow', id)).toContain('The workflow has finished.');
    expect(said('trace', ref.key)).toContain(ref.key);
    expect(said('fetch', ref.key, 'fetched')).toContain('fetched/');
    const report = command('report', id);
    expect([report.status, report.stderr]).toEqual([1, expect.stringContaining("is no experiment, but 'preferences'")]);
    worker.kill('SIGTERM');
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
    start([process.execPath, 'worker.js'], inject('stack').configFile);
    start([process.execPath, 'sandbox-worker.js'], inject('stack').configFile);
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

  it(
    'serves an application without workflows of its own, through TLS with an API key',
    { tags: 'long' },
    async ({ skip }) => {
      skip(
        spawnSync('openssl', ['version']).status !== 0,
        'TLS NOT CHECKED: there is no openssl on PATH to make a certificate',
      );
      const { profile, calls, close } = await tlsInFrontOf(inject('stack').address);
      try {
        start([process.execPath, 'plain-worker.js'], profile);
        expect(await pairsOf('data', { salt: 'tls' })).toMatchObject({ reused: false, metrics: { pairs: 25 } });
        expect(calls().refused).toBe(0);
        expect(calls().forwarded).toBeGreaterThan(10);
      } finally {
        await stopAll();
        await close();
      }
    },
  );
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
