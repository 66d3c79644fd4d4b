/** Interval, calibration and breakdown of pairwise accuracy. */

/**
 * Wilson score interval of a proportion (Wilson 1927) at 95 %: holds for small counts and for rates near 0 and 1.
 * Undefined for no trials.
 */
export function wilsonInterval(successes: number, trials: number): [number, number] | undefined {
  if (trials === 0) return undefined;
  const z = 1.959963984540054;
  const rate = successes / trials;
  const centre = (rate + (z * z) / (2 * trials)) / (1 + (z * z) / trials);
  const half = (z / (1 + (z * z) / trials)) * Math.sqrt((rate * (1 - rate)) / trials + (z * z) / (4 * trials * trials));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

export interface CalibrationBin {
  /**
   * Mean Bradley-Terry probability sigmoid(chosen - rejected) of the bin's pairs, ordered so that it is at least 0.5.
   */
  predicted: number;
  /** Share of them in which the preferred program is the chosen one. */
  observed: number;
  count: number;
}

/** Calibration over pairs: each pair is turned to the side that the model prefers, then put into one of five bins. */
export function calibration(margins: readonly number[]): CalibrationBin[] {
  const bins = Array.from({ length: 5 }, () => ({ predicted: 0, observed: 0, count: 0 }));
  for (const margin of margins) {
    const predicted = 1 / (1 + Math.exp(-Math.abs(margin)));
    const bin = bins[Math.min(4, Math.floor((predicted - 0.5) * 10))]!;
    bin.predicted += predicted;
    bin.observed += margin > 0 ? 1 : 0;
    bin.count += 1;
  }
  return bins
    .filter(({ count }) => count > 0)
    .map(({ predicted, observed, count }) => ({ predicted: predicted / count, observed: observed / count, count }));
}

/**
 * Expected calibration error (Naeini, Cooper and Hauskrecht 2015): mean over pairs of how far the bin's observed share
 * is from what it predicts. Null without a pair.
 *
 * @example
 * calibrationError([{ predicted: 0.9, observed: 0.7, count: 10 }]); // 0.2
 */
export function calibrationError(bins: readonly CalibrationBin[]): number | null {
  const pairs = bins.reduce((sum, { count }) => sum + count, 0);
  if (pairs === 0) return null;
  return bins.reduce((sum, { predicted, observed, count }) => sum + count * Math.abs(observed - predicted), 0) / pairs;
}

export interface GapBin {
  /** The bin's pairs have pass rates that differ by more than `above` and at most `atMost`. */
  above: number;
  atMost: number;
  /** Share of them in which the chosen program has the higher score. */
  accuracy: number;
  count: number;
}

/** Accuracy by how far the pass rates of a pair are apart, in five bins of equal width; empty bins are left out. */
export function accuracyByGap(pairs: readonly { gap: number; margin: number }[]): GapBin[] {
  const bins = Array.from({ length: 5 }, (_, index) => ({
    above: index / 5,
    atMost: (index + 1) / 5,
    accuracy: 0,
    count: 0,
  }));
  for (const { gap, margin } of pairs) {
    // Rates are quotients of small integers: 0.4 is in the bin that ends there, whatever its last bit.
    const bin = bins[Math.max(0, Math.min(4, Math.ceil(gap * 5 - 1e-9) - 1))]!;
    bin.accuracy += margin > 0 ? 1 : 0;
    bin.count += 1;
  }
  return bins.filter(({ count }) => count > 0).map((bin) => ({ ...bin, accuracy: bin.accuracy / bin.count }));
}
