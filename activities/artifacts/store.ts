/**
 * The artifact store: content-addressed blobs and write-once manifests in an S3-compatible store.
 *
 * Blobs go first, the manifest last and only where none stands (`If-None-Match: *`): the first writer wins, a late
 * attempt reads the winner's manifest, a zombie can overwrite nothing, and no lock is needed. Manifests stay small enough
 * for one request, because conditional writes are not honoured everywhere for multipart uploads.
 *
 * A blob is named by the SHA-256 of its uncompressed bytes, so that gzip's implementation never shows in a digest. A
 * local cache of uncompressed blobs makes a retry on the same host, and the next stage, read from disk.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { copyFile, link, lstat, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { Client, CopyDestinationOptions, CopySourceOptions } from 'minio';
import type { z } from 'zod';
import {
  Manifest,
  MANIFEST_SCHEMA,
  StageFailure,
  type ArtifactKind,
  type ArtifactRef,
  type ManifestFile,
  type Metrics,
  type Producer,
} from '../../workflows/contract/index.js';
import { artifactDigest, objectKeys, TRAINING_STATE } from './keys.js';
import { PrunedDocument, type Part } from './pruning.js';
import { RowWriter } from './row-writer.js';

export interface StoreOptions {
  endpoint: string;
  bucket: string;
  prefix?: string;
  accessKey: string;
  secretKey: string;
  region?: string;
  /** Folder of the local blob cache and of spooled files. */
  cache: string;
}

/** Reads the store's settings; the error names every variable that is missing. */
export function storeOptionsFromEnvironment(env: NodeJS.ProcessEnv, cache: string): StoreOptions {
  const names = [
    'ACECODER_S3_ENDPOINT',
    'ACECODER_S3_BUCKET',
    'ACECODER_S3_ACCESS_KEY',
    'ACECODER_S3_SECRET_KEY',
  ] as const;
  const missing = names.filter((name) => !env[name]);
  if (missing.length > 0) {
    throw new Error(
      `The artifact store needs the environment variable(s) ${missing.join(', ')}; \`npm run stack\` starts one and says its values.`,
    );
  }
  const [endpoint, bucket, accessKey, secretKey] = names.map((name) => env[name]!) as [string, string, string, string];
  return {
    endpoint,
    bucket,
    accessKey,
    secretKey,
    cache,
    prefix: env['ACECODER_S3_PREFIX'] ?? '',
    ...(env['ACECODER_S3_REGION'] ? { region: env['ACECODER_S3_REGION'] } : {}),
  };
}

/** What a producer hands to {@link ArtifactStore.commit}. */
export interface Draft {
  kind: ArtifactKind;
  stage: string;
  stageKey: string;
  files: ManifestFile[];
  rows?: number;
  inputs: Manifest['inputs'];
  config: unknown;
  metrics: Metrics;
  seconds: number;
}

const UNAVAILABLE = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ETIMEDOUT',
  'EPIPE',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EAI_AGAIN',
  'ENOTFOUND',
  'ERR_STREAM_PREMATURE_CLOSE',
  'SlowDown',
  'SlowDownRead',
  'SlowDownWrite',
  'InternalError',
  'ServiceUnavailable',
  'XMinioServerNotInitialized',
  'RequestTimeout',
  'NoSuchUpload',
]);
/**
 * A stored blob of this age is sent again when a producer needs it: garbage collection sweeps unnamed blobs of a day and
 * more, and must not sweep one whose manifest is about to be written.
 */
const REFRESH_AFTER_MS = 6 * 3_600_000;
/**
 * A manifest of a model is committed over blobs that were stored or touched within this time, because pruned ones go much
 * sooner than a day after that: the difference to `YOUNG_BLOB_SECONDS` is what clocks may differ (15 minutes, by S3) and a commit may take.
 */
