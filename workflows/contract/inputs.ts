/** Inputs of the workflows, checked: the one way from a JSON value to a valid input or to all of its mistakes. */
import { z } from 'zod';
import { artifactInput } from './artifacts.js';
import { CompareInput } from './compare.js';
import { Experiment, ExperimentFile } from './experiment.js';
import { Name, schemaField } from './fields.js';
import { asksForFork } from './fork.js';
import { describeMistakes, mistake, mistakesOf, type Mistake } from './mistakes.js';
import { expandPreset } from './presets.js';
import { RecordedInputs, within, withRecorded } from './recorded.js';
import { ReverifyInput } from './reverify.js';
import { StageInputs, StageSettings } from './stages/index.js';
import { SweepInput } from './sweep.js';

const DatasetRefreshInput = withRecorded(
  z.strictObject({
    ...schemaField,
    name: Name.describe('name of the data set'),
    seeds: artifactInput('seeds').describe('seed programs; those that no version has seen become the next version'),
    inputs: z
      .strictObject({ replies: RecordedInputs.replies, oracleSamples: RecordedInputs.oracleSamples })
      .optional()
      .describe("what stages of kind 'recorded' read in the place of asking a model"),
    synthesis: StageSettings.synthesis,
    filtering: StageSettings.filtering,
  }),
  (['synthesis', 'filtering'] as const).map((stage) => within([], stage)),
);

/** Formats that are written, with the artifacts that their rows come from. */
export const DatasetExportInput = z.discriminatedUnion('format', [
  z.strictObject({
    ...schemaField,
    format: z.literal('aceCode87K').describe('Parquet with the columns of AceCode-87K'),
    name: Name.describe('name of the data set and of its folder'),
    inputs: z
      .strictObject({
        questions: artifactInput('filteredQuestions').describe('questions with kept test cases'),
        programs: artifactInput('programs').optional().describe('their sampled programs; absent: no inferences'),
      })
      .describe('what is exported'),
    model: z.string().min(1).default('policy').describe('name of the model that sampled the programs'),
  }),
  z.strictObject({
    ...schemaField,
    format: z.literal('aceCodePair300K').describe('Parquet with the columns of AceCodePair-300K'),
    name: Name.describe('name of the data set and of its folder'),
    inputs: z.strictObject({ pairs: artifactInput('pairs').describe('preference pairs') }).describe('what is exported'),
  }),
]);
export type DatasetExportInput = z.infer<typeof DatasetExportInput>;

const GarbageCollectionInput = z
  .strictObject({
    minimumAgeHours: z
      .number()
      .nonnegative()
      .default(24)
      .describe('younger objects are spared, in hours; less than 12 is safe only while nothing else runs'),
    checkpointDays: z
      .number()
      .nonnegative()
      .default(30)
      .describe('checkpoints of a training that stored none for so long are removed, in days'),
    dryRun: z.boolean().default(true).describe('true: only count'),
  })
  .prefault({});

/** The schema of each workflow's input. */
export const WorkflowInputs = {
  experiment: Experiment,
  sweep: SweepInput,
  ...StageInputs,
  datasetRefresh: DatasetRefreshInput,
  datasetExport: DatasetExportInput,
  reverify: ReverifyInput,
  compare: CompareInput,
  garbageCollection: GarbageCollectionInput,
} as const;
export type WorkflowName = keyof typeof WorkflowInputs;
export type WorkflowInput<W extends WorkflowName> = z.infer<(typeof WorkflowInputs)[W]>;

/**
 * The valid input of a workflow, with defaults and an experiment's preset filled in, or every mistake of it.
 *
 * @example
 * ```ts
 * import { checkInput, refusalText } from 'acecoder-temporal/contract';
 *
 * const { data, mistakes } = checkInput('experiment', { extends: 'quickstart', name: 'mine' });
 * if (mistakes) console.error(refusalText('experiment', mistakes));
 * else console.log(data.name);
 * ```
 */
export function checkInput<W extends WorkflowName>(
  workflow: W,
  input: unknown,
): { data: WorkflowInput<W>; mistakes?: undefined } | { mistakes: Mistake[]; data?: undefined } {
  if (workflow === 'experiment' && asksForFork(input))
    return { mistakes: [mistake('fork', input, 'only `experiment` itself forks, because it looks up the other one')] };
  const { schema, value, mistakes } =
    workflow === 'experiment' ? withPreset(input) : { schema: WorkflowInputs[workflow], value: input, mistakes: [] };
  const parsed = schema.safeParse(value);
  const all = parsed.success ? mistakes : [...mistakes, ...mistakesOf(parsed.error, value, schema)];
  return all.length > 0 ? { mistakes: all } : { data: parsed.data as WorkflowInput<W> };
}

/**
 * The sentence with which a workflow refuses its input: every mistake on a line of its own.
 *
 * @example
 * ```ts
 * import { checkInput, refusalText } from 'acecoder-temporal/contract';
 *
 * const { mistakes = [] } = checkInput('synthesis', {});
 * console.error(refusalText('synthesis', mistakes));
 * ```
 */
export function refusalText(workflow: WorkflowName, mistakes: readonly Mistake[]): string {
  return (
    `the input of ${workflow} has ${mistakes.length} ` +
    `${mistakes.length === 1 ? 'mistake' : 'mistakes'}\n${describeMistakes(mistakes)}`
  );
}

/** An experiment with its preset merged in. What an unknown preset would have given is not asked of the user too. */
function withPreset(input: unknown): { schema: z.ZodType; value: unknown; mistakes: Mistake[] } {
  const known = z.looseObject({ extends: ExperimentFile.shape.extends }).safeParse(input);
  if (known.success || typeof input !== 'object' || input === null || Array.isArray(input))
    return { schema: Experiment, value: expandPreset(input), mistakes: [] };
  const { extends: _extends, ...rest } = input as Record<string, unknown>;
  return { schema: ExperimentFile, value: rest, mistakes: mistakesOf(known.error, input, ExperimentFile) };
}
