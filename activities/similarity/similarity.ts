/** Likeness of texts, for near-duplicates and contamination. */

/** Words and operators of a text in lower case; string and comment marks do not count. */
export function tokens(text: string): string[] {
  return text.toLowerCase().match(/[a-z0-9_]+|[^\sa-z0-9_"'#]/g) ?? [];
}

/** The set of runs of `size` tokens; a shorter text is one run. */
export function shingles(text: string, size: number): Set<string> {
  const words = tokens(text);
  if (words.length <= size) return new Set([words.join(' ')]);
  return new Set(
    Array.from({ length: words.length - size + 1 }, (_, start) => words.slice(start, start + size).join(' ')),
  );
}

/** Jaccard similarity of two sets: shared over all members, in [0, 1]. */
export function jaccard<T>(a: ReadonlySet<T>, b: ReadonlySet<T>): number {
  let shared = 0;
  for (const item of a) if (b.has(item)) shared += 1;
  const all = a.size + b.size - shared;
  return all === 0 ? 1 : shared / all;
}

/**
 * Groups of texts whose Jaccard similarity is at least `threshold` (above 0), directly or through others: for each text
 * the index of its group's first member.
 *
 * Exact, by prefix filtering: two sets that are that alike share one of their n - ceil(threshold n) + 1 rarest members.
 * So only texts that share such a one are compared. Of the sets only the hashes of members are kept that more than one
 * text may have: all shingles of a hundred thousand questions are more than a Map holds.
 */
export function nearDuplicateGroups(texts: readonly string[], threshold: number, size = 3): number[] {
  if (!(threshold > 0)) throw new RangeError(`the threshold must be above 0, not ${threshold}`);
  // How many texts have a shingle, or one that shares its slot: the order needs no exact count.
  const frequency = new Uint8Array(FREQUENCY_SLOTS);
  const slotOf = (shingle: string): number => mixed(hash32(shingle)) % FREQUENCY_SLOTS;
  for (const text of texts) {
    for (const shingle of shingles(text, size)) {
      const at = slotOf(shingle);
      frequency[at] = Math.min(255, frequency[at]! + 1);
    }
  }
  const parent = texts.map((_, index) => index);
  const root = (index: number): number => {
    while (parent[index] !== index) index = parent[index]!;
    return index;
  };
  const holders = new Map<number, number[]>();
  texts.forEach((text, index) => {
    const set = shingles(text, size);
    const rarestFirst = [...set]
      .map((shingle) => ({ shingle, holders: frequency[slotOf(shingle)]! }))
      .sort((x, y) => x.holders - y.holders || (x.shingle < y.shingle ? -1 : 1));
    const prefix = rarestFirst.slice(0, set.size - Math.ceil(threshold * set.size) + 1);
    const shared = prefix.filter((each) => each.holders > 1).map(({ shingle }) => hash32(shingle));
    const candidates = new Set(shared.flatMap((hash) => holders.get(hash) ?? []));
    for (const candidate of candidates) {
      if (root(candidate) === root(index) || jaccard(shingles(texts[candidate]!, size), set) < threshold) continue;
      const [first, second] = [root(candidate), root(index)].sort((x, y) => x - y) as [number, number];
      parent[second] = first;
    }
    for (const hash of shared) {
      const known = holders.get(hash);
      if (known) known.push(index);
      else holders.set(hash, [index]);
    }
  });
  return texts.map((_, index) => root(index));
}

const FREQUENCY_SLOTS = 2 ** 24;

/**
 * Hashes of a signature, in bands of as many rows. Texts of similarity s share a band with probability
 * 1 - (1 - s^rows)^bands.
 */
const BANDS = 16;
const BAND_ROWS = 4;

/**
 * Finds near-duplicates among texts as they come, by MinHash (Broder 1997) with banding. A candidate counts only when
 * its exact Jaccard similarity is at least the threshold; of pairs at a threshold of 0.8, 0.02 % are missed.
 */
export class NearDuplicates {
  readonly #buckets = Array.from({ length: BANDS }, () => new Map<number, number[]>());
  readonly #texts: string[] = [];

  /** @param threshold Jaccard similarity of shingles, at least 0.7. */
  constructor(
    readonly threshold: number,
    readonly size = 3,
  ) {
    if (!(threshold >= 0.7 && threshold <= 1)) throw new RangeError(`the threshold is from 0.7 to 1, not ${threshold}`);
  }

  /** Whether an earlier text is that alike; a text that has none is remembered. */
  isDuplicate(text: string): boolean {
    const set = shingles(text, this.size);
    const keys = bandKeys(set);
    const candidates = new Set(keys.flatMap((key, band) => this.#buckets[band]!.get(key) ?? []));
    for (const candidate of candidates)
      if (jaccard(shingles(this.#texts[candidate]!, this.size), set) >= this.threshold) return true;
    const index = this.#texts.push(text) - 1;
    keys.forEach((key, band) => {
      const bucket = this.#buckets[band]!;
      const found = bucket.get(key);
      if (found) found.push(index);
      else bucket.set(key, [index]);
    });
    return false;
  }
}

/** One number for each band: a hash of the band's MinHash values. */
function bandKeys(set: ReadonlySet<string>): number[] {
  const least = new Uint32Array(BANDS * BAND_ROWS).fill(0xffffffff);
  for (const shingle of set) {
    const base = hash32(shingle);
    for (let index = 0; index < least.length; index += 1) {
      const value = mixed(base ^ Math.imul(index + 1, 0x9e3779b9));
      if (value < least[index]!) least[index] = value;
    }
  }
  return Array.from({ length: BANDS }, (_, band) =>
    least.subarray(band * BAND_ROWS, (band + 1) * BAND_ROWS).reduce((sum, value) => mixed(sum ^ value), 0),
  );
}

/** FNV-1a of a text's UTF-16 units. */
function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return hash >>> 0;
}

/** The finalizer of MurmurHash3: each bit of the input changes half of the output's. */
function mixed(value: number): number {
  let hash = value >>> 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
