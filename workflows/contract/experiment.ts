/**
 * The experiment configuration. Each stage's object holds its *semantics* (what the result is; part of the stage key)
 * and, under `execution`, how it is got (never part of a key): a change of execution repeats nothing.
 */
import { z } from 'zod';
import { artifactInput, ArtifactRef } from './artifacts.js';
import { MOVED_FIELDS } from './mistakes.js';
import { PRESETS } from './presets.js';
import { RECORDED_MOVED, RecordedInputs, withRecorded, within } from './recorded.js';
import { MAX_TESTS } from './rows.js';

const count = z.number().int().positive();
const share = z.number().min(0).max(1);
const seed = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).describe('seed of everything random in the stage');
const salt = z.string().default('').describe('any text; another one makes the stage again under a key of its own');
const deviceClass = z
  .string()
  .regex(/^[a-z0-9-]+$/, 'small letters, digits and dash')
  .optional()
  .describe('device class of the GPU launcher whose queue the GPU work goes to; absent: the queue without a class');
/** Names that users choose: of experiments, data sets and evaluated policies. */
export const Name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, 'letters, digits, dot, dash and underscore, at most 100');
/** An editor finds the JSON Schema of a file by this field; nothing else reads it. */
export const schemaField = {
  $schema: z.string().optional().describe('address of the JSON Schema, for editors; ignored'),
};

const GgufModel = z.strictObject({
  kind: z.literal('gguf').describe('a GGUF file inside an installed Python package'),
  package: z.string().min(1).describe('import name of the Python package'),
  file: z.string().min(1).describe('file inside the package'),
});
const HubModel = z.strictObject({
  kind: z.literal('hub').describe('a model of the Hugging Face hub'),
  id: z.string().min(1).describe('id, such as Qwen/Qwen2.5-Coder-0.5B-Instruct'),
  revision: z.string().min(1).describe('branch, tag or commit; a commit is the only one that never moves'),
});
const FolderModel = z.strictObject({
  kind: z
    .literal('folder')
    .describe('a Hugging Face folder with config.json, *.safetensors and a tokenizer with chat template'),
  path: z
    .string()
    .min(1)
    .describe('path on the GPU worker: absolute, or relative to its working folder or the package'),
});
const ModelRef = ArtifactRef.extend({
  kind: z.enum(['model', 'policy']).describe('a model that was imported, or a policy that RL trained'),
});
const ArtifactModel = z.strictObject({
  kind: z.literal('artifact').describe('a model that stands in the store'),
  ref: ModelRef.describe('reference to the model'),
});

/** Where a model comes from. It becomes an artifact before any stage uses it, so that its digest is an input of the key. */
export const ModelSource = z.discriminatedUnion('kind', [GgufModel, HubModel, FolderModel, ArtifactModel]);
export type ModelSource = z.infer<typeof ModelSource>;

/** What a stage that is started alone accepts as a policy or backbone: a reference, or a source that is imported first. */
export const ModelInput = z.discriminatedUnion('kind', [GgufModel, HubModel, FolderModel, ArtifactModel, ModelRef]);
export type ModelInput = z.infer<typeof ModelInput>;

/** A benchmark: the experiment's own held-out questions, or every `every`-th HumanEval problem from `offset` on. */
export const Benchmark = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('heldOut').describe("the experiment's own held-out questions") }),
  z
    .strictObject({
      kind: z.literal('humaneval').describe('HumanEval, 164 problems'),
      every: count.default(1).describe('take every n-th problem; 1: all'),
      offset: z.number().int().nonnegative().default(0).describe('index of the first problem; below `every`'),
    })
    .refine(({ every, offset }) => offset < every, { path: ['offset'], error: 'smaller than `every`' }),
]);
export type Benchmark = z.infer<typeof Benchmark>;

/** Name of a benchmark in rows and reports; a slice says so. */
export function benchmarkName(benchmark: Benchmark): string {
  if (benchmark.kind === 'heldOut') return 'heldOut';
  return benchmark.every === 1 ? 'humaneval' : `humaneval[${benchmark.offset}::${benchmark.every}]`;
}

