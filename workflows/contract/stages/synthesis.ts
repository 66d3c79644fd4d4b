/** Synthesis: seed programs to questions with test cases. */
import { z } from 'zod';
import { artifactInput } from '../artifacts.js';
import { keyedBenchmark, PublicBenchmark } from '../benchmarks.js';
import { teacherEstimate } from '../cost.js';
import { asking, kindOf, PaidMetrics, priced } from '../endpoint.js';
import { KEPT_OF_A_LANGUAGE_MODEL, MEASURED_RUN, NO_REPLIES, repliesOf } from '../estimation.js';
import { count, EXECUTION, limits, salt, seed, share, testCases, window } from '../fields.js';
import { Counts } from '../metrics.js';
import { MOVED_FIELDS } from '../mistakes.js';
import {
  alone,
  keyedConfig,
  RECORDED_MOVED,
  readsRecorded,
  RecordedInput,
  unkeyedConfig,
  withRecorded,
} from '../recorded.js';
import { defineStage, stageInput } from '../stage-definition.js';

const SynthesisConfig = priced(
  z.strictObject({
    teacher: z
      .discriminatedUnion('kind', [
        z.strictObject({
          kind: z
            .literal('offline')
            .describe(
              'writes questions from signatures and docstrings, test cases by running the seed; no language model',
            ),
          testCases,
          corruptedShare: share.default(0.15).describe('share of expected values that are made wrong on purpose'),
          seed: seed.default(0),
        }),
        z.strictObject({
          kind: z
            .literal('openai')
            .describe('a language model behind an OpenAI-compatible endpoint; where and at what price: `execution`'),
          model: z.string().min(1).describe('name of the model at the endpoint'),
          prompt: z.enum(['v1']).default('v1').describe('version of the prompt'),
          testCases,
          temperature: z.number().nonnegative().max(2).default(0.7).describe('sampling temperature'),
          topP: z
            .number()
            .positive()
            .max(1)
            .default(1)
            .describe('nucleus: share of probability that is sampled from; 1: all'),
          maxTokens: count.default(8192).describe('upper limit of a reply, in tokens'),
          responseFormat: z
            .enum(['auto', 'json_schema', 'json_object', 'text'])
            .default('auto')
            .describe('how JSON is asked for; auto: the first of the others that the endpoint takes'),
          seed: seed.default(0).describe('sampling seed, sent with each request; endpoints may ignore it'),
        }),
        z
          .strictObject({
            kind: z
              .literal('recorded')
              .describe('replays stored replies, which are among the inputs; nothing is asked'),
            testCases,
          })
          .register(MOVED_FIELDS, RECORDED_MOVED.synthesis),
      ])
      .prefault({ kind: 'offline' })
      .describe('who writes questions and test cases'),
    nearDuplicate: z
      .number()
      .min(0.7)
      .max(1)
      .nullable()
      .default(0.9)
      .describe(
        'Jaccard similarity of shingles from which the later of two seeds is dropped; null: equal ones only, as in the paper',
      ),
    decontaminate: z
      .array(PublicBenchmark)
      .default([{ kind: 'humaneval', every: 1, offset: 0 }])
      .describe('benchmarks whose problems no seed may match'),
    limits,
    shardSize: count.default(256).describe('seeds per shard'),
    salt,
    execution: z
      .strictObject({ window, ...asking })
      .prefault({})
      .describe(EXECUTION),
  }),
  ({ teacher }) => kindOf(teacher) === 'openai',
);
export type Teacher = z.infer<typeof SynthesisConfig>['teacher'];
/** A teacher that is a language model behind an endpoint. */
export type EndpointTeacher = Extract<Teacher, { kind: 'openai' }>;

const CODE = ['activities/synthesis/activities.ts'] as const;

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
    questions: z.number(),
    testCases: z.number(),
    /** Seeds without a question, by reason. */
    failures: Counts,
    /** Calls of the offline teacher that a seed did not answer. */
    failedCalls: z.number().optional(),
    /** Test cases that cannot be used, by reason. */
    rejectedTests: Counts.optional(),
    ...PaidMetrics,
    /** Key of the artifact of raw replies. */
    repliesArtifact: z.string().optional(),
  }),
  steps: {
    plan: { queue: 'pipeline', version: 1, code: [...CODE, 'activities/languages/', 'activities/similarity/'] },
    ask: {
      queue: 'sandbox',
      version: 1,
      code: [
        'activities/synthesis/offline-teacher.ts',
        'activities/synthesis/python-literal.ts',
        'activities/synthesis/random.ts',
      ],
    },
    request: { queue: 'llm', version: 1, code: ['activities/languages/', 'activities/synthesis/prompts.ts'] },
    parse: {
      queue: 'pipeline',
      version: 1,
      code: ['activities/languages/', 'activities/synthesis/parse-reply.ts', 'activities/endpoint/content.ts'],
    },
    seal: { queue: 'pipeline', version: 1, code: CODE },
  },
  shardSteps: ({ teacher }) => (teacher.kind === 'offline' ? ['ask'] : ['request', 'parse']),
  semantics: (config, inputs) => ({
    ...keyedConfig('synthesis', config, inputs),
    decontaminate: config.decontaminate.map(keyedBenchmark),
  }),
  stored: (config) => unkeyedConfig('synthesis', config),
  // Replies that no teacher replays decide nothing.
  decides: ({ replies, ...inputs }, config) => (readsRecorded('synthesis', config) ? { ...inputs, replies } : inputs),
  asks: ({ teacher }) => teacher.kind === 'openai',
  names: ({ decontaminate }) => ({ benchmarks: { decontaminate } }),
  estimate({ teacher, execution: { endpoint, budgetUsd } }, run) {
    const { seeds } = run.facts;
    const questions = Math.round(seeds * MEASURED_RUN.questionsPerSeed);
    const cases = questions * teacher.testCases;
    const taught =
      teacher.kind === 'openai' ? teacherEstimate(teacher, endpoint.prices, seeds, run.seedBytes) : NO_REPLIES;
    run.questions = questions;
    run.keptTestCases = Math.round(
      cases * (teacher.kind === 'offline' ? 1 - teacher.corruptedShare : KEPT_OF_A_LANGUAGE_MODEL),
    );
    return run.stage({
      rows: { seeds, questions, testCases: cases },
      tokens: { prompt: taught.promptTokens, generated: taught.completionTokens, trained: 0 },
      sandboxCpuSeconds: teacher.kind === 'offline' ? seeds * MEASURED_RUN.sandboxSeconds : 0,
      bytes: questions * MEASURED_RUN.rowBytes.question,
      replies: repliesOf(`teacher '${teacher.kind}'`, taught, budgetUsd),
      ...(teacher.kind === 'openai'
        ? {
            extrapolated: [
              'tokens and cost of the teacher: from the lengths of prompt and seeds and a usual length of replies; a model that thinks aloud writes more',
            ],
          }
        : {}),
    });
  },
});
