/**
 * The curriculum of RL rounds: what is known of each question, which pool it is in, and which questions a draw asks.
 *
 * All of it follows from stored rows and seeds, so that a repeated activity draws alike. What a round knows follows
 * from what the round before knew and from its verdicts.
 */
import type { z } from 'zod';
import {
  POOLS,
  type Curriculum,
  type CurriculumDraw,
  type CurriculumRow,
  type DrawRule,
  type Pool,
  type PoolSizes,
  type RewardConfig,
  type RewardRow,
  type RoundCurriculum,
  type RoundPromptRow,
} from '../../workflows/contract/index.js';
import { groupedBy } from '../artifacts/collections.js';
import { deriveSeed, sha256 } from '../artifacts/keys.js';

/** Programs of a question, and how many of them passed. */
interface Counted {
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

/**
 * What is known before the first round, in the order of ids: the programs of the sampling stage. A question without any
 * is unknown.
 */
export function knownAtFirst(questions: readonly string[], sampled: ReadonlyMap<string, Counted>): CurriculumRow[] {
  return [...questions].sort().map((questionId) => {
    const { seen, passed } = sampled.get(questionId) ?? { seen: 0, passed: 0 };
    return { questionId, seen, passed, asked: 0, last: 0 };
  });
}

/** In one pass over all questions, what is known of each comes to count this much: policies change elsewhere too. */
const FADING = 0.8;

/** What is known in the next round. `share` of all questions is what a round asks. */
export function faded(known: readonly CurriculumRow[], share: number): CurriculumRow[] {
  const factor = FADING ** share;
  return known.map((row) => ({ ...row, seen: factor * row.seen, passed: factor * row.passed }));
}

/**
 * What is known after a draw of a round: the programs of the questions that it asked are added, and earlier ones count
 * `memory` times as much as before.
 */
export function learned(
  known: readonly CurriculumRow[],
  asked: ReadonlySet<string>,
  counted: ReadonlyMap<string, Counted>,
  { round, memory }: { round: number; memory: number },
): CurriculumRow[] {
  return known.map((row) => {
    if (!asked.has(row.questionId)) return row;
    const told = counted.get(row.questionId);
    const programs = told && { seen: memory * row.seen + told.seen, passed: memory * row.passed + told.passed };
    return { ...row, ...programs, asked: row.asked + 1, last: round };
  });
}

/** Passes and fails of the Beta posterior from Jeffreys' prior: its mean is passes / (passes + fails). */
function posterior({ seen, passed }: Counted): { passes: number; fails: number } {
  return { passes: passed + 0.5, fails: seen - passed + 0.5 };
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
 * The value of asking a question, under the Beta posterior of its pass rate p:
 *
 * - `uniform`: 1.
 * - `signal`: the chance that n rollouts neither all pass nor all fail, E[1 - pⁿ - (1 - p)ⁿ].
 * - `learnability`: the variance of passing, E[p (1 - p)].
 * - `headroom`: that times what is left to win, E[p (1 - p)²].
 *
 * @param samples n, the rollouts of a group.
 * @example
 * valueOf('learnability', { seen: 0, passed: 0 }, 8); // 0.125
 */
export function valueOf(rule: DrawRule, counted: Counted, samples: number): number {
  if (rule === 'uniform') return 1;
  const { passes, fails } = posterior(counted);
  const all = passes + fails;
  const variance = (passes * fails) / (all * (all + 1));
  if (rule === 'learnability') return variance;
  if (rule === 'headroom') return (variance * (fails + 1)) / (all + 2);
  let [allPass, allFail] = [1, 1];
  for (let sample = 0; sample < samples; sample += 1) {
    allPass *= (passes + sample) / (all + sample);
    allFail *= (fails + sample) / (all + sample);
  }
  return 1 - allPass - allFail;
}

interface Draw {
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
 * The questions that a draw asks: those of the highest value. Of equal ones those come first that were asked longest
 * ago, and of these the ones whose hash under the seed is least.
 *
 * @example
 * drawn(known, { rule: 'headroom', count: 256, samples: 8, seed: 7 }); // ids
 */
export function drawn(
  known: readonly CurriculumRow[],
  { rule, count, samples, seed, without = new Set() }: Draw,
): string[] {
  return known
    .filter(({ questionId }) => !without.has(questionId))
    .map((row) => ({ row, value: valueOf(rule, row, samples), at: sha256(`${seed}/${row.questionId}`) }))
    .sort((a, b) => b.value - a.value || a.row.last - b.row.last || (a.at < b.at ? -1 : 1))
    .slice(0, count)
    .map(({ row }) => row.questionId);
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

/** A draw with what came of it. */
interface Drawn {
  about: CurriculumDraw;
  /** What was known before it. */
  known: readonly CurriculumRow[];
  /** Prompts of the round after it, those of earlier draws among them. */
  prompts: readonly Pick<RoundPromptRow, 'questionId' | 'draw'>[];
  rewards: readonly Pick<RewardRow, 'questionId' | 'passRate' | 'reward'>[];
}

/** Settings of a round that a draw reads. */
interface DrawSettings {
  curriculum: Curriculum;
  round: number;
  promptsPerRound: number;
  samplesPerPrompt: number;
  seed: number;
  tests: z.infer<typeof RewardConfig>['tests'];
}

/** A draw, the questions that it asks, and those of earlier draws of the round whose groups it replaces. */
export interface NextDraw {
  about: CurriculumDraw;
  known: CurriculumRow[];
  ask: string[];
  replaced: ReadonlySet<string>;
}

/** The first draw of the first round, by the programs of the sampling stage. */
export function firstDraw(
  settings: DrawSettings,
  questions: readonly string[],
  sampled: ReadonlyMap<string, Counted>,
): NextDraw {
  return firstOfRound(settings, knownAtFirst(questions, sampled));
}

/**
 * The draw after another one: of the same round, where it replaces groups without signal, or the first of the next one.
 */
export function nextDraw(settings: DrawSettings, { about, known, prompts, rewards }: Drawn): NextDraw {
  const { curriculum, round, promptsPerRound, tests } = settings;
  const asked = new Set(prompts.filter(({ draw = 0 }) => draw === about.draw).map(({ questionId }) => questionId));
  const now = learned(
    known,
    asked,
    countedPrograms(
      rewards.filter(({ questionId }) => asked.has(questionId)),
      tests,
    ),
    { round: about.round, memory: curriculum.memory },
  );
  if (about.round !== round) return firstOfRound(settings, faded(now, Math.min(1, promptsPerRound / now.length)));
  const without = [...withoutSignal(rewards)];
  const draw = about.draw + 1;
  const before = new Set(now.filter(({ last }) => last === round).map(({ questionId }) => questionId));
  const seed = drawSeed(settings, draw);
  const ask = drawn(now, {
    ...{ rule: curriculum.rule, samples: settings.samplesPerPrompt, seed, without: before },
    count: Math.min(without.length, about.mayReplace),
  });
  const replaced = about.extraRollouts / settings.samplesPerPrompt + ask.length;
  return {
    about: {
      ...{ round, draw, seed, pools: poolSizes(now), asked: poolsOf(now, ask) },
      firstWithoutSignal: about.firstWithoutSignal ?? without.length,
      extraRollouts: replaced * settings.samplesPerPrompt,
      mayReplace: mayReplace(settings, { draw, replaced, left: now.length - before.size - ask.length }),
    },
    known: now,
    ask,
    replaced: new Set(without.slice(0, ask.length)),
  };
}

function firstOfRound(settings: DrawSettings, known: CurriculumRow[]): NextDraw {
  const { curriculum, round, promptsPerRound: count, samplesPerPrompt: samples } = settings;
  const seed = drawSeed(settings, 0);
  const ask = drawn(known, { rule: curriculum.rule, count, samples, seed });
  const left = known.length - ask.length;
  return {
    about: {
      ...{ round, draw: 0, seed, pools: poolSizes(known), asked: poolsOf(known, ask), extraRollouts: 0 },
      mayReplace: mayReplace(settings, { draw: 0, replaced: 0, left }),
    },
    known,
    ask,
    replaced: new Set(),
  };
}

function drawSeed({ seed, round }: DrawSettings, draw: number): number {
  return deriveSeed(seed, 'curriculum', round, draw);
}

function poolsOf(known: readonly CurriculumRow[], ids: readonly string[]): PoolSizes {
  const wanted = new Set(ids);
  return poolSizes(known.filter(({ questionId }) => wanted.has(questionId)));
}

/** How many questions the draw after this one may ask: what is left of the budget, and of the questions. */
function mayReplace(
  { curriculum: { redraw }, promptsPerRound }: DrawSettings,
  { draw, replaced, left }: { draw: number; replaced: number; left: number },
): number {
  if (!redraw || draw >= redraw.draws) return 0;
  return Math.max(0, Math.min(left, Math.floor(redraw.budget * promptsPerRound) - replaced));
}

/** What came of the draws of a round so far, and how many groups another draw replaces. */
export function roundCurriculum(about: CurriculumDraw, rewards: Drawn['rewards']): RoundCurriculum {
  const without = withoutSignal(rewards).size;
  return {
    pools: about.pools,
    groups: new Set(rewards.map(({ questionId }) => questionId)).size,
    firstWithoutSignal: about.firstWithoutSignal ?? without,
    withoutSignal: without,
    draws: about.draw + 1,
    extraRollouts: about.extraRollouts,
    replace: Math.min(without, about.mayReplace),
  };
}
