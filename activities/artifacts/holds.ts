/**
 * What of the cache is read now. A path that was handed out stays for {@link HOLD_MS} at least, whichever process of
 * this host has it: its time is set to now. For as long as the work that took it runs, its time is set again and again.
 * A killed worker thus holds nothing for long.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { utimes } from 'node:fs/promises';

/** A path that nobody took for this long is read by nobody. */
export const HOLD_MS = 600_000;

const scopes = new AsyncLocalStorage<Set<string>>();
/** How many works hold a path. */
const held = new Map<string, number>();
let timer: NodeJS.Timeout | undefined;

/** Runs work that reads files of the cache, such as an activity. What it takes stays until it ends. */
export async function holdingFiles<T>(work: () => Promise<T>): Promise<T> {
  const taken = new Set<string>();
  try {
    return await scopes.run(taken, work);
  } finally {
    for (const path of taken) {
      const left = (held.get(path) ?? 1) - 1;
      if (left > 0) held.set(path, left);
      else held.delete(path);
    }
    if (held.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  }
}

/** Takes a file or folder for the work that runs. @returns false where it is gone. */
export async function hold(path: string): Promise<boolean> {
  const taken = scopes.getStore();
  if (taken && !taken.has(path)) {
    taken.add(path);
    held.set(path, (held.get(path) ?? 0) + 1);
    timer ??= setInterval(() => {
      for (const each of held.keys()) void touch(each);
    }, HOLD_MS / 10).unref();
  }
  return touch(path);
}

/** Whether work of this process has a path. */
export function isHeld(path: string): boolean {
  return held.has(path);
}

async function touch(path: string): Promise<boolean> {
  const now = new Date();
  return utimes(path, now, now).then(
    () => true,
    () => false,
  );
}
