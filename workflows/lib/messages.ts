/** The messages as Temporal definitions; their names and payloads are part of the contract. */
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import {
  MESSAGES,
  type Abandon,
  type ExperimentStatus,
  type RetryStage,
  type StageName,
  type StageProgress,
} from '../contract/index.js';

export const statusQuery = defineQuery<ExperimentStatus>(MESSAGES.status);
export const stageStatusQuery = defineQuery<{ state: 'running' | 'paused'; progress?: StageProgress | undefined }>(
  MESSAGES.status,
);
export const retryStageUpdate = defineUpdate<string, [RetryStage]>(MESSAGES.retryStage);
export const abandonUpdate = defineUpdate<string, [Abandon]>(MESSAGES.abandon);
export const pauseSignal = defineSignal(MESSAGES.pause);
export const resumeSignal = defineSignal(MESSAGES.resume);
export const stageProgressSignal = defineSignal<[{ stage: StageName; progress: StageProgress }]>(
  MESSAGES.stageProgress,
);
