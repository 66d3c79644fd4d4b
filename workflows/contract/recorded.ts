/**
 * Stored replies and samples: inputs that stand in for a model that would be asked.
 *
 * A setting of kind `recorded` says that a stage reads them. The stage's schema, the chain and the key read the table
 * below. Pure.
 */
import { type z } from 'zod';
import { artifactInput, type ArtifactRef } from './artifacts.js';

/** The stages that can read what is recorded. */
export type RecordingStage = 'synthesis' | 'filtering' | 'sampling' | 'hardening';

/**
 * For each stage: its input, the name that an experiment and a data set have for it, and the setting that reads it
 * where
 * its kind is `recorded`. Keys hold the reference under the same setting, so a moved place would change every key.
 */
const RECORDED = {
  synthesis: { input: 'replies', given: 'replies', setting: ['teacher'] },
  filtering: { input: 'samples', given: 'oracleSamples', setting: ['oracle', 'programs'] },
  sampling: { input: 'samples', given: 'samples', setting: ['sampler'] },
  hardening: { input: 'replies', given: 'proposals', setting: ['teacher'] },
} as const satisfies Record<
  RecordingStage,
  { input: 'replies' | 'samples'; given: string; setting: readonly string[] }
>;

const texts = 'a JSON Lines file of {seedId, text}, or an artifact';

/** Stored replies and samples by the names that an experiment has for them. */
export const RecordedInputs = {
  replies: artifactInput('replies')
    .optional()
    .describe(`stored replies of a teacher, for the teacher 'recorded': ${texts}; of a seed, the last one is taken`),
  oracleSamples: artifactInput('samples')
    .optional()
    .describe(`programs that somebody else had written, for an oracle of 'recorded' programs: ${texts}`),
  samples: artifactInput('samples')
    .optional()
    .describe(`programs that somebody else had written, for the sampler 'recorded': ${texts}`),
  proposals: artifactInput('replies')
    .optional()
    .describe(
      `stored replies that propose calls, for hardening's teacher 'recorded': ${texts}; of a seed, all are read`,
    ),
} as const;

/** The stage's own name for its recorded input, with the schema. */
export const RecordedInput = {
  synthesis: { replies: RecordedInputs.replies },
  filtering: { samples: RecordedInputs.oracleSamples },
  sampling: { samples: RecordedInputs.samples },
  hardening: { replies: RecordedInputs.proposals },
} as const;

/** Where a recorded input stands now, for who still has it among the settings. */
export const RECORDED_MOVED = {
  synthesis: { replies: 'inputs.replies' },
  filtering: { samples: 'inputs.oracleSamples (inputs.samples where the stage is started alone)' },
  sampling: { samples: 'inputs.samples' },
} as const satisfies Partial<Record<RecordingStage, Record<string, string>>>;

/** Whether a stage with these settings reads what is recorded, in the place of asking a model. */
export function readsRecorded(stage: RecordingStage, config: unknown): boolean {
  return valueAt(config, [...RECORDED[stage].setting, 'kind']) === 'recorded';
}

/**
 * A stage's configuration as its key has it: a recorded input stands under the setting that reads it. The configuration
 * of a stage that reads none comes back as it is.
 *
 * @example
 * keyedConfig('sampling', config, { samples: ref }).sampler // { kind: 'recorded', samples: ref }
 */
export function keyedConfig<C>(stage: string, config: C, inputs: Readonly<Record<string, ArtifactRef>>): C {
  if (!isRecording(stage) || !readsRecorded(stage, config)) return config;
  const { input, setting } = RECORDED[stage];
  return withMembers(config, setting, (members) => ({ ...members, [input]: inputs[input] }));
}

/** A stage's configuration without the reference that {@link keyedConfig} adds. Older plans in the store hold it. */
export function unkeyedConfig<C>(stage: string, config: C): C {
  if (!isRecording(stage) || !readsRecorded(stage, config)) return config;
  const { input, setting } = RECORDED[stage];
  return withMembers(config, setting, ({ [input]: _reference, ...members }) => members);
}

/** A stage inside a workflow's input: the paths of its configuration and of its recorded input. */
interface Place {
  stage: RecordingStage;
  config: readonly string[];
  input: readonly string[];
}

/** The place of a stage in the input of its own workflow. */
export function alone(stage: RecordingStage): Place {
  return { stage, config: ['config'], input: ['inputs', RECORDED[stage].input] };
}

/** The place of a stage in an input that holds the configurations of several stages under `path`. */
export function within(path: readonly string[], stage: RecordingStage): Place {
  return { stage, config: [...path, stage], input: ['inputs', RECORDED[stage].given] };
}

/** Adds the check that what stages read is given. */
export function withRecorded<S extends z.ZodType>(schema: S, places: readonly Place[]): S {
  return schema.superRefine(
    (value, context) => {
      for (const { stage, config, input } of places) {
        const setting = [...config, ...RECORDED[stage].setting];
        // Who has it among the settings is told so once, by the field that moved.
        const moved = context.issues.some(
          (issue) =>
            issue.code === 'unrecognized_keys' &&
            issue.path?.join('.') === setting.join('.') &&
            issue.keys?.includes(RECORDED[stage].input),
        );
        if (moved || valueAt(value, input) !== undefined || !readsRecorded(stage, valueAt(value, config))) continue;
        context.addIssue({
          code: 'custom',
          path: [...input],
          message: `needed, because ${setting.join('.')}.kind is 'recorded'`,
        });
      }
    },
    { when: ({ value }) => isObject(value) },
  );
}

function isRecording(stage: string): stage is RecordingStage {
  return stage in RECORDED;
}

/** A copy of a value in which the object at a path has other members. */
function withMembers<C>(
  value: C,
  path: readonly string[],
  change: (members: Record<string, unknown>) => Record<string, unknown>,
): C {
  const replaced = (object: unknown, [name, ...rest]: readonly string[]): Record<string, unknown> => {
    const members = isObject(object) ? object : {};
    return name === undefined ? change(members) : { ...members, [name]: replaced(members[name], rest) };
  };
  return replaced(value, path) as C;
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((at, name) => (isObject(at) ? at[name] : undefined), value);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
