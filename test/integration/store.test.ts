/** The store's promises against a real MinIO. */
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  readlinkSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'minio';
import { describe, expect, inject, it, vi } from 'vitest';
import { z } from 'zod';
import { collect } from '../../activities/artifacts/collections.js';
import { holdingFiles } from '../../activities/artifacts/holds.js';
import { objectKeys, sha256 } from '../../activities/artifacts/keys.js';
import { Documents, MODEL_DOCUMENTS, neededBlobs, prunedParts, sweep } from '../../activities/artifacts/pruning.js';
import type { PrunedDocument } from '../../activities/artifacts/pruned.js';
import { RowIndex } from '../../activities/artifacts/row-index.js';
import { refOf, type Draft } from '../../activities/artifacts/manifests.js';
import {
  createArtifactStore,
  storeOptionsFromEnvironment,
  type ArtifactStore,
} from '../../activities/artifacts/store.js';
import {
  dropCheckpoints,
  newestOnHost,
  restoreCheckpoint,
  saveCheckpoint,
  train,
} from '../../activities/runtime/checkpoints.js';
import type { Params, RuntimeOperation } from '../../activities/runtime/operations.js';
import type { PythonProcess } from '../../activities/runtime/python-service.js';
import { type ArtifactRef, type Manifest, type ManifestFile, type Producer } from '../../workflows/contract/index.js';
import { Attempt } from '../fixtures/attempt.js';
import { Gate } from '../fixtures/gate.js';
import { artifactStore, breakingStore } from '../fixtures/harness.js';

const Row = z.strictObject({ id: z.string(), value: z.number() });

const producer = (workflowId: string): Producer => ({
  workflowId,
  runId: '',
  activity: 'test',
  attempt: 1,
  host: 'host',
  package: 'test',
  versions: {},
});

const draft = (stageKey: string, files: ManifestFile[]): Draft => ({
  kind: 'programs',
  stage: 'sampling',
  stageKey,
  files,
  inputs: {},
  config: {},
  metrics: {},
  seconds: 0,
});

function minio(): { client: Client; bucket: string } {
  const { endpoint, bucket, accessKey, secretKey } = inject('stack').s3;
  const { hostname, port } = new URL(endpoint);
  return {
    client: new Client({ endPoint: hostname, port: Number(port), useSSL: false, accessKey, secretKey }),
    bucket,
  };
}

/** A blob as it lies in the store. */
async function bytesOf(file: ManifestFile): Promise<Buffer> {
  const { client, bucket } = minio();
  return Buffer.concat(
    await collect((await client.getObject(bucket, objectKeys.blob(file.sha256))) as AsyncIterable<Buffer>),
  );
}

describe('rows', () => {
  it('come back as they were written, from another host', async () => {
    const rows = Array.from({ length: 5_000 }, (_, index) => ({ id: `row ${index} é \u2028`, value: index / 3 }));
    const file = await artifactStore().putRows('rows.jsonl', Row, rows);
    expect(file.rows).toBe(5_000);
    expect(await collect(artifactStore().readRows([file], Row))).toEqual(rows);
  });

  it('go into several files in one pass', async () => {
    const rows = Array.from({ length: 20_000 }, (_, index) => ({ id: `row ${index}`, value: index }));
    const store = artifactStore();
    const files = await store.putRowsByFile(['odd.jsonl', 'even.jsonl', 'none.jsonl'], Row, rows, ({ value }) =>
      value % 2 === 1 ? 0 : 1,
    );
    expect(files.map(({ name, rows: count }) => [name, count])).toEqual([
      ['odd.jsonl', 10_000],
      ['even.jsonl', 10_000],
      ['none.jsonl', 0],
    ]);
    expect(await collect(artifactStore().readRows([files[1]!], Row))).toEqual(
      rows.filter(({ value }) => value % 2 === 0),
    );
    expect(files[0]!.sha256).toBe(
      (
        await store.putRows(
          'rows.jsonl',
          Row,
          rows.filter(({ value }) => value % 2 === 1),
        )
      ).sha256,
    );
  });

  it('that do not fit the schema are refused by name and number', async () => {
    await expect(
      artifactStore().putRows('rows.jsonl', Row, [{ id: 'a', value: 1 }, { id: 'b' } as never]),
    ).rejects.toThrow(/rows\.jsonl, row 1: value/);
  });
});

