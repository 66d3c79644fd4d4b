/**
 * Whether two policies differ on the same tasks, and what a benchmark of this size can show at all. Callers: the seal
 * of an evaluation, and comparisons of experiments.
 */

/** Standard normal quantiles of 0.975 and 0.8: a two-sided test at 5 % that finds a true difference in 80 %. */
const [Z_TEST, Z_POWER] = [1.959963984540054, 0.8416212335729143];

/**
 * Exact McNemar test (McNemar 1947; the binomial form): the two-sided p-value of `gained` and `lost` tasks if each task
 * on which two policies differ were a fair coin. Tasks on which they agree say nothing.
 *
 * @throws RangeError unless both are whole numbers of at least 0.
 * @example
 * mcnemar(14, 0); // 0.000122…: 14 tasks gained, none lost
 */
export function mcnemar(gained: number, lost: number): number {
  if (![gained, lost].every((count) => Number.isSafeInteger(count) && count >= 0))
    throw new RangeError(`McNemar's test needs counts, not ${gained} and ${lost}`);
  const differing = gained + lost;
  const fewer = Math.min(gained, lost);
  if (2 * fewer === differing) return 1;
  // The largest term, C(differing, fewer) / 2 ** differing, halved on the way so that nothing overflows.
  let [top, halvings] = [1, differing];
  for (let count = 1; count <= fewer; count += 1) {
    top *= (differing - fewer + count) / count;
    for (; top > 1 && halvings > 0; halvings -= 1) top /= 2;
  }
  let [sum, term] = [1, 1];
  for (let count = fewer; count > 0; count -= 1) {
    term *= count / (differing - count + 1);
    sum += term;
  }
  return Math.min(1, 2 * sum * top * 2 ** -halvings);
}

/**
 * P-values adjusted for the number of tests (Holm 1979), in the order given. A test is significant at 5 % where its
 * adjusted value is at most 0.05; the chance of any false alarm among all tests is then at most 5 %.
 *
 * @example
 * holm([0.01, 0.04]); // [0.02, 0.04]
 */
export function holm(pValues: readonly number[]): number[] {
  const order = pValues.map((_, at) => at).sort((a, b) => pValues[a]! - pValues[b]!);
  const adjusted: number[] = new Array<number>(pValues.length);
  let least = 0;
  order.forEach((at, rank) => {
    least = Math.max(least, Math.min(1, (pValues.length - rank) * pValues[at]!));
    adjusted[at] = least;
  });
  return adjusted;
}

/**
 * Smallest true difference of two pass rates that a paired test at 5 % finds in 80 % of runs on `tasks` tasks (Connor
 * 1987, Biometrics 43, 207: the sample size of McNemar's test, solved for the difference). `differing` is the share of
 * tasks on which the two policies differ; it is at least the difference itself. 1 where no difference is large enough.
 *
 * @throws RangeError unless `tasks` is at least 1 and `differing` is in [0, 1].
 * @example
 * minimalDetectableDifference(164, 0.1); // 0.069…: 11 or 12 of 164 tasks
 */
export function minimalDetectableDifference(tasks: number, differing: number): number {
  if (!(tasks >= 1 && differing >= 0 && differing <= 1))
    throw new RangeError(`needs at least 1 task and a share of differing ones, not ${tasks} and ${differing}`);
  const needed = (difference: number): number => {
    const share = Math.max(differing, difference);
    return (
      (Z_TEST * Math.sqrt(share) + Z_POWER * Math.sqrt(Math.max(0, share - difference * difference))) ** 2 /
      (difference * difference)
    );
  };
  if (needed(1) > tasks) return 1;
  let [low, high] = [0, 1];
  for (let step = 0; step < 60; step += 1) {
    const middle = (low + high) / 2;
    if (needed(middle) > tasks) low = middle;
    else high = middle;
  }
  return high;
}
