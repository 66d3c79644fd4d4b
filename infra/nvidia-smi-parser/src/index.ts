/**
 * Typed values from the text that `nvidia-smi` prints.
 *
 * The XML of `nvidia-smi -q -x` follows a DTD that NVIDIA changes with its drivers; versions 10 to 13 name the same
 * facts differently. Here each fact has one name, which ends in its unit.
 *
 * A section is always there. A value is undefined, never a text or a zero, where the report lacks it, where it says
 * "N/A", "[Not Supported]" and the like, and where a number has an unexpected unit. `raw` holds the report unchanged.
 */
import { XMLParser, XMLValidator } from 'fast-xml-parser';

/** The text of an element, or its children. */
export type RawValue = string | RawElement | RawValue[];
/** An element of the XML: its children and attributes by name. The name of an attribute begins with `@`. */
export interface RawElement {
  [name: string]: RawValue;
}

/**
 * The report of `nvidia-smi -q -x`.
 *
 * @example
 * ```ts
 * import type { NvidiaSmi } from 'nvidia-smi-parser';
 *
 * const gibibytesFree = ({ gpus }: NvidiaSmi): number[] =>
 *   gpus.map(({ memory }) => (memory.freeBytes ?? 0) / 2 ** 30);
 * ```
 */
export interface NvidiaSmi {
  /** Version of the DTD that the report names: 10 to 13. */
  dtdVersion?: number;
  /** Time of the report as printed: local time of the host, without its zone. */
  timestamp?: string;
  driverVersion?: string;
  /** Newest CUDA version that the driver supports, such as `12.2`. */
  cudaVersion?: string;
  /** GPUs that the driver knows; a report on selected GPUs holds fewer. */
  attachedGpus?: number;
  gpus: Gpu[];
  raw: RawElement;
}

/** One GPU of the report. */
export interface Gpu {
  /** Position in the report. In a report on all GPUs it is the index that `nvidia-smi -i` takes. */
  index: number;
  /** Number of the device node `/dev/nvidia<number>`. */
  minorNumber?: number;
  /** `GPU-…`, as `CUDA_VISIBLE_DEVICES` takes it. */
  uuid?: string;
  productName?: string;
  productBrand?: string;
  productArchitecture?: string;
  serial?: string;
  vbiosVersion?: string;
  pci: {
    /** Domain, bus, device and function, such as `00000000:01:00.0`. */
    busId?: string;
    /** Device and vendor, hexadecimal, such as `20B210DE`. */
    deviceId?: string;
    subSystemId?: string;
  };
  persistenceModeEnabled?: boolean;
  /** `Default`, `Exclusive_Process` or `Prohibited`. */
  computeMode?: string;
  /** `P0` (fastest) to `P15`. */
  performanceState?: string;
  fanPercent?: number;
  /** Multi-Instance GPU; undefined modes mean a GPU that has none. */
  mig: { currentEnabled?: boolean; pendingEnabled?: boolean };
  migDevices: MigDevice[];
  /** Frame buffer: what CUDA allocates from. */
  memory: Memory;
  bar1Memory: Memory;
  utilization: {
    gpuPercent?: number;
    memoryPercent?: number;
    encoderPercent?: number;
    decoderPercent?: number;
    jpegPercent?: number;
    ofaPercent?: number;
  };
  temperature: {
    gpuCelsius?: number;
    memoryCelsius?: number;
    /** Degrees left until the GPU slows down. */
    gpuTLimitCelsius?: number;
    slowdownCelsius?: number;
    shutdownCelsius?: number;
  };
  power: {
    /** The one figure of older drivers. Of newer ones, the average over a second, or else the momentary draw. */
    drawWatts?: number;
    averageDrawWatts?: number;
    instantDrawWatts?: number;
    /** Limit in force. */
    limitWatts?: number;
    defaultLimitWatts?: number;
    minLimitWatts?: number;
    maxLimitWatts?: number;
  };
  clocks: Clocks;
  maxClocks: Clocks;
  /**
   * Why the clocks are lower than they could be, in the driver's words without prefix: `gpu_idle`, `sw_power_cap`,
   * `hw_slowdown`, `hw_thermal_slowdown`, `hw_power_brake_slowdown`, … Undefined where the driver does not say.
   */
  clocksEventReasons?: ReadonlySet<string>;
  ecc: {
    currentEnabled?: boolean;
    pendingEnabled?: boolean;
    /** Errors since the driver was loaded. */
    volatile: EccCounts;
    /** Errors in the life of the GPU. */
    aggregate: EccCounts;
    /** Whether so many uncorrectable SRAM errors were seen that the GPU should be replaced. */
    sramThresholdExceeded?: boolean;
  };
  /** Memory pages out of use, on GPUs before Ampere. */
  retiredPages: {
    singleBitCount?: number;
    doubleBitCount?: number;
    /** Whether pages wait for the next reset to be retired. */
    pending?: boolean;
  };
  /** Memory rows replaced by spare ones, on Ampere and later GPUs. */
  remappedRows: {
    correctableCount?: number;
    uncorrectableCount?: number;
    /** Whether rows wait for the next reset to be remapped. */
    pending?: boolean;
    /** Whether a remapping failed: the GPU should be replaced. */
    failed?: boolean;
  };
  /** Whether the GPU works again only after a reset. */
  resetRequired?: boolean;
  /** The action that the driver asks for, such as `Reset` or `Reboot`; `None` when it asks for none. */
  recoveryAction?: string;
  processes: GpuProcess[];
  raw: RawElement;
}

