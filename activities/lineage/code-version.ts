/** Which version of a step's code made an artifact. Its manifest does not say so, and its key proves it. Pure. */
import { STAGE_LIST, type ArtifactRef, type Manifest, type StepDefinition } from '../../workflows/contract/index.js';
import { stageKey } from '../artifacts/keys.js';
import { digestsOf } from '../artifacts/produce.js';

/** Versions that are tried of a step: no step has had as many. */
const MOST = 40;

/**
 * The version, or that of each step of a sharded stage, with which the key of a manifest follows from its stage,
 * configuration and inputs. Undefined where none does: another build made it, by other rules of keys.
 *
 * @example
 * codeVersionOf(manifest, inputs); // 2, or { plan: 1, judge: 2, seal: 1 }
 */
export function codeVersionOf(
  { stage, stageKey: key, kind, config: semantics }: Pick<Manifest, 'stage' | 'stageKey' | 'kind' | 'config'>,
  inputs: Readonly<Record<string, ArtifactRef>>,
): number | Record<string, number> | undefined {
  const digests = digestsOf(inputs);
  const isOf = (version: number | Record<string, number>): boolean =>
    stageKey({ stage, version, kind, semantics, inputs: digests }) === key;
  for (let version = 1; version <= MOST; version += 1) if (isOf(version)) return version;
  const definition = STAGE_LIST.find(({ name }) => name === stage);
  if (!definition) return undefined;
  const names = Object.keys(definition.steps);
  const inner = names.filter((name) => name !== 'plan' && name !== 'seal');
  // A stage goes through some of its steps: those of this run are not known here.
  for (const went of subsetsOf(inner))
    for (const version of versionsOf(definition.steps, ['plan', ...went, 'seal'])) if (isOf(version)) return version;
  return undefined;
}

function subsetsOf(names: readonly string[]): string[][] {
  return names.reduce<string[][]>((subsets, name) => subsets.flatMap((each) => [[...each, name], each]), [[]]);
}

/** Every combination of versions up to those of today. */
function versionsOf(
  steps: Readonly<Record<string, StepDefinition>>,
  names: readonly string[],
): Record<string, number>[] {
  return names.reduce<Record<string, number>[]>(
    (versions, name) =>
      versions.flatMap((each) =>
        Array.from({ length: steps[name]?.version ?? 1 }, (_, index) => ({ ...each, [name]: index + 1 })),
      ),
    [{}],
  );
}
