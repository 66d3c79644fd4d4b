import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { isCpu, settingsFromEnvironment, vllmVariables } from './settings.js';

const home = mkdtempSync(join(tmpdir(), 'acecoder-settings-'));
afterAll(() => rmSync(home, { recursive: true }));

describe('the vLLM engine of a worker', () => {
  it('takes engines, threads and the settings of vLLM, and no secret', () => {
    const given = {
      VLLM_CPU_KVCACHE_SPACE: '2',
      VLLM_LOGGING_LEVEL: 'INFO',
      OMP_NUM_THREADS: '2',
      ACECODER_VLLM_ENGINES: '2',
    };
    expect(
      vllmVariables({
        ...given,
        ACECODER_TORCH_THREADS: '',
        ACECODER_S3_SECRET_KEY: 'secret',
        VLLM_API_KEY: 'secret',
        PATH: '/bin',
      }),
    ).toEqual(given);
  });

  it('is that of GPUs, and that of CPUs where it is the only one', () => {
    const pythonOf = (env: NodeJS.ProcessEnv = {}): string =>
      settingsFromEnvironment({ ACECODER_HOME: home, ...env }).vllmPython;
    const install = (name: string): string => {
      const folder = join(home, name, 'bin');
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'python'), '');
      return join(folder, 'python');
    };
    expect(pythonOf()).toBe(join(home, 'vllm/bin/python'));
    const ofCpus = install('vllm-cpu');
    expect(pythonOf()).toBe(ofCpus);
    const ofGpus = install('vllm');
    expect(pythonOf()).toBe(ofGpus);
    expect(pythonOf({ ACECODER_VLLM_PYTHON: '/elsewhere' })).toBe('/elsewhere');
  });
});

describe('the numbers in which models compute on a CPU', () => {
  it('are float32 unless told, and no others than the two that the runtime knows', () => {
    const dtypeOf = (dtype?: string): string =>
      settingsFromEnvironment(dtype === undefined ? {} : { ACECODER_CPU_DTYPE: dtype }).cpuDtype;
    expect([undefined, '', 'float32', 'bfloat16'].map(dtypeOf)).toEqual(['float32', 'float32', 'float32', 'bfloat16']);
    for (const wrong of ['bf16', 'float16', 'BFLOAT16'])
      expect(() => dtypeOf(wrong)).toThrow(`ACECODER_CPU_DTYPE is ${wrong}; it is the type of the numbers`);
  });

  it('leave a CPU a CPU by its name', () => {
    expect(['cpu', 'cpu in bfloat16', 'NVIDIA H200', undefined].map(isCpu)).toEqual([true, true, false, false]);
  });
});
