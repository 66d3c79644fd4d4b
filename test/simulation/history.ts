/**
 * The history that a server would write, as far as its size goes: each event is built as the server builds it, encoded
 * and counted. Ids that the simulation does not know have their usual length. `simulation.test.ts` holds this against
 * recorded histories.
 */
import proto from '@temporalio/proto';
import type { Command } from './workflow-vm.js';

const { HistoryEvent } = proto.temporal.api.history.v1;
const { EventType } = proto.temporal.api.enums.v1;

/** What an event holds, with numbers where the wire has 64 bits. */
type Event = { eventType: proto.temporal.api.enums.v1.EventType } & Record<string, unknown>;
export type Payload = proto.temporal.api.common.v1.IPayload;
export type Failure = proto.temporal.api.failure.v1.IFailure;

/** As long as those of a server. */
const UUID = '01a22350-99ee-7ccf-8037-03c5460e7041';
const IDENTITY = 'worker@host';
const BUILD_ID = `@temporalio/worker@1.24.0+${'d'.repeat(64)}`;
const NAMESPACE = 'default';
const TASK_ID = 1_050_000;
/** Attributes of an event whose duration is unset, as the server writes them. */
const ZERO = {};
/** Bytes that surround an event in its batch: tag and length, and what a batch has itself. */
const AROUND_EVENT = 3;
/** From here on the server suggests to go on as a new run. */
const SUGGESTED_EVENTS = 4096;
const SUGGESTED_BYTES = 4 * 1024 * 1024;

const queue = (name: string) => ({ name, kind: 1 });
const execution = (workflowId: string) => ({ workflowId, runId: UUID });
const seconds = (count: number) => ({ seconds: count });

/** What a run's first event tells. */
export interface Started {
  workflowType: string;
  workflowId: string;
  taskQueue: string;
  input: readonly Payload[];
  summary?: Payload | null | undefined;
  parent?: string | undefined;
  memo?: Readonly<Record<string, Payload>>;
  searchAttributes?: Readonly<Record<string, Payload>>;
  continued?: boolean;
}

/** Events and bytes of a run. */
export class History {
  events = 0;
  bytes = 0;
  /** Bytes of the largest event: no payload is larger. */
  largestEvent = 0;
  /** Bytes by type of event. */
  readonly byType = new Map<string, number>();
  readonly #scheduled = new Map<number, number>();

  get continueAsNewSuggested(): boolean {
    return this.events >= SUGGESTED_EVENTS || this.bytes >= SUGGESTED_BYTES;
  }

