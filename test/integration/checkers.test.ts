/**
 * Questions with several right answers, through the whole chain: right programs that answer differently pass, what is
 * equal to everything passes nothing, and a checker with a fault costs its program, its answer or its question alone.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { collect } from '../../activities/artifacts/collections.js';
import { roundsOf } from '../../activities/artifacts/pruning.js';
import { root, venvPython } from '../../infra/setup/paths.mjs';
import {
  ArtifactRef,
  EvaluationRow,
  FilteredQuestionRow,
  ProgramRow,
  RewardRow,
  STAGE,
  Summary,
  VerdictRow,
  type StageName,
} from '../../workflows/contract/index.js';
import type { ReverifyResult } from '../../workflows/reverify.js';
import { artifactStore, startWorkflow, workerProcess } from '../fixtures/harness.js';

const QUEUE = 'checkers';

/** An object that is equal to everything, and more or less than it. */
const EQUAL = (name: string): string =>
  `class Equal(int):\n    __hash__ = int.__hash__\n    def __eq__(self, other):\n        return True\n` +
  `    __ne__ = __lt__ = __gt__ = __le__ = __ge__ = __eq__\n\ndef ${name}(*values):\n    return Equal(7)`;

const SUM = 'def check(input, output, answer):\n    return sum(output) == input[0] and min(output) >= 0';
/** As SUM, and says so where an answer is none. */
const MENDED = `def check(input, output, answer):
    if type(output) not in (list, tuple) or not output or not all(type(each) is int for each in output):
        return False, 'no collection of numbers'
    return sum(output) == input[0] and min(output) >= 0`;
const BROKEN = "def check(input, output, answer):\n    return {}['missing']";

/** A question: what is asked, its tests, and four answers, of which the first two are right. */
interface Exercise {
  name: string;
  question: string;
  tests: object[] | string[];
  checker?: string;
  answers: [right: string, other: string, wrong: string, strange: string];
}

const numbers = [0, 1, 2, 3, 4, 5];
const body = (name: string, line: string): string => `def ${name}(n):\n    return ${line}`;
const exercise = (
  name: string,
  question: string,
  tests: Exercise['tests'],
  [right, other, wrong]: [string, string, string],
  more: Partial<Exercise> = {},
): Exercise => ({
  name,
  question,
  tests,
  answers: [body(name, right), body(name, other), body(name, wrong), EQUAL(name)],
  ...more,
});

