/** Which rows of the matrix run again, and how their results read. */
import { describe, expect, it } from 'vitest';
import { plan, table, type RowResult } from './test-matrix.js';

const minio = { name: 'minio', store: 'minio', temporal: 'dev-server' } as const;
const postgresql = { name: 'postgresql', store: 'minio', temporal: 'postgresql' } as const;
const passed = (row: typeof minio | typeof postgresql, code: string): RowResult => ({
  ...row,
  code,
  state: 'passed',
  passed: 3,
  failed: 0,
  skipped: 1,
  seconds: 75,
});

describe('a row', () => {
  const rows = [minio, postgresql];

  it('that has passed on the same code stands', () => {
    const earlier = [passed(minio, 'a')];
    expect(plan(rows, earlier, { code: 'a', again: false })).toEqual({ run: [postgresql], kept: earlier });
  });

  it('runs on other code, after a failure, and where it is asked for', () => {
    const failed: RowResult = { ...passed(minio, 'a'), state: 'failed', failed: 1 };
    for (const [earlier, code, again] of [
      [passed(minio, 'a'), 'b', false],
      [failed, 'a', false],
      [passed(minio, 'a'), 'a', true],
    ] as const)
      expect(plan(rows, [earlier], { code, again })).toEqual({ run: rows, kept: [] });
  });

  it('says what failed, and why it was skipped', () => {
    const failed: RowResult = { ...passed(minio, 'a'), state: 'failed', failed: 1, reason: 'store.test.ts > once' };
    const skipped: RowResult = { ...passed(postgresql, 'a'), state: 'skipped', reason: 'PostgreSQL is missing' };
    expect(table([failed, skipped]).split('\n')).toEqual([
      'row         Temporal    store  state    passed  failed  skipped  time',
      'minio       dev-server  minio  failed   3       1       1        1 min 15 s  store.test.ts > once',
      'postgresql  postgresql  minio  skipped                                       PostgreSQL is missing',
    ]);
  });
});
