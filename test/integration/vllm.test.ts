/** An experiment with policies that the real vLLM samples: `npm run test:vllm` runs it, and elsewhere it is skipped. */
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, inject, it } from 'vitest';
import { roundsOf } from '../../activities/artifacts/pruning.js';
import { RolloutRow, Summary, type ArtifactRef, type StageName } from '../../workflows/contract/index.js';
import { artifactStore, startWorkflow, workerProcess } from '../fixtures/harness.js';
import { microExperiment } from '../fixtures/micro-experiment.js';

/** Only `npm run test:vllm` sets it. */
const realPython = process.env['ACECODER_TEST_VLLM'] ?? '';

interface Result {
  summary: string;
  stages: { name: StageName; artifact: ArtifactRef }[];
}

describe('the real vLLM', () => {
  const queue = 'real-vllm';
  let worker: ReturnType<typeof workerProcess> | undefined;
  afterAll(() => worker?.stop());

  it('samples, trains in asynchronous rounds and evaluates a whole experiment', async ({ skip }) => {
    skip(realPython === '', 'the real vLLM is asked by npm run test:vllm');
    worker = workerProcess(queue, { ...inject('environment'), ACECODER_VLLM_PYTHON: realPython });
    const { stages, ...experiment } = microExperiment('real-vllm', inject('seeds'), inject('model'));
    const { sampling, reinforcement, evaluation, ...others } = stages as Record<string, Record<string, unknown>>;
    const engine = { engine: 'vllm' };
    const changed = {
      sampling: { ...sampling, ...engine },
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
    const { artifact } = result.stages.find(({ name }) => name === 'reinforcement')!;
    const rounds = await Promise.all(
      [...(await roundsOf(store, artifact)).values()].map((round) => store.manifest(round)),
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
  });
});
