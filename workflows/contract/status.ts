/** What a stage returns, and how an experiment tells its state and is steered. */
import { z } from 'zod';
import type { ArtifactRef, Metrics } from './artifacts.js';
import type { Frontier, StepCounts } from './frontier.js';
import { EvaluationResult } from './metrics.js';
import type { PublishedResult } from './results.js';
import { FlaggedChoice } from './reward-watch.js';
import { STAGES, type StageConfig, type StageName } from './stages/index.js';

/**
 * What a stage workflow returns.
 *
 * @example
 * ```ts
 * import { Client } from '@temporalio/client';
 * import { type StageResult } from 'acecoder-temporal/contract';
 *
 * const { ref } = (await new Client().workflow.getHandle('my-run/sampling').result()) as StageResult;
 * ```
 */
export interface StageResult {
  ref: ArtifactRef;
  reused: boolean;
  by?: string;
  metrics: Metrics;
  /** Of a stage of rounds. Absent in what version 0.1.0 returned. */
  steps?: StepCounts;
}

type StageState = 'waiting' | 'running' | 'paused' | 'parked' | 'done' | 'abandoned' | 'cancelled' | 'failed';

/** Progress of a stage in its own unit (shards, rounds). */
export const StageProgress = z.strictObject({
  done: z.number().nonnegative(),
  total: z.number().nonnegative(),
  unit: z.string().max(40),
  message: z.string().max(500).optional(),
  /** What the stage's replies cost so far, in US dollars; absent where nothing is paid. */
  costUsd: z.number().nonnegative().optional(),
  /** What the stage waits for that an operator can give. */
  waitsFor: z.string().max(500).optional(),
});
export type StageProgress = z.infer<typeof StageProgress>;

export interface StageStatus {
  name: StageName;
  state: StageState;
  progress?: StageProgress;
  startedAt?: string;
  seconds?: number;
  reused?: boolean;
  /** Workflow whose work was reused. */
  by?: string;
  artifact?: ArtifactRef;
  metrics?: Metrics;
  steps?: StepCounts;
  /** Event to reset the experiment to, so that this stage runs again. */
  resetEventId?: number;
  /** The run that has this event, where the experiment has continued as a new run since. */
  resetRunId?: string;
  /** Why the stage is parked, and what can be done; `round` is that of an alarm of the watch for reward hacking. */
  failure?: { type: string; message: string; advice: string; round?: number };
}

/**
 * The first `count` numbers of a stage's metrics as text. Of an evaluation, pass@1 of each policy on each benchmark:
 * what the stage is run for.
 *
 * @example
 * figuresOf({ questions: 23, rate: 0.5 }, 4); // 'questions 23, rate 0.500'
 */
export function figuresOf(metrics: Metrics, count: number): string {
  const rates = passAt1Of(metrics);
  if (Object.keys(rates).length > 0)
    return `pass@1 ${Object.entries(rates)
      .map(([name, rate]) => `${name} ${rate.toFixed(3)}`)
      .join(', ')}`;
  return Object.entries(metrics)
    .filter((entry): entry is [string, number] => typeof entry[1] === 'number')
    .slice(0, count)
    .map(([name, value]) => `${name} ${Number.isInteger(value) ? value : value.toFixed(3)}`)
    .join(', ');
}

/** Pass@1 in the metrics of an evaluation, by benchmark and policy; none in others. */
export function passAt1Of(metrics: Metrics): Record<string, number> {
  const evaluated = EvaluationResult.array().safeParse(metrics['results']).data ?? [];
  return Object.fromEntries(
    evaluated.flatMap(({ benchmark, policy, mean, greedy }) => {
      const rate = mean ?? greedy;
      return rate === null ? [] : [[`${benchmark} ${policy}`, rate]];
    }),
  );
}

/**
 * What the query `status` of an experiment answers.
 *
 * @example
 * ```ts
 * import { Client } from '@temporalio/client';
 * import { MESSAGES, type ExperimentStatus } from 'acecoder-temporal/contract';
 *
 * const handle = new Client().workflow.getHandle('my-run');
 * const { state, stages } = await handle.query<ExperimentStatus>(MESSAGES.status);
 * ```
 */
