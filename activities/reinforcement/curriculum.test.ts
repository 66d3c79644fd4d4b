/** The curriculum of RL rounds: what is known, what a question is worth, and what is drawn, drawn again and stored. */
import { describe, expect, it } from 'vitest';
import {
  Curriculum,
  CurriculumDraw,
  CurriculumRow,
  ReinforcementConfig,
  RoundCurriculum,
} from '../../workflows/contract/index.js';
import { deriveSeed } from '../artifacts/keys.js';
import {
  countedPrograms,
  drawn,
  faded,
  firstDraw,
  knownAtFirst,
  learned,
  nextDraw,
  poolOf,
  poolSizes,
  roundCurriculum,
  valueOf,
  withoutSignal,
  type NextDraw,
} from './curriculum.js';

const row = (questionId: string, passed = 0, seen = 0, last = 0): CurriculumRow => ({
  ...{ questionId, passed, seen, last },
  asked: last === 0 ? 0 : 1,
});

describe('what is known of questions', () => {
  it('counts programs as the reward does', () => {
    const programs = [
      { questionId: 'a', passRate: 1 },
      { questionId: 'a', passRate: 0.25 },
      { questionId: 'b' },
      { questionId: 'c', passRate: 0 },
    ];
    expect(countedPrograms(programs, 'allPass')).toEqual(
      new Map([
        ['a', { seen: 2, passed: 1 }],
        ['c', { seen: 1, passed: 0 }],
      ]),
    );
    expect(countedPrograms(programs, 'passRate').get('a')).toEqual({ seen: 2, passed: 1.25 });
  });

  it('begins with the sampled programs, and every question that has none is unknown', () => {
    expect(knownAtFirst(['a', 'b'], new Map([['a', { seen: 12, passed: 3 }]]))).toEqual([row('a', 3, 12), row('b')]);
  });

  it('adds the programs of those that were asked, and earlier ones count less', () => {
    const known = [row('a', 8, 16), row('b', 4, 4)];
    const counted = new Map([['a', { seen: 8, passed: 2 }]]);
    expect(learned(known, new Set(['a']), counted, { round: 3, memory: 0.25 })).toEqual([
      { questionId: 'a', passed: 4, seen: 12, asked: 1, last: 3 },
      row('b', 4, 4),
    ]);
    // Nothing could be judged: what was known stays.
    expect(learned(known, new Set(['b']), new Map(), { round: 3, memory: 0.25 })[1]).toEqual({
      ...{ questionId: 'b', passed: 4, seen: 4, asked: 1, last: 3 },
    });
  });

  it('fades by a fifth in one pass over the questions', () => {
    let known = [row('a', 10, 20)];
    for (let round = 0; round < 5; round += 1) known = faded(known, 0.2);
    expect(known[0]!.seen).toBeCloseTo(16, 9);
    expect(known[0]!.passed).toBeCloseTo(8, 9);
  });

  it('puts each question into a pool', () => {
    const rates = [0, 3, 8, 13, 16].map((passed) => poolOf({ passed, seen: 16 }));
    expect(rates).toEqual(['unsolved', 'hard', 'medium', 'easy', 'solved']);
    expect(poolOf({ passed: 0, seen: 0 })).toBe('medium');
    expect(poolSizes([row('a', 0, 16), row('b', 0, 16), row('c')])).toEqual({
      ...{ unsolved: 2, hard: 0, medium: 1, easy: 0, solved: 0 },
    });
  });
});

describe('the value of a question', () => {
  /** The mean of a function of p under the density of Beta(a, b), by the midpoint rule. */
  const meanOf = (a: number, b: number, of: (p: number) => number): number => {
    const steps = 100_000;
    let [sum, all] = [0, 0];
    for (let step = 0; step < steps; step += 1) {
      const p = (step + 0.5) / steps;
      const density = p ** (a - 1) * (1 - p) ** (b - 1);
      sum += density * of(p);
      all += density;
    }
    return sum / all;
  };

  it.each([
    [3, 12],
    [7, 8],
    [2.25, 9.5],
  ])('is what its formula says, with %d of %d passed', (passed, seen) => {
    const [a, b] = [passed + 0.5, seen - passed + 0.5];
    const value = (rule: Curriculum['rule']): number => valueOf(rule, { passed, seen }, 8);
    expect(value('uniform')).toBe(1);
    expect(value('signal')).toBeCloseTo(
      meanOf(a, b, (p) => 1 - p ** 8 - (1 - p) ** 8),
      6,
    );
    expect(value('learnability')).toBeCloseTo(
      meanOf(a, b, (p) => p * (1 - p)),
      6,
    );
    expect(value('headroom')).toBeCloseTo(
      meanOf(a, b, (p) => p * (1 - p) ** 2),
      6,
    );
  });

  it('is the closed form where nothing is known', () => {
    const unknown = { passed: 0, seen: 0 };
    expect(valueOf('learnability', unknown, 8)).toBeCloseTo(1 / 8, 12);
    expect(valueOf('headroom', unknown, 8)).toBeCloseTo(1 / 16, 12);
    expect(valueOf('signal', unknown, 2)).toBeCloseTo(1 / 4, 12);
  });
});

