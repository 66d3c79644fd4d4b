/**
 * The embedded stack: a Temporal dev server on a database file and a MinIO server on a folder, both on loopback only,
 * both in their own process groups so that they outlive the command that started them. Everything they need stands in
 * one home folder: `data/`, `logs/`, `stack.json` (what runs), `minio.json` (credentials), `temporal.toml` (profile).
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, openSync, closeSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { Agent } from 'node:http';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'minio';
import { SEARCH_ATTRIBUTES } from '../../workflows/contract/names.js';
import * as paths from '../setup/paths.mjs';
import {
  identify,
  isAlive,
  readJson,
  stopProcess,
  withLock,
  writeWhole,
  type ProcessIdentity,
} from '../setup/processes.mjs';

/** Ports on 127.0.0.1; 0 stands for any free port. */
export interface StackPorts {
  /** Temporal frontend (gRPC); 7733 unless told. */
  frontend?: number;
  /** Temporal UI; 8733 unless told. */
  ui?: number;
  /** MinIO; 9733 unless told. */
  minio?: number;
}

/** A running stack and how to reach it. */
export interface Stack {
  home: string;
  /** Temporal frontend as host:port. */
  address: string;
  namespace: string;
  uiUrl: string;
  /** The Temporal profile file that names this stack, for `TEMPORAL_CONFIG_FILE`. */
  configFile: string;
  s3: { endpoint: string; bucket: string; accessKey: string; secretKey: string };
  pids: { temporal: number; minio: number };
}

/** `stack.json`: what was started last. A part whose process is gone keeps its ports, so that it comes back on them. */
interface State {
  temporal?: ProcessIdentity & { port: number; uiPort: number };
  minio?: ProcessIdentity & { port: number };
}

interface Credentials {
  accessKey: string;
  secretKey: string;
}

type Log = (line: string) => void;

const HOST = '127.0.0.1';
const NAMESPACE = 'default';
const BUCKET = 'acecoder';
/** Histories stay readable and resettable for 30 days; the dev server's own default is one day. */
const RETENTION = '720h';
const PORTS = {
  frontend: { default: 7733, option: '--port', use: 'the Temporal server' },
  ui: { default: 8733, option: '--ui-port', use: 'the Temporal UI' },
  minio: { default: 9733, option: '--minio-port', use: 'MinIO' },
} as const;
const START_TIMEOUT_MS = 60_000;
/** How long a process that lives may fail to answer before it is replaced, and then how long it has to end. */
const UNHEALTHY_TIMEOUT_MS = 10_000;
const UNHEALTHY_GRACE_MS = 3_000;

/**
 * Starts the stack, or attaches to it where it runs already; a part that died or does not answer is replaced and
 * continues on its data.
 *
 * @throws Error when a port is in use (the message names the port and the option), when the stack runs on other ports
 *   than those asked for, when the tools are not installed, or when a server does not start (the message holds the end
 *   of its log). What this call started is stopped again then.
 */
export async function startStack(options: {
  home: string;
  ports?: StackPorts;
  /** Dynamic configuration of the Temporal server, by its key. */
  dynamicConfig?: Record<string, string | number | boolean>;
  log?: Log;
}): Promise<Stack> {
  const { home, ports = {}, dynamicConfig = {}, log = () => {} } = options;
  for (const folder of ['data', 'logs']) mkdirSync(join(home, folder), { recursive: true });
  return withLock(
    lockFile(home),
    async () => {
      const state = readState(home);
      const credentials = ensureCredentials(home);
      const wanted = await choosePorts(state, ports);
      writeWhole(profileFile(home), profile(wanted.frontend));
      const temporal = temporalPart(home, wanted.frontend, wanted.ui, dynamicConfig);
      const minio = minioPart(home, wanted.minio, credentials);

      const started: ProcessIdentity[] = [];
      const record = (part: State, identity: ProcessIdentity): void => {
        started.push(identity);
        writeState(home, Object.assign(state, part));
      };
      const results = await Promise.allSettled([
        ensurePart(home, temporal, state.temporal, log, (identity) =>
          record({ temporal: { ...identity, port: wanted.frontend, uiPort: wanted.ui } }, identity),
        ).then(() => configureTemporal(home)),
        ensurePart(home, minio, state.minio, log, (identity) =>
          record({ minio: { ...identity, port: wanted.minio } }, identity),
        ).then(() => ensureBucket(minioClient(wanted.minio, credentials))),
      ]);
      const failure = results.find((result) => result.status === 'rejected');
      if (failure) {
        await Promise.all(started.map((identity) => stopProcess(identity)));
        if (!isRunning(state.temporal) && !isRunning(state.minio)) rmSync(stateFile(home), { force: true });
        throw failure.reason;
      }
      return describe(home, state as Required<State>, credentials);
    },
    (pid) => log(`waiting for process ${pid}, which is starting or stopping the stack`),
  );
}

