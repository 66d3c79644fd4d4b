/** Work that is killed, paused, cancelled or terminated in the middle, and what comes of it. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, inject, it } from 'vitest';
import { type ArtifactRef } from '../../workflows/contract/index.js';
import { HeldRuntime } from '../fixtures/held-runtime.js';
import {
  artifactStore,
  breakingStore,
  queryOf,
  startWorkflow,
  statusWhere,
  temporalCli,
  temporalClient,
  workerProcess,
} from '../fixtures/harness.js';

import { artifactsOf, checkpointsOf, firstRun, micro } from '../fixtures/chain.js';

/** A worker process whose runtime the tests hold, for those that leave it alive. */
let held: (ReturnType<typeof workerProcess> & { runtime: HeldRuntime; queue: string }) | undefined;
function heldWorker(): NonNullable<typeof held> {
  const queue = 'held';
  const runtime = new HeldRuntime(join(inject('stack').home, queue));
  held ??= {
    ...workerProcess(queue, { ...inject('environment'), ACECODER_PYTHON: runtime.python }),
    runtime,
    queue,
  };
  return held;
}
afterAll(() => held?.stop());

describe('a training', () => {
  it(
    'makes the same reward model when its worker is killed twice: from a checkpoint of its host, and of the store',
    { tags: 'long' },
    async () => {
      const { rewardModel, preferences } = artifactsOf(await firstRun());
      const store = artifactStore();
      const { inputs } = await store.manifest(rewardModel);
      // A salt of its own gives the training a key of its own, and leaves what it makes untouched.
      const config = { ...micro('kill').stages.rewardModel, salt: 'killed' };
      const queue = 'kill';
      const runtime = new HeldRuntime(join(inject('stack').home, queue));
      const environment: Record<string, string> = { ...inject('environment'), ACECODER_PYTHON: runtime.python };
      const otherHome = mkdtempSync(join(tmpdir(), 'acecoder-other-host-'));
      const other = { ...environment, ACECODER_HOME: otherHome };
      let workers = workerProcess(queue, environment);
      const resumed = ({ ACECODER_HOME: home }: Record<string, string>): RegExpExecArray | null => {
        const log = readFileSync(join(home!, 'logs', `workers-${queue}.log`), 'utf8');
        return /resuming from step [1-9]\d*, of a checkpoint of ([a-z]+ [a-z]+)/.exec(log);
      };
      try {
        runtime.hold('trainRewardModel');
        const handle = await startWorkflow(
          'rewardModel',
          { inputs: { pairs: preferences, backbone: inputs['backbone'] }, config },
          { taskQueue: queue },
        );
        const checkpoints = checkpointsOf(await runtime.held('trainRewardModel'));
        await expect.poll(checkpoints).not.toEqual([]);
        await workers.kill();
        // What the host has is all there is.
        await store.remove(await checkpoints());
        runtime.hold('trainRewardModel');
        workers = workerProcess(queue, environment);
        await runtime.held('trainRewardModel');
        expect(resumed(environment)?.[1]).toBe('this host');
        await expect.poll(checkpoints).not.toEqual([]);
        await workers.kill();
        // What the store has is all that another host finds.
        runtime.release('trainRewardModel');
        workers = workerProcess(queue, other);
        const result = (await handle.result()) as { ref: ArtifactRef; reused: boolean };
        expect(resumed(other)?.[1]).toBe('the store');
        expect(result.ref.key).not.toBe(rewardModel.key);
        expect(result.ref.digest).toBe(rewardModel.digest);
        const { producer, stageKey } = await store.manifest(result.ref);
        expect(producer.attempt, 'the attempt that finished the training').toBeGreaterThan(2);
        expect(await checkpoints()).toEqual([]);
        expect(existsSync(join(otherHome, 'cache', 'checkpoints', stageKey))).toBe(false);
      } finally {
        await workers.stop();
        rmSync(otherHome, { recursive: true, force: true });
      }
    },
  );

  it(
    'makes the same reward model when the training is paused at a checkpoint and resumed',
    { tags: 'long' },
    async () => {
      const { rewardModel, preferences } = artifactsOf(await firstRun());
      const { inputs } = await artifactStore().manifest(rewardModel);
      const config = { ...micro('pause').stages.rewardModel, salt: 'paused' };
      const { runtime, queue: taskQueue } = heldWorker();
      runtime.hold('trainRewardModel');
      const handle = await startWorkflow(
        'rewardModel',
        { inputs: { pairs: preferences, backbone: inputs['backbone'] }, config },
        { taskQueue },
      );
      const checkpoints = checkpointsOf(await runtime.held('trainRewardModel'));
      await expect.poll(checkpoints).not.toEqual([]);
      await handle.signal('pause');
      const { state } = await queryOf<{ state: string }>(handle, 'status');
      expect(state).toBe('paused');
      const pending = async (): Promise<number> => (await handle.describe()).raw.pendingActivities?.length ?? 0;
      await expect.poll(pending).toBe(0);
      expect((await handle.describe()).status.name).toBe('RUNNING');
      expect(await checkpoints()).not.toEqual([]);
      runtime.release('trainRewardModel');
      await handle.signal('resume');
      const result = (await handle.result()) as { ref: ArtifactRef };
      expect(result.ref.digest).toBe(rewardModel.digest);
    },
  );

  it(
    'makes the same reward model at once when checkpoints cannot be stored, and says so meanwhile',
    { tags: 'long' },
    async () => {
      const { rewardModel, preferences } = artifactsOf(await firstRun());
      const { inputs } = await artifactStore().manifest(rewardModel);
      const config = { ...micro('away').stages.rewardModel, salt: 'away' };
      const broken: string[] = [];
      const away = await breakingStore(
        ({ method, url }) => method === 'PUT' && url!.includes('/checkpoints/') && broken.push(url!) > 0,
      );
      const runtime = new HeldRuntime(join(inject('stack').home, 'away'));
      const workers = workerProcess('away', { ...away.environment, ACECODER_PYTHON: runtime.python });
      try {
        runtime.hold('trainRewardModel');
        const handle = await startWorkflow(
          'rewardModel',
          { inputs: { pairs: preferences, backbone: inputs['backbone'] }, config },
          { taskQueue: 'away' },
        );
        const messages = async (): Promise<string> =>
          JSON.stringify(
            ((await handle.describe()).raw.pendingActivities ?? []).flatMap(({ heartbeatDetails }) =>
              (heartbeatDetails?.payloads ?? []).map(
                ({ data }) => JSON.parse(Buffer.from(data!).toString()) as unknown,
              ),
            ),
          );
        await expect
          .poll(messages)
          .toMatch(
            /the checkpoint of step \d+ is not stored: the store at http:\S+ \(ACECODER_S3_ENDPOINT\) does not answer/,
          );
        runtime.release('trainRewardModel');
        const { ref } = (await handle.result()) as { ref: ArtifactRef };
        expect(ref.digest).toBe(rewardModel.digest);
        expect(broken).not.toEqual([]);
        expect((await artifactStore().manifest(ref)).producer.attempt).toBe(1);
      } finally {
        await workers.stop();
        away.close();
      }
    },
  );
});

