/** The figures of one policy on one benchmark, from its rows. */
import { describe, expect, it } from 'vitest';
import { evaluate } from './activities.js';
import { EvaluationResult, type EvaluationRow } from '../../workflows/contract/index.js';

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

  it('gives no Best-of-N where a sample has no score', () => {
    const result = evaluate(task('a', true, [[true, 1], [false]]), CONFIG);
    expect(result.bestOfN).toEqual({});
    expect(result.passAtK['1']).toBe(0.5);
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
