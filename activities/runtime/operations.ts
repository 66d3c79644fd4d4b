/**
 * The operations of the Python processes: what each takes, tells on its way and answers. Calls are typed by this table,
 * `PythonService` parses every result by it, and `workers/operations.py` is generated from it (`npm run
 * docs:operations`).
 *
 * Larger data goes by files: a parameter names the file, and the operation's docstring in Python says what its rows
 * hold.
 */
import { z } from 'zod';
import {
  ALGORITHMS,
  ArtifactKind,
  CheckedTest,
  CpuLimits as ContractCpuLimits,
  ModelSource,
  ModuleTest,
  StdinTest,
  SuiteTest,
  TABLE_FORMATS,
  TestOutcome as ContractTestOutcome,
  type TableFormat,
} from '../../workflows/contract/index.js';

/** One operation of a Python process. */
interface Operation {
  /** The operation in a few words. */
  does: string;
  params: z.ZodType;
  /** Metrics of the progress messages; a message may leave some of them out. */
  progress: z.ZodType;
  result: z.ZodType;
}

/** The operations that a process may be asked for, by name. */
export type Operations = Record<string, Operation>;

const whole = z.int();
const number = z.number();
const path = z.string().min(1);
const none = z.strictObject({});
/** The progress of operations that report none but their counts. */
export const NO_METRICS = z.strictObject({});
const count = z.int().nonnegative();
const tokensSampled = z.strictObject({ tokens: count.describe('tokens sampled until now') });

/** A schema that has a name of its own in Python. */
function named<T extends z.ZodType>(id: string, schema: T): T {
  return schema.meta({ id });
}

/**
 * Where a training ran, with the step after which it came there. One entry where it stayed, more where it was resumed
 * in another environment, so that its last bits cannot be repeated. Goes into metrics, outside the digest.
 */
const TrainingEnvironment = named(
  'TrainingEnvironment',
  z.strictObject({
    step: count.describe('the first step in this environment is the next one'),
    torch: z.string(),
    device: z.string(),
    cpuCapability: z.string(),
    threads: whole,
    processes: whole.describe('of all hosts'),
    hosts: whole.optional().describe('absent: one'),
    microBatch: whole,
    microBatchTokens: whole.optional(),
    sharding: z.string(),
  }),
);

const folders = {
  output: path.describe('model folder to write'),
  checkpoints: path.describe('folder of the checkpoints that are written'),
  resumeFrom: path.optional().describe('a checkpoint folder of the same training'),
};

const training = {
  learningRate: number.positive(),
  epochs: z.int().positive(),
  batchSize: z.int().positive().describe('rows of one optimizer step'),
  upperLayers: z.int().positive().nullable().describe('train only the upper n decoder blocks and the head; null: all'),
  seed: whole,
  microBatch: z.int().positive().describe('rows of one backward pass'),
  microBatchTokens: z
    .int()
    .positive()
    .optional()
    .describe('tokens of one backward pass at most, padding included; instead of microBatch'),
  gradientCheckpointing: z.boolean().optional().describe('blocks are computed again in the backward pass'),
  checkpointSeconds: number.nonnegative(),
  sharding: z.enum(['none', 'fsdp', 'fsdpStep']).optional(),
};

const forms = z
  .record(z.string(), named('ConversationForm', z.strictObject({ request: z.string(), opening: z.string() })))
  .describe('what stands around question and program, by language; the first is the default');

const lowRank = { rank: z.int().positive(), alpha: number.positive() };

const schedule = {
  maxLength: z.int().positive().describe('longer rows are left out and counted, in tokens'),
  warmupRatio: number.min(0).max(1).describe('share of the steps in which the learning rate rises'),
  schedule: z.enum(['cosine', 'constant']).describe('learning rate after the warm-up'),
};

const trained = {
  steps: count,
  processes: whole,
  environments: z.array(TrainingEnvironment).min(1),
};

const [GgufModel, GgufFileModel, HubModel, FolderModel] = ModelSource.options;
const source = named(
  'ImportedModelSource',
  z.discriminatedUnion('kind', [
    named('GgufModel', GgufModel),
    named('GgufFileModel', GgufFileModel),
    named('HubModel', HubModel),
    named('FolderModel', FolderModel),
  ]),
);

