/** Makes one artifact under its stage key, at most once over all workers. Every step of a stage is built on it. */
import {
  StageFailure,
  type ArtifactKind,
  type ArtifactRef,
  type Manifest,
  type ManifestFile,
  type Metrics,
  type Produced,
  type Producer,
} from '../../workflows/contract/index.js';
import { artifactDigest, objectKeys, stageKey, type Recipe } from './keys.js';
import { refOf, requireBlobs } from './manifests.js';
import type { PrunedDocument } from './pruned.js';
import type { ArtifactStore } from './store.js';

/** What making an artifact gives: stored files, and metrics, which are outside the digest. */
export interface Product {
  files: ManifestFile[];
  rows?: number;
  metrics: Metrics;
  /** Why the optimizer's state among the files stays on this host; absent: the store holds it. */
  hostOnly?: PrunedDocument | undefined;
  /** Overrides the measured seconds where the work was spread over shards. */
  seconds?: number;
}

/**
 * Returns the artifact of `recipe`: the stored one, or the one that `make` produces now. `make` receives the stage key.
 * `inputRefs` go into the manifest, so that every number can be traced to its inputs.
 */
export async function produce(
  store: Pick<ArtifactStore, 'commit' | 'findManifest'>,
  recipe: Recipe,
  inputRefs: Record<string, ArtifactRef>,
  producer: Producer,
  make: (key: string) => Promise<Product>,
): Promise<Produced> {
  const key = stageKey(recipe);
  const existing = await store.findManifest(objectKeys.manifest(recipe.kind, key));
  if (existing) return reused(existing, producer);
  const started = performance.now();
  const product = await make(key);
  const { manifest, won } = await store.commit(
    {
      kind: recipe.kind,
      stage: recipe.stage,
      stageKey: key,
      files: product.files,
      ...(product.rows === undefined ? {} : { rows: product.rows }),
      inputs: inputRefs,
      config: recipe.semantics,
      metrics: product.metrics,
      hostOnly: product.hostOnly,
      seconds: product.seconds ?? (performance.now() - started) / 1000,
    },
    producer,
  );
  return won ? { ref: refOf(manifest), reused: false, metrics: manifest.metrics } : reused(manifest, producer);
}

/**
 * Makes the pruned files of an artifact again. They must match the digest of the manifest.
 *
 * @throws StageFailure `ArtifactPruned` when they do not: trainings repeat bit for bit on equal hardware and settings
 * only.
 */
export async function restore(
  store: Pick<ArtifactStore, 'missingBlob' | 'remove'>,
  manifest: Manifest,
  make: () => Promise<Product>,
): Promise<void> {
  const { kind, digest } = manifest;
  const { key } = refOf(manifest);
  const product = await make();
  if (artifactDigest(kind, product.files) !== digest)
    throw new StageFailure(
      'ArtifactPruned',
      `${key} was pruned, and making it again on this worker gives other bytes than ${digest}: ` +
        'continue from a round that still exists, or change the seed to make new rounds',
    );
  // A sweep that is about to delete them reads their time once more and keeps fresh ones.
  await requireBlobs(store, product.files, { fresh: true });
  await store.remove((['trainingState', 'all'] as const).map((part) => objectKeys.pruned(key, part)));
}

/** The artifact of rows that no stage made: a user's file, or a selection of rows. Its key follows from its content. */
export function importRows(
  store: Pick<ArtifactStore, 'commit' | 'findManifest'>,
  kind: ArtifactKind,
  files: readonly [rows: ManifestFile, ...others: ManifestFile[]],
  producer: Producer,
  metrics: Metrics = {},
): Promise<Produced> {
  const recipe = { stage: 'import', version: 1, kind, semantics: { digest: artifactDigest(kind, files) }, inputs: {} };
  return produce(store, recipe, {}, producer, () =>
    Promise.resolve({ files: [...files], rows: files[0].rows ?? 0, metrics }),
  );
}

/**
 * An artifact that was in the store already. One that an earlier attempt of the same workflow made counts as made, not
 * as reused: the attempt's answer was lost, its work was not.
 */
export function reused(manifest: Manifest, producer: Producer): Produced {
  const own = manifest.producer.workflowId === producer.workflowId;
  return {
    ref: refOf(manifest),
    reused: !own,
    ...(own ? {} : { by: manifest.producer.workflowId }),
    metrics: manifest.metrics,
  };
}

/** Digests of references by name, for a {@link Recipe}. */
export function digestsOf(refs: Record<string, ArtifactRef>): Record<string, string> {
  return Object.fromEntries(Object.entries(refs).map(([name, ref]) => [name, ref.digest]));
}
