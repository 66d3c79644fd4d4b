/**
 * The words of the system. A stage's name is its workflow type, its file, its activity prefix, its key in the
 * configuration, in `status`, in `retryStage` and in `summary.json`.
 */
import type { QueueRole } from './queues.js';
import type { StepDefinition } from './stage-definition.js';
import { STAGE_LIST, STAGES, type StageName, type StepName } from './stages/index.js';

export { QUEUES, queueName, type QueueRole } from './queues.js';
export { STAGES, type StageName } from './stages/index.js';

/** All workflows by type: the stages, and what is made of them or serves them. */
export const WORKFLOWS = [
  ...STAGES,
  'experiment',
  'sweep',
  'preview',
  'datasetRefresh',
  'datasetExport',
  'reverify',
  'compare',
  'garbageCollection',
] as const;

/** Activities that serve several stages, with the kind of worker that runs each. */
const SHARED_ACTIVITIES = {
  'endpoint.paid': 'pipeline',
  'models.check': 'gpu',
  'models.import': 'gpu',
  'tables.check': 'gpu',
  'tables.import': 'gpu',
  'tables.export': 'gpu',
  'inputs.check': 'pipeline',
  'inputs.searchAttributes': 'pipeline',
  'queues.served': 'pipeline',
  'artifacts.import': 'pipeline',
  'experiment.source': 'pipeline',
  'experiment.record': 'pipeline',
  'experiment.report': 'pipeline',
  'preview.seeds': 'pipeline',
  'preview.page': 'pipeline',
  'datasetRefresh.plan': 'pipeline',
  'datasetRefresh.publish': 'pipeline',
  'reverify.plan': 'sandbox',
  'reverify.judge': 'sandbox',
  'reverify.table': 'pipeline',
  'comparison.check': 'pipeline',
  'comparison.make': 'pipeline',
  'garbageCollection.sweep': 'pipeline',
  'sandbox.judge': 'sandbox',
} as const satisfies Record<string, QueueRole>;

export type ActivityName = keyof typeof SHARED_ACTIVITIES | { [S in StageName]: `${S}.${StepName<S>}` }[StageName];

/** Every activity with the kind of worker that runs it: the steps of all stages, and what serves several stages. */
export const ACTIVITIES = {
  ...Object.fromEntries(
    STAGE_LIST.flatMap(({ name, steps }) =>
      Object.entries<StepDefinition>(steps).map(([step, { queue }]) => [`${name}.${step}`, queue]),
    ),
  ),
  ...SHARED_ACTIVITIES,
} as Readonly<Record<ActivityName, QueueRole>>;

/**
 * What can be taken of the plugin: everything; the stages that make a data set, from seeds to preference pairs; or only
 * the sandbox, as an activity for an application's own workflows.
 */
export const PARTS = {
  all: undefined,
  data: [
    'synthesis',
    'filtering',
    'sampling',
    'preferences',
    'preview',
    'endpoint',
    'models',
    'tables',
    'inputs',
    'queues',
    'artifacts',
    'datasetRefresh',
    'datasetExport',
    'reverify',
    'garbageCollection',
  ],
  sandbox: ['sandbox'],
} as const;
export type Part = keyof typeof PARTS;

/** The workflows of a part. */
export function workflowsOf(part: Part): (typeof WORKFLOWS)[number][] {
  const names: readonly string[] | undefined = PARTS[part];
  return WORKFLOWS.filter((name) => !names || names.includes(name));
}

/** The activities of a part that a kind of worker runs. */
export function activitiesOf(role: QueueRole, part: Part = 'all'): ActivityName[] {
  const prefixes: readonly string[] | undefined = PARTS[part];
  return (Object.keys(ACTIVITIES) as ActivityName[]).filter(
    (name) => ACTIVITIES[name] === role && (!prefixes || prefixes.includes(name.slice(0, name.indexOf('.')))),
  );
}

/**
 * `ApplicationFailure.type` of everything that can go wrong, with what the workflow does about it. `retried` types are
 * attempted again without limit.
 *
 * @example
 * ```ts
 * import { FAILURES } from 'acecoder-temporal/contract';
 *
 * const final = Object.entries(FAILURES).filter(([, how]) => how === 'final');
 * ```
 */
