import { expect, test } from 'vitest';
import { ArtifactRef, PROBES, RewardModelCard, type Accuracy } from '../../workflows/contract/index.js';
import { Figures } from './figures.js';
import type { ReportInput } from './report-input.js';
import { rewardModelCardContent } from './reward-model-card.js';

const accuracy = (value: number): Accuracy => ({ accuracy: value, interval: [0.6, 0.9], questions: 40, pairs: 120 });
const BEST = {
  ...{ questions: 40, samples: 16, mean: 0.3, oracle: 0.9 },
  by: {
    tests: { rate: 0.5, interval: [0.4, 0.6] as [number, number], closed: 1 / 3 },
    rewardModel: { rate: 0.6, interval: [0.5, 0.7] as [number, number], closed: 0.5 },
    both: { rate: 0.75, interval: [0.6, 0.8] as [number, number], closed: 0.75 },
  },
};
const CARD = RewardModelCard.parse({
  ...{ questions: 40, texts: 2_400, tooLong: 3, notProbed: {}, limit: 0.25, visibleTests: 2, cpuSeconds: 9, notes: {} },
  gap: { value: 1.5, interval: [1.2, 1.8], questions: 40 },
  nearMisses: { both: accuracy(0.75), oneTest: null, mutants: accuracy(0.8) },
  sampled: accuracy(0.85),
  bySampler: { '<b>': accuracy(0.7) },
  ...{ bySource: {}, byForm: {} },
  probes: PROBES.map((probe) => ({
    ...{ probe, shift: probe === 'length' ? 0.8 : 0.01, questions: 40, named: probe === 'length' },
    interval: probe === 'length' ? [0.7, 0.9] : [-0.02, 0.04],
  })),
  named: ['length'],
  calibration: { pairs: 120, error: 0.07, bins: [{ predicted: 0.9, observed: 0.83, count: 120 }] },
  bestOf: { all: BEST, nearMisses: null },
});
const ref = ArtifactRef.parse({
  ...{ kind: 'rewardModelCard', digest: 'd'.repeat(64), bytes: 1 },
  key: `artifacts/rewardModelCard/${'c'.repeat(64)}.json`,
});

const content = (card: RewardModelCard | undefined): { page: string; figures: Figures } => {
  const figures = new Figures();
  figures.add('rewardModelCard', ref);
  const input = { metrics: card ? { rewardModelCard: card } : {} } as ReportInput;
  return { page: rewardModelCardContent(input, figures, ref)?.markup ?? '', figures };
};

test('shows accuracies, biases, calibration and Best-of-N, each figure by its name', () => {
  const { page, figures } = content(CARD);
  expect(page).toContain('Biases are named by length.');
  expect(page).toContain('75.0 %');
  expect(page).not.toContain('of them, programs that fail one test');
  expect(page).toContain('&lt;b&gt;');
  expect(page).not.toMatch(/NaN|undefined|\[object/);
  expect(page.match(/<svg/g)!.length).toBeGreaterThanOrEqual(2);
  expect(page).toContain('0.70 to 0.90');
  const named = new Map(figures.list().map((figure) => [figure.id, figure.value]));
  expect(named.get('rewardModelCard.nearMisses')).toBe(0.75);
  expect(named.get('rewardModelCard.probe.length')).toBe(0.8);
  expect(named.get('rewardModelCard.calibrationError')).toBe(0.07);
  expect(named.get('rewardModelCard.bestOf.all.both')).toBe(0.75);
});

test('says where no probe says anything, and nothing without a card', () => {
  const { page } = content({ ...CARD, gap: null, probes: [], named: [] });
  expect(page).toContain('No probe says anything');
  expect(content(undefined).page).toBe('');
});
