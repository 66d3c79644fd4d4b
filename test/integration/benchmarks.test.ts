/**
 * Benchmarks by the real stage: samples of others are scored without a model, references run first and are found again,
 * and what does not fit is refused before a program runs.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { EvaluationRow, type ArtifactRef, type StageResult } from '../../workflows/contract/index.js';
import { artifactStore, failureOf, startWorkflow } from '../fixtures/harness.js';
import { problem } from '../fixtures/livecodebench.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-benchmarks-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A task in the form of EvalPlus, whose numbers JSON of JavaScript does not hold. */
function task(id: string, body: string, base: string, plus: string): string {
  const prompt = `def f(x):\n    """Task ${id}."""\n`;
  const texts = { task_id: id, prompt, entry_point: 'f', canonical_solution: `    ${body}\n`, contract: '', test: '' };
  return `${JSON.stringify(texts).slice(0, -1)}, "atol": 0, "base_input": ${base}, "plus_input": ${plus}}`;
}

const TASKS = [
  task('HumanEval/0', 'return x / 2', '[[1.0], [4]]', '[[Infinity], [18446744073709551617]]'),
  task('HumanEval/1', 'return [x, x]', '[["a"]]', '{}'),
  task('HumanEval/2', 'raise ValueError', '[[1]]', '[]'),
];

function file(name: string, lines: readonly string[]): string {
  const path = join(folder, name);
  writeFileSync(path, name.endsWith('.gz') ? gzipSync(lines.join('\n')) : lines.join('\n'));
  return path;
}

const tasks = file('HumanEvalPlus.jsonl.gz', TASKS);
const samples = (name: string, rows: readonly object[]): { kind: 'benchmarkSamples'; path: string } => ({
  kind: 'benchmarkSamples',
  path: file(
    name,
    rows.map((row) => JSON.stringify(row)),
  ),
});
const evaluate = (given: Record<string, object>, config: object = {}) =>
  startWorkflow('evaluation', {
    inputs: { samples: given },
    config: {
      benchmarks: [{ kind: 'humanevalPlus', data: { kind: 'tasks', path: tasks } }],
      sampler: { kind: 'recorded' },
      references: { mostLost: 0.4 },
      ...config,
    },
  });

/** The document among the files of an artifact whose name ends so. */
async function documentOf(ref: ArtifactRef, name: string): Promise<unknown> {
  const store = artifactStore();
  const { files } = await store.manifest(ref);
  const bytes = await readFile(await store.fetch(files.find((each) => each.name.endsWith(name))!));
  return JSON.parse((bytes[0] === 0x1f ? gunzipSync(bytes) : bytes).toString('utf8'));
}

const right = { task_id: 'HumanEval/1', completion: '    return [x] * 2' };
const GOOD = [
  { task_id: 'HumanEval/0', completion: '    return x * 0.5' },
  right,
  { ...right, task_id: 'HumanEval/2' },
];

