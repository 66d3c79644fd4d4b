/** LiveCodeBench as it is published: pickles that hold data alone are opened, and no other one. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { packed, problem } from '../../test/fixtures/livecodebench.js';
import { bigcodebench } from './bigcodebench.js';
import { livecodebench } from './livecodebench.js';
import { ownTasks } from './own-tasks.js';
import { dataOfPickle } from './pickle.js';
import { publishedRows } from './published.js';
import { PlannedTask } from '../evaluation/tasks.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-livecodebench-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const hex = (text: string): Buffer => Buffer.from(text, 'hex');

describe('a pickle', () => {
  const value = ['a', { k: [1, -2, 300, 70000, 2 ** 40, 1.5, true, false, null, 'a'] }, 'a'];
  it.each([
    [
      'protocol 4',
      '8004953b000000000000005d94288c0161947d948c016b945d94284b014afeffffff4d2c014a701101008a06000000000001473ff8' +
        '00000000000088894e680165736801652e',
    ],
    [
      'protocol 2',
      '80025d71002858010000006171017d710258010000006b71035d7104284b014afeffffff4d2c014a701101008a06000000000001' +
        '473ff800000000000088894e680165736801652e',
    ],
  ])('of data is read: %s', (_, bytes) => {
    expect(dataOfPickle(hex(bytes))).toEqual(value);
  });

  it.each([
    [
      'a call',
      '8004951f000000000000008c05706f736978948c0673797374656d9493948c046563686f94859452942e',
      'the opcode 0x93',
    ],
    ['a call of protocol 0', Buffer.from("cposix\nsystem\n(S'echo'\ntR.").toString('hex'), 'the opcode 0x63'],
    ['a tuple', '80049507000000000000004b014b0286942e', 'the opcode 0x86'],
    ['a large number', '8004950c000000000000008a090000000000000000402e', 'beyond 2 ** 53'],
    ['a key that is no text', '80049508000000000000007d944b014b02732e', 'a key that is no text'],
    ['itself', '80049506000000000000005d946800612e', 'too deep'],
    ['nothing', '', 'is cut'],
    ['no end', '80048c0161', 'is cut'],
    ['a text longer than it is', '80048dffffffffffffff7f612e', 'is cut'],
    ['no value', '80042e', 'takes more than it has'],
    ['two values', '80044b014b022e', 'more than a value'],
  ])('with %s is refused', (_, bytes, told) => {
    expect(() => dataOfPickle(hex(bytes))).toThrow(told);
  });

  it('that holds a list in a list twice, again and again, is refused', () => {
    // As Python writes [x, x] of [x, x] of …: few bytes for 2 ** 40 lists.
    const nested = `8004${'5d9428'.repeat(40)}8c017994${Array.from({ length: 40 }, () => '')
      .map((_, at) => `68${(39 - at).toString(16).padStart(2, '0')}65`)
      .join('')}2e`;
    expect(() => dataOfPickle(hex(nested))).toThrow(/the pickle/);
  });
});

async function rowsOf(...rows: object[]): Promise<unknown[]> {
  const path = join(folder, 'test.jsonl');
  writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'));
  const found: unknown[] = [];
  for await (const { row, fault } of publishedRows(path)) found.push(row ?? fault);
  return found;
}

const slice = { kind: 'livecodebench', data: { kind: 'tasks', path: 'test.jsonl' } };

describe('problems of LiveCodeBench', () => {
  it('have their public tests and the private ones that were compressed', async () => {
    const [task] = livecodebench.tasks(slice, await rowsOf(problem('abc_a')));
    expect(task).toMatchObject({
      id: 'abc_a',
      tests: [
        { stdin: '1\n', stdout: '1\n' },
        { stdin: '1\n2\n', stdout: '3\n' },
      ],
    });
  });

  it('call a method where they are of a function', async () => {
    const functional = JSON.stringify([{ input: '[1.0]\n"x"', output: '[2]', testtype: 'functional' }]);
    const row = problem('3243', {
      public_test_cases: functional,
      private_test_cases: '[]',
      starter_code: 'class Solution:\n    def minCost(self, a, b):\n        ',
      metadata: '{"func_name": "minCost"}',
    });
    const [task] = livecodebench.tasks(slice, await rowsOf(row));
    expect(task?.entryPoint).toBe('minCost');
    expect(task?.tests[0]).toMatchObject({
      call: expect.stringContaining(
        `.minCost if 'Solution' in globals() else minCost)(*map(__import__('json').loads, ["[1.0]","\\"x\\""]))`,
      ) as string,
      expect: `__import__('json').loads("[2]")`,
    });
  });

  it('may have arguments as large as contests have them', async () => {
    const input = JSON.stringify(Array.from({ length: 100_000 }, (_, at) => at));
    const functional = JSON.stringify([{ input, output: input, testtype: 'functional' }]);
    const more = { public_test_cases: functional, private_test_cases: '[]', metadata: '{"func_name": "m"}' };
    const [task] = livecodebench.tasks(slice, await rowsOf(problem('large', more)));
    const { completes: _completes, ...planned } = task!;
    expect(PlannedTask.shape.task.safeParse(planned).success).toBe(true);
  });

  it('find names imported, compare numbers and have the time that LiveCodeBench gives', async () => {
    const [task] = livecodebench.tasks(slice, await rowsOf(problem('abc_a')));
    expect(task?.precedes).toMatch(/^from string import \*; (?:from \w+ import \*; )+import string, .*; sys\.set.*\n$/);
    // The Python client is one file by itself, so it has the list once more.
    const client = readFileSync(new URL('../../workers/client/acecoder_verifier.py', import.meta.url), 'utf8');
    const [, listed] = /^_STARRED = \[\n([^\]]*)\]/m.exec(client)!;
    const starred = [...(task?.precedes ?? '').matchAll(/from (\w+) import \*/g)].map(([, name]) => name);
    expect([...listed!.matchAll(/"(\w+)"/g)].map(([, name]) => name)).toEqual(starred);
    expect(task?.precedes).toContain('from builtins import *; from typing import *; ');
    expect(task?.tests.map((test) => (test as { compare: string }).compare)).toEqual(['decimals', 'decimals']);
    expect(task?.limits).toEqual({ cpuSecondsPerTest: 6, cpuSecondsPerProgram: 19 });
  });

  it('are those of a window of dates, which is part of the name', async () => {
    const rows = await rowsOf(problem('old', { contest_date: '2024-07-31T00:00:00' }), problem('new'));
    const window = { ...slice, from: '2024-08-01', to: '2024-08-03' };
    expect(livecodebench.tasks(window, rows).map(({ id }) => id)).toEqual(['new']);
    expect(livecodebench.name(window)).toBe('livecodebench(2024-08-01..2024-08-03)');
    expect(livecodebench.slice.safeParse({ ...slice, from: 'August' }).success).toBe(false);
  });

  it('with a hostile pickle, or none, are refused', async () => {
    const call = hex('8004951f000000000000008c05706f736978948c0673797374656d9493948c046563686f94859452942e');
    expect(
      await rowsOf(problem('a', { private_test_cases: packed(call) }), problem('b', { private_test_cases: 'AAAA' })),
    ).toEqual([
      expect.stringMatching(/^private_test_cases: the pickle has the opcode 0x93, and only lists, .* are read$/),
      'private_test_cases: no JSON, and no pickle that is compressed by zlib',
    ]);
  });
});

