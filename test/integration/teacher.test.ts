/** Synthesis by a teacher behind a fake endpoint that counts: killed workers, refusals, limits, money and secrets. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomInt, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, describe, expect, inject, it } from 'vitest';
import { objectKeys, sha256 } from '../../activities/artifacts/keys.js';
import { refOf } from '../../activities/artifacts/manifests.js';
import { endpointActivities } from '../../activities/endpoint/activities.js';
import { stageAsks } from '../../activities/stages.js';
import {
  FilteredQuestionRow,
  ProgramRow,
  QuestionRow,
  SeedRow,
  STAGE,
  type ArtifactRef,
  type Metrics,
  type StageResult,
} from '../../workflows/contract/index.js';
import {
  answer,
  completion,
  errorBody,
  exercise,
  fakeEndpoint,
  fakeSeeds,
  type FakeEndpoint,
} from '../fixtures/fake-endpoint.js';
import {
  artifactStore,
  failureOf,
  SHARED_QUEUE,
  startWorkflow,
  statusWhere,
  temporalCli,
  temporalClient,
  workerProcess,
  updateOf,
} from '../fixtures/harness.js';
import { NAMED_REPLIES } from '../fixtures/endpoint-replies.js';
import { TEACHER_TEXTS } from '../fixtures/teacher-texts.js';
import { Attempt } from '../fixtures/attempt.js';
import { Gate } from '../fixtures/gate.js';
import { until } from '../fixtures/until.js';

const KEY = 'sk-fake-fedcba9876543210';
const folder = mkdtempSync(join(tmpdir(), 'acecoder-teacher-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Prices of a million tokens; a usual reply of the fake costs 0.0016 dollars. */
const PRICES = { input: 1, output: 2 };
const REPLY_USD = 0.0016;

/** State of a pending activity in the API of Temporal. */
const CANCEL_REQUESTED = 3;

let fake: FakeEndpoint;
beforeEach(async () => {
  fake = await fakeEndpoint();
});
afterEach(() => fake.close());

function seedsFile(count: number): string {
  const path = join(folder, `${randomUUID()}.jsonl`);
  writeFileSync(path, fakeSeeds(count));
  return path;
}

/** A model's name is part of a reply's key: another one finds nothing stored. */
function config(teacher: object = {}, execution: object = {}, endpoint: object = {}): Record<string, unknown> {
  return {
    teacher: { kind: 'openai', model: `fake-${randomUUID()}`, ...teacher },
    decontaminate: [],
    shardSize: 10,
    execution: {
      window: 3,
      budgetUsd: 10,
      ...execution,
      // What a test holds is no timeout.
      endpoint: {
        baseUrl: fake.url,
        keyVariable: null,
        concurrency: 6,
        prices: PRICES,
        timeoutSeconds: 3600,
        ...endpoint,
      },
    },
  };
}

function synthesis(
  seeds: number | string,
  settings: Record<string, unknown>,
  taskQueue = SHARED_QUEUE,
  recorded: { replies?: object } = {},
) {
  return startWorkflow(
    'synthesis',
    {
      inputs: { seeds: { kind: 'seeds', path: typeof seeds === 'string' ? seeds : seedsFile(seeds) }, ...recorded },
      config: settings,
    },
    { taskQueue },
  );
}

/** Synthesis by a teacher that replays stored replies. */
const replay = (seeds: number | string, replies: object, settings: Record<string, unknown> = {}) =>
  synthesis(seeds, { ...settings, teacher: { kind: 'recorded' } }, SHARED_QUEUE, { replies });

async function questionsOf(ref: ArtifactRef): Promise<QuestionRow[]> {
  const rows: QuestionRow[] = [];
  for await (const row of artifactStore().rowsOf(ref, QuestionRow)) rows.push(row);
  return rows;
}

const rowKeyOf = (idempotencyKey: string): string => idempotencyKey.slice(0, 64);

