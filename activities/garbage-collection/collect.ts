/**
 * Garbage collection of the whole store, page by page: of a million objects, memory holds eight bytes for each blob
 * that is needed, and one page.
 *
 * Documents are read first, then blobs are listed, and each page of that listing is swept before the next is asked for.
 * What a document that is written meanwhile names is young, because a writer sends an old blob again. That one, too,
 * stays: see {@link BlobTimes} and `BlobCache.putBlob`. So no experiment needs to stop.
 *
 * A collection goes on where a killed attempt ended. Its state names what was read (marks, as blobs of the store), the
 * last key and the counts.
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { StageFailure, type ArtifactKind } from '../../workflows/contract/index.js';
import { OLD_SWEEP_MS, SWEEP_SECONDS } from '../artifacts/cache.js';
import { eachOf } from '../artifacts/collections.js';
import { objectKeys } from '../artifacts/keys.js';
import type { ListedObject, ListedPage } from '../artifacts/objects.js';
import { DOCUMENTS, isPruned, namedBy, prunedParts } from '../artifacts/pruning.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { DigestSet } from './digest-set.js';

const BLOBS = 'blobs/sha256/';
const CHECKPOINTS = 'checkpoints/';
const UPLOADS = 'uploads/';
const SWEEPS = 'sweeps/';
/** What is counted and never removed. */
const OTHERS = [
  'batches/',
  'cells/',
  'datasets/',
  'experiments/',
  'kept/',
  'pruned/',
  'refusals/',
  'replies/',
  'results/',
];
/** Documents that are read at once. Each listens to the activity's signal, of which Node warns from 11 on. */
const LANES = 8;
/** Digests after which what was read is stored, so that a killed worker's successor need not read it again. */
const MARK_DIGESTS = 65_536;
/**
 * Checkpoints of a training that goes on: a worker may read the newest, and the one before it where that is damaged.
 */
const CHECKPOINTS_KEPT = 2;
/** What a finished training is, by the kinds of artifact that trainings make. */
const TRAINED_KINDS: readonly ArtifactKind[] = ['model', 'rewardModel', 'policy'];
const DIGEST = /^[0-9a-f]{64}$/;

/** Objects below a prefix, and those of them that were removed, or would be. Sizes are in bytes. */
const Tally = z.object({ objects: z.number(), bytes: z.number(), removed: z.number(), removedBytes: z.number() });
export type Tally = z.infer<typeof Tally>;

const Mark = z.object({ name: z.string(), sha256: z.string(), bytes: z.number() });

/** From where a collection goes on. */
const CollectionState = z.object({
  /** Objects stored before this may go. */
  before: z.iso.datetime(),
  dryRun: z.boolean(),
  tallies: z.record(z.string(), Tally),
  /** Blobs with the digests that documents name. */
  marks: z.array(Mark),
  /** Prefix that is gone through, and the last key of it that was. */
  at: z.object({ prefix: z.string(), after: z.string() }),
  objects: z.number(),
});
type CollectionState = z.infer<typeof CollectionState>;

export interface Collection {
  /** Names the collection where writers look for those that run. */
  id: string;
  /** Objects stored before this may go. */
  before: Date;
  /** Checkpoints of trainings that stored none since go. */
  checkpointsBefore: Date;
  dryRun: boolean;
  signal?: AbortSignal;
  /** What an earlier attempt gave to `onProgress`. Anything else is passed over. */
  resume?: unknown;
  onProgress?: (progress: { objects: number; message: string; state: CollectionState }) => void;
  /** As {@link SWEEP_SECONDS}; those of the store. */
  sweepSeconds?: number;
  markDigests?: number;
}

export interface Collected {
  /** By prefix, in the order of names. */
  prefixes: Record<string, Tally>;
}

type CollectedStore = Pick<
  ArtifactStore,
  | 'abortUpload'
  | 'fetch'
  | 'findManifest'
  | 'following'
  | 'getJson'
  | 'list'
  | 'pages'
  | 'putFile'
  | 'putJson'
  | 'remove'
  | 'spoolPath'
>;

