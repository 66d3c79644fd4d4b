/** Synthesis: seed programs to questions with test cases. */
import { z } from 'zod';
import { TEACHERS } from '../../../activities/synthesis/teachers/index.js';
import { artifactInput } from '../artifacts.js';
import { keyedBenchmark, PublicBenchmark } from '../benchmarks.js';
import { teacherEstimate } from '../cost.js';
import { asking, PaidMetrics, priced } from '../endpoint.js';
import { MEASURED_RUN, repliesOf } from '../estimation.js';
import { count, EXECUTION, limits, salt, window } from '../fields.js';
import { Counts } from '../metrics.js';
import { alone, keyedConfig, readsRecorded, RecordedInput, unkeyedConfig, withRecorded } from '../recorded.js';
import { CONTAMINATION, JUDGE } from './code.js';
import { defineStage, stageInput } from '../stage-definition.js';

const SynthesisConfig = priced(
  z.strictObject({
    teacher: TEACHERS.schema.prefault({ kind: 'offline' }).describe('who writes questions and test cases'),
    nearDuplicate: z
      .number()
      .min(0.7)
      .max(1)
      .nullable()
      .default(0.9)
      .describe(
        'Jaccard similarity of shingles from which the later of two seeds is dropped; ' +
          'null: equal ones only, as in the paper',
      ),
    decontaminate: z
      .array(PublicBenchmark)
      .default([{ kind: 'humaneval', every: 1, offset: 0 }])
      .describe(
        'benchmarks whose problems no seed may solve, whatever its names are, nor be written like; empty: none is ' +
          'looked at',
      ),
    limits,
    shardSize: count.default(256).describe('seeds per shard'),
    salt,
    execution: z
      .strictObject({ window, ...asking })
      .prefault({})
      .describe(EXECUTION),
  }),
  ({ teacher }) => TEACHERS.isPaid(teacher),
);

/** What the offline teacher asks of a seed, in a sentence for messages. */
export const OFFLINE_NEEDS =
  'The offline teacher needs a function, or a class with methods, that gives values with a Python literal for ' +
  'arguments that it finds by trying; the reasons are explained in docs/how-to/own-code.md. Give other seeds, or ' +
  "choose a language model as teacher ('openai').";

const CODE = ['activities/synthesis/activities.ts'] as const;
const BY_RUNNING = [...CONTAMINATION, ...JUDGE] as const;

