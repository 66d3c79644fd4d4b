/** `npm run report -- WORKFLOW_ID [FOLDER]`: the report of an experiment, at its end or while it runs. */
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createReadStream } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Client, Connection, WorkflowNotFoundError } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import { loadClientConnectConfig } from '@temporalio/envconfig';
import { safeName } from '../../activities/artifacts/keys.js';
import { resultsOf } from '../../activities/artifacts/results.js';
import {
  createArtifactStore,
  storeOptionsFromEnvironment,
  type ArtifactStore,
} from '../../activities/artifacts/store.js';
import { buildReport, type ReportSource } from '../../activities/report/build.js';
import {
  ArtifactRef,
  expandPreset,
  Experiment,
  MESSAGES,
  stagesOf,
  type ExperimentStatus,
  type StageStatus,
} from '../../workflows/contract/index.js';
import { onEndSignal } from '../setup/processes.mjs';
import { chooseServer, SERVER_HELP } from '../stack/server.js';
import { environmentOfStore, WHICH_STORE } from './store-of-environment.js';

const HELP = `npm run report -- WORKFLOW_ID [FOLDER] [options]
npm run report -- WORKFLOW_ID --watch [options]

Writes the report of an experiment into FOLDER, as far as the experiment is: report.html, figures.json, the questions
where they are many, and summary.json where it is done. Without FOLDER, it is a folder of the workflow's name.
With --watch it serves the page on loopback, and keeps it up to date while the experiment runs, until Ctrl-C.

  --watch      serve the page and keep it up to date
  --port N     where it is served (0: any free port)
  --embedded   the embedded stack, whatever else is configured
  --help       print this

Which Temporal server it asks:
${SERVER_HELP}
${WHICH_STORE}`;

/** Pauses between two looks. A build is repeated at the earliest after five times as long as it took. */
const LOOK_MILLISECONDS = 3_000;
const BUILD_SHARE = 5;
/** How long a worker may take to answer a query. */
const QUERY_MILLISECONDS = 10_000;

/** Asks Temporal and the store how an experiment stands. */
class Watched {
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
    // A query needs a worker. Without one, what a finished run has stored says where its artifacts are.
    const status = await Promise.race([
      handle.query<ExperimentStatus>(MESSAGES.status).catch(() => undefined),
      sleep(QUERY_MILLISECONDS, undefined, { ref: false }),
    ]);
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
    };
  }

  /** The configuration with which the experiment was started. */
  async #experiment(): Promise<Experiment> {
    const { history } = await this.client.workflowService.getWorkflowExecutionHistory({
      namespace: this.client.options.namespace,
      execution: { workflowId: this.workflowId },
      maximumPageSize: 1,
    });
    const started = history?.events?.[0]?.workflowExecutionStartedEventAttributes;
    const [payload] = started?.input?.payloads ?? [];
    if (!payload || started?.workflowType?.name !== 'experiment')
      throw new Error(
        `The workflow ${this.workflowId} is no experiment, but '${started?.workflowType?.name ?? 'unknown'}': ` +
          'give the id of an experiment.',
      );
    return Experiment.parse(expandPreset(defaultPayloadConverter.fromPayload<unknown>(payload)));
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
      const carried = event.workflowExecutionStartedEventAttributes?.input?.payloads?.[1];
      if (carried) newest = policyOf(defaultPayloadConverter.fromPayload<unknown>(carried), 'policy') ?? newest;
      if (event.activityTaskScheduledEventAttributes?.activityType?.name === 'reinforcement.update')
        updates.add(String(event.eventId));
      const completed = event.activityTaskCompletedEventAttributes;
      const [result] = completed?.result?.payloads ?? [];
      if (result && updates.has(String(completed!.scheduledEventId)))
        newest = policyOf(defaultPayloadConverter.fromPayload<unknown>(result), 'ref') ?? newest;
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

/** What changes in a report when something has happened. */
function versionOf({ state, stages, newestRound }: ReportSource): string {
  const seen = stages.map(({ name, state: how, artifact, progress }) => [name, how, artifact?.key, progress]);
  return createHash('sha256')
    .update(JSON.stringify([state, seen, newestRound?.key]))
    .digest('hex')
    .slice(0, 16);
}

/** A report that was built, in a folder of its own. */
interface Built {
  folder: string;
  files: ReadonlySet<string>;
  version: string;
}

