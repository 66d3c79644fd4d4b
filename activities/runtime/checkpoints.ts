/**
 * Checkpoints of trainings. The store holds the truth about a training's progress: heartbeat details are lost by a pause,
 * a reset and a crash. The newest complete checkpoint wins, on any host; files that did not change since the last one are
 * not sent again, because blobs are named by content.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ManifestFile, StageFailure } from '../../workflows/contract/index.js';
import { objectKeys } from '../artifacts/keys.js';
import { folderBytes, type ArtifactStore } from '../artifacts/store.js';
import { cancellationSignal, leaveDevice, reportProgress, warn } from './context.js';
import type { PythonService } from './python-service.js';

const CheckpointDocument = z.object({ step: z.number().int().nonnegative(), files: z.array(ManifestFile) });

/**
 * Where a training ran, with the step after which it came there: one entry where it stayed, more where it was resumed in
 * another environment, so that its last bits cannot be had again. Goes into metrics, outside the digest.
 */
export const TrainingEnvironments = z.array(z.object({
  step: z.number().int(), torch: z.string(), device: z.string(), cpuCapability: z.string(), threads: z.number().int(),
  processes: z.number().int(), microBatch: z.number().int(), sharding: z.string(),
})).min(1);

/**
 * Largest share of a training's time in which its checkpoints are on their way to the store. Where the cores that send are
 * those that train, it is time taken from the training; beside a GPU it is not, and a host that is lost costs less.
 * Checkpoints that are not sent stay on the local disk.
 */
export const SENDING_SHARE = { cpu: 0.02, gpu: 0.2 } as const;

/** What a fast store takes, in bytes a second: how long sending takes at least, while that was not measured. */
const FAST_STORE = 1024 ** 3;

export interface Checkpoint {
  step: number;
  /** Its folder. */
  path: string;
}

/**
 * Decides which checkpoints of a training are sent: so many that all of them, the next one included, take at most `share` of
 * the time since it was made. One that cannot be sent does not end the training, whose next one is sent instead. `send` and
 * `bytesOf` are of one checkpoint, `now` gives milliseconds.
 */
export class CheckpointSending {
  #unsent: Checkpoint | undefined;
  #trouble: string | undefined;
  /** Milliseconds in all, and of the last one. */
  #spent = 0;
  #last: number | undefined;
  readonly #began: number;

  constructor(
    private readonly send: (checkpoint: Checkpoint) => Promise<void>,
    private readonly bytesOf: (checkpoint: Checkpoint) => Promise<number>,
    private readonly share: number,
    private readonly now = () => performance.now(),
  ) {
    this.#began = now();
  }

  /** Why the last one that was tried could not be sent; undefined where it was. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** Sends the checkpoint if the share allows it, or keeps it in mind. */
  async take(checkpoint: Checkpoint): Promise<void> {
    this.#unsent = checkpoint;
    // One that is gone when its turn comes, after a long wait for the store, is found missing when it is sent.
    const expected = this.#last ?? (1000 * (await this.bytesOf(checkpoint).catch(() => 0))) / FAST_STORE;
    if (this.#spent + expected <= this.share * (this.now() - this.#began)) await this.sendNewest();
  }

  /** Sends the newest checkpoint where it was not sent yet. */
  async sendNewest(): Promise<void> {
    const checkpoint = this.#unsent;
    if (!checkpoint) return;
    const began = this.now();
    try {
      await this.send(checkpoint);
      this.#last = this.now() - began;
      this.#unsent = undefined;
      this.#trouble = undefined;
    } catch (error) {
      this.#trouble = `the checkpoint of step ${checkpoint.step} is not stored: ${error instanceof Error ? error.message : String(error)}`;
    } finally {
      this.#spent += this.now() - began;
    }
  }
}

/** Uploads a complete checkpoint folder; the document goes last, so that a half-sent one is never found. */
export async function saveCheckpoint(store: ArtifactStore, stageKey: string, checkpoint: Checkpoint): Promise<void> {
  const files = await store.putFolder(checkpoint.path);
  await store.putJson(objectKeys.checkpoint(stageKey, checkpoint.step), { step: checkpoint.step, files });
}

/** Puts the newest checkpoint that can be read into `folder` and returns its step; undefined where there is none. */
export async function restoreCheckpoint(store: ArtifactStore, stageKey: string, folder: string): Promise<number | undefined> {
  const found = await store.list(objectKeys.checkpoints(stageKey));
  for (const { key } of found.reverse()) {
    const document = CheckpointDocument.safeParse(await store.getJson(key));
    if (!document.success) continue;
    try {
      await store.materialiseFiles(document.data.files, folder);
      return document.data.step;
    } catch (error) {
      // A checkpoint whose blobs are damaged is passed over: an older one, or the start, gives the same result.
      if (!(error instanceof StageFailure && error.type === 'ArtifactCorrupt')) throw error;
    }
  }
  return undefined;
}

/** Removes the checkpoint documents of a finished training; their blobs are swept by garbage collection. */
export async function dropCheckpoints(store: ArtifactStore, stageKey: string): Promise<void> {
  await store.remove((await store.list(objectKeys.checkpoints(stageKey))).map(({ key }) => key));
}

/**
 * Runs a training operation of the model runtime: from the newest checkpoint on, new checkpoints uploaded while the training
 * goes on, as often as {@link SENDING_SHARE} lets them; the newest also when the training is cancelled or fails. A store that is
 * away does not end the training: progress and log say so. `params` receives the checkpoint folder to write to and the one to resume from.
 */
export async function train<R>(
  { store, models, work }: { store: ArtifactStore; models: PythonService; work: string },
  stageKey: string,
  op: string,
  params: (folders: { checkpoints: string; resumeFrom?: string }) => Record<string, unknown>,
): Promise<R> {
  const resume = join(work, 'resume');
  const checkpoints = join(work, 'checkpoints');
  await mkdir(checkpoints, { recursive: true });
  const step = await restoreCheckpoint(store, stageKey, resume);
  if (step !== undefined) reportProgress({ done: step, total: 0, message: `resuming from step ${step}` });
  const signal = cancellationSignal();
  const { device } = await models.versions();
  const sending = new CheckpointSending((checkpoint) => saveCheckpoint(store, stageKey, checkpoint), ({ path }) => folderBytes(path), SENDING_SHARE[device === 'cpu' ? 'cpu' : 'gpu']);
  const send = async (how: () => Promise<void>): Promise<void> => {
    await how();
    if (sending.trouble) warn(sending.trouble);
  };
  try {
    const result = await models.call<R>(op, params({ checkpoints, ...(step === undefined ? {} : { resumeFrom: resume }) }), {
      signal,
      onProgress: ({ done, total, message, metrics }) => reportProgress({ done, total, message: [message, sending.trouble].filter(Boolean).join('; '), metrics }),
      onCheckpoint: (checkpoint) => send(() => sending.take(checkpoint)),
    });
    leaveDevice();
    return result;
  } catch (error) {
    await send(() => sending.sendNewest());
    throw error;
  }
}

/** Runs `use` with an empty work folder that is removed afterwards. */
export async function withWorkFolder<T>(store: ArtifactStore, use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await store.spoolPath('.work');
  await mkdir(folder, { recursive: true });
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
