/** Whether a seed repeats a benchmark problem. */
import { jaccard, shingles } from './similarity.js';
import type { Task } from './humaneval.js';

/** Similarity of code from which a seed counts as a benchmark problem. */
const CODE_SIMILARITY = 0.5;

/**
 * Why a seed matches a benchmark task, or undefined. A seed matches by the name of its function (simple seeds repeat
 * benchmark names such as `is_palindrome`, with other words around them) or by its code.
 */
export function contamination(seed: { name: string; code: string }, tasks: readonly Task[]): string | undefined {
  const name = normalised(seed.name);
  const code = shingles(withoutDocstring(seed.code), 4);
  for (const task of tasks) {
    if (normalised(task.entryPoint) === name) return `same function name as ${task.id}`;
    if (jaccard(code, shingles(withoutDocstring(task.reference), 4)) >= CODE_SIMILARITY) return `code like ${task.id}`;
  }
  return undefined;
}

function normalised(name: string): string {
  return name.toLowerCase().replaceAll('_', '');
}

function withoutDocstring(code: string): string {
  return code.replace(/"""[\s\S]*?"""|'''[\s\S]*?'''/g, '');
}
