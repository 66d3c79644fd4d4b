/** Points follow from what stages have stored, with a time between a stage's begin and its end. */
import { describe, expect, it } from 'vitest';
import { Manifest, type ArtifactKind } from '../../workflows/contract/index.js';
import { pointsOf, type Point } from './points.js';

const END = Date.parse('2026-01-01T00:01:40Z') / 1000;

const manifest = (kind: ArtifactKind, metrics: object): Manifest =>
  Manifest.parse({
    ...{
      schema: 1,
      kind,
      stage: kind,
      stageKey: 'k',
      digest: 'a'.repeat(64),
      files: [],
      bytes: 1,
      inputs: {},
      config: {},
    },
    ...{ metrics, createdAt: '2026-01-01T00:01:40Z', seconds: 100 },
    producer: { workflowId: 'w', runId: 'r', activity: 'a', attempt: 1, host: 'h', package: 'p', versions: {} },
  });

const rewardModel = manifest('rewardModel', {
  ...{ pairs: 10, heldOutAccuracy: 0.75, heldOutPairs: 4, heldOutQuestions: 2, steps: 4, tooLong: 0 },
  ...{ heldOutTooLong: 0, meanMargin: 1, interval95: [0.5, 1], baselineAccuracy: 0.5, calibration: [], byGap: [] },
  curve: [
    { step: 2, loss: 0.7 },
    { step: 4, loss: 0.6 },
  ],
  ...{ scale: { mean: 0, std: 1 }, environments: [] },
});

const round = (number: number): Manifest =>
  manifest('policy', {
    ...{ round: number, steps: 2, rollouts: 16, trained: 12, dropped: {}, rewardMean: number / 4, kl: 0.01 },
    ...{ entropy: 1, clipFraction: 0, nonZeroAdvantages: 8, environments: [] },
  });

const evaluation = manifest('evaluation', {
  results: [
    {
      ...{ benchmark: 'humaneval', policy: 'trained', tasks: 164, samples: 4, greedy: 0.5, greedyInterval: [0.4, 0.6] },
      ...{ mean: 0.4, passAtK: { 1: 0.4 }, bestOfN: { 4: 0.45 }, oracle: 0.6 },
    },
    {
      ...{ benchmark: 'heldOut', policy: 'trained', tasks: 5, samples: 0, greedy: null, greedyInterval: null },
      ...{ mean: null, passAtK: {}, bestOfN: {}, oracle: null },
    },
  ],
  ...{ notes: {}, tokens: 1, cpuSeconds: 1 },
});

const of = (points: readonly Point[], tag: string): [number, number][] =>
  points.filter((point) => point.tag === tag).map(({ step, value }) => [step, value]);

describe('pointsOf', () => {
  const points = pointsOf({ stages: { rewardModel, evaluation }, rounds: [round(1), round(2)] });

  it('has a curve by step, rounds by round, and figures of the evaluation', () => {
    expect(of(points, 'rewardModel/loss')).toEqual([
      [2, 0.7],
      [4, 0.6],
    ]);
    expect(of(points, 'rewardModel/heldOutAccuracy')).toEqual([
      [0, 0.5],
      [4, 0.75],
    ]);
    expect(of(points, 'reinforcement/reward')).toEqual([
      [1, 0.25],
      [2, 0.5],
    ]);
    expect(of(points, 'evaluation/humaneval/trained/Best-of-4')).toEqual([[0, 0.45]]);
    expect(points.filter(({ tag }) => tag.startsWith('evaluation/heldOut'))).toEqual([]);
  });

  it('has what came of a curriculum, where there is one', () => {
    const pools = { unsolved: 2, hard: 5, medium: 4, easy: 3, solved: 6 };
    const drawn = { groups: 4, firstWithoutSignal: 3, withoutSignal: 1, draws: 2, extraRollouts: 12, replace: 0 };
    const { metrics } = round(1);
    const all = pointsOf({ stages: {}, rounds: [manifest('policy', { ...metrics, curriculum: { pools, ...drawn } })] });
    expect(of(all, 'reinforcement/firstWithoutSignal')).toEqual([[1, 0.75]]);
    expect(of(all, 'reinforcement/withoutSignal')).toEqual([[1, 0.25]]);
    expect(of(all, 'reinforcement/extraRollouts')).toEqual([[1, 12]]);
    expect(of(all, 'reinforcement/pools/hard')).toEqual([[1, 5]]);
    expect(of(points, 'reinforcement/withoutSignal')).toEqual([]);
  });

  it('has what came of repair turns, where there are some', () => {
    const repair = { conversations: 8, firstPass: 0.25, lastPass: 0.5, repairs: 6, repaired: 2 };
    const all = pointsOf({ stages: {}, rounds: [manifest('policy', { ...round(1).metrics, repair })] });
    expect(of(all, 'reinforcement/firstPass')).toEqual([[1, 0.25]]);
    expect(of(all, 'reinforcement/lastPass')).toEqual([[1, 0.5]]);
    expect(of(points, 'reinforcement/lastPass')).toEqual([]);
  });

  it('has the loss of any other training', () => {
    const fineTuning = manifest('policy', { curve: [{ step: 3, loss: 0.5 }], environments: [] });
    const synthesis = manifest('questions', { seeds: 4 });
    expect(pointsOf({ stages: { synthesis, fineTuning }, rounds: [] })).toEqual([
      { tag: 'fineTuning/loss', step: 3, value: 0.5, time: END },
    ]);
  });

  it('puts a step at its share of the time of its stage', () => {
    const times = points.filter(({ tag }) => tag === 'rewardModel/loss').map(({ time }) => time);
    expect(times).toEqual([END - 50, END]);
    expect(points.find(({ tag, step }) => tag === 'rewardModel/heldOutAccuracy' && step === 0)?.time).toBe(END - 100);
  });

  it('grows at its end alone while rounds come: what was sent stays what it was', () => {
    const before = pointsOf({ stages: { rewardModel }, rounds: [round(1)] });
    const after = pointsOf({ stages: { rewardModel }, rounds: [round(1), round(2)] });
    expect(after.slice(0, before.length)).toEqual(before);
  });

  it('is empty where nothing was made', () => {
    expect(pointsOf({ stages: {}, rounds: [] })).toEqual([]);
  });
});
