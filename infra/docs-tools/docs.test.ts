/** The documentation: its style, its links, and the lists in it that must name everything the code has. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import type { Benchmark } from '../../activities/benchmarks/benchmark.js';
import type { Teacher } from '../../activities/synthesis/teachers/teacher.js';
import { root } from '../setup/paths.mjs';
import {
  anchorsOf,
  commandsOf,
  GENERATED,
  linksOf,
  pages,
  proseLines,
  sentencesOf,
  shellBlocks,
  signsOf,
  tableCells,
  wordsOf,
} from '../../test/fixtures/documentation.js';
import { ARTIFACT_KINDS, FAILURES } from '../../workflows/contract/index.js';

/** Words of a sentence, at most. */
const LONGEST = 30;
const README_WORDS = 900;
/** Clicks from the README to any page, at most. */
const CLICKS = 2;

const all = pages();
const byPath = new Map(all.map((page) => [page.path, page]));
const textOf = (path: string): string => {
  const page = byPath.get(path);
  if (!page) throw new Error(`there is no page ${path}`);
  return page.text;
};
const written = all.filter(({ path }) => !GENERATED.test(path));
const guides = written.filter(({ path }) => path === 'README.md' || path.startsWith('docs/'));

describe('the style', () => {
  it(`keeps the README within ${README_WORDS} words`, () => {
    expect(textOf('README.md').split(/\s+/).filter(Boolean).length).toBeLessThanOrEqual(README_WORDS);
  });

  it.each(written.map(({ path }) => path))('%s has one sentence per line', (path) => {
    const lines = proseLines(textOf(path));
    const several = lines.filter(({ line }) => sentencesOf(line).length > 1);
    expect(several.map(({ number, line }) => `${path}:${number} ${line}`)).toEqual([]);
    const split = lines.filter(({ line }, index) => {
      const next = lines[index + 1]?.line ?? '';
      return line !== '' && !/[.:;!?…]\)?$/.test(line) && next !== '' && !next.startsWith('- ');
    });
    expect(split.map(({ number, line }) => `${path}:${number} ${line}`)).toEqual([]);
  });

  it.each(guides.map(({ path }) => path))(`%s has no sentence of more than ${LONGEST} words`, (path) => {
    const prose = proseLines(textOf(path)).flatMap(({ line }) => sentencesOf(line));
    const cells = tableCells(textOf(path)).flatMap(sentencesOf);
    expect([...prose, ...cells].filter((sentence) => wordsOf(sentence) > LONGEST)).toEqual([]);
  });

  it('says the standard words', () => {
    const others = /\b(time-outs?|is tried again|beside|nobody|of its own|heart-beats?)\b/i;
    const found = guides.flatMap(({ path, text }) =>
      proseLines(text).flatMap(({ number, line }) => (others.test(line) ? [`${path}:${number} ${line}`] : [])),
    );
    expect(found).toEqual([]);
  });

  it('refers to nothing outside the repository', () => {
    const outside = /design\.md|\(design\b|\.\.\/shared|reference\/sandbox 0|\/work\/|\/root\//;
    expect(all.filter(({ text }) => outside.test(text)).map(({ path }) => path)).toEqual([]);
  });
});

describe('the links', () => {
  it.each(all.map(({ path }) => path))('of %s lead to files and headings that exist', (path) => {
    const broken = linksOf(byPath.get(path)!).filter(({ target, anchor }) => {
      if (target.startsWith('..') || !existsSync(join(root, target))) return true;
      return anchor !== undefined && !anchorsOf(readFileSync(join(root, target), 'utf8')).includes(anchor);
    });
    expect(broken.map((link) => link.written)).toEqual([]);
  });

  it(`reach every page from the README within ${CLICKS} clicks`, () => {
    let reached = new Set(['README.md']);
    for (let click = 0; click < CLICKS; click += 1) {
      const from = [...reached].flatMap((path) => byPath.get(path) ?? []);
      reached = new Set([...reached, ...from.flatMap((page) => linksOf(page).map(({ target }) => target))]);
    }
    const expected = all.map(({ path }) => path).filter((path) => !path.startsWith('.github'));
    expect(expected.filter((path) => !reached.has(path))).toEqual([]);
  });
});

