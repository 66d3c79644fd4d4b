/**
 * Replies of an endpoint. Each is asked for once, stored before anything else happens to it, and found again by its
 * key.
 *
 * The key names what was asked, not who asked. Another attempt, stage or experiment with the same model, prompt, seed
 * and sampling parameters reads the stored reply.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import {
  costOf,
  costOfReply,
  dollarsText,
  estimatedTokens,
  RawReply,
  EndpointExecution,
  StageFailure,
  type EndpointModel,
  type Prompt,
} from '../../workflows/contract/index.js';
import { count, eachOf } from '../artifacts/collections.js';
import { objectKeys, sha256 } from '../artifacts/keys.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { add, set } from '../metrics.js';
import type { KeyOf } from './allowed.js';
import { Endpoint, textOf } from './endpoint.js';
import type { RetryReason } from './meaning.js';
import { Pace, pauseMs } from './pace.js';
import { Refusals } from './refusals.js';

/** How a shard asks: the stage's settings of the endpoint, and the shard's share of its limits. */
export const RequestExecution = z.object({
  endpoint: EndpointExecution,
  share: z.strictObject({
    concurrency: z.number().int().positive(),
    requestsPerMinute: z.number().positive().optional(),
    tokensPerMinute: z.number().positive().optional(),
    usd: z.number().nonnegative().optional(),
  }),
});
export type RequestExecution = z.infer<typeof RequestExecution>;

/**
 * One question to the endpoint: the seed that it is about, its key, its prompt, and the sampling seed; null: none is
 * sent. {@link Refusals.keyOf} makes the key of the reply out of `key`.
 */
export interface Ask {
  seedId: string;
  key: string;
  prompt: Prompt;
  seed: number | null;
}

/** A batch that was sent: its id at the endpoint, the keys of its requests, and what they left out. */
const BatchDocument = z.object({ id: z.string(), keys: z.array(z.string()), leftOut: z.array(z.string()).optional() });

/** How long requests in flight may go on after the activity is told to end, because their replies are paid for. */
const GRACE_MS = 20_000;
/** Reads of stored replies at once. */
const READS = 32;
/** Rows that an endpoint refuses for no known reason before it has answered any: then it refuses the stage. */
const REFUSED_AT_FIRST = 3;
/** The same, one after another, of an endpoint that has answered. */
const REFUSED_IN_A_ROW = 16;

/** What asking needs of the store. */
type Documents = Pick<ArtifactStore, 'following' | 'getJson' | 'putJson'>;

export interface Asking {
  model: EndpointModel;
  asks: readonly Ask[];
  execution: RequestExecution;
  store: Documents;
  /** The key of an endpoint. @throws StageFailure `TeacherRejected` for what this worker does not allow. */
  secret: KeyOf;
  signal: AbortSignal;
  onProgress: (done: number, total: number, message: string) => void;
}

/** The replies of a shard; undefined where its share of the budget did not pay for all of them. */
export interface Asked {
  replies: RawReply[] | undefined;
  metrics: Record<string, number>;
  /** How requests differed from the configuration, in sentences: each is said once. */
  notes: { endpoint?: string[] };
}

/**
 * The replies to a shard's questions, in their order: stored ones, and the others from the endpoint.
 *
 * Rate limits, errors of the server and broken connections are retried without a limit. What the endpoint refuses of
 * one row is that row's reply.
 *
 * @throws StageFailure `TeacherRejected` for errors that no retry mends.
 */
export async function askForReplies(asking: Asking): Promise<Asked> {
  const { store, model, execution } = asking;
  return new ShardOfRequests(asking, await Refusals.of(store, execution.endpoint, model)).run();
}

const MICRODOLLARS = 1_000_000;

