/** The checks of a run with faults find what they look for, and the faults come from the seed. */
import { describe, expect, it } from 'vitest';
import { ArtifactRef } from '../../workflows/contract/index.js';
import { Random } from '../simulation/random.js';
import { checkDigests, checkTrainings } from './checks.js';
import { FAULT_NAMES, FaultDeck, FAULTS } from './faults.js';
import { isNewWork, type Look } from './watch.js';

type Event = Parameters<typeof checkTrainings>[0] extends ReadonlyMap<string, readonly (infer E)[]> ? E : never;

/** A record, as `begin 0`, `step 1` or `checkpoint 1` of a process, a second apart. */
const recordOf = (...lines: [pid: number, event: Event['event'], step: number][]): Map<string, Event[]> =>
  new Map([['training', lines.map(([pid, event, step], at) => ({ at, pid, key: 'training', event, step }))]]);

describe('the record of trainings', () => {
  it('tells what was repeated after a kill', () => {
    const { violations, repeated, figures } = checkTrainings(
      recordOf(
        [1, 'begin', 0],
        [1, 'step', 1],
        [1, 'checkpoint', 1],
        [1, 'step', 2],
        [1, 'step', 3],
        [2, 'begin', 1],
        [2, 'step', 2],
      ),
    );
    expect(violations).toEqual([]);
    expect(repeated).toEqual([{ steps: 2, seconds: 1 }]);
    expect(figures).toEqual({ trainings: 1, resumed: 1 });
  });

  it.each([
    [
      'a step that is taken twice',
      [
        [1, 'begin', 0],
        [1, 'step', 1],
        [1, 'step', 1],
      ],
      /step 1 comes 2 after 0/,
    ],
    [
      'a step that is left out',
      [
        [1, 'begin', 0],
        [1, 'step', 2],
      ],
      /step 2 comes 1 after 0/,
    ],
    ['a first attempt in the middle', [[1, 'begin', 3]], /first attempt begins at step 3/],
    [
      'a resumption from nowhere',
      [
        [1, 'begin', 0],
        [1, 'step', 1],
        [2, 'begin', 1],
      ],
      /resumes from step 1, of which there was no checkpoint/,
    ],
  ] as const)('shows %s', (_what, lines, violation) => {
    const { violations } = checkTrainings(
      recordOf(...lines.map((line): [number, Event['event'], number] => [...line])),
    );
    expect(violations).toHaveLength(1);
    expect(violations[0]).toMatch(violation);
  });

  it('leaves a zombie its steps', () => {
    const { violations } = checkTrainings(
      recordOf([1, 'begin', 0], [1, 'step', 1], [1, 'checkpoint', 1], [2, 'begin', 1], [1, 'step', 2], [2, 'step', 2]),
    );
    expect(violations).toEqual([]);
  });
});

describe('the digests', () => {
  it('are compared stage by stage, and a stage that is missing shows', () => {
    const run = (id: string, digests: Record<string, string>) => ({
      id,
      seconds: 1,
      faults: 1,
      stages: Object.fromEntries(
        Object.entries(digests).map(([name, digest]) => [
          name,
          ArtifactRef.parse({
            kind: 'programs',
            key: 'artifacts/programs/key.json',
            digest: digest.repeat(64),
            bytes: 1,
          }),
        ]),
      ),
    });
    const { violations } = checkDigests(run('undisturbed', { sampling: 'a', evaluation: 'b' }), [
      run('same', { sampling: 'a', evaluation: 'b' }),
      run('other', { sampling: 'c' }),
    ]);
    expect(violations).toEqual([
      expect.stringContaining('other: sampling has the digest ccc'),
      expect.stringContaining('other: evaluation has the digest of nothing'),
    ]);
  });
});

describe('new work', () => {
  const look = (done: number, startedAt = 5, pending = ['a']): Look => ({
    ended: false,
    running: new Map(pending.includes('a') ? [['a', { type: 'x', attempt: 1, startedAt, done }]] : []),
    pending: new Set(pending),
  });

  it('is an activity that starts, goes on or ends', () => {
    expect(isNewWork(look(1), look(1), 9)).toBe(false);
    expect(isNewWork(look(1), look(1, 10), 9)).toBe(true);
    expect(isNewWork(look(1), look(2), 9)).toBe(true);
    expect(isNewWork(look(1), look(1, 5, []), 9)).toBe(true);
  });

  it('is none that waits for its next attempt', () => {
    expect(isNewWork(look(1), { ...look(1, 5, []), pending: new Set(['a']) }, 9)).toBe(false);
  });
});

describe('faults', () => {
  it('are the same for the same seed, and none is left out', () => {
    const weights = Object.values(FAULTS).reduce((sum, { weight }) => sum + weight, 0);
    const draw = (seed: number): string[] => {
      const deck = new FaultDeck(FAULT_NAMES, new Random(seed));
      return Array.from({ length: weights }, () => deck.next());
    };
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
    expect(new Set(draw(1))).toEqual(new Set(FAULT_NAMES));
  });
});
