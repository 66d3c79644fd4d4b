/** The figures of one policy on one benchmark, from its rows. */
import { describe, expect, it } from 'vitest';
import { adjusted, comparePolicies, comparisonsOf, evaluate, evaluateParts } from './figures.js';
import { Comparison, EvaluationResult, type EvaluationRow } from '../../workflows/contract/index.js';
import { Random } from '../statistics/random.js';

function row(
  taskId: string,
  mode: EvaluationRow['mode'],
  sample: number,
  passed: boolean,
  score?: number,
): EvaluationRow {
  return {
    id: `${taskId}-${mode}-${sample}`,
    policy: 'trained',
    benchmark: 'heldOut',
    taskId,
    mode,
    sample,
    question: '',
    program: '',
    response: '',
    programPrefix: '',
    finish: 'stop',
    outcomes: [{ status: passed ? 'pass' : 'raised' }],
    passed,
    ...(score === undefined ? {} : { score }),
  };
}

/** Greedy answer and samples with scores of one task. */
const task = (id: string, greedy: boolean, samples: [boolean, number?][]): EvaluationRow[] => [
  row(id, 'greedy', 0, greedy),
  ...samples.map(([passed, score], index) => row(id, 'sample', index, passed, score)),
];

const CONFIG = { passAtK: [1, 2, 4], bestOf: [2, 4] };

describe('a task that the policy cannot read', () => {
  it('counts as failed, in a number of its own, and as no answer that a limit cut', () => {
    const unread = task('b', false, [[false], [false]]).map((each): EvaluationRow => ({
      ...each,
      finish: 'promptTooLong',
    }));
    const result = evaluate([...task('a', true, [[true], [true]]), ...unread], { passAtK: [1] });
    expect(result).toMatchObject({ tasks: 2, greedy: 0.5, mean: 0.5, promptTooLong: 1 });
    expect(result.truncated).toEqual({ greedy: 0, samples: 0 });
    expect(evaluate(task('a', true, [[true]]), { passAtK: [1] })).not.toHaveProperty('promptTooLong');
  });
});

describe('evaluateParts', () => {
  const rows = [...task('a', true, [[true], [false]]), ...task('b', false, [[true], [true]]), ...task('c', true, [])];

  it('gives every figure for all, clean and suspect tasks', () => {
    const { clean, suspect, ...all } = evaluateParts(rows, { passAtK: [1] }, new Set(['a']));
    expect(all).toEqual(evaluate(rows, { passAtK: [1] }));
    expect(clean).toMatchObject({ tasks: 2, greedy: 0.5 });
    expect(suspect).toMatchObject({ tasks: 1, greedy: 1, mean: 0.5, passAtK: { '1': 0.5 } });
    expect(EvaluationResult.safeParse({ ...all, clean, suspect }).success).toBe(true);
  });

  it('has no figure of a part without a task', () => {
    expect(evaluateParts(rows, { passAtK: [1] }, new Set())).toMatchObject({ clean: { tasks: 3 }, suspect: null });
  });

  it('compares two policies on each part, and allows for the number of comparisons in it', () => {
    const policy = (name: string, passed: boolean): EvaluationRow[] =>
      ['a', 'b', 'c'].map((id) => ({ ...row(id, 'greedy', 0, passed), policy: name }));
    const [comparison] = comparisonsOf([policy('one', false), policy('two', true)], {
      suspectsOf: () => new Set(['c']),
    });
    expect(comparison).toMatchObject({ tasks: 3, clean: { tasks: 2, gained: 2 }, suspect: { tasks: 1, gained: 1 } });
    expect(Comparison.safeParse(comparison).success).toBe(true);
    const [whole] = comparisonsOf([policy('one', false), policy('two', true)], { suspectsOf: () => undefined });
    expect(whole!.clean).toBeUndefined();
  });
});