/** Limits of one program in the sandbox. CPU time, because wall time makes verdicts depend on the neighbours. */
export const SandboxLimits = z.strictObject({
  cpuSecondsPerTest: z.number().positive().default(1).describe('CPU time of one test case, in seconds'),
  cpuSecondsPerProgram: z
    .number()
    .positive()
    .default(3)
    .describe('CPU time of a program over all of its test cases, in seconds'),
  memoryBytes: count.default(512 * 1024 * 1024).describe('address space of a program, in bytes'),
});
export type SandboxLimits = z.infer<typeof SandboxLimits>;
const limits = SandboxLimits.prefault({}).describe('limits of each program in the sandbox');

/** What a policy samples with. Their texts differ, so that another engine makes other rows under other keys. */
export const ENGINES = ['transformers', 'vllm'] as const;
export type Engine = (typeof ENGINES)[number];

const Decoding = {
  engine: z
    .enum(ENGINES)
    .default('transformers')
    .describe(
      'what samples: the model runtime itself, or vLLM in an environment of its own (`npm run setup -- --vllm` on the GPU worker; never run on hardware)',
    ),
  temperature: z.number().positive().default(0.8).describe('sampling temperature'),
  topP: z.number().positive().max(1).default(1).describe('nucleus: share of probability that is sampled from; 1: all'),
  maxNewTokens: count.default(96).describe('upper limit of an answer, in tokens'),
};

const window = count.default(4).describe('shards in flight at once');
const microBatch = count.default(8).describe('rows of one forward pass; lower it when memory runs out');
const maxRows = count.default(64).describe('answers sampled in one batch; lower it when memory runs out');
const upperLayers = count
  .nullable()
  .default(null)
  .describe('train only the upper n decoder blocks and the head; null: all');
const trainingExecution = {
  microBatch,
  checkpointSeconds: z.number().positive().default(30).describe('time between checkpoints of a training, in seconds'),
  sharding: z
    .enum(['none', 'fsdp'])
    .default('none')
    .describe(
      'fsdp: the GPUs of a worker share a model that is too large for one of them, its gradients and the optimizer; none: each has all of it',
    ),
  deviceClass,
};
const execution = <S extends z.ZodRawShape>(shape: S) =>
  z
    .strictObject(shape)
    .prefault({} as never)
    .describe('how the result is got; never in a key, so that a change repeats nothing');

/** Name of an environment variable of the llm worker. The system's own secrets are none that a configuration may send away. */
const KeyVariable = z
  .string()
  .regex(
    /^(?!ACECODER_|TEMPORAL_)[A-Z][A-Z0-9_]*$/,
    'name of an environment variable in capital letters, not ACECODER_* or TEMPORAL_*; never the key itself',
  );
const dollarsPerMillion = z.number().nonnegative();
const testCases = count.max(MAX_TESTS).default(20).describe('test cases asked for per question');

/** How an endpoint is reached, how fast it may be asked, and what it costs: limits are shared by all workers of the stage. */
export const EndpointExecution = z.strictObject({
  baseUrl: z
    .url({ protocol: /^https?$/ })
    .refine((text) => !URL.canParse(text) || new URL(text).username === '', { error: 'without user and password' })
    .default('https://api.openai.com/v1')
    .describe('address of the OpenAI-compatible endpoint, up to and without /chat/completions'),
  keyVariable: KeyVariable.nullable()
    .default('OPENAI_API_KEY')
    .describe("name of the llm worker's environment variable that holds the key; null: the endpoint needs none"),
  concurrency: count.default(16).describe('requests in flight at once'),
  requestsPerMinute: count.optional().describe('requests per minute; absent: no limit'),
  tokensPerMinute: count.optional().describe('tokens of prompts and replies per minute; absent: no limit'),
  timeoutSeconds: z.number().positive().max(3600).default(180).describe('time for one whole reply, in seconds'),
  prices: z
    .strictObject({
      input: dollarsPerMillion.describe('US dollars per million tokens of prompts'),
      output: dollarsPerMillion.describe('US dollars per million tokens of replies'),
    })
    .optional()
    .describe('what the model costs; needed where it is asked, 0 for an endpoint of your own'),
  batch: z
    .strictObject({
      priceFactor: z
        .number()
        .nonnegative()
        .max(1)
        .default(0.5)
        .describe('price of a reply out of a batch, as a share of the usual one'),
      pollSeconds: z.number().positive().default(30).describe('time between two looks at a batch, in seconds'),
    })
    .optional()
    .describe(
      "ask by the endpoint's Batch API, a batch for each shard, at its price and in its time (up to a day); what fails there is asked by itself; absent: each request by itself",
    ),
});
export type EndpointExecution = z.infer<typeof EndpointExecution>;

