/**
 * One host with everything on it, as small as it can be and real: a Temporal server on a file, a store, a proxy between
 * it and the workers, worker processes with their Python processes, and an endpoint that counts.
 *
 * Faults are done to it. Whatever of it ends is started again at once, as systemd would do it.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import {
  createArtifactStore,
  storeOptionsFromEnvironment,
  type ArtifactStore,
} from '../../activities/artifacts/store.js';
import { venvPython } from '../../infra/setup/paths.mjs';
import { identify, isAlive, type ProcessIdentity } from '../../infra/setup/processes.mjs';
import { startStack, stackEnvironment, stopStack, type Stack } from '../../infra/stack/embedded-stack.js';
import { answer, completion, fakeEndpoint, type FakeEndpoint } from '../fixtures/fake-endpoint.js';
import { FaultyProxy } from '../fixtures/faulty-proxy.js';
import { startWorker } from '../fixtures/start-worker.js';
import { PROCESS_MARK } from '../fixtures/start-sweeper.js';

/** Time from the end of a process to its next start. */
const RESTART_MS = 200;
/** How often the supervisor looks at the servers. */
const LOOK_MS = 100;
/** Room for the worker's home, where faults fill it. */
const DISK = { megabytes: 800, cacheGb: 0.3 };
/** Limits of the workers, so that what hangs is noticed while somebody watches. */
const IDLE = { ACECODER_STORE_IDLE_SECONDS: '5', ACECODER_IDLE_SECONDS: '60' };
const RUNTIME = new URL('chaos_runtime.py', import.meta.url).pathname;
/** Where Debian's package libfaketime puts the library for programs with threads. */
const FAKETIME = [
  '/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1',
  '/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1',
  '/usr/lib/faketime/libfaketimeMT.so.1',
];

/** The library that moves a process's clock; undefined where it is not installed. */
export const faketime = (): string | undefined => FAKETIME.find((path) => existsSync(path));

export interface SiteOptions {
  /** Folder of all that it writes; it has to exist. */
  home: string;
  /** Replies of the teacher by the name of the function; the endpoint's usual reply for all others. */
  replies?: ReadonlyMap<string, string>;
  /** Milliseconds until the endpoint answers. */
  replyMs?: () => number;
  /** Whether the clock of the workers can be moved: needs {@link faketime}. */
  clock?: boolean;
  /** Whether the workers' home is a small disk of its own, which can be filled: needs root. */
  disk?: boolean;
}

type Worker = ReturnType<typeof startWorker>;

/** Which Python process of a worker: the model runtime, or the sandbox's supervisor. */
const PYTHON = { runtime: RUNTIME, sandbox: '-m\0sandbox' } as const;
export type PythonName = keyof typeof PYTHON;

