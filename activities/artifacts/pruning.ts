/**
 * What is removed from the store, and how readers, pruning and garbage collection agree about it.
 *
 * The manifest of an artifact never changes. A pruned document says that files of it may go, by whom and why. It is
 * written before the first file goes, so a missing file without such a document is damage. A blob is deleted only where
 * no manifest, plan, shard or checkpoint needs it, and where no writer can be about to name it: see {@link sweep}.
 */
import { z } from 'zod';
import { YOUNG_BLOB_SECONDS, type ArtifactRef } from '../../workflows/contract/index.js';
import { objectKeys, TRAINING_STATE } from './keys.js';
import type { Part } from './pruned.js';
import type { ArtifactStore } from './store.js';

/** Prefixes of the documents that name blobs or artifacts. */
export const DOCUMENTS = ['artifacts/', 'plans/', 'shards/', 'checkpoints/'];
/** Prefixes of all documents that name files of a model, or a model as an input. A shard names rows alone. */
export const MODEL_DOCUMENTS = ['artifacts/', 'plans/', 'checkpoints/', 'experiments/'];

/** What a document names. */
export interface Named {
  /** Blobs, with the names of their files where they have one. */
  blobs: { sha256: string; name?: string }[];
  /** Keys of the policies that it refers to. */
  policies: string[];
  /** For a step of an RL round: its number, the policy that it updates or samples, and the reference, by their keys. */
  round?: { number: number; policy: string; reference?: string };
}

const RoundManifest = z.object({
  stage: z.string().startsWith('reinforcement.'),
  config: z.object({ round: z.number() }),
  inputs: z.object({ policy: z.object({ key: z.string() }), reference: z.object({ key: z.string() }).optional() }),
});

/** What a document names, at any depth. */
export function namedBy(document: unknown): Named {
  const named: Named = { blobs: [], policies: [] };
  const follow = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    const { sha256, name, key } = value as Record<string, unknown>;
    if (typeof sha256 === 'string') named.blobs.push({ sha256, ...(typeof name === 'string' ? { name } : {}) });
    if (typeof key === 'string' && key.startsWith('artifacts/policy/')) named.policies.push(key);
    for (const member of Object.values(value)) follow(member);
  };
  follow(document);
  const round = RoundManifest.safeParse(document);
  if (round.success) {
    const {
      config,
      inputs: { policy, reference },
    } = round.data;
    named.round = { number: config.round, policy: policy.key, ...(reference ? { reference: reference.key } : {}) };
  }
  return named;
}

/** What the documents of a store name. Each version of a document is read once. */
export class Documents {
  /** By key and time, because a checkpoint may be written again under the key of a removed one. */
  #known = new Map<string, Named>();

  constructor(
    private readonly store: Pick<ArtifactStore, 'getJson' | 'list'>,
    private readonly prefixes: readonly string[],
  ) {}

  /** What each document that exists now names, by its key. */
  async read(onRead: (documents: number) => void = () => undefined): Promise<Map<string, Named>> {
    const all = new Map<string, Named>();
    const known = new Map<string, Named>();
    for (const prefix of this.prefixes) {
      for (const { key, modified } of await this.store.list(prefix)) {
        const version = `${key} ${modified.getTime()}`;
        const named = this.#known.get(version) ?? namedBy(await this.store.getJson(key));
        known.set(version, named);
        all.set(key, named);
        onRead(all.size);
      }
    }
    this.#known = known;
    return all;
  }
}

/** The blobs that documents name, except those of pruned parts. `pruned` has the parts by manifest key. */
export function neededBlobs(
  documents: ReadonlyMap<string, Named>,
  pruned: ReadonlyMap<string, ReadonlySet<Part>>,
): Set<string> {
  const needed = new Set<string>();
  for (const [key, { blobs }] of documents) {
    const parts = pruned.get(key);
    for (const { sha256, name } of blobs) if (!parts || !isPruned(name ?? '', parts)) needed.add(sha256);
  }
  return needed;
}

