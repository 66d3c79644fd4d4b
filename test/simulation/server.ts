/**
 * A Temporal server and its workers in virtual time, as far as workflows can tell: workflow tasks, activities with
 * retries, timers, children, signals, updates, cancellation and continue-as-new. Everything that has no order of its
 * own has one from the seed.
 */
import { defaultPayloadConverter } from '@temporalio/common';
import proto from '@temporalio/proto';
import {
  FAILURES,
  GangMember,
  HEARTBEAT_TIMEOUT_SECONDS,
  MESSAGES,
  type FailureType,
  type GangLeader,
} from '../../workflows/contract/index.js';
import { History, type Failure, type Payload } from './history.js';
import { namedRandom, Random, Timeline } from './random.js';
import { isTakenBack, TaskFailed, WorkflowRun, type Command, type Job, type WorkflowCode } from './workflow-vm.js';

/** Cancellation types of an activity, as numbers on the wire. */
const TRY_CANCEL: number = proto.coresdk.workflow_commands.ActivityCancellationType.TRY_CANCEL;
const WAIT_COMPLETED: number = proto.coresdk.workflow_commands.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED;

/** An attempt of an activity as its code sees it. */
export interface Attempt {
  name: string;
  input: unknown;
  attempt: number;
  workflowId: string;
  runId: string;
  /** Share of the work after which the attempt dies. 1: it ends by itself. */
  share: number;
  /** When the attempt began, in milliseconds since 1970. */
  startedAt: number;
}

/** What activities do. Called when an attempt ends, however it ends. */
export type Activities = (attempt: Attempt) => unknown;

/** What a script decides of attempts, where otherwise the seed does. */
export interface Pace {
  /** How long an attempt takes that has begun now, in milliseconds. */
  takes: (attempt: Attempt) => number;
}

/** Commands of one workflow task that the server has taken, and what names the things in them. */
export interface Taken {
  workflowId: string;
  workflowType: string;
  commands: readonly Command[];
  update: (id: string) => string | undefined;
  child: (seq: number) => string | undefined;
}

/** An activity's failure by its class. */
export class ActivityFails extends Error {
  constructor(
    readonly type: FailureType,
    message: string,
    readonly details: readonly unknown[] = [],
  ) {
    super(message);
  }
}

/** What an attempt waits for has not come: it looks again, and the worker takes other work meanwhile. */
export class ActivityWaits extends Error {}

/** Milliseconds from one look of an attempt that waits to the next. */
const LOOK_MS = 1000;

/** How likely what goes wrong is, each from 0 to 1. */
export interface Faults {
  /** Of an attempt: the worker dies in the middle. */
  crash: number;
  /** Of an attempt: its work is done and its answer is lost. */
  lost: number;
  /** Of an attempt: it is given up as dead and goes on beside the next one. */
  zombie: number;
  /** Of an attempt: it takes much longer than others. */
  slow: number;
  /** Of an attempt: it fails in a class that is retried. */
  retried: number;
  /** Of an activity: it fails for good. */
  final: number;
  /** Of a workflow task: the run was thrown out of the cache before. */
  evict: number;
  /** Of a workflow task: something happens while it runs. */
  late: number;
}

export type FaultKind = keyof Faults;

export const NO_FAULTS: Faults = { crash: 0, lost: 0, zombie: 0, slow: 0, retried: 0, final: 0, evict: 0, late: 0 };

export type Outcome =
  { how: 'completed'; result: unknown } | { how: 'failed'; failure: Failure } | { how: 'cancelled' | 'terminated' };

/** The size of a run's history, once it is closed. */
export interface ClosedRun {
  workflowId: string;
  workflowType: string;
  events: number;
  bytes: number;
  largestEvent: number;
}

interface PendingActivity {
  seq: number;
  command: Command;
  attempt: number;
  cancellationType: number;
  cancelled: boolean;
  /** Raised with each attempt, so that an earlier one knows that it is a zombie. */
  epoch: number;
  queue: string;
  doomed: FailureType | undefined;
  lastFailure?: Failure;
}

interface PendingChild {
  seq: number;
  command: Command;
  workflowId: string;
  workflowType: string;
  runId?: string;
  cancelled: boolean;
}

class Run {
  readonly history = new History();
  readonly activities = new Map<number, PendingActivity>();
  /** Activities whose end is waited for after a request to cancel them, those that have ended too. */
  readonly awaited = new Set<number>();
  /** When each timer fires, in milliseconds since 1970. */
  readonly timers = new Map<number, number>();
  readonly children = new Map<number, PendingChild>();
  /** Signals and cancellations to other workflows that nobody has answered. */
  readonly sent = new Set<Command>();
  /** Before each workflow task so far: to where a reset can go back. */
  readonly before: Before[] = [];
  /** Who started it. Its parent may be another run since a reset. */
  startedBy: { run: Run; seq: number } | undefined;
  /** A reset ended it: its children go on. */
  reset = false;
  /** It goes on from where another run stopped. */
  continues = false;
  /** What the parent was told at its end. Undefined while it is open, and where it was terminated. */
  told: Told | undefined;
  readonly updates = new Map<string, { name: string; input: Payload[] }>();
  /** What the next workflow task will tell. */
  waiting: Job[] = [];
  taskScheduled = false;
  /** Workflow tasks so far, those that were done again too. */
  tasks = 0;
  working = false;
  open = true;
  memo: Record<string, Payload> = {};
  searchAttributes: Record<string, Payload> = {};

  constructor(
    readonly workflowId: string,
    readonly runId: string,
    readonly workflowType: string,
    readonly vm: WorkflowRun,
    public parent: { run: Run; seq: number } | undefined,
    /** The same in every schedule of a seed: the workflow id and how many runs it had. */
    readonly name: string,
  ) {}
}

interface Told {
  outcome: Outcome;
  result?: Payload;
  failure?: Failure;
}

/** A run before a workflow task. */
interface Before {
  activations: number;
  jobs: readonly Job[];
  activities: PendingActivity[];
  awaited: number[];
  timers: [number, number][];
  children: PendingChild[];
  sent: Command[];
  updates: [string, { name: string; input: Payload[] }][];
  memo: Record<string, Payload>;
  searchAttributes: Record<string, Payload>;
  events: number;
  bytes: number;
}

/** A member of a gang whose attempt a worker has taken. */
interface Joined {
  /** It leads: it trains for all, and makes the artifact. */
  leads: boolean;
  activity: PendingActivity;
  isCurrent: () => boolean;
  /** Gives the worker's slot back. */
  leave: () => void;
  fate: FaultKind | undefined;
  /** Share of the training after which its fate takes it. */
  share: number;
}

/** One attempt at a training on several hosts. */
interface Gang {
  joined: Joined[];
  /** Trains as its leader does. */
  work: (share: number) => unknown;
  /** Since when it trains, and how long that takes. In milliseconds. */
  trains?: { since: number; takes: number };
  over: boolean;
}

