/** The teacher behind an endpoint: requests, their repetitions and their price, against a fake endpoint on loopback. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ArtifactStore } from '../artifacts/store.js';
import { retryAfterMs } from './endpoint.js';
import { Pace, pauseMs } from './pace.js';
import { askForReplies, RequestExecution, type Asked } from './replies.js';
import { asksOfSeeds, modelOf, replyKey } from '../synthesis/prompts.js';
import {
  checkInput,
  costOf,
  dollarsText,
  SeedRow,
  semanticsOf,
  StageConfigs,
  StageFailure,
  teacherEstimate,
  type EndpointTeacher,
} from '../../workflows/contract/index.js';
import { Shares } from '../../workflows/lib/shares.js';
import {
  answer,
  completion,
  errorBody,
  exercise,
  fakeEndpoint,
  fakeSeeds,
  type FakeEndpoint,
} from '../../test/fixtures/fake-endpoint.js';

const KEY = 'sk-fake-0123456789abcdef';
const PRICES = { input: 1, output: 2 };
const config = (teacher: object = {}, execution: object = {}, endpoint: object = {}) =>
  StageConfigs.synthesis.parse({
    teacher: { kind: 'openai', model: 'fake', ...teacher },
    execution: { budgetUsd: 1, ...execution, endpoint: { prices: PRICES, ...endpoint } },
  });

let fake: FakeEndpoint;
/** Documents by key: in place of the two functions of the store that the teacher uses. */
let documents: Map<string, unknown>;
/** Whether the store is away. */
let away = false;
const store: Pick<ArtifactStore, 'getJson' | 'putJson'> = {
  getJson: (key: string) => Promise.resolve(documents.get(key)),
  putJson: (key: string, value: unknown) => {
    if (away) return Promise.reject(new StageFailure('StoreUnavailable', 'away'));
    if (documents.has(key)) return Promise.resolve(false);
    documents.set(key, value);
    return Promise.resolve(true);
  },
};

beforeEach(async () => {
  fake = await fakeEndpoint();
  documents = new Map();
  away = false;
});
afterEach(() => fake.close());

interface Options {
  seeds?: number;
  teacher?: object;
  endpoint?: object;
  share?: object;
  secret?: string | undefined;
  signal?: AbortSignal;
  progress?: string[];
}

function ask({
  seeds = 1,
  teacher = {},
  endpoint = {},
  share = {},
  secret = KEY,
  signal = new AbortController().signal,
  progress = [],
}: Options = {}): Promise<Asked> {
  const { teacher: whole, execution } = config(
    teacher,
    {},
    { baseUrl: fake.url, keyVariable: 'FAKE_KEY', ...endpoint },
  );
  const rows = fakeSeeds(seeds)
    .trim()
    .split('\n')
    .map((line) => SeedRow.parse(JSON.parse(line)));
  return askForReplies({
    model: modelOf(whole as EndpointTeacher),
    asks: asksOfSeeds(whole as EndpointTeacher, rows),
    store,
    signal,
    secret: (name) => (name === 'FAKE_KEY' ? secret : undefined),
    execution: RequestExecution.parse({ ...execution, share: { concurrency: 4, usd: 1, ...share } }),
    onProgress: (_done, _total, message) => progress.push(message),
  });
}