describe('a draw', () => {
  const draw = { count: 2, samples: 8, seed: 5 };

  it('takes the questions of the highest value', () => {
    const known = [row('solved', 16, 16), row('medium', 8, 16), row('hard', 4, 16), row('unsolved', 0, 16)];
    expect(drawn(known, { ...draw, rule: 'headroom', count: 4 })).toEqual(['hard', 'medium', 'unsolved', 'solved']);
    expect(drawn(known, { ...draw, rule: 'learnability' })).toEqual(['medium', 'hard']);
    expect(drawn(known, { ...draw, rule: 'headroom', without: new Set(['hard']) })).toEqual(['medium', 'unsolved']);
  });

  it('takes of equal ones those that were asked longest ago, and goes through all before it asks one again', () => {
    let known = ['a', 'b', 'c', 'd', 'e', 'f'].map((id) => row(id));
    const asked: string[] = [];
    for (let round = 1; round <= 3; round += 1) {
      const ids = drawn(known, { ...draw, rule: 'uniform', seed: round });
      asked.push(...ids);
      known = learned(known, new Set(ids), new Map(), { round, memory: 0.25 });
    }
    expect([...asked].sort()).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
  });

  it('is the same whatever the order of the rows, and another one by another seed', () => {
    const known = Array.from({ length: 50 }, (_, at) => row(`q-${at}`));
    const of = (rows: readonly CurriculumRow[], seed: number): string[] =>
      drawn(rows, { ...draw, rule: 'headroom', count: 10, seed });
    expect(of([...known].reverse(), 7)).toEqual(of(known, 7));
    expect(of(known, 8)).not.toEqual(of(known, 7));
  });
});

describe('groups without signal', () => {
  it('are those whose rewards are all equal, or fewer than two', () => {
    const rewards = [
      ...[1, 1].map((reward) => ({ questionId: 'equal', reward })),
      ...[1, 0].map((reward) => ({ questionId: 'unequal', reward })),
      { questionId: 'alone', reward: 1 },
      { questionId: 'alone' },
      { questionId: 'none' },
    ];
    expect([...withoutSignal(rewards)]).toEqual(['equal', 'alone', 'none']);
  });
});

