/** Preferences: programs with pass rates to preference pairs. */
import { z } from 'zod';
import { artifactInput } from '../artifacts.js';
import { MEASURED_RUN } from '../estimation.js';
import { count, EXECUTION, salt, share, window } from '../fields.js';
import { Counts } from '../metrics.js';
import { defineStage, stageInput } from '../stage-definition.js';

const PreferencesConfig = z.strictObject({
  labels: z
    .enum(['rate', 'strict'])
    .default('rate')
    .describe(
      'rate: by the pass rates below (paper, equation 3); strict: a program that passes all test cases against ' +
        'one that does not, whatever the rates below say',
    ),
  denominator: z
    .enum(['kept', 'all'])
    .default('kept')
    .describe(
      "what a pass rate is a share of: the question's kept test cases, or, as in the authors' code, all that the " +
        'teacher wrote, dropped ones included',
    ),
  thresholds: z
    .enum(['inclusive', 'exclusive'])
    .optional()
    .describe(
      "whether a pass rate of exactly `minimumBest`, or a gap of exactly `minimumGap`, counts: 'inclusive' as in the " +
        "authors' code, 'exclusive' as the paper writes equation 3; absent: inclusive",
    ),
  minimumBest: share.default(0.8).describe('the chosen program passes at least this share (paper, equation 3)'),
  minimumGap: share.default(0.4).describe('pass rates of a pair differ by at least this'),
  worstAbove: share.default(0).describe('the rejected program passes more than this share'),
  verifier: z
    .strictObject({
      minimumDiscrimination: share.optional().describe('share of the pairs of programs that some test tells apart'),
      minimumRank: count.optional().describe('tests whose verdicts are no linear combination of the others'),
      minimumJ: z.number().min(-1).max(1).optional().describe('estimated J = TPR - FPR of the tests'),
      minimumMutationScore: share
        .optional()
        .describe('share of the mutants of the reference that a test fails; known where hardening ran'),
    })
    .optional()
    .describe(
      "how good each question's tests are as a verifier goes into its pairs and into the file `verifiers.jsonl`, and " +
        'a question with less than the figures below, or without one of them, gives no pair ' +
        '(docs/explanation/verifier-quality.md); absent: nothing is looked at',
    ),
  maximumPerQuestion: count.optional().describe('pairs per question at most; absent: all pairs, as the paper'),
  shardSize: count.default(2048).describe('questions per shard'),
  salt,
  execution: z.strictObject({ window }).prefault({}).describe(EXECUTION),
});

export const preferences = defineStage({
  name: 'preferences',
  does: 'programs to preference pairs',
  kind: 'pairs',
  config: PreferencesConfig,
  settings: PreferencesConfig.prefault({}).describe('programs to preference pairs'),
  input: stageInput(
    { programs: artifactInput('programs').describe('programs with pass rates') },
    PreferencesConfig.prefault({}),
  ),
  example: {
    inputs: { programs: { kind: 'programs', path: '/data/programs.jsonl' } },
    config: { maximumPerQuestion: 8 },
  },
  metrics: z.object({
    programs: z.number(),
    questions: z.number(),
    pairs: z.number(),
    heldOutPairs: z.number(),
    /** Questions that have a pair, per split. */
    pairedQuestions: z.number(),
    heldOutPairedQuestions: z.number(),
    /** Pairs that were left out, by reason. */
    skipped: Counts,
  }),
  makes: ({ pairs, heldOutPairs, programs, questions, skipped }) => ({
    what: 'pairs',
    count: pairs,
    of: `${programs} programs for ${questions} questions (${heldOutPairs} pairs are held out)`,
    leftOut: [skipped],
    advice:
      'Lower minimumBest, minimumGap or the minima of verifier, or sample more programs (sampling.samples) by a better model.',
  }),
  steps: {
    plan: { queue: 'pipeline', version: 1, code: ['activities/preferences/'] },
    pair: { queue: 'pipeline', version: 1, code: ['activities/preferences/'] },
    seal: { queue: 'pipeline', version: 1, code: ['activities/preferences/'] },
  },
  shardSteps: () => ['pair'],
  // What it means where it is absent is no other result.
  semantics: ({ thresholds, ...semantics }) => (thresholds === 'exclusive' ? { ...semantics, thresholds } : semantics),
  estimate({ maximumPerQuestion }, run) {
    const combinations = (run.samples * (run.samples - 1)) / 2;
    const perQuestion = Math.min(combinations * MEASURED_RUN.pairShare, maximumPerQuestion ?? Infinity);
    run.pairs = Math.round(run.sampledTrain * perQuestion);
    run.heldOutPairs = Math.round((run.sampled - run.sampledTrain) * perQuestion);
    return run.stage({
      rows: { pairs: run.pairs, heldOutPairs: run.heldOutPairs },
      bytes: (run.pairs + run.heldOutPairs) * MEASURED_RUN.rowBytes.pair,
    });
  },
});
