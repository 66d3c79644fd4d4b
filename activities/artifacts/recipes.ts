/** Recipes of what stages make: the one place where the version of a step and the settings that it depends on meet. */
import {
  semanticsOf,
  shardedVersion,
  type ArtifactKind,
  type ArtifactRef,
  type ArtifactStep,
  type StageAnswers,
  type StepDefinition,
} from '../../workflows/contract/index.js';
import type { Recipe } from './keys.js';
import { digestsOf } from './produce.js';

interface KeyedStage {
  name: string;
  kind: ArtifactKind;
  steps: Record<string, StepDefinition>;
  withSettings: (settings: unknown) => StageAnswers;
}

/** What the artifact of a stage depends on, where the stage makes one: by shards, or by its only step. */
export function stageRecipe(stage: KeyedStage, config: unknown, inputs: Record<string, ArtifactRef>): Recipe {
  const answers = stage.withSettings(config);
  const [only, ...others] = Object.values(stage.steps);
  return {
    stage: stage.name,
    version: others.length === 0 ? only!.version : shardedVersion(stage.steps, answers.shardSteps()),
    kind: stage.kind,
    semantics: answers.semantics(inputs),
    inputs: digestsOf(inputs),
  };
}

/**
 * What the artifact of one step depends on, where each step makes one; `more` is what names this one among its like.
 */
export function stepRecipe<Config extends { execution: unknown }>(
  stage: string,
  name: string,
  { version, kind, semantics }: ArtifactStep<Config>,
  config: Config,
  inputs: Record<string, ArtifactRef>,
  more: object,
): Recipe {
  return {
    stage: `${stage}.${name}`,
    version,
    kind,
    semantics: { ...more, ...semantics(semanticsOf(config)) },
    inputs: digestsOf(inputs),
  };
}
