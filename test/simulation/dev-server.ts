/**
 * Scripts of the conformance on Temporal's dev server: real workers, with the modelled activities of the simulation.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { activityInfo, ApplicationFailure, CancelledFailure, Context } from '@temporalio/activity';
import { Client, Connection, WorkflowNotFoundError, type WorkflowHandle } from '@temporalio/client';
import proto from '@temporalio/proto';
import {
  bundleWorkflowCode,
  DefaultLogger,
  NativeConnection,
  Runtime,
  Worker,
  type WorkflowBundle,
} from '@temporalio/worker';
import { onEndSignal } from '../../infra/setup/processes.mjs';
import { startStack, stopStack } from '../../infra/stack/embedded-stack.js';
import { workflowsPath } from '../../workers/plugins/acecoder-plugin.js';
import { FAILURES, QUEUES, queueName, STAGES, type QueueRole } from '../../workflows/contract/index.js';
import { CELL_NAMES } from './schedules.js';
import { inputOf, ScriptedActivities, told, type Courses, type Deed, type Script } from './conformance.js';
import { eventText } from './recorded.js';
import { ActivityFails, type Attempt } from './server.js';

type Event = proto.temporal.api.history.v1.IHistoryEvent;
const { EventType } = proto.temporal.api.enums.v1;

const TASK_QUEUE = 'acecoder';
const RESET_WORKFLOW: number =
  proto.temporal.api.enums.v1.WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW;
const POLL_MS = 40;
/** A guard: no script waits as long for anything. */
const LONGEST_MS = 120_000;

export class DevServer {
  /** By the workflow id that the script starts. */
  readonly #playing = new Map<string, ScriptedActivities>();

  private constructor(
    private readonly home: string,
    private readonly connection: Connection,
    private readonly workerConnection: NativeConnection,
    private readonly client: Client,
  ) {}

  static async start(): Promise<DevServer> {
    // What fails is part of the scripts.
    Runtime.install({ logger: new DefaultLogger('ERROR') });
    const home = mkdtempSync(join(tmpdir(), 'acecoder-conformance-'));
    // Whoever stops the bench leaves no server behind.
    onEndSignal(() => void stopStack({ home }).finally(() => process.exit(1)));
    const { address } = await startStack({ home, ports: { frontend: 0, ui: 0, store: 0 } });
    const connection = await Connection.connect({ address });
    const native = await NativeConnection.connect({ address });
    const server = new DevServer(home, connection, native, new Client({ connection }));
    const bundle = await bundleWorkflowCode({ workflowsPath: workflowsPath.all, logger: new DefaultLogger('ERROR') });
    await server.#work(bundle);
    return server;
  }

  #workers: { worker: Worker; ended: Promise<void> }[] = [];

  async #work(workflowBundle: WorkflowBundle): Promise<void> {
    const queues = [
      TASK_QUEUE,
      ...(Object.keys(QUEUES) as QueueRole[]).flatMap((role) => [
        queueName(role, TASK_QUEUE),
        queueName(role, TASK_QUEUE, 'train'),
      ]),
    ];
    for (const taskQueue of new Set(queues)) {
      const worker = await Worker.create({
        connection: this.workerConnection,
        taskQueue,
        ...(taskQueue === TASK_QUEUE ? { workflowBundle } : {}),
        activities: { default: (input: unknown) => this.#activity(input) },
        maxHeartbeatThrottleInterval: POLL_MS,
        defaultHeartbeatThrottleInterval: POLL_MS,
      });
      this.#workers.push({ worker, ended: worker.run() });
    }
  }

