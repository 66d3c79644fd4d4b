/**
 * An experiment as one file, a tar archive, that another store takes in: the manifests of all that it was made of,
 * their blobs as they are stored, and the records about it.
 *
 * `index.json` comes first and names everything else with its SHA-256. An import checks the whole archive before it
 * writes anything. It writes blobs first and names them last, as producers do, so that it may be killed and repeated.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import tar from 'tar-stream';
import { z } from 'zod';
import { BlobCache } from '../../activities/artifacts/cache.js';
import { collect } from '../../activities/artifacts/collections.js';
import { artifactDigest, objectKeys } from '../../activities/artifacts/keys.js';
import { refOf } from '../../activities/artifacts/manifests.js';
import { S3Objects } from '../../activities/artifacts/objects.js';
import { isPruned } from '../../activities/artifacts/pruning.js';
import type { Part } from '../../activities/artifacts/pruned.js';
import type { RunResults } from '../../activities/artifacts/results.js';
import type { StoreOptions } from '../../activities/artifacts/store.js';
import { ArtifactRef, Manifest, ManifestFile } from '../../workflows/contract/index.js';

const INDEX = 'index.json';
/** Documents of an archive, in the order in which they are written: what names others comes after them. */
const DOCUMENTS = [
  /^pruned\/artifacts\/\w+\/[0-9a-f]{64}\.json\/(trainingState|all)\.json$/,
  /^plans\/[0-9a-f]{64}\.json$/,
  /^artifacts\/\w+\/[0-9a-f]{64}\.json$/,
  /^kept\/artifacts\/\w+\/[0-9a-f]{64}\.json$/,
  /^results\/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.json$/,
];
const MANIFEST = DOCUMENTS[2]!;
const PLAN = DOCUMENTS[1]!;
/** The largest document that a store takes, and the largest index that is read, in bytes. */
const DOCUMENT_BYTES = 5 * 1024 * 1024;
const INDEX_BYTES = 512 * 1024 * 1024;

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const Index = z.object({
  format: z.literal('acecoder-experiment'),
  version: z.literal(1),
  of: z.string(),
  documents: z.array(z.object({ key: z.string(), sha256: Sha256 })),
  blobs: z.array(ManifestFile.pick({ sha256: true, bytes: true, encoding: true })),
});
type Index = z.infer<typeof Index>;
type Blob = Index['blobs'][number];

const PlanFiles = z.object({ shards: z.array(ManifestFile) });

/** What an export or import has moved. */
export interface Moved {
  documents: number;
  blobs: number;
  /** Of the blobs, those that were sent. The store had the others. */
  sent: number;
}

const digestOf = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');
const blobEntry = (sha256: string): string => `blobs/${sha256}`;
const documentEntry = (key: string): string => `documents/${key}`;

/** Keys of the artifacts that a value refers to, at any depth. */
function keysIn(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  const ref = ArtifactRef.safeParse(value);
  return ref.success ? [ref.data.key] : Object.values(value).flatMap(keysIn);
}

/** Everything that leads to the artifacts, with the reasons why files are missing. */
async function documentsOf(
  objects: S3Objects,
  roots: readonly ArtifactRef[],
): Promise<{ documents: Map<string, unknown>; blobs: Map<string, Blob> }> {
  const documents = new Map<string, unknown>();
  const blobs = new Map<string, Blob>();
  const add = (files: readonly ManifestFile[]): void => {
    for (const { sha256, bytes, encoding } of files) blobs.set(sha256, { sha256, bytes, encoding });
  };
  const waiting = roots.map(({ key }) => key);
  for (let key = waiting.pop(); key !== undefined; key = waiting.pop()) {
    if (documents.has(key)) continue;
    const manifest = Manifest.parse(await objects.getJson(key));
    documents.set(key, manifest);
    const parts = new Set<Part>();
    for (const part of ['all', 'trainingState'] as const) {
      const pruned = await objects.getJson(objectKeys.pruned(key, part));
      if (pruned === undefined) continue;
      documents.set(objectKeys.pruned(key, part), pruned);
      parts.add(part);
    }
    add(manifest.files.filter(({ name }) => !isPruned(name, parts)));
    // Without its plan, a stage would be planned once more before it is found.
    for (const about of [objectKeys.plan(manifest.stageKey), objectKeys.kept(key)]) {
      const document = await objects.getJson(about);
      if (document === undefined) continue;
      documents.set(about, document);
      if (PLAN.test(about)) add(PlanFiles.parse(document).shards);
    }
    waiting.push(...keysIn(manifest.inputs));
  }
  return { documents, blobs };
}

