/** Experiments of several teams on the same workers: every activity has the priority that its experiment was given. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { queueName } from '../../workflows/contract/index.js';
import { temporalCli, temporalClient, workerProcess } from '../fixtures/harness.js';
import { GUARD_SECONDS } from '../fixtures/until.js';

/** A queue with the pipeline's worker alone: what needs a sandbox waits until this test takes it. */
const queue = `priority-${randomUUID().slice(0, 8)}`;
let worker: ReturnType<typeof workerProcess>;
beforeAll(() => {
  worker = workerProcess(queue, undefined, 'pipeline');
});
afterAll(() => worker.stop());

/** Runs are unlike each other, because a stage that runs already is not started again. */
const inputOf = (salt: string): string =>
  JSON.stringify({ name: salt, seeds: { kind: 'seeds', path: inject('seeds') }, filtering: { salt } });

it.each([
  ['urgent', ['--priority-key', '1', '--fairness-key', 'team-a', '--fairness-weight', '2.5'], [1, 'team-a', 2.5]],
  ['of no haste', ['--priority-key', '5'], [5, '', 0]],
  ['usual', [], [0, '', 0]],
] as const)('an activity of a stage of a run that is %s', async (name, options, expected) => {
  const { workflow, connection } = await temporalClient();
  const workflowId = `${name.replaceAll(' ', '-')}-${queue}`;
  const start = ['workflow', 'start', '--type', 'datasetRefresh', '--task-queue', queue, '--workflow-id', workflowId];
  await temporalCli(...start, '--input', inputOf(workflowId), ...options);
  const { workflowExecution, priority } = await connection.withDeadline(Date.now() + GUARD_SECONDS * 1000, () =>
    connection.workflowService.pollActivityTaskQueue({
      namespace: workflow.options.namespace,
      taskQueue: { name: queueName('sandbox', queue) },
      identity: 'priority.test',
    }),
  );
  // The stage is a workflow of its own, which inherits from the one that was started, as its activities do from it.
  expect(workflowExecution?.workflowId).not.toBe(workflowId);
  expect([priority?.priorityKey ?? 0, priority?.fairnessKey ?? '', priority?.fairnessWeight ?? 0]).toEqual(expected);
  await workflow.getHandle(workflowId).terminate();
});
