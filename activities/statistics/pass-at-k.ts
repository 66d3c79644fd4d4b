/** Estimators over the samples of one task. */
import { Random } from './random.js';

/**
 * Unbiased pass@k of one task: 1 - C(n-c, k) / C(n, k) for c of n samples that pass (Chen et al., arXiv 2107.03374,
 * equation 1), as a product so that nothing overflows.
 *
 * @throws RangeError unless 0 <= c <= n and 1 <= k <= n.
 */
export function passAtK(n: number, c: number, k: number): number {
  if (!(c >= 0 && c <= n && k >= 1 && k <= n))
    throw new RangeError(`pass@${k} needs 0 <= c <= n and 1 <= k <= n, not n=${n}, c=${c}`);
  if (n - c < k) return 1;
  let allFail = 1;
  for (let i = n - c + 1; i <= n; i += 1) allFail *= 1 - k / i;
  return 1 - allFail;
}

/** A sample and what ranks it: the higher `score` first, among equal ones the higher `then`, then sample order. */
export interface Ranked {
  passed: boolean;
  score: number;
  then?: number;
}

/**
 * Expected pass rate of the highest-scored of N samples drawn without replacement from the given ones: sample of rank i
 * (0 the best) is chosen in C(n-i-1, N-1) of C(n, N) draws. For N = n it is the best-scored sample. Equal scores keep
 * sample order.
 *
 * @throws RangeError unless 1 <= N <= n.
 */
export function bestOfN(samples: readonly Ranked[], N: number): number {
  const n = samples.length;
  if (!(N >= 1 && N <= n)) throw new RangeError(`Best-of-${N} needs 1 <= N <= n, not n=${n}`);
  const ranked = [...samples].sort((a, b) => b.score - a.score || (b.then ?? 0) - (a.then ?? 0));
  let expected = 0;
  let chosen = N / n;
  for (let rank = 0; rank <= n - N; rank += 1) {
    if (ranked[rank]!.passed) expected += chosen;
    chosen *= (n - rank - N) / (n - rank - 1);
  }
  return expected;
}

/**
 * Pass rate of the sample that a majority vote chooses among N drawn ones: the most frequent text, the earlier one of
 * equally frequent texts (self-consistency, arXiv 2203.11171, with programs as answers). Exact for N = n; the mean over
 * `draws` seeded draws without replacement below that.
 *
 * @throws RangeError unless 1 <= N <= n.
 * @example
 * majority([{ passed: true, text: 'a' }, { passed: false, text: 'b' }, { passed: true, text: 'a' }], 3,
 *   { seed: 1, draws: 256 }); // 1
 */
export function majority(
  samples: readonly { passed: boolean; text: string }[],
  N: number,
  { seed, draws }: { seed: number; draws: number },
): number {
  const n = samples.length;
  if (!(N >= 1 && N <= n)) throw new RangeError(`Best-of-${N} needs 1 <= N <= n, not n=${n}`);
  const chosen = (drawn: readonly { passed: boolean; text: string }[]): number => {
    const votes = new Map<string, { count: number; passed: boolean }>();
    for (const { text, passed } of drawn) {
      const vote = votes.get(text) ?? { count: 0, passed };
      vote.count += 1;
      votes.set(text, vote);
    }
    let best = { count: 0, passed: false };
    for (const vote of votes.values()) if (vote.count > best.count) best = vote;
    return best.passed ? 1 : 0;
  };
  if (N === n) return chosen(samples);
  const random = new Random(seed);
  let sum = 0;
  for (let draw = 0; draw < draws; draw += 1) sum += chosen(random.shuffle(samples).slice(0, N));
  return sum / draws;
}

/** Arithmetic mean, or null for none: a figure over no task is not zero. */
export function mean(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}