describe('cancelling', () => {
  it('ends the experiment and its stage', async () => {
    const experiment = micro('cancelled');
    const { runtime, queue: taskQueue } = heldWorker();
    runtime.hold('sample');
    const handle = await startWorkflow(
      'experiment',
      {
        ...experiment,
        stages: { ...experiment.stages, sampling: { ...experiment.stages.sampling, samples: 64, salt: 'cancelled' } },
      },
      { taskQueue },
    );
    await statusWhere(handle, ({ stages }) =>
      stages.some(({ name, state }) => name === 'sampling' && state === 'running'),
    );
    await runtime.held('sample');
    await handle.cancel();
    await expect(handle.result()).rejects.toThrow();
    expect((await handle.describe()).status.name).toBe('CANCELLED');
    const child = (await temporalClient()).workflow.getHandle(`${handle.workflowId}/sampling`);
    await expect.poll(async () => (await child.describe()).status.name).toBe('CANCELLED');
    runtime.release('sample');
  });
});

describe('a reset of a terminated experiment', () => {
  it('starts the stage again that was ended with it, as soon as somebody asks', { tags: 'long' }, async () => {
    const { runtime, queue: taskQueue } = heldWorker();
    runtime.hold('sample');
    const experiment = micro('terminated');
    const sampling = { ...experiment.stages.sampling, samples: 64, salt: 'terminated' };
    const handle = await startWorkflow(
      'experiment',
      { ...experiment, stages: { ...experiment.stages, sampling } },
      { taskQueue },
    );
    await statusWhere(handle, ({ stages }) =>
      stages.some(({ name, state }) => name === 'sampling' && state === 'running'),
    );
    const { workflow } = await temporalClient();
    const child = workflow.getHandle(`${handle.workflowId}/sampling`);
    // The experiment says `running` before the server has the child. A held runtime may be that of an earlier test.
    await expect.poll(async () => (await child.describe()).raw.pendingActivities?.length).toBeGreaterThan(0);
    await handle.terminate('somebody did');
    await expect.poll(async () => (await child.describe()).status.name).toBe('TERMINATED');
    runtime.release('sample');
    await temporalCli(
      'workflow',
      'reset',
      '--workflow-id',
      handle.workflowId,
      '--type',
      'LastWorkflowTask',
      '--reason',
      'x',
    );
    const again = workflow.getHandle(handle.workflowId);
    await again.signal('resume');
    await statusWhere(again, ({ stages }) => stages.some(({ name, state }) => name === 'sampling' && state === 'done'));
    await again.cancel();
    await expect(again.result()).rejects.toThrow();
  });
});
