/** pass@k and Best-of-N against their definitions: the mean over all subsets of the samples. */
import { describe, expect, it } from 'vitest';
import { bestOfN, mean, passAtK } from './pass-at-k.js';
import { Random } from './random.js';

/** All subsets of `size` indices below `n`. */
function subsets(n: number, size: number, from = 0): number[][] {
  if (size === 0) return [[]];
  return Array.from({ length: n - from }, (_, at) => from + at).flatMap((first) =>
    subsets(n, size - 1, first + 1).map((rest) => [first, ...rest]),
  );
}

const average = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

describe('passAtK', () => {
  it('is the share of subsets of k samples that hold a passing one', () => {
    for (let n = 1; n <= 8; n += 1) {
      for (let k = 1; k <= n; k += 1) {
        const draws = subsets(n, k);
        for (let c = 0; c <= n; c += 1) {
          // The samples that pass are the first c.
          expect(passAtK(n, c, k), `n=${n} c=${c} k=${k}`).toBeCloseTo(
            average(draws.map((draw) => (draw.some((index) => index < c) ? 1 : 0))),
            12,
          );
        }
      }
    }
  });

  it('holds for sizes at which binomials overflow', () => {
    expect(passAtK(100_000, 1, 50_000)).toBeCloseTo(0.5, 9);
    expect(passAtK(2000, 1000, 1000)).toBe(1);
    expect(passAtK(200, 20, 1)).toBeCloseTo(0.1, 12);
  });

  it.each([
    [4, 5, 1],
    [4, -1, 1],
    [4, 2, 0],
    [4, 2, 5],
    [0, 0, 1],
    [4, Number.NaN, 1],
  ])('refuses n=%d c=%d k=%d', (n, c, k) => {
    expect(() => passAtK(n, c, k)).toThrow(RangeError);
  });
});

describe('bestOfN', () => {
  const best = (samples: readonly { passed: boolean; score: number }[], draw: readonly number[]): number => {
    const highest = Math.max(...draw.map((index) => samples[index]!.score));
    return samples[draw.find((index) => samples[index]!.score === highest)!]!.passed ? 1 : 0;
  };

  it('is the mean, over all subsets of N samples, of whether the highest-scored one passes', () => {
    const random = new Random(21);
    for (let round = 0; round < 150; round += 1) {
      // Few distinct scores, so that ties occur; they keep sample order.
      const samples = Array.from({ length: random.integer(1, 8) }, () => ({
        passed: random.chance(0.4),
        score: random.integer(-2, 3),
      }));
      for (let size = 1; size <= samples.length; size += 1) {
        const expected = average(subsets(samples.length, size).map((draw) => best(samples, draw)));
        expect(bestOfN(samples, size), JSON.stringify({ samples, size })).toBeCloseTo(expected, 12);
      }
    }
  });

  it('is the best-scored sample for N = n, and the mean for N = 1', () => {
    const samples = [
      { passed: false, score: 0.1 },
      { passed: true, score: 2.5 },
      { passed: false, score: -3 },
    ];
    expect(bestOfN(samples, 3)).toBe(1);
    expect(bestOfN(samples, 1)).toBeCloseTo(1 / 3, 12);
    expect(
      bestOfN(
        samples.map((sample) => ({ ...sample, score: -sample.score })),
        3,
      ),
    ).toBe(0);
  });

  it('leaves its input as it is', () => {
    const samples = [
      { passed: false, score: 0 },
      { passed: true, score: 1 },
    ];
    bestOfN(samples, 1);
    expect(samples.map(({ score }) => score)).toEqual([0, 1]);
  });

  it.each([[0], [3], [Number.NaN]])('refuses N=%d of 2 samples', (N) => {
    expect(() =>
      bestOfN(
        [
          { passed: true, score: 1 },
          { passed: false, score: 0 },
        ],
        N,
      ),
    ).toThrow(RangeError);
  });
});

describe('mean', () => {
  it('of nothing is null, not zero', () => {
    expect(mean([])).toBeNull();
    expect(mean([0, 1, 1, 0])).toBe(0.5);
  });
});
