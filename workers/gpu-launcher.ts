/**
 * Launches GPU workers and watches them: one process per assignment. A process runs while nvidia-smi calls its devices
 * healthy, and restarts when it dies. The caller says what a worker process is.
 */
import { execFile, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { NvidiaSmiParseError, parseNvidiaSmi, parseNvidiaSmiList, type NvidiaSmi } from 'nvidia-smi-parser';
import { healthOf, planAssignments, type Assignment, type DeviceClasses, type Health, type Plan } from './devices.js';

/** Timeout of nvidia-smi in seconds. A GPU that fell off its bus makes it hang. */
const NVIDIA_SMI_SECONDS = 15;
/** Seconds before a worker restarts: `first`, doubled with each early end in a row, up to `last`. */
const BACKOFF_SECONDS = { first: 1, last: 300 };
/** A worker that ran for so many seconds restarts after the first waiting time. */
const STEADY_SECONDS = 600;
const NO_DEVICES = /^No devices (were )?found/i;

/** nvidia-smi gives no usable answer; the message says why. `absent` where there is no such program. */
export class NvidiaSmiUnavailable extends Error {
  override readonly name = 'NvidiaSmiUnavailable';

  constructor(
    message: string,
    readonly absent = false,
  ) {
    super(message);
  }
}

/** Runs nvidia-smi with arguments and resolves with its output. @throws NvidiaSmiUnavailable */
export type NvidiaSmiCommand = (args: readonly string[], signal?: AbortSignal) => Promise<string>;

/** nvidia-smi of `PATH`. While a run hangs and cannot be killed, no second one starts. */
export function nvidiaSmiOfPath(timeoutSeconds = NVIDIA_SMI_SECONDS): NvidiaSmiCommand {
  let hanging: ChildProcess | undefined;
  return (args, signal) =>
    new Promise((resolve, reject) => {
      const command = ['nvidia-smi', ...args].join(' ');
      if (hanging?.exitCode === null && hanging.signalCode === null) {
        reject(
          new NvidiaSmiUnavailable(`${command} was not run: process ${hanging.pid} of an earlier run still hangs.`),
        );
        return;
      }
      const child = execFile(
        'nvidia-smi',
        args,
        { encoding: 'utf8', maxBuffer: 64 * 2 ** 20, signal, killSignal: 'SIGKILL' },
        (error, stdout, stderr) => {
          clearTimeout(timer);
          if (!error || NO_DEVICES.test(stdout.trim())) resolve(stdout);
          else if (error.code === 'ENOENT') reject(new NvidiaSmiUnavailable('There is no nvidia-smi on PATH.', true));
          else {
            const how = error.code ?? error.signal ?? error.name;
            const printed = lastLine(stderr) || lastLine(stdout) || 'it printed nothing';
            reject(new NvidiaSmiUnavailable(`${command} failed with ${how}: ${printed}`));
          }
        },
      );
      const timer = setTimeout(() => {
        hanging = child;
        child.kill('SIGKILL');
        reject(new NvidiaSmiUnavailable(`${command} gave no answer within ${timeoutSeconds} s.`));
      }, timeoutSeconds * 1000);
    });
}

function lastLine(output: string): string {
  return output.trim().split('\n').at(-1)!.trim();
}

async function readReport(nvidiaSmi: NvidiaSmiCommand, signal?: AbortSignal): Promise<NvidiaSmi> {
  const output = await nvidiaSmi(['-q', '-x'], signal);
  if (NO_DEVICES.test(output.trim())) return { gpus: [], raw: {} };
  return understood('-q -x', () => parseNvidiaSmi(output));
}

function understood<T>(args: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof NvidiaSmiParseError)
      throw new NvidiaSmiUnavailable(`The output of nvidia-smi ${args} cannot be read: ${error.message}`);
    throw error;
  }
}

export interface HostConfig {
  classes?: DeviceClasses;
  queueBase?: string;
  /** `CUDA_VISIBLE_DEVICES` of the host. */
  visible?: string;
}