class ShardOfRequests {
  readonly #asking: Asking;
  readonly #endpoint: Endpoint;
  readonly #replies: (RawReply | undefined)[];
  /** How many of them there are. */
  #done = 0;
  readonly #requests: Pace;
  readonly #tokens: Pace;
  readonly #counts: Record<string, number> = {};
  /** Aborted when no further request may start: the activity ends, or the endpoint has refused for good. */
  readonly #soft = new AbortController();
  /** Ends requests in flight, `GRACE_MS` later. */
  readonly #hard = new AbortController();
  /** No request starts before this time, in milliseconds: the endpoint asked for a pause. */
  #pausedUntil = 0;
  #spentUsd = 0;
  /** Tokens of a reply on average: the expected number at first, then the measured one. */
  #replyTokens: number;
  /** The most that requests in flight can cost, in US dollars. */
  #reservedUsd = 0;
  #inFlight = new Set<Promise<void>>();
  #lastTrouble = '';
  readonly #said = new Set<string>();
  /** Rows that were refused before the endpoint answered any. */
  readonly #held: { index: number; reply: RawReply; failure: StageFailure }[] = [];
  #refusedInARow = 0;

  constructor(
    asking: Asking,
    private readonly refusals: Refusals,
  ) {
    const {
      model,
      asks,
      execution: { endpoint, share },
      secret,
    } = asking;
    this.#asking = asking;
    this.#endpoint = new Endpoint(model, endpoint, secret(endpoint), refusals, {
      count: (name) => this.#count(name),
      say: (sentence) => void this.#said.add(sentence),
    });
    this.#replies = asks.map(() => undefined);
    this.#replyTokens = model.expectedReplyTokens;
    this.#requests = new Pace(share.requestsPerMinute, Date.now());
    this.#tokens = new Pace(share.tokensPerMinute, Date.now());
  }

  async run(): Promise<Asked> {
    const { asks, signal } = this.#asking;
    await eachOf(asks.length, READS, async (index) => {
      const stored = await findReply(this.#asking.store, ...this.refusals.keysOf(asks[index]!.key));
      if (stored) this.#have(index, stored);
    });
    const missing = asks.map((_, index) => index).filter((index) => !this.#replies[index]);
    this.#count('storedBefore', this.#done);
    this.#tell();
    let timer: NodeJS.Timeout | undefined;
    const stop = (): void => this.#soft.abort(signal.reason);
    this.#soft.signal.addEventListener(
      'abort',
      () => {
        timer = setTimeout(() => this.#hard.abort(this.#soft.signal.reason), GRACE_MS);
      },
      { once: true },
    );
    signal.addEventListener('abort', stop, { once: true });
    try {
      if (signal.aborted) stop();
      if (this.#asking.execution.endpoint.batch) await this.#askInBatches(missing);
      await this.#askAll(missing.filter((index) => !this.#replies[index]));
    } finally {
      signal.removeEventListener('abort', stop);
      clearTimeout(timer);
    }
    const replies = this.#replies.filter((reply) => reply !== undefined);
    return {
      replies: replies.length === asks.length ? replies : undefined,
      metrics: this.#metrics(replies),
      notes: this.#said.size > 0 ? { endpoint: [...this.#said].sort() } : {},
    };
  }

  /** Asks for the missing replies, as many at once as the share allows. Ends early where it pays for no further one. */
  async #askAll(missing: readonly number[]): Promise<void> {
    const { share } = this.#asking.execution;
    const { signal } = this.#soft;
    for (const index of missing) {
      while (
        !signal.aborted &&
        (this.#inFlight.size >= share.concurrency || (!this.#affordable(index) && this.#inFlight.size > 0))
      )
        await Promise.race(this.#inFlight);
      if (signal.aborted) break;
      if (!this.#affordable(index)) {
        // What is left pays for no reply, and would be told as money for ever.
        set('budgetLeft', 0, { model: this.#asking.model.model });
        break;
      }
      const asked: Promise<void> = this.#ask(index)
        .catch((error: unknown) => this.#soft.abort(error))
        .finally(() => this.#inFlight.delete(asked));
      this.#inFlight.add(asked);
    }
    await Promise.all(this.#inFlight);
    signal.throwIfAborted();
    const [held] = this.#held;
    if (!held) return;
    if (!this.#answers()) throw held.failure;
    await this.#settle();
  }

  /** Whether the endpoint answers this model, now or before. */
  #answers(): boolean {
    return this.#endpoint.answered || this.#replies.some((reply) => reply?.status === 200);
  }

  /** Stores the rows that were refused before the endpoint answered any: it refuses them and no others. */
  async #settle(): Promise<void> {
    for (const { index, reply } of this.#held.splice(0)) this.#have(index, await this.#store(reply));
    this.#tell();
  }

  /** A row that is refused for no known reason. @throws StageFailure where the endpoint refuses all. */
  async #refuse(index: number, reply: RawReply, failure: StageFailure): Promise<void> {
    this.#refusedInARow += 1;
    this.#held.push({ index, reply, failure });
    const answers = this.#answers();
    if (this.#refusedInARow >= (answers ? REFUSED_IN_A_ROW : REFUSED_AT_FIRST)) throw failure;
    if (answers) await this.#settle();
  }

  /**
   * Asks for missing replies by batches, as large as the share pays for.
   *
   * The id of a batch is stored before the worker waits for it. A batch that was sent but not stored is found by its
   * name. So a batch is re-attached after a kill, not sent again. {@link #askAll} asks for what a batch leaves
   * unanswered.
   */
  async #askInBatches(missing: readonly number[]): Promise<void> {
    const {
      asks,
      store,
      execution: {
        endpoint: { batch: settings, prices },
        share,
      },
    } = this.#asking;
    const { signal } = this.#soft;
    const shard = sha256(asks.map(({ key }) => key).join());
    const tried = new Set<number>();
    for (let number = 0; ; number += 1) {
      const name = `${shard.slice(0, 40)}-${number}`;
      let batch = BatchDocument.optional().parse(await store.getJson(objectKeys.batch(name)));
      if (!batch) {
        const rows: number[] = [];
        let most = this.#spentUsd;
        for (const index of missing) {
          if (this.#replies[index] || tried.has(index)) continue;
          most += costOf(this.#endpoint.atMost(asks[index]!.prompt), prices) * settings!.priceFactor;
          if (share.usd !== undefined && most > share.usd) break;
          rows.push(index);
        }
        if (rows.length === 0) return;
        const leftOut = this.refusals.names;
        const keyOf = (index: number): string => this.refusals.keyOf(asks[index]!.key, leftOut);
        let id = await this.#endpoint.findBatch(name, signal);
        if (id === undefined) {
          id = await this.#endpoint.createBatch(
            name,
            rows.map((index) => ({ ...asks[index]!, key: keyOf(index) })),
            signal,
          );
          this.#count('requests', rows.length);
        }
        batch = { id, keys: rows.map(keyOf), ...(leftOut.length > 0 ? { leftOut } : {}) };
        await this.#put(objectKeys.batch(name), batch);
      }
      const { leftOut = [] } = batch;
      const indexOf = new Map(asks.map(({ key }, index) => [this.refusals.keyOf(key, leftOut), index]));
      for (const key of batch.keys) tried.add(indexOf.get(key)!);
      if (batch.keys.every((key) => this.#replies[indexOf.get(key)!])) continue;
      for (;;) {
        const state = await this.#endpoint.batch(batch.id, signal);
        if (state.ended) {
          await eachOf(state.lines.length, READS, async (at) => {
            const line = state.lines[at]!;
            const index = indexOf.get(line.key);
            if (index === undefined || this.#replies[index]) return;
            const arrived = this.#endpoint.batched(line, asks[index]!.prompt);
            if (arrived)
              this.#have(
                index,
                await this.#store({ seedId: asks[index]!.seedId, key: line.key, ...arrived, batch: true }),
              );
          });
          this.#count('retries.batch', batch.keys.filter((key) => !this.#replies[indexOf.get(key)!]).length);
          this.#tell();
          break;
        }
        this.#asking.onProgress(this.#done + state.done, asks.length, `replies; batch ${batch.id} is in work`);
        await this.#until(Date.now() + settings!.pollSeconds * 1000);
      }
    }
  }

  async #ask(index: number): Promise<void> {
    const { prompt, seed, key, seedId } = this.#asking.asks[index]!;
    const atMost = this.#endpoint.atMost(prompt);
    const reservedUsd = costOf(atMost, this.#asking.execution.endpoint.prices);
    const prompted = estimatedTokens(textOf(prompt));
    this.#reservedUsd += reservedUsd;
    try {
      for (let attempt = 0; ; attempt += 1) {
        // The pace follows the usual length of replies. Their largest length would leave most of the limit unused.
        const expectedTokens = prompted + this.#replyTokens;
        await this.#until(Math.max(this.#requests.take(1, Date.now()), this.#tokens.take(expectedTokens, Date.now())));
        this.#count('requests');
        const outcome = await this.#endpoint.ask(prompt, seed, key, this.#hard.signal);
        if (outcome.kind === 'refused') {
          this.#tokens.giveBack(expectedTokens);
          return await this.#refuse(index, { seedId, key: outcome.key, ...outcome.reply }, outcome.failure);
        }
        const last =
          outcome.kind === 'again' && outcome.lastly && attempt + 1 >= outcome.lastly.times
            ? outcome.lastly
            : undefined;
        if (outcome.kind === 'arrived' || last) {
          const { key: own, reply: arrived } = outcome.kind === 'arrived' ? outcome : last!;
          const { usage } = arrived;
          if (arrived.status === 200) this.#refusedInARow = 0;
          const reply = await this.#store({ seedId, key: own, ...arrived });
          this.#tokens.giveBack(expectedTokens - usage.promptTokens - usage.completionTokens);
          if (reply.status === 200) this.#replyTokens += (usage.completionTokens - this.#replyTokens) / 8;
          this.#have(index, reply);
          this.#meter(reply);
          this.#tell();
          return;
        }
        if (outcome.kind !== 'again') continue;
        this.#tokens.giveBack(expectedTokens);
        this.#count(`retries.${outcome.reason satisfies RetryReason}`);
        add('repliesAgain', 1, { reason: outcome.reason });
        this.#lastTrouble = `${outcome.reason}: ${outcome.message}`;
        this.#tell();
        const until = Date.now() + pauseMs(attempt, outcome.afterMs, Math.random());
        // A rate limit stops every request of the shard. Other trouble may concern this request alone.
        if (outcome.reason === 'rateLimited') this.#pausedUntil = Math.max(this.#pausedUntil, until);
        await this.#until(until);
      }
    } finally {
      this.#reservedUsd -= reservedUsd;
    }
  }

  /** Whether the share pays for a request even if its reply is as long as allowed. */
  #affordable(index: number): boolean {
    const { share, endpoint } = this.#asking.execution;
    return (
      share.usd === undefined ||
      this.#spentUsd +
        this.#reservedUsd +
        costOf(this.#endpoint.atMost(this.#asking.asks[index]!.prompt), endpoint.prices) <=
        share.usd
    );
  }

  /** Waits until a time, and longer where the endpoint asks for a pause meanwhile. */
  async #until(time: number): Promise<void> {
    for (;;) {
      const left = Math.max(time, this.#pausedUntil) - Date.now();
      if (left <= 0) break;
      await sleep(left, undefined, { signal: this.#soft.signal });
    }
    this.#soft.signal.throwIfAborted();
  }

  /** Stores a reply, however long that takes, because it is paid for. Returns the reply that was stored first. */
  async #store(reply: RawReply): Promise<RawReply> {
    return (await this.#put(objectKeys.reply(reply.key), reply))
      ? reply
      : ((await findReply(this.#asking.store, reply.key)) ?? reply);
  }

  /** Writes a document that was paid for. @returns whether it is the first of its key. */
  async #put(key: string, document: object): Promise<boolean> {
    const { store } = this.#asking;
    for (;;) {
      try {
        // A cancelled activity stores what is paid for, for as long as its requests to the endpoint may take.
        return await store.following(this.#hard.signal, () => store.putJson(key, document));
      } catch (error) {
        if (!(error instanceof StageFailure) || error.type !== 'StoreUnavailable') throw error;
        this.#lastTrouble = error.message;
        this.#tell();
        await sleep(1000, undefined, { signal: this.#hard.signal });
      }
    }
  }

  #have(index: number, reply: RawReply): void {
    if (!this.#replies[index]) this.#done += 1;
    this.#replies[index] = { ...reply, seedId: this.#asking.asks[index]!.seedId };
    this.#spentUsd += costOfReply(reply, this.#asking.execution.endpoint);
  }

  /** Counts a reply that has come now; one that was stored before costs nothing. */
  #meter(reply: RawReply): void {
    const { execution } = this.#asking;
    const { model } = this.#asking.model;
    add('tokens', reply.usage.promptTokens, { model, direction: 'prompt' });
    add('tokens', reply.usage.completionTokens, { model, direction: 'completion' });
    add('cost', MICRODOLLARS * costOfReply(reply, execution.endpoint), { model });
    if (execution.share.usd !== undefined) set('budgetLeft', execution.share.usd - this.#spentUsd, { model });
  }

  #count(name: string, by = 1): void {
    count(this.#counts, name, by);
  }

  #tell(): void {
    const retries = Object.entries(this.#counts)
      .filter(([name]) => name.startsWith('retries.'))
      .reduce((sum, [, count]) => sum + count, 0);
    const again = retries > 0 ? `, ${retries} asked again, last because of ${this.#lastTrouble}` : '';
    const message = `replies, ${dollarsText(this.#spentUsd)} US dollars${again}`;
    this.#asking.onProgress(this.#done, this.#asking.asks.length, message);
  }

  #metrics(replies: readonly RawReply[]): Record<string, number> {
    const total = (of: (reply: RawReply) => number): number => replies.reduce((sum, reply) => sum + of(reply), 0);
    return {
      ...this.#counts,
      costUsd: this.#spentUsd,
      replies: replies.length,
      promptTokens: total(({ usage }) => usage.promptTokens),
      completionTokens: total(({ usage }) => usage.completionTokens),
      estimatedUsage: total(({ usage }) => Number(usage.estimated)),
    };
  }
}

/** Numbers of requests and replies in the manifest, next to the retries and their reasons. */
const REPLY_COUNTS = [
  'replies',
  'requests',
  'storedBefore',
  'promptTokens',
  'completionTokens',
  'estimatedUsage',
] as const;

/** The metrics of a stage's manifest about its requests, from the counts of all shards. */
export function paidMetrics(
  counts: Record<string, number>,
): { costUsd: number; retries: Record<string, number> } & Partial<Record<(typeof REPLY_COUNTS)[number], number>> {
  const retries = Object.fromEntries(
    Object.entries(counts)
      .filter(([name]) => name.startsWith('retries.'))
      .map(([name, times]) => [name.slice('retries.'.length), times]),
  );
  return {
    costUsd: Number((counts['costUsd'] ?? 0).toFixed(9)),
    retries,
    ...Object.fromEntries(REPLY_COUNTS.flatMap((name) => (counts[name] === undefined ? [] : [[name, counts[name]]]))),
  };
}

/**
 * A stored reply, under the first key that has one; undefined where there is none.
 *
 * @throws StageFailure `ArtifactCorrupt` for any other document.
 */
export async function findReply(
  store: Pick<Documents, 'getJson'>,
  ...keys: readonly string[]
): Promise<RawReply | undefined> {
  for (const key of keys) {
    const document = await store.getJson(objectKeys.reply(key));
    if (document === undefined) continue;
    const parsed = RawReply.safeParse(document);
    if (!parsed.success) throw new StageFailure('ArtifactCorrupt', `${objectKeys.reply(key)} is no reply`);
    return parsed.data;
  }
  return undefined;
}

/** What those of the replies that are stored cost, in US dollars. `stored` are the keys of all stored replies. */
export async function costOfStored(
  store: Pick<Documents, 'getJson'>,
  asks: readonly { keys: readonly string[] }[],
  endpoint: EndpointExecution,
  stored: ReadonlySet<string>,
): Promise<number> {
  const keys = asks.flatMap((ask) => ask.keys.find((key) => stored.has(objectKeys.reply(key))) ?? []);
  let cost = 0;
  await eachOf(keys.length, READS, async (index) => {
    const reply = await findReply(store, keys[index]!);
    if (reply) cost += costOfReply(reply, endpoint);
  });
  return cost;
}
