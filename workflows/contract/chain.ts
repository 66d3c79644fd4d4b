/**
 * The chain as data: which output, or which input of the experiment, feeds which input of which stage.
 *
 * `experiment`, `preview`, `datasetRefresh` and the laboratory all read it, so that a stage is wired in one place. Pure.
 */
import { z } from 'zod';
import type { Experiment } from './experiment.js';
import { readsRecorded } from './recorded.js';
import { StageInputs, STAGES, type StageConfig, type StageInput, type StageName } from './stages/index.js';

/** What an experiment is given, by its path in the experiment's input. */
export type Given =
  'seeds' | `models.${keyof Experiment['models']}` | `inputs.${keyof NonNullable<Experiment['inputs']>}`;

/** Where an input comes from: the output of a stage, or what the experiment is given. */
export type Source = StageName | Given;

/** One source, or several of which the first that exists counts. A stage that does not run has no output. */
type From<S extends string> = S | readonly [S, ...S[]];

/** A source that a setting of the stage decides about: the input is left out where `when` says no. */
interface Conditional<C, S extends string> {
  from: From<S>;
  when: (config: C) => boolean;
}

/** What feeds one input. A record feeds an input that holds several artifacts by their names. */
type Feed<C, S extends string> = From<S> | Conditional<C, S> | Readonly<Record<string, From<S>>>;

type Inputs<S extends StageName> = StageInput<S>['inputs'];

/** Every input of a stage with what feeds it, so that a wrong name and a forgotten input do not compile. */
type Feeds<S extends StageName> = {
  readonly [I in keyof Inputs<S>]-?: NonNullable<Inputs<S>[I]> extends Readonly<Record<string, object>>
    ? Readonly<Record<string, From<Source>>>
    : From<Source> | Conditional<StageConfig[S], Source>;
};

/** Names of the two policies that an experiment compares. */
export const POLICIES = { before: 'initial', after: 'trained' } as const;

export const CHAIN: { readonly [S in StageName]: Feeds<S> } = {
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
    policy: 'models.policy',
    samples: { from: 'inputs.samples', when: (config) => readsRecorded('sampling', config) },
  },
  preferences: { programs: 'sampling' },
  rewardModel: { pairs: 'preferences', backbone: ['models.rewardModel', 'models.policy'] },
  reinforcement: {
    questions: 'filtering',
    policy: 'models.policy',
    rewardModel: 'rewardModel',
    programs: { from: 'sampling', when: ({ questions }) => questions === 'hard' },
  },
  evaluation: {
    policies: { [POLICIES.before]: 'models.policy', [POLICIES.after]: 'reinforcement' },
    rewardModel: 'rewardModel',
    questions: 'filtering',
  },
};

/** What a stage can be fed with: references, or model sources that it imports itself. */
export interface Sources<V> {
  given: Partial<Record<Given, V>>;
  /** Outputs of the stages that have run. */
  outputs: Partial<Record<StageName, V>>;
}

/** Inputs of a stage by their names. */
export type ChainInputs<V> = Record<string, V | Record<string, V>>;

/**
 * The inputs of a stage, out of what the experiment was given and what the stages before it made. An optional input
 * whose source does not exist is left out.
 *
 * @throws Error naming the input and its sources where one that the stage needs does not exist.
 * @example
 * chainInputs('filtering', config, { given: {}, outputs: { synthesis: questions } }) // { questions }
 */
export function chainInputs<S extends StageName, V extends object>(
  stage: S,
  config: StageConfig[S],
  { given, outputs }: Sources<V>,
): ChainInputs<V> {
  const available: Partial<Record<Source, V>> = { ...given, ...outputs };
  const inputs = fed<StageConfig[S], Source, V>(CHAIN[stage], config, available);
  for (const [name, feed] of Object.entries<Feed<StageConfig[S], Source>>(CHAIN[stage]))
    if (!(name in inputs) && !isOptional(stage, name))
      throw new Error(`${stage}.${name} comes from ${sourcesOfFeed(feed).join(' or ')}, which does not exist yet`);
  return inputs;
}

/** The inputs that exist, by their names: see {@link chainInputs}. Knows no stage. */
export function fed<C, S extends string, V extends object>(
  feeds: Readonly<Record<string, Feed<C, S>>>,
  config: C,
  available: Readonly<Partial<Record<S, V>>>,
): ChainInputs<V> {
  const first = (from: From<S>): V | undefined =>
    alternatives(from)
      .map((source): V | undefined => available[source])
      .find((value) => value !== undefined);
  const inputs: ChainInputs<V> = {};
  for (const [name, feed] of Object.entries(feeds)) {
    if (isFrom(feed) || isConditional(feed)) {
      const value = isFrom(feed) ? first(feed) : feed.when(config) ? first(feed.from) : undefined;
      if (value !== undefined) inputs[name] = value;
    } else {
      const values: Record<string, V> = {};
      for (const [key, from] of Object.entries(feed)) {
        const value = first(from);
        if (value !== undefined) values[key] = value;
      }
      if (Object.keys(values).length > 0) inputs[name] = values;
    }
  }
  return inputs;
}

/** Names of one part of what an experiment is given, such as `policy` of `models.policy`. */
type PartOf<P extends string> = Given extends infer G ? (G extends `${P}.${infer N}` ? N : never) : never;

/** What an experiment is given, by the names that the chain uses. */
export function givenOf<V>({
  seeds,
  models = {},
  inputs = {},
}: {
  seeds?: V;
  models?: { [N in PartOf<'models'>]?: V | undefined };
  inputs?: { [N in PartOf<'inputs'>]?: V | undefined } | undefined;
}): Partial<Record<Given, V>> {
  const given: Record<Given, V | undefined> = {
    seeds,
    'models.policy': models.policy,
    'models.rewardModel': models.rewardModel,
    'inputs.replies': inputs.replies,
    'inputs.oracleSamples': inputs.oracleSamples,
    'inputs.samples': inputs.samples,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** The stages that an experiment runs, in order. One that is optional, and whose settings are absent, does not run. */
export function stagesOf(settings: Partial<Record<StageName, unknown>>): StageName[] {
  return STAGES.filter((stage) => settings[stage] !== undefined && settings[stage] !== null);
}

/** Every source of a stage, whatever its settings. */
export function sourcesOf(stage: StageName): Source[] {
  return Object.values<Feed<never, Source>>(CHAIN[stage]).flatMap(sourcesOfFeed);
}

function sourcesOfFeed<C, S extends string>(feed: Feed<C, S>): S[] {
  if (isFrom(feed)) return alternatives(feed);
  return isConditional(feed) ? alternatives(feed.from) : Object.values(feed).flatMap(alternatives);
}

function alternatives<S extends string>(from: From<S>): S[] {
  return typeof from === 'string' ? [from] : [...from];
}

function isFrom<C, S extends string>(feed: Feed<C, S>): feed is From<S> {
  return typeof feed === 'string' || Array.isArray(feed);
}

function isConditional<C, S extends string>(feed: Feed<C, S>): feed is Conditional<C, S> {
  return typeof feed === 'object' && 'when' in feed && typeof feed.when === 'function';
}

function isOptional(stage: StageName, input: string): boolean {
  const inputs: z.ZodRawShape = StageInputs[stage].shape.inputs.shape;
  return inputs[input] instanceof z.ZodOptional;
}
