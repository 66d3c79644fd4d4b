/** Assignments of GPUs to workers, and the rules of their health. */
import { parseNvidiaSmi, parseNvidiaSmiList } from 'nvidia-smi-parser';
import { describe, expect, it } from 'vitest';
import {
  healthOf,
  planAssignments,
  readDeviceClasses,
  type Health,
  type HealthOptions,
  type Plan,
  type PlanOptions,
} from './devices.js';
import { composedList, composedReport, type ComposedGpu } from '../test/fixtures/fake-nvidia-smi/composed.js';

const FOUR: ComposedGpu[] = ['a', 'b', 'c', 'd'].map((letter) => ({ uuid: `GPU-${letter}` }));
const MIG: ComposedGpu = { uuid: 'GPU-m', mig: [{ gpuInstanceId: 3 }, { gpuInstanceId: 5 }] };

function plan(gpus: readonly ComposedGpu[], options: PlanOptions = {}): Plan {
  return planAssignments(parseNvidiaSmi(composedReport(gpus)), {
    listed: parseNvidiaSmiList(composedList(gpus)),
    ...options,
  });
}

/** Assignments as [name, queue, UUIDs]. */
function brief({ assignments }: Plan): string[][] {
  return assignments.map(({ name, queue, cudaVisibleDevices }) => [name, queue, cudaVisibleDevices]);
}

describe('assignments', () => {
  it('are one worker without a class for each GPU and MIG instance when nothing is configured', () => {
    expect(brief(plan([FOUR[0]!, MIG, FOUR[1]!]))).toEqual([
      ['gpu0', 'acecoder-gpu', 'GPU-a'],
      ['gpu1-mig0', 'acecoder-gpu', 'MIG-GPU-m-0'],
      ['gpu1-mig1', 'acecoder-gpu', 'MIG-GPU-m-1'],
      ['gpu2', 'acecoder-gpu', 'GPU-b'],
    ]);
  });

  it('give classes their GPUs in order, and the rest to workers without a class', () => {
    expect(
      brief(
        plan(FOUR, { classes: { train: { gpus: 2, workers: 1 }, sample: { gpus: 1, workers: 1 } }, queueBase: 'lab' }),
      ),
    ).toEqual([
      ['gpu0-1', 'lab-gpu-train', 'GPU-a,GPU-b'],
      ['gpu2', 'lab-gpu-sample', 'GPU-c'],
      ['gpu3', 'lab-gpu', 'GPU-d'],
    ]);
    expect(
      plan(FOUR, { classes: { train: { gpus: 2, workers: 1 } } }).assignments.map(({ deviceClass }) => deviceClass),
    ).toEqual(['train', undefined, undefined]);
  });

  it('make several workers of a class', () => {
    expect(brief(plan(FOUR, { classes: { sample: { gpus: 2, workers: 2 } } }))).toEqual([
      ['gpu0-1', 'acecoder-gpu-sample', 'GPU-a,GPU-b'],
      ['gpu2-3', 'acecoder-gpu-sample', 'GPU-c,GPU-d'],
    ]);
  });

  it('group whole GPUs only, and let a class of one take a MIG instance', () => {
    const { assignments, remarks } = plan([MIG, FOUR[0]!, FOUR[1]!], {
      classes: { train: { gpus: 2, workers: 1 }, small: { gpus: 1, workers: 1 } },
    });
    expect(assignments.map(({ name }) => name)).toEqual(['gpu1-2', 'gpu0-mig0', 'gpu0-mig1']);
    expect(remarks).toEqual([]);
  });

  it('say which class finds too few GPUs, and use what is left', () => {
    const { assignments, remarks } = plan(FOUR.slice(0, 3), { classes: { train: { gpus: 2, workers: 3 } } });
    expect(assignments.map(({ name, deviceClass }) => [name, deviceClass])).toEqual([
      ['gpu0-1', 'train'],
      ['gpu2', undefined],
    ]);
    expect(remarks).toEqual([
      "The device class 'train' has 1 of 3 workers: a worker needs 2 whole GPUs, and 1 is left.",
    ]);
  });

  it.each([
    ['GPU-b', ['GPU-b']],
    ['0,2', ['GPU-a', 'GPU-c']],
    ['GPU-d, 0', ['GPU-a', 'GPU-d']],
    ['', []],
    ['-1', []],
    ['NoDevFiles', []],
  ])('keep to CUDA_VISIBLE_DEVICES=%s', (visible, uuids) => {
    const { assignments, remarks } = plan(FOUR, { visible });
    expect(assignments.map(({ cudaVisibleDevices }) => cudaVisibleDevices)).toEqual(uuids);
    expect(remarks).toEqual([]);
  });

  it('keep to CUDA_VISIBLE_DEVICES with MIG instances', () => {
    const names = (visible: string): string[] => plan([MIG, FOUR[0]!], { visible }).assignments.map(({ name }) => name);
    expect([names('MIG-GPU-m-1'), names('GPU-m'), names('1')]).toEqual([
      ['gpu0-mig1'],
      ['gpu0-mig0', 'gpu0-mig1'],
      ['gpu1'],
    ]);
  });

  it('say which devices cannot be used', () => {
    expect(plan([{ uuid: 'GPU-m', mig: [] }]).remarks).toEqual([
      expect.stringContaining('GPU 0 is in MIG mode and has no instance'),
    ]);
    expect(plan([MIG], { listed: [] }).remarks).toEqual(
      [0, 1].map(
        (index) =>
          `MIG instance ${index} of GPU 0 has no UUID in the list of nvidia-smi -L, so no process can be bound to it.`,
      ),
    );
    expect(planAssignments(parseNvidiaSmi(composedReport([{ uuid: 'N/A' }])))).toEqual({
      assignments: [],
      remarks: ['GPU 0 has no UUID in the report of nvidia-smi, so no process can be bound to it.'],
    });
  });
});