/**
 * What to start on this host, with the report that it follows from; undefined where there is no GPU to use.
 *
 * @throws NvidiaSmiUnavailable when nvidia-smi exists and does not answer, because then nothing is known about the
 * GPUs.
 */
export async function planHost(
  nvidiaSmi: NvidiaSmiCommand,
  { classes, queueBase, visible }: HostConfig,
  signal?: AbortSignal,
): Promise<(Plan & { report: NvidiaSmi }) | undefined> {
  let report: NvidiaSmi;
  try {
    report = await readReport(nvidiaSmi, signal);
  } catch (error) {
    if (error instanceof NvidiaSmiUnavailable && error.absent) return undefined;
    throw error;
  }
  const withMig = report.gpus.some(({ migDevices }) => migDevices.length > 0);
  const listing = withMig ? await nvidiaSmi(['-L'], signal) : '';
  const listed = understood('-L', () => parseNvidiaSmiList(listing));
  const plan = planAssignments(report, { listed, classes, queueBase, visible });
  return plan.assignments.length === 0 && plan.remarks.length === 0 ? undefined : { ...plan, report };
}

export interface LaunchOptions extends HostConfig {
  nvidiaSmi: NvidiaSmiCommand;
  /** Starts the worker process of an assignment; SIGTERM must end it. */
  startChild: (assignment: Assignment) => ChildProcess;
  /** Ends the launch. */
  signal: AbortSignal;
  log: (line: string) => void;
  healthSeconds: number;
  /** Seconds that a worker gets to finish its step, write a checkpoint and end Python. */
  graceSeconds: number;
  backoffSeconds?: { first: number; last: number };
}

/**
 * Runs the workers of this host until the signal, and returns when all of their processes have ended. Returns `noGpu`
 * at once where the host has no GPU. While nvidia-smi does not answer, running workers go on and none starts.
 *
 * @throws Error when there are GPUs and none can be given to a worker.
 */
export async function launch({
  nvidiaSmi,
  startChild,
  signal,
  log,
  healthSeconds,
  graceSeconds,
  backoffSeconds = BACKOFF_SECONDS,
  ...host
}: LaunchOptions): Promise<'noGpu' | 'stopped'> {
  let workers: DeviceWorker[] | undefined;
  let silence: string | undefined;
  try {
    while (!signal.aborted) {
      try {
        let report: NvidiaSmi;
        if (workers) {
          report = await readReport(nvidiaSmi, signal);
        } else {
          const plan = await planHost(nvidiaSmi, host, signal);
          if (!plan) return 'noGpu';
          for (const remark of plan.remarks) log(remark);
          if (plan.assignments.length === 0) throw new Error('No GPU of this host can be given to a worker.');
          report = plan.report;
          workers = plan.assignments.map(
            (assignment) => new DeviceWorker(assignment, { startChild, log, graceSeconds, backoffSeconds }),
          );
        }
        if (silence !== undefined) log('nvidia-smi answers again');
        silence = undefined;
        const ownPids = processTree(process.pid);
        for (const worker of workers)
          worker.update(healthOf(worker.assignment, report, { ownPids, running: worker.running }));
      } catch (error) {
        if (signal.aborted) break;
        if (!(error instanceof NvidiaSmiUnavailable)) throw error;
        if (error.message !== silence) {
          const meanwhile = workers ? 'What runs goes on' : 'No worker is started';
          log(`${error.message} ${meanwhile}; asked again every ${healthSeconds} s.`);
        }
        silence = error.message;
      }
      await sleep(healthSeconds * 1000, undefined, { signal }).catch(() => undefined);
    }
  } finally {
    await Promise.all((workers ?? []).map((worker) => worker.close()));
  }
  return 'stopped';
}

