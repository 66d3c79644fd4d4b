/** Repair turns: what feedback may be about, what it says, and what turns earn. */
import { describe, expect, it } from 'vitest';
import {
  ReinforcementConfig,
  Repair,
  RoundRepair,
  STAGE,
  type RepairPromptRow,
  type VerdictRow,
} from '../../workflows/contract/index.js';
import { python } from '../languages/python.js';
import { rewardRollouts, type RewardRule } from './rewards.js';
import {
  ofFailures,
  credited,
  failuresOf,
  feedbackOf,
  repairPrompt,
  roundRepair,
  visiblePlaces,
  type Failure,
} from './repair.js';

const RULE = Repair.parse({ shows: 'call' });
const RULE_OF_SEED = { hiddenShare: 0.5, seed: 1 };
const asserts = (count: number): string[] => Array.from({ length: count }, (_, n) => `assert f(${n}) == ${n * n}`);

describe('visiblePlaces', () => {
  const tests = asserts(8);

  it('leaves out what the watch hides, and of the others a share', () => {
    const prompt = { questionId: 'q', tests, hiddenTests: [1, 6] };
    const places = visiblePlaces(prompt, { hiddenShare: 0.5, seed: 3 });
    expect(places).toHaveLength(3);
    for (const hidden of prompt.hiddenTests) expect(places).not.toContain(hidden);
    expect(visiblePlaces(prompt, { hiddenShare: 0.5, seed: 3 })).toEqual(places);
    expect(visiblePlaces(prompt, { hiddenShare: 0, seed: 3 })).toEqual([0, 2, 3, 4, 5, 7]);
  });

  it('differs from question to question, and hides nothing of equal tests', () => {
    const of = (questionId: string): string => visiblePlaces({ questionId, tests }, RULE_OF_SEED).join();
    expect(new Set(['a', 'b', 'c', 'd'].map(of)).size).toBeGreaterThan(1);
    expect(visiblePlaces({ questionId: 'q', tests: [tests[0]!, tests[0]!] }, RULE_OF_SEED)).toEqual([0, 1]);
  });
});

describe('comparedCall', () => {
  it.each([
    ['assert f(1) == 2', 'f(1)'],
    ['assert f("a == b", [1]) == {"x": (1)}', 'f("a == b", [1])'],
    ['assert sorted(f(3)) == [1, 2], "message"', 'sorted(f(3))'],
    ['assert f(2) == set([1])', 'f(2)'],
    ['assert f(2) == collections.Counter("aa")', 'f(2)'],
    // The expected value, or more than one call, is on the left.
    ['assert 4 == f(2)', undefined],
    ['assert set([4]) == f(2)', undefined],
    ['assert f(1) == 1 and f(2) == 4', undefined],
    ['assert not f(1) == 1', undefined],
    ['assert abs(f(2.0) - 1.4) < 1e-6', undefined],
    ['x = f(1)\nassert x == 2', undefined],
    ['assert f(1)', undefined],
  ])('of %s is %s', (test, call) => {
    expect(python.comparedCall(test)).toBe(call);
  });
});

const wrong: VerdictRow['outcomes'][number] = { status: 'assertion_failed' };
const right: VerdictRow['outcomes'][number] = { status: 'pass' };

describe('failuresOf', () => {
  it('has the failing tests among the visible ones, three at the most, and none without a verdict', () => {
    const tests = asserts(6);
    const outcomes = [wrong, right, wrong, wrong, wrong, wrong];
    const failures = failuresOf({ outcomes, passRate: 1 / 6 }, { tests }, [1, 2, 3, 4, 5]);
    expect(failures.map(({ place, call }) => [place, call])).toEqual([
      [2, 'f(2)'],
      [3, 'f(3)'],
      [4, 'f(4)'],
    ]);
    expect(failuresOf({ outcomes }, { tests }, [1, 2])).toEqual([]);
    // It fails hidden tests only, so nobody tells.
    expect(failuresOf({ outcomes, passRate: 1 / 6 }, { tests }, [1])).toEqual([]);
  });
});