  started({
    workflowType,
    workflowId,
    taskQueue,
    input,
    summary,
    parent,
    memo,
    searchAttributes,
    continued,
  }: Started): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
      ...(summary ? { userMetadata: { summary } } : {}),
      workflowExecutionStartedEventAttributes: {
        workflowType: { name: workflowType },
        ...(parent === undefined
          ? {}
          : {
              parentWorkflowNamespace: NAMESPACE,
              parentWorkflowNamespaceId: UUID,
              parentWorkflowExecution: execution(parent),
              parentInitiatedEventId: 100,
              rootWorkflowExecution: execution(parent),
            }),
        taskQueue: queue(taskQueue),
        input: { payloads: [...input] },
        workflowTaskTimeout: seconds(10),
        originalExecutionRunId: UUID,
        ...(parent === undefined ? { identity: IDENTITY } : {}),
        firstExecutionRunId: UUID,
        attempt: 1,
        firstWorkflowTaskBackoff: ZERO,
        header: {},
        workflowId,
        ...(continued ? { continuedExecutionRunId: UUID, initiator: 1 } : {}),
        ...(memo && Object.keys(memo).length > 0 ? { memo: { fields: memo } } : {}),
        ...(searchAttributes && Object.keys(searchAttributes).length > 0
          ? { searchAttributes: { indexedFields: searchAttributes } }
          : {}),
      },
    });
  }

  taskScheduled(taskQueue: string, sticky: boolean): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
      workflowTaskScheduledEventAttributes: {
        taskQueue: sticky ? { name: `1@host`, kind: 2, normalName: taskQueue } : queue(taskQueue),
        startToCloseTimeout: seconds(10),
        attempt: 1,
      },
    });
  }

  taskStarted(): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
      workflowTaskStartedEventAttributes: {
        scheduledEventId: this.events,
        identity: IDENTITY,
        requestId: UUID,
        historySizeBytes: this.bytes,
        workerVersion: { buildId: BUILD_ID },
      },
    });
  }

  taskCompleted(): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
      workflowTaskCompletedEventAttributes: {
        scheduledEventId: this.events - 1,
        startedEventId: this.events,
        identity: IDENTITY,
        workerVersion: { buildId: BUILD_ID },
        // Later tasks name only flags that are new.
        sdkMetadata:
          this.events < 4 ? { coreUsedFlags: [1, 2, 3], sdkName: 'temporal-typescript', sdkVersion: '1.24.0' } : {},
        meteringMetadata: {},
      },
    });
  }

  taskFailed(): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
      workflowTaskFailedEventAttributes: {
        scheduledEventId: this.events - 1,
        startedEventId: this.events,
        cause: 6,
        failure: { message: 'UnhandledCommand', serverFailureInfo: { nonRetryable: true } },
        identity: IDENTITY,
        workerVersion: { buildId: BUILD_ID },
      },
    });
  }

  activityScheduled({ scheduleActivity, userMetadata }: Command): void {
    const { seq, activityId, activityType, taskQueue, startToCloseTimeout, heartbeatTimeout, retryPolicy, ...more } =
      scheduleActivity!;
    this.#add({
      eventType: EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
      ...(userMetadata ? { userMetadata } : {}),
      activityTaskScheduledEventAttributes: {
        activityId: activityId!,
        activityType: { name: activityType! },
        taskQueue: queue(taskQueue!),
        header: {},
        input: { payloads: more.arguments ?? [] },
        scheduleToCloseTimeout: ZERO,
        scheduleToStartTimeout: ZERO,
        startToCloseTimeout: startToCloseTimeout!,
        heartbeatTimeout: heartbeatTimeout!,
        workflowTaskCompletedEventId: this.events,
        retryPolicy: retryPolicy!,
        useWorkflowBuildId: true,
      },
    });
    this.#scheduled.set(seq!, this.events);
  }

  #activityStarted(seq: number, attempt: number, lastFailure?: Failure): number {
    this.#add({
      eventType: EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED,
      activityTaskStartedEventAttributes: {
        scheduledEventId: this.#scheduled.get(seq) ?? this.events,
        identity: IDENTITY,
        requestId: UUID,
        attempt,
        ...(lastFailure ? { lastFailure } : {}),
        workerVersion: { buildId: BUILD_ID },
      },
    });
    return this.events;
  }

  /** A completion is written together with the start of the attempt. */
  activityCompleted(seq: number, result: Payload | undefined, attempt = 1, lastFailure?: Failure): void {
    const startedEventId = this.#activityStarted(seq, attempt, lastFailure);
    this.#add({
      eventType: EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
      activityTaskCompletedEventAttributes: {
        result: { payloads: result ? [result] : [] },
        scheduledEventId: this.#scheduled.get(seq) ?? this.events,
        startedEventId,
        identity: IDENTITY,
      },
    });
  }

  activityFailed(seq: number, failure: Failure, attempt = 1): void {
    const startedEventId = this.#activityStarted(seq, attempt);
    this.#add({
      eventType: EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
      activityTaskFailedEventAttributes: {
        failure,
        scheduledEventId: this.#scheduled.get(seq) ?? this.events,
        startedEventId,
        identity: IDENTITY,
        retryState: 5,
      },
    });
  }

  activityCancelRequested(seq: number): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED,
      activityTaskCancelRequestedEventAttributes: {
        scheduledEventId: this.#scheduled.get(seq) ?? this.events,
        workflowTaskCompletedEventId: this.events,
      },
    });
  }

  activityCancelled(seq: number): void {
    const startedEventId = this.#activityStarted(seq, 1);
    this.#add({
      eventType: EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
      activityTaskCanceledEventAttributes: {
        scheduledEventId: this.#scheduled.get(seq) ?? this.events,
        startedEventId,
        latestCancelRequestedEventId: this.events,
        identity: IDENTITY,
      },
    });
  }

  timerStarted({ startTimer, userMetadata }: Command): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_TIMER_STARTED,
      ...(userMetadata ? { userMetadata } : {}),
      timerStartedEventAttributes: {
        timerId: String(startTimer!.seq),
        startToFireTimeout: startTimer!.startToFireTimeout!,
        workflowTaskCompletedEventId: this.events,
      },
    });
  }

  timerFired(seq: number): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_TIMER_FIRED,
      timerFiredEventAttributes: { timerId: String(seq), startedEventId: this.events },
    });
  }

  timerCancelled(seq: number): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_TIMER_CANCELED,
      timerCanceledEventAttributes: {
        timerId: String(seq),
        startedEventId: this.events,
        workflowTaskCompletedEventId: this.events,
        identity: IDENTITY,
      },
    });
  }

  signalled(signalName: string, input: readonly Payload[], from?: string): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
      workflowExecutionSignaledEventAttributes: {
        signalName,
        input: { payloads: [...input] },
        identity: IDENTITY,
        header: {},
        ...(from === undefined ? {} : { externalWorkflowExecution: execution(from) }),
        requestId: UUID,
      },
    });
  }

  signalInitiated(workflowId: string, signalName: string, input: readonly Payload[]): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
      signalExternalWorkflowExecutionInitiatedEventAttributes: {
        workflowTaskCompletedEventId: this.events,
        namespace: NAMESPACE,
        namespaceId: UUID,
        workflowExecution: { workflowId },
        signalName,
        input: { payloads: [...input] },
        header: {},
      },
    });
  }

  /** The answer to a signal of this run: taken, or refused because nobody takes it. */
  signalAnswered(workflowId: string, failed: boolean): void {
    const attributes = {
      initiatedEventId: this.events,
      namespace: NAMESPACE,
      namespaceId: UUID,
      workflowExecution: { workflowId },
    };
    this.#add(
      failed
        ? {
            eventType: EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED,
            signalExternalWorkflowExecutionFailedEventAttributes: {
              ...attributes,
              cause: 1,
              workflowTaskCompletedEventId: this.events,
            },
          }
        : {
            eventType: EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED,
            externalWorkflowExecutionSignaledEventAttributes: attributes,
          },
    );
  }

  /** The request to cancel another run, and its answer. */
  cancellationSent(workflowId: string): void {
    const attributes = { namespace: NAMESPACE, namespaceId: UUID, workflowExecution: { workflowId } };
    this.#add({
      eventType: EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
      requestCancelExternalWorkflowExecutionInitiatedEventAttributes: {
        ...attributes,
        workflowTaskCompletedEventId: this.events,
        childWorkflowOnly: true,
      },
    });
    this.#add({
      eventType: EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
      externalWorkflowExecutionCancelRequestedEventAttributes: { ...attributes, initiatedEventId: this.events },
    });
  }

  cancelRequested(): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
      workflowExecutionCancelRequestedEventAttributes: { identity: IDENTITY },
    });
  }

  childInitiated({ startChildWorkflowExecution, userMetadata }: Command): void {
    const { workflowId, workflowType, taskQueue, input, searchAttributes } = startChildWorkflowExecution!;
    this.#add({
      eventType: EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
      ...(userMetadata ? { userMetadata } : {}),
      startChildWorkflowExecutionInitiatedEventAttributes: {
        namespace: NAMESPACE,
        namespaceId: UUID,
        workflowId: workflowId!,
        workflowType: { name: workflowType! },
        taskQueue: queue(taskQueue!),
        input: { payloads: input ?? [] },
        workflowRunTimeout: ZERO,
        workflowTaskTimeout: seconds(10),
        parentClosePolicy: 1,
        workflowTaskCompletedEventId: this.events,
        workflowIdReusePolicy: 1,
        header: {},
        ...(searchAttributes ? { searchAttributes } : {}),
        inheritBuildId: true,
      },
    });
  }

  childStarted(workflowType: string, workflowId: string): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED,
      childWorkflowExecutionStartedEventAttributes: {
        namespace: NAMESPACE,
        namespaceId: UUID,
        initiatedEventId: this.events,
        workflowExecution: execution(workflowId),
        workflowType: { name: workflowType },
        header: {},
      },
    });
  }

  childStartFailed(workflowType: string, workflowId: string): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED,
      startChildWorkflowExecutionFailedEventAttributes: {
        namespace: NAMESPACE,
        namespaceId: UUID,
        initiatedEventId: this.events,
        workflowId,
        workflowType: { name: workflowType },
        cause: 1,
        workflowTaskCompletedEventId: this.events,
      },
    });
  }

  childEnded(workflowType: string, workflowId: string, end: { result?: Payload; failure?: Failure }): void {
    const attributes = {
      namespace: NAMESPACE,
      namespaceId: UUID,
      workflowExecution: execution(workflowId),
      workflowType: { name: workflowType },
      initiatedEventId: this.events,
      startedEventId: this.events,
    };
    this.#add(
      end.failure
        ? {
            eventType: EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED,
            childWorkflowExecutionFailedEventAttributes: { ...attributes, failure: end.failure, retryState: 7 },
          }
        : {
            eventType: EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED,
            childWorkflowExecutionCompletedEventAttributes: {
              ...attributes,
              result: { payloads: end.result ? [end.result] : [] },
            },
          },
    );
  }

  searchAttributesUpserted(indexedFields: Readonly<Record<string, Payload>>): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
      upsertWorkflowSearchAttributesEventAttributes: {
        workflowTaskCompletedEventId: this.events,
        searchAttributes: { indexedFields },
      },
    });
  }

  memoUpserted(fields: Readonly<Record<string, Payload>>): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED,
      workflowPropertiesModifiedEventAttributes: {
        workflowTaskCompletedEventId: this.events,
        upsertedMemo: { fields },
      },
    });
  }

  updateAccepted(name: string, input: readonly Payload[]): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
      workflowExecutionUpdateAcceptedEventAttributes: {
        protocolInstanceId: UUID,
        acceptedRequestMessageId: `${UUID}/request`,
        acceptedRequestSequencingEventId: this.events,
        acceptedRequest: {
          meta: { updateId: UUID, identity: IDENTITY },
          input: { header: {}, name, args: { payloads: [...input] } },
        },
      },
    });
  }

  updateCompleted(result: Payload): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED,
      workflowExecutionUpdateCompletedEventAttributes: {
        meta: { updateId: UUID, identity: IDENTITY },
        acceptedEventId: this.events,
        outcome: { success: { payloads: [result] } },
      },
    });
  }

  completed(result: Payload | null | undefined): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
      workflowExecutionCompletedEventAttributes: {
        result: { payloads: result ? [result] : [] },
        workflowTaskCompletedEventId: this.events,
      },
    });
  }

  failed(failure: Failure): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
      workflowExecutionFailedEventAttributes: { failure, retryState: 7, workflowTaskCompletedEventId: this.events },
    });
  }

  cancelled(): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
      workflowExecutionCanceledEventAttributes: { workflowTaskCompletedEventId: this.events },
    });
  }

  continuedAsNew(workflowType: string, taskQueue: string, input: readonly Payload[]): void {
    this.#add({
      eventType: EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
      workflowExecutionContinuedAsNewEventAttributes: {
        newExecutionRunId: UUID,
        workflowType: { name: workflowType },
        taskQueue: queue(taskQueue),
        input: { payloads: [...input] },
        workflowRunTimeout: ZERO,
        workflowTaskTimeout: seconds(10),
        workflowTaskCompletedEventId: this.events,
        inheritBuildId: true,
      },
    });
  }

  #add(event: Event): void {
    this.events += 1;
    const whole = HistoryEvent.fromObject({
      eventId: this.events,
      eventTime: { seconds: 1_795_000_000, nanos: 335_177_030 },
      taskId: TASK_ID,
      ...event,
    });
    const size = HistoryEvent.encode(whole).finish().length + AROUND_EVENT;
    this.bytes += size;
    this.largestEvent = Math.max(this.largestEvent, size);
    const name = EventType[event.eventType].replace('EVENT_TYPE_', '');
    this.byType.set(name, (this.byType.get(name) ?? 0) + size);
  }
}
