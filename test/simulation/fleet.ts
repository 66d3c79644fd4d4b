/**
 * What a fleet of GPUs loses to failures, by cause, with the product's own limits: heartbeats, checkpoints, what is sent
 * to the store. Each host runs one training after another and never lacks one. A host fails on its own, and only while
 * it trains; an outage of the store hits all hosts at once.
 *
 * The model knows times and nothing else: no workflow runs here. What workflows do with failures is simulated in
 * `schedules.ts`, by their real code.
 */
import { HEARTBEAT_TIMEOUT_SECONDS } from '../../workflows/contract/index.js';
import { SENDING_SHARE } from '../../activities/runtime/checkpoints.js';
import { namedRandom, type Random } from './random.js';

const DAY = 86_400;

/** One kind of event that ends work on a host. */
export interface Cause {
  name: string;
  /** Events per 1,000 days of a host in training. */
  perThousandHostDays: number;
  /**
   * What is left of the training's progress. `local`: the host's own newest checkpoint. `stored`: the newest one in the
   * store, because the host is gone. `all`: the worker is told before and writes a last checkpoint.
   */
  keeps: 'local' | 'stored' | 'all';
  /** Seconds until the host, or another one in its place, takes work again. */
  outSeconds: number;
  source: string;
}

/** Times of a training and of the product, in seconds. */
export interface Times {
  /** From a checkpoint to the next. */
  checkpoint: number;
  /** For which a checkpoint stops the training while it is written. */
  write: number;
  /** A checkpoint's way to the store. */
  send: number;
  /** Until a lost worker is noticed. */
  notice: number;
  /** Until a training works again after its start: processes, models, optimizer state. */
  load: number;
  /** An optimizer step, which a worker that is told to stop brings to its end. */
  step: number;
  /** A whole training. At its end its results go to the store, and the host waits where the store is away. */
  training: number;
}

/** A store that is away for all hosts at once. */
export interface Outages {
  perThirtyDays: number;
  seconds: number;
}

/** Host failures of a pre-training on 2,048 hosts of eight H100 in 54 days. */
const LLAMA = (events: number): number => (1000 * events) / (54 * 2048);
const LLAMA_SOURCE = 'arXiv 2407.21783, table 5';

/** Causes, with published rates where there are any. Rows that say "assumed" are settings to change, not findings. */
export const CAUSES: readonly Cause[] = [
  {
    name: 'GPU or its memory',
    perThousandHostDays: LLAMA(148 + 72),
    keeps: 'stored',
    outSeconds: DAY,
    source: `${LLAMA_SOURCE}: 220 of 419; a day of repair is assumed`,
  },
  {
    name: 'program, network or host software',
    perThousandHostDays: LLAMA(419 - 220),
    keeps: 'local',
    outSeconds: 0,
    source: `${LLAMA_SOURCE}: 199 of 419`,
  },
  {
    name: 'planned maintenance',
    perThousandHostDays: LLAMA(47),
    keeps: 'all',
    outSeconds: 3600,
    source: `${LLAMA_SOURCE}: 47 planned; an hour each is assumed`,
  },
  {
    name: 'spot host taken away',
    perThousandHostDays: 1000 / 14,
    keeps: 'all',
    outSeconds: 600,
    source: 'assumed: once in 14 days, 10 minutes to a new host',
  },
  {
    name: 'end of an allocation',
    perThousandHostDays: 1000,
    keeps: 'all',
    outSeconds: 60,
    source: 'assumed: once a day, a minute in the queue',
  },
];

/**
 * A 7B training on eight GPUs of a host: 84 GB of weights and optimizer state, written at 5 GB/s and sent at 3 GB/s.
 * Writing takes 2 % of the time, as `WRITING_SHARE` in workers/runtime/checkpoints.py has it.
 */
export const TIMES: Times = {
  checkpoint: 17 * (1 / 0.02 - 1),
  write: 17,
  send: 28,
  notice: HEARTBEAT_TIMEOUT_SECONDS,
  load: 120,
  step: 20,
  training: 6 * 3600,
};

