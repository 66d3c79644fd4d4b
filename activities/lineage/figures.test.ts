/** Names of the figures of a report, and the rows behind each. */
import { describe, expect, it } from 'vitest';
import { Summary } from '../../workflows/contract/index.js';
import { figuresOfReport, figuresOfSummary } from './figures.js';

const ref = (name: string) => ({
  kind: 'pairs',
  key: `artifacts/pairs/${name}.json`,
  digest: 'd'.repeat(64),
  bytes: 1,
});
const interval = [0.1, 0.9];
const summary = Summary.parse({
  experiment: 'run',
  state: 'done',
  stages: (
    ['synthesis', 'filtering', 'sampling', 'preferences', 'rewardModel', 'reinforcement', 'evaluation'] as const
  ).map((name) => ({ name, state: 'done', seconds: 2, reused: false, artifact: ref(name) })),
  data: {
    ...{ questions: 3, testCases: 9, keptTestCases: 8, programs: 12, pairs: 4 },
    dropped: [{ stage: 'filtering', what: 'testCase', reason: 'raised', count: 1, artifact: ref('dropped') }],
  },
  recipe: [],
  passRateHistogram: [{ from: 0.9, to: 1, programs: 5 }],
  rewardModel: {
    ...{ pairs: 4, heldOutAccuracy: 0.5, heldOutPairs: 2, heldOutQuestions: 1, interval95: interval },
    ...{ baselineAccuracy: null, calibration: [{ predicted: 0.5, observed: 0.5, count: 1 }], curve: [] },
  },
  reinforcement: {
    rounds: [
      {
        ...{ round: 3, reward: 0.4, kl: 0, entropy: 0, clipFraction: 0, nonZeroAdvantages: 1, rollouts: 8, trained: 7 },
        ...{ dropped: { empty: 1 }, steps: [{ step: 'sampling', from: 0, to: 1 }], artifact: ref('round-3') },
      },
    ],
    deviceWaiting: 0.2,
  },
  evaluation: [
    {
      ...{ benchmark: 'humaneval', policy: 'trained', tasks: 10, samples: 4, greedy: 0.6, greedyInterval: interval },
      ...{ mean: 0.5, passAtK: { 1: 0.5 }, bestOfN: { 4: 0.7 }, oracle: 0.8 },
      truncated: { greedy: 0.1, samples: 0.2 },
      conditions: { temperature: 1, topP: 1, maxNewTokens: 8, prompt: 1, harness: [] },
      selections: [{ method: 'tests', N: 4, rate: 0.7, interval, gain: 0.2, gainInterval: interval }],
    },
  ],
  cost: { teacher: 'offline', currency: 'USD', amount: 0 },
  models: [],
  assertions: [],
});
const figures = new Map(figuresOfSummary(summary).map(({ id, ...figure }) => [id, figure]));

describe('the figures of a summary', () => {
  it.each([
    ['data.keptTestCases', 8, 'filtering'],
    ['data.programs', 12, 'sampling'],
    ['data.pairs', 4, 'preferences'],
    ['data.dropped.filtering.testCase.raised', 1, 'dropped'],
    ['passRateHistogram.0.9', 5, 'sampling'],
    ['rewardModel.interval95.high', 0.9, 'rewardModel'],
    ['reinforcement.round.3.reward', 0.4, 'round-3'],
    ['reinforcement.round.3.dropped.empty', 1, 'round-3'],
    ['reinforcement.deviceWaiting', 0.2, 'reinforcement'],
    ['stages.sampling.seconds', 2, 'sampling'],
    ['cost.amount', 0, 'synthesis'],
  ])('%s is %d, of the artifact of %s', (id, value, name) => {
    expect(figures.get(id)).toEqual({ value, artifact: ref(name).key });
  });

  it.each([
    ['greedy', { mode: 'greedy' }],
    ['greedyInterval.low', { mode: 'greedy' }],
    ['truncated.greedy', { mode: 'greedy' }],
    ['mean', { mode: 'sample' }],
    ['passAtK.1', { mode: 'sample' }],
    ['selections.tests.4.gain', { mode: 'sample' }],
    ['samples', {}],
    ['tasks', {}],
  ])('of an evaluation, %s, come from its rows %j', (field, mode) => {
    expect(figures.get(`evaluation.humaneval.trained.${field}`)).toMatchObject({
      artifact: ref('evaluation').key,
      rows: { benchmark: 'humaneval', policy: 'trained', ...mode },
    });
  });

  it('hold no settings and no points of a curve', () => {
    expect([...figures.keys()].filter((id) => /conditions|curve|calibration|steps/.test(id))).toEqual([]);
  });
});

describe('the figures of a report', () => {
  it('are those of the page too, with the rows of their benchmark and policy', () => {
    const artifact = ref('evaluation').key;
    const page = [
      { id: 'evaluation.humaneval.trained.greedy', value: 0.6, artifact },
      { id: 'evaluation.humaneval.trained.curve-oracle.2', value: 0.8, artifact },
      { id: 'evaluation.humaneval.truncated', value: 0.1, artifact },
      { id: 'recipe.rewardModel.schedule', value: 'cosine', artifact: ref('rewardModel').key },
    ];
    const all = figuresOfReport(summary, page);
    expect(all.slice(0, figures.size).map(({ id }) => id)).toEqual([...figures.keys()]);
    expect(all.slice(figures.size)).toEqual([
      { ...page[1], rows: { benchmark: 'humaneval', policy: 'trained' } },
      { ...page[2], rows: { benchmark: 'humaneval' } },
      page[3],
    ]);
  });
});
