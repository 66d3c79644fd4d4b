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
import { safeName } from '../../activities/artifacts/keys.js';
import type { ArtifactStore } from '../../activities/artifacts/store.js';
import { buildReport, type ReportSource } from '../../activities/report/build.js';
import { SERVER_HELP } from '../stack/server.js';
import { FLAG, portOf, runCommand, type CommandLine } from './command.js';
import { WHICH_STORE } from './store-of-environment.js';
import { watching, type Watched } from './watched.js';

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

const OPTIONS = {
  watch: FLAG,
  port: { type: 'string' },
  embedded: FLAG,
} as const;

async function run({ values, positionals }: CommandLine<typeof OPTIONS>): Promise<void> {
  const [workflowId, target, ...more] = positionals;
  if (workflowId === undefined || more.length > 0 || (values.watch && target !== undefined))
    throw new Error('Give a workflow id, and a folder or --watch: npm run report -- WORKFLOW_ID [FOLDER]');
  const port = portOf('port', values.port) ?? 0;
  await watching(workflowId, values, async (watched, store, signal) => {
    if (values.watch) return watchReport(store, watched, port, signal);
    const folder = resolve(target ?? safeName(workflowId));
    const [page] = await buildReport(store, await watched.source(), folder);
    console.log(`Report: ${join(folder, page!)}`);
  });
}

runCommand({ help: HELP, options: OPTIONS, run });