/** A MIG instance. The XML does not hold its UUID: see {@link parseNvidiaSmiList}. */
export interface MigDevice {
  /** Number within its GPU. */
  index?: number;
  gpuInstanceId?: number;
  computeInstanceId?: number;
  multiprocessorCount?: number;
  memory: Memory;
  bar1Memory: Memory;
  ecc: { volatile: EccCounts };
  raw: RawElement;
}

/** Memory of a GPU or MIG instance, in bytes. */
export interface Memory {
  totalBytes?: number;
  reservedBytes?: number;
  usedBytes?: number;
  freeBytes?: number;
}

/** Clock rates in MHz. */
export interface Clocks {
  graphicsMHz?: number;
  smMHz?: number;
  memoryMHz?: number;
  videoMHz?: number;
}

/** Counts of memory errors; undefined where ECC is off or absent. */
export interface EccCounts {
  /** All correctable errors that the report counts. */
  correctable?: number;
  /** All uncorrectable errors that the report counts. */
  uncorrectable?: number;
  sramCorrectable?: number;
  sramUncorrectable?: number;
  dramCorrectable?: number;
  dramUncorrectable?: number;
}

/** A process that holds memory of a GPU. */
export interface GpuProcess {
  pid?: number;
  /** `C` compute, `G` graphics, `C+G` both. */
  type?: string;
  name?: string;
  /** Undefined where the driver does not account memory to processes (WDDM). */
  usedMemoryBytes?: number;
  gpuInstanceId?: number;
  computeInstanceId?: number;
  raw: RawElement;
}

/** A GPU as `nvidia-smi -L` lists it. */
export interface ListedGpu {
  index: number;
  name: string;
  uuid: string;
  migDevices: ListedMigDevice[];
}

/** A MIG instance as `nvidia-smi -L` lists it. */
export interface ListedMigDevice {
  /** Number within its GPU. */
  index: number;
  /** Such as `3g.20gb` or `1c.3g.20gb`. */
  profile: string;
  /** `MIG-…`, as `CUDA_VISIBLE_DEVICES` takes it. */
  uuid: string;
}

/**
 * The text is not what nvidia-smi prints, or it is cut. `line` and `column` say where.
 *
 * @example
 * ```ts
 * import { NvidiaSmiParseError, parseNvidiaSmi } from 'nvidia-smi-parser';
 *
 * try {
 *   parseNvidiaSmi('<nvidia_smi_log><gpu>');
 * } catch (error) {
 *   if (!(error instanceof NvidiaSmiParseError)) throw error;
 *   console.error(`line ${error.line}, column ${error.column}: ${error.message}`);
 * }
 * ```
 */