/** What a stage that asks an endpoint has in its execution. */
const asking = {
  budgetUsd: z
    .number()
    .positive()
    .optional()
    .describe('what the replies of the stage may cost at most, in US dollars; the stage stops before it is passed'),
  endpoint: EndpointExecution.prefault({}).describe('the endpoint, where a language model is asked'),
};

/** What the check of prices and budget reads; it is made also where other fields are wrong, so that all mistakes are told together. */
const PRICED = z.looseObject({
  execution: z.object({
    budgetUsd: z.number().optional(),
    endpoint: z.object({ prices: z.object({ input: z.number(), output: z.number() }).optional() }),
  }),
});

/** Adds the check that who asks an endpoint says what it costs, and how much may be spent. `asks` reads a configuration that may be wrong. */
function priced<S extends z.ZodType>(schema: S, asks: (config: Record<string, unknown>) => boolean): S {
  return schema.superRefine(
    (config, context) => {
      const {
        execution: {
          budgetUsd,
          endpoint: { prices },
        },
      } = config as z.infer<typeof PRICED>;
      if (!prices) {
        context.addIssue({
          code: 'custom',
          path: ['execution', 'endpoint', 'prices'],
          message:
            'needed where an endpoint is asked: {"input": X, "output": Y} in US dollars per million tokens; 0 for an endpoint of your own',
        });
      } else if (prices.input + prices.output > 0 && budgetUsd === undefined) {
        context.addIssue({
          code: 'custom',
          path: ['execution', 'budgetUsd'],
          message: 'needed, because the replies cost money: the limit in US dollars',
        });
      }
    },
    { when: ({ value }) => PRICED.safeParse(value).success && asks(value as Record<string, unknown>) },
  );
}

const kindOf = (value: unknown): unknown => (value as { kind?: unknown } | undefined)?.kind;

const EndpointModel = z.strictObject({
  kind: z
    .literal('openai')
    .describe('a language model behind an OpenAI-compatible endpoint; where and at what price: `execution`'),
  model: z.string().min(1).describe('name of the model at the endpoint'),
});
const recordedPrograms = (stage: 'filtering' | 'sampling') =>
  z
    .strictObject({
      kind: z
        .literal('recorded')
        .describe(
          'programs that somebody else had written, among the inputs; no model is asked; of a seed, the first ones are taken',
        ),
    })
    .register(MOVED_FIELDS, RECORDED_MOVED[stage]);

/** Whose programs speak for a question, where that is not the policy. */
export const ProgramSource = z.discriminatedUnion('kind', [EndpointModel, recordedPrograms('filtering')]);
export type ProgramSource = z.infer<typeof ProgramSource>;

export const SynthesisConfig = priced(
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
      .array(Benchmark)
      .default([{ kind: 'humaneval', every: 1, offset: 0 }])
      .describe('benchmarks whose problems no seed may match'),
    limits,
    shardSize: count.default(256).describe('seeds per shard'),
    salt,
    execution: execution({ window, ...asking }),
  }),
  ({ teacher }) => kindOf(teacher) === 'openai',
);
export type Teacher = z.infer<typeof SynthesisConfig>['teacher'];
/** A teacher that is a language model behind an endpoint. */
export type EndpointTeacher = Extract<Teacher, { kind: 'openai' }>;

/** How programs of an oracle are asked for. */
const oraclePrograms = (n: number, temperature: number) => ({
  programs: ProgramSource.describe('whose programs'),
  n: count.default(n).describe('programs per question'),
  temperature: z.number().nonnegative().max(2).default(temperature).describe('sampling temperature; 0: greedy'),
  topP: z.number().positive().max(1).default(1).describe('nucleus: share of probability that is sampled from; 1: all'),
  maxNewTokens: count.default(2048).describe('upper limit of an answer, in tokens'),
  seed: seed.default(0),
});

export const FilteringConfig = priced(
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
    execution: execution({ window, ...asking }),
  }),
  ({ oracle }) => kindOf((oracle as { programs?: unknown } | undefined)?.programs) === 'openai',
);
export type Oracle = z.infer<typeof FilteringConfig>['oracle'];

