/**
 * The artifact store: content-addressed blobs and write-once manifests in an S3-compatible store, with a cache on this
 * host. {@link ArtifactStore} is what activities know; its parts are `objects`, `cache`, `rows` and `manifests`.
 */
import type { z } from 'zod';
import {
  StageFailure,
  type ArtifactRef,
  type Manifest,
  type ManifestFile,
  type Producer,
} from '../../workflows/contract/index.js';
import { BlobCache, type BlobFile, type BlobTimes, type PutOptions } from './cache.js';
import { isTrainingState, objectKeys, safeName, TRAINING_STATE } from './keys.js';
import { Manifests, type Committed, type Draft } from './manifests.js';
import { S3Objects, type ListedObject, type ListedPage, type S3Options } from './objects.js';
import { rowFiles, RowFiles, type Rows } from './rows.js';

export interface StoreOptions extends S3Options {
  /** Address by which people reach the store, for links; that of the workers unless told. */
  publicEndpoint?: string;
  /** Folder of the cache on this host: blobs, spooled files, folders of artifacts. */
  cache: string;
  /** Bytes of blobs and folders in it, about; half of its disk unless told. */
  cacheBytes?: number;
  /** Ages of blobs at which writers and garbage collection act. */
  times?: BlobTimes;
}

/** Small JSON documents and the names of all objects. */
interface ObjectStore {
  /** Fails with a sentence that names address and bucket when the store cannot be used. */
  check(): Promise<void>;
  /** Stores a document where there is none; false when there is one already. At most 5 MiB. */
  putJson(key: string, value: unknown): Promise<boolean>;
  /** Reads a document; undefined where there is none. */
  getJson(key: string): Promise<unknown>;
  /** Names, sizes and times of the objects under a prefix, in name order. */
  list(prefix: string): Promise<ListedObject[]>;
  /** Names of the objects under a prefix. Of hundreds of thousands, memory holds the names alone. */
  keys(prefix: string): Promise<Set<string>>;
  /**
   * The objects under a prefix in name order, page by page: after the key `after`, and `ahead` of what works on them.
   */
  pages(prefix: string, options?: { after?: string; ahead?: boolean }): AsyncGenerator<ListedPage>;
  /** Removes objects; one that is gone already counts as removed. */
  remove(keys: readonly string[]): Promise<void>;
  /** Ends an upload in parts that nobody ends, which removes its parts. One that is gone counts as ended. */
  abortUpload(key: string, uploadId: string): Promise<void>;
  /**
   * Runs work whose requests end with `signal`, or with nothing but silence where there is none. Without this, requests
   * of an activity end with the activity's cancellation. What is stored because of that must not.
   */
  following<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T>;
}

/** Blobs, and the cache of this host. */
interface BlobStore {
  /** A path below the cache's folder, for files that stay on this host. */
  hostPath(...names: readonly string[]): string;
  /** Removes spooled files and checkpoints of killed workers in which nothing has changed for so many milliseconds. */
  sweepHost(milliseconds: number): Promise<void>;
  /** A new path in the spool folder for a file that is being written. */
  spoolPath(suffix?: string): Promise<string>;
  /**
   * Stores a file, which stays where it is. The cache takes it too, unless `cached` is false. With `sent` false the cache
   * alone takes it.
   */
  putFile(path: string, name: string, options?: PutOptions): Promise<ManifestFile>;
  /** Stores all files of a folder under their relative names, in name order. */
  putFolder(folder: string, prefix?: string, options?: PutOptions): Promise<ManifestFile[]>;
  /** Path on this host of a blob's uncompressed bytes. @throws StageFailure `ArtifactCorrupt`. */
  fetch(file: BlobFile): Promise<string>;
  /** A link with which anybody may read a file, under its name, for so many seconds; a week at most. */
  link(file: ManifestFile, seconds: number): Promise<string>;
  /** When a blob was stored or touched; undefined where the store does not hold it. */
  blobTime(sha256: string): Promise<Date | undefined>;
  /**
   * The first of the files whose blob the store does not hold. `fresh` touches the older ones of the blobs before it.
   */
  missingBlob(files: readonly ManifestFile[], options: { fresh: boolean }): Promise<ManifestFile | undefined>;
  /** Puts files without a manifest (a checkpoint) into a folder, in place of what is there. */
  materialiseFiles(files: readonly ManifestFile[], folder: string): Promise<void>;
  /** Links the files of a folder on this host into a new one, which appears as a whole. */
  linkFolder(from: string, to: string): Promise<void>;
}

