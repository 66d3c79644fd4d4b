/**
 * What is removed from the store, and how readers, pruning and garbage collection agree about it.
 *
 * The manifest of an artifact never changes. A pruned document says that files of it may go, by whom and why. It is
 * written before the first file goes, so a missing file without such a document is damage. A blob is deleted only where
 * no manifest, plan, shard or checkpoint needs it, and where no writer can be about to name it: see {@link sweep}.
 */
import { z } from 'zod';
import { ArtifactRef, YOUNG_BLOB_SECONDS } from '../../workflows/contract/index.js';
import { isTrainingState, objectKeys } from './keys.js';
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

/** The manifest of a policy that an RL round has made. */
export const UpdateManifest = z.object({
  stage: z.literal('reinforcement.update'),
  config: z.object({ round: z.number() }),
  inputs: z.object({ policy: ArtifactRef, reference: ArtifactRef, rollouts: ArtifactRef, rewards: ArtifactRef }),
});

/** The manifest of a whole model into which the adapters of the last round were merged. */
const MergeManifest = z.object({
  stage: z.literal('reinforcement.merge'),
  inputs: z.object({ policy: ArtifactRef }),
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
  return parts.has('all') || (parts.has('trainingState') && isTrainingState(file));
}

/**
 * Policies of RL rounds by their number, from the newest back to round `from`. Each names the one before it among the
 * inputs of its manifest, so that no list of rounds is kept anywhere else. `newest` may be what was merged from a round.
 *
 * @throws StageFailure where a manifest is missing; Error where `newest` is not the policy of an RL round.
 * @example
 * const rounds = await roundsOf(store, ref); // Map { 1 => {...}, 2 => {...}, 3 => ref }
 */
export async function roundsOf(
  store: Pick<ArtifactStore, 'manifest'>,
  newest: ArtifactRef,
  from = 1,
): Promise<Map<number, ArtifactRef>> {
  const back: [number, ArtifactRef][] = [];
  for (let ref = newest; ;) {
    const manifest = await store.manifest(ref);
    const merged = MergeManifest.safeParse(manifest);
    if (merged.success) {
      ref = merged.data.inputs.policy;
      continue;
    }
    const update = UpdateManifest.safeParse(manifest);
    if (!update.success) throw new Error(`${ref.key} is not the policy of an RL round`);
    const { round } = update.data.config;
    back.push([round, ref]);
    if (round <= Math.max(1, from)) return new Map(back.reverse());
    ref = update.data.inputs.policy;
  }
}

export interface Rounds {
  /** Policies of rounds that are done by their number, oldest first. The newest is among them. */
  policies: ReadonlyMap<number, ArtifactRef>;
  /** What the stage itself still reads: the reference, and a policy that a later round samples. */
  needed: readonly ArtifactRef[];
  /** How many of the newest stay; null: all. */
  keepRounds: number | null;
}

/**
 * The parts that may go, by the policy's key.
 *
 * - The optimizer's state of all rounds except the newest one whose state the store holds (`stateless` are the keys of
 *   those without), because the next round starts from there, and trains again what came after it if it must.
 * - Every file of a round older than `keepRounds` and than that one that nothing needs. A finished round no longer needs the policy that
 *   it updated or sampled. Every other document that names a policy goes on needing it.
 *
 * `kept` are the keys of the artifacts that other stages keep.
 */
export function prunable(
  { policies, needed, keepRounds }: Rounds,
  documents: ReadonlyMap<string, Named>,
  kept: ReadonlySet<string>,
  stateless: ReadonlySet<string> = new Set(),
): Map<string, Part> {
  const parts = new Map<string, Part>();
  if (keepRounds === null) return parts;
  const newest = Math.max(...policies.keys());
  const start = newestStored(policies, stateless);
  const own = new Set([...policies.values()].map(({ key }) => key));
  const foreign = new Set<string>();
  for (const [document, { policies: names, round }] of documents) {
    if (own.has(document)) continue;
    for (const key of names) {
      // The next round updates it; an asynchronous round samples it one round earlier.
      const isDone =
        round?.policy === key &&
        round.reference !== key &&
        [1, 2].some((lag) => policies.get(round.number - lag)?.key === key);
      if (!isDone) foreign.add(key);
    }
  }
  const stays = new Set(needed.map(({ key }) => key));
  for (const [round, { key }] of policies) {
    if (round === newest || round === start || kept.has(key)) continue;
    const isNeeded = round > Math.min(newest - keepRounds, start) || stays.has(key) || foreign.has(key);
    parts.set(key, isNeeded ? 'trainingState' : 'all');
  }
  return parts;
}

/** The newest round whose optimizer state the store holds; 0 where it holds none. */
export function newestStored(policies: Rounds['policies'], stateless: ReadonlySet<string>): number {
  return Math.max(0, ...[...policies].flatMap(([round, { key }]) => (stateless.has(key) ? [] : [round])));
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
 * Deletes the blobs that are not needed and were stored before `before`. Counts them, and those that are too young.
 *
 * Younger blobs are kept: a writer may be about to name them. Older ones are safe to delete, because a writer commits
 * its manifest within `FRESH_BLOB_SECONDS` of storing or touching its blobs. A blob's time is read again right before
 * it is deleted.
 */
export async function sweep(
  store: Pick<ArtifactStore, 'blobTime' | 'remove'>,
  blobs: Iterable<{ sha256: string; bytes: number }>,
  { needed, before, dryRun = false }: { needed: ReadonlySet<string>; before: Date; dryRun?: boolean },
): Promise<{ swept: number; sweptBytes: number; young: number }> {
  let [swept, sweptBytes, young] = [0, 0, 0];
  for (const { sha256, bytes } of blobs) {
    if (needed.has(sha256)) continue;
    const stored = await store.blobTime(sha256);
    if (!stored) continue;
    if (stored >= before) {
      young += 1;
      continue;
    }
    if (!dryRun) await store.remove([objectKeys.blob(sha256)]);
    swept += 1;
    sweptBytes += bytes;
  }
  return { swept, sweptBytes, young };
}

/** Blobs of pruned parts that were stored before this may go. Take it before the documents are read. */
export function pruningHorizon(now = Date.now()): Date {
  return new Date(now - YOUNG_BLOB_SECONDS * 1000);
}