export const SamplingConfig = priced(
  z.strictObject({
    sampler: z
      .discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('policy').describe("the experiment's policy, on a GPU worker") }),
        EndpointModel,
        recordedPrograms('sampling'),
      ])
      .prefault({ kind: 'policy' })
      .describe('who writes the programs'),
    samples: count.default(16).describe('programs per question'),
    ...Decoding,
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
    execution: execution({ window, maxRows, deviceClass, ...asking }),
  }),
  ({ sampler }) => kindOf(sampler) === 'openai',
);

export const PreferencesConfig = z.strictObject({
  labels: z
    .enum(['rate', 'strict'])
    .default('rate')
    .describe(
      'rate: by the pass rates below (paper, equation 3); strict: a program that passes all test cases against one that does not, whatever the rates below say',
    ),
  denominator: z
    .enum(['kept', 'all'])
    .default('kept')
    .describe(
      "what a pass rate is a share of: the question's kept test cases, or, as in the authors' code, all that the teacher wrote, dropped ones included",
    ),
  minimumBest: share.default(0.8).describe('the chosen program passes at least this share (paper, equation 3)'),
  minimumGap: share.default(0.4).describe('pass rates of a pair differ by at least this'),
  worstAbove: share.default(0).describe('the rejected program passes more than this share'),
  maximumPerQuestion: count.optional().describe('pairs per question at most; absent: all pairs, as the paper'),
  shardSize: count.default(2048).describe('questions per shard'),
  salt,
  execution: execution({ window }),
});

export const RewardModelConfig = z
  .strictObject({
    learningRate: z.number().positive().default(1e-5).describe('peak learning rate of AdamW'),
    epochs: count.default(1).describe('passes over the pairs'),
    batchSize: count.default(128).describe('pairs of one optimizer step'),
    maxLength: count.default(2048).describe('pairs with a longer conversation are left out and counted, in tokens'),
    questionWeighting: z
      .boolean()
      .default(false)
      .describe(
        "a pair weighs 1 / the number of its question's pairs, as in the paper's equation 1; false: all pairs the same, as in the authors' code",
      ),
    upperLayers,
    lora: z
      .strictObject({
        rank: count.default(16).describe('rank of the adapters'),
        alpha: z.number().positive().default(32).describe('the adapters are scaled by alpha / rank'),
      })
      .nullable()
      .default(null)
      .describe(
        'train low-rank adapters on all linear layers and the head, merged at the end; null: the weights themselves',
      ),
    bf16: z.boolean().optional().describe('bfloat16 arithmetic over float32 weights; absent: on a GPU'),
    warmupRatio: share.default(0.1).describe('share of the steps in which the learning rate rises'),
    schedule: z.enum(['cosine', 'constant']).default('cosine').describe('learning rate after the warm-up'),
    centerRewardsCoefficient: z
      .number()
      .nonnegative()
      .default(0)
      .describe("weight of the penalty on a pair's mean score; 0: none"),
    seed: seed.default(0),
    salt,
    execution: execution({
      ...trainingExecution,
      gradientCheckpointing: z.boolean().optional().describe('less memory for more time; absent: on a GPU'),
    }),
  })
  .refine(({ lora, upperLayers }) => lora === null || upperLayers === null, {
    path: ['lora'],
    error: 'null where upperLayers is set: adapters and upper layers exclude each other',
  })
  .refine(({ lora, execution }) => lora === null || execution.sharding === 'none', {
    path: ['execution', 'sharding'],
    error: 'none where lora is set: what adapters train needs no sharding',
  });

/** Methods of the policy update; workers/runtime/policy_update.py defines them. */
export const ALGORITHMS = ['reinforce++', 'reinforce++-acecoder', 'grpo', 'rloo', 'dr-grpo', 'dapo'] as const;

/** Reward of a rollout: a weighted sum of its tests and its normalised reward-model score. */
export const RewardConfig = z.strictObject({
  testsWeight: z.number().nonnegative().default(1).describe('weight of the tests; 0: none are run'),
  tests: z
    .enum(['passRate', 'allPass'])
    .default('allPass')
    .describe('passRate: share of passed tests; allPass: 1 where all pass, else 0'),
  rewardModelWeight: z
    .number()
    .nonnegative()
    .default(0)
    .describe("weight of the reward model's score, in its held-out standard deviations; 0: not asked"),
  lengthPenalty: z
    .strictObject({
      tokens: count.describe('the penalty rises from 0 to its weight over the last so many of maxNewTokens'),
      weight: z.number().positive().default(1).describe('penalty of an answer as long as maxNewTokens'),
    })
    .optional()
    .describe('soft penalty of long answers (DAPO, arXiv 2503.14476, equation 13); absent: none'),
});

