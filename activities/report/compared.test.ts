/** Sentences about two policies: a difference is claimed only where the intervals do not overlap. */
import { describe, expect, it, test } from 'vitest';
import type { Comparison, EvaluationResult } from '../../workflows/contract/metrics.js';
import { compareGreedy, comparisons } from './compared.js';

function result(policy: string, greedy: number | null, greedyInterval: [number, number] | null): EvaluationResult {
  return {
    benchmark: 'heldOut',
    policy,
    tasks: 24,
    samples: 8,
    greedy,
    greedyInterval,
    mean: 0.4125,
    passAtK: { '1': 0.4125, '8': 0.75 },
    bestOfN: { '8': 0.625 },
    oracle: 0.75,
  };
}

describe('what the report claims', () => {
  test.each([
    [
      [0.4, 0.6],
      [0.55, 0.75],
      /no difference shown.*the intervals overlap, so this run shows neither a gain nor a loss/,
    ],
    [[0.4, 0.6], [0.6, 0.75], /no difference shown/],
    [[0.4, 0.6], [0.61, 0.75], /: higher\..*the intervals do not overlap/],
    [[0.4, 0.6], [0.2, 0.39], /: lower\..*the intervals do not overlap/],
  ] as [[number, number], [number, number], RegExp][])('before %j, after %j', (before, after, text) => {
    const statement = compareGreedy(result('base', 0.5, before), result('final', (after[0] + after[1]) / 2, after));
    expect(statement).toMatch(text);
    expect(statement).toContain('24 tasks');
  });

  it('compares nothing without a greedy result', () => {
    expect(compareGreedy(result('base', null, null), result('final', 0.5, [0.3, 0.7]))).toContain('not compared');
  });

  it('says what paired tests say, where there are some, and falls back to intervals elsewhere', () => {
    const all = ['base', 'final'].map((policy) => result(policy, 0.5, [0.4, 0.6]));
    const paired: Comparison = {
      benchmark: 'heldOut',
      before: 'base',
      after: 'final',
      measure: 'greedy',
      tasks: 164,
      notCompared: 0,
      rateBefore: 0.4,
      rateAfter: 0.5,
      difference: 0.1,
      interval: [0.04, 0.14],
      gained: 14,
      lost: 0,
      p: 0.0001,
      adjustedP: 0.0002,
      minimalDetectable: 0.05,
      verdict: 'higher',
    };
    const [tested, ...more] = comparisons([...all, ...all.map((each) => ({ ...each, benchmark: 'other' }))], [paired]);
    expect(tested).toContain('14 gained, 0 lost');
    expect(more).toEqual([expect.stringContaining('final against base on other: no difference shown')]);
  });

  it('compares each policy with the first one of its benchmark', () => {
    const all = ['base', 'fineTuned', 'final'].map((policy) => result(policy, 0.5, [0.4, 0.6]));
    expect(comparisons(all)).toHaveLength(2);
    expect(comparisons([...all, { ...all[0]!, benchmark: 'other' }])).toHaveLength(2);
  });
});