export const FAILURES = {
  InvalidExperiment: 'final',
  TeacherRejected: 'final',
  BudgetExceeded: 'final',
  OutOfMemory: 'final',
  TrainingDiverged: 'final',
  /** Rewards rise and what they do not see does not: somebody must look at the programs. */
  RewardHacked: 'final',
  /** The card of the reward model says what its gate refuses: nothing is trained on it. */
  RewardModelRefused: 'final',
  ArtifactCorrupt: 'final',
  ArtifactPruned: 'final',
  ModelNotFound: 'final',
  /** A stage made nothing that the next one could work on. */
  NoRows: 'final',
  /** A worker of another build took a shard. It is final when no worker of the plan's build came in some minutes. */
  VersionMismatch: 'final',
  /** An unknown error that came back identically without progress in between. */
  RepeatedFailure: 'final',
  SandboxUnavailable: 'retried',
  RuntimeLost: 'retried',
  StoreUnavailable: 'retried',
  /** Nothing of an activity has moved for too long: a request or a process hangs. */
  Stalled: 'retried',
  DiskFull: 'retried',
} as const;
export type FailureType = keyof typeof FAILURES;

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** Longest attempts by what an activity does, in seconds. Heartbeats tell much sooner that one stands still. */
const LONGEST = {
  /** Reads or writes a few documents, or asks the server something. */
  document: 5 * MINUTE,
  /** Goes through all rows of an artifact or a file, or through the store's documents. */
  rows: 12 * HOUR,
  /** A shard's work on a device, in the sandbox or at an endpoint, whose batches may take a day; or a download. */
  work: 7 * DAY,
  /** The training of a large model. */
  training: 30 * DAY,
} as const;

const LONGEST_SHARED: Readonly<Record<keyof typeof SHARED_ACTIVITIES, number>> = {
  'endpoint.paid': LONGEST.rows,
  'models.check': LONGEST.rows,
  'models.import': LONGEST.work,
  'tables.check': LONGEST.rows,
  'tables.import': LONGEST.rows,
  'tables.export': LONGEST.rows,
  'inputs.check': LONGEST.rows,
  'queues.served': LONGEST.document,
  'artifacts.import': LONGEST.rows,
  'experiment.source': LONGEST.document,
  'experiment.record': LONGEST.document,
  'inputs.searchAttributes': LONGEST.document,
  'experiment.report': LONGEST.rows,
  'preview.seeds': LONGEST.rows,
  'preview.page': LONGEST.rows,
  'datasetRefresh.plan': LONGEST.rows,
  'datasetRefresh.publish': LONGEST.rows,
  'reverify.plan': LONGEST.rows,
  'reverify.judge': LONGEST.work,
  'reverify.table': LONGEST.rows,
  'comparison.check': LONGEST.rows,
  'comparison.make': LONGEST.rows,
  'garbageCollection.sweep': LONGEST.work,
  'sandbox.judge': LONGEST.work,
};

/** Seconds that a seal takes at most: it reads a document per step of each shard. */
const SEAL_SECONDS_PER_SHARD = 5;

/**
 * Longest attempt of an activity that is credible, in seconds. A seal's follows from its `shards`.
 *
 * @example
 * longestAttempt('preferences.seal', { shards: 12 }); // 360
 */
export function longestAttempt(name: ActivityName, { shards = 0 }: { shards?: number | undefined } = {}): number {
  if (Object.hasOwn(LONGEST_SHARED, name)) return LONGEST_SHARED[name as keyof typeof LONGEST_SHARED];
  switch (name.slice(name.indexOf('.') + 1)) {
    case 'seal':
      return LONGEST.document + SEAL_SECONDS_PER_SHARD * shards;
    case 'plan':
    case 'reward':
    case 'prune':
    case 'gate':
      return LONGEST.rows;
    case 'train':
    case 'update':
      return LONGEST.training;
    default:
      return LONGEST.work;
  }
}

/**
 * Search attributes that workflows set, with their types. The stack registers them.
 *
 * @example
 * ```ts
 * import { SEARCH_ATTRIBUTES } from 'acecoder-temporal/contract';
 *
 * for (const [name, type] of Object.entries(SEARCH_ATTRIBUTES)) console.log(name, type);
 * ```
 */
export const SEARCH_ATTRIBUTES = {
  AceCoderExperiment: 'Keyword',
  AceCoderStage: 'Keyword',
  AceCoderState: 'Keyword',
  AceCoderDataset: 'Keyword',
  AceCoderPassAt1: 'Double',
} as const;

/** Heartbeat time-out of every activity: lost work moves to another worker within twice this time. */
export const HEARTBEAT_TIMEOUT_SECONDS = 15;
