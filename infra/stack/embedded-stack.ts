/**
 * The embedded stack: a Temporal server and an object store, on loopback only, each in a process group of its own so
 * that they outlive the command that started them. Temporal is the dev server on a file, or the server in its
 * production form with a PostgreSQL. Everything they need stands in one home folder: `data/`, `logs/`, `stack.json`
 * (what runs), `store.json` (which object store), `s3.json` (its keys), `temporal.toml` (profile).
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as paths from '../setup/paths.mjs';
import { isAlive, readJson, withLock, withoutTemporal, writeWhole, type ProcessIdentity } from '../setup/processes.mjs';
import { chooseStore, rememberedStore, type StoreName } from '../setup/store-choice.mjs';
import { chooseTemporal, rememberedTemporal, type TemporalName } from '../setup/temporal-choice.mjs';
import {
  BUCKET,
  ensureBucket,
  ensureCredentials,
  readCredentials,
  storeAnswers,
  storeClient,
  storePart,
  type Credentials,
} from './object-store.js';
import {
  HOST,
  PORTS,
  bind,
  close,
  ensurePart,
  portOf,
  stopPart,
  toolMissing,
  type Part,
  type PortName,
  type RunningPart,
} from './server-process.js';
import { devServer, postgresql, productionServer, type DynamicConfig } from './temporal-server.js';

/** Ports on 127.0.0.1; 0 stands for any free port. */
export interface StackPorts {
  /** Temporal frontend (gRPC); 7733 unless told. */
  frontend?: number;
  /** Temporal UI; 8733 unless told. */
  ui?: number;
  /** Object store; 9733 unless told. */
  store?: number;
  /** PostgreSQL, where the Temporal server has one; any free one unless told. */
  database?: number;
}

/** A running stack and how to reach it. */
export interface Stack {
  home: string;
  /** Temporal frontend as host:port. */
  address: string;
  namespace: string;
  /** Absent where the Temporal server is that on PostgreSQL, which comes without a UI. */
  uiUrl?: string;
  /** The Temporal profile file that names this stack, for `TEMPORAL_CONFIG_FILE`. */
  configFile: string;
  s3: { endpoint: string; bucket: string; accessKey: string; secretKey: string };
  /** What keeps the objects. */
  store: StoreName;
  /** Which Temporal server it is. */
  temporal: TemporalName;
  pids: { temporal: number; store: number; postgresql?: number };
}

/** `stack.json`: what was started last. A part whose process is gone keeps its ports, so that it comes back on them. */
interface State {
  temporal?: RunningPart & { port: number; uiPort: number };
  store?: RunningPart & { port: number };
  postgresql?: RunningPart & { port: number };
}

type Log = (line: string) => void;

const NAMESPACE = 'default';
const NAMESPACE_TIMEOUT_MS = 60_000;
/** How long one command of the Temporal CLI may take, and how long one that asks whether the server answers. */
export const COMMAND_TIMEOUT = ['--command-timeout', '30s'];
const ANSWER_TIMEOUT = ['--command-timeout', '5s'];
/** Histories stay readable and resettable for 30 days; the dev server's own default is one day. */
const RETENTION = '720h';
const SEARCH_ATTRIBUTES = {
  AceCoderExperiment: 'Keyword',
  AceCoderStage: 'Keyword',
  AceCoderState: 'Keyword',
  AceCoderDataset: 'Keyword',
  AceCoderPassAt1: 'Double',
} as const;

/**
 * Starts the stack, or attaches to it where it runs already; a part that died or does not answer is replaced and
 * continues on its data.
 *
 * @throws Error when a port is in use (the message names the port and the option), when the stack runs on other ports
 *   than those asked for, when the home holds the objects of another store or the workflows of another server than the
 *   one asked for, when the tools are not installed, or when a server does not start (the message holds the end of its
 *   log). What this call started is stopped again then.
 */