export class NvidiaSmiParseError extends Error {
  override readonly name = 'NvidiaSmiParseError';

  /** @param line and `column` count from 1. For a cut text they are its end. */
  constructor(
    problem: string,
    readonly line: number,
    readonly column: number,
  ) {
    super(`${problem} (line ${line}, column ${column})`);
  }
}

const ROOT = 'nvidia_smi_log';
/** Elements that may occur any number of times. */
const REPEATED = new Set(['gpu', 'mig_device', 'process_info']);
/** Texts that mean "no value". */
const NO_VALUE = [
  'N/A',
  'Not Supported',
  'Not Available',
  'Not Found',
  'Unknown Error',
  'Insufficient Permissions',
  'Requested functionality has been deprecated',
  'GPU is lost',
  'ERR!',
];
const ABSENT = new RegExp(`^\\[?(${NO_VALUE.join('|')})\\]?$`, 'i');

const BYTES = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };
const COUNT = { '': 1 };
const PERCENT = { '%': 1 };
const CELSIUS = { C: 1 };
const WATTS = { W: 1 };
const MHZ = { MHz: 1 };

const parser = new XMLParser({
  ignoreAttributes: false,
  attributeNamePrefix: '@',
  parseTagValue: false,
  parseAttributeValue: false,
  ignoreDeclaration: true,
  isArray: (name) => REPEATED.has(name),
});

/**
 * Reads the output of `nvidia-smi -q -x`.
 *
 * @throws NvidiaSmiParseError when the text is no XML, is cut, or is another document.
 * @example
 * ```ts
 * import { execFileSync } from 'node:child_process';
 * import { parseNvidiaSmi } from 'nvidia-smi-parser';
 *
 * const { driverVersion, gpus } = parseNvidiaSmi(execFileSync('nvidia-smi', ['-q', '-x'], { encoding: 'utf8' }));
 * for (const { index, uuid, memory, temperature } of gpus)
 *   console.log(driverVersion, index, uuid, memory.freeBytes, temperature.gpuCelsius);
 * ```
 */
export function parseNvidiaSmi(xml: string): NvidiaSmi {
  const checked = XMLValidator.validate(xml);
  if (checked !== true) {
    const { msg, line, col } = checked.err;
    // The validator finds these at the end of the text, and gives the place of an opening tag, or none.
    if (/^(Unclosed tag|Invalid '|Start tag expected)/.test(msg))
      throw errorAt(xml, xml.length, `the XML ends before </${ROOT}>`);
    throw new NvidiaSmiParseError(`broken XML: ${msg}`, line, col);
  }
  const document = parser.parse(xml) as RawElement;
  if (!(ROOT in document))
    throw errorAt(xml, xml.search(/<\w/), `the XML is no nvidia-smi report: its root is not <${ROOT}>`);
  const raw = element(document, ROOT);
  const dtd = /<!DOCTYPE[^>]*nvsmi_device_v(\d+)\.dtd/.exec(xml)?.[1];
  return {
    dtdVersion: dtd === undefined ? undefined : Number(dtd),
    timestamp: text(raw, 'timestamp'),
    driverVersion: text(raw, 'driver_version'),
    cudaVersion: text(raw, 'cuda_version'),
    attachedGpus: quantity(raw, 'attached_gpus', COUNT),
    gpus: elements(raw, 'gpu').map(gpuOf),
    raw,
  };
}

/**
 * Reads the output of `nvidia-smi -L`. Only lines of GPUs and MIG instances are read. Others, such as warnings of the
 * driver, are skipped.
 *
 * @throws NvidiaSmiParseError when the line of a GPU or MIG instance is cut.
 * @example
 * ```ts
 * import { parseNvidiaSmiList } from 'nvidia-smi-parser';
 *
 * const [gpu] = parseNvidiaSmiList('GPU 0: NVIDIA T4 (UUID: GPU-bbbb)\n');
 * console.log(gpu?.name, gpu?.uuid);
 * ```
 */
export function parseNvidiaSmiList(output: string): ListedGpu[] {
  const gpus: ListedGpu[] = [];
  output.split('\n').forEach((line, index) => {
    if (!/^(GPU \d+:|\s+MIG )/.test(line)) return;
    const gpu = /^GPU (\d+): (.+) \(UUID: (GPU-[^\s)]+)\)\s*$/.exec(line);
    const mig = /^\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^\s)]+)\)\s*$/.exec(line);
    const parent = gpus.at(-1);
    if (gpu) gpus.push({ index: Number(gpu[1]), name: gpu[2]!, uuid: gpu[3]!, migDevices: [] });
    else if (mig && parent) parent.migDevices.push({ index: Number(mig[2]), profile: mig[1]!, uuid: mig[3]! });
    else
      throw new NvidiaSmiParseError(
        `the line ${JSON.stringify(line)} is not how nvidia-smi -L lists a device`,
        index + 1,
        line.length + 1,
      );
  });
  return gpus;
}

