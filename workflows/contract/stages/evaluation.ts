/** Evaluation: policies on benchmarks, greedy and by samples, Best-of-N by the reward model. */
import { z } from 'zod';
import { artifactInput, artifactRef } from '../artifacts.js';
import { Benchmark, benchmarkName, benchmarkOf, keyedBenchmark } from '../benchmarks.js';
import { MEASURED_RUN } from '../estimation.js';
import {
  count,
  Decoding,
  deviceClass,
  EXECUTION,
  limits,
  maxRows,
  microBatch,
  Name,
  salt,
  seed,
  window,
} from '../fields.js';
import { Comparison, Counts, EvaluationResult, Notes } from '../metrics.js';
import { MOVED_FIELDS } from '../mistakes.js';
import { ModelInput } from '../models.js';
import { CONTAMINATION, JUDGE, PROGRAMS, SAMPLE } from './code.js';
import { defineStage, stageInput } from '../stage-definition.js';

/**
 * What the check of k and N reads; it is made also where other fields are wrong, so that all mistakes are told
 * together.
 */
const EVALUATED = z.object({
  sampler: z.object({ kind: z.literal('policy') }),
  benchmarks: z.array(z.object({ kind: z.string(), samples: z.number().optional() })).min(1),
  samples: z.number(),
  passAtK: z.array(z.number()),
  bestOf: z.array(z.number()).optional(),
});

/** CPU seconds of a reference, and how many may fail, where a configuration says nothing else. */
const REFERENCES = { cpuSeconds: 120, mostLost: 0.1 };

const References = z.strictObject({
  cpuSeconds: z
    .number()
    .positive()
    .max(3_600)
    .default(REFERENCES.cpuSeconds)
    .describe('CPU seconds of a reference in all tests of its task; a task whose reference fails is left out'),
  mostLost: z
    .number()
    .min(0)
    .max(1)
    .default(REFERENCES.mostLost)
    .describe('share of tasks that may be left out; a benchmark that loses more is not scored'),
});

const Sampler = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('policy').describe('policies are asked, on a GPU worker') }),
  z.strictObject({
    kind: z.literal('recorded').describe('nothing is generated: `inputs.samples` hold the programs'),
    unknown: z
      .enum(['refuse', 'drop'])
      .default('refuse')
      .describe("samples of tasks that the benchmark does not have: 'refuse' the file, or 'drop' them, counted"),
    missing: z
      .enum(['refuse', 'fail'])
      .default('refuse')
      .describe("tasks without a sample: 'refuse' the file, or let them 'fail', counted"),
    scored: z.boolean().default(false).describe('whether `inputs.rewardModel` scores the samples, on a GPU worker'),
  }),
]);

export const EvaluationConfig = z
  .strictObject({
    benchmarks: z
      .array(Benchmark)
      .min(1)
      .default([{ kind: 'heldOut' }])
      .describe('what the policies are asked'),
    sampler: Sampler.prefault({ kind: 'policy' }).describe('where programs come from'),
    references: References.prefault({}).describe('right programs of benchmarks, which run before anybody is asked'),
    samples: z.number().int().nonnegative().default(16).describe('samples per task beside the greedy answer'),
    ...Decoding,
    passAtK: z.array(count).default([1]).describe('each k of pass@k; at most the samples per task'),
    bestOf: z
      .array(count)
      .optional()
      .describe('each N of Best-of-N, at most the samples per task; absent: all samples'),
    selectionTests: count.optional().describe('leading tests of a task by which Best-of-N may choose; absent: none'),
    selectionWeights: z
      .literal(true)
      .optional()
      .describe(
        'Best-of-N may also choose by the leading tests, each by its weight from the samples of its task ' +
          '(docs/explanation/verifier-quality.md); absent: it does not',
      ),
    heldOutTasks: count.optional().describe('held-out questions at most; absent: all'),
    seed: seed.default(0),
    limits,
    shardSize: count.default(64).describe('tasks per shard'),
    salt,
    execution: z.strictObject({ window, maxRows, microBatch, deviceClass }).prefault({}).describe(EXECUTION),
  })
  .superRefine(
    (config, context) => {
      const samples = Math.max(...config.benchmarks.map((benchmark) => benchmark.samples ?? config.samples));
      const atMost = (field: 'passAtK' | 'bestOf'): void => {
        (config[field] ?? []).forEach((value, index) => {
          // k = 1 is the default and asks for nothing where there are no samples.
          if (value > samples && value > 1) {
            context.addIssue({
              code: 'custom',
              path: [field, index],
              input: value,
              message: `${value} is larger than the ${samples} samples per task`,
            });
          }
        });
      };
      atMost('passAtK');
      atMost('bestOf');
      if (config.selectionWeights && config.selectionTests === undefined)
        context.addIssue({
          code: 'custom',
          path: ['selectionWeights'],
          message: 'weighs the leading tests of a task: say by selectionTests how many these are',
        });
    },
    { when: ({ value }) => EVALUATED.safeParse(value).success },
  )
  .superRefine(
    ({ benchmarks }, context) => {
      const names = benchmarks.map((benchmark) => benchmarkName(benchmark));
      names.forEach((name, index) => {
        if (names.indexOf(name) === index) return;
        context.addIssue({
          code: 'custom',
          path: ['benchmarks', index],
          message: `has the name '${name}' of another one in results; evaluate them apart`,
        });
      });
    },
    { when: ({ value }) => NAMED.safeParse(value).success },
  )
  .register(MOVED_FIELDS, {
    humanevalSamples: '`samples` of the benchmark: {"kind": "humaneval", "samples": N}',
    humanevalMaxNewTokens: '`maxNewTokens` of the benchmark: {"kind": "humaneval", "maxNewTokens": N}',
  });