export class Site {
  readonly queue = 'chaos';
  /** Processes of workers that were there when a fault came, by process id. */
  readonly known = new Map<number, ProcessIdentity>();
  /** The store past the proxy, with a cache of its own. */
  readonly store: ArtifactStore;
  readonly #clockFile: string;
  readonly #disk: string | undefined;
  #worker: Worker;
  #supervising = true;
  readonly #supervisor: Promise<void>;
  #restoring: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly options: SiteOptions,
    public stack: Stack,
    readonly client: Client,
    readonly proxy: FaultyProxy,
    readonly endpoint: FakeEndpoint,
    private readonly environment: Record<string, string>,
  ) {
    const { home, disk } = options;
    this.#disk = disk ? environment['ACECODER_HOME'] : undefined;
    this.#clockFile = join(home, 'clock');
    this.store = createArtifactStore(
      storeOptionsFromEnvironment(
        { ...environment, ACECODER_S3_ENDPOINT: stack.s3.endpoint },
        join(home, 'cache-of-the-checks'),
      ),
    );
    this.#worker = this.#startWorker();
    this.#supervisor = this.#supervise();
  }

  /** Starts everything. @throws Error when a server does not start, or the disk cannot be mounted. */
  static async open(options: SiteOptions): Promise<Site> {
    const { home, clock, disk, replies, replyMs } = options;
    const stack = await startStack({ home, ports: { frontend: 0, ui: 0, store: 0 } });
    const proxy = await FaultyProxy.before(stack.s3.endpoint);
    const endpoint = await fakeEndpoint(replyMs);
    endpoint.behave = ({ name }, response) => {
      const reply = replies?.get(name);
      if (reply === undefined) return undefined;
      return sleep(replyMs?.() ?? 0).then(() => answer(response, 200, completion(reply)));
    };
    const workerHome = join(home, 'worker');
    mkdirSync(workerHome, { recursive: true });
    if (disk) mount(workerHome, DISK.megabytes);
    const preload = clock ? clockVariables(join(home, 'clock')) : {};
    const environment = Object.fromEntries(
      Object.entries({
        ...stackEnvironment(stack),
        ...IDLE,
        ...preload,
        ACECODER_HOME: workerHome,
        ACECODER_S3_ENDPOINT: proxy.endpoint,
        ACECODER_PYTHON: pythonOf(home, preload),
        ACECODER_TORCH_THREADS: '1',
        ...(disk ? { ACECODER_CACHE_GB: String(DISK.cacheGb) } : {}),
      }).filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
    const connection = await Connection.connect({ address: stack.address });
    const client = new Client({ connection, namespace: stack.namespace });
    return new Site(options, stack, client, proxy, endpoint, environment);
  }

  /** The file with the record of the trainings' steps. */
  get record(): string {
    return join(this.options.home, 'steps.jsonl');
  }

  /** The log of the worker processes. */
  get log(): string {
    return join(this.environment['ACECODER_HOME']!, 'logs', `workers-${this.queue}.log`);
  }

  /** Ends a process at once, as a crash or the kernel's out-of-memory killer does. */
  async kill(part: 'worker' | 'server' | 'store' | PythonName): Promise<boolean> {
    const pid = this.pidOf(part);
    if (pid === undefined) return false;
    this.note();
    const identity = identify(pid);
    signal(pid, 'SIGKILL');
    while (identity && isAlive(identity)) await sleep(5);
    return true;
  }

  /** The process of a part; undefined where it does not run. */
  pidOf(part: 'worker' | 'server' | 'store' | PythonName): number | undefined {
    const worker = alive(this.#worker) ? this.#worker.child.pid : undefined;
    switch (part) {
      case 'worker':
        return worker;
      case 'server':
        return this.stack.pids.temporal;
      case 'store':
        return this.stack.pids.store;
      default:
        return worker === undefined
          ? undefined
          : childrenOf(worker).find((pid) => commandOf(pid).includes(PYTHON[part]));
    }
  }

  /** Remembers the workers' processes, so that those that outlive their worker are found. */
  note(): void {
    for (const pid of this.#workers().flatMap(descendantsOf)) {
      const identity = identify(pid);
      if (identity) this.known.set(pid, identity);
    }
  }

  /** Stops the worker without ending it while a second one works next to it, for so long; then it goes on. */
  async suspend(milliseconds: number): Promise<void> {
    const stopped = this.#worker;
    const second = startWorker(this.queue, this.environment);
    this.#second = second;
    signal(stopped.child.pid!, 'SIGSTOP');
    await sleep(milliseconds);
    signal(stopped.child.pid!, 'SIGCONT');
    await sleep(2000);
    this.note();
    await second.stop();
    this.#second = undefined;
  }

  #second: Worker | undefined;

  /** Moves the clock of the workers by so many seconds from the host's. */
  moveClock(seconds: number): void {
    writeFileSync(this.#clockFile, `${seconds < 0 ? '' : '+'}${seconds}\n`);
  }

  /** Fills the workers' disk for so long. */
  async fillDisk(milliseconds: number): Promise<void> {
    if (this.#disk === undefined) throw new Error('The workers have no disk of their own.');
    const file = join(this.#disk, 'full');
    // dd ends with an error when the disk is full, and leaves what it has written.
    const fill = (): unknown =>
      spawnSync('dd', ['if=/dev/zero', `of=${file}`, 'bs=64k', 'oflag=append', 'conv=notrunc']);
    const until = performance.now() + milliseconds;
    while (performance.now() < until) {
      fill();
      await sleep(100);
    }
    spawnSync('rm', ['-f', file]);
  }

  /** Stops the workers as an upgrade does, and waits until whatever they started has ended. */
  async stopWorkers(): Promise<{ seconds: number; orphans: number[] }> {
    this.note();
    this.#supervising = false;
    await this.#supervisor;
    const began = performance.now();
    await this.#worker.stop();
    const seconds = (performance.now() - began) / 1000;
    // Python notices the end of its pipe by itself.
    const left = (): number[] => [...this.known.values()].filter(isAlive).map(({ pid }) => pid);
    for (let waited = 0; left().length > 0 && waited < 5000; waited += 100) await sleep(100);
    return { seconds, orphans: left() };
  }

  /** Ends everything that runs. The files stay. `inFlight` says that somebody still asks the server. */
  async close({ inFlight = false } = {}): Promise<void> {
    this.#supervising = false;
    await this.#supervisor;
    await this.#second?.kill();
    await this.#worker.kill();
    await this.#restoring.catch(() => undefined);
    // The client repeats requests by itself, and throws past everybody where its connection is gone by then.
    if (!inFlight) await this.client.connection.close().catch(() => undefined);
    this.proxy.close();
    await this.endpoint.close();
    await stopStack({ home: this.options.home });
    if (this.#disk === undefined) return;
    // The logs are wanted where something went wrong.
    const logs = join(this.options.home, 'logs');
    for (const file of readdirSync(join(this.#disk, 'logs')))
      copyFileSync(join(this.#disk, 'logs', file), join(logs, file));
    unmount(this.#disk);
  }

  #workers(): number[] {
    return [this.#worker, ...(this.#second ? [this.#second] : [])].filter(alive).map(({ child }) => child.pid!);
  }

  #startWorker(): Worker {
    return startWorker(this.queue, this.environment);
  }

  async #supervise(): Promise<void> {
    let restored = true;
    while (this.#supervising) {
      await sleep(LOOK_MS);
      if (!alive(this.#worker)) {
        await sleep(RESTART_MS);
        if (this.#supervising) this.#worker = this.#startWorker();
      }
      const { temporal, store } = this.stack.pids;
      if (restored && (!identify(temporal) || !identify(store))) {
        restored = false;
        this.#restoring = sleep(RESTART_MS)
          .then(() => startStack({ home: this.options.home }))
          .then(
            (stack) => {
              this.stack = stack;
            },
            // A server was killed while it started: the next look starts it again.
            () => undefined,
          )
          .finally(() => {
            restored = true;
          });
      }
    }
    await this.#restoring;
  }
}

const alive = ({ child }: Worker): boolean => child.exitCode === null && child.signalCode === null;

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function readProc(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // The process has ended.
    return '';
  }
}

const commandOf = (pid: number): string => readProc(`/proc/${pid}/cmdline`);

function childrenOf(pid: number): number[] {
  const tasks = existsSync(`/proc/${pid}/task`) ? readdirSync(`/proc/${pid}/task`) : [];
  return tasks.flatMap((task) => readProc(`/proc/${pid}/task/${task}/children`).split(' ').filter(Boolean).map(Number));
}

const descendantsOf = (pid: number): number[] => [pid, ...childrenOf(pid).flatMap(descendantsOf)];

/** Variables with which a process reads the distance of its clock from the host's out of a file. */
function clockVariables(file: string): Record<string, string> {
  const library = faketime();
  if (library === undefined) throw new Error('The clock cannot be moved without libfaketime.');
  writeFileSync(file, '+0\n');
  return {
    LD_PRELOAD: library,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_CACHE_DURATION: '1',
    // A step of the wall clock moves neither timers nor the times of files.
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    NO_FAKE_STAT: '1',
  };
}

/** An interpreter for `ACECODER_PYTHON`, which gives its processes the variables that a worker keeps to itself. */
function pythonOf(home: string, variables: Record<string, string>): string {
  const path = join(home, 'python');
  const all = {
    ...variables,
    CHAOS_RECORD: join(home, 'steps.jsonl'),
    ...(process.env[PROCESS_MARK] ? { [PROCESS_MARK]: process.env[PROCESS_MARK] } : {}),
  };
  writeFileSync(
    path,
    [
      '#!/bin/sh',
      `if [ "$*" = "-m runtime" ]; then set -- "${RUNTIME}"; fi`,
      ...Object.entries(all).map(([name, value]) => `export ${name}="${value}"`),
      `exec "${venvPython()}" "$@"`,
      '',
    ].join('\n'),
    { mode: 0o755 },
  );
  return path;
}

const mounted = new Set<string>();

/** Mounts a disk of a fixed size, until {@link unmount} or the end of this process. @throws Error where it cannot. */
function mount(folder: string, megabytes: number): void {
  const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', folder], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`A disk of ${megabytes} MB cannot be mounted: ${stderr?.trim()}`);
  if (mounted.size === 0) process.once('exit', () => mounted.forEach(unmount));
  mounted.add(folder);
}

function unmount(folder: string): void {
  // What still has a file open on it keeps it for itself alone.
  spawnSync('umount', ['--lazy', folder]);
  mounted.delete(folder);
}
