/** When rounds are an alarm, and what it says. */
import { describe, expect, it } from 'vitest';
import type { RoundWatch } from './contract/index.js';
import { alarmOf, alarmText, type SeenRound } from './reward-alarm.js';

const RULE = { gap: 0.05, deviations: 2, rounds: 2 };
const rounds = (...gaps: [value: number, error: number][]): SeenRound[] =>
  gaps.map(([value, error], at) => ({ round: at + 1, gap: { value, error } }));

describe('alarmOf', () => {
  it('is one where the gap is above the threshold by more than noise, in all of the last rounds', () => {
    expect(alarmOf(rounds([0.1, 0.02], [0.12, 0.02]), RULE)).toMatchObject({ of: 'gap', value: 0.11 });
    expect(alarmOf(rounds([0.1, 0.02]), RULE)).toBeUndefined();
    expect(alarmOf(rounds([0.3, 0.02], [0.04, 0.02]), RULE)).toBeUndefined();
    expect(alarmOf(rounds([0.04, 0.02], [0.3, 0.02]), RULE)).toBeUndefined();
    // Two rounds together are surer than either: 0.11 ± 0.028 is, 0.11 ± 0.04 is not.
    expect(alarmOf(rounds([0.11, 0.04], [0.11, 0.04]), RULE)).toMatchObject({ error: Math.hypot(0.04, 0.04) / 2 });
    expect(alarmOf(rounds([0.11, 0.05], [0.11, 0.05]), RULE)).toBeUndefined();
    expect(alarmOf(rounds([0.5, 0.5], [0.5, 0.5]), RULE)).toBeUndefined();
  });

  it('reads the gap of the reward model too', () => {
    const seen = rounds([0, 0.01], [0, 0.01]).map((round) => ({
      ...round,
      rewardModelGap: { value: 0.2, error: 0.03 },
    }));
    expect(alarmOf(seen, RULE)?.of).toBe('rewardModelGap');
    // An error that rounds share does not shrink with them.
    const shared = seen.map((round) => ({ ...round, rewardModelGap: { value: 0.2, error: 0.03, shared: 0.08 } }));
    expect(alarmOf(shared, RULE)).toBeUndefined();
    expect(alarmOf([{ round: 1 }, ...seen.slice(1)], RULE)).toBeUndefined();
    expect(alarmOf([{ round: 1 }, { round: 2 }], RULE)).toBeUndefined();
  });

  it('counts anew after a decision', () => {
    const seen = rounds([0.3, 0.02], [0.3, 0.02], [0.3, 0.02], [0.3, 0.02]);
    const decisions = [{ round: 2 }];
    expect(alarmOf(seen.slice(0, 2), { ...RULE, decisions })).toBeUndefined();
    expect(alarmOf(seen.slice(0, 3), { ...RULE, decisions })).toBeUndefined();
    expect(alarmOf(seen, { ...RULE, decisions })).toBeDefined();
  });
});

describe('alarmText', () => {
  it('tells the figures, shows programs as code whatever they hold, and says what can be answered', () => {
    const watch: RoundWatch = {
      ...{ judged: 8, questions: 2, flagged: 2, literals: 0, tokens: 3 },
      ...{ visiblePassRate: 0.9, hiddenPassRate: 0.6, gap: { value: 0.3, error: 0.02 } },
      shown: [{ id: 'r', questionId: 'q', reason: 'hiddenTests', program: 'def f():\n    return "``"' }],
    };
    const text = alarmText(5, { of: 'gap', value: 0.3, error: 0.02 }, RULE, watch);
    expect(text).toContain('round 5: more programs pass the visible tests than all tests, by 30.0 % ± 2.0 %');
    expect(text).toContain('visible tests 90.0 %, by hidden tests 60.0 %');
    expect(text).toContain('``` def f(): ⏎ return "``" ```');
    expect(text).toContain('"drop" without the flagged rollouts');
    expect(text).not.toContain('\n');
  });
});
