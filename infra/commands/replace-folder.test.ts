import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { replaceFolder } from './replace-folder.mjs';

let folder: string;

beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'acecoder-folder-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Writes files, given by their paths and texts, into a folder of that name. */
function made(name: string, files: Record<string, string>): string {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name, path)), { recursive: true });
    writeFileSync(join(folder, name, path), text);
  }
  return join(folder, name);
}

const filesIn = (path: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((file) => [file.slice(path.length + 1), readFileSync(file, 'utf8')]),
  );

it('has the new files, without those that are no longer made', () => {
  const to = made('dist', { 'same.js': '1', 'other.js': '2', 'old/gone.js': '3' });
  replaceFolder(made('build', { 'same.js': '1', 'other.js': '22', 'new/index.js': '4' }), to);
  expect(filesIn(to)).toEqual({ 'same.js': '1', 'other.js': '22', 'new/index.js': '4' });
  expect(readdirSync(folder)).toEqual(['dist']);
});

it('makes the folder where there is none', () => {
  const to = join(folder, 'dist');
  replaceFolder(made('build', { 'deep/in/a.js': '1' }), to);
  expect(filesIn(to)).toEqual({ 'deep/in/a.js': '1' });
});

it('leaves each file of a build that runs at the same time as it is', () => {
  const files = { 'a.js': '1', 'policy/sources/index.js': '2' };
  const to = join(folder, 'dist');
  replaceFolder(made('first', files), to);
  const before = Object.keys(files).map((file) => statSync(join(to, file)));
  replaceFolder(made('second', files), to);
  const after = Object.keys(files).map((file) => statSync(join(to, file)));
  expect(after.map(({ ino, mtimeMs }) => [ino, mtimeMs])).toEqual(before.map(({ ino, mtimeMs }) => [ino, mtimeMs]));
});

it('replaces a file as a whole: whoever has opened the old one reads it to its end', () => {
  const to = made('dist', { 'a.js': 'old' });
  const { ino } = statSync(join(to, 'a.js'));
  replaceFolder(made('build', { 'a.js': 'new' }), to);
  expect(statSync(join(to, 'a.js')).ino).not.toBe(ino);
});
