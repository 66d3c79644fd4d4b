/** Preference pairs from pass rates (paper, section 2.3, equation 3). */
import { StageFailure, type PairRow, type ProgramRow, type VerifierQuality } from '../../workflows/contract/index.js';
import { rowId } from '../artifacts/keys.js';
import { keyedLanguage } from '../languages/index.js';

export interface PairRule {
  /** `strict`: a program that passes everything against one that does not; the thresholds below do not count. */
  labels: 'rate' | 'strict';
  /** Whether a rate of exactly `minimumBest`, or a gap of exactly `minimumGap`, counts; absent: it does. */
  thresholds?: 'inclusive' | 'exclusive' | undefined;
  /** The chosen program's pass rate is at least this. */
  minimumBest: number;
  /** The pass rates differ by at least this. */
  minimumGap: number;
  /** The rejected program's pass rate is above this: a zero is often a syntax error rather than a worse idea. */
  worstAbove: number;
  /** Most pairs of one question; undefined is all of them. */
  maximumPerQuestion?: number | undefined;
  /** What the tests must be worth; absent: anything. */
  verifier?: VerifierRule | undefined;
}

export interface QuestionPrograms {
  questionId: string;
  question: string;
  language?: ProgramRow['language'];
  split: ProgramRow['split'];
  programs: Pick<ProgramRow, 'id' | 'program' | 'passRate'>[];
  /** What its tests are worth, by the verdicts of all its programs, those of other samplers included. */
  verifier?: VerifierQuality | undefined;
}

/** Least figures of a question's tests as a verifier. */
interface VerifierRule {
  minimumDiscrimination?: number | undefined;
  minimumRank?: number | undefined;
  minimumJ?: number | undefined;
  minimumMutationScore?: number | undefined;
}

/** A pair that was made of judged programs. */
export type RatedPair = PairRow & { chosenPassRate: number; rejectedPassRate: number };

/** Rates are quotients of small integers; the tolerance keeps 0.9 - 0.5 >= 0.4 true in binary floating point. */
const TOLERANCE = 1e-9;
/** The thresholds that strict labels amount to: no rate is within twice the tolerance of 1 but 1 itself. */
const STRICT = { minimumBest: 1, minimumGap: 2 * TOLERANCE, worstAbove: -1 };

/** A program as the pairing sees it, with what its pass rate under another denominator follows from. */
type JudgedProgram = Pick<ProgramRow, 'id' | 'program' | 'passRate' | 'outcomes' | 'testCases'>;

/**
 * The pass rate of a program over the kept test cases of its question, or over all that the teacher wrote: the authors'
 * code divides by the latter (consolidate_dataset.py), so that a perfect program on a filtered question has no rate of
 * 1.
 *
 * @throws StageFailure `InvalidExperiment` where a row does not say how many test cases there were.
 */
function passRateOver(denominator: 'kept' | 'all', { id, passRate, outcomes, testCases }: JudgedProgram): number {
  if (denominator === 'kept') return passRate;
  if (testCases === undefined)
    throw new StageFailure(
      'InvalidExperiment',
      `denominator is 'all', and the row of program ${id} has no testCases: the number of its question's test ` +
        `cases before filtering`,
    );
  return outcomes.filter(({ status }) => status === 'pass').length / testCases;
}

/**
 * Programs question by question, and in a question sampler by sampler, in their order; a question's programs stand
 * together in what sampling makes.
 *
 * @param verifierOf what the tests of a question are worth; absent: nobody asks.
 * @throws StageFailure `InvalidExperiment` naming a question whose programs stand apart.
 */
