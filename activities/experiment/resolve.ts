/** What an experiment names, checked before anything is paid for: all mistakes are found together. */
import { describeMistakes, StageFailure, type ArtifactInput, type ArtifactRef, type Benchmark, type Experiment, type Mistake, type Producer } from '../../workflows/contract/index.js';
import { importArtifact } from './import-artifact.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { humanEvalTasks } from '../benchmarks/humaneval.js';
import type { Settings } from '../runtime/settings.js';

/** Imports the seeds and looks up references and benchmarks. @throws StageFailure `InvalidExperiment` with every mistake. */
export async function resolveExperiment(experiment: Experiment, store: ArtifactStore, settings: Settings, producer: Producer): Promise<{ seeds: ArtifactRef }> {
  const mistakes: Mistake[] = [];
  const check = async <T>(path: string, value: unknown, look: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await look();
    } catch (error) {
      if (!(error instanceof StageFailure) || error.type === 'StoreUnavailable') throw error;
      mistakes.push({ path, value, message: error.message });
      return undefined;
    }
  };
  const seeds = await check('seeds', experiment.seeds, () => importArtifact(store, experiment.seeds as ArtifactInput, 'seeds', producer));
  for (const [name, source] of Object.entries(experiment.models)) {
    if (source?.kind === 'artifact') await check(`models.${name}.ref`, source.ref, () => store.manifest(source.ref));
  }
  const benchmarks: [string, Benchmark[]][] = [
    ['stages.synthesis.decontaminate', experiment.stages.synthesis.decontaminate], ['stages.evaluation.benchmarks', experiment.stages.evaluation.benchmarks],
  ];
  for (const [path, list] of benchmarks) {
    for (const [index, benchmark] of list.entries()) {
      if (benchmark.kind === 'humaneval') await check(`${path}.${index}`, benchmark, () => humanEvalTasks(settings, benchmark));
    }
  }
  if (mistakes.length > 0 || !seeds) {
    throw new StageFailure('InvalidExperiment', `the experiment '${experiment.name}' has ${mistakes.length} mistake(s)\n${describeMistakes(mistakes)}`);
  }
  return { seeds };
}
