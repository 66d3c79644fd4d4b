/**
 * Traces of a worker process, where `ACECODER_OTLP` names a collector: spans of workflows, activities and calls of Python
 * processes, by OTLP over HTTP. The packages of OpenTelemetry are optional; without them metrics go alone.
 *
 * A collector that is away, slow or broken loses spans and nothing else: spans wait in a queue of bounded length, and
 * nothing waits for them. What is sent is bounded by the table of spans: see activities/runtime/spans.ts.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { context, diag, DiagLogLevel, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { ReadableSpan, SpanProcessor } from '@opentelemetry/sdk-trace-node';
import type { InjectedSinks, WorkerOptions } from '@temporalio/worker';
import { PACKAGE } from '../../activities/runtime/package.js';
import { LONGEST_TEXT, SPANS } from '../../activities/runtime/spans.js';
import type { SpanSinks, WorkflowSpan } from '../../workflows/lib/spans.js';
import { collectorOf } from './telemetry.js';

/** What the packages are installed by; the versions are those that `@temporalio/interceptors-opentelemetry` works with. */
const INSTALL =
  'npm install @temporalio/interceptors-opentelemetry @opentelemetry/resources@1 @opentelemetry/sdk-trace-node@1 ' +
  '@opentelemetry/exporter-trace-otlp-http@0.57';

/** Spans that wait for the collector at most. Further ones are lost. */
const QUEUE = { maxQueueSize: 4096, maxExportBatchSize: 512, scheduledDelayMillis: 1000, exportTimeoutMillis: 10_000 };
/** For how long the end of a process waits for its last spans. */
const CLOSE_SECONDS = 5;

/** What a worker needs to send traces. */
export interface Traces {
  /** For `Worker.create`. */
  options: Pick<WorkerOptions, 'interceptors' | 'sinks'>;
  /** A line that says where traces go. */
  says: string;
  /** Sends what is left, for a few seconds. */
  close(): Promise<void>;
}