/**
 * Removes blobs that no document needs, checkpoints that no training comes back to, and parts of uploads that nobody
 * ends; or counts them.
 *
 * @throws StageFailure `StoreUnavailable`; `ArtifactCorrupt` where a document cannot be read, and nothing more is
 * removed then.
 * @example
 * const before = new Date(Date.now() - 24 * 3_600_000);
 * const checkpointsBefore = new Date(Date.now() - 30 * 24 * 3_600_000);
 * const { prefixes } = await collectGarbage(store, { id: 'sweep', before, checkpointsBefore, dryRun: true });
 * console.log(prefixes['blobs/sha256/']); // { objects: 12, bytes: 4711, removed: 2, removedBytes: 100 }
 */
export async function collectGarbage(store: CollectedStore, collection: Collection): Promise<Collected> {
  return new Collector(store, collection).run();
}

class Collector {
  #state: CollectionState;
  /** The state that the stored marks belong to: what another attempt goes on from. */
  #stored: CollectionState;
  #needed = new DigestSet();
  readonly #prefixes: readonly string[];

  constructor(
    private readonly store: CollectedStore,
    private readonly collection: Collection,
  ) {
    this.#prefixes = [...DOCUMENTS, BLOBS, ...(collection.dryRun ? OTHERS : [])];
    this.#state = this.#fresh();
    this.#stored = this.#fresh();
  }

