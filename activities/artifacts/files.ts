/** Files and folders of this host: names, digests, sizes, and what is old enough to go. No Temporal, no store. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { constants, copyFile, link, lstat, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';

/** Bytes of a file that one read gives. */
export const READ_BYTES = 256 * 1024;

/** Whether an error, or one that led to it, says that a disk or a quota is full, in whatever words. */
export function isDiskFull(error: unknown): boolean {
  for (let [each, depth] = [error, 0]; each instanceof Error && depth < 8; [each, depth] = [each.cause, depth + 1]) {
    if ('code' in each && (each.code === 'ENOSPC' || each.code === 'EDQUOT')) return true;
    if (each instanceof AggregateError && each.errors.some(isDiskFull)) return true;
  }
  return false;
}

/** Relative names of all files below a folder, in order. */
export async function filesOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
}

/** SHA-256 of a file's bytes in hexadecimal. */
export async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Bytes of all files of a folder. */
export async function folderBytes(folder: string): Promise<number> {
  const sizes = await Promise.all((await filesOf(folder)).map(async (name) => (await stat(join(folder, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Links a file to a path whose folders need not exist. */
export async function linkInto(path: string, target: string): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  await link(path, target);
}

/** Links a file to a path whose folders need not exist, or copies it where the two are on different disks. */
export async function linkOrCopy(path: string, target: string): Promise<void> {
  await linkInto(path, target).catch(async (error: NodeJS.ErrnoException) => {
    if (!['EXDEV', 'EPERM', 'EMLINK', 'ENOTSUP', 'ENOSYS'].includes(error.code ?? '')) throw error;
    await copyFile(path, target, constants.COPYFILE_FICLONE);
  });
}

/** Renames a finished folder to its name. Where a folder of that name exists, that one stays and the new one goes. */
export async function place(building: string, folder: string): Promise<void> {
  await mkdir(dirname(folder), { recursive: true });
  await rename(building, folder).catch(async (error: NodeJS.ErrnoException) => {
    await rm(building, { recursive: true, force: true });
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
  });
}

/** Removes those entries of a folder in which nothing has changed for so many milliseconds. */
export async function sweepUntouched(folder: string, milliseconds: number): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name);
    if (Date.now() - (await touchedAt(path)) > milliseconds) await rm(path, { recursive: true, force: true });
  }
}

/** When a file, or anything in a folder, was changed last, in milliseconds; 0 where it is gone. */
async function touchedAt(path: string): Promise<number> {
  const below = (await readdir(path, { recursive: true }).catch(() => [])).map((name) => join(path, name));
  const times = [path, ...below].map((one) =>
    lstat(one).then(
      ({ mtimeMs, ctimeMs }) => Math.max(mtimeMs, ctimeMs),
      () => 0,
    ),
  );
  return Math.max(...(await Promise.all(times)));
}
