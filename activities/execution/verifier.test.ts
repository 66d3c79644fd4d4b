/** The HTTP server over real sandboxes: the forms that trainers speak, and attacks on it, after which it goes on. */
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { SandboxLimits, StageFailure } from '../../workflows/contract/index.js';
import { OPERATIONS, type SandboxOperation } from '../runtime/operations.js';
import { PythonService, type PythonProcess } from '../runtime/python-service.js';
import { settingsFromEnvironment } from '../runtime/settings.js';
import { Lanes } from './lanes.js';
import { startVerifier, type Verifier } from './verifier.js';

const TOKEN = 'a-token-of-this-test-and-of-no-other';
const DOUBLE = 'def double(n):\n    return 2 * n';
const TESTS = ['assert double(2) == 4', 'assert double(0) == 0'];
const BODY_BYTES = 1024 * 1024;

const home = mkdtempSync(join(tmpdir(), 'acecoder-verifier-'));
const settings = settingsFromEnvironment({ ...process.env });
/** A sandbox that runs one program at a time, as the user with this number. */
const sandboxOf = (first: number): PythonService<typeof OPERATIONS> =>
  new PythonService(OPERATIONS, {
    name: `sandbox-${first}`,
    python: settings.sandboxPython,
    args: ['-m', 'sandbox', '--workers', '1', '--first', String(first)],
    pythonPath: settings.pythonPath,
    logs: home,
    startSeconds: 60,
    graceSeconds: 5,
    lostAs: 'SandboxUnavailable',
  });
const sandboxes = Array.from({ length: Math.min(2, availableParallelism()) }, (_, at) => sandboxOf(at));
const lanes = new Lanes(sandboxes, SandboxLimits.parse({}));
/** A server for programs of this host, and one that needs a token and has small bounds. */
let open: Verifier;
let guarded: Verifier;
const said: string[] = [];

beforeAll(async () => {
  vi.spyOn(console, 'error').mockImplementation((...words: unknown[]) => void said.push(words.map(String).join(' ')));
  open = await startVerifier(lanes, { host: '127.0.0.1', port: 0 });
  guarded = await startVerifier(lanes, {
    host: 'localhost',
    port: 0,
    token: TOKEN,
    bounds: { bodyBytes: BODY_BYTES, headerSeconds: 1, requestSeconds: 1, connections: 40 },
  });
});
afterAll(async () => {
  await Promise.all([open.close(), guarded.close()]);
  await Promise.all(sandboxes.map((sandbox) => sandbox.close()));
  rmSync(home, { recursive: true });
  vi.restoreAllMocks();
});
/** After whatever was done to it, a server judges, and has told nobody its token. */
afterEach(async () => {
  for (const server of [open, guarded]) {
    const { verdicts } = (await post(server, '/verify', {
      rows: [
        { id: 'right', program: DOUBLE, tests: TESTS },
        { id: 'wrong', program: 'def double(n):\n    return n', tests: TESTS },
      ],
    }).then(({ body }) => body)) as { verdicts: { passRate: number }[] };
    expect(verdicts.map(({ passRate }) => passRate)).toEqual([1, 0.5]);
  }
  expect(said).toEqual([]);
});

interface Reply {
  status: number;
  headers: Headers;
  body: unknown;
}

async function post(server: Verifier, path: string, body: unknown, headers: Record<string, string> = {}) {
  const response = await fetch(`${server.url}${path}`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(server === guarded ? { authorization: `Bearer ${TOKEN}` } : {}),
      ...headers,
    },
    body: typeof body === 'string' || body instanceof Uint8Array ? Buffer.from(body) : JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, body: await response.json() } satisfies Reply;
}

/** What comes back for bytes that are sent as they are, until the server closes the connection. */
async function raw(server: Verifier, text: string | Buffer): Promise<string> {
  const { hostname, port } = new URL(server.url);
  const socket = connect(Number(port), hostname.replace(/[[\]]/g, ''));
  let answer = '';
  socket.on('data', (part) => (answer += part.toString('latin1')));
  socket.on('error', () => undefined);
  socket.write(text);
  await once(socket, 'close');
  return answer;
}

const responsesIn = (text: string): string[] => [...text.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, code]) => code!);

