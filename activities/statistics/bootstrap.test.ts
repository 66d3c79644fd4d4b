/** The bootstrap against closed forms, and by what could go wrong: seeds, clusters, one unit, equal values. */
import { describe, expect, it } from 'vitest';
import { bootstrapDistributions, bootstrapMeans, RESAMPLES } from './bootstrap.js';
import { Random } from './random.js';

const random = new Random(5);
const values = Array.from({ length: 200 }, () => random.next());

describe('bootstrapMeans', () => {
  it('has the normal interval where the central limit theorem holds', () => {
    const { x } = bootstrapMeans({ x: values }, { seed: 1 });
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const error = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0)) / values.length;
    expect(x.mean).toBeCloseTo(mean, 12);
    expect((x.interval[0] - mean) / error).toBeCloseTo(-1.96, 1);
    expect((x.interval[1] - mean) / error).toBeCloseTo(1.96, 1);
  });

  it('is decided by the seed alone, and columns do not change each other', () => {
    const alone = bootstrapMeans({ x: values }, { seed: 7 }).x;
    const together = bootstrapMeans({ y: values.map((value) => -value), x: values }, { seed: 7 });
    expect(together.x).toEqual(alone);
    expect(together.y.interval[0]).toBeCloseTo(-alone.interval[1], 12);
    expect(bootstrapMeans({ x: values }, { seed: 8 }).x.interval).not.toEqual(alone.interval);
  });

  it('draws clusters whole: copies of a unit add no certainty', () => {
    const single = bootstrapMeans({ x: values }, { seed: 3 }).x;
    const copied = values.flatMap((value) => [value, value, value]);
    const clusters = values.flatMap((_, at) => [`q${at}`, `q${at}`, `q${at}`]);
    expect(bootstrapMeans({ x: copied }, { seed: 3, clusters }).x.interval[0]).toBeCloseTo(single.interval[0], 12);
    const width = ([low, high]: [number, number]): number => high - low;
    const pretended = bootstrapMeans({ x: copied }, { seed: 3 }).x;
    expect(width(pretended.interval) / width(single.interval)).toBeCloseTo(1 / Math.sqrt(3), 1);
  });

  it('weighs clusters of different sizes by their values', () => {
    const { x } = bootstrapMeans({ x: [1, 1, 1, 0] }, { seed: 1, clusters: ['a', 'a', 'a', 'b'] });
    expect(x.mean).toBe(0.75);
    expect(x.interval).toEqual([0, 1]);
  });

  it('has a point for one unit or equal values, and a p-value of 1 where every draw is 0', () => {
    expect(bootstrapMeans({ x: [0.4] }, { seed: 1 }).x).toMatchObject({ mean: 0.4, interval: [0.4, 0.4] });
    expect(bootstrapMeans({ x: [0, 0, 0] }, { seed: 1 }).x).toEqual({ mean: 0, interval: [0, 0], p: 1 });
    expect(bootstrapMeans({ x: [1, 1, 1] }, { seed: 1 }).x.p).toBeCloseTo(2 / (RESAMPLES + 1), 12);
  });

  it('has a p-value near that of a t-test', () => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const error = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0)) / values.length;
    // Two standard errors from 0: p = 0.0455.
    const shifted = values.map((value) => value - mean + 2 * error);
    expect(Math.abs(bootstrapMeans({ x: shifted }, { seed: 11 }).x.p - 0.0455)).toBeLessThan(0.01);
  });

  it('refuses none, different lengths, and values that are no numbers', () => {
    expect(() => bootstrapMeans({ x: [] }, { seed: 1 })).toThrow(RangeError);
    expect(() => bootstrapMeans({ x: [1], y: [1, 2] }, { seed: 1 })).toThrow('y has 2 values, and 1 are expected');
    expect(() => bootstrapMeans({ x: [1, 2] }, { seed: 1, clusters: ['a'] })).toThrow(RangeError);
    expect(() => bootstrapMeans({ x: [1, Number.NaN] }, { seed: 1 })).toThrow('no finite number');
  });
});

describe('bootstrapDistributions', () => {
  it('holds one mean per draw', () => {
    const { x } = bootstrapDistributions({ x: [0, 1] }, { seed: 2, resamples: 400 });
    expect(x).toHaveLength(400);
    expect(new Set(x)).toEqual(new Set([0, 0.5, 1]));
  });
});