export interface ExperimentStatus {
  experiment: string;
  state: 'running' | 'paused' | 'parked' | 'done' | 'abandoned' | 'cancelled' | 'failed';
  stages: StageStatus[];
  teacher: StageConfig['synthesis']['teacher']['kind'];
  /** What the teacher's replies cost: so far, at most, and, once the seeds are counted, by estimate. US dollars. */
  cost: { usd: number; budgetUsd?: number; estimatedUsd?: number };
  /**
   * The report in the store; `html` and `summary` are paths on a worker that keeps results on its disk. Version 0.1.0
   * had these alone.
   */
  report?: Partial<PublishedResult> & { html?: string; summary?: string };
  /** What the experiment itself waits for: work of its own that no worker takes. */
  waitsFor?: string;
  /** Queues that its stages will need and that no worker served at the start, with those that workers served. */
  unserved?: { queues: readonly string[]; served: readonly string[] };
  /** Of a fork: what was reused, and what was made again. */
  frontier?: Frontier;
}

/** The main figures of an experiment. They are in its memo and its result, which need no worker to be read. */
export interface ExperimentFigures {
  experiment: string;
  state: ExperimentStatus['state'];
  /** Each stage's figures, or how it stands. */
  stages: Record<string, string>;
  /** Pass@1 of each policy on each benchmark, by `benchmark policy`. */
  passAt1?: Record<string, number>;
  /** What the teacher's replies cost, in US dollars. */
  costUsd: number;
}

/**
 * Names of the messages that `experiment` and the stages take.
 *
 * @example
 * ```ts
 * import { Client } from '@temporalio/client';
 * import { MESSAGES } from 'acecoder-temporal/contract';
 *
 * await new Client().workflow.getHandle('my-run').signal(MESSAGES.pause);
 * ```
 */
export const MESSAGES = {
  status: 'status',
  forkSource: 'forkSource',
  retryStage: 'retryStage',
  abandon: 'abandon',
  pause: 'pause',
  resume: 'resume',
  stageProgress: 'stageProgress',
  policyTrained: 'policyTrained',
  gangLeader: 'gangLeader',
  gang: 'gang',
} as const;

/** What a stage tells its experiment with the signal `stageProgress`. */
export const StageProgressMessage = z.strictObject({ stage: z.enum(STAGES), progress: StageProgress });
export type StageProgressMessage = z.infer<typeof StageProgressMessage>;

/**
 * What a policy update tells its stage with the signal `policyTrained`: its worker has the policy under a name, and the
 * store does not yet.
 */
export const PolicyTrained = z.strictObject({ round: z.number().int().positive(), name: z.string().min(1).max(200) });
export type PolicyTrained = z.infer<typeof PolicyTrained>;

/**
 * What the update `retryStage` takes.
 *
 * @example
 * ```ts
 * import { MESSAGES, type RetryStage } from 'acecoder-temporal/contract';
 *
 * const request: RetryStage = { stage: 'rewardModel', execution: { microBatch: 1 } };
 * await handle.executeUpdate(MESSAGES.retryStage, { args: [request] });
 * ```
 */
export const RetryStage = z.strictObject({
  stage: z.enum(STAGES),
  execution: z.record(z.string(), z.json()).optional(),
  semantics: z.record(z.string(), z.json()).optional(),
  allowRepeat: z.boolean().optional(),
});
export type RetryStage = z.infer<typeof RetryStage>;

/**
 * What the update `resume` takes, which answers the alarm of the watch for reward hacking. The signal of that name ends
 * a pause.
 *
 * @example
 * ```ts
 * import { MESSAGES, type Resume } from 'acecoder-temporal/contract';
 *
 * const request: Resume = { flagged: 'drop' };
 * await handle.executeUpdate(MESSAGES.resume, { args: [request] });
 * ```
 */
export const Resume = z.strictObject({ flagged: FlaggedChoice });
export type Resume = z.infer<typeof Resume>;

/**
 * What the update `abandon` takes.
 *
 * @example
 * ```ts
 * import { MESSAGES, type Abandon } from 'acecoder-temporal/contract';
 *
 * const request: Abandon = { reason: 'a better idea' };
 * await handle.executeUpdate(MESSAGES.abandon, { args: [request] });
 * ```
 */
export const Abandon = z.strictObject({ reason: z.string().min(1) });
export type Abandon = z.infer<typeof Abandon>;
