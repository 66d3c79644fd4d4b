/** A curriculum on real servers: rounds draw again, and a kill in the middle of a redraw changes nothing. */
import { beforeAll, describe, expect, inject, it } from 'vitest';
import type { WorkflowHandle } from '@temporalio/client';
import { collect } from '../../activities/artifacts/collections.js';
import { roundsOf } from '../../activities/artifacts/pruning.js';
import { withoutSignal } from '../../activities/reinforcement/curriculum.js';
import {
  ArtifactRef,
  CurriculumDraw,
  metricsOf,
  RewardRow,
  RolloutRow,
  RoundPromptRow,
  VerdictRow,
  type StageName,
  type StageResult,
} from '../../workflows/contract/index.js';
import { artifactStore, requestsFor, resultAfterKill, startWorkflow } from '../fixtures/harness.js';
import { microExperiment } from '../fixtures/micro-experiment.js';

const { stages } = microExperiment('curriculum', inject('seeds'), inject('model')) as {
  stages: Record<string, Record<string, unknown>>;
};

const MODEL = { kind: 'folder', path: inject('model') };
let outputs: Record<'filtering' | 'sampling', ArtifactRef>;
beforeAll(async () => {
  const made = async (stage: StageName, inputs: object): Promise<ArtifactRef> => {
    const handle = await startWorkflow(stage, { inputs, config: stages[stage] });
    return ((await handle.result()) as StageResult).ref;
  };
  const questions = await made('synthesis', { seeds: { kind: 'seeds', path: inject('seeds') } });
  const filtering = await made('filtering', { questions });
  outputs = { filtering, sampling: await made('sampling', { questions: filtering, policy: MODEL }) };
}, 600_000);

const inputOf = async (ref: ArtifactRef, name: string): Promise<ArtifactRef> =>
  ArtifactRef.parse((await artifactStore().manifest(ref)).inputs[name]);

const ROUNDS = 2;
const PROMPTS = 3;
const SAMPLES = 2;
const input = (salt: string): object => ({
  inputs: { questions: outputs.filtering, programs: outputs.sampling, policy: MODEL },
  config: {
    ...stages['reinforcement'],
    ...{ rounds: ROUNDS, promptsPerRound: PROMPTS, samplesPerPrompt: SAMPLES, seed: 43, salt },
    reward: { testsWeight: 1, tests: 'allPass' },
    curriculum: { redraw: { budget: 2, draws: 2 } },
  },
});

/** Digests of what each round made, by the names of the artifacts. */
async function digestsOf(policy: ArtifactRef): Promise<Record<string, string>[]> {
  const rounds = [...(await roundsOf(artifactStore(), policy)).values()];
  return Promise.all(
    rounds.map(async (round) => {
      const [rollouts, rewards] = [await inputOf(round, 'rollouts'), await inputOf(round, 'rewards')];
      const plan = await inputOf(rollouts, 'plan');
      return { plan: plan.digest, rewards: rewards.digest, policy: round.digest };
    }),
  );
}

describe('a curriculum', { timeout: 600_000 }, () => {
  let result: StageResult;
  let undisturbed: WorkflowHandle;
  beforeAll(async () => {
    undisturbed = await startWorkflow('reinforcement', input('one'));
    result = (await undisturbed.result()) as StageResult;
  }, 600_000);

  it('replaces groups without signal, and takes over what it keeps', async () => {
    const store = artifactStore();
    const draws = (await requestsFor(undisturbed, 'reinforcement.plan')).length;
    // The micro model is often right or wrong in both of its two samples.
    expect(draws).toBeGreaterThan(ROUNDS);
    for (const policy of (await roundsOf(store, result.ref)).values()) {
      const rewards = await inputOf(policy, 'rewards');
      const [plan, rollouts] = [await inputOf(rewards, 'plan'), await inputOf(rewards, 'rollouts')];
      const prompts = await collect(store.rowsOf(plan, RoundPromptRow));
      const file = (await store.manifest(plan)).files.find(({ name }) => name === 'draw.jsonl')!;
      const [about] = await collect(store.readRows([file], CurriculumDraw));
      expect(prompts).toHaveLength(PROMPTS);
      const answers = await collect(store.rowsOf(rollouts, RolloutRow));
      const verdicts = await collect(store.rowsOf(await inputOf(rewards, 'verdicts'), VerdictRow));
      const rows = await collect(store.rowsOf(rewards, RewardRow));
      // Artifacts of the last draw are those of the whole round.
      expect(answers.map(({ questionId }) => questionId).sort()).toEqual(
        prompts.flatMap(({ questionId }) => Array.from({ length: SAMPLES }, () => questionId)).sort(),
      );
      expect(verdicts.map(({ id }) => id).sort()).toEqual(answers.map(({ id }) => id).sort());
      const { curriculum } = metricsOf('reinforcement', await store.manifest(policy));
      expect(curriculum).toMatchObject({ groups: PROMPTS, withoutSignal: withoutSignal(rows).size, replace: 0 });
      expect(curriculum!.extraRollouts).toBeLessThanOrEqual(2 * PROMPTS * SAMPLES);
      expect(curriculum!.draws).toBe(about!.draw + 1);
      if (about!.draw === 0) continue;
      // A kept group is that of the draw before, to the row.
      const earlier = await collect(store.rowsOf(await inputOf(rollouts, 'earlier'), RolloutRow));
      const ids = new Set(prompts.filter(({ draw }) => draw !== about!.draw).map(({ questionId }) => questionId));
      expect(answers.filter(({ questionId }) => ids.has(questionId))).toEqual(
        earlier.filter(({ questionId }) => ids.has(questionId)),
      );
    }
  });

  it('is the same after kill -9 in the middle of a redraw', { tags: 'long' }, async () => {
    // The first redraw is planned, and its rollouts are on their way.
    const killed = { queue: 'curriculum-killed', activity: 'reinforcement.rollouts', times: 2 };
    const { ref } = await resultAfterKill<StageResult>('reinforcement', input('another'), killed);
    expect(await digestsOf(ref)).toEqual(await digestsOf(result.ref));
  });
});
