/**
 * Files of a user, before they become artifacts: what is wrong with them is told by line, and nothing is read as
 * something else.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { linesOf } from '../artifacts/rows.js';
import { faultsOfFile } from './import-artifact.js';
import type { ArtifactKind } from '../../workflows/contract/index.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-import-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const seed = (name: string, code = `def ${name}():\n    return 'é'\n`): string =>
  JSON.stringify({ id: `own/${name}`, source: 'own', code });

function faults(content: string | Buffer, kind: ArtifactKind = 'seeds', brokenLines?: 'drop'): Promise<string[]> {
  const path = join(folder, 'rows.jsonl');
  writeFileSync(path, content);
  return faultsOfFile(path, { kind, path, brokenLines });
}

const utf16 = 'the file is no UTF-8, it looks like UTF-16; save it as UTF-8';
const swapped = (text: string): Buffer => Buffer.from(text, 'utf16le').swap16();

describe('a file of seeds', () => {
  it.each([
    ['line feeds', `${seed('a')}\n${seed('b')}\n`],
    ['no line feed at its end', `${seed('a')}\n${seed('b')}`],
    ['line ends of Windows', `${seed('a')}\r\n${seed('b')}\r\n`],
    ['a byte order mark', `\ufeff${seed('a')}\n`],
    ['separators of lines and paragraphs inside a text', `${seed('a', "x = '\u2028\u2029'")}\n`],
    ['the same seed twice, which its stage drops and counts', `${seed('a')}\n${seed('a')}\n`],
  ])('may have %s', async (_, content) => {
    expect(await faults(content)).toEqual([]);
  });

  it.each<[string, string | Buffer, string[]]>([
    ['nothing in it', '', ["the file is empty; it must hold at least one row of kind 'seeds'"]],
    [
      'Latin-1',
      Buffer.from(`${JSON.stringify({ id: 'own/plain', source: 'own', code: 'x = 1' })}\n${seed('a')}\n`, 'latin1'),
      ['line 2: no UTF-8; save the file as UTF-8'],
    ],
    ['UTF-16 with its mark', Buffer.from(`\ufeff${seed('a')}\n`, 'utf16le'), [utf16]],
    ['UTF-16, the other way round', swapped(`\ufeff${seed('a')}\n`), [utf16]],
    ['UTF-16 without a mark', Buffer.from(`${seed('a')}\n`, 'utf16le'), [utf16]],
    ['broken lines', `${seed('a')}\n{"id": \n\n${seed('b')}\n`, ['line 2: no JSON', 'line 3: no JSON']],
    [
      'the same id for another seed',
      `${seed('a')}\n${seed('b')}\n${seed('a', 'y = 2')}\n`,
      ["line 3: id: 'own/a' is that of another seed in line 1; give each seed an id of its own"],
    ],
  ])('with %s is refused', async (_, content, told) => {
    expect(await faults(content)).toEqual(told);
  });

  it('whose broken lines are dropped needs one row at least', async () => {
    expect(await faults(`{"id": \n${seed('a')}\nno row\n`, 'seeds', 'drop')).toEqual([]);
    expect(await faults(`{"id": \nno row\n`, 'seeds', 'drop')).toEqual(['line 1: no JSON', 'line 2: no JSON']);
    expect(await faults('', 'seeds', 'drop')).toEqual([
      "the file is empty; it must hold at least one row of kind 'seeds'",
    ]);
  });

  it('longer than one read is counted by its own lines', async () => {
    const lines = Array.from({ length: 20_000 }, (_, index) => seed(`f${index}`));
    expect(await faults([...lines, 'no row'].join('\n'))).toEqual(['line 20001: no JSON']);
  });
});

describe('a question from elsewhere', () => {
  const question = (tests: number): string =>
    JSON.stringify({
      id: 'q',
      seedId: 's',
      source: 'own',
      question: 'Q',
      entryPoint: 'f',
      reference: '',
      split: 'train',
      tests: Array.from({ length: tests }, (_, n) => `assert f(${n}) == ${n}`),
    });

  it('has as many tests as the sandbox judges, and no more', async () => {
    expect(await faults(`${question(1000)}\n`, 'filteredQuestions')).toEqual([]);
    expect(await faults(`${question(1001)}\n`, 'filteredQuestions')).toEqual([
      expect.stringMatching(/^line 1: tests: .*1000/),
    ]);
  });
});

describe('the lines of a file', () => {
  it.each(['utf8', 'latin1'] as const)('are the same however it is read: %s', async (encoding) => {
    const path = join(folder, 'lines.txt');
    const lines = Array.from({ length: 300 }, (_, index) => 'x'.repeat(index * 37));
    writeFileSync(path, `\ufeff${lines.join('\n')}`);
    const found: string[] = [];
    for await (const some of linesOf(path, encoding)) found.push(...some);
    expect(found).toEqual(lines);
  });
});

describe('a file of questions', () => {
  const question = (more: object): string =>
    JSON.stringify({
      ...{ id: 'q', seedId: 's', source: 'own', question: 'Give it.', entryPoint: 'f', reference: '', split: 'train' },
      ...more,
    });

  it.each([
    ['texts', { tests: ['assert f(1) == 1'] }],
    ['checked tests among texts', { tests: ['assert f(1) == 1', { call: 'f(2)', anyOf: ['1', '2'] }] }],
    ['a checker for what they leave open', { tests: [{ call: 'f(2)' }], checker: 'def check(i, o, a): ...' }],
    [
      'tests of a script',
      {
        tests: [
          { stdin: '1', stdout: '1' },
          { stdin: '2', anyOf: ['1', '2'] },
        ],
      },
    ],
  ])('may have tests that are %s', async (_, more) => {
    expect(await faults(question(more), 'filteredQuestions')).toEqual([]);
  });

  it.each([
    [
      'nobody judges',
      { tests: ['assert f(1) == 1', { call: 'f(2)' }] },
      /^line 1: tests\.1: give it an expected answer/,
    ],
    [
      'are of two kinds',
      { tests: [{ stdin: '1', stdout: '1' }, 'assert f(1)'] },
      /^line 1: tests\.1: .*cannot be mixed/,
    ],
    ['are nothing known', { tests: [{ call: 'f(2)', expected: '3' }] }, /^line 1: tests\.0: a test: Python statements/],
  ])('is refused where its tests %s', async (_, more, message) => {
    const [told] = await faults(question(more), 'filteredQuestions');
    expect(told).toMatch(message);
  });
});
