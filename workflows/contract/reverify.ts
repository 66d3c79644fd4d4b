/**
 * Re-verification: stored programs under changed tests, limits or rules. What the workflow takes, and the rows of the
 * table that it makes.
 */
import { z } from 'zod';
import { artifactInput, artifactRef } from './artifacts.js';
import { count, EXECUTION, salt, SandboxLimits, schemaField } from './fields.js';
import { Verdict } from './rows.js';
import { preferences } from './stages/preferences.js';
import { RewardConfig } from './stages/reinforcement.js';

/** Programs of a shard, unless told: a shard of 4,096 takes minutes on a few cores. */
const SHARD_SIZE = 4096;

/** What the check over several fields reads. It is made also where other fields are wrong. */
const GIVEN = z.object({ inputs: z.looseObject({}) });

/** The rule that makes pairs, as the stage `preferences` has it. */
const PairRule = preferences.config.omit({ shardSize: true, salt: true, execution: true });
export type PairSettings = z.infer<typeof PairRule>;

export const ReverifyInput = z
  .strictObject({
    ...schemaField,
    inputs: z
      .strictObject({
        programs: artifactInput('programs').optional().describe('programs with verdicts'),
        evaluation: artifactRef('evaluation').optional().describe('evaluated answers'),
        policy: artifactRef('policy').optional().describe('the policy of the last RL round: its rounds are looked at'),
        questions: artifactInput('filteredQuestions')
          .optional()
          .describe(
            'the questions that the programs were judged against; absent: those that their stage names. Programs ' +
              'of a file need it',
          ),
        tests: z
          .union([artifactInput('filteredQuestions'), artifactInput('tests')], {
            error:
              "questions of kind 'filteredQuestions', or changes of kind 'tests', each a reference " +
              '{kind, key, digest, bytes} or a path {kind, path}',
          })
          .optional()
          .describe('the changed tests by question; a question that is not among them keeps its tests'),
        pairs: artifactRef('pairs')
          .optional()
          .describe('pairs of these programs: their rule is the one before; absent: the defaults of `preferences`'),
      })
      .describe('what is verified again, and the changed tests'),
    limits: SandboxLimits.optional().describe(
      "limits of every program in the place of those it had, its question's own included; absent: those it had",
    ),
    reward: RewardConfig.optional()
      .refine((reward) => reward === undefined || reward.testsWeight + reward.rewardModelWeight > 0, {
        error: 'at least one of testsWeight and rewardModelWeight must be above 0',
      })
      .describe('the changed reward of rollouts; absent: the one that each round had'),
    preferences: PairRule.optional().describe('the changed rule of pairs; absent: the one before'),
    otherHarness: z
      .enum(['judge', 'refuse'])
      .default('judge')
      .describe('verdicts of another sandbox, Python or rule of imports: judge all of them again, or refuse'),
    run: z
      .enum(['new', 'whole'])
      .default('new')
      .describe(
        'new: a new test runs in a process for itself, and the verdicts of the other tests stay; whole: a program ' +
          'whose tests changed runs all of them, as stages do',
      ),
    compare: z
      .number()
      .int()
      .nonnegative()
      .default(16)
      .describe('programs that run all tests too, to see whether it makes a difference; 0: none'),
    shardSize: count.default(SHARD_SIZE).describe('programs per shard, about'),
    salt,
    execution: z
      .strictObject({
        window: count.default(2).describe('shards in flight at once'),
        batch: count.default(1024).describe('programs that run between two times at which verdicts are stored'),
      })
      .prefault({})
      .describe(EXECUTION),
  })
  .superRefine(
    ({ inputs }, context) => {
      if (['programs', 'evaluation', 'policy'].every((name) => inputs[name as keyof typeof inputs] === undefined))
        context.addIssue({
          code: 'custom',
          path: ['inputs'],
          message: 'at least one of programs, evaluation and policy: what is verified again',
        });
    },
    { when: ({ value }) => GIVEN.safeParse(value).success },
  );
export type ReverifyInput = z.infer<typeof ReverifyInput>;

const Change = {
  /** `programs`, `evaluation`, or `round N`. */
  source: z.string(),
  questionId: z.string(),
};

/**
 * A verdict of one test of one program that is another now. `from` is absent for a new test, `to` for one that left.
 */
export const VerdictChange = z.strictObject({
  change: z.literal('verdict'),
  ...Change,
  program: z.string(),
  test: z.json(),
  from: Verdict.optional(),
  to: Verdict.optional(),
});

/** A preference pair that there is only now, or no more. */
export const PairChange = z.strictObject({
  change: z.enum(['pairGained', 'pairLost']),
  ...Change,
  split: z.enum(['train', 'heldOut']),
  chosen: z.string(),
  rejected: z.string(),
  chosenPassRate: z.number(),
  rejectedPassRate: z.number(),
});

/** A rollout whose reward, or whose reason to be left out, is another now. */
export const RewardChange = z.strictObject({
  change: z.literal('reward'),
  ...Change,
  rollout: z.string(),
  from: z.union([z.number(), z.string()]),
  to: z.union([z.number(), z.string()]),
});

export const ReverificationRow = z.discriminatedUnion('change', [VerdictChange, PairChange, RewardChange]);
export type ReverificationRow = z.infer<typeof ReverificationRow>;

/** What became of one RL round. */
const RoundChange = z.strictObject({
  round: z.number().int(),
  rollouts: z.number().int(),
  /** Mean over the rollouts that have a reward; null where none has one. */
  meanBefore: z.number().nullable(),
  meanAfter: z.number().nullable(),
  /** Rollouts that have a reward. */
  trainedBefore: z.number().int(),
  trainedAfter: z.number().int(),
  /** Rollouts whose reward is another. */
  changed: z.number().int(),
  /** Whether the policy that wrote the rollouts would be the same: no earlier round changed. */
  rolloutsHold: z.boolean(),
});

/** What became of one policy on one benchmark. */
const EvaluationChange = z.strictObject({
  benchmark: z.string(),
  policy: z.string(),
  tasks: z.number().int(),
  greedyBefore: z.number().nullable(),
  greedyAfter: z.number().nullable(),
  meanBefore: z.number().nullable(),
  meanAfter: z.number().nullable(),
});

/** `summary.json` of a re-verification. */
export const Reverification = z.strictObject({
  programs: z.number().int(),
  questions: z.number().int(),
  /** Questions whose tests changed. */
  changedQuestions: z.number().int(),
  /** What the verdicts of today are made with, and what those before were made with, where that differs. */
  harness: z.string(),
  otherHarnesses: z.array(z.string()),
  /** Programs, answers and rollouts that have no verdict now, because a checker has a fault. */
  checkerFailed: z.number().int().optional(),
  /** Verdicts that changed, as `pass -> raised`, with `new` and `gone` for tests that came and left. */
  verdicts: z.record(z.string(), z.number()),
  /** Mean pass rate of the input `programs`. */
  passRate: z.strictObject({ before: z.number(), after: z.number() }).optional(),
  pairs: z.strictObject({ before: z.number(), after: z.number(), gained: z.number(), lost: z.number() }).optional(),
  evaluation: z.array(EvaluationChange).optional(),
  rounds: z.array(RoundChange).optional(),
  /** The first round whose policy is no longer what it would be; null: every policy is. */
  firstChangedRound: z.number().int().nullable().optional(),
});
export type Reverification = z.infer<typeof Reverification>;
