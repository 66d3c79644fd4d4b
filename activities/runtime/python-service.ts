/**
 * The Node side of a resident Python process (model runtime or sandbox supervisor): JSON lines over two private file
 * descriptors, because libraries print to standard output. The process leads its own group and ends itself when our end
 * of the request pipe closes, so that a killed worker leaves nothing behind.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { StageFailure, type FailureType } from '../../workflows/contract/index.js';

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
  /** Failure class of a process that is lost. */
  lostAs: 'RuntimeLost' | 'SandboxUnavailable';
}

export interface Progress {
  done: number;
  total: number;
  message: string;
  metrics: Record<string, number>;
}

export interface CallOptions {
  onProgress?: (progress: Progress) => void;
  /** Called for each complete checkpoint folder; calls do not overlap and are waited for before the result is returned. */
  onCheckpoint?: (checkpoint: { step: number; path: string }) => Promise<void>;
  signal?: AbortSignal;
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

interface Pending {
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
  options: CallOptions;
  inCallersContext: <T>(work: () => T) => T;
  checkpoints: Promise<void>;
}

interface Process {
  child: ChildProcess;
  requests: Writable;
  pending: Map<number, Pending>;
  versions: Record<string, string>;
}

export class PythonService {
  #process: Promise<Process> | undefined;
  /** The process between its start and its being ready. */
  #starting: ChildProcess | undefined;
  #nextId = 1;
  #closed = false;

  constructor(readonly options: PythonServiceOptions) {}

  /** Whether there is a process, or one that starts. */
  get isRunning(): boolean {
    return this.#process !== undefined;
  }

  /** Starts the process where it does not run and returns the versions it reports. */
  async versions(): Promise<Record<string, string>> {
    return (await this.#running()).versions;
  }

  /**
   * Runs one operation.
   *
   * @throws StageFailure of the operation's class; `lostAs` when the process ends before it answers; the signal's reason
   *   when the caller cancels (the operation is asked first, the process group killed after the grace time).
   */
  async call<T>(op: string, params: Record<string, unknown>, options: CallOptions = {}): Promise<T> {
    options.signal?.throwIfAborted();
    const process = await this.#running();
    options.signal?.throwIfAborted();
    const id = this.#nextId++;
    let grace: NodeJS.Timeout | undefined;
    const cancel = (): void => {
      process.requests.write(`${JSON.stringify({ id, cancel: true })}\n`);
      grace = setTimeout(() => killGroup(process.child), this.options.graceSeconds * 1000);
    };
    try {
      return await new Promise<T>((resolve, reject) => {
        // Replies arrive in the asynchronous context in which the process was started, perhaps that of another activity;
        // what they call belongs to the caller's, which names its activity.
        const inCallersContext = AsyncLocalStorage.snapshot();
        process.pending.set(id, {
          resolve: resolve as (result: unknown) => void,
          reject,
          options,
          inCallersContext,
          checkpoints: Promise.resolve(),
        });
        process.requests.write(`${JSON.stringify({ id, op, params })}\n`);
        options.signal?.addEventListener('abort', cancel, { once: true });
      });
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
        } else {
          deliver(pending, message);
        }
      });
    });
  }
}

type Reply =
  | { type: 'ready'; versions: Record<string, string> }
  | ({ type: 'progress'; id: number } & Progress)
  | { type: 'checkpoint'; id: number; step: number; path: string }
  | { type: 'result'; id: number; result: unknown }
  | { type: 'error'; id: number; error: { type: string; message: string } };

function deliver(pending: Map<number, Pending>, message: Exclude<Reply, { type: 'ready' }>): void {
  const call = pending.get(message.id);
  if (!call) return;
  switch (message.type) {
    case 'progress':
      call.inCallersContext(() => call.options.onProgress?.(message));
      return;
    case 'checkpoint': {
      const { onCheckpoint } = call.options;
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
