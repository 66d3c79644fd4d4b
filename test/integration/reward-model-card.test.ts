/** The card of a reward model on real servers, and the gate that parks RL because of it. */
import { describe, expect, inject, it } from 'vitest';
import { collect } from '../../activities/artifacts/collections.js';
import {
  ArtifactRef,
  CardRow,
  metricsOf,
  type ExperimentStatus,
  type StageName,
  type StageResult,
} from '../../workflows/contract/index.js';
import { artifactStore, failureOf, requestsFor, startWorkflow, statusWhere } from '../fixtures/harness.js';
import { microExperiment } from '../fixtures/micro-experiment.js';

type Result = { stages: { name: StageName; artifact: ArtifactRef }[] };

/** Fails always: no promise of a Bradley-Terry model is kept to the last digit. */
const NEVER = { accuracy: 0, shift: 1_000, calibrationError: 0 };

const stageOf = ({ stages }: ExperimentStatus, stage: StageName) => stages.find(({ name }) => name === stage)!;

describe('a gate', { timeout: 600_000 }, () => {
  it('parks RL before anything is trained, and lets it go on with the limit that its advice names', async () => {
    const whole = microExperiment('gated', inject('seeds'), inject('model')) as {
      stages: Record<string, Record<string, unknown>>;
    };
    const handle = await startWorkflow('experiment', {
      ...whole,
      stages: {
        ...whole.stages,
        rewardModelCard: { split: 'train', questions: 10, samples: 6, mutants: 3, shardSize: 5 },
        reinforcement: { ...whole.stages['reinforcement'], rewardModelGate: NEVER },
      },
      onFailure: 'park',
    });
    const parked = await statusWhere(handle, ({ state }) => state === 'parked');
    const { failure } = stageOf(parked, 'reinforcement');
    expect(failure!.type).toBe('RewardModelRefused');
    expect(failure!.message).toMatch(
      /^the gate of reinforcement\.rewardModelGate refuses the reward model: the calibration error is 0\.\d\d, limit 0\.00\. Nothing was trained on it\./,
    );
    // Nothing of a round was asked for, not even a plan.
    const child = handle.client.getHandle(`${handle.workflowId}/reinforcement`);
    expect(await requestsFor(child, 'reinforcement.gate')).toHaveLength(1);
    expect(await requestsFor(child, 'reinforcement.plan')).toHaveLength(0);

    const card = stageOf(parked, 'rewardModelCard');
    const store = artifactStore();
    const metrics = metricsOf('rewardModelCard', await store.manifest(card.artifact!));
    expect(metrics.questions).toBe(10);
    expect(metrics.tooLong).toBe(0);
    expect(metrics.nearMisses.mutants!.pairs).toBeGreaterThan(0);
    expect(metrics.calibration.pairs).toBeGreaterThan(0);
    expect(metrics.bestOf.all).toMatchObject({ questions: 10, samples: 6 });
    const rows = await collect(store.rowsOf(card.artifact!, CardRow));
    for (const { texts } of rows) {
      expect(texts.every(({ score }) => score !== undefined)).toBe(true);
      const scores = new Map<string, number>();
      for (const { program, score } of texts) {
        expect(scores.get(program) ?? score).toBe(score);
        scores.set(program, score!);
      }
      // Variants of each probed program start from one text, and a variant is another text.
      for (const { as, program, subject } of texts.filter(({ as }) => as !== 'sampled' && as !== 'plain')) {
        const plain = texts.find((text) => text.as === 'plain' && text.subject === subject)!;
        expect(program, as).not.toBe(plain.program);
      }
      for (const { fails } of texts.filter(({ as }) => as === 'mutant')) expect(fails).toBeGreaterThan(0);
    }

    // The advice is a command with the limit that the reward model keeps.
    const [, advised] = /--input '(.*)'$/.exec(failure!.advice)!;
    const request = JSON.parse(advised!) as { semantics: { rewardModelGate: { calibrationError: number } } };
    expect(request.semantics.rewardModelGate.calibrationError).toBeGreaterThan(0);
    expect(await handle.executeUpdate<string, [unknown]>('retryStage', { args: [request] })).toBe(
      'reinforcement runs again; repeated: reinforcement, evaluation',
    );
    const { stages } = (await handle.result()) as Result;
    const outputs = Object.fromEntries(stages.map(({ name, artifact }) => [name, artifact])) as Record<
      StageName,
      ArtifactRef
    >;

    // A gate is in no key: the same rounds without one are those of the store.
    const alone = await startWorkflow('reinforcement', {
      inputs: {
        questions: outputs.filtering,
        policy: ArtifactRef.parse((await store.manifest(outputs.sampling)).inputs['policy']),
        rewardModel: outputs.rewardModel,
      },
      config: whole.stages['reinforcement'],
    });
    const { ref, reused } = (await alone.result()) as StageResult;
    expect({ key: ref.key, reused }).toEqual({ key: outputs.reinforcement.key, reused: true });
  });

  it('is refused with its experiment where nothing makes a card', async () => {
    const whole = microExperiment('ungated', inject('seeds'), inject('model')) as {
      stages: Record<string, Record<string, unknown>>;
    };
    const { reinforcement } = whole.stages;
    const stages = { ...whole.stages, reinforcement: { ...reinforcement, rewardModelGate: {} } };
    const failure = await failureOf(await startWorkflow('experiment', { ...whole, stages }));
    expect(failure.type).toBe('InvalidExperiment');
    expect(failure.message).toContain('stages.rewardModelCard: needed, because stages.reinforcement.rewardModelGate');
  });
});
