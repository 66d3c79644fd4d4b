/** Messages that are none, and work that no worker takes: one experiment harms no other, and says what it waits for. */
import { randomUUID } from 'node:crypto';
import { WorkflowUpdateFailedError, type Workflow, type WorkflowHandle } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { eachOf } from '../../activities/artifacts/collections.js';
import { MESSAGES, WORKFLOWS, type ExperimentStatus } from '../../workflows/contract/index.js';
import { garbage, undecodable } from '../fixtures/garbage.js';
import {
  failureOf,
  queryOf,
  startWorkflow,
  statusWhere,
  temporalClient,
  workerProcess,
  updateOf,
} from '../fixtures/harness.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { until } from '../fixtures/until.js';

/** A queue with the pipeline's worker alone: what needs a sandbox, a model or a device waits. */
const queue = `messages-${randomUUID().slice(0, 8)}`;
const experimentInput = (name: string): unknown => microExperiment(name, inject('seeds'), inject('model'));
const AT_ONCE = 20;
/** The server takes ten updates of a workflow at once, of all kinds together. */
const UPDATES_AT_ONCE = 3;
const UPDATES = [MESSAGES.retryStage, MESSAGES.abandon, MESSAGES.resume] as const;
const SIGNALS = [MESSAGES.stageProgress, MESSAGES.pause, MESSAGES.resume] as const;

let worker: ReturnType<typeof workerProcess>;
beforeAll(() => {
  worker = workerProcess(queue, undefined, 'pipeline');
});
afterAll(() => worker.stop());

/** What came of an update: `refused` where the workflow refused it, otherwise its result or error as text. */
const answerOf = (update: Promise<unknown>): Promise<string> =>
  update.then(
    (answer) => `taken: ${String(answer)}`,
    (error: unknown) =>
      error instanceof WorkflowUpdateFailedError ? 'refused' : String((error as Error).cause ?? error),
  );

async function failedTasks(handle: WorkflowHandle): Promise<unknown[]> {
  const { events } = await handle.fetchHistory();
  return (
    (events ?? [])
      .flatMap(({ workflowTaskFailedEventAttributes: failed }) => failed?.failure?.message ?? [])
      // A message that came while the workflow ended: the server repeats the task.
      .filter((message) => message !== 'UnhandledCommand')
  );
}

describe('a message that is none', () => {
  it('is 200 kinds of garbage', () => {
    expect(garbage()).toHaveLength(200);
  });

  it(
    'is ignored or refused by every workflow, while another experiment starts on the same worker',
    { tags: 'long' },
    async () => {
      const { workflow } = await temporalClient();
      const pending = WORKFLOWS.map(async (type) => {
        const handles = new Map<string, WorkflowHandle>();
        const messages = [...garbage(), ...undecodable()].flatMap((payload) =>
          SIGNALS.map((signal) => ({ signal, payload })),
        );
        await eachOf(messages.length, AT_ONCE, async (index) => {
          const { signal, payload } = messages[index]!;
          // A workflow that needs no other worker ends at once, and the next signal starts it anew.
          const handle = await workflow.signalWithStart<Workflow, [unknown]>(type, {
            taskQueue: queue,
            workflowId: `garbage-${type}-${queue}`,
            args: [type === 'experiment' ? experimentInput('garbage') : {}],
            signal,
            signalArgs: [payload],
          });
          handles.set(handle.signaledRunId, workflow.getHandle(handle.workflowId, handle.signaledRunId));
        });
        return [...handles.values()];
      });
      const target = await startWorkflow('experiment', experimentInput('target'), { taskQueue: queue });
      const refused = UPDATES.map(async (update) => {
        const taken: unknown[] = [];
        const payloads = [...garbage(), ...undecodable()];
        await eachOf(payloads.length, UPDATES_AT_ONCE, async (index) => {
          const answer = await until(
            () => answerOf(target.executeUpdate<unknown, [unknown]>(update, { args: [payloads[index]] })),
            // A workflow task that came too late on a busy host is repeated. One that fails for ever is seen below.
            (text) => !/Workflow Task in failed state/.test(text),
          );
          if (answer !== 'refused') taken.push(answer);
        });
        return taken;
      });
      const other = await startWorkflow('experiment', experimentInput('other'), { taskQueue: queue });
      const taken = (await Promise.all(refused)).flat();
      expect(await failedTasks(target)).toEqual([]);
      expect(taken).toEqual([]);
      const sent = (await Promise.all(pending)).flat();
      expect((await queryOf<ExperimentStatus>(other, 'status')).state).toBe('running');

      const payloads = [...garbage(), ...undecodable()];
      for (const signal of SIGNALS)
        await eachOf(payloads.length, AT_ONCE, (index) => target.signal(signal, payloads[index]));
      await target.signal('resume');
      const status = await statusWhere(target, ({ state }) => state === 'running');
      expect(status.stages.every(({ progress }) => progress === undefined)).toBe(true);
      expect(await updateOf(target, 'abandon', { reason: 'enough' })).toBe('abandoned: enough');
      expect(await failureOf(target)).toEqual({ type: 'Abandoned', message: 'abandoned: enough' });
      await other.cancel();
      await expect(other.result()).rejects.toThrow(/cancelled/i);

      const tasks = await Promise.all([target, other, ...sent].map(failedTasks));
      expect(tasks.flat()).toEqual([]);
      await Promise.all(sent.map((handle) => handle.terminate().catch(() => undefined)));
    },
  );
});

describe('an abandonment', () => {
  it('is answered at any moment of the start', async () => {
    for (const milliseconds of [0, 15, 30, 60, 90, 120, 150]) {
      const handle = await startWorkflow('experiment', experimentInput('abandoned'));
      await new Promise((done) => setTimeout(done, milliseconds));
      expect(await updateOf(handle, 'abandon', { reason: 'enough' })).toBe('abandoned: enough');
      expect(await failureOf(handle)).toEqual({ type: 'Abandoned', message: 'abandoned: enough' });
    }
  });
});

describe('work on a queue that nobody serves', () => {
  it('is told within its first look, by queue, next to the queues that are served', async () => {
    const handle = await startWorkflow('experiment', experimentInput('waiting'), { taskQueue: queue });
    const { waitsFor } = await statusWhere(handle, (status) => status.waitsFor !== undefined);
    expect(waitsFor).toMatch(
      new RegExp(`^waits for a worker on ${queue}-gpu since \\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d UTC`),
    );
    const details = await queryOf<string>(handle, '__temporal_workflow_metadata');
    expect(JSON.stringify(details)).toContain(`waits for a worker on ${queue}-gpu`);
    const helper = workerProcess(queue, undefined, 'all');
    try {
      await statusWhere(handle, (status) => status.waitsFor === undefined && status.stages[0]!.state !== 'waiting');
    } finally {
      await helper.stop();
    }
    await handle.terminate();
  });
});
