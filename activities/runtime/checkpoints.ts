/**
 * Checkpoints of trainings. The store holds the truth about a training's progress: heartbeat details are lost by a
 * pause, a reset and a crash. The newest complete checkpoint wins. On any host that is the newest of the store. On the
 * host of a killed worker it is the newest of all that were written. Unchanged files are not sent again, because
 * content names blobs.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, readlink, rm, rmdir, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ManifestFile, StageFailure, type StageConfigs } from '../../workflows/contract/index.js';
import { objectKeys } from '../artifacts/keys.js';
import { folderBytes, sweepUntouched } from '../artifacts/files.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { cancellationSignal, leaveDevice, log, reportProgress, reportStageProgress } from './context.js';
import type { Params, ProgressMetrics, Result, RuntimeOperation, TrainingOperation } from './operations.js';
import type { Progress, PythonProcess } from './python-service.js';
import { isCpu } from './settings.js';

const CheckpointDocument = z.object({ step: z.number().int().nonnegative(), files: z.array(ManifestFile) });

/**
 * Largest share of a training's time in which its checkpoints are on their way to the store. On a CPU the cores that
 * send are those that train, so that sending takes time from the training. Next to a GPU it takes none, and a lost host
 * costs less. Checkpoints that are not sent stay on the local disk.
 */
export const SENDING_SHARE = { cpu: 0.02, gpu: 0.2 } as const;

/** What a fast store takes, in bytes per second. It tells how long the first checkpoint takes at least. */
const FAST_STORE = 1024 ** 3;

/** What a killed worker left on this host goes when nothing touched it for this long. */
const LEFT_BEHIND_MS = 24 * 3_600_000;
/**
 * The same for an earlier attempt at a training, once another one has begun or ended. An attempt that runs touches its
 * folder every {@link TOUCH_MS}, also where no checkpoint is due for hours.
 */
const EARLIER_ATTEMPT_MS = 600_000;
const TOUCH_MS = 60_000;
/** File in the folder of an attempt while the attempt runs. It names the process. */
const IN_USE = 'in-use';

/** Settings of how a training uses its device, which all trainings have. */
type TrainingExecution = z.infer<typeof StageConfigs.fineTuning>['execution'];

/**
 * Those of the settings that the model runtime takes.
 *
 * @example
 * trainingSettings(config.execution); // { microBatch: 8, checkpointSeconds: 30, sharding: 'none' }
 */
export function trainingSettings(execution: TrainingExecution): Omit<TrainingExecution, 'deviceClass'> {
  const { microBatch, microBatchTokens, gradientCheckpointing, checkpointSeconds, sharding } = execution;
  return { microBatch, microBatchTokens, gradientCheckpointing, checkpointSeconds, sharding };
}

/** What a training works with. */
export interface Trainer {
  store: ArtifactStore;
  models: PythonProcess<RuntimeOperation>;
  /** Where it is a member of a gang. */
  gang?: GangTraining;
}

/** What a gang changes about the checkpoints of a training. */
interface GangTraining {
  /** Whether another member writes checkpoints. */
  follows: boolean;
  /** The stored checkpoint that all members go on from; undefined: they begin. */
  step: number | undefined;
  /** @throws Error where a later attempt has taken the place of this one. */
  requireCurrent: () => Promise<void>;
}

export interface Checkpoint {
  step: number;
  /** Its folder. */
  path: string;
}

/**
 * Decides which checkpoints of a training are sent. All of them, the next one included, take at most `share` of the
 * time since the training began. A checkpoint that cannot be sent does not end the training: the next one is sent
 * instead. `send` sends one checkpoint, `bytesOf` tells its size in bytes, `now` the time in milliseconds.
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
    // A checkpoint may be gone after a long wait for the store. Then sending it finds that out.
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
      const reason = error instanceof Error ? error.message : String(error);
      this.#trouble = `the checkpoint of step ${checkpoint.step} is not stored: ${reason}`;
    } finally {
      this.#spent += this.now() - began;
    }
  }
}

/** Uploads a complete checkpoint folder. The document goes last, so that nobody finds a half-sent checkpoint. */
export async function saveCheckpoint(store: ArtifactStore, stageKey: string, checkpoint: Checkpoint): Promise<void> {
  // This host has the folder itself, and another host has another cache.
  const files = await store.putFolder(checkpoint.path, '', { cached: false });
  await store.putJson(objectKeys.checkpoint(stageKey, checkpoint.step), { step: checkpoint.step, files });
}