const NAMED = z.object({ benchmarks: z.array(Benchmark) });

const ASKED = z.object({
  inputs: z.looseObject({}),
  config: z.object({
    benchmarks: z.array(z.object({ kind: z.string() })),
    sampler: z.object({ kind: z.string(), scored: z.boolean().optional() }),
  }),
});

/**
 * A benchmark as it was asked. `digest` is that of the rows of its file, or of the file of its package; `version` that
 * of its definition; `source` names the data set of the hub, with its commit, that the rows were first read from.
 * Tasks that are left out are in no figure.
 */
const AskedBenchmark = z.strictObject({
  name: z.string(),
  results: z.array(z.string()),
  version: z.number(),
  digest: z.string().optional(),
  source: z.string().optional(),
  tasks: z.number(),
  leftOut: z.array(z.strictObject({ taskId: z.string(), reason: z.string() })),
  /** Tasks that a question of the training solves or is like; absent where no question was looked at. */
  suspects: z
    .array(
      z.strictObject({
        taskId: z.string(),
        /** Questions that do, and the first of them. */
        questions: z.number().int().positive(),
        question: z.string(),
        why: z.string(),
      }),
    )
    .optional(),
});
export type AskedBenchmark = z.infer<typeof AskedBenchmark>;

/** What is missing among the inputs, or too much, to the sampler. */
function inputFaults(
  inputs: { policies?: unknown; samples?: unknown; rewardModel?: unknown },
  { sampler, benchmarks }: z.infer<typeof ASKED>['config'],
): { path: string[]; message: string }[] {
  const recorded = sampler.kind === 'recorded';
  const faults: { path: string[]; message: string }[] = [];
  const fault = (is: boolean, name: string, message: string): void => {
    if (is) faults.push({ path: ['inputs', name], message });
  };
  fault(!recorded && !inputs.policies, 'policies', "needed, because config.sampler is 'policy'");
  fault(recorded && !inputs.samples, 'samples', "needed, because config.sampler.kind is 'recorded'");
  fault(recorded && !!inputs.policies, 'policies', "asked by the sampler 'policy' only; leave them out");
  fault(!recorded && !!inputs.samples, 'samples', "read by the sampler 'recorded' only: set config.sampler.kind");
  const scored = sampler.scored ?? false;
  fault(
    recorded && !scored && !!inputs.rewardModel,
    'rewardModel',
    'scores samples where config.sampler.scored is true',
  );
  fault(recorded && scored && !inputs.rewardModel, 'rewardModel', 'needed, because config.sampler.scored is true');
  if (recorded && benchmarks.length !== 1)
    faults.push({ path: ['config', 'benchmarks'], message: 'one benchmark, which the samples are of' });
  return faults;
}

