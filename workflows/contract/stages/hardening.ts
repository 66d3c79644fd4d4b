/** Hardening: programs with pass rates to programs rated by more tests, each of which kills or asks something new. */
import { z } from 'zod';
import { artifactInput } from '../artifacts.js';
import { MEASURED_RUN } from '../estimation.js';
import { count, EXECUTION, limits, salt, seed, window } from '../fields.js';
import { Counts, Notes } from '../metrics.js';
import { alone, keyedConfig, readsRecorded, RecordedInput, unkeyedConfig, withRecorded } from '../recorded.js';
import { defineStage, stageInput } from '../stage-definition.js';
import { JUDGE } from './code.js';

/** What vouches for an input, beside the reference, which answers it. */
const TRUSTS = ['reference', 'contract', 'agreement'] as const;

const HardeningConfig = z.strictObject({
  trust: z
    .enum(TRUSTS)
    .default('reference')
    .describe(
      'what vouches for an input: the reference alone, whose answer is expected; the `contract` of its row too; ' +
        'or the agreement of most sampled programs that pass all tests of the question',
    ),
  teacher: z
    .strictObject({
      kind: z
        .literal('recorded')
        .describe('a model that was asked elsewhere: the calls in its stored replies are inputs like others'),
    })
    .optional()
    .describe('who proposes inputs besides the attackers; absent: nobody'),
  maximumTests: count.max(200).default(20).describe('tests that are added per question, at most'),
  inputs: count.max(10_000).default(1500).describe('inputs that are proposed per question, at most'),
  mutants: count.max(1000).default(60).describe('mutants of the reference per question, at most'),
  executions: count
    .default(60_000)
    .describe('calls of the reference, its contract and its mutants per question, at most'),
  callSeconds: z
    .number()
    .positive()
    .max(1)
    .default(0.05)
    .describe('an input counts only if the reference answers within this CPU time, in seconds'),
  seed: seed.default(0),
  limits,
  shardSize: count.default(64).describe('questions per shard'),
  salt,
  execution: z.strictObject({ window }).prefault({}).describe(EXECUTION),
});

const CODE = ['activities/hardening/'] as const;

export const hardening = defineStage({
  name: 'hardening',
  does: 'programs to programs rated by more tests',
  kind: 'programs',
  config: HardeningConfig,
  settings: HardeningConfig.optional().describe(
    'more tests for each question, which kill wrong programs that pass its own; absent: the stage does not run',
  ),
  input: withRecorded(
    stageInput(
      {
        questions: artifactInput('filteredQuestions').describe('filtered questions'),
        programs: artifactInput('programs').describe('their programs with verdicts'),
        ...RecordedInput.hardening,
      },
      HardeningConfig.prefault({}),
    ),
    [alone('hardening')],
  ),
  example: {
    inputs: {
      questions: { kind: 'filteredQuestions', path: '/data/questions.jsonl' },
      programs: { kind: 'programs', path: '/data/programs.jsonl' },
    },
    config: { maximumTests: 20 },
  },
  metrics: z.object({
    trust: z.enum(TRUSTS),
    /** Questions with programs, and those that got tests. */
    questions: z.number(),
    hardened: z.number(),
    programs: z.number(),
    /** Tests that were added, by why they stand. */
    tests: z.object({ program: z.number(), mutant: z.number(), kind: z.number() }),
    /** Mutants of references; those that the questions' own tests leave alive; those of them that the added tests kill. */
    mutants: z.object({ made: z.number(), survive: z.number(), killed: z.number() }),
    /** Programs that pass all of the questions' own tests, and those of them that fail an added test. */
    survivors: z.object({ programs: z.number(), killed: z.number() }),
    /** In how many independent ways attackers fail on the proposed tests, and on the added ones: the sum over questions. */
    rank: z.object({ proposed: z.number(), added: z.number() }),
    /** For each trust the added tests for which it vouches, and the survivors that fail one of them. */
    trusts: z.record(z.enum(TRUSTS), z.object({ tests: z.number(), killed: z.number() })),
    /** Mean pass rate of all programs over the questions' own tests, and over all tests. */
    meanPassRate: z.object({ before: z.number(), after: z.number() }),
    /** Pairs that the rule of the paper gives by the questions' own tests, and by all tests. */
    pairs: z.object({ before: z.number(), after: z.number() }),
    /** Questions without added tests, by reason. */
    notHardened: Counts,
    /** Inputs that no test was made of, by reason. */
    refused: Counts,
    /** Inputs that replies of a teacher propose, those of them that were tried, and the added tests that ask them. */
    teacher: z.object({ proposed: z.number(), tried: z.number(), tests: z.number() }).optional(),
    executions: z.number(),
    cpuSeconds: z.number(),
    notes: Notes,
  }),
  makes: ({ programs, questions, notHardened }) => ({
    what: 'programs',
    count: programs,
    of: `${questions} questions`,
    leftOut: [notHardened],
    advice: 'Give it the questions whose programs were sampled.',
  }),
  steps: {
    plan: { queue: 'pipeline', version: 1, code: CODE },
    attack: {
      queue: 'sandbox',
      version: 3,
      code: [...CODE, 'activities/languages/', 'workers/sandbox/attackers.py', ...JUDGE],
    },
    seal: { queue: 'pipeline', version: 2, code: CODE },
  },
  shardSteps: () => ['attack'],
  semantics: (config, inputs) => keyedConfig('hardening', config, inputs),
  stored: (config) => unkeyedConfig('hardening', config),
  // Replies that nobody reads decide nothing.
  decides: ({ replies, ...inputs }, config) => (readsRecorded('hardening', config) ? { ...inputs, replies } : inputs),
  estimate(_, run) {
    const programs = run.sampled * run.samples;
    return run.stage({
      rows: { questions: run.sampled, programs },
      sandboxCpuSeconds: run.sampled * ATTACK_SECONDS + programs * MEASURED_RUN.sandboxSeconds,
      bytes: 2 * programs * MEASURED_RUN.rowBytes.program,
      extrapolated: ['hardening: CPU time as for questions of MBPP'],
    });
  },
});

/** Sandbox CPU seconds of one question's attack. */
const ATTACK_SECONDS = 1;
