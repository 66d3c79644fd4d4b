/** McNemar's test against the sum that defines it, Holm by his own rule, and the detectable difference by its use. */
import { describe, expect, it } from 'vitest';
import { holm, mcnemar, minimalDetectableDifference } from './paired.js';
import { Random } from './random.js';

/** The definition in whole numbers: twice the tail of Binomial(n, 1/2). */
function exactly(gained: number, lost: number): number {
  const n = BigInt(gained + lost);
  let [choose, tail] = [1n, 0n];
  for (let k = 0n; k <= BigInt(Math.min(gained, lost)); k += 1n) {
    if (k > 0n) choose = (choose * (n - k + 1n)) / k;
    tail += choose;
  }
  const scale = 10n ** 30n;
  return Math.min(1, Number((2n * tail * scale) / 2n ** n) / 1e30);
}

describe('mcnemar', () => {
  it('is the two-sided tail of a fair coin', () => {
    for (let gained = 0; gained <= 40; gained += 1)
      for (let lost = 0; lost <= 40; lost += 1)
        expect(Math.abs(mcnemar(gained, lost) - exactly(gained, lost)), `${gained}, ${lost}`).toBeLessThan(1e-14);
    for (const [gained, lost] of [
      [600, 480],
      [1500, 1400],
      [5000, 5200],
    ] as const)
      expect(Math.abs(mcnemar(gained, lost) - exactly(gained, lost)), `${gained}, ${lost}`).toBeLessThan(1e-12);
  });

  it('knows the cases that people ask about', () => {
    expect(mcnemar(14, 0)).toBeCloseTo(2 ** -13, 15);
    expect(mcnemar(5, 0)).toBeGreaterThan(0.05);
    expect(mcnemar(6, 0)).toBeLessThan(0.05);
    expect(mcnemar(0, 0)).toBe(1);
    expect(mcnemar(7, 7)).toBe(1);
    expect(mcnemar(3, 9)).toBe(mcnemar(9, 3));
  });

  it.each([
    [-1, 2],
    [1.5, 2],
    [Number.NaN, 0],
  ])('refuses %d and %d', (gained, lost) => {
    expect(() => mcnemar(gained, lost)).toThrow(RangeError);
  });
});

describe('holm', () => {
  it('multiplies by what is left, and never falls', () => {
    expect(holm([0.01, 0.04, 0.03])).toEqual([0.03, 0.06, 0.06]);
    expect(holm([0.6, 0.9])).toEqual([1, 1]);
    expect(holm([])).toEqual([]);
    expect(holm([0.2])).toEqual([0.2]);
  });

  it('keeps the chance of any false alarm at most 5 %', () => {
    const random = new Random(17);
    const rounds = 2000;
    let alarms = 0;
    for (let round = 0; round < rounds; round += 1)
      if (holm(Array.from({ length: 9 }, () => random.next())).some((p) => p <= 0.05)) alarms += 1;
    // Five standard errors above 5 %.
    expect(alarms / rounds).toBeLessThan(0.075);
    expect(alarms / rounds).toBeGreaterThan(0.025);
  });
});

describe('minimalDetectableDifference', () => {
  it('is found by the test in about 80 % of runs', () => {
    const random = new Random(23);
    for (const [tasks, differing] of [
      [164, 0.2],
      [500, 0.1],
    ] as const) {
      const difference = minimalDetectableDifference(tasks, differing);
      const [gain, loss] = [(differing + difference) / 2, (differing - difference) / 2];
      let found = 0;
      for (let run = 0; run < 1000; run += 1) {
        let [gained, lost] = [0, 0];
        for (let task = 0; task < tasks; task += 1) {
          const draw = random.next();
          if (draw < gain) gained += 1;
          else if (draw < gain + loss) lost += 1;
        }
        if (mcnemar(gained, lost) <= 0.05) found += 1;
      }
      // The exact test is a little more careful than the formula.
      expect(found / 1000, `${tasks} tasks`).toBeGreaterThan(0.7);
      expect(found / 1000, `${tasks} tasks`).toBeLessThan(0.9);
    }
  });

  it('falls with more tasks, and rises with more noise', () => {
    expect(minimalDetectableDifference(1000, 0.1)).toBeLessThan(minimalDetectableDifference(164, 0.1));
    expect(minimalDetectableDifference(164, 0.3)).toBeGreaterThan(minimalDetectableDifference(164, 0.1));
    expect(minimalDetectableDifference(164, 0)).toBeGreaterThan(0);
    expect(minimalDetectableDifference(2, 0.5)).toBe(1);
  });

  it('refuses no task and a share above 1', () => {
    expect(() => minimalDetectableDifference(0, 0.1)).toThrow(RangeError);
    expect(() => minimalDetectableDifference(10, 1.1)).toThrow(RangeError);
  });
});