/** A task queue whose workers take a number of attempts at once. */
interface Queue {
  free: number;
  served: boolean;
  waiting: { activity: PendingActivity; begin: () => void }[];
}

/** Final classes that any activity may end with, whatever it does. */
const ANY_FINAL: readonly FailureType[] = ['RepeatedFailure', 'OutOfMemory', 'ArtifactCorrupt'];
const ANY_RETRIED: readonly FailureType[] = [
  'StoreUnavailable',
  'RuntimeLost',
  'SandboxUnavailable',
  'Stalled',
  'DiskFull',
];
const TASK_QUEUE = 'acecoder';

function payloadOf(value: unknown): Payload {
  return defaultPayloadConverter.toPayload(value);
}

export function valueOf(payload: Payload | null | undefined): unknown {
  return payload ? defaultPayloadConverter.fromPayload(payload) : undefined;
}

export class Server {
  readonly timeline: Timeline;
  private readonly random: Random;
  /** Of runs that are closed. */
  readonly closed: ClosedRun[] = [];
  /** Results of workflow ids whose newest run is closed. */
  readonly outcomes = new Map<string, Outcome>();
  /** Faults that happened, by kind. */
  readonly happened = new Map<string, number>();
  /** Updates that a workflow has answered, by workflow id and name. */
  readonly answered: string[] = [];
  workflowTasks = 0;
  /** Told of every activity that a workflow asks for. */
  onScheduled: (workflowId: string, activity: string) => void = () => undefined;
  /** Told of every child that a workflow asks for. */
  onChild: (workflowId: string) => void = () => undefined;
  /** Told of the signals of a workflow task before its commands reach the server, and after it. */
  onSignals: (workflowId: string, names: readonly string[], when: 'before' | 'after') => void = () => undefined;
  /** Told of the commands of every workflow task that counts, before they are carried out. */
  onCommands: (taken: Taken) => void = () => undefined;
  /** Told of every run that begins and goes on from no other one. */
  onBegin: (workflowId: string) => void = () => undefined;
  /** Every fault that happened, by a name that repeats it. */
  readonly occurred: string[] = [];
  readonly #runs = new Map<string, Run>();
  /** All runs of a workflow id, the newest last. */
  readonly #chains = new Map<string, Run[]>();
  readonly #queues = new Map<string, Queue>();
  /** By run and token. */
  readonly #gangs = new Map<string, Gang>();
  /** Runs of which two gangs trained at once. */
  readonly trainedAtOnce: string[] = [];
  /** Whether an attempt finds its result in the store. */
  finds: (attempt: Attempt) => boolean = () => false;
  /** What an attempt tells its workflow before it ends: a signal with its payload. */
  tells: (attempt: Attempt) => { signal: string; payload: unknown } | undefined = () => undefined;
  #ids = 0;

  constructor(
    private readonly code: WorkflowCode,
    private readonly seed: number,
    private readonly activities: Activities,
    readonly faults: Faults,
    {
      historyScale = 1,
      mostReplays = 6,
      slots = {},
      only,
      pace,
    }: {
      /** How many times larger than they are histories are told to be, so that short runs go on as new ones too. */
      historyScale?: number;
      /** Replays that a run may have: each costs its whole past. */
      mostReplays?: number;
      /** Attempts that the workers of a queue take at once; absent: any number. */
      slots?: Readonly<Record<string, number>>;
      /** The faults that happen, by name; absent: the seed decides. */
      only?: ReadonlySet<string> | undefined;
      pace?: Pace;
    } = {},
  ) {
    this.pace = pace;
    this.historyScale = historyScale;
    this.mostReplays = mostReplays;
    this.only = only;
    for (const [name, free] of Object.entries(slots)) this.#queues.set(name, { free, served: true, waiting: [] });
    this.random = new Random(seed, 2);
    this.timeline = new Timeline(Date.UTC(2026, 10, 28), this.random);
  }
  private readonly historyScale: number;
  private readonly mostReplays: number;
  private readonly only: ReadonlySet<string> | undefined;
  private readonly pace: Pace | undefined;

