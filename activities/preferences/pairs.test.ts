/** Preference pairs: the paper's rule, at its boundaries and against a plain restatement of it in whole numbers. */
import { describe, expect, it } from 'vitest';
import { byQuestion, pairPrograms, type PairRule, type QuestionPrograms } from './pairs.js';
import { Random } from '../statistics/random.js';
import { PairRow, type ProgramRow } from '../../workflows/contract/index.js';

const PAPER: PairRule = { labels: 'rate', minimumBest: 0.8, minimumGap: 0.4, worstAbove: 0 };

function questionOf(
  rates: readonly number[],
  texts: readonly string[] = rates.map((_, index) => `program ${index}`),
): QuestionPrograms {
  return {
    questionId: 'q-1',
    question: 'What?',
    split: 'train',
    programs: rates.map((passRate, index) => ({ id: `p-${index}`, program: texts[index]!, passRate })),
  };
}

const ratesOf = (rates: readonly number[], rule: PairRule = PAPER): [number, number][] =>
  pairPrograms(questionOf(rates), rule).pairs.map(({ chosenPassRate, rejectedPassRate }) => [
    chosenPassRate,
    rejectedPassRate,
  ]);

describe('pairPrograms', () => {
  it.each([
    ['best of exactly 0.8', [0.8, 0.1], [[0.8, 0.1]]],
    ['best just below 0.8', [0.79, 0.1], []],
    ['gap of exactly 0.4, which is below 0.4 in binary', [0.9, 0.5], [[0.9, 0.5]]],
    ['gap of exactly 0.4 from 1', [1, 0.6], [[1, 0.6]]],
    ['gap just below 0.4', [1, 0.61], []],
    ['rejected program that passes nothing', [1, 0], []],
    ['rejected program that passes one of many', [1, 0.01], [[1, 0.01]]],
    ['equal rates', [1, 1], []],
    ['one program', [1], []],
  ])('%s', (_name, rates, expected) => {
    expect(ratesOf(rates)).toEqual(expected);
  });

  it('asks for more than the thresholds where they are exclusive, for all rates of up to 20 tests', () => {
    const exclusive: PairRule = { ...PAPER, thresholds: 'exclusive' };
    for (let tests = 2; tests <= 20; tests += 1) {
      for (let good = 0; good <= tests; good += 1) {
        for (let bad = 0; bad <= good; bad += 1) {
          const allowed = 10 * good > 8 * tests && bad > 0 && 10 * (good - bad) > 4 * tests;
          const of = `${good} and ${bad} of ${tests}`;
          expect(ratesOf([good / tests, bad / tests], exclusive).length, of).toBe(allowed ? 1 : 0);
        }
      }
    }
    const strict: PairRule = { ...PAPER, labels: 'strict' };
    for (const rates of [
      [1, 0.5],
      [1, 1],
      [0.9, 0.1],
    ])
      expect(ratesOf(rates, { ...strict, thresholds: 'exclusive' })).toEqual(ratesOf(rates, strict));
  });

  it('reads 0.9 - 0.5 >= 0.4 as the integers mean it, for all rates of up to 20 tests', () => {
    for (let tests = 2; tests <= 20; tests += 1) {
      for (let good = 0; good <= tests; good += 1) {
        for (let bad = 0; bad <= good; bad += 1) {
          // Both sides times 10 x tests: no division, no rounding.
          const allowed = 10 * good >= 8 * tests && bad > 0 && 10 * (good - bad) >= 4 * tests;
          expect(ratesOf([good / tests, bad / tests]).length, `${good} and ${bad} of ${tests}`).toBe(allowed ? 1 : 0);
        }
      }
    }
  });

  it('gives all pairs that the rule allows and no other, the widest gap first', () => {
    const random = new Random(7);
    for (let round = 0; round < 200; round += 1) {
      const rates = Array.from({ length: random.integer(2, 12) }, () => random.integer(0, 15) / 15);
      const expected = rates.flatMap((good, i) =>
        rates.flatMap((bad, j) =>
          good >= 0.8 - 1e-9 && bad > 1e-9 && good - bad >= 0.4 - 1e-9 ? [`p-${i}>p-${j}`] : [],
        ),
      );
      const { pairs } = pairPrograms(questionOf(rates), PAPER);
      const textOf = (text: string): string => `p-${text.slice('program '.length)}`;
      expect(pairs.map(({ chosen, rejected }) => `${textOf(chosen)}>${textOf(rejected)}`).sort()).toEqual(
        expected.sort(),
      );
      const gaps = pairs.map(({ chosenPassRate, rejectedPassRate }) => chosenPassRate - rejectedPassRate);
      expect(gaps.every((gap, index) => index === 0 || gap <= gaps[index - 1]!)).toBe(true);
      for (const pair of pairs) expect(PairRow.safeParse(pair).success).toBe(true);
      expect(new Set(pairs.map(({ id }) => id)).size).toBe(pairs.length);
    }
  });

  it('pairs what passes everything with what does not under strict labels, whatever the thresholds say', () => {
    expect(ratesOf([1, 0.95, 0, 1], { ...PAPER, labels: 'strict' })).toEqual([
      [1, 0],
      [1, 0],
      [1, 0.95],
      [1, 0.95],
    ]);
    expect(pairPrograms(questionOf([0.95, 0]), { ...PAPER, labels: 'strict' })).toEqual({
      pairs: [],
      skipped: { noProgramAboveBest: 1 },
    });
    expect(pairPrograms(questionOf([1, 1]), { ...PAPER, labels: 'strict' })).toEqual({
      pairs: [],
      skipped: { noProgramBelowGap: 1 },
    });
  });

  it('counts pairs of the same two texts once', () => {
    const { pairs, skipped } = pairPrograms(questionOf([1, 1, 0.2, 0.2], ['good', 'good', 'bad', 'bad']), PAPER);
    expect(pairs.map(({ chosen, rejected }) => [chosen, rejected])).toEqual([['good', 'bad']]);
    expect(skipped).toEqual({ duplicatePrograms: 3 });
  });

  it('does not take two texts for others that read the same when joined', () => {
    const { pairs } = pairPrograms(questionOf([1, 1, 0.2, 0.2], ['a', 'ab', 'bc', 'c']), PAPER);
    expect(pairs).toHaveLength(4);
  });

  it('keeps the widest gaps under a cap, ties in program order, and counts the rest', () => {
    const { pairs, skipped } = pairPrograms(questionOf([0.8, 1, 0.3, 0.1]), { ...PAPER, maximumPerQuestion: 2 });
    expect(pairs.map(({ chosen, rejected }) => [chosen, rejected])).toEqual([
      ['program 1', 'program 3'],
      ['program 0', 'program 3'],
    ]);
    expect(skipped).toEqual({ overMaximum: 2 });
  });

  it('says by which condition a question gives no pair', () => {
    expect(pairPrograms(questionOf([0.7, 0.1]), PAPER).skipped).toEqual({ noProgramAboveBest: 1 });
    expect(pairPrograms(questionOf([]), PAPER).skipped).toEqual({ noProgramAboveBest: 1 });
    expect(pairPrograms(questionOf([1, 0.9, 0]), PAPER).skipped).toEqual({ noProgramBelowGap: 1 });
  });

  it('takes worstAbove as a strict bound', () => {
    expect(ratesOf([1, 0.2], { ...PAPER, worstAbove: 0.2 })).toEqual([]);
    expect(ratesOf([1, 0.25], { ...PAPER, worstAbove: 0.2 })).toEqual([[1, 0.25]]);
  });

  it('carries the question, and the same ids on every run', () => {
    const [pair] = pairPrograms(questionOf([1, 0.2]), PAPER).pairs;
    expect(pair).toMatchObject({
      questionId: 'q-1',
      question: 'What?',
      split: 'train',
      chosen: 'program 0',
      rejected: 'program 1',
    });
    expect(pairPrograms(questionOf([1, 0.2]), PAPER).pairs[0]).toEqual(pair);
  });
});

