/**
 * What the chain of stages says: which output, or which input of the experiment, feeds which input of which stage.
 *
 * `experiment`, `preview`, `datasetRefresh` and the laboratory all read it, so that a stage is wired in one place.
 * Pure.
 */
import { z } from 'zod';
import type { Conditional, Feed, From, Given } from './feeds.js';
import { CHAIN, StageInputs, STAGES, type StageConfig, type StageName } from './stages/index.js';

/** Where an input comes from: the output of a stage, or what the experiment is given. */
export type Source = StageName | Given;

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
    'models.sampler': models.sampler,
    'models.rewardModel': models.rewardModel,
    'inputs.replies': inputs.replies,
    'inputs.oracleSamples': inputs.oracleSamples,
    'inputs.samples': inputs.samples,
    'inputs.proposals': inputs.proposals,
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

/**
 * The sources that a stage takes where these exist: of alternatives, the first of them. Settings that leave an input out
 * are not asked.
 *
 * @example
 * usedSources('sampling', ['filtering', 'models.policy', 'models.sampler']); // ['filtering', 'models.sampler']
 */
export function usedSources(stage: StageName, existing: readonly Source[]): Source[] {
  const taken = (from: From<Source>): Source[] =>
    alternatives(from)
      .filter((source) => existing.includes(source))
      .slice(0, 1);
  return Object.values<Feed<never, Source>>(CHAIN[stage]).flatMap((feed) =>
    isFrom(feed) ? taken(feed) : isConditional(feed) ? taken(feed.from) : Object.values(feed).flatMap(taken),
  );
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
