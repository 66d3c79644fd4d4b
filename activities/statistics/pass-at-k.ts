/** Estimators over the samples of one task. */

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

/**
 * Expected pass rate of the highest-scored of N samples drawn without replacement from the given ones: sample of rank i
 * (0 the best) is chosen in C(n-i-1, N-1) of C(n, N) draws. For N = n it is the best-scored sample. Equal scores keep
 * sample order.
 *
 * @throws RangeError unless 1 <= N <= n.
 */
export function bestOfN(samples: readonly { passed: boolean; score: number }[], N: number): number {
  const n = samples.length;
  if (!(N >= 1 && N <= n)) throw new RangeError(`Best-of-${N} needs 1 <= N <= n, not n=${n}`);
  const ranked = [...samples].sort((a, b) => b.score - a.score);
  let expected = 0;
  let chosen = N / n;
  for (let rank = 0; rank <= n - N; rank += 1) {
    if (ranked[rank]!.passed) expected += chosen;
    chosen *= (n - rank - N) / (n - rank - 1);
  }
  return expected;
}

/** Arithmetic mean, or null for none: a figure over no task is not zero. */
export function mean(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}
