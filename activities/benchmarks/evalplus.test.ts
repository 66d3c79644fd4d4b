/**
 * HumanEval+ and MBPP+ out of files as EvalPlus publishes them: nothing of a number is lost, and nothing is
 * guessed.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { humanevalPlus, mbppPlus } from './evalplus.js';
import { publishedRows, withExactTexts, type PublishedRow } from './published.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-published-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function rowsOf(content: string | Buffer, name = 'rows.jsonl'): Promise<PublishedRow[]> {
  const path = join(folder, name);
  writeFileSync(path, content);
  const rows: PublishedRow[] = [];
  for await (const row of publishedRows(path)) rows.push(row);
  return rows;
}

/** A line as it is published: with contract, and numbers that are none of JavaScript. */
const line = (id: string, plus = '[[1.0, [18446744073709551616]], [-Infinity, []]]'): string =>
  `{"task_id": "${id}", "prompt": "\\"\\"\\"\\nAdd.\\nassert f(1, [2]) == 3\\n\\"\\"\\"\\n", "entry_point": "f", ` +
  `"canonical_solution": "\\ndef f(a, b):\\n  return a\\n", "base_input": [[1, [2, "a]b\\"}"]]], "atol": 0, ` +
  `"plus_input": ${plus}, "contract": "\\n  assert a"}`;

describe('rows of published files', () => {
  it('keep the texts of inputs', async () => {
    const [row] = await rowsOf(`${line('Mbpp/2')}\n`);
    expect(row?.row).toMatchObject({
      task_id: 'Mbpp/2',
      base_input: '[[1, [2, "a]b\\"}"]]]',
      plus_input: '[[1.0, [18446744073709551616]], [-Infinity, []]]',
      contract: '\n  assert a',
    });
  });

  it('come out of gzip, out of an array, and out of an object of rows', async () => {
    expect((await rowsOf(gzipSync(`${line('Mbpp/2')}\n${line('Mbpp/3')}\n`), 'a.jsonl.gz')).length).toBe(2);
    expect(await rowsOf('[{"question_id": "a"},\n {"question_id": "b"}]')).toMatchObject([
      { row: { question_id: 'a' } },
      { line: 2, row: { question_id: 'b' } },
    ]);
    const byId = JSON.stringify({ 'B/1': { task_id: 'B/1' }, 'B/2': { task_id: 'B/2' } });
    expect(await rowsOf(byId)).toMatchObject([{ row: { task_id: 'B/1' } }, { row: { task_id: 'B/2' } }]);
  });

  it.each<[string, (value: object) => string]>([
    ['in one line', (value) => JSON.stringify(value)],
    ['over lines', (value) => JSON.stringify(value, null, 4)],
  ])('come out of a result file, %s', async (_, written) => {
    const entry = (task_id: string, solution: string) => ({
      task_id,
      solution,
      base_status: 'pass',
      plus_status: 'fail',
    });
    const results = { date: 'd', hash: 'h', eval: { 'Mbpp/2': [entry('Mbpp/2', 'a'), entry('Mbpp/2', 'b')] } };
    const rows = (await rowsOf(written(results), 'eval_results.json')).map(({ row }) => row?.['solution']);
    expect(rows).toEqual(['a', 'b']);
    const byId = { 'B/1': { task_id: 'B/1' }, 'B/2': { task_id: 'B/2' } };
    expect((await rowsOf(written(byId), 'b.json')).length).toBe(2);
    expect((await rowsOf(written([entry('Mbpp/3', 'c')]), 'c.json')).length).toBe(1);
  });

  it.each<[string, string | Buffer, string, string]>([
    ['an object that does not end', '{\n"task_id": "a",\n', 'd.json', 'no JSON'],
    ['no gzip', 'plain', 'b.jsonl.gz', 'no gzip, although its name ends with .gz'],
    ['no JSON', '{"a": }', 'b.jsonl', 'no JSON'],
    ['a broken array', '[{"a": 1}', 'b.json', 'no JSON'],
    ['a number', '1', 'b.jsonl', 'no object'],
    ['Latin-1', Buffer.from('{"a": "é"}', 'latin1'), 'b.jsonl', 'no UTF-8'],
  ])('are told where there is %s', async (_, content, name, fault) => {
    const [row] = await rowsOf(content, name);
    expect(row?.fault).toContain(fault);
  });

  it('leave texts alone that are texts already', () => {
    expect(withExactTexts('{"base_input": "[1.0]", "x": 1}', ['base_input'])).toBe('{"base_input": "[1.0]", "x": 1}');
    expect(withExactTexts('{"x": {"base_input": [1.0]}}', ['base_input'])).toBe('{"x": {"base_input": [1.0]}}');
  });
});

describe('tasks of EvalPlus', () => {
  const parsed = (text: string): unknown => JSON.parse(withExactTexts(text, ['base_input', 'plus_input']));
  const slice = { kind: 'mbppPlus', data: { kind: 'tasks', path: 'a' } };

  it('have a test for the base inputs and one for the others, and two results', () => {
    const [task] = mbppPlus.tasks(slice, [parsed(line('Mbpp/2'))]);
    expect(task).toMatchObject({
      id: 'Mbpp/2',
      question: 'Add.\n\nYour code should pass this test:\n\nassert f(1, [2]) == 3',
      programPrefix: '',
      tests: [
        { suite: '[[1, [2, "a]b\\"}"]]]', task: 'Mbpp/2', entryPoint: 'f', rules: '0.3.1', atol: 0 },
        { suite: '[[1.0, [18446744073709551616]], [-Infinity, []]]' },
      ],
    });
    expect(task?.reference).toContain('Add.');
    expect(mbppPlus.results(slice)).toEqual([{ name: 'mbppPlus base', tests: 1 }, { name: 'mbppPlus' }]);
  });

  it('have the base inputs alone, by older rules, under a name of their own', () => {
    const base = { ...slice, tests: 'base', rules: '0.2.1' };
    expect(mbppPlus.tasks(base, [parsed(line('Mbpp/2'))])[0]?.tests).toMatchObject([{ rules: '0.2.1' }]);
    expect(mbppPlus.results(base)).toEqual([{ name: 'mbppPlus@0.2.1 base', tests: 1 }]);
  });

  it('may have no further inputs', () => {
    expect(mbppPlus.tasks(slice, [parsed(line('Mbpp/793', '{}'))])[0]?.tests[1]).toMatchObject({ suite: '{}' });
  });

  it('are refused with ids of another benchmark, and where inputs are no texts', () => {
    expect(() => humanevalPlus.tasks({ ...slice, kind: 'humanevalPlus' }, [parsed(line('Mbpp/2'))])).toThrow(
      "task Mbpp/2: the tasks of humanevalPlus have ids that begin with 'HumanEval/'",
    );
    expect(() => mbppPlus.tasks(slice, [{ ...(parsed(line('Mbpp/2')) as object), base_input: [[1]] }])).toThrow(
      'give the file as a path',
    );
  });

  it('open the answer of HumanEval+ with the head of the function', () => {
    const [task] = humanevalPlus.tasks({ ...slice, kind: 'humanevalPlus' }, [parsed(line('HumanEval/0'))]);
    expect(task?.programPrefix).toBe(task?.completes);
    expect(task?.reference.startsWith(task.programPrefix)).toBe(true);
  });
});
