/**
 * What a worker needs before it can work: a Temporal server with its namespace, a store with its bucket, room on the
 * disk. The worker waits for what is missing, and says so with the address and the variable.
 */
import { mkdir, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { NativeConnection } from '@temporalio/worker';
import { UnfitStore } from '../activities/artifacts/objects.js';
import type { ArtifactStore } from '../activities/artifacts/store.js';
import { shellWord } from '../workflows/contract/index.js';

/** Conditions by name. Each gives the obstacle as a sentence, or undefined when it holds. */
export type Conditions = Record<string, () => Promise<string | undefined>>;

interface Waiting {
  /** Seconds after which waiting ends in an error; without it the waiting has no limit. */
  seconds?: number | undefined;
  log: (line: string) => void;
  signal: AbortSignal;
  /** Longest time between two looks, in seconds. */
  maximumPauseSeconds?: number;
}

/** Timeout of one look at a condition. */
const LOOK_SECONDS = 20;

/**
 * Returns when all conditions hold. Tells each change of a condition in one line, and looks again after 1, 2, 4, … s.
 *
 * @throws Error that names what is still missing when `seconds` are over; the signal's reason when it is aborted.
 */
export async function waitFor(
  conditions: Conditions,
  { seconds = Infinity, log, signal, maximumPauseSeconds = 15 }: Waiting,
): Promise<void> {
  const deadline = performance.now() + seconds * 1000;
  const told = new Map<string, string>();
  for (let pause = 1; ; pause = Math.min(2 * pause, maximumPauseSeconds)) {
    await Promise.all(
      Object.entries(conditions).map(async ([name, look]) => {
        const obstacle = await looked(look, signal);
        if (obstacle === told.get(name)) return;
        if (obstacle === undefined) {
          told.delete(name);
          log(`${name}: all right now`);
        } else {
          told.set(name, obstacle);
          log(`${name}: ${obstacle}`);
        }
      }),
    );
    signal.throwIfAborted();
    if (told.size === 0) return;
    const left = deadline - performance.now();
    if (left <= 0)
      throw new Error(
        `Waited ${seconds} s and gave up: ${[...told].map(([name, obstacle]) => `${name}: ${obstacle}`).join(' ')}`,
      );
    await sleep(Math.min(pause * 1000, left), undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

/** The obstacle that a look finds, or that it takes too long. Of an error its message. */
export async function looked(
  look: () => Promise<string | undefined>,
  signal: AbortSignal,
): Promise<string | undefined> {
  const looked = new AbortController();
  const limit = sleep(LOOK_SECONDS * 1000, `no answer in ${LOOK_SECONDS} s`, {
    signal: AbortSignal.any([signal, looked.signal]),
  }).catch(() => undefined);
  try {
    return await Promise.race([look(), limit]);
  } finally {
    looked.abort();
  }
}

const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600 };

/** Seconds of a duration such as `60s`, `5m` or `1h`. @throws Error that says the form. */
export function parseDuration(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(s|m|h)$/.exec(text) ?? [];
  if (number === undefined)
    throw new Error(`--wait is ${JSON.stringify(text)}; give a duration such as 60s, 5m or 1h.`);
  return Number(number) * UNIT_SECONDS[unit!]!;
}

/** A Temporal server to wait for. The first look that finds it connects. */
export class TemporalServer {
  #connection: NativeConnection | undefined;

  constructor(
    private readonly options: Parameters<typeof NativeConnection.connect>[0] & { address: string },
    private readonly namespace: string,
  ) {}

  /** The connection. @throws Error before {@link obstacle} has found the server. */
  get connection(): NativeConnection {
    if (!this.#connection) throw new Error(`there is no connection to ${this.options.address} yet`);
    return this.#connection;
  }

  /** Why the server or its namespace cannot be used. */
  async obstacle(): Promise<string | undefined> {
    const { address } = this.options;
    try {
      this.#connection ??= await NativeConnection.connect(this.options);
      await this.#connection.withDeadline(Date.now() + LOOK_SECONDS * 1000, () =>
        this.connection.workflowService.describeNamespace({ namespace: this.namespace }),
      );
      return undefined;
    } catch (error) {
      const text = (error as Error).message;
      const code = (error as { code?: number }).code ?? (error as { cause?: { code?: number } }).cause?.code;
      if (code === 5 || /namespace .*not found/i.test(text)) {
        return (
          `the server at ${address} has no namespace '${this.namespace}' (TEMPORAL_NAMESPACE or profile). ` +
          `To create: temporal operator namespace create --namespace ${shellWord(this.namespace)}`
        );
      }
      if (code === 7 || code === 16)
        return (
          `the server at ${address} refuses this worker for namespace '${this.namespace}' ` +
          `(TEMPORAL_API_KEY, TEMPORAL_TLS_* or profile): ${firstLine(text)}`
        );
      const reason = /message: "([^"]+)"/.exec(text)?.[1] ?? firstLine(text);
      return `no server answers at ${address} (TEMPORAL_ADDRESS or profile): ${reason}`;
    }
  }

  async close(): Promise<void> {
    await this.#connection?.close();
  }
}

/** Why the store cannot be used; undefined where it can. @throws UnfitStore where no waiting makes it usable. */
export async function storeObstacle(store: Pick<ArtifactStore, 'check'>): Promise<string | undefined> {
  return store.check().then(
    () => undefined,
    (error: Error) => {
      if (error instanceof UnfitStore) throw error;
      return error.message;
    },
  );
}

/** Room that the cache folder must have: enough for a batch of spooled rows and a checkpoint of a small model. */
const MINIMUM_FREE_BYTES = 512 * 1024 * 1024;

/** Why nothing can be written to the folder of the cache; undefined where it can. */
export async function diskObstacle(folder: string, minimumFreeBytes = MINIMUM_FREE_BYTES): Promise<string | undefined> {
  const probe = join(folder, `.probe-${process.pid}`);
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(probe, Buffer.alloc(4096));
    const { bavail, bsize } = await statfs(folder);
    const free = bavail * bsize;
    const mebibytes = (bytes: number): number => Math.floor(bytes / 1024 ** 2);
    return free < minimumFreeBytes
      ? `the disk of ${folder} (ACECODER_HOME) is full: ` +
          `${mebibytes(free)} MiB are free, ${mebibytes(minimumFreeBytes)} MiB are needed`
      : undefined;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return code === 'ENOSPC' || code === 'EDQUOT'
      ? `the disk of ${folder} (ACECODER_HOME) is full`
      : `nothing can be written to ${folder} (ACECODER_HOME): ${message}`;
  } finally {
    await rm(probe, { force: true }).catch(() => undefined);
  }
}

function firstLine(text: string): string {
  return text.split('\n')[0]!;
}