  /** Whether a fault happens to what is named. */
  #happens(kind: FaultKind, name: string, part = 1): boolean {
    const fault = `${kind}:${name}`;
    const happens = this.only
      ? this.only.has(fault)
      : this.faults[kind] > 0 && namedRandom(this.seed, fault).chance(this.faults[kind] * part);
    if (happens) this.occurred.push(fault);
    return happens;
  }

  /**
   * Does what one workflow causes in another. A script has an order of its own, as commands of one workflow task usually
   * have on a server; otherwise the seed decides what arrives first.
   */
  #underWay(arrives: () => void): void {
    if (!this.pace) return this.timeline.after(this.random.int(1, 20), arrives);
    this.#lastArrives = Math.max(this.timeline.now + 0.5, this.#lastArrives + 0.001);
    this.timeline.after(this.#lastArrives - this.timeline.now, arrives);
  }
  #lastArrives = 0;

  /** Whether a workflow id has an open run. */
  isOpen(workflowId: string): boolean {
    return this.#runs.get(workflowId)?.open ?? false;
  }

  /** Whether a child is open whose parent, a run that a reset or a termination ended, waits for it no more. */
  isLeftBehind(workflowId: string): boolean {
    const run = this.#runs.get(workflowId);
    return run?.open === true && run.parent !== undefined && !run.parent.run.open;
  }

  get open(): string[] {
    return [...this.#runs.values()].filter((run) => run.open).map(({ workflowId }) => workflowId);
  }

  get replays(): number {
    return this.#replays;
  }
  #replays = 0;

  start(workflowType: string, workflowId: string, input: readonly unknown[]): void {
    this.#begin({ workflowType, workflowId, input: input.map(payloadOf) });
  }

  signal(workflowId: string, name: string, ...input: readonly unknown[]): boolean {
    return this.#signal(workflowId, name, input.map(payloadOf));
  }

  update(workflowId: string, name: string, request: unknown): boolean {
    const run = this.#runs.get(workflowId);
    if (!run?.open) return false;
    const id = this.#newId();
    const input = [payloadOf(request)];
    run.updates.set(id, { name, input });
    this.#tell(run, {
      doUpdate: {
        id,
        protocolInstanceId: id,
        name,
        input,
        meta: { updateId: id, identity: 'client@host' },
        runValidator: true,
      },
    });
    return true;
  }

  cancel(workflowId: string): boolean {
    const run = this.#runs.get(workflowId);
    if (!run?.open) return false;
    run.history.cancelRequested();
    this.#tell(run, { cancelWorkflow: { reason: 'asked for' } });
    return true;
  }

  /** Ends a run and its children at once. No workflow code learns of it. */
  async terminate(workflowId: string): Promise<boolean> {
    const run = this.#runs.get(workflowId);
    if (!run?.open) return false;
    await this.#end(run, { how: 'terminated' }, { failure: { message: 'terminated', terminatedFailureInfo: {} } });
    return true;
  }

  /** Workflow tasks that the runs of a workflow id had, to which a reset can go back: one number a run. */
  tasksOf(workflowId: string): number[] {
    return (this.#chains.get(workflowId) ?? []).map(({ before }) => before.length);
  }

  /**
   * Starts a run again from before a workflow task, as `temporal workflow reset` does: what it was told up to then it
   * has done, and signals and updates that came later come again. An open run of the same id is terminated; children go
   * on. Of those that the new run knows, it learns the end.
   *
   * @param run the index of the run among those of its id
   * @param task the index of the workflow task that is done again
   */
  async reset(workflowId: string, run: number, task: number, { updates = true } = {}): Promise<boolean> {
    const chain = this.#chains.get(workflowId) ?? [];
    const base = chain[run];
    const point = base?.before[task];
    const open = this.#runs.get(workflowId);
    // The server refuses a reset whose new run it would not know of.
    if (!base || !point || point.activations === 0 || open?.working) return false;
    if (open?.open) {
      open.reset = true;
      await this.#close(open);
    }
    const runId = this.#newId();
    const vm = base.vm.copy(point.activations, runId);
    const next = new Run(workflowId, runId, base.workflowType, vm, base.parent, `${workflowId}.${chain.length + 1}`);
    Object.assign(next, { memo: { ...point.memo }, searchAttributes: { ...point.searchAttributes } });
    Object.assign(next.history, { events: point.events, bytes: point.bytes });
    next.history.taskFailed();
    next.before.push(...base.before.slice(0, task));
    for (const [id, update] of point.updates) next.updates.set(id, update);
    for (const seq of point.awaited) next.awaited.add(seq);
    chain.push(next);
    this.onBegin(workflowId);
    this.#runs.set(workflowId, next);
    this.outcomes.delete(workflowId);
    for (const [seq, fires] of point.timers) this.#startTimer(next, seq, fires);
    for (const { seq, command, cancelled } of point.activities) {
      this.#schedule(next, command);
      if (cancelled) this.#cancelActivity(next, seq);
    }
    for (const child of point.children) this.#adopt(base, next, { ...child });
    for (const command of point.sent) this.#sendOut(next, command);
    const later = [...base.before.slice(task + 1).flatMap(({ jobs }) => jobs), ...base.waiting];
    // Runs that the base went on as are part of what came later.
    for (let after = run + 1; after < chain.length - 1 && chain[after]!.continues; after += 1)
      later.push(...chain[after]!.before.flatMap(({ jobs }) => jobs), ...chain[after]!.waiting);
    const again = later.filter(({ signalWorkflow, doUpdate }) => signalWorkflow ?? (updates && doUpdate));
    for (const { signalWorkflow, doUpdate } of again) {
      if (signalWorkflow) next.history.signalled(signalWorkflow.signalName!, signalWorkflow.input ?? []);
      if (doUpdate)
        next.updates.set(doUpdate.protocolInstanceId!, { name: doUpdate.name!, input: doUpdate.input ?? [] });
    }
    for (const job of [...point.jobs, ...again]) this.#tell(next, job);
    return true;
  }

  /** Gives a child of an earlier run to the run that a reset made of it. */
  #adopt(base: Run, run: Run, child: PendingChild): void {
    run.children.set(child.seq, child);
    const chain = this.#chains.get(child.workflowId) ?? [];
    let at = chain.findIndex(
      ({ runId, startedBy }) => runId === child.runId || (startedBy?.run === base && startedBy.seq === child.seq),
    );
    if (at < 0) {
      this.#beginChild(run, child);
      return;
    }
    if (child.runId === undefined) {
      child.runId = chain[at]!.runId;
      run.history.childStarted(child.workflowType, child.workflowId);
      this.#tell(run, { resolveChildWorkflowExecutionStart: { seq: child.seq, succeeded: { runId: child.runId } } });
    }
    while (chain[at + 1]?.continues) at += 1;
    const newest = chain[at]!;
    newest.parent = { run, seq: child.seq };
    if (newest.told) this.#tellParent(newest, newest.told);
  }

  /** A field of a run's memo. */
  memo(workflowId: string, field: string): unknown {
    return valueOf(this.#runs.get(workflowId)?.memo[field]);
  }

  /** Lets everything happen until nothing is left, or `until` says so. @returns whether something is left. */
  async run(until: () => boolean = () => false, mostSteps = 2_000_000): Promise<boolean> {
    for (let step = 0; step < mostSteps; step += 1) {
      if (until()) return true;
      if (this.timeline.empty) return false;
      await this.timeline.step();
    }
    throw new Error(`It has no end: ${mostSteps} steps, open are ${this.open.join(', ')}.`);
  }

  /** Gives back what the VM holds. */
  async close(): Promise<void> {
    for (const run of this.#runs.values()) await run.vm.evict();
  }

  count(kind: string): void {
    this.happened.set(kind, (this.happened.get(kind) ?? 0) + 1);
  }

  #newId(): string {
    this.#ids += 1;
    return `01a22350-99ee-7ccf-8037-${String(this.#ids).padStart(12, '0')}`;
  }

  #begin(given: {
    workflowType: string;
    workflowId: string;
    input: readonly Payload[];
    parent?: { run: Run; seq: number } | undefined;
    summary?: Payload | null | undefined;
    continued?: Run;
    searchAttributes?: Record<string, Payload> | undefined;
  }): Run {
    const { workflowType, workflowId, input, parent, continued, summary } = given;
    const runId = this.#newId();
    const parentOf = parent ? { workflowId: parent.run.workflowId, runId: parent.run.runId } : undefined;
    const vm = new WorkflowRun(
      this.code,
      {
        workflowId,
        runId,
        workflowType,
        taskQueue: TASK_QUEUE,
        firstRunId: runId,
        ...(continued ? { continuedFromRunId: continued.runId } : {}),
        ...(parentOf ? { parent: parentOf } : {}),
      },
      this.timeline.now,
    );
    const chain = this.#chains.get(workflowId) ?? [];
    this.#chains.set(workflowId, chain);
    const run = new Run(workflowId, runId, workflowType, vm, parent, `${workflowId}.${chain.length + 1}`);
    chain.push(run);
    if (!continued) this.onBegin(workflowId);
    run.memo = { ...continued?.memo };
    run.continues = continued !== undefined;
    run.startedBy = parent;
    run.searchAttributes = { ...(continued?.searchAttributes ?? given.searchAttributes) };
    run.history.started({
      workflowType,
      workflowId,
      taskQueue: TASK_QUEUE,
      input,
      summary,
      parent: parentOf?.workflowId,
      memo: run.memo,
      searchAttributes: run.searchAttributes,
      continued: continued !== undefined,
    });
    this.#runs.set(workflowId, run);
    this.outcomes.delete(workflowId);
    const at = this.timeline.now;
    this.#tell(run, {
      initializeWorkflow: {
        workflowType,
        workflowId,
        arguments: [...input],
        attempt: 1,
        firstExecutionRunId: runId,
        startTime: proto.google.protobuf.Timestamp.fromObject({ seconds: Math.floor(at / 1000), nanos: 0 }),
        ...(continued ? { continuedFromExecutionRunId: continued.runId } : {}),
      },
    });
    return run;
  }

  #signal(workflowId: string, name: string, input: readonly Payload[], from?: string): boolean {
    const run = this.#runs.get(workflowId);
    if (!run?.open) return false;
    run.history.signalled(name, input, from);
    this.#tell(run, { signalWorkflow: { signalName: name, input: [...input], identity: 'worker@host' } });
    return true;
  }

  /** Puts something into a run's next workflow task. */
  #tell(run: Run, job: Job): void {
    if (!run.open) return;
    run.waiting.push(job);
    this.#scheduleTask(run);
  }

  #scheduleTask(run: Run): void {
    if (run.taskScheduled || run.working || !run.open) return;
    run.taskScheduled = true;
    run.history.taskScheduled(TASK_QUEUE, run.vm.length > 0);
    run.tasks += 1;
    const name = `${run.name}/t${run.tasks}`;
    const slow = this.#happens('slow', name, 0.25);
    const random = namedRandom(this.seed, name);
    this.timeline.after(slow ? random.int(1000, 40_000) : random.int(1, 12), () => this.#task(run));
  }

  async #task(run: Run): Promise<void> {
    if (!run.open) return;
    run.taskScheduled = false;
    run.working = true;
    this.workflowTasks += 1;
    run.history.taskStarted();
    const jobs = inOrder(run.waiting);
    run.waiting = [];
    run.before.push(beforeTask(run, jobs));
    const name = `${run.name}/t${run.tasks}`;
    if (run.vm.length > 0 && run.vm.replays < this.mostReplays && this.#happens('evict', name)) {
      this.count('evicted');
      this.#replays += 1;
      await run.vm.evict();
    }
    const { events: historyLength, bytes: historySizeBytes, continueAsNewSuggested } = run.history;
    const commands: Command[] = [];
    let activations = 0;
    for (let next = jobs; next.length > 0;) {
      const made = await run.vm.activate({
        now: this.timeline.now,
        jobs: next,
        historyLength,
        historySizeBytes: historySizeBytes * this.historyScale,
        continueAsNewSuggested,
      });
      activations += 1;
      next = this.#answeredAtOnce(run, made, commands);
      commands.push(...made);
    }
    const commit = async (): Promise<void> => {
      run.working = false;
      if (!run.open) return;
      const sent = commands.filter((command) => !isTakenBack(command, commands));
      if (sent.slice(0, -1).some(closes)) throw new TaskFailed(refusedText(run.workflowId, sent));
      run.waiting = run.waiting.filter((job) => !isSettled(run, job, commands));
      if (run.waiting.length > 0 && commands.some(closes)) {
        // The server takes no end of a run that has not seen everything. The task is done again, with all of it.
        this.count('unhandled');
        run.history.taskFailed();
        await run.vm.forget(activations);
        run.waiting = [...jobs, ...run.waiting];
        run.before.pop();
        this.#scheduleTask(run);
        return;
      }
      run.history.taskCompleted();
      const signals = jobs.flatMap(({ signalWorkflow }) => signalWorkflow?.signalName ?? []);
      this.onSignals(run.workflowId, signals, 'before');
      this.onCommands({
        workflowId: run.workflowId,
        workflowType: run.workflowType,
        commands,
        update: (id) => run.updates.get(id)?.name,
        child: (seq) => run.children.get(seq)?.workflowId,
      });
      for (const command of commands) await this.#apply(run, command, commands);
      this.onSignals(run.workflowId, signals, 'after');
      if (run.waiting.length > 0) this.#scheduleTask(run);
    };
    if (this.#happens('late', name)) this.timeline.after(namedRandom(this.seed, `late ${name}`).int(1, 3000), commit);
    else await commit();
  }

  /** What the SDK answers itself, within the same workflow task: cancelled work that nobody waits for. */
  #answeredAtOnce(run: Run, made: readonly Command[], before: readonly Command[]): Job[] {
    return made.flatMap(({ requestCancelActivity, cancelChildWorkflowExecution }): Job[] => {
      if (requestCancelActivity) {
        const seq = requestCancelActivity.seq!;
        const unsent = [...before, ...made].find(({ scheduleActivity }) => scheduleActivity?.seq === seq);
        if (unsent || !run.awaited.has(seq))
          return [{ resolveActivity: { seq, result: { cancelled: { failure: cancelledFailure() } } } }];
      }
      if (cancelChildWorkflowExecution) {
        const seq = cancelChildWorkflowExecution.childWorkflowSeq!;
        const unsent = [...before, ...made].some(
          ({ startChildWorkflowExecution }) => startChildWorkflowExecution?.seq === seq,
        );
        if (unsent)
          return [{ resolveChildWorkflowExecutionStart: { seq, cancelled: { failure: cancelledFailure() } } }];
      }
      return [];
    });
  }

  async #apply(run: Run, command: Command, all: readonly Command[]): Promise<void> {
    const { history } = run;
    if (command.scheduleActivity) {
      const { seq } = command.scheduleActivity;
      // Cancelled before it was sent.
      if (all.some(({ requestCancelActivity }) => requestCancelActivity?.seq === seq)) return;
      history.activityScheduled(command);
      this.onScheduled(run.workflowId, command.scheduleActivity.activityType!);
      this.#schedule(run, command);
    } else if (command.requestCancelActivity) {
      this.#cancelActivity(run, command.requestCancelActivity.seq!);
    } else if (command.startTimer) {
      const seq = command.startTimer.seq!;
      if (all.some(({ cancelTimer }) => cancelTimer?.seq === seq)) return;
      history.timerStarted(command);
      this.#startTimer(run, seq, this.timeline.now + millisecondsOf(command.startTimer.startToFireTimeout));
    } else if (command.cancelTimer) {
      if (run.timers.delete(command.cancelTimer.seq!)) history.timerCancelled(command.cancelTimer.seq!);
    } else if (command.startChildWorkflowExecution) {
      this.#startChild(run, command, all);
    } else if (command.cancelChildWorkflowExecution) {
      const child = run.children.get(command.cancelChildWorkflowExecution.childWorkflowSeq!);
      if (!child) return;
      history.cancellationSent(child.workflowId);
      child.cancelled = true;
      if (child.runId !== undefined) this.#underWay(() => void this.cancel(child.workflowId));
    } else if (command.signalExternalWorkflowExecution) {
      const { workflowExecution, childWorkflowId, signalName, args } = command.signalExternalWorkflowExecution;
      history.signalInitiated(workflowExecution?.workflowId ?? childWorkflowId!, signalName!, args ?? []);
      this.#sendOut(run, command);
    } else if (command.requestCancelExternalWorkflowExecution) {
      history.cancellationSent(command.requestCancelExternalWorkflowExecution.workflowExecution!.workflowId!);
      this.#sendOut(run, command);
    } else if (command.upsertWorkflowSearchAttributes) {
      const fields = command.upsertWorkflowSearchAttributes.searchAttributes?.indexedFields ?? {};
      history.searchAttributesUpserted(fields);
      Object.assign(run.searchAttributes, fields);
    } else if (command.modifyWorkflowProperties) {
      const fields = command.modifyWorkflowProperties.upsertedMemo?.fields ?? {};
      history.memoUpserted(fields);
      Object.assign(run.memo, fields);
    } else if (command.updateResponse) {
      const { accepted, completed, rejected, protocolInstanceId } = command.updateResponse;
      const update = run.updates.get(protocolInstanceId!);
      if (accepted && update) history.updateAccepted(update.name, update.input);
      if (completed) {
        history.updateCompleted(completed);
        this.answered.push(`${run.workflowId} ${update?.name}`);
      }
      if (rejected) this.count('updateRefused');
    } else if (command.completeWorkflowExecution) {
      const { result } = command.completeWorkflowExecution;
      history.completed(result);
      await this.#end(run, { how: 'completed', result: valueOf(result) }, result ? { result } : {});
    } else if (command.failWorkflowExecution) {
      const failure = command.failWorkflowExecution.failure ?? {};
      history.failed(failure);
      await this.#end(run, { how: 'failed', failure }, { failure });
    } else if (command.cancelWorkflowExecution) {
      history.cancelled();
      await this.#end(run, { how: 'cancelled' }, { failure: cancelledFailure() });
    } else if (command.continueAsNewWorkflowExecution) {
      const { workflowType, arguments: input } = command.continueAsNewWorkflowExecution;
      const type = workflowType || run.workflowType;
      history.continuedAsNew(type, TASK_QUEUE, input ?? []);
      await this.#close(run);
      this.#begin({
        workflowType: type,
        workflowId: run.workflowId,
        input: input ?? [],
        parent: run.parent,
        continued: run,
      });
    } else if (!command.setPatchMarker && !command.cancelSignalWorkflow) {
      throw new Error(`The simulation knows no command ${Object.keys(command).join(', ')}.`);
    }
  }

  #startTimer(run: Run, seq: number, fires: number): void {
    run.timers.set(seq, fires);
    this.timeline.after(fires - this.timeline.now, () => {
      if (!run.open || !run.timers.delete(seq)) return;
      run.history.timerFired(seq);
      this.#tell(run, { fireTimer: { seq } });
    });
  }

  async #close(run: Run): Promise<void> {
    run.open = false;
    run.waiting = [];
    run.timers.clear();
    const { events, bytes, largestEvent } = run.history;
    this.closed.push({ workflowId: run.workflowId, workflowType: run.workflowType, events, bytes, largestEvent });
    await run.vm.evict();
  }

  async #end(run: Run, outcome: Outcome, told: { result?: Payload; failure?: Failure }): Promise<void> {
    await this.#close(run);
    this.outcomes.set(run.workflowId, outcome);
    for (const child of run.children.values()) {
      const running = this.#runs.get(child.workflowId);
      if (running?.open && running.parent?.run === run) {
        this.count('terminated');
        await this.#close(running);
        this.outcomes.set(child.workflowId, { how: 'terminated' });
      }
    }
    run.told = { outcome, ...told };
    if (run.parent) this.#tellParent(run, run.told);
  }

  #tellParent(run: Run, { outcome, ...told }: Told): void {
    this.#underWay(() => {
      if (!run.parent) return;
      // Its parent may be another run by now, since a reset.
      const { run: parent, seq } = run.parent;
      const child = parent.children.get(seq);
      if (!parent.open || !child) return;
      parent.children.delete(seq);
      parent.history.childEnded(run.workflowType, run.workflowId, told);
      const failure = {
        message: 'Child Workflow execution failed',
        childWorkflowExecutionFailureInfo: {
          namespace: 'default',
          workflowExecution: { workflowId: run.workflowId, runId: run.runId },
          workflowType: { name: run.workflowType },
          retryState: 7,
        },
        ...(told.failure ? { cause: told.failure } : {}),
      };
      const result =
        outcome.how === 'completed'
          ? { completed: told.result ? { result: told.result } : {} }
          : outcome.how === 'cancelled'
            ? { cancelled: { failure } }
            : { failed: { failure } };
      this.#tell(parent, { resolveChildWorkflowExecution: { seq, result } });
    });
  }

  #startChild(run: Run, command: Command, all: readonly Command[]): void {
    const { seq, workflowId, workflowType } = command.startChildWorkflowExecution!;
    if (all.some(({ cancelChildWorkflowExecution: cancel }) => cancel?.childWorkflowSeq === seq)) return;
    run.history.childInitiated(command);
    const child: PendingChild = {
      seq: seq!,
      command,
      workflowId: workflowId!,
      workflowType: workflowType!,
      cancelled: false,
    };
    run.children.set(child.seq, child);
    this.onChild(child.workflowId);
    this.#beginChild(run, child);
  }

  #beginChild(run: Run, child: PendingChild): void {
    const { command } = child;
    const { input, searchAttributes } = command.startChildWorkflowExecution!;
    this.#underWay(() => {
      if (!run.open) return;
      if (this.isOpen(child.workflowId)) {
        run.children.delete(child.seq);
        run.history.childStartFailed(child.workflowType, child.workflowId);
        this.#tell(run, {
          resolveChildWorkflowExecutionStart: {
            seq: child.seq,
            failed: { workflowId: child.workflowId, workflowType: child.workflowType, cause: 1 },
          },
        });
        return;
      }
      const begun = this.#begin({
        workflowType: child.workflowType,
        workflowId: child.workflowId,
        input: input ?? [],
        parent: { run, seq: child.seq },
        summary: command.userMetadata?.summary,
        searchAttributes: searchAttributes?.indexedFields ?? undefined,
      });
      child.runId = begun.runId;
      run.history.childStarted(child.workflowType, child.workflowId);
      this.#tell(run, { resolveChildWorkflowExecutionStart: { seq: child.seq, succeeded: { runId: begun.runId } } });
      if (child.cancelled) this.#underWay(() => void this.cancel(child.workflowId));
    });
  }

  /** Sends a signal or a cancellation to another workflow. Whoever is reset before the answer sends it again. */
  #sendOut(run: Run, command: Command): void {
    const { signalExternalWorkflowExecution: signal, requestCancelExternalWorkflowExecution: cancellation } = command;
    const target = (signal ?? cancellation)!.workflowExecution?.workflowId ?? signal!.childWorkflowId!;
    run.sent.add(command);
    this.#underWay(() => {
      run.sent.delete(command);
      const taken = signal
        ? this.#signal(target, signal.signalName!, signal.args ?? [], run.workflowId)
        : this.cancel(target);
      if (!run.open) return;
      const failure = taken ? {} : { failure: { message: 'workflow execution not found', source: 'Server' } };
      if (signal) run.history.signalAnswered(target, !taken);
      this.#tell(
        run,
        signal
          ? { resolveSignalExternalWorkflow: { seq: signal.seq!, ...failure } }
          : { resolveRequestCancelExternalWorkflow: { seq: cancellation!.seq!, ...failure } },
      );
    });
  }

  #schedule(run: Run, command: Command): void {
    const { seq, cancellationType, taskQueue } = command.scheduleActivity!;
    const name = `${run.name}/${seq}`;
    const activity: PendingActivity = {
      seq: seq!,
      command,
      attempt: 0,
      cancellationType: cancellationType ?? TRY_CANCEL,
      cancelled: false,
      epoch: 0,
      queue: taskQueue ?? TASK_QUEUE,
      doomed: this.#happens('final', name) ? namedRandom(this.seed, `doom ${name}`).pick(ANY_FINAL) : undefined,
    };
    run.activities.set(activity.seq, activity);
    if (activity.cancellationType === WAIT_COMPLETED) run.awaited.add(activity.seq);
    this.#attempt(run, activity, 0);
  }

  /** Starts the next attempt after a pause, in milliseconds, as soon as a worker of its queue takes it. */
  #attempt(run: Run, activity: PendingActivity, pause: number): void {
    activity.attempt += 1;
    activity.epoch += 1;
    const { epoch } = activity;
    const begin = (): void => {
      const queue = this.#queues.get(activity.queue);
      // Meanwhile its run has ended, or it was cancelled.
      if (!run.open || run.activities.get(activity.seq) !== activity || activity.epoch !== epoch) return;
      if (!queue) this.#begun(run, activity, () => undefined);
      else if (queue.served && queue.free > 0) {
        queue.free -= 1;
        let held = true;
        this.#begun(run, activity, () => {
          if (held) queue.free += 1;
          held = false;
          this.#take(queue);
        });
      } else {
        if (activity.cancelled) return this.#activityCancelled(run, activity);
        this.#wait(run, queue, { activity, begin });
      }
    };
    if (pause === 0) begin();
    else this.timeline.after(pause, begin);
  }

  /** Puts an attempt into a queue: before those of lower priority, and for as long as it may wait. */
  #wait(run: Run, queue: Queue, waiting: Queue['waiting'][number]): void {
    const { activity } = waiting;
    const { scheduleToStartTimeout: most } = activity.command.scheduleActivity!;
    const behind = isFirst(activity) ? queue.waiting.findIndex((other) => !isFirst(other.activity)) : -1;
    queue.waiting.splice(behind < 0 ? queue.waiting.length : behind, 0, waiting);
    if (most)
      this.timeline.after(millisecondsOf(most), () => {
        const place = queue.waiting.indexOf(waiting);
        if (place < 0) return;
        queue.waiting.splice(place, 1);
        this.#resolve(run, activity, { failed: { failure: timeoutFailure('SCHEDULE_TO_START') } });
      });
  }

  /** Lets workers of a queue take what waits. */
  #take(queue: Queue): void {
    while (queue.served && queue.free > 0) {
      const next = queue.waiting.shift();
      if (!next) return;
      next.begin();
    }
  }

  /** An attempt that a worker has taken. `leave` gives the worker's slot back. */
  #begun(run: Run, activity: PendingActivity, leave: () => void): void {
    const { epoch, attempt } = activity;
    const name = `${run.name}/${activity.seq}.${attempt}`;
    const random = namedRandom(this.seed, name);
    const startedAt = this.timeline.now;
    const slow = this.#happens('slow', name);
    if (slow) this.count('slow');
    const drawn = slow ? random.int(10_000, 400_000) : random.int(5, 2000);
    const [fault] = (['crash', 'lost', 'zombie', 'retried'] as const).filter((kind) => this.#happens(kind, name));
    const fate = activity.doomed === undefined ? fault : 'final';
    const share = fate === 'crash' ? random.next() : 1;
    const { activityType, arguments: input } = activity.command.scheduleActivity!;
    const asked = {
      name: activityType!,
      input: valueOf(input?.[0]),
      attempt,
      workflowId: run.workflowId,
      runId: run.runId,
      startedAt,
    };
    const work = (part: number): unknown => this.activities({ ...asked, share: part });
    const { data: gang } = GangMember.safeParse((asked.input as { gang?: unknown } | undefined)?.gang);
    if (gang && !(gang.member === 0 && this.finds({ ...asked, share: 1 })))
      return this.#joins(run, gang, work, {
        ...{ leads: gang.member === 0, activity, leave, fate },
        isCurrent: () => run.open && run.activities.get(activity.seq) === activity && activity.epoch === epoch,
        share: namedRandom(this.seed, `share ${name}`).next(),
      });
    const duration = this.pace?.takes({ ...asked, share: 1 }) ?? drawn;
    this.#tellsEarly(run, { ...asked, share: 1 }, { name, within: duration * share });
    const isElsewhere = asked.name === 'reinforcement.ahead' && namedRandom(this.seed, `host ${name}`).chance(0.2);
    const isCurrent = (): boolean => run.activities.get(activity.seq) === activity && activity.epoch === epoch;
    const again = (failure?: Failure): void => {
      leave();
      if (!isCurrent()) return;
      if (!run.open) return void run.activities.delete(activity.seq);
      if (activity.cancelled) return this.#activityCancelled(run, activity);
      if (attempt === activity.command.scheduleActivity!.retryPolicy?.maximumAttempts)
        return this.#resolve(run, activity, { failed: { failure: failure ?? timeoutFailure('HEARTBEAT') } });
      if (failure) activity.lastFailure = failure;
      this.#attempt(run, activity, Math.min(5000, 1000 * 2 ** Math.min(attempt - 1, 6)));
    };
    const timeoutMs = 1000 * HEARTBEAT_TIMEOUT_SECONDS;
    if (fate) this.count(fate);
    this.timeline.after(Math.ceil(duration * share), () => {
      // Between two attempts there is nothing that could go on.
      if (!isCurrent() && fate !== 'zombie') return leave();
      if (activity.cancelled && isCurrent() && (this.pace !== undefined || random.chance(0.5))) {
        // It notices at a heartbeat, and leaves what it has.
        leave();
        this.#worked(() => work(random.next()));
        this.#activityCancelled(run, activity);
        return;
      }
      if (fate === 'crash') {
        this.#worked(() => work(share));
        this.timeline.after(timeoutMs, () => again());
        return;
      }
      if (fate === 'zombie') {
        this.timeline.after(timeoutMs, () => again());
        this.timeline.after(timeoutMs + random.int(0, 30_000), () => this.#worked(() => work(1)));
        return;
      }
      if (fate === 'lost') {
        this.#worked(() => work(1));
        this.timeline.after(timeoutMs, () => again());
        return;
      }
      if (fate === 'retried') {
        again(failureOf(new ActivityFails(random.pick(ANY_RETRIED), 'from the seed')));
        return;
      }
      const end = (): void => {
        if (!isCurrent() || !run.open) return leave();
        try {
          if (fate === 'final') throw new ActivityFails(activity.doomed!, 'from the seed');
          const result = isElsewhere ? { sampled: false } : work(1);
          leave();
          this.#resolve(run, activity, { completed: { result: payloadOf(result) } });
        } catch (error) {
          if (error instanceof ActivityWaits) {
            leave();
            if (activity.cancelled) return this.#activityCancelled(run, activity);
            return this.timeline.after(LOOK_MS, end);
          }
          if (!(error instanceof ActivityFails)) throw error;
          if (FAILURES[error.type] !== 'final') return again(failureOf(error));
          leave();
          this.#resolve(run, activity, { failed: { failure: failureOf(error) } });
        }
      };
      end();
    });
  }

  /** An attempt tells its workflow something at a time of the seed, whether it ends or dies. */
  #tellsEarly(run: Run, asked: Attempt, { name, within }: { name: string; within: number }): void {
    const random = namedRandom(this.seed, `tells ${name}`);
    if (asked.name !== 'reinforcement.update' || !random.chance(0.7)) return;
    this.timeline.after(Math.ceil(within * random.next()), () => {
      const told = run.open ? this.tells(asked) : undefined;
      if (!told) return;
      this.count('told early');
      this.#signal(run.workflowId, told.signal, [payloadOf(told.payload)]);
    });
  }

  /**
   * A member of a gang begins. The leader tells its workflow where it is. When all are there they train, and the first
   * one that is lost or fails ends it for all. Each has one attempt.
   */
  #joins(run: Run, { token, member, members, waitSeconds }: GangMember, work: Gang['work'], joined: Joined): void {
    const name = `${run.runId}/${token}`;
    const gang = this.#gangs.get(name) ?? { joined: [], work, over: false };
    this.#gangs.set(name, gang);
    gang.joined.push(joined);
    const random = namedRandom(this.seed, `gang ${run.name}/${joined.activity.seq}`);
    this.#watchMember(run, gang, joined, random);
    if (member === 0) {
      gang.work = work;
      this.timeline.after(random.int(5, 2000), () => {
        const leader: GangLeader = { token, leader: { address: `${token}:1` } };
        if (joined.isCurrent() && !joined.activity.cancelled)
          this.#signal(run.workflowId, MESSAGES.gangLeader, [payloadOf(leader)]);
      });
      this.timeline.after(1000 * waitSeconds, () => {
        if (!gang.trains && joined.isCurrent())
          this.#memberFails(run, joined, failureOf(new ActivityFails('RuntimeLost', 'the others have not come')));
      });
    }
    if (gang.joined.length === members) this.#trainTogether(run, gang, random);
  }

  /** A member notices at its heartbeats that it is cancelled, or that nobody waits for it. A leader leaves what it has. */
  #watchMember(run: Run, gang: Gang, member: Joined, random: Random): void {
    const { activity, isCurrent, leave } = member;
    const look = (): void => {
      if (!isCurrent()) return leave();
      if (!activity.cancelled) return this.timeline.after(random.int(1000, 10_000), look);
      leave();
      gang.over = true;
      if (gang.trains && member.leads) {
        const { since, takes } = gang.trains;
        this.#worked(() => gang.work(Math.min(0.99, (this.timeline.now - since) / takes)));
      }
      this.#activityCancelled(run, activity);
    };
    this.timeline.after(random.int(1000, 10_000), look);
  }

  #trainTogether(run: Run, gang: Gang, random: Random): void {
    const { joined } = gang;
    const takes = random.chance(0.1) ? random.int(60_000, 600_000) : random.int(500, 60_000);
    const before = [...this.#gangs].filter(([name]) => name.startsWith(`${run.runId}/`)).map(([, each]) => each);
    if (before.some((each) => each.trains && !each.over)) this.trainedAtOnce.push(run.workflowId);
    gang.trains = { since: this.timeline.now, takes };
    this.count('gang');
    const timeoutMs = 1000 * HEARTBEAT_TIMEOUT_SECONDS;
    const givenUp = ({ isCurrent, activity }: Joined): void => {
      if (isCurrent()) this.#resolve(run, activity, { failed: { failure: timeoutFailure('HEARTBEAT') } });
    };
    for (const member of joined) {
      const { fate, share } = member;
      if (fate === 'zombie') this.timeline.after(Math.ceil(takes * share) + timeoutMs, () => givenUp(member));
    }
    const [lost] = joined
      .filter(({ fate }) => fate === 'crash' || fate === 'retried' || fate === 'final')
      .sort((one, other) => one.share - other.share);
    this.timeline.after(Math.ceil(takes * (lost?.share ?? 1)), () => {
      const leader = joined.find(({ leads }) => leads);
      // The leader has left what it has, or nobody waits for it: it stores nothing more.
      if (gang.over || !leader!.isCurrent()) return;
      gang.over = true;
      if (lost) this.#worked(() => gang.work(lost.share));
      for (const member of joined) {
        const { activity, fate, leave, isCurrent } = member;
        if (!isCurrent()) continue;
        const isSilent = fate === 'lost' || fate === 'zombie' || (member === lost && fate === 'crash');
        if (fate && (member === lost || isSilent)) this.count(fate);
        if (isSilent) {
          leave();
          if (!lost && member === leader) this.#worked(() => gang.work(1));
          if (fate !== 'zombie') this.timeline.after(timeoutMs, () => givenUp(member));
        } else if (member === lost) {
          const type = fate === 'final' ? activity.doomed! : random.pick(ANY_RETRIED);
          this.#memberFails(run, member, failureOf(new ActivityFails(type, 'from the seed')));
        } else if (lost) {
          this.#memberFails(run, member, failureOf(new ActivityFails('RuntimeLost', 'a member was lost')));
        } else {
          this.#memberEnds(run, member, () => (member === leader ? gang.work(1) : undefined));
        }
      }
    });
  }

  #memberEnds(run: Run, { activity, leave }: Joined, work: () => unknown): void {
    leave();
    try {
      this.#resolve(run, activity, { completed: { result: payloadOf(work()) } });
    } catch (error) {
      if (!(error instanceof ActivityFails)) throw error;
      this.#resolve(run, activity, { failed: { failure: failureOf(error) } });
    }
  }

  #memberFails(run: Run, { activity, leave }: Joined, failure: Failure): void {
    leave();
    this.#resolve(run, activity, { failed: { failure } });
  }

  /** Whether workers serve a queue. */
  isServed(name: string): boolean {
    return this.#queues.get(name)?.served ?? true;
  }

  /** Queues with a number of slots. */
  get queues(): string[] {
    return [...this.#queues.keys()];
  }

  /** Starts or stops the workers of a queue. What they have begun they end. */
  serve(name: string, served: boolean): void {
    const queue = this.#queues.get(name);
    if (!queue) throw new Error(`The queue ${name} has no number of slots.`);
    queue.served = served;
    this.#take(queue);
  }

  /** Slots of a queue that are taken: none at the end. */
  taken(name: string, slots: number): number {
    return slots - (this.#queues.get(name)?.free ?? slots);
  }

  /** Work whose answer nobody gets. */
  #worked(work: () => unknown): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof ActivityFails || error instanceof ActivityWaits)) throw error;
    }
  }

  #cancelActivity(run: Run, seq: number): void {
    const activity = run.activities.get(seq);
    if (!activity || activity.cancelled) return;
    run.history.activityCancelRequested(seq);
    activity.cancelled = true;
    // No worker has it: the server ends it at once.
    const waiting = this.#queues.get(activity.queue)?.waiting;
    const place = waiting?.findIndex((each) => each.activity === activity) ?? -1;
    if (place < 0) return;
    waiting!.splice(place, 1);
    this.#activityCancelled(run, activity);
  }

  #activityCancelled(run: Run, activity: PendingActivity): void {
    run.activities.delete(activity.seq);
    if (!run.open) return;
    run.history.activityCancelled(activity.seq);
    if (activity.cancellationType === WAIT_COMPLETED)
      this.#tell(run, {
        resolveActivity: { seq: activity.seq, result: { cancelled: { failure: cancelledFailure() } } },
      });
    // The event wakes the workflow all the same.
    else this.#scheduleEmptyTask(run);
  }

  #scheduleEmptyTask(run: Run): void {
    if (!run.taskScheduled && !run.working) {
      run.history.taskScheduled(TASK_QUEUE, true);
      run.history.taskStarted();
      run.history.taskCompleted();
    }
  }

  #resolve(
    run: Run,
    activity: PendingActivity,
    result: { completed: { result: Payload } } | { failed: { failure: Failure } },
  ): void {
    run.activities.delete(activity.seq);
    if (!run.open) return;
    const { seq, command, attempt, lastFailure } = activity;
    if ('completed' in result) run.history.activityCompleted(seq, result.completed.result, attempt, lastFailure);
    else run.history.activityFailed(seq, result.failed.failure, attempt);
    // The workflow was told of a cancellation already, and waits no longer.
    if (activity.cancelled && activity.cancellationType !== WAIT_COMPLETED) {
      this.#scheduleEmptyTask(run);
      return;
    }
    if ('completed' in result) {
      this.#tell(run, { resolveActivity: { seq, result } });
      return;
    }
    const { activityId, activityType } = command.scheduleActivity!;
    const failure = {
      message: 'Activity task failed',
      cause: result.failed.failure,
      activityFailureInfo: {
        activityId: activityId!,
        activityType: { name: activityType! },
        identity: 'worker@host',
        retryState: 2,
      },
    };
    this.#tell(run, { resolveActivity: { seq, result: { failed: { failure } } } });
  }
}