export const OUTAGES: Outages = { perThirtyDays: 1, seconds: 3600 };

/** Shares of the device time of all hosts; they and `useful` add up to 1. */
export interface Shares {
  useful: number;
  /** Time in which checkpoints stop the training. */
  checkpoints: number;
  /** Waiting for a store that is away, and what it delays. */
  store: number;
  /** By cause: all that its events cost, which are the four parts below. */
  causes: Record<string, number>;
  parts: { unnoticed: number; loading: number; again: number; out: number };
  events: Record<string, number>;
}

/** Every so-many-th checkpoint goes to the store, because sending may take a share of the time only. */
function betweenStored({ checkpoint, send }: Times): number {
  return Math.max(1, Math.ceil(send / SENDING_SHARE.gpu / checkpoint));
}

/**
 * Simulates hosts for a number of days.
 *
 * @example
 * const { useful, causes } = simulateFleet({ hosts: 125, days: 30, seed: 1, causes: CAUSES, times: TIMES, outages: OUTAGES });
 */
export function simulateFleet(fleet: {
  hosts: number;
  days: number;
  seed: number;
  causes: readonly Cause[];
  times: Times;
  outages?: Outages | undefined;
}): Shares {
  const { hosts, days, seed, causes, times } = fleet;
  const horizon = days * DAY;
  const away = outagesOf(fleet.outages, horizon, namedRandom(seed, 'store'));
  const total: Shares = {
    useful: 0,
    checkpoints: 0,
    store: 0,
    causes: Object.fromEntries(causes.map(({ name }) => [name, 0])),
    parts: { unnoticed: 0, loading: 0, again: 0, out: 0 },
    events: Object.fromEntries(causes.map(({ name }) => [name, 0])),
  };
  for (let host = 0; host < hosts; host += 1)
    new Host(total, causes, times, away, horizon, namedRandom(seed, `host ${host}`)).run();
  const all = hosts * horizon;
  const share = (seconds: number): number => seconds / all;
  return {
    useful: share(total.useful),
    checkpoints: share(total.checkpoints),
    store: share(total.store),
    causes: Object.fromEntries(Object.entries(total.causes).map(([name, seconds]) => [name, share(seconds)])),
    parts: {
      unnoticed: share(total.parts.unnoticed),
      loading: share(total.parts.loading),
      again: share(total.parts.again),
      out: share(total.parts.out),
    },
    events: total.events,
  };
}

/** Beginnings and ends of outages, in seconds, in order and apart. */
function outagesOf(outages: Outages | undefined, horizon: number, random: Random): [number, number][] {
  if (!outages || outages.perThirtyDays === 0) return [];
  const found: [number, number][] = [];
  for (let at = exponential(random, (30 * DAY) / outages.perThirtyDays); at < horizon;) {
    found.push([at, at + outages.seconds]);
    at += outages.seconds + exponential(random, (30 * DAY) / outages.perThirtyDays);
  }
  return found;
}

const exponential = (random: Random, mean: number): number => -mean * Math.log(1 - random.next());

/** A host's time, second by second of it put down to one cause. */
class Host {
  #now = 0;

  constructor(
    private readonly total: Shares,
    private readonly causes: readonly Cause[],
    private readonly times: Times,
    private readonly away: readonly [number, number][],
    private readonly horizon: number,
    private readonly random: Random,
  ) {}

  run(): void {
    const { times, total } = this;
    const rate = this.causes.reduce((sum, cause) => sum + cause.perThousandHostDays, 0) / (1000 * DAY);
    // Hosts did not begin at the same moment, and so do not end at the same one.
    let left = times.training * (1 - this.random.next());
    while (this.#now < this.horizon) {
      const until = rate === 0 ? Infinity : exponential(this.random, 1 / rate);
      const end = timeOf(left, times);
      if (end <= until) {
        this.#train(left, end);
        left = times.training;
        this.#waitForStore();
        continue;
      }
      const cause = this.#which(rate);
      total.events[cause.name]! += this.#now + until < this.horizon ? 1 : 0;
      const found = keptOf(until, cause, times);
      const seconds = found.seconds;
      // Where the event comes while the last checkpoint is written, all is trained.
      const kept = Math.min(left, found.kept);
      this.#train(kept, seconds);
      this.#lose(cause, 'again', until - seconds);
      if (cause.keeps === 'all') this.#lose(cause, 'again', times.step / 2 + times.write);
      else this.#lose(cause, 'unnoticed', times.notice);
      this.#lose(cause, 'out', cause.outSeconds);
      this.#lose(cause, 'loading', times.load);
      left -= kept;
    }
  }