const tableFormats = Object.keys(TABLE_FORMATS) as [TableFormat, ...TableFormat[]];
const table = {
  kind: named('ArtifactKind', ArtifactKind),
  format: named('TableFormat', z.enum(tableFormats)),
  path: path.optional(),
  dataset: z.string().min(1).optional(),
  revision: z.string().min(1).optional(),
  files: z.array(z.string().min(1)).optional(),
  configuration: z.string().min(1).optional(),
  split: z.string().min(1).optional(),
  package: z.string().min(1).optional(),
  heldOutShare: number.min(0).max(1),
};

const HeldOutFigures = {
  pairs: count,
  questions: count,
  accuracy: number.nullable().describe('share of pairs with the chosen program above the rejected one'),
  meanMargin: number.nullable(),
  scoreMean: number.nullable(),
  scoreStd: number.nullable().describe('population standard deviation'),
};

const runtime = {
  checkModel: {
    does: 'looks a model source up without loading weights',
    params: z.strictObject({ source }),
    progress: NO_METRICS,
    result: z.strictObject({ architecture: z.string().nullable() }),
  },
  importModel: {
    does: 'writes a model of any source as a model folder',
    params: z.strictObject({ source, output: path }),
    progress: NO_METRICS,
    result: z.strictObject({ architecture: z.string(), parameters: count }),
  },
  buildMicroModel: {
    does: 'trains a tokenizer and a small Llama from scratch',
    params: z.strictObject({
      corpus: path,
      output: path,
      seed: whole,
      steps: z.int().positive(),
      batch: z.int().positive().optional().describe('answers of one step'),
      learningRate: number.positive().optional(),
      initializerRange: number.positive().optional().describe('deviation of the first weights'),
      phrases: z.boolean().optional().describe('a token is the text between two numbers of a line'),
    }),
    progress: z.strictObject({ loss: number }),
    result: z.strictObject({
      architecture: z.string(),
      parameters: count,
      vocabulary: count,
      steps: count,
      loss: number.describe('mean of the last ten steps, in nats per token'),
    }),
  },
  releaseModels: {
    does: 'drops warm models, so that another process has the memory of the device',
    params: none,
    progress: NO_METRICS,
    result: none,
  },
  sample: {
    does: 'samples programs for the requests of a file',
    params: z.strictObject({
      model: path,
      adapter: path.optional().describe('folder of adapters on top of the model; the engine transformers alone'),
      requests: path,
      output: path,
      maxRows: z.int().positive().describe('rows at once'),
      logProbs: z.boolean().optional().describe('rows carry the log-probability of each completion token'),
    }),
    progress: tokensSampled,
    result: z.strictObject({ rows: count, tokens: count }),
  },
  score: {
    does: 'scores the responses of a file by a reward model',
    params: z.strictObject({ model: path, rows: path, forms, output: path, microBatch: z.int().positive() }),
    progress: NO_METRICS,
    result: z.strictObject({
      rows: count,
      tooLong: count.describe('conversations longer than the context, which have no row'),
      scoreMean: number.nullable(),
      scoreStd: number.nullable().describe('population standard deviation'),
    }),
  },
  trainRewardModel: {
    does: 'trains a reward model on preference pairs and judges it on held-out pairs',
    params: z.strictObject({
      ...folders,
      model: path,
      train: path,
      heldOut: path,
      forms,
      config: z.strictObject({
        ...training,
        ...schedule,
        epochs: number.positive(),
        lora: named('LowRankAdapters', z.strictObject(lowRank)).nullable().optional(),
        questionWeighting: z.boolean().optional(),
        centerRewardsCoefficient: number.nonnegative().nullable(),
        bf16: z.boolean().nullable().optional(),
        baseline: z.boolean().optional().describe('judge the start model too'),
      }),
    }),
    progress: z.strictObject({ loss: number, accuracy: number }),
    result: z.strictObject({
      ...trained,
      pairs: count,
      tooLong: count,
      heldOutTooLong: count,
      curve: z.array(named('RewardModelStep', z.strictObject({ step: count, loss: number, accuracy: number }))),
      heldOut: named(
        'HeldOutResult',
        z.strictObject({
          ...HeldOutFigures,
          rows: z.array(
            named('ScoredPair', z.strictObject({ id: z.string(), chosenScore: number, rejectedScore: number })),
          ),
        }),
      ),
      before: named('HeldOutFigures', z.strictObject(HeldOutFigures)).optional(),
    }),
  },
  updatePolicy: {
    does: 'updates a policy once over stored rollouts',
    params: z.strictObject({
      ...folders,
      policy: path,
      adapter: path.optional().describe('folder of the adapters that the policy has, and the reference has not'),
      reference: path,
      rollouts: path,
      state: path.describe("folder for the optimizer's state"),
      resumeState: path.optional().describe('state folder of the round before'),
      importanceCap: number.min(1).optional().describe('rollouts are of another sampler, and weigh at most this'),
      warmUp: named('WarmUp', z.strictObject({ ratio: number.min(0).max(1), round: count, rounds: count }))
        .optional()
        .describe('of the learning rate, over that share of the rounds'),
      config: z.strictObject({
        ...training,
        name: named('MethodName', z.enum(ALGORITHMS)),
        beta: number.nonnegative(),
        clip: number.positive(),
        clipHigh: number.positive().optional(),
        rewardClip: number.positive(),
        maxGradNorm: number.positive(),
        endWeight: number.nonnegative().describe('of the loss of ends that the policy did not sample'),
        maxNewTokens: z.int().positive().describe('of the sampling'),
        temperature: number.positive().describe('of the sampling'),
        lora: named(
          'PolicyAdapters',
          z.strictObject({
            ...lowRank,
            targetModules: z.array(z.string().min(1)).min(1).nullable().optional(),
            base: z.string().min(1).describe('what tells the model below'),
          }),
        )
          .optional()
          .describe('adapters are trained and written, and no whole model'),
      }),
    }),
    progress: z.strictObject({ loss: number, clipFraction: number, gradNorm: number }),
    result: z.strictObject({
      ...trained,
      trainedIds: z.array(z.string()).describe('the rollout of every use, in order'),
      metrics: z.strictObject({
        loss: number,
        clipFraction: number,
        gradNorm: number,
        rewardMean: number,
        rewardStd: number,
        kl: number,
        entropy: number,
        advantageStd: number,
        nonZeroAdvantages: count,
        importanceMean: number.optional(),
        importanceCapped: number.optional(),
        endProbability: number.optional(),
      }),
      curve: z.array(
        named('PolicyStep', z.strictObject({ step: count, loss: number, clipFraction: number, gradNorm: number })),
      ),
    }),
  },
  mergeAdapters: {
    does: 'writes a model with adapters added to its weights as a model folder',
    params: z.strictObject({ model: path, adapter: path, output: path }),
    progress: NO_METRICS,
    result: z.strictObject({ architecture: z.string(), parameters: count }),
  },
  fineTune: {
    does: 'trains a policy on programs by the cross-entropy of their tokens',
    params: z.strictObject({
      ...folders,
      model: path,
      rows: path,
      config: z.strictObject({ ...training, ...schedule }),
    }),
    progress: z.strictObject({ loss: number, gradNorm: number }),
    result: z.strictObject({
      ...trained,
      rows: count.describe('rows that were trained on'),
      tooLong: count.describe('rows longer than maxLength, left out'),
      tokens: count.describe('completion tokens of one epoch'),
      curve: z.array(named('FineTuningStep', z.strictObject({ step: count, loss: number }))),
    }),
  },
  checkTable: {
    does: 'says whether a table or source tree can be read, by its schema alone',
    params: z.strictObject(table),
    progress: NO_METRICS,
    result: none,
  },
  importTable: {
    does: 'reads a table or source tree as rows of an artifact',
    params: z.strictObject({ ...table, output: path }),
    progress: NO_METRICS,
    result: z.strictObject({
      rows: count,
      dropped: z.record(z.string(), count).describe('rows that were left out, by reason'),
      source: z.string(),
    }),
  },
  exportTable: {
    does: 'writes rows as a Parquet file with a public schema',
    params: z.strictObject({
      format: z.enum(['aceCode87K', 'aceCodePair300K']),
      rows: path,
      programs: path.nullable(),
      model: z.string().nullable(),
      output: path,
    }),
    progress: NO_METRICS,
    result: z.strictObject({ rows: count, bytes: count }),
  },
} as const satisfies Operations;