/** The worker process of one assignment. It runs while the devices are healthy. */
class DeviceWorker {
  #child: ChildProcess | undefined;
  #startedAt = 0;
  /** How often in a row the process ended soon after its start. */
  #shortRuns = 0;
  #restAfter = 0;
  #timer: NodeJS.Timeout | undefined;
  #health: Health = { healthy: true };
  /** Whether the last report was the first one that called the running worker's devices unhealthy. */
  #suspected = false;
  /** Whether the process was told to end. A second signal would end it before its work is handed back. */
  #stopping = false;
  #closed = false;

  constructor(
    readonly assignment: Assignment,
    private readonly options: Required<Pick<LaunchOptions, 'startChild' | 'log' | 'graceSeconds' | 'backoffSeconds'>>,
  ) {}

  get running(): boolean {
    return this.#child !== undefined;
  }

  /**
   * Takes the health of the last report. Two unhealthy reports in a row stop a running worker. One is not enough: a
   * slowdown may last a moment, and the memory of a process that has just ended looks like that of another program.
   */
  update(health: Health): void {
    const before = this.#health;
    if (this.#child && before.healthy && !health.healthy && !this.#suspected) {
      this.#suspected = true;
      return;
    }
    this.#suspected = false;
    this.#health = health;
    if (!health.healthy) {
      if (before.healthy || before.reason !== health.reason) this.#log(`out of service: ${health.reason}`);
      if (before.healthy) this.#stop();
    } else {
      if (!before.healthy) this.#log('back in service');
      this.#startWhenDue();
    }
  }

  /** Stops the process and returns when it has ended. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (!child) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    this.#stop();
    await ended;
  }

  #startWhenDue(): void {
    if (this.#closed || !this.#health.healthy || this.#child) return;
    clearTimeout(this.#timer);
    const wait = this.#restAfter - performance.now();
    if (wait > 0) this.#timer = setTimeout(() => this.#startWhenDue(), wait);
    else this.#start();
  }

  #start(): void {
    const { name, queue, cudaVisibleDevices } = this.assignment;
    const child = this.options.startChild(this.assignment);
    this.#startedAt = performance.now();
    child.on('error', (error) => {
      if (child.pid === undefined) this.#ended(`could not be started: ${error.message}`);
      else this.#log(`worker process ${child.pid}: ${error.message}`);
    });
    if (child.pid === undefined) return;
    this.#child = child;
    this.#stopping = false;
    this.options.log(`${name}: worker process ${child.pid} serves ${queue} on ${cudaVisibleDevices}`);
    child.once('exit', (code, signal) => {
      this.#child = undefined;
      this.#ended(signal ? `was ended by ${signal}` : `ended with code ${code}`);
    });
  }

  #ended(how: string): void {
    clearTimeout(this.#timer);
    const { first, last } = this.options.backoffSeconds;
    this.#shortRuns = performance.now() - this.#startedAt < STEADY_SECONDS * 1000 ? this.#shortRuns + 1 : 1;
    const rest = Math.min(first * 2 ** (this.#shortRuns - 1), last);
    this.#restAfter = performance.now() + rest * 1000;
    const next = this.#closed || !this.#health.healthy ? '' : `; it starts again in ${rest} s`;
    this.#log(`worker process ${how}${next}`);
    this.#startWhenDue();
  }

  #stop(): void {
    const child = this.#child;
    if (!child || this.#stopping) return;
    this.#stopping = true;
    child.kill('SIGTERM');
    this.#timer = setTimeout(() => {
      this.#log(`worker process ${child.pid} did not end within ${this.options.graceSeconds} s and is killed`);
      child.kill('SIGKILL');
    }, this.options.graceSeconds * 1000);
  }

  #log(text: string): void {
    this.options.log(`${this.assignment.name}: ${text}`);
  }
}

/** A process and all its descendants, by Linux's /proc. */
export function processTree(root: number): Set<number> {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      // Field 4. The command name before it is in parentheses and may hold any character.
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
    } catch {
      // The process has ended.
    }
  }
  const tree = new Set([root]);
  for (const pid of tree) for (const child of children.get(pid) ?? []) tree.add(child);
  return tree;
}
