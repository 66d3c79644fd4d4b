/** Likeness of texts: near-duplicates among seeds and questions. */
import { describe, expect, it } from 'vitest';
import { jaccard, NearDuplicates, nearDuplicateGroups, shingles, tokens } from './similarity.js';
import { Random } from '../statistics/random.js';

describe('tokens and shingles', () => {
  it('are words and operators in lower case, without string and comment marks', () => {
    expect(tokens(`Return x_1+"Y" # sum`)).toEqual(['return', 'x_1', '+', 'y', 'sum']);
    expect(tokens('')).toEqual([]);
  });

  it('are runs of tokens; a shorter text is one run', () => {
    expect([...shingles('a b c d', 3)]).toEqual(['a b c', 'b c d']);
    expect([...shingles('a b c', 3)]).toEqual(['a b c']);
    expect([...shingles('a', 3)]).toEqual(['a']);
  });
});

describe('jaccard', () => {
  it('is shared over all members', () => {
    expect(jaccard(new Set([1, 2, 3]), new Set([2, 3, 4]))).toBe(0.5);
    expect(jaccard(new Set([1]), new Set([2]))).toBe(0);
    expect(jaccard(new Set(), new Set())).toBe(1);
  });

  it('is symmetric, in [0, 1], and 1 for equal sets only', () => {
    const random = new Random(11);
    const randomSet = (): Set<number> =>
      new Set(Array.from({ length: random.integer(1, 8) }, () => random.integer(0, 9)));
    for (let round = 0; round < 500; round += 1) {
      const [a, b] = [randomSet(), randomSet()];
      const value = jaccard(a, b);
      expect(jaccard(b, a)).toBe(value);
      expect(value).toBeGreaterThanOrEqual(0);
      expect(value).toBeLessThanOrEqual(1);
      expect(value === 1).toBe(a.size === b.size && [...a].every((item) => b.has(item)));
    }
  });
});

describe('nearDuplicateGroups', () => {
  it('joins texts directly and through others, and names the first member', () => {
    const texts = ['a b c d e f', 'p q r s t u', 'a b c d e x', 'a b c d y x', 'p q r s t u'];
    // 0 and 2 share 3 of 5 shingles, 2 and 3 share 2 of 6, 0 and 3 share 2 of 6.
    expect(nearDuplicateGroups(texts, 0.6)).toEqual([0, 1, 0, 3, 1]);
    expect(nearDuplicateGroups(texts, 1)).toEqual([0, 1, 2, 3, 1]);
    expect(nearDuplicateGroups(['a b c d', 'b c d e', 'c d e f'], 1 / 3)).toEqual([0, 0, 0]);
    expect(nearDuplicateGroups(['a b c d', 'c d e f'], 1 / 3)).toEqual([0, 1]);
    // The last one joins two groups that stood apart.
    expect(nearDuplicateGroups(['a b c d', 'c d e f', 'b c d e'], 1 / 3)).toEqual([0, 0, 0]);
  });

  it('is what comparing each text with each other one gives', () => {
    const random = new Random(7);
    const words = (): string[] => Array.from({ length: random.integer(3, 40) }, () => `w${random.integer(0, 30)}`);
    const texts = Array.from({ length: 120 }, words).flatMap((text) => {
      const changed = [...text];
      for (let times = random.integer(0, 4); times > 0; times -= 1)
        changed[random.integer(0, text.length - 1)] = `x${random.integer(0, 3)}`;
      return [text.join(' '), changed.join(' ')];
    });
    const sets = texts.map((text) => shingles(text, 3));
    for (const threshold of [0.3, 0.5, 0.8, 1]) {
      const group = texts.map((_, index) => index);
      for (let round = 0; round < texts.length; round += 1) {
        const before = group.join();
        sets.forEach((a, i) =>
          sets.forEach((b, j) => {
            if (j < i && jaccard(a, b) >= threshold) group[i] = group[j] = Math.min(group[i]!, group[j]!);
          }),
        );
        if (group.join() === before) break;
      }
      expect(nearDuplicateGroups(texts, threshold)).toEqual(group);
      expect(new Set(group).size).toBeLessThan(texts.length);
    }
  });

  it('takes a similarity of exactly the threshold as a duplicate', () => {
    expect(nearDuplicateGroups(['a b c d e f', 'a b c d e x'], 0.6)).toEqual([0, 0]);
    expect(nearDuplicateGroups(['a b c d e f', 'a b c d e x'], 0.61)).toEqual([0, 1]);
  });
});

describe('NearDuplicates', () => {
  const random = new Random(5);
  const words = (count: number): string[] => Array.from({ length: count }, () => `w${random.integer(0, 400)}`);

  it('finds what the exact comparison with the texts kept so far finds', () => {
    const texts = Array.from({ length: 150 }, () => words(60)).flatMap((text) => {
      // Versions of a text with a few words changed: similarities from 0.5 to 1.
      const changed = [...text];
      for (let times = random.integer(0, 5); times > 0; times -= 1)
        changed[random.integer(0, 59)] = `x${random.integer(0, 9)}`;
      return [text.join(' '), changed.join(' ')];
    });
    const found = new NearDuplicates(0.8);
    const kept: Set<string>[] = [];
    let missed = 0;
    let duplicates = 0;
    for (const text of texts) {
      const set = shingles(text, 3);
      const expected = kept.some((other) => jaccard(other, set) >= 0.8);
      const actual = found.isDuplicate(text);
      expect(actual && !expected, 'a text that is not alike').toBe(false);
      if (expected) duplicates += 1;
      if (expected && !actual) missed += 1;
      if (!actual) kept.push(set);
    }
    expect(duplicates).toBeGreaterThan(30);
    expect(missed).toBe(0);
  });

  it('takes equal texts and empty ones for alike', () => {
    const found = new NearDuplicates(1);
    expect(['a b c d', 'a b c d', '', '', 'a b c e'].map((text) => found.isDuplicate(text))).toEqual([
      false,
      true,
      false,
      true,
      false,
    ]);
    expect(() => new NearDuplicates(0.5)).toThrow('the threshold is from 0.7 to 1, not 0.5');
  });
});
