/** What an input names, looked up before anything is stored or paid for: all mistakes are found together. */
import { existsSync } from 'node:fs';
import {
  mistake,
  StageFailure,
  type ArtifactPath,
  type ArtifactRef,
  type Benchmark,
  type Mistake,
  type PublicBenchmark,
} from '../../workflows/contract/index.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { checkBenchmark } from '../benchmarks/load.js';
import { resolvePath, type Settings } from '../runtime/settings.js';
import { faultsOfFile } from './import-artifact.js';

/** Artifacts and benchmarks by their paths in the input. */
export interface Named {
  artifacts: Record<string, ArtifactRef | ArtifactPath>;
  benchmarks: Record<string, PublicBenchmark | Benchmark>;
}

/**
 * Mistakes of references that are not in the store, files that do not hold what they should, and missing benchmarks.
 */
export async function lookUp(
  { artifacts, benchmarks }: Named,
  store: ArtifactStore,
  settings: Settings,
): Promise<Mistake[]> {
  const mistakes: Mistake[] = [];
  for (const [path, input] of Object.entries(artifacts)) {
    if ('digest' in input) {
      const why = await failureOf(() => store.wholeManifest(input));
      if (why !== undefined) mistakes.push(mistake(`${path}.key`, input.key, why));
    } else {
      for (const fault of await faultsOfFile(resolvePath(input.path, existsSync), input))
        mistakes.push(mistake(`${path}.path`, input.path, fault));
    }
  }
  for (const [path, benchmark] of Object.entries(benchmarks)) {
    const why = await failureOf(() => checkBenchmark(benchmark, settings, store));
    if (why !== undefined) mistakes.push(mistake(path, benchmark, why));
  }
  return mistakes;
}

/** Why a look-up failed for good; what may pass, such as a store that is away, goes through and is tried again. */
async function failureOf(look: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await look();
    return undefined;
  } catch (error) {
    if (!(error instanceof StageFailure) || error.type === 'StoreUnavailable') throw error;
    return error.message;
  }
}
