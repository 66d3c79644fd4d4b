// The set-up's own logic, on a small checkout whose npm, Python, uv and Go are scripts that do at once what the real
// ones do in minutes.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { identify } from './processes.mjs';

let folder: string;
let checkout: string;

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'acecoder-setup-')));
  checkout = join(folder, 'checkout');
  for (const path of [
    'checkout/infra/setup',
    'checkout/infra/tools',
    'checkout/workers/runtime',
    'checkout/workers/vllm_engine',
    'checkout/infra/nvidia-smi-parser/src',
    'bin',
    'user',
  ]) {
    mkdirSync(join(folder, path), { recursive: true });
  }
  for (const file of ['setup.mjs', 'paths.mjs', 'processes.mjs', 'uv.lock.txt']) {
    copyFileSync(fileURLToPath(new URL(file, import.meta.url)), join(checkout, 'infra/setup', file));
  }
  write('infra/tools/go.mod', 'module tools\nrequire github.com/temporalio/cli v1.8.2\n');
  write('infra/tools/go.sum', '');
  write('infra/tools/tools.go', 'package tools\n');
  write('workers/runtime/requirements.lock', 'torch==2.15.0\n');
  write('workers/vllm_engine/requirements.lock', 'vllm==0.33.0\n');
  write('infra/nvidia-smi-parser/src/index.ts', '');
  write(
    'tsc.js',
    `const { appendFileSync, mkdirSync, writeFileSync } = require('fs');
    const [, , mode, project] = process.argv;
    appendFileSync('${folder}/calls', 'tsc ' + mode + '\\n');
    mkdirSync(project + '/dist', { recursive: true });
    writeFileSync(project + '/dist/.tsbuildinfo', '');`,
  );
  write('package-lock.json', JSON.stringify({ packages: { '': {}, 'node_modules/zod': { version: '4.6.0' } } }));

  script(
    'npm',
    `mkdir -p node_modules; echo $$ > ${folder}/npm.pid
    sleep \${NPM_SECONDS:-0}; mkdir -p node_modules/typescript/bin; cp tsc.js node_modules/typescript/bin/tsc; cp package-lock.json node_modules/.package-lock.json`,
  );
  script('python3', `echo ${join(folder, 'bin/python3')} 3 11`);
  script(
    'uv',
    `case $1 in
    --version) echo uv 0.13.9;;
    venv) for dir; do :; done; mkdir -p $dir/bin; cp $0 $dir/bin/python;;
  esac`,
  );
  script(
    'go',
    `case $1 in
    env) printf 'go1.26.4\\n${folder}/modules\\n${folder}/build\\n';;
    build) while [ "$1" != -o ]; do shift; done; cp $0 $2/temporal; cp $0 $2/minio;;
  esac`,
  );
  script('bwrap', 'true');
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(path: string, text: string): void {
  writeFileSync(join(checkout, path), text);
}

/** A command on PATH, which also notes that it was called. */
function script(name: string, body: string): void {
  const path = join(folder, 'bin', name);
  writeFileSync(path, `#!/bin/sh\nPATH=/usr/bin:/bin\necho ${name} $1 >> ${folder}/calls\n${body}\n`);
  chmodSync(path, 0o755);
}

/** The commands that were called since the last time this was asked, in no order. */
function calls(): string[] {
  const path = join(folder, 'calls');
  const lines = existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n').sort() : [];
  rmSync(path, { force: true });
  return lines;
}

const INSTALLS = ['go build', 'npm ci', 'tsc -b', 'uv pip', 'uv venv'];
const installs = (): string[] => calls().filter((call) => INSTALLS.includes(call));

/** Waits for npm to be at work; returns its pid. */
async function npmAtWork(): Promise<number> {
  const path = join(folder, 'npm.pid');
  await expect.poll(() => existsSync(path) && readFileSync(path, 'utf8'), { timeout: 10_000 }).toMatch(/\d\n$/);
  return Number(readFileSync(path, 'utf8'));
}