describe('an llm worker that is killed', () => {
  it('asks for no reply again that arrived, and repeats what was in flight under the same key', async () => {
    const queue = `teacher-${randomUUID()}`;
    const environment = {
      ...inject('environment'),
      FAKE_TEACHER_KEY: KEY,
      ACECODER_ENDPOINTS: `${fake.url}=FAKE_TEACHER_KEY`,
    };
    /** So many requests are answered. Later ones are in flight until there are more. */
    let answered = 0;
    fake.behave = async ({ name, authorization }, response) => {
      const number = fake.requests.length;
      await until(
        () => answered,
        (count) => number <= count,
      );
      await sleep(randomInt(100, 900));
      // One reply repeats the key, which the store must not hold.
      const changes = name === 'times_7' ? { question: `Multiply. ${authorization}` } : {};
      await answer(response, 200, completion(exercise(name, changes)));
    };
    const pipeline = workerProcess(queue, environment, 'pipeline');
    let llm = workerProcess(queue, environment, 'llm');
    try {
      const handle = await synthesis(70, config({}, {}, { keyVariable: 'FAKE_TEACHER_KEY' }), queue);
      const inFlight = new Set<string>();
      let mayRepeat = 0;
      for (const kill of [1, 2, 3]) {
        answered = fake.requests.length + randomInt(2, 12);
        await expect.poll(() => fake.requests.length).toBeGreaterThan(answered);
        await sleep(randomInt(0, 400));
        await llm.kill();
        const stored = new Set(
          (await artifactStore().list('replies/')).map(({ key }) => key.slice('replies/'.length, -'.json'.length)),
        );
        const lost = new Set(
          fake.requests.map(({ idempotencyKey }) => idempotencyKey).filter((key) => !stored.has(rowKeyOf(key))),
        );
        expect(lost.size, `in flight at kill ${kill}`).toBeLessThanOrEqual(6);
        mayRepeat += lost.size;
        for (const key of lost) inFlight.add(key);
        llm = workerProcess(queue, environment, 'llm');
      }
      answered = Infinity;
      const { ref, metrics } = (await handle.result()) as StageResult;

      const asked = fake.requests.map(({ idempotencyKey }) => idempotencyKey);
      const repeated = asked.filter((key, index) => asked.indexOf(key) !== index);
      console.log(
        `${asked.length} requests for 70 replies; in flight at the kills: ${mayRepeat}, repeated: ${repeated.length}`,
      );
      expect(new Set(fake.requests.map(({ name }) => name)).size).toBe(70);
      expect(new Set(asked).size, 'one Idempotency-Key for each seed, however often it is asked').toBe(70);
      expect(repeated.length).toBeLessThanOrEqual(mayRepeat);
      expect(repeated.filter((key) => !inFlight.has(key))).toEqual([]);
      expect(fake.mostAtOnce).toBeLessThanOrEqual(6);
      expect(fake.requests.every(({ authorization }) => authorization === `Bearer ${KEY}`)).toBe(true);

      expect(metrics).toMatchObject({
        questions: 70,
        testCases: 70 * 20,
        failures: {},
        replies: 70,
        promptTokens: 70 * 400,
        completionTokens: 70 * 600,
      });
      expect(metrics['costUsd']).toBeCloseTo(70 * REPLY_USD, 9);
      expect((await questionsOf(ref)).map(({ seedId }) => seedId)).toEqual(
        Array.from({ length: 70 }, (_, n) => `fake/times_${n}`),
      );
      await expectNoKey(handle.workflowId, ref, queue);
    } finally {
      await Promise.all([llm.stop(), pipeline.stop()]);
    }
  });

  /** The key stands in no history, artifact or log. */
  async function expectNoKey(workflowId: string, ref: ArtifactRef, queue: string): Promise<void> {
    const stdout = await temporalCli('workflow', 'show', '--workflow-id', workflowId, '--output', 'json');
    expect(stdout).toContain('synthesis.request');
    const history = stdout.replace(/"data":\s*"([^"]*)"/g, (_, data: string) => Buffer.from(data, 'base64').toString());
    expect(history).toContain('FAKE_TEACHER_KEY');
    expect(history).not.toContain(KEY);
    const store = artifactStore();
    const manifest = await store.manifest(ref);
    const documents = [
      ...(await store.list('replies/')),
      ...(await store.list('plans/')),
      ...(await store.list('shards/')),
      ...(await store.list('artifacts/questions/')),
      ...(await store.list('artifacts/replies/')),
    ];
    for (const { key } of documents) expect(JSON.stringify(await store.getJson(key)), key).not.toContain(KEY);
    for (const file of manifest.files) expect(readFileSync(await store.fetch(file), 'utf8')).not.toContain(KEY);
    expect(JSON.stringify(await questionsOf(ref))).toContain('(hidden)');
    expect(
      readFileSync(join(inject('environment')['ACECODER_HOME']!, 'logs', `workers-${queue}.log`), 'utf8'),
    ).not.toContain(KEY);
  }
});