/**
 * Writes the archive of a run's results, or of one artifact, to `file`, which appears as a whole.
 *
 * @throws Error where a file is missing from the store.
 */
export async function exportArchive(
  options: StoreOptions,
  of: RunResults | ArtifactRef,
  file: string,
): Promise<Moved & { bytes: number }> {
  const objects = new S3Objects(options);
  const isRun = 'results' in of;
  const { documents, blobs } = await documentsOf(objects, isRun ? Object.values(of.results) : [of]);
  if (isRun) documents.set(objectKeys.result(of.workflowId, of.runId), of);
  const texts = [...documents].map(([key, document]) => ({ key, text: Buffer.from(JSON.stringify(document)) }));
  const index: Index = {
    format: 'acecoder-experiment',
    version: 1,
    of: isRun ? of.workflowId : of.key,
    documents: texts.map(({ key, text }) => ({ key, sha256: digestOf(text) })),
    blobs: [...blobs.values()],
  };
  const part = `${file}.${randomUUID()}.part`;
  const spooled = `${file}.${randomUUID()}.blob`;
  const pack = tar.pack();
  const written = pipeline(pack, createWriteStream(part, { flags: 'wx' }));
  written.catch((error: Error) => pack.destroy(error));
  const entry = (name: string, content: Buffer): Promise<void> =>
    new Promise((done, failed) => {
      pack.entry({ name }, content, (error) => (error ? failed(error) : done()));
    });
  try {
    await entry(INDEX, Buffer.from(JSON.stringify(index)));
    for (const { key, text } of texts) await entry(documentEntry(key), text);
    for (const { sha256 } of blobs.values()) {
      const found = await objects.read(objectKeys.blob(sha256), (body) => pipeline(body, createWriteStream(spooled)));
      if (!found) throw new Error(`the store has no blob ${sha256}, which the experiment needs`);
      const { size } = await stat(spooled);
      await pipeline(createReadStream(spooled), pack.entry({ name: blobEntry(sha256), size }));
    }
    pack.finalize();
    await written;
    const { size: bytes } = await stat(part);
    await rename(part, file);
    return { documents: documents.size, blobs: blobs.size, sent: blobs.size, bytes };
  } finally {
    pack.destroy();
    await rm(part, { force: true });
    await rm(spooled, { force: true });
  }
}

/** Hands each entry to `take`, in its order. @throws Error with one sentence where the file is no whole tar archive. */
async function eachEntry(file: string, take: (name: string, body: Readable) => Promise<void>): Promise<void> {
  const extract = tar.extract();
  const { size } = await stat(file);
  if (size % 512 !== 0) throw new Error(`${file} is cut short: a tar archive has whole blocks of 512 bytes`);
  const read = pipeline(createReadStream(file), extract);
  read.catch(() => undefined);
  for await (const entry of extract) {
    const { name, type } = entry.header;
    if (type !== 'file') throw new Error(`${file} holds ${JSON.stringify(name)}, which is a ${type} and no file`);
    const body = entry.pipe(new PassThrough());
    entry.on('error', (error: Error) => body.destroy(error));
    await take(name, body);
  }
  await read;
}

/** What an archive holds, once everything in it was checked. */
interface Checked {
  index: Index;
  documents: Map<string, unknown>;
}