describe("SandboxFusion's forms", () => {
  /** As verl's client sends it. */
  const sent = (code: string, stdin: string | null = null, more: object = {}) => ({
    compile_timeout: 10,
    run_timeout: 10,
    code,
    stdin,
    memory_limit_MB: 1024,
    language: 'python',
    files: {},
    fetch_files: [],
    ...more,
  });

  it.each([
    ['print(int(input()) * 2)', '21', 'Success', 'Finished', 0, '42\n'],
    ['import sys; sys.exit(3)', null, 'Failed', 'Finished', 3, ''],
    ['print(1)\nassert False', null, 'Failed', 'Finished', 1, '1\n'],
    ['def f(:', null, 'Failed', 'Finished', 1, ''],
    ['while True: pass', null, 'Failed', 'TimeLimitExceeded', null, ''],
    ['import ctypes; ctypes.string_at(0)', null, 'Failed', 'Finished', -11, ''],
    ['print("x" * (5 << 20))', null, 'Failed', 'Error', null, undefined],
  ])('say of %j how it ended', async (code, stdin, status, runStatus, returnCode, stdout) => {
    const { body } = await post(open, '/run_code', sent(code, stdin, { run_timeout: 0.5 }));
    expect(body).toMatchObject({
      status,
      compile_result: null,
      run_result: { status: runStatus, return_code: returnCode, ...(stdout === undefined ? {} : { stdout }) },
    });
    const { run_result: ran } = body as { run_result: { execution_time: number; stderr: string } };
    expect(ran.execution_time).toBeGreaterThan(0);
    expect(ran.stderr.includes('Error')).toBe(returnCode === 1);
  });

  it.each([
    { language: 'cpp' },
    { files: { 'a.txt': 'YQ==' } },
    { fetch_files: ['a.txt'] },
    { run_timeout: 1e9 },
    { memory_limit_MB: 1e9 },
    { code: 3 },
  ])('refuse what cannot be run honestly: %j', async (more) => {
    const { status, body } = await post(open, '/run_code', sent('print(1)', null, more));
    expect([status, typeof (body as { error: string }).error]).toEqual([400, 'string']);
  });

  it('judge a submission that brings its tests', async () => {
    const test = [
      { input: { stdin: '1' }, output: { stdout: '2' } },
      { input: { stdin: '2' }, output: { stdout: '5' } },
    ];
    const completion = 'It is\n```python\nprint(int(input()) * 2)\n```';
    const ask = async (tests: unknown, labels = {}): Promise<unknown> =>
      (
        await post(open, '/submit', {
          dataset: 'any',
          id: 7,
          completion,
          config: { language: 'python', run_timeout: 2, provided_data: { test: tests, labels } },
        })
      ).body;
    expect(await ask(test.slice(0, 1))).toMatchObject({ id: 7, accepted: true, tests: [{ passed: true }] });
    expect(await ask(JSON.stringify(test))).toMatchObject({
      accepted: false,
      extracted_code: 'print(int(input()) * 2)',
      tests: [{ passed: true }, { passed: false, exec_info: { status: 'Failed' } }],
    });
    expect(await ask({ code: 'x = 1' })).toMatchObject({ accepted: false });
    expect(await ask('no tests')).toMatchObject({ error: expect.stringContaining('provided_data') as string });
    expect(await ask([{ input: { 'in.txt': '1' }, output: { stdout: '2' } }])).toMatchObject({
      error: expect.stringContaining('takes no files') as string,
    });
    const none = await post(open, '/submit', { dataset: 'humaneval', id: 1, completion, config: {} });
    expect([none.status, JSON.stringify(none.body)]).toEqual([400, expect.stringContaining('stores no data sets')]);
  });

  it('takes what SandboxFusion documents too: nulls, asserts with a set-up, one of several questions', async () => {
    const config = {
      ...{ dataset_type: null, language: null, locale: null, is_fewshot: null, compile_timeout: null },
      ...{ run_timeout: null, custom_extract_logic: null, extra: {} },
    };
    const submit = async (given: unknown, more: object = {}): Promise<Reply> =>
      post(open, '/submit', {
        dataset: 'any',
        id: 7,
        completion: `\`\`\`python\n${DOUBLE}\n\`\`\``,
        config: { ...config, provided_data: given, ...more },
      });
    const labels = { test_setup_code: 'N = 2', task_id: 7 };
    const question = {
      id: 7,
      content: 'Double it.',
      labels,
      test: JSON.stringify(['assert double(N) == 4', 'assert double(N) == 5']),
    };
    const other = { ...question, id: 8, test: ['assert double(1) == 3'] };
    const { body } = await submit([other, question]);
    expect(body).toMatchObject({ id: 7, accepted: false, tests: [{ passed: true }, { passed: false }] });
    expect(
      (await submit({ ...question, id: 9, test: { code: 'assert double(2) == 4', asset: {} } })).body,
    ).toMatchObject({
      accepted: true,
    });
    for (const [given, more] of [
      [[other, { ...other, id: 9 }], {}],
      [{ ...question, test: { code: 'assert double(1)', asset: { 'a.csv': 'MQ==' } } }, {}],
      [question, { custom_extract_logic: 'submit_code_blocks([])' }],
      [question, { language: 'cpp' }],
    ] as const)
      expect((await submit(given, more)).status, JSON.stringify([given, more])).toBe(400);
  });
});

