/** The questions of the laboratory. */
import { expect, it } from 'vitest';
import { allQuestions, FAMILIES, labQuestions } from './questions.js';

it('asks validation questions of nobody else', () => {
  for (const family of FAMILIES) {
    const of = (seed: number): string[] =>
      (['seen', 'unseen'] as const).flatMap((kinds) =>
        labQuestions(family, seed, Infinity, kinds).map(({ seed: { id } }) => id),
      );
    const validation = new Set(of(0));
    const others = of(1);
    expect(others.filter((id) => validation.has(id))).toEqual([]);
    expect(validation.size + others.length).toBe(allQuestions(family).length);
  }
});

it('keeps whole kinds of question for the end', () => {
  for (const family of FAMILIES) {
    const [seen, unseen] = (['seen', 'unseen'] as const).map(
      (kinds) => new Set(labQuestions(family, 1, Infinity, kinds).map(({ kind }) => kind)),
    );
    expect([...unseen!].filter((kind) => seen!.has(kind))).toEqual([]);
    expect(unseen!.size).toBe(2);
  }
});

it('gives every question one right answer and wrong ones that differ, in shares of one', () => {
  for (const { answers, shares } of FAMILIES.flatMap(allQuestions)) {
    expect(new Set(answers).size).toBe(answers.length);
    expect(shares).toHaveLength(answers.length);
    expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 9);
  }
});
