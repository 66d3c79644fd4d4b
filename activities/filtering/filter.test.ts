/** The oracle filter and the split: which test cases and questions stay, and on which side they are. */
import { describe, expect, it } from 'vitest';
import { python } from '../languages/python.js';
import { filterQuestion, splitQuestions } from './filter.js';
import { Random } from '../statistics/random.js';
import { VERDICTS, type QuestionRow, type Verdict } from '../../workflows/contract/index.js';

const RULE = { minimumTestCases: 5, minimumDistinctOutputs: 2 };

function questionOf(tests: readonly string[]): QuestionRow {
  return {
    id: 'q-1',
    seedId: 's-1',
    source: 'own',
    question: 'What?',
    entryPoint: 'f',
    reference: 'def f(x): ...',
    testCases: tests.map((test) => ({ test })),
  };
}

const asserts = (count: number, distinct = count): string[] =>
  Array.from({ length: count }, (_, index) => `assert f(${index}) == ${index % distinct}`);
const outcomes = (statuses: readonly Verdict[]) => statuses.map((status) => ({ status }));
const passes = (count: number) => outcomes(Array.from({ length: count }, () => 'pass' as const));

describe('filterQuestion', () => {
  it('keeps what the oracle passes, in the order of the teacher', () => {
    const tests = asserts(8);
    const statuses: Verdict[] = ['pass', 'assertion_failed', 'pass', 'pass', 'timeout', 'pass', 'raised', 'pass'];
    expect(filterQuestion(questionOf(tests), outcomes(statuses), RULE)).toEqual({
      kept: [0, 2, 3, 5, 7].map((index) => tests[index]),
    });
  });

  it.each(VERDICTS.filter((status) => status !== 'pass'))('drops a test case with the verdict %s', (status) => {
    const result = filterQuestion(questionOf(asserts(6)), [...passes(5), { status }], RULE);
    expect(result).toEqual({ kept: asserts(6).slice(0, 5) });
  });

  it('drops a question below the minimum of test cases, and not at it', () => {
    expect(filterQuestion(questionOf(asserts(5)), passes(5), RULE)).not.toHaveProperty('dropped');
    expect(filterQuestion(questionOf(asserts(4)), passes(4), RULE)).toEqual({
      dropped: 'tooFewTestCases',
      kept: asserts(4),
    });
    expect(filterQuestion(questionOf(asserts(5)), [...passes(4), { status: 'killed' }], RULE)).toMatchObject({
      dropped: 'tooFewTestCases',
    });
  });

  it('drops a question that a constant answers', () => {
    expect(filterQuestion(questionOf(asserts(6, 1)), passes(6), RULE)).toMatchObject({
      dropped: 'tooFewDistinctOutputs',
    });
    expect(filterQuestion(questionOf(asserts(6, 2)), passes(6), RULE)).not.toHaveProperty('dropped');
  });

  it('counts distinct outputs over kept test cases only', () => {
    const tests = [...asserts(5, 1), 'assert f(9) == 9'];
    expect(filterQuestion(questionOf(tests), [...passes(5), { status: 'assertion_failed' }], RULE)).toMatchObject({
      dropped: 'tooFewDistinctOutputs',
    });
  });

  it('decides on what tests are, and not on how they are written', () => {
    const spellings = [
      'assert f(1) == 2',
      'assert f(1)==2',
      'assert 2 == f(1)',
      'assert f(2) == 2.0',
      'assert f(3) == 1',
    ];
    const normal = ['f(1) == 2', 'f(1) == 2', 'f(1) == 2', 'f(2) == 2', 'f(3) == 1'].map((test) => ({
      test,
      output: test.slice(-1),
    }));
    const rule = { minimumTestCases: 2, minimumDistinctOutputs: 2 };
    expect(filterQuestion(questionOf(spellings), passes(5), rule, normal)).toEqual({
      kept: [spellings[0], spellings[3], spellings[4]],
    });
    expect(filterQuestion(questionOf(spellings.slice(0, 4)), passes(4), rule, normal.slice(0, 4))).toEqual({
      dropped: 'tooFewDistinctOutputs',
      kept: [spellings[0], spellings[3]],
    });
  });

  it('says where a question is thin because of faults of its checkers', () => {
    const faults = [...passes(3), ...outcomes(['checker_failed', 'checker_failed'])];
    expect(filterQuestion(questionOf(asserts(5)), faults, RULE)).toEqual({
      dropped: 'checkerFailed',
      kept: asserts(5).slice(0, 3),
    });
    expect(
      filterQuestion(questionOf(asserts(5)), [...passes(3), ...outcomes(['checker_failed', 'raised'])], RULE),
    ).toEqual({ dropped: 'tooFewTestCases', kept: asserts(5).slice(0, 3) });
  });

  it('keeps tests that are data as they are, and drops the same one twice', () => {
    const tests = [{ call: 'f(1)' }, { call: 'f(2)' }, { call: 'f(1)' }];
    const question = { ...questionOf([]), testCases: tests.map((test) => ({ test })), checker: 'def check(): ...' };
    expect(filterQuestion(question, passes(3), { minimumTestCases: 2, minimumDistinctOutputs: 2 })).toEqual({
      kept: tests.slice(0, 2),
    });
    // One answer to all of them is a constant.
    const normal = tests.map(({ call }) => ({ test: call, output: '7' }));
    expect(
      filterQuestion(question, passes(3), { minimumTestCases: 2, minimumDistinctOutputs: 2 }, normal),
    ).toMatchObject({ dropped: 'tooFewDistinctOutputs' });
  });

  it('names a question without test cases', () => {
    expect(filterQuestion(questionOf([]), [], RULE)).toEqual({ dropped: 'noTestCases', kept: [] });
  });

  it('refuses outcomes that do not belong to the test cases', () => {
    expect(() => filterQuestion(questionOf(asserts(5)), passes(4), RULE)).toThrow(RangeError);
  });
});