describe('/verify', () => {
  it('takes limits by row and by request, entry points and references, and refuses rows one by one', async () => {
    // It takes half a second of CPU time on every host.
    const slow = 'import time\ndef double(n):\n    while time.process_time() < 0.5: pass\n    return 2 * n';
    const rows = [
      {
        id: 'slow',
        program: slow,
        tests: TESTS.slice(0, 1),
        limits: { cpuSecondsPerTest: 30, cpuSecondsPerProgram: 60 },
      },
      { id: 'late', program: slow, tests: TESTS.slice(0, 1) },
      { id: 'entry', program: DOUBLE, tests: ['assert candidate(1) == 2'], entryPoint: 'double', reference: DOUBLE },
      { id: 'broken', program: DOUBLE, tests: TESTS, reference: 'def double(n): return n' },
      { id: 'greedy', program: DOUBLE, tests: TESTS, limits: { cpuSecondsPerTest: 1e5 } },
      { id: 'unparsable', program: DOUBLE, tests: ['assert ('] },
      { id: 'equal', program: DOUBLE, tests: TESTS },
      { id: 'equal', program: DOUBLE, tests: TESTS, language: 'python' },
      { id: 3 },
      null,
    ];
    const { body } = await post(open, '/verify', { rows, limits: { cpuSecondsPerTest: 0.01 } });
    expect((body as { verdicts: unknown[] }).verdicts).toMatchObject([
      { id: 'slow', judged: true, passRate: 1 },
      { id: 'late', judged: true, passRate: 0, outcomes: [{ status: 'timeout' }] },
      { id: 'entry', judged: true, passRate: 1 },
      { id: 'broken', judged: false, passRate: null, retry: false, error: 'its reference fails the test 0' },
      { id: 'greedy', judged: false, retry: false },
      { id: 'unparsable', judged: false, retry: false },
      { id: 'equal', judged: true, passRate: 1 },
      { id: 'equal', judged: true, passRate: 1 },
      { id: null, judged: false, retry: false },
      { id: null, judged: false, retry: false },
    ]);
  });

  it('judges several right answers, and asks nobody to come again for a checker with a fault', async () => {
    const fault = { call: 'double(1)', checker: 'def check(input, output, answer):\n    return 1' };
    const rows = [
      { id: 'any', program: DOUBLE, tests: [{ call: 'double(1)', anyOf: ['2', '3'] }] },
      { id: 'fault', program: DOUBLE, tests: [fault] },
    ];
    const both = await post(open, '/verify', { rows });
    const refused = {
      id: 'fault',
      judged: false,
      passRate: null,
      retry: false,
      error: expect.stringContaining('test 0: the checker: it answers 1') as string,
    };
    expect(both.body).toMatchObject({ verdicts: [{ id: 'any', judged: true, passRate: 1 }, refused] });
    const alone = await post(open, '/verify', { rows: rows.slice(1) });
    expect([alone.status, alone.body]).toMatchObject([200, { verdicts: [refused] }]);
  });

  it('says in /health what judges, and knows no other paths and methods', async () => {
    const health = await fetch(`${open.url}/health`);
    expect(await health.json()).toMatchObject({ status: 'ok', level: expect.any(String) as string });
    expect((await fetch(`${open.url}/verify`)).status).toBe(405);
    for (const path of ['/', '/constructor', '/__proto__', '/verify/', '/Verify'])
      expect((await post(open, path, {})).status).toBe(404);
  });
});