function start(environment: Record<string, string> = {}, options: string[] = []) {
  const child = spawn(process.execPath, [join(checkout, 'infra/setup/setup.mjs'), ...options], {
    env: { PATH: join(folder, 'bin'), HOME: join(folder, 'user'), ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
  return { child, end: once(child, 'close').then(([code]) => ({ code: code as number, output })) };
}

describe('set-up', { timeout: 30_000 }, () => {
  it('installs everything once, and then nothing', async () => {
    expect((await start().end).code).toBe(0);
    expect(installs()).toEqual(INSTALLS);
    for (const path of ['bin/temporal', 'bin/minio', 'venv/bin/python']) {
      expect(existsSync(join(checkout, '.acecoder', path)), path).toBe(true);
    }
    const again = await start().end;
    expect(again.code).toBe(0);
    expect(again.output).toMatch(/^\[set-up [01]\.\d s\] everything is installed\n$/);
    expect(calls()).toEqual([]);
  });

  it('installs vLLM into an environment of its own only when it is asked for', async () => {
    expect((await start().end).code).toBe(0);
    expect(installs()).toEqual(INSTALLS);
    expect(existsSync(join(checkout, '.acecoder/vllm'))).toBe(false);
    expect((await start({}, ['--vllm']).end).code).toBe(0);
    expect(installs()).toEqual(['uv pip', 'uv venv']);
    expect(existsSync(join(checkout, '.acecoder/vllm/bin/python'))).toBe(true);
    expect((await start({}, ['--vllm']).end).code).toBe(0);
    expect(calls()).toEqual([]);
  });

  it('redoes what changed', async () => {
    await start().end;
    calls();
    write('workers/runtime/requirements.lock', 'torch==2.16.0\n');
    expect((await start().end).code).toBe(0);
    expect(installs()).toEqual(['uv pip', 'uv venv']);
    write('package-lock.json', JSON.stringify({ packages: { 'node_modules/zod': { version: '4.7.0' } } }));
    expect((await start().end).code).toBe(0);
    expect(installs()).toEqual(['npm ci']);
    write('infra/nvidia-smi-parser/src/index.ts', '// changed');
    expect((await start().end).code).toBe(0);
    expect(installs()).toEqual(['tsc -b']);
  });

  it('uses good tools on PATH instead of building them', async () => {
    rmSync(join(folder, 'bin/go'));
    script('temporal', 'echo "temporal version 1.8.2 (Server 1.31.2, UI 2.50.1)"');
    script('minio', 'echo minio version RELEASE.2025-09-07T16-13-09Z');
    expect((await start().end).code).toBe(0);
    expect(realpathSync(join(checkout, '.acecoder/bin/temporal'))).toBe(join(folder, 'bin/temporal'));
    calls();
    expect((await start().end).code).toBe(0);
    expect(calls()).toEqual([]);
  });

  it.each(['SIGKILL', 'SIGTERM', 'SIGINT'] as const)('is completed by the next one after %s', async (signal) => {
    const first = start({ NPM_SECONDS: '60' });
    const npm = await npmAtWork();
    first.child.kill(signal);
    await first.end;
    const second = await start().end;
    expect(identify(npm)).toBeUndefined();
    expect(second).toMatchObject({ code: 0, output: expect.stringContaining('everything is installed') });
    expect(second.output).not.toContain('waiting');
    expect(installs().filter((call) => call === 'npm ci')).toHaveLength(2);
  });

  it('waits for another one in the same checkout, and then has nothing to do', async () => {
    const first = start({ NPM_SECONDS: '2' });
    await npmAtWork();
    const second = await start().end;
    expect((await first.end).code).toBe(0);
    expect(second).toMatchObject({
      code: 0,
      output: expect.stringContaining(`waiting for the set-up that process ${first.child.pid} is running`),
    });
    expect(installs()).toEqual(INSTALLS);
  });

  it('tells what failed, and stops the rest', async () => {
    script(
      'uv',
      `[ $1 = --version ] && echo uv 0.13.9 && exit
      until [ -s ${folder}/npm.pid ]; do sleep 0.02; done; echo no such package; exit 2`,
    );
    const { code, output } = await start({ NPM_SECONDS: '60' }).end;
    expect(code).toBe(1);
    const log = join(checkout, '.acecoder/logs/setup-venv.log');
    expect(output).toContain(`uv venv failed (2); from ${log}:\nno such package\n`);
    expect(identify(await npmAtWork())).toBeUndefined();
  });

  it.each<[string, () => void, string]>([
    [
      'npm',
      () => rmSync(join(folder, 'bin/npm')),
      'npm is not on PATH: install Node.js 20.19 or newer together with its npm.',
    ],
    [
      'a new Python',
      () => script('python3', 'echo /usr/bin/python3 3 9'),
      'Python 3.11 or newer is needed (PYTHON is 3.9): install it.',
    ],
    [
      'pip',
      () => {
        rmSync(join(folder, 'bin/uv'));
        script('python3', `[ "$1" = -c ] && echo ${join(folder, 'bin/python3')} 3 12`);
      },
      'PYTHON has no pip: install it (on Debian: apt-get install python3-pip), or uv.',
    ],
    [
      'a new Go',
      () => script('go', `echo 'go: go.mod requires go >= 1.26.4 (running go 1.24.0; GOTOOLCHAIN=local)' >&2; exit 1`),
      'Go 1.26 or newer is needed to build Temporal and MinIO, and GO is not ' +
        '(go: go.mod requires go >= 1.26.4 (running go 1.24.0; GOTOOLCHAIN=local)): install a newer one.',
    ],
  ])('says in one sentence that %s is missing', async (_what, remove, sentence) => {
    remove();
    const { code, output } = await start().end;
    expect(code).toBe(1);
    const bin = join(folder, 'bin');
    const expected = sentence.replace('PYTHON', join(bin, 'python3')).replace('GO is', `${join(bin, 'go')} is`);
    expect(output).toBe(`${expected}\n`);
    expect(installs()).toEqual([]);
  });
});
