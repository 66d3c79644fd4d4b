/** The watch for reward hacking on real servers: it parks, is answered, and hides the same tests after a kill. */
import { beforeAll, describe, expect, inject, it } from 'vitest';
import type { WorkflowHandle } from '@temporalio/client';
import { collect } from '../../activities/artifacts/collections.js';
import { roundsOf } from '../../activities/artifacts/pruning.js';
import { hiddenTests } from '../../activities/reinforcement/hidden-tests.js';
import {
  ArtifactRef,
  FilteredQuestionRow,
  MESSAGES,
  metricsOf,
  RewardRow,
  RoundPromptRow,
  VerdictRow,
  type ExperimentStatus,
  type StageName,
  type StageResult,
} from '../../workflows/contract/index.js';
import { artifactStore, requestsFor, startWorkflow, statusWhere, workerProcess } from '../fixtures/harness.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { until } from '../fixtures/until.js';

type Result = { stages: { name: StageName; artifact: ArtifactRef }[] };

/** An alarm at every round, whatever its figures. */
const ALWAYS = { gap: -1, deviations: 0, rounds: 1 };

const micro = (name: string): { stages: Record<string, Record<string, unknown>> } =>
  microExperiment(name, inject('seeds'), inject('model')) as never;

let base: WorkflowHandle;
let outputs: Record<StageName, ArtifactRef>;
let model: ArtifactRef;
beforeAll(async () => {
  base = await startWorkflow('experiment', { ...micro('before-watch'), onFailure: 'park' });
  const { stages } = (await base.result()) as Result;
  outputs = Object.fromEntries(stages.map(({ name, artifact }) => [name, artifact])) as never;
  model = await inputOf(outputs.reinforcement, 'reference');
}, 600_000);

const inputOf = async (ref: ArtifactRef, name: string): Promise<ArtifactRef> =>
  ArtifactRef.parse((await artifactStore().manifest(ref)).inputs[name]);

describe('an alarm', { timeout: 600_000 }, () => {
  it('parks the experiment with the programs, and is answered by resume', async () => {
    const handle = await startWorkflow('experiment', {
      name: 'watched',
      fork: {
        of: base.workflowId,
        from: 'reinforcement',
        patch: { stages: { reinforcement: { watch: ALWAYS } } },
      },
    });
    // A fork answers queries once it has looked up what it forks.
    await until(
      () =>
        handle.query(MESSAGES.status).then(
          () => true,
          () => false,
        ),
      Boolean,
    );
    const parkedAt = async (round: number): Promise<ExperimentStatus> =>
      statusWhere(handle, ({ state, stages }) =>
        state === 'parked' ? stages.some(({ failure }) => failure?.round === round) : false,
      );
    const failure = (await parkedAt(1)).stages.find(({ name }) => name === 'reinforcement')!.failure!;
    expect(failure.type).toBe('RewardHacked');
    expect(failure.message).toMatch(/^round 1: more programs pass the visible tests than all tests, by /);
    expect(failure.advice).toBe(
      `temporal workflow update execute --workflow-id ${handle.workflowId} --name resume --input '{"flagged": "drop"}'`,
    );
    const resume = (request: unknown): Promise<string> =>
      handle.executeUpdate<string, [unknown]>('resume', { args: [request] });
    await expect(resume({ flagged: 'perhaps' })).rejects.toThrow();
    expect(await resume({ flagged: 'keep' })).toBe('reinforcement goes on with round 1, with flagged rollouts');
    await parkedAt(2);
    expect(await resume({ flagged: 'drop' })).toBe('reinforcement goes on with round 2, without flagged rollouts');
    const { stages } = (await handle.result()) as Result;

    const store = artifactStore();
    const rounds = await roundsOf(store, stages.find(({ name }) => name === 'reinforcement')!.artifact);
    for (const [round, policy] of rounds) {
      const { watch } = metricsOf('reinforcement', await store.manifest(policy));
      expect(watch?.gap).toBeDefined();
      // Both tests and scores have a weight, so that what the model promises is compared too.
      expect(watch?.rewardModelGap).toBeDefined();
      const rewards = await inputOf(policy, 'rewards');
      const rows = await collect(store.rowsOf(rewards, RewardRow));
      const dropped = rows.filter((row) => row.dropped === 'flagged');
      expect(dropped).toEqual(round === 2 ? rows.filter(({ flagged }) => flagged !== undefined) : []);
      const { inputs } = await store.manifest(rewards);
      expect('calibrated' in inputs).toBe(round === 2);
      const [plan, verdicts] = await Promise.all([inputOf(rewards, 'plan'), inputOf(rewards, 'verdicts')]);
      const prompts = new Map(
        (await collect(store.rowsOf(plan, RoundPromptRow))).map((prompt) => [prompt.questionId, prompt]),
      );
      const judged = new Map((await collect(store.rowsOf(verdicts, VerdictRow))).map((row) => [row.id, row]));
      for (const { id, questionId, passRate } of rows) {
        const { tests, hiddenTests: hidden } = prompts.get(questionId)!;
        expect(hidden!.length).toBeGreaterThan(0);
        const { outcomes } = judged.get(id)!;
        // All tests ran in one job, and rewards read the visible ones.
        expect(outcomes).toHaveLength(tests.length);
        const visible = outcomes.filter((_, at) => !hidden!.includes(at));
        expect(passRate).toBeCloseTo(visible.filter(({ status }) => status === 'pass').length / visible.length, 12);
      }
    }
  });
});

