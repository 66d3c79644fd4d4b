/**
 * Spans of OpenTelemetry: the table of those that a worker process sends, and what activities add to them. Where nobody
 * has registered a tracer, each of these functions does nothing. No key, digest or result may depend on a span.
 */
import { context, propagation, SpanStatusCode, trace, type Attributes } from '@opentelemetry/api';

interface SpanKind {
  /** What stands after the name and a colon. */
  of: string;
  /** Span that it is below, where there is one. */
  below: readonly string[];
  attributes: readonly string[];
  about: string;
}

const WORKFLOW = ['temporalWorkflowId', 'run_id'] as const;

/**
 * Every span that a worker process sends, by its name, with its attributes. What is not in the table is not sent. Its
 * page is `docs/reference/spans.md`, which `npm run docs:metrics` writes.
 */
export const SPANS = {
  RunWorkflow: {
    of: 'workflow',
    below: ['StartWorkflow', 'StartChildWorkflow', 'RunWorkflow'],
    attributes: [...WORKFLOW, 'acecoder.failure'],
    about: 'A run of a workflow, from its first task to its end.',
  },
  StartChildWorkflow: {
    of: 'workflow',
    below: ['RunWorkflow'],
    attributes: [...WORKFLOW, 'acecoder.failure'],
    about: 'A child, as its parent sees it: from its request to its end.',
  },
  StartActivity: {
    of: 'activity',
    below: ['RunWorkflow'],
    attributes: [...WORKFLOW, 'acecoder.failure'],
    about: 'An activity, as its workflow sees it: with the time until a worker takes it, and with all its attempts.',
  },
  RunActivity: {
    of: 'activity',
    below: ['StartActivity'],
    attributes: [...WORKFLOW, 'temporalActivityId', 'acecoder.attempt', 'acecoder.failure'],
    about: 'An attempt of an activity on a worker.',
  },
  Python: {
    of: 'operation',
    below: ['RunActivity'],
    attributes: ['acecoder.process', 'acecoder.waited_ms', 'acecoder.ran_ms', 'acecoder.failure'],
    about: 'A request to a Python process, such as `sample` of the model runtime or `judge` of the sandbox.',
  },
  SignalWorkflow: {
    of: 'signal',
    below: ['RunActivity', 'Python'],
    attributes: ['temporalWorkflowId'],
    about: 'An activity tells its workflow of its progress.',
  },
  QueryWorkflow: {
    of: 'query',
    below: ['RunActivity'],
    attributes: ['temporalWorkflowId'],
    about: 'An activity asks another workflow, such as the experiment that a fork is made from.',
  },
} as const satisfies Record<string, SpanKind>;

/** Longest text of an attribute and of a name, in characters. */
export const LONGEST_TEXT = 200;

/**
 * Runs work in a span of its own, below the active one. A failure is told by its class alone, because its text may hold
 * what nobody else may read.
 *
 * @example
 * const rows = await inSpan('Python:sample', { 'acecoder.process': 'runtime' }, () => ask());
 */
export function inSpan<T>(name: string, attributes: Attributes, work: () => Promise<T>): Promise<T> {
  return trace.getTracer('acecoder-temporal').startActiveSpan(name, { attributes }, async (span) => {
    try {
      const result = await work();
      span.setStatus({ code: SpanStatusCode.OK });
      return result;
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR });
      span.setAttribute('acecoder.failure', classOf(error));
      throw error;
    } finally {
      span.end();
    }
  });
}

/** Adds attributes to the active span. */
export function annotate(attributes: Attributes): void {
  trace.getActiveSpan()?.setAttributes(attributes);
}

/**
 * The active span as W3C Trace Context has it; undefined where there is none.
 *
 * @example
 * traceparent(); // '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
 */
export function traceparent(): string | undefined {
  const carrier: { traceparent?: string } = {};
  propagation.inject(context.active(), carrier);
  return carrier.traceparent;
}

function classOf(error: unknown): string {
  if (!(error instanceof Error)) return 'Unknown';
  const type: unknown = Reflect.get(error, 'type');
  return typeof type === 'string' ? type : error.name;
}
