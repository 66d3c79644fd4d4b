/** Shards: every row in one of them, in order. */
import { describe, expect, it } from 'vitest';
import { intoShards } from './sharded-stage.js';

describe('intoShards', () => {
  it('cuts rows into runs of at most the size, in order, none lost and none empty', () => {
    for (let rows = 0; rows <= 25; rows += 1) {
      const all = Array.from({ length: rows }, (_, index) => index);
      for (let size = 1; size <= 27; size += 1) {
        const shards = intoShards(all, size);
        expect(shards.flat()).toEqual(all);
        expect(shards).toHaveLength(Math.ceil(rows / size));
        expect(shards.slice(0, -1).every((shard) => shard.length === size)).toBe(true);
        expect(shards.every((shard) => shard.length > 0 && shard.length <= size)).toBe(true);
      }
    }
  });
});
