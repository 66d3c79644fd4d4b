/** Inputs and outputs of the stages, and how an experiment tells its state. */
import { z } from 'zod';
import { artifactInput, artifactRef, type ArtifactRef, type Metrics } from './artifacts.js';
import { ModelInput, Name, schemaField, StageConfigs, type StageConfig } from './experiment.js';
import { STAGES, type StageName } from './names.js';
import { alone, RecordedInput, withRecorded } from './recorded.js';

const stageInput = <I extends z.ZodRawShape, C extends z.ZodType>(inputs: I, config: C) =>
  z.strictObject({
    ...schemaField,
    inputs: z.strictObject(inputs).describe('what the stage works on'),
    config: config.describe('settings of the stage'),
  });

const questions = artifactInput('filteredQuestions').describe('filtered questions');
const rewardModel = artifactRef('rewardModel').describe('a trained reward model');

/** What the checks over several fields read; they are made also where other fields are wrong, so that all mistakes are told together. */
const REWARDED = z.object({
  inputs: z.looseObject({}),
  config: z.object({ questions: z.string(), reward: z.object({ rewardModelWeight: z.number() }) }),
});
const SAMPLED = z.object({ inputs: z.looseObject({}), config: z.object({ sampler: z.object({ kind: z.string() }) }) });
const EVALUATED = z.object({
  inputs: z.looseObject({}),
  config: z.object({ benchmarks: z.array(z.object({ kind: z.string() })) }),
});

/** What each stage workflow takes: one JSON object, so that it can be started alone. */
export const StageInputs = {
  synthesis: withRecorded(
    stageInput(
      { seeds: artifactInput('seeds').describe('seed programs'), ...RecordedInput.synthesis },
      StageConfigs.synthesis.prefault({}),
    ),
    [alone('synthesis')],
  ),
  filtering: withRecorded(
    stageInput(
      { questions: artifactInput('questions').describe('questions with test cases'), ...RecordedInput.filtering },
      StageConfigs.filtering.prefault({}),
    ),
    [alone('filtering')],
  ),
  sampling: withRecorded(
    stageInput(
      {
        questions,
        policy: ModelInput.optional().describe('the model that writes programs, for the sampler policy'),
        ...RecordedInput.sampling,
      },
      StageConfigs.sampling.prefault({}),
    ),
    [alone('sampling')],
  ).superRefine(
    ({ inputs, config }, context) => {
      if (config.sampler.kind === 'policy' && inputs.policy === undefined)
        context.addIssue({
          code: 'custom',
          path: ['inputs', 'policy'],
          message: "needed, because config.sampler is 'policy'",
        });
    },
    { when: ({ value }) => SAMPLED.safeParse(value).success },
  ),
  preferences: stageInput(
    { programs: artifactInput('programs').describe('programs with pass rates') },
    StageConfigs.preferences.prefault({}),
  ),
  rewardModel: stageInput(
    {
      pairs: artifactInput('pairs').describe('preference pairs'),
      backbone: ModelInput.describe('the model that the training starts from'),
    },
    StageConfigs.rewardModel.prefault({}),
  ),
  reinforcement: stageInput(
    {
      questions,
      policy: ModelInput.describe('the model that is trained'),
      rewardModel: rewardModel.optional(),
      programs: artifactInput('programs').optional().describe("programs with pass rates, for config.questions 'hard'"),
    },
    StageConfigs.reinforcement.prefault({}),
  ).superRefine(
    ({ inputs, config }, context) => {
      if (config.reward.rewardModelWeight > 0 && inputs.rewardModel === undefined) {
        context.addIssue({
          code: 'custom',
          path: ['inputs', 'rewardModel'],
          message: 'needed, because config.reward.rewardModelWeight is above 0',
        });
      }
      if (config.questions === 'hard' && inputs['programs'] === undefined) {
        context.addIssue({
          code: 'custom',
          path: ['inputs', 'programs'],
          message: "needed, because config.questions is 'hard'",
        });
      }
    },
    { when: ({ value }) => REWARDED.safeParse(value).success },
  ),
  evaluation: stageInput(
    {
      policies: z
        .record(Name, ModelInput)
        .refine((policies) => Object.keys(policies).length > 0, { error: 'at least one policy, by its name' })
        .describe('models to evaluate, by the names that they have in the results'),
      rewardModel: rewardModel.optional(),
      questions: questions.optional(),
    },
    StageConfigs.evaluation.prefault({}),
  ).superRefine(
    ({ inputs, config }, context) => {
      if (inputs.questions === undefined && config.benchmarks.some(({ kind }) => kind === 'heldOut')) {
        context.addIssue({
          code: 'custom',
          path: ['inputs', 'questions'],
          message: "needed for the benchmark 'heldOut': the filtered questions",
        });
      }
    },
    { when: ({ value }) => EVALUATED.safeParse(value).success },
  ),
} as const;
export type StageInput<S extends StageName> = z.infer<(typeof StageInputs)[S]>;

