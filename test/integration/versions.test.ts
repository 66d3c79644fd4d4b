/** Two versions of the workers, as Temporal's Worker Controller names them: running work is upgraded between stages. */
import { randomUUID } from 'node:crypto';
import type { WorkflowHandle } from '@temporalio/client';
import { afterAll, describe, expect, inject, it } from 'vitest';
import { startWorkflow, statusWhere, temporalCli, temporalClient, workerProcess } from '../fixtures/harness.js';
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
    await current('new');
    // The server tells running work of the new version after some seconds: several stages may go by.
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
