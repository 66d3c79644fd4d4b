/** Two builds of the workers: running work is upgraded between stages, and no build takes a shard of the other's. */
import { randomUUID } from 'node:crypto';
import type { WorkflowHandle } from '@temporalio/client';
import { afterAll, describe, expect, inject, it } from 'vitest';
import {
  artifactStore,
  startWorkflow,
  statusWhere,
  temporalCli,
  temporalClient,
  workerProcess,
} from '../fixtures/harness.js';
import { z } from 'zod';
import { objectKeys, sha256 } from '../../activities/artifacts/keys.js';
import { ShardedStage, type PlanOutput, type ShardInput } from '../../activities/runtime/sharded-stage.js';
import { type ArtifactRef, STAGE } from '../../workflows/contract/index.js';
import { Attempt, failureOf } from '../fixtures/attempt.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { until } from '../fixtures/until.js';

const name = `versions-${randomUUID().slice(0, 8)}`;
const workers: ReturnType<typeof workerProcess>[] = [];
afterAll(() => Promise.all(workers.map((each) => each.stop())));

/** Workers of a build, and the build made current as soon as the server knows it. */
async function current(buildId: string): Promise<void> {
  const environment = {
    ...inject('environment'),
    TEMPORAL_DEPLOYMENT_NAME: name,
    TEMPORAL_WORKER_BUILD_ID: buildId,
  };
  workers.push(workerProcess(name, environment));
  const version = ['worker', 'deployment', 'set-current-version', '--deployment-name', name, '--build-id', buildId];
  await until(
    () =>
      temporalCli(...version, '--yes').then(
        () => true,
        () => false,
      ),
    (done) => done,
  );
}

/** The builds that completed workflow tasks of a run, in order, each once. */
async function buildsOf(handle: WorkflowHandle): Promise<string[]> {
  const { events } = await handle.fetchHistory();
  const builds = (events ?? []).flatMap(
    ({ workflowTaskCompletedEventAttributes: completed }) => completed?.deploymentVersion?.buildId ?? [],
  );
  return [...new Set(builds)];
}

describe('a new version of the workers', () => {
  it('takes an experiment over between two stages, and leaves the stage in work to the old one', async () => {
    const { workflow } = await temporalClient();
    await current('old');
    const experiment = await startWorkflow('experiment', microExperiment(name, inject('seeds'), inject('model')), {
      taskQueue: name,
      id: name,
    });
    const first = (await experiment.describe()).runId;
    await statusWhere(experiment, ({ stages }) => stages.some(({ state }) => state === 'running'));
    await experiment.signal('pause');
    await current('new');
    // The server tells running work of the new version after some seconds, and only with a task.
    const told = async (): Promise<boolean> => {
      await experiment.signal('pause');
      const { events } = await workflow.getHandle(name, first).fetchHistory();
      return (events ?? []).some(
        ({ workflowTaskStartedEventAttributes: started }) => started?.targetWorkerDeploymentVersionChanged,
      );
    };
    await until(told, (yes) => yes);
    await experiment.signal('resume');
    const last = await until(
      async () => (await workflow.getHandle(name).describe()).runId,
      (runId) => runId !== first,
    );
    const { stages } = await statusWhere(workflow.getHandle(name), (status) =>
      status.stages.some(({ state }) => state === 'running'),
    );
    await workflow.getHandle(name).cancel();
    await expect(workflow.getHandle(name).result()).rejects.toThrow();
    expect(await buildsOf(workflow.getHandle(name, first))).toEqual(['old']);
    expect(await buildsOf(workflow.getHandle(name, last))).toEqual(['new']);
    expect(await buildsOf(workflow.getHandle(`${name}/synthesis`))).toEqual(['old']);
    const running = stages.find(({ state }) => state === 'running')!.name;
    expect(await buildsOf(workflow.getHandle(`${name}/${running}`))).toEqual(['new']);
  });
});

describe('a worker of another build, on a queue that both serve', () => {
  const store = artifactStore();
  const Row = z.object({ id: z.string() });

  /** Activities of a build whose step `pair` has a version. */
  function build(version: number) {
    const { steps } = STAGE.preferences;
    const stage = new ShardedStage({ ...STAGE.preferences, steps: { ...steps, pair: { ...steps.pair, version } } });
    const plan = stage.plan({ row: Row, run: () => Promise.resolve({ shards: [[{ id: 'a' }]] }) });
    const pair = stage.step({ after: [plan], row: Row, run: ({ rows }) => Promise.resolve({ rows }) });
    const seal = () => Promise.resolve({ metrics: {} });
    return stage.activities(store, { plan, steps: { pair }, seal });
  }
  const run = (activity: ((input: never) => Promise<unknown>) | undefined, input: object, attempt = 1) =>
    new Attempt({ attempt, idle: 60 }).run(() => activity!(input as never));

  it('refuses its shard and its seal: for some minutes for another worker to take it, then for good', async () => {
    const [old, next] = [build(1), build(2)];
    const programs: ArtifactRef = {
      kind: 'programs',
      key: objectKeys.manifest('programs', sha256(name)),
      digest: sha256(name),
      bytes: 1,
    };
    const config = STAGE.preferences.config.parse({ salt: name });
    const plan = { config, inputs: { programs } };
    const { stageKey } = (await run(old['preferences.plan'], plan)) as PlanOutput;
    const shard: ShardInput = { stageKey, shard: 0, execution: config.execution };
    const refused = await failureOf(run(next['preferences.pair'], shard));
    expect(refused).toMatchObject({
      type: 'VersionMismatch',
      nonRetryable: false,
      nextRetryDelay: 1000,
      message: expect.stringContaining('this worker has version {"plan":1,"pair":2,"seal":1}') as string,
    });
    expect(await failureOf(run(next['preferences.seal'], { stageKey }))).toMatchObject({ type: 'VersionMismatch' });
    expect(await failureOf(run(next['preferences.pair'], shard, 10))).toMatchObject({ nonRetryable: true });
    // What the refused worker would have stored, the right one stores.
    expect(await run(old['preferences.pair'], shard)).toMatchObject({ rows: 1, reused: false });
    // The stage that runs again is planned by the new build, under a key of its own.
    const again = (await run(next['preferences.plan'], plan)) as PlanOutput;
    expect(again.stageKey).not.toBe(stageKey);
    expect(await run(next['preferences.pair'], { ...shard, stageKey: again.stageKey })).toMatchObject({
      rows: 1,
      reused: false,
    });
  });
});