const FRESH_BLOB_SECONDS = 300;
const MODELS: ReadonlySet<ArtifactKind> = new Set<ArtifactKind>(['model', 'rewardModel', 'policy']);
/** Bytes of a file that are read at once. */
const READ_BYTES = 256 * 1024;
/** Files above this go in parts of so many bytes, more where S3's largest number of parts asks for it. */
const PART_BYTES = 32 * 1024 * 1024;
const MOST_PARTS = 10_000;
/** What is in memory of a file that is sent is so many parts. */
const PARTS_AT_ONCE = 4;
const ABSENT = new Set(['NoSuchKey', 'NotFound']);
/** Refusals that an operator can end while workers run: which variable is wrong, or what to do. */
const REFUSALS: Record<string, string> = {
  InvalidAccessKeyId: 'does not know the access key (ACECODER_S3_ACCESS_KEY)',
  SignatureDoesNotMatch: 'refuses the secret key (ACECODER_S3_SECRET_KEY)',
  AccessDenied: 'denies access with this key (ACECODER_S3_ACCESS_KEY)',
  RequestTimeTooSkewed: "refuses requests because this host's clock is more than 15 minutes off; set it by NTP",
  XMinioStorageFull: 'is full; free space there',
};

export class ArtifactStore {
  readonly #client: Client;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #endpoint: string;
  readonly #cache: string;
  readonly #blobs: string;
  readonly #spool: string;
  readonly #folders: string;

