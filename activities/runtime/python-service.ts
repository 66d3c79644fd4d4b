/**
 * The Node side of a resident Python process (model runtime or sandbox supervisor): JSON lines over two private file
 * descriptors, because libraries print to standard output. The process leads its own group and ends itself when our end
 * of the request pipe closes, so that a killed worker leaves nothing behind.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { z } from 'zod';
import { StageFailure, type FailureType } from '../../workflows/contract/index.js';
import { moved, waitingForChild } from './context.js';
import type { Operations, OPERATIONS, Params, ProgressMetrics, Result } from './operations.js';
import { annotate, inSpan, traceparent } from './spans.js';

export interface PythonServiceOptions {
  /** Name in logs and errors. */
  name: string;
  /** Python interpreter. */
  python: string;
  /** Arguments after the interpreter, such as `['-m', 'runtime']`. */
  args: readonly string[];
  /** Folder that holds the Python packages. */
  pythonPath: string;
  /** Environment beside the minimal one; secrets of the worker are not passed on. */
  env?: Record<string, string>;
  /** Folder of the log file that takes what libraries print. */
  logs: string;
  /** Time in which the process must say that it is ready. */
  startSeconds: number;
  /** Time between asking an operation to stop and killing the process group. */
  graceSeconds: number;
  /** Takes the address at which a process listens that says so before it is ready. */
  onListening?: (address: string) => void;
  /** Failure class of a process that is lost. */
  lostAs: 'RuntimeLost' | 'SandboxUnavailable';
}

/** How far an operation is; display only. */
export interface Progress<M = Record<string, number>> {
  done: number;
  total: number;
  message: string;
  metrics: M;
}

export interface CallOptions<M = Record<string, number>> {
  onProgress?: (progress: Progress<M>) => void;
  /**
   * Called for each complete checkpoint folder; calls do not overlap, and the result is returned after the last one.
   */
  onCheckpoint?: (checkpoint: { step: number; path: string }) => Promise<void>;
  signal?: AbortSignal;
}

/**
 * What an activity needs of a Python process that answers the operations `N` of a table.
 *
 * @example
 * const { rows } = await models.call('sample', { model, requests, output, maxRows: 64 });
 */
export interface PythonProcess<N extends keyof T & string, T extends Operations = typeof OPERATIONS> {
  /** Whether there is a process, or one that starts. */
  readonly isRunning: boolean;
  /** Starts the process where it does not run and returns the versions it reports. */
  versions(): Promise<Record<string, string>>;
  /**
   * Runs one operation.
   *
   * @throws StageFailure of the operation's class, or `lostAs` when the process ends before it answers.
   * @throws The signal's reason when the caller cancels. The operation is asked to stop first; after the grace time the
   *   process group is killed.
   * @throws Error when the answer is not what the table says.
   */
  call<O extends N>(op: O, params: Params<O, T>, options?: CallOptions<ProgressMetrics<O, T>>): Promise<Result<O, T>>;
}

/** Python error types that are failure classes of their own; anything else is an unknown error. */
const KNOWN: Record<string, FailureType> = {
  OutOfMemory: 'OutOfMemory',
  TrainingDiverged: 'TrainingDiverged',
  ModelNotFound: 'ModelNotFound',
  InvalidInput: 'InvalidExperiment',
  RuntimeLost: 'RuntimeLost',
  SandboxUnavailable: 'SandboxUnavailable',
  DiskFull: 'DiskFull',
};

/** Time between two looks at a process, and the CPU time in between that tells work from the idling of threads. */
const LOOK_SECONDS = 2;
const LEAST_CPU_SECONDS = 0.05;

interface Pending {
  /** Takes the result as it arrived. */
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
  onProgress: (progress: Progress) => void;
  onCheckpoint: CallOptions['onCheckpoint'];
  inCallersContext: <T>(work: () => T) => T;
  checkpoints: Promise<void>;
}

interface Process {
  child: ChildProcess;
  requests: Writable;
  pending: Map<number, Pending>;
  versions: Record<string, string>;
}

/** A process that is started with the first call, and again with the next one after it is lost. */
export class PythonService<T extends Operations> implements PythonProcess<keyof T & string, T> {
  #process: Promise<Process> | undefined;
  /** The process between its start and its being ready. */
  #starting: ChildProcess | undefined;
  /** The process that was started last. */
  #child: ChildProcess | undefined;
  #nextId = 1;
  #closed = false;

  /** `operations` is the table that calls are typed by and results are parsed by. */
  constructor(
    readonly operations: T,
    readonly options: PythonServiceOptions,
  ) {}

