/** Samples of others: what fits becomes answers, and everything else is refused or counted by the rule in force. */
import { describe, expect, it } from 'vitest';
import type { BenchmarkSampleRow, EvaluationRow } from '../../workflows/contract/index.js';
import type { Task } from '../benchmarks/benchmark.js';
import { resultFiles } from './result-files.js';
import { givenAnswers } from './samples.js';

const task = (id: string, more: Partial<Task> = {}): Task => ({
  id,
  question: 'Q',
  entryPoint: 'f',
  programPrefix: '',
  tests: ['assert f()'],
  reference: '',
  ...more,
});
const TASKS = [task('H/0', { completes: 'def f():\n' }), task('H/1')];
const RULES = { name: 'mine', benchmark: 'humanevalPlus', unknown: 'refuse', missing: 'refuse' } as const;
const solution = (task_id: string, text = 'x = 1'): BenchmarkSampleRow => ({ task_id, solution: text });

describe('samples of a file', () => {
  it('become programs: whole ones, and those that continue a prompt', () => {
    const { answers, counts } = givenAnswers(TASKS, [solution('H/1'), solution('H/0')], RULES);
    expect([...answers]).toEqual([
      ['H/1', [{ text: 'x = 1', program: 'x = 1' }]],
      ['H/0', [{ text: 'x = 1', program: 'x = 1' }]],
    ]);
    expect(counts).toEqual({ rows: 2, tasks: 2, samplesPerTask: 1 });
    const completed = givenAnswers(TASKS.slice(0, 1), [{ task_id: 'H/0', completion: '  return 1' }], RULES);
    expect(completed.answers.get('H/0')).toEqual([{ text: '  return 1', program: 'def f():\n  return 1' }]);
  });

  it('are several of a task where it stands several times, or has a list', () => {
    const twice = [solution('H/0', 'a'), solution('H/1', 'b'), solution('H/0', 'c'), solution('H/1', 'd')];
    expect(
      givenAnswers(TASKS, twice, RULES)
        .answers.get('H/0')
        ?.map(({ text }) => text),
    ).toEqual(['a', 'c']);
    const lists = TASKS.map(({ id }): BenchmarkSampleRow => ({ question_id: id, code_list: ['a', 'b'] }));
    expect(givenAnswers(TASKS, lists, RULES)).toMatchObject({ counts: { samplesPerTask: 2 } });
    expect(givenAnswers(TASKS, lists, RULES).answers.get('H/1')).toEqual([
      { text: 'a', program: 'a' },
      { text: 'b', program: 'b' },
    ]);
  });

  it('are read out of whole replies', () => {
    const reply =
      'I try this:\n```python\ndef g(): return 1\n```\nNo, rather:\n```python\ndef f(): return 2\n```\nDone.';
    const rows = [{ question_id: 'H/1', output_list: [reply, 'I cannot.'] }];
    const { answers } = givenAnswers(TASKS.slice(1), rows, RULES);
    expect(answers.get('H/1')?.map(({ program }) => program)).toEqual(['def f(): return 2', 'I cannot.']);
  });

  it('count empty programs', () => {
    expect(givenAnswers(TASKS, [solution('H/0', ' \n'), solution('H/1')], RULES).counts).toMatchObject({ empty: 1 });
  });

  it('drop unknown tasks and fail missing ones where the rules say so', () => {
    const rules = { ...RULES, unknown: 'drop', missing: 'fail' } as const;
    const { answers, counts } = givenAnswers(TASKS, [solution('H/9'), solution('H/0')], rules);
    expect(counts).toEqual({ rows: 2, tasks: 1, samplesPerTask: 1, unknownDropped: 1, missingFailed: 1 });
    expect(answers.get('H/1')).toEqual([{ text: '', program: '' }]);
  });

  it.each<[string, BenchmarkSampleRow[], string]>([
    ['an unknown task', [solution('H/0'), solution('M/1')], '1 of 2 samples are of tasks that it does not have (M/1)'],
    ['a task without a sample', [solution('H/0')], '1 of its 2 tasks have no sample (H/1)'],
    [
      'two forms',
      [solution('H/0'), { task_id: 'H/1', completion: '' }],
      "row 2 has 'completion' and the first row 'solution'",
    ],
    [
      'other numbers of samples',
      [solution('H/0'), solution('H/0'), solution('H/1')],
      'H/0 has 2 samples and H/1 has 1',
    ],
    [
      'a list twice',
      [
        { question_id: 'H/0', code_list: ['a'] },
        { question_id: 'H/0', code_list: ['b'] },
      ],
      'H/0 is there twice',
    ],
  ])('with %s are refused', (_, rows, told) => {
    expect(() => givenAnswers(TASKS, rows, RULES)).toThrow(told);
  });

  it('of no task of the benchmark are refused whatever the rules say', () => {
    expect(() => givenAnswers(TASKS, [solution('M/1')], { ...RULES, unknown: 'drop', missing: 'fail' })).toThrow(
      'of another one',
    );
  });
});