describe('attacks on the server', () => {
  const auth = `Authorization: Bearer ${TOKEN}\r\n`;
  const head = (path = '/verify', more = ''): string =>
    `POST ${path} HTTP/1.1\r\nHost: localhost\r\n${auth}Content-Type: application/json\r\n${more}`;

  it('an oversized body is not read to its end', async () => {
    expect((await post(guarded, '/verify', `"${'x'.repeat(BODY_BYTES)}"`)).status).toBe(413);
    expect(responsesIn(await raw(guarded, `${head('/verify', 'Content-Length: 99999999999\r\n')}\r\n{`))).toEqual([
      '413',
    ]);
    expect(await raw(guarded, `${head('/verify', 'Content-Length: 9\r\nExpect: 100-continue\r\n')}\r\n`)).toContain(
      '100',
    );
    const large = `${head('/verify', 'Content-Length: 99999999\r\nExpect: 100-continue\r\n')}\r\n`;
    expect(responsesIn(await raw(guarded, large))).toEqual(['413']);
    const { hostname, port } = new URL(guarded.url);
    // A body of no stated length, which goes on for as long as the server takes it.
    const endless = httpRequest({
      hostname: hostname.replace(/[[\]]/g, ''),
      port,
      path: '/verify',
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${TOKEN}` },
    });
    const ended = new Promise<number | undefined>((resolve) => {
      endless.on('response', (response) => resolve(response.statusCode));
      endless.on('error', () => resolve(undefined));
    });
    const chunk = 'x'.repeat(65_536);
    const send = (): void => {
      if (!endless.destroyed) endless.write(chunk, () => setImmediate(send));
    };
    send();
    expect([413, undefined]).toContain(await ended);
    endless.destroy();
  });

  it('a slow header and a slow body are cut off', async () => {
    expect(responsesIn(await raw(guarded, 'POST /verify HTTP/1.1\r\nHost: a'))).toEqual(['408']);
    const slow = await raw(guarded, `${head('/verify', 'Content-Length: 100\r\n')}\r\n{"rows":`);
    expect(responsesIn(slow).filter((code) => code === '200')).toEqual([]);
  });

  it('a wrong token is refused, whatever its form', async () => {
    const tokens = ['', 'Bearer', 'Bearer ', `Bearer ${TOKEN}x`, `Bearer ${TOKEN.slice(0, -1)}`, TOKEN, 'Basic Og=='];
    const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;
    for (const token of [...tokens, basic(`${TOKEN}:`), basic('user:no'), `Bearer ${'x'.repeat(8_000)}`])
      expect((await post(guarded, '/verify', { rows: [] }, { authorization: token })).status, token).toBe(401);
    const unsent = await fetch(`${guarded.url}/health`);
    expect([unsent.status, unsent.headers.get('www-authenticate')]).toEqual([401, 'Bearer']);
    const right = await fetch(`${guarded.url}/health`, { headers: { authorization: basic(`any:${TOKEN}`) } });
    expect(right.status).toBe(200);
  });

  it('a server for others needs a token of some length', async () => {
    await expect(startVerifier(lanes, { host: '0.0.0.0', port: 0 })).rejects.toThrow('a token is needed');
    await expect(startVerifier(lanes, { host: '::', port: 0 })).rejects.toThrow('a token is needed');
    await expect(startVerifier(lanes, { host: '127.0.0.1', port: 0, token: 'short' })).rejects.toThrow('at least 16');
  });

  it('a page in a browser cannot use the server of its reader', async () => {
    const to = (host: string, more = ''): string =>
      `GET /health HTTP/1.1\r\nHost: ${host}\r\n${more}Connection: close\r\n\r\n`;
    expect(responsesIn(await raw(open, to('127.0.0.1:8740')))).toEqual(['200']);
    for (const host of ['attacker.example', '127.attacker.example', '10.0.0.1', '127.0.0.1.attacker.example', ''])
      expect(responsesIn(await raw(open, to(host))), host).toEqual(['403']);
    expect(responsesIn(await raw(open, to('localhost', 'Origin: http://attacker.example\r\n')))).toEqual(['403']);
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/jsonp'])
      expect((await post(open, '/verify', '{}', { 'content-type': type })).status).toBe(415);
  });

  it('a path in an id or in an address leads nowhere', async () => {
    const target = join(home, 'written');
    const ids = [target, `../../../../../..${target}`, '..\\..', '%2e%2e%2f', '.', '/dev/stdout'];
    const rows = ids.map((id) => ({ id, program: DOUBLE, tests: TESTS }));
    const { body } = await post(open, '/verify', { rows });
    expect((body as { verdicts: { id: string }[] }).verdicts.map(({ id }) => id)).toEqual(ids);
    expect(existsSync(target)).toBe(false);
    for (const path of ['/../../etc/passwd', '/verify/../health', '//health', 'http://localhost/health', '*']) {
      const answer = await raw(open, `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
      expect(responsesIn(answer), path).toEqual(['404']);
      expect(answer).not.toContain('root:');
    }
  });

  it('an id makes no header and no second response', async () => {
    const id = 'a\r\nX-Injected: 1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n';
    const data = JSON.stringify({ rows: [{ id, program: DOUBLE, tests: TESTS }] });
    const length = `Content-Length: ${data.length}\r\nConnection: close\r\n`;
    const answer = await raw(guarded, `${head('/verify', length)}\r\n${data}`);
    expect(responsesIn(answer)).toEqual(['200']);
    expect(answer.split('\r\n\r\n')[0]!.toLowerCase()).not.toContain('x-injected');
  });

  it('JSON that is deep, wide or odd costs one refusal', async () => {
    const deep = (text: string, end: string): string => `${text.repeat(90_000)}1${end.repeat(90_000)}`;
    for (const bomb of [
      deep('[', ']'),
      deep('{"a":', '}'),
      `{"rows":${deep('[', ']')}}`,
      `{"rows":[{"id":"a","program":"","tests":${deep('[', ']')}}],"limits":${deep('[', ']')}}`,
      `{"__proto__":{"rows":[]},"constructor":1}`,
      `{"rows":${JSON.stringify(Array.from({ length: 1_001 }, () => 1))}}`,
      '{"rows":1e999}',
      '[]',
      'null',
      '',
      '{',
      new Uint8Array([0x22, 0xff, 0xfe, 0x22]),
    ]) {
      const { status, body } = await post(open, '/verify', bomb);
      expect(status === 200 ? JSON.stringify(body) : '"judged":false').not.toContain('"judged":true');
      expect([200, 400, 413]).toContain(status);
    }
    const { body } = await post(open, '/verify', `{"rows":[${deep('[', ']')},{"id":${deep('[', ']')}}]}`);
    expect((body as { verdicts: unknown[] }).verdicts).toMatchObject([{ judged: false }, { judged: false }]);
    expect((await post(open, '/verify', '{}', { 'content-encoding': 'gzip' })).status).toBe(415);
  });

  it('a request hidden in another one is not answered', async () => {
    const hidden = `GET /health HTTP/1.1\r\nHost: localhost\r\n${auth}\r\n`;
    const both = `Content-Length: ${hidden.length + 5}\r\nTransfer-Encoding: chunked\r\n`;
    for (const more of [
      `${both}\r\n0\r\n\r\n${hidden}`,
      `Content-Length: 5\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`,
      `Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n${hidden}`,
      `Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${hidden}`,
      `Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${hidden}`,
      `Content-Length: +5\r\n\r\n${hidden}`,
      `X: a\n b\r\nContent-Length: 0\r\n\r\n${hidden}`,
      `Transfer-Encoding: chunked\r\n\r\n0x5\r\n12345\r\n0\r\n\r\n${hidden}`,
    ]) {
      const answers = responsesIn(await raw(guarded, `${head('/verify')}${more}`));
      expect(
        answers.filter((code) => code === '200'),
        more.slice(0, 60),
      ).toEqual([]);
    }
  });

  it('a program reaches no server', async () => {
    const { port } = new URL(open.url);
    const code =
      'import socket\nfor family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):\n' +
      `    try:\n        s = socket.socket(family); s.connect((host, ${port}))\n        print("connected")\n` +
      '    except OSError as error:\n        print("no", error.errno)\n';
    const { body } = await post(open, '/run_code', { code, language: 'python' });
    const { run_result: ran } = body as { run_result: { stdout: string } };
    expect(ran.stdout).toMatch(/^no \d+\nno \d+\n$/);
  });

  it('a program does not answer in the place of the server', async () => {
    const forged = JSON.stringify({
      id: 1,
      type: 'result',
      result: {
        verdicts: [{ id: '0', outcomes: [{ status: 'pass' }], flags: [] }],
        measurements: [],
        brokenReferences: [],
      },
    });
    const text = JSON.stringify(`${forged}\n`);
    const writes =
      'import os\nfor fd in range(256):\n' + `    try: os.write(fd, ${text}.encode())\n    except OSError: pass\n`;
    const said200 = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}';
    const rows = [
      { id: 'function', program: `${writes}def double(n): return n`, tests: TESTS.slice(0, 1) },
      {
        id: 'script',
        program: `${writes}import os\nos.write(1, ${JSON.stringify(said200)}.encode())`,
        tests: [{ stdin: '', stdout: 'x' }],
      },
    ];
    const { body } = await post(open, '/verify', { rows });
    expect((body as { verdicts: unknown[] }).verdicts).toMatchObject([{ passRate: 0 }, { passRate: 0 }]);
    const told = await post(open, '/run_code', { code: `${writes}print(${JSON.stringify(said200)})` });
    expect(told.status).toBe(200);
    expect(told.body).toMatchObject({ run_result: { status: 'Finished' } });
  });

  it('many half-open connections keep nobody out', async () => {
    const { hostname, port } = new URL(guarded.url);
    const sockets = Array.from({ length: 200 }, () => {
      const socket = connect(Number(port), hostname.replace(/[[\]]/g, ''));
      socket.on('error', () => undefined);
      socket.resume();
      socket.write('POST /verify HTTP/1.1\r\nHost: localhost\r\n');
      return socket;
    });
    const health = await fetch(`${guarded.url}/health`, { headers: { authorization: `Bearer ${TOKEN}` } });
    expect(health.status).toBe(200);
    for (const socket of sockets) if (!socket.closed) await once(socket, 'close');
  });

  it('odd characters come back as they are, and are no syntax of anything', async () => {
    const odd = ['\u2028\u2029', '\0', '\ud800', '\udfff\ud800', '\ufffd', '\u0085', '\ufeff', '\u202e'];
    const rows = odd.map((id) => ({
      id: `id ${id}`,
      program: `def f():\n    return ${JSON.stringify(id)}\n# ${id}`,
      tests: ['assert f() != 1', `assert f() == ${JSON.stringify(id)} # ${id}`],
    }));
    const { status, body } = await post(open, '/verify', { rows });
    expect(status).toBe(200);
    const { verdicts } = body as { verdicts: { id: string; judged: boolean }[] };
    expect(verdicts.map(({ id }) => id)).toEqual(rows.map(({ id }) => id));
    const ran = await post(open, '/run_code', {
      code: 'import sys\nsys.stdout.write(sys.stdin.read())',
      stdin: odd.join(''),
    });
    expect(ran.body).toMatchObject({ run_result: { stdout: odd.join('') } });
  });
});

describe('a server whose sandbox is held', () => {
  /** A sandbox that answers when the test says so; trouble of a host cannot be had on demand. */
  class Held implements PythonProcess<SandboxOperation> {
    readonly isRunning = true;
    readonly asked: {
      ids: string[];
      answer: (status: 'pass' | 'unjudged') => void;
      fail: (error: Error) => void;
      signal: AbortSignal;
    }[] = [];

    versions(): Promise<Record<string, string>> {
      return Promise.resolve({ harness: '0', python: '3', importPolicy: '' });
    }

    async call(...[op, params, options]: Parameters<PythonProcess<SandboxOperation>['call']>): Promise<never> {
      const jobs = 'jobs' in params ? params.jobs : [];
      const signal = options!.signal!;
      const result = new Promise<unknown>((resolve, fail) => {
        signal.addEventListener('abort', () => fail(signal.reason as Error));
        const answer = (status: 'pass' | 'unjudged'): void =>
          resolve(
            op === 'judge'
              ? {
                  verdicts: jobs.map((job) => ({
                    id: job.id,
                    outcomes: 'tests' in job ? job.tests.map(() => ({ status })) : [],
                    flags: [],
                  })),
                  measurements: [],
                  brokenReferences: [],
                }
              : {
                  runs: jobs.map(({ id }) => ({
                    id,
                    status: 'unjudged',
                    exitCode: null,
                    stdout: '',
                    stderr: '',
                    cpuSeconds: 0,
                  })),
                },
          );
        this.asked.push({ ids: jobs.map(({ id }) => id), answer, fail, signal });
      });
      return (await result) as never;
    }
  }

  const row = { id: 'a', program: DOUBLE, tests: TESTS };
  let held: Held;
  let server: Verifier;
  let queue: Lanes;
  const start = async (bounds = {}): Promise<void> => {
    held = new Held();
    queue = new Lanes([held], SandboxLimits.parse({}));
    server = await startVerifier(queue, { host: '127.0.0.1', port: 0, bounds });
  };
  const asked = async (at: number): Promise<Held['asked'][number]> => {
    await expect.poll(() => held.asked.length).toBeGreaterThan(at);
    return held.asked[at]!;
  };
  // What a test that fails has left unanswered would keep the server from ending.
  afterEach(async () => {
    for (const { fail } of held.asked) fail(new StageFailure('SandboxUnavailable', 'the test is over'));
    await server.close();
  });

  it('says that it is busy, in the words that each client asks again after', async () => {
    await start({ programs: 2 });
    const first = post(server, '/verify', { rows: [row, { ...row, program: 'x' }] });
    await asked(0);
    const refused = await post(server, '/verify', { rows: [row] });
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '2']);
    const code = await post(server, '/run_code', { code: '' });
    expect([code.status, (code.body as { status: string }).status]).toEqual([504, 'SandboxError']);
    (await asked(0)).answer('pass');
    (await asked(1)).answer('pass');
    expect((await first).status).toBe(200);
  });

  it('gives no verdict where there is none', async () => {
    await start();
    const verify = post(server, '/verify', { rows: [row] });
    (await asked(0)).answer('unjudged');
    // One row that the host could not judge is no batch that it could not judge.
    expect([(await verify).status, (await verify).headers.get('retry-after')]).toEqual([503, '2']);
    const lost = post(server, '/verify', { rows: [row] });
    (await asked(1)).fail(new StageFailure('SandboxUnavailable', 'lost'));
    (await asked(2)).fail(new StageFailure('SandboxUnavailable', 'lost'));
    expect((await lost).status).toBe(503);
    const code = post(server, '/run_code', { code: '' });
    (await asked(3)).answer('unjudged');
    expect([(await code).status, (await code).body]).toMatchObject([504, { status: 'SandboxError', run_result: null }]);
  });

  it('frees the place of a client that goes away', async () => {
    await start();
    const leaving = new AbortController();
    const gone = fetch(`${server.url}/verify`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ rows: [row] }),
      signal: leaving.signal,
    });
    const { signal } = await asked(0);
    leaving.abort();
    await expect(gone).rejects.toThrow();
    await expect.poll(() => signal.aborted).toBe(true);
    await expect.poll(() => queue.size).toBe(0);
  });

  it('sends what waits together, and one by one where a member is no request', async () => {
    await start();
    const rows = ['a', 'b', 'c', 'd', 'e'].map((id) => ({ ...row, id, program: `# ${id}` }));
    const answer = post(server, '/verify', { rows });
    const first = await asked(0);
    expect(first.ids).toEqual(['0', '1', '2']);
    first.fail(new StageFailure('InvalidExperiment', 'Job 1 is none'));
    (await asked(1)).answer('pass');
    (await asked(2)).answer('pass');
    (await asked(3)).fail(new StageFailure('InvalidExperiment', 'it is none'));
    (await asked(4)).answer('pass');
    (await asked(5)).answer('pass');
    expect((await answer).body).toMatchObject({
      verdicts: [
        { id: 'a', passRate: 1 },
        { id: 'b', judged: false, retry: false, error: 'it is none' },
        { id: 'c', passRate: 1 },
        { id: 'd', passRate: 1 },
        { id: 'e', passRate: 1 },
      ],
    });
  });

  it('answers what it has before it ends', async () => {
    await start();
    const answer = post(server, '/verify', { rows: [row] });
    const { answer: judge } = await asked(0);
    const closed = server.close();
    await expect(post(server, '/verify', { rows: [row] })).rejects.toThrow();
    judge('pass');
    expect((await answer).status).toBe(200);
    await closed;
    await start();
  });
});

