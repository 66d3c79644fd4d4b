/**
 * Workflows call activities here: by name, on the queue of the kind of worker that the work needs.
 *
 * But for the members of a gang and for work that a workflow does without, no activity has `maximumAttempts`. A heartbeat timeout counts as an attempt, so a limit
 * would turn killed workers into failures. An error that no retry can mend is `nonRetryable`. Everything else is
 * idempotent by its key.
 */
import { ActivityCancellationType, proxyActivities, type ActivityOptions, workflowInfo } from '@temporalio/workflow';
import type { comparisonActivities } from '../../activities/comparison/activities.js';
import type { modelActivities } from '../../activities/models/activities.js';
import type { experimentActivities } from '../../activities/experiment/activities.js';
import type { reinforcementActivities } from '../../activities/reinforcement/activities.js';
import type { endpointActivities } from '../../activities/endpoint/activities.js';
import type { datasetRefreshActivities } from '../../activities/dataset-refresh/activities.js';
import type { previewActivities } from '../../activities/preview/activities.js';
import type { reverifyActivities } from '../../activities/reverify/activities.js';
import type { tableActivities } from '../../activities/tables/activities.js';
import type { garbageCollectionActivities } from '../../activities/garbage-collection/activities.js';
import type { PlanInput, PlanOutput, ShardInput, ShardOutput } from '../../activities/runtime/sharded-stage.js';
import {
  ACTIVITIES,
  HEARTBEAT_TIMEOUT_SECONDS,
  longestAttempt,
  queueName,
  type ActivityName,
  type ArtifactRef,
  type GangMember,
  type Produced,
  type ShardedStageName,
  type TrainingStageName,
} from '../contract/index.js';
import { lookingAfter } from './waiting.js';

type Named = ReturnType<typeof modelActivities> &
  ReturnType<typeof experimentActivities> &
  ReturnType<typeof reinforcementActivities> &
  ReturnType<typeof garbageCollectionActivities> &
  ReturnType<typeof datasetRefreshActivities> &
  ReturnType<typeof previewActivities> &
  ReturnType<typeof reverifyActivities> &
  ReturnType<typeof comparisonActivities> &
  ReturnType<typeof tableActivities> &
  ReturnType<typeof endpointActivities>;

export interface CallOptions {
  /** Device class of the stage's execution. It matters where the activity runs on GPU workers. */
  deviceClass?: string | undefined;
  /** What the activity does. Temporal UI shows it next to the name. */
  summary: string;
  /** Shards that the activity goes through. A seal's time follows from it. */
  shards?: number | undefined;
  /** Whether it has one attempt, because the workflow does without it. */
  once?: boolean;
  /** The member of a gang that the activity is. Its workflow begins a gang again as a whole. */
  gang?: GangMember | undefined;
}

const ONE_ATTEMPT = { maximumAttempts: 1 };
/** Before all other work of a queue. */
const FIRST = 1;

/** How the activity of a gang's member differs: it has one attempt, and its end is waited for. */
function ofGang({ member, waitSeconds }: GangMember): ActivityOptions {
  return {
    retry: ONE_ATTEMPT,
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    ...(member > 0 ? { scheduleToStartTimeout: `${waitSeconds}s`, priority: { priorityKey: FIRST } } : {}),
  };
}

function proxy(
  name: ActivityName,
  { deviceClass, summary, shards, once, gang }: CallOptions,
): (input: unknown) => Promise<unknown> {
  const role = ACTIVITIES[name];
  // The pipeline queue's name is the base of the others, so that two deployments can share a namespace.
  const taskQueue = queueName(role, workflowInfo().taskQueue, role === 'gpu' ? deviceClass : undefined);
  const activity = proxyActivities<Record<string, (input: unknown) => Promise<unknown>>>({
    taskQueue,
    startToCloseTimeout: `${longestAttempt(name, { shards })}s`,
    heartbeatTimeout: `${HEARTBEAT_TIMEOUT_SECONDS}s`,
    // A cancelled request waits for the replies that are on their way, so that the next request finds them stored.
    ...(role === 'llm' ? { cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED } : {}),
    retry: once ? ONE_ATTEMPT : { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '5s' },
    summary: (gang ? `${summary}, host ${gang.member + 1} of ${gang.members}` : summary).slice(0, 200),
    ...(gang ? ofGang(gang) : {}),
  })[name]!;
  return (input) => lookingAfter(taskQueue, () => activity(input));
}

/** Calls an activity that is defined by name and type. */
export function call<N extends keyof Named & ActivityName>(
  name: N,
  options: CallOptions,
  input: Parameters<Named[N]>[0],
): ReturnType<Named[N]> {
  return proxy(name, options)(input) as ReturnType<Named[N]>;
}

/** The activities of a sharded stage. */
export const shardedCalls = {
  plan: (stage: ShardedStageName, options: CallOptions, input: PlanInput) =>
    proxy(`${stage}.plan`, options)(input) as Promise<PlanOutput>,
  prepare: (stage: ShardedStageName, options: CallOptions, input: { stageKey: string }) =>
    proxy(`${stage}.prepare` as ActivityName, options)(input),
  step: (step: ActivityName, options: CallOptions, input: ShardInput) =>
    proxy(step, options)(input) as Promise<ShardOutput>,
  seal: (stage: ShardedStageName, options: CallOptions, input: { stageKey: string }) =>
    proxy(`${stage}.seal`, options)(input) as Promise<Produced>,
};

/** The training of a stage that is one. */
export function trainingCall(
  stage: TrainingStageName,
  options: CallOptions,
  input: { config: unknown; inputs: Record<string, ArtifactRef>; gang?: GangMember },
): Promise<Produced> {
  return proxy(`${stage}.train`, options)(input) as Promise<Produced>;
}
