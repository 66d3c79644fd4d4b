/**
 * Keeps a cache within its budget: blobs and folders go that were used longest ago and that nobody reads.
 *
 * Folders of artifacts hold links to blobs. A file takes room until its last link is gone, so that a folder goes
 * together with those of its blobs that nothing else has. A blob with a further link belongs to a folder, or to a
 * process that works with the file, and does not go alone. The time of a folder, and of a blob without further links,
 * says when it was used last. The time of a file in a folder stays: the model runtime knows changed weights by it.
 */
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import { eachOf } from './collections.js';
import { filesOf } from './files.js';
import { HOLD_MS, isHeld } from './holds.js';

/** Files looked at at once. */
const LOOKS = 16;

/** The folders of a cache; `spool` takes what goes until it is gone. */
export interface CacheFolders {
  blobs: string;
  folders: string;
  spool: string;
}

/** A file of the cache, whatever its names are. */
interface Inode {
  bytes: number;
  /** Path among the blobs; undefined where that one is gone. */
  blob?: string;
}

interface Item {
  path: string;
  /** When it was used last, in milliseconds. */
  used: number;
  inodes: number[];
}

/** Bytes of a cache before and after {@link evict}. */
export interface Evicted {
  before: number;
  after: number;
}

/** Removes what was used longest ago until at most `mostBytes` are left, or nothing is left that may go. */
export async function evict(cache: CacheFolders, mostBytes: number | ((bytes: number) => number)): Promise<Evicted> {
  const { items, inodes } = await look(cache);
  let bytes = 0;
  for (const inode of inodes.values()) bytes += inode.bytes;
  const before = bytes;
  const most = typeof mostBytes === 'number' ? mostBytes : mostBytes(before);
  for (const item of items.sort((a, b) => a.used - b.used)) {
    if (bytes <= most || item.used > Date.now() - HOLD_MS) break;
    if (isHeld(item.path)) continue;
    // Read again, because another process may have taken it meanwhile.
    const now = await stat(item.path).catch(() => undefined);
    if (!now || now.mtimeMs !== item.used) continue;
    await remove(item.path, cache.spool);
    for (const number of item.inodes) {
      const inode = inodes.get(number)!;
      if (inode.blob !== undefined && inode.blob !== item.path) {
        const left = await stat(inode.blob).catch(() => undefined);
        if (left && (left.nlink > 1 || isHeld(inode.blob))) continue;
        await rm(inode.blob, { force: true });
      }
      bytes -= inode.bytes;
      inode.bytes = 0;
    }
  }
  return { before, after: bytes };
}

async function look({ blobs, folders }: CacheFolders): Promise<{ items: Item[]; inodes: Map<number, Inode> }> {
  const inodes = new Map<number, Inode>();
  const items: Item[] = [];
  const names = await readdir(folders).catch(() => []);
  await eachOf(names.length, LOOKS, async (at) => {
    const path = join(folders, names[at]!);
    const found = await stat(path).catch(() => undefined);
    if (!found) return;
    const item: Item = { path, used: found.mtimeMs, inodes: [] };
    for (const name of await filesOf(path).catch(() => [])) {
      const file = await stat(join(path, name)).catch(() => undefined);
      if (!file) continue;
      inodes.set(file.ino, { bytes: file.size });
      item.inodes.push(file.ino);
    }
    items.push(item);
  });
  const cached = await readdir(blobs).catch(() => []);
  await eachOf(cached.length, LOOKS, async (at) => {
    const path = join(blobs, cached[at]!);
    const found = await stat(path).catch(() => undefined);
    if (!found) return;
    inodes.set(found.ino, { bytes: found.size, blob: path });
    if (found.nlink === 1) items.push({ path, used: found.mtimeMs, inodes: [found.ino] });
  });
  return { items, inodes };
}

/** Removes a file or folder so that it is gone as a whole at once. */
async function remove(path: string, spool: string): Promise<void> {
  const going = join(spool, `${randomUUID()}.evicted`);
  await mkdir(spool, { recursive: true });
  await rename(path, going).catch(() => undefined);
  await rm(going, { recursive: true, force: true });
}
