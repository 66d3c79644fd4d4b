/** Garbage collection of a store of its own, next to writers, killed in the middle, and of what killed workers left. */
import { randomBytes, randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'minio';
import { describe, expect, inject, it } from 'vitest';
import { objectKeys, sha256 } from '../../activities/artifacts/keys.js';
import { refOf } from '../../activities/artifacts/manifests.js';
import {
  createArtifactStore,
  storeOptionsFromEnvironment,
  type ArtifactStore,
} from '../../activities/artifacts/store.js';
import type { SweepResult } from '../../activities/garbage-collection/activities.js';
import { collectGarbage, type Collected, type Collection } from '../../activities/garbage-collection/collect.js';
import { StageFailure, type ManifestFile } from '../../workflows/contract/index.js';
import { breakingStore, startWorkflow, workerProcess } from '../fixtures/harness.js';
import { until } from '../fixtures/until.js';

const BLOBS = 'blobs/sha256/';
/** So that a writer need not wait for half a minute, and a blob is old after seconds. */
const TIMES = { refreshSeconds: 2, sweepSeconds: 6 };

/** Environment of a store that nobody else uses, in the bucket of the run. */
const ownStore = (): Record<string, string> => ({
  ...inject('environment'),
  ACECODER_S3_PREFIX: `garbage-${randomUUID()}`,
});

const storeOf = (environment: Record<string, string>): ArtifactStore =>
  createArtifactStore({
    ...storeOptionsFromEnvironment(environment, join(inject('stack').home, 'test-cache', randomUUID())),
    times: TIMES,
  });

async function put(store: ArtifactStore, content: string | Buffer): Promise<ManifestFile> {
  const path = await store.spoolPath();
  await writeFile(path, content);
  return store.putFile(path, 'rows.jsonl', { cached: false });
}

/** Stores an artifact of files, as a producer does. */
async function commit(store: ArtifactStore, files: ManifestFile[]): Promise<void> {
  const stageKey = sha256(randomUUID());
  const { won } = await store.commit(
    { kind: 'programs', stage: 'test', stageKey, files, inputs: {}, config: {}, metrics: {}, seconds: 0 },
    { workflowId: 'w', runId: 'r', activity: 'a', attempt: 1, host: 'h', package: 'p', versions: {} },
  );
  expect(won).toBe(true);
}

/** Waits until what was stored is old, and tells a time after it that some stores, too, tell in whole seconds. */
async function aged(): Promise<Date> {
  await sleep(TIMES.refreshSeconds * 1000 + 1_100);
  return new Date(Math.floor(Date.now() / 1000) * 1000);
}

/** Collects as the activity does: again where the host was too slow for the shorter times. */
async function collected(
  store: Parameters<typeof collectGarbage>[0],
  options: Partial<Collection>,
): Promise<Collected> {
  let resume: unknown;
  return until(
    async () => {
      try {
        return await collectGarbage(store, {
          id: randomUUID(),
          before: new Date(),
          checkpointsBefore: new Date(0),
          dryRun: false,
          sweepSeconds: TIMES.sweepSeconds,
          resume,
          onProgress: ({ state }) => {
            resume = state;
          },
          ...options,
        });
      } catch (error) {
        if (error instanceof StageFailure && error.type === 'StoreUnavailable') return undefined;
        throw error;
      }
    },
    (result) => result !== undefined,
  ) as Promise<Collected>;
}

describe('garbage collection', () => {
  it('next to writers spares what is written, reused, planned and named while it sweeps', async () => {
    const environment = ownStore();
    const [store, writer] = [storeOf(environment), storeOf(environment)];
    const contents = Array.from({ length: 60 }, (_, index) => `old ${index} ${randomUUID()}`);
    const old: ManifestFile[] = [];
    for (const content of contents) old.push(await put(writer, content));
    await commit(writer, old.slice(0, 10));
    await store.putJson(objectKeys.plan(sha256(randomUUID())), { shards: old.slice(10, 15) });
    await store.putJson(objectKeys.shard(sha256(randomUUID()), 0, 'judge'), { file: old[15] });
    const before = await aged();

    // Dry: it says what would go, and nothing goes.
    const dry = await collected(store, { before, dryRun: true });
    expect(dry.prefixes[BLOBS]).toMatchObject({ objects: 60, removed: 44 });
    expect(dry.prefixes['artifacts/']).toMatchObject({ objects: 1, removed: 0 });
    expect(await store.list(BLOBS)).toHaveLength(60);

    // At the worst moment, when a listing has shown the old blob and it is about to go, a writer sends it again.
    const reused = 20;
    const { sha256: victim } = old[reused]!;
    let reusing: Promise<ManifestFile> | undefined;
    const racing: ArtifactStore = {
      ...store,
      remove: async (keys) => {
        if (!reusing && keys.includes(objectKeys.blob(victim))) {
          reusing = put(writer, contents[reused]!);
          await until(
            () => store.blobTime(victim),
            (time) => time !== undefined && time >= before,
          );
        }
        await store.remove(keys);
      },
    };
    const written: ManifestFile[] = [];
    let isSwept = false;
    const writing = (async () => {
      for (let index = 0; !isSwept || index < 5; index += 1) {
        const file = await put(writer, `new ${index} ${randomUUID()}`);
        await commit(writer, [file]);
        written.push(file);
      }
    })();
    const { prefixes } = await collected(racing, { before });
    isSwept = true;
    await writing;
    const again = await reusing!;
    await commit(writer, [again]);
    expect(prefixes[BLOBS]!.removed).toBeGreaterThanOrEqual(43);
    const reader = storeOf(environment);
    for (const file of [...old.slice(0, 16), again, ...written]) await expect(reader.fetch(file)).resolves.toBeTruthy();
    const names = await store.keys(BLOBS);
    expect(old.slice(16).filter((file) => names.has(objectKeys.blob(file.sha256)))).toEqual([old[reused]]);
    expect(await store.list('sweeps/')).toEqual([]);
  });

  it('goes on where a killed attempt was, and reads no document twice', async () => {
    const environment = ownStore();
    const store = storeOf(environment);
    for (let index = 0; index < 12; index += 1)
      await store.putJson(objectKeys.plan(sha256(randomUUID())), { shards: [await put(store, `named ${index}`)] });
    for (let index = 0; index < 5; index += 1) await put(store, `garbage ${index}`);
    await aged();
    // The removal of the first page breaks off, and with it the attempt. The other removals are those of notices.
    let [removals, documents] = [0, 0];
    const breaking = await breakingStore(({ method, url = '' }) => {
      if (method === 'GET' && /plans\/[0-9a-f]{64}\.json/.test(url)) documents += 1;
      if (method === 'POST' && /[?&]delete/.test(url)) removals += 1;
      return method === 'POST' && removals === 2;
    });
    const queue = `garbage-${randomUUID().slice(0, 8)}`;
    const worker = workerProcess(
      queue,
      {
        ...environment,
        ACECODER_S3_ENDPOINT: breaking.environment['ACECODER_S3_ENDPOINT']!,
        ACECODER_STORE_RETRY_SECONDS: '0.01',
      },
      'pipeline',
    );
    try {
      const handle = await startWorkflow(
        'garbageCollection',
        { minimumAgeHours: 0.0005, dryRun: false },
        { taskQueue: queue },
      );
      const result = (await handle.result()) as SweepResult;
      expect(result).toMatchObject({ documents: 12, blobs: 17 + 1, swept: 5 });
      expect(removals).toBeGreaterThan(2);
      expect(documents).toBe(12);
      expect(await store.list(BLOBS)).toHaveLength(12 + 1);
    } finally {
      breaking.close();
      await worker.stop();
    }
  });

  it('removes checkpoints that nobody comes back to, and parts of an upload that nobody ends', async () => {
    const environment = ownStore();
    const store = storeOf(environment);
    const [going, finished] = [sha256(randomUUID()), sha256(randomUUID())];
    for (const key of [going, finished])
      for (const step of [1, 2, 3, 4])
        await store.putJson(objectKeys.checkpoint(key, step), { step, files: [await put(store, `${key} ${step}`)] });
    const model = await put(store, randomBytes(100));
    const { manifest } = await store.commit(
      {
        kind: 'model',
        stage: 't',
        stageKey: finished,
        files: [model],
        inputs: {},
        config: {},
        metrics: {},
        seconds: 0,
      },
      { workflowId: 'w', runId: 'r', activity: 'a', attempt: 1, host: 'h', package: 'p', versions: {} },
    );
    // A killed worker: neither its upload nor the note about it is removed.
    const away = await breakingStore(
      ({ method, url = '' }) => url.includes('partNumber=2') || method === 'DELETE' || /[?&]delete/.test(url),
    );
    const killed = storeOf({ ...environment, ACECODER_S3_ENDPOINT: away.environment['ACECODER_S3_ENDPOINT']! });
    const large = randomBytes(40 * 1024 * 1024);
    await expect(put(killed, large)).rejects.toMatchObject({ type: 'StoreUnavailable' });
    away.close();
    const { endpoint, bucket, accessKey, secretKey } = inject('stack').s3;
    const { hostname, port } = new URL(endpoint);
    const s3 = new Client({ endPoint: hostname, port: Number(port), useSSL: false, accessKey, secretKey });
    const upload = `${environment['ACECODER_S3_PREFIX']}/${objectKeys.blob(sha256(large))}`;
    expect(await s3.findUploadId(bucket, upload)).toBeTruthy();
    expect(await store.list('uploads/')).toHaveLength(1);

    const { prefixes } = await collected(store, { before: await aged() });
    expect(prefixes['checkpoints/']!.removed).toBe(2 + 4);
    expect(prefixes['uploads/']!.removed).toBe(1);
    expect(await s3.findUploadId(bucket, upload)).toBeUndefined();
    expect(await store.list('uploads/')).toEqual([]);
    const steps = (await store.list(objectKeys.checkpoints(going))).map(({ key }) => key);
    expect(steps).toEqual([3, 4].map((step) => objectKeys.checkpoint(going, step)));
    expect(await store.list(objectKeys.checkpoints(finished))).toEqual([]);
    // What they named went with them: two files of the training that goes on, the model's, and the marks.
    expect(await store.list(BLOBS)).toHaveLength(2 + 1 + 1);
    await expect(storeOf(environment).materialise(refOf(manifest))).resolves.toBeTruthy();
  });
});