function gpuOf(raw: RawElement, index: number): Gpu {
  const pci = element(raw, 'pci');
  const eccMode = element(raw, 'ecc_mode');
  const eccErrors = element(raw, 'ecc_errors');
  const retired = element(raw, 'retired_pages');
  const remapped = element(raw, 'remapped_rows');
  const migMode = element(raw, 'mig_mode');
  const utilization = element(raw, 'utilization');
  const temperature = element(raw, 'temperature');
  return {
    index,
    minorNumber: quantity(raw, 'minor_number', COUNT),
    uuid: text(raw, 'uuid'),
    productName: text(raw, 'product_name'),
    productBrand: text(raw, 'product_brand'),
    productArchitecture: text(raw, 'product_architecture'),
    serial: text(raw, 'serial'),
    vbiosVersion: text(raw, 'vbios_version'),
    pci: {
      busId: text(pci, 'pci_bus_id') ?? text(raw, '@id'),
      deviceId: text(pci, 'pci_device_id'),
      subSystemId: text(pci, 'pci_sub_system_id'),
    },
    persistenceModeEnabled: flag(raw, 'persistence_mode'),
    computeMode: text(raw, 'compute_mode'),
    performanceState: text(raw, 'performance_state'),
    fanPercent: quantity(raw, 'fan_speed', PERCENT),
    mig: { currentEnabled: flag(migMode, 'current_mig'), pendingEnabled: flag(migMode, 'pending_mig') },
    migDevices: elements(element(raw, 'mig_devices'), 'mig_device').map(migDeviceOf),
    memory: memoryOf(element(raw, 'fb_memory_usage')),
    bar1Memory: memoryOf(element(raw, 'bar1_memory_usage')),
    utilization: {
      gpuPercent: quantity(utilization, 'gpu_util', PERCENT),
      memoryPercent: quantity(utilization, 'memory_util', PERCENT),
      encoderPercent: quantity(utilization, 'encoder_util', PERCENT),
      decoderPercent: quantity(utilization, 'decoder_util', PERCENT),
      jpegPercent: quantity(utilization, 'jpeg_util', PERCENT),
      ofaPercent: quantity(utilization, 'ofa_util', PERCENT),
    },
    temperature: {
      gpuCelsius: quantity(temperature, 'gpu_temp', CELSIUS),
      memoryCelsius: quantity(temperature, 'memory_temp', CELSIUS),
      gpuTLimitCelsius: quantity(temperature, 'gpu_temp_tlimit', CELSIUS),
      slowdownCelsius: quantity(temperature, 'gpu_temp_slow_threshold', CELSIUS),
      shutdownCelsius: quantity(temperature, 'gpu_temp_max_threshold', CELSIUS),
    },
    // Since version 12 the report has readings of the board, its memory and its module next to each other.
    power: powerOf(element(raw, 'gpu_power_readings' in raw ? 'gpu_power_readings' : 'power_readings')),
    clocks: clocksOf(element(raw, 'clocks')),
    maxClocks: clocksOf(element(raw, 'max_clocks')),
    clocksEventReasons: eventReasonsOf(raw['clocks_event_reasons'] ?? raw['clocks_throttle_reasons']),
    ecc: {
      currentEnabled: flag(eccMode, 'current_ecc'),
      pendingEnabled: flag(eccMode, 'pending_ecc'),
      volatile: eccCountsOf(element(eccErrors, 'volatile')),
      aggregate: eccCountsOf(element(eccErrors, 'aggregate')),
      sramThresholdExceeded: flag(element(eccErrors, 'aggregate'), 'sram_threshold_exceeded'),
    },
    retiredPages: {
      singleBitCount: quantity(element(retired, 'multiple_single_bit_retirement'), 'retired_count', COUNT),
      doubleBitCount: quantity(element(retired, 'double_bit_retirement'), 'retired_count', COUNT),
      // Both names stand in reports of some drivers, one in those of others.
      pending: either(flag(retired, 'pending_retirement'), flag(retired, 'pending_blacklist')),
    },
    remappedRows: {
      correctableCount: quantity(remapped, 'remapped_row_corr', COUNT),
      uncorrectableCount: quantity(remapped, 'remapped_row_unc', COUNT),
      pending: flag(remapped, 'remapped_row_pending'),
      failed: flag(remapped, 'remapped_row_failure'),
    },
    resetRequired: flag(element(raw, 'gpu_reset_status'), 'reset_required'),
    recoveryAction: text(raw, 'gpu_recovery_action'),
    processes: elements(element(raw, 'processes'), 'process_info').map(processOf),
    raw,
  };
}