describe('samples of others', () => {
  it('are scored without a model, on the tasks whose references pass, and found again', async () => {
    const given = { good: samples('good.jsonl', GOOD) };
    const { ref, metrics } = (await (await evaluate(given)).result()) as StageResult;
    // 2 ** 64 + 1 halved as a float is what both programs answer; the third task has no reference that passes.
    expect(metrics['results']).toMatchObject([
      { benchmark: 'humanevalPlus base', policy: 'good', tasks: 2, samples: 0, greedy: 1 },
      { benchmark: 'humanevalPlus', policy: 'good', tasks: 2, greedy: 1 },
    ]);
    expect(metrics['benchmarks']).toMatchObject([
      {
        name: 'humanevalPlus',
        version: 2,
        digest: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
        tasks: 3,
        leftOut: [{ taskId: 'HumanEval/2', reason: 'test 0: raised (input 0: ValueError)' }],
      },
    ]);
    expect(metrics['samples']).toEqual({ good: { rows: 3, tasks: 3, samplesPerTask: 1 } });

    const { eval: results } = (await documentOf(ref, 'good/humanevalPlus/samples_eval_results.json')) as {
      eval: Record<string, object[]>;
    };
    expect(results['HumanEval/1']).toMatchObject([{ base_status: 'pass', plus_status: 'pass' }]);
    expect(results['HumanEval/2']).toBeUndefined();
    expect(await (await evaluate(given)).result()).toMatchObject({ ref, reused: true });
    // The GPU worker, which reads data sets of the hub in the same way, gives the same rows.
    const data = { kind: 'tasks', format: 'benchmarkRows', path: tasks };
    const again = await evaluate(given, { benchmarks: [{ kind: 'humanevalPlus', data }] });
    expect(await again.result()).toMatchObject({ ref, reused: true });
  });

  it('are refused before a program runs where they do not fit', async () => {
    const unknown = samples('unknown.jsonl', [...GOOD, { ...right, task_id: 'HumanEval/9' }]);
    const mixed = samples('mixed.jsonl', [GOOD[0]!, { task_id: 'HumanEval/1', solution: 'x' }, GOOD[2]!]);
    for (const [given, config, told] of [
      [{ unknown }, {}, '1 of 4 samples are of tasks that it does not have (HumanEval/9)'],
      [{ mixed }, {}, "row 2 has 'solution' and the first row 'completion'"],
      [
        { good: samples('good.jsonl', GOOD) },
        { passAtK: [1, 5] },
        "config.passAtK has 5, and the samples 'good' are 1",
      ],
      [{ good: samples('good.jsonl', GOOD) }, { references: {} }, "the benchmark 'humanevalPlus' is not scored"],
      [{ good: samples('good.jsonl', GOOD) }, { sampler: { kind: 'policy' } }, 'inputs.policies'],
      [
        { good: samples('good.jsonl', GOOD) },
        {
          benchmarks: [
            { kind: 'humanevalPlus', data: { kind: 'tasks', format: 'benchmarkRows', path: '/nowhere/x.jsonl' } },
          ],
        },
        'config.benchmarks.0.data.path: There is no file at /nowhere/x.jsonl',
      ],
    ] as const) {
      expect(await failureOf(await evaluate(given, config))).toMatchObject({
        type: 'InvalidExperiment',
        message: expect.stringContaining(told) as string,
      });
    }
  });
});

