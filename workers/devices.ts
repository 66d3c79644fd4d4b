/** Decides which worker process gets which GPUs of the host, and whether those GPUs are fit for work. Pure. */
import type { Gpu, ListedGpu, MigDevice, NvidiaSmi } from 'nvidia-smi-parser';
import { z } from 'zod';
import { QUEUES, queueName } from '../workflows/contract/index.js';

/** Device classes of the host by name: how many GPUs a worker of the class has, and how many such workers there are. */
const deviceClassesSchema = z.record(
  z.string().regex(/^[a-z0-9-]+$/, 'a device class is named with a-z, 0-9 and -'),
  z.strictObject({ gpus: z.int().min(1), workers: z.int().min(1).default(1) }),
);
export type DeviceClasses = z.infer<typeof deviceClassesSchema>;

/** A GPU, or a MIG instance of one. */
interface Device {
  /** `GPU-…` or `MIG-…`. */
  uuid: string;
  /** UUID of the GPU that it is, or lies in. */
  gpuUuid: string;
  /** The instance's ids within its GPU. */
  mig?: { index: number; gpuInstanceId: number; computeInstanceId: number };
}

/** One worker process and what it works on. */
export interface Assignment {
  /** Name in logs, such as `gpu2`, `gpu0-mig3` or `gpu0-1-2-3`. */
  name: string;
  deviceClass?: string;
  /** Task queue that the worker serves. */
  queue: string;
  devices: readonly Device[];
  /** UUIDs, separated by commas. */
  cudaVisibleDevices: string;
}

export interface Plan {
  assignments: Assignment[];
  /** What an operator should know: sentences about devices that are not used and classes without enough of them. */
  remarks: string[];
}

export interface PlanOptions {
  /** The host's `nvidia-smi -L`; only the UUIDs of MIG instances are taken from it. */
  listed?: readonly ListedGpu[];
  classes?: DeviceClasses;
  queueBase?: string;
  /** Value of `CUDA_VISIBLE_DEVICES` for the whole host: UUIDs or their beginnings, or indices as nvidia-smi counts. */
  visible?: string;
}

/** Share of a device's memory that other processes may hold next to its worker, such as a desktop or a monitor. */
const FOREIGN_MEMORY_SHARE = 0.1;
/** Share of a device's memory that must be free for a worker to start. */
const FREE_MEMORY_SHARE = 0.75;
/** Clocks event reasons by which the hardware protects itself. It then runs at half its clocks or less. */
const HARDWARE_SLOWDOWN = ['hw_thermal_slowdown', 'hw_power_brake_slowdown', 'hw_slowdown'];

/**
 * Reads device classes from JSON, such as `{"train": {"gpus": 4}, "sample": {"gpus": 1, "workers": 4}}`.
 *
 * @throws Error that names the mistakes.
 */
export function readDeviceClasses(json = '{}'): DeviceClasses {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new Error(`ACECODER_GPU_CLASSES is no JSON: ${json}`);
  }
  const parsed = deviceClassesSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const mistakes = parsed.error.issues.map(({ path, message }) => [...path.map(String), message].join(': '));
  const like = '{"train": {"gpus": 4}, "sample": {"gpus": 1, "workers": 4}}';
  throw new Error(`ACECODER_GPU_CLASSES is not like ${like}: ${mistakes.join('; ')}`);
}

/**
 * Gives devices to workers. Classes take devices in the order of the configuration, devices go in the order of the
 * report. Each remaining device gets a worker without a class. Several GPUs for one worker are whole GPUs, because CUDA
 * uses one MIG instance per process. A class that finds too few devices gets fewer workers and a remark.
 */
