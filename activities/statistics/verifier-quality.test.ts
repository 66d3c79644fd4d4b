/** Figures of a verifier, held against closed forms and against truth that is known by construction. */
import { describe, expect, it } from 'vitest';
import { Random } from './random.js';
import {
  areaUnderCurve,
  consensusRates,
  consensusShare,
  countedRates,
  estimatedInterval,
  latentClassRates,
  knownRates,
  leaveOneOutAreas,
  mutationScore,
  passShares,
  qualityWeights,
  testSetFigures,
  weightedShares,
} from './verifier-quality.js';

/** A matrix by a letter each: p passes, anything else fails; one text per program. */
const matrix = (...rows: string[]): boolean[][] => rows.map((row) => [...row].map((letter) => letter === 'p'));

describe('a matrix of verdicts', () => {
  it.each([
    ['no program', [], 'at least one program and one test'],
    ['no test', [[]], 'at least one program and one test'],
    ['rows of different lengths', [[true, true], [true]], 'program 1 has 1 verdicts, and program 0 has 2'],
  ])('is refused with %s', (_, given, why) => {
    for (const figure of [
      passShares,
      leaveOneOutAreas,
      testSetFigures,
      qualityWeights,
      consensusShare,
      consensusRates,
      latentClassRates,
    ])
      expect(() => figure(given)).toThrow(why);
  });

  it('has the share of programs that pass each test', () => {
    expect(passShares(matrix('ppf', 'pff', 'pff', 'ppf'))).toEqual([1, 0.5, 0]);
  });
});

describe('the area under the curve', () => {
  it.each([
    ['a perfect order', [3, 2, 1, 0], [true, true, false, false], 1],
    ['a perfect order upside down', [0, 1, 2, 3], [true, true, false, false], 0],
    ['ties as half', [1, 1], [true, false], 0.5],
    ['one pair of four that is a tie', [0.9, 0.4, 0.4, 0.1], [true, true, false, false], 0.875],
    ['one positive among many', [5, 1, 2, 3, 4], [true, false, false, false, false], 1],
  ])('counts %s', (_, scores, positives, area) => {
    expect(areaUnderCurve(scores, positives)).toBeCloseTo(area, 12);
  });

  it('is the share of pairs in the right order, whatever the scores', () => {
    const random = new Random(5);
    for (let round = 0; round < 50; round += 1) {
      const scores = Array.from({ length: 12 }, () => random.integer(0, 5));
      const positives = Array.from({ length: 12 }, (_, at) => (at < 2 ? at === 0 : random.chance(0.4)));
      const [ups, downs] = [true, false].map((label) => scores.filter((_, at) => positives[at] === label)) as [
        number[],
        number[],
      ];
      const pairs = ups.flatMap((up) => downs.map((down) => (up > down ? 1 : up === down ? 0.5 : 0)));
      expect(areaUnderCurve(scores, positives)).toBeCloseTo(
        pairs.reduce<number>((sum, value) => sum + value, 0) / pairs.length,
        12,
      );
    }
  });

  it('is undefined without a positive or a negative, and refuses what is no number', () => {
    expect(areaUnderCurve([1, 2], [true, true])).toBeUndefined();
    expect(areaUnderCurve([1, 2], [false, false])).toBeUndefined();
    expect(() => areaUnderCurve([Number.NaN, 1], [true, false])).toThrow(RangeError);
    expect(() => areaUnderCurve([1], [true, false])).toThrow(RangeError);
  });
});

describe('the leave-one-out area of a test', () => {
  it('is 1 where the other tests order the programs as the test does, and 0 where they do the opposite', () => {
    expect(leaveOneOutAreas(matrix('ppf', 'ppf', 'ffp', 'ffp'))).toEqual([0.5, 0.5, 0]);
    expect(leaveOneOutAreas(matrix('ppp', 'fff'))).toEqual([1, 1, 1]);
  });

  it('does not see the test itself, and is 0.5 for a test with one verdict', () => {
    expect(leaveOneOutAreas(matrix('p', 'f'))).toEqual([0.5]);
    expect(leaveOneOutAreas(matrix('pp', 'pf'))[0]).toBe(0.5);
  });
});

describe('the figures of a set of tests', () => {
  it('count duplicates, constant tests, rank and programs that are told apart', () => {
    expect(testSetFigures(matrix('ppf', 'ppp'))).toEqual({
      ...{ programs: 2, tests: 3, duplicates: 1, constant: 2, rank: 2, discrimination: 1 },
    });
    // Of the six pairs of four programs, the two equal ones are one pair.
    expect(testSetFigures(matrix('pff', 'pff', 'fpf', 'ffp')).discrimination).toBeCloseTo(5 / 6, 12);
    expect(testSetFigures(matrix('pp')).discrimination).toBe(0);
  });

  it('have the rank over the rationals, which is not that over two elements', () => {
    // The sum of the first two is the third modulo 2 alone.
    expect(testSetFigures(matrix('pfp', 'ppf', 'fpp')).rank).toBe(3);
    expect(testSetFigures(matrix('fff', 'fff')).rank).toBe(0);
    // The fourth test is the sum of the others.
    expect(testSetFigures(matrix('pffp', 'fpfp', 'ffpp')).rank).toBe(3);
  });

  it('have the rank that a product of thin matrices must have', () => {
    const random = new Random(11);
    for (const size of [2, 5, 9]) {
      const distinct = Array.from({ length: size }, (_, at) => Array.from({ length: size }, (_, to) => to <= at));
      const rows = random.shuffle([...distinct, ...distinct, ...distinct]);
      expect(testSetFigures(rows).rank).toBe(size);
    }
  });
});