describe('files in other forms', () => {
  const lines = (name: string, rows: readonly object[]): object => ({
    kind: 'tasks',
    path: file(
      name,
      rows.map((row) => JSON.stringify(row)),
    ),
  });

  it('of tasks of one’s own are judged by asserts, calls, scripts and checkers', async () => {
    const data = lines('own.jsonl', [
      {
        ...{ id: 'double', question: 'Write double(n).', entryPoint: 'double' },
        ...{ reference: 'def double(n):\n    return 2 * n' },
        tests: ['assert double(2) == 4', { call: 'double(3)', expect: '6' }],
      },
      {
        ...{ id: 'root', question: 'Write root(n), to six digits.', tests: [{ call: 'root(2)' }] },
        checker: 'def check(input, output, answer):\n    return abs(output * output - 2) < 1e-6',
      },
      { id: 'echo', question: 'Print twice the number that is read.', tests: [{ stdin: '3\n', stdout: '6\n' }] },
      { id: 'wrong', question: 'Write one().', tests: ['assert one() == 1'], reference: 'def one():\n    return 2' },
    ]);
    const given = samples('own-samples.jsonl', [
      { task_id: 'double', solution: 'def double(n):\n    return n + n' },
      { task_id: 'root', solution: 'def root(n):\n    return n ** 0.5' },
      { task_id: 'echo', solution: 'print(int(input()) + 2)' },
      { task_id: 'wrong', solution: 'def one():\n    return 1' },
    ]);
    const { metrics } = (await (
      await evaluate({ given }, { benchmarks: [{ kind: 'ownTasks', name: 'mine', data }] })
    ).result()) as StageResult;
    // The last task is left out, because its reference fails.
    expect(metrics['results']).toMatchObject([{ benchmark: 'mine', policy: 'given', tasks: 3, greedy: 2 / 3 }]);
    expect(metrics['benchmarks']).toMatchObject([{ name: 'mine', tasks: 4, leftOut: [{ taskId: 'wrong' }] }]);
  });

  it('of LiveCodeBench are judged by their public tests and by those in the pickle', async () => {
    const functional = JSON.stringify([{ input: '[1, 2]\n"x"', output: '[3, "x"]', testtype: 'functional' }]);
    const data = lines('livecodebench.jsonl', [
      problem('sum'),
      problem('public-only'),
      problem('typed'),
      problem('near'),
      ...['method', 'function', 'state'].map((id) =>
        problem(id, {
          ...{ public_test_cases: functional, private_test_cases: functional, metadata: '{"func_name": "join"}' },
          starter_code: 'class Solution:\n    def join(self, a, b):\n        ',
        }),
      ),
      problem('early', { contest_date: '2023-01-01T00:00:00' }),
    ]);
    const given = samples('livecodebench-samples.jsonl', [
      { question_id: 'sum', code_list: ['print(sum(map(int, open(0).read().split())))'] },
      { question_id: 'public-only', code_list: ['print(1)'] },
      // Names that nobody imports, and a number in another spelling.
      {
        question_id: 'typed',
        code_list: ['def f(x: List[int]): return reduce(add, x)\nprint(f([*map(float, sys.stdin)]))'],
      },
      { question_id: 'near', code_list: ['print(sum(map(int, open(0).read().split())) + 1e-9)'] },
      { question_id: 'method', code_list: ['class Solution:\n    def join(self, a, b):\n        return (sum(a), b)'] },
      { question_id: 'function', code_list: ['def join(a: List[int], b: Optional[str]):\n    return [sum(a), b]'] },
      // One object answers all tests.
      {
        question_id: 'state',
        code_list: [
          'class Solution:\n    def __init__(self):\n        self.seen = 0\n    def join(self, a, b):\n' +
            '        self.seen += 1\n        return [sum(a), b] if self.seen == 1 else None',
        ],
      },
    ]);
    const { ref, metrics } = (await (
      await evaluate({ given }, { benchmarks: [{ kind: 'livecodebench', data, from: '2024-08-01' }] })
    ).result()) as StageResult;
    const benchmark = 'livecodebench(2024-08-01..)';
    expect(metrics['results']).toMatchObject([{ benchmark, policy: 'given', tasks: 7, greedy: 4 / 7 }]);
    const passed = {
      ...{ sum: true, 'public-only': false, typed: true, near: false },
      ...{ method: true, function: true, state: false },
    };
    const written = await documentOf(ref, '/samples_eval_all.json');
    expect(
      Object.fromEntries(
        (written as { question_id: string; graded_list: boolean[] }[]).map(({ question_id, graded_list }) => [
          question_id,
          graded_list[0],
        ]),
      ),
    ).toEqual(passed);
  });

  it('of LiveCodeBench may be too large for a plan, and all of them count', async () => {
    const numbers = Array.from({ length: 20_000 }, (_, at) => at);
    const tests = [...Array(6).keys(), 1e6].map((last) => ({
      input: `${[...numbers, last].join(' ')}\n`,
      output: `${199_990_000 + last}\n`,
      testtype: 'stdin',
    }));
    const data = lines(
      'large.jsonl',
      ['right', 'wrong'].map((id) => problem(id, { private_test_cases: JSON.stringify(tests) })),
    );
    // The second one is wrong on the last test alone.
    const given = samples('large-samples.jsonl', [
      { question_id: 'right', code_list: ['print(sum(map(int, input().split())))'] },
      { question_id: 'wrong', code_list: ['print(min(199_990_005, sum(map(int, input().split()))))'] },
    ]);
    const { ref, metrics } = (await (
      await evaluate({ given }, { benchmarks: [{ kind: 'livecodebench', data }] })
    ).result()) as StageResult;
    expect(metrics['results']).toMatchObject([{ tasks: 2, greedy: 0.5 }]);
    for await (const { taskId, passed, outcomes } of artifactStore().rowsOf(ref, EvaluationRow)) {
      expect(passed).toBe(taskId === 'right');
      expect(outcomes.map(({ status }) => status === 'pass')).toEqual([...Array<boolean>(7).fill(true), passed]);
    }
  });

  it('that are result files are programs', async () => {
    const solution = 'def f(x):\n    return x / 2';
    const entries = ['HumanEval/0', 'HumanEval/1', 'HumanEval/2'].map((task_id) => ({ task_id, solution }));
    const results = { date: 'd', eval: Object.fromEntries(entries.map((entry) => [entry.task_id, [entry]])) };
    const path = file('eval_results.json', [JSON.stringify(results, null, 4)]);
    const { metrics } = (await (await evaluate({ given: { kind: 'benchmarkSamples', path } })).result()) as StageResult;
    expect(metrics['results']).toMatchObject([{ greedy: 0.5 }, { benchmark: 'humanevalPlus', greedy: 0.5 }]);
  });
});