/** The running stack of this home folder, or undefined when a part of it does not run or does not answer. */
export async function attachStack(options: { home: string }): Promise<Stack | undefined> {
  const { home } = options;
  const state = readState(home);
  const credentials = readJson(credentialsFile(home)) as Credentials | undefined;
  if (!isRunning(state.temporal) || !isRunning(state.minio) || credentials === undefined) return undefined;
  const healthy = await Promise.all([temporalAnswers(home), minioAnswers(state.minio.port, credentials)]);
  return healthy.every(Boolean) ? describe(home, state as Required<State>, credentials) : undefined;
}

/** Stops both servers and leaves no process; their data stays. Returns false when nothing ran. */
export async function stopStack(options: { home: string; log?: Log }): Promise<boolean> {
  const { home, log = () => {} } = options;
  if (!existsSync(home)) return false;
  return withLock(
    lockFile(home),
    async () => {
      const parts = Object.values(readState(home)) as ProcessIdentity[];
      const running = parts.filter(isAlive);
      await Promise.all(running.map((identity) => stopProcess(identity)));
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
  };
}

/** Runs the Temporal CLI against the stack. A failing command is a result (its exit code), not an exception. */
export async function runTemporalCli(
  stack: Pick<Stack, 'home'>,
  args: string[],
): Promise<{ stdout: string; stderr: string; code: number }> {
  // The CLI reads a second, older file of defaults from the user's home folder, and that one beats the profile.
  const child = spawn(paths.temporal(), [...args, '--env-file', '/dev/null'], {
    env: temporalEnvironment(stack.home),
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
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('TEMPORAL_'));
  return { ...Object.fromEntries(kept), TEMPORAL_CONFIG_FILE: profileFile(home) };
}

const stateFile = (home: string): string => join(home, 'stack.json');
const lockFile = (home: string): string => join(home, 'stack.lock');
const credentialsFile = (home: string): string => join(home, 'minio.json');
const profileFile = (home: string): string => join(home, 'temporal.toml');

const profile = (port: number): string =>
  `[profile.default]\naddress = "${HOST}:${port}"\nnamespace = "${NAMESPACE}"\n`;

function readState(home: string): State {
  return (readJson(stateFile(home)) as State | undefined) ?? {};
}

function writeState(home: string, state: State): void {
  writeWhole(stateFile(home), `${JSON.stringify(state, null, 2)}\n`);
}

function ensureCredentials(home: string): Credentials {
  const known = readJson(credentialsFile(home)) as Credentials | undefined;
  if (known) return known;
  const fresh = { accessKey: `acecoder-${randomBytes(4).toString('hex')}`, secretKey: randomBytes(24).toString('hex') };
  writeWhole(credentialsFile(home), `${JSON.stringify(fresh, null, 2)}\n`, 0o600);
  return fresh;
}

function describe(home: string, state: Required<State>, credentials: Credentials): Stack {
  return {
    home,
    address: `${HOST}:${state.temporal.port}`,
    namespace: NAMESPACE,
    uiUrl: `http://${HOST}:${state.temporal.uiPort}`,
    configFile: profileFile(home),
    s3: { endpoint: `http://${HOST}:${state.minio.port}`, bucket: BUCKET, ...credentials },
    pids: { temporal: state.temporal.pid, minio: state.minio.pid },
  };
}

/**
 * The port of each server: of a running part its own, otherwise the one asked for, the one it had before, or the
 * default. Ports to be bound are checked here, so that a clash is told before anything starts.
 */
async function choosePorts(state: State, asked: StackPorts): Promise<Required<StackPorts>> {
  const recorded = { frontend: state.temporal?.port, ui: state.temporal?.uiPort, minio: state.minio?.port };
  const running = { frontend: isRunning(state.temporal), ui: isRunning(state.temporal), minio: isRunning(state.minio) };
  const chosen = { frontend: 0, ui: 0, minio: 0 };
  const held: Server[] = [];
  try {
    for (const name of Object.keys(PORTS) as (keyof typeof PORTS)[]) {
      if (running[name]) {
        chosen[name] = recorded[name]!;
        if (asked[name] && asked[name] !== chosen[name]) {
          throw new Error(
            `${capitalised(PORTS[name].use)} of this stack already runs on port ${chosen[name]}, not ${asked[name]}: ` +
              'stop the stack first (npm run stack:stop), or leave out ' +
              `${PORTS[name].option}.`,
          );
        }
      } else {
        // Held until all are chosen, so that no two servers are given the same free port.
        const server = await bind(asked[name] ?? recorded[name] ?? PORTS[name].default, name);
        held.push(server);
        chosen[name] = (server.address() as AddressInfo).port;
      }
    }
  } finally {
    await Promise.all(held.map((server) => new Promise((resolve) => server.close(resolve))));
  }
  return chosen;
}

function bind(port: number, name: keyof typeof PORTS): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason = new Error(`Port ${port} cannot be used: ${error.message}`);
      reject(error.code === 'EADDRINUSE' ? portInUse(port, name) : reason);
    });
    server.listen(port, HOST, () => resolve(server));
  });
}

