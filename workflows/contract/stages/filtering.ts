/** Filtering: questions to questions whose test cases an oracle confirms, split into train and held-out. */
import { z } from 'zod';
import { SOURCES } from '../../../activities/policy/sources/index.js';
import { artifactInput } from '../artifacts.js';
import { programsEstimate } from '../cost.js';
import { asking, PaidMetrics, priced } from '../endpoint.js';
import { MEASURED_RUN, repliesOf } from '../estimation.js';
import { count, EXECUTION, limits, salt, seed, share, shownTests, window } from '../fields.js';
import { Counts, Notes } from '../metrics.js';
import { JUDGE, PROGRAMS, SOURCE } from './code.js';
import { alone, keyedConfig, readsRecorded, RecordedInput, unkeyedConfig, withRecorded } from '../recorded.js';
import { defineStage, stageInput } from '../stage-definition.js';

/** How programs of an oracle are asked for. */
const oraclePrograms = (n: number, temperature: number) => ({
  programs: z.discriminatedUnion('kind', SOURCES.schemas.filtering).describe('whose programs'),
  n: count.default(n).describe('programs per question'),
  temperature: z.number().nonnegative().max(2).default(temperature).describe('sampling temperature; 0: greedy'),
  topP: z.number().positive().max(1).default(1).describe('nucleus: share of probability that is sampled from; 1: all'),
  maxNewTokens: count.default(2048).describe('upper limit of an answer, in tokens'),
  shownTests,
  seed: seed.default(0),
});

const FilteringConfig = priced(
  z.strictObject({
    oracle: z
      .discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('reference').describe('the seed program itself') }),
        z.strictObject({
          kind: z
            .literal('model')
            .describe('programs of a strong model: a test case is kept if any of them passes it (n = 1: the paper)'),
          ...oraclePrograms(1, 0),
        }),
        z.strictObject({
          kind: z
            .literal('agreement')
            .describe(
              'the test cases that the best consensus set of sampled programs passes (CodeT, arXiv 2207.10397)',
            ),
          ...oraclePrograms(16, 0.8),
        }),
        z.strictObject({
          kind: z
            .literal('weights')
            .describe(
              'the test cases that sampled programs give enough weight, by the quality of the programs that pass them ' +
                '(docs/explanation/verifier-quality.md)',
            ),
          ...oraclePrograms(16, 0.8),
          n: z
            .number()
            .int()
            .min(2, 'weights compare programs: give at least 2, or take the oracle model')
            .default(16)
            .describe('programs per question'),
          minimumWeight: share.default(0.4).describe('a test case with less weight is dropped'),
        }),
        z.strictObject({
          kind: z.literal('none').describe('no oracle: test cases are kept as the teacher wrote them, and none is run'),
        }),
      ])
      .prefault({ kind: 'reference' })
      .describe('whose failures drop a test case'),
    minimumTestCases: count.default(5).describe('questions with fewer kept test cases are dropped'),
    minimumDistinctOutputs: count
      .default(2)
      .describe('questions whose kept test cases expect fewer different values are dropped'),
    heldOutShare: share.default(0.25).describe('share of questions, by hash, that no training sees'),
    nearDuplicate: z
      .number()
      .positive()
      .max(1)
      .default(0.8)
      .describe('Jaccard similarity of shingles from which two questions go to one side'),
    limits,
    shardSize: count.default(256).describe('questions per shard'),
    salt,
    execution: z
      .strictObject({ window, ...asking })
      .prefault({})
      .describe(EXECUTION),
  }),
  ({ oracle }) => isObject(oracle) && SOURCES.isPaid(oracle['programs']),
);
export type Oracle = z.infer<typeof FilteringConfig>['oracle'];

const CODE = ['activities/filtering/activities.ts'] as const;