describe('device classes', () => {
  it('are read from JSON, one worker each unless said', () => {
    expect(readDeviceClasses('{"train": {"gpus": 4}, "sample": {"gpus": 1, "workers": 2}}')).toEqual({
      train: { gpus: 4, workers: 1 },
      sample: { gpus: 1, workers: 2 },
    });
    expect(readDeviceClasses(undefined)).toEqual({});
  });

  it.each([
    ['{', 'is no JSON'],
    ['[]', 'is not like'],
    ['{"train": {"gpus": 0}}', 'train: gpus'],
    ['{"train": {"gpu": 1}}', '"gpu"'],
    ['{"Train one": {"gpus": 1}}', 'Train one: '],
    ['{"train": 4}', 'train: '],
  ])('name the mistake in %s', (json, mistake) => {
    expect(() => readDeviceClasses(json)).toThrow(mistake);
  });
});

/** Health of the assignment with that name; all GPUs were well when it was made. */
function health(
  name: string,
  gpus: readonly ComposedGpu[],
  options: Partial<HealthOptions> & PlanOptions = {},
  planned: readonly ComposedGpu[] = gpus,
): Health {
  const assignment = plan(
    planned.map(({ uuid, mig }) => ({ uuid, mig })),
    options,
  ).assignments.find((candidate) => candidate.name === name)!;
  return healthOf(assignment, parseNvidiaSmi(composedReport(gpus)), { ownPids: new Set(), running: false, ...options });
}

const sick = (reason: string): Health => ({ healthy: false, reason });
const MIB_10_PERCENT = 8192;

