/**
 * The curriculum of RL rounds: what is known of each question, which pool it is in, and which questions a draw asks.
 *
 * All of it follows from stored rows and seeds, so that a repeated activity draws alike. What a round knows follows
 * from what the round before knew and from its verdicts.
 */
import {
  POOLS,
  type CurriculumRow,
  type DrawRule,
  type Pool,
  type PoolSizes,
  type RewardConfig,
  type RewardRow,
} from '../../workflows/contract/index.js';
import type { z } from 'zod';
import { groupedBy } from '../artifacts/collections.js';
import { sha256 } from '../artifacts/keys.js';

/** Programs of a question, and how many of them passed. */
export interface Counted {
  seen: number;
  passed: number;
}

/** What a program with this pass rate counts as passed: what tests would earn for it. */
const passedOf = (passRate: number, tests: z.infer<typeof RewardConfig>['tests']): number =>
  tests === 'allPass' ? Number(passRate === 1) : passRate;

/**
 * Programs by question, as they count for a reward. Programs without a pass rate say nothing.
 *
 * @example
 * countedPrograms([{ questionId: 'q', passRate: 0.5 }, { questionId: 'q', passRate: 1 }], 'allPass');
 * // Map { 'q' => { seen: 2, passed: 1 } }
 */
export function countedPrograms(
  programs: Iterable<{ questionId: string; passRate?: number | undefined }>,
  tests: z.infer<typeof RewardConfig>['tests'],
): Map<string, Counted> {
  const counted = new Map<string, Counted>();
  for (const { questionId, passRate } of programs) {
    if (passRate === undefined) continue;
    const { seen, passed } = counted.get(questionId) ?? { seen: 0, passed: 0 };
    counted.set(questionId, { seen: seen + 1, passed: passed + passedOf(passRate, tests) });
  }
  return counted;
}

/** What is known before the first round: the programs of the sampling stage. A question without any is unknown. */
export function knownAtFirst(questions: readonly string[], sampled: ReadonlyMap<string, Counted>): CurriculumRow[] {
  return questions.map((questionId) => {
    const { seen, passed } = sampled.get(questionId) ?? { seen: 0, passed: 0 };
    return { questionId, seen, passed, asked: 0, last: 0 };
  });
}

/** What is known in the next round: every question's programs count `memory` times as much as before. */
export function aged(known: readonly CurriculumRow[], memory: number): CurriculumRow[] {
  return known.map((row) => ({ ...row, seen: memory * row.seen, passed: memory * row.passed }));
}

/** What is known after a draw of a round: the programs of the questions that it asked are added. */
export function learned(
  known: readonly CurriculumRow[],
  asked: ReadonlySet<string>,
  counted: ReadonlyMap<string, Counted>,
  round: number,
): CurriculumRow[] {
  return known.map((row) => {
    if (!asked.has(row.questionId)) return row;
    const { seen, passed } = counted.get(row.questionId) ?? { seen: 0, passed: 0 };
    return { ...row, seen: row.seen + seen, passed: row.passed + passed, asked: row.asked + 1, last: round };
  });
}

/** Passes and fails of the Beta posterior from the uniform prior: mean passes / (passes + fails). */
function posterior({ seen, passed }: Counted): { passes: number; fails: number } {
  return { passes: passed + 1, fails: seen - passed + 1 };
}

/**
 * The pool of a question: by the mean of its posterior.
 *
 * @example
 * poolOf({ seen: 0, passed: 0 }); // 'medium'
 */
export function poolOf(counted: Counted): Pool {
  const { passes, fails } = posterior(counted);
  const mean = passes / (passes + fails);
  return (Object.keys(POOLS) as Pool[]).find((pool) => mean < POOLS[pool])!;
}

/** Number of questions by pool. */
export function poolSizes(known: readonly Counted[]): PoolSizes {
  const sizes = Object.fromEntries(Object.keys(POOLS).map((pool) => [pool, 0])) as PoolSizes;
  for (const row of known) sizes[poolOf(row)] += 1;
  return sizes;
}

