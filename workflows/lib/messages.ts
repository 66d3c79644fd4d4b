/** The messages as Temporal definitions; their names and payloads are part of the contract. */
import { defineQuery, defineSignal, defineUpdate, log, setHandler } from '@temporalio/workflow';
import type { SignalDefinition } from '@temporalio/common';
import type { z } from 'zod';
import {
  MESSAGES,
  type Abandon,
  type ExperimentStatus,
  type RetryStage,
  type StageProgress,
  type StageProgressMessage,
} from '../contract/index.js';

export const statusQuery = defineQuery<ExperimentStatus>(MESSAGES.status);
export const stageStatusQuery = defineQuery<{ state: 'running' | 'paused'; progress?: StageProgress | undefined }>(
  MESSAGES.status,
);
export const retryStageUpdate = defineUpdate<string, [RetryStage]>(MESSAGES.retryStage);
export const abandonUpdate = defineUpdate<string, [Abandon]>(MESSAGES.abandon);
export const pauseSignal = defineSignal(MESSAGES.pause);
export const resumeSignal = defineSignal(MESSAGES.resume);
export const stageProgressSignal = defineSignal<[StageProgressMessage]>(MESSAGES.stageProgress);

/**
 * Takes a signal whose payload has a schema. Anybody may send anything, and an error in a handler would fail every
 * workflow task from then on. So a payload that the schema refuses is ignored, with a line in the worker's log.
 */
export function onSignal<T>(definition: SignalDefinition<[T]>, schema: z.ZodType<T>, take: (message: T) => void): void {
  setHandler(definition, (message: unknown) => {
    const { data, error } = schema.safeParse(message);
    if (error) log.warn('a signal was ignored: its payload is not what the contract says', { signal: definition.name });
    else take(data);
  });
}