export const ReinforcementConfig = z
  .strictObject({
    rounds: count.default(1).describe('rounds of rollouts, rewards and policy update'),
    questions: z
      .enum(['all', 'hard'])
      .default('all')
      .describe(
        'all train questions, or the hard quarter by the pass rates of the sampled programs: mean at most the median, and of those a spread of at least their median (the hard subset of the paper)',
      ),
    promptsPerRound: count.default(256).describe('train questions of a round; at most as many as there are'),
    samplesPerPrompt: z.number().int().min(2).default(8).describe('rollouts per question'),
    ...Decoding,
    reward: RewardConfig.prefault({})
      .refine((reward) => reward.testsWeight + reward.rewardModelWeight > 0, {
        error: 'at least one of testsWeight and rewardModelWeight must be above 0',
      })
      .describe('reward of a rollout: a weighted sum'),
    referenceRefresh: count
      .nullable()
      .default(null)
      .describe(
        'rounds after which the reference of the KL becomes the policy as it then is; null: it stays the first policy',
      ),
    asynchronous: z
      .strictObject({
        importanceCap: z.number().min(1).default(2).describe('importance weights of the loss are cut at this'),
      })
      .nullable()
      .default(null)
      .describe(
        'rollouts of a round come from the policy before the last update, so that the device samples while programs run (and, with two devices, trains); importance weights correct for it; null: each round samples the newest policy',
      ),
    dropDegenerateGroups: z.boolean().default(false).describe('leave out groups whose rewards are all equal'),
    algorithm: z
      .strictObject({
        name: z
          .enum(ALGORITHMS)
          .default('reinforce++')
          .describe('method of the update; docs/algorithms.md says what each is'),
        learningRate: z.number().positive().default(5e-7).describe('constant learning rate of Adam'),
        beta: z
          .number()
          .nonnegative()
          .default(0.01)
          .describe('coefficient of the KL penalty; where it goes is up to the method'),
        clip: z.number().positive().default(0.2).describe('the probability ratio is clipped to 1 - clip and 1 + clip'),
        clipHigh: z
          .number()
          .positive()
          .optional()
          .describe("upper clip; absent: the method's own (dapo: 0.28), else clip"),
        rewardClip: z.number().positive().default(10).describe('rewards are clipped to this magnitude'),
        batchSize: count.default(128).describe('rollouts of one optimizer step'),
        epochs: count.default(1).describe("passes over a round's rollouts"),
        upperLayers,
        maxGradNorm: z.number().positive().default(1).describe('the gradient is scaled down to this norm'),
      })
      .prefault({})
      .describe('the policy update'),
    seed: seed.default(0),
    limits,
    salt,
    execution: execution({
      ...trainingExecution,
      maxRows,
      keepRounds: count
        .nullable()
        .default(3)
        .describe(
          'newest rounds whose policies stay in the store, beside the reference and what anything else names; of older ones the manifests stay, and what was pruned is made again where it is needed; null: all stay, with the state of their optimizers',
        ),
    }),
  })
  .refine(({ engine, asynchronous, topP }) => engine !== 'vllm' || asynchronous === null || topP === 1, {
    path: ['topP'],
    error:
      "1 where rounds are asynchronous and the engine is 'vllm', which gives no log-probabilities of a cut nucleus",
  });

/** What the check of k and N reads; it is made also where other fields are wrong, so that all mistakes are told together. */
const EVALUATED = z.object({
  benchmarks: z.array(z.object({ kind: z.string() })).min(1),
  samples: z.number(),
  humanevalSamples: z.number().optional(),
  passAtK: z.array(z.number()),
  bestOf: z.array(z.number()).optional(),
});

