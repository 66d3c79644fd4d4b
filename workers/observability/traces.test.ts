/** What traces hold, and that no collector disturbs a worker, with real HTTP servers. */
import { trace } from '@opentelemetry/api';
import { afterEach, describe, expect, it } from 'vitest';
import { annotate, inSpan, LONGEST_TEXT, traceparent } from '../../activities/runtime/spans.js';
import { fakeCollector, type Answers, type FakeCollector } from '../../test/fixtures/fake-collector.js';
import { startTraces, type Traces } from './traces.js';

const opened: { close: () => Promise<void> }[] = [];
afterEach(async () => {
  for (const each of opened.splice(0)) await each.close();
});

async function tracing(answers?: Answers): Promise<{ collector: FakeCollector; traces: Traces }> {
  const collector = await fakeCollector(answers);
  const traces = (await startTraces({ ACECODER_OTLP: collector.url })) as Traces;
  opened.push(traces, collector);
  return { collector, traces };
}

it('are not sent, and cost nothing, where no collector is named', async () => {
  expect(await startTraces({})).toBeUndefined();
  expect(traceparent()).toBeUndefined();
  annotate({ 'acecoder.attempt': 1 });
  expect(await inSpan('Python:echo', {}, () => Promise.resolve(traceparent()))).toBeUndefined();
});

it('hold what the table allows, and no text of an error', async () => {
  const { collector, traces } = await tracing();
  const secret = 'def solution(): the text of a program';
  const inner = inSpan('RunActivity:sampling.judge', { temporalWorkflowId: 'x'.repeat(10_000) }, () =>
    inSpan('Python:run', { 'acecoder.process': 'sandbox', program: secret }, () => {
      annotate({ 'acecoder.ran_ms': 1.5, 'acecoder.attempt': 3 });
      throw Object.assign(new Error(secret), { type: 'OutOfMemory' });
    }),
  );
  await expect(inner).rejects.toThrow(secret);
  await inSpan(`Another:${secret}`, {}, () => Promise.resolve());
  await traces.close();
  const [python, activity] = collector.spans;
  expect(collector.spans.map(({ name }) => name)).toEqual(['Python:run', 'RunActivity:sampling.judge']);
  expect(python).toMatchObject({ parentSpanId: activity!.spanId, traceId: activity!.traceId });
  expect(python!.attributes).toEqual({
    'acecoder.process': 'sandbox',
    'acecoder.ran_ms': 1.5,
    'acecoder.failure': 'OutOfMemory',
  });
  expect(activity!.attributes).toEqual({
    temporalWorkflowId: 'x'.repeat(LONGEST_TEXT),
    'acecoder.failure': 'OutOfMemory',
  });
  expect(collector.spans.map(({ events, message }) => [events, message])).toEqual([
    [0, undefined],
    [0, undefined],
  ]);
  expect(collector.texts.join('\n')).not.toContain(secret);
});

it('hold a span that its Python call can name', async () => {
  const { collector, traces } = await tracing();
  const told = await inSpan('Python:echo', {}, () => Promise.resolve(traceparent()));
  await traces.close();
  const [span] = collector.spans;
  expect(told).toBe(`00-${span!.traceId}-${span!.spanId}-01`);
});

describe('a collector that', () => {
  /** More than wait at most, so that some are lost. */
  const SPANS = 10_000;

  it.each(['wrongly', 'never'] as const)('answers %s loses spans and holds nobody up', async (answers) => {
    const { collector, traces } = await tracing(answers);
    for (let n = 0; n < SPANS; n += 1) await inSpan('Python:echo', {}, () => Promise.resolve());
    await expect.poll(() => collector.requests).toBeGreaterThan(0);
    await inSpan('Python:echo', {}, () => Promise.resolve());
    await traces.close();
    expect(collector.spans).toEqual([]);
  });

  it('is not there loses spans and holds nobody up', async () => {
    const collector = await fakeCollector();
    await collector.close();
    const traces = (await startTraces({ ACECODER_OTLP: collector.url })) as Traces;
    for (let n = 0; n < SPANS; n += 1) await inSpan('Python:echo', {}, () => Promise.resolve());
    await traces.close();
  });

  it('comes back gets what comes after', async () => {
    const { collector, traces } = await tracing('wrongly');
    await inSpan('Python:lost', {}, () => Promise.resolve());
    await expect.poll(() => collector.requests).toBeGreaterThan(0);
    collector.answers = 'well';
    await inSpan('Python:kept', {}, () => Promise.resolve());
    await traces.close();
    expect(collector.spans.map(({ name }) => name)).toEqual(['Python:kept']);
  });
});

it('leave nothing behind when they end', async () => {
  const { traces } = await tracing();
  await traces.close();
  expect(trace.getTracer('any').startSpan('any').isRecording()).toBe(false);
});