describe('the tests of a question as a verifier', () => {
  const verifier = { programs: 2, tests: 3, duplicates: 1, constant: 0, rank: 2, discrimination: 0.5, j: 0.5 };
  const question = { ...questionOf([1, 0.2]), verifier };
  const skipped = (rule: PairRule['verifier'], of: QuestionPrograms = question): unknown =>
    pairPrograms(of, { ...PAPER, verifier: rule }).skipped;

  it('stand in its pairs, and are weak where a figure is below what is asked, or is not known', () => {
    const [pair] = pairPrograms(question, { ...PAPER, verifier: {} }).pairs;
    expect(PairRow.parse(pair).verifier).toEqual(verifier);
    expect(pairPrograms(questionOf([1, 0.2]), PAPER).pairs[0]).not.toHaveProperty('verifier');
    const weak = { weakVerifier: 1 };
    expect(skipped({ minimumDiscrimination: 0.5, minimumRank: 2, minimumJ: 0.5 })).toEqual({});
    expect(skipped({ minimumDiscrimination: 0.51 })).toEqual(weak);
    expect(skipped({ minimumRank: 3 })).toEqual(weak);
    expect(skipped({ minimumJ: 0.6 })).toEqual(weak);
    expect(skipped({ minimumMutationScore: 0 })).toEqual(weak);
    expect(
      skipped({ minimumMutationScore: 0.9 }, { ...question, verifier: { ...verifier, mutationScore: 0.9 } }),
    ).toEqual({});
    expect(skipped({ minimumJ: -1 }, questionOf([1, 0.2]))).toEqual(weak);
    expect(skipped({}, questionOf([1, 0.2]))).toEqual({});
  });
});

