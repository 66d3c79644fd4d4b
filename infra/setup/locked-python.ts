/** Python environments that are made on demand from a lock with hashes: for what few people need. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { venvPython } from './paths.mjs';

/**
 * The interpreter of an environment with exactly the packages of a lock. Where the folder has another lock's packages
 * or none, it is made anew by pip, which takes seconds to minutes.
 *
 * @throws Error with the end of what pip says.
 * @example
 * lockedPython(join(home(), 'trackers', 'wandb'), join(root, 'workers/trackers/wandb.lock'));
 */
export function lockedPython(folder: string, lock: string): string {
  return pythonAfter(folder, lock, ['install', '--no-deps', '--require-hashes', '-r', lock]);
}

/**
 * As {@link lockedPython}, after pip has run with these arguments in an environment that holds pip alone. It runs again
 * where the lock is another one.
 */
export function pythonAfter(folder: string, lock: string, pip: readonly string[]): string {
  const python = join(folder, 'bin/python');
  const complete = join(folder, 'complete');
  const digest = createHash('sha256').update(readFileSync(lock)).digest('hex');
  if (existsSync(complete) && readFileSync(complete, 'utf8') === digest) return python;
  const run = (command: string, args: readonly string[]): void => {
    const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}: ${stderr.slice(-2000)}`);
  };
  run(venvPython(), ['-m', 'venv', '--clear', folder]);
  run(python, ['-m', 'pip', '--quiet', '--disable-pip-version-check', ...pip]);
  writeFileSync(complete, digest);
  return python;
}