export const filtering = defineStage({
  name: 'filtering',
  does: 'questions to questions whose test cases an oracle confirms',
  kind: 'filteredQuestions',
  config: FilteringConfig,
  settings: FilteringConfig.prefault({}).describe('questions to questions whose test cases an oracle confirms'),
  input: withRecorded(
    stageInput(
      { questions: artifactInput('questions').describe('questions with test cases'), ...RecordedInput.filtering },
      FilteringConfig.prefault({}),
    ),
    [alone('filtering')],
  ),
  example: {
    inputs: { questions: { kind: 'questions', path: '/data/questions.jsonl' } },
    config: { minimumTestCases: 5 },
  },
  metrics: z.object({
    questions: z.number(),
    train: z.number(),
    heldOut: z.number(),
    testCases: z.number(),
    keptTestCases: z.number(),
    /** Questions that were left out, by reason. */
    droppedQuestions: Counts,
    /** Test cases that the oracle does not confirm, by verdict. */
    droppedTestCases: Counts,
    /**
     * Kept test cases that nearly every program passes, and those that were judged as what they were meant to assert.
     */
    weakTestCases: z.number().optional(),
    repairedTestCases: z.number().optional(),
    /** What the filter dropped against the errors that an offline teacher injected. */
    quality: z.object({ corrupted: z.number(), droppedTestCases: z.number(), droppedCorrupted: z.number() }),
    ...PaidMetrics,
    notes: Notes,
  }),
  makes: ({ questions, testCases, keptTestCases, droppedQuestions, droppedTestCases }) => ({
    what: 'questions',
    count: questions,
    of: `${testCases} test cases, of which the oracle confirmed ${keptTestCases}`,
    leftOut: [droppedQuestions, droppedTestCases],
    advice:
      'Lower minimumTestCases, have the teacher write more test cases (synthesis.teacher.testCases), ' +
      'or choose another ' +
      'oracle, as the reasons say.',
  }),
  steps: {
    plan: { queue: 'pipeline', version: 3, code: CODE },
    request: {
      queue: 'llm',
      version: 3,
      code: SOURCE,
    },
    judge: {
      queue: 'sandbox',
      version: 6,
      code: [
        ...CODE,
        'activities/filtering/oracle.ts',
        'activities/languages/',
        'activities/statistics/verifier-quality.ts',
        ...PROGRAMS,
        ...JUDGE,
      ],
    },
    seal: {
      queue: 'pipeline',
      version: 4,
      code: [...CODE, 'activities/filtering/filter.ts', 'activities/languages/', 'activities/similarity/'],
    },
  },
  shardSteps: ({ oracle }) => ('programs' in oracle ? ['request', 'judge'] : ['judge']),
  semantics: (config, inputs) => keyedConfig('filtering', config, inputs),
  stored: (config) => unkeyedConfig('filtering', config),
  // Samples that no oracle reads decide nothing.
  decides: ({ samples, ...inputs }, config) => (readsRecorded('filtering', config) ? { ...inputs, samples } : inputs),
  asks: ({ oracle }) => 'programs' in oracle && SOURCES.isPaid(oracle.programs),
  estimate({ oracle, heldOutShare, execution: { endpoint, budgetUsd } }, run) {
    const { questions } = run;
    const programs = questions * ('programs' in oracle ? oracle.n : oracle.kind === 'none' ? 0 : 1);
    const asked =
      'programs' in oracle
        ? programsEstimate(oracle.programs, programs, oracle.maxNewTokens, endpoint.prices)
        : undefined;
    if (oracle.kind === 'none') run.keptTestCases = run.testCases;
    run.heldOut = Math.round(questions * heldOutShare);
    run.train = questions - run.heldOut;
    return run.stage({
      rows: { train: run.train, heldOut: run.heldOut, keptTestCases: run.keptTestCases },
      tokens: { prompt: asked?.promptTokens ?? 0, generated: asked?.completionTokens ?? 0, trained: 0 },
      sandboxCpuSeconds: programs * MEASURED_RUN.sandboxSeconds,
      bytes: questions * MEASURED_RUN.rowBytes.question,
      ...(asked ? { replies: repliesOf(`oracle '${oracle.kind}'`, asked, budgetUsd) } : {}),
    });
  },
});

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
