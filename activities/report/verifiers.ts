/**
 * The tests of all questions as verifiers, from the verdicts of the sampled programs. Pure. Nobody says here which
 * programs are right: rates are estimates, as `docs/explanation/verifier-quality.md` explains.
 */
import type { VerifierQuality } from '../../workflows/contract/index.js';
import { bootstrapMeans } from '../statistics/bootstrap.js';

/** A mean over questions, with the 95 % interval of a bootstrap over them. */
interface MeanOfQuestions {
  mean: number;
  interval: [number, number];
}

const FIGURES = ['tests', 'duplicates', 'rank', 'discrimination', 'truePositive', 'falsePositive', 'j'] as const;
export type VerifierFigure = (typeof FIGURES)[number];

/** What the questions together say. */
export interface VerifierTally {
  /** Questions with programs and tests, and those of them with estimated rates. */
  questions: number;
  estimated: number;
  /** Each over the questions that have the figure; absent where none has. */
  means: Partial<Record<VerifierFigure, MeanOfQuestions>>;
  /** Estimated questions by J, in tenths from 0 to 1; what is below 0 is in the first bin. */
  histogram: { from: number; to: number; count: number }[];
}

/** Draws of the intervals: fewer than elsewhere, because a report may have 100,000 questions. */
const RESAMPLES = 1_000;
/** What draws the intervals: a report is the same every time. */
const SEED = 2027;

/** Adds up the questions of a report. */
export class VerifierTallies {
  readonly #columns = new Map<VerifierFigure, number[]>(FIGURES.map((name) => [name, []]));

  add(verifier: VerifierQuality): void {
    for (const name of FIGURES) {
      const value = verifier[name];
      if (value !== undefined) this.#columns.get(name)!.push(value);
    }
  }

  /** Undefined where no question was added. */
  result(): VerifierTally | undefined {
    const columns = [...this.#columns].filter(([, values]) => values.length > 0);
    const js = this.#columns.get('j')!;
    if (columns.length === 0) return undefined;
    const histogram = Array.from({ length: 10 }, (_, bin) => ({ from: bin / 10, to: (bin + 1) / 10, count: 0 }));
    for (const j of js) histogram[Math.max(0, Math.min(9, Math.floor(j * 10)))]!.count += 1;
    return {
      questions: this.#columns.get('tests')!.length,
      estimated: js.length,
      means: Object.fromEntries(
        columns.map(([name, values]) => {
          const { mean, interval } = bootstrapMeans({ values }, { seed: SEED, resamples: RESAMPLES }).values;
          return [name, { mean, interval }];
        }),
      ),
      histogram,
    };
  }
}