const EXERCISES: Exercise[] = [
  exercise(
    'mixed_up',
    'Give the whole numbers below n in any order you like, each of them once, as a list.',
    numbers.map((n) => ({ call: `mixed_up(${n})`, property: 'sorted(result) == list(range(args[0]))' })),
    ['list(range(n))', 'list(range(n))[::-1]', '[0] * n'],
  ),
  exercise(
    'rooted',
    'Compute a square root of the argument as a floating-point value, to six digits.',
    numbers.map((n) => ({ call: `rooted(${n})`, expect: Math.sqrt(n).toFixed(9), compare: 'tolerance' })),
    ['float(n) ** 0.5', 'n ** 0.5 + 1e-9', 'n / 1.0'],
  ),
  exercise(
    'dividing',
    'Which positive integers divide the given one without a remainder? Collect them.',
    [6, 8, 9, 10, 12, 1].map((n) => ({
      call: `dividing(${n})`,
      expect: JSON.stringify(Array.from({ length: n }, (_, at) => at + 1).filter((each) => n % each === 0)),
      compare: 'unordered',
    })),
    [
      '[each for each in range(1, n + 1) if n % each == 0]',
      '[each for each in range(n, 0, -1) if n % each == 0]',
      '[each for each in range(1, n) if n % each == 0] + [n] * (n == 1)',
    ],
  ),
  exercise(
    'neighbour',
    'Name a neighbour of this integer on the number line; there are two.',
    [...numbers.map((n) => ({ call: `neighbour(${n})`, anyOf: [String(n - 1), String(n + 1)] }))],
    ['n + 1', 'n - 1', 'n + (n < 2)'],
  ),
  exercise(
    'parts_of',
    'Write an amount as a pair of amounts that are not negative and add up to it.',
    numbers.map((n) => ({ call: `parts_of(${n})` })),
    ['(n, 0)', '(0, n)', '(n, n)'],
    { checker: MENDED },
  ),
  ...[
    ['addends', 'List some natural summands whose total is what was asked for.'],
    ['shares', 'Distribute coins among two people so that none is left over; tell who gets how many.'],
  ].map(([name, question]) => ({
    ...exercise(
      name!,
      question!,
      numbers.map((n) => ({ call: `${name}(${n})` })),
      ['[n, 0]', '[0, n]', '[n, n]'],
      { checker: SUM },
    ),
    answers: [body(name!, '[n, 0]'), body(name!, '[0, n]'), body(name!, '[n, n]'), body(name!, 'n')] as never,
  })),
  exercise(
    'unjudgeable',
    'Here nobody can tell what is right, because the judge itself crashes each time.',
    numbers.map((n) => ({ call: `unjudgeable(${n})` })),
    ['n', 'n', 'n'],
    { checker: BROKEN },
  ),
  ...[3, 5, 7].map((factor) => {
    const name = `times_${factor}`;
    return exercise(
      name,
      `Multiply the parameter by ${factor} and hand back the product${'!'.repeat(factor)}`,
      numbers.map((n) => `assert ${name}(${n}) == ${n * factor}`),
      [`${factor} * n`, `n * ${factor}`, `${factor} * (n % 3)`],
      {
        answers: ['a', 'b', 'c', 'd'].map((_, at) =>
          body(name, [`${factor} * n`, `n * ${factor}`][at] ?? `${factor} * (n % 3)`),
        ) as never,
      },
    );
  }),
];
const named = new Map(EXERCISES.map((each) => [each.name, each]));
const CHECKED = ['mixed_up', 'rooted', 'dividing', 'neighbour', 'parts_of'];
const CARELESS = ['addends', 'shares'];

interface Result {
  summary: string;
  stages: { name: StageName; artifact: ArtifactRef }[];
}

let worker: ReturnType<typeof workerProcess>;
let artifacts: Record<StageName, ArtifactRef>;
let summary: Summary;
const store = () => artifactStore();

const file = (kind: string, rows: readonly object[], name = kind): { kind: string; path: string } => {
  const path = join(inject('stack').home, QUEUE, `${name}.jsonl`);
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return { kind, path };
};
const questions = (): Promise<FilteredQuestionRow[]> =>
  collect(store().rowsOf(artifacts.filtering, FilteredQuestionRow));
const reverified = async (input: object): Promise<ReverifyResult> =>
  (await startWorkflow('reverify', input, { taskQueue: QUEUE })).result() as Promise<ReverifyResult>;

