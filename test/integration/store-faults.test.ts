/** What the store's requests do when the store, or the network before it, fails them: a proxy before a real store. */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WorkflowHandle } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { z } from 'zod';
import { collect } from '../../activities/artifacts/collections.js';
import { objectKeys } from '../../activities/artifacts/keys.js';
import { S3Objects, UnfitStore, type S3Options } from '../../activities/artifacts/objects.js';
import { createArtifactStore, storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import type { ArtifactRef } from '../../workflows/contract/index.js';
import { AceCoderPlugin } from '../../workers/plugins/acecoder-plugin.js';
import { storeObstacle } from '../../workers/readiness.js';
import { FaultyProxy, type Fault } from '../fixtures/faulty-proxy.js';
import { artifactStore, startWorkflow, workerProcess } from '../fixtures/harness.js';
import { until } from '../fixtures/until.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-faults-'));
const small = join(folder, 'small');
/** More than one part of an upload. Of zeros, so that the disk holds none of it. */
const large = join(folder, 'large');
const LARGE_BYTES = 33 * 1024 * 1024;

let proxy: FaultyProxy;
beforeAll(async () => {
  proxy = await FaultyProxy.before(inject('stack').s3.endpoint);
  writeFileSync(small, randomBytes(1_000));
  writeFileSync(large, '');
  truncateSync(large, LARGE_BYTES);
});
afterAll(() => {
  proxy.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Settings of the store behind the proxy, below a prefix of their own. */
function settings(options: Partial<S3Options> = {}): S3Options {
  const { cache: _cache, ...s3 } = storeOptionsFromEnvironment(
    { ...inject('environment'), ACECODER_S3_ENDPOINT: proxy.endpoint },
    folder,
  );
  return { ...s3, prefix: `faults-${randomUUID()}`, retrySeconds: 0.2, ...options };
}

interface Operation {
  /** As errors call it. */
  name: string;
  /** Whether a request is its. */
  is: (request: Pick<IncomingMessage, 'method' | 'url'>) => boolean;
  run: (objects: S3Objects) => Promise<unknown>;
  result: unknown;
}

const key = 'documents/1.json';
const document = { text: 'x'.repeat(20_000) };
const isGet =
  (list: boolean): Operation['is'] =>
  (request) =>
    request.method === 'GET' && request.url!.includes('list-type=2') === list;

/** Every kind of request. What they work with is stored by {@link prepared}. */
const OPERATIONS: Operation[] = [
  { name: 'a read of', is: isGet(false), run: (objects) => objects.getJson(key), result: document },
  {
    name: 'a write of',
    is: ({ method, url }) => method === 'PUT' && url!.includes('documents/2'),
    run: (objects) => objects.putJson('documents/2.json', document),
    result: true,
  },
  {
    name: 'a write of',
    is: ({ method, url }) => method === 'PUT' && url!.includes('small'),
    run: (objects) => objects.putFile('small', small),
    result: undefined,
  },
  {
    name: 'the start of an upload of',
    is: ({ method, url }) => method === 'POST' && url!.endsWith('large-1?uploads'),
    run: (objects) => objects.putFile('large-1', large),
    result: undefined,
  },
  {
    name: 'part 1 of 2 of an upload of',
    is: ({ url }) => url!.includes('large-2') && url!.includes('partNumber=1'),
    run: (objects) => objects.putFile('large-2', large),
    result: undefined,
  },
  {
    name: 'the end of an upload of',
    is: ({ method, url }) => method === 'POST' && url!.includes('large-3?uploadId='),
    run: (objects) => objects.putFile('large-3', large),
    result: undefined,
  },
  {
    name: 'a listing of',
    is: isGet(true),
    run: async (objects) => (await objects.list('documents/1')).map((found) => found.key),
    result: [key],
  },
  {
    name: 'a copy of',
    is: ({ method, url }) => method === 'PUT' && url!.includes('documents/1'),
    run: (objects) => objects.touch(key, new Date(0)),
    result: true,
  },
  {
    name: 'a look at',
    is: ({ method }) => method === 'HEAD',
    run: async (objects) => (await objects.time(key)) instanceof Date,
    result: true,
  },
  {
    name: 'a delete of',
    is: ({ method, url }) => method === 'POST' && url!.includes('?delete'),
    run: (objects) => objects.remove(['documents/none.json']),
    result: undefined,
  },
];
const READ = OPERATIONS[0]!;
const COPY = OPERATIONS.find(({ name }) => name === 'a copy of')!;
const WRITE = OPERATIONS[1]!;
const [START, PART, END] = [OPERATIONS[3]!, OPERATIONS[4]!, OPERATIONS[5]!];

/** Objects of a prefix of their own, which hold what operations work with. */
async function prepared(options: Partial<S3Options> = {}): Promise<S3Objects> {
  const own = settings(options);
  await new S3Objects({ ...own, endpoint: inject('stack').s3.endpoint, signal: () => undefined }).putJson(
    key,
    document,
  );
  return new S3Objects(own);
}

/** Lets every request of operations meet a fault, or the first `times` of each. */
function failing(operations: Operation | readonly Operation[], fault: Fault, times = Infinity): void {
  const left = new Map([operations].flat().map((operation) => [operation, times]));
  proxy.fault = (request) => {
    const operation = [...left.keys()].find(({ is }) => is(request));
    if (!operation || left.get(operation)! <= 0) return undefined;
    left.set(operation, left.get(operation)! - 1);
    return fault;
  };
}

/** Checks operations that meet a fault, all at once. */
async function each(
  operations: readonly Operation[],
  check: (operation: Operation, objects: S3Objects) => Promise<void>,
  options: Partial<S3Options> = {},
): Promise<void> {
  await Promise.all(operations.map(async (operation) => check(operation, await prepared(options))));
}

const succeeds = async (operation: Operation, objects: S3Objects): Promise<void> => {
  expect(await operation.run(objects), operation.name).toEqual(operation.result);
};

const unavailable = (...parts: string[]): object => ({
  type: 'StoreUnavailable',
  message: expect.stringMatching(
    new RegExp(
      [`^the store at ${proxy.endpoint} \\(ACECODER_S3_ENDPOINT\\) `, ...parts]
        .map((part, index) => (index === 0 ? part : part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')))
        .join('.*'),
    ),
  ) as unknown,
});

describe('a status that says the store cannot now', () => {
  const statuses = [408, 429, 499, 500, 502, 503, 504, 507, 520, 599];

  it.each(statuses)('%i is StoreUnavailable for every kind of request, and prints nothing', async (status) => {
    const printed = vi.spyOn(console, 'warn');
    failing(OPERATIONS, { answer: status, body: 'busy' });
    await each(OPERATIONS, (operation, objects) =>
      expect(operation.run(objects), operation.name).rejects.toMatchObject(
        unavailable(operation.name, `status ${status}`),
      ),
    );
    expect(printed).not.toHaveBeenCalled();
    printed.mockRestore();
  });

  it('costs no attempt when it passes within the seconds of a retry', async () => {
    failing(OPERATIONS, { answer: 503 }, 2);
    // As long as it takes: what is shown is that a retry follows, and not how fast this host is.
    await each(OPERATIONS, succeeds, { retrySeconds: 600 });
  });

  it('tells the code and the words of the store', async () => {
    const body = '<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>';
    failing(WRITE, { answer: 503, body });
    await expect(WRITE.run(await prepared())).rejects.toMatchObject(
      unavailable('answers a write of documents/2.json with status 503 (SlowDown: Please reduce your request rate.)'),
    );
    failing(WRITE, { answer: 507, body: '<Error><Code>XMinioStorageFull</Code></Error>' });
    await expect(WRITE.run(await prepared())).rejects.toMatchObject(unavailable('is full; free space there'));
  });
});

describe('a copy that leaves the time of an object as it was', () => {
  // No copy reaches this time.
  const before = new Date(8.64e15);

  it('goes in parts, and the object stays what it was', async () => {
    const objects = await prepared();
    const asked: string[] = [];
    proxy.fault = ({ method, url }) => {
      if (method === 'PUT') asked.push(url!);
      return undefined;
    };
    expect(await objects.touch(key, before)).toBe(true);
    expect(asked.filter((url) => url.includes('partNumber=1'))).toHaveLength(1);
    expect(await objects.getJson(key)).toEqual(document);
    expect(await objects.touch('documents/none.json', before)).toBe(false);
  });

  it('is StoreUnavailable where the store fails a part', async () => {
    const objects = await prepared();
    proxy.fault = ({ method, url }) =>
      method === 'PUT' && url!.includes('partNumber=1') ? { answer: 503, body: 'busy' } : undefined;
    await expect(objects.touch(key, before)).rejects.toMatchObject(
      unavailable('a copy of part 1 of 1 of documents/1.json', 'status 503'),
    );
    expect(await objects.getJson(key)).toEqual(document);
  });
});

describe('an answer that is none of a store', () => {
  const page = '<html>down for maintenance</html>';

  it.each([
    ['200 with a page', { answer: 200, body: page, headers: { 'content-type': 'text/html' } }],
    ['200 with nothing', { answer: 200 }],
    ['404 with a page', { answer: 404, body: page, headers: { 'content-type': 'text/html' } }],
    ['403 with a page', { answer: 403, body: page, headers: { 'content-type': 'text/html' } }],
    ['a redirect', { answer: 307, headers: { location: 'http://elsewhere.example/' } }],
    ['a redirect for good', { answer: 301, body: page }],
  ] as [string, Fault][])('%s is StoreUnavailable for every kind of request', async (_name, fault) => {
    failing(OPERATIONS, fault);
    await each(OPERATIONS, async (operation, objects) => {
      // Of a HEAD there is no more than the status, and 404 is what a store says.
      if (operation.name === 'a look at' && 'answer' in fault && fault.answer === 404)
        expect(await objects.time(key)).toBeUndefined();
      else await expect(operation.run(objects), operation.name).rejects.toMatchObject(unavailable(operation.name));
    });
  });

  it.each(['not XML', '', '<Other/>', '<html><body>gateway</body></html>'])(
    'a body of %j under a good status is StoreUnavailable where the body says what was done',
    async (instead) => {
      const telling = OPERATIONS.filter(({ name }) => !/a write|a look|part 1|the end/.test(name));
      failing(telling, { instead });
      await each(telling, (operation, objects) =>
        expect(operation.run(objects), operation.name).rejects.toMatchObject(unavailable(operation.name)),
      );
      // That an upload has ended shows the next try, and the object.
      failing(END, { instead }, 1);
      await each([END], succeeds, { retrySeconds: 600 });
    },
  );

  it('an error document under 200 is the error that it says', async () => {
    const document = (code: string): string => `<Error><Code>${code}</Code><Message>We try.</Message></Error>`;
    const telling = OPERATIONS.filter(({ name }) => /the start|a copy|a listing|a delete/.test(name));
    failing([...telling, END], { instead: document('InternalError') }, 1);
    await each([...telling, END], succeeds, { retrySeconds: 600 });
    failing(telling, { instead: document('SlowDown') });
    await each(telling, (operation, objects) =>
      expect(operation.run(objects), operation.name).rejects.toMatchObject(
        unavailable(operation.name, 'SlowDown: We try.'),
      ),
    );
    failing(END, { answer: 200, body: document('SlowDown'), headers: { 'content-type': 'application/xml' } });
    await expect(END.run(await prepared())).rejects.toMatchObject(unavailable(END.name, 'SlowDown: We try.'));
  });

  it('a delete that leaves an object says so', async () => {
    const remove = OPERATIONS.at(-1)!;
    const left = (code: string): Fault => ({
      instead: `<DeleteResult><Error><Key>a</Key><Code>${code}</Code><Message>m</Message></Error></DeleteResult>`,
    });
    failing(remove, left('InternalError'));
    await expect(remove.run(await prepared())).rejects.toMatchObject(unavailable('a delete of', 'InternalError'));
    failing(remove, left('AccessDenied'));
    await expect(remove.run(await prepared())).rejects.toMatchObject(unavailable('denies access'));
    failing(remove, left('NoSuchKey'));
    await remove.run(await prepared());
  });
});

describe('a connection that ends', () => {
  it('before an answer is StoreUnavailable for every kind of request', async () => {
    failing(OPERATIONS, { cut: 'answer' });
    await each(OPERATIONS, (operation, objects) =>
      expect(operation.run(objects), operation.name).rejects.toMatchObject(
        unavailable('does not answer: ', `during ${operation.name}`),
      ),
    );
  });

  it.each([{ cut: 'body' }, { end: 'early' }] as Fault[])(
    'in the middle of an answer (%j) is StoreUnavailable, and read again at once where it passes',
    async (fault) => {
      const reading = OPERATIONS.filter(({ name }) => /a read|the start|a listing|a delete/.test(name));
      failing(reading, fault);
      await each(reading, (operation, objects) =>
        expect(operation.run(objects), operation.name).rejects.toMatchObject(unavailable(operation.name)),
      );
      failing(reading, fault, 1);
      await each(reading, succeeds, { retrySeconds: 600 });
    },
  );

  // The client takes the half of a copy's answer for a whole one where the tag stands in it, as SeaweedFS writes it.
  it.each([{ cut: 'body' }, { end: 'early' }] as Fault[])(
    'in the middle of the answer to a copy (%j) is StoreUnavailable, or the new time of the object is looked at',
    async (fault) => {
      const objects = await prepared();
      const before = await objects.time(key);
      // A store tells times in whole seconds.
      await sleep(1100);
      failing(COPY, fault);
      const told = await objects.touch(key, before!).catch((error: unknown) => error);
      if (told === true) expect((await objects.time(key))!.getTime()).toBeGreaterThan(before!.getTime());
      else expect(told).toMatchObject(unavailable(COPY.name));
      failing(COPY, fault, 1);
      await succeeds(COPY, await prepared({ retrySeconds: 600 }));
    },
  );

  it.each([{ cut: 'body' }, { end: 'early' }] as Fault[])('in a blob (%j) is no damage of the blob', async (fault) => {
    const Row = z.strictObject({ id: z.string() });
    const rows = [{ id: randomBytes(50_000).toString('base64') }];
    const file = await artifactStore().putRows('rows.jsonl', Row, rows);
    const path = await artifactStore().spoolPath();
    writeFileSync(path, randomBytes(50_000));
    const plain = await artifactStore().putFile(path, 'weights.bin');
    const behind = (retrySeconds: number) =>
      createArtifactStore({ ...settings({ prefix: '', retrySeconds }), cache: join(folder, randomUUID()) });
    failing(READ, fault);
    for (const blob of [file, plain])
      await expect(behind(0.2).fetch(blob)).rejects.toMatchObject(
        unavailable(`broke off its answer to a read of ${objectKeys.blob(blob.sha256)}`),
      );
    failing(READ, fault, 1);
    expect(await collect(behind(600).readRows([file], Row))).toEqual(rows);
  });

  it('after the store has done its work is not done twice', async () => {
    const objects = await prepared({ retrySeconds: 600 });
    failing(WRITE, { lose: 'answer' }, 1);
    expect(await WRITE.run(objects), 'this writer is the first').toBe(true);
    proxy.fault = () => undefined;
    expect(await WRITE.run(objects)).toBe(false);
    expect(await objects.putJson('documents/2.json', { other: true })).toBe(false);
    failing(END, { lose: 'answer' }, 1);
    await END.run(objects);
    expect((await objects.list('large-3')).map(({ bytes }) => bytes)).toEqual([LARGE_BYTES]);
  });
});

describe('an upload that the store has forgotten', () => {
  it('is StoreUnavailable, and the next attempt begins anew', async () => {
    const body = '<Error><Code>NoSuchUpload</Code><Message>It is gone.</Message></Error>';
    for (const operation of [PART, END]) {
      failing(operation, { answer: 404, body, headers: { 'content-type': 'application/xml' } }, 1);
      const objects = await prepared({ retrySeconds: 600 });
      await expect(operation.run(objects)).rejects.toMatchObject(unavailable(operation.name, 'NoSuchUpload'));
      await operation.run(objects);
    }
  });
});

describe('a store that falls silent', () => {
  it.each([
    ['before its answer', { hang: 'answer' }, OPERATIONS],
    ['while it takes a body', { hang: 'upload' }, [PART]],
    ['in its answer', { hang: 'body' }, [READ, OPERATIONS[6]!, START]],
  ] as [string, Fault, Operation[]][])('%s is StoreUnavailable after the limit', async (_name, fault, operations) => {
    failing(operations, fault);
    await each(
      operations,
      (operation, objects) =>
        expect(operation.run(objects), operation.name).rejects.toMatchObject(
          unavailable('has sent nothing for 2 s (ACECODER_STORE_IDLE_SECONDS)', operation.name),
        ),
      { idleSeconds: 2 },
    );
  });

  it('is not one that is slow, and bytes that move are told', async () => {
    let moved = 0;
    const objects = await prepared({ idleSeconds: 2, moved: () => (moved += 1) });
    failing(READ, { pieces: 8, everyMs: 350 });
    expect(await READ.run(objects)).toEqual(document);
    expect(moved).toBeGreaterThan(2);
    failing(READ, { hang: 'answer' });
    moved = 0;
    await expect(READ.run(objects)).rejects.toMatchObject({ type: 'StoreUnavailable' });
    expect(moved).toBeLessThanOrEqual(1);
  });
});

describe('an activity that is cancelled', () => {
  it.each([
    ['before the answer', { hang: 'answer' }, OPERATIONS],
    ['in a body', { hang: 'body' }, [READ]],
    ['in an upload', { hang: 'upload' }, [PART]],
    ['between two tries', { answer: 503 }, [READ]],
  ] as [string, Fault, Operation[]][])(
    '%s ends its request at once, with its own reason',
    async (_name, fault, all) => {
      for (const operation of all) {
        const cancelled = new AbortController();
        const objects = await prepared({ retrySeconds: 600, idleSeconds: 600, signal: () => cancelled.signal });
        failing(operation, fault);
        const before = proxy.seen.length;
        const { ended } = proxy;
        const running = operation.run(objects);
        const failed = expect(running, operation.name).rejects.toThrow('enough');
        await until(
          () => proxy.seen.slice(before),
          (seen) => seen.some((line) => operation.is({ method: line.split(' ')[0]!, url: line.split(' ')[1]! })),
        );
        cancelled.abort(new Error('enough'));
        await failed;
        // A proxy that takes no body does not see that its connection ends.
        if ('hang' in fault && fault.hang !== 'upload')
          await until(
            () => proxy.ended,
            (now) => now > ended,
          );
        await expect(operation.run(objects), 'nothing new begins').rejects.toThrow('enough');
      }
    },
  );

  it('still stores what follows another signal', async () => {
    proxy.fault = () => undefined;
    const cancelled = new AbortController();
    const objects = await prepared({ signal: () => cancelled.signal });
    cancelled.abort(new Error('enough'));
    await expect(objects.getJson(key)).rejects.toThrow('enough');
    expect(await objects.following(undefined, () => objects.getJson(key))).toEqual(document);
    await expect(objects.following(AbortSignal.abort(new Error('other')), () => objects.getJson(key))).rejects.toThrow(
      'other',
    );
  });
});

describe('conditional writes', () => {
  const probes = (objects: S3Objects): Promise<unknown[]> => objects.list('probes/');
  const isProbe: Operation['is'] = ({ method, url }) => method === 'PUT' && url!.includes('/probes/');

  it('are tried once by each process, beside each other, and nothing of it stays', async () => {
    proxy.fault = () => undefined;
    const own = settings();
    const workers = Array.from({ length: 8 }, () => new S3Objects(own));
    const before = proxy.seen.length;
    await Promise.all(workers.flatMap((objects) => [objects.check(), objects.check()]));
    await Promise.all(workers.map((objects) => objects.check()));
    const tried = proxy.seen.slice(before).filter((line) => line.includes('/probes/') && line.startsWith('PUT'));
    expect(tried).toHaveLength(16);
    expect(new Set(tried).size).toBe(8);
    expect(await probes(workers[0]!)).toEqual([]);
  });

  it('that overwrite, or are not known, refuse the worker with the reason', async () => {
    const xml = { 'content-type': 'application/xml' };
    const document = (code: string): string => `<Error><Code>${code}</Code><Message>Not so.</Message></Error>`;
    for (const [fault, reason] of [
      [{ answer: 200, headers: { etag: '"any"' } }, 'overwrites an object by a write with If-None-Match'],
      [{ answer: 412, body: document('PreconditionFailed'), headers: xml }, 'refuses, where no object is,'],
      [{ answer: 501, body: document('NotImplemented'), headers: xml }, 'does not know (NotImplemented)'],
      [{ answer: 400, body: document('InvalidArgument'), headers: xml }, 'does not know (InvalidArgument)'],
    ] as [Fault, string][]) {
      const objects = await prepared();
      proxy.fault = (request) => (isProbe(request) ? fault : undefined);
      const failure = objects.check();
      await expect(failure).rejects.toBeInstanceOf(UnfitStore);
      await expect(failure).rejects.toThrow(reason);
      await expect(storeObstacle({ check: () => objects.check() }), 'waiting does not help').rejects.toThrow(reason);
    }
  });

  it("refuse an application's own worker too, while a store that is away does not", async () => {
    const before = { ...process.env };
    Object.assign(process.env, inject('environment'), {
      ACECODER_S3_ENDPOINT: proxy.endpoint,
      ACECODER_S3_PREFIX: `faults-${randomUUID()}`,
    });
    const warned = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    try {
      const plugin = new AceCoderPlugin();
      const { activities = {} } = plugin.configureWorker({ taskQueue: 'own' });
      const ran = vi.fn(() => Promise.resolve());
      const run = () =>
        plugin.runWorker({ options: { activities: new Map(Object.entries(activities)) } } as never, ran);
      proxy.fault = () => ({ cut: 'answer' });
      await run();
      expect(ran).toHaveBeenCalledTimes(1);
      expect(warned).toHaveBeenCalledTimes(1);
      proxy.fault = (request) => (isProbe(request) ? { answer: 200, headers: { etag: '"any"' } } : undefined);
      await expect(run()).rejects.toBeInstanceOf(UnfitStore);
      expect(ran).toHaveBeenCalledTimes(1);
    } finally {
      warned.mockRestore();
      for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name];
      Object.assign(process.env, before);
    }
  });

  it('are tried again where the store was away for the first try, and clear what a killed worker left', async () => {
    const own = settings();
    const objects = new S3Objects(own);
    proxy.fault = (request) => (isProbe(request) ? { answer: 503 } : undefined);
    await expect(objects.check()).rejects.toMatchObject({ type: 'StoreUnavailable' });
    proxy.fault = () => undefined;
    await objects.putJson('probes/left.json', {});
    await objects.check();
    expect(await probes(objects), 'another worker may be at it').toHaveLength(1);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 720_000 });
    try {
      await new S3Objects(own).check();
      expect(await probes(objects)).toEqual([]);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('a worker behind a store that fails', () => {
  const input = (): unknown => ({
    inputs: { seeds: { kind: 'seeds', path: inject('seeds') } },
    config: { decontaminate: [], shardSize: 12 },
  });
  /** A worker whose store is the proxy, with objects of its own. */
  function behind(proxy: FaultyProxy): { queue: string; worker: ReturnType<typeof workerProcess> } {
    const queue = `faults-${randomUUID().slice(0, 8)}`;
    const worker = workerProcess(
      queue,
      {
        ...inject('environment'),
        ACECODER_S3_ENDPOINT: proxy.endpoint,
        ACECODER_S3_PREFIX: queue,
        ACECODER_STORE_RETRY_SECONDS: '2',
        ACECODER_STORE_IDLE_SECONDS: '1',
      },
      'without-gpu',
    );
    return { queue, worker };
  }
  /** The worker has found its store, and works. */
  const ready = async (taskQueue: string): Promise<unknown> =>
    (await startWorkflow('garbageCollection', {}, { taskQueue })).result();
  const attempts = async (handle: WorkflowHandle): Promise<number> =>
    Math.max(0, ...((await handle.describe()).raw.pendingActivities ?? []).map(({ attempt }) => attempt ?? 0));

  it('waits for it, whatever it answers, and makes the same artifact', async () => {
    const proxy = await FaultyProxy.before(inject('stack').s3.endpoint);
    const { queue, worker } = behind(proxy);
    try {
      await ready(queue);
      // Every request fails, as it does while a store restarts, for longer than an unknown error would be repeated.
      proxy.fault = () => ({ answer: 503 });
      const handle = await startWorkflow('synthesis', input(), { taskQueue: queue });
      await until(
        () => attempts(handle),
        (attempt) => attempt >= 4,
      );
      // Then every third does, each in another way, so that a repeated request succeeds.
      const faults: Fault[] = [
        ...[408, 429, 499, 500, 502, 503, 504, 520].map((answer) => ({ answer })),
        { hang: 'answer' },
        { cut: 'answer' },
        { cut: 'body' },
        { lose: 'answer' },
      ];
      let count = 0;
      proxy.fault = () => {
        count += 1;
        return count % 3 === 0 ? faults[(count / 3) % faults.length] : undefined;
      };
      const { ref } = (await handle.result()) as { ref: ArtifactRef };
      const undisturbed = await (await startWorkflow('synthesis', input())).result();
      expect(ref.digest).toBe((undisturbed as { ref: ArtifactRef }).ref.digest);
    } finally {
      await worker.stop();
      proxy.close();
    }
  });

  it('ends by SIGTERM while a request hangs', async () => {
    const proxy = await FaultyProxy.before(inject('stack').s3.endpoint);
    const { queue, worker } = behind(proxy);
    try {
      await ready(queue);
      proxy.fault = () => ({ hang: 'answer' });
      const handle = await startWorkflow('synthesis', input(), { taskQueue: queue });
      await until(
        () => attempts(handle),
        (attempt) => attempt >= 1,
      );
      await worker.stop();
      expect(worker.child.exitCode).toBe(0);
      await handle.terminate();
    } finally {
      await worker.kill();
      proxy.close();
    }
  });
});
