/**
 * The experiment configuration. Each stage's object holds its *semantics* (what the result is; part of the stage key)
 * and, under `execution`, how it is got (never part of a key): a change of execution repeats nothing.
 */
import { z } from 'zod';
import { artifactInput } from './artifacts.js';
import { Name, schemaField } from './fields.js';
import { ModelSource } from './models.js';
import { PRESETS } from './preset-list.js';
import { RecordedInputs, within, withRecorded } from './recorded.js';
import { StageSettings } from './stages/index.js';

const ExperimentFields = z.strictObject({
  name: Name.describe('name of the experiment, in reports and search attributes'),
  seeds: artifactInput('seeds').describe('seed programs: a JSON Lines file on the pipeline worker, or an artifact'),
  models: z
    .strictObject({
      policy: ModelSource.describe('the model that RL trains, and that samples programs where no other one is named'),
      sampler: ModelSource.optional().describe('the model that samples programs; absent: the policy'),
      rewardModel: ModelSource.optional().describe('backbone of the reward model; absent: the policy'),
    })
    .describe('the models'),
  inputs: z
    .strictObject(RecordedInputs)
    .optional()
    .describe("what stages of kind 'recorded' read in the place of asking a model"),
  stages: z.strictObject(StageSettings).prefault({}).describe('settings of each stage'),
  onFailure: z
    .enum(['park', 'fail'])
    .default('park')
    .describe('park: a stage that failed for good waits for retryStage; fail: the experiment fails'),
});

/** Settings with a gate that nothing gives a card to. */
const GatesWithoutCard = z.object({
  stages: z.object({
    rewardModelCard: z.undefined().optional(),
    reinforcement: z.object({ rewardModelGate: z.object({}) }),
  }),
});

/**
 * An experiment after the preset that it extends has been merged in.
 *
 * @example
 * ```ts
 * import { Experiment, expandPreset } from 'acecoder-temporal/contract';
 *
 * const experiment = Experiment.parse(expandPreset({ extends: 'quickstart', name: 'mine' }));
 * console.log(experiment.stages.sampling.samples);
 * ```
 */
const EvaluatesRecorded = z.object({
  stages: z.object({ evaluation: z.object({ sampler: z.object({ kind: z.literal('recorded') }) }) }),
});

export const Experiment = withRecorded(
  ExperimentFields,
  (['synthesis', 'filtering', 'sampling', 'hardening'] as const).map((stage) => within(['stages'], stage)),
)
  .superRefine(
    (_, context) => {
      context.addIssue({
        code: 'custom',
        path: ['stages', 'evaluation', 'sampler', 'kind'],
        message: "must be 'policy': samples of others are read where the stage evaluation is started alone",
        input: 'recorded',
      });
    },
    { when: ({ value }) => EvaluatesRecorded.safeParse(value).success },
  )
  .superRefine(
    (_, context) => {
      context.addIssue({
        code: 'custom',
        path: ['stages', 'rewardModelCard'],
        message: 'needed, because stages.reinforcement.rewardModelGate is set: {} makes the card with its defaults',
      });
    },
    { when: ({ value }) => GatesWithoutCard.safeParse(value).success },
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
