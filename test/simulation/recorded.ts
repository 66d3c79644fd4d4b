/** Histories that a server recorded, through the simulation's workflow VM: the same commands must come out. */
import proto from '@temporalio/proto';
import { inOrder, valueOf } from './server.js';
import { isTakenBack, WorkflowRun, type Command, type Job, type WorkflowCode } from './workflow-vm.js';

type Event = proto.temporal.api.history.v1.IHistoryEvent;
type Payloads = proto.temporal.api.common.v1.IPayloads | null | undefined;
const { EventType } = proto.temporal.api.enums.v1;
const WAIT_COMPLETED: number = proto.coresdk.workflow_commands.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED;

/** One command, as a text that is the same whether a workflow gave it or a server wrote it. */
type Course = string[];

/** What a workflow did by its history, and what the simulation's VM does when it is told the same. */
export async function compared(
  code: WorkflowCode,
  events: readonly Event[],
): Promise<{ recorded: Course; simulated: Course }> {
  const run = new RecordedRun(code, events);
  return { recorded: events.flatMap((event) => eventText(event) ?? []), simulated: await run.commands() };
}

const payloads = (of: Payloads): unknown[] => (of?.payloads ?? []).map(valueOf);
const fields = (of: Record<string, proto.temporal.api.common.v1.IPayload> | null | undefined): object =>
  // Fields of a map have no order of their own.
  Object.fromEntries(
    Object.entries(of ?? {})
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, payload]) => [name, valueOf(payload)]),
  );
const text = (kind: string, ...what: unknown[]): string =>
  `${kind} ${what.map((each) => JSON.stringify(each)).join(' ')}`;
const seconds = (of: proto.google.protobuf.IDuration | null | undefined): number => Number(of?.seconds ?? 0);
const millisecondsOf = (of: proto.google.protobuf.ITimestamp | null | undefined): number =>
  Number(of?.seconds ?? 0) * 1000 + Math.floor((of?.nanos ?? 0) / 1_000_000);

/** The text of an event that a command made. */
export function eventText(event: Event): string | undefined {
  const {
    activityTaskScheduledEventAttributes: activity,
    timerStartedEventAttributes: timer,
    startChildWorkflowExecutionInitiatedEventAttributes: child,
    signalExternalWorkflowExecutionInitiatedEventAttributes: signal,
    requestCancelExternalWorkflowExecutionInitiatedEventAttributes: cancel,
    upsertWorkflowSearchAttributesEventAttributes: attributes,
    workflowPropertiesModifiedEventAttributes: memo,
    workflowExecutionUpdateAcceptedEventAttributes: accepted,
    workflowExecutionUpdateCompletedEventAttributes: updated,
    workflowExecutionCompletedEventAttributes: completed,
    workflowExecutionFailedEventAttributes: failed,
    workflowExecutionContinuedAsNewEventAttributes: continued,
  } = event;
  if (activity)
    return text('activity', activity.activityType?.name, activity.taskQueue?.name, payloads(activity.input));
  if (event.eventType === EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED) return text('cancel activity');
  if (timer) return text('timer', seconds(timer.startToFireTimeout));
  if (event.eventType === EventType.EVENT_TYPE_TIMER_CANCELED) return text('cancel timer');
  if (child) return text('child', child.workflowType?.name, child.workflowId, payloads(child.input));
  if (signal) return text('signal', signal.workflowExecution?.workflowId, signal.signalName, payloads(signal.input));
  if (cancel) return text('cancel workflow', cancel.workflowExecution?.workflowId);
  if (attributes) return text('search attributes', fields(attributes.searchAttributes?.indexedFields));
  if (memo) return text('memo', fields(memo.upsertedMemo?.fields));
  if (accepted) return text('update accepted', accepted.acceptedRequest?.input?.name);
  if (updated) return text('update completed', payloads(updated.outcome?.success));
  if (completed) return text('complete', payloads(completed.result));
  if (failed) return text('fail', failed.failure?.message, failed.failure?.applicationFailureInfo?.type);
  if (event.eventType === EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED) return text('cancelled');
  if (continued) return text('continue', continued.workflowType?.name, payloads(continued.input));
  return undefined;
}