export function planAssignments(
  report: NvidiaSmi,
  { listed = [], classes = {}, queueBase = QUEUES.pipeline, visible }: PlanOptions = {},
): Plan {
  const remarks: string[] = [];
  const free = report.gpus.flatMap((gpu) => devicesOf(gpu, listed, visible, remarks));
  const indices = new Map(report.gpus.map(({ uuid, index }) => [uuid, index]));
  const assignments: Assignment[] = [];
  const assign = (devices: readonly Device[], deviceClass?: string): void => {
    const [first] = devices;
    assignments.push({
      name: first?.mig
        ? `gpu${indices.get(first.gpuUuid)}-mig${first.mig.index}`
        : `gpu${devices.map(({ gpuUuid }) => indices.get(gpuUuid)).join('-')}`,
      ...(deviceClass === undefined ? {} : { deviceClass }),
      queue: queueName('gpu', queueBase, deviceClass),
      devices,
      cudaVisibleDevices: devices.map(({ uuid }) => uuid).join(','),
    });
  };
  for (const [deviceClass, { gpus, workers }] of Object.entries(classes)) {
    for (let worker = 0; worker < workers; worker += 1) {
      const fitting = free.filter(({ mig }) => gpus === 1 || !mig).slice(0, gpus);
      if (fitting.length < gpus) {
        const wanted = gpus === 1 ? 'a GPU or MIG instance' : `${gpus} whole GPUs`;
        remarks.push(
          `The device class '${deviceClass}' has ${worker} of ${workers} workers: ` +
            `a worker needs ${wanted}, and ${fitting.length || 'none'} is left.`,
        );
        break;
      }
      for (const device of fitting) free.splice(free.indexOf(device), 1);
      assign(fitting, deviceClass);
    }
  }
  for (const device of free) assign([device]);
  return { assignments, remarks };
}

function devicesOf(gpu: Gpu, listed: readonly ListedGpu[], visible: string | undefined, remarks: string[]): Device[] {
  const { uuid: gpuUuid, index } = gpu;
  if (gpuUuid === undefined) {
    remarks.push(`GPU ${index} has no UUID in the report of nvidia-smi, so no process can be bound to it.`);
    return [];
  }
  const whole = isVisible({ uuid: gpuUuid, index }, visible);
  if (!gpu.mig.currentEnabled) return whole ? [{ uuid: gpuUuid, gpuUuid }] : [];
  const uuids = new Map(
    listed.find(({ uuid }) => uuid === gpuUuid)?.migDevices.map(({ index: number, uuid }) => [number, uuid]),
  );
  const devices = gpu.migDevices.flatMap(({ index: number, gpuInstanceId, computeInstanceId }): Device[] => {
    const uuid = number === undefined ? undefined : uuids.get(number);
    if (number === undefined || gpuInstanceId === undefined || computeInstanceId === undefined || uuid === undefined) {
      if (whole)
        remarks.push(
          `MIG instance ${number ?? '?'} of GPU ${index} has no UUID in the list of nvidia-smi -L, ` +
            'so no process can be bound to it.',
        );
      return [];
    }
    return whole || isVisible({ uuid }, visible)
      ? [{ uuid, gpuUuid, mig: { index: number, gpuInstanceId, computeInstanceId } }]
      : [];
  });
  if (whole && gpu.migDevices.length === 0)
    remarks.push(
      `GPU ${index} is in MIG mode and has no instance: nothing runs on it until one is made (nvidia-smi mig -cgi) ` +
        'and this launcher started again.',
    );
  return devices;
}

/** Whether `CUDA_VISIBLE_DEVICES` names a GPU or an instance itself. The UUID of an instance does not name its GPU. */
function isVisible({ uuid, index }: { uuid: string; index?: number }, visible: string | undefined): boolean {
  if (visible === undefined) return true;
  const entries = visible
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
  return entries.some((entry) => (/^\d+$/.test(entry) ? Number(entry) === index : uuid.startsWith(entry)));
}

export type Health = { healthy: true } | { healthy: false; reason: string };

export interface HealthOptions {
  /** Processes of this launcher and all below it. */
  ownPids: ReadonlySet<number>;
  /** Whether the assignment's worker runs. In some containers its memory cannot be told from that of others. */
  running: boolean;
}

/**
 * Whether a worker may run on the devices of an assignment. The reason names the gravest obstacle: device gone, memory
 * faults, hardware slowdown, memory held by others, too little free memory, in this order.
 */
export function healthOf(assignment: Assignment, report: NvidiaSmi, options: HealthOptions): Health {
  for (const rule of [missing, faulty, slowedDown, occupied, full]) {
    for (const device of assignment.devices) {
      const reason = rule(lookUp(device, report), options);
      if (reason !== undefined) return { healthy: false, reason };
    }
  }
  return { healthy: true };
}

/** What the report says about a device. `instance` is there only for a MIG instance that the report has. */
interface Found {
  device: Device;
  gpu: Gpu | undefined;
  instance: MigDevice | undefined;
  label: string;
}

type Rule = (found: Found, options: HealthOptions) => string | undefined;

function lookUp(device: Device, report: NvidiaSmi): Found {
  const gpu = report.gpus.find(({ uuid }) => uuid === device.gpuUuid);
  const instance = gpu?.migDevices.find((candidate) => isOn(candidate, device));
  const gpuLabel = gpu ? `GPU ${gpu.index}` : `GPU ${device.gpuUuid}`;
  return { device, gpu, instance, label: device.mig ? `MIG instance ${device.mig.index} of ${gpuLabel}` : gpuLabel };
}

