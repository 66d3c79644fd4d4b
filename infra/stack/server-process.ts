/** Starts a server of the embedded stack, and sees whether it answers. */
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { identify, isAlive, stopProcess, type ProcessIdentity } from '../setup/processes.mjs';
import type { StoreName } from '../setup/store-choice.mjs';

export const HOST = '127.0.0.1';

/** The ports that a user can choose. */
export const PORTS = {
  frontend: { default: 7733, option: '--port', use: 'the Temporal server' },
  ui: { default: 8733, option: '--ui-port', use: 'the Temporal UI' },
  store: { default: 9733, option: '--store-port', use: 'the object store' },
  // Nothing but the Temporal server asks it, so that any port is as good as another.
  database: { default: 0, option: '--database-port', use: 'PostgreSQL' },
} as const;
export type PortName = keyof typeof PORTS;

/** A server of the stack. */
export interface Part {
  name: 'temporal' | 'postgresql' | StoreName;
  ports: Partial<Record<PortName, number>>;
  /** Time from SIGTERM to SIGKILL. */
  graceMs: number;
  /** What to run; asked anew for each start. */
  launch: () => Promise<Launch>;
  answers: () => Promise<boolean>;
}

/** The command of a server. */
export interface Launch {
  command: string;
  args: string[];
  env: NodeJS.ProcessEnv;
  /** The working folder; `data` of the home by default. */
  cwd?: string;
  /** Unix sockets that the server leaves behind. */
  sockets?: string[];
  /** Whether the server also listens on ports that were free a moment ago. */
  innerPorts?: boolean;
}

/** What `stack.json` says of a running server. */
export interface RunningPart extends ProcessIdentity {
  graceMs?: number;
  sockets?: string[];
}

type Log = (line: string) => void;

const START_TIMEOUT_MS = 60_000;
/** Characters of a log's line that an error tells: some servers write a whole stack into one. */
const LOG_CHARACTERS = 400;
/** How long a process that lives may fail to answer before it is replaced, and then how long it has to end. */
const UNHEALTHY_TIMEOUT_MS = 10_000;
const UNHEALTHY_GRACE_MS = 3_000;
/** A port that was free a moment ago may be another program's by the time that the server binds it. */
const STARTS = 3;

/** Leaves the part running and answering; `onStart` is told the process as soon as there is a new one. */
export async function ensurePart(
  home: string,
  part: Part,
  known: RunningPart | undefined,
  log: Log,
  onStart: (running: RunningPart) => void,
): Promise<void> {
  if (known) {
    if (await waitFor(part.answers, known, UNHEALTHY_TIMEOUT_MS)) return;
    if (isAlive(known)) log(`${part.name} (process ${known.pid}) does not answer and is replaced`);
    await stopPart({ ...known, graceMs: UNHEALTHY_GRACE_MS });
  }
  for (let start = 1; ; start += 1) {
    const problem = await startPart(home, part, log, onStart);
    if (!problem) return;
    if (!problem.innerPortTaken || start === STARTS) throw problem.error;
  }
}

/** Stops a server and removes the sockets that it leaves behind. */
export async function stopPart(running: RunningPart): Promise<void> {
  await stopProcess(running, running.graceMs);
  for (const socket of running.sockets ?? []) rmSync(socket, { force: true });
}

