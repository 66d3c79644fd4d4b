/**
 * The hard subset that the paper trains on (section 3.2; the authors' get_hard_data.py): questions whose mean pass rate
 * is at
 * most the median, and of those the ones whose pass rates spread at least as much as the median of them.
 */

export interface RatedProgram {
  questionId: string;
  passRate: number;
}

/** Ids of the hard questions among those that programs were sampled for; about a quarter of them. */
export async function hardQuestions(programs: AsyncIterable<RatedProgram>): Promise<Set<string>> {
  const sums = new Map<string, { count: number; sum: number; squares: number }>();
  for await (const { questionId, passRate } of programs) {
    const entry = sums.get(questionId) ?? { count: 0, sum: 0, squares: 0 };
    entry.count += 1;
    entry.sum += passRate;
    entry.squares += passRate * passRate;
    sums.set(questionId, entry);
  }
  const questions = [...sums].map(([id, { count, sum, squares }]) => ({
    id,
    mean: sum / count,
    std: Math.sqrt(Math.max(0, squares / count - (sum / count) ** 2)),
  }));
  if (questions.length === 0) return new Set();
  const meanBar = median(questions.map(({ mean }) => mean));
  const low = questions.filter(({ mean }) => mean <= meanBar);
  const stdBar = median(low.map(({ std }) => std));
  return new Set(low.filter(({ std }) => std >= stdBar).map(({ id }) => id));
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