describe('rates where the truth is known', () => {
  it('are the shares of right and wrong programs that pass', () => {
    const rates = knownRates(
      [...Array<boolean>(9).fill(true), false, ...Array<boolean>(2).fill(true), ...Array<boolean>(8).fill(false)],
      [...Array<boolean>(10).fill(true), ...Array<boolean>(10).fill(false)],
    )!;
    expect([rates.truePositive.value, rates.falsePositive.value, rates.j.value]).toEqual([0.9, 0.2, 0.7]);
    // Newcombe 1998, method 10, of 9/10 against 2/10: the roots of the squared distances to the Wilson limits.
    const [low, high] = rates.j.interval;
    expect(low).toBeCloseTo(0.7 - Math.hypot(0.9 - 0.59585, 0.509838 - 0.2), 4);
    expect(high).toBeCloseTo(0.7 + Math.hypot(0.982124 - 0.9, 0.2 - 0.056682), 4);
  });

  it('follow from counts alone', () => {
    const [passed, right] = [
      [true, true, false, true, false],
      [true, true, true, false, false],
    ];
    expect(countedRates({ right: { passed: 2, all: 3 }, wrong: { passed: 1, all: 2 } })).toEqual(
      knownRates(passed, right),
    );
    expect(countedRates({ right: { passed: 0, all: 0 }, wrong: { passed: 1, all: 2 } })).toBeUndefined();
  });

  it('are undefined without right or without wrong programs', () => {
    expect(knownRates([true], [true])).toBeUndefined();
    expect(knownRates([], [])).toBeUndefined();
    expect(() => knownRates([true], [])).toThrow(RangeError);
  });

  it('have a mutation score: the share of wrong programs that some test fails', () => {
    expect(mutationScore(matrix('pp', 'pf', 'ff', 'fp'))?.value).toBe(0.75);
    expect(mutationScore([])).toBeUndefined();
  });
});

describe('weights by program quality', () => {
  it('have a closed form where all programs are alike: agreement, drawn to the prior of two programs', () => {
    const { tests, programs } = qualityWeights(matrix('pf', 'pf'));
    expect(programs).toEqual([1, 1]);
    expect(tests).toEqual([(2 + 0.2) / 4, 0.2 / 4]);
  });

  it('are a fixed point: weights of programs are shares of the weights of tests, and the other way round', () => {
    const given = matrix('pppf', 'pppf', 'ppff', 'fffp');
    const { tests, programs } = qualityWeights(given);
    const good = programs.reduce((sum, value) => sum + value, 0);
    // The weights of tests before the prior is taken out again.
    const bare = tests.map((weight) => (weight * (good + 2) - 0.2) / good);
    weightedShares(given, bare).forEach((share, at) => expect(share).toBeCloseTo(programs[at]!, 3));
  });

  it('tell a test that good programs fail from one of a question without good programs', () => {
    const failed = qualityWeights(matrix('pppf', 'pppf', 'pppf', 'pppf')).tests[3]!;
    const unknown = qualityWeights(matrix('pfff', 'fpff', 'ffpf', 'ffff')).tests[3]!;
    expect(failed).toBeLessThan(unknown);
    expect(qualityWeights(matrix('ff', 'ff')).tests).toEqual([0.1, 0.1]);
  });

  it('do not depend on the order of programs and tests', () => {
    const random = new Random(3);
    const given = Array.from({ length: 9 }, () => Array.from({ length: 6 }, () => random.chance(0.6)));
    const tests = qualityWeights(given).tests;
    qualityWeights(random.shuffle(given)).tests.forEach((weight, at) => expect(weight).toBeCloseTo(tests[at]!, 12));
    const turned = qualityWeights(given.map((row) => [...row].reverse())).tests.reverse();
    turned.forEach((weight, at) => expect(weight).toBeCloseTo(tests[at]!, 12));
  });

  it('weigh the tests that a program passes, and are refused where they are not as many', () => {
    expect(weightedShares(matrix('pf', 'pp', 'ff'), [0.9, 0.1])).toEqual([0.9, 1, 0]);
    expect(weightedShares(matrix('pp'), [0, 0])).toEqual([0]);
    expect(() => weightedShares(matrix('pp'), [1])).toThrow('1 weights for 2 tests');
  });

  it('go with the share of the matrix that the best consensus set covers', () => {
    expect(consensusShare(matrix('pp', 'pp', 'fp'))).toBeCloseTo(4 / 6, 12);
    expect(consensusShare(matrix('ff'))).toBe(0);
  });
});

