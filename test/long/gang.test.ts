/** A training on two hosts, which are two workers here: either is killed, and two gangs want the same two devices. */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { StageResult } from '../../workflows/contract/index.js';
import { countedSteps, gangPairs, gangTraining, memberProcesses, newestStep } from '../fixtures/gang.js';
import { artifactStore, attemptsOf, SHARED_QUEUE, startWorkflow, workerProcess } from '../fixtures/harness.js';
import { until } from '../fixtures/until.js';

const EPOCHS = 25;
const STEPS = 6 * EPOCHS;
const folder = mkdtempSync(join(tmpdir(), 'acecoder-gang-'));
/** The workers of the hosts alone serve it. */
const deviceClass = `gang-${randomUUID().slice(0, 8)}`;

interface Host {
  home: string;
  worker: ReturnType<typeof workerProcess>;
}
const start = (home: string): Host['worker'] =>
  workerProcess(
    SHARED_QUEUE,
    {
      ...inject('environment'),
      ACECODER_HOME: home,
      ACECODER_DEVICE_CLASS: deviceClass,
      ACECODER_GANG_ADDRESS: '127.0.0.1',
      CUDA_VISIBLE_DEVICES: '',
    },
    'gpu',
  );
const hosts: Host[] = [];
let pairs: string;

beforeAll(async () => {
  pairs = await gangPairs(folder);
  for (const name of ['a', 'b']) {
    const home = join(folder, name);
    hosts.push({ home, worker: start(home) });
  }
});
afterAll(async () => {
  await Promise.all(hosts.map(({ worker }) => worker.stop()));
  rmSync(folder, { recursive: true, force: true });
});

/** Waits until a member trains, at a checkpoint above a step; returns its host and process. */
function atWork(member: number, above: number, other = ''): Promise<{ host: Host; pid: number; token: string }> {
  return until(
    () =>
      hosts.flatMap((host) =>
        memberProcesses(host.worker.child.pid!)
          .filter((process) => process.member === member && process.token !== other)
          .map(({ pid, token }) => ({ host, pid, token })),
      )[0],
    (found) => found !== undefined && Math.max(...hosts.map(({ home }) => newestStep(home))) > above,
  ) as Promise<{ host: Host; pid: number; token: string }>;
}

const training = (salt: string, execution = {}, epochs = EPOCHS): unknown =>
  gangTraining({ pairs, model: inject('model'), salt, epochs, execution: { deviceClass, ...execution } });

describe('a training on two hosts', () => {
  it('makes the same model, and counts no step twice, when either member or a host is killed', async () => {
    const undisturbed = (await (await startWorkflow('rewardModel', training('calm'))).result()) as StageResult;
    expect(countedSteps(undisturbed.metrics).map(({ step }) => step)).toEqual(
      Array.from({ length: STEPS }, (_, index) => index + 1),
    );
    expect(undisturbed.metrics['environments']).toMatchObject([{ processes: 2, hosts: 2 }]);

    const handle = await startWorkflow('rewardModel', training('killed'));
    let [above, token] = [0, ''];
    for (const member of [0, 1]) {
      const found = await atWork(member, above, token);
      process.kill(found.pid, 'SIGKILL');
      ({ token } = found);
      above = Math.max(...hosts.map(({ home }) => newestStep(home)));
    }
    const { host } = await atWork(0, above, token);
    await host.worker.kill();
    host.worker = start(host.home);
    const killed = (await handle.result()) as StageResult;
    expect(killed.ref.key).not.toBe(undisturbed.ref.key);
    expect(killed.ref.digest).toBe(undisturbed.ref.digest);
    expect(countedSteps(killed.metrics)).toEqual(countedSteps(undisturbed.metrics));
    // One environment: no attempt went on elsewhere or alone.
    expect(killed.metrics['environments']).toEqual(undisturbed.metrics['environments']);
    // Every attempt has two activities, and none of them is retried by itself.
    const attempts = (await attemptsOf(handle)).filter(({ type }) => type === 'rewardModel.train');
    expect(attempts.length).toBeGreaterThanOrEqual(8);
    expect(attempts.every(({ attempt }) => attempt === 1)).toBe(true);
    expect(await artifactStore().list(`checkpoints/${killed.ref.key.split('/').at(-1)!.replace('.json', '')}`)).toEqual(
      [],
    );
  });

  it('does not wait for ever when two gangs hold one of two devices each', async () => {
    const handles = await Promise.all(
      ['one', 'other'].map((salt) => startWorkflow('rewardModel', training(salt, { hostsWaitSeconds: 3 }, 1))),
    );
    const [one, other] = (await Promise.all(handles.map((handle) => handle.result()))) as StageResult[];
    expect(one!.ref.digest).toBe(other!.ref.digest);
  });
});