export const EvaluationConfig = z
  .strictObject({
    benchmarks: z
      .array(Benchmark)
      .min(1)
      .default([{ kind: 'heldOut' }])
      .describe('what the policies are asked'),
    samples: z.number().int().nonnegative().default(16).describe('samples per task beside the greedy answer'),
    humanevalSamples: z.number().int().nonnegative().optional().describe('overrides `samples` on HumanEval'),
    ...Decoding,
    humanevalMaxNewTokens: count.optional().describe('overrides `maxNewTokens` on HumanEval, in tokens'),
    passAtK: z.array(count).default([1]).describe('each k of pass@k; at most the samples per task'),
    bestOf: z
      .array(count)
      .optional()
      .describe('each N of Best-of-N, at most the samples per task; absent: all samples'),
    heldOutTasks: count.optional().describe('held-out questions at most; absent: all'),
    seed: seed.default(0),
    limits,
    shardSize: count.default(64).describe('tasks per shard'),
    salt,
    execution: execution({ window, maxRows, microBatch, deviceClass }),
  })
  .superRefine(
    (config, context) => {
      const samples = Math.max(
        ...config.benchmarks.map(
          ({ kind }) => (kind === 'humaneval' ? config.humanevalSamples : undefined) ?? config.samples,
        ),
      );
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
    },
    { when: ({ value }) => EVALUATED.safeParse(value).success },
  );

export const StageConfigs = {
  synthesis: SynthesisConfig,
  filtering: FilteringConfig,
  sampling: SamplingConfig,
  preferences: PreferencesConfig,
  rewardModel: RewardModelConfig,
  reinforcement: ReinforcementConfig,
  evaluation: EvaluationConfig,
} as const;
export type StageConfig = { [S in keyof typeof StageConfigs]: z.infer<(typeof StageConfigs)[S]> };

const ExperimentFields = z.strictObject({
  name: Name.describe('name of the experiment, in reports and search attributes'),
  seeds: artifactInput('seeds').describe('seed programs: a JSON Lines file on the pipeline worker, or an artifact'),
  models: z
    .strictObject({
      policy: ModelSource.describe('the model that samples programs and that RL trains'),
      rewardModel: ModelSource.optional().describe('backbone of the reward model; absent: the policy'),
    })
    .describe('the models'),
  inputs: z
    .strictObject(RecordedInputs)
    .optional()
    .describe("what stages of kind 'recorded' read in the place of asking a model"),
  stages: z
    .strictObject({
      synthesis: SynthesisConfig.prefault({}).describe('seeds to questions with test cases'),
      filtering: FilteringConfig.prefault({}).describe('questions to questions whose test cases an oracle confirms'),
      sampling: SamplingConfig.prefault({}).describe('questions to programs with verdicts'),
      preferences: PreferencesConfig.prefault({}).describe('programs to preference pairs'),
      rewardModel: RewardModelConfig.prefault({}).describe('pairs to a reward model'),
      reinforcement: ReinforcementConfig.prefault({}).describe('RL rounds'),
      evaluation: EvaluationConfig.prefault({}).describe('policies on benchmarks'),
    })
    .prefault({})
    .describe('settings of each stage'),
  onFailure: z
    .enum(['park', 'fail'])
    .default('park')
    .describe('park: a stage that failed for good waits for retryStage; fail: the experiment fails'),
});

/** An experiment after the preset that it extends has been merged in. */
export const Experiment = withRecorded(
  ExperimentFields,
  (['synthesis', 'filtering', 'sampling'] as const).map((stage) => within(['stages'], stage)),
);
export type Experiment = z.infer<typeof Experiment>;

/** What a user writes: where it extends a preset, the preset gives what is left out. */
export const ExperimentFile = ExperimentFields.partial({ seeds: true }).extend({
  models: ExperimentFields.shape.models.partial().optional().describe('the models'),
  ...schemaField,
  extends: z
    .enum(Object.keys(PRESETS) as [string, ...string[]])
    .optional()
    .describe('preset that gives every value that is left out'),
});

/**
 * The part of a stage's configuration that is in the stage key. `execution` never is, and of the engines only one that is
 * not the default.
 */
export function semanticsOf<C extends { execution: unknown }>(
  config: C,
): Omit<C, 'execution' | 'engine'> & { engine?: Engine } {
  const { execution: _execution, engine, ...semantics } = config as C & { engine?: Engine };
  return { ...semantics, ...(engine === undefined || engine === ENGINES[0] ? {} : { engine }) };
}