describe('problems of BigCodeBench', () => {
  const row = {
    task_id: 'BigCodeBench/13',
    complete_prompt: 'import os\n\ndef task_func():\n    """Do."""\n',
    instruct_prompt: 'Do.\nYou should write self-contained code starting with:',
    code_prompt: 'import os\ndef task_func():\n',
    canonical_solution: '    return 1\n',
    test: 'import unittest\n',
    entry_point: 'task_func',
    libs: "['os']",
  };
  const given = { kind: 'bigcodebench', data: { kind: 'tasks', path: 'a' }, subset: 'hard' };

  it('continue a head or are asked in words, calibrated or not', () => {
    expect(bigcodebench.tasks(given, [row])[0]).toMatchObject({
      programPrefix: row.complete_prompt,
      precedes: 'import os\ndef task_func():\n\n    pass\n',
      tests: [{ module: 'import unittest\n' }],
    });
    const instruct = { ...given, split: 'instruct', calibrated: false };
    expect(bigcodebench.tasks(instruct, [row])[0]).toMatchObject({ question: row.instruct_prompt, programPrefix: '' });
    expect(bigcodebench.tasks(instruct, [row])[0]).not.toHaveProperty('precedes');
    expect([given, instruct].map((each) => bigcodebench.name(each))).toEqual([
      'bigcodebench-hard-complete',
      'bigcodebench-hard-instruct-uncalibrated',
    ]);
  });
});

describe('tasks of one’s own', () => {
  const given = { kind: 'ownTasks', data: { kind: 'tasks', path: 'a' }, name: 'mine' };

  it('have asserts, calls and a checker', () => {
    const checker = 'def check(input, output, answer): return True';
    const row = {
      id: 'a',
      question: 'Q',
      tests: ['assert f()', { call: 'f(1)' }, { call: 'f(2)', expect: '3' }],
      checker,
    };
    expect(ownTasks.tasks(given, [row])[0]?.tests).toEqual([
      'assert f()',
      { call: 'f(1)', checker },
      { call: 'f(2)', expect: '3', checker },
    ]);
    expect(ownTasks.name({ ...given, every: 2, offset: 1 })).toBe('mine[1::2]');
  });

  it.each([
    [{ id: 'a', question: 'Q', tests: [{ call: 'f(1)' }] }, 'task a: tests.0 says nothing of right answers'],
    [{ id: 'a', question: 'Q', tests: ['assert f()', { stdin: '', stdout: '' }] }, 'cannot be mixed'],
    [{ id: 'a', question: 'Q', tests: ['assert f()'], testes: 1 }, 'testes'],
    [{ question: 'Q', tests: ['assert f()'] }, 'id'],
  ])('are refused where a row is none: %#', (row, told) => {
    expect(() => ownTasks.tasks(given, [row])).toThrow(told);
  });
});
