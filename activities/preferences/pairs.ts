/** Preference pairs from pass rates (paper, section 2.3, equation 3). */
import type { PairRow, ProgramRow } from '../../workflows/contract/index.js';
import { rowId } from '../artifacts/keys.js';

export interface PairRule {
  /** The chosen program's pass rate is at least this. */
  minimumBest: number;
  /** The pass rates differ by at least this. */
  minimumGap: number;
  /** The rejected program's pass rate is above this: a zero is often a syntax error rather than a worse idea. */
  worstAbove: number;
  /** Most pairs of one question; undefined is all of them. */
  maximumPerQuestion?: number | undefined;
}

export interface QuestionPrograms {
  questionId: string;
  question: string;
  split: ProgramRow['split'];
  programs: Pick<ProgramRow, 'id' | 'program' | 'passRate'>[];
}

/** Rates are quotients of small integers; the tolerance keeps 0.9 - 0.5 >= 0.4 true in binary floating point. */
const TOLERANCE = 1e-9;

export type SkipReason = 'noProgramAboveBest' | 'noProgramBelowGap' | 'overMaximum' | 'duplicatePrograms';

/**
 * All pairs of one question that the rule allows, the widest gap first, ties in program order. Pairs of the same two
 * texts count once. A question that gives no pair is skipped for the first condition that nothing meets.
 */
export function pairPrograms({ questionId, question, split, programs }: QuestionPrograms, rule: PairRule): { pairs: PairRow[]; skipped: Partial<Record<SkipReason, number>> } {
  const best = programs.filter(({ passRate }) => passRate >= rule.minimumBest - TOLERANCE);
  if (best.length === 0) return { pairs: [], skipped: { noProgramAboveBest: 1 } };
  const seen = new Set<string>();
  const pairs: PairRow[] = [];
  let duplicatePrograms = 0;
  for (const chosen of best) {
    for (const rejected of programs) {
      if (rejected.passRate <= rule.worstAbove + TOLERANCE || chosen.passRate - rejected.passRate < rule.minimumGap - TOLERANCE) continue;
      const texts = JSON.stringify([chosen.program, rejected.program]);
      if (seen.has(texts)) {
        duplicatePrograms += 1;
        continue;
      }
      seen.add(texts);
      pairs.push({
        id: rowId('pair', chosen.id, rejected.id), questionId, split, question,
        chosen: chosen.program, rejected: rejected.program, chosenPassRate: chosen.passRate, rejectedPassRate: rejected.passRate,
      });
    }
  }
  if (pairs.length === 0) return { pairs, skipped: { noProgramBelowGap: 1 } };
  const gap = ({ chosenPassRate, rejectedPassRate }: PairRow): number => chosenPassRate - rejectedPassRate;
  const kept = [...pairs].sort((a, b) => gap(b) - gap(a)).slice(0, rule.maximumPerQuestion);
  return { pairs: kept, skipped: { ...count('duplicatePrograms', duplicatePrograms), ...count('overMaximum', pairs.length - kept.length) } };
}

function count(reason: SkipReason, times: number): Partial<Record<SkipReason, number>> {
  return times > 0 ? { [reason]: times } : {};
}