async function startPart(
  home: string,
  part: Part,
  log: Log,
  onStart: (running: RunningPart) => void,
): Promise<{ error: Error; innerPortTaken: boolean } | undefined> {
  const logFile = join(home, 'logs', `${part.name}.log`);
  // The log of the run before explains why it ended.
  if (existsSync(logFile)) renameSync(logFile, join(home, 'logs', `${part.name}.previous.log`));
  const launch = await part.launch();
  const running = {
    ...(await spawnDetached(launch, home, logFile)),
    graceMs: part.graceMs,
    ...(launch.sockets ? { sockets: launch.sockets } : {}),
  };
  onStart(running);
  if (await waitFor(part.answers, running, START_TIMEOUT_MS)) {
    log(`${part.name} runs as process ${running.pid}`);
    return undefined;
  }
  const output = readFileSync(logFile, 'utf8');
  if (/already in use/.test(output)) {
    const names = Object.keys(part.ports) as PortName[];
    const name = names.find((each) => output.includes(`:${part.ports[each]}: bind`));
    const named = name ?? names[0]!;
    const error = portInUse(part.ports[named]!, named);
    if (name) return { error, innerPortTaken: false };
    await stopPart(running);
    return { error, innerPortTaken: launch.innerPorts === true };
  }
  const happened = isAlive(running) ? `did not answer within ${START_TIMEOUT_MS / 1000} s` : 'ended at once';
  const end = output
    .trimEnd()
    .split('\n')
    .slice(-10)
    .map((line) => line.slice(0, LOG_CHARACTERS))
    .join('\n');
  const error = new Error(`${part.name} ${happened}; the end of ${logFile}:\n${end}`);
  return { error, innerPortTaken: false };
}

function spawnDetached(launch: Launch, home: string, logFile: string): Promise<ProcessIdentity> {
  const output = openSync(logFile, 'w');
  const child = spawn(launch.command, launch.args, {
    cwd: launch.cwd ?? join(home, 'data'),
    detached: true,
    stdio: ['ignore', output, output],
    // Nothing of the user's environment but the path: a MINIO_*, WEED_* or TEMPORAL_* variable, a profile or a
    // certificate in the home folder would change what is served, and where.
    env: { PATH: process.env['PATH'], HOME: join(home, 'data'), ...testMarks(), ...launch.env },
  });
  closeSync(output);
  child.unref();
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(toolMissing(launch.command, error)));
    child.once('spawn', () => resolve(identify(child.pid!) ?? { pid: child.pid!, startTime: 'ended' }));
  });
}

/** By these variables, a test run finds what it has started. */
function testMarks(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith('ACECODER_TEST_')));
}

export function toolMissing(path: string, error: Error): Error {
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

/**
 * Binds a port, so that no other server is given it meanwhile. Any free port (0) is a low one: the system gives it to
 * no connection while the server is away, so that the server comes back on it.
 */
export async function bind(port: number, name: PortName): Promise<Server> {
  if (port === 0) return listenLow();
  return listen(port).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'EADDRINUSE'
      ? portInUse(port, name)
      : new Error(`Port ${port} cannot be used: ${error.message}`);
  });
}

export const portOf = (server: Server): number => (server.address() as AddressInfo).port;

export const close = (server: Server): Promise<unknown> => new Promise((resolve) => server.close(resolve));

/** Ports that are free now. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, () => listen(0)));
  const ports = servers.map(portOf);
  await Promise.all(servers.map(close));
  return ports;
}

/** Ports from which the system gives none away by itself, and that PostgreSQL can hold as a `smallint`. */
const LOW_PORTS = { from: 10_000, to: 32_767 };
const LOW_PORT_TRIES = 200;

/** As {@link freePorts}, below 32768. @throws Error where so many tries found none. */
export async function freeLowPorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, listenLow));
  const ports = servers.map(portOf);
  await Promise.all(servers.map(close));
  return ports;
}

async function listenLow(): Promise<Server> {
  for (let tries = 0; tries < LOW_PORT_TRIES; tries += 1) {
    const server = await listen(randomInt(LOW_PORTS.from, LOW_PORTS.to + 1)).catch(() => undefined);
    if (server) return server;
  }
  throw new Error(`found no free port from ${LOW_PORTS.from} to ${LOW_PORTS.to} in ${LOW_PORT_TRIES} tries`);
}

function listen(port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, HOST, () => resolve(server));
  });
}

function portInUse(port: number, name: PortName): Error {
  const { use, option } = PORTS[name];
  return new Error(
    `Port ${port} on ${HOST}, wanted for ${use}, is in use by another program: choose another one with ` +
      `npm run stack -- ${option} N (0 takes any free port).`,
  );
}