  constructor(options: StoreOptions) {
    const url = new URL(options.endpoint);
    const secure = url.protocol === 'https:';
    this.#client = new Client({
      endPoint: url.hostname,
      port: url.port ? Number(url.port) : secure ? 443 : 80,
      useSSL: secure,
      accessKey: options.accessKey,
      secretKey: options.secretKey,
      region: options.region ?? 'us-east-1',
    });
    this.#endpoint = url.origin;
    this.#bucket = options.bucket;
    this.#prefix = options.prefix ? `${options.prefix.replace(/\/+$/, '')}/` : '';
    this.#cache = options.cache;
    this.#blobs = join(options.cache, 'blobs');
    this.#spool = join(options.cache, 'spool');
    this.#folders = join(options.cache, 'folders');
  }

  /** Fails with a sentence that names address and bucket when the store cannot be used. */
  async check(): Promise<void> {
    // A listing, because the answer to it says why it is refused; that of the cheaper HEAD does not.
    await this.#try(() => this.#client.listObjectsV2Query(this.#bucket, this.#prefix, '', '', 1, ''));
  }

  /** A path below the cache's folder, for what stays on this host. */
  hostPath(...names: readonly string[]): string {
    return join(this.#cache, ...names);
  }

  /** Removes from this host what killed workers left: spooled files and checkpoints in which nothing was touched for so long. */
  async sweepHost(milliseconds: number): Promise<void> {
    for (const folder of [this.#spool, this.hostPath('checkpoints')]) await sweepUntouched(folder, milliseconds);
  }

  /** A new path in the spool folder for a file that is being written. */
  async spoolPath(suffix = ''): Promise<string> {
    await mkdir(this.#spool, { recursive: true });
    return join(this.#spool, `${randomUUID()}${suffix}`);
  }

  /**
   * Writes rows as JSON Lines, validating each, and stores them gzipped.
   *
   * @throws StageFailure `ArtifactCorrupt` naming file and row when a row does not fit the schema.
   */
  async putRows<T>(name: string, schema: z.ZodType<T>, rows: Iterable<T> | AsyncIterable<T>): Promise<ManifestFile> {
    const [file] = await this.putRowsByFile([name], schema, rows, () => 0);
    return file!;
  }

  /** As {@link putRows}, in one pass into several files: `fileOf` gives the index of a row's file among `names`. */
  async putRowsByFile<T>(
    names: readonly string[],
    schema: z.ZodType<T>,
    rows: Iterable<T> | AsyncIterable<T>,
    fileOf: (row: T) => number,
  ): Promise<ManifestFile[]> {
    const writers: RowWriter<T>[] = [];
    try {
      for (const name of names)
        writers.push(new RowWriter(name, schema, await this.spoolPath('.jsonl'), await this.spoolPath('.gz')));
      const write = (row: T): Promise<void> | undefined => writers[fileOf(row)]!.write(row);
      // Rows that are there already are not waited for one by one, which would cost as much as checking them.
      if (Symbol.asyncIterator in rows) {
        for await (const row of rows) {
          const room = write(row);
          if (room) await room;
        }
      } else {
        for (const row of rows) {
          const room = write(row);
          if (room) await room;
        }
      }
      const files: ManifestFile[] = [];
      for (const writer of writers) {
        const { rows: count, sha256, bytes } = await writer.end();
        await this.#adopt(writer.path, sha256);
        await this.#putBlob(sha256, writer.zippedPath);
        files.push({ name: writer.name, sha256, bytes, encoding: 'gzip', rows: count });
      }
      return files;
    } finally {
      for (const writer of writers) await writer.discard();
    }
  }

  /**
   * Stores a file that stays where it is; the local cache takes it too, unless `cached` is false. Files below the cache's
   * folder are written once, so a link of them will do.
   */
  async putFile(path: string, name: string, { cached = true } = {}): Promise<ManifestFile> {
    const spooled = await this.spoolPath();
    await (path.startsWith(`${this.#cache}${sep}`) ? link(path, spooled) : copyFile(path, spooled));
    try {
      const hex = await fileDigest(spooled);
      const { size } = await stat(spooled);
      await this.#putBlob(hex, cached ? await this.#adopt(spooled, hex) : spooled);
      return { name, sha256: hex, bytes: size, encoding: 'identity' };
    } finally {
      await rm(spooled, { force: true });
    }
  }

  /** Stores all files of a folder under their relative names, in name order; as {@link putFile}. */
  async putFolder(folder: string, prefix = '', options?: { cached: boolean }): Promise<ManifestFile[]> {
    const names = await filesOf(folder);
    const files: ManifestFile[] = [];
    // While one is on its way, the next is hashed.
    await eachOf(names.length, 2, async (at) => {
      files[at] = await this.putFile(join(folder, names[at]!), `${prefix}${names[at]!}`, options);
    });
    return files;
  }

  /** Stores a small document where none stands; false when another one was first. At most 5 MiB. */
  async putJson(key: string, value: unknown): Promise<boolean> {
    const body = Buffer.from(JSON.stringify(value));
    if (body.length > 5 * 1024 * 1024) throw new Error(`${key} has ${body.length} bytes; documents hold at most 5 MiB`);
    try {
      await this.#try(() =>
        this.#client.putObject(this.#bucket, this.#prefix + key, body, body.length, {
          'Content-Type': 'application/json',
          'If-None-Match': '*',
        }),
      );
      return true;
    } catch (error) {
      if (codeOf(error) === 'PreconditionFailed') return false;
      throw error;
    }
  }

  /** Reads a document, or undefined where none stands. */
  async getJson(key: string): Promise<unknown> {
    try {
      const stream = await this.#try(() => this.#client.getObject(this.#bucket, this.#prefix + key));
      const chunks: Buffer[] = [];
      for await (const chunk of stream) chunks.push(chunk as Buffer);
      return JSON.parse(Buffer.concat(chunks).toString('utf8'));
    } catch (error) {
      if (ABSENT.has(codeOf(error))) return undefined;
      throw error;
    }
  }

  /** The manifest of a reference or manifest key; undefined where none stands. */
  async findManifest(key: string): Promise<Manifest | undefined> {
    const value = await this.getJson(key);
    if (value === undefined) return undefined;
    const parsed = Manifest.safeParse(value);
    if (!parsed.success)
      throw new StageFailure(
        'ArtifactCorrupt',
        `${key} is no manifest: ${parsed.error.issues.map(({ path, message }) => `${path.join('.')} ${message}`).join('; ')}`,
      );
    return parsed.data;
  }

  /** The manifest behind a reference. @throws StageFailure when it is missing or is another artifact. */
  async manifest(ref: ArtifactRef): Promise<Manifest> {
    const manifest = await this.findManifest(ref.key);
    if (!manifest)
      throw new StageFailure('InvalidExperiment', `there is no artifact ${ref.key} in bucket '${this.#bucket}'`);
    if (manifest.kind !== ref.kind)
      throw new StageFailure(
        'InvalidExperiment',
        `${ref.key} is of kind '${manifest.kind}', the reference says '${ref.kind}'`,
      );
    if (manifest.digest !== ref.digest) {
      throw new StageFailure(
        'ArtifactCorrupt',
        `${ref.key} has digest ${manifest.digest}, the reference says ${ref.digest}`,
      );
    }
    return manifest;
  }

  /** Writes the manifest of a draft whose blobs are stored, or returns that of an earlier writer. */
  async commit(draft: Draft, producer: Producer): Promise<{ manifest: Manifest; won: boolean }> {
    const missing = await this.missingBlob(draft.files, { fresh: MODELS.has(draft.kind) });
    if (missing)
      throw new StageFailure(
        'StoreUnavailable',
        `blob ${missing.sha256} of ${missing.name} is not in the store; it is uploaded again by the next attempt`,
      );
    const files = [...draft.files].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    const manifest = Manifest.parse({
      ...draft,
      schema: MANIFEST_SCHEMA,
      digest: artifactDigest(draft.kind, files),
      files,
      bytes: files.reduce((sum, file) => sum + file.bytes, 0),
      producer,
      createdAt: new Date().toISOString(),
    });
    const key = objectKeys.manifest(draft.kind, draft.stageKey);
    if (await this.putJson(key, manifest)) return { manifest, won: true };
    const winner = await this.findManifest(key);
    if (!winner) throw new StageFailure('StoreUnavailable', `${key} was refused as existing and cannot be read`);
    return { manifest: winner, won: false };
  }

  /**
   * Why an artifact cannot be read any more; undefined where it can. The optimizer's state counts where it is wanted.
   */
  async prunedFailure(
    { key }: Pick<ArtifactRef, 'key'>,
    { trainingState = false } = {},
  ): Promise<StageFailure | undefined> {
    for (const part of ['all', ...(trainingState ? ['trainingState'] : [])] as Part[]) {
      const document = await this.getJson(objectKeys.pruned(key, part));
      if (document === undefined) continue;
      const { workflowId, at, policy, advice } = PrunedDocument.parse(document);
      const what = part === 'all' ? '' : ` (its ${TRAINING_STATE})`;
      return new StageFailure(
        'ArtifactPruned',
        `${key}${what} was pruned at ${at} by ${workflowId} (${policy}); its manifest stays. ${advice}`,
        { details: [key] },
      );
    }
    return undefined;
  }

  /** The manifest behind a reference whose files are wanted. @throws StageFailure as {@link manifest}, and when it was pruned. */
  async wholeManifest(ref: ArtifactRef): Promise<Manifest> {
    const manifest = await this.manifest(ref);
    const pruned = await this.prunedFailure(ref);
    if (pruned) throw pruned;
    return manifest;
  }

  /** Reads the rows of files in their order as a stream. */
  async *readRows<T>(files: readonly ManifestFile[], schema: z.ZodType<T>): AsyncGenerator<T> {
    for (const file of files) {
      let index = 0;
      for await (const lines of linesOf(await this.fetch(file))) {
        for (const line of lines) {
          const parsed = schema.safeParse(JSON.parse(line));
          if (!parsed.success) {
            throw new StageFailure(
              'ArtifactCorrupt',
              `${file.name} (blob ${file.sha256}), row ${index}: ${parsed.error.issues.map((i) => `${i.path.join('.')} ${i.message}`).join('; ')}`,
            );
          }
          index += 1;
          yield parsed.data;
        }
      }
    }
  }

  /** The rows of an artifact. */
  async *rowsOf<T>(ref: ArtifactRef, schema: z.ZodType<T>): AsyncGenerator<T> {
    yield* this.readRows(rowFiles(await this.manifest(ref)), schema);
  }

  /** Local path of a blob's uncompressed bytes; downloads and verifies it when the cache does not hold it. */
  async fetch(file: Pick<ManifestFile, 'sha256' | 'bytes' | 'encoding' | 'name'>): Promise<string> {
    const path = join(this.#blobs, file.sha256);
    if (await hasSize(path, file.bytes)) return path;
    const spooled = await this.spoolPath();
    const source = await this.#try(() =>
      this.#client.getObject(this.#bucket, this.#prefix + objectKeys.blob(file.sha256)),
    ).catch((error: unknown) => {
      if (ABSENT.has(codeOf(error)))
        throw new StageFailure('ArtifactCorrupt', `blob ${file.sha256} of ${file.name} is missing from the store`);
      throw error;
    });
    const hash = createHash('sha256');
    const tee = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        done(null, chunk);
      },
    });
    const sink = createWriteStream(spooled);
    await this.#try(() =>
      file.encoding === 'gzip' ? pipeline(source, createGunzip(), tee, sink) : pipeline(source, tee, sink),
    ).catch(async (error: unknown) => {
      await rm(spooled, { force: true });
      if (error instanceof StageFailure) throw error;
      throw new StageFailure(
        'ArtifactCorrupt',
        `blob ${file.sha256} of ${file.name} cannot be read: ${(error as Error).message}`,
        { cause: error },
      );
    });
    if (hash.digest('hex') !== file.sha256) {
      await rm(spooled, { force: true });
      throw new StageFailure(
        'ArtifactCorrupt',
        `blob ${file.sha256} of ${file.name} holds other bytes than its name says`,
      );
    }
    return this.#adopt(spooled, file.sha256);
  }

  /**
   * Puts the files of an artifact into a folder of the local cache and returns it. The files are links to cached blobs:
   * readers must not write into them. A policy's optimizer state comes with it only where it is wanted.
   *
   * @throws StageFailure `ArtifactPruned` where files were pruned, `ArtifactCorrupt` where they are damaged.
   */
  async materialise(ref: ArtifactRef, { trainingState = false } = {}): Promise<string> {
    const folder = this.#folderOf(ref, trainingState);
    if (await exists(folder)) return folder;
    const { files } = await this.manifest(ref);
    const wanted = files.filter(({ name }) => trainingState || !name.startsWith(`${TRAINING_STATE}/`));
    await this.#linkFiles(wanted, folder).catch(async (error: unknown) => {
      throw error instanceof StageFailure && error.type === 'ArtifactCorrupt'
        ? ((await this.prunedFailure(ref, { trainingState })) ?? error)
        : error;
    });
    return folder;
  }

  /** Takes an artifact out of the local cache, but for files that it shares with others in use; it is fetched again when it is needed. */
  async forget(ref: ArtifactRef): Promise<void> {
    const { files } = await this.manifest(ref);
    for (const trainingState of [false, true])
      await rm(this.#folderOf(ref, trainingState), { recursive: true, force: true });
    // A link more than the cache's own belongs to a folder or to who works with the file.
    await this.#uncache(files, 1);
  }

  /** As {@link materialise}, for files without a manifest of their own (a checkpoint). */
  async materialiseFiles(files: readonly ManifestFile[], folder: string): Promise<void> {
    await rm(folder, { recursive: true, force: true });
    await this.#linkFiles(files, folder);
    // Nobody else reads a checkpoint; what an artifact holds too has further links.
    await this.#uncache(files, 2);
  }

  /** Links the files of a folder on this host into a new one, which appears as a whole. */
  async linkFolder(from: string, to: string): Promise<void> {
    const building = await this.spoolPath('.folder');
    for (const name of await filesOf(from)) await linkInto(join(from, name), join(building, name));
    await place(building, to);
  }

  /** Names and times of the objects under a prefix, in name order. */
  async list(prefix: string): Promise<{ key: string; bytes: number; modified: Date }[]> {
    const found: { key: string; bytes: number; modified: Date }[] = [];
    await this.#eachUnder(prefix, (key, bytes, modified) => found.push({ key, bytes, modified }));
    return found;
  }

  /** Names of the objects under a prefix; of hundreds of thousands, nothing else stays in memory. */
  async keys(prefix: string): Promise<Set<string>> {
    const found = new Set<string>();
    await this.#eachUnder(prefix, (key) => found.add(key));
    return found;
  }

  async #eachUnder(prefix: string, visit: (key: string, bytes: number, modified: Date) => void): Promise<void> {
    await this.#try(async () => {
      for await (const item of this.#client.listObjectsV2(this.#bucket, this.#prefix + prefix, true)) {
        const { name, size, lastModified } = item as { name?: string; size: number; lastModified?: Date };
        if (name) visit(name.slice(this.#prefix.length), size, lastModified ?? new Date(0));
      }
    });
  }

  async remove(keys: readonly string[]): Promise<void> {
    for (let start = 0; start < keys.length; start += 1000) {
      const batch = keys.slice(start, start + 1000).map((key) => this.#prefix + key);
      await this.#try(() => this.#client.removeObjects(this.#bucket, batch));
    }
  }

  #folderOf({ digest }: ArtifactRef, trainingState: boolean): string {
    return join(this.#folders, trainingState ? `${digest}-${TRAINING_STATE}` : digest);
  }

  async #linkFiles(files: readonly ManifestFile[], folder: string): Promise<void> {
    const building = await this.spoolPath('.folder');
    for (const file of files) await linkInto(await this.fetch(file), join(building, file.name));
    await place(building, folder);
  }

  /** Takes files out of the local cache that have so many links, the cache's own included. */
  async #uncache(files: readonly ManifestFile[], links: number): Promise<void> {
    for (const { sha256 } of files) {
      const path = join(this.#blobs, sha256);
      if (
        await stat(path).then(
          ({ nlink }) => nlink === links,
          () => false,
        )
      )
        await rm(path, { force: true });
    }
  }

  /** Sends a blob, encoded as the file at `path` is, where it does not stand yet. */
  async #putBlob(hex: string, path: string): Promise<void> {
    const stored = await this.blobTime(hex);
    if (stored && Date.now() - stored.getTime() < REFRESH_AFTER_MS) return;
    await this.#try(() => this.#send(this.#prefix + objectKeys.blob(hex), path));
  }

  /** Sends a file; a large one in parts, several at once, each hashed once: the client's own way takes twice as long. */
  async #send(key: string, path: string): Promise<void> {
    const { size } = await stat(path);
    if (size <= PART_BYTES) {
      await this.#client.fPutObject(this.#bucket, key, path, {});
      return;
    }
    const partBytes = Math.max(PART_BYTES, Math.ceil(size / MOST_PARTS));
    const count = Math.ceil(size / partBytes);
    const uploadID = await this.#client.initiateNewMultipartUpload(this.#bucket, key, {});
    const file = await open(path);
    const etags: { part: number; etag: string }[] = [];
    try {
      const buffers: Buffer[] = [];
      await eachOf(count, PARTS_AT_ONCE, async (at, lane) => {
        const bytes = (buffers[lane] ??= Buffer.allocUnsafe(partBytes)).subarray(0, size - at * partBytes);
        const { bytesRead } = await file.read(bytes, 0, bytes.length, at * partBytes);
        if (bytesRead < bytes.length) throw new Error(`${path} has become shorter while it was sent`);
        const { etag } = await this.#client.uploadPart(
          {
            bucketName: this.#bucket,
            objectName: key,
            uploadID,
            partNumber: at + 1,
            headers: { 'Content-Length': bytesRead },
          },
          bytes,
        );
        etags[at] = { part: at + 1, etag };
      });
      await this.#client.completeMultipartUpload(this.#bucket, key, uploadID, etags);
    } catch (error) {
      // Parts of an upload that nobody completes take room; a store that is away removes them by itself, after a day.
      await this.#client.abortMultipartUpload(this.#bucket, key, uploadID).catch(() => undefined);
      throw error;
    } finally {
      await file.close();
    }
  }

  async #adopt(spooled: string, hex: string): Promise<string> {
    await mkdir(this.#blobs, { recursive: true });
    const path = join(this.#blobs, hex);
    await rename(spooled, path);
    // Renaming a link onto the same file does nothing, and leaves it.
    await rm(spooled, { force: true });
    return path;
  }

  /** When a blob was stored; undefined where it does not stand. */
  async blobTime(hex: string): Promise<Date | undefined> {
    try {
      return (await this.#try(() => this.#client.statObject(this.#bucket, this.#prefix + objectKeys.blob(hex))))
        .lastModified;
    } catch (error) {
      if (ABSENT.has(codeOf(error))) return undefined;
      throw error;
    }
  }

  /** The first of the files whose blob does not stand; where they must be fresh, the time of those before it is brought up to date. */
  async missingBlob(files: readonly ManifestFile[], { fresh }: { fresh: boolean }): Promise<ManifestFile | undefined> {
    for (const file of files) {
      const stored = await this.blobTime(file.sha256);
      const isGood =
        stored &&
        (!fresh || Date.now() - stored.getTime() < FRESH_BLOB_SECONDS * 1000 || (await this.#touchBlob(file.sha256)));
      if (!isGood) return file;
    }
    return undefined;
  }

  /** Brings a blob's time up to date by copying it onto itself inside the store; false where it is gone. */
  async #touchBlob(hex: string): Promise<boolean> {
    const Object = this.#prefix + objectKeys.blob(hex);
    try {
      await this.#try(() =>
        this.#client.copyObject(
          new CopySourceOptions({ Bucket: this.#bucket, Object }),
          // A store refuses to copy an object onto itself unless something of it changes.
          new CopyDestinationOptions({
            Bucket: this.#bucket,
            Object,
            MetadataDirective: 'REPLACE',
            UserMetadata: { touched: new Date().toISOString() },
          }),
        ),
      );
      return true;
    } catch (error) {
      if (ABSENT.has(codeOf(error))) return false;
      throw error;
    }
  }

  /** Runs a request; a store that cannot be reached becomes `StoreUnavailable`, which is retried and never counted. */
  async #try<T>(request: () => Promise<T>): Promise<T> {
    try {
      return await request();
    } catch (error) {
      const code = codeOf(error);
      const refusal = code === 'NoSuchBucket' ? `has no bucket '${this.#bucket}' (ACECODER_S3_BUCKET)` : REFUSALS[code];
      if (refusal === undefined && !UNAVAILABLE.has(code)) throw error;
      throw new StageFailure(
        'StoreUnavailable',
        `the store at ${this.#endpoint} (ACECODER_S3_ENDPOINT) ${refusal ?? `does not answer: ${code}`}`,
        { cause: error },
      );
    }
  }
}

/** The reference of a committed manifest. */
export function refOf(manifest: Manifest): ArtifactRef {
  return {
    kind: manifest.kind,
    key: objectKeys.manifest(manifest.kind, manifest.stageKey),
    digest: manifest.digest,
    ...(manifest.rows === undefined ? {} : { rows: manifest.rows }),
    bytes: manifest.bytes,
  };
}

/** The files of an artifact that hold its rows: all that are named `rows*`. */
export function rowFiles({ files }: Pick<Manifest, 'files'>): ManifestFile[] {
  return files.filter(({ name }) => name.startsWith('rows'));
}

/** Writes rows to a plain JSON Lines file, for a child process to read. */
export async function writeRows(path: string, rows: Iterable<unknown> | AsyncIterable<unknown>): Promise<void> {
  async function* lines(): AsyncGenerator<string> {
    for await (const row of rows) yield `${JSON.stringify(row)}\n`;
  }
  await pipeline(Readable.from(lines()), createWriteStream(path));
}

/** Reads a plain JSON Lines file that a child process wrote. */
export async function* readLines<T>(path: string, schema: z.ZodType<T>): AsyncGenerator<T> {
  for await (const lines of linesOf(path)) for (const line of lines) yield schema.parse(JSON.parse(line));
}

/**
 * The lines of a file, as many at once as a read gives: rows are many, and each wait for one costs as much as its parsing. They
 * end at line feeds alone, because JSON texts may hold every other separator. A byte order mark is no part of the first.
 */
export async function* linesOf(path: string, encoding: 'utf8' | 'latin1' = 'utf8'): AsyncGenerator<string[]> {
  const mark = Buffer.from('\ufeff').toString(encoding);
  let rest: string | undefined;
  for await (const chunk of createReadStream(path, { encoding, highWaterMark: READ_BYTES }) as AsyncIterable<string>) {
    const lines = (
      rest === undefined && chunk.startsWith(mark) ? chunk.slice(mark.length) : (rest ?? '') + chunk
    ).split('\n');
    rest = lines.pop()!;
    yield lines;
  }
  if (rest) yield [rest];
}

/** SHA-256 of a file's bytes in hexadecimal. */
export async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Does `work` for 0 to `count` - 1 in `lanes` at once. After a failure nothing begins, and what runs is waited for. */
async function eachOf(count: number, lanes: number, work: (at: number, lane: number) => Promise<void>): Promise<void> {
  let next = 0;
  const inLane = async (lane: number): Promise<void> => {
    try {
      for (let at = next++; at < count; at = next++) await work(at, lane);
    } catch (error) {
      next = count;
      throw error;
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: Math.min(lanes, count) }, (_, lane) => inLane(lane)));
  for (const result of ended) if (result.status === 'rejected') throw result.reason;
}

