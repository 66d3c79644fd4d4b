/** Benchmarks as a configuration names them. Their definitions are files of `activities/benchmarks`, which are pure. */
import { z } from 'zod';
import type { Benchmark as Definition, BenchmarkResult } from '../../activities/benchmarks/benchmark.js';
import { BENCHMARKS } from '../../activities/benchmarks/index.js';
import type { ArtifactInput } from './artifacts.js';

type Evaluated = (typeof BENCHMARKS)[number]['evaluated'];
type Slice = (typeof BENCHMARKS)[number]['slice'];

/** A benchmark that policies are evaluated on: which tasks, and settings of its own. */
export const Benchmark = z.discriminatedUnion(
  'kind',
  BENCHMARKS.map(({ evaluated }) => evaluated) as [Evaluated, ...Evaluated[]],
);
export type Benchmark = z.infer<typeof Benchmark>;

/** A public benchmark whose problems no seed may repeat. */
export const PublicBenchmark = z.discriminatedUnion(
  'kind',
  BENCHMARKS.filter((definition) => definition.public).map(({ slice }) => slice) as [Slice, ...Slice[]],
);
export type PublicBenchmark = z.infer<typeof PublicBenchmark>;

/** The definition behind a benchmark of a configuration. */
export function benchmarkOf({ kind }: { kind: string }): Definition {
  const found = BENCHMARKS.find((benchmark) => benchmark.kind === kind);
  if (!found) throw new Error(`there is no benchmark ${JSON.stringify(kind)}`);
  return found;
}

/** Name of a benchmark in rows and reports; a slice says so. */
export function benchmarkName(benchmark: PublicBenchmark | Benchmark): string {
  return benchmarkOf(benchmark).name(benchmark);
}

/** Names of the results of a benchmark, in order; most have one, with the benchmark's name. */
export function benchmarkResults(benchmark: PublicBenchmark | Benchmark): readonly BenchmarkResult[] {
  return benchmarkOf(benchmark).results(benchmark);
}

/** Whether the references of a benchmark are run before anybody is asked: those of questions passed the filter. */
export function hasReferences(benchmark: PublicBenchmark | Benchmark): boolean {
  const { data, references } = benchmarkOf(benchmark);
  return data.from !== 'questions' && references !== false;
}

/**
 * Rows of benchmarks that come from files, by the names that they have among the inputs of the stage: `benchmark:` and
 * the
 * place in the list.
 */
export function benchmarkFiles(benchmarks: readonly (PublicBenchmark | Benchmark)[]): Record<string, ArtifactInput> {
  return Object.fromEntries(
    benchmarks.flatMap((benchmark, index) => ('data' in benchmark ? [[benchmarkFile(index), benchmark.data]] : [])),
  );
}

/** Name among a stage's inputs of the rows of the benchmark at a place in the list. */
export function benchmarkFile(index: number): string {
  return `benchmark:${index}`;
}

/**
 * A benchmark as keys hold it. Where its file lies is left out, because the content is an input of the stage. The
 * version is
 * there from 2 on.
 */
export function keyedBenchmark(benchmark: PublicBenchmark | Benchmark): Record<string, unknown> {
  const { data: _data, ...keyed } = { data: undefined, ...benchmark };
  const { version } = benchmarkOf(benchmark);
  return version === 1 ? keyed : { ...keyed, version };
}
