/** The fleet: repeatable, complete, and as its formulas say where one cause is alone. */
import { describe, expect, it } from 'vitest';
import { CAUSES, OUTAGES, simulateFleet, TIMES, usefulShare, type Cause, type Times } from './fleet.js';

const FLEET = { hosts: 125, days: 30, seed: 1, causes: CAUSES, times: TIMES, outages: OUTAGES };
const sum = (values: readonly number[]): number => values.reduce((total, each) => total + each, 0);
/** Long trainings: none ends while a formula is tried, which knows no ends. */
const ENDLESS: Times = { ...TIMES, training: 1e9 };
const often = (cause: Cause): Cause => ({ ...cause, perThousandHostDays: 4000 });

describe('a fleet', () => {
  it('loses the same from the same seed, and another share from another', () => {
    expect(simulateFleet(FLEET)).toEqual(simulateFleet(FLEET));
    expect(simulateFleet({ ...FLEET, seed: 2 })).not.toEqual(simulateFleet(FLEET));
  });

  it('has every second of it in one place', () => {
    const { useful, checkpoints, store, causes, parts } = simulateFleet(FLEET);
    expect(useful + checkpoints + store + sum(Object.values(causes))).toBeCloseTo(1, 9);
    expect(sum(Object.values(parts))).toBeCloseTo(sum(Object.values(causes)), 9);
  });

  it('without failures loses what its checkpoints take', () => {
    const { useful, checkpoints } = simulateFleet({ ...FLEET, causes: [], outages: undefined, times: ENDLESS });
    expect(useful).toBeCloseTo(TIMES.checkpoint / (TIMES.checkpoint + TIMES.write), 3);
    expect(useful + checkpoints).toBeCloseTo(1, 9);
  });

  it.each(CAUSES.map((cause) => [cause.name, cause] as const))(
    'loses to %s alone what the formula says',
    (_, cause) => {
      for (const times of [ENDLESS, { ...ENDLESS, checkpoint: 60, send: 60 }, { ...ENDLESS, checkpoint: 3600 }]) {
        const lost = 1 - simulateFleet({ ...FLEET, causes: [often(cause)], outages: undefined, times }).useful;
        const expected = 1 - usefulShare(often(cause), times);
        expect(Math.abs(lost / expected - 1)).toBeLessThan(0.05);
      }
    },
  );

  it('loses less to an event that is told before, and more where only the store has checkpoints', () => {
    const [lost] = CAUSES;
    const shares = (['all', 'local', 'stored'] as const).map((keeps) =>
      usefulShare({ ...often(lost!), keeps }, { ...ENDLESS, checkpoint: 60, send: 60 }),
    );
    expect(shares).toEqual([...shares].sort((a, b) => b - a));
    expect(new Set(shares).size).toBe(3);
  });

  it('waits for a store that is away at the end of trainings alone', () => {
    const fleet = { ...FLEET, causes: [], outages: { perThirtyDays: 30, seconds: 7200 } };
    const { store } = simulateFleet(fleet);
    expect(store).toBeGreaterThan(0);
    expect(simulateFleet({ ...fleet, times: ENDLESS }).store).toBe(0);
  });
});
