/** An experiment as commands look at it while it runs: its configuration, its stages, and the newest round. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, WorkflowNotFoundError } from '@temporalio/client';
import { dataConverterOf, payloadCodec } from '../../workers/payloads/codec.js';
import { valueOf } from './progress.js';
import { resultsOf } from '../../activities/artifacts/results.js';
import {
  createArtifactStore,
  storeOptionsFromEnvironment,
  type ArtifactStore,
} from '../../activities/artifacts/store.js';
import { forkSource } from '../../activities/experiment/fork-source.js';
import type { ReportSource } from '../../activities/report/build.js';
import {
  ArtifactRef,
  asksForFork,
  expandPreset,
  Experiment,
  MESSAGES,
  stagesOf,
  Summary,
  type ExperimentStatus,
  type ForkSource,
  type Frontier,
  type StageStatus,
} from '../../workflows/contract/index.js';
import { onEndSignal } from '../setup/processes.mjs';
import { connectToServer } from '../stack/server.js';
import { environmentOfStore } from './store-of-environment.js';

/** How long a worker may take to answer a query. */
const QUERY_MILLISECONDS = 10_000;

/** Asks Temporal and the store how an experiment stands. */
export class Watched {
  #config: Experiment | undefined;

  constructor(
    private readonly client: Client,
    private readonly store: ArtifactStore,
    private readonly workflowId: string,
  ) {}

  /** What a report is built of. @throws WorkflowNotFoundError */
  async source(): Promise<ReportSource> {
    this.#config ??= await this.#experiment();
    const handle = this.client.workflow.getHandle(this.workflowId);
    const { status: execution } = await handle.describe();
    // Without a worker, what a finished run has stored says where its artifacts are.
    const status = await this.#ask<ExperimentStatus>(MESSAGES.status);
    const fork = status ? status.frontier : await this.#storedFrontier();
    const stages = status?.stages ?? (await this.#stored());
    const isDone = execution.name === 'COMPLETED' && stages.every(({ artifact }) => artifact !== undefined);
    const reinforcement = stages.find(({ name }) => name === 'reinforcement');
    const newestRound =
      reinforcement && !reinforcement.artifact && reinforcement.state !== 'waiting'
        ? await this.#newestRound()
        : undefined;
    return {
      experiment: this.#config,
      name: this.workflowId,
      state: isDone ? 'done' : (status?.state ?? execution.name.toLowerCase()),
      stages,
      ...(newestRound ? { newestRound } : {}),
      ...(fork ? { fork } : {}),
    };
  }

  /** What the workflow answers to a query; undefined where no worker takes it. */
  #ask<T>(query: string): Promise<T | undefined> {
    return Promise.race([
      this.client.workflow
        .getHandle(this.workflowId)
        .query<T>(query)
        .catch(() => undefined),
      sleep(QUERY_MILLISECONDS, undefined, { ref: false }),
    ]);
  }

  /** The configuration with which the experiment was started. @throws Error where a fork cannot say its own. */
  async #experiment(): Promise<Experiment> {
    const { history } = await this.client.workflowService.getWorkflowExecutionHistory({
      namespace: this.client.options.namespace,
      execution: { workflowId: this.workflowId },
      maximumPageSize: 1,
    });
    const started = history?.events?.[0]?.workflowExecutionStartedEventAttributes;
    const input = await valueOf(this.client, started?.input);
    if (input === undefined || started?.workflowType?.name !== 'experiment')
      throw new Error(
        `The workflow ${this.workflowId} is no experiment, but '${started?.workflowType?.name ?? 'unknown'}': ` +
          'give the id of an experiment.',
      );
    if (!asksForFork(input)) return Experiment.parse(expandPreset(input));
    const asked = await this.#ask<ForkSource>(MESSAGES.forkSource);
    const { source } = asked
      ? { source: asked }
      : await forkSource(this.store, this.workflowId, () => Promise.resolve(undefined));
    if (source) return Experiment.parse(source.experiment);
    throw new Error(`${this.workflowId} is a fork that has not ended, and no worker answers for it: start one.`);
  }

  /** What the report of a finished fork says of it. */
  async #storedFrontier(): Promise<Frontier | undefined> {
    const { results } = await resultsOf(this.store, this.workflowId).catch(() => ({ results: undefined }));
    const report = results?.['report'];
    const file = report && (await this.store.manifest(report)).files.find(({ name }) => name === 'summary.json');
    if (!file) return undefined;
    return Summary.safeParse(JSON.parse(await readFile(await this.store.fetch(file), 'utf8'))).data?.fork;
  }

  async #stored(): Promise<StageStatus[]> {
    const { results } = await resultsOf(this.store, this.workflowId).catch(() => ({ results: undefined }));
    return stagesOf(this.#config!.stages).map((name): StageStatus => {
      const artifact = results?.[name];
      return { name, state: artifact ? 'done' : 'waiting', ...(artifact ? { artifact } : {}) };
    });
  }

  /** The policy of the newest round, out of the history of the stage that still runs. */
  async #newestRound(): Promise<ArtifactRef | undefined> {
    const history = await this.client.workflow
      .getHandle(`${this.workflowId}/reinforcement`)
      .fetchHistory()
      .catch(() => undefined);
    const updates = new Set<string>();
    let newest: ArtifactRef | undefined;
    for (const event of history?.events ?? []) {
      const started = event.workflowExecutionStartedEventAttributes;
      newest = policyOf(await valueOf(this.client, started?.input, 1), 'policy') ?? newest;
      if (event.activityTaskScheduledEventAttributes?.activityType?.name === 'reinforcement.update')
        updates.add(String(event.eventId));
      const completed = event.activityTaskCompletedEventAttributes;
      if (completed && updates.has(String(completed.scheduledEventId)))
        newest = policyOf(await valueOf(this.client, completed.result), 'ref') ?? newest;
    }
    return newest;
  }
}

/** A reference to the policy of a round in a member of an answer; undefined where there is none. */
function policyOf(value: unknown, member: string): ArtifactRef | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { data } = ArtifactRef.safeParse(Reflect.get(value, member));
  return data?.kind === 'policy' ? data : undefined;
}

/**
 * Connects to Temporal and the store, and looks at an experiment until `use` has ended.
 *
 * @throws Error with a sentence where the server does not answer, or knows no such workflow.
 */
export async function watching<T>(
  workflowId: string,
  { embedded }: { embedded: boolean },
  use: (watched: Watched, store: ArtifactStore, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { connection, namespace } = await connectToServer({ embedded });
  const cache = await mkdtemp(join(tmpdir(), 'acecoder-watch-cache-'));
  const stop = new AbortController();
  onEndSignal((signal) => stop.abort(signal));
  try {
    const store = createArtifactStore(storeOptionsFromEnvironment(await environmentOfStore(embedded), cache));
    return await use(
      new Watched(
        new Client({ connection, namespace, dataConverter: dataConverterOf(payloadCodec(process.env)) }),
        store,
        workflowId,
      ),
      store,
      stop.signal,
    );
  } catch (error) {
    throw error instanceof WorkflowNotFoundError
      ? new Error(
          `There is no workflow ${workflowId} in namespace ${namespace}; temporal workflow list shows what there is.`,
        )
      : error;
  } finally {
    await connection.close();
    await rm(cache, { recursive: true, force: true });
  }
}