export async function startStack(options: {
  home: string;
  ports?: StackPorts;
  /** The object store of a new home; of one with objects, it has to be the one that holds them. */
  store?: StoreName;
  /** The Temporal server of a new home; of one with workflows, it has to be the one that holds them. */
  temporal?: TemporalName;
  /** Dynamic configuration of the Temporal server, by its key. */
  dynamicConfig?: DynamicConfig;
  log?: Log;
}): Promise<Stack> {
  const { home, ports = {}, dynamicConfig = {}, log = () => {} } = options;
  for (const folder of ['data', 'logs']) mkdirSync(join(home, folder), { recursive: true });
  return withLock(
    lockFile(home),
    async () => {
      const state = readState(home);
      const before = { ...state };
      const credentials = ensureCredentials(home);
      const store = chooseStore(home, options.store, () => (existsSync(paths.minio()) ? 'minio' : 'seaweedfs'));
      const server = chooseTemporal(home, options.temporal);
      const wanted = await choosePorts(state, ports, server);
      writeWhole(profileFile(home), profile(wanted.frontend));
      const temporal = temporalPart(home, server, wanted, dynamicConfig);
      const objects = storePart(home, store, wanted.store, credentials);

      const started: RunningPart[] = [];
      const record = (part: State, running: RunningPart): void => {
        started.push(running);
        writeState(home, Object.assign(state, part));
      };
      const database = async (): Promise<void> => {
        if (server !== 'postgresql') return;
        await ensurePart(home, postgresql(home, wanted.database), state.postgresql, log, (running) =>
          record({ postgresql: { ...running, port: wanted.database } }, running),
        );
      };
      const temporalServer = async (): Promise<void> => {
        await database();
        await ensurePart(home, temporal, state.temporal, log, (running) =>
          record({ temporal: { ...running, port: wanted.frontend, uiPort: wanted.ui } }, running),
        );
        await configureTemporal(home, server);
      };
      const results = await Promise.allSettled([
        temporalServer(),
        ensurePart(home, objects, state.store, log, (running) =>
          record({ store: { ...running, port: wanted.store } }, running),
        ).then(() => ensureBucket(storeClient(wanted.store, credentials))),
      ]);
      const failure = results.find((result) => result.status === 'rejected');
      if (failure) {
        await Promise.all(started.map(stopPart));
        // Workers may wait for the servers on the ports that these had: the next start gives them the same.
        if (Object.keys(before).length > 0) writeState(home, before);
        else rmSync(stateFile(home), { force: true });
        throw failure.reason;
      }
      return describe(home, store, server, state, credentials);
    },
    (pid) => log(`waiting for process ${pid}, which is starting or stopping the stack`),
  );
}

/** The running stack of this home folder, or undefined when a part of it does not run or does not answer. */
export async function attachStack(options: { home: string }): Promise<Stack | undefined> {
  const { home } = options;
  const state = readState(home);
  const credentials = readCredentials(home);
  if (!isRunning(state.temporal) || !isRunning(state.store) || credentials === undefined) return undefined;
  const store = rememberedStore(home);
  const server = rememberedTemporal(home);
  if (store === undefined || server === undefined) return undefined;
  if (server === 'postgresql' && !isRunning(state.postgresql)) return undefined;
  const healthy = await Promise.all([temporalAnswers(home), storeAnswers(state.store.port, store, credentials)]);
  return healthy.every(Boolean) ? describe(home, store, server, state, credentials) : undefined;
}

/** The port on which PostgreSQL of a home runs; undefined where it does not. */
export function databasePort(home: string): number | undefined {
  const { postgresql: database } = readState(home);
  return isRunning(database) ? database.port : undefined;
}

/** Stops all servers and leaves no process; their data stays. Returns false when nothing ran. */
export async function stopStack(options: { home: string; log?: Log }): Promise<boolean> {
  const { home, log = () => {} } = options;
  if (!existsSync(home)) return false;
  return withLock(
    lockFile(home),
    async () => {
      const parts = Object.values(readState(home)) as RunningPart[];
      const running = parts.filter(isAlive);
      await Promise.all(running.map(stopPart));
      rmSync(stateFile(home), { force: true });
      return running.length > 0;
    },
    (pid) => log(`waiting for process ${pid}, which is starting or stopping the stack`),
  );
}