/** Checks a whole archive; writes nothing. @throws Error with one sentence. */
async function check(file: string): Promise<Checked> {
  let index: Index | undefined;
  const documents = new Map<string, unknown>();
  const blobs = new Map<string, Blob>();
  const expected = new Map<string, string>();
  const damaged = (what: string): Error => new Error(`${file} is damaged: ${what}`);
  await eachEntry(file, async (name, body) => {
    if (!index) {
      if (name !== INDEX) throw new Error(`${file} is no archive of an experiment: it does not begin with ${INDEX}`);
      const parsed = Index.safeParse(jsonOf(await bytesOf(body, INDEX_BYTES, name), damaged));
      if (!parsed.success) throw new Error(`${file} is no archive of an experiment that this version can read`);
      index = parsed.data;
      for (const { key, sha256 } of index.documents) {
        if (!DOCUMENTS.some((form) => form.test(key)))
          throw damaged(`${JSON.stringify(key)} is no key of a document of an experiment`);
        expected.set(documentEntry(key), sha256);
      }
      for (const blob of index.blobs) {
        expected.set(blobEntry(blob.sha256), blob.sha256);
        blobs.set(blobEntry(blob.sha256), blob);
      }
      return;
    }
    const sha256 = expected.get(name);
    if (sha256 === undefined) throw damaged(`${JSON.stringify(name)} is in it twice, or its index does not name it`);
    expected.delete(name);
    const blob = blobs.get(name);
    if (blob) {
      const found = await digestOfBlob(body, blob).catch(() => '');
      if (found !== sha256) throw damaged(`${name} has other bytes than its name says`);
      return;
    }
    const bytes = await bytesOf(body, DOCUMENT_BYTES, name);
    if (digestOf(bytes) !== sha256) throw damaged(`${name} has another digest than the index says`);
    documents.set(name.slice(documentEntry('').length), jsonOf(bytes, damaged));
  }).catch((error: unknown) => {
    if (error instanceof Error && error.message.startsWith(file)) throw error;
    throw damaged(error instanceof Error ? error.message : String(error));
  });
  if (!index) throw new Error(`${file} is no archive of an experiment: it is empty`);
  const [missing] = expected.keys();
  if (missing !== undefined) throw damaged(`${expected.size} of its files are missing, such as ${missing}`);
  checkDocuments(documents, new Set(blobs.keys()), damaged);
  return { index, documents };
}

/** Manifests say what they are, and what they name is there. */
function checkDocuments(
  documents: ReadonlyMap<string, unknown>,
  blobs: ReadonlySet<string>,
  damaged: (what: string) => Error,
): void {
  for (const [key, document] of documents) {
    const schema = MANIFEST.test(key) ? Manifest : PLAN.test(key) ? PlanFiles : undefined;
    const parsed = schema?.safeParse(document);
    if (parsed && !parsed.success) throw damaged(`${key} is no such document`);
    if (PLAN.test(key)) requireBlobs(PlanFiles.parse(document).shards, key);
    if (!MANIFEST.test(key)) continue;
    const manifest = Manifest.parse(document);
    if (objectKeys.manifest(manifest.kind, manifest.stageKey) !== key || !isItsDigest(manifest))
      throw damaged(`${key} is the manifest of something else`);
    const parts = new Set(
      (['all', 'trainingState'] as const).filter((part) => documents.has(objectKeys.pruned(key, part))),
    );
    requireBlobs(
      manifest.files.filter(({ name }) => !isPruned(name, parts)),
      key,
    );
    for (const input of keysIn(manifest.inputs))
      if (!documents.has(input)) throw damaged(`${input}, an input of ${key}, is missing`);
  }

  function requireBlobs(files: readonly ManifestFile[], key: string): void {
    const missing = files.find(({ sha256 }) => !blobs.has(blobEntry(sha256)));
    if (missing) throw damaged(`${missing.name} of ${key} is missing`);
  }
}