/** Rows of artifacts. */
interface RowStore {
  /** Writes rows as JSON Lines, validating each, and stores them gzipped. @throws StageFailure `ArtifactCorrupt`. */
  putRows<T>(name: string, schema: z.ZodType<T>, rows: Rows<T>): Promise<ManifestFile>;
  /** As {@link putRows}, in one pass into several files: `fileOf` gives the index of a row's file among `names`. */
  putRowsByFile<T>(
    names: readonly string[],
    schema: z.ZodType<T>,
    rows: Rows<T>,
    fileOf: (row: T) => number,
  ): Promise<ManifestFile[]>;
  /** Reads the rows of files in their order as a stream. @throws StageFailure `ArtifactCorrupt`. */
  readRows<T>(files: readonly ManifestFile[], schema: z.ZodType<T>): AsyncGenerator<T>;
  /** The rows of an artifact. */
  rowsOf<T>(ref: ArtifactRef, schema: z.ZodType<T>): AsyncGenerator<T>;
}

/** Artifacts by their manifests. */
interface ManifestStore {
  /** The manifest under a key; undefined where there is none. */
  findManifest(key: string): Promise<Manifest | undefined>;
  /** The manifest behind a reference. @throws StageFailure when there is none or it is of another artifact. */
  manifest(ref: ArtifactRef): Promise<Manifest>;
  /** As {@link manifest}, of an artifact whose files are wanted. @throws StageFailure `ArtifactPruned` too. */
  wholeManifest(ref: ArtifactRef): Promise<Manifest>;
  /**
   * Writes the manifest of a draft whose blobs are stored, or returns that of an earlier writer. Of files that its
   * `hostOnly` names, this host has the only copy.
   */
  commit(draft: Draft, producer: Producer): Promise<Committed>;
  /**
   * Why an artifact can no longer be read; undefined where it can. `trainingState` asks for the optimizer's state too.
   */
  prunedFailure(
    ref: Pick<ArtifactRef, 'key'>,
    options?: { trainingState?: boolean },
  ): Promise<StageFailure | undefined>;
  /**
   * Puts the files of an artifact into a folder of the cache and returns it. The files are links to cached blobs, so
   * readers must not write into them. A policy's optimizer state comes with it only where `trainingState` asks for it.
   *
   * @throws StageFailure `ArtifactPruned` where files were pruned, `ArtifactCorrupt` where they are damaged.
   */
  materialise(ref: ArtifactRef, options?: { trainingState?: boolean }): Promise<string>;
  /** Removes an artifact from the cache, except files that others use. It is fetched again when it is needed. */
  forget(ref: ArtifactRef): Promise<void>;
}

/** All of it. A function that needs a part takes that part, or a `Pick` of it. */
export interface ArtifactStore extends ObjectStore, BlobStore, RowStore, ManifestStore {}

/** Reads the store's settings. @throws Error that names every variable that is missing, or one that is no number. */
export function storeOptionsFromEnvironment(env: NodeJS.ProcessEnv, cache: string): StoreOptions {
  const names = [
    'ACECODER_S3_ENDPOINT',
    'ACECODER_S3_BUCKET',
    'ACECODER_S3_ACCESS_KEY',
    'ACECODER_S3_SECRET_KEY',
  ] as const;
  const missing = names.filter((name) => !env[name]);
  if (missing.length > 0)
    throw new Error(
      `The artifact store needs the environment variable(s) ${missing.join(', ')}; ` +
        '`npm run stack` starts one and says its values.',
    );
  const [endpoint, bucket, accessKey, secretKey] = names.map((name) => env[name]!) as [string, string, string, string];
  return {
    endpoint,
    bucket,
    accessKey,
    secretKey,
    cache,
    prefix: env['ACECODER_S3_PREFIX'] ?? '',
    ...(env['ACECODER_S3_REGION'] ? { region: env['ACECODER_S3_REGION'] } : {}),
    ...(env['ACECODER_S3_PUBLIC_ENDPOINT'] ? { publicEndpoint: env['ACECODER_S3_PUBLIC_ENDPOINT'] } : {}),
    ...positive(env, 'ACECODER_STORE_IDLE_SECONDS', 'seconds', (idleSeconds) => ({ idleSeconds })),
    ...positive(env, 'ACECODER_STORE_RETRY_SECONDS', 'seconds', (retrySeconds) => ({ retrySeconds })),
    ...positive(env, 'ACECODER_CACHE_GB', 'gigabytes', (gigabytes) => ({ cacheBytes: gigabytes * 1e9 })),
  };
}

/** The options that a number of the environment gives; none where it is not set. */
function positive<O>(env: NodeJS.ProcessEnv, variable: string, unit: string, give: (value: number) => O): Partial<O> {
  const text = env[variable];
  if (!text) return {};
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0)
    throw new Error(`${variable} is ${text}; it is a number of ${unit} above 0.`);
  return give(value);
}

