/**
 * Limits of an endpoint, shared by the shards of a stage that are in flight, on whatever workers they run. Pure.
 *
 * A shard takes a share when it starts and gives it back when it ends, so the shares in flight never exceed the
 * limits. Other shards get what it did not spend. A shard whose share of the budget is too small for its next request
 * comes back for everything that is left. It gets that when no other shard is in flight. When that is too small too,
 * the budget is used up.
 */
import type { AskingExecution } from '../contract/index.js';

/** What one shard may use. `usd` limits the cost of all replies of the shard, those stored before included. */
export interface Share {
  concurrency: number;
  requestsPerMinute?: number;
  tokensPerMinute?: number;
  usd?: number;
}

export interface Limits {
  window: number;
  concurrency: number;
  requestsPerMinute?: number | undefined;
  tokensPerMinute?: number | undefined;
  budgetUsd?: number | undefined;
}

export function limitsOf({
  window,
  budgetUsd,
  endpoint: { concurrency, requestsPerMinute, tokensPerMinute },
}: AskingExecution): Limits {
  return { window, budgetUsd, concurrency, requestsPerMinute, tokensPerMinute };
}

export class Shares {
  readonly #limits: Limits;
  /** Cost of each shard's stored replies, in US dollars. */
  readonly #costs: Map<number, number>;
  readonly #inUse = new Map<number, Share>();
  #waitingForAll = 0;

  constructor(limits: Limits, costs: ReadonlyMap<number, number> = new Map()) {
    this.#limits = limits;
    this.#costs = new Map(costs);
  }

  /** Cost of all stored replies, in US dollars. */
  get spentUsd(): number {
    return [...this.#costs.values()].reduce((sum, cost) => sum + cost, 0);
  }

  /** Declares that a shard wants all that is left. No other shard starts until it has that. */
  waitForAll(): void {
    this.#waitingForAll += 1;
  }

  /** Whether a shard may take a share now. */
  canTake(all = false): boolean {
    return all ? this.#inUse.size === 0 : this.#waitingForAll === 0 && this.#inUse.size < this.#slots;
  }

  /** A share for a shard. `shardsLeft` counts it and those not yet started. `all` takes everything that is left. */
  take(shard: number, shardsLeft: number, all = false): Share {
    if (all) this.#waitingForAll -= 1;
    const parts = all ? 1 : Math.max(1, Math.min(this.#slots - this.#inUse.size, shardsLeft));
    const { concurrency, requestsPerMinute, tokensPerMinute, budgetUsd } = this.#limits;
    const part = (limit: number, used: (share: Share) => number): number =>
      (limit - sum(this.#inUse.values(), used)) / parts;
    const share: Share = {
      concurrency: Math.max(1, Math.floor(part(concurrency, (each) => each.concurrency))),
      ...(requestsPerMinute === undefined
        ? {}
        : { requestsPerMinute: part(requestsPerMinute, (each) => each.requestsPerMinute!) }),
      ...(tokensPerMinute === undefined
        ? {}
        : { tokensPerMinute: part(tokensPerMinute, (each) => each.tokensPerMinute!) }),
      ...(budgetUsd === undefined
        ? {}
        : { usd: this.#cost(shard) + Math.max(0, (budgetUsd - this.spentUsd - this.#unspent()) / parts) }),
    };
    this.#inUse.set(shard, share);
    return share;
  }

  /** Takes a shard's share back; `costUsd` is the cost of all of its stored replies. */
  give(shard: number, costUsd: number): void {
    this.#inUse.delete(shard);
    this.#costs.set(shard, costUsd);
  }

  /** Shards in flight at once: none without a request. */
  get #slots(): number {
    return Math.min(this.#limits.window, this.#limits.concurrency);
  }

  #cost(shard: number): number {
    return this.#costs.get(shard) ?? 0;
  }

  /** What shards in flight may still spend. */
  #unspent(): number {
    return [...this.#inUse].reduce((total, [shard, { usd }]) => total + Math.max(0, (usd ?? 0) - this.#cost(shard)), 0);
  }
}

function sum<T>(items: Iterable<T>, of: (item: T) => number): number {
  let total = 0;
  for (const item of items) total += of(item);
  return total;
}