/** The text of a command; `update` names an update, `child` a child workflow. */
export function commandText(
  command: Command,
  update: (id: string) => string | null | undefined,
  child: (seq: number) => string | null | undefined,
): string {
  const {
    scheduleActivity: activity,
    startTimer: timer,
    startChildWorkflowExecution: start,
    signalExternalWorkflowExecution: signal,
    completeWorkflowExecution: complete,
    failWorkflowExecution: fail,
    continueAsNewWorkflowExecution: continued,
    updateResponse: response,
    cancelChildWorkflowExecution: cancelChild,
    requestCancelExternalWorkflowExecution: cancelExternal,
  } = command;
  const all = (of: proto.temporal.api.common.v1.IPayload[] | null | undefined): unknown[] => (of ?? []).map(valueOf);
  if (activity) return text('activity', activity.activityType, activity.taskQueue, all(activity.arguments));
  if (command.requestCancelActivity) return text('cancel activity');
  if (timer) return text('timer', seconds(timer.startToFireTimeout));
  if (command.cancelTimer) return text('cancel timer');
  if (start) return text('child', start.workflowType, start.workflowId, all(start.input));
  if (signal)
    return text(
      'signal',
      signal.workflowExecution?.workflowId ?? signal.childWorkflowId,
      signal.signalName,
      all(signal.args),
    );
  if (cancelChild) return text('cancel workflow', child(cancelChild.childWorkflowSeq!));
  if (cancelExternal) return text('cancel workflow', cancelExternal.workflowExecution?.workflowId);
  if (command.upsertWorkflowSearchAttributes)
    return text('search attributes', fields(command.upsertWorkflowSearchAttributes.searchAttributes?.indexedFields));
  if (command.modifyWorkflowProperties)
    return text('memo', fields(command.modifyWorkflowProperties.upsertedMemo?.fields));
  if (response?.accepted) return text('update accepted', update(response.protocolInstanceId!));
  if (response?.completed) return text('update completed', [valueOf(response.completed)]);
  if (complete) return text('complete', complete.result ? [valueOf(complete.result)] : []);
  if (fail) return text('fail', fail.failure?.message, fail.failure?.applicationFailureInfo?.type);
  if (command.cancelWorkflowExecution) return text('cancelled');
  if (continued) return text('continue', continued.workflowType || undefined, all(continued.arguments));
  return text('other', Object.keys(command));
}

