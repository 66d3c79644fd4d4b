import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { endAll, findMarked, identify, isAlive, stopProcess, withLock } from './processes.mjs';

const MODULE = new URL('processes.mjs', import.meta.url).href;
let folder: string;
let lock: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'acecoder-processes-'));
  lock = join(folder, 'lock');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Runs JavaScript in another process, in a group of its own, with the module's functions in scope. */
function run(code: string): ChildProcess {
  const imports = `import { identify, withLock } from '${MODULE}'; import fs from 'node:fs';
    import { setTimeout as sleep } from 'node:timers/promises';`;
  return spawn(process.execPath, ['--input-type=module', '--eval', imports + code], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

describe('process identity', () => {
  it('is not that of an earlier process with the same pid', () => {
    const self = identify(process.pid)!;
    expect(isAlive(self)).toBe(true);
    expect(isAlive({ ...self, startTime: String(Number(self.startTime) - 1) })).toBe(false);
  });

  it('ends with the process, also where SIGTERM is ignored', async () => {
    const child = run(`process.on('SIGTERM', () => {}); console.log('ready'); setInterval(() => {}, 1000);`);
    await once(child.stdout!, 'data');
    const identity = identify(child.pid!)!;
    await stopProcess(identity, 200);
    expect(isAlive(identity)).toBe(false);
    expect(identify(child.pid!)).toBeUndefined();
    await stopProcess(identity, 200);
  });
});

describe('withLock', () => {
  it('lets one process in at a time, and breaks the lock of a dead one', async () => {
    const counter = join(folder, 'counter');
    writeFileSync(counter, '0');
    // The pid is alive, but of another process than the one that took the lock.
    writeFileSync(lock, JSON.stringify({ pid: process.pid, startTime: '1' }));
    const increments = `for (let i = 0; i < 25; i++) await withLock('${lock}', async () => {
      const before = Number(fs.readFileSync('${counter}', 'utf8'));
      await sleep(1);
      fs.writeFileSync('${counter}', String(before + 1));
    });`;
    const children = [1, 2, 3, 4].map(() => run(increments));
    const codes = await Promise.all(children.map((child) => once(child, 'exit')));
    expect(codes).toEqual(codes.map(() => [0, null]));
    expect(readFileSync(counter, 'utf8')).toBe('100');
    expect(existsSync(lock)).toBe(false);
  });

  it('tells who holds the lock, and gets it when the holder is killed', async () => {
    const holder = run(`await withLock('${lock}', async () => { console.log('held'); await sleep(600_000); });`);
    await once(holder.stdout!, 'data');
    const waitedFor: number[] = [];
    const result = await withLock(
      lock,
      async () => 'mine',
      (pid) => {
        waitedFor.push(pid);
        process.kill(pid, 'SIGKILL');
      },
    );
    expect(result).toBe('mine');
    expect(waitedFor).toEqual([holder.pid]);
  });

  it('is free again after a failure', async () => {
    await expect(withLock(lock, () => Promise.reject(new Error('failed')))).rejects.toThrow('failed');
    expect(await withLock(lock, async () => 'free')).toBe('free');
  });
});

describe('marked processes', () => {
  it('are those with the mark and their descendants, and all of them end', async () => {
    const grandchild = `sleep 600 & wait`;
    const child = spawn('/bin/sh', ['-c', `env -u MARK_OF_TEST sh -c '${grandchild}' & echo ready; wait`], {
      env: { PATH: process.env['PATH'], MARK_OF_TEST: folder },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const other = spawn('/bin/sleep', ['600'], { env: { MARK_OF_TEST: 'another' } });
    try {
      await once(child.stdout, 'data');
      const find = () => findMarked('MARK_OF_TEST', folder);
      // The shell with the mark, the one without it, and what that one runs.
      await expect.poll(find).toHaveLength(3);
      expect(find().map(({ pid }) => pid)).toContain(child.pid);
      await endAll(find, 10_000);
      expect(find()).toEqual([]);
      expect(identify(other.pid!)).toBeDefined();
    } finally {
      child.kill('SIGKILL');
      other.kill('SIGKILL');
    }
  });
});
