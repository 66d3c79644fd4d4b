/** Rounds that are sampled from the files of the host that trained, while those are on their way to the store. */
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import type { WorkflowHandle } from '@temporalio/client';
import { isTrainingState } from '../../activities/artifacts/keys.js';
import { roundsOf } from '../../activities/artifacts/pruning.js';
import type { ArtifactStore } from '../../activities/artifacts/store.js';
import { ArtifactRef, FilteredQuestionRow, type StageResult } from '../../workflows/contract/index.js';
import { artifactsOf, firstRun, micro, rowsOf } from '../fixtures/chain.js';
import { artifactStore, breakingStore, requestsFor, startWorkflow, workerProcess } from '../fixtures/harness.js';
import { until } from '../fixtures/until.js';

const ROUNDS = 3;
/** The weights of the micro model have more, and rollouts have fewer. */
const LARGE = 100_000;
const SAMPLED = 'sampled, the policy is on its way to the store';

/** An empty store that keeps large uploads waiting, from the first rewards on and until it is opened. */
async function heldStore(prefix: string) {
  let open = (): void => undefined;
  const opened = new Promise<boolean>((resolve) => {
    open = () => resolve(false);
  });
  let holds = false;
  const { environment, close } = await breakingStore(({ method, headers, url }: IncomingMessage) => {
    if (method !== 'PUT') return false;
    holds ||= url?.includes('/artifacts/rewards/') ?? false;
    return holds && Number(headers['content-length']) >= LARGE ? opened : false;
  });
  return { environment: { ...environment, ACECODER_S3_PREFIX: prefix }, open, close };
}

/** What the activities that run say of themselves. */
async function heartbeatsOf(handle: WorkflowHandle): Promise<string> {
  const { raw } = await handle.describe();
  return (raw.pendingActivities ?? [])
    .flatMap(({ heartbeatDetails }) => heartbeatDetails?.payloads ?? [])
    .map(({ data }) => Buffer.from(data ?? []).toString())
    .join('\n');
}

/** The first run's questions, as a file that can be imported into any store. */
async function questionsFile(): Promise<string> {
  const { filtering } = artifactsOf(await firstRun());
  const rows = await rowsOf<FilteredQuestionRow>(filtering, FilteredQuestionRow);
  const path = join(inject('stack').home, 'ahead-questions.jsonl');
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return path;
}

async function input(config: object, aheadBytes: number | null): Promise<object> {
  const { algorithm, ...stage } = micro('ahead').stages.reinforcement;
  const { algorithm: more, ...others } = config as { algorithm?: object };
  return {
    inputs: {
      questions: { kind: 'filteredQuestions', path: await questionsFile() },
      policy: { kind: 'folder', path: inject('model') },
    },
    config: {
      // No other test has this seed: these rounds come from imported questions, and lead to no seed program.
      ...{
        ...stage,
        reward: {},
        rounds: ROUNDS,
        seed: 31,
        ...others,
        algorithm: { ...(algorithm as object), ...more },
      },
      execution: { keepRounds: null, aheadBytes },
    },
  };
}

/** Digests of each round's policy and rollouts, and when both were stored. */
async function roundsIn(store: ArtifactStore, ref: ArtifactRef) {
  return Promise.all(
    [...(await roundsOf(store, ref)).values()].map(async (policy) => {
      const manifest = await store.manifest(policy);
      const rollouts = await store.manifest(ArtifactRef.parse(manifest.inputs['rollouts']));
      return { policy: manifest, rollouts };
    }),
  );
}

describe('rounds that are sampled ahead', () => {
  const check = async ({ config, kill, next }: { config: object; kill: boolean; next: number }): Promise<void> => {
    const prefix = `ahead-${randomUUID()}/`;
    const held = await heldStore(prefix);
    const queue = `ahead-${next}-${kill}-${Object.keys(config).join('-')}`;
    let worker = workerProcess(queue, held.environment);
    try {
      const handle = await startWorkflow('reinforcement', await input(config, 1), { taskQueue: queue });
      await until(
        () => heartbeatsOf(handle),
        (said) => said.includes(`round ${next}: ${SAMPLED}`),
      );
      expect(await requestsFor(handle, 'reinforcement.update'), 'the update has not ended').toHaveLength(1);
      if (kill) {
        await worker.kill();
        worker = workerProcess(queue, held.environment);
      }
      held.open();
      const { ref } = (await handle.result()) as StageResult;
      const rounds = await roundsIn(artifactStore({ ...inject('environment'), ACECODER_S3_PREFIX: prefix }), ref);
      for (const [at, { rollouts }] of rounds.entries()) {
        const sampled = ArtifactRef.parse(rollouts.inputs['policy']);
        const before = rounds.slice(0, at).find(({ policy }) => policy.digest === sampled.digest);
        if (before) expect(rollouts.createdAt >= before.policy.createdAt, 'stored after their policy').toBe(true);
      }
      const plain = await startWorkflow('reinforcement', await input(config, null));
      const same = await roundsIn(artifactStore(), ((await plain.result()) as StageResult).ref);
      expect(await requestsFor(plain, 'reinforcement.ahead')).toEqual([]);
      const digests = (of: typeof rounds): string[] =>
        of.flatMap(({ policy, rollouts }) => [
          ...policy.files.filter(({ name }) => !isTrainingState(name)).map(({ sha256 }) => sha256),
          rollouts.digest,
        ]);
      expect(digests(rounds)).toEqual(digests(same));
    } finally {
      held.open();
      await worker.stop();
      held.close();
    }
  };

  it('begin before the store has the policy, and store the same', async () => {
    await check({ config: {}, kill: false, next: 2 });
  });

  it.for([
    { what: 'after kill -9 of the worker that sends', config: { seed: 32 }, kill: true, next: 2 },
    { what: 'in asynchronous rounds', config: { asynchronous: {} }, kill: false, next: 3 },
    { what: 'with adapters', config: { algorithm: { lora: { rank: 4 } } }, kill: true, next: 2 },
  ])('do so $what', { tags: 'long' }, check);
});
