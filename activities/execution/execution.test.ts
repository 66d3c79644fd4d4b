/** Verdicts to pass rates: an infrastructure failure is never a rate, a label or a reward. */
import { describe, expect, expectTypeOf, it } from 'vitest';
import { allJudged, judgementOf, type Judgement } from './execution.js';
import { StageFailure, VERDICTS, type TestOutcome, type Verdict } from '../../workflows/contract/index.js';

const outcomes = (...statuses: Verdict[]): TestOutcome[] => statuses.map((status) => ({ status }));

describe('judgementOf', () => {
  it('is passed over all tests', () => {
    expect(judgementOf('p', outcomes('pass', 'raised', 'pass', 'pass'))).toMatchObject({
      judged: true,
      passRate: 0.75,
    });
  });

  it.each(VERDICTS.filter((status) => !['pass', 'unjudged', 'checker_failed'].includes(status)))(
    'counts %s as a failed test',
    (status) => {
      expect(judgementOf('p', outcomes('pass', status))).toMatchObject({ judged: true, passRate: 0.5 });
      expect(judgementOf('p', outcomes(status))).toMatchObject({ judged: true, passRate: 0 });
    },
  );

  it.each([[outcomes('unjudged')], [outcomes('pass', 'unjudged')], [outcomes('raised', 'unjudged', 'pass')], [[]]])(
    'has no rate for %j',
    (list) => {
      const judgement = judgementOf('p', list);
      expect(judgement.judged).toBe(false);
      expect(judgement).not.toHaveProperty('passRate');
      expect(judgement.outcomes).toBe(list);
    },
  );

  it('has no rate, and a fault, where a checker failed', () => {
    const list: TestOutcome[] = [{ status: 'pass' }, { status: 'checker_failed', reason: 'the checker: KeyError: 3' }];
    const judgement = judgementOf('p', list);
    expect(judgement).toEqual({
      judged: false,
      id: 'p',
      outcomes: list,
      flags: [],
      fault: 'test 1: the checker: KeyError: 3',
    });
    expect(judgementOf('p', [...list, { status: 'unjudged' }])).not.toHaveProperty('fault');
    expect(() => allJudged([judgement])).toThrow(
      expect.objectContaining({
        type: 'InvalidExperiment',
        message: 'program p could not be judged: test 1: the checker: KeyError: 3',
      }),
    );
  });

  it('lets nobody read a rate without asking whether there is one', () => {
    expectTypeOf<Extract<Judgement, { judged: false }>>().not.toHaveProperty('passRate');
    expectTypeOf<Extract<Judgement, { judged: true }>['passRate']>().toEqualTypeOf<number>();
  });
});

describe('allJudged', () => {
  it('gives judged ones back in order', () => {
    const judgements = [judgementOf('a', outcomes('pass')), judgementOf('b', outcomes('timeout'))];
    expect(allJudged(judgements).map(({ id, passRate }) => [id, passRate])).toEqual([
      ['a', 1],
      ['b', 0],
    ]);
  });

  it('fails the batch as SandboxUnavailable, with the reason, where one is not judged', () => {
    const judgements = [
      judgementOf('a', outcomes('pass')),
      judgementOf('b', [{ status: 'pass' }, { status: 'unjudged', reason: 'no memory left' }]),
    ];
    expect(() => allJudged(judgements)).toThrow(StageFailure);
    expect(() => allJudged(judgements)).toThrow(
      expect.objectContaining({ type: 'SandboxUnavailable', message: 'program b could not be judged: no memory left' }),
    );
  });
});
