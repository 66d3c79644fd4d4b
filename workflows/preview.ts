import { ApplicationFailure, executeChild, setCurrentDetails, workflowInfo } from '@temporalio/workflow';
import type { StageName, StageResult } from './contract/index.js';
import { call } from './lib/activities.js';
import { parseInput, resolveInputs } from './lib/inputs.js';
import { benchmarksOf } from './lib/stage.js';

export interface PreviewResult {
  /** Path of the page on the pipeline worker. */
  html: string;
  seeds: number;
}

/** Seeds of a preview unless told. */
const FIRST = 5;

/**
 * The first seeds of an experiment through its whole data path, as a page to read before the rest is paid for. It takes the
 * experiment's own file; replies that it asked for are found again by the experiment.
 */
export async function preview(input: unknown, { first = FIRST }: { first?: number } = {}): Promise<PreviewResult> {
  const { name, seeds: given, models, stages } = parseInput('experiment', input);
  if (!Number.isInteger(first) || first < 1)
    throw ApplicationFailure.nonRetryable(
      `first is ${JSON.stringify(first)}; it is a number of seeds from 1 on`,
      'InvalidExperiment',
    );
  const {
    seeds: all,
    models: { policy },
  } = await resolveInputs(
    'experiment',
    { seeds: given, models: { policy: models.policy } },
    {
      at: '',
      deviceClass: stages.sampling.execution.deviceClass,
      benchmarks: benchmarksOf(stages.synthesis, 'stages.synthesis.'),
    },
  );
  const { ref: seeds } = await call(
    'preview.seeds',
    { summary: `take the first ${first} seeds` },
    { seeds: all, first },
  );
  const stage = async (stageName: StageName, inputs: Record<string, unknown>): Promise<StageResult> => {
    setCurrentDetails(`Preview of **${name}**, ${seeds.rows ?? first} seeds: ${stageName}`);
    return executeChild(stageName, {
      workflowId: `${workflowInfo().workflowId}/${stageName}`,
      args: [{ inputs, config: stages[stageName] }],
      staticSummary: `${stageName} of a preview of ${name}`,
    }) as Promise<StageResult>;
  };
  const questions = await stage('synthesis', { seeds });
  const filtered = await stage('filtering', { questions: questions.ref });
  const programs = filtered.ref.rows ? await stage('sampling', { questions: filtered.ref, policy }) : undefined;
  const pairs = programs && (await stage('preferences', { programs: programs.ref }));
  const page = await call(
    'preview.page',
    { summary: 'write the page' },
    {
      name,
      seeds,
      questions: questions.ref,
      filtered: filtered.ref,
      ...(programs ? { programs: programs.ref } : {}),
      ...(pairs ? { pairs: pairs.ref } : {}),
    },
  );
  setCurrentDetails(`Preview of **${name}**: \`${page.html}\``);
  return { ...page, seeds: seeds.rows ?? first };
}