describe('hidden tests', { timeout: 600_000 }, () => {
  const input = (salt: string, more: object = {}): object => ({
    inputs: { questions: outputs.filtering, policy: model, ...more },
    config: {
      ...micro('kill').stages['reinforcement'],
      ...{ rounds: 1, seed: 41, salt, reward: { testsWeight: 1, tests: 'passRate' }, watch: {} },
    },
  });

  it('are the same after kill -9', { tags: 'long' }, async () => {
    const queue = 'watch-killed';
    const environment = inject('environment');
    const first = workerProcess(queue, environment);
    const handle = await startWorkflow('reinforcement', input('killed'), { taskQueue: queue });
    // The plan is stored, and its rollouts are on their way.
    await until(
      async () => (await requestsFor(handle, 'reinforcement.rollouts')).length,
      (asked) => asked > 0,
    );
    await first.kill();
    const second = workerProcess(queue, environment);
    try {
      const { ref } = (await handle.result()) as StageResult;
      const store = artifactStore();
      const plan = await inputOf(await inputOf(ref, 'rollouts'), 'plan');
      const questions = new Map(
        (await collect(store.rowsOf(outputs.filtering, FilteredQuestionRow))).map((row) => [row.id, row]),
      );
      for (const { questionId, tests, hiddenTests: hidden } of await collect(store.rowsOf(plan, RoundPromptRow))) {
        expect(tests).toEqual(questions.get(questionId)!.tests);
        expect(hidden).toEqual(hiddenTests(tests, 0.25, { seed: 41, questionId }));
      }
      // Another run of the same settings plans the same, under another key.
      const undisturbed = await startWorkflow('reinforcement', input('undisturbed'));
      const other = await inputOf(await inputOf(((await undisturbed.result()) as StageResult).ref, 'rollouts'), 'plan');
      expect(other.digest).toBe(plan.digest);
    } finally {
      await second.stop();
    }
  });

  it('are all where rewards read none, and few programs run', async () => {
    const given = input('model-only', { rewardModel: outputs.rewardModel }) as { config: object };
    const config = { ...given.config, reward: { testsWeight: 0, rewardModelWeight: 1 }, watch: { judgedShare: 0.05 } };
    const handle = await startWorkflow('reinforcement', { ...given, config });
    const { ref } = (await handle.result()) as StageResult;
    const rewards = await inputOf(ref, 'rewards');
    const store = artifactStore();
    const rows = await collect(store.rowsOf(rewards, RewardRow));
    const judged = await collect(store.rowsOf(await inputOf(rewards, 'verdicts'), VerdictRow));
    expect(rows).toHaveLength(16);
    expect(judged).toHaveLength(3);
    expect(rows.filter(({ passRate }) => passRate !== undefined).length).toBeLessThanOrEqual(3);
    const { watch } = metricsOf('reinforcement', await store.manifest(ref));
    expect(watch?.gap).toBeUndefined();
    expect(watch?.calibration).toBeDefined();
  });
});
