/** How inputs of stages are fed: the types of the chain, which stands with the list of stages. */

/** What an experiment is given, by its path in the experiment's input. */
export type Given =
  | 'seeds'
  | 'models.policy'
  | 'models.sampler'
  | 'models.rewardModel'
  | 'inputs.replies'
  | 'inputs.oracleSamples'
  | 'inputs.samples'
  | 'inputs.proposals';

/** One source, or several of which the first that exists counts. A stage that does not run has no output. */
export type From<S extends string> = S | readonly [S, ...S[]];

/** A source that a setting of the stage decides about: the input is left out where `when` says no. */
export interface Conditional<C, S extends string> {
  from: From<S>;
  when: (config: C) => boolean;
}

/** What feeds one input. A record feeds an input that holds several artifacts by their names. */
export type Feed<C, S extends string> = From<S> | Conditional<C, S> | Readonly<Record<string, From<S>>>;

/** Every input of a stage with what feeds it, so that a wrong name and a forgotten input do not compile. */
export type Feeds<Inputs, Config, S extends string> = {
  readonly [I in keyof Inputs]-?: NonNullable<Inputs[I]> extends Readonly<Record<string, object>>
    ? Readonly<Record<string, From<S>>>
    : From<S> | Conditional<Config, S>;
};

/** Names of the policies that an experiment compares. */
export const POLICIES = { before: 'initial', fineTuned: 'fineTuned', after: 'trained' } as const;
