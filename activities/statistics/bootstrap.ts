/**
 * Intervals and p-values of means over tasks, by the bootstrap (Efron and Tibshirani 1993, chapters 13 and 15). Tasks
 * are what is drawn, because samples of one task depend on each other. Callers: the figures of an evaluation, the
 * comparison of policies, the accuracy of a reward model.
 */
import { Random } from './random.js';

/** Draws for an interval at 95 %: its ends then move by less than 0.1 standard errors from seed to seed. */
export const RESAMPLES = 10_000;

export interface BootstrapOptions {
  /** Decides the draws: equal seeds give equal intervals. */
  seed: number;
  /** Draws with replacement; default {@link RESAMPLES}. */
  resamples?: number;
  /**
   * A name for each value. Values of one name are drawn together, as those that share programs or a question must be
   * (cluster bootstrap). Absent: each value is drawn for itself.
   */
  clusters?: readonly string[];
}

export interface BootstrappedMean {
  mean: number;
  /** 95 % percentile interval. */
  interval: [number, number];
  /**
   * Two-sided p-value of "the true mean is 0": twice the smaller share of draws on one side of 0, with one draw added
   * to each side so that it is never 0 (Davison and Hinkley 1997, section 4.2). A draw that is exactly 0 counts on
   * both sides.
   */
  p: number;
}

/**
 * Means of columns over the same units, each with its interval and p-value. All columns are drawn by the same draws,
 * so that differences between them are differences on the same tasks.
 *
 * @param columns `columns[name][unit]`; all of one length, at least 1.
 * @throws RangeError for columns of different lengths, for none, or for a value that is no finite number.
 * @example
 * const before = [0, 0, 1, 1];
 * const after = [1, 0, 1, 1];
 * const { gain } = bootstrapMeans({ gain: after.map((value, task) => value - before[task]!) }, { seed: 1 });
 * gain.interval; // [0, 0.75]
 */
export function bootstrapMeans<Name extends string>(
  columns: Readonly<Record<Name, readonly number[]>>,
  options: BootstrapOptions,
): Record<Name, BootstrappedMean> {
  const distributions = bootstrapDistributions(columns, options);
  return Object.fromEntries(
    (Object.entries(distributions) as [Name, Float64Array][]).map(([name, draws]) => {
      const values = columns[name];
      const below = draws.reduce((count, mean) => count + (mean <= 0 ? 1 : 0), 0);
      const above = draws.reduce((count, mean) => count + (mean >= 0 ? 1 : 0), 0);
      draws.sort();
      return [
        name,
        {
          mean: values.reduce((sum, value) => sum + value, 0) / values.length,
          interval: [quantile(draws, 0.025), quantile(draws, 0.975)],
          p: Math.min(1, (2 * (Math.min(below, above) + 1)) / (draws.length + 1)),
        },
      ];
    }),
  ) as Record<Name, BootstrappedMean>;
}

/**
 * The mean of each column in each draw, in the order of the draws.
 *
 * @throws RangeError as {@link bootstrapMeans}.
 */
export function bootstrapDistributions<Name extends string>(
  columns: Readonly<Record<Name, readonly number[]>>,
  { seed, resamples = RESAMPLES, clusters }: BootstrapOptions,
): Record<Name, Float64Array> {
  const names = Object.keys(columns) as Name[];
  const units = columns[names[0]!]?.length ?? 0;
  if (units === 0) throw new RangeError('a bootstrap needs at least one value');
  for (const name of names) {
    if (columns[name].length !== units || (clusters && clusters.length !== units))
      throw new RangeError(`${name} has ${columns[name].length} values, and ${units} are expected`);
    if (!columns[name].every(Number.isFinite)) throw new RangeError(`${name} has a value that is no finite number`);
  }
  const groups = grouped(units, clusters);
  // A draw needs the sums and sizes of clusters alone.
  const sizes = Float64Array.from(groups, (members) => members.length);
  const sums = names.map((name) =>
    Float64Array.from(groups, (members) => members.reduce((sum, at) => sum + columns[name][at]!, 0)),
  );
  const random = new Random(seed);
  const means = names.map(() => new Float64Array(resamples));
  const totals = new Float64Array(names.length);
  for (let draw = 0; draw < resamples; draw += 1) {
    totals.fill(0);
    let size = 0;
    for (let pick = 0; pick < groups.length; pick += 1) {
      const group = Math.floor(random.next() * groups.length);
      size += sizes[group]!;
      for (let column = 0; column < names.length; column += 1) totals[column]! += sums[column]![group]!;
    }
    for (let column = 0; column < names.length; column += 1) means[column]![draw] = totals[column]! / size;
  }
  return Object.fromEntries(names.map((name, column) => [name, means[column]!])) as Record<Name, Float64Array>;
}

function grouped(units: number, clusters: readonly string[] | undefined): number[][] {
  if (!clusters) return Array.from({ length: units }, (_, unit) => [unit]);
  const members = new Map<string, number[]>();
  clusters.forEach((name, unit) => members.set(name, [...(members.get(name) ?? []), unit]));
  return [...members.values()];
}

/** Quantile of sorted values with linear interpolation (Hyndman and Fan 1996, definition 7; numpy's default). */
export function quantile(sorted: Float64Array, share: number): number {
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low]! + (place - low) * (sorted[high]! - sorted[low]!);
}
