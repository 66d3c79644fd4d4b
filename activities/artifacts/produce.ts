/** Making one artifact under its stage key, exactly once for the world: what every stage step is built of. */
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
import { refOf, type ArtifactStore } from './store.js';

/** What the making of an artifact gives: stored files and, beside the digest, metrics. */
export interface Product {
  files: ManifestFile[];
  rows?: number;
  metrics: Metrics;
  /** Overrides the measured seconds where the work was spread over shards. */
  seconds?: number;
}

/**
 * Returns the artifact of `recipe`: the stored one, or the one that `make` produces now. `make` receives the stage key.
 * `inputRefs` go into the manifest, so that a number can be followed back.
 */
export async function produce(
  store: ArtifactStore,
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
      seconds: product.seconds ?? (performance.now() - started) / 1000,
    },
    producer,
  );
  return won ? { ref: refOf(manifest), reused: false, metrics: manifest.metrics } : reused(manifest, producer);
}

/**
 * Makes the files of an artifact again whose manifest stands, because they were pruned. They must come out as they were.
 *
 * @throws StageFailure `ArtifactPruned` when they do not: trainings repeat bit for bit on equal hardware and settings only.
 */
export async function restore(store: ArtifactStore, manifest: Manifest, make: () => Promise<Product>): Promise<void> {
  const { kind, digest } = manifest;
  const { key } = refOf(manifest);
  const product = await make();
  if (artifactDigest(kind, product.files) !== digest) {
    throw new StageFailure(
      'ArtifactPruned',
      `${key} was pruned, and making it again on this worker gives other bytes than ${digest}: go on from a round that still stands, or change the seed for rounds of their own`,
    );
  }
  // What is about to remove them looks at their time once more.
  const missing = await store.missingBlob(product.files, { fresh: true });
  if (missing)
    throw new StageFailure(
      'StoreUnavailable',
      `blob ${missing.sha256} of ${missing.name} is not in the store; it is uploaded again by the next attempt`,
    );
  await store.remove((['trainingState', 'all'] as const).map((part) => objectKeys.pruned(key, part)));
}

/** The artifact of rows that no stage made: files of a user, or a selection of rows. It is named by its content. */
export function importRows(
  store: ArtifactStore,
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
 * An artifact that stood in the store. What an earlier attempt of the same workflow made counts as made by it, not as
 * reused: the attempt's answer was lost, the work was not.
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
