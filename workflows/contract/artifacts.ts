/** References to what stages make. Histories carry these, never data. */
import { z } from 'zod';
import { FileBelow, HubId, HubRevision, ManifestKey, PackageName } from './safe-text.js';

export const ARTIFACT_KINDS = [
  'seeds',
  'replies',
  'questions',
  'filteredQuestions',
  'samples',
  'programs',
  'pairs',
  'model',
  'rewardModel',
  'rewardModelCard',
  'policy',
  'roundPlan',
  'rollouts',
  'verdicts',
  'scores',
  'rewards',
  'evaluation',
  'report',
  'dataset',
  'export',
  'tasks',
  'tests',
  'reverification',
  'references',
  'benchmarkSamples',
] as const;
export const ArtifactKind = z.enum(ARTIFACT_KINDS);
export type ArtifactKind = z.infer<typeof ArtifactKind>;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'a SHA-256 in hexadecimal');

/**
 * A finished artifact.
 *
 * `key` is the object key of the manifest; `digest` is the SHA-256 of the canonical JSON of {kind, schema version,
 * files: [name, SHA-256 of the uncompressed bytes]}; `bytes` is the uncompressed size of all files.
 *
 * @example
 * ```ts
 * import { ArtifactRef } from 'acecoder-temporal/contract';
 *
 * const ref = ArtifactRef.parse({
 *   kind: 'questions',
 *   key: 'artifacts/questions/abc.json',
 *   digest: 'd'.repeat(64),
 *   bytes: 10,
 * });
 * ```
 */
export const ArtifactRef = z.strictObject({
  kind: ArtifactKind.describe('what the artifact holds'),
  key: ManifestKey.describe('object key of the manifest in the store'),
  digest: sha256.describe('SHA-256 of what the artifact holds'),
  rows: z.number().int().nonnegative().optional().describe('number of rows'),
  bytes: z.number().int().nonnegative().describe('uncompressed size of all files, in bytes'),
});
export type ArtifactRef = z.infer<typeof ArtifactRef>;

/** Blobs that are younger are not pruned, because a manifest that names them may be about to be written. */
export const YOUNG_BLOB_SECONDS = 1800;

/** A file on the pipeline worker's disk that is imported before the stage starts. */
export const ArtifactPath = z.strictObject({
  kind: ArtifactKind.describe('what the file holds'),
  path: z
    .string()
    .min(1)
    .describe('JSON Lines file on the pipeline worker: absolute, or relative to its working folder or the package'),
  brokenLines: z
    .enum(['refuse', 'drop'])
    .optional()
    .describe(
      "lines that are no row of that kind: 'refuse' the file, naming them (absent: this), or 'drop' them, " +
        'counted, and kept beside the rows with their reasons',
    ),
});
export type ArtifactPath = z.infer<typeof ArtifactPath>;

/** Formats of others, with the kinds of artifact that they can be read as. */
export const TABLE_FORMATS = {
  evolInstruct: ['seeds'],
  ossInstruct: ['seeds'],
  stackPythonFns: ['seeds'],
  aceCoderSeeds: ['seeds'],
  sourceTree: ['seeds'],
  package: ['seeds'],
  aceCode87K: ['filteredQuestions', 'programs'],
  aceCodePair300K: ['pairs'],
  benchmarkRows: ['tasks'],
} as const satisfies Record<string, readonly ArtifactKind[]>;
export type TableFormat = keyof typeof TABLE_FORMATS;

/** Name of a configuration or split of a data set. */
const TablePart = z.string().regex(/^[\w.+/-]{1,100}$/, 'letters, digits, dot, plus, dash, underscore and slash');

/** What the formats are read from that are not read from a path or a data set. */
const SOURCES_OF_FORMAT: Partial<Record<TableFormat, readonly string[]>> = {
  package: ['package'],
  sourceTree: ['path'],
  aceCoderSeeds: [],
};

/**
 * A table or a source tree on a GPU worker, or a data set of the Hugging Face hub, that is imported before the stage
 * starts.
 */
