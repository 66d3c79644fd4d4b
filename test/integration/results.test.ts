/** Results lie in the store: whoever has it alone reads what any worker wrote, under whatever workflow id. */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { bundleWorkflowCode, NativeConnection, Worker } from '@temporalio/worker';
import { afterAll, describe, expect, inject, it } from 'vitest';
import { objectKeys } from '../../activities/artifacts/keys.js';
import { importRows } from '../../activities/artifacts/produce.js';
import { placeFolder, resultsOf } from '../../activities/artifacts/results.js';
import { datasetRefreshActivities } from '../../activities/dataset-refresh/activities.js';
import { previewActivities, type PublishedPage } from '../../activities/preview/activities.js';
import { root } from '../../infra/setup/paths.mjs';
import { withoutTemporal } from '../../infra/setup/processes.mjs';
import { createServices } from '../../workers/plugins/services.js';
import { QuestionRow, SeedRow, type ArtifactKind, type ArtifactRef } from '../../workflows/contract/index.js';
import { artifactStore, temporalClient } from '../fixtures/harness.js';
import { HOSTILE_TEXTS } from '../fixtures/hostile-texts.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-results-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const SEED: SeedRow = { id: 'own/f', source: 'own', code: 'def f(a):\n    return a\n' };

/** An artifact of rows, as an import makes it. */
async function imported<T>(
  kind: ArtifactKind,
  schema: Parameters<ReturnType<typeof artifactStore>['putRows']>[1],
  rows: T[],
): Promise<ArtifactRef> {
  const store = artifactStore();
  const producer = { workflowId: 'w', runId: 'r', activity: 'a', attempt: 1, host: 'h', package: 'p', versions: {} };
  return (await importRows(store, kind, [await store.putRows('rows.jsonl', schema, rows)], producer)).ref;
}

/** Names of all files below a folder that is three levels above the homes. */
const filesNow = (): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));

/** One for all workers of this file, because building it takes seconds. */
const bundle = bundleWorkflowCode({ workflowsPath: join(root, 'test/fixtures/call-activity.ts') });

/** Runs one activity on a worker whose home is its own, as part of a workflow of that id. */
async function onWorker<T>(
  home: string,
  environment: Record<string, string>,
  runs: (run: (id: string, activity: string, input: unknown) => Promise<unknown>) => Promise<T>,
): Promise<T> {
  const { address } = inject('stack');
  const services = createServices({
    env: { ...inject('environment'), ...environment, ACECODER_HOME: join(folder, home) },
  });
  const connection = await NativeConnection.connect({ address });
  const taskQueue = `results-${randomUUID()}`;
  const worker = await Worker.create({
    connection,
    taskQueue,
    workflowBundle: await bundle,
    activities: { ...previewActivities(services), ...datasetRefreshActivities(services) },
  });
  const { workflow } = await temporalClient();
  try {
    return await worker.runUntil(() =>
      runs((workflowId, activity, input) =>
        workflow.execute('callActivity', { taskQueue, workflowId, args: [activity, input] }),
      ),
    );
  } finally {
    await services.close();
    await connection.close();
  }
}

