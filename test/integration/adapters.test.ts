/** RL rounds that train adapters, on real servers: what is stored, what later stages get, and what a kill changes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import type { WorkflowHandle } from '@temporalio/client';
import { isTrainingState } from '../../activities/artifacts/keys.js';
import { roundsOf } from '../../activities/artifacts/pruning.js';
import {
  ArtifactRef,
  metricsOf,
  type Manifest,
  type StageName,
  type StageResult,
} from '../../workflows/contract/index.js';
import { fakeVllmPython } from '../fixtures/fake-vllm.js';
import { artifactStore, requestsFor, startWorkflow, workerProcess } from '../fixtures/harness.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { until } from '../fixtures/until.js';

const { stages } = microExperiment('adapters', inject('seeds'), inject('model')) as {
  stages: Record<string, Record<string, unknown>>;
};
const MODEL = { kind: 'folder', path: inject('model') };
const LORA = { rank: 4, alpha: 8 };
const ROUNDS = 2;
const SAMPLING = { ...stages['sampling'], samples: 1, maxNewTokens: 8 };

let questions: ArtifactRef;
const input = (salt: string, algorithm: object = { lora: LORA }, more: object = {}): object => ({
  inputs: { questions, policy: MODEL },
  config: {
    ...stages['reinforcement'],
    ...{ rounds: ROUNDS, promptsPerRound: 3, samplesPerPrompt: 2, salt },
    reward: { testsWeight: 1, tests: 'passRate' },
    algorithm: { learningRate: 1e-3, batchSize: 2, ...algorithm },
    ...more,
  },
});

const bytesOf = ({ files }: Pick<Manifest, 'files'>, state: boolean): number =>
  files.reduce((sum, { name, bytes }) => sum + (isTrainingState(name) === state ? bytes : 0), 0);
const roundsIn = async (ref: ArtifactRef): Promise<Manifest[]> =>
  Promise.all([...(await roundsOf(artifactStore(), ref)).values()].map((round) => artifactStore().manifest(round)));

describe('rounds with adapters', { timeout: 600_000 }, () => {
  let result: StageResult;
  let undisturbed: WorkflowHandle;
  beforeAll(async () => {
    const made = async (stage: StageName, inputs: object): Promise<ArtifactRef> => {
      const handle = await startWorkflow(stage, { inputs, config: stages[stage] });
      return ((await handle.result()) as StageResult).ref;
    };
    const all = await made('synthesis', { seeds: { kind: 'seeds', path: inject('seeds') } });
    questions = await made('filtering', { questions: all });
    undisturbed = await startWorkflow('reinforcement', input('one'));
    result = (await undisturbed.result()) as StageResult;
  }, 600_000);

  it('store adapters, of a size that a whole model has many times, and end with a whole model', async () => {
    const store = artifactStore();
    const plain = (await (await startWorkflow('reinforcement', input('one', {}))).result()) as StageResult;
    const [adapters, models] = [await roundsIn(result.ref), await roundsIn(plain.ref)];
    const names = ({ files }: Manifest): string[] =>
      files.flatMap(({ name }) => (isTrainingState(name) ? [] : [name])).sort();
    expect(adapters).toHaveLength(ROUNDS);
    for (const [at, manifest] of adapters.entries()) {
      expect(names(manifest)).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
      const ratios = [false, true].map((state) => bytesOf(manifest, state) / bytesOf(models[at]!, state));
      expect(Math.max(...ratios)).toBeLessThan(0.1);
    }
    const folder = await store.materialise((await roundsOf(store, result.ref)).get(ROUNDS)!);
    const { base_model_name_or_path: base } = JSON.parse(
      readFileSync(join(folder, 'adapter_config.json'), 'utf8'),
    ) as Record<string, unknown>;
    expect(base).toBe(ArtifactRef.parse(adapters[0]!.inputs['reference']).digest);

    const merged = await store.manifest(result.ref);
    expect(merged.stage).toBe('reinforcement.merge');
    expect(names(merged)).toEqual(names(models.at(-1)!));
    const metrics = metricsOf('reinforcement', merged);
    expect(metrics).toEqual(metricsOf('reinforcement', adapters.at(-1)!));
    // Of the second round, whose reference is the model below: with fresh adapters it would be 0.
    expect(metrics.kl).not.toBe(0);
  });

  it('give every later stage a whole model, and tell of a stage that was given adapters', async () => {
    const sampled = async (policy: ArtifactRef, queue = {}, more = {}): Promise<WorkflowHandle> =>
      startWorkflow('sampling', { inputs: { questions, policy }, config: { ...SAMPLING, ...more } }, queue);
    expect(((await (await sampled(result.ref)).result()) as StageResult).ref.kind).toBe('programs');
    const last = (await roundsOf(artifactStore(), result.ref)).get(ROUNDS)!;
    await expect((await sampled(last)).result()).rejects.toMatchObject({
      cause: { cause: { message: expect.stringContaining('holds adapters and no whole model') as string } },
    });
  });

  it('are found again, and more rounds go on from the adapters', async () => {
    const again = (await (await startWorkflow('reinforcement', input('one'))).result()) as StageResult;
    expect(again).toMatchObject({ ref: result.ref, reused: true });
    const more = await startWorkflow('reinforcement', input('one', { lora: LORA }, { rounds: ROUNDS + 1 }));
    const { ref } = (await more.result()) as StageResult;
    const [before, after] = [await roundsIn(result.ref), await roundsIn(ref)];
    expect(after.slice(0, ROUNDS).map(({ digest }) => digest)).toEqual(before.map(({ digest }) => digest));
    expect(after).toHaveLength(ROUNDS + 1);
  });

  it('give the same adapters and the same model after kill -9 in an update and in the merge', async () => {
    const queue = 'adapters-killed';
    const environment = inject('environment');
    const killed = input('another', { lora: LORA }, { asynchronous: null });
    let worker = workerProcess(queue, environment);
    const handle = await startWorkflow('reinforcement', killed, { taskQueue: queue });
    try {
      for (const [activity, times] of [
        ['reinforcement.update', ROUNDS],
        ['reinforcement.merge', 1],
      ] as const) {
        await until(
          async () => (await requestsFor(handle, activity)).length,
          (asked) => asked >= times,
        );
        await worker.kill();
        worker = workerProcess(queue, environment);
      }
      const { ref } = (await handle.result()) as StageResult;
      const digests = async (of: ArtifactRef): Promise<string[]> => [
        ...(await roundsIn(of)).map(({ digest }) => digest),
        of.digest,
      ];
      expect(await digests(ref)).toEqual(await digests(result.ref));
    } finally {
      await worker.stop();
    }
  });

  it('sample with vLLM from the merged model', async () => {
    const queue = 'adapters-vllm';
    const worker = workerProcess(queue, {
      ...inject('environment'),
      ACECODER_VLLM_PYTHON: fakeVllmPython(inject('stack').home),
    });
    try {
      const handle = await startWorkflow('reinforcement', input('vllm', { lora: LORA }, { engine: 'vllm' }), {
        taskQueue: queue,
      });
      const { ref } = (await handle.result()) as StageResult;
      const [, second] = await roundsIn(ref);
      // Sampler and trainer differ by their arithmetic alone: the weights of the second round say so.
      expect(second!.metrics['importanceMean']).toBeCloseTo(1, 3);
    } finally {
      await worker.stop();
    }
  });
});
