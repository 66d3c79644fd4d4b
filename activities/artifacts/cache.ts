/**
 * Blobs through a cache on this host. A blob is named by the SHA-256 of its uncompressed bytes, so that the
 * implementation of gzip never shows in a digest. The cache keeps uncompressed blobs: a retry on the same host, and the
 * next stage, read from disk.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { copyFile, link, mkdir, rename, rm, stat, statfs } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGunzip } from 'node:zlib';
import { StageFailure, type ManifestFile } from '../../workflows/contract/index.js';
import { set } from '../metrics.js';
import { eachOf } from './collections.js';
import { evict, type Evicted } from './eviction.js';
import { fileDigest, filesOf, isDiskFull, linkInto, place, sweepUntouched } from './files.js';
import { hold } from './holds.js';
import { objectKeys } from './keys.js';
import type { S3Objects } from './objects.js';

/** Times that writers and garbage collection share, in seconds. Tests alone have others. */
export interface BlobTimes {
  /** Age from which a stored blob is sent again; 6 hours unless told. */
  refreshSeconds?: number;
  /** As {@link SWEEP_SECONDS}. */
  sweepSeconds?: number;
}

/** A stored blob, as a manifest names it. */
export type BlobFile = Pick<ManifestFile, 'sha256' | 'bytes' | 'encoding' | 'name'>;

/**
 * A stored blob of this age is sent again when a producer needs it. Garbage collection sweeps unnamed blobs that are a
 * day old or older, and must not sweep one that a manifest is about to name.
 */
const REFRESH_AFTER_SECONDS = 6 * 3600;
/**
 * Garbage collection removes a blob within this time of asking for the listing that shows its age, or not at all. A
 * blob that is sent again meanwhile may be removed once more for as long, so that its writer looks again after it.
 */
export const SWEEP_SECONDS = 30;
/** What garbage collections that remove blobs leave for writers to see, and when such a notice counts no more. */
const SWEEPS = 'sweeps/';
export const OLD_SWEEP_MS = 8 * 24 * 3_600_000;
/**
 * The manifest of a model is committed over blobs that were stored or touched within this time. Pruned blobs go after
 * `YOUNG_BLOB_SECONDS`, much sooner than a day. The difference between the two covers the clocks, which S3 lets differ
 * by 15 minutes, and the time that a commit takes.
 */
const FRESH_BLOB_SECONDS = 300;
/** Share of its disk that a cache takes unless it is told otherwise. */
const SHARE_OF_DISK = 0.5;
/** A cache is looked through when it has grown by this share of its budget, and is cut to that much below it. */
const GROWTH = 0.05;
/** Share of a cache that stays where its disk is full. */
const SHARE_WHEN_FULL = 0.5;
/** Times that a blob is fetched for a link where others remove it in between. */
const FETCHES = 3;

/** Where a file goes besides staying where it is: into the cache of this host, and to the store. Both by default. */
export type PutOptions = { cached?: boolean; sent?: true } | { cached?: true; sent: boolean };

export class BlobCache {
  readonly #blobs: string;
  readonly #spool: string;
  readonly #folders: string;
  /** Bytes that came since the cache was looked through; all of it is unknown at first. */
  #grown = Infinity;
  #evicting: Promise<Evicted> | undefined;

  /**
   * @param folder of the cache; it holds blobs, spooled files and folders of artifacts.
   * @param budgetBytes for blobs and folders; half of the disk where it is undefined.
   */
  constructor(
    private readonly objects: Pick<S3Objects, 'list' | 'putFile' | 'read' | 'time' | 'touch'>,
    private readonly folder: string,
    private readonly budgetBytes?: number,
    private readonly times: BlobTimes = {},
  ) {
    this.#blobs = join(folder, 'blobs');
    this.#spool = join(folder, 'spool');
    this.#folders = join(folder, 'folders');
  }

  /** A path below the cache's folder, for files that stay on this host. */
  hostPath(...names: readonly string[]): string {
    return join(this.folder, ...names);
  }

