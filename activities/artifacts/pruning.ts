/**
 * What is taken out of the store again, and how readers, pruning and garbage collection agree about it.
 *
 * An artifact's manifest is never changed. That files of it may go is a document of its own, written before the first of
 * them goes, so that a file that is not there is either pruned, and says by whom and why, or a damage. A blob goes only
 * where no document names it but those that say it may go, and where nobody can be about to name it: see {@link sweep}.
 */
import { z } from 'zod';
import { YOUNG_BLOB_SECONDS, type ArtifactRef } from '../../workflows/contract/index.js';
import { objectKeys, TRAINING_STATE } from './keys.js';
import type { ArtifactStore } from './store.js';

/** Parts of an artifact that can be pruned: the folder of the optimizer's state alone, or every file. */
export type Part = 'trainingState' | 'all';

/** Why a part of an artifact was pruned, and what to do for who needs it. */
export const PrunedDocument = z.object({
  workflowId: z.string(),
  at: z.string(),
  policy: z.string(),
  advice: z.string(),
});
export type PrunedDocument = z.infer<typeof PrunedDocument>;

/** Documents that name blobs or artifacts, by the beginnings of their keys. */
export const DOCUMENTS = ['artifacts/', 'plans/', 'shards/', 'checkpoints/'];
/** Those among which are all that name a model's files, or a model as an input: a shard names rows alone. */
export const MODEL_DOCUMENTS = ['artifacts/', 'plans/', 'checkpoints/', 'experiments/'];

/** What a document names. */
export interface Named {
  /** Blobs, with the names of their files where they have one. */
  blobs: { sha256: string; name?: string }[];
  /** Keys of the policies that it refers to. */
  policies: string[];
  /** Of a step of an RL round: the round, and the keys of the policy that it updates or samples and of the reference. */
  round?: { number: number; policy: string; reference?: string };
}

const RoundManifest = z.object({
  stage: z.string().startsWith('reinforcement.'),
  config: z.object({ round: z.number() }),
  inputs: z.object({ policy: z.object({ key: z.string() }), reference: z.object({ key: z.string() }).optional() }),
});

/** What a document names, however deep. */
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

/** The documents of a store as far as they name something; each is read once, as it was written. */
export class Documents {
  /** By key and time, because a checkpoint may be written again under the name of one that was removed. */
  #known = new Map<string, Named>();

  constructor(
    private readonly store: ArtifactStore,
    private readonly prefixes: readonly string[],
  ) {}

  /** What each document that stands now names, by its key. */
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

/** The blobs that documents name, but for those of pruned parts. `pruned` has the parts by manifest key. */
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
  /** What the stage itself still reads: the reference, and a policy that a round ahead samples. */
  needed: readonly ArtifactRef[];
  /** How many of the newest stay; null: all. */
  keepRounds: number | null;
}

/**
 * The parts that may go, by the policy's key: the optimizer's state of all rounds but the newest, which the next round
 * starts from, and everything of those older than `keepRounds` that nothing needs. The round that updated a policy, or
 * sampled it, needs it no more once it is done; everything else that names it goes on needing it. `kept` are the keys of
 * what other stages made to stay.
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
      // The next round updates it; an asynchronous one samples that before.
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
export async function prunedParts(store: ArtifactStore): Promise<Map<string, Set<Part>>> {
  const parts = new Map<string, Set<Part>>();
  for (const { key } of await store.list('pruned/')) {
    const [, artifact, part] = /^pruned\/(.+)\/(trainingState|all)\.json$/.exec(key) ?? [];
    if (artifact) parts.set(artifact, (parts.get(artifact) ?? new Set()).add(part as Part));
  }
  return parts;
}

/** Keys of the artifacts that stages made to stay. */
export async function keptArtifacts(store: ArtifactStore): Promise<Set<string>> {
  return new Set((await store.list('kept/')).map(({ key }) => key.slice('kept/'.length)));
}

/**
 * Removes those of the blobs that are not needed and were stored before a time. The time lies so far back that who stored
 * or touched a blob since, and is about to name it, is spared, and who did so before has named it by now: a manifest is
 * committed over blobs that were stored or touched within `FRESH_BLOB_SECONDS`. The blob's time is looked at again right
 * before it goes.
 */
export async function sweep(
  store: ArtifactStore,
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

/** Blobs of pruned parts that were stored before this may go. To be taken before the documents are read. */
export function pruningHorizon(now = Date.now()): Date {
  return new Date(now - YOUNG_BLOB_SECONDS * 1000);
}