describe('result files', () => {
  const row = (taskId: string, sample: number, ...statuses: ('pass' | 'timeout' | 'raised')[]): EvaluationRow => ({
    ...{ id: `${taskId}-${sample}`, policy: 'mine', benchmark: 'mbppPlus', taskId, mode: 'sample', sample },
    ...{ question: 'Q', program: `p${sample}`, response: '', programPrefix: '', finish: 'stop' },
    outcomes: statuses.map((status) => ({ status, reason: `${status}!` })),
    passed: statuses.every((status) => status === 'pass'),
  });

  it('have the form of EvalPlus', () => {
    const rows = [row('Mbpp/2', 0, 'pass', 'timeout'), row('Mbpp/2', 1, 'raised', 'pass'), row('Mbpp/3', 0, 'pass')];
    const files = resultFiles('evalplus', rows);
    expect(files['samples_eval_results.json']).toMatchObject([
      {
        eval: {
          'Mbpp/2': [
            { task_id: 'Mbpp/2', solution: 'p0', base_status: 'pass', plus_status: 'timeout', base_fail_tests: [] },
            { solution: 'p1', base_status: 'fail', plus_status: 'pass' },
          ],
          'Mbpp/3': [{ base_status: 'pass', plus_status: null }],
        },
      },
    ]);
    expect(files['samples.jsonl']?.[1]).toEqual({ task_id: 'Mbpp/2', solution: 'p1' });
  });

  it('have the form of LiveCodeBench, without the imports in front of a program', () => {
    const own = (taskId: string, sample: number, status: 'pass' | 'raised'): EvaluationRow => ({
      ...row(taskId, sample, status),
      ...{ program: `import re\np${sample}`, response: `p${sample}` },
    });
    const rows = [own('abc', 0, 'pass'), own('abc', 1, 'raised'), own('d', 0, 'pass')];
    expect(resultFiles('livecodebench', rows)).toEqual({
      'samples.json': [
        [
          { question_id: 'abc', code_list: ['p0', 'p1'] },
          { question_id: 'd', code_list: ['p0'] },
        ],
      ],
      'samples_eval_all.json': [
        [
          { question_id: 'abc', code_list: ['p0', 'p1'], graded_list: [true, false], 'pass@1': 0.5 },
          { question_id: 'd', code_list: ['p0'], graded_list: [true], 'pass@1': 1 },
        ],
      ],
    });
  });

  it('keep greedy answers and samples apart', () => {
    const greedy: EvaluationRow = { ...row('B/1', 0, 'pass'), mode: 'greedy', program: 'g' };
    const files = resultFiles('bigcodebench', [greedy, row('B/1', 0, 'pass'), row('B/1', 1, 'raised')]);
    expect(Object.keys(files).sort()).toEqual([
      'greedy.jsonl',
      'greedy_eval_results.json',
      'samples.jsonl',
      'samples_eval_results.json',
    ]);
    expect(files['samples.jsonl']).toEqual(['p0', 'p1'].map((solution) => ({ task_id: 'B/1', solution })));
    expect(files['greedy.jsonl']).toEqual([{ task_id: 'B/1', solution: 'g' }]);
    expect(Object.keys(resultFiles('bigcodebench', [greedy]))).toEqual(['samples.jsonl', 'samples_eval_results.json']);
  });

  it('have the form of BigCodeBench', () => {
    expect(resultFiles('bigcodebench', [row('B/1', 0, 'raised')])['samples_eval_results.json']).toEqual([
      { eval: { 'B/1': [{ task_id: 'B/1', solution: 'p0', status: 'fail', details: { ALL: 'raised!' } }] } },
    ]);
  });
});