describe('the shell blocks', () => {
  const blocks = all.flatMap(shellBlocks);

  it('are all read', () => {
    for (const page of all)
      expect(shellBlocks(page), page.path).toHaveLength(page.text.split(/^```(?:sh|bash|shell|console)$/m).length - 1);
    expect(blocks.length).toBeGreaterThan(30);
  });

  it('that are not run name a test which mentions each command, or give a reason', () => {
    const unproved = blocks.flatMap((block) => {
      const { page, coveredBy, reason } = block;
      if (reason !== undefined) return reason.length > 10 ? [] : [`${page}: ${reason}`];
      if (coveredBy === undefined) return [];
      if (!existsSync(join(root, coveredBy))) return [`${page}: there is no ${coveredBy}`];
      const test = readFileSync(join(root, coveredBy), 'utf8');
      return commandsOf(block)
        .filter((command) => !signsOf(command).every((sign) => test.includes(sign)))
        .map((command) => `${page}: ${coveredBy} does not mention ${command}`);
    });
    expect(unproved).toEqual([]);
  });

  it('that are run hold every verb of the Temporal CLI that a user needs', () => {
    const run = blocks
      .filter(({ coveredBy, reason }) => coveredBy === undefined && reason === undefined)
      .flatMap(commandsOf)
      .join('\n');
    for (const verb of [
      'start',
      'list',
      'describe',
      'query',
      'metadata',
      'signal',
      'update execute',
      'result',
      'execute',
      'cancel',
    ])
      expect(run).toContain(`temporal workflow ${verb} `);
    for (const verb of ['create', 'trigger', 'describe', 'toggle', 'backfill', 'delete'])
      expect(run).toContain(`temporal schedule ${verb} `);
  });
});

describe('the lists', () => {
  /** Words in code marks in the first cell of each row of a page's tables. */
  const firstCells = (path: string): string[] =>
    textOf(path)
      .split('\n')
      .filter((line) => line.startsWith('| '))
      .flatMap((line) => [...line.split(' | ')[0]!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!));

  it('of environment variables are what the code reads', () => {
    const rooms = ['workflows', 'activities', 'workers', 'infra'];
    const sources = rooms
      .flatMap((room) =>
        readdirSync(join(root, room), { recursive: true, encoding: 'utf8' }).map((name) => join(room, name)),
      )
      .filter((path) => /\.(ts|mjs|py)$/.test(path) && !/\.test\.ts$|\/tests\/|node_modules|\/dist\//.test(path));
    const read = new Set(
      sources.flatMap((path) =>
        [...readFileSync(join(root, path), 'utf8').matchAll(/\bACECODER_[A-Z0-9_]*[A-Z0-9]\b(?!_)/g)].map(
          ([name]) => name,
        ),
      ),
    );
    // A beginning of names, in a message.
    read.delete('ACECODER_S3');
    const listed = new Set(firstCells('docs/reference/environment.md').filter((name) => name.startsWith('ACECODER_')));
    expect([...listed].sort()).toEqual([...read].sort());
  });

  it('of failures are those of the contract, with their class', () => {
    for (const path of ['docs/reference/failures.md', 'docs/how-to/parked.md']) {
      for (const [type, kind] of Object.entries(FAILURES))
        expect(
          textOf(path)
            .split('\n')
            .filter((line) => line.includes(`\`${type}\``) && line.includes(`| ${kind} |`)),
          `${path}: ${type} is ${kind}`,
        ).toHaveLength(1);
    }
    const headings = [...textOf('docs/how-to/parked.md').matchAll(/^## (\w+)$/gm)].map(([, heading]) => heading!);
    expect(headings).toEqual(Object.keys(FAILURES));
  });

  it('of what can break name every failure, and the test that tries it', () => {
    const text = textOf('docs/how-to/when-something-breaks.md');
    expect(Object.keys(FAILURES).filter((type) => !text.includes(`](parked.md#${type.toLowerCase()})`))).toEqual([]);
    const rows = text.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| what'));
    expect(rows.filter((row) => !/\]\(\.\.\/\.\.\/[\w/.-]+(\.test\.ts|\/test_\w+\.py)\) \|$/.test(row))).toEqual([]);
  });

  it('of commands are the scripts of package.json', () => {
    const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    };
    const listed = new Set(
      firstCells('docs/reference/cli.md').flatMap((cell) => /^npm (?:run )?([\w:-]+)/.exec(cell)?.[1] ?? []),
    );
    expect([...listed].sort()).toEqual(
      Object.keys(scripts)
        .filter((name) => name !== 'prepack')
        .sort(),
    );
  });

  it('of artifact kinds are those of the contract', () => {
    const listed = firstCells('docs/reference/artifacts.md');
    expect(ARTIFACT_KINDS.filter((kind) => !listed.includes(kind))).toEqual([]);
  });

  it('of examples are the files of infra/experiments, once in each of its two tables', () => {
    const listed = firstCells('infra/experiments/README.md').filter((name) => name.endsWith('.json'));
    const files = readdirSync(join(root, 'infra/experiments')).filter((name) => name.endsWith('.json'));
    expect(listed.sort()).toEqual([...files, ...files].sort());
  });
});