  async run(): Promise<Collected> {
    const { store } = this;
    const { dryRun, id } = this.collection;
    await this.#resume();
    const notice = objectKeys.sweep(id);
    try {
      const left = await this.#removeLeftovers();
      // Before the documents: a part that is pruned after this stays.
      const pruned = await prunedParts(store);
      const { prefix: current } = this.#state.at;
      for (const prefix of this.#prefixes.slice(this.#prefixes.indexOf(current))) {
        const after = prefix === current ? this.#state.at.after : '';
        if (DOCUMENTS.includes(prefix)) await this.#mark(prefix, after, pruned, left);
        else if (prefix === BLOBS) await this.#sweep(after, notice);
        else await this.#count(prefix, after);
      }
    } finally {
      if (!dryRun) await store.remove([notice]).catch(() => undefined);
    }
    // The marks stay for an attempt after this one, whose answer may be lost. The next collection removes them.
    const tallies = Object.entries(this.#state.tallies).sort(([a], [b]) => (a < b ? -1 : 1));
    return { prefixes: Object.fromEntries(tallies) };
  }

  #fresh(): CollectionState {
    const { before, dryRun } = this.collection;
    return {
      before: before.toISOString(),
      dryRun,
      tallies: {},
      marks: [],
      at: { prefix: this.#prefixes[0]!, after: '' },
      objects: 0,
    };
  }

  /** Takes over what an earlier attempt read; begins anew where that is gone. */
  async #resume(): Promise<void> {
    const { success, data } = CollectionState.safeParse(this.collection.resume);
    if (!success || data.dryRun !== this.collection.dryRun || !this.#prefixes.includes(data.at.prefix)) return;
    const needed = new DigestSet();
    try {
      for (const mark of data.marks)
        needed.addAll(await readFile(await this.store.fetch({ ...mark, encoding: 'identity' })));
    } catch (error) {
      if (error instanceof StageFailure && error.type === 'ArtifactCorrupt') return;
      throw error;
    }
    this.#state = data;
    this.#stored = structuredClone(data);
    this.#needed = needed;
  }

  get #before(): Date {
    return new Date(this.#state.before);
  }

  #tally(prefix: string): Tally {
    return (this.#state.tallies[prefix] ??= { objects: 0, bytes: 0, removed: 0, removedBytes: 0 });
  }

  #report(message: string): void {
    this.collection.onProgress?.({ objects: this.#state.objects, message, state: this.#stored });
  }

  // --- checkpoints and uploads

  /** Removes what trainings and uploads left, or counts it. @returns keys of documents that are as good as removed. */
  async #removeLeftovers(): Promise<Set<string>> {
    const { store } = this;
    const { dryRun } = this.collection;
    const condemned = new Set<string>();
    const found: ListedObject[] = [];
    for await (const [stageKey, documents] of trainings(store))
      found.push(...(await this.#leftOf(stageKey, documents)));
    const uploads = (await store.list(UPLOADS)).filter(({ modified }) => modified < this.#before);
    if (dryRun) {
      // Attempts find the same ones again.
      for (const prefix of [CHECKPOINTS, UPLOADS]) Object.assign(this.#tally(prefix), { removed: 0, removedBytes: 0 });
      for (const { key } of found) condemned.add(key);
    } else {
      await store.remove(found.map(({ key }) => key));
      for (const { key } of uploads) await this.#endUpload(key);
    }
    for (const [prefix, objects] of [
      [CHECKPOINTS, found],
      [UPLOADS, uploads],
    ] as const)
      for (const { bytes } of objects) {
        this.#tally(prefix).removed += 1;
        this.#tally(prefix).removedBytes += bytes;
      }
    this.#stored.tallies = structuredClone(this.#state.tallies);
    this.#report('looked for checkpoints and uploads that were left');
    return condemned;
  }

  async #leftOf(stageKey: string, documents: readonly ListedObject[]): Promise<ListedObject[]> {
    const before = this.#before;
    if (!documents.some(({ modified }) => modified < before)) return [];
    let isFinished = false;
    for (const kind of TRAINED_KINDS)
      isFinished ||= (await this.store.findManifest(objectKeys.manifest(kind, stageKey))) !== undefined;
    return leftCheckpoints(documents, { isFinished, before, checkpointsBefore: this.collection.checkpointsBefore });
  }

  async #endUpload(key: string): Promise<void> {
    const upload = z.object({ key: z.string(), uploadId: z.string() }).safeParse(await this.store.getJson(key));
    if (upload.success) await this.store.abortUpload(upload.data.key, upload.data.uploadId);
    await this.store.remove([key]);
  }

  // --- documents

  async #mark(
    prefix: string,
    after: string,
    pruned: Awaited<ReturnType<typeof prunedParts>>,
    condemned: ReadonlySet<string>,
  ): Promise<void> {
    const { markDigests = MARK_DIGESTS } = this.collection;
    for await (const { objects } of this.store.pages(prefix, { after, ahead: true })) {
      await eachOf(objects.length, LANES, async (at) => {
        const { key } = objects[at]!;
        if (condemned.has(key)) return;
        const parts = pruned.get(key);
        for (const { sha256, name } of namedBy(await this.store.getJson(key)).blobs)
          if (DIGEST.test(sha256) && !(parts && isPruned(name ?? '', parts))) this.#needed.add(sha256);
      });
      this.#passed(prefix, objects);
      if (this.#needed.newCount >= markDigests) await this.#storeMarks();
      this.#report(`reading what ${prefix} names`);
    }
  }

  async #storeMarks(): Promise<void> {
    if (this.#needed.newCount > 0) {
      const path = await this.store.spoolPath('.marks');
      try {
        await writeFile(path, this.#needed.takeNew());
        const { name, sha256, bytes } = await this.store.putFile(path, 'marks.bin', { cached: false });
        this.#state.marks.push({ name, sha256, bytes });
      } finally {
        await rm(path, { force: true });
      }
    }
    this.#stored = structuredClone(this.#state);
  }

  /** Counts a page, and remembers where it ends. */
  #passed(prefix: string, objects: readonly ListedObject[]): void {
    const tally = this.#tally(prefix);
    for (const { bytes } of objects) {
      tally.objects += 1;
      tally.bytes += bytes;
    }
    this.#state.objects += objects.length;
    this.#state.at = { prefix, after: objects.at(-1)?.key ?? this.#state.at.after };
  }

  // --- blobs

  async #sweep(after: string, notice: string): Promise<void> {
    const { dryRun } = this.collection;
    // What is counted alone, and was read in seconds, is read again by another attempt.
    if (!dryRun || this.#state.marks.length > 0) await this.#storeMarks();
    this.#report('all documents are read');
    if (!dryRun) await this.#giveNotice(notice);
    let last = after;
    for await (const page of this.store.pages(BLOBS, { after, ahead: dryRun })) {
      const removed = await this.#sweepPage(page, last);
      last = page.objects.at(-1)?.key ?? last;
      this.#passed(BLOBS, page.objects);
      const tally = this.#tally(BLOBS);
      for (const { bytes } of removed) {
        tally.removed += 1;
        tally.removedBytes += bytes;
      }
      this.#keep();
      this.#report(dryRun ? 'counting blobs' : 'sweeping blobs');
    }
  }

  /** Lets another attempt go on from here, where all marks are stored. */
  #keep(): void {
    if (this.#needed.newCount === 0) this.#stored = structuredClone(this.#state);
  }

  /** Where writers see that blobs go. */
  async #giveNotice(notice: string): Promise<void> {
    const old = (await this.store.list(SWEEPS)).filter(({ modified }) => Date.now() - +modified > OLD_SWEEP_MS);
    await this.store.remove([notice, ...old.map(({ key }) => key)]);
    await this.store.putJson(notice, { since: new Date().toISOString() });
  }

  /** Removes the garbage of a page, before what the page says of its age is too old. */
  async #sweepPage(page: ListedPage, after: string): Promise<ListedObject[]> {
    const { dryRun, signal, sweepSeconds = SWEEP_SECONDS } = this.collection;
    const before = this.#before;
    for (let { objects, asked } = page; ;) {
      const garbage = objects.filter(
        ({ key, modified }) => modified < before && !this.#needed.has(key.slice(BLOBS.length)),
      );
      if (dryRun || garbage.length === 0) return garbage;
      const left = sweepSeconds * 1000 - (performance.now() - asked);
      if (left > (sweepSeconds * 1000) / 2) {
        const late = AbortSignal.timeout(Math.floor(left));
        const ended = signal ? AbortSignal.any([signal, late]) : late;
        try {
          await this.store.following(ended, () => this.store.remove(garbage.map(({ key }) => key)));
        } catch (error) {
          if (!late.aborted || signal?.aborted) throw error;
          throw new StageFailure('StoreUnavailable', `the store takes more than ${sweepSeconds} s to remove blobs`);
        }
        return garbage;
      }
      // The writers of some of them may have sent them again since.
      const end = objects.at(-1)!.key;
      for await (const again of this.store.pages(BLOBS, { after })) {
        asked = again.asked;
        objects = again.objects.filter(({ key }) => key <= end);
        break;
      }
    }
  }

