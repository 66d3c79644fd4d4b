/** Seeds that repeat a benchmark problem. */
import type { Task } from '../benchmarks/benchmark.js';
import { languageOf } from '../languages/index.js';
import { shingles } from './similarity.js';

/** Similarity of code from which a seed counts as a benchmark problem. */
const CODE_SIMILARITY = 0.5;
const SHINGLE = 4;

/** The tasks of benchmarks, prepared for looking up many seeds. */
export class Contamination {
  readonly #tasks: { id: string; name: string; size: number }[] = [];
  /** Tasks whose reference has a shingle, by it. */
  readonly #holders = new Map<string, number[]>();

  constructor(tasks: readonly Task[]) {
    for (const { id, entryPoint, reference, language } of tasks) {
      const code = shingles(languageOf({ language }).withoutDocumentation(reference), SHINGLE);
      const index = this.#tasks.push({ id, name: normalised(entryPoint), size: code.size }) - 1;
      for (const shingle of code) this.#holders.set(shingle, [...(this.#holders.get(shingle) ?? []), index]);
    }
  }

  /**
   * Why a seed matches a task, or undefined. A seed matches by the name of its function: simple seeds repeat benchmark
   * names such as `is_palindrome`, with other words around them. It also matches by the Jaccard similarity of its code.
   */
  reasonOf(seed: { name: string; code: string; language?: string | undefined }): string | undefined {
    const name = normalised(seed.name);
    const code = shingles(languageOf(seed).withoutDocumentation(seed.code), SHINGLE);
    const shared = new Map<number, number>();
    for (const shingle of code)
      for (const index of this.#holders.get(shingle) ?? []) shared.set(index, (shared.get(index) ?? 0) + 1);
    for (const [index, task] of this.#tasks.entries()) {
      if (task.name === name) return `same function name as ${task.id}`;
      const common = shared.get(index) ?? 0;
      if (common / (code.size + task.size - common) >= CODE_SIMILARITY) return `code like ${task.id}`;
    }
    return undefined;
  }
}

function normalised(name: string): string {
  return name.toLowerCase().replaceAll('_', '');
}