function migDeviceOf(raw: RawElement): MigDevice {
  return {
    index: quantity(raw, 'index', COUNT),
    gpuInstanceId: quantity(raw, 'gpu_instance_id', COUNT),
    computeInstanceId: quantity(raw, 'compute_instance_id', COUNT),
    multiprocessorCount: quantity(element(element(raw, 'device_attributes'), 'shared'), 'multiprocessor_count', COUNT),
    memory: memoryOf(element(raw, 'fb_memory_usage')),
    bar1Memory: memoryOf(element(raw, 'bar1_memory_usage')),
    ecc: { volatile: eccCountsOf(element(element(raw, 'ecc_error_count'), 'volatile_count')) },
    raw,
  };
}

function processOf(raw: RawElement): GpuProcess {
  return {
    pid: quantity(raw, 'pid', COUNT),
    type: text(raw, 'type'),
    name: text(raw, 'process_name'),
    usedMemoryBytes: quantity(raw, 'used_memory', BYTES),
    gpuInstanceId: quantity(raw, 'gpu_instance_id', COUNT),
    computeInstanceId: quantity(raw, 'compute_instance_id', COUNT),
    raw,
  };
}

function memoryOf(raw: RawElement): Memory {
  return {
    totalBytes: quantity(raw, 'total', BYTES),
    reservedBytes: quantity(raw, 'reserved', BYTES),
    usedBytes: quantity(raw, 'used', BYTES),
    freeBytes: quantity(raw, 'free', BYTES),
  };
}

function clocksOf(raw: RawElement): Clocks {
  return {
    graphicsMHz: quantity(raw, 'graphics_clock', MHZ),
    smMHz: quantity(raw, 'sm_clock', MHZ),
    memoryMHz: quantity(raw, 'mem_clock', MHZ),
    videoMHz: quantity(raw, 'video_clock', MHZ),
  };
}