/** A run that is told what its history says, task by task. */
class RecordedRun {
  readonly #run: WorkflowRun;
  readonly #updates = new Map<string, string | null | undefined>();
  /** By the id of the event that asked for it, its number among the commands. */
  readonly #asked = new Map<string, number>();
  /** Numbers that commands of a kind had, in order, and which of them have no event yet. */
  readonly #numbers: Record<'activity' | 'child' | 'signal' | 'cancel', number[]> = {
    activity: [],
    child: [],
    signal: [],
    cancel: [],
  };
  readonly #children = new Map<number, string | null | undefined>();
  /** Activities whose end is waited for after a request to cancel them. */
  readonly #awaited = new Set<number>();
  /** Activities that a request to cancel them has settled. */
  readonly #settled = new Set<number>();
  #type: string | undefined;

  constructor(
    code: WorkflowCode,
    private readonly events: readonly Event[],
  ) {
    const started = events[0]!.workflowExecutionStartedEventAttributes!;
    const { parentWorkflowExecution: parent, continuedExecutionRunId } = started;
    this.#type = started.workflowType?.name ?? undefined;
    this.#run = new WorkflowRun(
      code,
      {
        workflowId: started.workflowId!,
        runId: started.originalExecutionRunId!,
        workflowType: started.workflowType!.name!,
        taskQueue: started.taskQueue!.name!,
        firstRunId: started.firstExecutionRunId!,
        ...(continuedExecutionRunId ? { continuedFromRunId: continuedExecutionRunId } : {}),
        ...(parent ? { parent: { workflowId: parent.workflowId!, runId: parent.runId! } } : {}),
      },
      millisecondsOf(events[0]!.eventTime),
    );
  }

  async commands(): Promise<Course> {
    const course: Course = [];
    let waiting: Job[] = [];
    for (let at = 0; at < this.events.length; at += 1) {
      const event = this.events[at]!;
      const started = event.workflowTaskStartedEventAttributes;
      const end = this.events[at + 1];
      if (!started) {
        this.#number(event);
        const job = this.#job(event);
        if (job) waiting.push(job);
        continue;
      }
      // A task that failed, as before a reset, told nothing; and one that has no end yet is not done.
      if (!end?.workflowTaskCompletedEventAttributes) continue;
      const { sdkMetadata } = end.workflowTaskCompletedEventAttributes;
      const flags = sdkMetadata?.langUsedFlags ?? [];
      let jobs = inOrder([...waiting, ...this.#updatesOf(at + 2)]);
      waiting = [];
      const all: Command[] = [];
      // A task without news, such as after the end of an activity that nobody waits for.
      while (jobs.length > 0) {
        const made = await this.#run.activate(
          {
            now: millisecondsOf(event.eventTime),
            jobs,
            historyLength: Number(event.eventId),
            historySizeBytes: Number(started.historySizeBytes ?? 0),
            continueAsNewSuggested: started.suggestContinueAsNew ?? false,
          },
          { flags },
        );
        all.push(...made);
        jobs = this.#settledAtOnce(made);
      }
      const sent = all.filter((command) => !isTakenBack(command, all));
      this.#remember(sent);
      course.push(
        ...sent.flatMap((command) => {
          const written = commandText(
            command,
            (id) => this.#updates.get(id),
            (seq) => this.#children.get(seq),
          );
          return written === 'continue undefined' ? [] : [written.replace('continue  ', `continue "${this.#type}" `)];
        }),
      );
    }
    return course;
  }

  /** Numbers of commands that will have an event, in the order in which a server writes these. */
  #remember(commands: readonly Command[]): void {
    for (const { scheduleActivity, startChildWorkflowExecution: child, ...more } of commands) {
      if (scheduleActivity) {
        this.#numbers.activity.push(scheduleActivity.seq!);
        if (Number(scheduleActivity.cancellationType) === WAIT_COMPLETED) this.#awaited.add(scheduleActivity.seq!);
      }
      if (child) {
        this.#numbers.child.push(child.seq!);
        this.#children.set(child.seq!, child.workflowId);
      }
      const { signalExternalWorkflowExecution: signal, requestCancelExternalWorkflowExecution: cancel } = more;
      if (signal) this.#numbers.signal.push(signal.seq!);
      if (cancel) this.#numbers.cancel.push(cancel.seq!);
    }
  }

  #number(event: Event): void {
    const kind = event.activityTaskScheduledEventAttributes
      ? 'activity'
      : event.startChildWorkflowExecutionInitiatedEventAttributes
        ? 'child'
        : event.signalExternalWorkflowExecutionInitiatedEventAttributes
          ? 'signal'
          : event.requestCancelExternalWorkflowExecutionInitiatedEventAttributes
            ? 'cancel'
            : undefined;
    const number = kind && this.#numbers[kind].shift();
    if (number !== undefined) this.#asked.set(String(event.eventId), number);
  }

  #settledAtOnce(commands: readonly Command[]): Job[] {
    return commands.flatMap(({ requestCancelActivity }): Job[] => {
      const seq = requestCancelActivity?.seq;
      if (typeof seq !== 'number' || this.#awaited.has(seq)) return [];
      this.#settled.add(seq);
      return [{ resolveActivity: { seq, result: { cancelled: { failure: CANCELLED } } } }];
    });
  }

  /** Updates that the task whose commands begin at an event accepted. */
  #updatesOf(first: number): Job[] {
    const jobs: Job[] = [];
    for (const { eventType, workflowExecutionUpdateAcceptedEventAttributes: accepted } of this.events.slice(first)) {
      if (eventType === EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED) break;
      if (!accepted) continue;
      const { protocolInstanceId, acceptedRequest } = accepted;
      const id = protocolInstanceId!;
      this.#updates.set(id, acceptedRequest?.input?.name);
      jobs.push({
        doUpdate: {
          id,
          protocolInstanceId: id,
          name: acceptedRequest!.input!.name!,
          input: acceptedRequest!.input!.args?.payloads ?? [],
          meta: acceptedRequest!.meta!,
          runValidator: false,
        },
      });
    }
    return jobs;
  }

  #activity(seq: number): proto.temporal.api.failure.v1.IActivityFailureInfo {
    const id = String(seq);
    const asked = this.events.find(
      ({ activityTaskScheduledEventAttributes: scheduled }) => scheduled?.activityId === id,
    );
    const name = asked?.activityTaskScheduledEventAttributes?.activityType?.name ?? '';
    return { activityId: id, activityType: { name }, retryState: 5 };
  }

  /** What an event tells a workflow. */
  #job(event: Event): Job | undefined {
    const asked = (id: unknown): number => this.#asked.get(String(id)) ?? -1;
    const {
      workflowExecutionStartedEventAttributes: started,
      workflowExecutionSignaledEventAttributes: signalled,
      workflowExecutionCancelRequestedEventAttributes: cancelled,
      activityTaskCompletedEventAttributes: completed,
      activityTaskFailedEventAttributes: failed,
      activityTaskCanceledEventAttributes: stopped,
      timerFiredEventAttributes: fired,
      childWorkflowExecutionStartedEventAttributes: childStarted,
      startChildWorkflowExecutionFailedEventAttributes: childRefused,
      childWorkflowExecutionCompletedEventAttributes: childCompleted,
      childWorkflowExecutionFailedEventAttributes: childFailed,
      childWorkflowExecutionCanceledEventAttributes: childCancelled,
      childWorkflowExecutionTerminatedEventAttributes: childTerminated,
      externalWorkflowExecutionSignaledEventAttributes: taken,
      signalExternalWorkflowExecutionFailedEventAttributes: refused,
      externalWorkflowExecutionCancelRequestedEventAttributes: cancelTaken,
      requestCancelExternalWorkflowExecutionFailedEventAttributes: cancelRefused,
    } = event;
    if (started)
      return {
        initializeWorkflow: {
          workflowType: started.workflowType!.name!,
          workflowId: started.workflowId!,
          arguments: started.input?.payloads ?? [],
          attempt: 1,
          firstExecutionRunId: started.firstExecutionRunId!,
          startTime: event.eventTime!,
        },
      };
    if (signalled)
      return { signalWorkflow: { signalName: signalled.signalName!, input: signalled.input?.payloads ?? [] } };
    if (cancelled) return { cancelWorkflow: { reason: '' } };
    if (fired) return { fireTimer: { seq: Number(fired.timerId) } };
    const activity = completed ?? failed ?? stopped;
    if (activity) {
      const seq = asked(activity.scheduledEventId);
      if (this.#settled.has(seq)) return undefined;
      const [result] = completed?.result?.payloads ?? [];
      if (completed) return { resolveActivity: { seq, result: { completed: { result: result! } } } };
      if (stopped) return { resolveActivity: { seq, result: { cancelled: { failure: CANCELLED } } } };
      return {
        resolveActivity: {
          seq,
          result: {
            failed: {
              failure: {
                message: 'Activity task failed',
                cause: failed!.failure!,
                activityFailureInfo: this.#activity(seq),
              },
            },
          },
        },
      };
    }
    if (childStarted)
      return {
        resolveChildWorkflowExecutionStart: {
          seq: asked(childStarted.initiatedEventId),
          succeeded: { runId: childStarted.workflowExecution!.runId! },
        },
      };
    if (childRefused)
      return {
        resolveChildWorkflowExecutionStart: {
          seq: asked(childRefused.initiatedEventId),
          failed: { workflowId: childRefused.workflowId!, workflowType: childRefused.workflowType!.name!, cause: 1 },
        },
      };
    const child = childCompleted ?? childFailed ?? childCancelled ?? childTerminated;
    if (child) {
      const seq = asked(child.initiatedEventId);
      const [result] = childCompleted?.result?.payloads ?? [];
      if (childCompleted)
        return { resolveChildWorkflowExecution: { seq, result: { completed: result ? { result } : {} } } };
      const cause = childFailed
        ? childFailed.failure!
        : childTerminated
          ? { message: 'terminated', terminatedFailureInfo: {} }
          : { message: 'Child Workflow execution cancelled', canceledFailureInfo: {} };
      const failure = {
        message: 'Child Workflow execution failed',
        cause,
        childWorkflowExecutionFailureInfo: {
          workflowExecution: child.workflowExecution!,
          workflowType: child.workflowType!,
          retryState: 7,
        },
      };
      return {
        resolveChildWorkflowExecution: {
          seq,
          result: childCancelled ? { cancelled: { failure } } : { failed: { failure } },
        },
      };
    }
    const gone = { message: 'workflow execution not found', source: 'Server' };
    if (taken) return { resolveSignalExternalWorkflow: { seq: asked(taken.initiatedEventId) } };
    if (refused) return { resolveSignalExternalWorkflow: { seq: asked(refused.initiatedEventId), failure: gone } };
    const cancelSeq = asked((cancelTaken ?? cancelRefused)?.initiatedEventId);
    if (cancelTaken && cancelSeq >= 0) return { resolveRequestCancelExternalWorkflow: { seq: cancelSeq } };
    if (cancelRefused && cancelSeq >= 0)
      return { resolveRequestCancelExternalWorkflow: { seq: cancelSeq, failure: gone } };
    return undefined;
  }
}

const CANCELLED = { message: 'Activity cancelled', source: 'Server', canceledFailureInfo: {} };