function isOn(ids: { gpuInstanceId?: number; computeInstanceId?: number }, { mig }: Device): boolean {
  return (
    mig === undefined || (ids.gpuInstanceId === mig.gpuInstanceId && ids.computeInstanceId === mig.computeInstanceId)
  );
}

const missing: Rule = ({ device, gpu, instance, label }) => {
  if (!gpu)
    return `${label} is not in the report of nvidia-smi: the driver has lost it; look for "Xid" in the kernel log.`;
  if (device.mig && !instance)
    return `${label} (${device.uuid}) does not exist any more: start this launcher again to use the new instances.`;
  if (!device.mig && gpu.mig.currentEnabled)
    return `${label} was put into MIG mode: start this launcher again to use its instances.`;
  return undefined;
};

const faulty: Rule = ({ gpu, instance, label }) => {
  if (!gpu) return undefined;
  const { index, ecc, remappedRows, retiredPages, recoveryAction, resetRequired } = gpu;
  const reset = `reset it when idle (nvidia-smi --gpu-reset -i ${index})`;
  const uncorrectable = Math.max(ecc.volatile.uncorrectable ?? 0, instance?.ecc.volatile.uncorrectable ?? 0);
  if (remappedRows.failed)
    return `${label} could not replace a faulty memory row by a spare one: the GPU should be replaced.`;
  if (ecc.sramThresholdExceeded)
    return `${label} has had more uncorrectable SRAM errors than a sound GPU: it should be replaced.`;
  if (uncorrectable > 0)
    return `${label} counts ${uncorrectable} uncorrectable memory errors (ECC) since the driver was loaded: ${reset}.`;
  if (remappedRows.pending) return `${label} has faulty memory rows that wait to be remapped: ${reset}.`;
  if (retiredPages.pending) return `${label} has faulty memory pages that wait to be retired: ${reset}.`;
  if (resetRequired) return `${label} needs a reset, says the driver: ${reset}.`;
  if (recoveryAction !== undefined && recoveryAction !== 'None')
    return `${label} needs the recovery action '${recoveryAction}', says the driver.`;
  return undefined;
};

const slowedDown: Rule = ({ gpu, label }) => {
  const reasons = HARDWARE_SLOWDOWN.filter((reason) => gpu?.clocksEventReasons?.has(reason));
  if (!gpu || reasons.length === 0) return undefined;
  const readings = [
    [gpu.temperature.gpuCelsius, '°C'],
    [gpu.power.drawWatts, 'W'],
  ].flatMap(([value, unit]) => (value === undefined ? [] : [`${value} ${unit}`]));
  const why = [reasons.join(', '), ...readings].join('; ');
  return `${label} is slowed down by its hardware (${why}): check cooling and power supply.`;
};

const occupied: Rule = ({ device, gpu, instance, label }, { ownPids }) => {
  const total = (instance ?? gpu)?.memory.totalBytes;
  if (!gpu || total === undefined) return undefined;
  const foreign = gpu.processes
    .filter((process) => process.pid !== undefined && !ownPids.has(process.pid) && isOn(process, device))
    .map(({ pid, name, usedMemoryBytes = 0 }) => ({ pid, name, bytes: usedMemoryBytes }))
    .sort((a, b) => b.bytes - a.bytes);
  const bytes = foreign.reduce((sum, process) => sum + process.bytes, 0);
  if (bytes <= total * FOREIGN_MEMORY_SHARE) return undefined;
  const [{ pid, name } = {}] = foreign;
  return (
    `${label} is used by others: ${gib(bytes)} of ${gib(total)} are held by processes that are not of this launcher, ` +
    `most by process ${pid} (${name ?? 'name unknown'}).`
  );
};

const full: Rule = ({ gpu, instance, label }, { running }) => {
  const { totalBytes, freeBytes } = (instance ?? gpu)?.memory ?? {};
  if (running || totalBytes === undefined || freeBytes === undefined || freeBytes >= totalBytes * FREE_MEMORY_SHARE)
    return undefined;
  return (
    `${label} has ${gib(freeBytes)} of ${gib(totalBytes)} free while no worker of this launcher runs on it; ` +
    `a worker needs ${gib(totalBytes * FREE_MEMORY_SHARE)}.`
  );
};

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
