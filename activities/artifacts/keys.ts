/** Names of objects in the store, and the stage keys: equal work has an equal key, whoever did it. */
import { createHash } from 'node:crypto';
import {
  canonicalJson,
  MANIFEST_SCHEMA,
  type ArtifactKind,
  type ManifestFile,
} from '../../workflows/contract/index.js';

/** What a produced artifact depends on: no run id, clock, host or random source. */
export interface Recipe {
  /** Stage or stage step, such as `sampling` or `reinforcement.rollouts`. */
  stage: string;
  /** Raised whenever the code behind the stage would give other bytes for the same input. */
  version: number | Record<string, number>;
  kind: ArtifactKind;
  /** The part of the configuration that decides what the result is. */
  semantics: unknown;
  /** Digests of the inputs by name. */
  inputs: Record<string, string>;
}

/** SHA-256 of the canonical JSON of stage, version, semantics and input digests, in hexadecimal. */
export function stageKey({ stage, version, semantics, inputs }: Recipe): string {
  return sha256(canonicalJson({ stage, version, semantics, inputs }));
}

/** SHA-256 of the canonical JSON of kind, schema version and [name, SHA-256] of the files in name order. */
export function artifactDigest(kind: ArtifactKind, files: readonly Pick<ManifestFile, 'name' | 'sha256'>[]): string {
  const sorted = files.map(({ name, sha256 }) => [name, sha256]).sort(([a], [b]) => (a! < b! ? -1 : a! > b! ? 1 : 0));
  return sha256(canonicalJson({ kind, schema: MANIFEST_SCHEMA, files: sorted }));
}

/** SHA-256 of a text or bytes in hexadecimal. */
export function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

/** What tells an encoded name from a plain one. */
const ENCODED = /-sha256-[0-9a-f]{32}$/;
/** Characters of an encoded name that are readable. */
const READABLE = 56;

/**
 * A name of a folder, file or part of an object key for any text of a user. Different texts have different names. It
 * has letters, digits, dot, dash and underscore of ASCII, begins with a letter or digit, and has 100 bytes at most.
 *
 * A text that is such a name already stays as it is. Of every other text the name holds what is readable, and 128 bits
 * of its SHA-256. Two names that differ in the case of letters alone are one on some file systems, so that capitals are
 * encoded too. `keepCase` leaves them, for keys of objects, which tell them apart.
 *
 * @example
 * safeName('my-run'); // my-run
 * safeName('../../escape'); // escape-sha256-<32 hexadecimal digits>
 */
export function safeName(text: string, { keepCase = false } = {}): string {
  const plain = keepCase ? /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/ : /^[a-z0-9][a-z0-9._-]{0,99}$/;
  if (plain.test(text) && !ENCODED.test(text)) return text;
  const readable = text
    // Letters with accents and look-alikes of other widths become plain ones, as far as Unicode says which.
    .slice(0, 10 * READABLE)
    .normalize('NFKD')
    .replaceAll(/\p{M}/gu, '')
    .replaceAll(/[^A-Za-z0-9_]+/g, '-')
    .replaceAll(/^[-_]+/g, '')
    .slice(0, READABLE)
    .replaceAll(/[-_]+$/g, '');
  // The JSON text, because UTF-8 has one and the same sequence for all halves of a surrogate pair.
  return `${readable || 'name'}-sha256-${sha256(JSON.stringify(text)).slice(0, 32)}`;
}

/** Folder in a policy with the optimizer's state. The next round alone reads it. */
export const TRAINING_STATE = 'training-state';
/** Whether a file of a policy belongs to the state of its optimizer. */
export const isTrainingState = (file: string): boolean => file.startsWith(`${TRAINING_STATE}/`);

export const objectKeys = {
  blob: (hex: string) => `blobs/sha256/${hex}`,
  manifest: (kind: ArtifactKind, key: string) => `artifacts/${kind}/${key}.json`,
  plan: (key: string) => `plans/${key}.json`,
  shard: (key: string, index: number, step: string) => `shards/${key}/${String(index).padStart(6, '0')}.${step}.json`,
  prepared: (key: string) => `shards/${key}/prepared.json`,
  batch: (name: string) => `batches/${name}.json`,
  cells: (harness: string) => `cells/${harness}/`,
  reply: (key: string) => `replies/${key}.json`,
  refusal: (key: string) => `refusals/${key}.json`,
  checkpoint: (key: string, step: number) => `checkpoints/${key}/${String(step).padStart(10, '0')}.json`,
  checkpoints: (key: string) => `checkpoints/${key}/`,
  pruned: (manifestKey: string, part: 'trainingState' | 'all') => `pruned/${manifestKey}/${part}.json`,
  results: (workflowId: string) => `results/${safeName(workflowId, { keepCase: true })}/`,
  result: (workflowId: string, runId: string) =>
    `${objectKeys.results(workflowId)}${safeName(runId, { keepCase: true })}.json`,
  kept: (manifestKey: string) => `kept/${manifestKey}`,
  upload: (id: string) => `uploads/${id}.json`,
  sweep: (id: string) => `sweeps/${safeName(id, { keepCase: true })}.json`,
} as const;

/** A seed for one row, from the stage's seed and what names the row. 48 bits, which every JSON reader holds exactly. */
export function deriveSeed(seed: number, ...parts: (string | number)[]): number {
  return Number.parseInt(sha256(JSON.stringify([seed, ...parts])).slice(0, 12), 16);
}

/** A short stable id from the parts that make a row. */
export function rowId(prefix: string, ...parts: unknown[]): string {
  return `${prefix}-${sha256(JSON.stringify(parts)).slice(0, 20)}`;
}
