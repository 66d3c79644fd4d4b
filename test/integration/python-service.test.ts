/** The resident Python process seen from Node: contexts, cancellation, loss, and what a killed parent leaves. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { trainingSettings } from '../../activities/runtime/checkpoints.js';
import { cancellationSignal } from '../../activities/runtime/context.js';
import { OPERATIONS } from '../../activities/runtime/operations.js';
import { PythonService, type PythonServiceOptions } from '../../activities/runtime/python-service.js';
import { ReinforcementConfig } from '../../workflows/contract/index.js';
import { root, venvPython } from '../../infra/setup/paths.mjs';
import { processTree } from '../../workers/gpu-launcher.js';
import { Attempt, failureOf } from '../fixtures/attempt.js';
import { ECHO } from '../fixtures/echo-operations.js';
import { createServices } from '../../workers/plugins/services.js';
import { GUARD_SECONDS } from '../fixtures/until.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-python-'));
mkdirSync(join(folder, 'echo_service'));
writeFileSync(join(folder, 'echo_service', '__init__.py'), '');
writeFileSync(
  join(folder, 'echo_service', '__main__.py'),
  `
import os, sys, time
sys.path.insert(0, ${JSON.stringify(join(root, 'workers'))})
from serve import ServiceError, serve

def echo(params, call):
    call.progress(1, 2, "half")
    print("what libraries print")
    return {"echo": params["value"], "pid": os.getpid()}

def garble(params, call):
    return {"pid": "twelve"}

def fail(params, call):
    raise ServiceError(params["type"], "a sentence")

def patient(params, call):
    call.progress(0, 1, "waiting")
    while not call.cancelled:
        time.sleep(0.01)
    call.checkpoint(7, "/a/folder")
    call.raise_if_cancelled()

def stubborn(params, call):
    call.progress(0, 1, "deaf")
    time.sleep(100_000)

def compute(params, call):
    end = time.process_time() + params["seconds"]
    while time.process_time() < end:
        pass
    return {"echo": "computed", "pid": os.getpid()}

def die(params, call):
    os._exit(3)

def fill(params, call):
    with open("/dev/full", "w") as file:
        file.write("more than there is room for")

class DeviceLost(Exception):
    pass

def lose(params, call):
    raise DeviceLost("the device is gone")

operations = {each.__name__: each for each in (echo, garble, fail, patient, stubborn, compute, die, fill, lose)}
serve(operations, {"echo": "1"}, useless_after=(DeviceLost,))
`,
);

const optionsOf = (graceSeconds: number): PythonServiceOptions => ({
  name: 'echo',
  python: venvPython(),
  args: ['-m', 'echo_service'],
  pythonPath: folder,
  logs: folder,
  startSeconds: GUARD_SECONDS,
  graceSeconds,
  lostAs: 'RuntimeLost',
});

const open: PythonService<typeof ECHO>[] = [];
function service(graceSeconds = GUARD_SECONDS): PythonService<typeof ECHO> {
  const made = new PythonService(ECHO, optionsOf(graceSeconds));
  open.push(made);
  return made;
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close()));
});

const alive = (pid: number): boolean => existsSync(`/proc/${pid}`);

describe('a call', () => {
  it('answers, with progress in the context of its caller and not of the one that started the process', async () => {
    const python = service();
    const context = new AsyncLocalStorage<string>();
    const seen: (string | undefined)[] = [];
    const call = (name: string): Promise<unknown> =>
      context.run(name, () =>
        python.call('echo', { value: name }, { onProgress: () => seen.push(context.getStore()) }),
      );
    expect(await call('first')).toMatchObject({ echo: 'first' });
    expect(await call('second')).toMatchObject({ echo: 'second' });
    expect(seen).toEqual(['first', 'second']);
  });

  it('refuses an answer that is not what the table says', async () => {
    await expect(service().call('garble', {})).rejects.toThrow(/echo answered garble with something else: .*"pid"/);
  });

  it('fails with the class of the error', async () => {
    const python = service();
    for (const type of ['OutOfMemory', 'RuntimeLost'])
      await expect(python.call('fail', { type })).rejects.toMatchObject({ type, message: 'a sentence' });
    await expect(python.call('fail', { type: 'ZeroDivisionError' })).rejects.toMatchObject({
      name: 'ZeroDivisionError',
    });
    await expect(python.call('fill', {})).rejects.toMatchObject({
      type: 'DiskFull',
      message: expect.stringContaining('(ACECODER_HOME) is full: [Errno 28] No space left on device'),
    });
    await expect(python.call('nothing', {})).rejects.toMatchObject({
      type: 'InvalidExperiment',
      message: expect.stringContaining("'nothing'"),
    });
  });

  it('that is cancelled delivers its last checkpoint first', async () => {
    const python = service();
    const abort = new AbortController();
    const checkpoints: number[] = [];
    const running = python.call(
      'patient',
      {},
      {
        signal: abort.signal,
        onProgress: () => abort.abort(new Error('asked to stop')),
        onCheckpoint: async ({ step }) => {
          checkpoints.push(step);
        },
      },
    );
    await expect(running).rejects.toThrow('asked to stop');
    expect(checkpoints).toEqual([7]);
  });

  it('that does not stop when asked is killed after the grace time, and the next one has a new process', async () => {
    const python = service(0.3);
    const { pid } = await python.call('echo', { value: 1 });
    const abort = new AbortController();
    const running = python.call(
      'stubborn',
      {},
      { signal: abort.signal, onProgress: () => abort.abort(new Error('asked to stop')) },
    );
    await expect(running).rejects.toThrow('asked to stop');
    expect(alive(pid)).toBe(false);
    expect(await python.call('echo', { value: 2 })).toMatchObject({ echo: 2 });
  });

  it('whose process hangs ends its activity as Stalled, and the next one has a new process', async () => {
    const python = service(0.1);
    const { pid } = await python.call('echo', { value: '' });
    process.kill(pid, 'SIGSTOP');
    const attempt = new Attempt({ idle: 5, silent: 3600, graceSeconds: GUARD_SECONDS });
    const hung = attempt.run(() => python.call('echo', { value: '' }, { signal: cancellationSignal() }));
    expect(await failureOf(hung)).toMatchObject({ type: 'Stalled', nonRetryable: false });
    await expect.poll(() => alive(pid)).toBe(false);
    expect((await python.call('echo', { value: '' })).pid).not.toBe(pid);
  });

  it('whose process computes without a word goes on', async () => {
    const python = service();
    await python.versions();
    const attempt = new Attempt({ idle: 5, silent: 3600 });
    const computing = attempt.run(() => python.call('compute', { seconds: 6 }, { signal: cancellationSignal() }));
    expect(await computing).toMatchObject({ echo: 'computed' });
  });

  it('whose process ends is lost, and says where the log is', async () => {
    const python = service();
    await expect(python.call('die', {})).rejects.toMatchObject({
      type: 'RuntimeLost',
      message: expect.stringContaining(join(folder, 'echo.log')),
    });
    expect(await python.call('echo', { value: 3 })).toMatchObject({ echo: 3 });
  });

  it('whose device is gone loses its process, and the next one has a new process', async () => {
    const python = service();
    const { pid } = await python.call('echo', { value: 1 });
    await expect(python.call('lose', {})).rejects.toMatchObject({
      type: 'RuntimeLost',
      message: expect.stringContaining('ended with code 1'),
    });
    expect(readFileSync(join(folder, 'echo.log'), 'utf8')).toContain('the device is gone');
    expect((await python.call('echo', { value: 2 })).pid).not.toBe(pid);
  });
});

describe('the model runtime', () => {
  it('has as many processes as the environment says, which compute in its numbers and end with it', async () => {
    const services = createServices({
      env: {
        ACECODER_HOME: folder,
        ACECODER_PYTHON: venvPython(),
        ACECODER_PROCESSES: '2',
        ACECODER_TORCH_THREADS: '1',
        ACECODER_CPU_DTYPE: 'bfloat16',
      },
    });
    try {
      const device = expect.stringMatching(/^(?:cpu in bfloat16|NVIDIA .*)$/) as string;
      expect(await services.models.versions()).toMatchObject({ processes: '2', threads: '1', device });
      const message = expect.stringMatching(/batchSize 12 is no multiple of microBatch 4 times 2 processes/) as string;
      await expect(
        services.models.call('trainRewardModel', {
          model: folder,
          train: folder,
          heldOut: folder,
          forms: {},
          output: folder,
          checkpoints: folder,
          config: {
            learningRate: 1e-4,
            epochs: 1,
            batchSize: 12,
            microBatch: 4,
            upperLayers: null,
            maxLength: 1,
            warmupRatio: 0,
            schedule: 'constant',
            centerRewardsCoefficient: 0,
            seed: 0,
            checkpointSeconds: 1,
          },
        }),
      ).rejects.toMatchObject({ type: 'InvalidExperiment', message });
      const ranks = [...processTree(process.pid)].filter((pid) =>
        readFileSync(`/proc/${pid}/cmdline`, 'utf8').endsWith('\0-m\0runtime\0'),
      );
      expect(ranks).toHaveLength(2);
      await services.close();
      await expect.poll(() => ranks.filter(alive)).toEqual([]);
    } finally {
      await services.close();
    }
  });

  it.each(['two', '0', ''])('is refused %j processes', (processes) => {
    expect(() => createServices({ env: { ACECODER_PROCESSES: processes } })).toThrow(
      `ACECODER_PROCESSES is ${processes}; it is the number of processes`,
    );
  });
});

describe('the fake device of the benches', () => {
  it('speaks the protocol of the model runtime', async () => {
    const fake = new PythonService(OPERATIONS, {
      ...{ ...optionsOf(GUARD_SECONDS), name: 'fake-device', pythonPath: join(root, 'workers') },
      ...{ args: [join(root, 'test/fixtures/fake_device.py')] },
    });
    open.push(fake as unknown as PythonService<typeof ECHO>);
    const at = (name: string): string => join(folder, name);
    mkdirSync(at('fake-model'));
    writeFileSync(join(at('fake-model'), 'config.json'), '{"seconds": 0, "bytes": 1000}');
    const source = { kind: 'folder', path: at('fake-model') } as const;
    await fake.call('checkModel', { source });
    await fake.call('importModel', { source, output: at('imported') });
    writeFileSync(at('requests'), `${JSON.stringify({ id: 'q', seeds: [1, 2] })}\n`);
    const sampled = { model: at('imported'), requests: at('requests'), output: at('answers'), maxRows: 1 };
    expect(await fake.call('sample', sampled)).toEqual({ rows: 2, tokens: 2 });
    writeFileSync(at('rollouts'), `${JSON.stringify({ id: 'r' })}\n`);
    const { algorithm, execution } = ReinforcementConfig.parse({});
    const { warmupRatio: _ratio, endWeight = 1, lora: _lora, ...method } = algorithm;
    const updated = await fake.call('updatePolicy', {
      ...{ policy: at('imported'), reference: at('imported'), rollouts: at('rollouts'), checkpoints: at('none') },
      ...{ output: at('updated'), state: at('state') },
      config: { ...method, endWeight, seed: 1, temperature: 1, maxNewTokens: 8, ...trainingSettings(execution) },
    });
    expect(updated.trainedIds).toEqual(['r']);
    expect(readFileSync(join(at('state'), 'optimizer.safetensors'))).toHaveLength(2001);
  });
});

describe('the process', () => {
  it('ends when its parent is killed', async () => {
    const pidFile = join(folder, 'pid');
    const script = join(folder, 'parent.mts');
    writeFileSync(
      script,
      `
import { writeFileSync } from 'node:fs';
import { PythonService } from ${JSON.stringify(join(root, 'activities/runtime/python-service.ts'))};
import { ECHO } from ${JSON.stringify(join(root, 'test/fixtures/echo-operations.ts'))};
const python = new PythonService(ECHO, ${JSON.stringify({ ...optionsOf(GUARD_SECONDS), name: 'orphan' })});
const { pid } = await python.call('echo', { value: 1 });
writeFileSync(${JSON.stringify(pidFile)}, String(pid));
await python.call('stubborn', {});
`,
    );
    const parent = spawn(process.execPath, ['--import', 'tsx', script], { stdio: 'inherit', cwd: root });
    // A file is there before it has its text.
    const pidOf = (): number => (existsSync(pidFile) ? Number(readFileSync(pidFile, 'utf8')) : 0);
    try {
      await expect.poll(pidOf).toBeGreaterThan(0);
      expect(alive(pidOf())).toBe(true);
    } finally {
      parent.kill('SIGKILL');
    }
    await expect.poll(() => alive(pidOf())).toBe(false);
    rmSync(folder, { recursive: true, force: true });
  });
});
