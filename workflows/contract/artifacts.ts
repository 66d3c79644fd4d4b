/** References to what stages make. Histories carry these, never data. */
import { z } from 'zod';

export const ARTIFACT_KINDS = [
  'seeds', 'replies', 'questions', 'filteredQuestions', 'programs', 'pairs', 'model', 'rewardModel', 'policy',
  'roundPlan', 'rollouts', 'verdicts', 'scores', 'rewards', 'evaluation', 'report', 'dataset',
] as const;
export const ArtifactKind = z.enum(ARTIFACT_KINDS);
export type ArtifactKind = z.infer<typeof ArtifactKind>;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'a SHA-256 in hexadecimal');

/**
 * A finished artifact.
 *
 * `key` is the object key of the manifest; `digest` is the SHA-256 of the canonical JSON of {kind, schema version,
 * files: [name, SHA-256 of the uncompressed bytes]}; `bytes` is the uncompressed size of all files.
 */
export const ArtifactRef = z.strictObject({
  kind: ArtifactKind.describe('what the artifact holds'),
  key: z.string().min(1).describe('object key of the manifest in the store'),
  digest: sha256.describe('SHA-256 of what the artifact holds'),
  rows: z.number().int().nonnegative().optional().describe('number of rows'),
  bytes: z.number().int().nonnegative().describe('uncompressed size of all files, in bytes'),
});
export type ArtifactRef = z.infer<typeof ArtifactRef>;

/** A file on the pipeline worker's disk that is imported before the stage starts. */
export const ArtifactPath = z.strictObject({
  kind: ArtifactKind.describe('what the file holds'),
  path: z.string().min(1).describe('JSON Lines file on the pipeline worker: absolute, or relative to its working folder or the package'),
});
export type ArtifactPath = z.infer<typeof ArtifactPath>;

/** What a stage that is started alone accepts: a reference, or a path that is imported first. */
export type ArtifactInput = ArtifactRef | ArtifactPath;

/** The input of a stage that needs one kind of artifact. */
export function artifactInput<K extends ArtifactKind>(kind: K) {
  const only = z.literal(kind, { error: `must be '${kind}'` }).describe('what it holds');
  return z.union([artifactRef(kind), ArtifactPath.extend({ kind: only })], { error: `a reference {kind, key, digest, bytes} or a path {kind, path} of kind '${kind}'` });
}

/** A reference to one kind of artifact. */
export function artifactRef<K extends ArtifactKind>(kind: K) {
  return ArtifactRef.extend({ kind: z.literal(kind, { error: `must be '${kind}'` }).describe('what it holds') });
}

export const ManifestFile = z.strictObject({
  name: z.string().min(1),
  /** SHA-256 of the uncompressed bytes; also the name of the blob. */
  sha256,
  /** Uncompressed size. */
  bytes: z.number().int().nonnegative(),
  encoding: z.enum(['identity', 'gzip']),
  rows: z.number().int().nonnegative().optional(),
});
export type ManifestFile = z.infer<typeof ManifestFile>;

/** Who made an artifact: kept beside the digest, never part of it. */
export const Producer = z.object({
  workflowId: z.string(),
  runId: z.string(),
  activity: z.string(),
  attempt: z.number().int(),
  host: z.string(),
  commit: z.string().optional(),
  package: z.string(),
  versions: z.record(z.string(), z.string()),
});
export type Producer = z.infer<typeof Producer>;

/** Metrics of an artifact: numbers and small tables for status and report; outside the digest. */
export const Metrics = z.record(z.string(), z.json());
export type Metrics = z.infer<typeof Metrics>;

export const MANIFEST_SCHEMA = 1;
export const Manifest = z.object({
  schema: z.literal(MANIFEST_SCHEMA),
  kind: ArtifactKind,
  stage: z.string(),
  stageKey: z.string(),
  digest: sha256,
  files: z.array(ManifestFile),
  rows: z.number().int().nonnegative().optional(),
  bytes: z.number().int().nonnegative(),
  inputs: z.record(z.string(), z.json()),
  config: z.json(),
  metrics: Metrics,
  producer: Producer,
  createdAt: z.string(),
  /** Wall-clock seconds that the making took, over all shards. */
  seconds: z.number().nonnegative(),
});
export type Manifest = z.infer<typeof Manifest>;

/** What an activity that makes an artifact returns. */
export interface Produced {
  ref: ArtifactRef;
  /** True when the artifact was already in the store; `by` says whose it was. */
  reused: boolean;
  by?: string;
  metrics: Metrics;
}
