/** A language model behind an endpoint that costs money, and the store of the replies that arrived. */
import { sha256 } from '../../activities/artifacts/keys.js';
import type { BugName } from './planted-bugs.js';

const MICRO = 1_000_000;

/** What a shard's requests came to. */
export interface Asked {
  costUsd: number;
  replies: number;
  /** The next reply could pass the share. */
  incomplete: boolean;
}

export class SimulatedEndpoint {
  /** Cost of each stored reply, in millionths of a US dollar. */
  readonly #stored = new Map<string, number>();
  readonly #arrived = new Set<string>();
  /** Replies that were asked for although they had arrived. */
  readonly askedAgain: string[] = [];
  /** What the replies of each stage cost, in US dollars. */
  readonly paidUsd = new Map<string, number>();

  constructor(private readonly bugs: ReadonlySet<BugName>) {}

  /**
   * Asks for the replies of a shard that are not stored.
   *
   * @param stage the key of the shard's stage
   * @param share share of the work after which the asking attempt dies; 1: it ends by itself
   * @param usd what all replies of the shard may cost; absent: anything
   */
  ask(stage: string, shard: string, attempt: number, share: number, usd = Number.POSITIVE_INFINITY): Asked {
    const keys = repliesOf(shard);
    const named = (key: string): string => (this.bugs.has('repliesOfAttempt') ? `${key}#${attempt}` : key);
    const missing = keys.filter((key) => !this.#stored.has(named(key)));
    const asked = share < 1 ? missing.slice(0, Math.floor(missing.length * share)) : missing;
    const kept: [string, number][] = [];
    const end = (incomplete: boolean): Asked => {
      if (share === 1 || !this.bugs.has('repliesStoredAtEnd'))
        for (const [key, cost] of kept) this.#stored.set(key, cost);
      const costUsd = this.costUsd(shard);
      return { costUsd, replies: keys.length, incomplete };
    };
    let spent = keys.reduce((sum, key) => sum + (this.#stored.get(named(key)) ?? 0), 0);
    for (const key of asked) {
      const cost = costOf(key);
      // Below a millionth, sums of shares differ from their parts.
      if (spent + cost > usd * MICRO + 0.5) return end(true);
      if (this.#arrived.has(key)) this.askedAgain.push(key);
      this.#arrived.add(key);
      this.paidUsd.set(stage, (this.paidUsd.get(stage) ?? 0) + cost / MICRO);
      spent += cost;
      kept.push([named(key), cost]);
    }
    return end(false);
  }

  /** What the stored replies of a shard cost, in US dollars. */
  costUsd(shard: string): number {
    return repliesOf(shard).reduce((sum, key) => sum + (this.#stored.get(key) ?? 0), 0) / MICRO;
  }
}

function numberOf(text: string): number {
  return Number.parseInt(sha256(text).slice(0, 6), 16);
}

function repliesOf(shard: string): string[] {
  return Array.from({ length: 3 + (numberOf(shard) % 4) }, (_, index) => `${shard}/${index}`);
}

function costOf(key: string): number {
  return 1000 + (numberOf(key) % 2000);
}
