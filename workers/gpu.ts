/**
 * The entry point of GPU workers: one worker process per GPU, MIG instance or group of GPUs. `CUDA_VISIBLE_DEVICES`
 * binds the process to its devices before Python starts. Without a GPU, this process serves the queue itself, on CPU.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { QUEUES, queueName } from '../workflows/contract/index.js';
import { graceOf } from '../activities/runtime/settings.js';
import { deadlineOf, sayDeadline, watchDeadline } from './deadline.js';
import { healthOf, readDeviceClasses, type Assignment } from './devices.js';
import {
  launch,
  nvidiaSmiOfPath,
  planHost,
  processTree,
  type HostConfig,
  type NvidiaSmiCommand,
} from './gpu-launcher.js';
import { keepRunningWithoutLog } from './log.js';
import { PROCESS_NUMBER } from './observability/addresses.js';
import { onEndSignal } from './signals.js';

const HELP = `workers/gpu.ts [options]

Runs one worker per GPU or MIG instance of this host until SIGINT or SIGTERM, each in its own process, and
watches the health of the GPUs with nvidia-smi. Without nvidia-smi or a GPU, it serves the GPU queue on CPU.

  --list      print what would be started, with the health of each device, and exit
  --wait 60s  end with exit code 1 when Temporal or the store are not there after this time (default: wait)
  --help      print this

Environment:
  ACECODER_GPU_CLASSES         device classes as JSON, such as
                               {"train": {"gpus": 4}, "sample": {"gpus": 1, "workers": 2}};
                               a class's workers serve their own queue, with a process of the model runtime
                               per GPU; GPUs that no class takes serve the queue without a class
  ACECODER_GPU_HEALTH_SECONDS  seconds between two looks at the health of the GPUs (30)
  ACECODER_QUEUE               base of the queue names (${QUEUES.pipeline})
  ACECODER_DEADLINE            when the host is taken away; the workers end before
  CUDA_VISIBLE_DEVICES         GPUs that may be used: UUIDs, or indices as nvidia-smi counts; all when not set
  TEMPORAL_*, ACECODER_S3_*    as for all workers`;

/** This entry again as the worker of an assignment: see {@link runAsChild}. */
function forkWorker(
  { name, deviceClass, devices, cudaVisibleDevices }: Assignment,
  number: number,
  wait: string | undefined,
): ChildProcess {
  return fork(fileURLToPath(import.meta.url), ['--device', name, ...(wait === undefined ? [] : ['--wait', wait])], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    // Its own process group, so that Ctrl-C reaches the launcher alone: a second signal ends a worker at once.
    detached: true,
    env: {
      ...process.env,
      CUDA_VISIBLE_DEVICES: cudaVisibleDevices,
      ACECODER_PROCESSES: String(devices.length),
      ACECODER_DEVICE: name,
      ACECODER_DEVICE_CLASS: deviceClass,
      [PROCESS_NUMBER]: String(number),
      // This process ends it in time.
      ACECODER_DEADLINE: undefined,
    },
  });
}

/** Serves the queue of this process's environment, and ends with the launcher, however the launcher ends. */
async function runAsChild(wait: string | undefined): Promise<void> {
  process.once('disconnect', () => {
    process.kill(process.pid, 'SIGTERM');
    setTimeout(() => process.exit(1), graceOf(process.env).process * 1000).unref();
  });
  process.channel?.unref();
  await serve(wait);
}

/** Only a process that serves a queue loads the Temporal SDK. */
async function serve(wait: string | undefined): Promise<void> {
  const { main } = await import('./run-workers.js');
  main(['gpu'], () => wait);
}

async function printPlan(nvidiaSmi: NvidiaSmiCommand, host: HostConfig): Promise<void> {
  const plan = await planHost(nvidiaSmi, host);
  if (!plan) {
    console.log(noGpu(host));
    return;
  }
  for (const remark of plan.remarks) console.log(remark);
  const ownPids = processTree(process.pid);
  for (const assignment of plan.assignments) {
    const health = healthOf(assignment, plan.report, { ownPids, running: false });
    const state = health.healthy ? 'healthy' : `out of service: ${health.reason}`;
    console.log([assignment.name, assignment.queue, assignment.cudaVisibleDevices, state].join('  '));
  }
}

function noGpu({ queueBase }: HostConfig): string {
  const queue = queueName('gpu', queueBase);
  return `No GPU can be used here (nvidia-smi or CUDA_VISIBLE_DEVICES says so): ${queue} is served on CPU.`;
}

async function run(): Promise<void> {
  const { values } = parseArgs({
    options: {
      list: { type: 'boolean' },
      help: { type: 'boolean' },
      device: { type: 'string' },
      wait: { type: 'string' },
    },
  });
  if (values.help) return console.log(HELP);
  if (values.device !== undefined) return runAsChild(values.wait);
  const host: HostConfig = {
    classes: readDeviceClasses(process.env['ACECODER_GPU_CLASSES']),
    queueBase: process.env['ACECODER_QUEUE'],
    visible: process.env['CUDA_VISIBLE_DEVICES'],
  };
  const healthSeconds = Number(process.env['ACECODER_GPU_HEALTH_SECONDS'] ?? 30);
  if (!(healthSeconds > 0 && healthSeconds <= 86_400))
    throw new Error(
      `ACECODER_GPU_HEALTH_SECONDS is ${process.env['ACECODER_GPU_HEALTH_SECONDS']}; ` +
        'it is a number of seconds above 0, a day at most.',
    );
  const nvidiaSmi = nvidiaSmiOfPath();
  if (values.list) return printPlan(nvidiaSmi, host);

  // The same number at each start, because it decides the ports of the process.
  const numbers: string[] = [];
  const numberOf = ({ name }: Assignment): number => {
    if (!numbers.includes(name)) numbers.push(name);
    return numbers.indexOf(name);
  };
  const stop = new AbortController();
  const giveBack = onEndSignal(() => stop.abort());
  const deadline = deadlineOf(process.env, Date.now());
  const forgetDeadline = watchDeadline(deadline, () => {
    if (!stop.signal.aborted) console.log(sayDeadline(deadline!));
    stop.abort();
  });
  const result = await launch({
    ...host,
    nvidiaSmi,
    startChild: (assignment) => forkWorker(assignment, numberOf(assignment), values.wait),
    signal: stop.signal,
    log: console.log,
    healthSeconds,
    graceSeconds: graceOf(process.env).process,
  });
  // An nvidia-smi that hangs in the driver would keep this process alive.
  if (result === 'stopped') process.exit(0);
  giveBack();
  forgetDeadline();
  console.log(noGpu(host));
  await serve(values.wait);
}

keepRunningWithoutLog();
run().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