describe('a second run', () => {
  it('with another shard size asks nothing, and a recorded teacher replays them to the same questions', async () => {
    const seeds = seedsFile(12);
    const settings = config();
    const first = (await (await synthesis(seeds, settings)).result()) as StageResult;
    const second = (await (await synthesis(seeds, { ...settings, shardSize: 5 })).result()) as StageResult;
    expect(fake.requests).toHaveLength(12);
    expect(second.ref.key).not.toBe(first.ref.key);
    expect(second.metrics).toMatchObject({ questions: 12, storedBefore: 12 });

    const store = artifactStore();
    const replies = refOf((await store.findManifest(first.metrics['repliesArtifact'] as string))!);
    expect(replies).toMatchObject({ kind: 'replies', rows: 12 });
    const recorded = (await (
      await replay(seeds, replies, { decontaminate: [], shardSize: 10 })
    ).result()) as StageResult;
    expect(recorded.ref.digest).toBe(first.ref.digest);
    expect(fake.requests).toHaveLength(12);

    const path = join(folder, 'replies.jsonl');
    writeFileSync(
      path,
      [0, 1].map((n) => `${JSON.stringify({ seedId: `fake/times_${n}`, text: exercise(`times_${n}`) })}\n`).join(''),
    );
    const fromFile = (await (
      await replay(seeds, { kind: 'replies', path }, { decontaminate: [] })
    ).result()) as StageResult;
    expect(fromFile.metrics).toMatchObject({ questions: 2, failures: { noReply: 10 } });
    const broken = join(folder, 'broken.jsonl');
    writeFileSync(broken, '{"seedId": 7}\n');
    expect(await failureOf(await replay(seeds, { kind: 'replies', path: broken }))).toMatchObject({
      type: 'InvalidExperiment',
      message: expect.stringContaining('inputs.replies.path: line 1: ') as string,
    });
  });
});

describe('a reply of a vendor to the second of three seeds', () => {
  /**
   * One flow for each reply, all at once: each has a model of its own, so that none learns from another. What a worker
   * counted before it was killed `during` them is lost, and the rows are not.
   */
  async function flows(queue: string, during?: () => Promise<void>): Promise<void> {
    const byModel = new Map(NAMED_REPLIES.map((reply) => [`vendor-${randomUUID()}`, reply]));
    const times = new Map<string, number>();
    fake.behave = (request, response) => {
      const { model } = request.body as { model?: unknown };
      const reply = byModel.get(String(model))!;
      const nth = (times.get(String(model)) ?? 0) + (request.name === 'times_1' ? 1 : 0);
      times.set(String(model), nth);
      if (request.name !== 'times_1' || !reply.when(request, nth)) return undefined;
      const body = typeof reply.body === 'string' ? reply.body : reply.body(request);
      return answer(response, reply.status, body, reply.headers ?? {});
    };
    const seeds = seedsFile(3);
    const handles = await Promise.all([...byModel.keys()].map((model) => synthesis(seeds, config({ model }), queue)));
    await during?.();
    const results = await Promise.all(handles.map((handle) => handle.result() as Promise<StageResult>));
    [...byModel.values()].forEach(({ whose, right, note }, at) => {
      const { questions, failures, retries, notes, repairs } = results[at]!.metrics as Record<string, object | number>;
      const failure = 'failure' in right ? right.failure : undefined;
      expect({ whose, questions, failures }).toEqual({
        whose,
        questions: failure === undefined ? 3 : 2,
        failures: failure === undefined ? {} : { [failure]: 1 },
      });
      if (!during && 'question' in right && right.question === 'again') expect(retries, whose).not.toEqual({});
      if ('question' in right && right.question === 'whole') expect(repairs, whose).toEqual({ cutButWhole: 1 });
      if (!during && note) expect(JSON.stringify(notes), whose).toMatch(note);
    });
  }

  it('costs one row at most, and is asked again, mended or used where that is possible', async () => {
    await flows(SHARED_QUEUE);
  });

  it('does the same where the llm worker is killed in between', { tags: 'long' }, async () => {
    const queue = `vendors-${randomUUID()}`;
    const pipeline = workerProcess(queue, inject('environment'), 'pipeline');
    let llm = workerProcess(queue, inject('environment'), 'llm');
    try {
      await flows(queue, async () => {
        for (const more of [3, 15]) {
          const seen = fake.requests.length;
          await expect.poll(() => fake.requests.length).toBeGreaterThanOrEqual(seen + more);
          await llm.kill();
          llm = workerProcess(queue, inject('environment'), 'llm');
        }
      });
    } finally {
      await Promise.all([llm.stop(), pipeline.stop()]);
    }
  });
});