export async function* byQuestion(
  programs: AsyncIterable<ProgramRow>,
  denominator: 'kept' | 'all',
  verifierOf?: (questionId: string, outcomes: ProgramRow['outcomes'][]) => VerifierQuality | undefined,
): AsyncGenerator<QuestionPrograms> {
  const finished = new Set<string>();
  let questionId: string | undefined;
  const bySampler = new Map<string | undefined, QuestionPrograms>();
  let outcomes: ProgramRow['outcomes'][] = [];
  const whole = (): QuestionPrograms[] => {
    const verifier = questionId === undefined ? undefined : verifierOf?.(questionId, outcomes);
    return [...bySampler.values()].map((own) => (verifier ? { ...own, verifier } : own));
  };
  for await (const row of programs) {
    if (row.questionId !== questionId) {
      yield* whole();
      bySampler.clear();
      outcomes = [];
      if (finished.has(row.questionId))
        throw new StageFailure(
          'InvalidExperiment',
          `the programs of question ${row.questionId} do not stand together: sort the rows by questionId`,
        );
      finished.add(row.questionId);
      questionId = row.questionId;
    }
    const own = bySampler.get(row.sampler) ?? {
      questionId,
      question: row.question,
      ...keyedLanguage(row.language),
      split: row.split,
      programs: [],
    };
    bySampler.set(row.sampler, own);
    own.programs.push({ id: row.id, program: row.program, passRate: passRateOver(denominator, row) });
    if (verifierOf) outcomes.push(row.outcomes);
  }
  yield* whole();
}

export type SkipReason =
  'noProgramAboveBest' | 'noProgramBelowGap' | 'overMaximum' | 'duplicatePrograms' | 'weakVerifier';

/** Whether a question's tests reach all that is asked of them. A figure that nobody knows reaches nothing. */
function reachesAll(verifier: VerifierQuality | undefined, rule: VerifierRule): boolean {
  const least = {
    discrimination: rule.minimumDiscrimination,
    rank: rule.minimumRank,
    j: rule.minimumJ,
    mutationScore: rule.minimumMutationScore,
  };
  return Object.entries(least).every(([name, minimum]) => {
    const value = verifier?.[name as keyof typeof least];
    return minimum === undefined || (value !== undefined && value >= minimum - TOLERANCE);
  });
}

/**
 * All pairs of one question that the rule allows, the widest gap first, ties in program order. Pairs of the same two
 * texts count once. A question that gives no pair is skipped for the first condition that nothing meets.
 */
export function pairPrograms(
  { questionId, question, language, split, programs, verifier }: QuestionPrograms,
  rule: PairRule,
): { pairs: RatedPair[]; skipped: Partial<Record<SkipReason, number>> } {
  if (rule.verifier && !reachesAll(verifier, rule.verifier)) return { pairs: [], skipped: { weakVerifier: 1 } };
  const strict = rule.labels === 'strict';
  const { minimumBest, minimumGap, worstAbove } = strict ? STRICT : rule;
  const margin = rule.thresholds === 'exclusive' && !strict ? TOLERANCE : -TOLERANCE;
  const reaches = (value: number, threshold: number): boolean =>
    margin < 0 ? value >= threshold + margin : value > threshold + margin;
  const best = programs.filter(({ passRate }) => reaches(passRate, minimumBest));
  if (best.length === 0) return { pairs: [], skipped: { noProgramAboveBest: 1 } };
  const seen = new Set<string>();
  const pairs: RatedPair[] = [];
  let duplicatePrograms = 0;
  for (const chosen of best) {
    for (const rejected of programs) {
      if (rejected.passRate <= worstAbove + TOLERANCE || !reaches(chosen.passRate - rejected.passRate, minimumGap))
        continue;
      const texts = JSON.stringify([chosen.program, rejected.program]);
      if (seen.has(texts)) {
        duplicatePrograms += 1;
        continue;
      }
      seen.add(texts);
      pairs.push({
        id: rowId('pair', chosen.id, rejected.id),
        questionId,
        split,
        question,
        ...keyedLanguage(language),
        chosen: chosen.program,
        rejected: rejected.program,
        chosenPassRate: chosen.passRate,
        rejectedPassRate: rejected.passRate,
        ...(verifier ? { verifier } : {}),
      });
    }
  }
  if (pairs.length === 0) return { pairs, skipped: { noProgramBelowGap: 1 } };
  const gap = ({ chosenPassRate, rejectedPassRate }: RatedPair): number => chosenPassRate - rejectedPassRate;
  const kept = [...pairs].sort((a, b) => gap(b) - gap(a)).slice(0, rule.maximumPerQuestion);
  return {
    pairs: kept,
    skipped: { ...count('duplicatePrograms', duplicatePrograms), ...count('overMaximum', pairs.length - kept.length) },
  };
}

function count(reason: SkipReason, times: number): Partial<Record<SkipReason, number>> {
  return times > 0 ? { [reason]: times } : {};
}
