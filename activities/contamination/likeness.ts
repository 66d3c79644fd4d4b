/**
 * Likeness of texts to the problems of benchmarks: of programs to references, and of questions to questions. It finds
 * copies; a rewritten solution is found by running it, in `by-running.ts`. Pure.
 */
import type { Task } from '../benchmarks/benchmark.js';
import { languageOf } from '../languages/index.js';
import { shingles } from '../similarity/similarity.js';

/** Jaccard similarity of shingles from which a text counts as that of a problem. */
const SIMILARITY = 0.5;
/** Tokens of a shingle. */
const SHINGLE = 4;

/** Texts by the ids of their problems, prepared for looking up many others. */
class Likeness {
  readonly #entries: { id: string; size: number }[] = [];
  /** Entries that have a shingle, by it. */
  readonly #holders = new Map<string, number[]>();

  add(id: string, text: string): void {
    const own = shingles(text, SHINGLE);
    // A benchmark without references has empty texts, which are like each other.
    if (text.trim() === '') return;
    const index = this.#entries.push({ id, size: own.size }) - 1;
    for (const shingle of own) this.#holders.set(shingle, [...(this.#holders.get(shingle) ?? []), index]);
  }

  /** Ids of the problems whose text is that alike, in their order. */
  like(text: string): string[] {
    const own = shingles(text, SHINGLE);
    const shared = new Map<number, number>();
    for (const shingle of own)
      for (const index of this.#holders.get(shingle) ?? []) shared.set(index, (shared.get(index) ?? 0) + 1);
    return [...shared]
      .filter(([index, common]) => common / (own.size + this.#entries[index]!.size - common) >= SIMILARITY)
      .map(([index]) => index)
      .sort((a, b) => a - b)
      .map((index) => this.#entries[index]!.id);
  }
}

/**
 * The problems of benchmarks as texts.
 *
 * @example
 * new ProblemTexts(tasks).likeCode({ code: seed.code }); // ['HumanEval/0']
 */
export class ProblemTexts {
  readonly #code = new Likeness();
  readonly #questions = new Likeness();
  readonly #names = new Set<string>();

  constructor(tasks: readonly Pick<Task, 'id' | 'entryPoint' | 'reference' | 'question' | 'language'>[]) {
    for (const { id, entryPoint, reference, question, language } of tasks) {
      this.#code.add(id, languageOf({ language }).withoutDocumentation(reference));
      this.#questions.add(id, question);
      if (entryPoint !== '') this.#names.add(normalised(entryPoint));
    }
  }

  /** Ids of the problems whose reference is like a program, without the documentation of both. */
  likeCode(program: { code: string; language?: string | undefined }): string[] {
    return this.#code.like(languageOf(program).withoutDocumentation(program.code));
  }

  /** Ids of the problems that are asked in nearly the same words. */
  likeQuestion(question: string): string[] {
    return this.#questions.like(question);
  }

  /** Whether a problem has a function of that name. Names say little: `add` and `unique` are everybody's. */
  hasName(name: string): boolean {
    return this.#names.has(normalised(name));
  }
}

function normalised(name: string): string {
  return name.toLowerCase().replaceAll('_', '');
}
