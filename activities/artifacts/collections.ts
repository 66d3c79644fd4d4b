/** Small helpers over sequences and counts that every room of activities shares. Pure. */

/** All items of an asynchronous sequence, in its order. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Items by a name that each has, in the order in which names first come. */
export function groupedBy<T>(items: Iterable<T>, nameOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(nameOf(item));
    if (group) group.push(item);
    else groups.set(nameOf(item), [item]);
  }
  return groups;
}

/** Adds to the count of a name, which starts at 0. */
export function count<K extends string>(counts: Partial<Record<K, number>>, name: K, by = 1): void {
  counts[name] = (counts[name] ?? 0) + by;
}

/**
 * Does `work` for 0 to `times` - 1, in so many lanes at once. After a failure nothing new begins; what runs is waited
 * for, then the first failure is thrown.
 */
export async function eachOf(
  times: number,
  lanes: number,
  work: (at: number, lane: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const inLane = async (lane: number): Promise<void> => {
    try {
      for (let at = next++; at < times; at = next++) await work(at, lane);
    } catch (error) {
      next = times;
      throw error;
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: Math.min(lanes, times) }, (_, lane) => inLane(lane)));
  for (const result of ended) if (result.status === 'rejected') throw result.reason;
}
