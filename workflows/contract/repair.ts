/** Turns in which RL rounds let a policy mend a program that failed. Pure. */
import { z } from 'zod';
import { count, share } from './fields.js';

/** What feedback shows of a failing test: each entry shows what those before it do. */
const SHOWS = ['kind', 'call', 'test'] as const;
/** Rules by which a turn earns something of what came after it; docs/reference/algorithms.md has their formulas. */
const CREDITS = ['own', 'last', 'best', 'discounted'] as const;

/** Settings of repair turns. */
export const Repair = z.strictObject({
  turns: z
    .number()
    .int()
    .min(2)
    .max(4)
    .default(2)
    .describe('most answers of one conversation, the first one among them'),
  hiddenShare: share
    .default(0.5)
    .describe(
      "share of each question's tests that no feedback is about, of those that rewards read; above 0 at least one " +
        'where there are two that differ; a program is mended only if it fails one of the others (public and private ' +
        'tests, arXiv 2410.02089)',
    ),
  shows: z
    .enum(SHOWS)
    .default('test')
    .describe(
      'what feedback shows of a failing test: what kind of failure it is (kind), with it the call and what came of it ' +
        '(call), or the whole test with the value that it expects (test)',
    ),
  length: count.default(400).describe('most characters of one feedback'),
  credit: z
    .enum(CREDITS)
    .default('own')
    .describe(
      'what a turn earns: its own reward (own), that of the last turn (last), the highest from it on (best), or the ' +
        'highest from it on, of which each later turn counts discount times as much as the one before (discounted)',
    ),
  discount: share.default(0.5).describe('of credit discounted'),
});
export type Repair = z.infer<typeof Repair>;

const whole = z.number().int().nonnegative();

/** One message of a conversation. */
export const TurnMessage = z.strictObject({ role: z.enum(['user', 'assistant']), content: z.string() });
export type TurnMessage = z.infer<typeof TurnMessage>;

/** What a policy is asked in a repair turn: one row for each program that is to be mended. */
export const RepairPromptRow = z.strictObject({
  /** The rollout that it mends, and the place of the first one of its conversation in its group. */
  repairs: z.string().min(1),
  questionId: z.string().min(1),
  index: whole,
  /** 2 for the first repair. */
  turn: z.number().int().min(2),
  /** The conversation so far, without what opens the answer. */
  messages: z.array(TurnMessage).min(3),
  seed: whole,
  /** Places of the tests that the feedback is about. */
  shown: z.array(whole).min(1),
});
export type RepairPromptRow = z.infer<typeof RepairPromptRow>;

const rate = z.number().min(0).max(1);

/** What came of the repair turns of a round. */
export const RoundRepair = z.strictObject({
  /** Conversations whose first answer has a verdict. */
  conversations: whole,
  /** Shares of them whose first answer passes all tests that rewards read, and whose last one does. */
  firstPass: rate,
  lastPass: rate,
  /** Answers after the first ones, and those of them that pass. */
  repairs: whole,
  repaired: whole,
});
export type RoundRepair = z.infer<typeof RoundRepair>;
