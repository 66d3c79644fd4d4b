import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The files below a folder, by their paths in it. */
const filesOf = (folder) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));

/**
 * Gives a folder the files of another one on the same file system, and removes that one. A file that both have is
 * there, whole, at every moment. One with the same bytes is left as it is, so two builds of the same sources that run
 * at once change nothing for each other, nor for whoever reads what the first one made.
 *
 * @example replaceFolder('/checkout/.acecoder/build-1', '/checkout/dist')
 */
export function replaceFolder(from, to) {
  const made = filesOf(from);
  for (const file of made) {
    const target = join(to, file);
    if (existsSync(target) && readFileSync(join(from, file)).equals(readFileSync(target))) continue;
    mkdirSync(dirname(target), { recursive: true });
    renameSync(join(from, file), target);
  }
  const kept = new Set(made);
  for (const file of filesOf(to)) if (!kept.has(file)) rmSync(join(to, file), { force: true });
  rmSync(from, { recursive: true, force: true });
}
