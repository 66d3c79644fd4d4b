/** Sentences about two policies: a difference is claimed only where the intervals do not overlap. */
import { describe, expect, it, test } from 'vitest';
import type { EvaluationResult } from '../../workflows/contract/metrics.js';
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

  it('compares each policy with the first one of its benchmark', () => {
    const all = ['base', 'fineTuned', 'final'].map((policy) => result(policy, 0.5, [0.4, 0.6]));
    expect(comparisons(all)).toHaveLength(2);
    expect(comparisons([...all, { ...all[0]!, benchmark: 'other' }])).toHaveLength(2);
  });
});