describe('evaluate', () => {
  const rows = [
    ...task('a', true, [
      [true, 4],
      [false, 3],
      [false, 2],
      [false, 1],
    ]),
    ...task('b', false, [
      [true, 0],
      [true, 1],
      [false, 2],
      [false, 3],
    ]),
    ...task('c', false, [
      [false, 0],
      [false, 0],
      [false, 0],
      [false, 0],
    ]),
  ];

  it('means over tasks, not over samples', () => {
    const result = evaluate(rows, CONFIG);
    expect(result).toMatchObject({ benchmark: 'heldOut', policy: 'trained', tasks: 3, samples: 4 });
    expect(result.greedy).toBeCloseTo(1 / 3, 12);
    expect(result.mean).toBeCloseTo((1 / 4 + 2 / 4 + 0) / 3, 12);
    expect(result.oracle).toBeCloseTo(2 / 3, 12);
    // Of the 6 pairs of samples, 3 hold the one that passes of a, and 5 one of the two of b.
    expect(result.passAtK['2']).toBeCloseTo((3 / 6 + 5 / 6 + 0) / 3, 12);
    expect(result.passAtK['4']).toBeCloseTo(2 / 3, 12);
    // The reward model ranks the passing one of a first, and those of b last: they win only the pair of the two.
    expect(result.bestOfN['2']).toBeCloseTo((3 / 6 + 1 / 6 + 0) / 3, 12);
    expect(result.bestOfN['4']).toBeCloseTo(1 / 3, 12);
    expect(EvaluationResult.safeParse(result).success).toBe(true);
  });

  it('has pass@1 equal to the mean', () => {
    const { passAtK, mean } = evaluate(rows, CONFIG);
    expect(passAtK['1']).toBeCloseTo(mean!, 12);
  });

  it('does not depend on the order of the rows of different tasks', () => {
    const interleaved = [0, 1, 2, 3, 4].flatMap((at) => [rows[at]!, rows[at + 5]!, rows[at + 10]!]);
    expect(evaluate(interleaved, CONFIG)).toEqual(evaluate(rows, CONFIG));
  });

  it('gives no figure of samples where there are none', () => {
    const greedyOnly = [...task('a', true, []), ...task('b', false, [])];
    expect(evaluate(greedyOnly, CONFIG)).toMatchObject({
      tasks: 2,
      samples: 0,
      greedy: 0.5,
      mean: null,
      oracle: null,
      passAtK: {},
      bestOfN: {},
    });
    expect(evaluate(greedyOnly, { passAtK: [1], bestOf: [0] }).bestOfN, 'Best-of-N of all samples').toEqual({});
    for (const bestOf of [undefined, [], [0], [1], [0, 16]]) {
      const result = evaluate(greedyOnly, { passAtK: [0, 1, 4], bestOf });
      expect(EvaluationResult.parse(JSON.parse(JSON.stringify(result)))).toMatchObject({ passAtK: {}, bestOfN: {} });
    }
  });

  it('takes all samples of the benchmark where no N is given', () => {
    expect(Object.keys(evaluate(rows, { passAtK: [1] }).bestOfN)).toEqual(['4']);
  });

  it('leaves out k and N above the number of samples', () => {
    const result = evaluate(
      task('a', true, [
        [true, 1],
        [false, 0],
      ]),
      CONFIG,
    );
    expect(Object.keys(result.passAtK)).toEqual(['1', '2']);
    expect(Object.keys(result.bestOfN)).toEqual(['2']);
  });

  it('prefers any sample to one that is too long for the reward model, and gives no Best-of-N without scores', () => {
    const [unread, without] = [
      [[false], [true, -9]],
      [[true], [false]],
    ].map((samples) => evaluate(task('a', true, samples as [boolean, number?][]), CONFIG));
    expect(unread!.bestOfN['2']).toBe(1);
    expect(without!.bestOfN).toEqual({});
    expect(without!.passAtK['1']).toBe(0.5);
  });

  it('has an interval that encloses the greedy rate', () => {
    const { greedy, greedyInterval } = evaluate(rows, CONFIG);
    expect(greedyInterval![0]).toBeLessThan(greedy!);
    expect(greedyInterval![1]).toBeGreaterThan(greedy!);
  });

  it('has no greedy rate without a greedy answer', () => {
    expect(evaluate([row('a', 'sample', 0, true)], CONFIG)).toMatchObject({
      greedy: null,
      greedyInterval: null,
      mean: 1,
    });
  });
});

