/** Programs that solve problems of benchmarks, found in the real sandbox: every form of tests, and what is no solution. */
import { describe, expect, it } from 'vitest';
import type { Task } from '../benchmarks/benchmark.js';
import { livecodebench } from '../benchmarks/livecodebench.js';
import { problem } from '../../test/fixtures/livecodebench.js';
import { ownSandbox } from '../../test/fixtures/own-sandbox.js';
import { solvedBy } from './by-running.js';
import { problemOf, withInputs } from './problems.js';

const sandbox = ownSandbox();

const OPTIONS = { memoryBytes: 512 * 2 ** 20 };

function task(given: Partial<Task> & Pick<Task, 'id' | 'entryPoint' | 'tests'>): Task {
  return { question: '', programPrefix: '', reference: '', ...given };
}

const REPEAT = 'def repeat(text, times):\n    return text * times\n';
const EVENS = 'def evens(numbers):\n    return [n for n in numbers if n % 2 == 0]\n';
const HALF = 'def half(number):\n    return number / 2\n';
const PROBLEMS: Task[] = [
  task({
    id: 'check',
    entryPoint: 'repeat',
    reference: REPEAT,
    tests: [
      "def check(candidate):\n    assert candidate('ab', 2) == 'abab'\n    assert candidate('', 3) == ''\n" +
        "    assert candidate('x', 0) == ''\n\ncheck(repeat)",
    ],
  }),
  task({
    id: 'asserts',
    entryPoint: 'evens',
    reference: EVENS,
    tests: ['assert evens([1, 2, 4]) == [2, 4]', 'assert evens([]) == []', 'assert evens([0, 7]) == [0]'],
  }),
  task({
    id: 'suite',
    entryPoint: 'half',
    reference: HALF,
    tests: [{ suite: '[[4], [3], [0]]', task: 'own/1', entryPoint: 'half', rules: '0.3.1', atol: 1e-6 }],
  }),
  task({
    id: 'module',
    entryPoint: 'shout',
    reference: 'def shout(text):\n    return text.upper() + "!"\n',
    tests: [
      {
        module:
          'import unittest\n\nclass TestShout(unittest.TestCase):\n    def test_it(self):\n' +
          '        self.assertEqual(shout("a"), "A!")\n        self.assertEqual(shout("b c"), "B C!")\n',
      },
    ],
  }),
  ...livecodebench.tasks({ kind: 'livecodebench', data: { kind: 'tasks', path: 'test.jsonl' } }, [
    problem('method, without a reference', {
      public_test_cases: '[{"input": "7\\n2", "output": "5", "testtype": "functional"}]',
      private_test_cases: '[{"input": "1\\n9", "output": "-8", "testtype": "functional"}]',
      metadata: '{"func_name": "minus"}',
    }),
  ]),
  task({ id: 'script', entryPoint: '', tests: [{ stdin: '1', stdout: '1' }] }),
];

async function solved(programs: Record<string, string>): Promise<Record<string, string[]>> {
  const problems = await withInputs(
    sandbox,
    PROBLEMS.map((each) => problemOf('own', each)),
    OPTIONS,
  );
  const candidates = Object.entries(programs).map(([id, program]) => ({ id, program }));
  const run = await solvedBy(sandbox, candidates, problems, OPTIONS);
  return Object.fromEntries(
    [...run.solved].map(([id, found]) => [id, found.map(({ taskId, by }) => `${taskId} by ${by}`)]),
  );
}

describe('withInputs', () => {
  it('records the first inputs of every form of tests but scripts', async () => {
    const problems = await withInputs(
      sandbox,
      PROBLEMS.map((each) => problemOf('own', each)),
      OPTIONS,
    );
    expect(problems.map(({ id, inputs }) => [id, inputs?.arguments])).toEqual([
      ['check', 2],
      ['asserts', 1],
      ['suite', 1],
      ['module', 1],
      ['method, without a reference', 2],
      ['script', undefined],
    ]);
  });
});

describe('solvedBy', () => {
  it('finds solutions by what they do: other names, orders and types, methods, generators, loops for ever', async () => {
    expect(
      await solved({
        renamed: 'def f(a, b):\n    out = ""\n    for _ in range(b):\n        out += a\n    return out\n',
        turned: 'def f(count, word):\n    return "".join(word for _ in range(count))\n',
        generator: 'def pick(values):\n    for value in values:\n        if not value & 1:\n            yield value\n',
        tuple: 'def pick(values):\n    return tuple(v for v in values if v % 2 == 0)\n',
        method: 'class Tool:\n    def cut(self, number):\n        return number * 0.5\n',
        later: 'def helper(a):\n    return a\n\ndef loud(s, mark="!"):\n    return f"{s.upper()}{mark}"\n',
        subtracts: 'def difference(x, y):\n    return x - y\n',
        shadows: 'len = None\nlist = None\ndef f(a, b):\n    return b * a\n',
        'ends never on others':
          'def f(a, b):\n    while not isinstance(b, int):\n        try:\n            b = int(b)\n        except Exception:\n' +
          '            pass\n    return a * b\n',
      }),
    ).toEqual({
      renamed: ['check by f'],
      turned: ['check by f(b, a)'],
      generator: ['asserts by pick'],
      tuple: ['asserts by pick'],
      method: ['suite by Tool().cut'],
      later: ['module by loud'],
      subtracts: ['method, without a reference by difference'],
      shadows: ['check by f'],
      'ends never on others': ['check by f'],
    });
  });

  it('takes nothing else for a solution: not the name, not a part of the answers, not a program that claims it', async () => {
    expect(
      await solved({
        name: 'def evens(numbers):\n    return len(numbers)\n',
        nearly: 'def pick(values):\n    return [v for v in values if v in (2, 4)]\n',
        liar:
          'class Anything:\n    def __eq__(self, other):\n        return True\n\n' +
          'def f(a, b=0):\n    return Anything()\n',
        broken: 'def f(:\n',
        ends: 'import sys\ndef f(a):\n    sys.exit(0)\n',
      }),
    ).toEqual({});
  });

  it('tells which programs do not load alone', async () => {
    const problems = await withInputs(
      sandbox,
      PROBLEMS.map((each) => problemOf('own', each)),
      OPTIONS,
    );
    const { notRun } = await solvedBy(
      sandbox,
      [
        { id: 'broken', program: 'def f(:\n' },
        { id: 'whole', program: REPEAT },
      ],
      problems,
      OPTIONS,
    );
    expect(notRun).toEqual(['broken']);
  });
});
