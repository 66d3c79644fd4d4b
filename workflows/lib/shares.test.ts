/** Shares of the limits of an endpoint: they add up to the limits, whatever order shards end in. */
import { describe, expect, it } from 'vitest';
import { Shares } from './shares.js';

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
