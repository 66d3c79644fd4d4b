/** `npm run sandbox` on rows that cannot be judged: each is refused by its number or id, the others are judged. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { root } from '../setup/paths.mjs';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-sandbox-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const double = 'def double(x):\n    return 2 * x\n';
const tests = ['assert double(2) == 4'];

function judge(
  rows: (string | Buffer | object)[],
  ...more: string[]
): {
  status: number | null;
  said: string;
  rows: { id: string; passRate: number }[];
} {
  const [input, output] = [join(folder, 'programs.jsonl'), join(folder, 'verdicts.jsonl')];
  rmSync(output, { force: true });
  writeFileSync(
    input,
    Buffer.concat(
      rows.flatMap((row) => [
        Buffer.isBuffer(row) ? row : Buffer.from(typeof row === 'string' ? row : JSON.stringify(row)),
        Buffer.from('\n'),
      ]),
    ),
  );
  const { status, stderr } = spawnSync(
    process.execPath,
    ['--import', 'tsx', 'infra/commands/sandbox.ts', '--input', input, '--output', output, ...more],
    {
      cwd: root,
      encoding: 'utf8',
      maxBuffer: 1 << 24,
    },
  );
  return {
    status,
    said: stderr,
    rows: readFileSync(output, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { id: string; passRate: number }),
  };
}

describe('npm run sandbox', () => {
  it('refuses bad rows one by one and judges the others', () => {
    const { status, said, rows } = judge([
      { id: 'first', program: double, tests },
      '{"id": "cut',
      { id: 'no-tests', program: double },
      { id: 'unparsable', program: double, tests: ['assert double(2 =='] },
      { id: 'many-tests', program: double, tests: Array.from({ length: 10_000 }, () => tests[0]) },
      { id: 'huge', program: `# ${'x'.repeat(50_000_000)}\n${double}`, tests },
      Buffer.from([0xff, 0xfe, 0x00, 0x80, 0x7b]),
      { id: 'mixed', program: double, tests: [...tests, { stdin: '', stdout: '' }] },
      { id: 'first', program: double, tests },
      { id: 'wrong', program: 'def double(x):\n    return x\n', tests },
    ]);
    expect(status).toBe(1);
    expect(rows).toMatchObject([
      { id: 'first', passRate: 1 },
      { id: 'wrong', passRate: 0 },
    ]);
    for (const words of [
      /^row 2: /m,
      /^row 3: tests: /m,
      /^unparsable: one of its tests is no Python text$/m,
      /^row 5: tests: /m,
      /^row 6: the row has 5\d{7} characters/m,
      /^row 7: the row is not UTF-8 text$/m,
      /^row 8: tests: .*mixed/m,
      /^row 9: the id "first" is that of row 1 already/m,
    ]) {
      expect(said).toMatch(words);
    }
    expect(said).toContain('8 rows refused');
  });

  it('takes limits, references and languages by row, and entry points and references by option', () => {
    const references = join(folder, 'references.jsonl');
    writeFileSync(references, `${JSON.stringify({ id: 'known', program: double, tests })}\n`);
    // It takes half a second of CPU time on every host.
    const slow = 'import time\ndef double(x):\n    while time.process_time() < 0.5: pass\n    return 2 * x\n';
    const { status, said, rows } = judge(
      [
        { id: 'right', program: double, tests: ['assert candidate(2) == 4'], reference: double, language: 'python' },
        { id: 'broken', program: double, tests, reference: 'def double(x):\n    return x\n' },
        { id: 'slow', program: slow, tests, limits: { cpuSecondsPerTest: 30, cpuSecondsPerProgram: 60 } },
        { id: 'late', program: slow, tests, limits: { cpuSecondsPerTest: 0.01 } },
        { id: 'none', program: double, tests, language: 'cobol' },
      ],
      ...['--entry-point', 'double', '--references', references, '--workers', '1'],
    );
    expect(status).toBe(1);
    expect(rows).toMatchObject([
      { id: 'right', passRate: 1 },
      { id: 'slow', passRate: 1 },
      { id: 'late', passRate: 0 },
    ]);
    expect(said).toMatch(/^broken: its reference fails the test 0$/m);
    expect(said).toMatch(/^row 5: language: /m);
  });

  it('judges several right answers, and drops rows whose checker has a fault', () => {
    const page = readFileSync(join(root, 'docs/how-to/several-right-answers.md'), 'utf8');
    const [, example] = /```json\n([^`]+)```/.exec(page)!;
    const [, checker] = /```python\n([^`]+)```/.exec(page)!;
    const order = 'def order(n, edges):\n    return list(range(n))';
    const { status, said, rows } = judge([
      JSON.parse(example!) as object,
      {
        id: 'checker',
        program: order,
        entryPoint: 'order',
        checker,
        tests: [{ call: 'candidate(3, [(0, 1)])' }, { call: 'order(3, [(2, 1)])' }],
      },
      { id: 'fault', program: order, tests: [{ call: 'order(1, [])', checker: 'def check(i, o, a):\n    return 1' }] },
      { id: 'no-judge', program: order, tests: [{ call: 'order(1, [])' }] },
      { id: 'script', program: 'print(7)', tests: [{ stdin: '', anyOf: ['6', '7'] }] },
    ]);
    expect(status).toBe(1);
    expect(rows).toMatchObject([
      { id: 'any-order', passRate: 1 },
      {
        id: 'checker',
        passRate: 0.5,
        outcomes: [{ checker: expect.stringMatching(/^[0-9a-f]{16}$/) as string }, { reason: 'an edge goes back' }],
      },
      { id: 'script', passRate: 1 },
    ]);
    expect(said).toMatch(/^fault: test 0: the checker: it answers 1/m);
    expect(said).toMatch(/^row 4: tests\.0: give it an expected answer, a property or a checker$/m);
  });

  it('says with --mutants how many wrong answers checkers reject', () => {
    const rows = [
      { id: 'good', program: double, tests: [{ call: 'double(4)', property: 'result == 2 * args[0]' }] },
      { id: 'weak', program: double, tests: [{ call: 'double(4)', property: 'result is not None' }] },
      { id: 'text', program: double, tests },
    ];
    const [input, output] = [join(folder, 'right.jsonl'), join(folder, 'checkers.jsonl')];
    writeFileSync(input, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    const { status, stderr } = spawnSync(
      process.execPath,
      ['--import', 'tsx', 'infra/commands/sandbox.ts', '--input', input, '--output', output, '--mutants', '10'],
      { cwd: root, encoding: 'utf8' },
    );
    expect(status).toBe(1);
    expect(stderr).toMatch(/^text: its tests have no checker, property or comparison$/m);
    const found = readFileSync(output, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { id: string; killed: number });
    expect(found).toMatchObject([
      { id: 'good', answers: 1, accepted: 1, mutants: 10, killed: 10, failed: 0, survivors: [] },
      { id: 'weak', accepted: 1, mutants: 10 },
    ]);
    expect(found[1]!.killed).toBeLessThan(3);
  });

  it('takes every character of JSON in rows and in what it resumes from, and limits', () => {
    const odd = '\u2028\u2029\u0085\ufffd';
    const program = `def double(x):\n    return '${odd}' if x == 3 else 2 * x\n`;
    const rows = [
      { id: `odd ${odd}`, program, tests: [`assert double(3) == '${odd}x'`, `assert double(3) == '${odd}'`] },
    ];
    const [input, output] = [join(folder, 'odd.jsonl'), join(folder, 'odd-verdicts.jsonl')];
    writeFileSync(input, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    const run = (...more: string[]) =>
      spawnSync(
        process.execPath,
        ['--import', 'tsx', 'infra/commands/sandbox.ts', '--input', input, '--output', output, ...more],
        { cwd: root, encoding: 'utf8' },
      );
    expect(run('--cpu-seconds-per-test', '0').stderr).toContain(
      '--cpu-seconds-per-test is "0": give a number above 0.',
    );
    expect(run('--cpu-seconds-per-test', '2', '--memory-mib', '256').status).toBe(0);
    const first = readFileSync(output, 'utf8');
    expect(first).toContain(odd);
    expect(run().stderr).toContain('1 rows are in the output already');
    expect(readFileSync(output, 'utf8')).toBe(first);
  });
});