describe('the draws of rounds', () => {
  const questions = Array.from({ length: 12 }, (_, at) => `q-${at}`);
  const settingsOf = (round: number, redraw: object = { budget: 1, draws: 4 }) => ({
    curriculum: Curriculum.parse({ redraw }),
    ...{ round, promptsPerRound: 4, samplesPerPrompt: 2, seed: 9, tests: 'allPass' as const },
  });
  /** Prompts of a round after a draw. */
  const promptsOf = (next: NextDraw, before: { questionId: string; draw?: number }[] = []) => [
    ...before.filter(({ questionId }) => !next.replaced.has(questionId)),
    ...next.ask.map((questionId) => ({ questionId, ...(next.about.draw > 0 ? { draw: next.about.draw } : {}) })),
  ];
  /** Rewards of two rollouts of each prompt: only those of `signal` differ. */
  const rewardsOf = (prompts: readonly { questionId: string }[], signal: readonly string[]) =>
    prompts.flatMap(({ questionId }) =>
      [0, signal.includes(questionId) ? 1 : 0].map((reward) => ({ questionId, passRate: reward, reward })),
    );
  const first = firstDraw(settingsOf(1), questions, new Map());

  it('begin with a round of as many questions as the settings say', () => {
    expect(first.ask).toHaveLength(4);
    expect(new Set(first.ask).size).toBe(4);
    expect(CurriculumDraw.parse(first.about)).toEqual({
      ...{ round: 1, draw: 0, seed: deriveSeed(9, 'curriculum', 1, 0), extraRollouts: 0, mayReplace: 4 },
      pools: { unsolved: 0, hard: 0, medium: 12, easy: 0, solved: 0 },
      asked: { unsolved: 0, hard: 0, medium: 4, easy: 0, solved: 0 },
    });
  });

  it('replace groups without signal, count their rollouts, and stop at the budget', () => {
    const prompts = promptsOf(first);
    const [kept] = first.ask;
    let rewards = rewardsOf(prompts, [kept!]);
    expect(RoundCurriculum.parse(roundCurriculum(first.about, rewards))).toMatchObject({
      ...{ groups: 4, firstWithoutSignal: 3, withoutSignal: 3, draws: 1, extraRollouts: 0, replace: 3 },
    });
    const second = nextDraw(settingsOf(1), { about: first.about, known: first.known, prompts, rewards });
    expect(second.ask).toHaveLength(3);
    expect(second.ask.filter((id) => first.ask.includes(id))).toEqual([]);
    expect([...second.replaced].sort()).toEqual(first.ask.slice(1).sort());
    expect(second.about).toMatchObject({ round: 1, draw: 1, firstWithoutSignal: 3, extraRollouts: 6, mayReplace: 1 });
    // What the first draw told is known: its questions that failed count as unsolved ones now.
    expect(second.known.find(({ questionId }) => questionId === first.ask[1])).toEqual({
      ...{ questionId: first.ask[1], seen: 2, passed: 0, asked: 1, last: 1 },
    });
    const after = promptsOf(second, prompts);
    expect(after.map(({ questionId }) => questionId)).toEqual([kept, ...second.ask]);
    rewards = rewardsOf(after, [kept!]);
    const told = roundCurriculum(second.about, rewards);
    expect(told).toMatchObject({ firstWithoutSignal: 3, withoutSignal: 3, draws: 2, extraRollouts: 6, replace: 1 });
    const third = nextDraw(settingsOf(1), { about: second.about, known: second.known, prompts: after, rewards });
    expect(third.ask).toHaveLength(1);
    expect(third.about).toMatchObject({ extraRollouts: 8, mayReplace: 0 });
    expect(roundCurriculum(third.about, rewards).replace).toBe(0);
  });

  it('stop when nothing is left to draw, and at the most draws', () => {
    const all = firstDraw({ ...settingsOf(1), promptsPerRound: 12 }, questions, new Map());
    expect(all.about.mayReplace).toBe(0);
    const once = settingsOf(1, { budget: 9, draws: 1 });
    const prompts = promptsOf(firstDraw(once, questions, new Map()));
    const from = firstDraw(once, questions, new Map());
    expect(from.about.mayReplace).toBe(8);
    const rewards = rewardsOf(prompts, []);
    expect(nextDraw(once, { ...from, prompts, rewards }).about).toMatchObject({ draw: 1, mayReplace: 0 });
    expect(firstDraw({ ...once, curriculum: Curriculum.parse({}) }, questions, new Map()).about.mayReplace).toBe(0);
  });

  it('go on in the next round with what was told by the last draw alone', () => {
    const prompts = promptsOf(first);
    const [kept] = first.ask;
    const second = nextDraw(settingsOf(1), { ...first, prompts, rewards: rewardsOf(prompts, [kept!]) });
    const after = promptsOf(second, prompts);
    const rewards = rewardsOf(after, [kept!]);
    const next = nextDraw(settingsOf(2), { ...second, prompts: after, rewards });
    expect(next.about).toMatchObject({ round: 2, draw: 0, extraRollouts: 0, mayReplace: 4 });
    expect(next.about.firstWithoutSignal).toBeUndefined();
    expect([...next.replaced]).toEqual([]);
    expect(next.ask).toHaveLength(4);
    // The group that stayed was told once, not once for each draw.
    const fade = 0.8 ** (4 / 12);
    const stayed = next.known.find(({ questionId }) => questionId === kept)!;
    expect(stayed).toMatchObject({ asked: 1, last: 1 });
    expect(stayed.seen).toBeCloseTo(2 * fade, 12);
    expect(stayed.passed).toBeCloseTo(fade, 12);
    expect(next.ask).toContain(kept);
    for (const each of next.known) CurriculumRow.parse(each);
    // The same rows give the same draw, also after a way through JSON.
    const again = JSON.parse(JSON.stringify({ ...second, prompts: after, rewards })) as typeof second & {
      prompts: typeof after;
      rewards: typeof rewards;
    };
    expect(nextDraw(settingsOf(2), again)).toEqual(next);
  });
});

describe('the settings', () => {
  const mistakes = (config: object): string[] =>
    (ReinforcementConfig.safeParse({ curriculum: {}, ...config }).error?.issues ?? []).map(
      ({ path, message }) => `${path.join('.')}: ${message}`,
    );

  it('are off by default', () => {
    expect(ReinforcementConfig.parse({}).curriculum).toBeUndefined();
    expect(mistakes({})).toEqual([]);
  });

  it.each([
    ['asynchronous rounds', { asynchronous: {} }, 'asynchronous'],
    ['watched rounds', { watch: {} }, 'watched'],
    ['rounds without verdicts', { reward: { testsWeight: 0, rewardModelWeight: 1 } }, 'testsWeight'],
    ['weak verifiers that are left out', { reward: { verifier: { minimumJ: 0.5 } } }, 'minimumJ'],
  ])('refuse %s, with one mistake', (_, config, told) => {
    expect(mistakes(config)).toEqual([expect.stringMatching(new RegExp(`^curriculum: absent .*${told}`)) as string]);
  });

  it('refuse a change to rounds without verdicts', () => {
    const changes = [{ fromRound: 2, settings: { reward: { testsWeight: 0, rewardModelWeight: 1 } } }];
    expect(mistakes({ rounds: 3, changes })).toEqual([
      expect.stringMatching(/^changes\.0\.settings\.curriculum: absent /) as string,
    ]);
  });
});
