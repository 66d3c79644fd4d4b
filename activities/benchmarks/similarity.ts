/** Likeness of texts, for near-duplicates and contamination. */

/** Words and operators of a text in lower case; string and comment marks do not count. */
export function tokens(text: string): string[] {
  return text.toLowerCase().match(/[a-z0-9_]+|[^\sa-z0-9_"'#]/g) ?? [];
}

/** The set of runs of `size` tokens; a shorter text is one run. */
export function shingles(text: string, size: number): Set<string> {
  const words = tokens(text);
  if (words.length <= size) return new Set([words.join(' ')]);
  return new Set(Array.from({ length: words.length - size + 1 }, (_, start) => words.slice(start, start + size).join(' ')));
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
 * Exact, by prefix filtering: two sets that are that alike share one of their n - ceil(threshold n) + 1 rarest members, so
 * that only texts that share such a one are compared.
 */
export function nearDuplicateGroups(texts: readonly string[], threshold: number, size = 3): number[] {
  if (!(threshold > 0)) throw new RangeError(`the threshold must be above 0, not ${threshold}`);
  const sets = texts.map((text) => shingles(text, size));
  const frequency = new Map<string, number>();
  for (const set of sets) for (const shingle of set) frequency.set(shingle, (frequency.get(shingle) ?? 0) + 1);
  const parent = texts.map((_, index) => index);
  const root = (index: number): number => {
    while (parent[index] !== index) index = parent[index]!;
    return index;
  };
  const holders = new Map<string, number[]>();
  sets.forEach((set, index) => {
    const rarestFirst = [...set].sort((x, y) => frequency.get(x)! - frequency.get(y)! || (x < y ? -1 : 1));
    const prefix = rarestFirst.slice(0, set.size - Math.ceil(threshold * set.size) + 1);
    const candidates = new Set(prefix.flatMap((shingle) => holders.get(shingle) ?? []));
    for (const candidate of candidates) {
      if (root(candidate) === root(index) || jaccard(sets[candidate]!, set) < threshold) continue;
      const [first, second] = [root(candidate), root(index)].sort((x, y) => x - y) as [number, number];
      parent[second] = first;
    }
    for (const shingle of prefix) holders.set(shingle, [...(holders.get(shingle) ?? []), index]);
  });
  return texts.map((_, index) => root(index));
}
