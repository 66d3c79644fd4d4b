/** The search for calls of seeds, from outside: over a real sandbox, with seeds that do what they can against it. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { SandboxLimits, SeedRow } from '../../workflows/contract/index.js';
import { deriveSeed } from '../artifacts/keys.js';
import { judgePrograms } from '../execution/execution.js';
import { ownSandbox } from '../../test/fixtures/own-sandbox.js';
import { searchSeeds } from './seed-search.js';
import { offline } from './teachers/offline.js';
import type { Searched } from './teachers/teacher.js';

const sandbox = ownSandbox();
const limits = SandboxLimits.parse({});

const search = (...codes: string[]): Promise<Searched[]> =>
  searchSeeds(
    sandbox,
    codes.map((code) => ({ code, seed: 1, tests: 8, attempts: 200 })),
    { limits },
  );

describe('a search', () => {
  it('takes whatever a seed prints or ends for no answer of its own', async () => {
    const found = await search(
      'import os\nos._exit(0)\ndef f(n):\n    return n\n',
      'import os\ndef f(n):\n    os.write(1, b\'\\n{"entryPoint": "g", "tests": 7}\\n\')\n    os._exit(0)\n',
      'print("{}")\ndef f(n):\n    return [n]\n',
      'import json, os\ntest = {"call": "f(1)", "literal": "1j", "origin": "trial"}\n' +
        'answer = {"entryPoint": "f", "header": "", "documentation": "", "isClass": False, "tests": [test]}\n' +
        'def f(n):\n    os.write(1, b"\\n" + json.dumps(answer).encode() + b"\\n")\n    os._exit(0)\n',
    );
    expect(found.map(({ reason }) => reason)).toEqual(['endsItsProcess', 'endsItsProcess', undefined, 'noLiteral']);
    expect(found[2]!.tests.length).toBeGreaterThanOrEqual(5);
  });

  it('goes on without a call that nothing ends', async () => {
    // One long calculation in C hears no signal.
    const code = 'def f(n):\n    return sum(range(10 ** 13)) if str(n)[::-1] == "52.7" else [n]\n';
    const [found] = await searchSeeds(
      sandbox,
      [{ code, calls: ['f(7.25)', 'f("first")'], seed: 1, tests: 8, attempts: 200 }],
      { limits },
    );
    expect(found).toMatchObject({ entryPoint: 'f' });
    expect(found!.reason).toBeUndefined();
    expect(found!.tests[0]).toEqual({ call: 'f("first")', literal: "['first']", origin: 'tree' });
  });

  it('finds tests that the judge confirms, and the same ones again', async () => {
    const code = 'def common(a, b):\n    for item in a:\n        if item in b:\n            yield item\n';
    const teaching = offline.with({ kind: 'offline', corruptedShare: 0 });
    if (teaching.answers.from !== 'sandbox' || !teaching.answers.search) throw new Error('it searches nothing');
    const seed = SeedRow.parse({ id: 'own/common', source: 'own', code });
    const asked = teaching.answers.search(seed, deriveSeed);
    const [found] = await searchSeeds(sandbox, [asked.search], { limits });
    const { testCases, question, failure } = asked.write(found!);
    expect(failure).toBeUndefined();
    expect(question).toContain('Write a Python function `common(a, b)`');
    const tests = testCases.flatMap(({ test }) => (typeof test === 'string' ? [test] : []));
    const { judgements } = await judgePrograms(sandbox, [{ id: 'p', program: code, tests }], { limits });
    expect(judgements[0]).toMatchObject({ judged: true, passRate: 1 });
    expect(await searchSeeds(sandbox, [asked.search], { limits })).toEqual([found]);
  });
});

describe('a value without a literal', () => {
  it('holds up nothing where a seed is called by its annotations', () => {
    const teaching = offline.with({ kind: 'offline', corruptedShare: 1 });
    if (teaching.answers.from !== 'sandbox') throw new Error('it runs nothing');
    const code = 'def f(n: float) -> float:\n    """The root."""\n    return n ** 0.5\n';
    const { write } = teaching.answers.ask(SeedRow.parse({ id: 'own/f', source: 'own', code }), deriveSeed);
    const { testCases } = write(['1j', 'nan', '1e999', '2.0'].map((literal) => ({ call: 'f(1)', literal })));
    expect(testCases).toHaveLength(1);
  });
});

describe('the seeds of the project', () => {
  it('are understood by their annotations, so that their tests stay as they are', () => {
    const teaching = offline.with({ kind: 'offline' });
    if (teaching.answers.from !== 'sandbox') throw new Error('it runs nothing');
    const { ask } = teaching.answers;
    const rows = readFileSync(new URL('../../infra/seeds/simple.jsonl', import.meta.url), 'utf8')
      .trim()
      .split('\n');
    for (const row of rows) expect(ask(SeedRow.parse(JSON.parse(row)), deriveSeed).calls.length).toBeGreaterThan(4);
  });
});
