/** The launcher of GPU workers with a fake nvidia-smi: real processes, composed reports, and no GPU. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, inject, it, vi } from 'vitest';
import { identify } from '../../infra/setup/processes.mjs';
import { launch, NvidiaSmiUnavailable, nvidiaSmiOfPath, type LaunchOptions } from '../../workers/gpu-launcher.js';
import type { Assignment } from '../../workers/devices.js';
import { FakeNvidiaSmi, type ComposedGpu } from '../fixtures/fake-nvidia-smi/composed.js';
import { GUARD_SECONDS, until } from '../fixtures/until.js';

const WORKER = 'echo ready; exec sleep 600';
const STUBBORN_WORKER = 'trap "" TERM; echo ready; exec sleep 600';
const DYING_WORKER = 'exit 3';
/** Time that nvidia-smi gets where it is to take longer, in seconds. */
const SHORT_SECONDS = 0.5;
const ENTRY = fileURLToPath(new URL('../../workers/gpu.ts', import.meta.url));
const A: ComposedGpu = { uuid: 'GPU-a' };
const B: ComposedGpu = { uuid: 'GPU-b' };

let folder: string;
let fake: FakeNvidiaSmi;
const running: (() => Promise<unknown>)[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'acecoder-gpu-'));
  fake = new FakeNvidiaSmi(folder);
  for (const [name, value] of Object.entries(fake.env)) vi.stubEnv(name, value);
});
afterEach(async () => {
  for (const end of running.splice(0)) await end();
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

/** Starts a launch that looks at the GPUs every 0.1 s. A worker that takes SIGTERM gets all the time that it needs. */
function launchHere(options: Partial<LaunchOptions> & { shell?: string } = {}) {
  const { shell = WORKER, nvidiaSmi = nvidiaSmiOfPath(GUARD_SECONDS) } = options;
  const lines: string[] = [];
  const started: { assignment: Assignment; child: ChildProcess; ready: boolean }[] = [];
  const stop = new AbortController();
  let begun = 0;
  let ended = 0;
  const result = launch({
    signal: stop.signal,
    log: (line) => lines.push(line),
    healthSeconds: 0.1,
    graceSeconds: GUARD_SECONDS,
    backoffSeconds: { first: 0.1, last: 0.3 },
    startChild: (assignment) => {
      const child = spawn('sh', ['-c', shell], { stdio: ['ignore', 'pipe', 'ignore'] });
      const entry = { assignment, child, ready: false };
      started.push(entry);
      child.stdout.once('data', () => (entry.ready = true));
      return child;
    },
    ...options,
    nvidiaSmi: async (args, signal) => {
      begun += 1;
      const look = begun;
      try {
        return await nvidiaSmi(args, signal);
      } finally {
        ended = look;
      }
    },
  });
  running.push(() => {
    stop.abort();
    return result.catch(() => undefined);
  });
  /** Names of the workers that take signals as they should. */
  const alive = (): string[] =>
    started.filter(({ child, ready }) => ready && identify(child.pid!)).map(({ assignment }) => assignment.name);
  /** Waits until the launch has looked `times` more, from now on, and has done what follows from it. */
  const looks = async (times: number): Promise<void> => {
    const goal = begun + times + 1;
    await expect.poll(() => ended).toBeGreaterThanOrEqual(goal);
  };
  return { lines, started, alive, result, stop, looks };
}

describe('launch', () => {
  it('starts a worker for each healthy device, and ends all of them with the signal', async () => {
    fake.report([A, { ...B, uncorrectable: 1 }, { uuid: 'GPU-m', mig: [{ gpuInstanceId: 3 }] }]);
    const { lines, started, alive, result, stop } = launchHere();
    await expect.poll(() => lines.length).toBe(3);
    expect(started.map(({ assignment }) => assignment.cudaVisibleDevices)).toEqual(['GPU-a', 'MIG-GPU-m-0']);
    expect(lines).toEqual([
      `gpu0: worker process ${started[0]!.child.pid} serves acecoder-gpu on GPU-a`,
      'gpu1: out of service: GPU 1 counts 1 uncorrectable memory errors (ECC) since the driver was loaded: ' +
        'reset it when idle (nvidia-smi --gpu-reset -i 1).',
      `gpu2-mig0: worker process ${started[1]!.child.pid} serves acecoder-gpu on MIG-GPU-m-0`,
    ]);
    await expect.poll(alive).toEqual(['gpu0', 'gpu2-mig0']);
    stop.abort();
    expect(await result).toBe('stopped');
    expect(alive()).toEqual([]);
    expect(started.map(({ child }) => child.signalCode)).toEqual(['SIGTERM', 'SIGTERM']);
  });

  it('stops the worker of a device that stays sick, and starts it when the device is well again', async () => {
    fake.report([A, B]);
    const { lines, started, alive } = launchHere();
    await expect.poll(alive).toEqual(['gpu0', 'gpu1']);
    fake.report([A, { ...B, slowdown: ['hw_thermal_slowdown'] }]);
    await expect.poll(alive).toEqual(['gpu0']);
    await expect.poll(() => started[1]!.child.signalCode).toBe('SIGTERM');
    expect(lines).toContain(
      'gpu1: out of service: GPU 1 is slowed down by its hardware (hw_thermal_slowdown; 61 °C; 212.5 W): ' +
        'check cooling and power supply.',
    );
    fake.report([A, B]);
    await expect.poll(alive).toEqual(['gpu0', 'gpu1']);
    expect(lines).toContain('gpu1: back in service');
    expect(started).toHaveLength(3);
  });

  it('tells the memory of its workers from that of others', async () => {
    fake.report([A]);
    const { lines, started, alive, looks } = launchHere();
    await expect.poll(alive).toEqual(['gpu0']);
    const own = { pid: started[0]!.child.pid!, usedMiB: 70_000 };
    fake.report([{ ...A, freeMiB: 9_000, processes: [own] }]);
    await looks(3);
    expect(alive()).toEqual(['gpu0']);
    fake.report([{ ...A, freeMiB: 0, processes: [own, { pid: process.ppid, name: 'stranger', usedMiB: 9_000 }] }]);
    await expect.poll(alive).toEqual([]);
    await expect.poll(() => lines.filter((line) => line.endsWith('was ended by SIGTERM'))).toHaveLength(1);
    // Later looks find the memory of the worker that has ended, too.
    expect(lines.find((line) => line.includes('not of this launcher'))).toContain(
      '8.8 GiB of 80.0 GiB are held by processes that are not of this launcher, ' +
        `most by process ${process.ppid} (stranger)`,
    );
  });

  it('starts a worker again that was killed', async () => {
    fake.report([A]);
    const { lines, started } = launchHere();
    await expect.poll(() => started.length).toBe(1);
    process.kill(started[0]!.child.pid!, 'SIGKILL');
    await expect.poll(() => started.length).toBe(2);
    expect(lines[1]).toBe('gpu0: worker process was ended by SIGKILL; it starts again in 0.1 s');
  });

  it('waits longer each time a worker ends at once, up to a limit', async () => {
    fake.report([A]);
    const { lines } = launchHere({ shell: DYING_WORKER });
    const waits = (): string[] =>
      lines.filter((line) => line.includes('ended')).map((line) => line.replace(/.*ended /, ''));
    await expect
      .poll(() => waits().slice(0, 4))
      .toEqual([0.1, 0.2, 0.3, 0.3].map((seconds) => `with code 3; it starts again in ${seconds} s`));
  });

  it('reports a worker that cannot be started, and tries again', async () => {
    fake.report([A]);
    const { lines } = launchHere({ startChild: () => spawn(join(folder, 'nothing')) });
    await expect.poll(() => lines.filter((line) => line.includes('could not be started')).length).toBeGreaterThan(1);
  });

  it('kills a worker that does not end in time', async () => {
    fake.report([A]);
    const { lines, started, alive, result, stop } = launchHere({ shell: STUBBORN_WORKER, graceSeconds: 0.5 });
    await expect.poll(alive).toEqual(['gpu0']);
    stop.abort();
    await result;
    expect(lines.slice(1)).toEqual([
      `gpu0: worker process ${started[0]!.child.pid} did not end within 0.5 s and is killed`,
      'gpu0: worker process was ended by SIGKILL',
    ]);
    expect(alive()).toEqual([]);
  });

  it.each([
    [
      'fails',
      () => fake.fail('Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.'),
      'nvidia-smi -q -x failed with 9: Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.',
    ],
    ['hangs', () => fake.hang(), `nvidia-smi -q -x gave no answer within ${SHORT_SECONDS} s.`],
    [
      'prints half a report',
      () => fake.print('<nvidia_smi_log><gpu id="0">'),
      'The output of nvidia-smi -q -x cannot be read: the XML ends before </nvidia_smi_log> (line 1, column 29)',
    ],
  ])('keeps what runs while nvidia-smi %s, and says so once', async (_, breakIt, problem) => {
    fake.report([A]);
    // A short time only for what hangs: whatever answers may take as long as this host needs.
    const [short, long] = [nvidiaSmiOfPath(SHORT_SECONDS), nvidiaSmiOfPath(GUARD_SECONDS)];
    const { lines, started, alive, looks } = launchHere({
      nvidiaSmi: (...asked) =>
        fake.hangs
          ? short(...asked).finally(() =>
              until(
                () => fake.hanging(),
                (pid) => pid === undefined,
              ),
            )
          : long(...asked),
    });
    await expect.poll(alive).toEqual(['gpu0']);
    breakIt();
    await expect.poll(() => lines.length).toBe(2);
    await looks(3);
    fake.report([A]);
    await expect.poll(() => lines.length).toBe(3);
    expect(lines.slice(1)).toEqual([
      `${problem} What runs goes on; asked again every 0.1 s.`,
      'nvidia-smi answers again',
    ]);
    expect(started).toHaveLength(1);
  });

  it('starts nothing until nvidia-smi has answered', async () => {
    fake.fail("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.");
    const { lines, started, alive } = launchHere();
    await expect.poll(() => lines.length).toBe(1);
    expect(lines[0]).toContain('No worker is started; asked again every 0.1 s.');
    expect(started).toEqual([]);
    fake.report([A]);
    await expect.poll(alive).toEqual(['gpu0']);
  });

  it('says that there is no GPU without nvidia-smi, and where it finds none', async () => {
    fake.print('No devices were found');
    expect(await launchHere().result).toBe('noGpu');
    fake.report([]);
    expect(await launchHere().result).toBe('noGpu');
    vi.stubEnv('PATH', folder);
    expect(await launchHere().result).toBe('noGpu');
  });

  it('refuses a host whose GPUs cannot be used', async () => {
    fake.report([{ uuid: 'GPU-m', mig: [] }]);
    const { lines, result } = launchHere();
    await expect(result).rejects.toThrow('No GPU of this host can be given to a worker.');
    expect(lines).toEqual([expect.stringContaining('GPU 0 is in MIG mode and has no instance')]);
  });
});

describe('nvidia-smi of PATH', () => {
  it('ends a run that gives no answer', async () => {
    fake.hang();
    await expect(nvidiaSmiOfPath(0.3)(['-q', '-x'])).rejects.toThrow(
      new NvidiaSmiUnavailable('nvidia-smi -q -x gave no answer within 0.3 s.'),
    );
    await expect.poll(() => fake.hanging()).toBeUndefined();
  });
});

/** Environment of the entry as a process of the run's stack; of two GPUs, the first is of a class. */
function environmentOf(more: Record<string, string> = {}): Record<string, string> {
  return { ...inject('environment'), ...fake.env, ACECODER_GPU_CLASSES: '{"train": {"gpus": 1}}', ...more };
}

describe('workers/gpu.ts', () => {
  const command = ['--import', import.meta.resolve('tsx'), ENTRY];
  const list = (env: Record<string, string>): Promise<{ stdout: string }> =>
    promisify(execFile)(process.execPath, [...command, '--list'], { env });

  it('lists what it would start', async () => {
    fake.report([{ ...A, processes: [{ pid: 1, name: 'init', usedMiB: 20_480 }] }, B]);
    const { stdout } = await list(environmentOf());
    expect(stdout.split('\n')).toEqual([
      'gpu0  acecoder-gpu-train  GPU-a  out of service: GPU 0 is used by others: 20.0 GiB of 80.0 GiB are held by ' +
        'processes that are not of this launcher, most by process 1 (init).',
      'gpu1  acecoder-gpu  GPU-b  healthy',
      '',
    ]);
  });

  it('says in one sentence what is wrong', async () => {
    fake.fail('driver not loaded');
    await expect(list(environmentOf())).rejects.toMatchObject({
      code: 1,
      stderr: 'nvidia-smi -q -x failed with 9: driver not loaded\n',
    });
    await expect(list(environmentOf({ ACECODER_GPU_HEALTH_SECONDS: 'often' }))).rejects.toMatchObject({
      code: 1,
      stderr: 'ACECODER_GPU_HEALTH_SECONDS is often; it is a number of seconds above 0, a day at most.\n',
    });
  });

  it('starts no worker for an allocation that is about to end', async () => {
    fake.report([A, B]);
    // With the most grace, workers end more than an hour before.
    const end = new Date(Date.now() + 3_600_000).toISOString();
    const env = environmentOf({ ACECODER_GRACE_SECONDS: '3600', ACECODER_DEADLINE: end });
    const { stdout } = await promisify(execFile)(process.execPath, command, { env });
    expect(stdout).toBe(`The allocation ends at ${end} (ACECODER_DEADLINE): this worker takes no more work.\n`);
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'binds workers to GPUs and queues, and leaves no process after %s',
    async (signal) => {
      fake.report([A, B, { uuid: 'GPU-c' }]);
      const base = `launcher-${signal.toLowerCase()}`;
      const launcher = spawn(process.execPath, command, {
        env: environmentOf({
          ACECODER_QUEUE: base,
          ACECODER_GPU_CLASSES: '{"train": {"gpus": 2}}',
          // The launcher ends its workers, and tells them no time.
          ACECODER_DEADLINE: '2100-01-01T00:00:00Z',
        }),
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      let output = '';
      launcher.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
      const pids = (): number[] => [...output.matchAll(/worker process (\d+) serves/g)].map(([, pid]) => Number(pid));
      running.push(async () => {
        launcher.kill('SIGKILL');
        for (const pid of pids()) if (identify(pid)) process.kill(pid, 'SIGKILL');
      });
      const queues = (): string[] =>
        [...output.matchAll(/workers of gpu serve (\S+)/g)].map(([, queue]) => queue!).sort();
      await expect.poll(queues).toEqual([`${base}-gpu`, `${base}-gpu-train`]);
      const environments = pids().map((pid) =>
        readFileSync(`/proc/${pid}/environ`, 'utf8')
          .split('\0')
          .filter((entry) => /^(CUDA_VISIBLE_DEVICES|ACECODER_(DEVICE|PROCESSES|DEADLINE))/.test(entry))
          .sort(),
      );
      expect(environments).toEqual([
        [
          'ACECODER_DEVICE=gpu0-1',
          'ACECODER_DEVICE_CLASS=train',
          'ACECODER_PROCESSES=2',
          'CUDA_VISIBLE_DEVICES=GPU-a,GPU-b',
        ],
        ['ACECODER_DEVICE=gpu2', 'ACECODER_PROCESSES=1', 'CUDA_VISIBLE_DEVICES=GPU-c'],
      ]);
      const ended = once(launcher, 'exit');
      launcher.kill(signal);
      expect(await ended).toEqual(signal === 'SIGTERM' ? [0, null] : [null, signal]);
      // Workers whose launcher was killed hear of it themselves.
      if (signal === 'SIGKILL') await expect.poll(() => pids().map(identify)).toEqual([undefined, undefined]);
      expect(pids().map(identify)).toEqual([undefined, undefined]);
    },
  );
});