describe('a request', () => {
  it('carries model, sampling parameters, key and a schema, once for each seed', async () => {
    const { replies, metrics } = await ask({
      seeds: 6,
      teacher: { temperature: 0.3, topP: 0.9, maxTokens: 500, seed: 7 },
    });
    expect(fake.requests).toHaveLength(6);
    expect(fake.requests[0]!.authorization).toBe(`Bearer ${KEY}`);
    expect(fake.requests[0]!.body).toMatchObject({
      model: 'fake',
      temperature: 0.3,
      top_p: 0.9,
      max_tokens: 500,
      seed: 7,
      response_format: { type: 'json_schema' },
    });
    expect(new Set(fake.requests.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(6);
    expect(fake.mostAtOnce).toBeLessThanOrEqual(4);
    expect(replies!.map(({ seedId }) => seedId)).toEqual([0, 1, 2, 3, 4, 5].map((n) => `fake/times_${n}`));
    expect(metrics).toMatchObject({
      replies: 6,
      requests: 6,
      storedBefore: 0,
      promptTokens: 2400,
      completionTokens: 3600,
      estimatedUsage: 0,
    });
    expect(metrics['costUsd']).toBeCloseTo((6 * (400 + 2 * 600)) / 1e6, 12);
  });

  it('is not made where the reply is stored, whatever asks', async () => {
    await ask({ seeds: 3 });
    const again = await ask({ seeds: 4, endpoint: { timeoutSeconds: 9 } });
    expect(fake.requests).toHaveLength(4);
    expect(again.metrics).toMatchObject({ replies: 4, requests: 1, storedBefore: 3 });
    await ask({ seeds: 1, teacher: { seed: 1 } });
    expect(fake.requests).toHaveLength(5);
  });

  it('asks an endpoint that takes no schema for JSON, and one that takes neither for text', async () => {
    fake.behave = ({ body }, response) => {
      const type = (body['response_format'] as { type?: string } | undefined)?.type;
      return type === undefined
        ? undefined
        : answer(response, 400, errorBody(`'response_format' of type ${type} is not supported`));
    };
    await ask({ seeds: 2, share: { concurrency: 1 } });
    expect(fake.requests.map(({ body }) => (body['response_format'] as { type?: string } | undefined)?.type)).toEqual([
      'json_schema',
      'json_object',
      undefined,
      undefined,
    ]);
    await expect(ask({ teacher: { responseFormat: 'json_object' } })).rejects.toThrow(/response_format/);
  });

  it('asks a model that knows no max_tokens by the newer name', async () => {
    fake.behave = ({ body }, response) =>
      'max_tokens' in body
        ? answer(
            response,
            400,
            errorBody(
              "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
              'unsupported_parameter',
            ),
          )
        : undefined;
    const { replies } = await ask({ teacher: { model: 'newer' } });
    expect(replies).toHaveLength(1);
    expect(fake.requests.map(({ body }) => body['max_completion_tokens'])).toEqual([undefined, 8192]);
  });
});

describe('what passes', () => {
  const first = (
    act: Parameters<typeof answer> extends [infer R, ...unknown[]] ? (response: R) => Promise<void> : never,
  ) => {
    fake.behave = (_, response, nth) => (nth === 1 ? act(response) : undefined);
  };

  it.each([
    ['as seconds', () => '1'],
    ['as a date', () => new Date(Date.now() + 2000).toUTCString()],
  ])('429 is waited for as the endpoint says, %s', async (_, after) => {
    first((response) =>
      answer(response, 429, errorBody('slow down', 'rate_limit_exceeded'), { 'retry-after': after() }),
    );
    const { metrics } = await ask();
    const [one, two] = fake.requests;
    expect(two!.at - one!.at).toBeGreaterThanOrEqual(990);
    expect(two!.idempotencyKey).toBe(one!.idempotencyKey);
    expect(metrics).toMatchObject({ 'retries.rateLimited': 1, requests: 2, replies: 1 });
  });

  it('429 stops the other requests of the shard too', async () => {
    fake.behave = ({ name }, response, nth) =>
      name === 'times_0' && nth === 1
        ? answer(response, 429, errorBody('slow down'), { 'retry-after': '1' })
        : undefined;
    await ask({ seeds: 4, share: { concurrency: 1 } });
    expect(fake.requests[1]!.at - fake.requests[0]!.at).toBeGreaterThanOrEqual(990);
  });

  it('a server error, a reset connection and a broken body are asked again, and counted', async () => {
    fake.behave = (_, response, nth) => {
      if (nth === 1) return answer(response, 503, 'busy');
      if (nth === 2) {
        response.socket!.destroy();
        return Promise.resolve();
      }
      if (nth === 3) {
        response
          .writeHead(200, { 'content-type': 'application/json', 'content-length': '5000' })
          .write('{"choices": [');
        setTimeout(() => response.socket?.destroy(), 20);
        return Promise.resolve();
      }
      return undefined;
    };
    const progress: string[] = [];
    const { metrics, replies } = await ask({ progress });
    expect(metrics).toMatchObject({
      'retries.serverError': 1,
      'retries.connection': 1,
      'retries.brokenReply': 1,
      requests: 4,
      replies: 1,
    });
    expect(replies![0]!.body).toContain('times_0');
    expect(progress.at(-2)).toMatch(/3 asked again, last because of brokenReply: /);
    expect(new Set(fake.requests.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1);
  });

  it('a reply that trickles in or never comes is asked for again', async () => {
    fake.behave = (_, response, nth) => {
      if (nth === 1) return new Promise(() => undefined);
      if (nth === 2) {
        response.writeHead(200, { 'content-type': 'application/json' });
        const drip = setInterval(() => response.write(' '), 50);
        response.on('close', () => clearInterval(drip));
        return Promise.resolve();
      }
      return undefined;
    };
    const { metrics } = await ask({ endpoint: { timeoutSeconds: 0.3 } });
    expect(metrics).toMatchObject({ 'retries.timeout': 2, requests: 3, replies: 1 });
  });

  it('a store that is away loses no reply', async () => {
    away = true;
    setTimeout(() => {
      away = false;
    }, 500);
    const { replies } = await ask();
    expect(replies).toHaveLength(1);
    expect(fake.requests).toHaveLength(1);
    expect(documents.size).toBe(1);
  });
});

describe('what arrives is stored as it is', () => {
  it.each([
    ['nothing', ''],
    ['HTML', '<html>busy</html>'],
    ['no JSON', '{"choices": ['],
    ['a refusal', completion(null, { refusal: 'no' })],
    ['a cut reply', completion('{"que', { finish: 'length' })],
  ])('%s', async (_, body) => {
    fake.behave = (_request, response) => answer(response, 200, body);
    const { replies } = await ask();
    expect(replies).toMatchObject([{ status: 200, body }]);
    expect(fake.requests).toHaveLength(1);
    await ask();
    expect(fake.requests).toHaveLength(1);
  });

  it('without usage its tokens are estimated, and paid', async () => {
    fake.behave = ({ name }, response) => answer(response, 200, completion(exercise(name), { usage: null }));
    const { replies, metrics } = await ask();
    expect(replies![0]!.usage.estimated).toBe(true);
    expect(replies![0]!.usage.completionTokens).toBeGreaterThan(200);
    expect(metrics['estimatedUsage']).toBe(1);
    expect(metrics['costUsd']).toBeGreaterThan(0.001);
  });

  it('what would not end is cut off', async () => {
    fake.behave = (_, response) => answer(response, 200, 'x'.repeat(3 * 1024 * 1024));
    const { replies } = await ask();
    expect(replies![0]).toMatchObject({ cut: true });
    expect(replies![0]!.body).toHaveLength(1024 * 1024);
  });

  it('a refusal of one seed is that seed’s', async () => {
    fake.behave = ({ name }, response) =>
      name === 'times_1' ? answer(response, 400, errorBody('filtered', 'content_filter')) : undefined;
    const { replies, metrics } = await ask({ seeds: 3 });
    expect(replies!.map(({ status }) => status)).toEqual([200, 400, 200]);
    expect(metrics['requests']).toBe(3);
  });

  it('hides a key that the endpoint repeats', async () => {
    fake.behave = ({ authorization, name }, response) =>
      answer(response, 200, completion(exercise(name, { question: authorization })));
    await ask();
    expect(JSON.stringify([...documents.values()])).not.toContain(KEY);
  });
});

describe('what no repetition mends', () => {
  const rejected = async (options: Options = {}): Promise<StageFailure> => {
    const error: unknown = await ask(options).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(StageFailure);
    expect((error as StageFailure).type).toBe('TeacherRejected');
    expect((error as StageFailure).message).not.toContain(KEY);
    return error as StageFailure;
  };

  it.each([
    [401, errorBody(`Incorrect API key provided: ${KEY}`, 'invalid_api_key')],
    [403, errorBody('no access')],
    [404, errorBody('The model fake does not exist', 'model_not_found')],
    [402, errorBody('no money')],
    [429, errorBody('You exceeded your current quota', 'insufficient_quota')],
    [400, errorBody('temperature is not supported')],
  ])('%d is told', async (status, body) => {
    fake.behave = (_, response) => answer(response, status, body);
    const { message } = await rejected({ seeds: 3 });
    expect(message).toContain(`refuses model 'fake' with ${status}`);
    expect(fake.requests.length).toBeLessThanOrEqual(3);
  });

  it('a missing key is told by its variable, before anything is asked', async () => {
    for (const secret of [undefined, '', ' ']) {
      expect(
        (
          await rejected({
            secret: secret as string,
            ...(secret === undefined ? { endpoint: { keyVariable: 'OTHER_KEY' } } : {}),
          })
        ).message,
      ).toMatch(/^the environment variable (FAKE|OTHER)_KEY, which execution\.endpoint\.keyVariable names, is not set/);
    }
    expect(fake.requests).toHaveLength(0);
  });

  it('needs no key where the endpoint needs none', async () => {
    await ask({ endpoint: { keyVariable: null } });
    expect(fake.requests).toHaveLength(1);
  });

  it('does not wait for requests that would be repeated without end', async () => {
    fake.behave = ({ name }, response) =>
      name === 'times_0' ? answer(response, 500, '') : answer(response, 401, errorBody('no'));
    await rejected({ seeds: 4, share: { concurrency: 2 } });
  });
});

describe('money', () => {
  // The prompt has less than 4,000 bytes, the reply at most 8,192 tokens: a request costs at most 0.02 dollars, and
  // 0.0016 in fact.
  it('stops before the share is passed, with everything stored', async () => {
    const { replies, metrics } = await ask({ seeds: 40, share: { usd: 0.03 } });
    expect(replies).toBeUndefined();
    expect(metrics['costUsd']).toBeLessThanOrEqual(0.03);
    expect(metrics['costUsd']).toBeGreaterThan(0.005);
    expect(documents.size).toBe(fake.requests.length);
    const whole = await ask({ seeds: 40, share: { usd: 1 } });
    expect(whole.replies).toHaveLength(40);
    expect(fake.requests).toHaveLength(40);
  });

  it('asks nothing where not even one request is paid for', async () => {
    const { replies, metrics } = await ask({ seeds: 3, share: { usd: 0.001 } });
    expect(replies).toBeUndefined();
    expect(metrics).toMatchObject({ replies: 0, costUsd: 0 });
    expect(fake.requests).toHaveLength(0);
  });

  it('never has more in flight than the share pays for', async () => {
    const slow = await fakeEndpoint(() => 20);
    const { metrics } = await ask({
      seeds: 12,
      endpoint: { baseUrl: slow.url },
      share: { concurrency: 12, usd: 0.045 },
    });
    expect(slow.mostAtOnce).toBeLessThanOrEqual(2);
    expect(metrics['costUsd']).toBeLessThanOrEqual(0.045);
    await slow.close();
  });

  it('is counted from tokens and prices', () => {
    expect(costOf({ promptTokens: 1e6, completionTokens: 5e5 }, { input: 0.15, output: 0.6 })).toBeCloseTo(0.45, 12);
    expect(costOf({ promptTokens: 1e6, completionTokens: 5e5 }, undefined)).toBe(0);
    expect([0, 0.0716, 5].map(dollarsText)).toEqual(['0', '0.0716', '5.00']);
  });

  it('is estimated before anything is asked', () => {
    const { teacher } = config({ maxTokens: 900 });
    const { dollars, atMost } = teacherEstimate(teacher as EndpointTeacher, PRICES, 100, 300);
    expect(dollars).toBeGreaterThan(0.1);
    expect(atMost).toBeGreaterThanOrEqual(dollars);
    expect(teacherEstimate(teacher as EndpointTeacher, PRICES, 200, 300).dollars).toBeCloseTo(2 * dollars, 3);
  });
});

describe('an activity that is told to end', () => {
  it('asks nothing new, and stores what is on its way', async () => {
    const slow = await fakeEndpoint(() => 300);
    const stop = new AbortController();
    setTimeout(() => stop.abort(new Error('stopped')), 100);
    await expect(ask({ seeds: 20, signal: stop.signal, endpoint: { baseUrl: slow.url } })).rejects.toThrow('stopped');
    expect(slow.requests).toHaveLength(4);
    expect(documents.size).toBe(4);
    await slow.close();
  });
});

describe('the pace', () => {
  it('spreads requests over the minute', () => {
    const pace = new Pace(60, 0);
    expect([0, 0, 0].map((now) => pace.take(1, now))).toEqual([0, 1000, 2000]);
    expect(pace.take(1, 10_000)).toBe(10_000);
    expect([5, 5].map((now) => new Pace(undefined, 0).take(1, now))).toEqual([5, 5]);
  });

  it('takes back what was not used', () => {
    const pace = new Pace(6000, 0);
    pace.take(600, 0);
    expect(pace.take(0, 0)).toBe(6000);
    pace.giveBack(500);
    expect(pace.take(0, 0)).toBe(1000);
  });

  it('of real requests stays below the share', async () => {
    const started = Date.now();
    await ask({ seeds: 6, share: { requestsPerMinute: 600 } });
    expect(Date.now() - started).toBeGreaterThanOrEqual(490);
    await ask({ seeds: 8, teacher: { maxTokens: 1000 }, share: { tokensPerMinute: 600_000, concurrency: 1 } });
    // 1,000 tokens a reply at 10,000 tokens a second.
    expect(fake.requests.at(-1)!.at - fake.requests.at(-8)!.at).toBeGreaterThanOrEqual(650);
  });

  it('of tokens follows what replies have, not what they may have', async () => {
    const started = Date.now();
    await ask({ seeds: 8, teacher: { maxTokens: 100_000, seed: 3 }, share: { tokensPerMinute: 600_000, usd: 100 } });
    expect(Date.now() - started).toBeGreaterThanOrEqual(600);
    expect(Date.now() - started).toBeLessThan(3000);
  });

  it('pauses longer each time, or as long as the endpoint asks', () => {
    expect([0, 1, 2, 20].map((attempt) => pauseMs(attempt, undefined, 1))).toEqual([500, 1000, 2000, 60_000]);
    expect(pauseMs(5, 3000, 0)).toBe(3000);
    const headers = (values: Record<string, string>) => ({ get: (name: string) => values[name] ?? null });
    expect(retryAfterMs(headers({ 'retry-after': '7' }), 0)).toBe(7000);
    expect(retryAfterMs(headers({ 'retry-after-ms': '70', 'retry-after': '7' }), 0)).toBe(70);
    expect(retryAfterMs(headers({ 'retry-after': 'Thu, 01 Jan 1970 00:00:09 GMT' }), 2000)).toBe(7000);
    expect([headers({}), headers({ 'retry-after': 'soon' })].map((each) => retryAfterMs(each, 0))).toEqual([
      undefined,
      undefined,
    ]);
    expect(retryAfterMs(headers({ 'retry-after': 'Thu, 01 Jan 1970 00:00:01 GMT' }), 2000)).toBe(0);
  });
});

describe('shares of the limits', () => {
  const limits = { window: 4, concurrency: 10, requestsPerMinute: 100, tokensPerMinute: 1000, budgetUsd: 8 };

  it('add up to the limits, and the last shards get what is left', () => {
    const shares = new Shares(limits);
    const taken = [0, 1, 2, 3].map((shard) => shares.take(shard, 10 - shard));
    expect(taken.map(({ requestsPerMinute }) => requestsPerMinute)).toEqual([25, 25, 25, 25]);
    expect(taken.map(({ usd }) => usd)).toEqual([2, 2, 2, 2]);
    expect(taken.reduce((sum, { concurrency }) => sum + concurrency, 0)).toBeLessThanOrEqual(10);
    expect(shares.canTake()).toBe(false);
    shares.give(0, 0.5);
    expect(shares.canTake()).toBe(true);
    expect(shares.take(4, 1)).toMatchObject({ requestsPerMinute: 25, usd: 1.5 });
    expect(new Shares(limits).take(0, 1)).toEqual({
      concurrency: 10,
      requestsPerMinute: 100,
      tokensPerMinute: 1000,
      usd: 8,
    });
  });

  it('count what was paid before', () => {
    const shares = new Shares(
      limits,
      new Map([
        [0, 3],
        [7, 1],
      ]),
    );
    expect(shares.spentUsd).toBe(4);
    expect(shares.take(0, 1).usd).toBe(3 + 4);
    shares.give(0, 5);
    expect(shares.take(1, 1).usd).toBe(2);
    expect(new Shares(limits, new Map([[0, 9]])).take(0, 1).usd).toBe(9);
  });

  it('give one shard all that is left when no other one has a share', () => {
    const shares = new Shares(limits);
    shares.take(0, 9);
    shares.take(1, 8);
    shares.give(0, 1.9);
    shares.waitForAll();
    expect([shares.canTake(), shares.canTake(true)]).toEqual([false, false]);
    shares.give(1, 0.1);
    expect(shares.canTake(true)).toBe(true);
    expect(shares.take(0, 8, true)).toMatchObject({ usd: 1.9 + 6, requestsPerMinute: 100 });
    shares.give(0, 3);
    expect(shares.canTake()).toBe(true);
  });

  it('never pass the budget, whatever order shards end in', () => {
    let state = 1;
    const random = (): number => {
      state = (state * 48_271) % 2_147_483_647;
      return state / 2_147_483_647;
    };
    const shares = new Shares(limits);
    const running = new Map<number, number>();
    for (let next = 0; next < 200;) {
      if (shares.canTake() && random() < 0.6) {
        running.set(next, shares.take(next, 200 - next).usd!);
        next += 1;
      } else if (running.size > 0) {
        const [shard, usd] = [...running][Math.floor(random() * running.size)]!;
        running.delete(shard);
        shares.give(shard, usd * random());
      }
      expect(shares.spentUsd).toBeLessThanOrEqual(8);
    }
  });
});

describe('the configuration', () => {
  const mistakesOf = (teacher: object, execution: object): string[] =>
    (
      checkInput('synthesis', { inputs: { seeds: { kind: 'seeds', path: 's.jsonl' } }, config: { teacher, execution } })
        .mistakes ?? []
    ).map(({ path, message }) => `${path}: ${message}`);
  const teacher = { kind: 'openai', model: 'fake' };

  it('needs prices, and a budget where something is paid', () => {
    expect(mistakesOf(teacher, {}).join()).toMatch(/^config\.execution\.endpoint\.prices: needed/);
    expect(mistakesOf(teacher, { endpoint: { prices: PRICES } }).join()).toMatch(
      /^config\.execution\.budgetUsd: needed/,
    );
    expect(mistakesOf(teacher, { endpoint: { prices: { input: 0, output: 0 } } })).toEqual([]);
    expect(mistakesOf(teacher, { budgetUsd: 5, endpoint: { prices: PRICES } })).toEqual([]);
    expect(mistakesOf({ kind: 'offline' }, {})).toEqual([]);
  });

  it.each([
    ['a key in the place of its variable', { keyVariable: KEY }],
    ['a secret of the system', { keyVariable: 'ACECODER_S3_SECRET_KEY' }],
    ['a password in the address', { baseUrl: 'https://me:hunter2hunter2@example.org/v1' }],
    ['no address', { baseUrl: 'file:///etc/passwd' }],
  ])('refuses %s, and does not repeat it', (_, endpoint) => {
    const { mistakes } = checkInput('synthesis', {
      inputs: { seeds: { kind: 'seeds', path: 's.jsonl' } },
      config: { teacher, execution: { budgetUsd: 5, endpoint: { prices: PRICES, ...endpoint } } },
    });
    expect(mistakes).toHaveLength(1);
    expect(JSON.stringify(mistakes)).not.toMatch(/0123456789abcdef|hunter2/);
  });

  it('has model, prompt and sampling in the key of the stage, and nothing of how it is asked', () => {
    expect(semanticsOf(config({}, { budgetUsd: 2 }, { baseUrl: 'http://127.0.0.1/v1', concurrency: 3 }))).toEqual(
      semanticsOf(config()),
    );
    expect(JSON.stringify(semanticsOf(config()))).not.toMatch(/http|KEY/);
    const keys = [
      {},
      { model: 'other' },
      { temperature: 0.1 },
      { topP: 0.5 },
      { maxTokens: 10 },
      { testCases: 5 },
      { seed: 1 },
      { responseFormat: 'text' },
    ].map((changes) => replyKey(config(changes).teacher as EndpointTeacher, { code: 'code' }));
    const own = config().teacher as EndpointTeacher;
    expect(
      new Set([
        ...keys,
        replyKey(own, { code: 'other code' }),
        replyKey(own, { code: 'code', instruction: 'what for' }),
      ]).size,
    ).toBe(10);
  });
});