describe('the index of rows by seed', () => {
  it('reads the rows of some seeds alone, in their order, from all files', async () => {
    const Sample = z.strictObject({ seedId: z.string(), text: z.string() });
    const store = artifactStore();
    const rows = Array.from({ length: 3_000 }, (_, index) => ({
      seedId: `seed ${index % 500} é`,
      text: `text ${index} \u2028 ö`,
    }));
    const files = [
      await store.putRows('rows-0.jsonl', Sample, rows.slice(0, 2_000)),
      await store.putRows('rows-1.jsonl', Sample, rows.slice(2_000)),
    ];
    const { manifest } = await store.commit(draft(sha256(randomUUID()), files), producer('w'));
    const index = await RowIndex.of(artifactStore(), refOf(manifest));
    expect(await index.rowsOf(['seed 7 é', 'no such seed'], Sample)).toEqual(
      new Map([
        ['seed 7 é', rows.filter(({ seedId }) => seedId === 'seed 7 é')],
        ['no such seed', []],
      ]),
    );
    expect((await index.rowsOf(['seed 499 é'], Sample, 2)).get('seed 499 é')).toEqual([rows[499], rows[999]]);
  });
});

describe('commit', () => {
  it('has one winner of sixteen racing writers, and all return its manifest', async () => {
    const store = artifactStore();
    const key = sha256(randomUUID());
    const drafts = await Promise.all(
      Array.from({ length: 16 }, async (_, index) =>
        draft(key, [await store.putRows('rows.jsonl', Row, [{ id: 'x', value: index }])]),
      ),
    );
    const results = await Promise.all(drafts.map((each, index) => store.commit(each, producer(`writer-${index}`))));
    expect(results.filter(({ won }) => won)).toHaveLength(1);
    expect(new Set(results.map(({ manifest }) => manifest.digest)).size).toBe(1);
    const late = await store.commit(drafts[0]!, producer('zombie'));
    expect(late.won).toBe(false);
    expect(late.manifest).toEqual(results[0]!.manifest);
  });

  it('refuses a manifest whose blob is not stored', async () => {
    const file: ManifestFile = { name: 'rows.jsonl', sha256: sha256(randomUUID()), bytes: 1, encoding: 'gzip' };
    await expect(artifactStore().commit(draft(sha256(randomUUID()), [file]), producer('w'))).rejects.toMatchObject({
      type: 'StoreUnavailable',
    });
  });
});

describe('a damaged blob', () => {
  async function stored(store: ArtifactStore): Promise<ManifestFile> {
    return store.putRows('rows.jsonl', Row, [{ id: randomUUID(), value: 1 }]);
  }

  it('with other bytes is found and named', async () => {
    const file = await stored(artifactStore());
    const other = await artifactStore().putRows('rows.jsonl', Row, [{ id: randomUUID(), value: 2 }]);
    const { client, bucket } = minio();
    await client.putObject(bucket, objectKeys.blob(file.sha256), await bytesOf(other));
    await expect(collect(artifactStore().readRows([file], Row))).rejects.toMatchObject({
      type: 'ArtifactCorrupt',
      message: expect.stringContaining(file.sha256),
    });
  });

  it('that is cut or gone is found and named', async () => {
    const { client, bucket } = minio();
    const cut = await stored(artifactStore());
    await client.putObject(bucket, objectKeys.blob(cut.sha256), Buffer.from([0x1f, 0x8b, 8]));
    await expect(collect(artifactStore().readRows([cut], Row))).rejects.toMatchObject({ type: 'ArtifactCorrupt' });
    const gone = await stored(artifactStore());
    await client.removeObject(bucket, objectKeys.blob(gone.sha256));
    await expect(collect(artifactStore().readRows([gone], Row))).rejects.toMatchObject({
      type: 'ArtifactCorrupt',
      message: expect.stringContaining('missing'),
    });
  });
});

