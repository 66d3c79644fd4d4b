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
 * Groups of texts that are near-duplicates, directly or through others: for each text the index of its group's first
 * member. Compares all pairs.
 */
export function nearDuplicateGroups(texts: readonly string[], threshold: number, size = 3): number[] {
  const sets = texts.map((text) => shingles(text, size));
  const parent = texts.map((_, index) => index);
  const root = (index: number): number => {
    while (parent[index] !== index) index = parent[index]!;
    return index;
  };
  for (let a = 0; a < sets.length; a += 1) {
    for (let b = a + 1; b < sets.length; b += 1) {
      if (jaccard(sets[a]!, sets[b]!) < threshold) continue;
      const [first, second] = [root(a), root(b)].sort((x, y) => x - y) as [number, number];
      parent[second] = first;
    }
  }
  return texts.map((_, index) => root(index));
}
