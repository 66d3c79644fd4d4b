/** Interval and calibration of pairwise accuracy. */

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
  /** Mean Bradley-Terry probability sigmoid(chosen - rejected) of the bin's pairs, ordered so that it is at least 0.5. */
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
  return bins.filter(({ count }) => count > 0).map(({ predicted, observed, count }) => ({ predicted: predicted / count, observed: observed / count, count }));
}
