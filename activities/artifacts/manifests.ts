/**
 * Manifests of artifacts, and references to them.
 *
 * Blobs are stored first, the manifest last and only where there is none (`If-None-Match: *`). The first writer wins, a
 * late attempt reads the winner's manifest, a zombie can overwrite nothing, and no lock is needed.
 */
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
import type { BlobCache } from './cache.js';
import { corrupt } from './corrupt.js';
import { artifactDigest, isTrainingState, objectKeys, TRAINING_STATE } from './keys.js';
import type { S3Objects } from './objects.js';
import { PrunedDocument, type Part } from './pruned.js';

/** What a producer hands to `ArtifactStore.commit`. */
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
  /** Why the optimizer's state among the files is in the cache of this host alone; absent: the store holds it. */
  hostOnly?: PrunedDocument | undefined;
}

/** A manifest, and whether this writer's draft became it. */
export interface Committed {
  manifest: Manifest;
  won: boolean;
}

/** Kinds whose blobs may be pruned long before a day is over, and must be fresh when their manifest is written. */
const MODELS: ReadonlySet<ArtifactKind> = new Set<ArtifactKind>(['model', 'rewardModel', 'policy']);

export class Manifests {
  constructor(
    private readonly objects: Pick<S3Objects, 'bucket' | 'getJson' | 'putJson'>,
    private readonly cache: Pick<BlobCache, 'missingBlob'>,
  ) {}

  /** The manifest under a key; undefined where there is none. @throws StageFailure `ArtifactCorrupt`. */
  async find(key: string): Promise<Manifest | undefined> {
    const value = await this.objects.getJson(key);
    if (value === undefined) return undefined;
    const parsed = Manifest.safeParse(value);
    if (!parsed.success) throw corrupt(`${key} is no manifest`, parsed.error);
    return parsed.data;
  }

  /** The manifest behind a reference. @throws StageFailure when there is none or it is of another artifact. */
  async of(ref: ArtifactRef): Promise<Manifest> {
    const { bucket } = this.objects;
    const manifest = await this.find(ref.key);
    if (!manifest) throw new StageFailure('InvalidExperiment', `there is no artifact ${ref.key} in bucket '${bucket}'`);
    if (manifest.kind !== ref.kind)
      throw new StageFailure(
        'InvalidExperiment',
        `${ref.key} is of kind '${manifest.kind}', the reference says '${ref.kind}'`,
      );
    if (manifest.digest !== ref.digest)
      throw new StageFailure(
        'ArtifactCorrupt',
        `${ref.key} has digest ${manifest.digest}, the reference says ${ref.digest}`,
      );
    return manifest;
  }

  /** As {@link of}, of an artifact whose files are wanted. @throws StageFailure `ArtifactPruned` too. */
  async whole(ref: ArtifactRef): Promise<Manifest> {
    const manifest = await this.of(ref);
    const pruned = await this.prunedFailure(ref);
    if (pruned) throw pruned;
    return manifest;
  }

  /** Writes the manifest of a draft whose blobs are stored, or returns that of an earlier writer. See {@link Draft}. */
  async commit({ hostOnly, ...draft }: Draft, producer: Producer): Promise<Committed> {
    const sent = hostOnly ? draft.files.filter(({ name }) => !isTrainingState(name)) : draft.files;
    await requireBlobs(this.cache, sent, { fresh: MODELS.has(draft.kind) });
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
    // Before the manifest: whoever reads that finds out why the store lacks files.
    if (hostOnly) await this.objects.putJson(objectKeys.pruned(key, 'trainingState'), hostOnly);
    if (await this.objects.putJson(key, manifest)) return { manifest, won: true };
    const winner = await this.find(key);
    if (!winner) throw new StageFailure('StoreUnavailable', `${key} was refused as existing and cannot be read`);
    return { manifest: winner, won: false };
  }

  /**
   * Why an artifact can no longer be read; undefined where it can. `trainingState` asks for the optimizer's state too.
   */
  async prunedFailure(
    { key }: Pick<ArtifactRef, 'key'>,
    { trainingState = false } = {},
  ): Promise<StageFailure | undefined> {
    const parts: Part[] = trainingState ? ['all', 'trainingState'] : ['all'];
    for (const part of parts) {
      const document = await this.objects.getJson(objectKeys.pruned(key, part));
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
}

/** @throws StageFailure `StoreUnavailable` where a blob is missing, because the next attempt uploads it again. */
export async function requireBlobs(
  cache: Pick<BlobCache, 'missingBlob'>,
  files: readonly ManifestFile[],
  options: { fresh: boolean },
): Promise<void> {
  const missing = await cache.missingBlob(files, options);
  if (!missing) return;
  throw new StageFailure(
    'StoreUnavailable',
    `blob ${missing.sha256} of ${missing.name} is not in the store; it is uploaded again by the next attempt`,
  );
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