/** The artifact store of an S3-compatible service. The first call makes the first request. */
export function createArtifactStore({
  cache: folder,
  cacheBytes,
  publicEndpoint,
  times,
  ...s3
}: StoreOptions): ArtifactStore {
  const objects = new S3Objects(s3);
  // The address is part of what a link signs.
  const linked = publicEndpoint === undefined ? objects : new S3Objects({ ...s3, endpoint: publicEndpoint });
  const cache = new BlobCache(objects, folder, cacheBytes, times);
  const rows = new RowFiles(cache);
  const manifests = new Manifests(objects, cache);
  return {
    check: () => objects.check(),
    putJson: (key, value) => objects.putJson(key, value),
    getJson: (key) => objects.getJson(key),
    list: (prefix) => objects.list(prefix),
    keys: (prefix) => objects.keys(prefix),
    pages: (prefix, options) => objects.pages(prefix, options),
    remove: (keys) => objects.remove(keys),
    abortUpload: (key, uploadId) => objects.abortUpload(key, uploadId),
    following: (signal, work) => objects.following(signal, work),

    hostPath: (...names) => cache.hostPath(...names),
    sweepHost: (milliseconds) => cache.sweepHost(milliseconds),
    spoolPath: (suffix) => cache.spoolPath(suffix),
    putFile: (path, name, options) => cache.putFile(path, name, options),
    putFolder: (path, prefix, options) => cache.putFolder(path, prefix, options),
    fetch: (file) => cache.fetch(file),
    link: ({ sha256, name, encoding }, seconds) =>
      linked.link(objectKeys.blob(sha256), seconds, answerHeaders(name, encoding)),
    blobTime: (sha256) => cache.blobTime(sha256),
    missingBlob: (files, options) => cache.missingBlob(files, options),
    materialiseFiles: (files, path) => cache.materialiseFiles(files, path),
    linkFolder: (from, to) => cache.linkFolder(from, to),

    putRows: (name, schema, all) => rows.put(name, schema, all),
    putRowsByFile: (names, schema, all, fileOf) => rows.putByFile(names, schema, all, fileOf),
    readRows: (files, schema) => rows.read(files, schema),
    async *rowsOf(ref, schema) {
      yield* rows.read(rowFiles(await manifests.of(ref)), schema);
    },

    findManifest: (key) => manifests.find(key),
    manifest: (ref) => manifests.of(ref),
    wholeManifest: (ref) => manifests.whole(ref),
    commit: (draft, producer) => manifests.commit(draft, producer),
    prunedFailure: (ref, options) => manifests.prunedFailure(ref, options),
    materialise: (ref, { trainingState = false } = {}) => materialise(manifests, cache, ref, trainingState),
    forget: async (ref) => {
      const { files } = await manifests.of(ref);
      await cache.dropFolders([folderName(ref, false), folderName(ref, true)], files);
    },
  };
}

/** How a store is to answer the link to a file: a page opens, everything else is saved under its name. */
function answerHeaders(name: string, encoding: ManifestFile['encoding']): Record<string, string> {
  const file = safeName(name.slice(name.lastIndexOf('/') + 1), { keepCase: true });
  const isPage = name.endsWith('.html');
  return {
    'response-content-type': isPage ? 'text/html; charset=utf-8' : 'application/octet-stream',
    'response-content-disposition': `${isPage ? 'inline' : 'attachment'}; filename="${file}"`,
    ...(encoding === 'gzip' ? { 'response-content-encoding': 'gzip' } : {}),
  };
}

async function materialise(
  manifests: Manifests,
  cache: BlobCache,
  ref: ArtifactRef,
  trainingState: boolean,
): Promise<string> {
  const name = folderName(ref, trainingState);
  const existing = await cache.folderNamed(name);
  if (existing) return existing;
  const { files } = await manifests.of(ref);
  const wanted = files.filter((file) => trainingState || !isTrainingState(file.name));
  try {
    return await cache.makeFolder(name, wanted);
  } catch (error) {
    if (!(error instanceof StageFailure && error.type === 'ArtifactCorrupt')) throw error;
    // A blob is missing: a document says whether it was pruned. Without one it is damage.
    throw (await manifests.prunedFailure(ref, { trainingState })) ?? error;
  }
}

/** Name of an artifact's folder in the cache, with the optimizer's state or without it. */
function folderName({ digest }: ArtifactRef, trainingState: boolean): string {
  return trainingState ? `${digest}-${TRAINING_STATE}` : digest;
}