  async stop(): Promise<void> {
    for (const { worker } of this.#workers) worker.shutdown();
    await Promise.all(this.#workers.map(({ ended }) => ended));
    await this.connection.close();
    await this.workerConnection.close();
    await stopStack({ home: this.home });
    rmSync(this.home, { recursive: true, force: true });
  }

  /** The course of a script on the server. */
  async courses(script: Script, root: string): Promise<Courses> {
    const activities = new ScriptedActivities(script);
    activities.model.now = () => Date.now();
    this.#playing.set(root, activities);
    const start = (): Promise<WorkflowHandle> =>
      this.client.workflow.start(script.workflow, { taskQueue: TASK_QUEUE, workflowId: root, args: [inputOf(script)] });
    await start();
    for (const step of script.then ?? []) {
      if (step === 'start') {
        await this.#until(async () => !(await this.#isOpen(root)));
        await this.#until(async () => (await this.#openIds(root)).length === 0);
        await start();
        continue;
      }
      await this.#until(async () => (await this.#state(root)) === 'parked');
      await this.#settled(root);
      await this.#act(root, step.parked);
      await this.#until(async () => (await this.#state(root)) !== 'parked');
    }
    await this.#until(async () => (await this.#openIds(root)).length === 0);
    const courses: Courses = {};
    for (const id of idsOf(root, script)) {
      const texts = (await this.#runs(id)).flatMap((events) =>
        afterReset(events).flatMap((event) => eventText(event) ?? []),
      );
      if (texts.length > 0) courses[id] = texts;
    }
    return told(courses);
  }

  async #activity(input: unknown): Promise<unknown> {
    const { activityType, attempt, workflowExecution } = activityInfo();
    const { workflowId, runId } = workflowExecution!;
    const root = workflowId.split('/')[0]!;
    const activities = this.#playing.get(root)!;
    const asked: Attempt = { name: activityType, input, attempt, workflowId, runId, share: 1, startedAt: Date.now() };
    const deeds = activities.begins(asked);
    if (deeds) await this.#held(root, workflowId, runId, deeds);
    try {
      return activities.ends(asked);
    } catch (error) {
      if (!(error instanceof ActivityFails)) throw error;
      const { type, message, details } = error;
      throw ApplicationFailure.create({
        type,
        message,
        details: [...details],
        nonRetryable: FAILURES[type] === 'final',
      });
    }
  }

  /** Holds an attempt while the deeds happen and what follows from them has settled. */
  async #held(root: string, workflowId: string, runId: string, deeds: readonly Deed[]): Promise<void> {
    for (const deed of deeds) {
      await this.#act(root, deed);
      await this.#settled(root);
    }
    const id = Context.current().info.activityId;
    const events = await this.#history(workflowId, runId);
    const scheduled = events.find((event) => event.activityTaskScheduledEventAttributes?.activityId === id);
    const cancelled = events.some(
      ({ activityTaskCancelRequestedEventAttributes: cancel }) =>
        cancel && String(cancel.scheduledEventId) === String(scheduled?.eventId),
    );
    if (!cancelled) return;
    const heartbeats = setInterval(() => Context.current().heartbeat(), POLL_MS);
    try {
      await Context.current().cancelled;
    } catch (error) {
      if (error instanceof CancelledFailure) throw error;
    } finally {
      clearInterval(heartbeats);
    }
  }

