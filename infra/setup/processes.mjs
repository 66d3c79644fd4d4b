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

/**
 * The processes whose environment has the variable with the value, and all their descendants, which may have been given
 * another environment; this process is not among them.
 */
export function findMarked(name, value) {
  const parents = new Map();
  const marked = new Set();
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      parents.set(pid, Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
      if (readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(`${name}=${value}`)) marked.add(pid);
    } catch (error) {
      // It has ended meanwhile, or it is another user's.
      if (!['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(error.code)) throw error;
    }
  }
  for (let before = -1; before !== marked.size;) {
    before = marked.size;
    for (const [pid, parent] of parents) if (marked.has(parent)) marked.add(pid);
  }
  return [...marked].map(identify).filter((identity) => identity !== undefined);
}

/**
 * Ends every process that `find` names, also those that start meanwhile: SIGTERM, and SIGKILL after the grace time
 * (milliseconds). Returns once none is left.
 */
export async function endAll(find, graceMs) {
  const deadline = performance.now() + graceMs;
  const asked = new Set();
  for (let left = find(); left.length > 0; left = find()) {
    for (const { pid, startTime } of left) {
      const late = performance.now() >= deadline;
      const key = `${pid} ${startTime}`;
      if (late || !asked.has(key)) signalOne(pid, late ? 'SIGKILL' : 'SIGTERM');
      asked.add(key);
    }
    await sleep(50);
  }
}

function signalOne(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

const END_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Calls `handle` for each signal that ends this process. Returns a function that gives the signals back to Node. */
export function onEndSignal(handle) {
  for (const signal of END_SIGNALS) process.on(signal, handle);
  return () => {
    for (const signal of END_SIGNALS) process.off(signal, handle);
  };
}

/** The environment without the user's Temporal settings, which may name a production server. */
export function withoutTemporal(env = process.env) {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('TEMPORAL_')));
}