const CpuLimits = named('CpuLimits', ContractCpuLimits);
const Limits = named(
  'Limits',
  z.strictObject({
    cpuSecondsPerTest: number.positive().optional(),
    cpuSecondsPerProgram: number.positive().optional(),
    memoryBytes: z.int().positive().optional(),
  }),
);
const status = named('Verdict', ContractTestOutcome.shape.status);
const TestOutcome = named('TestOutcome', ContractTestOutcome.extend({ status }));
const job = { id: z.string(), program: z.string(), limits: Limits.optional() };
const [ComparedCall, CallProperty, CheckedCall, CheckedOutput, ComparedOutput] = CheckedTest.options;
const AnyCheckedTest = named(
  'CheckedTest',
  z.union([
    named('ComparedCall', ComparedCall),
    named('CallProperty', CallProperty),
    named('CheckedCall', CheckedCall),
    named('CheckedOutput', CheckedOutput),
    named('ComparedOutput', ComparedOutput),
  ]),
);
const JudgeTest = z.union([
  z.string(),
  named('StdinTest', StdinTest),
  AnyCheckedTest,
  named('SuiteTest', SuiteTest),
  named('ModuleTest', ModuleTest),
]);
const JudgeJob = named(
  'JudgeJob',
  z.strictObject({
    ...job,
    tests: z
      .array(JudgeTest)
      .readonly()
      .describe('Python statements, what a script reads and must print, or an answer that is checked'),
  }),
);
const EvaluateJob = named('EvaluateJob', z.strictObject({ ...job, calls: z.array(z.string()).readonly() }));

