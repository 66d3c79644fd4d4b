/**
 * The words of the system. A stage's name is its workflow type, its file, its activity prefix, its key in the
 * configuration, in `status`, in `retryStage` and in `summary.json`.
 */

/** The stages of an experiment in the order in which they run. */
export const STAGES = ['synthesis', 'filtering', 'sampling', 'preferences', 'rewardModel', 'reinforcement', 'evaluation'] as const;
export type StageName = (typeof STAGES)[number];

/** Task queues. `gpu` has variants for device classes: see {@link gpuQueue}. */
export const QUEUES = {
  pipeline: 'acecoder',
  llm: 'acecoder-llm',
  sandbox: 'acecoder-sandbox',
  gpu: 'acecoder-gpu',
} as const;
export type QueueRole = keyof typeof QUEUES;

/** Names of the task queues of one deployment; `base` is `acecoder` unless two deployments share a namespace. */
export function queueName(role: QueueRole, base: string = QUEUES.pipeline, deviceClass?: string): string {
  const name = role === 'pipeline' ? base : `${base}-${role}`;
  return deviceClass === undefined ? name : `${name}-${deviceClass}`;
}

/**
 * `ApplicationFailure.type` of everything that can go wrong, with what the workflow does about it
 * (design: failure policy). `retried` types are attempted again without limit.
 */
export const FAILURES = {
  InvalidExperiment: 'final',
  TeacherRejected: 'final',
  BudgetExceeded: 'final',
  OutOfMemory: 'final',
  TrainingDiverged: 'final',
  ArtifactCorrupt: 'final',
  ModelNotFound: 'final',
  /** An unknown error that came back identically without progress in between. */
  RepeatedFailure: 'final',
  SandboxUnavailable: 'retried',
  RuntimeLost: 'retried',
  StoreUnavailable: 'retried',
  DiskFull: 'retried',
} as const;
export type FailureType = keyof typeof FAILURES;

/** Search attributes that `experiment` sets. */
export const SEARCH_ATTRIBUTES = {
  AceCoderExperiment: 'Keyword',
  AceCoderStage: 'Keyword',
  AceCoderState: 'Keyword',
  AceCoderPassAt1: 'Double',
} as const;

/** Heartbeat time-out of every activity: lost work moves to another worker within twice this time. */
export const HEARTBEAT_TIMEOUT_SECONDS = 15;
