/**
 * Fine-tuning: the policy on its own programs that pass (rejection sampling, arXiv 2308.01825). It is the supervised
 * baseline that a result of RL is compared with: evaluation asks it next to the policy before and after RL.
 */
import { z } from 'zod';
import { artifactInput } from '../artifacts.js';
import { MEASURED_RUN } from '../estimation.js';
import { count, EXECUTION, hostsExecution, salt, seed, share, trainingExecution, upperLayers } from '../fields.js';
import { Environments } from '../metrics.js';
import { ModelInput } from '../models.js';
import { defineStage, stageInput } from '../stage-definition.js';

const FineTuningConfig = z.strictObject({
  minimumPassRate: share.default(1).describe('programs that pass at least this share of the test cases are trained on'),
  maximumPerQuestion: count
    .optional()
    .describe('different programs per question at most, the first ones; absent: all of them'),
  learningRate: z.number().positive().default(1e-5).describe('peak learning rate of Adam'),
  epochs: count.default(1).describe('passes over the programs'),
  batchSize: count.default(128).describe('programs of one optimizer step'),
  maxLength: count.default(2048).describe('programs with a longer conversation are left out and counted, in tokens'),
  upperLayers,
  warmupRatio: share.default(0.1).describe('share of the steps in which the learning rate rises'),
  schedule: z.enum(['cosine', 'constant']).default('cosine').describe('learning rate after the warm-up'),
  seed: seed.default(0),
  salt,
  execution: z
    .strictObject({ ...trainingExecution, ...hostsExecution })
    .prefault({})
    .describe(EXECUTION),
});

export const fineTuning = defineStage({
  name: 'fineTuning',
  does: 'programs that pass to a fine-tuned policy',
  kind: 'policy',
  model: 'fineTuned',
  config: FineTuningConfig,
  settings: FineTuningConfig.optional().describe(
    'programs that pass to a fine-tuned policy, which evaluation compares with the others; absent: the stage ' +
      'does not run',
  ),
  input: stageInput(
    {
      programs: artifactInput('programs').describe('programs with pass rates'),
      policy: ModelInput.describe('the model that is trained'),
    },
    FineTuningConfig.prefault({}),
  ),
  example: {
    inputs: {
      programs: { kind: 'programs', path: '/data/programs.jsonl' },
      policy: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', revision: 'main' },
    },
    config: { learningRate: 1e-5, epochs: 2 },
  },
  metrics: z.object({
    /** Different programs that pass, and the questions that have one. */
    programs: z.number(),
    questions: z.number(),
    /** Programs that were trained on, and those left out because their conversation is longer than `maxLength`. */
    trained: z.number(),
    tooLong: z.number(),
    steps: z.number(),
    /** Completion tokens of one epoch. */
    tokens: z.number(),
    curve: z.array(z.object({ step: z.number(), loss: z.number() })),
    environments: Environments,
  }),
  steps: {
    train: {
      queue: 'gpu',
      version: 3,
      code: [
        'activities/fine-tuning/',
        'activities/policy/prompt.ts',
        'workers/runtime/fine_tuning.py',
        'workers/runtime/log_probabilities.py',
        'workers/runtime/micro_batches.py',
        'workers/runtime/output_head.py',
        'workers/runtime/packing.py',
        'workers/runtime/conversation.py',
        'workers/runtime/training.py',
        'workers/runtime/models.py',
      ],
    },
  },
  estimate({ epochs, upperLayers: layers, maximumPerQuestion }, run) {
    const { policy } = run.facts;
    // How many programs pass was never measured by itself: as many as the best bound, all that are sampled.
    const programs = run.sampledTrain * Math.min(run.samples, maximumPerQuestion ?? run.samples);
    const tokens = Math.round(programs * epochs * (MEASURED_RUN.promptTokens + run.answerTokens(run.programTokens)));
    run.policies += 1;
    return run.stage({
      rows: { programs: programs * epochs },
      tokens: { prompt: 0, generated: 0, trained: tokens },
      bytes: run.storedTrained(policy, layers),
      deviceSeconds: run.load + run.training(policy, layers, tokens),
      memoryBytes: run.memory(policy, layers, 0),
      extrapolated: ['fine-tuning: as if every sampled program of a train question passed, so at most as long as told'],
    });
  },
});