const TYPES: Record<string, string> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  json: 'application/json',
};

/** Serves what was built last on loopback. Other names than those of its files are not found. */
function serve(built: () => Built): Server {
  return createServer((request, response) => {
    const { host = '' } = request.headers;
    const path = new URL(request.url ?? '/', 'http://localhost').pathname.slice(1) || 'report.html';
    const { folder, files, version } = built();
    const head = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' };
    // A page of somebody else may reach loopback under a name of its own.
    if (!/^(127\.0\.0\.1|localhost)(:\d+)?$/.test(host) || request.method !== 'GET')
      return void response.writeHead(403, head).end();
    if (path === 'version') return void response.writeHead(200, { ...head, 'content-type': 'text/plain' }).end(version);
    if (!files.has(path)) return void response.writeHead(404, head).end();
    response.writeHead(200, { ...head, 'content-type': TYPES[path.slice(path.lastIndexOf('.') + 1)] });
    pipeline(createReadStream(join(folder, path)), response).catch(() => response.destroy());
  });
}

async function watchReport(store: ArtifactStore, watched: Watched, port: number, signal: AbortSignal): Promise<void> {
  let built: Built | undefined;
  let server: Server | undefined;
  let next = 0;
  try {
    while (!signal.aborted) {
      const source = await watched.source();
      const version = versionOf(source);
      if (version !== built?.version && performance.now() >= next) {
        const started = performance.now();
        const folder = await mkdtemp(join(tmpdir(), 'acecoder-report-'));
        const files = new Set(await buildReport(store, { ...source, live: version }, folder));
        const before = built?.folder;
        built = { folder, files, version };
        if (before) await rm(before, { recursive: true, force: true });
        next = performance.now() + BUILD_SHARE * (performance.now() - started);
      }
      if (built && !server) {
        server = serve(() => built!);
        await new Promise<void>((done) => server!.listen(port, '127.0.0.1', done));
        console.log(`Report: http://127.0.0.1:${(server.address() as AddressInfo).port}/ (Ctrl-C ends it)`);
      }
      await sleep(LOOK_MILLISECONDS, undefined, { signal }).catch(() => undefined);
    }
  } finally {
    server?.close();
    server?.closeAllConnections();
    if (built) await rm(built.folder, { recursive: true, force: true });
  }
}

async function run(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      watch: { type: 'boolean', default: false },
      port: { type: 'string', default: '0' },
      embedded: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(HELP);
  const [workflowId, target, ...more] = positionals;
  if (workflowId === undefined || more.length > 0 || (values.watch && target !== undefined))
    throw new Error('Give a workflow id, and a folder or --watch: npm run report -- WORKFLOW_ID [FOLDER]');
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new Error(`--port is ${values.port}; it is a whole number from 0 to 65535.`);
  const { environment } = await chooseServer(values);
  const variables = Object.fromEntries(
    Object.entries(environment).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
  const { connectionOptions, namespace = 'default' } = loadClientConnectConfig({ overrideEnvVars: variables });
  const connection = await Connection.connect(connectionOptions).catch((error: unknown) => {
    throw new Error(
      `The Temporal server at ${connectionOptions.address ?? 'localhost:7233'} (TEMPORAL_ADDRESS or profile) ` +
        `does not answer: ${(error as Error).message}`,
    );
  });
  const cache = await mkdtemp(join(tmpdir(), 'acecoder-report-cache-'));
  const stop = new AbortController();
  onEndSignal((signal) => stop.abort(signal));
  try {
    const store = createArtifactStore(storeOptionsFromEnvironment(await environmentOfStore(values.embedded), cache));
    const watched = new Watched(new Client({ connection, namespace }), store, workflowId);
    try {
      if (values.watch) return await watchReport(store, watched, port, stop.signal);
      const folder = resolve(target ?? safeName(workflowId));
      const [page] = await buildReport(store, await watched.source(), folder);
      console.log(`Report: ${join(folder, page!)}`);
    } catch (error) {
      throw error instanceof WorkflowNotFoundError
        ? new Error(
            `There is no workflow ${workflowId} in namespace ${namespace}; temporal workflow list shows what there is.`,
          )
        : error;
    }
  } finally {
    await connection.close();
    await rm(cache, { recursive: true, force: true });
  }
}

run().then(
  () => process.exit(0),
  (error: Error) => {
    console.error(error.message);
    process.exit(1);
  },
);