describe('byQuestion', () => {
  const row = (questionId: string, index: number, rest: Partial<ProgramRow> = {}): ProgramRow => ({
    id: `${questionId}/${index}`,
    questionId,
    split: 'train',
    question: 'What?',
    index,
    program: `${index}`,
    finish: 'stop',
    passRate: 0.5,
    outcomes: [{ status: 'pass' }, { status: 'timeout' }],
    ...rest,
  });
  it('has what the tests are worth to the programs of all samplers, where somebody asks', async () => {
    async function* all(): AsyncGenerator<ProgramRow> {
      yield* [row('a', 0, { sampler: '7b' }), row('a', 1, { sampler: '32b' }), row('b', 0)];
    }
    const asked: [string, number][] = [];
    const verifier = { programs: 2, tests: 2, duplicates: 0, constant: 2, rank: 1, discrimination: 0 };
    const found: unknown[] = [];
    for await (const question of byQuestion(all(), 'kept', (id, outcomes) => {
      asked.push([id, outcomes.length]);
      return id === 'a' ? verifier : undefined;
    }))
      found.push([question.questionId, question.verifier]);
    expect(asked).toEqual([
      ['a', 2],
      ['b', 1],
    ]);
    expect(found).toEqual([
      ['a', verifier],
      ['a', verifier],
      ['b', undefined],
    ]);
  });

  const grouped = async (rows: ProgramRow[], denominator: 'kept' | 'all' = 'kept'): Promise<[string, number[]][]> => {
    const questions: [string, number[]][] = [];
    async function* all(): AsyncGenerator<ProgramRow> {
      yield* rows;
    }
    for await (const { questionId, programs } of byQuestion(all(), denominator))
      questions.push([questionId, programs.map(({ passRate }) => passRate)]);
    return questions;
  };

  it('keeps the programs of several samplers of one question apart', async () => {
    const [first, second] = [{ sampler: '7b' }, { sampler: '32b' }];
    const rows = [row('a', 0, first), row('a', 1, second), row('a', 2, { ...first, passRate: 1 }), row('b', 0)];
    expect(await grouped(rows)).toEqual([
      ['a', [0.5, 1]],
      ['a', [0.5]],
      ['b', [0.5]],
    ]);
  });

  it('keeps the order of questions and programs', async () => {
    expect(await grouped([row('b', 0), row('b', 1), row('a', 0)])).toEqual([
      ['b', [0.5, 0.5]],
      ['a', [0.5]],
    ]);
    expect(await grouped([])).toEqual([]);
  });

  it('divides by all test cases where asked, and says which row does not tell their number', async () => {
    expect(await grouped([row('a', 0, { testCases: 8 })], 'all')).toEqual([['a', [0.125]]]);
    await expect(grouped([row('a', 0)], 'all')).rejects.toThrow(
      "denominator is 'all', and the row of program a/0 has no testCases",
    );
  });

  it('refuses a question whose programs stand apart', async () => {
    await expect(grouped([row('a', 0), row('b', 0), row('a', 1)])).rejects.toThrow(
      'the programs of question a do not stand together: sort the rows by questionId',
    );
  });
});
