/**
 * The engine vLLM behind real workers. `npm run test:vllm` runs this file with the real vLLM; in `npm test` a fake one
 * stands for it where no more than the engine's process is asked.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import { CancelledFailure } from '@temporalio/common';
import { afterAll, beforeEach, describe, expect, inject, it } from 'vitest';
import { roundsOf } from '../../activities/artifacts/pruning.js';
import { RolloutRow, Summary, type ArtifactRef, type StageName } from '../../workflows/contract/index.js';
import { createServices } from '../../workers/plugins/services.js';
import { fakeVllmPython } from '../fixtures/fake-vllm.js';
import { artifactStore, failureOf, startWorkflow, workerProcess } from '../fixtures/harness.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { until } from '../fixtures/until.js';

/** Only `npm run test:vllm` sets it. */
const realPython = process.env['ACECODER_TEST_VLLM'] ?? '';
const skipWithoutReal = (skip: (condition: boolean, note: string) => void): void =>
  skip(realPython === '', 'the real vLLM is asked by npm run test:vllm');

const folder = mkdtempSync(join(tmpdir(), 'acecoder-vllm-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const stages = (): Record<StageName, Record<string, unknown>> =>
  microExperiment('vllm', inject('seeds'), inject('model'))['stages'] as never;

describe.each(['fake', 'real'])('the process of a %s vLLM', (kind) => {
  beforeEach(({ skip }) => {
    if (kind === 'real') skipWithoutReal(skip);
  });
  const python = (): string => (kind === 'real' ? realPython : fakeVllmPython(folder));

  it('has the threads and the settings of vLLM that its worker was given', async () => {
    const versions = async (env: Record<string, string>): Promise<Record<string, string>> => {
      const services = createServices({
        env: { ...inject('environment'), ACECODER_VLLM_PYTHON: python(), ...env },
        label: `${kind}-versions`,
      });
      return services.engines.vllm.versions().finally(() => services.close());
    };
    expect(await versions({ ACECODER_TORCH_THREADS: '2' })).toMatchObject({
      threads: '2',
      vllm: kind === 'real' ? expect.stringMatching(/^\d+\.\d+\.\d+$/) : expect.stringMatching(/\+fake$/),
    });
    expect(await versions({ ACECODER_TORCH_THREADS: '2', OMP_NUM_THREADS: '1' })).toMatchObject({ threads: '1' });
  });

  it('fails a stage by the memory that it lacks, with the name of what to lower', async () => {
    const queue = `${kind}-vllm-memory`;
    const workers = workerProcess(queue, {
      ...inject('environment'),
      ACECODER_VLLM_PYTHON: python(),
      VLLM_CPU_KVCACHE_SPACE: '9000',
    });
    try {
      expect(await failureOf(await sampling(queue))).toMatchObject({
        type: 'OutOfMemory',
        message: expect.stringMatching(/vLLM: Available memory on node \d.*9000\.0.*Lower VLLM_CPU_KVCACHE_SPACE/),
      });
    } finally {
      await workers.stop();
    }
  });
});

/** Sampling of three questions that a file holds. */
function sampling(queue: string, settings: Record<string, unknown> = {}): Promise<WorkflowHandle> {
  const path = join(folder, 'questions.jsonl');
  const rows = ['twice', 'half', 'next_one'].map((name, at) => ({
    id: `q-${at}`,
    seedId: `s-${at}`,
    source: 'own',
    question: `Write ${name}(n).`,
    entryPoint: name,
    reference: `def ${name}(n):\n    return n`,
    tests: [`assert ${name}(0) is not None`],
    split: 'train',
  }));
  writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'));
  const inputs = {
    questions: { kind: 'filteredQuestions', path },
    policy: { kind: 'folder', path: inject('model') },
  };
  const config = { ...stages().sampling, engine: 'vllm', salt: queue, ...settings };
  return startWorkflow('sampling', { inputs, config }, { taskQueue: queue });
}

interface Result {
  summary: string;
  stages: { name: StageName; artifact: ArtifactRef }[];
}

const artifactsOf = ({ stages }: Result): Record<StageName, ArtifactRef> =>
  Object.fromEntries(stages.map(({ name, artifact }) => [name, artifact])) as never;

describe('the real vLLM', () => {
  beforeEach(({ skip }) => skipWithoutReal(skip));

  const queue = 'real-vllm';
  let worker: ReturnType<typeof workerProcess> | undefined;
  const work = (): void => {
    worker ??= workerProcess(queue, { ...inject('environment'), ACECODER_VLLM_PYTHON: realPython });
  };
  afterAll(() => worker?.stop());
  const log = (): string => readFileSync(join(inject('environment')['ACECODER_HOME']!, 'logs', 'vllm.log'), 'utf8');
  const loads = (): number => log().match(/Starting to load model/g)?.length ?? 0;

  it('samples, trains in asynchronous rounds and evaluates a whole experiment', async () => {
    work();
    const experiment = microExperiment('real-vllm', inject('seeds'), inject('model'));
    const { sampling: ofSampling, reinforcement, evaluation, ...others } = stages();
    const engine = { engine: 'vllm' };
    const changed = {
      sampling: { ...ofSampling, ...engine },
      reinforcement: { ...reinforcement, ...engine, asynchronous: {} },
      evaluation: { ...evaluation, ...engine },
    };
    const started = await startWorkflow(
      'experiment',
      { ...experiment, stages: { ...others, ...changed } },
      { taskQueue: queue },
    );
    const result = (await started.result()) as Result;
    const summary = Summary.parse(JSON.parse(readFileSync(result.summary, 'utf8')));
    expect(summary.assertions.filter(({ ok }) => !ok)).toEqual([]);
    const done = summary.stages.filter(({ state }) => state === 'done').map(({ name }) => name);
    expect(done).toEqual(expect.arrayContaining(['sampling', 'rewardModel', 'reinforcement', 'evaluation']));

    const store = artifactStore();
    const artifacts = artifactsOf(result);
    const rounds = await Promise.all(
      [...(await roundsOf(store, artifacts.reinforcement)).values()].map((round) => store.manifest(round)),
    );
    expect(rounds).toHaveLength(2);
    for (const { inputs } of rounds) {
      const ref = inputs['rollouts'] as unknown as ArtifactRef;
      expect((await store.manifest(ref)).producer.versions).toMatchObject({
        vllm: expect.stringMatching(/^\d+\.\d+\.\d+$/),
        device: 'cpu',
      });
      for await (const row of store.rowsOf(ref, RolloutRow)) {
        expect(row.logProbs).toHaveLength(row.completionIds.length);
        expect(Math.max(...row.logProbs!)).toBeLessThanOrEqual(0);
      }
    }
    // The first round is sampled from the policy that it updates: its weights show what the arithmetics differ by.
    expect(rounds[0]!.metrics['importanceMean']).toBeCloseTo(1, 3);

    const again = await startWorkflow(
      'sampling',
      {
        inputs: {
          questions: artifacts.filtering,
          policy: (await store.manifest(artifacts.sampling)).inputs['policy'],
        },
        config: { ...changed.sampling, salt: 'again' },
      },
      { taskQueue: queue },
    );
    const { ref } = (await again.result()) as { ref: ArtifactRef };
    expect(ref.key).not.toBe(artifacts.sampling.key);
    expect(ref.digest, 'programs of an equal sampling').toBe(artifacts.sampling.digest);
  });

  it('ends the generation of a cancelled activity, and samples on in the same process', async () => {
    work();
    const few = { samples: 2, maxNewTokens: 4 };
    await (await sampling(queue, few)).result();
    const before = loads();
    // Thousands of rows, at a temperature at which hardly one ends early.
    const long = await sampling(queue, { samples: 2000, maxNewTokens: 300, temperature: 50 });
    const progress = async (): Promise<string> =>
      JSON.stringify(
        ((await long.describe()).raw.pendingActivities ?? []).flatMap(({ heartbeatDetails }) =>
          (heartbeatDetails?.payloads ?? []).map(({ data }) => JSON.parse(Buffer.from(data!).toString()) as unknown),
        ),
      );
    await until(progress, (text) => /"message":"sampling"/.test(text));
    await long.cancel();
    const error: unknown = await long.result().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(WorkflowFailedError);
    expect((error as WorkflowFailedError).cause).toBeInstanceOf(CancelledFailure);
    await (await sampling(queue, { ...few, salt: 'after the cancellation' })).result();
    expect(loads(), 'a process that was ended would have loaded the model again').toBe(before);
    expect(log()).not.toMatch(/Traceback/);
  });
});
