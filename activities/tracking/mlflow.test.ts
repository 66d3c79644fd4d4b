/**
 * Points at a fake MLflow, which speaks the requests that the tracker makes. The same calls were made once against a
 * real server, MLflow 3.17.2, with the same counts.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MlflowTracker } from './mlflow.js';
import type { Point } from './points.js';

interface FakeRun {
  id: string;
  tag: string;
  status: string;
  metrics: { key: string; step: number; value: number; timestamp: number }[];
}

/** The interface's answers to what the tracker asks, from memory. */
class FakeMlflow {
  readonly runs: FakeRun[] = [];
  readonly experiments: string[] = [];
  readonly tokens: (string | undefined)[] = [];
  /** Requests to log that are answered before the server fails. */
  failsAfter = Number.POSITIVE_INFINITY;
  #server!: Server;
  address = '';

  async start(): Promise<void> {
    this.#server = createServer((request, response) => {
      void this.#answer(request).then(([status, body]) => response.writeHead(status).end(JSON.stringify(body)));
    });
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.address = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  stop(): Promise<void> {
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  async #answer(request: IncomingMessage): Promise<[number, object]> {
    this.tokens.push(request.headers.authorization);
    let text = '';
    for await (const chunk of request) text += String(chunk);
    const body = (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>;
    const url = new URL(request.url ?? '', 'http://fake');
    switch (url.pathname.replace('/api/2.0/mlflow/', '')) {
      case 'experiments/get-by-name': {
        const id = this.experiments.indexOf(url.searchParams.get('experiment_name')!);
        return id < 0
          ? [404, { error_code: 'RESOURCE_DOES_NOT_EXIST', message: 'none' }]
          : [200, { experiment: { experiment_id: String(id) } }];
      }
      case 'experiments/create':
        this.experiments.push(String(body['name']));
        return [200, { experiment_id: String(this.experiments.length - 1) }];
      case 'runs/search': {
        const [, , wanted] = /^tags\.`acecoder\.workflow` = (['"])(.*)\1$/.exec(String(body['filter'])) ?? [];
        const runs = this.runs.filter(({ tag }) => tag === wanted);
        return [200, runs.length === 0 ? {} : { runs: runs.map((run) => this.#told(run)) }];
      }
      case 'runs/create': {
        const [tag] = body['tags'] as { value: string }[];
        const run: FakeRun = { id: `run-${this.runs.length}`, tag: tag!.value, status: 'RUNNING', metrics: [] };
        this.runs.push(run);
        return [200, { run: this.#told(run) }];
      }
      case 'runs/log-batch': {
        if ((this.failsAfter -= 1) < 0) return [400, { error_code: 'INVALID_PARAMETER_VALUE', message: 'enough' }];
        const metrics = body['metrics'] as FakeRun['metrics'];
        if (metrics.length > 1000) return [400, { error_code: 'INVALID_PARAMETER_VALUE', message: 'too many' }];
        this.runs.find(({ id }) => id === body['run_id'])!.metrics.push(...metrics);
        return [200, {}];
      }
      case 'runs/update':
        this.runs.find(({ id }) => id === body['run_id'])!.status = String(body['status']);
        return [200, {}];
      default:
        return [404, { error_code: 'ENDPOINT_NOT_FOUND' }];
    }
  }

  /** A run as the search tells it: the newest step of each metric, and steps as texts. */
  #told({ id, metrics }: FakeRun): object {
    const newest = new Map<string, number>();
    for (const { key, step } of metrics) newest.set(key, Math.max(step, newest.get(key) ?? 0));
    return {
      info: { run_id: id },
      data: { metrics: [...newest].map(([key, step]) => ({ key, value: 0, step: String(step) })) },
    };
  }
}

const fake = (): FakeMlflow => server;
let server: FakeMlflow;
beforeEach(async () => {
  server = new FakeMlflow();
  await server.start();
});
afterEach(() => server.stop());

const RUN = { workflowId: 'my-run', project: 'acecoder' };
const points = (count: number, tag = 'reinforcement/reward'): Point[] =>
  Array.from({ length: count }, (_, at) => ({ tag, step: at + 1, value: at / 10, time: 1000 + at }));

describe('MlflowTracker', () => {
  it('sends each point once, whoever sends, under one run of the workflow', async () => {
    const tracker = (): MlflowTracker => new MlflowTracker(fake().address);
    const first = await tracker().send(RUN, points(2));
    expect(first.sent).toBe(2);
    const more = [...points(5), { tag: 'evaluation/humaneval/trained/pass@1', step: 0, value: 0.5, time: 1010 }];
    expect(await tracker().send(RUN, more)).toEqual({ runId: first.runId, sent: 4 });
    expect(await tracker().send(RUN, more)).toEqual({ runId: first.runId, sent: 0 });
    expect((await tracker().send({ ...RUN, workflowId: "it's" }, more)).runId).not.toBe(first.runId);
    const [run] = fake().runs;
    expect(run!.metrics.map(({ key }) => key)).toContain('evaluation/humaneval/trained/pass_at_1');
    expect(run!.metrics[0]).toEqual({ key: 'reinforcement/reward', step: 1, value: 0, timestamp: 1_000_000 });
    expect(fake().experiments).toEqual(['acecoder']);
  });

  it('goes on where a killed one stopped, between two requests', async () => {
    fake().failsAfter = 1;
    const all = [...points(900), ...points(900, 'rewardModel/loss')];
    const tracker = new MlflowTracker(fake().address);
    await expect(tracker.send(RUN, all)).rejects.toThrow(/refuses runs\/log-batch: 400 INVALID_PARAMETER_VALUE enough/);
    fake().failsAfter = Number.POSITIVE_INFINITY;
    expect((await tracker.send(RUN, all)).sent).toBe(800);
    const sent = fake().runs[0]!.metrics.map(({ key, step }) => `${key} ${step}`);
    expect(new Set(sent).size).toBe(1800);
    expect(sent).toHaveLength(1800);
  });

  it('sends its token, and says how a run ended', async () => {
    const tracker = new MlflowTracker(fake().address, 'secret');
    const { runId } = await tracker.send(RUN, points(1));
    await tracker.end(runId, 'FINISHED', 2000);
    expect(fake().runs[0]!.status).toBe('FINISHED');
    expect(new Set(fake().tokens)).toEqual(new Set(['Bearer secret']));
  });

  it('refuses a workflow id that no filter can hold', async () => {
    await expect(new MlflowTracker(fake().address).send({ ...RUN, workflowId: `'"` }, [])).rejects.toThrow(
      'quotes of both kinds',
    );
  });
});
