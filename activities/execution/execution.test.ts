/** Verdicts to pass rates: an infrastructure failure is never a rate, a label or a reward. */
import type { SandboxOperation } from '../runtime/operations.js';
import type { PythonProcess } from '../runtime/python-service.js';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { evaluateCalls, faultsOf, judgementOf, settled, shortNotes, type Judgement } from './execution.js';
import {
  SandboxLimits,
  StageFailure,
  VERDICTS,
  type TestOutcome,
  type Verdict,
} from '../../workflows/contract/index.js';

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
    // Running it again would not help.
    expect(settled([judgement])).toEqual([judgement]);
  });

  it('lets nobody read a rate without asking whether there is one', () => {
    expectTypeOf<Extract<Judgement, { judged: false }>>().not.toHaveProperty('passRate');
    expectTypeOf<Extract<Judgement, { judged: true }>['passRate']>().toEqualTypeOf<number>();
  });
});

describe('settled', () => {
  it('gives judged ones back in order', () => {
    const judgements = [judgementOf('a', outcomes('pass')), judgementOf('b', outcomes('timeout'))];
    expect(settled(judgements)).toEqual(judgements);
  });

  it('fails the batch as SandboxUnavailable, with the reason, where one is not judged', () => {
    const judgements = [
      judgementOf('a', outcomes('pass')),
      judgementOf('b', [{ status: 'pass' }, { status: 'unjudged', reason: 'no memory left' }]),
      judgementOf('c', outcomes('checker_failed')),
    ];
    expect(() => settled(judgements)).toThrow(StageFailure);
    expect(() => settled(judgements)).toThrow(
      expect.objectContaining({ type: 'SandboxUnavailable', message: 'program b could not be judged: no memory left' }),
    );
  });
});

describe('faults of checkers', () => {
  const faulty = (id: string): Judgement => judgementOf(id, [{ status: 'checker_failed', reason: 'KeyError: 3' }]);

  it('are counted, and the first of them told', () => {
    expect(faultsOf([judgementOf('a', outcomes('raised')), faulty('b')])).toEqual({
      counts: { checkerFailed: 1 },
      notes: { checkerFailed: ['b: test 0: KeyError: 3'] },
    });
    const many = faultsOf(Array.from({ length: 30 }, (_, at) => faulty(String(at))));
    expect([many.counts.checkerFailed, many.notes.checkerFailed!.length]).toEqual([30, 20]);
    expect(shortNotes({ harness: ['6'], checkerFailed: Array.from({ length: 90 }, (_, at) => String(at)) })).toEqual({
      harness: ['6'],
      checkerFailed: Array.from({ length: 20 }, (_, at) => String(at)),
    });
  });

  it('say nothing where there are none', () => {
    expect(faultsOf([judgementOf('a', outcomes('raised'))])).toEqual({ counts: {}, notes: {} });
    expect(shortNotes({ harness: ['6'] })).toEqual({ harness: ['6'] });
  });
});

describe('evaluateCalls', () => {
  const jobs = [{ id: 'p', program: 'def f(n):\n    return n', calls: ['f(1)', 'f(2)'] }];
  const results = [{ status: 'value', literal: '1' }, { status: 'unjudged' }];
  const answering = (values: unknown, error?: Error): PythonProcess<SandboxOperation> =>
    ({ call: () => (error ? Promise.reject(error) : Promise.resolve({ values })) }) as never;
  const limits = SandboxLimits.parse({});

  it('refuses calls that could not run, or keeps them where that is asked for', async () => {
    const sandbox = answering([{ id: 'p', results }]);
    await expect(evaluateCalls(sandbox, jobs, { limits })).rejects.toMatchObject({ type: 'SandboxUnavailable' });
    await expect(evaluateCalls(sandbox, jobs, { limits, keepUnjudged: true })).resolves.toEqual([results]);
  });

  it.each([
    ['a lost sandbox', answering([], new StageFailure('SandboxUnavailable', 'lost'))],
    ['no answer', answering([])],
  ])('keeps nothing of %s', async (_, sandbox) => {
    await expect(evaluateCalls(sandbox, jobs, { limits, keepUnjudged: true })).rejects.toMatchObject({
      type: 'SandboxUnavailable',
    });
  });
});