const RunJob = named('RunJob', z.strictObject({ ...job, stdin: z.string().describe('what the script reads') }));

const sandbox = {
  judge: {
    does: 'runs programs against their tests',
    params: z.strictObject({
      jobs: z.array(JudgeJob).readonly(),
      limits: Limits.optional(),
      references: z.array(JudgeJob).readonly().optional().describe('programs that are to pass all their tests'),
      thresholds: z.array(number.min(0).max(1)).readonly().optional().describe('pass rates that decide something'),
    }),
    progress: NO_METRICS,
    result: z.strictObject({
      verdicts: z.array(
        named(
          'ProgramVerdict',
          z.strictObject({ id: z.string(), outcomes: z.array(TestOutcome), flags: z.array(z.string()) }),
        ),
      ),
      measurements: z.array(named('Measurement', z.strictObject({ id: z.string(), cpuSeconds: number }))),
      brokenReferences: z.array(
        named('BrokenReference', ContractTestOutcome.extend({ status, id: z.string(), test: count })),
      ),
    }),
  },
  limits: {
    does: 'derives limits from the CPU time of references',
    params: z.strictObject({ jobs: z.array(JudgeJob).readonly(), limits: Limits.optional() }),
    progress: NO_METRICS,
    result: z.strictObject({ limits: z.array(CpuLimits) }),
  },
  answers: {
    does: 'runs references on the inputs of suites, and gives their answers',
    params: z.strictObject({
      jobs: z.array(JudgeJob).readonly().describe('references; all tests are suites'),
      limits: Limits.optional(),
    }),
    progress: NO_METRICS,
    result: z.strictObject({
      answers: z.array(
        named(
          'ReferenceAnswers',
          z.strictObject({
            id: z.string(),
            suites: z.array(
              z.discriminatedUnion('status', [
                named(
                  'SuiteAnswers',
                  z.strictObject({
                    status: z.literal('answers'),
                    answers: z.string().describe('what is handed back as `expected`'),
                    slowest: number.describe('CPU seconds of the slowest call'),
                  }),
                ),
                TestOutcome,
              ]),
            ),
          }),
        ),
      ),
    }),
  },
  evaluate: {
    does: 'computes the values of calls of programs',
    params: z.strictObject({ jobs: z.array(EvaluateJob).readonly(), limits: Limits.optional() }),
    progress: NO_METRICS,
    result: z.strictObject({
      values: z.array(
        named(
          'ProgramValues',
          z.strictObject({
            id: z.string(),
            results: z.array(
              z.discriminatedUnion('status', [
                named('CallValue', z.strictObject({ status: z.literal('value'), literal: z.string() })),
                TestOutcome,
              ]),
            ),
          }),
        ),
      ),
    }),
  },
  run: {
    does: 'runs programs as scripts, without tests',
    params: z.strictObject({ jobs: z.array(RunJob).readonly(), limits: Limits.optional() }),
    progress: NO_METRICS,
    result: z.strictObject({
      runs: z
        .array(
          named(
            'ProgramRun',
            z.strictObject({
              id: z.string(),
              status: named('RunStatus', z.enum(['ended', 'timeout', 'killed', 'unjudged'])),
              exitCode: whole.nullable(),
              stdout: z.string(),
              stderr: z.string(),
              cpuSeconds: number,
              reason: z.string().optional(),
            }),
          ),
        )
        .describe('one for each job, in order'),
    }),
  },
  mutants: {
    does: 'says how many wrong answers the checkers of tests reject',
    params: z.strictObject({
      jobs: z.array(JudgeJob).readonly().describe('right programs'),
      limits: Limits.optional(),
      mutants: z.int().positive().max(1_000).optional().describe('mutants of each answer, at most'),
      seed: whole.optional(),
    }),
    progress: NO_METRICS,
    result: z.strictObject({
      checkers: z.array(
        named(
          'CheckerQuality',
          z.strictObject({
            id: z.string(),
            answers: count.describe('tests of the program'),
            accepted: count.describe('answers of the program that pass'),
            mutants: count.describe('changed answers'),
            killed: count.describe('mutants that are rejected'),
            failed: count.describe('mutants on which the checker has a fault'),
            survivors: z.array(named('Survivor', z.strictObject({ test: count, answer: z.string() }))),
          }),
        ),
      ),
    }),
  },
  normalize: {
    does: 'says of tests what they are, however they are written',
    params: z.strictObject({ tests: z.array(z.string()).readonly() }),
    progress: NO_METRICS,
    result: z.strictObject({
      tests: z
        .array(
          named(
            'NormalTest',
            z.strictObject({
              test: z.string().describe('equal for tests that differ in their spelling only'),
              output: z.string().describe('equal for tests that expect the same value'),
            }),
          ),
        )
        .describe('one for each test, in order'),
    }),
  },
  probe: {
    does: 'says what verdicts depend on and what they are measured on',
    params: none,
    progress: NO_METRICS,
    result: z.strictObject({
      isolation: z.string(),
      level: z.string(),
      pythonVersion: z.string(),
      harnessVersion: z.string(),
      importPolicy: z.string(),
      calibrationSeconds: number,
      workers: whole,
    }),
  },
} as const satisfies Operations;

/** Operations by process. The vLLM engine answers one operation of the model runtime. */
export const PROCESSES = { runtime, sandbox, vllm: { sample: runtime.sample } } as const;

/** All operations by name. */
export const OPERATIONS = { ...runtime, ...sandbox } as const satisfies Operations;

export type RuntimeOperation = keyof typeof runtime;
export type SandboxOperation = keyof typeof sandbox;
export type EngineOperation = keyof typeof PROCESSES.vllm;
/** Operations that write checkpoints. */
export type TrainingOperation = 'trainRewardModel' | 'updatePolicy' | 'fineTune';

export type Params<N extends keyof T, T extends Operations = typeof OPERATIONS> = z.input<T[N]['params']>;
export type Result<N extends keyof T, T extends Operations = typeof OPERATIONS> = z.output<T[N]['result']>;
export type ProgressMetrics<N extends keyof T, T extends Operations = typeof OPERATIONS> = Partial<
  z.output<T[N]['progress']>
>;
