/** Sampling: questions to programs with verdicts and pass rates. */
import { z } from 'zod';
import { SOURCES } from '../../../activities/policy/sources/index.js';
import { artifactInput } from '../artifacts.js';
import { programsEstimate } from '../cost.js';
import { asking, PaidMetrics, priced } from '../endpoint.js';
import { MEASURED_RUN, repliesOf } from '../estimation.js';
import { count, Decoding, deviceClass, EXECUTION, limits, maxRows, salt, seed, shownTests, window } from '../fields.js';
import { Counts, Notes } from '../metrics.js';
import { ModelInput } from '../models.js';
import { JUDGE, PROGRAMS, SAMPLE, SOURCE } from './code.js';
import { alone, keyedConfig, RecordedInput, unkeyedConfig, withRecorded } from '../recorded.js';
import { defineStage, stageInput } from '../stage-definition.js';

export const SamplingConfig = priced(
  z.strictObject({
    sampler: z
      .discriminatedUnion('kind', [
        z.strictObject({
          kind: z
            .literal('policy')
            .describe("the experiment's sampler (`models.sampler`) or else its policy, on a GPU worker"),
        }),
        ...SOURCES.schemas.sampling,
      ])
      .prefault({ kind: 'policy' })
      .describe('who writes the programs'),
    samples: count.default(16).describe('programs per question'),
    ...Decoding,
    shownTests,
    seed: seed.default(0),
    questions: z
      .strictObject({
        train: count.optional().describe('train questions at most; absent: all'),
        heldOut: z.number().int().nonnegative().optional().describe('held-out questions at most; absent: all'),
      })
      .prefault({})
      .describe('upper limits per split'),
    limits,
    shardSize: count.default(256).describe('questions per shard'),
    salt,
    execution: z
      .strictObject({ window, maxRows, deviceClass, ...asking })
      .prefault({})
      .describe(EXECUTION),
  }),
  ({ sampler }) => SOURCES.isPaid(sampler),
);

/**
 * What the check over several fields reads. It is made also where other fields are wrong, so that all mistakes are told
 * together.
 */
const SAMPLED = z.object({ inputs: z.looseObject({}), config: z.object({ sampler: z.object({ kind: z.string() }) }) });

export const sampling = defineStage({
  name: 'sampling',
  does: 'questions to programs with verdicts',
  kind: 'programs',
  config: SamplingConfig,
  settings: SamplingConfig.prefault({}).describe('questions to programs with verdicts'),
  input: withRecorded(
    stageInput(
      {
        questions: artifactInput('filteredQuestions').describe('filtered questions'),
        policy: ModelInput.optional().describe('the model that writes programs, for the sampler policy'),
        ...RecordedInput.sampling,
      },
      SamplingConfig.prefault({}),
    ),
    [alone('sampling')],
  ).superRefine(
    ({ inputs, config }, context) => {
      if (config.sampler.kind === 'policy' && inputs.policy === undefined) {
        context.addIssue({
          code: 'custom',
          path: ['inputs', 'policy'],
          message: "needed, because config.sampler is 'policy'",
        });
      }
    },
    { when: ({ value }) => SAMPLED.safeParse(value).success },
  ),
  example: {
    inputs: {
      questions: { kind: 'filteredQuestions', path: '/data/questions.jsonl' },
      policy: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', revision: 'main' },
    },
    config: { samples: 16 },
  },
  metrics: z.object({
    /** Questions that were chosen, per split. */
    train: z.number(),
    heldOut: z.number(),
    questions: z.number(),
    programs: z.number(),
    meanPassRate: z.number(),
    /** Share of the programs that the limit of tokens cut; absent in what version 0.1.0 made. */
    truncated: z.number().optional(),
    /** Programs per tenth of the pass rate; the last bin holds 1 too. */
    histogram: z.array(z.number()),
    /** Verdicts of all test cases. */
    verdicts: Counts,
    droppedQuestions: Counts,
    /** Programs without a verdict, by reason. */
    droppedPrograms: Counts.optional(),
    ...PaidMetrics,
    /** Replies without a program, by reason. */
    failures: Counts.optional(),
    notes: Notes,
    tokens: z.number(),
    cpuSeconds: z.number(),
  }),
  makes: ({ programs, train, heldOut, droppedQuestions, droppedPrograms, failures }) => ({
    what: 'programs',
    count: programs,
    of: `${train + heldOut} questions`,
    leftOut: [droppedQuestions, droppedPrograms, failures],
    advice: 'Give more questions, or another sampler or samples for them, as the reasons say.',
  }),
  steps: {
    plan: { queue: 'pipeline', version: 1, code: ['activities/sampling/', 'activities/policy/questions.ts'] },
    request: {
      queue: 'llm',
      version: 1,
      code: SOURCE,
    },
    generate: { queue: 'gpu', version: 1, code: ['activities/sampling/', ...SAMPLE] },
    judge: {
      queue: 'sandbox',
      version: 4,
      code: ['activities/sampling/', 'activities/languages/', 'activities/policy/prompt.ts', ...PROGRAMS, ...JUDGE],
    },
    seal: { queue: 'pipeline', version: 1, code: ['activities/sampling/'] },
  },
  shardSteps: ({ sampler }) => [sampler.kind === 'policy' ? 'generate' : 'request', 'judge'],
  semantics: (config, inputs) => keyedConfig('sampling', config, inputs),
  stored: (config) => unkeyedConfig('sampling', config),
  // A policy that writes nothing, and samples that nobody reads, decide nothing.
  decides: ({ questions, policy, samples }, { sampler: { kind } }) => ({
    questions,
    ...(kind === 'policy' ? { policy } : {}),
    ...(kind === 'recorded' ? { samples } : {}),
  }),
  asks: ({ sampler }) => SOURCES.isPaid(sampler),
  names: ({ sampler, engine }) => (sampler.kind === 'policy' ? { engine } : {}),
  estimate(config, run) {
    const { samples, maxNewTokens, questions, sampler, shardSize } = config;
    const { budgetUsd, endpoint, maxRows: rowsAtOnce, window: shards } = config.execution;
    const { policy, sampler: own = policy } = run.facts;
    run.sampledTrain = Math.min(run.train, questions.train ?? run.train);
    run.sampled = run.sampledTrain + Math.min(run.heldOut, questions.heldOut ?? run.heldOut);
    run.samples = samples;
    run.programTokens = maxNewTokens;
    const programs = run.sampled * samples;
    const byPolicy = sampler.kind === 'policy';
    const written = byPolicy ? undefined : programsEstimate(sampler, programs, maxNewTokens, endpoint.prices);
    const generated = byPolicy
      ? Math.round(programs * run.answerTokens(maxNewTokens))
      : (written?.completionTokens ?? 0);
    return run.stage(
      {
        rows: { questions: run.sampled, programs },
        tokens: {
          prompt: byPolicy ? programs * MEASURED_RUN.promptTokens : (written?.promptTokens ?? 0),
          generated,
          trained: 0,
        },
        sandboxCpuSeconds: programs * MEASURED_RUN.sandboxSeconds,
        bytes: 2 * programs * MEASURED_RUN.rowBytes.program + run.stored(own),
        ...(byPolicy
          ? {
              deviceSeconds: run.load + run.generating(own, generated, programs, rowsAtOnce),
              memoryBytes: 2 * own.parameters,
            }
          : {}),
        ...(written ? { replies: repliesOf(`sampler '${sampler.kind}'`, written, budgetUsd) } : {}),
      },
      run.shardsAtOnce(run.sampled, shardSize, shards),
    );
  },
});
