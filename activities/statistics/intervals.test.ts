/** Wilson interval and calibration of the reward model's pairwise accuracy. */
import { describe, expect, it } from 'vitest';
import { accuracyByGap, calibration, wilsonInterval } from './intervals.js';
import { Random } from './random.js';

describe('wilsonInterval', () => {
  it.each([
    // Newcombe 1998, table I, method 3.
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
    [29, 29, 0.883, 1],
  ])('of %d of %d is %d to %d', (successes, trials, low, high) => {
    const interval = wilsonInterval(successes, trials)!;
    expect(interval[0]).toBeCloseTo(low, 4);
    expect(interval[1]).toBeCloseTo(high, 4);
  });

  it('solves its own equation: at its ends the rate is z standard errors away', () => {
    for (const [successes, trials] of [
      [3, 7],
      [50, 120],
      [999, 1000],
    ] as const) {
      for (const end of wilsonInterval(successes, trials)!) {
        expect(Math.abs(successes / trials - end) / Math.sqrt((end * (1 - end)) / trials)).toBeCloseTo(
          1.959963984540054,
          9,
        );
      }
    }
  });

  it('is symmetric, holds the rate and stays in [0, 1]', () => {
    for (let trials = 1; trials <= 40; trials += 1) {
      for (let successes = 0; successes <= trials; successes += 1) {
        const [low, high] = wilsonInterval(successes, trials)!;
        const [otherLow, otherHigh] = wilsonInterval(trials - successes, trials)!;
        expect(low).toBeCloseTo(1 - otherHigh, 12);
        expect(high).toBeCloseTo(1 - otherLow, 12);
        expect(low).toBeGreaterThanOrEqual(0);
        expect(high).toBeLessThanOrEqual(1);
        expect(low - 1e-12 <= successes / trials && successes / trials <= high + 1e-12).toBe(true);
      }
    }
  });

  it('of no trials is undefined', () => {
    expect(wilsonInterval(0, 0)).toBeUndefined();
  });
});

describe('calibration', () => {
  const logit = (probability: number): number => Math.log(probability / (1 - probability));

  it('turns each pair to the side that the model prefers', () => {
    // Three pairs ranked right and one ranked wrong, all with probability 0.85.
    const bins = calibration([1, 1, 1, -1].map((sign) => sign * logit(0.85)));
    expect(bins).toHaveLength(1);
    expect(bins[0]!.predicted).toBeCloseTo(0.85, 12);
    expect(bins[0]).toMatchObject({ observed: 0.75, count: 4 });
  });

  it('has five bins of 0.1 from 0.5, in order, and none that is empty', () => {
    const bins = calibration([0.52, 0.65, 0.95, 0.96].map(logit));
    expect(bins.map(({ count }) => count)).toEqual([1, 1, 2]);
    expect(bins.map(({ predicted }) => Number(predicted.toFixed(3)))).toEqual([0.52, 0.65, 0.955]);
    expect(calibration([])).toEqual([]);
  });

  it('counts a tie as not ranked right, and holds scores without bound', () => {
    expect(calibration([0])).toEqual([{ predicted: 0.5, observed: 0, count: 1 }]);
    expect(calibration([1e6, -1e6])).toEqual([{ predicted: 1, observed: 0.5, count: 2 }]);
  });

  it('is on the diagonal for outcomes drawn with the predicted probability', () => {
    const random = new Random(41);
    const margins = Array.from({ length: 20_000 }, () => {
      const margin = random.next() * 4;
      return random.chance(1 / (1 + Math.exp(-margin))) ? margin : -margin;
    });
    const bins = calibration(margins);
    expect(bins.reduce((sum, { count }) => sum + count, 0)).toBe(margins.length);
    for (const { predicted, observed, count } of bins)
      expect(Math.abs(predicted - observed)).toBeLessThan(4 * Math.sqrt(0.25 / count));
  });
});

describe('accuracyByGap', () => {
  it('puts a pair by its gap into one of five bins, ends included, and leaves empty bins out', () => {
    const pairs = [
      { gap: 0.9 - 0.5, margin: 1 },
      { gap: 0.4, margin: -1 },
      { gap: 0.41, margin: 2 },
      { gap: 1, margin: 3 },
      { gap: 1, margin: 0 },
    ];
    expect(accuracyByGap(pairs)).toEqual([
      { above: 0.2, atMost: 0.4, accuracy: 0.5, count: 2 },
      { above: 0.4, atMost: 0.6, accuracy: 1, count: 1 },
      { above: 0.8, atMost: 1, accuracy: 0.5, count: 2 },
    ]);
    expect(accuracyByGap([])).toEqual([]);
  });
});