/** Whether a file belongs to one of the parts. */
export function isPruned(file: string, parts: ReadonlySet<Part>): boolean {
  return parts.has('all') || (parts.has('trainingState') && file.startsWith(`${TRAINING_STATE}/`));
}

export interface Rounds {
  /** Policies of the rounds that are done, oldest first. */
  policies: readonly ArtifactRef[];
  /** What the stage itself still reads: the reference, and a policy that a later round samples. */
  needed: readonly ArtifactRef[];
  /** How many of the newest stay; null: all. */
  keepRounds: number | null;
}

/**
 * The parts that may go, by the policy's key.
 *
 * - The optimizer's state of all rounds except the newest, because the next round starts from that one.
 * - Every file of a round older than `keepRounds` that nothing needs. A finished round no longer needs the policy that
 * it   updated or sampled. Every other document that names a policy goes on needing it.
 *
 * `kept` are the keys of the artifacts that other stages keep.
 */
export function prunable(
  { policies, needed, keepRounds }: Rounds,
  documents: ReadonlyMap<string, Named>,
  kept: ReadonlySet<string>,
): Map<string, Part> {
  const parts = new Map<string, Part>();
  if (keepRounds === null) return parts;
  const own = new Set(policies.map(({ key }) => key));
  const foreign = new Set<string>();
  for (const [document, { policies: names, round }] of documents) {
    if (own.has(document)) continue;
    for (const key of names) {
      // The next round updates it; an asynchronous round samples it one round earlier.
      const isDone =
        round?.policy === key &&
        round.reference !== key &&
        [2, 3].some((lag) => policies[round.number - lag]?.key === key);
      if (!isDone) foreign.add(key);
    }
  }
  const stays = new Set([...policies.slice(-keepRounds), ...needed].map(({ key }) => key));
  for (const { key } of policies.slice(0, -1))
    if (!kept.has(key)) parts.set(key, stays.has(key) || foreign.has(key) ? 'trainingState' : 'all');
  return parts;
}

/** The pruned parts of all artifacts, by manifest key. */
export async function prunedParts(store: Pick<ArtifactStore, 'list'>): Promise<Map<string, Set<Part>>> {
  const parts = new Map<string, Set<Part>>();
  for (const { key } of await store.list('pruned/')) {
    const [, artifact, part] = /^pruned\/(.+)\/(trainingState|all)\.json$/.exec(key) ?? [];
    if (artifact) parts.set(artifact, (parts.get(artifact) ?? new Set()).add(part as Part));
  }
  return parts;
}

/** Keys of the artifacts that stages keep. */
export async function keptArtifacts(store: Pick<ArtifactStore, 'list'>): Promise<Set<string>> {
  return new Set((await store.list('kept/')).map(({ key }) => key.slice('kept/'.length)));
}

/**
 * Deletes the blobs that are not needed and were stored before `before`, and counts them.
 *
 * Younger blobs are kept: a writer may be about to name them. Older ones are safe to delete, because a writer commits
 * its manifest within `FRESH_BLOB_SECONDS` of storing or touching its blobs. A blob's time is read again right before
 * it is deleted.
 */
export async function sweep(
  store: Pick<ArtifactStore, 'blobTime' | 'remove'>,
  blobs: Iterable<{ sha256: string; bytes: number }>,
  { needed, before, dryRun = false }: { needed: ReadonlySet<string>; before: Date; dryRun?: boolean },
): Promise<{ swept: number; sweptBytes: number }> {
  let [swept, sweptBytes] = [0, 0];
  for (const { sha256, bytes } of blobs) {
    if (needed.has(sha256)) continue;
    const stored = await store.blobTime(sha256);
    if (!stored || stored >= before) continue;
    if (!dryRun) await store.remove([objectKeys.blob(sha256)]);
    swept += 1;
    sweptBytes += bytes;
  }
  return { swept, sweptBytes };
}

/** Blobs of pruned parts that were stored before this may go. Take it before the documents are read. */
export function pruningHorizon(now = Date.now()): Date {
  return new Date(now - YOUNG_BLOB_SECONDS * 1000);
}
