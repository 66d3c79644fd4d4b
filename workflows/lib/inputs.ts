/**
 * Inputs of a workflow: checked, then looked up, then imported. A mistake ends the workflow with all mistakes, before
 * anything is stored.
 */
import { ApplicationFailure } from '@temporalio/workflow';
import {
  checkInput,
  ENGINES,
  ModelSource,
  isTable,
  refusalText,
  STAGE,
  stagesOf,
  type ArtifactInput,
  type ArtifactPath,
  type ArtifactRef,
  type ArtifactTable,
  type Benchmark,
  type Engine,
  type Mistake,
  type ModelInput,
  type PublicBenchmark,
  type StageConfig,
  type StageName,
  type WorkflowInput,
  type WorkflowName,
} from '../contract/index.js';
import { call } from './activities.js';

/** Inputs with a reference in the place of every path and model source. */
export type Resolved<T> = T extends ArtifactInput | ModelInput
  ? ArtifactRef
  : T extends object
    ? { [K in keyof T]: Resolved<T[K]> }
    : T;

/** The valid input of a workflow. @throws ApplicationFailure `InvalidExperiment` with all mistakes. */
export function parseInput<W extends WorkflowName>(workflow: W, input: unknown): WorkflowInput<W> {
  const { data, mistakes } = checkInput(workflow, input);
  if (mistakes) throw refused(workflow, mistakes);
  return data;
}

export interface Lookup {
  /** Path of `inputs` inside the workflow's input, with a dot at its end; empty at the top. */
  at: string;
  /** Benchmarks that the workflow asks, by their paths. */
  benchmarks?: Record<string, PublicBenchmark | Benchmark>;
  /** What the workflow samples with, by the paths of the settings. */
  engines?: Record<string, Engine>;
  /** Who teaches by the seeds among the inputs; absent: nobody. */
  teacher?: StageConfig['synthesis']['teacher'] | undefined;
  /** Device class of the worker that imports models and samples. */
  deviceClass?: string | undefined;
}

/**
 * What the settings of stages name that lies on workers, by its path, and the teacher that reads the seeds. `at` gives
 * the path of a stage's settings, with a dot at its end.
 *
 * @example
 * lookupsOf({ synthesis: config }, () => 'config.').benchmarks; // { 'config.decontaminate.0': ... }
 */
export function lookupsOf(
  settings: Partial<Record<StageName, unknown>>,
  at: (stage: StageName) => string,
): Required<Pick<Lookup, 'benchmarks' | 'engines'>> & Pick<Lookup, 'teacher'> {
  const benchmarks: Record<string, PublicBenchmark | Benchmark> = {};
  const engines: Record<string, Engine> = {};
  for (const stage of stagesOf(settings)) {
    const named = STAGE[stage].withSettings(settings[stage]).names();
    for (const [setting, list] of Object.entries(named.benchmarks ?? {}))
      list.forEach((benchmark, index) => (benchmarks[`${at(stage)}${setting}.${index}`] = benchmark));
    if (named.engine !== undefined) engines[`${at(stage)}engine`] = named.engine;
  }
  const { data } = STAGE.synthesis.config.safeParse(settings.synthesis);
  return { benchmarks, engines, teacher: data?.teacher };
}

/**
 * The references behind inputs. First everything is looked up on the workers that need it: references, files, models
 * and benchmarks. When all of it exists, files and models are imported.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes.
 */
export async function resolveInputs<I extends object>(
  workflow: WorkflowName,
  inputs: I,
  { at, benchmarks = {}, engines = {}, teacher, deviceClass }: Lookup,
): Promise<Resolved<I>> {
  const found = named(inputs, at);
  const sources = Object.fromEntries(
    Object.entries(found).filter((entry): entry is [string, ModelSource] => isModelSource(entry[1])),
  );
  const artifacts = Object.fromEntries(
    Object.entries(found).filter(
      (entry): entry is [string, ArtifactRef | ArtifactPath] => !isModelSource(entry[1]) && !isTable(entry[1]),
    ),
  );
  // Those of benchmarks are imported by the stage that asks them, perhaps days later.
  const rows = Object.entries(benchmarks).flatMap(([path, benchmark]) =>
    'data' in benchmark ? [[`${path}.data`, benchmark.data] as const] : [],
  );
  const tables = Object.fromEntries(
    [...rows, ...Object.entries(found)].filter((entry): entry is [string, ArtifactTable] => isTable(entry[1])),
  );
  // The default engine is the model runtime, which every GPU worker has.
  const optional = Object.fromEntries(Object.entries(engines).filter(([, engine]) => engine !== ENGINES[0]));
  const doing = (summary: string) => ({ deviceClass, summary });
  const mistakes = await Promise.all([
    call('inputs.check', doing('look up inputs'), { artifacts, benchmarks, ...(teacher ? { teacher } : {}) }),
    ...(Object.keys({ ...sources, ...optional }).length > 0
      ? [call('models.check', doing('look up models'), { sources, engines: optional })]
      : []),
    ...(Object.keys(tables).length > 0 ? [call('tables.check', doing('look up tables'), { tables })] : []),
  ]);
  if (mistakes.flat().length > 0) throw refused(workflow, mistakes.flat());

  // Equal sources are one model. It is imported once.
  const imported = new Map<string, Promise<ArtifactRef>>();
  const importOnce = (input: ArtifactInput | ModelInput, path: string): Promise<ArtifactRef> => {
    if ('digest' in input) return Promise.resolve(input);
    const key = JSON.stringify(input);
    const running =
      imported.get(key) ??
      (isModelSource(input)
        ? call('models.import', doing(`import ${path}`), { source: input })
        : isTable(input)
          ? call('tables.import', doing(`import ${path}`), { table: input })
          : call('artifacts.import', doing(`import ${path}`), { input })
      ).then(({ ref }) => ref);
    imported.set(key, running);
    return running;
  };
  const refs = Object.fromEntries(
    await Promise.all(
      Object.entries(found).map(async ([path, input]) => [path, await importOnce(input, path)] as const),
    ),
  );
  return replaced(inputs, at, refs) as Resolved<I>;
}

/** The failure with which a workflow refuses its input. */
export function refused(workflow: WorkflowName, mistakes: Mistake[]): ApplicationFailure {
  return ApplicationFailure.create({
    type: 'InvalidExperiment',
    nonRetryable: true,
    message: refusalText(workflow, mistakes),
    details: [mistakes],
  });
}

const MODEL_SOURCES: readonly string[] = ModelSource.options.map(({ shape }) => shape.kind.value);

function isModelSource(input: ArtifactInput | ModelInput): input is ModelSource {
  return MODEL_SOURCES.includes(input.kind);
}

/** Every reference, path and model source among inputs, by its path. */
function named(inputs: object, at: string): Record<string, ArtifactInput | ModelInput> {
  const found = Object.entries(inputs).flatMap(([name, value]: [string, unknown]) =>
    isInput(value)
      ? [[at + name, value] as const]
      : typeof value === 'object' && value !== null
        ? Object.entries(named(value, `${at}${name}.`))
        : [],
  );
  return Object.fromEntries(found);
}

function replaced(inputs: object, at: string, refs: Record<string, ArtifactRef>): object {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, value]: [string, unknown]) => [
      name,
      isInput(value)
        ? refs[at + name]
        : typeof value === 'object' && value !== null
          ? replaced(value, `${at}${name}.`, refs)
          : value,
    ]),
  );
}

function isInput(value: unknown): value is ArtifactInput | ModelInput {
  return typeof value === 'object' && value !== null && 'kind' in value && typeof value.kind === 'string';
}
