/** What the bench of a real model makes of published rows, and the tables that it prints. */
import { describe, expect, it } from 'vitest';
import { QuestionRow, STAGE, StageConfigs, type EvaluationResult } from '../../workflows/contract/index.js';
import { isOfTestSplit, trainQuestion, withoutTasks } from './real-data.js';
import { realReport, type RealRecord } from './real-report.js';
import { SETTINGS } from './real-settings.js';

const ROW = {
  task_id: 'MBPP/601',
  prompt: '\n\ndef double(n):\n\t"""\n\tWrite a function to double.\n\t>>> double(2)\n\t4\n\t"""\n',
  canonical_solution: '\treturn 2 * n',
  entry_point: 'double',
  test: '\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate(2) == 4\n    assert set(candidate(0)) == {0}\n\n',
  description: 'Write a function to double.',
};

describe('trainQuestion', () => {
  it('asks with the first test, and keeps all of them under the name of the function', () => {
    const question = trainQuestion(ROW);
    expect(QuestionRow.safeParse(question).success).toBe(true);
    expect(question.question).toBe(
      'Write a function to double.\n\nYour code should pass this test:\n\nassert double(2) == 4',
    );
    expect(question.testCases.map(({ test }) => test)).toEqual([
      'assert double(2) == 4',
      'assert set(double(0)) == {0}',
    ]);
    expect(question.reference.split('\n').at(0)).toBe('def double(n):');
    expect(question.reference.split('\n').at(-1)).toBe('\treturn 2 * n');
  });

  it('names a row without tests', () => {
    expect(() => trainQuestion({ ...ROW, test: 'def check(candidate):\n    pass' })).toThrow('MBPP/601');
  });
});

it('leaves out questions that repeat a task', () => {
  const task = { id: 'Mbpp/11', question: '', entryPoint: 'Double', programPrefix: '', tests: [], reference: '' };
  const other = { ...ROW, task_id: 'MBPP/602', entry_point: 'triple' };
  expect(withoutTasks([ROW, other].map(trainQuestion), [task]).map(({ id }) => id)).toEqual(['MBPP/602']);
});

it('takes the lines of the test split by their ids, also those with numbers that are no JSON', () => {
  const ids = ['Mbpp/10', 'Mbpp/11', 'Mbpp/510', 'Mbpp/511', 'HumanEval/11'];
  const lines = ids.map((id) => `{"task_id": "${id}", "base_input": [[-Infinity, NaN]]}`);
  expect(lines.filter(isOfTestSplit)).toEqual([lines[1], lines[2]]);
});

it('has settings that the stages take, which are told before hours have passed', () => {
  const benchmarks = [{ kind: 'mbppPlus', data: { kind: 'tasks', path: 'tasks.jsonl' } }];
  for (const part of ['greedy', 'samples', 'best-of-n'] as const)
    expect(StageConfigs.evaluation.safeParse({ benchmarks, ...SETTINGS[part] }).error).toBeUndefined();
  const recorded = { sampler: { kind: 'recorded' } };
  expect(StageConfigs.evaluation.safeParse({ benchmarks, ...SETTINGS.samples, ...recorded }).error).toBeUndefined();
  const { filtering, sampling, preferences } = SETTINGS.pairs;
  expect(StageConfigs.sampling.safeParse({ ...sampling, ...recorded }).error).toBeUndefined();
  expect(StageConfigs.filtering.safeParse(filtering).error).toBeUndefined();
  expect(StageConfigs.sampling.safeParse(sampling).error).toBeUndefined();
  expect(StageConfigs.preferences.safeParse(preferences).error).toBeUndefined();
  expect(StageConfigs.rewardModel.safeParse(SETTINGS['reward-model']).error).toBeUndefined();
});

describe('the tables', () => {
  const REF = { kind: 'evaluation' as const, key: 'artifacts/evaluation/a.json', digest: 'd'.repeat(64), bytes: 1 };
  const part = (stages: Record<string, object>) => ({
    settings: {},
    commit: 'abcdef0123',
    finished: '2026-11-29T12:00:00.000Z',
    stages: Object.fromEntries(
      Object.entries(stages).map(([name, metrics]) => [name, { ref: REF, metrics: metrics as Record<string, string> }]),
    ),
  });
  const RESULT: EvaluationResult = {
    benchmark: 'humaneval',
    policy: 'qwen',
    tasks: 164,
    samples: 0,
    greedy: 0.5,
    greedyInterval: [0.42, 0.58],
    mean: null,
    passAtK: {},
    bestOfN: {},
    oracle: null,
    truncated: { greedy: 0.01, samples: null },
    unjudged: 0,
  };
  const evaluation = (result: EvaluationResult) =>
    STAGE.evaluation.metrics.parse({ results: [result], notes: {}, tokens: 1234, cpuSeconds: 5 });
  const empty: RealRecord = { machine: '2 cores', dtype: 'float32', parts: {}, spent: {} };

  it('have nothing of what was not measured', () => {
    expect(realReport(empty)).toBe(
      'Machine: 2 cores. The model computes in float32.\n\nNot measured yet: greedy, pairs, samples, reward-model, best-of-n.',
    );
  });

  it('have greedy answers next to the reported ones, and the cost of parts that have not ended', () => {
    const text = realReport({
      ...empty,
      parts: { greedy: part({ humaneval: evaluation(RESULT) }) },
      spent: { greedy: { wallSeconds: 600, cpuSeconds: 1200 }, pairs: { wallSeconds: 7200, cpuSeconds: 60 } },
    });
    expect(text).toContain('| HumanEval | 164 | 82 | 50.0 % (42.0 to 58.0 %) | 61.6 % | 1.0 % | 0 |');
    expect(text).toContain('| `greedy` | 2026-11-29, abcdef01 | 10 min | 20 min | 1,234 |');
    expect(text).toContain('| `pairs` | has not ended | 2.0 h | 1 min |  |');
    expect(text).not.toContain('Best-of-N');
  });

  it('have Best-of-N by each method that chose, with random and oracle', () => {
    const selection = { N: 2, interval: [0.5, 0.7], gain: 0.1, gainInterval: [-0.01, 0.21] } as const;
    const result: EvaluationResult = {
      ...RESULT,
      benchmark: 'mbppPlus',
      samples: 2,
      mean: 0.5,
      passAtK: { 2: 0.8 },
      intervals: { mean: [0.4, 0.6], passAtK: { 2: [0.7, 0.9] }, bestOfN: {}, oracle: null },
      selections: [
        { ...selection, interval: [0.5, 0.7], gainInterval: [-0.01, 0.21], method: 'rewardModel', rate: 0.6 },
      ],
    };
    const text = realReport({ ...empty, parts: { 'best-of-n': part({ scored: evaluation(result) }) } });
    expect(text).toContain('| random | 50.0 % (40.0 to 60.0 %) |  |');
    expect(text).toContain('| reward model | 60.0 % (50.0 to 70.0 %) | +10.0 (−1.0 to +21.0) |');
    expect(text).toContain('| oracle | 80.0 % (70.0 to 90.0 %) |  |');
  });
});