beforeAll(async () => {
  const folder = join(inject('stack').home, QUEUE);
  mkdirSync(folder, { recursive: true });
  const answers = join(folder, 'answers.json');
  const fenced = (program: string): string => `${program}\n\`\`\`\n`;
  writeFileSync(
    answers,
    JSON.stringify(Object.fromEntries(EXERCISES.map(({ name, answers }) => [name, answers.map(fenced)]))),
  );
  const python = join(folder, 'python');
  const script = join(root, 'test/fixtures/answering_runtime.py');
  writeFileSync(
    python,
    `#!/bin/sh\nif [ "$*" = "-m runtime" ]; then set -- "${script}"; fi\n` +
      `ACECODER_ANSWERS="${answers}" exec "${venvPython()}" "$@"\n`,
    { mode: 0o755 },
  );
  worker = workerProcess(QUEUE, { ...inject('environment'), ACECODER_PYTHON: python });
  const seeds = EXERCISES.map(({ name, answers: [code] }) => ({ id: name, source: 'own', code }));
  const replies = EXERCISES.map(({ name, question, tests, checker }) => ({
    seedId: name,
    text: JSON.stringify({ question, signature: `def ${name}(n)`, tests, checker }),
  }));
  const handle = await startWorkflow(
    'experiment',
    {
      name: QUEUE,
      seeds: file('seeds', seeds),
      inputs: { replies: file('replies', replies) },
      models: { policy: { kind: 'folder', path: inject('model') } },
      stages: {
        synthesis: { teacher: { kind: 'recorded' }, decontaminate: [], nearDuplicate: null },
        filtering: { heldOutShare: 0.4, salt: SALT },
        sampling: { samples: 4, maxNewTokens: 8 },
        rewardModel: { epochs: 1, batchSize: 4, maxLength: 256, execution: { microBatch: 4 } },
        fineTuning: { maxLength: 256 },
        reinforcement: { rounds: 1, promptsPerRound: TRAIN, samplesPerPrompt: 4, maxNewTokens: 8 },
        evaluation: { benchmarks: [{ kind: 'heldOut' }], samples: 4, maxNewTokens: 8 },
      },
      onFailure: 'fail',
    },
    { taskQueue: QUEUE },
  );
  const result = (await handle.result()) as Result;
  artifacts = Object.fromEntries(result.stages.map(({ name, artifact }) => [name, artifact])) as never;
  summary = Summary.parse(JSON.parse(readFileSync(result.summary, 'utf8')));
});
afterAll(() => worker.stop());

/** Of this salt one careless checker's question is for training, and the other one is held out. */
const SALT = '0';
const TRAIN = 6;

const digest = (checker: string): string => createHash('sha256').update(checker).digest('hex').slice(0, 16);

it('filtering keeps the tests and their checker, and drops the question whose checker always has a fault', async () => {
  const kept = await questions();
  expect(kept.map(({ seedId }) => seedId).sort()).toEqual(
    [...named.keys()].filter((name) => name !== 'unjudgeable').sort(),
  );
  for (const { seedId, tests, checker } of kept) {
    expect(tests, seedId).toEqual(named.get(seedId)!.tests);
    expect(checker, seedId).toBe(named.get(seedId)!.checker);
  }
  expect(summary.data.dropped).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ stage: 'filtering', what: 'question', reason: 'checkerFailed', count: 1 }),
      expect.objectContaining({ stage: 'filtering', what: 'testCase', reason: 'checker_failed', count: 6 }),
    ]),
  );
  const sides = new Map(kept.map(({ seedId, split }) => [seedId, split]));
  expect(CARELESS.map((name) => sides.get(name)).sort()).toEqual(['heldOut', 'train']);
});

it('sampling passes every right program, nothing that is equal to everything, and rates none by a fault', async () => {
  const bySeed = new Map((await questions()).map(({ id, seedId }) => [id, seedId]));
  const programs = await collect(store().rowsOf(artifacts.sampling, ProgramRow));
  const rates = new Map<string, number[]>();
  for (const { questionId, index, passRate, outcomes } of programs) {
    const name = bySeed.get(questionId)!;
    const of = rates.get(name) ?? [];
    of[index] = passRate;
    rates.set(name, of);
    const { checker } = named.get(name)!;
    const versions = new Set(outcomes.map((outcome) => outcome.checker));
    if (checker && index < 3) expect([...versions], name).toEqual([digest(checker)]);
  }
  for (const name of CHECKED) {
    const [right, other, wrong, equal] = rates.get(name)!;
    expect([right, other, equal], name).toEqual([1, 1, 0]);
    expect(wrong, name).toBeLessThan(1);
  }
  for (const name of CARELESS) {
    expect(rates.get(name)!.slice(0, 2), name).toEqual([1, 1]);
    expect(rates.get(name), name).toHaveLength(3);
  }
  expect(summary.data.dropped).toContainEqual(
    expect.objectContaining({ stage: 'sampling', what: 'program', reason: 'checkerFailed', count: 2 }),
  );
  const { notes } = STAGE.sampling.metrics.parse((await store().manifest(artifacts.sampling)).metrics);
  expect(notes['checkerFailed']).toEqual([
    expect.stringMatching(/^p-\S+: test 0: the checker: TypeError/),
    expect.stringMatching(/^p-\S+: test 0: the checker: TypeError/),
  ]);
});