/** Signals and updates come before everything else of a workflow task, as the SDK orders them. */
export function inOrder(jobs: readonly Job[]): Job[] {
  const rank = (job: Job): number => (job.initializeWorkflow ? 0 : job.signalWorkflow || job.doUpdate ? 1 : 2);
  return jobs
    .map((job, index) => ({ job, index }))
    .sort((a, b) => rank(a.job) - rank(b.job) || a.index - b.index)
    .map(({ job }) => job);
}

function beforeTask(run: Run, jobs: readonly Job[]): Before {
  const { vm, activities, timers, children, updates, memo, searchAttributes, history } = run;
  return {
    activations: vm.length,
    jobs,
    activities: [...activities.values()].map((activity) => ({ ...activity })),
    awaited: [...run.awaited],
    timers: [...timers],
    children: [...children.values()].map((child) => ({ ...child })),
    sent: [...run.sent],
    updates: [...updates],
    memo: { ...memo },
    searchAttributes: { ...searchAttributes },
    events: history.events,
    bytes: history.bytes,
  };
}

/** As the server says it: a worker would send the same again and again. */
function refusedText(workflowId: string, sent: readonly Command[]): string {
  const names = sent.map((command) => Object.keys(command).join()).join(', ');
  return `the server refuses the commands of ${workflowId}, because its end is not the last of them: ${names}`;
}