/**
 * Puts the newest stored checkpoint after step `above` and up to `atMost` that can be read into a folder of
 * `checkpoints`. Returns undefined where there is none.
 */
export async function restoreCheckpoint(
  store: ArtifactStore,
  stageKey: string,
  checkpoints: string,
  above = -1,
  atMost = Infinity,
): Promise<Checkpoint | undefined> {
  const found = await store.list(objectKeys.checkpoints(stageKey));
  for (const { key } of found.reverse()) {
    const document = CheckpointDocument.safeParse(await store.getJson(key));
    if (!document.success) continue;
    const { step, files } = document.data;
    if (step > atMost) continue;
    if (step <= above) return undefined;
    const path = checkpointFolder(checkpoints, step);
    try {
      await store.materialiseFiles(files, path);
      return { step, path };
    } catch (error) {
      // A checkpoint with damaged blobs is passed over: an older one, or the start, gives the same result.
      if (!(error instanceof StageFailure && error.type === 'ArtifactCorrupt')) throw error;
    }
  }
  return undefined;
}

/** The folder as the model runtime names it. The runtime deletes it when it has newer ones. */
const checkpointFolder = (checkpoints: string, step: number): string => join(checkpoints, `checkpoint-${step}`);

/** Folder of a training's checkpoints on this host. It has a folder per boot, which has a folder per attempt. */
const hostFolder = (store: ArtifactStore, stageKey: string): string => store.hostPath('checkpoints', stageKey);

/**
 * The newest checkpoint that earlier attempts wrote on this host since it was started. Nothing forces files onto the
 * disk before a host goes down, so that those of an earlier boot may be torn.
 */
export async function newestOnHost(bootFolder: string): Promise<Checkpoint | undefined> {
  const attempts = await readdir(bootFolder).catch(() => []);
  const found = await Promise.all(
    attempts.map(async (attempt) =>
      (await readdir(join(bootFolder, attempt)).catch(() => [])).flatMap((name) => {
        const step = /^checkpoint-(\d+)$/.exec(name)?.[1];
        return step === undefined ? [] : [{ step: Number(step), path: join(bootFolder, attempt, name) }];
      }),
    ),
  );
  return found.flat().sort((a, b) => b.step - a.step)[0];
}

/**
 * Removes the checkpoints of a finished training: its documents in the store and its folders on this host, but for
 * those of equal trainings that still run here. Garbage collection sweeps the blobs.
 */
export async function dropCheckpoints(store: ArtifactStore, stageKey: string): Promise<void> {
  await store.remove((await store.list(objectKeys.checkpoints(stageKey))).map(({ key }) => key));
  const folder = hostFolder(store, stageKey);
  for (const boot of await readdir(folder).catch(() => [])) {
    const attempts = await readdir(join(folder, boot)).catch(() => []);
    const used = await Promise.all(attempts.map((attempt) => isInUse(join(folder, boot, attempt))));
    const over = used.every((inUse) => !inUse) ? [''] : attempts.filter((_, at) => !used[at]);
    for (const attempt of over) await rm(join(folder, boot, attempt), { recursive: true, force: true });
  }
  // Fails, as it should, where an equal training runs.
  await rmdir(folder).catch(() => undefined);
}

/** A process of this host: its namespace, its number in there, and when it started. */
async function identityOf(pid: number): Promise<string> {
  const namespace = await readlink('/proc/self/ns/pid').catch(() => '');
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The name of the program is in parentheses, and may hold any character.
  const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  return [namespace, pid, started].join(' ');
}

/**
 * Whether an attempt that runs has this folder. That of a killed worker is free at once. Processes of another container
 * cannot be seen from here, and count for as long as they touch their file.
 */