  #which(rate: number): Cause {
    let at = this.random.next() * rate * 1000 * DAY;
    return this.causes.find((cause) => (at -= cause.perThousandHostDays) < 0) ?? this.causes.at(-1)!;
  }

  /** What of so many seconds lies before the end of the simulation. */
  #spend(seconds: number): number {
    const spent = Math.max(0, Math.min(seconds, this.horizon - this.#now));
    this.#now += seconds;
    return spent;
  }

  #train(useful: number, seconds: number): void {
    const spent = this.#spend(seconds);
    const part = seconds === 0 ? 0 : (spent * useful) / seconds;
    this.total.useful += part;
    this.total.checkpoints += spent - part;
  }

  #lose(cause: Cause, part: keyof Shares['parts'], seconds: number): void {
    const spent = this.#spend(seconds);
    this.total.parts[part] += spent;
    this.total.causes[cause.name]! += spent;
  }

  #waitForStore(): void {
    const outage = this.away.find(([from, to]) => from <= this.#now && this.#now < to);
    if (outage) this.total.store += this.#spend(outage[1] - this.#now);
  }
}

/** Seconds in which so much training is done, with the checkpoints in between. */
function timeOf(useful: number, { checkpoint, write }: Times): number {
  return useful + write * Math.max(0, Math.ceil(useful / checkpoint - 1e-9));
}

/** Seconds of training that are kept where an event comes after so many, and those that pass until they are done. */
function keptOf(until: number, { keeps }: Cause, times: Times): { kept: number; seconds: number } {
  const { checkpoint } = times;
  const cycle = checkpoint + times.write;
  const whole = Math.floor(until / cycle);
  if (keeps === 'all')
    return { kept: whole * checkpoint + Math.min(checkpoint, until - whole * cycle), seconds: until };
  const between = keeps === 'local' ? 1 : betweenStored(times);
  const cycles = whole - (whole % between);
  return { kept: cycles * checkpoint, seconds: cycles * cycle };
}

/**
 * The share of device time that is useful where one cause alone is at work, in closed form.
 *
 * Events of rate r come while the host trains, so that a run from a start to an event takes 1 / r seconds on average.
 * Between checkpoints that are kept lie t seconds of training and w of writing. A run keeps t / (exp(r (t + w)) - 1)
 * seconds, or, where a last checkpoint is written, (1 - exp(-r t)) / (r (1 - exp(-r (t + w)))). An event costs d seconds
 * more. The share is kept / (1 / r + d): the mean of what a run keeps over the mean time from start to start (renewal
 * reward; J. T. Daly 2006 has the first case).
 *
 * @returns a share of 0 to 1
 * @example usefulShare({ ...CAUSES[1]!, perThousandHostDays: 4000 }, TIMES);
 */
export function usefulShare(cause: Cause, times: Times): number {
  const rate = cause.perThousandHostDays / (1000 * DAY);
  const after = cause.outSeconds + times.load;
  if (cause.keeps === 'all') {
    const cycle = times.checkpoint + times.write;
    const kept = (1 - Math.exp(-rate * times.checkpoint)) / (rate * (1 - Math.exp(-rate * cycle)));
    return kept / (1 / rate + times.step / 2 + times.write + after);
  }
  const between = cause.keeps === 'local' ? 1 : betweenStored(times);
  const cycle = between * (times.checkpoint + times.write);
  const kept = (between * times.checkpoint) / (Math.exp(rate * cycle) - 1);
  return kept / (1 / rate + times.notice + after);
}