/** Verdicts of tests that err independently of each other, with known rates. */
function planted(
  random: Random,
  of: { programs: number; rates: readonly (readonly [number, number])[]; share: number },
) {
  return Array.from({ length: of.programs }, () => {
    const right = random.chance(of.share);
    return of.rates.map(([truePositive, falsePositive]) => random.chance(right ? truePositive : falsePositive));
  });
}

describe('rates by a latent class', () => {
  it('find planted rates where programs are many', () => {
    const rates = [0.95, 0.9, 0.85, 0.9, 0.6, 0.9].map(
      (tpr, at) => [tpr, [0.2, 0.4, 0.1, 0.3, 0.5, 0.25][at]!] as const,
    );
    const found = latentClassRates(planted(new Random(1), { programs: 4_000, rates, share: 0.4 }))!;
    found.tests.forEach(({ truePositive, falsePositive }, at) => {
      expect(Math.abs(truePositive - rates[at]![0])).toBeLessThan(0.05);
      expect(Math.abs(falsePositive - rates[at]![1])).toBeLessThan(0.05);
    });
  });

  it.each([0.3, 0.5, 0.7])(
    'find the mean J of questions with 16 programs within 0.05, of which %d are right',
    (share) => {
      const random = new Random(7);
      const truths: number[] = [];
      const found: number[] = [];
      for (let question = 0; question < 60; question += 1) {
        const rates = Array.from({ length: 12 }, () => [0.8 + 0.2 * random.next(), 0.5 * random.next()] as const);
        const estimate = latentClassRates(planted(random, { programs: 16, rates, share }));
        if (!estimate) continue;
        truths.push(rates.reduce((sum, [tpr, fpr]) => sum + tpr - fpr, 0) / rates.length);
        found.push(estimate.j);
      }
      const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
      expect(found.length).toBeGreaterThan(55);
      expect(Math.abs(mean(found) - mean(truths))).toBeLessThan(0.05);
    },
  );

  it('are none where all programs pass as many tests', () => {
    expect(latentClassRates(matrix('pf', 'fp'))).toBeUndefined();
    expect(estimatedInterval(matrix('pp', 'pp'), latentClassRates, { seed: 1 })).toBeUndefined();
  });

  it('have an interval that holds them, and that a seed repeats', () => {
    const random = new Random(2);
    const rates = Array.from({ length: 8 }, () => [0.9, 0.2] as const);
    const given = planted(random, { programs: 16, rates, share: 0.5 });
    const [low, high] = estimatedInterval(given, latentClassRates, { seed: 4 })!;
    expect(low).toBeLessThan(latentClassRates(given)!.j);
    expect(high).toBeGreaterThan(latentClassRates(given)!.j);
    expect(estimatedInterval(given, latentClassRates, { seed: 4 })).toEqual([low, high]);
    expect(estimatedInterval(given, latentClassRates, { seed: 5 })).not.toEqual([low, high]);
  });
});

describe('rates by the consensus', () => {
  it('have a closed form: the best programs against the others', () => {
    // The first two pass the first three tests, the others two and one of them, and the fourth test.
    const found = consensusRates(matrix('pppf', 'pppf', 'ppfp', 'pfff'))!;
    expect(found.programs).toEqual([1, 1, 0, 0]);
    expect(found.tests.map(({ truePositive }) => truePositive)).toEqual([1, 1, 1, 0]);
    expect(found.tests.map(({ falsePositive }) => falsePositive)).toEqual([1, 0.5, 0, 0.5]);
    expect([found.truePositive, found.falsePositive, found.j]).toEqual([0.75, 0.5, 0.25]);
  });

  it('find J within 0.05 where wrong programs share their mistakes', () => {
    const random = new Random(9);
    const errors = Array.from({ length: 60 }, () => {
      const right = Array.from({ length: 16 }, () => random.chance(0.85));
      const wrong = Array.from({ length: 4 }, () => right.map((is) => (is ? random.chance(0.5) : random.chance(0.05))));
      // One mistake is more frequent than the right answer.
      const drawn = Array.from({ length: 16 }, () => {
        const place = random.next();
        return place < 0.3 ? right : wrong[place < 0.7 ? 0 : random.integer(1, 3)]!;
      });
      const passes = (row: boolean[]): number => row.filter(Boolean).length / row.length;
      const others = drawn.filter((row) => row !== right);
      const truth = passes(right) - others.reduce((sum, row) => sum + passes(row), 0) / others.length;
      return consensusRates(drawn)!.j - truth;
    });
    expect(Math.abs(errors.reduce((sum, error) => sum + error, 0) / errors.length)).toBeLessThan(0.05);
  });

  it('are none where all programs are alike', () => {
    expect(consensusRates(matrix('pf', 'pf'))).toBeUndefined();
    expect(consensusRates(matrix('ff', 'ff'))).toBeUndefined();
  });
});