  get isRunning(): boolean {
    return this.#process !== undefined;
  }

  async versions(): Promise<Record<string, string>> {
    const running = this.#running();
    return (await this.#watching(running)).versions;
  }

  async call<O extends keyof T & string>(
    op: O,
    params: Params<O, T>,
    options: CallOptions<ProgressMetrics<O, T>> = {},
  ): Promise<Result<O, T>> {
    const progressSchema: T[O]['progress'] = this.operations[op]!.progress;
    const resultSchema: T[O]['result'] = this.operations[op]!.result;
    const { onProgress } = options;
    const onShown = ({ metrics, ...progress }: Progress): void => {
      const shown = z.safeParse(progressSchema, metrics);
      onProgress?.({ ...progress, metrics: shown.success ? shown.data : {} });
    };
    const result = await inSpan(`Python:${op}`, { 'acecoder.process': this.options.name }, () =>
      this.#ask(op, params, { ...options, onProgress: onShown }),
    );
    const parsed = z.safeParse(resultSchema, result);
    if (!parsed.success)
      throw new Error(`${this.options.name} answered ${op} with something else: ${z.prettifyError(parsed.error)}`);
    return parsed.data;
  }

  /** Runs one operation; returns its result as it arrived. */
  async #ask(op: string, params: unknown, options: CallOptions): Promise<unknown> {
    options.signal?.throwIfAborted();
    const process = await this.#watching(this.#running());
    options.signal?.throwIfAborted();
    const id = this.#nextId++;
    let grace: NodeJS.Timeout | undefined;
    const cancel = (): void => {
      process.requests.write(`${JSON.stringify({ id, cancel: true })}\n`);
      grace = setTimeout(() => killGroup(process.child), this.options.graceSeconds * 1000);
    };
    try {
      const answer = new Promise<unknown>((resolve, reject) => {
        // Replies arrive in the asynchronous context in which the process was started, perhaps that of another
        // activity.
        // What they call belongs to the caller's context, which names its activity.
        const inCallersContext = AsyncLocalStorage.snapshot();
        process.pending.set(id, {
          resolve,
          reject,
          onProgress: (progress) => {
            moved();
            options.onProgress?.(progress);
          },
          onCheckpoint: options.onCheckpoint,
          inCallersContext,
          checkpoints: Promise.resolve(),
        });
        process.requests.write(`${JSON.stringify({ id, op, params, traceparent: traceparent() })}\n`);
        options.signal?.addEventListener('abort', cancel, { once: true });
      });
      return await this.#watching(answer);
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason;
      throw error;
    } finally {
      clearTimeout(grace);
      options.signal?.removeEventListener('abort', cancel);
    }
  }

