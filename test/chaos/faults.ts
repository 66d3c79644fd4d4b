/** What goes wrong on a host. A new kind of fault is a new entry of {@link FAULTS}. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Fault as RequestFault } from '../fixtures/faulty-proxy.js';
import type { Random } from '../simulation/random.js';
import type { Site } from './site.js';

export interface Fault {
  /** What is done, for the help and the list of faults of a violation. */
  what: string;
  /** How often it comes, in relation to the others. */
  weight: number;
  /** What the host needs for it. */
  needs?: 'clock' | 'disk';
  /** Whether work is stopped on purpose until it is over: then new work is due from its end on. */
  lasts?: true;
  /** Does it. False where there was nothing to do it to. */
  inflict: (site: Site, random: Random) => Promise<boolean>;
}

/** Longer than a heartbeat timeout, so that the server gives the work to somebody else. */
const SUSPENDED_MS = 17_000;
/** Longer than a worker repeats a request by itself. */
const OUTAGE_MS = [4_000, 8_000] as const;
const CLOCK_SECONDS = 600;

/** The network between worker and store does the same to every request for some seconds. */
const network = (what: string, faultOf: (random: Random) => RequestFault): Fault => ({
  what: `network between worker and store: ${what}`,
  weight: 1,
  lasts: true,
  async inflict(site, random) {
    site.proxy.fault = () => faultOf(random);
    await sleep(random.int(...OUTAGE_MS));
    site.proxy.fault = () => undefined;
    return true;
  },
});

const clock = (what: string, seconds: number): Fault => ({
  what: `clock of worker and Python moved ${what}, and back`,
  weight: 1,
  needs: 'clock',
  async inflict(site, random) {
    site.moveClock(seconds);
    await sleep(random.int(...OUTAGE_MS));
    site.moveClock(0);
    return true;
  },
});

export const FAULTS = {
  worker: { what: 'kill -9 of the worker', weight: 3, inflict: (site) => site.kill('worker') },
  runtime: { what: 'kill -9 of the model runtime', weight: 3, inflict: (site) => site.kill('runtime') },
  sandbox: { what: 'kill -9 of the sandbox', weight: 2, inflict: (site) => site.kill('sandbox') },
  store: { what: 'kill -9 of the store', weight: 3, inflict: (site) => site.kill('store') },
  server: { what: 'kill -9 of the Temporal server', weight: 3, inflict: (site) => site.kill('server') },
  everything: {
    what: 'kill -9 of worker, Python processes, store and server at once',
    weight: 1,
    async inflict(site) {
      const killed = await Promise.all(
        (['runtime', 'sandbox', 'worker', 'store', 'server'] as const).map((part) => site.kill(part)),
      );
      return killed.some(Boolean);
    },
  },
  zombie: {
    what: `SIGSTOP of the worker for ${SUSPENDED_MS / 1000} s next to a second worker, then SIGCONT`,
    weight: 1,
    async inflict(site) {
      await site.suspend(SUSPENDED_MS);
      return true;
    },
  },
  storeStalls: network('answers never come, or half of them', (random) => ({
    hang: random.pick(['answer', 'body', 'upload'] as const),
  })),
  storeSlow: network('answers come in pieces', (random) => ({ pieces: random.int(2, 8), everyMs: 150 })),
  storeCut: network('connections break', (random) =>
    random.chance(0.3) ? { lose: 'answer' } : { cut: random.pick(['answer', 'body'] as const) },
  ),
  storeErrors: network('429 and 5xx', (random) => ({ answer: random.pick([429, 500, 502, 503, 504]) })),
  diskFull: {
    what: 'disk of the worker full',
    weight: 1,
    needs: 'disk',
    lasts: true,
    async inflict(site, random) {
      await site.fillDisk(random.int(...OUTAGE_MS));
      return true;
    },
  },
  clockForward: clock('10 minutes forward', CLOCK_SECONDS),
  clockBack: clock('10 minutes back', -CLOCK_SECONDS),
} satisfies Record<string, Fault>;

export type FaultName = keyof typeof FAULTS;
export const FAULT_NAMES = Object.keys(FAULTS) as FaultName[];

export const isFault = (name: string): name is FaultName => Object.hasOwn(FAULTS, name);

/** Faults from a seed, one after the other. Each kind comes in its share of every few, so that none is left out. */
export class FaultDeck {
  #deck: FaultName[] = [];

  constructor(
    private readonly names: readonly FaultName[],
    private readonly random: Random,
  ) {
    if (names.length === 0) throw new Error('There is no fault to choose from.');
  }

  next(): FaultName {
    if (this.#deck.length === 0)
      this.#deck = this.names.flatMap((name) => Array.from({ length: FAULTS[name].weight }, () => name));
    return this.#deck.splice(this.random.int(0, this.#deck.length - 1), 1)[0]!;
  }
}
