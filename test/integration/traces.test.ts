/**
 * Traces from real worker processes to a fake collector that speaks real OTLP: one trace from the client of an
 * application to each Python call, also after `kill -9`, and no trace that disturbs the work.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { context, propagation, trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { Client } from '@temporalio/client';
import { OpenTelemetryWorkflowClientInterceptor } from '@temporalio/interceptors-opentelemetry';
import { bundleWorkflowCode, DefaultLogger, Worker } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { SPANS } from '../../activities/runtime/spans.js';
import { workflowSpans } from '../../workers/observability/traces.js';
import { workflowsPath } from '../../workers/plugins/acecoder-plugin.js';
import { fakeCollector, type CollectedSpan, type FakeCollector } from '../fixtures/fake-collector.js';
import { startWorkflow, temporalClient, workerProcess } from '../fixtures/harness.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { programsFile } from '../fixtures/programs.js';
import { until } from '../fixtures/until.js';

type SpanName = keyof typeof SPANS;
const kindOf = ({ name }: CollectedSpan): string => name.split(':', 1)[0]!;

/** A client of an application that sends traces of its own to the same collector. */
async function tracingClient(collector: FakeCollector): Promise<{ client: Client; close: () => Promise<void> }> {
  const exporter = new OTLPTraceExporter({ url: `${collector.url}/v1/traces` });
  const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  provider.register();
  const { connection, options } = await temporalClient();
  const tracer = provider.getTracer('application');
  const workflow = [new OpenTelemetryWorkflowClientInterceptor({ tracer })];
  return {
    client: new Client({ connection, namespace: options.namespace, interceptors: { workflow } }),
    close: async () => {
      await provider.shutdown();
      for (const api of [trace, context, propagation]) api.disable();
    },
  };
}