const artifactTable = <K extends z.ZodType<ArtifactKind>>(kindSchema: K) =>
  z
    .strictObject({
      kind: kindSchema,
      format: z
        .enum(Object.keys(TABLE_FORMATS) as [TableFormat, ...TableFormat[]])
        .describe(
          'Parquet, JSON Lines or CSV with the columns of Magicoder Evol-Instruct, OSS-Instruct, ' +
            'stack-dedup-python-fns, ' +
            'AceCode-87K or AceCodePair-300K; functions of a source tree, or of a package in the Python ' +
            'environment; the three seed sets of the paper, of the hub; or rows of a benchmark as they are, in ' +
            'Parquet, JSON Lines or CSV',
        ),
      path: z
        .string()
        .min(1)
        .optional()
        .describe('file of the table, or folder of such files or of the source tree, on the GPU worker'),
      dataset: HubId.optional().describe('data set of the Hugging Face hub, instead of a path'),
      revision: HubRevision.optional().describe('its revision; absent: the newest'),
      files: z
        .array(FileBelow)
        .min(1)
        .optional()
        .describe(
          'files of the data set that hold the rows, in their order; absent: those of the split, or all Parquet files, ' +
            'else all JSON Lines, else all CSV',
        ),
      configuration: TablePart.optional().describe(
        'configuration of the data set or folder, as its card or its folders name it; needed where there are several',
      ),
      split: TablePart.optional().describe('split of the configuration; needed where there are several'),
      package: PackageName.optional().describe('name of the package, for the format package'),
      heldOutShare: z
        .number()
        .min(0)
        .max(1)
        .default(0.05)
        .describe('share of questions that are held out, by a hash of their text; not for seeds'),
    })
    .superRefine((table, context) => {
      const { format, path, dataset, revision, files, configuration, split, package: packageName } = table;
      const fields: object = table;
      const kind = 'kind' in fields ? fields.kind : undefined;
      const kinds: readonly string[] = TABLE_FORMATS[format];
      if (typeof kind === 'string' && !kinds.includes(kind))
        context.addIssue({
          code: 'custom',
          path: ['format'],
          message: `must be a format that holds ${kind}; ${format} holds ${kinds.join(' and ')}`,
          input: format,
        });
      const wanted = SOURCES_OF_FORMAT[format] ?? ['path', 'dataset'];
      const given = Object.entries({ path, dataset, package: packageName })
        .filter(([, value]) => value !== undefined)
        .map(([name]) => name);
      if (given.length !== Math.min(1, wanted.length) || given.some((name) => !wanted.includes(name)))
        context.addIssue({
          code: 'custom',
          path: ['format'],
          message:
            wanted.length === 0
              ? `${format} names its data sets itself; leave out ${given.join(', ')}`
              : `${format} is read from exactly one of ${wanted.join(', ')}; given are ${given.join(', ') || 'none'}`,
          input: format,
        });
      for (const [name, value] of Object.entries({ revision, files }))
        if (value !== undefined && dataset === undefined)
          context.addIssue({ code: 'custom', path: [name], message: 'belongs to a dataset', input: value });
      for (const [name, value] of Object.entries({ configuration, split })) {
        if (value === undefined) continue;
        const ofTree = format === 'sourceTree' || (path === undefined && dataset === undefined);
        const message = ofTree
          ? `belongs to a dataset or a folder of tables, and ${format} is none`
          : files && 'chooses files, which are named already; leave one of them out';
        if (message) context.addIssue({ code: 'custom', path: [name], message, input: value });
      }
    });
export const ArtifactTable = artifactTable(ArtifactKind.describe('what is read out of it'));
export type ArtifactTable = z.infer<typeof ArtifactTable>;

/** What a stage that is started alone accepts: a reference, or a path or table that is imported first. */
export type ArtifactInput = ArtifactRef | ArtifactPath | ArtifactTable;

/** Whether an input is read by a GPU worker, out of a format of others. */
export function isTable(input: object): input is ArtifactTable {
  return 'format' in input;
}

/** The input of a stage that needs one kind of artifact. */
export function artifactInput<K extends ArtifactKind>(kind: K) {
  const only = z.literal(kind, { error: `must be '${kind}'` }).describe('what it holds');
  const forms = `a reference {kind, key, digest, bytes} or a path {kind, path} of kind '${kind}'`;
  // A kind that no format holds has no table among its forms.
  const held = Object.values(TABLE_FORMATS).some((kinds: readonly string[]) => kinds.includes(kind));
  const table = artifactTable(only);
  const plain = [artifactRef(kind), ArtifactPath.extend({ kind: only })] as const;
  return z.union(held ? [...plain, table] : plain, {
    error: held ? `${forms}, or a table {kind, format, ...}` : forms,
  });
}

/** A reference to one kind of artifact. */
export function artifactRef<K extends ArtifactKind>(kind: K) {
  return ArtifactRef.extend({ kind: z.literal(kind, { error: `must be '${kind}'` }).describe('what it holds') });
}

export const ManifestFile = z.strictObject({
  name: FileBelow,
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
/**
 * What the store says of an artifact: its files, where it comes from, and its metrics.
 *
 * @example
 * ```ts
 * import { Manifest } from 'acecoder-temporal/contract';
 *
 * const { files, metrics } = Manifest.parse(JSON.parse(text));
 * console.log(files.length, metrics);
 * ```
 */
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
  /** True when files of it were pruned since. */
  pruned?: boolean;
}
