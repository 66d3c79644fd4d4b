/** The quality of verifiers in a report, from verdicts of sampled programs. */
import { describe, expect, it } from 'vitest';
import type { TestOutcome } from '../../workflows/contract/index.js';
import { verifierOf } from '../statistics/verifier-quality.js';
import { VerifierTallies } from './verifiers.js';

const outcomes = (...rows: string[]): TestOutcome[][] =>
  rows.map((row) => [...row].map((letter) => ({ status: letter === 'p' ? 'pass' : 'assertion_failed' })));

describe('the verifier of a question', () => {
  it('has rates of the best programs against the others', () => {
    expect(verifierOf(outcomes('pppf', 'pppf', 'ppff', 'pfff'))).toEqual({
      ...{ programs: 4, tests: 4, duplicates: 0, constant: 2, rank: 3, discrimination: 5 / 6 },
      ...{ truePositive: 0.75, falsePositive: 0.375, j: 0.375 },
    });
  });

  it('has no rates where all programs are alike, and does not exist without tests', () => {
    expect(verifierOf(outcomes('pp', 'pp'))).not.toHaveProperty('j');
    expect(verifierOf([])).toBeUndefined();
    expect(verifierOf([[]])).toBeUndefined();
    expect(verifierOf([...outcomes('pp'), ...outcomes('p')])).toBeUndefined();
  });

  it('adds up to means with intervals, and to a histogram of J', () => {
    const tallies = new VerifierTallies();
    expect(tallies.result()).toBeUndefined();
    for (const given of [outcomes('pppf', 'pppf', 'ppff', 'pfff'), outcomes('p', 'f'), outcomes('pp', 'pp')])
      tallies.add(verifierOf(given)!);
    const result = tallies.result()!;
    expect([result.questions, result.estimated]).toEqual([3, 2]);
    expect(result.means.j?.mean).toBeCloseTo((0.375 + 1) / 2, 12);
    expect(result.means.j?.interval).toEqual([0.375, 1]);
    expect(result.means.tests?.mean).toBeCloseTo(7 / 3, 12);
    expect(result.histogram.filter(({ count }) => count > 0)).toEqual([
      { from: 0.3, to: 0.4, count: 1 },
      { from: 0.9, to: 1, count: 1 },
    ]);
  });
});