describe('expectedOutput', () => {
  it.each([
    ['assert f(1) == 2', '2'],
    ['assert f(1) ==  [1, 2]', '[1, 2]'],
    ['assert f(a == b) == True', 'True'],
    ['assert abs(f(2) - 0.5) < 1e-6', '0.5'],
    ['assert f(1)', 'assert f(1)'],
  ])('of %s is %s', (test, output) => {
    expect(python.expectedOutput(test)).toBe(output);
  });
});

describe('splitQuestions', () => {
  const rule = { heldOutShare: 0.25, nearDuplicate: 0.8, salt: '' };
  const words = [
    'list',
    'number',
    'sum',
    'tree',
    'path',
    'word',
    'count',
    'order',
    'graph',
    'matrix',
    'digit',
    'prefix',
    'sort',
    'merge',
    'limit',
    'color',
  ];

  /** Questions of random words: any two differ in most of their shingles. */
  function corpus(size: number, seed: number) {
    const random = new Random(seed);
    return Array.from({ length: size }, (_, index) => ({
      id: `q-${seed}-${index}`,
      question: Array.from({ length: 14 }, () => random.pick(words)).join(' '),
      reference: `def f${index}(x): return ${Array.from({ length: 8 }, () => random.pick(words)).join(' + ')}`,
    }));
  }

  it('puts about the asked share on the held-out side', () => {
    const sides = splitQuestions(corpus(400, 1), rule);
    const heldOut = sides.filter((side) => side === 'heldOut').length;
    expect(heldOut).toBeGreaterThan(70);
    expect(heldOut).toBeLessThan(130);
    expect(splitQuestions(corpus(20, 1), { ...rule, heldOutShare: 0 })).toEqual(Array(20).fill('train'));
    expect(splitQuestions(corpus(20, 1), { ...rule, heldOutShare: 1 })).toEqual(Array(20).fill('heldOut'));
  });

  it('does not depend on the order of the questions, of near-duplicates either', () => {
    const questions = [...corpus(60, 2), ...corpus(60, 2).map(({ id, ...row }) => ({ id: `a copy of ${id}`, ...row }))];
    const sides = splitQuestions(questions, rule);
    const sideById = new Map(questions.map(({ id }, index) => [id, sides[index]]));
    const shuffled = new Random(3).shuffle(questions);
    splitQuestions(shuffled, rule).forEach((side, index) => expect(side).toBe(sideById.get(shuffled[index]!.id)));
  });

  it('is moved by the salt and not by a second run', () => {
    const questions = corpus(80, 4);
    expect(splitQuestions(questions, rule)).toEqual(splitQuestions(questions, rule));
    expect(splitQuestions(questions, { ...rule, salt: 'again' })).not.toEqual(splitQuestions(questions, rule));
  });

  it('moves no other question when new ones come', () => {
    const questions = corpus(60, 5);
    const more = [...corpus(60, 6), ...questions];
    expect(splitQuestions(more, rule).slice(60)).toEqual(splitQuestions(questions, rule));
  });

  it('keeps near-duplicates on one side, whatever their ids', () => {
    const originals = corpus(60, 8);
    // One word of some 22 is another: well above a similarity of 0.5.
    const copies = originals.map(({ id, question, reference }) => ({
      id: `copy of ${id}`,
      question: question.replace(/\w+$/, 'zebra'),
      reference,
    }));
    const sides = splitQuestions([...originals, ...copies], { ...rule, heldOutShare: 0.5, nearDuplicate: 0.5 });
    expect(sides.slice(60)).toEqual(sides.slice(0, 60));
    // Without the rule the copies fall on the side of their own ids.
    const apart = splitQuestions([...originals, ...copies], { ...rule, heldOutShare: 0.5, nearDuplicate: 1 });
    expect(apart.slice(60)).not.toEqual(apart.slice(0, 60));
  });
});
