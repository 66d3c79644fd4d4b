/** The store's promises against a real MinIO. */
import { randomBytes, randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { Client } from 'minio';
import { describe, expect, inject, it } from 'vitest';
import { z } from 'zod';
import { objectKeys, sha256 } from '../../activities/artifacts/keys.js';
import { RowIndex } from '../../activities/artifacts/row-index.js';
import { refOf, type ArtifactStore, type Draft } from '../../activities/artifacts/store.js';
import type { ManifestFile, Producer } from '../../workflows/contract/index.js';
import { artifactStore } from '../fixtures/harness.js';

const Row = z.strictObject({ id: z.string(), value: z.number() });

const producer = (workflowId: string): Producer => ({ workflowId, runId: '', activity: 'test', attempt: 1, host: 'host', package: 'test', versions: {} });

const draft = (stageKey: string, files: ManifestFile[]): Draft => ({
  kind: 'programs', stage: 'sampling', stageKey, files, inputs: {}, config: {}, metrics: {}, seconds: 0,
});

async function collect<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const row of rows) all.push(row);
  return all;
}

function minio(): { client: Client; bucket: string } {
  const { endpoint, bucket, accessKey, secretKey } = inject('stack').s3;
  const { hostname, port } = new URL(endpoint);
  return { client: new Client({ endPoint: hostname, port: Number(port), useSSL: false, accessKey, secretKey }), bucket };
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
    const files = await store.putRowsByFile(['odd.jsonl', 'even.jsonl', 'none.jsonl'], Row, rows, ({ value }) => (value % 2 === 1 ? 0 : 1));
    expect(files.map(({ name, rows: count }) => [name, count])).toEqual([['odd.jsonl', 10_000], ['even.jsonl', 10_000], ['none.jsonl', 0]]);
    expect(await collect(artifactStore().readRows([files[1]!], Row))).toEqual(rows.filter(({ value }) => value % 2 === 0));
    expect(files[0]!.sha256).toBe((await store.putRows('rows.jsonl', Row, rows.filter(({ value }) => value % 2 === 1))).sha256);
  });

  it('that do not fit the schema are refused by name and number', async () => {
    await expect(artifactStore().putRows('rows.jsonl', Row, [{ id: 'a', value: 1 }, { id: 'b' } as never])).rejects.toThrow(/rows\.jsonl, row 1: value/);
  });
});

describe('the index of rows by seed', () => {
  it('reads the rows of some seeds alone, in their order, from all files', async () => {
    const Sample = z.strictObject({ seedId: z.string(), text: z.string() });
    const store = artifactStore();
    const rows = Array.from({ length: 3_000 }, (_, index) => ({ seedId: `seed ${index % 500} é`, text: `text ${index} \u2028 ö` }));
    const files = [await store.putRows('rows-0.jsonl', Sample, rows.slice(0, 2_000)), await store.putRows('rows-1.jsonl', Sample, rows.slice(2_000))];
    const { manifest } = await store.commit(draft(sha256(randomUUID()), files), producer('w'));
    const index = await RowIndex.of(artifactStore(), refOf(manifest));
    expect(await index.rowsOf(['seed 7 é', 'no such seed'], Sample)).toEqual(new Map([['seed 7 é', rows.filter(({ seedId }) => seedId === 'seed 7 é')], ['no such seed', []]]));
    expect((await index.rowsOf(['seed 499 é'], Sample, 2)).get('seed 499 é')).toEqual([rows[499], rows[999]]);
  });
});

describe('commit', () => {
  it('has one winner of sixteen racing writers, and all return its manifest', async () => {
    const store = artifactStore();
    const key = sha256(randomUUID());
    const drafts = await Promise.all(Array.from({ length: 16 }, async (_, index) => draft(key, [await store.putRows('rows.jsonl', Row, [{ id: 'x', value: index }])])));
    const results = await Promise.all(drafts.map((each, index) => store.commit(each, producer(`writer-${index}`))));
    expect(results.filter(({ won }) => won)).toHaveLength(1);
    expect(new Set(results.map(({ manifest }) => manifest.digest)).size).toBe(1);
    const late = await store.commit(drafts[0]!, producer('zombie'));
    expect(late.won).toBe(false);
    expect(late.manifest).toEqual(results[0]!.manifest);
  });

  it('refuses a manifest whose blob is not stored', async () => {
    const file: ManifestFile = { name: 'rows.jsonl', sha256: sha256(randomUUID()), bytes: 1, encoding: 'gzip' };
    await expect(artifactStore().commit(draft(sha256(randomUUID()), [file]), producer('w'))).rejects.toMatchObject({ type: 'StoreUnavailable' });
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
    const bytes = await client.getObject(bucket, objectKeys.blob(other.sha256));
    const chunks: Buffer[] = [];
    for await (const chunk of bytes) chunks.push(chunk as Buffer);
    await client.putObject(bucket, objectKeys.blob(file.sha256), Buffer.concat(chunks));
    await expect(collect(artifactStore().readRows([file], Row))).rejects.toMatchObject({ type: 'ArtifactCorrupt', message: expect.stringContaining(file.sha256) });
  });

  it('that is cut or gone is found and named', async () => {
    const { client, bucket } = minio();
    const cut = await stored(artifactStore());
    await client.putObject(bucket, objectKeys.blob(cut.sha256), Buffer.from([0x1f, 0x8b, 8]));
    await expect(collect(artifactStore().readRows([cut], Row))).rejects.toMatchObject({ type: 'ArtifactCorrupt' });
    const gone = await stored(artifactStore());
    await client.removeObject(bucket, objectKeys.blob(gone.sha256));
    await expect(collect(artifactStore().readRows([gone], Row))).rejects.toMatchObject({ type: 'ArtifactCorrupt', message: expect.stringContaining('missing') });
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

describe('a store that is not there', () => {
  it('is said with its address, and is to be tried again', async () => {
    const { ArtifactStore } = await import('../../activities/artifacts/store.js');
    const store = new ArtifactStore({ endpoint: 'http://127.0.0.1:9', bucket: 'none', accessKey: 'a', secretKey: 'b', cache: inject('stack').home });
    await expect(store.check()).rejects.toMatchObject({ type: 'StoreUnavailable', message: expect.stringContaining('http://127.0.0.1:9') });
  });
});