describe('intervals', () => {
  const random = new Random(3);
  const rows = Array.from({ length: 60 }, (_, id) =>
    task(
      `t${id}`,
      random.chance(0.5),
      Array.from({ length: 4 }, (): [boolean, number] => [random.chance(0.5), random.next()]),
    ),
  ).flat();

  it('stand next to every figure of samples, hold it, and follow from the seed', () => {
    const result = EvaluationResult.parse(evaluate(rows, { ...CONFIG, seed: 4 }));
    const pairs = [
      [result.mean, result.intervals!.mean],
      [result.oracle, result.intervals!.oracle],
      ...['1', '2', '4'].map((k) => [result.passAtK[k], result.intervals!.passAtK[k]]),
      ...['2', '4'].map((N) => [result.bestOfN[N], result.intervals!.bestOfN[N]]),
    ] as [number, [number, number]][];
    for (const [figure, [low, high]] of pairs) {
      expect(low).toBeLessThanOrEqual(figure);
      expect(high).toBeGreaterThanOrEqual(figure);
      expect(high - low).toBeLessThan(0.3);
    }
    expect(evaluate(rows, { ...CONFIG, seed: 4 })).toEqual(result);
    expect(evaluate(rows, { ...CONFIG, seed: 5 }).intervals!.mean).not.toEqual(result.intervals!.mean);
  });

  it('do not shrink when each sample is counted twice', () => {
    const twice = rows.flatMap((each) =>
      each.mode === 'sample' ? [each, { ...each, sample: each.sample + 4 }] : each,
    );
    const width = (of: EvaluationRow[]): number => {
      const [low, high] = evaluate(of, { passAtK: [1] }).intervals!.mean!;
      return high - low;
    };
    expect(width(twice)).toBeCloseTo(width(rows), 12);
  });
});

describe('selections', () => {
  /** A sample with verdicts of three tests and a program. */
  const sample = (id: string, at: number, tests: [boolean, boolean, boolean], program: string, score?: number) => ({
    ...row(id, 'sample', at, tests.every(Boolean), score),
    outcomes: tests.map((passed) => ({ status: passed ? ('pass' as const) : ('raised' as const) })),
    program,
  });
  const rows = [
    sample('a', 0, [true, false, true], 'x', 9),
    sample('a', 1, [true, true, true], 'y', 1),
    sample('a', 2, [false, false, false], 'x  # same', 5),
    sample('a', 3, [true, true, false], 'z', 0),
  ];
  const rates = (of: readonly EvaluationRow[], selectionTests?: number): Record<string, number> =>
    Object.fromEntries(
      evaluate(of, { passAtK: [1], bestOf: [4], selectionTests }).selections!.map(({ method, rate }) => [method, rate]),
    );

  it('choose by scores, by leading tests, by both, and by the most frequent program', () => {
    // The score prefers a wrong program; two leading tests leave one right and one wrong program, told apart by score.
    expect(rates(rows, 2)).toEqual({ rewardModel: 0, tests: 1, testsAndRewardModel: 1, majority: 0 });
    expect(rates(rows, 1)).toEqual({ rewardModel: 0, tests: 0, testsAndRewardModel: 0, majority: 0 });
    const flipped = rows.map((each) => ({ ...each, score: -each.score! }));
    expect(rates(flipped, 2)).toEqual({ rewardModel: 0, tests: 1, testsAndRewardModel: 0, majority: 0 });
  });

  it('count programs as equal that differ in comments and blank lines alone', () => {
    const votes = ['f\n', '# said\nf\n\n', 'g', 'h'].map((program, at) =>
      sample('a', at, [at < 2, true, true], program),
    );
    expect(rates(votes)).toEqual({ majority: 1 });
  });

  it('choose by leading tests with weights where they are asked to, and else not', () => {
    // Each passes two of three leading tests. Two samples agree, and the first one, which is wrong, passes a rare test.
    const samples = ['fppf', 'ppff', 'ppff'].map((letters, at) => ({
      ...row('a', 'sample', at, at > 0),
      outcomes: [...letters].map((letter) => ({ status: letter === 'p' ? ('pass' as const) : ('raised' as const) })),
    }));
    const chosen = (selectionWeights?: true): Record<string, number> =>
      Object.fromEntries(
        evaluate(samples, { passAtK: [1], bestOf: [3], selectionTests: 3, selectionWeights }).selections!.map(
          ({ method, rate }) => [method, rate],
        ),
      );
    expect(chosen(true)).toMatchObject({ tests: 0, weightedTests: 1 });
    expect(chosen()).not.toHaveProperty('weightedTests');
  });

  it('do not choose by tests that are all the tests there are', () => {
    expect(Object.keys(rates(rows, 3))).toEqual(['rewardModel', 'majority']);
  });

  it('say what they gain over a sample at random, on the same tasks', () => {
    const { selections, mean } = evaluate(rows, { passAtK: [1], bestOf: [4], selectionTests: 2 });
    for (const { rate, gain, gainInterval } of selections!) {
      expect(gain).toBeCloseTo(rate - mean!, 12);
      expect(gainInterval).toEqual([gain, gain]);
    }
  });
});