/** `npm run fetch` of a person who has the store, and neither a worker nor a Temporal server. */
async function fetchIt(...args: string[]): Promise<{ code: number; said: string }> {
  const { ACECODER_S3_ENDPOINT, ACECODER_S3_BUCKET, ACECODER_S3_ACCESS_KEY, ACECODER_S3_SECRET_KEY } =
    inject('environment');
  const child = spawn(process.execPath, ['--import', 'tsx', join(root, 'infra/commands/fetch.ts'), ...args], {
    cwd: root,
    env: {
      ...withoutTemporal(),
      ACECODER_HOME: join(folder, 'nobody'),
      ACECODER_S3_ENDPOINT,
      ACECODER_S3_BUCKET,
      ACECODER_S3_ACCESS_KEY,
      ACECODER_S3_SECRET_KEY,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = Promise.all([text(child.stdout), text(child.stderr)]).then((parts) => parts.join(''));
  const [code] = (await once(child, 'exit')) as [number];
  return { code, said: await said };
}

describe('a page that one worker wrote', () => {
  const run = randomUUID();
  const names = Object.entries(HOSTILE_TEXTS).filter(
    // The server takes no other ids.
    ([, name]) => name !== '' && !/\p{Surrogate}/u.test(name) && name.length < 900 && !name.includes('\0'),
  );
  /** Ids of their own, with the hostile part at both ends. */
  const idOf = (name: string): string => `${name}#${run}/${name}`;

  it('is in the store, where no worker keeps a copy, and inside the home, whatever the workflow id', async () => {
    const seeds = await imported('seeds', SeedRow, [SEED]);
    const questions = await imported('questions', QuestionRow, []);
    const input = (name: string): object => ({ name, seeds, questions, filtered: questions });

    // A cluster: the first worker writes, and no page is on its disk.
    const published = await onWorker('a/b/c/first', { ACECODER_LOCAL_RESULTS: '' }, async (page) => {
      for (const [what, name] of names) await page(idOf(name), 'preview.page', input(what));
      return (await page(run, 'preview.page', input('of the first worker'))) as PublishedPage;
    });
    expect(filesNow().filter((file) => file.endsWith('.html'))).toEqual([]);
    expect(published.html).toBeUndefined();

    // The embedded stack: the second worker writes pages of its own, all of them inside its home.
    const second = await onWorker('a/b/c/second', { ACECODER_LOCAL_RESULTS: '1' }, async (page) => {
      const pages: string[] = [];
      for (const [what, name] of names)
        pages.push(((await page(idOf(name), 'preview.page', input(what))) as PublishedPage).html!);
      return pages;
    });
    const written = filesNow().filter((file) => file.endsWith('.html'));
    expect(written).toHaveLength(names.length);
    for (const file of written)
      expect(file).toMatch(/^a\/b\/c\/second\/reports\/[A-Za-z0-9][\w.-]{0,99}\/preview\.html$/);
    for (const [at, [what]] of names.entries())
      expect(readFileSync(second[at]!, 'utf8')).toContain(`Preview of ${what.replaceAll("'", '&#39;')}`);
    for (const [, name] of names) expect((await resultsOf(artifactStore(), idOf(name))).workflowId).toBe(idOf(name));

    // A person with the store alone.
    const target = join(folder, 'person');
    const { code, said } = await fetchIt(run, target);
    expect(said).toContain('preview.html');
    expect(code).toBe(0);
    expect(readdirSync(target)).toEqual(['preview.html']);
    expect(readFileSync(join(target, 'preview.html'), 'utf8')).toContain('Preview of of the first worker');

    // Somebody without a key, until the link expires.
    const { url, expires } = published.link!;
    expect(Date.parse(expires) - Date.now()).toBeGreaterThan(23 * 3_600_000);
    const answer = await fetch(url);
    expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(await answer.text()).toContain('Preview of of the first worker');
    const wrong = new URL(url);
    wrong.searchParams.set('X-Amz-Expires', '604800');
    expect((await fetch(wrong)).status).toBe(403);
    expect((await fetch(url.slice(0, url.indexOf('?')))).status).toBe(403);
    const short = await artifactStore().link((await artifactStore().manifest(published.artifact)).files[0]!, 1);
    await expect.poll(async () => (await fetch(short)).status).toBe(403);
  });

  it('has no link where the worker makes none', async () => {
    const seeds = await imported('seeds', SeedRow, [SEED]);
    const questions = await imported('questions', QuestionRow, []);
    const page = await onWorker('unlinked', { ACECODER_LINK_HOURS: '0', ACECODER_LOCAL_RESULTS: '' }, (page) =>
      page(`unlinked-${run}`, 'preview.page', { name: 'x', seeds, questions, filtered: questions }),
    );
    expect(Object.keys(page as PublishedPage)).toEqual(['artifact']);
  });
});

describe('the fetch command', () => {
  it('gets an artifact by its key, prints links, and says what is not there', async () => {
    const seeds = await imported('seeds', SeedRow, [SEED]);
    const target = join(folder, 'by-key');
    expect((await fetchIt(seeds.key, target)).code).toBe(0);
    expect(readFileSync(join(target, 'rows.jsonl'), 'utf8')).toBe(`${JSON.stringify(SEED)}\n`);
    const { said } = await fetchIt(seeds.key, '--link', '--hours', '1');
    const answer = await fetch(/http\S+/.exec(said)![0]);
    expect(await answer.text()).toBe(`${JSON.stringify(SEED)}\n`);
    expect(answer.headers.get('content-disposition')).toBe('attachment; filename="rows.jsonl"');
    const missing = await fetchIt(`no-such-${randomUUID()}`, target);
    expect(missing.code).toBe(1);
    expect(missing.said).toMatch(
      /^the store holds no result of workflow "no-such-.*": an experiment, preview or export/,
    );
  });
});

describe('a data set', () => {
  it('of any name has versions of its own', async () => {
    const names = [...Object.values(HOSTILE_TEXTS).filter((name) => !/\p{Surrogate}/u.test(name)), 'ordinary'];
    const run = randomUUID();
    const seeds = await imported('seeds', SeedRow, [{ ...SEED, id: `versions/${run}` }]);
    const questions = await imported('filteredQuestions', QuestionRow, []);
    const versions = await onWorker('versions', {}, (activity) =>
      Promise.all(
        names.map((name, at) =>
          activity(`${run}-${at}`, 'datasetRefresh.publish', {
            name,
            seeds,
            fresh: seeds,
            asked: questions,
            questions,
          }),
        ),
      ),
    );
    expect(versions).toHaveLength(names.length);
    // Other tests publish versions meanwhile, of other seeds.
    const store = artifactStore();
    const keys = [...(await store.keys('datasets/'))];
    const documents = await Promise.all(keys.map((key) => store.getJson(key)));
    const fresh = keys.filter((_, at) => JSON.stringify(documents[at]).includes(seeds.digest));
    expect(fresh).toHaveLength(names.length);
    for (const key of fresh) expect(key).toMatch(/^datasets\/[A-Za-z0-9][\w.-]{0,99}\/000001\.json$/);
    expect(fresh).toContain('datasets/ordinary/000001.json');
    expect(fresh).toContain('datasets/My-Run/000001.json');
  });
});

describe('a model beside the cache', () => {
  it('is linked, cannot be edited, and replaces the one before', async () => {
    const store = artifactStore();
    const seeds = await imported('seeds', SeedRow, [SEED]);
    const place = join(store.hostPath(), 'models', 'policy');
    for (let times = 0; times < 2; times += 1) await placeFolder(store, seeds, place);
    expect(readdirSync(join(place, '..'))).toEqual(['policy']);
    const file = statSync(join(place, 'rows.jsonl'));
    expect(file.nlink).toBe(2);
    expect(file.mode & 0o222).toBe(0);
    expect(existsSync(store.hostPath('blobs'))).toBe(true);
    expect(objectKeys.results('..')).toMatch(/^results\/name-sha256-[0-9a-f]{32}\/$/);
  });
});
