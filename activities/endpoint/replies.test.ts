/** Replies: stored as they arrive, never asked for twice, within budget and pace. */
import { describe, expect, it } from 'vitest';
import { AskingBench, KEY } from '../../test/fixtures/asking.js';
import { answer, completion, errorBody, exercise, fakeEndpoint } from '../../test/fixtures/fake-endpoint.js';
import { Gate } from '../../test/fixtures/gate.js';

const bench = new AskingBench();

describe('a reply', () => {
  it('that is stored is not asked for, whatever asks', async () => {
    await bench.ask({ seeds: 3 });
    const again = await bench.ask({ seeds: 4, endpoint: { timeoutSeconds: 9 } });
    expect(bench.fake.requests).toHaveLength(4);
    expect(again.metrics).toMatchObject({ replies: 4, requests: 1, storedBefore: 3 });
    await bench.ask({ seeds: 1, teacher: { seed: 1 } });
    expect(bench.fake.requests).toHaveLength(5);
  });

  it('is not lost where the store is away', async () => {
    bench.refusals = 1;
    const { replies } = await bench.ask();
    expect(replies).toHaveLength(1);
    expect(bench.refusals).toBe(0);
    expect(bench.fake.requests).toHaveLength(1);
    expect(bench.documents.size).toBe(1);
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
    bench.fake.behave = (_request, response) => answer(response, 200, body);
    const { replies } = await bench.ask();
    expect(replies).toMatchObject([{ status: 200, body }]);
    expect(bench.fake.requests).toHaveLength(1);
    await bench.ask();
    expect(bench.fake.requests).toHaveLength(1);
  });

  it('without usage its tokens are estimated, and paid', async () => {
    bench.fake.behave = ({ name }, response) => answer(response, 200, completion(exercise(name), { usage: null }));
    const { replies, metrics } = await bench.ask();
    expect(replies![0]!.usage.estimated).toBe(true);
    expect(replies![0]!.usage.completionTokens).toBeGreaterThan(200);
    expect(metrics['estimatedUsage']).toBe(1);
    expect(metrics['costUsd']).toBeGreaterThan(0.001);
  });

  it('what would not end is cut off', async () => {
    bench.fake.behave = (_, response) => answer(response, 200, 'x'.repeat(3 * 1024 * 1024));
    const { replies } = await bench.ask();
    expect(replies![0]).toMatchObject({ cut: true });
    expect(replies![0]!.body).toHaveLength(1024 * 1024);
  });

  it('a refusal of one seed is that seed’s', async () => {
    bench.fake.behave = ({ name }, response) =>
      name === 'times_1' ? answer(response, 400, errorBody('filtered', 'content_filter')) : undefined;
    const { replies, metrics } = await bench.ask({ seeds: 3 });
    expect(replies!.map(({ status }) => status)).toEqual([200, 400, 200]);
    expect(metrics['requests']).toBe(3);
  });

  it('hides a key that the endpoint repeats', async () => {
    bench.fake.behave = ({ authorization, name }, response) =>
      answer(response, 200, completion(exercise(name, { question: authorization })));
    await bench.ask();
    expect(JSON.stringify([...bench.documents.values()])).not.toContain(KEY);
  });
});

describe('money', () => {
  // The prompt has less than 4,000 bytes, the reply at most 8,192 tokens: a request costs at most 0.02 dollars, and
  // 0.0016 in fact.
  it('stops before the share is passed, with everything stored', async () => {
    const { replies, metrics } = await bench.ask({ seeds: 40, share: { usd: 0.03 } });
    expect(replies).toBeUndefined();
    expect(metrics['costUsd']).toBeLessThanOrEqual(0.03);
    expect(metrics['costUsd']).toBeGreaterThan(0.005);
    expect(bench.documents.size).toBe(bench.fake.requests.length);
    const whole = await bench.ask({ seeds: 40, share: { usd: 1 } });
    expect(whole.replies).toHaveLength(40);
    expect(bench.fake.requests).toHaveLength(40);
  });

  it('asks nothing where not even one request is paid for', async () => {
    const { replies, metrics } = await bench.ask({ seeds: 3, share: { usd: 0.001 } });
    expect(replies).toBeUndefined();
    expect(metrics).toMatchObject({ replies: 0, costUsd: 0 });
    expect(bench.fake.requests).toHaveLength(0);
  });

  it('never has more in flight than the share pays for', async () => {
    const slow = await fakeEndpoint(() => 20);
    const { metrics } = await bench.ask({
      seeds: 12,
      endpoint: { baseUrl: slow.url },
      share: { concurrency: 12, usd: 0.045 },
    });
    expect(slow.mostAtOnce).toBeLessThanOrEqual(2);
    expect(metrics['costUsd']).toBeLessThanOrEqual(0.045);
    await slow.close();
  });
});

describe('an activity that is told to end', () => {
  it('asks nothing new, and stores what is on its way', async () => {
    const stop = new AbortController();
    const stopped = new Gate();
    bench.fake.behave = async ({ name }, response) => {
      if (bench.fake.requests.length === 4) {
        stop.abort(new Error('stopped'));
        stopped.open();
      }
      await stopped.passed();
      await answer(response, 200, completion(exercise(name)));
    };
    await expect(bench.ask({ seeds: 20, signal: stop.signal })).rejects.toThrow('stopped');
    expect(bench.fake.requests).toHaveLength(4);
    expect(bench.documents.size).toBe(4);
  });
});

describe('the pace', () => {
  it('of real requests stays below the share', async () => {
    const started = Date.now();
    await bench.ask({ seeds: 6, share: { requestsPerMinute: 600 } });
    expect(Date.now() - started).toBeGreaterThanOrEqual(490);
    const startedAgain = Date.now();
    await bench.ask({ seeds: 8, teacher: { maxTokens: 1000 }, share: { tokensPerMinute: 600_000, concurrency: 1 } });
    // 1,000 tokens per reply at 10,000 tokens per second. The first request may take its time.
    expect(bench.fake.requests.at(-1)!.at - startedAgain).toBeGreaterThanOrEqual(650);
  });

  it('of tokens follows what replies have, not what they may have', async () => {
    const started = Date.now();
    await bench.ask({
      seeds: 8,
      // At the pace of what replies may have, this takes 22 hours.
      teacher: { maxTokens: 100_000_000, seed: 3 },
      share: { tokensPerMinute: 600_000, usd: 10_000 },
    });
    expect(Date.now() - started).toBeGreaterThanOrEqual(600);
    expect(bench.fake.requests).toHaveLength(8);
  });
});
