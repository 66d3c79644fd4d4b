/** What a shop sees of a worker process: metrics, health and logs, from a real process on the real stack. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, inject, it } from 'vitest';
import { METRICS } from '../../activities/metrics.js';
import { scrapedName } from '../../infra/docs-tools/metrics.js';
import { freePorts } from '../../infra/stack/server-process.js';
import { breakingStore, startWorkflow, statusWhere, workerProcess } from '../fixtures/harness.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { until } from '../fixtures/until.js';

async function get(url: string): Promise<{ status: number; text: string } | undefined> {
  return fetch(url).then(
    async (response) => ({ status: response.status, text: await response.text() }),
    () => undefined,
  );
}

/** Samples of a scrape: names with their labels, and values. */
function samplesOf(text: string): { name: string; labels: Record<string, string>; value: number }[] {
  return text.split('\n').flatMap((line) => {
    const [, name, labels = '', value] = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (name === undefined) return [];
    const pairs = [...labels.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) => [key!, text!] as const);
    return [{ name, labels: Object.fromEntries(pairs), value: Number(value) }];
  });
}

describe('a worker process that is told to be watched', () => {
  const queue = `watched-${randomUUID().slice(0, 8)}`;
  const stops: (() => unknown)[] = [];
  afterAll(async () => {
    for (const stop of stops) await stop();
  });
  let isStoreAway = true;
  let metrics = '';
  let health = '';

  it('lives and says that it is not ready, and why, while its store is away', async () => {
    const store = await breakingStore(() => isStoreAway);
    stops.push(store.close);
    const ports = { metrics: (await freePorts(1))[0]!, health: (await freePorts(1))[0]! };
    metrics = `http://127.0.0.1:${ports.metrics}/metrics`;
    health = `http://127.0.0.1:${ports.health}`;
    const worker = workerProcess(queue, {
      ...store.environment,
      ACECODER_METRICS: `127.0.0.1:${ports.metrics}`,
      ACECODER_HEALTH: `127.0.0.1:${ports.health}`,
      ACECODER_LOG: 'json',
    });
    stops.unshift(worker.stop);
    const answer = await until(
      () => get(`${health}/readyz`),
      (given) => given?.text.includes('Artifact store') ?? false,
    );
    expect(answer!.status).toBe(503);
    const told = await until(
      async () => JSON.parse((await get(`${health}/readyz`))!.text) as { conditions: Record<string, string> },
      ({ conditions }) => Object.values(conditions).every((says) => says !== 'not looked at yet'),
    );
    expect(told.conditions['Artifact store']).toContain('ACECODER_S3_ENDPOINT');
    expect(told.conditions).toMatchObject({ Disk: 'ok', Workers: 'not started yet' });
    expect((await get(`${health}/healthz`))!.status).toBe(200);
    expect((await get(`${health}/elsewhere`))!.status).toBe(404);
  });

  it('is ready when the store is back and every queue is polled', async () => {
    isStoreAway = false;
    const answer = await until(
      () => get(`${health}/readyz`),
      (given) => given?.status === 200,
    );
    expect(JSON.parse(answer!.text)).toEqual({
      ready: true,
      conditions: {
        'Artifact store': 'ok',
        Device: 'ok',
        Disk: 'ok',
        Sandbox: 'ok',
        'Temporal server': 'ok',
        Workers: 'ok',
      },
    });
  });

  it('is scraped for metrics of the table and no others, with the labels of the table and no others', async () => {
    const micro = microExperiment(queue, inject('seeds'), inject('model'));
    const stages = micro['stages'] as Record<string, object>;
    // What another test has made would be found, and nothing counted.
    for (const stage of ['filtering', 'sampling']) stages[stage] = { ...stages[stage], salt: queue };
    const experiment = await startWorkflow('experiment', micro, { taskQueue: queue, id: queue });
    await statusWhere(experiment, ({ stages }) =>
      stages.some(({ name, state }) => name === 'preferences' && state !== 'waiting'),
    );
    await experiment.cancel();
    await expect(experiment.result()).rejects.toThrow();
    const samples = samplesOf((await get(metrics))!.text);
    const own = samples.filter(({ name }) => name.startsWith('acecoder_'));
    const allowed = new Map(
      Object.values(METRICS).flatMap((metric) => {
        const name = scrapedName(metric);
        const names = metric.kind === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => name + end) : [name];
        return names.map((each) => [each, metric.labels as readonly string[]] as const);
      }),
    );
    for (const { name, labels } of own) {
      const given = Object.keys(labels).filter((label) => label !== 'service_name' && label !== 'le');
      expect(given.sort(), name).toEqual([...(allowed.get(name) ?? ['(not in the table)'])].sort());
    }
    const sum = (name: string, labels: Record<string, string> = {}): number =>
      own
        .filter(
          (each) => each.name === name && Object.entries(labels).every(([key, text]) => each.labels[key] === text),
        )
        .reduce((total, { value }) => total + value, 0);
    expect(sum('acecoder_rows_total', { activity: 'sampling.judge' })).toBeGreaterThan(0);
    expect(sum('acecoder_verdicts_total')).toBeGreaterThan(0);
    expect(sum('acecoder_store_requests_total', { outcome: 'ok' })).toBeGreaterThan(0);
    expect(sum('acecoder_store_bytes_total', { direction: 'sent' })).toBeGreaterThan(1000);
    expect(sum('acecoder_store_bytes_total', { direction: 'received' })).toBeGreaterThan(1000);
    expect(sum('acecoder_device_busy_total', { activity: 'sampling.generate' })).toBeGreaterThan(0);
    expect(sum('acecoder_device_wait_milliseconds_count')).toBeGreaterThan(0);
    expect(sum('acecoder_progress_total')).toBeGreaterThan(0);
    expect(sum('acecoder_ready', { condition: 'Artifact store' })).toBe(1);
    expect(sum('acecoder_disk_free_bytes')).toBeGreaterThan(0);
    // Temporal's own, which the same exporter has.
    expect(samples.some(({ name }) => name === 'temporal_worker_task_slots_available')).toBe(true);
    expect(new Set(own.flatMap(({ labels }) => Object.values(labels)))).not.toContain(queue);
  });

  it('logs one JSON object a line, with the workflow in the lines of its work', () => {
    const log = readFileSync(join(inject('environment')['ACECODER_HOME']!, 'logs', `workers-${queue}.log`), 'utf8');
    const printed = log.split('\n').filter(Boolean);
    expect(printed.filter((line) => !line.startsWith('{'))).toEqual([]);
    const lines = printed.map(
      (line) => JSON.parse(line) as { time: string; level: string; message: string; workflowId?: string },
    );
    expect(lines.length).toBeGreaterThan(3);
    for (const { time, level, message } of lines) {
      expect(new Date(time).toISOString()).toBe(time);
      expect(['debug', 'info', 'warn', 'error']).toContain(level);
      expect(typeof message).toBe('string');
    }
    expect(lines.some(({ message }) => message.includes(queue))).toBe(true);
  });
});
