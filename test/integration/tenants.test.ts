/**
 * Two teams on the same workers: one with a long backlog, and one that comes later with little to do. What decides is
 * the order in which the server hands out work. The backlog goes on by one task at a time, and only while the small
 * team waits for a worker, so that the order is the same at any speed of the host.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection, type WorkflowStartOptions } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { root } from '../../infra/setup/paths.mjs';
import { runTemporalCli, startStack, stackEnvironment, stopStack } from '../../infra/stack/embedded-stack.js';
import { ACTIVITIES, type ActivityName } from '../../workflows/contract/index.js';
import { FaultyProxy } from '../fixtures/faulty-proxy.js';
import { Gate } from '../fixtures/gate.js';
import { workerProcess } from '../fixtures/harness.js';
import { until } from '../fixtures/until.js';

/** Activities of the sandbox worker at once. */
const SLOTS = 2;
/** Shards of the team with the backlog. */
const BACKLOG = 24;
/** Admitted shards below which a team has not waited for the backlog of another one. */
const FAST = (3 * BACKLOG) / 4;
/** `PENDING_ACTIVITY_STATE_SCHEDULED` of Temporal's API. */
const SCHEDULED = 1;

const home = mkdtempSync(join(tmpdir(), 'acecoder-tenants-'));
const queue = 'shared';
const seeds = { kind: 'seeds', path: join(home, 'seeds.jsonl') };
const workers: ReturnType<typeof workerProcess>[] = [];
let client: Client;
let proxy: FaultyProxy;

beforeAll(async () => {
  const lines = readFileSync(join(root, 'infra/seeds/simple.jsonl'), 'utf8').split('\n');
  writeFileSync(seeds.path, lines.slice(0, BACKLOG).join('\n'));
  const dynamicConfig = {
    // A server has it off by default.
    'matching.enableFairness': true,
    // Each partition of a queue has an order of its own.
    'matching.numTaskqueueReadPartitions': 1,
    'matching.numTaskqueueWritePartitions': 1,
  };
  const stack = await startStack({ home, ports: { frontend: 0, ui: 0, store: 0 }, dynamicConfig });
  client = new Client({
    connection: await Connection.connect({ address: stack.address }),
    namespace: stack.namespace,
  });
  proxy = await FaultyProxy.before(stack.s3.endpoint);
  const { ACECODER_PYTHON: python, ACECODER_VENV: venv } = inject('environment');
  const environment = {
    ...(stackEnvironment(stack) as Record<string, string>),
    ACECODER_PYTHON: python!,
    ACECODER_VENV: venv!,
    ACECODER_S3_ENDPOINT: proxy.endpoint,
    // Requests wait for this test.
    ACECODER_STORE_IDLE_SECONDS: '600',
  };
  workers.push(workerProcess(queue, environment, 'pipeline'), workerProcess(queue, environment, 'sandbox'));
});

afterAll(async () => {
  await Promise.all(workers.map(({ stop }) => stop()));
  proxy?.close();
  await client?.connection.close();
  await stopStack({ home });
  rmSync(home, { recursive: true, force: true });
});

/** A team's work: whether it is over, and how many of its activities wait for a sandbox worker. */
async function workOf(workflowId: string): Promise<{ isOver: boolean; waiting: number }> {
  const { raw, status } = await client.workflow.getHandle(workflowId).describe();
  const children = (raw.pendingChildren ?? []).map(async (child) =>
    client.workflow.getHandle(child.workflowId!).describe(),
  );
  const pending = [raw, ...(await Promise.all(children)).map((child) => child.raw)].flatMap(
    ({ pendingActivities }) => pendingActivities ?? [],
  );
  const waiting = pending.filter(
    ({ activityType, state }) =>
      ACTIVITIES[activityType?.name as ActivityName] === 'sandbox' && Number(state) === SCHEDULED,
  );
  return { isOver: status.name !== 'RUNNING', waiting: waiting.length };
}

describe('a team with little to do', () => {
  type Priority = WorkflowStartOptions['priority'];
  it.each<[string, Priority, Priority, boolean]>([
    [
      'is through long before the backlog of another team, by fairness keys',
      { fairnessKey: 'a' },
      { fairnessKey: 'b' },
      true,
    ],
    [
      'is through long before the backlog of another team, by its priority',
      { priorityKey: 4 },
      { priorityKey: 2 },
      true,
    ],
    ['waits for all that came before it, without either', {}, {}, false],
  ])('%s', async (name, first, second, isFast) => {
    const salt = name;
    const held: Gate[] = [];
    let keyOfBacklog: string | undefined;
    proxy.fault = ({ method, url }) => {
      const [, key] = /\/shards\/([0-9a-f]+)\/\d+\.ask\.json/.exec(url!) ?? [];
      if (method !== 'PUT' || key === undefined || key !== (keyOfBacklog ??= key)) return undefined;
      const gate = new Gate();
      held.push(gate);
      return { after: gate.passed() };
    };
    const synthesis = { decontaminate: [], nearDuplicate: null, salt };
    const large = await client.workflow.start('synthesis', {
      taskQueue: queue,
      workflowId: `large: ${name}`,
      args: [{ inputs: { seeds }, config: { ...synthesis, shardSize: 1, execution: { window: BACKLOG } } }],
      priority: first,
    });
    // All of it waits for a worker before the other team comes.
    await until(
      async () => [held.length, (await workOf(large.workflowId)).waiting],
      ([running, waiting]) => running === SLOTS && waiting === BACKLOG - SLOTS,
    );
    const small = await client.workflow.start('datasetRefresh', {
      taskQueue: queue,
      workflowId: `small: ${name}`,
      args: [{ name: `small-${Object.keys(first!).join()}`, seeds, synthesis, filtering: { salt } }],
      priority: second,
    });
    let admitted = 0;
    const look = (): ReturnType<typeof workOf> => workOf(small.workflowId);
    for (;;) {
      const { isOver } = await until(look, ({ isOver, waiting }) => isOver || (waiting > 0 && held.length === SLOTS));
      if (isOver || admitted === BACKLOG - SLOTS) break;
      held.shift()!.open();
      admitted += 1;
      await until(look, ({ isOver, waiting }) => isOver || waiting === 0 || held.length === SLOTS);
    }
    console.log(`${name}: after ${admitted} of ${BACKLOG} shards`);
    if (isFast) {
      expect(await small.result()).toMatchObject({ version: 1 });
      expect((await workOf(large.workflowId)).isOver).toBe(false);
      expect(admitted).toBeLessThan(FAST);
    } else {
      expect(admitted).toBeGreaterThanOrEqual(FAST);
    }
    proxy.fault = () => undefined;
    for (const gate of held) gate.open();
    // Neither one starves the other.
    expect(await large.result()).toMatchObject({ metrics: { seeds: BACKLOG } });
    expect(await small.result()).toMatchObject({ version: 1 });
  });
});

it('limits a queue, and each team on it', async () => {
  const { code, stderr } = await runTemporalCli({ home }, [
    ...['task-queue', 'config', 'set', '--task-queue', `${queue}-sandbox`, '--task-queue-type', 'activity'],
    ...['--queue-rps-limit', '50', '--fairness-key-rps-limit-default', '10', '--fairness-key-weight', 'team-a=2'],
  ]);
  expect([code, stderr]).toEqual([0, '']);
});