describe('a server whose supervisors are killed under load', () => {
  const FIRST = 40;
  const CLIENTS = 4;
  const REQUESTS = 6;
  const own = [FIRST, FIRST + 1].map((first) => sandboxOf(first));
  /** Programs that take their time, so that a kill meets some of them, every other one wrong. */
  const rowsOf = (client: number, request: number) =>
    [0, 1, 2, 3].map((at) => {
      const number = 100 * client + 10 * request + at;
      const spins = `import time\nwhile time.process_time() < 0.02: pass\n`;
      const program = `${spins}def f(n):\n    return n + ${number} * (n < ${at % 2 === 0 ? 2 : 1})`;
      return {
        id: String(number),
        program,
        tests: [`assert f(0) == ${number}`, `assert f(1) == ${number + 1}`],
        rate: at % 2 === 0 ? 1 : 0.5,
      };
    });

  /** The supervisors of these sandboxes, of all that this process has started. */
  const supervisors = (): number[] =>
    readdirSync('/proc/self/task')
      .flatMap((task) => readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' ').filter(Boolean))
      .filter((pid) => {
        const words = commandOf(pid).split('\0');
        return words.includes('sandbox') && own.some((_, at) => words.includes(String(FIRST + at)));
      })
      .map(Number);
  const commandOf = (pid: string): string => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    } catch {
      return '';
    }
  };

  it('gives each client its verdict or a status to ask again after, and never a wrong one', async () => {
    const server = await startVerifier(new Lanes(own, SandboxLimits.parse({})), { host: '127.0.0.1', port: 0 });
    const statuses = new Map<string, number>();
    let answers = 0;
    let kills = 0;
    const met = (path: string, status: number): void => {
      statuses.set(`${path} ${status}`, (statuses.get(`${path} ${status}`) ?? 0) + 1);
      answers += 1;
      // Every third answer, so that the load goes on between two kills at any speed of the host.
      if (answers % 3 !== 0 || kills >= 8) return;
      const [victim] = supervisors().sort(() => (kills % 2 === 0 ? 1 : -1));
      if (victim === undefined) return;
      process.kill(victim, 'SIGKILL');
      kills += 1;
    };
    const judge = async (client: number, request: number): Promise<void> => {
      let rows = rowsOf(client, request);
      while (rows.length > 0) {
        const sent = rows.map(({ rate: _, ...row }) => row);
        const { status, headers, body } = await post(server, '/verify', { rows: sent });
        met('/verify', status);
        if (status !== 200) {
          expect([status, headers.get('retry-after')]).toEqual([503, '2']);
          continue;
        }
        const { verdicts } = body as { verdicts: { judged: boolean; passRate: number; retry?: boolean }[] };
        expect(verdicts).toHaveLength(rows.length);
        for (const [at, verdict] of verdicts.entries())
          if (verdict.judged) expect(verdict.passRate, sent[at]!.program).toBe(rows[at]!.rate);
          else expect(verdict).toMatchObject({ passRate: null, retry: true });
        rows = rows.filter((_, at) => !verdicts[at]!.judged);
      }
    };
    const run = async (request: number): Promise<void> => {
      for (;;) {
        const code = `import time\nwhile time.process_time() < 0.02: pass\nprint(${request})`;
        const { status, body } = await post(server, '/run_code', { code });
        met('/run_code', status);
        const told = body as { status: string; run_result: { stdout: string } | null };
        if (status === 200) return expect([told.status, told.run_result!.stdout]).toEqual(['Success', `${request}\n`]);
        expect([status, told.status, told.run_result]).toEqual([504, 'SandboxError', null]);
      }
    };
    try {
      await Promise.all(
        Array.from({ length: CLIENTS }, async (_, client) => {
          for (let request = 0; request < REQUESTS; request += 1) {
            await judge(client, request);
            await run(request);
          }
        }),
      );
      expect(kills).toBe(8);
      // Each of them was answered once, whatever was killed.
      expect(statuses.get('/run_code 200')).toBe(CLIENTS * REQUESTS);
    } finally {
      await server.close();
      await Promise.all(own.map((sandbox) => sandbox.close()));
    }
    expect(supervisors()).toEqual([]);
  });
});
