// Processes that outlive the one that started them, and locks between processes. Node built-ins only.
import { linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * What tells a process from a later one with the same number: its pid and its start time in clock ticks since boot
 * (field 22 of /proc/<pid>/stat). Undefined when there is no such process, or only a zombie of it.
 */
export function identify(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command name in parentheses may hold spaces and parentheses itself; the state is the first field after it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A killed process shows as a zombie while threads of it still end, and holds its ports and files until then.
    const ended = 'ZX'.includes(fields[0]) && readdirSync(`/proc/${pid}/task`).length <= 1;
    return ended ? undefined : { pid, startTime: fields[19] };
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return undefined;
    throw error;
  }
}

/** Whether exactly this process, and not a later one with its pid, is running. */
export function isAlive(identity) {
  return identify(identity.pid)?.startTime === identity.startTime;
}

/**
 * Ends the process group that the process leads: SIGTERM, and SIGKILL after the grace time (milliseconds). Returns once
 * the process is gone; does nothing when it is gone already.
 */
export async function stopProcess(identity, graceMs = 15_000) {
  for (const [signal, waitMs] of [
    ['SIGTERM', graceMs],
    ['SIGKILL', Infinity],
  ]) {
    const deadline = performance.now() + waitMs;
    if (isAlive(identity)) signalGroup(identity.pid, signal);
    while (isAlive(identity) && performance.now() < deadline) await sleep(25);
  }
}

function signalGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

/** The content of a JSON file, or undefined when it is absent or no JSON. */
export function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT' || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Writes a file whole or not at all; a reader never sees a part of it. */
export function writeWhole(path, text, mode = 0o644) {
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, text, { mode });
  renameSync(draft, path);
}

/**
 * Runs `body` while this process holds the lock file `path`. The file names its holder, so the lock of a process that
 * was killed counts for nothing. `onWait(pid)` is called once when another process holds it.
 */
export async function withLock(path, body, onWait = () => {}) {
  mkdirSync(dirname(path), { recursive: true });
  const mine = `${path}.${process.pid}.${Math.trunc(performance.now() * 1000)}`;
  writeFileSync(mine, JSON.stringify(identify(process.pid)));
  try {
    for (let waited = false; !tryLock(mine, path);) {
      const holder = readJson(path);
      if (!holder || !isAlive(holder)) {
        breakLock(path, holder);
        continue;
      }
      if (!waited) onWait(holder.pid);
      waited = true;
      await sleep(100);
    }
  } finally {
    rmSync(mine);
  }
  try {
    return await body();
  } finally {
    rmSync(path, { force: true });
  }
}

/** A hard link is made by one process only, and the file has its content from the first moment on. */
function tryLock(mine, path) {
  try {
    linkSync(mine, path);
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
    return false;
  }
}

/** Removes a dead holder's lock. Only one process can move it aside; if it got another lock, it puts that back. */
function breakLock(path, deadHolder) {
  const aside = `${path}.${process.pid}.broken`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (error.code === 'ENOENT') return;
    throw error;
  }
  const taken = readJson(aside);
  if (taken?.pid !== deadHolder?.pid || taken?.startTime !== deadHolder?.startTime) tryLock(aside, path);
  rmSync(aside);
}