function portInUse(port: number, name: keyof typeof PORTS): Error {
  const { use, option } = PORTS[name];
  return new Error(
    `Port ${port} on ${HOST}, wanted for ${use}, is in use by another program: choose another one with ` +
      `npm run stack -- ${option} N (0 takes any free port).`,
  );
}

const capitalised = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** One server of the stack: how it is started, and how one sees that it answers. */
interface Part {
  name: 'temporal' | 'minio';
  ports: Partial<Record<keyof typeof PORTS, number>>;
  command: string;
  args: string[];
  env: NodeJS.ProcessEnv;
  answers: () => Promise<boolean>;
}

function temporalPart(home: string, port: number, uiPort: number, dynamicConfig: object): Part {
  return {
    name: 'temporal',
    ports: { frontend: port, ui: uiPort },
    command: paths.temporal(),
    args: [
      ...['server', 'start-dev', '--ip', HOST, '--port', `${port}`, '--ui-port', `${uiPort}`],
      ...['--db-filename', join(home, 'data/temporal.db')],
      // A transaction then waits for no disk. A killed server loses nothing: the system keeps what it has written.
      ...['--sqlite-pragma', 'journal_mode=wal', '--sqlite-pragma', 'synchronous=normal'],
      ...['--ui-disable-news-fetch', '--log-level', 'warn'],
      ...Object.entries(dynamicConfig).flatMap(([key, value]) => [
        '--dynamic-config-value',
        `${key}=${JSON.stringify(value)}`,
      ]),
    ],
    env: {},
    answers: () => temporalAnswers(home),
  };
}

function minioPart(home: string, port: number, credentials: Credentials): Part {
  return {
    name: 'minio',
    ports: { minio: port },
    command: paths.minio(),
    args: ['server', '--address', `${HOST}:${port}`, '--quiet', join(home, 'data/minio')],
    env: {
      MINIO_ROOT_USER: credentials.accessKey,
      MINIO_ROOT_PASSWORD: credentials.secretKey,
      MINIO_BROWSER: 'off',
    },
    answers: () => minioAnswers(port, credentials),
  };
}

