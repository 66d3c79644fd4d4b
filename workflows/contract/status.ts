/** What a stage returns, and how an experiment tells its state and is steered. */
import { z } from 'zod';
import type { ArtifactRef, Metrics } from './artifacts.js';
import type { PublishedResult } from './results.js';
import { STAGES, type StageConfig, type StageName } from './stages/index.js';

/** What a stage workflow returns. `rounds` are the policies of an RL stage, oldest first. */
export interface StageResult {
  ref: ArtifactRef;
  reused: boolean;
  by?: string;
  metrics: Metrics;
  rounds?: ArtifactRef[];
}

export const StageState = z.enum([
  'waiting',
  'running',
  'paused',
  'parked',
  'done',
  'abandoned',
  'cancelled',
  'failed',
]);
export type StageState = z.infer<typeof StageState>;

/** Progress of a stage in its own unit (shards, rounds). */
export interface StageProgress {
  done: number;
  total: number;
  unit: string;
  message?: string;
  /** What the stage's replies cost so far, in US dollars; absent where nothing is paid. */
  costUsd?: number;
}

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
  /** Event to reset the experiment to, so that this stage runs again. */
  resetEventId?: number;
  /** Why the stage is parked, and what can be done. */
  failure?: { type: string; message: string; advice: string };
}

/** The first `count` numbers of a stage's metrics as text. */
export function figuresOf(metrics: Metrics, count: number): string {
  return Object.entries(metrics)
    .filter((entry): entry is [string, number] => typeof entry[1] === 'number')
    .slice(0, count)
    .map(([name, value]) => `${name} ${Number.isInteger(value) ? value : value.toFixed(3)}`)
    .join(', ');
}

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
}

/** Names of the messages that `experiment` and the stages take. */
export const MESSAGES = {
  status: 'status',
  retryStage: 'retryStage',
  abandon: 'abandon',
  pause: 'pause',
  resume: 'resume',
  stageProgress: 'stageProgress',
} as const;

export const RetryStage = z.strictObject({
  stage: z.enum(STAGES),
  execution: z.record(z.string(), z.json()).optional(),
  semantics: z.record(z.string(), z.json()).optional(),
  allowRepeat: z.boolean().optional(),
});
export type RetryStage = z.infer<typeof RetryStage>;

export const Abandon = z.strictObject({ reason: z.string().min(1) });
export type Abandon = z.infer<typeof Abandon>;
