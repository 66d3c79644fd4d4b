/** The stages of an experiment, in the order in which they run. Each stage is defined in a file of its own. */
import type { z } from 'zod';
import { POLICIES, type Feeds, type Given } from '../feeds.js';
import { readsRecorded } from '../recorded.js';
import { evaluation } from './evaluation.js';
import { filtering } from './filtering.js';
import { fineTuning } from './fine-tuning.js';
import { hardening } from './hardening.js';
import { preferences } from './preferences.js';
import { reinforcement, usesVerifiers } from './reinforcement.js';
import { rewardModel } from './reward-model.js';
import { rewardModelCard } from './reward-model-card.js';
import { sampling } from './sampling.js';
import { synthesis } from './synthesis.js';

export const STAGE_LIST = [
  synthesis,
  filtering,
  sampling,
  hardening,
  preferences,
  rewardModel,
  rewardModelCard,
  fineTuning,
  reinforcement,
  evaluation,
] as const;

type Names<L extends readonly { name: string }[]> = { -readonly [I in keyof L]: L[I]['name'] };
type Definition = (typeof STAGE_LIST)[number];

/**
 * Names of the stages, in order.
 *
 * @example
 * ```ts
 * import { STAGES } from 'acecoder-temporal/contract';
 *
 * console.log(STAGES.join(' -> '));
 * ```
 */
export const STAGES = STAGE_LIST.map(({ name }) => name) as Names<typeof STAGE_LIST>;
export type StageName = Definition['name'];

/** The stages by name. */
export const STAGE = Object.fromEntries(STAGE_LIST.map((stage) => [stage.name, stage])) as {
  [D in Definition as D['name']]: D;
};

/** The stages that train a model, with its name in the report, the policy first. */
export const TRAINED = [...STAGE_LIST]
  .reverse()
  .flatMap((stage) =>
    'model' in stage && stage.model !== undefined ? [{ name: stage.name, model: stage.model }] : [],
  );

/** Settings of each stage. */
export const StageConfigs = Object.fromEntries(STAGE_LIST.map(({ name, config }) => [name, config])) as {
  [D in Definition as D['name']]: D['config'];
};
export type StageConfig = { [S in StageName]: z.infer<(typeof STAGE)[S]['config']> };

/** What stands for each stage in an experiment. */
export const StageSettings = Object.fromEntries(STAGE_LIST.map(({ name, settings }) => [name, settings])) as {
  [D in Definition as D['name']]: D['settings'];
};

/** What each stage's workflow takes: one JSON object, so that it can be started alone. */
export const StageInputs = Object.fromEntries(STAGE_LIST.map(({ name, input }) => [name, input])) as {
  [D in Definition as D['name']]: D['input'];
};
export type StageInput<S extends StageName> = z.infer<(typeof STAGE)[S]['input']>;

/** Metrics of each stage's artifact. */
export type StageMetrics<S extends StageName> = z.infer<(typeof STAGE)[S]['metrics']>;

/** Names of a stage's steps. */
export type StepName<S extends StageName> = keyof (typeof STAGE)[S]['steps'] & string;

/** Stages that are one training. */
export type TrainingStageName = { [S in StageName]: StepName<S> extends 'train' ? S : never }[StageName];

/** Stages that can ask an endpoint for replies, in the step `request` of their shards. */
export type AskingStage = { [S in StageName]: 'request' extends StepName<S> ? S : never }[StageName];

/** Whether a stage is one that can ask an endpoint. */
export function canAsk(stage: StageName): stage is AskingStage {
  return 'request' in STAGE[stage].steps;
}

/** Stages with shards. */
export type ShardedStageName = { [S in StageName]: 'seal' extends StepName<S> ? S : never }[StageName];

/** The chain: what feeds each input of each stage. It is read by `chain.ts`. */
export const CHAIN: { readonly [S in StageName]: Feeds<StageInput<S>['inputs'], StageConfig[S], StageName | Given> } = {
  synthesis: {
    seeds: 'seeds',
    replies: { from: 'inputs.replies', when: (config) => readsRecorded('synthesis', config) },
  },
  filtering: {
    questions: 'synthesis',
    samples: { from: 'inputs.oracleSamples', when: (config) => readsRecorded('filtering', config) },
  },
  sampling: {
    questions: 'filtering',
    policy: ['models.sampler', 'models.policy'],
    samples: { from: 'inputs.samples', when: (config) => readsRecorded('sampling', config) },
  },
  hardening: {
    questions: 'filtering',
    programs: 'sampling',
    replies: { from: 'inputs.proposals', when: (config) => readsRecorded('hardening', config) },
  },
  preferences: { programs: ['hardening', 'sampling'] },
  rewardModel: { pairs: 'preferences', backbone: ['models.rewardModel', 'models.policy'] },
  rewardModelCard: {
    rewardModel: 'rewardModel',
    questions: 'filtering',
    programs: ['hardening', 'sampling'],
    hardened: 'hardening',
  },
  fineTuning: { programs: ['hardening', 'sampling'], policy: 'models.policy' },
  reinforcement: {
    questions: 'filtering',
    policy: 'models.policy',
    rewardModel: 'rewardModel',
    programs: {
      from: ['hardening', 'sampling'],
      when: ({ questions, curriculum }) => questions === 'hard' || curriculum !== undefined,
    },
    hardened: 'hardening',
    verifiers: { from: 'preferences', when: usesVerifiers },
    rewardModelCard: { from: 'rewardModelCard', when: ({ rewardModelGate }) => rewardModelGate !== undefined },
  },
  evaluation: {
    policies: {
      [POLICIES.before]: 'models.policy',
      [POLICIES.fineTuned]: 'fineTuning',
      [POLICIES.after]: 'reinforcement',
    },
    // Samples of others are read where the stage is started alone.
    samples: {},
    rewardModel: 'rewardModel',
    questions: 'filtering',
  },
};

/**
 * What a manifest's metrics say, by the schema of its stage.
 *
 * @throws ZodError naming a figure that is missing.
 * @example
 * metricsOf('sampling', manifest).meanPassRate;
 */
export function metricsOf<S extends StageName>(stage: S, { metrics }: { metrics: unknown }): StageMetrics<S> {
  return STAGE[stage].metrics.parse(metrics) as StageMetrics<S>;
}