/** What a stage workflow returns. `rounds` are the policies of an RL stage, oldest first. */
export interface StageResult {
  ref: ArtifactRef;
  reused: boolean;
  by?: string;
  metrics: Metrics;
  rounds?: ArtifactRef[];
}

export const StageState = z.enum([
  'waiting',
  'running',
  'paused',
  'parked',
  'done',
  'abandoned',
  'cancelled',
  'failed',
]);
export type StageState = z.infer<typeof StageState>;

/** Progress of a stage in its own unit (shards, rounds). */
export interface StageProgress {
  done: number;
  total: number;
  unit: string;
  message?: string;
  /** What the stage's replies cost so far, in US dollars; absent where nothing is paid. */
  costUsd?: number;
}

export interface StageStatus {
  name: StageName;
  state: StageState;
  progress?: StageProgress;
  startedAt?: string;
  seconds?: number;
  reused?: boolean;
  /** Workflow whose work was reused. */
  by?: string;
  artifact?: ArtifactRef;
  metrics?: Metrics;
  /** Event to reset the experiment to, so that this stage runs again. */
  resetEventId?: number;
  /** Why the stage is parked, and what can be done. */
  failure?: { type: string; message: string; advice: string };
}

/** The first `count` numbers of a stage's metrics as text. */
export function figuresOf(metrics: Metrics, count: number): string {
  return Object.entries(metrics)
    .filter((entry): entry is [string, number] => typeof entry[1] === 'number')
    .slice(0, count)
    .map(([name, value]) => `${name} ${Number.isInteger(value) ? value : value.toFixed(3)}`)
    .join(', ');
}

export interface ExperimentStatus {
  experiment: string;
  state: 'running' | 'paused' | 'parked' | 'done' | 'abandoned' | 'cancelled' | 'failed';
  stages: StageStatus[];
  teacher: StageConfig['synthesis']['teacher']['kind'];
  /** What the teacher's replies cost: so far, at most, and, once the seeds are counted, by estimate. US dollars. */
  cost: { usd: number; budgetUsd?: number; estimatedUsd?: number };
  report?: { html: string; summary: string };
}

/** Names of the messages that `experiment` and the stages take. */
export const MESSAGES = {
  status: 'status',
  retryStage: 'retryStage',
  abandon: 'abandon',
  pause: 'pause',
  resume: 'resume',
  stageProgress: 'stageProgress',
} as const;

export const RetryStage = z.strictObject({
  stage: z.enum(STAGES),
  execution: z.record(z.string(), z.json()).optional(),
  semantics: z.record(z.string(), z.json()).optional(),
  allowRepeat: z.boolean().optional(),
});
export type RetryStage = z.infer<typeof RetryStage>;

export const Abandon = z.strictObject({ reason: z.string().min(1) });
export type Abandon = z.infer<typeof Abandon>;