describe('answers without a verdict', () => {
  const unjudged = (each: EvaluationRow): EvaluationRow => ({
    ...each,
    passed: false,
    outcomes: [{ status: 'pass' }, { status: 'unjudged', reason: 'the sandbox gave up' }],
  });

  it('are in no rate, and are counted', () => {
    const rows = [...task('a', true, [[true], [true]]), ...task('b', false, [[false], [true]])];
    rows[1] = unjudged(rows[1]!);
    rows[3] = unjudged(rows[3]!);
    expect(evaluate(rows, { passAtK: [1] })).toMatchObject({
      tasks: 2,
      samples: 1,
      greedy: 1,
      mean: 0.75,
      unjudged: 2,
      tasksWithoutVerdict: 0,
    });
  });

  it('leave a task out that has none, and are wrong where another test failed', () => {
    const alone = [...task('a', true, []), unjudged(row('b', 'greedy', 0, false))];
    expect(evaluate(alone, { passAtK: [1] })).toMatchObject({ tasks: 1, greedy: 1, tasksWithoutVerdict: 1 });
    const failed = row('b', 'greedy', 0, false);
    failed.outcomes = [{ status: 'unjudged' }, { status: 'raised' }];
    expect(evaluate([...task('a', true, []), failed], { passAtK: [1] })).toMatchObject({ tasks: 2, greedy: 0.5 });
    const none = evaluate([unjudged(row('b', 'greedy', 0, false))], { passAtK: [1] });
    expect(EvaluationResult.parse(none)).toMatchObject({ tasks: 0, greedy: null, greedyInterval: null });
  });
});

