import { describe, expect, test } from 'vitest';
import { chooseTests, pairsOf, rankOf, testOf, vouchedFor, type Offer } from './choose.js';

const RULE = { maximum: 3, killsUpTo: 4, asksUpTo: 2, strangeCosts: 0.3, answersAre: 4 };

function offer(call: string, given: Partial<Offer> = {}): Offer {
  return { call, answer: '1', inexact: false, strange: 0, kinds: [], kills: [], ...given };
}

describe('chooseTests', () => {
  test('names each victim once, and takes the test that kills most first', () => {
    const chosen = chooseTests(
      [offer('f(1)', { kills: ['a'] }), offer('f(2)', { kills: ['a', 'b'] }), offer('f(3)', { kills: ['c'] })],
      [],
      { ...RULE, asksUpTo: -1 },
    );
    expect(chosen.map(({ offer: { call }, why }) => [call, why])).toEqual([
      ['f(2)', { kills: ['a', 'b'] }],
      ['f(3)', { kills: ['c'] }],
    ]);
  });

  test('prefers an ordinary input to a strange one that kills more', () => {
    const [first] = chooseTests(
      [offer('f(-1)', { strange: 3, kills: ['a', 'b'] }), offer('f(2)', { kills: ['a'] })],
      [],
      RULE,
    );
    expect(first!.offer.call).toBe('f(2)');
  });

  test('leaves out a test whose victims later ones kill, and one that is too strange', () => {
    const offers = [
      offer('f(1)', { kills: ['a', 'b', 'c', 'd'] }),
      offer('f(2)', { kills: ['a', 'b', 'e'] }),
      offer('f(3)', { kills: ['c', 'd', 'g'] }),
      offer('f(9)', { strange: 9, kills: ['z'] }),
    ];
    const chosen = chooseTests(offers, [], { ...RULE, asksUpTo: -1 });
    expect(chosen.map(({ offer: { call } }) => call)).toEqual(['f(2)', 'f(3)']);
  });

  test('fills the budget with answers that nothing asked for', () => {
    const chosen = chooseTests(
      [offer('f(1)', { answer: '1' }), offer('f(2)', { answer: '2' }), offer('f(3)', { answer: '3', strange: 3 })],
      [{ answer: '1', kinds: [] }],
      { ...RULE, maximum: 1 },
    );
    expect(chosen.map(({ offer: { call }, why }) => [call, why])).toEqual([['f(2)', { asks: '= 2' }]]);
  });

  test('adds no more tests than the budget allows', () => {
    const offers = Array.from({ length: 9 }, (_, at) => offer(`f(${at})`, { kills: [`victim ${at}`] }));
    expect(chooseTests(offers, [], RULE)).toHaveLength(3);
  });
});

describe('testOf', () => {
  test('asks as the tests of the question ask', () => {
    const asked = { call: 'f("__call__")', answer: '{1}', inexact: false };
    expect(testOf(asked, { form: 'set(__call__)', tolerance: null })).toBe('assert set(f("__call__")) == {1}');
  });

  test('compares floats with a tolerance, or with that of the question', () => {
    const asked = { call: 'f(2)', answer: '0.5', inexact: true };
    expect(testOf(asked, { form: '__call__', tolerance: null })).toMatchObject({ expect: '0.5', tolerance: 1e-6 });
    expect(testOf(asked, { form: '__call__', tolerance: 0.001 })).toMatchObject({ tolerance: 0.001 });
  });
});

test('rank counts the independent ways in which attackers fail', () => {
  expect(rankOf([])).toBe(0);
  expect(rankOf([[], ['a'], ['a']])).toBe(1);
  expect(rankOf([['a'], ['b'], ['a', 'b']])).toBe(2);
  // Over numbers these are independent; over bits the third would be the sum of the others.
  expect(
    rankOf([
      ['a', 'b'],
      ['b', 'c'],
      ['a', 'c'],
    ]),
  ).toBe(3);
  expect(
    rankOf([
      ['a', 'b', 'c'],
      ['c', 'd'],
      ['a', 'b', 'd'],
      ['a', 'b'],
    ]),
  ).toBe(3);
});

test('a program vouches for an input only where it is another one than the reference', () => {
  const reference = 'def f(n):\n    return 2 * n';
  expect(vouchedFor([{ program: 'def f(n): return 2*n', status: 'pass' }], reference)).toBe(false);
  expect(vouchedFor([{ program: 'def f(n): return n + n', status: 'pass' }], reference)).toBe(true);
  expect(vouchedFor([{ program: 'def f(n): return n + n', status: 'raised' }], reference)).toBe(false);
  const said = (...statuses: string[]) =>
    statuses.map((status, at) => ({ program: `def f(n): return ${at} + n`, status }));
  expect(vouchedFor(said('pass', 'pass', 'raised'), reference)).toBe(true);
  expect(vouchedFor(said('pass', 'raised'), reference)).toBe(false);
  // The same program again is no further voice.
  const again = [
    ...said('raised', 'pass'),
    ...said('raised', 'pass'),
    { program: 'def f(n):  return 1 + n', status: 'pass' },
  ];
  expect(vouchedFor(again, reference)).toBe(false);
  expect(vouchedFor([], reference)).toBe(false);
});

test('pairs are those of the paper', () => {
  expect(pairsOf([1, 0.5, 0])).toBe(1);
  expect(pairsOf([0.8, 0.4, 0.41])).toBe(1);
  expect(pairsOf([0.7, 0.1])).toBe(0);
});