describe('feedbackOf', () => {
  const failure = (values: Partial<Failure> = {}): Failure => ({
    ...{ place: 0, status: 'assertion_failed', test: 'assert f(3) == 9', call: 'f(3)' },
    ...values,
  });
  const seven = { status: 'value', literal: '7' } as const;

  it('shows as much as it is asked to', () => {
    const of = (shows: Repair['shows']): string => feedbackOf([failure()], [seven], { ...RULE, shows });
    expect(of('kind')).toBe('The program is wrong.\nA test gets a wrong answer.');
    expect(of('call')).toBe('The program is wrong.\nf(3) gives 7, which is wrong.');
    expect(of('test')).toBe('The program is wrong.\nThis test fails: assert f(3) == 9\nf(3) gives 7, which is wrong.');
  });

  it('says what came of a call only where that is the failure', () => {
    const of = (status: Failure['status'], value: Parameters<typeof feedbackOf>[1][number]): string =>
      feedbackOf([failure({ status })], [value], RULE).split('\n')[1]!;
    expect(of('raised', { status: 'raised', reason: 'ValueError: at 0x7fbeef\nmore' })).toBe(
      'f(3) raises ValueError: at 0x…',
    );
    expect(of('timeout', { status: 'timeout', reason: '1.02 s' })).toBe('f(3) takes too long.');
    expect(of('raised', seven)).toBe('A test ends with an exception.');
    expect(of('assertion_failed', undefined)).toBe('A test gets a wrong answer.');
    expect(of('load_error', { status: 'load_error', reason: 'SyntaxError: x' })).toBe(
      'The program does not load: SyntaxError: x',
    );
  });

  it('shows the input of a script, and never what it must print', () => {
    const text = feedbackOf([failure({ test: { stdin: '3\n', stdout: 'nine' }, call: undefined })], [], RULE);
    expect(text).toBe('The program is wrong.\nA test gets a wrong answer. Its input is "3\\n".');
  });

  it('is as long as it may be: whole lines, or the first one cut', () => {
    const two = [failure(), failure({ place: 1, call: 'f(4)' })];
    const values = [seven, { status: 'value', literal: '1'.repeat(50) } as const];
    expect(feedbackOf(two, values, { ...RULE, length: 40 })).toBe(
      'The program is wrong.\nf(3) gives 7, which is wrong.',
    );
    expect(feedbackOf(two, values, { ...RULE, length: 10 })).toBe('The program is wrong.\nf(3) give…');
    expect(feedbackOf(two, values, RULE).split('\n')).toHaveLength(3);
  });
});

describe('repairPrompt', () => {
  const at = { seed: 5, round: 2 };
  const ask = (failed: Parameters<typeof repairPrompt>[0]): RepairPromptRow =>
    repairPrompt(failed, { question: 'Square n.' }, { feedback: 'It fails.', shown: [1] }, at);

  it('is the conversation with the answer and the feedback, turn after turn', () => {
    const first = ask({ id: 'r-1', questionId: 'q', index: 3, text: 'def f(n): return n' });
    expect(first).toMatchObject({ repairs: 'r-1', questionId: 'q', index: 3, turn: 2, shown: [1] });
    const { answerRequest } = python;
    expect(first.messages).toEqual([
      { role: 'user', content: `Square n.\n\n${answerRequest}` },
      { role: 'assistant', content: '```python\ndef f(n): return n\n```' },
      { role: 'user', content: `It fails.\n\n${answerRequest}` },
    ]);
    const second = ask({ id: 'r-2', questionId: 'q', index: 3, text: 'x', turn: 2, messages: first.messages });
    expect(second.turn).toBe(3);
    expect(second.messages.slice(0, 3)).toEqual(first.messages);
    expect(second.messages).toHaveLength(5);
    expect(new Set([first.seed, second.seed, ask({ id: 'r-3', questionId: 'q', index: 4, text: 'x' }).seed]).size).toBe(
      3,
    );
  });
});

describe('credited', () => {
  // a fails, b mends it; c passes; d fails, e fails, f passes; g fails and has no repair; h fails, its repair is dropped.
  const turns = [
    { id: 'a', reward: 0 },
    { id: 'c', reward: 1 },
    { id: 'd', reward: 0.25 },
    { id: 'g', reward: 0.5 },
    { id: 'h', reward: 0 },
    { id: 'b', reward: 1, repairs: 'a' },
    { id: 'e', reward: 0, repairs: 'd' },
    { id: 'i', repairs: 'h' },
    { id: 'f', reward: 0.75, repairs: 'e' },
  ];

  it.each([
    ['own', 1, [0, 1, 0.25, 0.5, 0, 1, 0, undefined, 0.75]],
    ['last', 1, [1, 1, 0.75, 0.5, 0, 1, 0.75, undefined, 0.75]],
    ['best', 1, [1, 1, 0.75, 0.5, 0, 1, 0.75, undefined, 0.75]],
    ['discounted', 0.5, [0.5, 1, 0.25, 0.5, 0, 1, 0.375, undefined, 0.75]],
    ['discounted', 0.8, [0.8, 1, 0.48, 0.5, 0, 1, 0.6, undefined, 0.75]],
  ] as const)('%s, discount %s', (credit, discount, expected) => {
    for (const [at, reward] of credited(turns, { credit, discount }).entries())
      if (expected[at] === undefined) expect(reward).toBeUndefined();
      else expect(reward).toBeCloseTo(expected[at], 12);
  });

  it('gives the last turn to the last one, also where an earlier one was better', () => {
    const worse = [
      { id: 'a', reward: 0.5 },
      { id: 'b', reward: 0.25, repairs: 'a' },
    ];
    expect(credited(worse, { credit: 'last' })).toEqual([0.25, 0.25]);
    expect(credited(worse, { credit: 'best' })).toEqual([0.5, 0.25]);
  });
});

