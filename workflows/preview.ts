import { ApplicationFailure, setCurrentDetails, workflowInfo } from '@temporalio/workflow';
import { chainInputs, givenOf, resultText, type ArtifactRef, type StageName } from './contract/index.js';
import { call } from './lib/activities.js';
import { lookupsOf, parseInput, resolveInputs } from './lib/inputs.js';
import { resultMemo } from './lib/result-memo.js';
import { stageOrNothing } from './lib/stage-child.js';

export interface PreviewResult {
  /** The page in the store. */
  page: ArtifactRef;
  /** The command that gets it, without a worker. */
  fetch: string;
  /** Its path on a worker that keeps results on its disk. */
  html?: string;
  seeds: number;
}

/** Seeds of a preview unless told. */
const FIRST = 5;

/** The stages of the data path. */
const PREVIEWED = ['synthesis', 'filtering', 'sampling', 'preferences'] as const;

/**
 * Runs the first seeds of an experiment through its data path, and writes a page to read before the rest is paid for.
 *
 * The input is the experiment's own. The experiment later finds the replies of the preview in the store. `prompts` are
 * other versions of the teacher's prompt: the page shows what each makes of the same seeds, next to the experiment's.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes, or where `first` is no number of seeds.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { preview } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { page, fetch } = await client.workflow.execute<typeof preview>('preview', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'my-first-preview',
 *   args: [
 *     { extends: 'quickstart', name: 'my-first', seeds: { kind: 'seeds', path: '/data/seeds.jsonl' } },
 *     { first: 10 },
 *   ],
 * });
 * ```
 */
export async function preview(
  input: unknown,
  { first = FIRST, prompts = [] }: { first?: number; prompts?: readonly string[] } = {},
): Promise<PreviewResult> {
  const { name, seeds: given, models, inputs: recorded = {}, stages } = parseInput('experiment', input);
  if (!Number.isInteger(first) || first < 1)
    throw ApplicationFailure.nonRetryable(
      `first is ${JSON.stringify(first)}; it is a number of seeds from 1 on`,
      'InvalidExperiment',
    );
  const { teacher } = stages.synthesis;
  if (prompts.length > 0 && !('prompt' in teacher))
    throw ApplicationFailure.nonRetryable(
      `prompts is ${JSON.stringify(prompts)}, and the teacher '${teacher.kind}' has no prompt`,
      'InvalidExperiment',
    );
  const {
    seeds: all,
    models: sources,
    inputs,
  } = await resolveInputs(
    'experiment',
    { seeds: given, models: { policy: models.sampler ?? models.policy }, inputs: recorded },
    {
      at: '',
      deviceClass: stages.sampling.execution.deviceClass,
      ...lookupsOf({ synthesis: stages.synthesis, sampling: stages.sampling }, (stage) => `stages.${stage}.`),
    },
  );
  const { ref: seeds } = await call(
    'preview.seeds',
    { summary: `take the first ${first} seeds` },
    { seeds: all, first },
  );
  const outputs: Partial<Record<StageName, ArtifactRef>> = {};
  for (const stage of PREVIEWED) {
    // Without a question that the filter kept there is nothing to sample.
    if (stage === 'sampling' && !outputs.filtering?.rows) break;
    setCurrentDetails(`Preview of **${name}**, ${seeds.rows ?? first} seeds: ${stage}`);
    const fed = chainInputs(stage, stages[stage], { given: givenOf({ seeds, models: sources, inputs }), outputs });
    const input = { inputs: fed, config: stages[stage] };
    const { ref } = await stageOrNothing(stage, input, `${stage} of a preview of ${name}`);
    outputs[stage] = ref;
  }
  const { synthesis: questions, filtering: filtered, sampling: programs, preferences: pairs } = outputs;
  const compared: { prompt: string; questions: ArtifactRef }[] = [];
  for (const prompt of prompts) {
    setCurrentDetails(`Preview of **${name}**, ${seeds.rows ?? first} seeds: synthesis with the prompt ${prompt}`);
    const config = { ...stages.synthesis, teacher: { ...teacher, prompt } };
    const fed = chainInputs('synthesis', stages.synthesis, {
      given: givenOf({ seeds, models: sources, inputs }),
      outputs: {},
    });
    const { ref } = await stageOrNothing(
      'synthesis',
      { inputs: fed, config },
      `synthesis with the prompt ${prompt} of a preview of ${name}`,
      `synthesis-${prompt}`,
    );
    compared.push({ prompt, questions: ref });
  }
  const page = await call(
    'preview.page',
    { summary: 'write the page' },
    {
      name,
      seeds,
      questions: questions!,
      filtered: filtered!,
      ...(programs ? { programs } : {}),
      ...(pairs ? { pairs } : {}),
      ...(compared.length > 0 && 'prompt' in teacher ? { prompt: teacher.prompt, compared } : {}),
    },
  );
  const { workflowId } = workflowInfo();
  const { artifact, html } = page;
  setCurrentDetails(resultText(`Preview of **${name}**`, page, workflowId, html));
  return {
    page: artifact,
    fetch: resultMemo('page', artifact),
    ...(html === undefined ? {} : { html }),
    seeds: seeds.rows ?? first,
  };
}