  /** Removes spooled files and checkpoints of killed workers in which nothing has changed for so many milliseconds. */
  async sweepHost(milliseconds: number): Promise<void> {
    for (const folder of [this.#spool, this.hostPath('checkpoints')]) await sweepUntouched(folder, milliseconds);
  }

  /** A new path in the spool folder for a file that is being written. */
  async spoolPath(suffix = ''): Promise<string> {
    await mkdir(this.#spool, { recursive: true });
    return join(this.#spool, `${randomUUID()}${suffix}`);
  }

  /** Moves a spooled file into the cache and returns its path there. */
  async adopt(spooled: string, sha256: string): Promise<string> {
    await mkdir(this.#blobs, { recursive: true });
    const path = join(this.#blobs, sha256);
    await rename(spooled, path);
    // Renaming a link onto the same file does nothing and keeps the link.
    await rm(spooled, { force: true });
    this.#grown += (await stat(path)).size;
    await this.#keepBudget();
    return path;
  }

  /** Runs work that writes to this cache's disk. Where that one is full, what nobody reads goes before the error. */
  async makingRoom<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (isDiskFull(error)) await this.#evict((bytes) => bytes * SHARE_WHEN_FULL).catch(() => undefined);
      throw error;
    }
  }

  async #keepBudget(): Promise<void> {
    const budget = this.budgetBytes ?? (await this.#shareOfDisk());
    if (this.#grown < budget * GROWTH) return;
    this.#grown = 0;
    const { before } = await this.#evict((bytes) => (bytes > budget ? budget * (1 - GROWTH) : Infinity));
    // What may not go now is looked at again soon.
    if (before > budget) this.#grown = (budget * GROWTH) / 2;
  }

  async #shareOfDisk(): Promise<number> {
    const { blocks, bsize } = await statfs(this.folder);
    return blocks * bsize * SHARE_OF_DISK;
  }

  #evict(most: (bytes: number) => number): Promise<Evicted> {
    const folders = { blobs: this.#blobs, folders: this.#folders, spool: this.#spool };
    return (this.#evicting ??= evict(folders, most)
      .then((evicted) => {
        set('cacheBytes', evicted.after, {});
        return evicted;
      })
      .finally(() => {
        this.#evicting = undefined;
      }));
  }

  /**
   * Sends a blob, encoded as the file at `path` is, unless the store holds a recent one.
   *
   * In place of an old one, it is sent until it stays: a garbage collection that has seen the old one may remove it.
   */
  async putBlob(sha256: string, path: string): Promise<void> {
    const { refreshSeconds = REFRESH_AFTER_SECONDS, sweepSeconds = SWEEP_SECONDS } = this.times;
    const stored = await this.blobTime(sha256);
    if (stored && Date.now() - stored.getTime() < refreshSeconds * 1000) return;
    do {
      await this.objects.putFile(objectKeys.blob(sha256), path);
      // A collection that gives notice after this lists the new one.
      if (!stored || !(await this.#isSwept())) return;
      await sleep(sweepSeconds * 1000);
    } while (!(await this.blobTime(sha256)));
  }

  /** Whether a garbage collection removes blobs now. */
  async #isSwept(): Promise<boolean> {
    const notices = await this.objects.list(SWEEPS);
    return notices.some(({ modified }) => Date.now() - modified.getTime() < OLD_SWEEP_MS);
  }

  /**
   * Stores a file, which stays where it is. The cache takes it too, unless `cached` is false. With `sent` false the
   * cache alone takes it. A file below the cache's folder is linked instead of copied, because such files are written
   * once.
   */
  async putFile(path: string, name: string, { cached = true, sent = true }: PutOptions = {}): Promise<ManifestFile> {
    const spooled = await this.spoolPath();
    try {
      await this.makingRoom(() =>
        path.startsWith(`${this.folder}${sep}`) ? link(path, spooled) : copyFile(path, spooled),
      );
      const sha256 = await fileDigest(spooled);
      const { size } = await stat(spooled);
      const blob = cached ? await this.adopt(spooled, sha256) : spooled;
      if (sent) await this.putBlob(sha256, blob);
      return { name, sha256, bytes: size, encoding: 'identity' };
    } finally {
      await rm(spooled, { force: true });
    }
  }

  /** Stores all files of a folder under their relative names, in name order; as {@link putFile}. */
  async putFolder(folder: string, prefix = '', options?: PutOptions): Promise<ManifestFile[]> {
    const names = await filesOf(folder);
    const files: ManifestFile[] = [];
    // Two at once: while one is sent, the next is hashed.
    await eachOf(names.length, 2, async (at) => {
      files[at] = await this.putFile(join(folder, names[at]!), `${prefix}${names[at]!}`, options);
    });
    return files;
  }

  /**
   * Path on this host of a blob's uncompressed bytes. Where the cache does not hold it, it is downloaded and verified.
   *
   * @throws StageFailure `ArtifactCorrupt` where the store does not hold the blob, or holds other bytes.
   */
  async fetch(file: BlobFile): Promise<string> {
    const path = await this.#fetch(file);
    // Where another process evicts it at this moment, the next download is young enough to stay.
    return (await hold(path)) ? path : this.#fetch(file);
  }

  async #fetch(file: BlobFile): Promise<string> {
    const path = join(this.#blobs, file.sha256);
    if (await hasSize(path, file.bytes)) return path;
    const spooled = await this.spoolPath();
    try {
      await this.makingRoom(() => this.#download(file, spooled));
      return await this.adopt(spooled, file.sha256);
    } finally {
      await rm(spooled, { force: true });
    }
  }

  /** When a blob was stored or touched; undefined where the store does not hold it. */
  async blobTime(sha256: string): Promise<Date | undefined> {
    return this.objects.time(objectKeys.blob(sha256));
  }

  /**
   * The first of the files whose blob the store does not hold. `fresh` touches the older ones of the blobs before it.
   */
  async missingBlob(files: readonly ManifestFile[], { fresh }: { fresh: boolean }): Promise<ManifestFile | undefined> {
    for (const file of files) {
      const stored = await this.blobTime(file.sha256);
      if (!stored) return file;
      const isFresh = Date.now() - stored.getTime() < FRESH_BLOB_SECONDS * 1000;
      if (fresh && !isFresh && !(await this.objects.touch(objectKeys.blob(file.sha256), stored))) return file;
    }
    return undefined;
  }

  /** Folder of an artifact's files on this host, under a name of the caller; undefined where it is not there. */
  async folderNamed(name: string): Promise<string | undefined> {
    const folder = join(this.#folders, name);
    return (await hold(folder)) ? folder : undefined;
  }

  /** Puts files into the folder of that name, as links to cached blobs, and returns it. It appears as a whole. */
  async makeFolder(name: string, files: readonly ManifestFile[]): Promise<string> {
    const folder = join(this.#folders, name);
    await this.#linkFiles(files, folder);
    await hold(folder);
    return folder;
  }

  /** Removes folders of artifacts, and those of the files that nothing else on this host uses. */
  async dropFolders(names: readonly string[], files: readonly ManifestFile[]): Promise<void> {
    for (const name of names) await rm(join(this.#folders, name), { recursive: true, force: true });
    // A second link belongs to another folder or to a process that works with the file.
    await this.#uncache(files, 1);
  }

  /** Puts files without a manifest (a checkpoint) into a folder, in place of what is there. */
  async materialiseFiles(files: readonly ManifestFile[], folder: string): Promise<void> {
    await rm(folder, { recursive: true, force: true });
    await this.#linkFiles(files, folder);
    // Nothing else reads a checkpoint. A file that an artifact holds too has further links and stays in the cache.
    await this.#uncache(files, 2);
  }

  /** Links the files of a folder on this host into a new one, which appears as a whole. */
  async linkFolder(from: string, to: string): Promise<void> {
    const building = await this.spoolPath('.folder');
    for (const name of await filesOf(from)) await linkInto(join(from, name), join(building, name));
    await place(building, to);
  }

  async #download(file: BlobFile, path: string): Promise<void> {
    const what = `blob ${file.sha256} of ${file.name}`;
    const found = await this.objects.read(objectKeys.blob(file.sha256), async (body) => {
      const hash = createHash('sha256');
      const hashing = new Transform({
        transform(chunk: Buffer, _encoding, done) {
          hash.update(chunk);
          done(null, chunk);
        },
      });
      const sink = createWriteStream(path);
      try {
        await (file.encoding === 'gzip'
          ? pipeline(body, createGunzip(), hashing, sink)
          : pipeline(body, hashing, sink));
      } catch (error) {
        // Bytes that are no gzip. Every other error is one of the request or of this host's disk.
        if (!(error instanceof Error && 'code' in error && String(error.code).startsWith('Z_'))) throw error;
        throw new StageFailure('ArtifactCorrupt', `${what} cannot be read: ${error.message}`, { cause: error });
      }
      if (hash.digest('hex') !== file.sha256)
        throw new StageFailure('ArtifactCorrupt', `${what} holds other bytes than its name says`);
    });
    if (!found) throw new StageFailure('ArtifactCorrupt', `${what} is missing from the store`);
  }

  async #linkFiles(files: readonly ManifestFile[], folder: string): Promise<void> {
    const building = await this.spoolPath('.folder');
    for (const file of files) await this.#link(file, join(building, file.name));
    await place(building, folder);
  }

  /** Links a blob, and fetches it again where it is evicted between its fetch and the link. */
  async #link(file: BlobFile, target: string): Promise<void> {
    for (let fetches = 1; ; fetches += 1) {
      try {
        return await linkInto(await this.#fetch(file), target);
      } catch (error) {
        const isGone = error instanceof Error && 'code' in error && error.code === 'ENOENT';
        if (!isGone || fetches === FETCHES) throw error;
      }
    }
  }

  /** Removes from the cache those of the files that have so many links, the cache's own included. */
  async #uncache(files: readonly ManifestFile[], links: number): Promise<void> {
    for (const { sha256 } of files) {
      const path = join(this.#blobs, sha256);
      const found = await stat(path).catch(() => undefined);
      if (found?.nlink === links) await rm(path, { force: true });
    }
  }
}

async function hasSize(path: string, bytes: number): Promise<boolean> {
  return stat(path).then(
    ({ size }) => size === bytes,
    () => false,
  );
}
