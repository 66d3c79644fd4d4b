/** The reward model: preference pairs to a Bradley-Terry model. */
import { z } from 'zod';
import { artifactInput } from '../artifacts.js';
import { MEASURED_RUN } from '../estimation.js';
import {
  count,
  EXECUTION,
  hostsExecution,
  lowRank,
  salt,
  seed,
  share,
  trainingExecution,
  upperLayers,
} from '../fields.js';
import { Environments } from '../metrics.js';
import { ModelInput } from '../models.js';
import { defineStage, stageInput } from '../stage-definition.js';

const RewardModelConfig = z
  .strictObject({
    learningRate: z.number().positive().default(1e-5).describe('peak learning rate of AdamW'),
    epochs: count.default(1).describe('passes over the pairs'),
    batchSize: count.default(128).describe('pairs of one optimizer step'),
    maxLength: count.default(2048).describe('pairs with a longer conversation are left out and counted, in tokens'),
    questionWeighting: z
      .boolean()
      .default(false)
      .describe(
        "a pair weighs 1 / the number of its question's pairs, so that each question counts the same; false: all " +
          "pairs the same, as in the authors' code, and in the paper's equation 1, which divides by a number of " +
          'samples that all questions share',
      ),
    upperLayers,
    lora: z
      .strictObject(lowRank)
      .nullable()
      .default(null)
      .describe(
        'train low-rank adapters on all linear layers and the head, merged at the end; null: the weights themselves',
      ),
    bf16: z
      .boolean()
      .optional()
      .describe('bfloat16 arithmetic over float32 weights; absent: where the device computes in bfloat16'),
    warmupRatio: share.default(0.1).describe('share of the steps in which the learning rate rises'),
    schedule: z.enum(['cosine', 'constant']).default('cosine').describe('learning rate after the warm-up'),
    centerRewardsCoefficient: z
      .number()
      .nonnegative()
      .default(0)
      .describe("weight of the penalty on a pair's mean score; 0: none"),
    seed: seed.default(0),
    salt,
    execution: z
      .strictObject({
        ...trainingExecution,
        sharding: z
          .enum(['none', 'fsdp'])
          .default('none')
          .describe(
            'fsdp: the GPUs of a worker share a model that is too large for one of them, its gradients and the ' +
              'optimizer; none: each has all of it',
          ),
        ...hostsExecution,
        gradientCheckpointing: trainingExecution.gradientCheckpointing.describe(
          'compute the blocks again in the backward pass: less memory for more time; absent: on a GPU',
        ),
      })
      .prefault({})
      .describe(EXECUTION),
  })
  .refine(({ lora, upperLayers }) => lora === null || upperLayers === null, {
    path: ['lora'],
    error: 'null where upperLayers is set: adapters and upper layers exclude each other',
  })
  .refine(({ lora, execution }) => lora === null || execution.sharding === 'none', {
    path: ['execution', 'sharding'],
    error: 'none where lora is set: what adapters train needs no sharding',
  });

const rate = z.number().nullable();

export const rewardModel = defineStage({
  name: 'rewardModel',
  does: 'pairs to a reward model',
  kind: 'rewardModel',
  model: 'rewardModel',
  config: RewardModelConfig,
  settings: RewardModelConfig.prefault({}).describe('pairs to a reward model'),
  input: stageInput(
    {
      pairs: artifactInput('pairs').describe('preference pairs'),
      backbone: ModelInput.describe('the model that the training starts from'),
    },
    RewardModelConfig.prefault({}),
  ),
  example: {
    inputs: {
      pairs: { kind: 'pairs', path: '/data/pairs.jsonl' },
      backbone: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', revision: 'main' },
    },
    config: { learningRate: 1e-5, batchSize: 128 },
  },
  metrics: z.object({
    pairs: z.number(),
    heldOutAccuracy: rate,
    heldOutPairs: z.number(),
    heldOutQuestions: z.number(),
    steps: z.number(),
    /** Pairs that were left out because a conversation is longer than `maxLength`. */
    tooLong: z.number(),
    heldOutTooLong: z.number(),
    meanMargin: rate,
    /** Interval of the held-out accuracy by a bootstrap over questions, 95 %; of Wilson in version 0.1.0. */
    interval95: z.tuple([z.number(), z.number()]).nullable(),
    /** Held-out accuracy before the training. */
    baselineAccuracy: rate,
    calibration: z.array(z.object({ predicted: z.number(), observed: z.number(), count: z.number() })),
    /** Accuracy by the difference of pass rates. */
    byGap: z.array(z.object({ above: z.number(), atMost: z.number(), accuracy: z.number(), count: z.number() })),
    curve: z.array(z.object({ step: z.number(), loss: z.number() })),
    /** Mean and standard deviation of held-out scores, by which RL normalises. */
    scale: z.object({ mean: z.number(), std: z.number() }),
    environments: Environments,
  }),
  steps: {
    train: {
      queue: 'gpu',
      version: 3,
      code: [
        'activities/reward-model/',
        'activities/languages/',
        'activities/policy/prompt.ts',
        'workers/runtime/reward_model.py',
        'workers/runtime/adapters.py',
        'workers/runtime/micro_batches.py',
        'workers/runtime/conversation.py',
        'workers/runtime/models.py',
      ],
    },
  },
  // The prompt's version stands in the keys of all reward models; another wording raises the version of the step.
  semantics: (semantics) => ({ ...semantics, prompt: 1 }),
  estimate({ epochs, upperLayers: layers }, run) {
    const { backbone } = run.facts;
    const pairTokens = 2 * (MEASURED_RUN.promptTokens + run.answerTokens(run.programTokens));
    const trained = Math.round(run.pairs * epochs * pairTokens);
    return run.stage({
      rows: { pairs: run.pairs * epochs },
      tokens: { prompt: 0, generated: 0, trained },
      bytes: run.storedTrained(backbone, layers),
      // Held-out pairs are scored before and after.
      deviceSeconds:
        run.load + run.training(backbone, layers, trained) + 2 * run.forward(backbone, run.heldOutPairs * pairTokens),
      memoryBytes: run.memory(backbone, layers, 0),
    });
  },
});