/** Relative names of all files below a folder, in order. */
export async function filesOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
}

async function linkInto(path: string, target: string): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  await link(path, target);
}

/** Gives a folder that was built its name, where none stands under it; otherwise it goes. */
async function place(building: string, folder: string): Promise<void> {
  await mkdir(dirname(folder), { recursive: true });
  await rename(building, folder).catch(async (error: NodeJS.ErrnoException) => {
    await rm(building, { recursive: true, force: true });
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
  });
}

/** Removes what is in a folder and was not touched, nor anything in it, for so long. */
export async function sweepUntouched(folder: string, milliseconds: number): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name);
    if (Date.now() - (await touchedAt(path)) > milliseconds) await rm(path, { recursive: true, force: true });
  }
}

/** When a file, or anything in a folder, was changed last, in milliseconds; 0 where it is gone. */
async function touchedAt(path: string): Promise<number> {
  const times = [
    path,
    ...(await readdir(path, { recursive: true }).catch(() => [])).map((name) => join(path, name)),
  ].map((one) =>
    lstat(one).then(
      ({ mtimeMs, ctimeMs }) => Math.max(mtimeMs, ctimeMs),
      () => 0,
    ),
  );
  return Math.max(...(await Promise.all(times)));
}

/** Bytes of all files of a folder. */
export async function folderBytes(folder: string): Promise<number> {
  const sizes = await Promise.all((await filesOf(folder)).map(async (name) => (await stat(join(folder, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

function codeOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function hasSize(path: string, bytes: number): Promise<boolean> {
  return stat(path).then(
    ({ size }) => size === bytes,
    () => false,
  );
}

/** All of an asynchronous sequence. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
