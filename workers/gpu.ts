/**
 * The launcher of GPU workers: one worker process for each GPU, MIG instance or group of GPUs, bound to it by
 * `CUDA_VISIBLE_DEVICES` before Python starts. It asks nvidia-smi for the health of the devices, takes a sick one out of
 * service and restarts processes that die. Without a GPU, this process serves the queue itself on CPU.
 */
import { execFile, fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, realpathSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { NvidiaSmiParseError, parseNvidiaSmi, parseNvidiaSmiList, type NvidiaSmi } from 'nvidia-smi-parser';
import { QUEUES, queueName } from '../workflows/contract/index.js';
import { healthOf, isVisible, planAssignments, readDeviceClasses, type Assignment, type DeviceClasses, type Health, type Plan } from './devices.js';

const HELP = `workers/gpu.ts [options]

Runs one worker for each GPU or MIG instance of this host until SIGINT or SIGTERM, each in a process of its own, and
watches the health of the GPUs with nvidia-smi. Without nvidia-smi or a GPU, it serves the GPU queue on CPU.

  --list   print what would be started, with the health of each device, and exit
  --help   print this

Environment:
  ACECODER_GPU_CLASSES         device classes as JSON, such as {"train": {"gpus": 4}, "sample": {"gpus": 1, "workers": 2}};
                               a class's workers serve a queue of their own; GPUs that no class takes serve the queue
                               without a class
  ACECODER_GPU_HEALTH_SECONDS  seconds between two looks at the health of the GPUs (30)
  ACECODER_QUEUE               base of the queue names (${QUEUES.pipeline})
  CUDA_VISIBLE_DEVICES         GPUs that may be used: UUIDs, or indices as nvidia-smi counts; all when not set
  TEMPORAL_*, ACECODER_S3_*    as for all workers`;

/** Time in which nvidia-smi must answer, in seconds: a GPU that fell off its bus makes it hang. */
const NVIDIA_SMI_SECONDS = 15;
/** Time that a worker gets for the end of its step, a checkpoint and the end of Python, in seconds. */
const GRACE_SECONDS = 95;
/** Waiting time before a worker starts again, in seconds: the first, doubled with each end in a row up to the last. */
const BACKOFF_SECONDS = { first: 1, last: 300 };
/** A worker that ran so long, in seconds, starts again after the first waiting time. */
const STEADY_SECONDS = 600;
const NO_DEVICES = /^No devices (were )?found/i;

/** nvidia-smi gives no usable answer; the message says why. `absent`: there is no such program. */
export class NvidiaSmiUnavailable extends Error {
  override readonly name = 'NvidiaSmiUnavailable';

  constructor(message: string, readonly absent = false) {
    super(message);
  }
}

/** Runs nvidia-smi with arguments and resolves with its output. @throws NvidiaSmiUnavailable */
export type NvidiaSmiCommand = (args: readonly string[], signal?: AbortSignal) => Promise<string>;

/** nvidia-smi of `PATH`. One that hangs where it cannot be killed is not run a second time beside itself. */
export function nvidiaSmiOfPath(timeoutSeconds = NVIDIA_SMI_SECONDS): NvidiaSmiCommand {
  let hanging: ChildProcess | undefined;
  return (args, signal) => new Promise((resolve, reject) => {
    const command = ['nvidia-smi', ...args].join(' ');
    if (hanging?.exitCode === null && hanging.signalCode === null) {
      reject(new NvidiaSmiUnavailable(`${command} was not run: process ${hanging.pid} of an earlier run still hangs.`));
      return;
    }
    const child = execFile('nvidia-smi', args, { encoding: 'utf8', maxBuffer: 64 * 2 ** 20, signal, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
      clearTimeout(timer);
      if (!error || NO_DEVICES.test(stdout.trim())) resolve(stdout);
      else if (error.code === ('ENOENT' as never)) reject(new NvidiaSmiUnavailable('There is no nvidia-smi on PATH.', true));
      else reject(new NvidiaSmiUnavailable(`${command} failed with ${error.code ?? error.signal ?? error.name}: ${lastLine(stderr) || lastLine(stdout) || 'it printed nothing'}`));
    });
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
    if (error instanceof NvidiaSmiParseError) throw new NvidiaSmiUnavailable(`The output of nvidia-smi ${args} cannot be read: ${error.message}`);
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
 * What to start on this host, with the report it rests on; undefined where there is no GPU to use.
 *
 * @throws NvidiaSmiUnavailable when nvidia-smi is there and does not answer: nothing is known about the GPUs then.
 */
async function planHost(nvidiaSmi: NvidiaSmiCommand, { classes, queueBase, visible }: HostConfig, signal?: AbortSignal): Promise<(Plan & { report: NvidiaSmi }) | undefined> {
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
  graceSeconds?: number;
  backoffSeconds?: { first: number; last: number };
}

/**
 * Runs the workers of this host until the signal, and returns when all of their processes have ended. `noGpu` at once
 * where the host has none. While nvidia-smi does not answer, what runs goes on and nothing new starts.
 *
 * @throws Error when there are GPUs and none can be given to a worker.
 */
export async function launch({
  nvidiaSmi, startChild, signal, log, healthSeconds, graceSeconds = GRACE_SECONDS, backoffSeconds = BACKOFF_SECONDS, ...host
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
          plan.remarks.forEach(log);
          if (plan.assignments.length === 0) throw new Error('No GPU of this host can be given to a worker.');
          report = plan.report;
          workers = plan.assignments.map((assignment) => new DeviceWorker(assignment, { startChild, log, graceSeconds, backoffSeconds }));
        }
        if (silence !== undefined) log('nvidia-smi answers again');
        silence = undefined;
        const ownPids = processTree(process.pid);
        for (const worker of workers) worker.update(healthOf(worker.assignment, report, { ownPids, running: worker.running }));
      } catch (error) {
        if (signal.aborted) break;
        if (!(error instanceof NvidiaSmiUnavailable)) throw error;
        if (error.message !== silence) log(`${error.message} ${workers ? 'What runs goes on' : 'No worker is started'}; asked again every ${healthSeconds} s.`);
        silence = error.message;
      }
      await sleep(healthSeconds * 1000, undefined, { signal }).catch(() => undefined);
    }
  } finally {
    await Promise.all((workers ?? []).map((worker) => worker.close()));
  }
  return 'stopped';
}

/** The worker process of one assignment: runs while the devices are healthy. */
class DeviceWorker {
  #child: ChildProcess | undefined;
  #startedAt = 0;
  /** Ends in a row, each soon after its start. */
  #shortRuns = 0;
  #restAfter = 0;
  #timer: NodeJS.Timeout | undefined;
  #health: Health = { healthy: true };
  #closed = false;

  constructor(readonly assignment: Assignment, private readonly options: Required<Pick<LaunchOptions, 'startChild' | 'log' | 'graceSeconds' | 'backoffSeconds'>>) {}

  get running(): boolean {
    return this.#child !== undefined;
  }

  /** Takes what the last report says. */
  update(health: Health): void {
    const before = this.#health;
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
    const ended = once(child, 'exit');
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
    if (child.pid === undefined) {
      child.once('error', (error) => this.#ended(`could not be started: ${error.message}`));
      return;
    }
    this.#child = child;
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
    clearTimeout(this.#timer);
    const child = this.#child;
    if (!child) return;
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

/** A process and all that descend from it, by Linux's /proc. */
export function processTree(root: number): Set<number> {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      // Field 4; the command name before it stands in parentheses and may hold anything.
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

/** This entry again as the worker of an assignment: see {@link runAsChild}. */
function forkWorker({ name, deviceClass, cudaVisibleDevices }: Assignment): ChildProcess {
  return fork(fileURLToPath(import.meta.url), ['--device', name], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    // A group of its own: Ctrl-C reaches the launcher alone, because a worker takes a second signal for an order to end at once.
    detached: true,
    env: { ...process.env, CUDA_VISIBLE_DEVICES: cudaVisibleDevices, ACECODER_DEVICE: name, ACECODER_DEVICE_CLASS: deviceClass },
  });
}

/** Serves the queue of this process's environment, and ends with the launcher however that ends. */
async function runAsChild(): Promise<void> {
  process.once('disconnect', () => {
    process.kill(process.pid, 'SIGTERM');
    setTimeout(() => process.exit(1), GRACE_SECONDS * 1000).unref();
  });
  process.channel?.unref();
  await serve();
}

/** The Temporal SDK is loaded by processes that serve a queue only. */
async function serve(): Promise<void> {
  const { main } = await import('./run-workers.js');
  main(['gpu']);
}

async function printPlan(nvidiaSmi: NvidiaSmiCommand, host: HostConfig): Promise<void> {
  const plan = await planHost(nvidiaSmi, host);
  if (!plan) {
    console.log(noGpu(host));
    return;
  }
  plan.remarks.forEach((remark) => console.log(remark));
  const ownPids = processTree(process.pid);
  for (const assignment of plan.assignments) {
    const health = healthOf(assignment, plan.report, { ownPids, running: false });
    console.log(`${assignment.name}  ${assignment.queue}  ${assignment.cudaVisibleDevices}  ${health.healthy ? 'healthy' : `out of service: ${health.reason}`}`);
  }
}

function noGpu({ queueBase }: HostConfig): string {
  return `No GPU can be used here (nvidia-smi or CUDA_VISIBLE_DEVICES says so): ${queueName('gpu', queueBase)} is served on CPU.`;
}

async function run(): Promise<void> {
  const { values } = parseArgs({ options: { list: { type: 'boolean' }, help: { type: 'boolean' }, device: { type: 'string' } } });
  if (values.help) return console.log(HELP);
  if (values.device !== undefined) return runAsChild();
  const host: HostConfig = {
    classes: readDeviceClasses(process.env['ACECODER_GPU_CLASSES']), queueBase: process.env['ACECODER_QUEUE'], visible: process.env['CUDA_VISIBLE_DEVICES'],
  };
  const healthSeconds = Number(process.env['ACECODER_GPU_HEALTH_SECONDS'] ?? 30);
  if (!(healthSeconds > 0 && healthSeconds <= 86_400)) throw new Error(`ACECODER_GPU_HEALTH_SECONDS is ${process.env['ACECODER_GPU_HEALTH_SECONDS']}; it is a number of seconds above 0, a day at most.`);
  const nvidiaSmi = nvidiaSmiOfPath();
  if (values.list) return printPlan(nvidiaSmi, host);

  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  const result = await launch({ ...host, nvidiaSmi, startChild: forkWorker, signal: stop.signal, log: console.log, healthSeconds });
  if (result === 'stopped') return;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(signal, onSignal);
  console.log(noGpu(host));
  await serve();
}

// Tests import this module; only as the entry of a process does it run.
if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  run().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  });
}
