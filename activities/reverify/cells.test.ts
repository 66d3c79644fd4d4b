/** Which cells are known, which have to run, and where they are looked for. */
import { describe, expect, it } from 'vitest';
import type { TestOutcome, Verdict } from '../../workflows/contract/index.js';
import { intoShards } from '../runtime/sharded-stage.js';
import {
  mayHold,
  outcomesOf,
  programKey,
  rangeOf,
  runsNeeded,
  shardDigits,
  shardOf,
  testDigest,
  type How,
  type Run,
} from './cells.js';

/** A run, written as `a pass, b killed`. */
function runOf(text: string): Run {
  const parts = text.split(', ').map((part) => part.split(' ') as [string, Verdict, string?]);
  return {
    tests: parts.map(([test]) => test),
    outcomes: parts.map(([, status, reason]): TestOutcome => ({ status, ...(reason ? { reason } : {}) })),
  };
}

/** What is known of a list, and what has to run. */
function judged(list: string, runs: readonly string[], how: How = 'new'): { known: string; needed: number[][] } {
  const tests = list.split(' ');
  const known = outcomesOf(tests, runs.map(runOf), how);
  return {
    known: known.map((outcome) => outcome?.status ?? '?').join(' '),
    needed: runsNeeded(tests, known, how),
  };
}

describe('a list of tests', () => {
  it.each<[string, string, string[], string, number[][]]>([
    ['as before', 'a b', ['a pass, b raised'], 'pass raised', []],
    ['as before, with tests that never ran', 'a b', ['a timeout, b not_run'], 'timeout not_run', []],
    ['as before, with a test that could not be judged', 'a b', ['a pass, b unjudged'], 'pass unjudged', []],
    ['with a new test at the end', 'a b c', ['a pass, b raised'], 'pass raised ?', [[2]]],
    ['with new tests, each in a process for itself', 'x a y', ['a pass'], '? pass ?', [[0], [2]]],
    ['with a new test twice', 'a x x', ['a pass'], 'pass ? ?', [[1]]],
    ['with a test less', 'b', ['a pass, b raised'], 'raised', []],
    ['in another order', 'b a', ['a pass, b raised'], 'raised pass', []],
    ['of which nothing is known, in one process', 'a b', [], '? ?', [[0, 1]]],
    ['of which each is known from its own process', 'a b', ['b pass', 'a raised'], 'raised pass', []],
    ['with a test that could not be judged before', 'a b c', ['a pass, b unjudged'], 'pass ? ?', [[1], [2]]],
    ['behind a test that ended the process', 'a b c', ['a killed, b not_run'], 'killed not_run ?', [[2]]],
    ['without the test that ended the process', 'b c', ['a killed, b not_run, c not_run'], '? ?', [[0, 1]]],
    ['without a test that took the time', 'b c', ['a pass, b timeout, c pass'], '? pass', [[0]]],
    ['without a test that took the memory', 'b', ['a pass, b raised MemoryError'], '?', [[0]]],
    ['where that test still comes before', 'a x b', ['a pass, b timeout'], 'pass ? timeout', [[1]]],
    ['where that test comes after', 'b a', ['a pass, b timeout'], '? pass', [[0]]],
    ['whose first run says it, where several do', 'a x', ['a pass', 'a raised'], 'pass ?', [[1]]],
  ])('%s', (_name, list, runs, known, needed) => {
    expect(judged(list, runs)).toEqual({ known, needed });
  });

  it.each<[string, string, string[], string, number[][]]>([
    ['as before', 'a b', ['a pass, b raised'], 'pass raised', []],
    ['with a new test, whole', 'a b c', ['a pass, b raised'], '? ? ?', [[0, 1, 2]]],
    ['with a test less, whole', 'b', ['a pass, b raised'], '?', [[0]]],
    ['that ran as a whole since', 'b', ['a pass, b raised', 'b pass'], 'pass', []],
  ])('that runs as stages do: %s', (_name, list, runs, known, needed) => {
    expect(judged(list, runs, 'whole')).toEqual({ known, needed });
  });
});

describe('what names a cell', () => {
  const limits = { cpuSecondsPerTest: 1, cpuSecondsPerProgram: 3, memoryBytes: 1 };

  it('is the value of a test, not how it is written down', () => {
    expect(testDigest({ stdin: '1', stdout: '2' })).toBe(testDigest({ stdout: '2', stdin: '1' }));
    const others = ['1', { stdin: '1', stdout: '2' }, { stdin: '1', stdout: '2', compare: 'exact' }, { oneOf: [1, 2] }];
    expect(new Set(others.map(testDigest)).size).toBe(others.length);
  });

  it('is a program with its limits, without white space at its end', () => {
    expect(programKey('a\n', limits)).toBe(programKey('a', limits));
    const others = [programKey('a', limits), programKey(' a', limits), programKey('a', { ...limits, memoryBytes: 2 })];
    expect(new Set(others).size).toBe(3);
  });
});

describe('stored cells', () => {
  const key = (at: number): string =>
    programKey(String(at), { cpuSecondsPerTest: 1, cpuSecondsPerProgram: 1, memoryBytes: 1 });
  const keys = (count: number): string[] => Array.from({ length: count }, (_, at) => key(at)).sort();

  it.each([1, 7, 240, 5000])('of %i programs are found by each of them, and read by few others', (count) => {
    const all = keys(count);
    const objects = intoShards(all, 64);
    const names = objects.map((each) => `${rangeOf(each)}-content.json`);
    for (const [at, object] of objects.entries())
      for (const key of object) expect(mayHold(names[at]!, [key])).toBe(true);
    expect(names.every((name) => mayHold(name, all))).toBe(true);
    for (const key of keys(20)) expect(names.filter((name) => mayHold(name, [key])).length).toBeLessThanOrEqual(2);
    expect(names.some((name) => mayHold(name, []))).toBe(false);
  });

  it('go to as many shards as there are programs for', () => {
    expect([1, 4096, 4097, 65_536, 65_537, 1_400_000].map((count) => shardDigits(count, 4096))).toEqual([
      0, 0, 1, 1, 2, 2,
    ]);
    expect([shardOf('ab1', 0), shardOf('ab1', 1), shardOf('ab1', 2)]).toEqual([0, 10, 171]);
  });
});