async function isInUse(attempt: string): Promise<boolean> {
  const file = join(attempt, IN_USE);
  try {
    if (Date.now() - (await stat(file)).mtimeMs >= EARLIER_ATTEMPT_MS) return false;
    const owner = await readFile(file, 'utf8');
    const [namespace, pid] = owner.split(' ');
    const [own] = (await identityOf(process.pid)).split(' ');
    return own === '' || namespace !== own || (await identityOf(Number(pid))) === owner;
  } catch {
    return false;
  }
}

/**
 * The checkpoint of the store that all members of a gang go on from.
 *
 * @throws Error where it is gone, or cannot be read here.
 */
async function gangCheckpoint(
  store: ArtifactStore,
  stageKey: string,
  checkpoints: string,
  { step }: GangTraining,
): Promise<Checkpoint | undefined> {
  if (step === undefined) return undefined;
  const found = await restoreCheckpoint(store, stageKey, checkpoints, step - 1, step);
  if (!found) throw new Error(`the checkpoint of step ${step}, which the gang goes on from, cannot be read here`);
  return found;
}

/**
 * The step of the newest checkpoint that every host can go on from, of the store; undefined where there is none. What
 * this host has above it is stored first.
 */
export async function newestForAll(store: ArtifactStore, stageKey: string): Promise<number | undefined> {
  const onHost = await newestOnHost(await bootFolderOf(store, stageKey));
  return withWorkFolder(store, async (folder) => {
    const stored = await restoreCheckpoint(store, stageKey, folder, onHost?.step);
    if (stored) return stored.step;
    if (!onHost) return undefined;
    // It is linked, because an equal training on this host may remove it.
    const path = checkpointFolder(folder, onHost.step);
    await store.linkFolder(onHost.path, path);
    await saveCheckpoint(store, stageKey, { step: onHost.step, path });
    return onHost.step;
  });
}

/** The folder of this boot in {@link hostFolder}. */
async function bootFolderOf(store: ArtifactStore, stageKey: string): Promise<string> {
  // Where a host does not say when it was started, no earlier attempt's files are trusted.
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => randomUUID());
  return join(hostFolder(store, stageKey), boot.trim());
}

/** The newest checkpoint of this host, linked into `checkpoints`; undefined where there is none. */
async function linkNewestOnHost(
  store: ArtifactStore,
  bootFolder: string,
  checkpoints: string,
): Promise<Checkpoint | undefined> {
  for (;;) {
    const found = await newestOnHost(bootFolder);
    if (!found) return undefined;
    const path = checkpointFolder(checkpoints, found.step);
    try {
      await store.linkFolder(found.path, path);
      return { step: found.step, path };
    } catch (error) {
      // An equal training may have replaced it by a newer one meanwhile.
      if (!(await isGone(found.path))) throw error;
      await rm(path, { recursive: true, force: true });
    }
  }
}

/**
 * Runs a training operation of the model runtime from the newest checkpoint on, of the store or of this host. New ones
 * are uploaded meanwhile, as often as {@link SENDING_SHARE} allows, and the newest one when the training is cancelled
 * or fails. A store that is away does not end the training: progress and log say so at once. `params` receives the
 * folder to write checkpoints to and the one to resume from.
 *
 * Of the members of a gang all go on from the same stored checkpoint, and one writes new ones.
 *
 * @throws StageFailure of the operation's class, the reason of a cancellation, or an Error, which is retried, where the
 *   checkpoints of the training were removed, because its worker stood still while an equal training ended
 *   ({@link dropCheckpoints}).
 */
export async function train<O extends TrainingOperation>(
  trainer: Trainer,
  stageKey: string,
  op: O,
  params: (folders: { checkpoints: string; resumeFrom?: string }) => Params<O>,
): Promise<Result<O>> {
  const { store, gang } = trainer;
  const bootFolder = await bootFolderOf(store, stageKey);
  const checkpoints = join(bootFolder, randomUUID());
  await mkdir(checkpoints, { recursive: true });
  const inUse = join(checkpoints, IN_USE);
  await writeFile(inUse, await identityOf(process.pid));
  const touch = setInterval(() => void utimes(inUse, new Date(), new Date()).catch(() => undefined), TOUCH_MS).unref();
  try {
    return await trainIn(checkpoints, bootFolder, trainer, stageKey, op, params);
  } finally {
    clearInterval(touch);
    await rm(gang?.follows ? checkpoints : inUse, { recursive: true, force: true });
  }
}