describe('the worked examples', () => {
  const folder = mkdtempSync(join(tmpdir(), 'acecoder-examples-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  /** The first block of a language on a page, as a module whose imports are found from where `room` is. */
  async function moduleOf(path: string, language: string, room: string): Promise<Record<string, unknown>> {
    const [, code] = new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``).exec(textOf(path))!;
    const found = code!
      .replaceAll(/from '(\.[^']+)\.js'/g, (_, name: string) => `from '${join(root, room, name)}.ts'`)
      .replaceAll(/from 'zod'/g, () => `from '${pathToFileURL(join(root, 'node_modules/zod/index.js')).href}'`);
    const file = join(folder, `${path.replaceAll('/', '-')}.ts`);
    writeFileSync(file, found);
    return (await import(/* @vite-ignore */ file)) as Record<string, unknown>;
  }

  it('of a benchmark is one', async () => {
    const { kata } = (await moduleOf('docs/extend/benchmark.md', 'ts', 'activities/benchmarks')) as {
      kata: Benchmark & { slice: { safeParse: (value: unknown) => { success: boolean } } };
    };
    const given = { kind: 'kata', data: { kind: 'tasks', path: 'kata.jsonl' }, every: 2, offset: 1 };
    expect(kata.slice.safeParse(given).success).toBe(true);
    expect(kata.slice.safeParse({ ...given, offset: 2 }).success).toBe(false);
    expect([kata.kind, kata.name(given), kata.size(given, { heldOut: 0 })]).toEqual(['kata', 'kata[1::2]', 50]);
    const row = { id: 'k/1', ask: 'Double x.', entry: 'double', asserts: ['assert double(2) == 4'], answer: 'def ...' };
    expect(kata.tasks(given, [{}, row])).toEqual([
      {
        id: 'k/1',
        question: 'Double x.',
        entryPoint: 'double',
        programPrefix: '',
        tests: row.asserts,
        reference: row.answer,
      },
    ]);
    expect(() => kata.tasks(given, [{}, { ...row, asserts: [] }])).toThrow('asserts');
  });

  it('of a teacher is one, which reads stored replies', async () => {
    const room = 'activities/synthesis/teachers';
    const { lines } = (await moduleOf('docs/extend/teacher.md', 'ts', room)) as { lines: Teacher };
    const { answers, steps } = lines.with({ kind: 'lines', testCases: 1 });
    expect([lines.paid, ...steps]).toEqual([false, 'request', 'parse']);
    if (answers.from !== 'recorded') throw new Error(`it reads from ${answers.from}`);
    const seed = { id: 's', source: 'own', code: 'def f(): pass' };
    const reply = { seedId: 's', text: 'double | Double x. | assert double(2) == 4' };
    expect(answers.read(seed, [{ seedId: 's', text: 'an earlier one' }, reply])).toEqual({
      question: 'Double x.',
      entryPoint: 'double',
      testCases: [{ test: 'assert double(2) == 4' }],
    });
    expect(answers.read(seed, []).failure).toBe('noLine');
  });
});
