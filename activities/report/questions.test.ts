/** The questions of a report: put together from rows in different orders, in one file or in shards. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeExperiment, type MadeExperiment } from '../../test/fixtures/report-experiment.js';
import { roundsOf } from '../artifacts/pruning.js';
import { roundSources, type RoundSource } from './rollouts.js';
import { manifestsOfRounds } from './timeline.js';
import { embeddedJson, FILTERS, writeQuestions, type FilterName, type WrittenQuestions } from './questions.js';

interface Shown {
  id: string;
  group: string;
  dropped?: string;
  samples?: number;
  tests: { test: string; dropped?: string; reason?: string }[];
  programs: {
    by: string;
    mode: string;
    rate: number;
    verdicts: string;
    times: number;
    score?: number;
    round?: number;
    reward?: number;
    parts?: { tests?: number; rewardModel?: number };
    left?: string;
  }[];
  rounds?: { round: number; samples: number; rate?: number; reward?: number }[];
}

let folder: string;
let made: MadeExperiment;
let rounds: RoundSource[];
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'report-questions-'));
  made = await makeExperiment(join(folder, 'store'), { questions: 600, programs: 12, rounds: 3 });
  const policies = [...(await roundsOf(made.store, made.refs['reinforcement']!)).values()];
  rounds = await roundSources(made.store, policies, await manifestsOfRounds(policies, made.store.manifest));
});
afterAll(() => rmSync(folder, { recursive: true }));

const write = (name: string, oneFile: number): Promise<WrittenQuestions> =>
  writeQuestions(
    made.store,
    {
      questions: made.refs['synthesis'],
      filteredQuestions: made.refs['filtering'],
      programs: made.refs['sampling'],
      evaluation: made.refs['evaluation'],
      rounds,
    },
    join(folder, name),
    { oneFile },
  );

/** The questions in the texts of one file. */
const questionsIn = ({ shards }: WrittenQuestions): Shown[] =>
  ('texts' in shards ? shards.texts : []).flatMap((text) => JSON.parse(text) as Shown[]);