function closes(command: Command): boolean {
  return Boolean(
    command.completeWorkflowExecution ||
    command.failWorkflowExecution ||
    command.cancelWorkflowExecution ||
    command.continueAsNewWorkflowExecution,
  );
}

/** Whether the workflow has settled by itself what a job would tell. */
function isSettled(run: Run, { resolveActivity, fireTimer }: Job, commands: readonly Command[]): boolean {
  if (resolveActivity)
    return (
      !run.awaited.has(resolveActivity.seq!) &&
      commands.some(({ requestCancelActivity }) => requestCancelActivity?.seq === resolveActivity.seq)
    );
  if (fireTimer) return commands.some(({ cancelTimer }) => cancelTimer?.seq === fireTimer.seq);
  return false;
}

function millisecondsOf(duration: proto.google.protobuf.IDuration | null | undefined): number {
  return Number(duration?.seconds ?? 0) * 1000 + (duration?.nanos ?? 0) / 1_000_000;
}

/** Whether an attempt comes before all other work of its queue. */
function isFirst({ command }: PendingActivity): boolean {
  return command.scheduleActivity!.priority?.priorityKey === 1;
}

function timeoutFailure(type: 'SCHEDULE_TO_START' | 'HEARTBEAT'): Failure {
  const timeoutType = proto.temporal.api.enums.v1.TimeoutType[`TIMEOUT_TYPE_${type}`];
  return { message: `activity ${type} timeout`, source: 'Server', timeoutFailureInfo: { timeoutType } };
}

function cancelledFailure(): Failure {
  return { message: 'Activity cancelled', source: 'Server', canceledFailureInfo: {} };
}

/** As the failure of a worker looks on the wire, with a stack trace of usual length. */
function failureOf(error: ActivityFails): Failure {
  const { type, message, details } = error;
  const stackTrace = '    at activity (activities/simulated.ts:1:1)\n'.repeat(6);
  return {
    message,
    source: 'TypeScriptSDK',
    stackTrace,
    applicationFailureInfo: {
      type,
      nonRetryable: FAILURES[type] === 'final',
      ...(details.length > 0 ? { details: { payloads: details.map(payloadOf) } } : {}),
    },
  };
}
