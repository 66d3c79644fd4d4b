/** RL rounds that train adapters, on real servers: what is stored, what later stages get, and what a kill changes. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import type { WorkflowHandle } from '@temporalio/client';
import { isTrainingState } from '../../activities/artifacts/keys.js';
import { roundsOf } from '../../activities/artifacts/pruning.js';
import {
  ArtifactRef,
  metricsOf,
  type FilteredQuestionRow,
  type Manifest,
  type StageResult,
} from '../../workflows/contract/index.js';
import { fakeVllmPython } from '../fixtures/fake-vllm.js';
import { artifactStore, requestsFor, startWorkflow, workerProcess } from '../fixtures/harness.js';
import { until } from '../fixtures/until.js';

const MODEL = { kind: 'folder', path: inject('model') };
const LORA = { rank: 4, alpha: 8 };
const ROUNDS = 2;
const SAMPLING = { samples: 1, maxNewTokens: 8 };

const path = join(mkdtempSync(join(tmpdir(), 'acecoder-adapters-')), 'questions.jsonl');
const rows = ['2 * n', 'n + 1', 'n - 1'].map((body, at): FilteredQuestionRow => ({
  id: `q-${at}`,
  seedId: `s-${at}`,
  source: 'own',
  question: `Write f(n), which returns ${body}.`,
  entryPoint: 'f',
  reference: `def f(n):\n    return ${body}\n`,
  tests: [`assert f(3) == ${[6, 4, 2][at]}`],
  split: 'train',
}));
writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'));
const questions = { kind: 'filteredQuestions', path };
const input = (salt: string, more: object = {}): object => ({
  inputs: { questions, policy: MODEL },
  config: {
    ...{ rounds: ROUNDS, promptsPerRound: 3, samplesPerPrompt: 2, temperature: 1, maxNewTokens: 80, salt },
    reward: { testsWeight: 1, tests: 'passRate' },
    algorithm: { learningRate: 1e-3, batchSize: 2, lora: LORA },
    execution: { microBatch: 8, checkpointSeconds: 1 },
    ...more,
  },
});

const bytesOf = ({ files }: Pick<Manifest, 'files'>, state: boolean): number =>
  files.reduce((sum, { name, bytes }) => sum + (isTrainingState(name) === state ? bytes : 0), 0);
const roundsIn = async (ref: ArtifactRef): Promise<Manifest[]> =>
  Promise.all([...(await roundsOf(artifactStore(), ref)).values()].map((round) => artifactStore().manifest(round)));

describe('rounds with adapters', { timeout: 600_000 }, () => {
  let result: StageResult;
  beforeAll(async () => {
    result = (await (await startWorkflow('reinforcement', input('one'))).result()) as StageResult;
  }, 600_000);

  it('store adapters, of a size that a whole model has many times, and end with a whole model', async () => {
    const store = artifactStore();
    const adapters = await roundsIn(result.ref);
    const base = await store.manifest(ArtifactRef.parse(adapters[0]!.inputs['reference']));
    const names = ({ files }: Manifest): string[] =>
      files.flatMap(({ name }) => (isTrainingState(name) ? [] : [name])).sort();
    expect(adapters).toHaveLength(ROUNDS);
    for (const manifest of adapters) {
      expect(names(manifest)).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
      expect(bytesOf(manifest, false) / bytesOf(base, false)).toBeLessThan(0.1);
      // Adam keeps two moments of each parameter.
      expect(bytesOf(manifest, true) / (2 * bytesOf(base, false))).toBeLessThan(0.1);
    }
    const folder = await store.materialise((await roundsOf(store, result.ref)).get(ROUNDS)!);
    const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
    expect(config).toMatchObject({ r: LORA.rank, base_model_name_or_path: base.digest });

    const merged = await store.manifest(result.ref);
    expect(merged.stage).toBe('reinforcement.merge');
    expect(names(merged)).toEqual(names(base));
    const metrics = metricsOf('reinforcement', merged);
    expect(metrics).toEqual(metricsOf('reinforcement', adapters.at(-1)!));
    // Of the second round, whose reference is the model below: with fresh adapters it would be 0.
    expect(metrics.kl).not.toBe(0);
  });

  it('give every later stage a whole model, and tell of a stage that was given adapters', async () => {
    const sampled = (policy: ArtifactRef): Promise<WorkflowHandle> =>
      startWorkflow('sampling', { inputs: { questions, policy }, config: SAMPLING });
    expect(((await (await sampled(result.ref)).result()) as StageResult).ref.kind).toBe('programs');
    const last = (await roundsOf(artifactStore(), result.ref)).get(ROUNDS)!;
    await expect((await sampled(last)).result()).rejects.toMatchObject({
      cause: { cause: { message: expect.stringContaining('holds adapters and no whole model') as string } },
    });
  });

  it('are found again', async () => {
    const again = (await (await startWorkflow('reinforcement', input('one'))).result()) as StageResult;
    expect(again).toMatchObject({ ref: result.ref, reused: true });
  });

  it(
    'give the same adapters and the same model after kill -9 in an update and in the merge',
    { tags: 'long' },
    async () => {
      const queue = 'adapters-killed';
      const environment = inject('environment');
      let worker = workerProcess(queue, environment);
      const handle = await startWorkflow('reinforcement', input('another'), { taskQueue: queue });
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
    },
  );

  it('sample with vLLM from the merged model', { tags: 'long' }, async () => {
    const queue = 'adapters-vllm';
    const worker = workerProcess(queue, {
      ...inject('environment'),
      ACECODER_VLLM_PYTHON: fakeVllmPython(inject('stack').home),
    });
    try {
      const handle = await startWorkflow('reinforcement', input('vllm', { engine: 'vllm' }), {
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