  /** Ends the process with all its children. */
  async close(): Promise<void> {
    this.#closed = true;
    // A process that is still importing its libraries does not hear of a closed pipe, and has nothing to finish.
    if (this.#starting) killGroup(this.#starting);
    const process = await this.#process?.catch(() => undefined);
    if (!process || process.child.exitCode !== null || process.child.signalCode !== null) return;
    const exited = once(process.child, 'exit');
    process.requests.end();
    const timer = setTimeout(() => killGroup(process.child), this.options.graceSeconds * 1000);
    await exited;
    clearTimeout(timer);
    killGroup(process.child);
  }

  /** Waits for the process, and counts its CPU time as movement of the calling activity. */
  async #watching<T>(waited: Promise<T>): Promise<T> {
    let [child, before] = [this.#child, 0];
    const timer = setInterval(() => {
      if (child !== this.#child) [child, before] = [this.#child, 0];
      const now = child?.pid === undefined ? 0 : cpuSeconds(child.pid);
      if (now - before >= LEAST_CPU_SECONDS) moved({ byCpu: true });
      before = now;
    }, LOOK_SECONDS * 1000);
    try {
      return await waitingForChild(waited);
    } finally {
      clearInterval(timer);
    }
  }

  #running(): Promise<Process> {
    if (this.#closed) return Promise.reject(new StageFailure(this.options.lostAs, `${this.options.name} is shut down`));
    if (!this.#process) {
      const starting = this.#start();
      this.#process = starting;
      const forget = (): void => {
        if (this.#process === starting) this.#process = undefined;
      };
      starting.then(({ child }) => child.once('exit', forget), forget);
    }
    return this.#process;
  }

  async #start(): Promise<Process> {
    const { name, python, args, pythonPath, env, logs, startSeconds } = this.options;
    mkdirSync(logs, { recursive: true });
    const log = openSync(join(logs, `${name}.log`), 'a');
    const inherited = Object.fromEntries(
      ['HOME', 'PATH', 'LANG', 'TMPDIR', 'HF_HOME', 'HF_HUB_OFFLINE', 'CUDA_VISIBLE_DEVICES', 'SSL_CERT_FILE'].flatMap(
        (key) => (process.env[key] === undefined ? [] : [[key, process.env[key]]]),
      ),
    );
    const child = spawn(python, [...args], {
      stdio: ['ignore', log, log, 'pipe', 'pipe'],
      detached: true,
      env: {
        ...inherited,
        PYTHONPATH: pythonPath,
        PYTHONUNBUFFERED: '1',
        PYTHONDONTWRITEBYTECODE: '1',
        TOKENIZERS_PARALLELISM: 'false',
        ...env,
      },
    });
    closeSync(log);
    this.#starting = child;
    this.#child = child;
    const requests = child.stdio[3] as Writable;
    const replies = child.stdio[4] as Readable;
    const pending = new Map<number, Pending>();
    requests.on('error', () => undefined);
    return new Promise<Process>((resolve, reject) => {
      const logFile = join(logs, `${name}.log`);
      const timer = setTimeout(() => {
        killGroup(child);
        reject(new StageFailure(this.options.lostAs, `${name} was not ready after ${startSeconds} s; see ${logFile}`));
      }, startSeconds * 1000);
      const lost = (why: string): void => {
        clearTimeout(timer);
        if (this.#starting === child) this.#starting = undefined;
        const failure = new StageFailure(this.options.lostAs, `${name} ${why}; see ${logFile}`);
        reject(failure);
        for (const { reject: rejectCall } of pending.values()) rejectCall(failure);
        pending.clear();
      };
      child.once('error', (error) => lost(`cannot be started with ${python}: ${error.message}`));
      child.once('exit', (code, signal) => {
        killGroup(child);
        lost(signal ? `was ended by ${signal}` : `ended with code ${code}`);
      });
      createInterface({ input: replies, crlfDelay: Infinity }).on('line', (line) => {
        const message = JSON.parse(line) as Reply;
        if (message.type === 'ready') {
          clearTimeout(timer);
          this.#starting = undefined;
          resolve({ child, requests, pending, versions: message.versions });
        } else if (message.type === 'listening') {
          this.options.onListening?.(message.address);
        } else {
          deliver(pending, message);
        }
      });
    });
  }
}

/** Seconds that a request waited in the process, and that it ran for. */
interface Timing {
  waited: number;
  ran: number;
}

type Reply =
  | { type: 'ready'; versions: Record<string, string> }
  | { type: 'listening'; address: string }
  | ({ type: 'progress'; id: number } & Progress)
  | { type: 'checkpoint'; id: number; step: number; path: string }
  | { type: 'result'; id: number; result: unknown; timing?: Timing }
  | { type: 'error'; id: number; error: { type: string; message: string }; timing?: Timing };

function deliver(pending: Map<number, Pending>, message: Exclude<Reply, { type: 'ready' | 'listening' }>): void {
  const call = pending.get(message.id);
  if (!call) return;
  if ('timing' in message && message.timing) {
    const { waited, ran } = message.timing;
    call.inCallersContext(() => annotate({ 'acecoder.waited_ms': 1000 * waited, 'acecoder.ran_ms': 1000 * ran }));
  }
  switch (message.type) {
    case 'progress':
      call.inCallersContext(() => call.onProgress(message));
      return;
    case 'checkpoint': {
      const { onCheckpoint } = call;
      if (onCheckpoint)
        call.checkpoints = call.checkpoints.then(() => call.inCallersContext(() => onCheckpoint(message)));
      call.checkpoints.catch(() => undefined);
      return;
    }
    case 'result':
      pending.delete(message.id);
      call.checkpoints.then(() => call.resolve(message.result), call.reject);
      return;
    case 'error': {
      pending.delete(message.id);
      const { type, message: text } = message.error;
      const known = KNOWN[type];
      const error = known ? new StageFailure(known, text) : Object.assign(new Error(text), { name: type });
      call.checkpoints.then(
        () => call.reject(error),
        () => call.reject(error),
      );
    }
  }
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // The group is gone.
  }
}

/** Clock ticks per second of `/proc`, on every Linux. */
const TICKS = 100;

/** CPU time of a process with its children, those that have ended included, in seconds; 0 where there is none. */
function cpuSeconds(pid: number): number {
  try {
    // The name, in brackets, may hold spaces.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    const own = fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS;
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
    return own + children.reduce((sum, child) => sum + cpuSeconds(Number(child)), 0);
  } catch {
    return 0;
  }
}