it('an RL round trains on what has verdicts, and leaves the rollout out whose checker has a fault', async () => {
  const policy = (await roundsOf(store(), artifacts.reinforcement)).get(1)!;
  const { inputs } = await store().manifest(policy);
  const rewards = await collect(store().rowsOf(ArtifactRef.parse(inputs['rewards']), RewardRow));
  const dropped = rewards.filter((row) => row.dropped !== undefined);
  expect(dropped.map((row) => [row.dropped, row.passRate])).toEqual([['unjudged', undefined]]);
  expect(rewards.filter(({ reward }) => reward !== undefined)).toHaveLength(4 * TRAIN - 1);
  const judged = ArtifactRef.parse((await store().manifest(ArtifactRef.parse(inputs['rewards']))).inputs['verdicts']);
  expect((await store().manifest(judged)).metrics).toMatchObject({
    checkerFailed: 1,
    notes: { checkerFailed: [expect.stringContaining('the checker: TypeError')] },
  });
  const verdicts = await collect(store().rowsOf(judged, VerdictRow));
  expect(verdicts.find(({ id }) => id === dropped[0]!.id)!.outcomes[0]!.status).toBe('checker_failed');
});

it('an evaluation counts answers without a verdict, and has them in no rate', async () => {
  const rows = await collect(store().rowsOf(artifacts.evaluation, EvaluationRow));
  const heldOut = (await questions()).filter(({ split }) => split === 'heldOut');
  const judged = heldOut.filter(({ seedId }) => !CARELESS.includes(seedId));
  expect(judged).toHaveLength(heldOut.length - 1);
  expect(new Set(rows.map(({ taskId }) => taskId))).toEqual(new Set(heldOut.map(({ id }) => id)));
  const { results } = STAGE.evaluation.metrics.parse((await store().manifest(artifacts.evaluation)).metrics);
  for (const result of results) {
    const own = rows.filter(({ policy }) => policy === result.policy);
    const faulty = own.filter(({ outcomes }) => outcomes.some(({ status }) => status === 'checker_failed'));
    expect(faulty.length).toBeGreaterThan(0);
    expect([result.unjudged, result.greedy, result.mean! >= 0.5]).toEqual([faulty.length, 1, true]);
  }
});

it('a re-verification runs nothing again, takes another checker, and survives one with a fault', async () => {
  const inputs = {
    programs: artifacts.sampling,
    evaluation: artifacts.evaluation,
    policy: artifacts.reinforcement,
  };
  const same = await reverified({ inputs });
  expect([same.cells, same.summary.verdicts, same.summary.firstChangedRound]).toEqual([0, {}, null]);

  const of = new Map((await questions()).map(({ id, seedId }) => [seedId, id]));
  const mended = await reverified({
    inputs: {
      ...inputs,
      tests: file(
        'tests',
        CARELESS.map((name) => ({ questionId: of.get(name)!, checker: MENDED })),
      ),
    },
    compare: 0,
  });
  // Equal programs of stages share their cells: 2 questions with 3 programs. The rollout and the
  // answer that had no verdict come to them.
  expect(mended.cells).toBe(numbers.length * (2 * 3 + 2));
  expect([mended.summary.checkerFailed, mended.summary.firstChangedRound]).toEqual([undefined, 1]);

  const broken = await reverified({
    inputs: { ...inputs, tests: file('tests', [{ questionId: of.get('parts_of')!, checker: BROKEN }], 'broken') },
    compare: 0,
  });
  expect(broken.summary.checkerFailed).toBeGreaterThanOrEqual(4);
  const rows = await collect(store().rowsOf(broken.programs!, ProgramRow));
  // What is no plain data fails without the checker.
  const left = rows.filter(({ questionId }) => questionId === of.get('parts_of'));
  expect(left.map(({ index, passRate }) => [index, passRate])).toEqual([[3, 0]]);
  expect(broken.summary.passRate!.after).toBeGreaterThan(0.5);
});
