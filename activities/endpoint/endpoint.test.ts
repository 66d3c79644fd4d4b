/** Requests to an endpoint and what is repeated, against a fake endpoint on loopback. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StageFailure } from '../../workflows/contract/index.js';
import { AskingBench, KEY, type AskOptions } from '../../test/fixtures/asking.js';
import { answer, errorBody, fakeEndpoint } from '../../test/fixtures/fake-endpoint.js';
import { retryAfterMs } from './endpoint.js';

const bench = new AskingBench();

describe('a request', () => {
  it('carries model, sampling parameters, key and a schema, once for each seed', async () => {
    const { replies, metrics } = await bench.ask({
      seeds: 6,
      teacher: { temperature: 0.3, topP: 0.9, maxTokens: 500, seed: 7 },
    });
    expect(bench.fake.requests).toHaveLength(6);
    expect(bench.fake.requests[0]!.authorization).toBe(`Bearer ${KEY}`);
    expect(bench.fake.requests[0]!.body).toMatchObject({
      model: 'fake',
      temperature: 0.3,
      top_p: 0.9,
      max_tokens: 500,
      seed: 7,
      response_format: { type: 'json_schema' },
    });
    expect(new Set(bench.fake.requests.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(6);
    expect(bench.fake.mostAtOnce).toBeLessThanOrEqual(4);
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

  it('asks an endpoint that takes no schema for JSON, and one that takes neither for text', async () => {
    bench.fake.behave = ({ body }, response) => {
      const type = (body['response_format'] as { type?: string } | undefined)?.type;
      return type === undefined
        ? undefined
        : answer(response, 400, errorBody(`'response_format' of type ${type} is not supported`));
    };
    await bench.ask({ seeds: 2, share: { concurrency: 1 } });
    expect(
      bench.fake.requests.map(({ body }) => (body['response_format'] as { type?: string } | undefined)?.type),
    ).toEqual(['json_schema', 'json_object', undefined, undefined]);
    await expect(bench.ask({ teacher: { responseFormat: 'json_object' } })).rejects.toThrow(/response_format/);
  });

  it('asks a model that knows no max_tokens by the newer name', async () => {
    bench.fake.behave = ({ body }, response) =>
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
    const { replies } = await bench.ask({ teacher: { model: 'newer' } });
    expect(replies).toHaveLength(1);
    expect(bench.fake.requests.map(({ body }) => body['max_completion_tokens'])).toEqual([undefined, 8192]);
  });
});

describe('what passes', () => {
  const first = (
    act: Parameters<typeof answer> extends [infer R, ...unknown[]] ? (response: R) => Promise<void> : never,
  ) => {
    bench.fake.behave = (_, response, nth) => (nth === 1 ? act(response) : undefined);
  };

  it.each([
    ['as seconds', () => '1'],
    ['as a date', () => new Date(Date.now() + 2000).toUTCString()],
  ])('429 is waited for as the endpoint says, %s', async (_, after) => {
    first((response) =>
      answer(response, 429, errorBody('slow down', 'rate_limit_exceeded'), { 'retry-after': after() }),
    );
    const { metrics } = await bench.ask();
    const [one, two] = bench.fake.requests;
    expect(two!.at - one!.at).toBeGreaterThanOrEqual(990);
    expect(two!.idempotencyKey).toBe(one!.idempotencyKey);
    expect(metrics).toMatchObject({ 'retries.rateLimited': 1, requests: 2, replies: 1 });
  });

  it('429 stops the other requests of the shard too', async () => {
    bench.fake.behave = ({ name }, response, nth) =>
      name === 'times_0' && nth === 1
        ? answer(response, 429, errorBody('slow down'), { 'retry-after': '1' })
        : undefined;
    await bench.ask({ seeds: 4, share: { concurrency: 1 } });
    expect(bench.fake.requests[1]!.at - bench.fake.requests[0]!.at).toBeGreaterThanOrEqual(990);
  });

  it('a server error, a reset connection and a broken body are asked again, and counted', async () => {
    bench.fake.behave = (_, response, nth) => {
      if (nth === 1) return answer(response, 503, 'busy');
      if (nth === 2) {
        response.socket!.destroy();
        return Promise.resolve();
      }
      if (nth === 3) {
        response
          .writeHead(200, { 'content-type': 'application/json', 'content-length': '5000' })
          .write('{"choices": [', () => response.socket?.destroy());
        return Promise.resolve();
      }
      return undefined;
    };
    const progress: string[] = [];
    const { metrics, replies } = await bench.ask({ progress });
    expect(metrics).toMatchObject({
      'retries.serverError': 1,
      'retries.connection': 1,
      'retries.brokenReply': 1,
      requests: 4,
      replies: 1,
    });
    expect(replies![0]!.body).toContain('times_0');
    expect(progress.at(-2)).toMatch(/3 asked again, last because of brokenReply: /);
    expect(new Set(bench.fake.requests.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1);
  });

  it('a reply that trickles in or never comes is asked for again', async () => {
    bench.fake.behave = (_, response, nth) => {
      if (nth === 1) return new Promise(() => undefined);
      if (nth === 2) {
        response.writeHead(200, { 'content-type': 'application/json' });
        const drip = setInterval(() => response.write(' '), 50);
        response.on('close', () => clearInterval(drip));
        return Promise.resolve();
      }
      return undefined;
    };
    const { metrics } = await bench.ask({ endpoint: { timeoutSeconds: 0.3 } });
    // On a slow host an answer may come too late, too.
    const requests = bench.fake.requests.length;
    expect(requests).toBeGreaterThanOrEqual(3);
    expect(metrics).toMatchObject({ 'retries.timeout': requests - 1, requests, replies: 1 });
  });
});

describe('what no repetition mends', () => {
  const rejected = async (options: AskOptions = {}): Promise<StageFailure> => {
    const error: unknown = await bench.ask(options).catch((caught: unknown) => caught);
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
    [400, errorBody('this cannot be done')],
  ])('%d is told', async (status, body) => {
    bench.fake.behave = (_, response) => answer(response, status, body);
    const { message } = await rejected({ seeds: 3 });
    expect(message).toContain(`refuses model 'fake' with ${status}`);
    expect(bench.fake.requests.length).toBeLessThanOrEqual(3);
  });

  it('is refused for no known reason before anything is answered, and after that again and again', async () => {
    bench.fake.behave = ({ name }, response) =>
      Number(name.slice('times_'.length)) < 4 ? undefined : answer(response, 400, errorBody('this cannot be done'));
    const { message } = await rejected({ seeds: 40, share: { concurrency: 1 } });
    expect(message).toContain('with 400: this cannot be done');
    // Those are the stage's trouble, and none of them is kept as a row's but what was settled before.
    expect(bench.fake.requests).toHaveLength(4 + 16);
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
    expect(bench.fake.requests).toHaveLength(0);
  });

  it('needs no key where the endpoint needs none', async () => {
    await bench.ask({ endpoint: { keyVariable: null } });
    expect(bench.fake.requests).toHaveLength(1);
  });

  it('does not wait for requests that would be repeated without end', async () => {
    bench.fake.behave = ({ name }, response) =>
      name === 'times_0' ? answer(response, 500, '') : answer(response, 401, errorBody('no'));
    await rejected({ seeds: 4, share: { concurrency: 2 } });
  });
});

describe('what leaves the worker', () => {
  const variables = {
    OPENAI_CUSTOM_HEADERS: 'X-Team: secret-of-another\nAuthorization: Bearer another',
    OPENAI_ADMIN_KEY: 'sk-admin',
    OPENAI_ORG_ID: 'org',
    OPENAI_PROJECT_ID: 'project',
  };
  beforeEach(() => void Object.assign(process.env, variables));
  afterEach(() => {
    for (const name of Object.keys(variables)) delete process.env[name];
  });

  it.each([KEY, null])('is the key of the endpoint, or none, and nothing else of the environment', async (key) => {
    await bench.ask({ ...(key === null ? { endpoint: { keyVariable: null } } : {}) });
    const { headers } = bench.fake.requests[0]!;
    expect(Object.keys(headers).sort()).toEqual([
      'accept',
      'accept-encoding',
      'accept-language',
      'authorization',
      'connection',
      'content-length',
      'content-type',
      'host',
      'idempotency-key',
      'sec-fetch-mode',
      'user-agent',
    ]);
    expect(headers['authorization']).toBe(`Bearer ${key ?? 'none'}`);
    expect(JSON.stringify(headers)).not.toMatch(/secret-of-another|sk-admin|org|project/);
  });

  it.each([301, 302, 303, 307, 308])('goes to no other host by a redirect: %d', async (status) => {
    const elsewhere = await fakeEndpoint();
    try {
      bench.fake.behave = (_, response) =>
        answer(response, status, '', { location: `${elsewhere.url}/chat/completions?leak=1` });
      await expect(bench.ask()).rejects.toThrow(
        `answers with ${status}, a redirect to ${new URL(elsewhere.url).origin}, which is not followed`,
      );
      expect(elsewhere.requests).toEqual([]);
      expect(bench.fake.requests).toHaveLength(1);
    } finally {
      await elsewhere.close();
    }
  });

  it('goes to no endpoint that the worker does not allow, with or without a key', async () => {
    for (const keyVariable of ['FAKE_KEY', null]) {
      const error: unknown = await bench
        .ask({ endpoint: { baseUrl: bench.fake.url.replace('127.0.0.1', 'localhost'), keyVariable } })
        .catch((caught: unknown) => caught);
      expect((error as StageFailure).type).toBe('TeacherRejected');
      expect((error as StageFailure).message).toMatch(
        /may not ask the endpoint http:\/\/localhost.*ACECODER_ENDPOINTS/,
      );
    }
    expect(bench.fake.requests).toEqual([]);
  });
});

describe('the pause that an endpoint asks for', () => {
  it('is that of its headers, as seconds, milliseconds or a date', () => {
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