const isItsDigest = ({ kind, files, digest }: Manifest): boolean => artifactDigest(kind, files) === digest;

/**
 * Takes an archive into a store. What the store has already stays, and an import that was killed is repeated.
 *
 * @param folder for files on their way; removed by the caller.
 * @throws Error with one sentence where the archive is damaged, or where the store holds something else under one of
 *   its keys; nothing is written then.
 */
export async function importArchive(options: StoreOptions, file: string, folder: string): Promise<Moved> {
  const { index, documents } = await check(file);
  const objects = new S3Objects(options);
  await objects.check();
  const stored = new Set<string>();
  for (const [key, document] of documents) {
    const existing = await objects.getJson(key);
    if (existing === undefined) continue;
    stored.add(key);
    if (MANIFEST.test(key) && Manifest.parse(existing).digest !== Manifest.parse(document).digest)
      throw new Error(
        `the store holds another artifact under ${key}: the same work gave other bytes there, and nothing is imported`,
      );
  }
  const cache = new BlobCache(objects, folder);
  await mkdir(folder, { recursive: true });
  let sent = 0;
  const blobs = new Map(index.blobs.map((blob) => [blobEntry(blob.sha256), blob]));
  await eachEntry(file, async (name, body) => {
    const blob = blobs.get(name);
    if (!blob) {
      body.resume();
      return;
    }
    const path = join(folder, randomUUID());
    try {
      await pipeline(body, createWriteStream(path));
      if ((await digestOfBlob(createReadStream(path), blob)) !== blob.sha256)
        throw new Error(`${file} has changed while it was read`);
      if (!(await cache.blobTime(blob.sha256))) sent += 1;
      await cache.putBlob(blob.sha256, path);
    } finally {
      await rm(path, { force: true });
    }
  });
  for (const form of DOCUMENTS)
    for (const [key, document] of documents) {
      if (!form.test(key) || stored.has(key)) continue;
      // What the store has as a whole must not become pruned there.
      if (key.startsWith('pruned/') && stored.has(key.slice('pruned/'.length, key.lastIndexOf('/')))) continue;
      if (MANIFEST.test(key)) await requireFresh(cache, Manifest.parse(document), documents);
      await objects.putJson(key, document);
    }
  return { documents: documents.size, blobs: index.blobs.length, sent };
}

/** As producers do before they name blobs: pruning removes those that are some minutes old and not named. */
async function requireFresh(
  cache: BlobCache,
  manifest: Manifest,
  documents: ReadonlyMap<string, unknown>,
): Promise<void> {
  const { key } = refOf(manifest);
  const parts = new Set(
    (['all', 'trainingState'] as const).filter((part) => documents.has(objectKeys.pruned(key, part))),
  );
  const files = manifest.files.filter(({ name }) => !isPruned(name, parts));
  const missing = await cache.missingBlob(files, { fresh: true });
  if (missing) throw new Error(`the store has lost ${missing.name} of ${key} meanwhile; run the import again`);
}

/** Digest of what a blob holds, which is its name. */
async function digestOfBlob(body: Readable, { encoding }: Pick<Blob, 'encoding'>): Promise<string> {
  const hash = createHash('sha256');
  const hashing = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
    for await (const chunk of chunks) hash.update(chunk);
  };
  await (encoding === 'gzip' ? pipeline(body, createGunzip(), hashing) : pipeline(body, hashing));
  return hash.digest('hex');
}

async function bytesOf(body: Readable, most: number, name: string): Promise<Buffer> {
  let bytes = 0;
  const chunks = await collect(
    (async function* () {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > most) throw new Error(`${name} has more than ${most} bytes`);
        yield chunk;
      }
    })(),
  );
  return Buffer.concat(chunks);
}

function jsonOf(bytes: Buffer, damaged: (what: string) => Error): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch {
    throw damaged('a document of it is no JSON');
  }
}
