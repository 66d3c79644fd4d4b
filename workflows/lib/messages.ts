/** The messages as Temporal definitions; their names and payloads are part of the contract. */
import { defineQuery, defineSignal, defineUpdate, log, setHandler } from '@temporalio/workflow';
import { defaultPayloadConverter, rawValueTypeInfo, type RawValue } from '@temporalio/common';
import { z } from 'zod';
import {
  MESSAGES,
  type Abandon,
  type ExperimentStatus,
  type ForkSource,
  type GangLeader,
  type PolicyTrained,
  type Resume,
  type RetryStage,
  type StageProgress,
  type StageProgressMessage,
} from '../contract/index.js';

/**
 * What an experiment sends with a pause or its end: a later one has a greater number, near the time in milliseconds.
 */
const PauseMessage = z.object({ number: z.number() });
export type PauseMessage = z.infer<typeof PauseMessage>;
/** How far a number may be ahead of the time, in milliseconds. */
const AHEAD_MS = 60_000;

/**
 * The number of a pause or its end; undefined where it has none, as a person's. Anybody may send one from the far
 * future. It has no number either, because every later one of the experiment would be older than it.
 *
 * @example
 * pauseNumber({ number: 1000 }, 1000); // 1000
 * pauseNumber({ number: 1e300 }, 1000); // undefined
 */
export function pauseNumber(message: unknown, now: number): number | undefined {
  const number = PauseMessage.safeParse(message).data?.number;
  return number === undefined || number > now + AHEAD_MS ? undefined : number;
}

export const statusQuery = defineQuery<ExperimentStatus>(MESSAGES.status);
export const forkSourceQuery = defineQuery<ForkSource>(MESSAGES.forkSource);
export const stageStatusQuery = defineQuery<{ state: 'running' | 'paused'; progress?: StageProgress | undefined }>(
  MESSAGES.status,
);
export const retryStageUpdate = defineUpdate<string, [RetryStage]>(MESSAGES.retryStage);
export const resumeUpdate = defineUpdate<string, [Resume]>(MESSAGES.resume);
export const abandonUpdate = defineUpdate<string, [Abandon]>(MESSAGES.abandon);
export const pauseSignal = defineSignal<[PauseMessage?]>(MESSAGES.pause);
export const resumeSignal = defineSignal<[PauseMessage?]>(MESSAGES.resume);
export const policyTrainedSignal = defineSignal<[PolicyTrained]>(MESSAGES.policyTrained);
export const gangSignal = defineSignal<[GangLeader]>(MESSAGES.gangLeader);
/** The token of the attempt that runs. */
export const gangQuery = defineQuery<string | undefined>(MESSAGES.gang);
export const stageProgressSignal = defineSignal<[StageProgressMessage]>(MESSAGES.stageProgress);

/** Payloads of a signal that stay as they arrived. A signal that has more fails on the first that cannot be decoded. */
const AS_THEY_ARRIVE = Array.from({ length: 1000 }, () => rawValueTypeInfo);

/**
 * Takes a signal, whose payload has a schema. Anybody may send anything, and an error in a handler would fail every
 * workflow task from then on. So a payload that cannot be decoded, or that the schema refuses, is ignored with a line
 * in the worker's log. Signals without a payload take `z.unknown()`, and are heard whatever comes with them.
 */
export function onSignal<T>(
  { name }: { name: string },
  schema: z.ZodType<T>,
  take: (message: T) => void | Promise<void>,
  options: { description?: string } = {},
): void {
  const raw = defineSignal<[RawValue?]>(name, { typeInfo: { inputTypes: AS_THEY_ARRIVE } });
  setHandler(
    raw,
    async (payload) => {
      const { data, error } = schema.safeParse(decoded(payload));
      if (error) log.warn('a signal was ignored: its payload is not what the contract says', { signal: name });
      else await take(data);
    },
    options,
  );
}

/** What a payload holds; undefined where there is none, and where nobody here knows its encoding. */
function decoded(payload: RawValue | undefined): unknown {
  try {
    return payload && defaultPayloadConverter.fromPayload(payload.payload);
  } catch {
    return undefined;
  }
}
