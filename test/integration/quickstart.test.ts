/** The quickstart command as a person uses it: Ctrl-C, a killed worker, and running it again. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { home as acecoderHome } from '../../infra/setup/paths.mjs';
import { Summary } from '../../workflows/contract/index.js';
import { HeldRuntime } from '../fixtures/held-runtime.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { until } from '../fixtures/until.js';

const home = mkdtempSync(join(tmpdir(), 'acecoder-quickstart-'));
const experiment = join(home, 'experiment.json');
/** In the place of the environment's Python: the training of the reward model waits for the test. */
const runtime = new HeldRuntime(join(home, 'held'));

interface Run {
  child: ChildProcess;
  output: () => string;
  /** Waits until the output matches. */
  says: (pattern: RegExp) => Promise<unknown>;
  exit: Promise<number | null>;
}

function quickstart(...args: string[]): Run {
  const script = fileURLToPath(new URL('../../infra/commands/quickstart.ts', import.meta.url));
  const child = spawn(
    process.execPath,
    [
      '--import',
      'tsx',
      script,
      '--experiment',
      experiment,
      '--port',
      '0',
      '--ui-port',
      '0',
      '--store-port',
      '0',
      '--store',
      inject('stack').store,
      ...args,
    ],
    {
      // A profile of the user's that must not be read: nothing answers there.
      env: {
        ...process.env,
        ACECODER_HOME: home,
        ACECODER_TORCH_THREADS: '1',
        TEMPORAL_ADDRESS: '127.0.0.1:1',
        TEMPORAL_NAMESPACE: 'production',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  const exit = once(child, 'exit').then(([code]) => code as number | null);
  const says = (pattern: RegExp): Promise<unknown> =>
    until(
      () => output,
      (text) => {
        if (pattern.test(text)) return true;
        if (child.exitCode !== null) throw new Error(`quickstart did not say ${pattern}:\n${text}`);
        return false;
      },
    );
  return { child, output: () => output, says, exit };
}

/** Processes of this home: by an environment that names it. */
function processesOfHome(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
    .flatMap((pid) => {
      try {
        const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
        return environment.includes(home) || command.includes(home) ? [`${pid} ${command}`] : [];
      } catch {
        return [];
      }
    });
}

describe('quickstart', () => {
  beforeAll(() => {
    symlinkSync(join(acecoderHome(), 'bin'), join(home, 'bin'));
    mkdirSync(join(home, 'venv/bin'), { recursive: true });
    symlinkSync(join(acecoderHome(), 'venv/lib'), join(home, 'venv/lib'));
    symlinkSync(runtime.python, join(home, 'venv/bin/python'));
    writeFileSync(experiment, JSON.stringify(microExperiment('micro', inject('seeds'), inject('model'))));
  });

  afterAll(() => {
    for (const line of processesOfHome()) process.kill(Number(line.split(' ')[0]), 'SIGKILL');
    rmSync(home, { recursive: true, force: true });
  });

  it('is stopped by Ctrl-C without leaving a process, and goes on where it was', async () => {
    runtime.hold('trainRewardModel');
    const first = quickstart();
    await first.says(/rewardModel +running/);
    first.child.kill('SIGINT');
    expect(await first.exit, first.output()).toBe(130);
    expect(first.output()).toContain('goes on from here');
    await expect.poll(processesOfHome).toEqual([]);

    const second = quickstart();
    await second.says(/is running; following it/);
    await second.says(/rewardModel +running/);
    const workers = JSON.parse(readFileSync(join(home, 'workers.json'), 'utf8')) as { pid: number };
    process.kill(workers.pid, 'SIGKILL');
    runtime.release('trainRewardModel');
    await second.says(/The workers had died and were started again/);
    expect(await second.exit, second.output()).toBe(0);
    const report = /Report: +(.+)/.exec(second.output())![1]!;
    expect(existsSync(report)).toBe(true);
    const summary = Summary.parse(JSON.parse(readFileSync(/Summary: +(.+)/.exec(second.output())![1]!, 'utf8')));
    expect(summary.assertions.every(({ ok }) => ok)).toBe(true);
    await expect.poll(processesOfHome).toEqual([]);

    const third = quickstart();
    expect(await third.exit, third.output()).toBe(0);
    expect(third.output()).toContain('has finished');
    expect(third.output()).toContain(report);
  });
});
