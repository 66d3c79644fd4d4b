/** What garbage collection keeps in memory, and which checkpoints it removes. Pure. */
import { describe, expect, it } from 'vitest';
import { sha256 } from '../artifacts/keys.js';
import { leftCheckpoints } from './collect.js';
import { DigestSet } from './digest-set.js';

describe('a set of digests', () => {
  const digests = Array.from({ length: 5_000 }, (_, index) => sha256(String(index)));

  it('has what was added, and nothing else', () => {
    const set = new DigestSet();
    for (const digest of [...digests, ...digests]) set.add(digest);
    expect(set.size).toBe(digests.length);
    expect(digests.filter((digest) => !set.has(digest))).toEqual([]);
    expect(digests.filter((digest) => set.has(sha256(digest)))).toEqual([]);
  });

  it('takes a digest that begins with zeros', () => {
    const set = new DigestSet();
    expect(set.has('0'.repeat(64))).toBe(false);
    set.add('0'.repeat(64));
    expect(set.has('0'.repeat(64))).toBe(true);
  });

  it('gives each digest once, and another set takes them', () => {
    const [set, other] = [new DigestSet(), new DigestSet()];
    for (const digest of digests.slice(0, 3_000)) set.add(digest);
    const parts = [set.takeNew()];
    for (const digest of digests) set.add(digest);
    expect(set.newCount).toBe(2_000);
    parts.push(set.takeNew());
    for (const part of parts) other.addAll(part);
    expect([other.size, other.newCount]).toEqual([digests.length, 0]);
    expect(digests.every((digest) => other.has(digest))).toBe(true);
  });

  it('refuses what is no digest', () => {
    expect(() => new DigestSet().add('abc')).toThrow('no SHA-256');
    expect(() => new DigestSet().addAll(Buffer.alloc(9))).toThrow('9 bytes');
  });
});

describe('checkpoints', () => {
  const day = (number: number): Date => new Date(Date.UTC(2026, 0, number));
  const documents = [1, 2, 3, 40].map((number) => ({ step: number, modified: day(number) }));
  const left = (options: Partial<Parameters<typeof leftCheckpoints>[1]>): number[] =>
    leftCheckpoints(documents, { isFinished: false, before: day(40), checkpointsBefore: day(10), ...options }).map(
      ({ step }) => step,
    );

  it('of a training that goes on stay, the newest two', () => {
    expect(left({})).toEqual([1, 2]);
    expect(left({ before: day(2) })).toEqual([1]);
  });

  it('of a training that is finished, or that nobody came back to, go', () => {
    expect(left({ isFinished: true })).toEqual([1, 2, 3]);
    expect(left({ checkpointsBefore: day(41), before: day(41) })).toEqual([1, 2, 3, 40]);
  });
});