describe('an experiment whose first worker is killed', () => {
  const queue = `traced-${randomUUID().slice(0, 8)}`;
  let collector: FakeCollector;
  let client: Awaited<ReturnType<typeof tracingClient>>;
  let traceId = '';
  /** Processes, by their first spans. */
  let first = '';
  const spans = (): CollectedSpan[] => collector.spans.filter((span) => span.traceId === traceId);
  const parentOf = ({ parentSpanId }: CollectedSpan): CollectedSpan | undefined =>
    collector.spans.find(({ spanId }) => spanId === parentSpanId);

  beforeAll(async () => {
    collector = await fakeCollector();
    client = await tracingClient(collector);
    const environment = { ...inject('environment'), ACECODER_OTLP: collector.url };
    const killed = workerProcess(queue, environment);
    const micro = microExperiment(queue, inject('seeds'), inject('model'));
    const stages = micro['stages'] as Record<string, object>;
    // What another test has made would be found, and nothing called.
    for (const stage of ['filtering', 'sampling', 'rewardModel']) stages[stage] = { ...stages[stage], salt: queue };
    await client.client.workflow.start('experiment', { taskQueue: queue, workflowId: queue, args: [micro] });
    const isGenerated = ({ name }: CollectedSpan): boolean => name === 'Python:sample';
    const sample = await until(
      () => collector.spans.find(isGenerated),
      (span) => span !== undefined,
    );
    await killed.kill();
    first = sample!.process;
    const worker = workerProcess(queue, environment);
    // Whose requests are in no trace.
    const experiment = (await temporalClient()).workflow.getHandle(queue);
    await until(
      () => collector.spans,
      (all) => all.some(({ name }) => name === 'SignalWorkflow:stageProgress'),
      (all) => JSON.stringify(all.map(({ name }) => name)),
    );
    await experiment.cancel();
    await expect(experiment.result()).rejects.toThrow();
    // It asks the other one where to fork, whatever comes of it.
    const patch = { stages: { rewardModel: { epochs: 1 } } };
    const fork = await startWorkflow(
      'experiment',
      { name: 'fork', fork: { of: queue, from: 'rewardModel', patch } },
      { taskQueue: queue, id: `${queue}-fork` },
    );
    await until(
      () => collector.spans,
      (all) => all.some((span) => kindOf(span) === 'QueryWorkflow'),
      (all) => JSON.stringify(all.map(({ name }) => name)),
    );
    await fork.cancel();
    await fork.result().catch(() => undefined);
    await worker.stop();
    await client.close();
    traceId = collector.spans.find(({ name }) => name === 'StartWorkflow:experiment')!.traceId;
  });
  afterAll(() => collector.close());

  it('is one trace, from the client to the Python processes of both workers', () => {
    const others = collector.spans.filter((span) => span.traceId !== traceId && kindOf(span) !== 'QueryWorkflow');
    expect(new Set(others.map(({ attributes }) => String(attributes['temporalWorkflowId'])))).not.toContain(queue);
    const python = spans().filter((span) => kindOf(span) === 'Python');
    expect(python.some(({ process }) => process === first)).toBe(true);
    const later = python.filter(({ process }) => process !== first);
    expect(new Set(later.map(({ attributes }) => attributes['acecoder.process']))).toEqual(
      new Set(['runtime', 'sandbox']),
    );
    const call = later.find(({ name }) => name === 'Python:sample')!;
    const above: string[] = [];
    for (let span: CollectedSpan | undefined = call; span; span = parentOf(span)) above.push(span.name);
    expect(above).toEqual([
      'Python:sample',
      'RunActivity:sampling.generate',
      'StartActivity:sampling.generate',
      'RunWorkflow:sampling',
      'StartChildWorkflow:sampling',
      'RunWorkflow:experiment',
      'StartWorkflow:experiment',
    ]);
  });

  it('has each span below one that the table allows, but for attempts that ended by the kill', () => {
    for (const span of spans()) {
      const parent = parentOf(span);
      if (span.name === 'StartWorkflow:experiment') expect(span.parentSpanId).toBeUndefined();
      else if (parent) expect(SPANS[kindOf(span) as SpanName].below, span.name).toContain(kindOf(parent));
      else expect([span.name, span.process]).toEqual([span.name, first]);
    }
    const roots = spans().filter(({ parentSpanId }) => parentSpanId === undefined);
    expect(roots.map(({ name }) => name)).toEqual(['StartWorkflow:experiment']);
    // A span can come again: a batch whose answer is late is sent again, and so is a workflow task that the server refuses
    // because something else came in. How the span ends may differ then, what it is of may not.
    const isOf = ({ name, traceId: of, parentSpanId, attributes }: CollectedSpan): unknown => ({
      ...{ name, of, parentSpanId },
      attributes: { ...attributes, 'acecoder.failure': undefined },
    });
    const known = new Map(collector.spans.map((span) => [span.spanId, span]));
    for (const span of collector.spans) expect(isOf(span)).toEqual(isOf(known.get(span.spanId)!));
  });

  it('begins with the workflow where the client sends no trace', () => {
    const fork = collector.spans.filter(({ attributes }) => attributes['temporalWorkflowId'] === `${queue}-fork`);
    const [root] = fork.filter(({ parentSpanId }) => parentSpanId === undefined);
    expect(root?.name).toBe('RunWorkflow:experiment');
    expect(new Set(fork.map((span) => span.traceId))).toEqual(new Set([root!.traceId]));
  });

  it('sends the spans and the attributes of the table, all of them and no others', () => {
    const own = collector.spans.filter((span) => kindOf(span) !== 'StartWorkflow');
    expect([...new Set(own.map(kindOf))].sort()).toEqual(Object.keys(SPANS).sort());
    for (const [kind, { attributes }] of Object.entries(SPANS)) {
      const sent = new Set(own.filter((span) => kindOf(span) === kind).flatMap((span) => Object.keys(span.attributes)));
      // Not everything fails here.
      for (const name of attributes) if (name === 'acecoder.failure') sent.add(name);
      expect([...sent].sort(), kind).toEqual([...attributes].sort());
    }
    for (const { attributes } of own.filter((span) => kindOf(span) === 'Python')) {
      const [waited, ran] = [attributes['acecoder.waited_ms'], attributes['acecoder.ran_ms']];
      if (attributes['acecoder.failure'] === undefined)
        expect(Math.min(Number(waited), Number(ran))).toBeGreaterThan(-1);
    }
  });

  it('tells no text of a program, and no key', () => {
    const sent = collector.texts.join('\n');
    const codes = readFileSync(inject('seeds'), 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => (JSON.parse(line) as { code: string }).code);
    expect(codes.length).toBeGreaterThan(4);
    for (const line of codes.flatMap((code) => code.split('\n')).filter((code) => code.trim().length > 12))
      expect(sent).not.toContain(line.trim());
    const { ACECODER_S3_SECRET_KEY, ACECODER_S3_ACCESS_KEY } = inject('environment');
    for (const key of [ACECODER_S3_SECRET_KEY!, ACECODER_S3_ACCESS_KEY!]) expect(sent).not.toContain(key);
  });

  it('has histories that replay with traces and without', async () => {
    const { workflow } = await temporalClient();
    const logger = new DefaultLogger('ERROR');
    const sinks = { acecoderSpans: { ended: { fn: () => undefined } } };
    for (const workflowInterceptorModules of [[], [workflowSpans]]) {
      const bundle = await bundleWorkflowCode({ workflowsPath: workflowsPath.all, workflowInterceptorModules, logger });
      for (const workflowId of [queue, `${queue}/filtering`, `${queue}/sampling`, `${queue}/rewardModel`]) {
        const history = await workflow.getHandle(workflowId).fetchHistory();
        await Worker.runReplayHistory({ workflowBundle: bundle, sinks }, history, workflowId);
      }
    }
  });
});

describe('a collector that never answers', () => {
  it('holds up neither a stage nor the end of its worker', { tags: 'long' }, async () => {
    const queue = `untraced-${randomUUID().slice(0, 8)}`;
    const collector = await fakeCollector('never');
    const worker = workerProcess(queue, { ...inject('environment'), ACECODER_OTLP: collector.url }, 'without-gpu');
    const programs = { kind: 'programs', path: programsFile(mkdtempSync(join(tmpdir(), 'acecoder-traces-'))) };
    const input = { inputs: { programs }, config: { salt: queue } };
    const handle = await startWorkflow('preferences', input, { taskQueue: queue });
    expect(await handle.result()).toMatchObject({ metrics: { pairs: 25 } });
    await until(
      () => collector.requests,
      (count) => count > 0,
    );
    await worker.stop();
    expect([worker.child.exitCode, worker.child.signalCode]).toEqual([0, null]);
    await collector.close();
  });
});