  async #act(root: string, deed: Deed): Promise<void> {
    const id = deed.stage === undefined ? root : `${root}/${deed.stage}`;
    const handle = this.client.workflow.getHandle(id);
    if ('signal' in deed) await handle.signal(deed.signal, ...deed.input);
    else if ('update' in deed)
      // What is refused is part of the script.
      await handle.executeUpdate(deed.update, { args: [deed.request] }).catch(() => undefined);
    else if ('resetTo' in deed) await this.#reset(id, deed.resetTo);
    else if (deed.do === 'cancel') await handle.cancel();
    else await handle.terminate('the script');
  }

  async #reset(workflowId: string, activity: string): Promise<void> {
    const { runId } = await this.client.workflow.getHandle(workflowId).describe();
    const asked = (await this.#history(workflowId, runId)).find(
      ({ activityTaskScheduledEventAttributes: scheduled }) => scheduled?.activityType?.name === activity,
    );
    await this.client.workflowService.resetWorkflowExecution({
      namespace: 'default',
      workflowExecution: { workflowId, runId },
      workflowTaskFinishEventId: asked!.activityTaskScheduledEventAttributes!.workflowTaskCompletedEventId!,
      reason: 'the script',
      requestId: randomUUID(),
    });
  }

  /** Waits until no workflow of the script has a workflow task or a message on its way. */
  async #settled(root: string): Promise<void> {
    let before = '';
    await this.#until(async () => {
      const sizes: number[] = [];
      for (const id of await this.#openIds(root)) {
        const { runId } = await this.client.workflow.getHandle(id).describe();
        const events = await this.#history(id, runId);
        if (!isQuiet(events)) return false;
        sizes.push(events.length);
      }
      const now = sizes.join();
      const same = now === before;
      before = now;
      return same;
    });
  }

  async #openIds(root: string): Promise<string[]> {
    const open: string[] = [];
    const { script } = this.#playing.get(root)!;
    for (const id of idsOf(root, script)) if (await this.#isOpen(id)) open.push(id);
    return open;
  }

  async #isOpen(id: string): Promise<boolean> {
    return (await this.#description(id))?.status.name === 'RUNNING';
  }

  async #state(id: string): Promise<string | undefined> {
    return ((await this.#description(id))?.memo?.['acecoder'] as { state?: string } | undefined)?.state;
  }

  async #description(id: string) {
    return this.client.workflow
      .getHandle(id)
      .describe()
      .catch((error: unknown) => {
        if (error instanceof WorkflowNotFoundError) return undefined;
        throw error;
      });
  }

  async #history(workflowId: string, runId: string): Promise<Event[]> {
    const { events } = await this.client.workflow.getHandle(workflowId, runId).fetchHistory();
    return events ?? [];
  }

  /** The histories of all runs of an id, the newest last. */
  async #runs(id: string): Promise<Event[][]> {
    const newest = await this.#description(id);
    const runs: Event[][] = [];
    const query = `WorkflowId = '${id}'`;
    const known: { runId: string; startTime: Date }[] = [];
    // What lists is behind what runs.
    await this.#until(async () => {
      known.length = 0;
      for await (const { runId, startTime, status } of this.client.workflow.list({ query })) {
        if (status.name === 'RUNNING') return false;
        known.push({ runId, startTime });
      }
      return newest === undefined || known.some(({ runId }) => runId === newest.runId);
    });
    known.sort((a, b) => a.startTime.getTime() - b.startTime.getTime());
    for (const { runId } of known) runs.push(await this.#history(id, runId));
    return runs;
  }

  async #until(holds: () => Promise<boolean>): Promise<void> {
    for (const began = Date.now(); !(await holds()); await sleep(POLL_MS))
      if (Date.now() - began > LONGEST_MS) throw new Error(`the dev server does not come to: ${holds.toString()}`);
  }
}

/** Ids that a script may start: its stages, and of a sweep its cells and their stages. */
function idsOf(root: string, { workflow }: Script): string[] {
  const cells = workflow === 'sweep' ? CELL_NAMES.map((cell) => `${root}/${cell}`) : [];
  return [root, ...cells].flatMap((id) => [id, ...STAGES.map((stage) => `${id}/${stage}`)]);
}

/** What a run did itself: a reset gives it the events of another one first. */
function afterReset(events: readonly Event[]): Event[] {
  const at = events.findLastIndex(
    ({ workflowTaskFailedEventAttributes: failed }) => Number(failed?.cause ?? 0) === RESET_WORKFLOW,
  );
  return events.slice(at + 1);
}

/** Whether no workflow task is due, and everything that was sent has been answered. */
function isQuiet(events: readonly Event[]): boolean {
  const count = (pattern: RegExp): number =>
    events.filter(({ eventType }) => pattern.test(EventType[eventType!])).length;
  const sent = count(/_EXTERNAL_WORKFLOW_EXECUTION_INITIATED$|START_CHILD_WORKFLOW_EXECUTION_INITIATED$/);
  const answered = count(
    new RegExp(
      '_EXTERNAL_WORKFLOW_EXECUTION_FAILED$|EXTERNAL_WORKFLOW_EXECUTION_(SIGNALED|CANCEL_REQUESTED)$|' +
        'START_CHILD_WORKFLOW_EXECUTION_FAILED$|_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED$',
    ),
  );
  const due = count(/WORKFLOW_TASK_SCHEDULED$/) - count(/WORKFLOW_TASK_(COMPLETED|FAILED|TIMED_OUT)$/);
  return sent === answered && due === 0;
}