const OWN = ['activities/evaluation/activities.ts', 'activities/evaluation/tasks.ts'] as const;

export const evaluation = defineStage({
  name: 'evaluation',
  does: 'policies on benchmarks',
  kind: 'evaluation',
  config: EvaluationConfig,
  settings: EvaluationConfig.prefault({}).describe('policies on benchmarks'),
  input: stageInput(
    {
      policies: z
        .record(Name, ModelInput)
        .refine((policies) => Object.keys(policies).length > 0, { error: 'at least one policy, by its name' })
        .optional()
        .describe('models to evaluate, by the names that they have in the results'),
      samples: z
        .record(Name, artifactInput('benchmarkSamples'))
        .refine((samples) => Object.keys(samples).length > 0, { error: 'at least one file of samples, by a name' })
        .optional()
        .describe(
          "samples of one benchmark, for the sampler 'recorded', by the names that they have in the results: JSON " +
            'Lines in the form of EvalPlus, BigCodeBench or LiveCodeBench, or an artifact',
        ),
      rewardModel: artifactRef('rewardModel').describe('a trained reward model').optional(),
      questions: artifactInput('filteredQuestions').describe('filtered questions').optional(),
    },
    EvaluationConfig.prefault({}),
  ).superRefine(
    ({ inputs, config }, context) => {
      const asksHeldOut = config.benchmarks.some((benchmark) => benchmarkOf(benchmark).data.from === 'questions');
      if (inputs.questions === undefined && asksHeldOut) {
        context.addIssue({
          code: 'custom',
          path: ['inputs', 'questions'],
          message: "needed for the benchmark 'heldOut': the filtered questions",
        });
      }
      for (const { path, message } of inputFaults(inputs, config)) context.addIssue({ code: 'custom', path, message });
    },
    { when: ({ value }) => ASKED.safeParse(value).success },
  ),
  example: {
    inputs: { policies: { base: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', revision: 'main' } } },
    config: { benchmarks: [{ kind: 'humaneval' }] },
  },
  metrics: z.object({
    results: z.array(EvaluationResult),
    /** The other policies against the initial one; absent in version 0.1.0. */
    comparisons: z.array(Comparison).optional(),
    /** What was asked: absent in evaluations of earlier versions. */
    benchmarks: z.array(AskedBenchmark).optional(),
    /** Samples of files, by the name of the file and the reason why they count as they do. */
    samples: z.record(z.string(), Counts).optional(),
    notes: Notes,
    tokens: z.number(),
    cpuSeconds: z.number(),
  }),
  makes: ({ results }) => ({
    what: 'answers',
    count: results.reduce((sum, { tasks }) => sum + tasks, 0),
    of: 'the tasks of its benchmarks',
    leftOut: [],
    advice: "The benchmarks have no task; 'heldOut' needs held-out questions (filtering.heldOutShare).",
  }),
  steps: {
    plan: {
      queue: 'pipeline',
      version: 1,
      code: [...OWN, 'activities/benchmarks/', 'activities/evaluation/samples.ts', 'activities/policy/questions.ts'],
    },
    generate: { queue: 'gpu', version: 1, code: [...OWN, ...SAMPLE] },
    prepare: {
      queue: 'sandbox',
      version: 1,
      code: [
        'activities/evaluation/references.ts',
        'activities/evaluation/suspects.ts',
        'activities/benchmarks/',
        ...CONTAMINATION,
        ...JUDGE,
      ],
    },
    judge: { queue: 'sandbox', version: 4, code: [...OWN, 'activities/policy/prompt.ts', ...PROGRAMS, ...JUDGE] },
    score: { queue: 'gpu', version: 1, code: [...OWN, 'activities/policy/score.ts', 'workers/runtime/scoring.py'] },
    // Figures are outside the digest: those of an older artifact are fewer, and its answers are the same.
    seal: {
      queue: 'pipeline',
      version: 1,
      code: [...OWN, 'activities/evaluation/figures.ts', 'activities/statistics/'],
    },
  },
  shardSteps: ({ sampler }) =>
    sampler.kind === 'policy'
      ? ['generate', 'judge', 'score']
      : ['judge', ...(sampler.scored ? ['score' as const] : [])],
  prepares: ({ benchmarks }) => benchmarks.some((benchmark) => benchmarkOf(benchmark).data.from !== 'questions'),
  semantics: ({ benchmarks, sampler, references, ...semantics }) => ({
    ...semantics,
    ...keyedBenchmarks(benchmarks),
    // Keys from before these settings existed stay what they are.
    ...(sampler.kind === 'policy' ? {} : { sampler }),
    ...(references.cpuSeconds === REFERENCES.cpuSeconds && references.mostLost === REFERENCES.mostLost
      ? {}
      : { references }),
  }),
  stored: withOwnSettings,
  decides: ({ policies, ...inputs }) => ({ ...inputs, policy: policies }),
  names: ({ benchmarks, engine }) => ({ benchmarks: { benchmarks }, engine }),
  estimate(config, run) {
    const { samples, maxNewTokens, heldOutTasks, execution, shardSize } = config;
    const { policy, backbone } = run.facts;
    const heldOut = Math.min(run.heldOut, heldOutTasks ?? run.heldOut);
    const asked = config.benchmarks.map((benchmark) => {
      const tasks = benchmarkOf(benchmark).size(benchmark, { heldOut });
      // Each policy answers once greedily.
      const answers = run.policies * tasks * (1 + (benchmark.samples ?? samples));
      return { tasks, answers, tokens: answers * run.answerTokens(benchmark.maxNewTokens ?? maxNewTokens) };
    });
    const sum = (of: (each: (typeof asked)[number]) => number): number =>
      asked.reduce((all, each) => all + of(each), 0);
    const [tasks, answers] = [sum((each) => each.tasks), sum((each) => each.answers)];
    const generated = Math.round(sum((each) => each.tokens));
    return run.stage(
      {
        rows: { tasks, answers },
        tokens: { prompt: answers * MEASURED_RUN.promptTokens, generated, trained: 0 },
        sandboxCpuSeconds: answers * MEASURED_RUN.sandboxSeconds,
        bytes: 3 * answers * MEASURED_RUN.rowBytes.answer,
        deviceSeconds:
          8 * run.load +
          run.generating(policy, generated, answers, execution.maxRows) +
          run.forward(backbone, answers * MEASURED_RUN.promptTokens + generated),
        memoryBytes: 2 * (policy.parameters + backbone.parameters),
      },
      run.shardsAtOnce(run.policies * tasks, shardSize, execution.window),
    );
  },
});

/**
 * The benchmarks as keys of evaluations hold them. Where all entries of a benchmark agree about its own settings, these
 * stand under the names that keys have always had.
 */
function keyedBenchmarks(benchmarks: readonly Benchmark[]): Record<string, unknown> {
  const hoisted: Record<string, unknown> = {};
  const entries = benchmarks.map((benchmark) => {
    const entry = keyedBenchmark(benchmark);
    const { keyedAs, kind } = benchmarkOf(benchmark);
    const same = benchmarks.filter((other) => other.kind === kind);
    for (const [setting, name] of Object.entries(keyedAs ?? {}) as ['samples' | 'maxNewTokens', string][]) {
      if (benchmark[setting] === undefined || same.some((other) => other[setting] !== benchmark[setting])) continue;
      hoisted[name] = benchmark[setting];
      delete entry[setting];
    }
    return entry;
  });
  return { benchmarks: entries, ...hoisted };
}

/** A configuration of version 0.1.0, in which settings of HumanEval stood next to the benchmarks. */
function withOwnSettings(config: unknown): unknown {
  const parsed = z
    .looseObject({
      benchmarks: z.array(z.looseObject({ kind: z.string() })),
      humanevalSamples: z.number().optional(),
      humanevalMaxNewTokens: z.number().optional(),
    })
    .safeParse(config);
  if (!parsed.success) return config;
  const { humanevalSamples: samples, humanevalMaxNewTokens: maxNewTokens, ...rest } = parsed.data;
  const own = {
    ...(samples === undefined ? {} : { samples }),
    ...(maxNewTokens === undefined ? {} : { maxNewTokens }),
  };
  const benchmarks = rest.benchmarks.map((each) => (each.kind === 'humaneval' ? { ...each, ...own } : each));
  return { ...rest, benchmarks };
}
