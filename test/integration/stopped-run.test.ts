/** A run of tests that is stopped by a signal leaves no process. */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { root } from '../../infra/setup/paths.mjs';
import { endAll, findMarked } from '../../infra/setup/processes.mjs';

const FILE = 'test/integration/store.test.ts';
const VITEST = ['node_modules/vitest/vitest.mjs', 'run', FILE];
const TEST_COMMAND = ['infra/commands/run.mjs', 'test', FILE];
/** Set in the environment of the run that is stopped, and in that of all that it starts. */
const MARK = 'ACECODER_TEST_OF_STOP';

type Case = readonly [what: string, signal: NodeJS.Signals, whom: string, program: string[], group: boolean];

async function leavesNoProcess(...[, signal, , program, group]: Case): Promise<void> {
  const mark = randomUUID();
  // This test's own run goes on: the other one knows nothing of it.
  const own = Object.entries(process.env).filter(([name]) => !/^(VITEST|ACECODER_TEST_|TEST$)/.test(name));
  const run = spawn(process.execPath, program, {
    cwd: root,
    detached: true,
    stdio: 'ignore',
    env: { ...Object.fromEntries(own), [MARK]: mark },
  });
  const ended = once(run, 'exit');
  const commands = (): string[] =>
    findMarked(MARK, mark).map(({ pid }) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      } catch {
        return '';
      }
    });
  try {
    // The workers start last, when the servers answer; the tests are still to come.
    for (const part of ['start-dev', /minio server|weed .*server/, join(root, 'workers/all.ts')])
      await expect
        .poll(() => commands().filter((command) => command.match(part)), { timeout: 150_000, interval: 200 })
        .not.toEqual([]);
    process.kill(group ? -run.pid! : run.pid!, signal);
    await ended;
    // Vitest alone ends at once, and its sweeper clears up after it.
    await expect.poll(commands, { timeout: program === VITEST ? 60_000 : 0, interval: 100 }).toEqual([]);
  } finally {
    await endAll(() => findMarked(MARK, mark), 0);
  }
}

describe('a test run', { timeout: 180_000 }, () => {
  it.each<Case>([
    ['npm test', 'SIGINT', 'its process group', TEST_COMMAND, true],
    ['vitest', 'SIGTERM', 'its first process', VITEST, false],
  ])('of %s leaves no process after %s to %s', leavesNoProcess);

  it.each<Case>([
    ['npm test', 'SIGTERM', 'its first process', TEST_COMMAND, false],
    ['vitest', 'SIGINT', 'its process group', VITEST, true],
  ])('of %s leaves no process after %s to %s', { tags: 'long' }, leavesNoProcess);
});
