/** Addresses, log lines, health and metrics of a worker process, without a server. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { add, METRICS, observe, set, useMeter } from '../../activities/metrics.js';
import { addressOf, textOfAddress } from './addresses.js';
import { Health } from './health.js';
import { jsonLine } from './json-log.js';
import { installTelemetry } from './telemetry.js';

describe('an address of the environment', () => {
  it.each([
    ['127.0.0.1:9464', { host: '127.0.0.1', port: 9464 }],
    ['[::1]:9464', { host: '::1', port: 9464 }],
    ['worker-0.ns.svc:1', { host: 'worker-0.ns.svc', port: 1 }],
  ])('%s', (text, address) => {
    expect(addressOf({ A: text }, 'A')).toEqual(address);
    expect(textOfAddress(address)).toBe(text);
  });

  it('is one port higher for each further process of a host, but for any free port', () => {
    expect(addressOf({ A: 'h:10', ACECODER_PROCESS_NUMBER: '3' }, 'A')?.port).toBe(13);
    expect(addressOf({ A: 'h:0', ACECODER_PROCESS_NUMBER: '3' }, 'A')?.port).toBe(0);
  });

  it.each(['9464', ':9464', 'host:', 'host:99999', 'http://host:1', 'host:1:2', '::1:9464'])(
    '%s is refused by the name of its variable',
    (text) => {
      expect(() => addressOf({ ACECODER_HEALTH: text }, 'ACECODER_HEALTH')).toThrow(`ACECODER_HEALTH is "${text}"`);
    },
  );

  it('is none where the variable is not set or empty', () => {
    expect(addressOf({ A: '' }, 'A')).toBeUndefined();
    expect(addressOf({}, 'A')).toBeUndefined();
  });
});

describe('telemetry that cannot be', () => {
  it.each([
    [{ ACECODER_LOG: 'xml' }, 'ACECODER_LOG is "xml"; known are text and json.'],
    [{ ACECODER_OTLP: 'collector:4318' }, 'ACECODER_OTLP is "collector:4318"'],
    [{ ACECODER_METRICS: 'nine' }, 'ACECODER_METRICS is "nine"'],
  ])('%o', (env, says) => {
    expect(() => installTelemetry(env)).toThrow(says);
  });
});

describe('a line of the log', () => {
  it('is one line, whatever it tells', () => {
    const error = new Error('a\nb', { cause: new TypeError('why') });
    const line = jsonLine('warn', 'x\ny', { error, sequence: 10n, time: 'theirs' }, 0);
    expect(line).not.toContain('\n');
    expect(JSON.parse(line)).toMatchObject({
      time: '1970-01-01T00:00:00.000Z',
      level: 'warn',
      message: 'x\ny',
      sequence: '10',
      time_: 'theirs',
      error: { name: 'Error', message: 'a\nb', cause: { name: 'TypeError', message: 'why' } },
    });
  });
});

describe('health', () => {
  const open: Health[] = [];
  afterEach(() => Promise.all(open.splice(0).map((each) => each.close())));
  async function serving(everySeconds: number): Promise<{ health: Health; get: (path: string) => Promise<Response> }> {
    const health = new Health(everySeconds);
    open.push(health);
    const url = await health.listen({ host: '127.0.0.1', port: 0 });
    return { health, get: (path) => fetch(url + path) };
  }

  it('is ready while all conditions hold, and says which one does not', async () => {
    const { health, get } = await serving(0.01);
    let obstacle: string | undefined = 'away';
    expect((await get('/readyz')).status).toBe(503);
    health.watch({ Store: () => Promise.resolve(obstacle), Disk: () => Promise.resolve(undefined) });
    await expect.poll(() => health.obstacles).toEqual({ Store: 'away' });
    expect(await (await get('/readyz')).json()).toEqual({ ready: false, conditions: { Store: 'away', Disk: 'ok' } });
    obstacle = undefined;
    await expect.poll(async () => (await get('/readyz?verbose')).status).toBe(200);
    expect((await get('/healthz')).status).toBe(200);
  });

  it('takes an error of a look for an obstacle, and looks again', async () => {
    const { health } = await serving(0.01);
    let looks = 0;
    health.watch({
      Device: () => {
        looks += 1;
        return looks === 1 ? Promise.reject(new Error('lost')) : Promise.resolve(undefined);
      },
    });
    await expect.poll(() => looks).toBeGreaterThan(2);
    expect(health.isReady).toBe(true);
  });

  it('looks at other conditions at once, and forgets those that are no more', async () => {
    const { health } = await serving(1000);
    health.watch({ First: () => Promise.resolve('bad') });
    await expect.poll(() => health.obstacles).toEqual({ First: 'bad' });
    health.watch({ Second: () => Promise.resolve(undefined) });
    await expect.poll(() => health.isReady).toBe(true);
  });

  it('ends while a look hangs', async () => {
    const { health } = await serving(0.01);
    health.watch({ Server: () => sleep(60_000, undefined, { ref: false }) });
    await health.close();
  });
});

describe('metrics', () => {
  it('reach the meter under the names of the table, counters as whole numbers', () => {
    const told: unknown[] = [];
    useMeter({
      createCounter: (name) => ({ add: (value, labels) => told.push([name, value, labels]) }),
      createGauge: (name) => ({ set: (value, labels) => told.push([name, value, labels]) }),
      createHistogram: (name) => ({ record: (value, labels) => told.push([name, value, labels]) }),
    });
    add('cost', 0.4, { model: 'm' });
    add('cost', 1234.6, { model: 'm' });
    add('rounds', 1, {});
    set('reward', Number.NaN, {});
    set('reward', 0.25, {});
    observe('deviceWait', 12.5, {});
    expect(told).toEqual([
      [METRICS.cost.name, 1235, { model: 'm' }],
      [METRICS.rounds.name, 1, {}],
      [METRICS.reward.name, 0.25, {}],
      [METRICS.deviceWait.name, 12.5, {}],
    ]);
  });
});