describe('questions that ask for no plain function', () => {
  it('are confirmed by their seeds as any others, and keep their form', async () => {
    const texts = TEACHER_TEXTS.filter(({ right }) => 'form' in right);
    const named = texts.map((text, at) => ({ ...text, id: `forms/${at}` }));
    const seeds = join(folder, 'forms.jsonl');
    const replies = join(folder, 'forms-replies.jsonl');
    const lines = (rows: object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
    // A comment tells seeds apart that several texts are about.
    writeFileSync(seeds, lines(named.map(({ id, code }) => ({ id, source: 'forms', code: `${code}# ${id}\n` }))));
    writeFileSync(replies, lines(named.map(({ id, text }) => ({ seedId: id, text }))));
    const settings = { decontaminate: [], nearDuplicate: null };
    const { ref, metrics } = (await (
      await replay(seeds, { kind: 'replies', path: replies }, settings)
    ).result()) as StageResult;
    expect(metrics).toMatchObject({
      questions: named.length,
      failures: {},
      forms: { class: 2, method: 2, async: 3, script: 1 },
    });
    const filtering = await startWorkflow('filtering', {
      inputs: { questions: ref },
      config: { minimumTestCases: 1, minimumDistinctOutputs: 1 },
    });
    const filtered = (await filtering.result()) as StageResult;
    const rows: FilteredQuestionRow[] = [];
    for await (const row of artifactStore().rowsOf(filtered.ref, FilteredQuestionRow)) rows.push(row);
    expect(rows.map(({ seedId, form, tests }) => [seedId, form, tests.length])).toEqual(
      named.map(({ id, right }) => [id, 'form' in right ? right.form : '', 'tests' in right ? right.tests : 0]),
    );
  });
});

describe('what a teacher answers', () => {
  it('is kept as rows with reasons, and counted', async () => {
    const answers: Record<string, (name: string) => string> = {
      times_0: () => '<html>busy</html>',
      times_1: () => '',
      times_2: () => completion('nonsense'),
      times_3: () => completion(null, { refusal: 'no' }),
      times_4: (name) => completion(exercise(name).slice(0, 99), { finish: 'length' }),
      times_5: () => completion(exercise('something_else')),
      times_6: (name) =>
        completion(
          exercise(name, {
            tests: ['assert 1 == 1', `assert ${name}(open('x')) == 1`, `assert ${name}(`, `assert ${name}(1) == 3`, 7],
          }),
        ),
      times_7: (name) =>
        completion(
          exercise(name, { tests: Array.from({ length: 1000 }, (_, n) => `assert ${name}(${n}) == ${n * 3}`) }),
        ),
      times_8: (name) => completion(exercise(name), { usage: null }),
    };
    fake.behave = ({ name }, response, nth) => {
      // Each is asked twice: the first time it is too often.
      if (name === 'times_9' && nth === 1) return answer(response, 429, errorBody('slow down'), { 'retry-after': '1' });
      return answers[name] && answer(response, 200, answers[name](name));
    };
    const { ref, metrics } = (await (await synthesis(12, config())).result()) as StageResult;
    expect(metrics).toMatchObject({
      questions: 6,
      failures: { htmlReply: 1, emptyReply: 1, invalidJson: 1, refused: 1, cutReply: 1, otherQuestion: 1 },
      rejectedTests: { wrongFunction: 1, needsFiles: 1, doesNotParse: 1, notText: 1, tooMany: 940 },
      retries: { rateLimited: 1 },
      requests: 13,
      replies: 12,
      estimatedUsage: 3,
    } satisfies Metrics);
    const rows = await questionsOf(ref);
    expect(rows).toHaveLength(12);
    expect(rows[7]!.testCases).toHaveLength(60);
    expect(rows[7]!.rejectedTests).toHaveLength(940);
  });

  it('is asked for no faster than the limits say, by all shards together', async () => {
    const started = Date.now();
    await (await synthesis(40, config({}, { window: 4 }, { requestsPerMinute: 600 }))).result();
    const last = fake.requests.at(-1)!.at;
    expect(fake.requests).toHaveLength(40);
    // Four shards begin with a request each. The others follow at ten per second, after the start of their shard.
    expect(last - started).toBeGreaterThanOrEqual(3_400);
  });
});

describe('what stored replies cost', () => {
  it('is counted of the seeds that the stage asks about, not of those that it drops before', async () => {
    const model = `fake-${randomUUID()}`;
    const names = ['kept', 'dropped', 'not_yet'];
    const seeds = names.map((name) => ({ id: name, source: 'fake', code: `def ${name}(n):\n    return n * 3\n` }));
    const path = join(folder, `${randomUUID()}.jsonl`);
    writeFileSync(path, seeds.map((seed) => JSON.stringify(seed)).join('\n'));
    const settings = config({ model });
    // Another stage asks about all of them.
    await (await synthesis(path, settings)).result();
    expect(fake.requests).toHaveLength(3);
    // This one is looked at where its first shard has dropped a seed and its second one has not come so far.
    const store = artifactStore();
    const [stageKey, otherKey] = [sha256(randomUUID()), sha256(randomUUID())];
    const rowsOf = (name: string, rows: typeof seeds) => store.putRows(name, SeedRow, rows);
    const shards = [await rowsOf('a', seeds.slice(0, 2)), await rowsOf('b', seeds.slice(2))];
    const planned = { ...settings, decontaminate: [{ kind: 'humaneval' }] };
    await store.putJson(objectKeys.plan(stageKey), { config: planned, inputs: {}, shards, metrics: {} });
    await store.putJson(objectKeys.shard(stageKey, 0, 'decontaminate'), {
      file: await rowsOf('c', seeds.slice(0, 1)),
      metrics: {},
      notes: {},
      seconds: 0,
      workflowId: 'w',
    });
    const { execution } = STAGE.synthesis.config.parse(settings);
    const activities = endpointActivities({ store }, stageAsks);
    const paid = (key: string): Promise<unknown> =>
      new Attempt({ activityType: 'endpoint.paid', idle: 3600 }).run(() =>
        activities['endpoint.paid']({ stage: 'synthesis', stageKey: key, execution }),
      );
    expect(await paid(stageKey)).toEqual({ 0: expect.closeTo(REPLY_USD, 9) as number });
    // Nothing is dropped where nothing is looked for.
    await store.putJson(objectKeys.plan(otherKey), { config: settings, inputs: {}, shards, metrics: {} });
    const [two, one] = [2 * REPLY_USD, REPLY_USD].map((usd) => expect.closeTo(usd, 9) as number);
    expect(await paid(otherKey)).toEqual({ 0: two, 1: one });
  });
});

describe('a preview', () => {
  it('shows what versions of the prompt make of the same seeds, and leaves their replies to the experiment', async () => {
    // Synthesis runs once for each version, with two seeds: every two requests are of the next version.
    fake.behave = (request, response) => {
      const nth = Math.floor(fake.requests.indexOf(request) / 2);
      const question = `Version ${nth} of the function ${request.name}.`;
      return answer(response, 200, completion(exercise(request.name, { question })));
    };
    const input = {
      name: 'prompts',
      seeds: { kind: 'seeds', path: seedsFile(5) },
      models: { policy: { kind: 'folder', path: inject('model') } },
      stages: { synthesis: config({ prompt: 'v1' }), sampling: { samples: 1, maxNewTokens: 4 } },
    };
    const client = await temporalClient();
    const preview = async (options: object): Promise<{ html: string; seeds: number }> =>
      (await client.workflow.execute('preview', {
        taskQueue: SHARED_QUEUE,
        workflowId: `preview-${randomUUID()}`,
        args: [input, options],
      })) as { html: string; seeds: number };
    const { html, seeds } = await preview({ first: 2, prompts: ['v2', 'paper'] });
    expect(seeds).toBe(2);
    expect(fake.requests).toHaveLength(6);
    const page = readFileSync(html, 'utf8');
    // Each column holds what its own version was answered about its own seed.
    const columns = [...page.matchAll(/<h3>prompt (\w+)<\/h3>[^]*?Version (\d) of the function (\w+)\./g)];
    expect(columns.map(([, version, nth, name]) => [name, version, nth])).toEqual(
      ['times_0', 'times_1'].flatMap((name) => [
        [name, 'v1', '0'],
        [name, 'v2', '1'],
        [name, 'paper', '2'],
      ]),
    );
    // Again, now side by side with one of them: nothing is asked twice.
    await preview({ first: 2, prompts: ['paper'] });
    expect(fake.requests).toHaveLength(6);
    const refused = client.workflow.execute('preview', {
      taskQueue: SHARED_QUEUE,
      workflowId: `preview-${randomUUID()}`,
      args: [{ ...input, stages: { synthesis: {} } }, { prompts: ['v2'] }],
    });
    await expect(refused).rejects.toMatchObject({
      cause: { message: expect.stringContaining("the teacher 'offline' has no prompt") as string },
    });
  });
});

describe('a stage that continues as new', () => {
  it('knows what it paid, and stays within limits and budget', async () => {
    const handle = await synthesis(40, { ...config({}, { budgetUsd: 0.1 }), shardSize: 1 });
    const first = (await handle.describe()).runId;
    const { metrics } = (await handle.result()) as StageResult;
    expect((await handle.describe()).runId, 'the run that the stage ended in').not.toBe(first);
    expect(fake.requests).toHaveLength(40);
    expect(fake.mostAtOnce).toBeLessThanOrEqual(6);
    expect(metrics['costUsd']).toBeCloseTo(40 * REPLY_USD, 9);
  });
});

describe('an experiment', () => {
  const experiment = (settings: Record<string, unknown>, seeds = 40): Record<string, unknown> => ({
    name: 'taught',
    seeds: { kind: 'seeds', path: seedsFile(seeds) },
    models: { policy: { kind: 'folder', path: inject('model') } },
    stages: { synthesis: settings },
  });

  it('parks where the endpoint refuses the key, and says so', async () => {
    fake.behave = (_, response) => answer(response, 401, errorBody('Incorrect API key provided', 'invalid_api_key'));
    const handle = await startWorkflow('experiment', experiment(config()));
    const { stages } = await statusWhere(handle, ({ state }) => state === 'parked');
    expect(stages[0]!.failure).toMatchObject({
      type: 'TeacherRejected',
      message: expect.stringContaining('with 401') as string,
    });
    await updateOf(handle, 'abandon', { reason: 'test' });
  });

  it('parks where the worker has no key, naming the variable', async () => {
    const { type, message } = await failureOf(await synthesis(2, config({}, {}, { keyVariable: 'NOBODY_SET_THIS' })));
    expect(type).toBe('TeacherRejected');
    expect(message).toContain('NOBODY_SET_THIS');
  });

  it('parks where the worker does not allow the endpoint or the key, and says what to set', async () => {
    const asked = fake.requests.length;
    for (const [endpoint, said] of [
      [{ keyVariable: 'HOME' }, 'may send no key to the endpoint'],
      [{ baseUrl: 'http://169.254.169.254/latest' }, 'may not ask the endpoint http://169.254.169.254/latest'],
    ] as const) {
      const handle = await startWorkflow('experiment', experiment(config({}, {}, endpoint)));
      const { stages } = await statusWhere(handle, ({ state }) => state === 'parked');
      const { type, message } = stages[0]!.failure!;
      expect(type).toBe('TeacherRejected');
      expect(message).toContain(said);
      expect(message).toContain('ACECODER_ENDPOINTS');
      expect(message).not.toContain(process.env['HOME']);
      await updateOf(handle, 'abandon', { reason: 'test' });
    }
    expect(fake.requests).toHaveLength(asked);
  });

  it('that runs its stage again at once asks for nothing twice: what is on its way is waited for', async () => {
    const cancelled = new Gate();
    fake.behave = async ({ name }, response) => {
      if (fake.requests.length > 6) {
        await cancelled.passed();
        // The activities hear of it with a heartbeat, some seconds later.
        await sleep(1500);
      }
      await answer(response, 200, completion(exercise(name)));
    };
    const handle = await startWorkflow('experiment', experiment(config(), 20));
    await expect.poll(() => fake.requests.length).toBeGreaterThan(8);
    await updateOf(handle, 'retryStage', { stage: 'synthesis', execution: { endpoint: { concurrency: 4 } } });
    const stage = (await temporalClient()).workflow.getHandle(`${handle.workflowId}/synthesis`);
    const states = async (): Promise<unknown[]> =>
      ((await stage.describe()).raw.pendingActivities ?? []).map(({ state }) => state);
    await expect.poll(states).toContain(CANCEL_REQUESTED);
    cancelled.open();
    const { stages } = await statusWhere(handle, (status) => status.stages[0]!.state === 'done');
    expect(stages[0]!.metrics).toMatchObject({ questions: 20 });
    expect(fake.requests).toHaveLength(20);
    await updateOf(handle, 'abandon', { reason: 'test' });
  });

  it('parks before its budget is passed, tells the cost, and goes on with a larger one', async () => {
    const budgetUsd = 0.04;
    const handle = await startWorkflow('experiment', experiment(config({ testCases: 10 }, { budgetUsd })));
    const parked = await statusWhere(handle, ({ state }) => state === 'parked');
    const before = fake.requests.length;
    expect(parked.stages[0]!.failure).toMatchObject({
      type: 'BudgetExceeded',
      advice: expect.stringContaining('"budgetUsd":0.08') as string,
    });
    expect(before * REPLY_USD).toBeLessThanOrEqual(budgetUsd);
    expect(before).toBeGreaterThan(8);
    expect(parked.cost).toMatchObject({ usd: expect.closeTo(before * REPLY_USD, 9) as number, budgetUsd });
    expect(parked.cost.estimatedUsd).toBeGreaterThan(0.01);
    const stdout = await temporalCli('workflow', 'metadata', '--workflow-id', handle.workflowId);
    expect(stdout).toMatch(/Cost so far: 0\.0\d+ USD for the teacher's replies \(at most 0\.0400, estimated /);

    await updateOf(handle, 'retryStage', { stage: 'synthesis', execution: { budgetUsd: 1 } });
    const { stages, cost } = await statusWhere(handle, (status) => status.stages[0]!.state === 'done');
    expect(fake.requests).toHaveLength(40);
    expect(stages[0]!.metrics).toMatchObject({ questions: 40, replies: 40 });
    expect(cost).toMatchObject({ usd: expect.closeTo(40 * REPLY_USD, 9) as number, budgetUsd: 1 });
    await updateOf(handle, 'abandon', { reason: 'test' });
  });
});

describe('programs of a language model', () => {
  const programPrompt = (body: { messages: unknown[] }): boolean => body.messages.length === 1;
  const nameOf = (text: string): string => /times_\d+/.exec(text)![0];

  /** Writes exercises with one wrong test case each, and programs by `program`. */
  function behaveAs(program: (name: string, nth: number) => string): void {
    const times = new Map<string, number>();
    fake.behave = ({ name, body }, response) => {
      const text = body.messages.at(-1)!.content;
      if (!programPrompt(body))
        return answer(
          response,
          200,
          completion(
            exercise(name, {
              tests: Array.from({ length: 20 }, (_, n) => `assert ${name}(${n}) == ${n === 7 ? 22 : n * 3}`),
            }),
          ),
        );
      const nth = (times.get(nameOf(text)) ?? 0) + 1;
      times.set(nameOf(text), nth);
      return answer(response, 200, completion(program(nameOf(text), nth)));
    };
  }
  const right = (name: string): string =>
    `Sure:\n\`\`\`python\ndef ${name}(n):\n    assert isinstance(n, int)\n    return n * 3\n\`\`\`\nIt multiplies.`;
  const paid = () => ({
    window: 2,
    budgetUsd: 10,
    endpoint: { baseUrl: fake.url, keyVariable: null, concurrency: 4, prices: PRICES },
  });
  const stage = async (
    type: 'filtering' | 'sampling',
    questions: ArtifactRef,
    settings: object,
  ): Promise<StageResult> =>
    (
      await startWorkflow(type, { inputs: { questions }, config: { shardSize: 3, execution: paid(), ...settings } })
    ).result() as Promise<StageResult>;
  const filteredOf = async (ref: ArtifactRef): Promise<FilteredQuestionRow[]> => {
    const rows: FilteredQuestionRow[] = [];
    for await (const row of artifactStore().rowsOf(ref, FilteredQuestionRow)) rows.push(row);
    return rows;
  };

  it('are the oracle, one by one, any of n, or by agreement; what was answered is never asked again', async () => {
    behaveAs((name, nth) =>
      name === 'times_0'
        ? 'I would rather not.'
        : name === 'times_1' && nth === 1
          ? `def ${name}(n):\n    return n * 3 if n < 10 else 0`
          : right(name),
    );
    const { ref: questions } = (await (await synthesis(6, config())).result()) as StageResult;
    const model = `oracle-${randomUUID()}`;
    const before = fake.requests.length;
    const one = await stage('filtering', questions, { oracle: { kind: 'model', programs: { kind: 'openai', model } } });
    expect(fake.requests.length - before).toBe(6);
    // The reply about times_0 is prose: a program that does not load passes nothing.
    expect(one.metrics).toMatchObject({
      questions: 5,
      keptTestCases: 4 * 19 + 9,
      droppedQuestions: { tooFewTestCases: 1 },
      replies: 6,
      costUsd: expect.closeTo(6 * REPLY_USD, 9) as number,
    });
    const rows = await filteredOf(one.ref);
    expect(rows.every(({ reference }) => reference.startsWith('def times_'))).toBe(true);
    expect(rows.every(({ limits }) => limits !== undefined)).toBe(true);
    expect(rows.find(({ seedId }) => seedId === 'fake/times_2')!.reference).toContain('assert isinstance(n, int)');

    const anyOfThree = await stage('filtering', questions, {
      oracle: { kind: 'model', programs: { kind: 'openai', model }, n: 3 },
    });
    // The first program of each question is the one that stands in the store.
    expect(fake.requests.length - before).toBe(18);
    expect(anyOfThree.metrics).toMatchObject({ questions: 5, keptTestCases: 5 * 19, storedBefore: 6 });
    const agreed = await stage('filtering', questions, {
      oracle: { kind: 'agreement', programs: { kind: 'openai', model }, n: 3, temperature: 0 },
    });
    expect(fake.requests.length - before).toBe(18);
    expect(agreed.metrics).toMatchObject({ questions: 5, keptTestCases: 5 * 19 });

    const short = await startWorkflow('filtering', {
      inputs: { questions },
      config: {
        shardSize: 3,
        oracle: { kind: 'model', programs: { kind: 'openai', model: `dear-${model}` } },
        execution: { ...paid(), budgetUsd: 0.005 },
      },
    });
    expect(await failureOf(short)).toMatchObject({
      type: 'BudgetExceeded',
      message: expect.stringContaining('execution.budgetUsd 0.005') as string,
    });
  });

  it('are sampled from an endpoint, without a policy, and judged as any others', async () => {
    behaveAs((name, nth) => (nth === 4 ? `def ${name}(n):\n    return n + 1` : right(name)));
    const { ref: questions } = (await (await synthesis(4, config())).result()) as StageResult;
    const { ref: filtered } = (await (
      await startWorkflow('filtering', { inputs: { questions }, config: {} })
    ).result()) as StageResult;
    const before = fake.requests.length;
    const sampled = await stage('sampling', filtered, {
      sampler: { kind: 'openai', model: `sampler-${randomUUID()}` },
      samples: 4,
      maxNewTokens: 300,
    });
    expect(fake.requests.length - before).toBe(16);
    const programs: ProgramRow[] = [];
    for await (const row of artifactStore().rowsOf(sampled.ref, ProgramRow)) programs.push(row);
    expect(programs).toHaveLength(16);
    expect(programs.filter(({ passRate }) => passRate === 1)).toHaveLength(12);
    expect(sampled.metrics).toMatchObject({
      programs: 16,
      costUsd: expect.closeTo(16 * REPLY_USD, 9) as number,
      failures: {},
    });
    const bodies = fake.requests.slice(before).map(({ body }) => body);
    expect(new Set(bodies.map((body) => body['seed'])).size).toBe(16);
    expect(bodies.every((body) => body['max_tokens'] === 300 && body['response_format'] === undefined)).toBe(true);
  });
});

describe('a batch', () => {
  const batched = (changes: object = {}): Record<string, unknown> =>
    config({}, { window: 2, ...changes }, { batch: { pollSeconds: 0.2, priceFactor: 0.5 } });

  it('of each shard brings its replies at its price; what it leaves is asked by itself', async () => {
    fake.onBatch = (batch) => {
      const [first, second] = batch.requests;
      batch.status = 'expired';
      batch.answers.delete(first!.custom_id);
      batch.answers.set(second!.custom_id, { status: 500, body: errorBody('The server had an error.') });
    };
    const { ref, metrics } = (await (await synthesis(20, batched())).result()) as StageResult;
    expect(fake.batches.map(({ requests }) => requests.length)).toEqual([10, 10]);
    expect(fake.requests).toHaveLength(4);
    expect((await questionsOf(ref)).filter(({ failure }) => failure === undefined)).toHaveLength(20);
    expect(metrics).toMatchObject({
      replies: 20,
      retries: { batch: 4 },
      costUsd: expect.closeTo(16 * REPLY_USD * 0.5 + 4 * REPLY_USD, 9) as number,
    });
  });

  it(
    'is re-attached after kill -9, whether its id was stored or not, and never sent again',
    { tags: 'long' },
    async () => {
      const queue = `batch-${randomUUID()}`;
      const pipeline = workerProcess(queue, inject('environment'), 'pipeline');
      let llm = workerProcess(queue, inject('environment'), 'llm');
      const made = new Gate();
      fake.onBatch = (batch) => {
        batch.status = 'in_progress';
        made.open();
        // Its maker dies before it hears of it.
        return new Promise(() => undefined);
      };
      try {
        const settings = { ...batched({ window: 1 }), shardSize: 5 };
        const handle = await synthesis(10, settings, queue);
        await made.passed();
        await llm.kill();
        llm = workerProcess(queue, inject('environment'), 'llm');
        await expect.poll(() => fake.batches[0]!.looks).toBeGreaterThan(0);
        await llm.kill();
        fake.batches[0]!.status = 'completed';
        fake.onBatch = () => undefined;
        llm = workerProcess(queue, inject('environment'), 'llm');
        const { metrics } = (await handle.result()) as StageResult;
        expect(fake.batches).toHaveLength(2);
        expect(fake.requests).toHaveLength(0);
        expect(metrics).toMatchObject({
          questions: 10,
          replies: 10,
          costUsd: expect.closeTo(10 * REPLY_USD * 0.5, 9) as number,
        });
      } finally {
        await llm.stop();
        await pipeline.stop();
      }
    },
  );

  it('is as large as the budget pays for, and refused with the reason of the endpoint', async () => {
    // A request reserves its prompt's bytes and its longest reply: two of them fit, half a price each.
    const long = (): object => ({ teacher: { kind: 'openai', model: `fake-${randomUUID()}`, maxTokens: 8000 } });
    await (await synthesis(4, { ...batched({ budgetUsd: 0.02 }), ...long() })).result();
    expect(fake.batches.map(({ requests }) => requests.length)).toEqual([2, 2]);
    expect(await failureOf(await synthesis(4, { ...batched({ budgetUsd: 0.004 }), ...long() }))).toMatchObject({
      type: 'BudgetExceeded',
    });
    expect(fake.batches).toHaveLength(2);
    fake.onBatch = (batch) => {
      batch.status = 'failed';
    };
    expect(await failureOf(await synthesis(2, batched()))).toMatchObject({
      type: 'TeacherRejected',
      message: expect.stringContaining('the file has no requests') as string,
    });
  });
});