describe('a checkpoint', () => {
  it('that is cut in half is passed over for the one before', async () => {
    const { client, bucket } = minio();
    const key = sha256(randomUUID());
    const work = mkdtempSync(join(tmpdir(), 'acecoder-checkpoints-'));
    const restored = join(work, 'restored');
    const position = (step: number): string => readFileSync(join(restored, `checkpoint-${step}`, 'position'), 'utf8');
    try {
      for (const step of [10, 20]) {
        const folder = join(work, `checkpoint-${step}`);
        mkdirSync(folder);
        writeFileSync(join(folder, 'weights'), randomBytes(1000));
        writeFileSync(join(folder, 'position'), `${step}`);
        await saveCheckpoint(artifactStore(), key, { step, path: folder });
      }
      expect(await restoreCheckpoint(artifactStore(), key, restored)).toEqual({
        step: 20,
        path: join(restored, 'checkpoint-20'),
      });
      expect(position(20)).toBe('20');
      const weights = (await artifactStore().putFolder(join(work, 'checkpoint-20'))).find(
        ({ name }) => name === 'weights',
      )!;
      await client.putObject(bucket, objectKeys.blob(weights.sha256), (await bytesOf(weights)).subarray(0, 500));
      expect(await restoreCheckpoint(artifactStore(), key, restored)).toEqual({
        step: 10,
        path: join(restored, 'checkpoint-10'),
      });
      expect(position(10)).toBe('10');
      expect(
        await restoreCheckpoint(artifactStore(), key, restored, 10),
        'one that is no newer than what a host has',
      ).toBeUndefined();
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
});

describe('two equal trainings on one host', () => {
  it('do not fail each other: the one goes on that the other leaves behind, and both end well', async () => {
    const store = artifactStore();
    const key = sha256(randomUUID());
    // Both run at once, and the second one resumes from what the first one wrote.
    const [firstWrote, firstEnded, secondBegan] = [new Gate(), new Gate(), new Gate()];
    const folders: { checkpoints: string; resumeFrom?: string }[] = [];
    const training = (run: (checkpoints: string) => Promise<void>) =>
      new Attempt({ activityType: 'rewardModel.train', idle: 60 }).run(async () => {
        const models = {
          versions: () => Promise.resolve({ device: 'cpu' }),
          call: (_op: string, { checkpoints }: { checkpoints: string }) => run(checkpoints),
        } as unknown as PythonProcess<RuntimeOperation>;
        await train({ store, models }, key, 'trainRewardModel', (given) => {
          folders.push(given);
          return given as unknown as Params<'trainRewardModel'>;
        });
        await dropCheckpoints(store, key);
      });
    const checkpoint = (checkpoints: string, step: number): void => {
      mkdirSync(join(checkpoints, `checkpoint-${step}`));
      writeFileSync(join(checkpoints, `checkpoint-${step}`, 'weights'), String(step));
    };
    const first = training(async (checkpoints) => {
      checkpoint(checkpoints, 1);
      firstWrote.open();
      await secondBegan.passed();
      // As the runtime does that has newer ones.
      rmSync(join(checkpoints, 'checkpoint-1'), { recursive: true });
      checkpoint(checkpoints, 2);
    });
    await firstWrote.passed();
    const second = training(async (checkpoints) => {
      secondBegan.open();
      await firstEnded.passed();
      expect(readFileSync(join(checkpoints, 'checkpoint-1', 'weights'), 'utf8')).toBe('1');
      checkpoint(checkpoints, 3);
    });
    await first;
    expect(folders.map(({ checkpoints }) => existsSync(checkpoints))).toEqual([false, true]);
    firstEnded.open();
    await second;
    expect(folders.map(({ resumeFrom }) => resumeFrom !== undefined)).toEqual([false, true]);
    expect(existsSync(store.hostPath('checkpoints', key)), 'the last one leaves nothing').toBe(false);
  });

  it('are told by their process: what a killed attempt left goes with the end of another one', async () => {
    const store = artifactStore();
    const key = sha256(randomUUID());
    const namespace = readlinkSync('/proc/self/ns/pid');
    const stat = readFileSync('/proc/self/stat', 'utf8');
    const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    const attempts = {
      'runs here': { owner: `${namespace} ${process.pid} ${started}`, stays: true },
      'had the number of another process': { owner: `${namespace} ${process.pid} 1`, stays: false },
      'was killed here': { owner: `${namespace} 99999999 1`, stays: false },
      'runs in another container': { owner: 'pid:[1] 1 1', stays: true },
      'was killed in another container': { owner: 'pid:[1] 1 1', stays: false, touched: 0 },
    };
    const folderOf = (name: string): string => store.hostPath('checkpoints', key, 'boot', name);
    for (const [name, { owner, ...attempt }] of Object.entries(attempts)) {
      mkdirSync(folderOf(name), { recursive: true });
      writeFileSync(join(folderOf(name), 'in-use'), owner);
      if ('touched' in attempt) utimesSync(join(folderOf(name), 'in-use'), 0, 0);
    }
    await dropCheckpoints(store, key);
    for (const [name, { stays }] of Object.entries(attempts)) expect(existsSync(folderOf(name)), name).toBe(stays);
  });
});

describe('what killed workers left on a host', () => {
  it('goes when nothing in it was touched for a time, and stays while somebody works in it', async () => {
    const store = artifactStore();
    const [old, young, checkpoint] = [
      await store.spoolPath('.work'),
      await store.spoolPath('.work'),
      store.hostPath('checkpoints', 'key', 'boot', 'attempt', 'checkpoint-1'),
    ];
    for (const folder of [old, young, checkpoint]) mkdirSync(folder, { recursive: true });
    await sleep(300);
    const between = Date.now() - 150;
    writeFileSync(join(young, 'weights'), '');
    // Time stands still meanwhile: what was touched before `between` is old, however long this host takes.
    const now = Date.now();
    vi.useFakeTimers({ toFake: ['Date'], now });
    try {
      await store.sweepHost(now - between);
    } finally {
      vi.useRealTimers();
    }
    expect([old, young, checkpoint].map((path) => existsSync(path))).toEqual([false, true, false]);
  });

  it('gives the newest whole checkpoint of this boot, whatever attempt wrote it', async () => {
    const boot = artifactStore().hostPath('checkpoints', 'key', 'boot');
    expect(await newestOnHost(boot)).toBeUndefined();
    for (const name of ['first/checkpoint-9', 'second/checkpoint-10', 'second/checkpoint-11.part', 'third'])
      mkdirSync(join(boot, name), { recursive: true });
    expect(await newestOnHost(boot)).toEqual({ step: 10, path: join(boot, 'second', 'checkpoint-10') });
  });
});

describe('folders', () => {
  it('are stored once: an equal file costs no second blob', async () => {
    const store = artifactStore();
    const [a, b] = [await store.spoolPath(), await store.spoolPath()];
    const bytes = randomBytes(100_000);
    await Promise.all([writeFile(a, bytes), writeFile(b, bytes)]);
    const files = [await store.putFile(a, 'a.bin'), await store.putFile(b, 'folder/b.bin')];
    expect(files[0]!.sha256).toBe(files[1]!.sha256);
    const { manifest } = await store.commit(draft(sha256(randomUUID()), files), producer('w'));
    const folder = await artifactStore().materialise(refOf(manifest));
    const { readFile } = await import('node:fs/promises');
    expect(await readFile(`${folder}/folder/b.bin`)).toEqual(bytes);
  });
});

describe('a large file', () => {
  const bytes = randomBytes(70 * 1024 * 1024);

  it('goes in parts and comes back as it was', async () => {
    const store = artifactStore();
    const path = await store.spoolPath();
    await writeFile(path, bytes);
    const file = await store.putFile(path, 'weights.bin');
    expect(file).toMatchObject({ bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') });
    expect(readFileSync(await artifactStore().fetch(file)).equals(bytes)).toBe(true);
  });

  it('whose sending breaks off leaves no parts, and is sent by the next attempt', async () => {
    const { client, bucket } = minio();
    const other = Buffer.from(bytes);
    other.writeUInt32LE(7, 0);
    let breaks = true;
    const away = await breakingStore(({ url }) => breaks && url!.includes('partNumber=2'));
    try {
      const store = artifactStore(away.environment);
      const path = await store.spoolPath();
      await writeFile(path, other);
      await expect(store.putFile(path, 'weights.bin')).rejects.toMatchObject({ type: 'StoreUnavailable' });
      const blob = objectKeys.blob(createHash('sha256').update(other).digest('hex'));
      expect(await client.findUploadId(bucket, blob)).toBeUndefined();
      breaks = false;
      const file = await store.putFile(path, 'weights.bin');
      expect(readFileSync(await artifactStore().fetch(file)).equals(other)).toBe(true);
    } finally {
      away.close();
    }
  });
});

describe('pruning', () => {
  const marker: PrunedDocument = {
    workflowId: 'pruner',
    at: '2026-01-01T00:00:00Z',
    policy: 'round 1, keepRounds 1',
    advice: 'Take a newer round.',
  };

  async function policy(
    store: ArtifactStore,
    files: Record<string, Buffer>,
    kind: Draft['kind'] = 'policy',
  ): Promise<{ manifest: Manifest; ref: ArtifactRef }> {
    const stored: ManifestFile[] = [];
    for (const [name, bytes] of Object.entries(files)) {
      const path = await store.spoolPath();
      await writeFile(path, bytes);
      stored.push(await store.putFile(path, name));
      await rm(path);
    }
    const { manifest } = await store.commit({ ...draft(sha256(randomUUID()), stored), kind }, producer('w'));
    return { manifest, ref: refOf(manifest) };
  }

  const inFuture = new Date(Date.now() + 3_600_000);
  /** What garbage collection and pruning do with blobs of `of`, were they old. */
  async function sweepBlobsOf(store: ArtifactStore, of: Manifest, before: Date): Promise<number> {
    const pruned = await prunedParts(store);
    const needed = neededBlobs(await new Documents(store, MODEL_DOCUMENTS).read(), pruned);
    return (await sweep(store, of.files, { needed, before })).swept;
  }

  it('takes what is marked, old and named by nothing else, and a reader is told by whom and why', async () => {
    const store = artifactStore();
    const shared = randomBytes(1_000);
    const { manifest, ref } = await policy(store, {
      'model.safetensors': randomBytes(1_000),
      'config.json': shared,
      'training-state/optimizer.safetensors': randomBytes(2_000),
    });
    const other = await policy(store, { 'config.json': shared });
    expect(await sweepBlobsOf(store, manifest, inFuture), 'unmarked').toBe(0);

    await store.putJson(objectKeys.pruned(ref.key, 'trainingState'), marker);
    expect(await sweepBlobsOf(store, manifest, new Date(Date.now() - 60_000)), 'young').toBe(0);
    expect(await sweepBlobsOf(store, manifest, inFuture)).toBe(1);
    const reader = artifactStore();
    await expect(reader.materialise(ref)).resolves.toBeTruthy();
    await expect(reader.materialise(ref, { trainingState: true })).rejects.toMatchObject({
      type: 'ArtifactPruned',
      message: expect.stringContaining('(its training-state) was pruned'),
    });
    await expect(reader.wholeManifest(ref)).resolves.toEqual(manifest);

    await store.putJson(objectKeys.pruned(ref.key, 'all'), marker);
    expect(await sweepBlobsOf(store, manifest, inFuture), 'the shared blob stays').toBe(1);
    expect(await sweepBlobsOf(store, manifest, inFuture), 'again').toBe(0);
    const failure = {
      type: 'ArtifactPruned',
      details: [ref.key],
      message:
        `${ref.key} was pruned at 2026-01-01T00:00:00Z by pruner (round 1, keepRounds 1); ` +
        'its manifest stays. Take a newer round.',
    };
    await expect(artifactStore().materialise(ref)).rejects.toMatchObject(failure);
    await expect(artifactStore().wholeManifest(ref)).rejects.toMatchObject(failure);
    expect(await store.manifest(ref)).toEqual(manifest);
    await expect(artifactStore().materialise(other.ref)).resolves.toBeTruthy();
  });

  it('spares a blob that somebody touches to name it', async () => {
    const store = artifactStore();
    const { manifest, ref } = await policy(store, { 'model.safetensors': randomBytes(1_000) });
    await store.putJson(objectKeys.pruned(ref.key, 'all'), marker);
    const [file] = manifest.files;
    const stored = (await store.blobTime(file!.sha256))!;
    const later = new Date(stored.getTime() + 1_000);
    vi.useFakeTimers({ toFake: ['Date'], now: stored.getTime() + 700_000 });
    try {
      // By its clock, the blob is 12 minutes old, and the commit of a model brings its time up to date.
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      expect(await store.missingBlob(manifest.files, { fresh: true })).toBeUndefined();
    } finally {
      vi.useRealTimers();
    }
    expect((await store.blobTime(file!.sha256))!.getTime()).toBeGreaterThanOrEqual(later.getTime());
    expect((await sweep(store, manifest.files, { needed: new Set(), before: later })).swept).toBe(0);
    await expect(artifactStore().fetch(file!)).resolves.toBeTruthy();
  });

  it('leaves the local cache too, but for what others use', async () => {
    const store = artifactStore();
    const shared = randomBytes(1_000);
    const gone = await policy(store, { 'model.safetensors': randomBytes(1_000), 'config.json': shared });
    const used = await policy(store, { 'config.json': shared });
    const [folder, other] = [await store.materialise(gone.ref), await store.materialise(used.ref)];
    const cached = await Promise.all(gone.manifest.files.map((file) => store.fetch(file)));
    await store.forget(gone.ref);
    expect([folder, other, ...cached].map((path) => existsSync(path))).toEqual([
      false,
      true,
      ...gone.manifest.files.map(({ name }) => name === 'config.json'),
    ]);
    expect(await store.materialise(gone.ref)).toBe(folder);
  });
});

describe('the budget of a cache', () => {
  const MEGABYTE = 1_000_000;

  /** A store whose cache holds three blobs, six blobs of one megabyte that are in the store. */
  async function bounded(): Promise<{ store: ArtifactStore; another: () => ArtifactStore; blobs: ManifestFile[] }> {
    const source = artifactStore();
    const blobs: ManifestFile[] = [];
    for (let index = 0; index < 6; index += 1) {
      const path = await source.spoolPath();
      await writeFile(path, randomBytes(MEGABYTE));
      blobs.push(await source.putFile(path, `${index}.bin`, { cached: false }));
    }
    const cache = join(inject('stack').home, 'test-cache', randomUUID());
    const options = storeOptionsFromEnvironment({ ...inject('environment'), ACECODER_CACHE_GB: '0.0034' }, cache);
    const another = (): ArtifactStore => createArtifactStore(options);
    return { store: another(), another, blobs };
  }

  /** As if nobody had used a path for an hour, or for some minutes less. */
  const age = (path: string, less = 0): Promise<void> => {
    const then = new Date(Date.now() - 3_600_000 + less * 60_000);
    return utimes(path, then, then);
  };
  const there = (paths: readonly string[]): boolean[] => paths.map((path) => existsSync(path));

  it('is kept by removing what was used longest ago, which is fetched again when it is needed', async () => {
    const { store, blobs } = await bounded();
    const paths: string[] = [];
    for (const blob of blobs.slice(0, 3)) paths.push(await store.fetch(blob));
    for (const [index, path] of paths.entries()) await age(path, index);
    await store.fetch(blobs[0]!);
    paths.push(await store.fetch(blobs[3]!));
    expect(there(paths)).toEqual([true, false, true, true]);
    expect(await store.fetch(blobs[1]!)).toBe(paths[1]);
    expect(there(paths)).toEqual([true, true, false, true]);
  });

  it('leaves what was used lately, by whatever process, even where that is more', async () => {
    const { store, another, blobs } = await bounded();
    const paths: string[] = [];
    for (const [index, blob] of blobs.entries()) paths.push(await (index % 2 ? store : another()).fetch(blob));
    expect(there(paths)).toEqual(paths.map(() => true));
  });

  it('leaves what an activity holds, for as long as it runs', async () => {
    const { store, another, blobs } = await bounded();
    const paths: string[] = [];
    await holdingFiles(async () => {
      paths.push(await store.fetch(blobs[0]!));
      await age(paths[0]!);
      for (const blob of blobs.slice(1, 4)) paths.push(await another().fetch(blob));
      expect(there(paths)).toEqual([true, true, true, true]);
    });
    await another().fetch(blobs[4]!);
    expect(there(paths)).toEqual([false, true, true, true]);
  });

  it('counts links once, and removes a folder together with the blobs that it alone has', async () => {
    const { store, another, blobs } = await bounded();
    const artifact = async (files: ManifestFile[]): Promise<ArtifactRef> =>
      refOf((await store.commit(draft(sha256(randomUUID()), files), producer('w'))).manifest);
    const [first, second] = [await artifact(blobs.slice(0, 2)), await artifact(blobs.slice(1, 3))];
    const folders = [await store.materialise(first), await store.materialise(second)];
    const reading = openSync(join(folders[0]!, '0.bin'), 'r');
    const stamp = statSync(join(folders[1]!, '1.bin')).mtimeMs;
    await age(folders[0]!);
    const cached = blobs.map(({ sha256: digest }) => join(dirname(dirname(folders[0]!)), 'blobs', digest));
    await another().fetch(blobs[3]!);
    expect(there(folders)).toEqual([false, true]);
    expect(there(cached), 'a blob of the folder that stays').toEqual([false, true, true, true, false, false]);
    expect(statSync(join(folders[1]!, '1.bin')).mtimeMs, 'the runtime knows changed weights by it').toBe(stamp);
    expect(readSync(reading, Buffer.alloc(10)), 'what is open goes on').toBe(10);
    closeSync(reading);
    expect(await store.materialise(first)).toBe(folders[0]);
    expect(there(cached).slice(0, 2)).toEqual([true, true]);
  });

  it('is a number above 0', () => {
    for (const text of ['0', '-1', 'much'])
      expect(() => storeOptionsFromEnvironment({ ...inject('environment'), ACECODER_CACHE_GB: text }, '/c')).toThrow(
        `ACECODER_CACHE_GB is ${text}; it is a number of gigabytes above 0.`,
      );
  });
});

describe('a store that is not there', () => {
  it('is said with its address, and is to be tried again', async () => {
    const store = createArtifactStore({
      endpoint: 'http://127.0.0.1:9',
      bucket: 'none',
      accessKey: 'a',
      secretKey: 'b',
      cache: inject('stack').home,
    });
    await expect(store.check()).rejects.toMatchObject({
      type: 'StoreUnavailable',
      message: expect.stringContaining('http://127.0.0.1:9'),
    });
  });
});