/** {@link train} with its checkpoints in a folder that is its own. */
async function trainIn<O extends TrainingOperation>(
  checkpoints: string,
  bootFolder: string,
  { store, models, gang }: Trainer,
  stageKey: string,
  op: O,
  params: (folders: { checkpoints: string; resumeFrom?: string }) => Params<O>,
): Promise<Result<O>> {
  const onHost = gang ? undefined : await newestOnHost(bootFolder);
  const stored = gang
    ? await gangCheckpoint(store, stageKey, checkpoints, gang)
    : await restoreCheckpoint(store, stageKey, checkpoints, onHost?.step);
  const resume = stored ?? (gang ? undefined : await linkNewestOnHost(store, bootFolder, checkpoints));
  if (resume) {
    const message = `resuming from step ${resume.step}, of a checkpoint of ${stored ? 'the store' : 'this host'}`;
    reportProgress({ done: resume.step, total: 0, message });
    log().info(message);
  }
  await sweepUntouched(bootFolder, EARLIER_ATTEMPT_MS);
  const signal = cancellationSignal();
  const { device } = await models.versions();
  const sending = new CheckpointSending(
    async (checkpoint) => {
      await gang?.requireCurrent();
      await saveCheckpoint(store, stageKey, checkpoint);
    },
    ({ path }) => folderBytes(path),
    SENDING_SHARE[isCpu(device) ? 'cpu' : 'gpu'],
  );
  let latest: Progress<ProgressMetrics<O>> | undefined;
  const tell = (): void => {
    if (!latest) return;
    const { done, total, message, metrics } = latest;
    const details = { done, total, message: [message, sending.trouble].filter(Boolean).join('; '), metrics };
    // A policy update is one step of many in its stage.
    if (op === 'updatePolicy' || gang?.follows) reportProgress(details);
    else reportStageProgress(details, 'steps');
  };
  const send = async (how: () => Promise<void>): Promise<void> => {
    const before = sending.trouble;
    await how();
    if (sending.trouble === before) return;
    if (sending.trouble) log().warn(sending.trouble);
    // The next step may be minutes away.
    tell();
  };
  try {
    const result = await models.call(op, params({ checkpoints, ...(resume && { resumeFrom: resume.path }) }), {
      signal,
      onProgress: (progress) => {
        latest = progress;
        tell();
      },
      onCheckpoint: (checkpoint) => (gang?.follows ? Promise.resolve() : send(() => sending.take(checkpoint))),
    });
    leaveDevice();
    return result;
  } catch (error) {
    if (!signal.aborted && (await isGone(checkpoints)))
      throw new Error(
        'an equal training on this host has ended, and the checkpoints of both are removed: the next attempt finds ' +
          'its result',
        { cause: error },
      );
    // A cancellation ends other requests of an activity. This one is made because of it.
    await store.following(undefined, () => send(() => sending.sendNewest()));
    throw error;
  }
}

const isGone = (path: string): Promise<boolean> =>
  stat(path).then(
    () => false,
    () => true,
  );

/** Runs `use` with an empty work folder that is removed afterwards. */
export async function withWorkFolder<T>(store: ArtifactStore, use: (folder: string) => Promise<T>): Promise<T> {
  await store.sweepHost(LEFT_BEHIND_MS);
  const folder = await store.spoolPath('.work');
  await mkdir(folder, { recursive: true });
  // A training of days writes here at its beginning and its end only.
  const touch = setInterval(
    () => void utimes(folder, new Date(), new Date()).catch(() => undefined),
    LEFT_BEHIND_MS / 24,
  ).unref();
  try {
    return await use(folder);
  } finally {
    clearInterval(touch);
    await rm(folder, { recursive: true, force: true });
  }
}