  // --- others

  async #count(prefix: string, after: string): Promise<void> {
    for await (const { objects } of this.store.pages(prefix, { after, ahead: true })) {
      this.#passed(prefix, objects);
      this.#keep();
      this.#report(`counting ${prefix}`);
    }
  }
}

/** Which checkpoints of a training no attempt comes back to. `documents` are in the order of their steps. */
export function leftCheckpoints<D extends { modified: Date }>(
  documents: readonly D[],
  {
    isFinished,
    before,
    checkpointsBefore,
  }: {
    /** Whether the artifact of the training is stored. */
    isFinished: boolean;
    before: Date;
    checkpointsBefore: Date;
  },
): D[] {
  const isAbandoned = documents.every(({ modified }) => modified < checkpointsBefore);
  const candidates = isFinished || isAbandoned ? documents : documents.slice(0, -CHECKPOINTS_KEPT);
  return candidates.filter(({ modified }) => modified < before);
}

/** Checkpoints by the stage key of their training, in the order of steps. */
async function* trainings(store: Pick<ArtifactStore, 'pages'>): AsyncGenerator<[string, ListedObject[]]> {
  let stageKey = '';
  let documents: ListedObject[] = [];
  for await (const { objects } of store.pages(CHECKPOINTS, { ahead: true })) {
    for (const object of objects) {
      const [, key = ''] = object.key.split('/');
      if (key !== stageKey && documents.length > 0) yield [stageKey, documents];
      if (key !== stageKey) documents = [];
      stageKey = key;
      documents.push(object);
    }
  }
  if (documents.length > 0) yield [stageKey, documents];
}