describe('rewards of turns', () => {
  const rule: RewardRule = {
    reward: { testsWeight: 1, tests: 'allPass', rewardModelWeight: 0 },
    ...{ rewardClip: 10, dropDegenerateGroups: true, maxNewTokens: 100 },
    repair: { credit: 'discounted', discount: 0.5 },
  };
  const answer = (id: string, passRate: number, repairs?: string) => ({
    ...{ id, questionId: 'q', promptTokens: 1, completionTokens: 1, passRate },
    ...(repairs === undefined ? {} : { turn: 2, repairs }),
  });

  it('compares the answers of a turn with each other, after credit', () => {
    const rows = rewardRollouts([answer('a', 0), answer('b', 1), answer('c', 0.5), answer('d', 1, 'a')], rule);
    expect(rows.map(({ id, reward, ownReward, turn, dropped }) => [id, reward, ownReward, turn, dropped])).toEqual([
      ['a', 0.5, 0, undefined, undefined],
      ['b', 1, 1, undefined, undefined],
      ['c', 0, 0, undefined, undefined],
      // Alone in its turn.
      ['d', undefined, 1, 2, 'smallGroup'],
    ]);
    const two = rewardRollouts([answer('a', 0), answer('b', 0), answer('d', 1, 'a'), answer('e', 1, 'b')], rule);
    expect(two.map(({ dropped }) => dropped)).toEqual(Array.from({ length: 4 }, () => 'degenerateGroup'));
  });

  it('has no trace of turns where there are none', () => {
    const { repair: _repair, ...plain } = rule;
    expect(rewardRollouts([answer('a', 0), answer('b', 1)], plain)).toEqual([
      { id: 'a', questionId: 'q', passRate: 0, reward: 0 },
      { id: 'b', questionId: 'q', passRate: 1, reward: 1 },
    ]);
  });
});

describe('roundRepair', () => {
  it('counts conversations by their first and by their last answer', () => {
    const told = roundRepair([
      { id: 'a', passRate: 0 },
      { id: 'b', passRate: 1 },
      { id: 'c', passRate: 0.5 },
      { id: 'd' },
      { id: 'e', passRate: 0.5 },
      { id: 'f', passRate: 1, repairs: 'a' },
      { id: 'g', passRate: 0.5, repairs: 'c' },
      // Without a verdict the answer before it counts.
      { id: 'h', repairs: 'e' },
    ]);
    expect(RoundRepair.parse(told)).toEqual({
      conversations: 4,
      firstPass: 0.25,
      lastPass: 0.5,
      repairs: 2,
      repaired: 1,
    });
  });
});

describe('the settings', () => {
  const problems = (settings: object): string[] =>
    (ReinforcementConfig.safeParse({ repair: {}, ...settings }).error?.issues ?? []).map(({ path }) => path.join('.'));

  it('refuse what repair turns do not go with', () => {
    expect(problems({})).toEqual([]);
    expect(problems({ asynchronous: {}, watch: {} })).toEqual([]);
    expect(problems({ curriculum: {} })).toEqual(['repair']);
    expect(problems({ reward: { testsWeight: 0, rewardModelWeight: 1 } })).toEqual(['repair']);
  });

  it('leave the keys of first answers, and of everything without repair turns', () => {
    const { plan, rollouts, judge, reward } = STAGE.reinforcement.steps;
    const [plain, mended] = [ReinforcementConfig.parse({}), ReinforcementConfig.parse({ repair: {} })];
    for (const step of [plan, rollouts, judge]) expect(step.semantics(mended)).toEqual(step.semantics(plain));
    expect(reward.semantics(plain)).not.toHaveProperty('repair');
    expect(reward.semantics(mended)).toHaveProperty('repair', { credit: 'own' });
  });
});

it('results of calls go to the failures that have one', () => {
  const of = (call?: string): Failure => ({ place: 0, status: 'raised', test: 'assert f(3) == 9', call });
  const [seven, nine] = ['7', '9'].map((literal) => ({ status: 'value' as const, literal }));
  expect(ofFailures([of(), of('f(3)'), of(), of('f(4)')], [seven!, nine!])).toEqual([
    undefined,
    seven,
    undefined,
    nine,
  ]);
  // Nothing ran.
  expect(ofFailures([of('f(3)')], [])).toEqual([undefined]);
});