/**
 * The environment of whatever runs against the stack: this process's own, with the stack's address in it and without
 * any other `TEMPORAL_*` variable. The profile file it names takes the place of the one in the user's home folder, so
 * nothing that is run with it can reach a server the user has configured.
 */
export function stackEnvironment(stack: Stack): Record<string, string | undefined> {
  return {
    ...temporalEnvironment(stack.home),
    ACECODER_HOME: stack.home,
    ACECODER_S3_ENDPOINT: stack.s3.endpoint,
    ACECODER_S3_BUCKET: stack.s3.bucket,
    ACECODER_S3_ACCESS_KEY: stack.s3.accessKey,
    ACECODER_S3_SECRET_KEY: stack.s3.secretKey,
    // Whoever uses the embedded stack sits at its disk.
    ACECODER_LOCAL_RESULTS: '1',
  };
}

/**
 * Runs the Temporal CLI against the stack, with more variables where there are some. A failing command is a result (its
 * exit code), not an exception.
 */
export async function runTemporalCli(
  stack: Pick<Stack, 'home'>,
  args: string[],
  env: Record<string, string> = {},
): Promise<{ stdout: string; stderr: string; code: number }> {
  // The CLI reads a second, older file of defaults from the user's home folder, and that one beats the profile.
  const child = spawn(paths.temporal(), [...args, '--env-file', '/dev/null'], {
    env: { ...temporalEnvironment(stack.home), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return new Promise((resolve, reject) => {
    child.on('error', (error) => reject(toolMissing(paths.temporal(), error)));
    child.on('close', (code) => resolve({ stdout, stderr, code: code ?? 1 }));
  });
}

/** Whether the process that leads this part of the stack is running. */
function isRunning<T extends ProcessIdentity>(part: T | undefined): part is T {
  return part !== undefined && isAlive(part);
}

function temporalEnvironment(home: string): NodeJS.ProcessEnv {
  return { ...withoutTemporal(), TEMPORAL_CONFIG_FILE: profileFile(home) };
}

const stateFile = (home: string): string => join(home, 'stack.json');
const lockFile = (home: string): string => join(home, 'stack.lock');
const profileFile = (home: string): string => join(home, 'temporal.toml');

const profile = (port: number): string =>
  `[profile.default]\naddress = "${HOST}:${port}"\nnamespace = "${NAMESPACE}"\n`;

function readState(home: string): State {
  return (readJson(stateFile(home)) as State | undefined) ?? {};
}

function writeState(home: string, state: State): void {
  writeWhole(stateFile(home), `${JSON.stringify(state, null, 2)}\n`);
}

function describe(
  home: string,
  store: StoreName,
  temporal: TemporalName,
  state: State,
  credentials: Credentials,
): Stack {
  const { temporal: server, store: objects, postgresql: database } = state as Required<State>;
  const isDevServer = temporal === 'dev-server';
  return {
    home,
    address: `${HOST}:${server.port}`,
    namespace: NAMESPACE,
    ...(isDevServer ? { uiUrl: `http://${HOST}:${server.uiPort}` } : {}),
    configFile: profileFile(home),
    s3: { endpoint: `http://${HOST}:${objects.port}`, bucket: BUCKET, ...credentials },
    store,
    temporal,
    pids: { temporal: server.pid, store: objects.pid, ...(isDevServer ? {} : { postgresql: database.pid }) },
  };
}

/**
 * The port of each server: of a running part its own, otherwise the one asked for, the one it had before, or the
 * default. Ports to be bound are checked here, so that a clash is told before anything starts.
 */
async function choosePorts(state: State, asked: StackPorts, server: TemporalName): Promise<Required<StackPorts>> {
  const parts = { frontend: state.temporal, ui: state.temporal, store: state.store, database: state.postgresql };
  const unused: PortName = server === 'dev-server' ? 'database' : 'ui';
  const chosen = { frontend: 0, ui: 0, store: 0, database: 0 };
  const held: Server[] = [];
  try {
    for (const name of (Object.keys(PORTS) as PortName[]).filter((each) => each !== unused)) {
      const recorded = name === 'ui' ? state.temporal?.uiPort : parts[name]?.port;
      if (isRunning(parts[name])) {
        chosen[name] = recorded!;
        if (asked[name] && asked[name] !== chosen[name]) {
          throw new Error(
            `${capitalised(PORTS[name].use)} of this stack already runs on port ${chosen[name]}, not ${asked[name]}: ` +
              'stop the stack first (npm run stack:stop), or leave out ' +
              `${PORTS[name].option}.`,
          );
        }
      } else {
        // Held until all are chosen, so that no two servers are given the same free port.
        const server = await bind(asked[name] ?? recorded ?? PORTS[name].default, name);
        held.push(server);
        chosen[name] = portOf(server);
      }
    }
  } finally {
    await Promise.all(held.map(close));
  }
  return chosen;
}

const capitalised = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function temporalPart(
  home: string,
  server: TemporalName,
  ports: Required<StackPorts>,
  dynamicConfig: DynamicConfig,
): Part {
  const { frontend, ui, database } = ports;
  const isDevServer = server === 'dev-server';
  return {
    name: 'temporal',
    ports: isDevServer ? { frontend, ui } : { frontend },
    // The orderly end of the production server takes 14 s and saves nothing: PostgreSQL has what it has acknowledged.
    graceMs: isDevServer ? 15_000 : 5_000,
    launch: () =>
      isDevServer
        ? Promise.resolve(devServer(home, { frontend, ui }, dynamicConfig))
        : productionServer(home, { frontend, database }, dynamicConfig),
    answers: () => temporalAnswers(home),
  };
}

async function temporalAnswers(home: string): Promise<boolean> {
  return (await runTemporalCli({ home }, ['operator', 'cluster', 'health', ...ANSWER_TIMEOUT])).code === 0;
}

/** Makes the namespace where there is none, sets the retention, and registers what search attributes are missing. */
async function configureTemporal(home: string, server: TemporalName): Promise<void> {
  const operator = async (...args: string[]): Promise<string> => {
    const command = ['operator', ...args, '--namespace', NAMESPACE, ...COMMAND_TIMEOUT];
    const { code, stdout, stderr } = await runTemporalCli({ home }, command);
    if (code !== 0) throw new Error(`temporal ${command.join(' ')} failed: ${stderr.trim()}`);
    return stdout;
  };
  if (server === 'postgresql') await ensureNamespace(home);
  await operator('namespace', 'update', '--retention', RETENTION);
  const list = await operator('search-attribute', 'list', '--output', 'json');
  const { customAttributes = {} } = JSON.parse(list) as { customAttributes?: object };
  const missing = Object.entries(SEARCH_ATTRIBUTES).filter(([name]) => !(name in customAttributes));
  if (missing.length === 0) return;
  await operator('search-attribute', 'create', ...missing.flatMap(([name, type]) => ['--name', name, '--type', type]));
}

/** A server without a namespace gets one, which its services know some seconds later. */
async function ensureNamespace(home: string): Promise<void> {
  const name = ['--namespace', NAMESPACE];
  const works = async (): Promise<boolean> =>
    (await runTemporalCli({ home }, ['workflow', 'count', ...name, ...ANSWER_TIMEOUT])).code === 0;
  const deadline = performance.now() + NAMESPACE_TIMEOUT_MS;
  for (let says = ''; !(await works());) {
    if (performance.now() > deadline) throw new Error(`the namespace ${NAMESPACE} cannot be used: ${says}`);
    // Refused where there is one already.
    const create = ['operator', 'namespace', 'create', ...name, '--retention', RETENTION, ...COMMAND_TIMEOUT];
    const made = await runTemporalCli({ home }, create);
    says = made.stderr.trim();
    await sleep(200);
  }
}