describe('comparePolicies', () => {
  const answers = (policy: string, passed: readonly boolean[], benchmark = 'heldOut'): EvaluationRow[] =>
    passed.map((pass, id) => ({ ...row(`t${id}`, 'greedy', 0, pass), policy, benchmark }));
  const upTo = (right: number, of = 164): boolean[] => Array.from({ length: of }, (_, at) => at < right);

  it('calls 14 tasks gained of 164 and none lost higher', () => {
    const comparison = Comparison.parse(comparePolicies(answers('a', upTo(60)), answers('b', upTo(74))));
    expect(comparison).toMatchObject({ measure: 'greedy', tasks: 164, gained: 14, lost: 0, verdict: 'higher' });
    expect(comparison.p).toBeCloseTo(2 ** -13, 12);
    expect(comparison.interval[0]).toBeGreaterThan(0);
    expect(comparePolicies(answers('b', upTo(74)), answers('a', upTo(60)))).toMatchObject({
      lost: 14,
      verdict: 'lower',
    });
  });

  it('calls what could be chance no difference, and says what it could have found', () => {
    const comparison = comparePolicies(answers('a', upTo(60)), answers('b', upTo(64)));
    expect(comparison).toMatchObject({ gained: 4, lost: 0, verdict: 'noDifference' });
    expect(comparison.minimalDetectable).toBeGreaterThan(4 / 164);
    expect(comparePolicies(answers('a', upTo(60)), answers('b', upTo(60)))).toMatchObject({ p: 1, difference: 0 });
  });

  it('compares the tasks that both have, whatever their order', () => {
    const [a, b] = [answers('a', upTo(60)), answers('b', upTo(74))];
    const fewer = b.filter(({ taskId }) => taskId !== 't3' && taskId !== 't163').reverse();
    expect(comparePolicies(a, fewer)).toMatchObject({ tasks: 162, notCompared: 2, gained: 14 });
    expect(() =>
      comparePolicies(
        a,
        b.map((each) => ({ ...each, taskId: `other ${each.taskId}` })),
      ),
    ).toThrow('no judged answer to one task');
  });

  it('compares means over samples where there is no greedy answer', () => {
    const sampled = (policy: string, rate: (id: number) => number): EvaluationRow[] =>
      Array.from({ length: 100 }, (_, id) =>
        Array.from({ length: 4 }, (__, at) => ({ ...row(`t${id}`, 'sample', at, at < rate(id)), policy })),
      ).flat();
    const [low, high] = [sampled('a', (id) => id % 3), sampled('b', (id) => (id % 3) + (id % 2))];
    expect(comparePolicies(low, high)).toMatchObject({ measure: 'mean', gained: 50, lost: 0, verdict: 'higher' });
    expect(comparePolicies(low, low)).toMatchObject({ difference: 0, p: 1, verdict: 'noDifference' });
  });

  it('seldom calls two policies of equal strength different, by greedy answers or samples', () => {
    // The bench of the evaluation asks for at most 65 of 1,000; fewer pairs need more room.
    const random = new Random(29);
    let [greedy, sampled] = [0, 0];
    for (let pair = 0; pair < 40; pair += 1) {
      const strengths = Array.from({ length: 164 }, () => random.next());
      const drawn = (policy: string): EvaluationRow[] =>
        answers(
          policy,
          strengths.map((strength) => random.chance(strength)),
        );
      if (comparePolicies(drawn('a'), drawn('b'), { seed: pair }).verdict !== 'noDifference') greedy += 1;
      const means = (policy: string): EvaluationRow[] =>
        strengths.flatMap((strength, id) =>
          Array.from({ length: 4 }, (_, at) => ({ ...row(`t${id}`, 'sample', at, random.chance(strength)), policy })),
        );
      if (comparePolicies(means('a'), means('b'), { seed: pair }).verdict !== 'noDifference') sampled += 1;
    }
    expect(greedy).toBeLessThanOrEqual(7);
    expect(sampled).toBeLessThanOrEqual(8);
  });

  it('allows for several benchmarks, and compares with the base that is named', () => {
    const groups = ['x', 'y'].flatMap((benchmark) => [
      answers('after', upTo(benchmark === 'x' ? 67 : 74), benchmark),
      answers('base', upTo(60), benchmark),
    ]);
    const [first, second] = comparisonsOf(groups, { base: 'base' });
    // Holm leaves the larger of two p-values as it is, and doubles the smaller one.
    expect(first).toMatchObject({ benchmark: 'x', before: 'base', after: 'after', gained: 7, verdict: 'higher' });
    expect(second!.adjustedP).toBeCloseTo(2 ** -12, 12);
    const many = Array.from({ length: 5 }, () => first!);
    expect(adjusted(many).map(({ verdict }) => verdict)).toEqual(Array(5).fill('noDifference'));
    expect(comparisonsOf(groups.slice(0, 1))).toEqual([]);
  });
});
