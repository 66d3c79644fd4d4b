/** What an input names, looked up before anything is stored or paid for: all mistakes are found together. */
import { existsSync } from 'node:fs';
import {
  FAILURES,
  mistake,
  OFFLINE_NEEDS,
  SeedRow,
  StageFailure,
  TEACHERS,
  type ArtifactPath,
  type ArtifactRef,
  type Benchmark,
  type Mistake,
  type PublicBenchmark,
  type StageConfig,
} from '../../workflows/contract/index.js';
import { deriveSeed } from '../artifacts/keys.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { checkBenchmark } from '../benchmarks/load.js';
import { resolvePath, type Settings } from '../runtime/settings.js';
import { faultsOfFile, seedsOfFile } from './import-artifact.js';

/** Artifacts and benchmarks by their paths in the input. */
export interface Named {
  artifacts: Record<string, ArtifactRef | ArtifactPath>;
  benchmarks: Record<string, PublicBenchmark | Benchmark>;
  /** Who teaches by the seeds among the artifacts. */
  teacher?: StageConfig['synthesis']['teacher'];
}

/**
 * Mistakes of references that are not in the store, files that do not hold what they should, seeds that a teacher
 * understands none of, and missing benchmarks.
 */
export async function lookUp(
  { artifacts, benchmarks, teacher }: Named,
  store: ArtifactStore,
  settings: Settings,
): Promise<Mistake[]> {
  const mistakes: Mistake[] = [];
  for (const [path, input] of Object.entries(artifacts)) {
    if ('digest' in input) {
      const why = await failureOf(() => store.wholeManifest(input));
      if (why !== undefined) mistakes.push(mistake(`${path}.key`, input.key, why));
      else if (teacher && input.kind === 'seeds')
        for (const fault of await faultsOfSeeds(teacher, store.rowsOf(input, SeedRow)))
          mistakes.push(mistake(`${path}.key`, input.key, fault));
    } else {
      const file = resolvePath(input.path, existsSync);
      const faults = await faultsOfFile(file, input);
      if (faults.length === 0 && teacher && input.kind === 'seeds')
        faults.push(...(await faultsOfSeeds(teacher, seedsOfFile(file, input))));
      for (const fault of faults) mistakes.push(mistake(`${path}.path`, input.path, fault));
    }
  }
  for (const [path, benchmark] of Object.entries(benchmarks)) {
    const why = await failureOf(() => checkBenchmark(benchmark, settings, store));
    if (why !== undefined) mistakes.push(mistake(path, benchmark, why));
  }
  return mistakes;
}

/** Seeds that are looked at before it is said that a teacher understands none. */
const SEEDS_TRIED = 10_000;

/** The sentence about seeds of which a teacher that runs them understands none; empty where it understands one. */
async function faultsOfSeeds(
  teacher: StageConfig['synthesis']['teacher'],
  seeds: AsyncIterable<SeedRow>,
): Promise<string[]> {
  const { answers } = TEACHERS.of(teacher);
  // Whether a seed can be searched shows only when it is run.
  if (answers.from !== 'sandbox' || answers.search) return [];
  let tried = 0;
  let first = '';
  for await (const seed of seeds) {
    if (tried === SEEDS_TRIED) return [];
    tried += 1;
    try {
      answers.ask(seed, deriveSeed);
      return [];
    } catch (error) {
      first ||= `${seed.id}: ${(error as Error).message}`;
    }
  }
  if (tried === 0) return [];
  return [`the teacher '${teacher.kind}' understands none of the ${tried} seeds (${first}). ${OFFLINE_NEEDS}`];
}

/** Why a look-up failed for good; what may pass, such as a store that is away, goes through and is tried again. */
async function failureOf(look: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await look();
    return undefined;
  } catch (error) {
    if (!(error instanceof StageFailure) || FAILURES[error.type] === 'retried') throw error;
    return error.message;
  }
}