/** The module that makes the spans of workflows: it goes into the workflow bundle. */
export const workflowSpans = fileURLToPath(
  new URL(`../../workflows/lib/spans${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
);

/**
 * Begins to send traces to the collector of `ACECODER_OTLP`.
 *
 * @returns undefined where the variable is not set, and a sentence where the packages are not installed.
 * @throws Error where the variable is no address.
 */
export async function startTraces(env: NodeJS.ProcessEnv): Promise<Traces | string | undefined> {
  const collector = collectorOf(env);
  if (!collector) return undefined;
  const packages = await load();
  if (typeof packages === 'string') return packages;
  const [temporal, { Resource }, { BatchSpanProcessor, NodeTracerProvider }, { OTLPTraceExporter }] = packages;
  const resource = new Resource({
    'service.name': PACKAGE.name,
    'service.version': PACKAGE.version,
    'service.instance.id': randomUUID(),
  });
  warnOnce(collector);
  const exporter = new OTLPTraceExporter({ url: new URL('/v1/traces', collector).href, timeoutMillis: 10_000 });
  const processor = new Bounded(new BatchSpanProcessor(exporter, QUEUE));
  const provider = new NodeTracerProvider({ resource, spanProcessors: [processor] });
  provider.register();
  const tracer = provider.getTracer(PACKAGE.name, PACKAGE.version);
  const sinks: InjectedSinks<SpanSinks> = {
    acecoderSpans: { ended: { fn: (_, span) => processor.onEnd(readable(span, provider.resource)) } },
  };
  return {
    options: {
      interceptors: {
        client: { workflow: [new temporal.OpenTelemetryWorkflowClientInterceptor({ tracer })] },
        activity: [
          (activity) => ({
            inbound: new temporal.OpenTelemetryActivityInboundInterceptor(activity, { tracer }),
            outbound: new temporal.OpenTelemetryActivityOutboundInterceptor(activity),
          }),
        ],
      },
      sinks,
    },
    says: `traces go to ${collector.origin}`,
    close: async () => {
      await Promise.race([
        provider.shutdown().catch(() => undefined),
        sleep(CLOSE_SECONDS * 1000, undefined, { ref: false }),
      ]);
      for (const api of [trace, context, propagation, diag]) api.disable();
    },
  };
}

async function load() {
  try {
    return await Promise.all([
      import('@temporalio/interceptors-opentelemetry'),
      import('@opentelemetry/resources'),
      import('@opentelemetry/sdk-trace-node'),
      import('@opentelemetry/exporter-trace-otlp-http'),
    ]);
  } catch (error) {
    if (!(error instanceof Error) || Reflect.get(error, 'code') !== 'ERR_MODULE_NOT_FOUND') throw error;
    return `no traces are sent, because packages are missing: ${INSTALL}`;
  }
}

/** Says once that the collector takes no spans. The libraries would say it at each batch. */
function warnOnce(collector: URL): void {
  let isSaid = false;
  const nothing = (): void => undefined;
  diag.setLogger(
    {
      error: () => {
        if (!isSaid) console.warn(`${collector.origin} takes no traces (ACECODER_OTLP); the work goes on without them`);
        isSaid = true;
      },
      warn: nothing,
      info: nothing,
      debug: nothing,
      verbose: nothing,
    },
    { logLevel: DiagLogLevel.ERROR, suppressOverrideMessage: true },
  );
}

/** Hands on what the table allows. */
class Bounded implements SpanProcessor {
  constructor(private readonly next: SpanProcessor) {}

  onStart(...given: Parameters<SpanProcessor['onStart']>): void {
    this.next.onStart(...given);
  }

  onEnd(span: ReadableSpan): void {
    const sent = bounded(span);
    if (sent) this.next.onEnd(sent);
  }

  forceFlush(): Promise<void> {
    return this.next.forceFlush();
  }

  shutdown(): Promise<void> {
    return this.next.shutdown();
  }
}

/**
 * The span with the attributes of the table, cut to {@link LONGEST_TEXT}, and without texts of errors; undefined where
 * the table does not have it.
 */
function bounded(span: ReadableSpan): ReadableSpan | undefined {
  const kind = span.name.split(':', 1)[0]!;
  if (!Object.hasOwn(SPANS, kind)) return undefined;
  const allowed: readonly string[] = SPANS[kind as keyof typeof SPANS].attributes;
  const attributes = Object.fromEntries(
    Object.entries(span.attributes)
      .filter(([name, value]) => allowed.includes(name) && ['string', 'number'].includes(typeof value))
      .map(([name, value]) => [name, typeof value === 'string' ? value.slice(0, LONGEST_TEXT) : value]),
  );
  const { kind: of, parentSpanId, startTime, endTime, duration, resource, instrumentationLibrary } = span;
  return {
    ...EMPTY,
    ...{ kind: of, parentSpanId, startTime, endTime, duration, resource, instrumentationLibrary, attributes },
    name: span.name.slice(0, LONGEST_TEXT),
    spanContext: () => span.spanContext(),
    status: { code: span.status.code },
  };
}

/** What no span of the table has. */
const EMPTY = {
  links: [],
  events: [],
  ended: true,
  droppedAttributesCount: 0,
  droppedEventsCount: 0,
  droppedLinksCount: 0,
};

/** A span of a workflow as the exporter takes it. */
function readable(span: WorkflowSpan, resource: ReadableSpan['resource']): ReadableSpan {
  const { name, traceId, spanId, parentSpanId, start, end, failure, workflowId, runId } = span;
  return {
    ...EMPTY,
    ...{ name, parentSpanId, resource },
    kind: SpanKind.INTERNAL,
    spanContext: () => ({ traceId, spanId, traceFlags: 1 }),
    startTime: hrTime(start),
    endTime: hrTime(end),
    duration: hrTime(end - start),
    attributes: { temporalWorkflowId: workflowId, run_id: runId, 'acecoder.failure': failure },
    status: { code: failure === undefined ? SpanStatusCode.OK : SpanStatusCode.ERROR },
    instrumentationLibrary: { name: PACKAGE.name, version: PACKAGE.version },
  };
}

function hrTime(milliseconds: number): [seconds: number, nanoseconds: number] {
  return [Math.floor(milliseconds / 1000), Math.round(milliseconds % 1000) * 1_000_000];
}
