/** This package as it is installed: its root, name, version and, in a checkout, its commit. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Folder that holds `package.json`; the module may stand in the source tree or in a compiled copy below it. */
export const ROOT = findRoot(dirname(fileURLToPath(import.meta.url)));

export const PACKAGE = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  name: string;
  version: string;
};

/**
 * A program that is sent into the sandbox, as text. Each is read once.
 *
 * @example
 * const script = sentProgram('search.py');
 */
export function sentProgram(name: string): string {
  let text = sent.get(name);
  if (text === undefined) sent.set(name, (text = readFileSync(join(ROOT, 'workers/sent', name), 'utf8')));
  return text;
}
const sent = new Map<string, string>();

let commit: string | null | undefined;

/** The commit of the checkout, with `+changes` when files differ from it; undefined outside a checkout. */
export function gitCommit(): string | undefined {
  if (commit === undefined) {
    try {
      const git = (...args: string[]): string =>
        execFileSync('git', ['-C', ROOT, ...args], {
          encoding: 'utf8',
          stdio: ['ignore', 'pipe', 'ignore'],
          // The repository's configuration may name programs, which get no secret of the worker.
          env: { PATH: process.env['PATH'], HOME: process.env['HOME'] },
        }).trim();
      commit = existsSync(join(ROOT, '.git'))
        ? `${git('rev-parse', 'HEAD')}${git('status', '--porcelain', '-uno') ? '+changes' : ''}`
        : null;
    } catch {
      commit = null;
    }
  }
  return commit ?? undefined;
}

function findRoot(folder: string): string {
  const file = join(folder, 'package.json');
  if (existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: string }).name === 'acecoder-temporal')
    return folder;
  const parent = dirname(folder);
  if (parent === folder) throw new Error('the package.json of acecoder-temporal was not found above its modules');
  return findRoot(parent);
}