describe('health', () => {
  it('is good on a GPU at rest, and of no other GPU', () => {
    const gpus = [FOUR[0]!, { ...FOUR[1]!, uncorrectable: 1 }];
    expect(health('gpu0', gpus)).toEqual({ healthy: true });
    expect(health('gpu1', gpus).healthy).toBe(false);
  });

  it('of a group is that of its worst GPU', () => {
    const gpus = [FOUR[0]!, { ...FOUR[1]!, uncorrectable: 2 }];
    expect(health('gpu0-1', gpus, { classes: { train: { gpus: 2, workers: 1 } } })).toEqual(
      sick(
        'GPU 1 counts 2 uncorrectable memory errors (ECC) since the driver was loaded: ' +
          'reset it when idle (nvidia-smi --gpu-reset -i 1).',
      ),
    );
  });

  it.each([
    [
      '<remapped_rows><remapped_row_failure>Yes</remapped_row_failure></remapped_rows>',
      'could not replace a faulty memory row',
    ],
    [
      '<remapped_rows><remapped_row_pending>Yes</remapped_row_pending></remapped_rows>',
      'memory rows that wait to be remapped',
    ],
    [
      '<retired_pages><pending_retirement>Yes</pending_retirement></retired_pages>',
      'memory pages that wait to be retired',
    ],
    ['<gpu_reset_status><reset_required>Yes</reset_required></gpu_reset_status>', 'needs a reset'],
    ['<gpu_recovery_action>Reboot</gpu_recovery_action>', "the recovery action 'Reboot'"],
  ])('is bad with %s', (more, reason) => {
    expect(health('gpu0', [{ uuid: 'GPU-a', more }])).toEqual(sick(expect.stringContaining(reason) as string));
    expect(
      health('gpu0', [{ uuid: 'GPU-a', more: more.replace(/Yes|Reboot/, (word) => (word === 'Yes' ? 'No' : 'None')) }]),
    ).toEqual({ healthy: true });
  });

  it.each(['hw_thermal_slowdown', 'hw_power_brake_slowdown', 'hw_slowdown'])(
    'is bad in %s, with the readings',
    (reason) => {
      expect(health('gpu0', [{ uuid: 'GPU-a', slowdown: ['gpu_idle', reason] }])).toEqual(
        sick(`GPU 0 is slowed down by its hardware (${reason}; 61 °C; 212.5 W): check cooling and power supply.`),
      );
    },
  );

  it('is good when idle or limited by power settings', () => {
    expect(
      health('gpu0', [
        { uuid: 'GPU-a', slowdown: ['gpu_idle', 'sw_power_cap', 'sw_thermal_slowdown', 'applications_clocks_setting'] },
      ]),
    ).toEqual({ healthy: true });
  });

  it('allows others a tenth of the memory, together', () => {
    const processes = [
      { pid: 7, name: 'Xorg', usedMiB: 192 },
      { pid: 8, usedMiB: MIB_10_PERCENT - 192 },
    ];
    expect(health('gpu0', [{ uuid: 'GPU-a', processes }])).toEqual({ healthy: true });
    expect(health('gpu0', [{ uuid: 'GPU-a', processes: [...processes, { pid: 9, usedMiB: 1 }] }])).toEqual(
      sick(
        'GPU 0 is used by others: 8.0 GiB of 80.0 GiB are held by processes that are not of this launcher, ' +
          'most by process 8 (python).',
      ),
    );
  });

  it('allows the own processes all memory', () => {
    expect(
      health('gpu0', [{ uuid: 'GPU-a', freeMiB: 100, processes: [{ pid: 7, usedMiB: 81_000 }] }], {
        ownPids: new Set([7]),
        running: true,
      }),
    ).toEqual({ healthy: true });
  });

  it('needs three quarters of the memory for a start, and none while the worker runs', () => {
    expect(health('gpu0', [{ uuid: 'GPU-a', freeMiB: 61_440 }])).toEqual({ healthy: true });
    expect(health('gpu0', [{ uuid: 'GPU-a', freeMiB: 61_439 }])).toEqual(
      sick('GPU 0 has 60.0 GiB of 80.0 GiB free while no worker of this launcher runs on it; a worker needs 60.0 GiB.'),
    );
    expect(health('gpu0', [{ uuid: 'GPU-a', freeMiB: 0 }], { running: true })).toEqual({ healthy: true });
  });

  it('is bad when the GPU is gone, wherever the others moved to', () => {
    expect(health('gpu0', [FOUR[1]!], {}, [FOUR[0]!, FOUR[1]!])).toEqual(
      sick('GPU GPU-a is not in the report of nvidia-smi: the driver has lost it; look for "Xid" in the kernel log.'),
    );
    expect(health('gpu1', [FOUR[1]!], {}, [FOUR[0]!, FOUR[1]!])).toEqual({ healthy: true });
  });

  it('of a MIG instance is that of its memory, its processes and its GPU', () => {
    const with0 = (first: object, gpu: object = {}): Health[] => {
      const gpus = [{ ...MIG, ...gpu, mig: [{ gpuInstanceId: 3, ...first }, { gpuInstanceId: 5 }] }];
      return ['gpu0-mig0', 'gpu0-mig1'].map((name) => health(name, gpus));
    };
    const well = { healthy: true };
    expect(with0({})).toEqual([well, well]);
    expect(with0({ uncorrectable: 4 })).toEqual([
      sick(expect.stringContaining('MIG instance 0 of GPU 0 counts 4') as string),
      well,
    ]);
    expect(with0({ freeMiB: 14_000 })).toEqual([
      sick(expect.stringContaining('has 13.7 GiB of 19.5 GiB free') as string),
      well,
    ]);
    expect(with0({}, { processes: [{ pid: 7, usedMiB: 2_000, gpuInstanceId: 3, computeInstanceId: 0 }] })).toEqual([
      sick(expect.stringContaining('process 7') as string),
      well,
    ]);
    expect(with0({}, { uncorrectable: 1 }).map(({ healthy }) => healthy)).toEqual([false, false]);
  });

  it('is bad when the MIG instances of a GPU were changed', () => {
    const before = [MIG];
    expect(health('gpu0-mig1', [{ ...MIG, mig: [{ gpuInstanceId: 3 }, { gpuInstanceId: 9 }] }], {}, before)).toEqual(
      sick(expect.stringContaining('(MIG-GPU-m-1) does not exist any more') as string),
    );
    expect(health('gpu0', [{ uuid: 'GPU-a', mig: [] }], {}, [FOUR[0]!])).toEqual(
      sick(expect.stringContaining('was put into MIG mode') as string),
    );
  });
});
