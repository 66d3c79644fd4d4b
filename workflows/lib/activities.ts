/**
 * How workflows call activities: by name, on the queue of the kind of worker that the work needs.
 *
 * No activity has `maximumAttempts`: a heartbeat time-out counts as an attempt, so that a limit would turn killed workers
 * into failures. What must not be repeated says so itself (`nonRetryable`); everything else is idempotent by its key.
 */
import { proxyActivities, workflowInfo } from '@temporalio/workflow';
import type { modelActivities } from '../../activities/models/activities.js';
import type { experimentActivities } from '../../activities/experiment/activities.js';
import type { reinforcementActivities } from '../../activities/reinforcement/activities.js';
import type { rewardModelActivities } from '../../activities/reward-model/activities.js';
import type { datasetRefreshActivities } from '../../activities/dataset-refresh/activities.js';
import type { garbageCollectionActivities } from '../../activities/garbage-collection/activities.js';
import type { PlanInput, PlanOutput, ShardInput, ShardOutput } from '../../activities/runtime/sharded-stage.js';
import { HEARTBEAT_TIMEOUT_SECONDS, queueName, type Produced, type QueueRole } from '../contract/index.js';

type Named = ReturnType<typeof modelActivities> & ReturnType<typeof experimentActivities> & ReturnType<typeof reinforcementActivities>
  & ReturnType<typeof rewardModelActivities> & ReturnType<typeof garbageCollectionActivities>
  & ReturnType<typeof datasetRefreshActivities>;

export interface Where {
  role: QueueRole;
  deviceClass?: string | undefined;
  /** What the activity does, shown beside it in Temporal UI. */
  summary: string;
}

/** The longest credible attempt of anything: a training of a large model. */
const LONGEST_ATTEMPT = '30 days';

function proxy({ role, deviceClass, summary }: Where): Record<string, (input: unknown) => Promise<unknown>> {
  return proxyActivities({
    // The pipeline queue's name is the base of the others, so that two deployments can share a namespace.
    taskQueue: queueName(role, workflowInfo().taskQueue, deviceClass),
    startToCloseTimeout: LONGEST_ATTEMPT,
    heartbeatTimeout: `${HEARTBEAT_TIMEOUT_SECONDS}s`,
    retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '5s' },
    summary: summary.slice(0, 200),
  });
}

/** Calls an activity that is defined by name and type. */
export function call<N extends keyof Named>(name: N, where: Where, input: Parameters<Named[N]>[0]): ReturnType<Named[N]> {
  return proxy(where)[name]!(input) as ReturnType<Named[N]>;
}

/** The activities of a sharded stage. */
export const shardedCalls = {
  plan: (stage: string, where: Where, input: PlanInput) => proxy(where)[`${stage}.plan`]!(input) as Promise<PlanOutput>,
  step: (stage: string, step: string, where: Where, input: ShardInput) => proxy(where)[`${stage}.${step}`]!(input) as Promise<ShardOutput>,
  seal: (stage: string, where: Where, input: { stageKey: string }) => proxy(where)[`${stage}.seal`]!(input) as Promise<Produced>,
};