function powerOf(raw: RawElement): Gpu['power'] {
  const averageDrawWatts = quantity(raw, 'average_power_draw', WATTS);
  const instantDrawWatts = quantity(raw, 'instant_power_draw', WATTS);
  return {
    drawWatts: quantity(raw, 'power_draw', WATTS) ?? averageDrawWatts ?? instantDrawWatts,
    averageDrawWatts,
    instantDrawWatts,
    limitWatts:
      quantity(raw, 'current_power_limit', WATTS) ??
      quantity(raw, 'enforced_power_limit', WATTS) ??
      quantity(raw, 'power_limit', WATTS),
    defaultLimitWatts: quantity(raw, 'default_power_limit', WATTS),
    minLimitWatts: quantity(raw, 'min_power_limit', WATTS),
    maxLimitWatts: quantity(raw, 'max_power_limit', WATTS),
  };
}

function eventReasonsOf(raw: RawValue | undefined): ReadonlySet<string> | undefined {
  if (typeof raw !== 'object' || Array.isArray(raw)) return undefined;
  return new Set(
    Object.keys(raw)
      .filter((name) => flag(raw, name))
      .map((name) => name.replace(/^clocks_(event|throttle)_reason_/, '')),
  );
}

/**
 * Newer drivers count SRAM and DRAM errors, the newest with SRAM's uncorrectable ones in two parts; drivers of GPUs
 * before Turing count single and double bit errors with a total of their own.
 */
function eccCountsOf(raw: RawElement): EccCounts {
  const count = (name: string): number | undefined => quantity(raw, name, COUNT);
  const sramCorrectable = count('sram_correctable');
  const sramUncorrectable =
    count('sram_uncorrectable') ?? sum(count('sram_uncorrectable_parity'), count('sram_uncorrectable_secded'));
  const dramCorrectable = count('dram_correctable');
  const dramUncorrectable = count('dram_uncorrectable');
  return {
    correctable: sum(sramCorrectable, dramCorrectable) ?? quantity(element(raw, 'single_bit'), 'total', COUNT),
    uncorrectable: sum(sramUncorrectable, dramUncorrectable) ?? quantity(element(raw, 'double_bit'), 'total', COUNT),
    sramCorrectable,
    sramUncorrectable,
    dramCorrectable,
    dramUncorrectable,
  };
}

/** Sum of the values that are there; undefined when none is. */
function sum(...values: (number | undefined)[]): number | undefined {
  const present = values.filter((value) => value !== undefined);
  return present.length === 0 ? undefined : present.reduce((total, value) => total + value);
}

/** Whether one of the values is true; undefined when none is there. */
function either(...values: (boolean | undefined)[]): boolean | undefined {
  const present = values.filter((value) => value !== undefined);
  return present.length === 0 ? undefined : present.includes(true);
}

/** A child element; empty when it is absent or only text. */
function element(from: RawElement, name: string): RawElement {
  const value = from[name];
  return typeof value === 'object' && !Array.isArray(value) ? value : {};
}

function elements(from: RawElement, name: string): RawElement[] {
  const values = from[name];
  return Array.isArray(values)
    ? values.filter((value): value is RawElement => typeof value === 'object' && !Array.isArray(value))
    : [];
}

function text(from: RawElement, name: string): string | undefined {
  const value = from[name];
  return typeof value === 'string' && value !== '' && !ABSENT.test(value) ? value : undefined;
}

/** A number with one of the units, whose factors lead to the unit of the result. */
function quantity(from: RawElement, name: string, units: Record<string, number>): number | undefined {
  const parts = /^(-?\d+(?:\.\d+)?)\s*(\S*)$/.exec(text(from, name) ?? '');
  return parts && Object.hasOwn(units, parts[2]!) ? Number(parts[1]) * units[parts[2]!]! : undefined;
}

function flag(from: RawElement, name: string): boolean | undefined {
  const value = text(from, name);
  if (value === undefined) return undefined;
  if (/^(Yes|Enabled|Active|True)$/i.test(value)) return true;
  return /^(No|Disabled|Not Active|False)$/i.test(value) ? false : undefined;
}

function errorAt(whole: string, offset: number, problem: string): NvidiaSmiParseError {
  const lines = whole.slice(0, offset).split('\n');
  return new NvidiaSmiParseError(problem, lines.length, lines.at(-1)!.length + 1);
}
