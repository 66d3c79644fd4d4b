/**
 * The package nvidia-smi-parser: each rule on texts of our own, and real reports where they lie beside the repository.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NvidiaSmiParseError, parseNvidiaSmi, parseNvidiaSmiList, type Gpu } from 'nvidia-smi-parser';
import { describe, expect, it } from 'vitest';

const MIB = 2 ** 20;

/** A report with the given children of one GPU. */
function report(children: string, version = 12): string {
  return (
    `<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v${version}.dtd">\n` +
    `<nvidia_smi_log>\n\t<gpu id="00000000:01:00.0">${children}</gpu>\n</nvidia_smi_log>\n`
  );
}

function gpu(children: string): Gpu {
  return parseNvidiaSmi(report(children)).gpus[0]!;
}

function errorOf(read: () => unknown): NvidiaSmiParseError {
  try {
    read();
  } catch (error) {
    expect(error).toBeInstanceOf(NvidiaSmiParseError);
    return error as NvidiaSmiParseError;
  }
  throw new Error('nothing was thrown');
}

describe('values', () => {
  it.each([10, 11, 12, 13])('has the version of the DTD: %i', (version) => {
    expect(parseNvidiaSmi(report('', version)).dtdVersion).toBe(version);
  });

  it('has the versions of driver and CUDA, and no DTD version where none is named', () => {
    const smi = parseNvidiaSmi(
      '<nvidia_smi_log><timestamp>Fri Aug  4 11:44:30 2023</timestamp>' +
        '<driver_version>535.54.03</driver_version><cuda_version>12.2</cuda_version>' +
        '<attached_gpus>4</attached_gpus></nvidia_smi_log>',
    );
    expect(smi).toMatchObject({
      timestamp: 'Fri Aug  4 11:44:30 2023',
      driverVersion: '535.54.03',
      cudaVersion: '12.2',
      attachedGpus: 4,
      gpus: [],
    });
    expect(smi.dtdVersion).toBeUndefined();
  });

  it('counts GPUs by position and names them', () => {
    const smi = parseNvidiaSmi(
      '<nvidia_smi_log><gpu id="A"><uuid>GPU-a</uuid><minor_number>3</minor_number></gpu>' +
        '<gpu id="B"><uuid>GPU-b</uuid><pci><pci_bus_id>00000000:02:00.0</pci_bus_id></pci></gpu>' +
        '</nvidia_smi_log>',
    );
    expect(smi.gpus.map(({ index, uuid, minorNumber, pci }) => [index, uuid, minorNumber, pci.busId])).toEqual([
      [0, 'GPU-a', 3, 'A'],
      [1, 'GPU-b', undefined, '00000000:02:00.0'],
    ]);
  });

  it.each([
    ['7 B', 7],
    ['3 KiB', 3072],
    ['40536 MiB', 40536 * MIB],
    ['2 GiB', 2048 * MIB],
    ['0 MiB', 0],
  ])('reads %s of memory as %i bytes', (written, bytes) => {
    expect(gpu(`<fb_memory_usage><total>${written}</total></fb_memory_usage>`).memory.totalBytes).toBe(bytes);
  });

  it.each([
    'N/A',
    '[N/A]',
    '[Not Supported]',
    'Not Supported',
    'Insufficient Permissions',
    '[Insufficient Permissions]',
    'Requested functionality has been deprecated',
    '[Unknown Error]',
    '[GPU is lost]',
    'ERR!',
    '',
    ' ',
  ])('has no value where %j stands', (written) => {
    const read = gpu(
      `<product_name>${written}</product_name><fan_speed>${written}</fan_speed>` +
        `<persistence_mode>${written}</persistence_mode><temperature><gpu_temp>${written}</gpu_temp>` +
        '</temperature>',
    );
    expect([read.productName, read.fanPercent, read.persistenceModeEnabled, read.temperature.gpuCelsius]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });

  it.each(['30', '30 W', '30 constructor', 'thirty %', '30 % of 100 %'])(
    'does not take %j for a percentage',
    (written) => {
      expect(gpu(`<fan_speed>${written}</fan_speed>`).fanPercent).toBeUndefined();
    },
  );

  it('keeps numbers that look like texts as texts, and texts that look like numbers', () => {
    expect(gpu('<serial>0165052</serial><product_name>1e3</product_name>')).toMatchObject({
      serial: '0165052',
      productName: '1e3',
    });
  });

  it('keeps what it has no name for', () => {
    const read = parseNvidiaSmi(
      report('<new_section><new_value>1 parsec</new_value></new_section><fan_speed>N/A</fan_speed>'),
    );
    expect(read.gpus[0]!.raw).toEqual({
      '@id': '00000000:01:00.0',
      new_section: { new_value: '1 parsec' },
      fan_speed: 'N/A',
    });
    expect(read.raw['gpu']).toEqual([read.gpus[0]!.raw]);
  });

  it('has empty sections where the report has none, or says N/A in their place', () => {
    for (const read of [
      gpu(''),
      gpu(
        '<remapped_rows>N/A</remapped_rows><mig_devices>None</mig_devices><processes></processes>' +
          '<ecc_errors>N/A</ecc_errors><clocks_event_reasons>N/A</clocks_event_reasons>',
      ),
    ]) {
      expect(read).toMatchObject({ migDevices: [], processes: [] });
      expect([
        read.clocksEventReasons,
        read.remappedRows.pending,
        read.retiredPages.pending,
        read.ecc.volatile.uncorrectable,
        read.memory.freeBytes,
      ]).toEqual([undefined, undefined, undefined, undefined, undefined]);
    }
  });

  it('reads entities', () => {
    expect(
      gpu('<processes><process_info><process_name>a &amp;&lt;b&gt;</process_name></process_info></processes>')
        .processes[0]!.name,
    ).toBe('a &<b>');
  });
});

describe('names that differ between versions', () => {
  it('reads power of the board under both names, and not that of the module', () => {
    expect(
      gpu(
        '<power_readings><power_draw>26.78 W</power_draw><power_limit>80.00 W</power_limit>' +
          '<enforced_power_limit>70.00 W</enforced_power_limit></power_readings>',
      ).power,
    ).toMatchObject({ drawWatts: 26.78, limitWatts: 70 });
    expect(
      gpu(
        '<gpu_power_readings><average_power_draw>8.81 W</average_power_draw>' +
          '<instant_power_draw>8.44 W</instant_power_draw>' +
          '<current_power_limit>70.00 W</current_power_limit></gpu_power_readings>' +
          '<module_power_readings><power_draw>900 W</power_draw></module_power_readings>',
      ).power,
    ).toMatchObject({ drawWatts: 8.81, averageDrawWatts: 8.81, instantDrawWatts: 8.44, limitWatts: 70 });
  });

  it.each(['event', 'throttle'])('has the active clocks %s reasons', (word) => {
    const name = `clocks_${word}_reason`;
    const reasons = gpu(
      `<${name}s><${name}_gpu_idle>Not Active</${name}_gpu_idle>` +
        `<${name}_hw_slowdown>Active</${name}_hw_slowdown>` +
        `<${name}_hw_thermal_slowdown>Active</${name}_hw_thermal_slowdown></${name}s>`,
    ).clocksEventReasons;
    expect([...reasons!]).toEqual(['hw_slowdown', 'hw_thermal_slowdown']);
  });

  it.each([
    [
      'whole SRAM counts',
      '<sram_correctable>1</sram_correctable><sram_uncorrectable>2</sram_uncorrectable>' +
        '<dram_correctable>30</dram_correctable><dram_uncorrectable>40</dram_uncorrectable>',
      { correctable: 31, uncorrectable: 42, sramUncorrectable: 2 },
    ],
    [
      'SRAM counts in two parts',
      '<sram_uncorrectable_parity>1</sram_uncorrectable_parity>' +
        '<sram_uncorrectable_secded>2</sram_uncorrectable_secded>' +
        '<dram_uncorrectable>40</dram_uncorrectable>',
      { correctable: undefined, uncorrectable: 43, sramUncorrectable: 3 },
    ],
    [
      'single and double bit errors',
      '<single_bit><device_memory>3</device_memory><total>5</total></single_bit><double_bit>' +
        '<device_memory>6</device_memory><total>7</total></double_bit>',
      { correctable: 5, uncorrectable: 7 },
    ],
    [
      'no counts',
      '<sram_correctable>N/A</sram_correctable><dram_uncorrectable>N/A</dram_uncorrectable>',
      { correctable: undefined, uncorrectable: undefined },
    ],
  ])('reads ECC: %s', (_, counts, expected) => {
    const { ecc } = gpu(
      `<ecc_errors><volatile>${counts}</volatile><aggregate>` +
        '<sram_threshold_exceeded>Yes</sram_threshold_exceeded></aggregate></ecc_errors>',
    );
    expect(ecc.volatile).toMatchObject(expected);
    expect(ecc.aggregate.uncorrectable).toBeUndefined();
    expect(ecc.sramThresholdExceeded).toBe(true);
  });

  it.each([
    ['No', 'No', false],
    ['Yes', 'No', true],
    ['No', 'Yes', true],
    ['N/A', 'No', false],
    ['N/A', 'N/A', undefined],
  ])('has pages pending for blacklist %s and retirement %s: %s', (blacklist, retirement, pending) => {
    const { retiredPages } = gpu(
      '<retired_pages><double_bit_retirement><retired_count>2</retired_count>' +
        `</double_bit_retirement><pending_blacklist>${blacklist}</pending_blacklist>` +
        `<pending_retirement>${retirement}</pending_retirement></retired_pages>`,
    );
    expect(retiredPages).toEqual({ singleBitCount: undefined, doubleBitCount: 2, pending });
  });

  it('reads remapped rows, reset and recovery', () => {
    const read = gpu(
      '<remapped_rows><remapped_row_corr>0</remapped_row_corr>' +
        '<remapped_row_unc>3</remapped_row_unc><remapped_row_pending>Yes</remapped_row_pending>' +
        '<remapped_row_failure>No</remapped_row_failure></remapped_rows><gpu_reset_status>' +
        '<reset_required>Yes</reset_required></gpu_reset_status>' +
        '<gpu_recovery_action>Reboot</gpu_recovery_action>',
    );
    expect(read).toMatchObject({
      remappedRows: { correctableCount: 0, uncorrectableCount: 3, pending: true, failed: false },
      resetRequired: true,
      recoveryAction: 'Reboot',
    });
  });
});

describe('MIG and processes', () => {
  it('reads instances with their own memory and errors', () => {
    const read = gpu(
      '<mig_mode><current_mig>Enabled</current_mig><pending_mig>Disabled</pending_mig></mig_mode>' +
        '<mig_devices><mig_device><index>0</index><gpu_instance_id>3</gpu_instance_id>' +
        '<compute_instance_id>1</compute_instance_id><device_attributes><shared>' +
        '<multiprocessor_count>14</multiprocessor_count></shared></device_attributes>' +
        '<ecc_error_count><volatile_count><sram_uncorrectable>9</sram_uncorrectable></volatile_count>' +
        '</ecc_error_count><fb_memory_usage><total>10 MiB</total><free>4 MiB</free></fb_memory_usage>' +
        '</mig_device></mig_devices>',
    );
    expect(read.mig).toEqual({ currentEnabled: true, pendingEnabled: false });
    expect(read.migDevices).toMatchObject([
      {
        index: 0,
        gpuInstanceId: 3,
        computeInstanceId: 1,
        multiprocessorCount: 14,
        memory: { totalBytes: 10 * MIB, freeBytes: 4 * MIB },
        ecc: { volatile: { uncorrectable: 9 } },
      },
    ]);
  });

  it('reads one process and many', () => {
    const info = (pid: number, memory: string): string =>
      '<process_info><gpu_instance_id>N/A</gpu_instance_id>' +
      `<compute_instance_id>0</compute_instance_id><pid>${pid}</pid><type>C</type>` +
      `<process_name>python</process_name><used_memory>${memory}</used_memory></process_info>`;
    expect(gpu(`<processes>${info(1, '5 MiB')}</processes>`).processes).toMatchObject([
      { pid: 1, type: 'C', name: 'python', usedMemoryBytes: 5 * MIB, gpuInstanceId: undefined, computeInstanceId: 0 },
    ]);
    expect(
      gpu(`<processes>${info(1, 'N/A')}${info(2, '1 MiB')}</processes>`).processes.map(({ pid, usedMemoryBytes }) => [
        pid,
        usedMemoryBytes,
      ]),
    ).toEqual([
      [1, undefined],
      [2, MIB],
    ]);
  });
});

describe('broken reports', () => {
  it('refuses every report that is cut, and says that it ends at its end', () => {
    const whole = report('<uuid>GPU-a</uuid><mig_devices>None</mig_devices><accounted_processes />').trimEnd();
    for (let length = 0; length < whole.length; length += 1) {
      const cut = whole.slice(0, length);
      const lines = cut.split('\n');
      const error = errorOf(() => parseNvidiaSmi(cut));
      expect([error.line, error.line === lines.length && error.column <= lines.at(-1)!.length + 1], cut).toEqual([
        lines.length,
        true,
      ]);
    }
    expect(parseNvidiaSmi(whole).gpus).toHaveLength(1);
  });

  it('says what is wrong and where', () => {
    const error = errorOf(() =>
      parseNvidiaSmi('<nvidia_smi_log>\n  <gpu id="1">\n    <uuid>GPU-a</uid>\n  </gpu>\n</nvidia_smi_log>'),
    );
    expect(error).toMatchObject({ line: 3, column: 16 });
    expect(error.message).toContain("'uuid'");
    expect(errorOf(() => parseNvidiaSmi('NVIDIA-SMI has failed'))).toMatchObject({ line: 1, column: 1 });
    expect(errorOf(() => parseNvidiaSmi('<nvidia_smi_log></nvidia_smi_log>\nWARNING: infoROM is corrupted')).line).toBe(
      2,
    );
  });

  it('refuses another document', () => {
    expect(errorOf(() => parseNvidiaSmi('<?xml version="1.0"?>\n <html></html>'))).toMatchObject({
      line: 2,
      column: 2,
      message: 'the XML is no nvidia-smi report: its root is not <nvidia_smi_log> (line 2, column 2)',
    });
  });
});

describe('nvidia-smi -L', () => {
  const LISTING =
    'GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)\n  MIG 3g.20gb     Device  0: (UUID: MIG-1111)\n' +
    '  MIG 1c.2g.10gb  Device 11: (UUID: MIG-GPU-aaaa/3/0)\nGPU 1: NVIDIA T4 (UUID: GPU-bbbb)\n';

  it('lists GPUs and instances, in both spellings of their UUIDs', () => {
    expect(parseNvidiaSmiList(LISTING)).toEqual([
      {
        index: 0,
        name: 'NVIDIA A100-SXM4-40GB',
        uuid: 'GPU-aaaa',
        migDevices: [
          { index: 0, profile: '3g.20gb', uuid: 'MIG-1111' },
          { index: 11, profile: '1c.2g.10gb', uuid: 'MIG-GPU-aaaa/3/0' },
        ],
      },
      { index: 1, name: 'NVIDIA T4', uuid: 'GPU-bbbb', migDevices: [] },
    ]);
    expect(parseNvidiaSmiList(LISTING.replaceAll('\n', '\r\n'))).toEqual(parseNvidiaSmiList(LISTING));
  });

  it('passes over other lines', () => {
    expect(
      parseNvidiaSmiList(
        'Unable to determine the device handle for gpu 0000:01:00.0: Unknown Error\nGPU 1: NVIDIA T4 (UUID: GPU-bbbb)',
      ),
    ).toHaveLength(1);
    expect(parseNvidiaSmiList('No devices found.')).toEqual([]);
  });

  it('refuses a line that is cut, and an instance without a GPU', () => {
    expect(errorOf(() => parseNvidiaSmiList(LISTING.slice(0, 70)))).toMatchObject({ line: 2, column: 25 });
    expect(errorOf(() => parseNvidiaSmiList('  MIG 3g.20gb     Device  0: (UUID: MIG-1111)')).line).toBe(1);
  });
});

const SHARED = process.env['ACECODER_SHARED'] ?? fileURLToPath(new URL('../../../shared', import.meta.url));
const REPORTS = join(SHARED, 'data', 'nvidia-smi-xml');

describe('real reports', () => {
  it.for([
    [
      'gtx-1070-ti',
      { dtdVersion: 10 },
      {
        uuid: 'GPU-f9ba66fc-a7f5-94c5-da19-019ef2f9c665',
        fanPercent: 100,
        memory: { totalBytes: 4096 * MIB, freeBytes: 4054 * MIB },
        clocks: { graphicsMHz: 135, memoryMHz: 405 },
      },
    ],
    [
      'gtx-1660-ti',
      { driverVersion: '418.43', cudaVersion: '10.1' },
      {
        minorNumber: 0,
        power: { drawWatts: 8.93, limitWatts: 130 },
        temperature: { gpuCelsius: 40, slowdownCelsius: 93, shutdownCelsius: 96 },
      },
    ],
    [
      'tesla-t4',
      { dtdVersion: 11, driverVersion: '515.105.01' },
      {
        ecc: { currentEnabled: true, volatile: { correctable: 0, uncorrectable: 0 }, aggregate: { uncorrectable: 0 } },
        retiredPages: { singleBitCount: 0, doubleBitCount: 0, pending: false },
        processes: [
          { pid: 675, type: 'G', usedMemoryBytes: 22 * MIB },
          { pid: 5762, type: 'C', name: 'python', usedMemoryBytes: 1005 * MIB },
        ],
      },
    ],
    [
      'rtx-3080-v12',
      { dtdVersion: 12, driverVersion: '536.40' },
      {
        minorNumber: undefined,
        resetRequired: false,
        mig: { currentEnabled: undefined },
        clocksEventReasons: new Set(['gpu_idle']),
      },
    ],
    [
      'a100-sxm4-v12',
      { dtdVersion: 12, attachedGpus: 4 },
      {
        minorNumber: 1,
        mig: { currentEnabled: true, pendingEnabled: true },
        clocksEventReasons: new Set(),
        memory: { totalBytes: 81920 * MIB, reservedBytes: 869 * MIB },
        migDevices: [3, 4, 5, 6].map((gpuInstanceId, index) => ({
          index,
          gpuInstanceId,
          computeInstanceId: 0,
          multiprocessorCount: 14,
          memory: { freeBytes: 19955 * MIB },
        })),
      },
    ],
    [
      'rtx-4000-sff-ada-v13',
      { dtdVersion: 13, driverVersion: '595.84', cudaVersion: '13.2' },
      {
        performanceState: 'P8',
        power: { drawWatts: 8.81, instantDrawWatts: 8.44, limitWatts: 70 },
        remappedRows: { uncorrectableCount: 0, pending: false, failed: false },
        recoveryAction: 'None',
        ecc: { currentEnabled: false, volatile: { uncorrectable: undefined } },
        utilization: { gpuPercent: 0, memoryPercent: 37, ofaPercent: 0 },
        temperature: { gpuCelsius: 38, gpuTLimitCelsius: 49, slowdownCelsius: undefined },
      },
    ],
  ] as const)('%s', ([name, host, device], { skip }) => {
    const file = join(REPORTS, `${name}.xml`);
    if (!existsSync(file))
      skip(`${file} is not there; ACECODER_SHARED names the folder that holds data/nvidia-smi-xml`);
    const smi = parseNvidiaSmi(readFileSync(file, 'utf8'));
    expect(smi).toMatchObject(host);
    expect(smi.gpus).toHaveLength(1);
    expect(smi.gpus[0]).toMatchObject(device);
  });
});
