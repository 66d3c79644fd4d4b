/** Rounds of reinforcement learning, and samplings, in other forms than that of the undisturbed run. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import type { WorkflowHandle } from '@temporalio/client';
import { isTrainingState } from '../../activities/artifacts/keys.js';
import { keptArtifacts, prunedParts, roundsOf } from '../../activities/artifacts/pruning.js';
import { ProgramRow, RolloutRow, type ArtifactRef, type ManifestFile } from '../../workflows/contract/index.js';
import { fakeVllmPython } from '../fixtures/fake-vllm.js';
import {
  artifactStore,
  failureOf,
  requestsFor,
  startWorkflow,
  sweepPruned,
  workerProcess,
} from '../fixtures/harness.js';

import { artifactsOf, firstRun, micro, rowsOf, startOf } from '../fixtures/chain.js';

describe('rounds', () => {
  it('samples asynchronous rounds one update behind, weighs them, and takes a new reference where asked', async () => {
    const { filtering, reinforcement } = artifactsOf(await firstRun());
    const store = artifactStore();
    const {
      inputs: { reference: base },
    } = (await store.manifest(reinforcement)) as unknown as { inputs: { reference: ArtifactRef } };
    const config = {
      ...micro('asynchronous').stages.reinforcement,
      rounds: 4,
      reward: {},
      asynchronous: {},
      referenceRefresh: 2,
    };
    const handle = await startWorkflow('reinforcement', { inputs: { questions: filtering, policy: base }, config });
    const { ref } = (await handle.result()) as { ref: ArtifactRef };
    const rounds = [...(await roundsOf(store, ref)).values()];
    const manifests = await Promise.all(rounds.map((round) => store.manifest(round)));
    const keyOf = (ref: unknown): string => (ref as ArtifactRef).key;
    const samplers = await Promise.all(
      manifests.map(async ({ inputs }) =>
        keyOf((await store.manifest(inputs['rollouts'] as unknown as ArtifactRef)).inputs['policy']),
      ),
    );
    const before = [base, ...rounds.slice(0, -1)].map(({ key }) => key);
    expect(
      manifests.map(({ inputs }) => keyOf(inputs['policy'])),
      'policies that were updated',
    ).toEqual(before);
    expect(samplers, 'policies that were sampled').toEqual([before[0], ...before.slice(0, -1)]);
    expect(
      manifests.map(({ inputs }) => keyOf(inputs['reference'])),
      'references',
    ).toEqual([before[0], before[0], before[2], before[2]]);
    const weights = manifests.map(({ metrics }) => metrics['importanceMean'] as number);
    expect(weights[0], 'a round that is sampled from the policy that it updates').toBeCloseTo(1, 3);
    for (const weight of weights.slice(1)) expect(Math.abs(weight - 1)).toBeLessThan(0.5);
    expect(new Set(weights).size).toBe(4);
    const rollouts = await rowsOf<RolloutRow>(manifests[1]!.inputs['rollouts'] as unknown as ArtifactRef, RolloutRow);
    expect(rollouts.every(({ logProbs, completionIds }) => logProbs?.length === completionIds.length)).toBe(true);
    expect(
      new Set(await requestsFor(handle, 'reinforcement.rollouts')).size,
      'workflow tasks that ask for rollouts: two samplings of one would reach a device in any order',
    ).toBe(4);
  });

  it('prunes rounds by number, answers an equal stage without them, and makes again what others need', async () => {
    const { filtering, reinforcement } = artifactsOf(await firstRun());
    const store = artifactStore();
    const policy = await startOf(reinforcement);
    const config = { ...micro('pruned').stages.reinforcement, reward: {}, seed: 7, execution: { keepRounds: 1 } };
    const run = async (rounds: number): Promise<{ ref: ArtifactRef; reused: boolean; handle: WorkflowHandle }> => {
      const handle = await startWorkflow('reinforcement', {
        inputs: { questions: filtering, policy },
        config: { ...config, rounds },
      });
      return { ...((await handle.result()) as { ref: ArtifactRef; reused: boolean }), handle };
    };
    const rounds = [...(await roundsOf(store, (await run(4)).ref)).values()];
    const [first, second, third, last] = rounds as [ArtifactRef, ArtifactRef, ArtifactRef, ArtifactRef];
    const partsOf = async ({ key }: ArtifactRef): Promise<string[]> => [...((await prunedParts(store)).get(key) ?? [])];
    expect(await Promise.all(rounds.map(partsOf))).toEqual([['all'], ['all'], ['all'], []]);
    // The rounds are young, so that their blobs still stand. They go as they do in half an hour.
    expect(await sweepPruned(store, [first, second, third])).toBeGreaterThan(3);
    await expect(artifactStore().materialise(last, { trainingState: true })).resolves.toBeTruthy();
    await expect(artifactStore().materialise(policy)).resolves.toBeTruthy();

    const again = await run(4);
    expect(again).toMatchObject({ ref: last, reused: true });
    const trainings = async (handle: WorkflowHandle): Promise<number> =>
      (await requestsFor(handle, 'reinforcement.update')).length;
    expect(await trainings(again.handle)).toBe(4);

    const evaluation = await startWorkflow('evaluation', {
      inputs: { policies: { second }, questions: filtering },
      config: micro('pruned').stages.evaluation,
    });
    const { type, message } = await failureOf(evaluation);
    expect(type).toBe('InvalidExperiment');
    expect(message).toMatch(
      new RegExp(
        'inputs\\.policies\\.second\\.key: .* was pruned at .* \\(round 2, ' +
          'reinforcement\\.execution\\.keepRounds 1\\); its manifest stays\\. ' +
          'Take a newer round, or start .* "rounds": 2, which makes it again',
      ),
    );

    const shorter = await run(2);
    expect(shorter).toMatchObject({ ref: second, reused: true });
    // Two look-ups, then the second round, which lacks the first one, then the first one, and the second one again.
    expect(await trainings(shorter.handle)).toBe(5);
    expect(await partsOf(second)).toEqual([]);
    const reader = artifactStore();
    expect(await reader.materialise(second)).toBeTruthy();
    expect(await keptArtifacts(store)).toContain(second.key);
  });

  it('keeps the optimizer state of rounds between two stored ones on the host', async () => {
    const { filtering, reinforcement } = artifactsOf(await firstRun());
    const store = artifactStore();
    const policy = await startOf(reinforcement);
    const config = { ...micro('sent').stages.reinforcement, reward: {}, seed: 11, rounds: 3 };
    const handle = await startWorkflow('reinforcement', {
      inputs: { questions: filtering, policy },
      config: { ...config, execution: { storeStateEvery: 2, keepRounds: null } },
    });
    const { ref } = (await handle.result()) as { ref: ArtifactRef };
    const isSent = await Promise.all(
      [...(await roundsOf(store, ref)).values()].map(async (round) => {
        const states = (await store.manifest(round)).files.filter(({ name }) => isTrainingState(name));
        expect(states.length).toBeGreaterThan(0);
        return !(await store.missingBlob(states, { fresh: false }));
      }),
    );
    expect(isSent).toEqual([false, true, true]);
    expect(await requestsFor(handle, 'reinforcement.update')).toHaveLength(3);
  });

  it(
    'trains rounds again whose optimizer state was on a host that is lost, and ends in the same bytes',
    { tags: 'long' },
    async () => {
      const { filtering, reinforcement } = artifactsOf(await firstRun());
      const store = artifactStore();
      const policy = await startOf(reinforcement);
      const { algorithm, ...stage } = micro('states').stages.reinforcement;
      const input = (options: object, execution: object): object => ({
        inputs: { questions: filtering, policy },
        config: {
          ...stage,
          ...{ reward: {}, seed: 9, rounds: 4, algorithm: { ...(algorithm as object), ...options }, execution },
        },
      });
      const statesOf = async (ref: ArtifactRef): Promise<ManifestFile[]> =>
        (await store.manifest(ref)).files.filter(({ name }) => isTrainingState(name));
      const homes = [1, 2].map(() => mkdtempSync(join(tmpdir(), 'acecoder-host-')));
      const hostOf = (home: string) => workerProcess('states', { ...inject('environment'), ACECODER_HOME: home });
      let worker = hostOf(homes[0]!);
      try {
        const handle = await startWorkflow('reinforcement', input({}, { storeStateEvery: 3, keepRounds: 1 }), {
          taskQueue: 'states',
        });
        const updates = async (): Promise<number> => (await requestsFor(handle, 'reinforcement.update')).length;
        await expect.poll(updates).toBeGreaterThanOrEqual(3);
        await worker.kill();
        const before = await updates();
        rmSync(homes[0]!, { recursive: true, force: true });
        worker = hostOf(homes[1]!);
        const { ref } = (await handle.result()) as { ref: ArtifactRef };
        const [first, second, third, last] = [...(await roundsOf(store, ref)).values()];
        const isStored = async (round: ArtifactRef): Promise<boolean> =>
          !(await store.missingBlob(await statesOf(round), { fresh: false }));
        if (before === 3) {
          // The third round lacked the second one's state, and that the first one's: both asked twice, and two were made
          // again.
          expect(await updates()).toBe(4 + 2 + 2);
          expect(await Promise.all([first!, second!].map(isStored))).toEqual([true, true]);
        }
        expect(await Promise.all([third!, last!].map(isStored))).toEqual([true, true]);

        // Its default, written down, gives updates keys of their own, and leaves what they make untouched.
        const plain = await startWorkflow('reinforcement', input({ endWeight: 1 }, {}));
        const { ref: same } = (await plain.result()) as { ref: ArtifactRef };
        expect(same.key).not.toBe(ref.key);
        const digests = async (newest: ArtifactRef): Promise<string[]> =>
          [...(await roundsOf(store, newest)).values()].map(({ digest }) => digest);
        expect(await digests(ref)).toEqual(await digests(same));
      } finally {
        await worker.stop();
        for (const home of homes) rmSync(home, { recursive: true, force: true });
      }
    },
  );
});

describe('sampling', () => {
  it(
    'samples by another engine under a key of its own, and only where the worker has it',
    { tags: 'long' },
    async () => {
      const { filtering, reinforcement } = artifactsOf(await firstRun());
      const policy = await startOf(reinforcement);
      const config = {
        ...micro('vllm').stages.sampling,
        samples: 2,
        maxNewTokens: 24,
        questions: { train: 3, heldOut: 1 },
      };
      const start = (engine: string, taskQueue?: string): Promise<WorkflowHandle> =>
        startWorkflow(
          'sampling',
          { inputs: { questions: filtering, policy }, config: { ...config, engine } },
          taskQueue ? { taskQueue } : {},
        );
      expect(await failureOf(await start('vllm'))).toMatchObject({
        type: 'InvalidExperiment',
        message: expect.stringContaining(
          'config.engine: the GPU worker has no vLLM: install it there with `npm run setup -- --vllm`',
        ),
      });
      const workers = workerProcess('vllm', {
        ...inject('environment'),
        ACECODER_VLLM_PYTHON: fakeVllmPython(inject('stack').home),
      });
      try {
        const { ref } = (await (await start('vllm', 'vllm')).result()) as { ref: ArtifactRef };
        const programs = await rowsOf<ProgramRow>(ref, ProgramRow);
        expect(programs).toHaveLength(8);
        const other = (await (await start('transformers')).result()) as { ref: ArtifactRef };
        expect(other.ref.key).not.toBe(ref.key);
        expect((await rowsOf<ProgramRow>(other.ref, ProgramRow)).map(({ questionId }) => questionId)).toEqual(
          programs.map(({ questionId }) => questionId),
        );
      } finally {
        await workers.stop();
      }
    },
  );
});
