/**
 * Spans of workflows: one for a run, and one for each activity and child that it starts. The module is in the bundle of
 * workers that send traces, and in no other.
 *
 * It stands in for the workflow interceptors of `@temporalio/interceptors-opentelemetry`, whose headers it reads and
 * writes. Those wait for what they hand on, so a workflow sees a result some microtasks later than without them. Of two
 * results in one workflow task, the other one may then come first, and a history that was recorded without traces does
 * not replay. These hand on the promise itself. Ids come from a random stream of their own, so a replay makes the same
 * ids, and the workflow's other random numbers stay as they are.
 */
import {
  ActivityFailure,
  ApplicationFailure,
  ChildWorkflowFailure,
  defaultPayloadConverter,
  type Headers,
} from '@temporalio/common';
import {
  ContinueAsNew,
  getRandomStream,
  isCancellation,
  proxySinks,
  workflowInfo,
  type Sinks,
  type WorkflowInterceptors,
} from '@temporalio/workflow';

/** A span that has ended. Times are milliseconds since 1970, by the workflow's clock. */
export interface WorkflowSpan {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId: string | undefined;
  start: number;
  end: number;
  /** Class of the failure; undefined: it went well. */
  failure: string | undefined;
  workflowId: string;
  runId: string;
}

/**
 * Where spans go. It is called outside of replays alone. A span is sent again, with the same id, where the server refuses
 * the task that ended it because something else came in; how the last one ends is what holds.
 */
export interface SpanSinks extends Sinks {
  acecoderSpans: { ended(span: WorkflowSpan): void };
}

/** Header of `@temporalio/interceptors-opentelemetry`. */
const HEADER = '_tracer-data';
const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

/** The span of this run, to which all others belong. */
interface Run {
  traceId: string;
  spanId: string;
  parentSpanId: string | undefined;
  isSampled: boolean;
  /** What came with `traceparent`, such as `tracestate`. */
  carrier: Record<string, string>;
}

const sinks = proxySinks<SpanSinks>();
const random = (bytes: number): string =>
  [...getRandomStream('acecoder.spans').fill(new Uint8Array(bytes))]
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('');

function runOf(headers: Headers): Run {
  const carrier = carrierOf(headers);
  const [, traceId, parentSpanId, flags] = TRACEPARENT.exec(carrier['traceparent'] ?? '') ?? [];
  const spanId = random(8);
  if (!traceId) return { traceId: random(16), spanId, parentSpanId: undefined, isSampled: true, carrier };
  return { traceId, spanId, parentSpanId, isSampled: (parseInt(flags!, 16) & 1) === 1, carrier };
}

/** What whoever started the run has sent; nothing where it is no carrier, because a trace never ends work. */
function carrierOf(headers: Headers): Record<string, string> {
  try {
    const given: unknown = headers[HEADER] && defaultPayloadConverter.fromPayload(headers[HEADER]);
    if (typeof given !== 'object' || given === null) return {};
    return Object.fromEntries(
      Object.entries(given).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
    );
  } catch {
    return {};
  }
}

function withSpan(headers: Headers, { traceId, isSampled, carrier }: Run, spanId: string): Headers {
  const traceparent = `00-${traceId}-${spanId}-${isSampled ? '01' : '00'}`;
  return { ...headers, [HEADER]: defaultPayloadConverter.toPayload({ ...carrier, traceparent }) };
}

/** Sends a span when `ended` has come about, without a word to whoever else waits for it. */
function sendAtEnd(run: Run, name: string, spanId: string, parentSpanId: string | undefined, ended: Promise<unknown>) {
  if (!run.isSampled) return;
  const start = Date.now();
  const { workflowId, runId } = workflowInfo();
  const send = (failure: string | undefined): void =>
    sinks.acecoderSpans.ended({
      name,
      traceId: run.traceId,
      spanId,
      parentSpanId,
      start,
      end: Date.now(),
      failure,
      workflowId,
      runId,
    });
  ended.then(
    () => send(undefined),
    (error: unknown) => send(error instanceof ContinueAsNew ? undefined : failureClass(error)),
  );
}

/** Never the text of a failure. */
function failureClass(error: unknown): string {
  if (isCancellation(error)) return 'Cancelled';
  const cause = error instanceof ActivityFailure || error instanceof ChildWorkflowFailure ? error.cause : error;
  if (cause instanceof ApplicationFailure && cause.type) return cause.type;
  return cause instanceof Error ? cause.name : 'Unknown';
}

/** What the SDK asks the module for, once a run. */
export const interceptors = (): WorkflowInterceptors => {
  let run: Run | undefined;
  return {
    inbound: [
      {
        execute(input, next) {
          run = runOf(input.headers);
          const result = next(input);
          sendAtEnd(run, `RunWorkflow:${workflowInfo().workflowType}`, run.spanId, run.parentSpanId, result);
          return result;
        },
      },
    ],
    outbound: [
      {
        scheduleActivity(input, next) {
          if (!run) return next(input);
          const spanId = random(8);
          const result = next({ ...input, headers: withSpan(input.headers, run, spanId) });
          sendAtEnd(run, `StartActivity:${input.activityType}`, spanId, run.spanId, result);
          return result;
        },
        startChildWorkflowExecution(input, next) {
          if (!run) return next(input);
          const spanId = random(8);
          const started = next({ ...input, headers: withSpan(input.headers, run, spanId) });
          const ended = started.then(([first, completed]) => Promise.all([first, completed]));
          sendAtEnd(run, `StartChildWorkflow:${input.workflowType}`, spanId, run.spanId, ended);
          return started;
        },
        continueAsNew(input, next) {
          return run ? next({ ...input, headers: withSpan(input.headers, run, run.spanId) }) : next(input);
        },
      },
    ],
  };
};
