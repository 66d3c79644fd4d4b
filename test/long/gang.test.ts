/** A training on two hosts, which are two workers here: either is killed, and two gangs want the same two devices. */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { roundsOf } from '../../activities/artifacts/pruning.js';
import { writeRows } from '../../activities/artifacts/rows.js';
import { FilteredQuestionRow, type StageResult } from '../../workflows/contract/index.js';
import { artifactsOf, firstRun, micro, rowsOf } from '../fixtures/chain.js';
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

describe('policy updates on two hosts', () => {
  it('make the same policies when either member is killed', async () => {
    const questions = join(folder, 'questions.jsonl');
    const { filtering } = artifactsOf(await firstRun());
    await writeRows(questions, await rowsOf<FilteredQuestionRow>(filtering, FilteredQuestionRow));
    const { algorithm, ...stage } = micro('gang').stages.reinforcement;
    const rounds = (options: object): unknown => ({
      inputs: {
        questions: { kind: 'filteredQuestions', path: questions },
        policy: { kind: 'folder', path: inject('model') },
      },
      config: {
        ...{ ...stage, reward: {}, rounds: 2, seed: 21 },
        algorithm: { ...(algorithm as object), epochs: 20, batchSize: 4, ...options },
        execution: { deviceClass, hosts: 2, microBatch: 2, checkpointSeconds: 0.001 },
      },
    });
    const policiesOf = async ({ ref }: StageResult) => {
      const store = artifactStore();
      return Promise.all([...(await roundsOf(store, ref)).values()].map((each) => store.manifest(each)));
    };
    const calm = await policiesOf((await (await startWorkflow('reinforcement', rounds({}))).result()) as StageResult);
    expect(calm).toHaveLength(2);
    for (const { metrics } of calm) expect(metrics['environments']).toMatchObject([{ processes: 2, hosts: 2 }]);

    // Its default, written down, gives updates keys of their own, and leaves what they make untouched.
    const handle = await startWorkflow('reinforcement', rounds({ endWeight: 1 }));
    let token = '';
    for (const member of [0, 1]) {
      const found = await atWork(member, 0, token);
      process.kill(found.pid, 'SIGKILL');
      ({ token } = found);
    }
    const killed = await policiesOf((await handle.result()) as StageResult);
    expect(killed.map(({ stageKey }) => stageKey)).not.toEqual(calm.map(({ stageKey }) => stageKey));
    expect(killed.map(({ digest }) => digest)).toEqual(calm.map(({ digest }) => digest));
    expect(killed.map(({ metrics }) => metrics['steps'])).toEqual(calm.map(({ metrics }) => metrics['steps']));
    const attempts = (await attemptsOf(handle)).filter(({ type }) => type === 'reinforcement.update');
    expect(attempts.length, 'two for each round, and two for each kill').toBeGreaterThanOrEqual(8);
  });
});