/**
 * What a question weighs, under the Beta posterior of its pass rate p:
 *
 * - `uniform`: 1.
 * - `signal`: the chance that n rollouts neither all pass nor all fail, E[1 - pⁿ - (1 - p)ⁿ].
 * - `learnability`: the variance of passing, E[p (1 - p)].
 *
 * @param samples n, the rollouts of a group.
 * @example
 * weightOf('signal', { seen: 0, passed: 0 }, 8); // 7 / 9
 */
export function weightOf(rule: DrawRule, counted: Counted, samples: number): number {
  if (rule === 'uniform') return 1;
  const { passes, fails } = posterior(counted);
  const all = passes + fails;
  if (rule === 'learnability') return (passes * fails) / (all * (all + 1));
  let [allPass, allFail] = [1, 1];
  for (let sample = 0; sample < samples; sample += 1) {
    allPass *= (passes + sample) / (all + sample);
    allFail *= (fails + sample) / (all + sample);
  }
  return 1 - allPass - allFail;
}

export interface Draw {
  rule: DrawRule;
  /** How many questions; fewer are drawn where there are no more. */
  count: number;
  /** Rollouts of a group. */
  samples: number;
  /** Seed of this draw. */
  seed: number;
  /** Questions that this round has asked already. */
  without?: ReadonlySet<string>;
}

/**
 * The questions that a draw asks, in the order of their hash. How many come from each pool is in proportion to what its
 * questions weigh together (by the method of Sainte-Laguë). In a pool those come first that were asked longest ago, and
 * of those the ones whose hash under the seed is least.
 *
 * @example
 * drawn(known, { rule: 'learnability', count: 256, samples: 8, seed: 7 }); // ids
 */
export function drawn(
  known: readonly CurriculumRow[],
  { rule, count, samples, seed, without = new Set() }: Draw,
): string[] {
  const candidates = known
    .filter(({ questionId }) => !without.has(questionId))
    .map((row) => ({ row, at: sha256(`${seed}/${row.questionId}`) }));
  const byPool = groupedBy(candidates, ({ row }) => poolOf(row));
  const pools = Object.keys(POOLS).map((pool) => {
    const members = byPool.get(pool) ?? [];
    return {
      weight: members.reduce((sum, { row }) => sum + weightOf(rule, row, samples), 0),
      members: members.sort((a, b) => a.row.last - b.row.last || (a.at < b.at ? -1 : 1)),
    };
  });
  const shares = apportioned(
    pools.map(({ weight, members }) => ({ weight, most: members.length })),
    count,
  );
  return pools
    .flatMap(({ members }, at) => members.slice(0, shares[at]))
    .sort((a, b) => (a.at < b.at ? -1 : 1))
    .map(({ row }) => row.questionId);
}

/**
 * Whole shares of `count` in proportion to weights, none above its most: each goes to the one whose weight over twice
 * its share and one is largest (Sainte-Laguë).
 */
function apportioned(parts: readonly { weight: number; most: number }[], count: number): number[] {
  const shares = parts.map(() => 0);
  const claim = (at: number): number => parts[at]!.weight / (2 * shares[at]! + 1);
  for (let left = count; left > 0; left -= 1) {
    const open = parts.flatMap(({ most }, at) => (shares[at]! < most ? [at] : []));
    if (open.length === 0) break;
    const next = open.reduce((best, at) => (claim(at) > claim(best) ? at : best));
    shares[next]! += 1;
  }
  return shares;
}

/**
 * Questions of these rewards whose groups have no signal: rewards are all equal, or fewer than two rollouts have one.
 * Methods with a baseline of the group learn nothing from it (DAPO, arXiv 2503.14476, section 3.2).
 */
export function withoutSignal(rewards: readonly Pick<RewardRow, 'questionId' | 'reward'>[]): Set<string> {
  const groups = groupedBy(rewards, ({ questionId }) => questionId);
  return new Set(
    [...groups].flatMap(([questionId, group]) =>
      new Set(group.flatMap(({ reward }) => reward ?? [])).size < 2 ? [questionId] : [],
    ),
  );
}