describe('the questions of a report', () => {
  it('have their tests, programs and verdicts, whatever the order of the rows', async () => {
    const written = await write('one', 5_000);
    const questions = questionsIn(written);
    expect(questions).toHaveLength(603);
    expect(written.index.map(([id]) => id)).toEqual(questions.map(({ id }) => id));
    expect(readdirSync(join(folder, 'one'))).toEqual([]);
    const question = questions[4]!;
    expect(question).toMatchObject({ id: 'q-000004', group: 'held-out question', samples: 12 });
    expect(question.tests.filter(({ dropped }) => dropped === undefined)).toHaveLength(7);
    expect(question.tests.filter(({ dropped }) => dropped !== undefined)).toEqual([
      { test: 'assert function_4(7, [7, 2]) == 28', dropped: 'assertion_failed', reason: 'the oracle gives 4' },
    ]);
    // Equal programs are one, and all samples are counted.
    const sampled = question.programs.filter(({ by }) => by === 'sampling');
    expect(sampled.reduce((sum, { times }) => sum + times, 0)).toBe(12);
    expect(sampled.length).toBeLessThanOrEqual(6);
    expect(sampled.map(({ rate }) => rate)).toEqual(sampled.map(({ rate }) => rate).sort((a, b) => b - a));
    for (const { rate, verdicts } of sampled)
      expect(rate).toBeCloseTo([...verdicts].filter((letter) => letter === 'p').length / 7, 3);
    const answers = question.programs.filter(({ by }) => by === 'initial' || by === 'trained');
    expect(answers.filter(({ mode }) => mode === 'greedy').map(({ by }) => by)).toEqual(['initial', 'trained']);
    // A dropped question shows every test that was written, each with its verdict.
    expect(questions[9]).toMatchObject({ id: 'q-000009', dropped: 'tooFewTestCases', group: 'dropped question' });
    expect(questions[9]!.tests).toHaveLength(8);
    // The tests of a benchmark's task come from the plan of the evaluation.
    expect(questions.at(-1)).toMatchObject({ id: 'humaneval HumanEval/2', group: 'humaneval' });
    expect(questions.at(-1)!.tests[3]).toEqual({ test: 'assert candidate_2(3) == 3' });
  });

  it('have the rollouts of their first and of their last RL round, with the reward by its parts', async () => {
    const written = await write('rounds', 5_000);
    const questions = questionsIn(written);
    const inRounds = questions.filter(({ rounds: own }) => own !== undefined);
    expect(inRounds.map(({ id, rounds: own }) => [id, own!.map(({ round }) => round)])).toEqual([
      ['q-000001', [1, 3]],
      ['q-000002', [1, 3]],
      ['q-000003', [1, 3]],
      ['q-000005', [1]],
      ['q-000006', [2]],
      ['q-000007', [2]],
      ['q-000010', [2]],
      ['q-000011', [2]],
      ['q-000013', [3]],
    ]);
    const rollouts = inRounds.flatMap(({ programs }) => programs.filter(({ by }) => by === 'rollout'));
    expect(rollouts.reduce((sum, { times }) => sum + times, 0)).toBe(3 * 4 * 4);
    // Three rollouts, one in each round, have no verdict and no reward.
    expect(rollouts.filter(({ left }) => left === 'unjudged').map(({ verdicts }) => verdicts)).toEqual(['u', 'u', 'u']);
    for (const { reward, parts, rate, score, verdicts } of rollouts.filter(({ left }) => left === undefined)) {
      expect(parts!.tests).toBeCloseTo(rate, 3);
      expect(parts!.rewardModel).toBeCloseTo(0.1 * score!, 3);
      expect(reward).toBeCloseTo(parts!.tests! + parts!.rewardModel!, 3);
      expect(rate).toBeCloseTo([...verdicts].filter((letter) => letter === 'p').length / 7, 3);
    }
    const [first, last] = inRounds[1]!.rounds!;
    const own = inRounds[1]!.programs.filter(({ round }) => round === last!.round);
    expect(last!.samples).toBe(own.reduce((sum, { times }) => sum + times, 0));
    expect(last!.rate).toBeCloseTo(own.reduce((sum, { rate, times }) => sum + rate * times, 0) / 4, 3);
    const more = inRounds.filter(({ rounds: of }) => of!.at(-1)!.rate! > of![0]!.rate!).length;
    const fewer = inRounds.filter(({ rounds: of }) => of!.at(-1)!.rate! < of![0]!.rate!).length;
    expect(first!.rate).not.toBe(last!.rate);
    expect(written.tallies.found).toMatchObject({ rollouts: 9, passMore: more, passFewer: fewer });
    expect(written.tallies.examples['reinforcement rollout unjudged']?.[0]).toEqual({
      text: 'round 1: r-1-1-0',
      question: 'q-000001',
    });
  });

  it('are found by what is wrong with them', async () => {
    const written = await write('found', 5_000);
    const questions = questionsIn(written);
    const bits = Object.keys(FILTERS);
    const foundBy = (name: FilterName): string[] =>
      written.index.filter(([, , , flags]) => flags & (1 << bits.indexOf(name))).map(([id]) => id);
    const greedy = (question: Shown, policy: string): number | undefined =>
      question.programs.find(({ by, mode }) => by === policy && mode === 'greedy')?.rate;
    expect(foundBy('gained')).toEqual(
      questions.filter((each) => greedy(each, 'trained') === 1 && greedy(each, 'initial')! < 1).map(({ id }) => id),
    );
    expect(foundBy('lost')).toEqual(
      questions.filter((each) => greedy(each, 'initial') === 1 && greedy(each, 'trained')! < 1).map(({ id }) => id),
    );
    expect(foundBy('gained').length).toBeGreaterThan(0);
    expect(foundBy('questionDropped')).toEqual(questions.filter(({ dropped }) => dropped).map(({ id }) => id));
    expect(foundBy('noneCorrect')).toEqual(
      questions
        .filter(({ samples, programs }) => samples && !programs.some(({ by, rate }) => by === 'sampling' && rate === 1))
        .map(({ id }) => id),
    );
    expect(foundBy('benchmark')).toHaveLength(3);
    for (const name of bits as FilterName[]) expect(written.tallies.found[name]).toBe(foundBy(name).length);
    const wrong = foundBy('rewardModelWrong');
    expect(wrong.length).toBeGreaterThan(0);
    expect(wrong.length).toBeLessThan(questions.length / 2);
    const [task] = written.tallies.paired.filter(({ benchmark }) => benchmark === 'heldOut');
    expect(task!.gained + task!.lost + task!.both + task!.neither).toBe(150);
  });

  it('are in shards next to the page where they are many, which say the same', async () => {
    const one = questionsIn(await write('one', 5_000));
    const { shards, index } = await write('many', 599);
    const files = 'files' in shards ? shards.files : [];
    expect(files).toEqual(['questions/00000.js', 'questions/00001.js', 'questions/00002.js']);
    const read: Shown[] = [];
    for (const [number, file] of files.entries()) {
      const text = readFileSync(join(folder, 'many', file), 'utf8');
      const [, at, json] = /^acecoderShard\((\d+), ([^]*)\);\n$/.exec(text)!;
      expect(Number(at)).toBe(number);
      read.push(...(JSON.parse(json!) as Shown[]));
    }
    expect(read.map(({ id, tests }) => [id, tests])).toEqual(one.map(({ id, tests }) => [id, tests]));
    expect(index.map(([id]) => id)).toEqual(one.map(({ id }) => id));
    expect(existsSync(join(folder, 'many', '.rows'))).toBe(false);
  });

  it('counts cut answers, and rates by the number of samples', async () => {
    const { tallies } = await write('tallies', 5_000);
    expect(tallies.sampling).toMatchObject({ answers: 540 * 12, tests: 540 * 12 * 7, unjudged: 0 });
    expect(tallies.sampling!.truncated / tallies.sampling!.answers).toBeCloseTo(0.1, 1);
    const curve = tallies.curves.find(({ policy }) => policy === 'trained')!;
    expect(curve.points.map(({ n }) => n)).toEqual([1, 2, 4]);
    const [first, , last] = curve.points;
    expect(tallies.addedTests).toEqual([]);
    // One sample is the mean, whoever chooses it.
    expect(first!.oracle).toBeCloseTo(first!.mean, 12);
    expect(first!.bestOf).toBeCloseTo(first!.mean, 12);
    expect(last!.oracle).toBeGreaterThan(last!.mean);
    expect(last!.bestOf!).toBeLessThanOrEqual(last!.oracle);
  });
});

describe('embedded JSON', () => {
  it.each(['</script>', '<!--', '\u2028\u2029', '\ud800', '\u0000"\\'])('ends no element and no string: %j', (text) => {
    const json = embeddedJson({ text });
    expect(json).not.toMatch(/[<\u2028\u2029]/);
    expect(JSON.parse(json)).toEqual({ text });
  });
});
