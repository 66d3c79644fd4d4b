/** How RL rounds choose their questions by what is known of their difficulty. Pure. */
import { z } from 'zod';
import { count } from './fields.js';

/** Pools of questions by their estimated pass rate, each with its upper bound, which is not in it. */
export const POOLS = { unsolved: 0.1, hard: 0.35, medium: 0.65, easy: 0.9, solved: Infinity } as const;
export type Pool = keyof typeof POOLS;

/** Rules by which a round draws from the pools; docs/reference/algorithms.md has their formulas. */
const DRAW_RULES = ['uniform', 'signal', 'learnability', 'headroom'] as const;
export type DrawRule = (typeof DRAW_RULES)[number];

/** Settings of a curriculum. */
export const Curriculum = z.strictObject({
  rule: z
    .enum(DRAW_RULES)
    .default('headroom')
    .describe(
      'a round asks the questions of the highest value: 1 (uniform), the chance that the rewards of its rollouts ' +
        'differ (signal; arXiv 2503.14476), the variance of passing p (1 - p) (learnability; arXiv 2502.12272), or ' +
        'that times what is left to win, p (1 - p)^2 (headroom)',
    ),
  memory: z
    .number()
    .min(0)
    .max(1)
    .default(0.25)
    .describe('how much earlier programs of a question count when its new ones come (arXiv 2507.04632)'),
  redraw: z
    .strictObject({
      budget: z
        .number()
        .positive()
        .default(1)
        .describe('most rollouts that replace groups without signal, as a multiple of the rollouts of the round'),
      draws: count.default(4).describe('most draws after the first one of a round'),
    })
    .optional()
    .describe(
      'replace a group whose rewards are all equal by the group of another question (dynamic sampling, arXiv ' +
        '2503.14476, section 3.2); absent: such groups stay',
    ),
});
export type Curriculum = z.infer<typeof Curriculum>;

const whole = z.number().int().nonnegative();

/** What is known of a question before a draw: its programs so far, older ones counted less. */
export const CurriculumRow = z.strictObject({
  questionId: z.string().min(1),
  /** Programs, and how many of them passed; the share of passed tests where that is the reward. */
  seen: z.number().nonnegative(),
  passed: z.number().nonnegative(),
  /** Rounds that asked it, and the last of them; 0: none. */
  asked: whole,
  last: whole,
});
export type CurriculumRow = z.infer<typeof CurriculumRow>;

/** Number of questions by pool. */
export const PoolSizes = z.record(z.enum(Object.keys(POOLS) as [Pool, ...Pool[]]), whole);
export type PoolSizes = z.infer<typeof PoolSizes>;

/** A draw: from what, by which seed, and what it may still cost to draw again. */
export const CurriculumDraw = z.strictObject({
  round: z.number().int().positive(),
  /** 0 for the first draw of a round. */
  draw: whole,
  seed: whole,
  /** All questions, and those that this draw asks. */
  pools: PoolSizes,
  asked: PoolSizes,
  /** Groups of the first draw without signal; absent in the first draw. */
  firstWithoutSignal: whole.optional(),
  /** Rollouts of all draws of the round but the first. */
  extraRollouts: whole,
  /** How many questions the next draw of the round may ask at the most; 0: there is none. */
  mayReplace: whole,
});
export type CurriculumDraw = z.infer<typeof CurriculumDraw>;

/** What came of the draws of a round. */
export const RoundCurriculum = z.strictObject({
  /** Of all questions before the last draw. */
  pools: PoolSizes,
  groups: whole,
  /** Groups whose rewards are all equal: of the first draw, and now. */
  firstWithoutSignal: whole,
  withoutSignal: whole,
  draws: z.number().int().positive(),
  extraRollouts: whole,
  /** How many groups another draw replaces; 0: the round is complete. */
  replace: whole,
});
export type RoundCurriculum = z.infer<typeof RoundCurriculum>;