/** Leaves the part running and answering; `onStart` is told the process as soon as there is a new one. */
async function ensurePart(
  home: string,
  part: Part,
  known: ProcessIdentity | undefined,
  log: Log,
  onStart: (identity: ProcessIdentity) => void,
): Promise<void> {
  if (isRunning(known)) {
    if (await waitFor(part.answers, known, UNHEALTHY_TIMEOUT_MS)) return;
    if (isAlive(known)) log(`${part.name} (process ${known.pid}) does not answer and is replaced`);
    await stopProcess(known, UNHEALTHY_GRACE_MS);
  }
  const logFile = join(home, 'logs', `${part.name}.log`);
  // The log of the run before explains why it ended.
  if (existsSync(logFile)) renameSync(logFile, join(home, 'logs', `${part.name}.previous.log`));
  const identity = await spawnDetached(part, home, logFile);
  onStart(identity);
  if (await waitFor(part.answers, identity, START_TIMEOUT_MS)) {
    log(`${part.name} runs as process ${identity.pid}`);
    return;
  }
  const output = readFileSync(logFile, 'utf8');
  if (/already in use/.test(output)) {
    const names = Object.keys(part.ports) as (keyof typeof PORTS)[];
    const name = names.find((each) => output.includes(`:${part.ports[each]}: bind`)) ?? names[0]!;
    throw portInUse(part.ports[name]!, name);
  }
  const happened = isAlive(identity) ? `did not answer within ${START_TIMEOUT_MS / 1000} s` : 'ended at once';
  const end = output.trimEnd().split('\n').slice(-10).join('\n');
  throw new Error(`${part.name} ${happened}; the end of ${logFile}:\n${end}`);
}

function spawnDetached(part: Part, home: string, logFile: string): Promise<ProcessIdentity> {
  const output = openSync(logFile, 'w');
  const child = spawn(part.command, part.args, {
    cwd: join(home, 'data'),
    detached: true,
    stdio: ['ignore', output, output],
    // Nothing of the user's environment but the path: a MINIO_* or TEMPORAL_* variable, a profile or a certificate in
    // the home folder would change what is served, and where.
    env: { PATH: process.env['PATH'], HOME: join(home, 'data'), ...part.env },
  });
  closeSync(output);
  child.unref();
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(toolMissing(part.command, error)));
    child.once('spawn', () => resolve(identify(child.pid!) ?? { pid: child.pid!, startTime: 'ended' }));
  });
}

function toolMissing(path: string, error: Error): Error {
  return new Error(`${relative(process.cwd(), path)} cannot be run (${error.message}): run npm run setup first.`);
}

/** Asks until the process answers (true), has ended, or the time is over (false). */
async function waitFor(answers: Part['answers'], identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (isAlive(identity) && performance.now() < deadline) {
    if (await answers()) return isAlive(identity);
    await sleep(50);
  }
  return false;
}

async function temporalAnswers(home: string): Promise<boolean> {
  return (await runTemporalCli({ home }, ['operator', 'cluster', 'health', '--command-timeout', '5s'])).code === 0;
}

/** Sets the retention, and registers the search attributes that are not there yet. */
async function configureTemporal(home: string): Promise<void> {
  const operator = async (...args: string[]): Promise<string> => {
    const command = ['operator', ...args, '--namespace', NAMESPACE];
    const { code, stdout, stderr } = await runTemporalCli({ home }, command);
    if (code !== 0) throw new Error(`temporal ${command.join(' ')} failed: ${stderr.trim()}`);
    return stdout;
  };
  await operator('namespace', 'update', '--retention', RETENTION);
  const list = await operator('search-attribute', 'list', '--output', 'json');
  const { customAttributes = {} } = JSON.parse(list) as { customAttributes?: object };
  const missing = Object.entries(SEARCH_ATTRIBUTES).filter(([name]) => !(name in customAttributes));
  if (missing.length === 0) return;
  await operator('search-attribute', 'create', ...missing.flatMap(([name, type]) => ['--name', name, '--type', type]));
}

function minioClient(port: number, { accessKey, secretKey }: Credentials): Client {
  // A connection kept open would hold up MinIO's shutdown.
  const transportAgent = new Agent({ keepAlive: false });
  return new Client({ endPoint: HOST, port, useSSL: false, region: 'us-east-1', accessKey, secretKey, transportAgent });
}

async function minioAnswers(port: number, credentials: Credentials): Promise<boolean> {
  try {
    // The client of the package waits for ever on a server that hangs, so a request with a time limit goes first.
    await fetch(`http://${HOST}:${port}/minio/health/live`, { signal: AbortSignal.timeout(5_000) });
    await minioClient(port, credentials).bucketExists(BUCKET);
    return true;
  } catch {
    return false;
  }
}

/** MinIO answers some time before it can write, longer on a busy host; until then making a bucket is refused. */
async function ensureBucket(client: Client): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      if (!(await client.bucketExists(BUCKET))) await client.makeBucket(BUCKET);
      return;
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await sleep(200);
    }
  }
}
