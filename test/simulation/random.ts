/** Random numbers from a seed, and a queue in virtual time. */

/** A small fast generator (sfc32): the same seed gives the same numbers on every host. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d = 1;

  /** @param seed any integer; `stream` makes independent generators of one seed. */
  constructor(seed: number, stream = 0) {
    this.#a = seed | 0;
    this.#b = stream | 0;
    this.#c = Math.floor(seed / 2 ** 32) | 0;
    for (let i = 0; i < 16; i += 1) this.next();
  }

  /** At least 0 and below 1. */
  next(): number {
    const t = (this.#a + this.#b + this.#d) | 0;
    this.#d = (this.#d + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (this.#c << 21) | (this.#c >>> 11);
    this.#c = (this.#c + t) | 0;
    return (t >>> 0) / 2 ** 32;
  }

  /** An integer of `from` to `to`, both included. */
  int(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1));
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new Error('Nothing to pick from.');
    return items[this.int(0, items.length - 1)]!;
  }
}

/**
 * A generator that a seed and a name decide. What is named draws the same numbers whatever else happens, so that taking
 * one fault away leaves the others as they are.
 */
export function namedRandom(seed: number, name: string): Random {
  let hash = 0x811c9dc5;
  for (let at = 0; at < name.length; at += 1) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193);
  return new Random(seed, hash);
}

interface Entry {
  at: number;
  order: number;
  run: () => void | Promise<void>;
}

/** What happens when, in milliseconds of virtual time. What happens at the same time has an order from the seed. */
export class Timeline {
  readonly #heap: Entry[] = [];
  /** Milliseconds since 1970. It moves only when something happens. */
  now: number;

  constructor(
    start: number,
    private readonly random: Random,
  ) {
    this.now = start;
  }

  get empty(): boolean {
    return this.#heap.length === 0;
  }

  after(milliseconds: number, run: () => void | Promise<void>): void {
    this.#push({ at: this.now + Math.max(0, milliseconds), order: this.random.next(), run });
  }

  /** Lets the next thing happen. */
  async step(): Promise<void> {
    const entry = this.#pop();
    if (!entry) throw new Error('Nothing is left to happen.');
    this.now = Math.max(this.now, entry.at);
    await entry.run();
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!before(heap[at]!, heap[above]!)) break;
      [heap[at], heap[above]] = [heap[above]!, heap[at]!];
      at = above;
    }
  }

  #pop(): Entry | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    heap[0] = last;
    for (let at = 0; ;) {
      const left = 2 * at + 1;
      let least = at;
      if (left < heap.length && before(heap[left]!, heap[least]!)) least = left;
      if (left + 1 < heap.length && before(heap[left + 1]!, heap[least]!)) least = left + 1;
      if (least === at) return first;
      [heap[at], heap[least]] = [heap[least]!, heap[at]!];
      at = least;
    }
  }
}

function before(a: Entry, b: Entry): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