export const synthesis = defineStage({
  name: 'synthesis',
  does: 'seeds to questions with test cases',
  kind: 'questions',
  config: SynthesisConfig,
  settings: SynthesisConfig.prefault({}).describe('seeds to questions with test cases'),
  input: withRecorded(
    stageInput(
      { seeds: artifactInput('seeds').describe('seed programs'), ...RecordedInput.synthesis },
      SynthesisConfig.prefault({}),
    ),
    [alone('synthesis')],
  ),
  example: {
    inputs: { seeds: { kind: 'seeds', path: '/data/seeds.jsonl' } },
    config: { teacher: { kind: 'offline', testCases: 12 } },
  },
  metrics: z.object({
    seeds: z.number(),
    /** Seeds that were left out, by reason. */
    droppedSeeds: Counts,
    /** Seeds that repeat a benchmark, and which problem. */
    contaminated: z.array(z.object({ seed: z.string(), why: z.string() })),
    /** Key of the artifact of the problems that seeds are compared with. */
    problemsArtifact: z.string().optional(),
    /** Seeds whose function has the name of a benchmark's: a name alone drops none. */
    sameName: z.number().optional(),
    /** Seeds that do not load alone, so that they were compared as texts only. */
    notRun: z.number().optional(),
    questions: z.number(),
    testCases: z.number(),
    /** Seeds without a question, by reason. */
    failures: Counts,
    /** Calls of the offline teacher that a seed did not answer. */
    failedCalls: z.number().optional(),
    /** Test cases that were found by running seeds, by where their calls come from. */
    testOrigins: Counts.optional(),
    /** Test cases that cannot be used, by reason. */
    rejectedTests: Counts.optional(),
    /** Replies that were read although something in them was wrong, by what was mended. */
    repairs: Counts.optional(),
    /** Questions that ask for no plain function, by what they ask for. */
    forms: Counts.optional(),
    ...PaidMetrics,
    /** How requests differed from the configuration, because the endpoint refused it. */
    notes: z.record(z.string(), z.array(z.string())).optional(),
    /** Key of the artifact of raw replies. */
    repliesArtifact: z.string().optional(),
  }),
  makes: ({ questions, seeds, droppedSeeds, failures, rejectedTests, failedCalls }) => ({
    what: 'questions',
    count: questions,
    of: `${seeds} seeds`,
    leftOut: [droppedSeeds, failures, rejectedTests],
    // Only a teacher that runs seeds counts failed calls.
    advice:
      failedCalls !== undefined && Object.keys(failures).length > 0
        ? OFFLINE_NEEDS
        : 'Give other seeds, another teacher, or another nearDuplicate or decontaminate, as the reasons say.',
  }),
  steps: {
    plan: {
      queue: 'pipeline',
      version: 1,
      code: [...CODE, 'activities/languages/', 'activities/similarity/', 'activities/contamination/likeness.ts'],
    },
    prepare: { queue: 'sandbox', version: 1, code: ['activities/benchmarks/', ...BY_RUNNING] },
    // Not 1, because the key of a stage whose steps are all at one number does not say which steps they are.
    decontaminate: { queue: 'sandbox', version: 2, code: [...CODE, ...BY_RUNNING] },
    ask: {
      queue: 'sandbox',
      version: 2,
      code: [
        'activities/synthesis/asking.ts',
        'activities/synthesis/offline-teacher.ts',
        'activities/synthesis/python-literal.ts',
        'activities/synthesis/seed-search.ts',
        'activities/statistics/random.ts',
        'activities/synthesis/teachers/',
        'workers/sent/search.py',
      ],
    },
    request: {
      queue: 'llm',
      version: 1,
      code: ['activities/languages/', 'activities/synthesis/asking.ts', 'activities/synthesis/teachers/'],
    },
    parse: {
      queue: 'pipeline',
      version: 4,
      code: [
        'activities/endpoint/content.ts',
        'activities/endpoint/meaning.ts',
        'activities/endpoint/said.ts',
        'activities/endpoint/thoughts.ts',
        'activities/languages/',
        'activities/synthesis/asking.ts',
        'activities/synthesis/labelled-text.ts',
        'activities/synthesis/lenient-json.ts',
        'activities/synthesis/parse-reply.ts',
        'activities/synthesis/teachers/',
      ],
    },
    seal: { queue: 'pipeline', version: 1, code: CODE },
  },
  shardSteps: ({ teacher, decontaminate }) => [
    ...(decontaminate.length > 0 ? ['decontaminate' as const] : []),
    ...TEACHERS.of(teacher).steps,
  ],
  prepares: ({ decontaminate }) => decontaminate.length > 0,
  semantics: (config, inputs) => ({
    ...keyedConfig('synthesis', config, inputs),
    decontaminate: config.decontaminate.map(keyedBenchmark),
  }),
  stored: (config) => unkeyedConfig('synthesis', config),
  // Replies that no teacher replays decide nothing.
  decides: ({ replies, ...inputs }, config) => (readsRecorded('synthesis', config) ? { ...inputs, replies } : inputs),
  asks: ({ teacher }) => TEACHERS.isPaid(teacher),
  names: ({ decontaminate }) => ({ benchmarks: { decontaminate } }),
  estimate({ teacher, execution: { endpoint, budgetUsd } }, run) {
    const { seeds } = run.facts;
    const questions = Math.round(seeds * MEASURED_RUN.questionsPerSeed);
    const cases = questions * teacher.testCases;
    const taught = teacherEstimate(teacher, endpoint.prices, seeds, run.seedBytes);
    const { answers, keptShare } = TEACHERS.of(teacher);
    run.questions = questions;
    run.testCases = cases;
    run.keptTestCases = Math.round(cases * keptShare);
    return run.stage({
      rows: { seeds, questions, testCases: cases },
      tokens: { prompt: taught.promptTokens, generated: taught.completionTokens, trained: 0 },
      sandboxCpuSeconds: answers.from === 'sandbox' ? seeds * MEASURED_RUN.sandboxSeconds : 0,
      bytes: questions * MEASURED_RUN.rowBytes.question,
      replies: repliesOf(`teacher '${teacher.kind}'`, taught, budgetUsd),
      ...(answers.from === 'endpoint' ? { extrapolated: [answers.extrapolated] } : {}),
    });
  },
});
