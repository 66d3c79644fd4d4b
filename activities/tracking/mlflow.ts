/**
 * Points in MLflow, by its REST interface of version 2.0. The run is found by a tag with the workflow id, so that a
 * tracker that was killed goes on with the same run, and a point is sent once.
 */
import { z } from 'zod';
import { StageFailure } from '../../workflows/contract/index.js';
import type { Point } from './points.js';

/** Metrics in one request, by the interface's own limit. */
const BATCH = 1000;
/** Seconds in which the server has to answer. */
const ANSWER_SECONDS = 30;
/** Tag that holds the workflow id. */
const WORKFLOW_TAG = 'acecoder.workflow';

const Run = z.object({
  info: z.object({ run_id: z.string() }),
  data: z.object({
    metrics: z.array(z.object({ key: z.string(), step: z.coerce.number().default(0) })).default([]),
  }),
});

/** How a tracker knows an experiment. */
export interface TrackedRun {
  /** Workflow id: one run of the tracker belongs to it, whoever sends. */
  workflowId: string;
  /** MLflow experiment; made where there is none. */
  project: string;
}

/** A tracker at one address. */
export class MlflowTracker {
  readonly #address: string;

  /** @param address of the server, such as `http://127.0.0.1:5000`; `token` is sent as a bearer token. */
  constructor(
    address: string,
    private readonly token?: string,
  ) {
    this.#address = address.replace(/\/+$/, '');
  }

  /**
   * Sends the points that the run does not have yet.
   *
   * @returns how many were sent, and the id of the run.
   * @throws StageFailure `InvalidExperiment` where the server refuses, or an error of `fetch` where it does not answer.
   * @example
   * await new MlflowTracker('http://127.0.0.1:5000').send({ workflowId: 'my-run', project: 'acecoder' }, points);
   */
  async send(run: TrackedRun, points: readonly Point[]): Promise<{ runId: string; sent: number }> {
    const experimentId = await this.#experiment(run.project);
    const { info, data } = (await this.#find(run, experimentId)) ?? (await this.#create(run, experimentId, points));
    const last = new Map(data.metrics.map(({ key, step }) => [key, step]));
    const fresh = points
      .map(({ tag, ...point }) => ({ ...point, key: keyOf(tag) }))
      .filter(({ key, step }) => step > (last.get(key) ?? -1));
    for (let at = 0; at < fresh.length; at += BATCH) {
      await this.#call('runs/log-batch', {
        run_id: info.run_id,
        metrics: fresh
          .slice(at, at + BATCH)
          .map(({ key, step, value, time }) => ({ key, step, value, timestamp: Math.round(time * 1000) })),
      });
    }
    return { runId: info.run_id, sent: fresh.length };
  }

  /** Says that the run has ended. */
  async end(runId: string, status: 'FINISHED' | 'FAILED' | 'KILLED', time: number): Promise<void> {
    await this.#call('runs/update', { run_id: runId, status, end_time: Math.round(time * 1000) });
  }

  async #experiment(name: string): Promise<string> {
    const Found = z.object({ experiment: z.object({ experiment_id: z.string() }) });
    const query = `experiments/get-by-name?experiment_name=${encodeURIComponent(name)}`;
    const found = await this.#call(query, undefined, { missing: 'RESOURCE_DOES_NOT_EXIST' });
    if (found !== undefined) return Found.parse(found).experiment.experiment_id;
    return z.object({ experiment_id: z.string() }).parse(await this.#call('experiments/create', { name }))
      .experiment_id;
  }

  async #find({ workflowId }: TrackedRun, experimentId: string): Promise<z.infer<typeof Run> | undefined> {
    // A text of the filter stands in quotes of one kind, and knows no escape.
    const quote = ["'", '"'].find((each) => !workflowId.includes(each));
    if (quote === undefined)
      throw new StageFailure(
        'InvalidExperiment',
        `MLflow cannot find runs by the workflow id ${JSON.stringify(workflowId)}: it has quotes of both kinds`,
      );
    const filter = `tags.\`${WORKFLOW_TAG}\` = ${quote}${workflowId}${quote}`;
    const answer = await this.#call('runs/search', { experiment_ids: [experimentId], filter, max_results: 1 });
    return z.object({ runs: z.array(Run).default([]) }).parse(answer).runs[0];
  }

  async #create(
    { workflowId }: TrackedRun,
    experimentId: string,
    points: readonly Point[],
  ): Promise<z.infer<typeof Run>> {
    const began = points.reduce((least, { time }) => Math.min(least, time), points[0]?.time ?? 0);
    const answer = await this.#call('runs/create', {
      experiment_id: experimentId,
      run_name: workflowId,
      start_time: Math.round(began * 1000),
      tags: [{ key: WORKFLOW_TAG, value: workflowId }],
    });
    return z.object({ run: Run }).parse(answer).run;
  }

  /** One request; undefined where the server says that what is asked for is missing, by that code. */
  async #call(path: string, body?: object, { missing }: { missing?: string } = {}): Promise<unknown> {
    const response = await fetch(`${this.#address}/api/2.0/mlflow/${path}`, {
      method: body ? 'POST' : 'GET',
      headers: {
        'content-type': 'application/json',
        ...(this.token === undefined ? {} : { authorization: `Bearer ${this.token}` }),
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
      signal: AbortSignal.timeout(ANSWER_SECONDS * 1000),
    });
    const text = await response.text();
    if (response.ok) return JSON.parse(text) as unknown;
    const { error_code: code = '', message = text.slice(0, 300) } = refusalOf(text);
    if (missing !== undefined && code === missing) return undefined;
    throw new StageFailure(
      'InvalidExperiment',
      `MLflow at ${this.#address} refuses ${path.split('?')[0]}: ${response.status} ${code} ${message}`.trimEnd(),
    );
  }
}

function refusalOf(text: string): { error_code?: string | undefined; message?: string | undefined } {
  try {
    return z.object({ error_code: z.string().optional(), message: z.string().optional() }).parse(JSON.parse(text));
  } catch {
    return {};
  }
}

/** A name that MLflow takes: letters, digits, and `_-. /` alone. */
function keyOf(tag: string): string {
  return tag.replaceAll('@', '_at_').replace(/[^\w\-. /]/g, '_');
}
