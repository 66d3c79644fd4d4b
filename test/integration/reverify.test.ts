/**
 * Stored programs under changed tests, limits and rules: exactly the new cells run, and the table says what changed.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collect } from '../../activities/artifacts/collections.js';
import {
  ProgramRow,
  ReverificationRow,
  type ArtifactRef,
  type StageResult,
  type Verdict,
} from '../../workflows/contract/index.js';
import type { ReverifyResult } from '../../workflows/reverify.js';
import { storeEvaluation, storeRounds } from '../fixtures/rounds.js';
import { artifactStore, failureOf, startWorkflow, workerProcess } from '../fixtures/harness.js';
import { until } from '../fixtures/until.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-reverify-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(kind: string, rows: readonly object[]): { kind: string; path: string } {
  const path = join(folder, `${kind}-${randomUUID()}.jsonl`);
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return { kind, path };
}

const QUESTIONS = 40;
const PROGRAMS = 6;
/** Of this run of the test, so that no cell is known from another one. */
const run = randomUUID();
const nameOf = (question: number): string => `f${question}`;
const testsOf = (question: number): string[] =>
  [1, 2, 3].map((n) => `assert ${nameOf(question)}(${n}) == ${n + question}`);
const questions = Array.from({ length: QUESTIONS }, (_, at) => ({
  id: `q${at}`,
  seedId: `s${at}`,
  source: 'own',
  question: `Write ${nameOf(at)}(n), which adds ${at}.`,
  entryPoint: nameOf(at),
  reference: `def ${nameOf(at)}(n):\n    return n + ${at}`,
  tests: testsOf(at),
  split: at % 4 === 0 ? 'heldOut' : 'train',
}));
/** Right, wrong from 2, 3 or 4 on, wrong at all, and one that ends its process at 2. */
const bodies = (at: number): string[] => [
  `return n + ${at}`,
  `return n + ${at} if n < 2 else 0`,
  `return n + ${at} if n < 3 else 0`,
  `return n + ${at} if n != 4 else 0`,
  `raise ValueError(n)`,
  `return n + ${at} if n != 2 else __import__('os')._exit(0)`,
];
const samples = questions.flatMap(({ seedId }, at) =>
  bodies(at).map((body) => ({ seedId, text: `# ${run}\ndef ${nameOf(at)}(n):\n    ${body}\n` })),
);
const added = questions.map(({ id }, at) => ({ questionId: id, add: [`assert ${nameOf(at)}(4) == ${4 + at}`] }));

let programs: ArtifactRef;

async function reverified(input: object, options: { taskQueue?: string } = {}): Promise<ReverifyResult> {
  const handle = await startWorkflow('reverify', { ...input }, options);
  return handle.result() as Promise<ReverifyResult>;
}

const tableOf = (ref: ArtifactRef): Promise<ReverificationRow[]> =>
  collect(artifactStore().rowsOf(ref, ReverificationRow));

beforeAll(async () => {
  const sampled = (await (
    await startWorkflow('sampling', {
      inputs: { questions: file('filteredQuestions', questions), samples: file('samples', samples) },
      config: { sampler: { kind: 'recorded' }, samples: PROGRAMS, salt: run },
    })
  ).result()) as StageResult;
  programs = sampled.ref;
  expect(programs.rows).toBe(QUESTIONS * PROGRAMS);
});

// Beside each other: most of the time of the last one passes until the server misses a worker.
describe.concurrent('programs that were judged before', () => {
  it('run 240 cells where each of 40 questions has a test more, and none the next time', async () => {
    const tests = file('tests', added);
    const first = await reverified({ inputs: { programs, tests } });
    expect(first).toMatchObject({ cells: QUESTIONS * PROGRAMS, verdicts: 4 * QUESTIONS * PROGRAMS });
    expect([first.compared, first.differing]).toEqual([16, []]);
    // Right, and right after the process of an earlier test ended.
    expect(first.summary.verdicts).toEqual({
      'new -> pass': 2 * QUESTIONS,
      'new -> assertion_failed': 3 * QUESTIONS,
      'new -> raised': QUESTIONS,
    });
    const rows = await tableOf(first.table);
    expect(rows.filter(({ change }) => change === 'verdict')).toHaveLength(QUESTIONS * PROGRAMS);
    expect(rows.find(({ change, questionId }) => change === 'verdict' && questionId === 'q7')).toEqual({
      change: 'verdict',
      source: 'programs',
      questionId: 'q7',
      program: expect.stringMatching(/^p-/) as string,
      test: 'assert f7(4) == 11',
      to: 'pass',
    });
    // Pass rates were 1, 1/3, 2/3, 1, 0, 2/3, and are 1, 1/4, 2/4, 3/4, 0, 3/4.
    expect(first.summary.passRate!.before).toBeCloseTo(22 / 36);
    expect(first.summary.passRate!.after).toBeCloseTo(3.25 / 6);
    expect(first.summary.pairs).toEqual({ before: 80, after: 80, gained: 40, lost: 40 });

    const again = await reverified({ inputs: { programs, tests } });
    expect([again.cells, again.table]).toEqual([0, first.table]);
    // In 16 shards, for a table of another key, the cells are still known.
    const sharded = await reverified({ inputs: { programs, tests }, shardSize: 100 });
    expect([sharded.cells, sharded.summary]).toEqual([0, first.summary]);
    expect(await tableOf(sharded.table)).toEqual(rows);
    // The programs with the verdicts of today take the place of the old ones for what follows.
    const rated = await collect(artifactStore().rowsOf(first.programs!, ProgramRow));
    expect(rated.slice(0, PROGRAMS).map(({ passRate }) => passRate)).toEqual([1, 0.25, 0.5, 0.75, 0, 0.75]);
    expect(await collect(artifactStore().rowsOf(programs, ProgramRow))).toHaveLength(QUESTIONS * PROGRAMS);
  });

  it('run each new cell once in 256 shards, and give the rows of one', { tags: 'long' }, async () => {
    const few = questions
      .slice(0, 7)
      .map(({ id }, at) => ({ questionId: id, add: [`assert ${nameOf(at)}(6) == ${6 + at}`] }));
    const inputs = { programs, tests: file('tests', few) };
    // Fewer than a sixteenth of the programs, so that programs go to shards by two digits of their keys.
    const sharded = await reverified({ inputs, shardSize: 8, compare: 0 });
    expect(sharded).toMatchObject({ cells: few.length * PROGRAMS, verdicts: (3 * QUESTIONS + few.length) * PROGRAMS });
    const whole = await reverified({ inputs, compare: 0 });
    expect([whole.cells, whole.summary]).toEqual([0, sharded.summary]);
    expect(await tableOf(whole.table)).toEqual(await tableOf(sharded.table));
  });

  it('run nothing where a test is gone, and everything under other limits', async () => {
    const tests = file(
      'tests',
      questions.map(({ id, tests }) => ({ questionId: id, remove: [tests[2]] })),
    );
    const without = await reverified({ inputs: { programs, tests } });
    expect(without).toMatchObject({ cells: 0, compared: 0 });
    expect(without.summary.passRate!.after).toBeCloseTo(4 / 6);
    expect(Object.keys(without.summary.verdicts).every((change) => change.endsWith(' -> gone'))).toBe(true);

    const limits = { cpuSecondsPerTest: 2, cpuSecondsPerProgram: 6 };
    const limited = await reverified({ inputs: { programs }, limits });
    expect(limited).toMatchObject({ cells: 3 * QUESTIONS * PROGRAMS, summary: { verdicts: {} } });
    expect((await reverified({ inputs: { programs }, limits, salt: 'other' })).cells).toBe(0);
  });

  it('run nothing under another rule of pairs, which gains and loses some', async () => {
    const result = await reverified({ inputs: { programs }, preferences: { minimumGap: 0.3 } });
    expect([result.cells, result.summary.pairs]).toEqual([0, { before: 80, after: 240, gained: 160, lost: 0 }]);
  });

  it('are refused with what is wrong about the inputs', async () => {
    const refusals: [object, RegExp][] = [
      [{ inputs: {} }, /at least one of programs, evaluation and policy/],
      [
        { inputs: { programs, tests: file('tests', [{ questionId: 'q99', tests: ['assert True'] }]) } },
        /none of its 1/,
      ],
      [{ inputs: { programs, tests: file('tests', [{ questionId: 'q1', remove: ['x'] }]) } }, /q1 has no test "x"/],
      [
        { inputs: { programs, tests: file('tests', [{ questionId: 'q1', tests: [7] }]) } },
        /tests of question q1: tests.0/,
      ],
    ];
    for (const [input, message] of refusals) {
      const failure = await failureOf(await startWorkflow('reverify', input));
      expect(failure.type, failure.message).toBe('InvalidExperiment');
      expect(failure.message).toMatch(message);
    }
  });
});

/** A question with programs, as files, that an imported artifact would hold. */
function imported(
  program: string,
  outcomes: Verdict[],
  more: Partial<ProgramRow>,
): { programs: object; questions: object } {
  const [question] = questions;
  const row = {
    id: 'p-1',
    questionId: 'q0',
    split: 'train',
    question: question!.question,
    index: 0,
    program,
    finish: 'stop',
    passRate: outcomes.filter((status) => status === 'pass').length / outcomes.length,
    outcomes: outcomes.map((status) => ({ status })),
    ...more,
  };
  return { programs: file('programs', [row]), questions: file('filteredQuestions', [question!]) };
}

describe.concurrent('programs of a file', () => {
  const tests = () => file('tests', added.slice(0, 1));

  it('say whose verdict depends on the tests before, and get it from a run of all tests where asked', async () => {
    const { harness } = (await collect(artifactStore().rowsOf(programs, ProgramRow)))[0]!;
    const counting = `# ${run}\nN = 0\ndef f0(n):\n    global N\n    N += 1\n    return n if N < 4 else -1`;
    const inputs = { ...imported(counting, ['pass', 'pass', 'pass'], { harness }), tests: tests() };
    const apart = await reverified({ inputs });
    expect(apart).toMatchObject({ cells: 1, compared: 1, differing: ['p-1'] });
    expect(apart.summary.verdicts).toEqual({ 'new -> pass': 1 });
    const whole = await reverified({ inputs, run: 'whole' });
    expect(whole).toMatchObject({ cells: 4, compared: 0, summary: { verdicts: { 'new -> assertion_failed': 1 } } });
  });

  it('of another harness are all judged again, or refused', async () => {
    const harness = { version: '1', python: '2.7', importPolicy: 'none' };
    const inputs = imported(`# ${run}\ndef f0(n):\n    return n`, ['pass', 'raised', 'pass'], { harness });
    const { cells, summary } = await reverified({ inputs });
    expect(cells).toBe(3);
    expect(summary).toMatchObject({ verdicts: { 'raised -> pass': 1 }, otherHarnesses: ['1; Python 2.7; none'] });
    const refused = await failureOf(await startWorkflow('reverify', { inputs, otherHarness: 'refuse' }));
    expect(refused.message).toMatch(/^otherHarness is 'refuse', .*: 1; Python 2.7; none$/);
    const { programs: alone } = inputs;
    const unknown = await failureOf(await startWorkflow('reverify', { inputs: { programs: alone } }));
    expect(unknown.message).toMatch(/^inputs.questions: needed, because/);
  });
});

it.concurrent('evaluated answers are judged by the changed tests of their tasks', async () => {
  const store = artifactStore();
  const { harness } = (await collect(store.rowsOf(programs, ProgramRow)))[0]!;
  const evaluation = await storeEvaluation(store, run, harness!);
  const tests = file('tests', [{ questionId: 'task', add: ['assert g(3) == 3'] }]);
  const { cells, summary } = await reverified({ inputs: { evaluation, tests } });
  expect(cells).toBe(2);
  expect(summary.evaluation).toEqual([
    {
      benchmark: 'own',
      policy: 'base',
      tasks: 1,
      ...{ greedyBefore: 1, greedyAfter: 1 },
      ...{ meanBefore: 1, meanAfter: 0 },
    },
  ]);
});

describe.concurrent('RL rounds', () => {
  it('say the first round whose policy is no longer what it would be', async () => {
    const store = artifactStore();
    const [{ harness }] = (await collect(store.rowsOf(programs, ProgramRow))) as [ProgramRow];
    const { policy, tests } = await storeRounds(store, run, harness!);
    const same = await reverified({ inputs: { policy } });
    expect(same).toMatchObject({ cells: 0, summary: { firstChangedRound: null } });
    // Round 1 does not ask the question of the changed test, and round 2 does.
    const changed = await reverified({ inputs: { policy, tests: file('tests', tests) } });
    expect(changed.summary.firstChangedRound).toBe(2);
    expect(changed.summary.rounds!.map(({ changed, rolloutsHold }) => [changed > 0, rolloutsHold])).toEqual([
      [false, true],
      [true, true],
      [false, false],
    ]);
    // The reward alone: nothing runs.
    const rewarded = await reverified({ inputs: { policy }, reward: { tests: 'passRate' } });
    expect(rewarded).toMatchObject({ cells: 0, summary: { firstChangedRound: 1 } });
    expect((await tableOf(rewarded.table)).every(({ change }) => change === 'reward')).toBe(true);
  });
});

it.concurrent(
  'a worker that is killed loses a batch at most, and no cell is counted twice',
  { tags: 'long' },
  async () => {
    const taskQueue = `reverify-${randomUUID()}`;
    const store = artifactStore();
    const tests = file(
      'tests',
      questions.map(({ id }, at) => ({ questionId: id, add: [`assert ${nameOf(at)}(5) == ${5 + at} # ${run}`] })),
    );
    const first = workerProcess(taskQueue, undefined, 'without-gpu');
    const handle = await startWorkflow(
      'reverify',
      { inputs: { programs, tests }, execution: { batch: 8 }, compare: 0 },
      { taskQueue },
    );
    const { runId } = await handle.describe();
    type Cells = { by: { runId: string }; runs: { program: string }[] };
    const stored = async (): Promise<Map<string, Cells>> => {
      const names = [...(await store.keys('cells/'))];
      const all = await Promise.all(names.map(async (name) => [name, (await store.getJson(name)) as Cells] as const));
      return new Map(all.filter(([, { by }]) => by.runId === runId));
    };
    await until(stored, ({ size }) => size > 0);
    await first.kill();
    const left = await stored();
    const second = workerProcess(taskQueue, undefined, 'without-gpu');
    try {
      expect(await handle.result()).toMatchObject({ cells: QUESTIONS * PROGRAMS });
      const ran = await stored();
      expect([...ran.keys()]).toEqual(expect.arrayContaining([...left.keys()]));
      const programs = [...ran.values()].flatMap(({ runs }) => runs.map(({ program }) => program));
      expect([programs.length, new Set(programs).size]).toEqual([QUESTIONS * PROGRAMS, QUESTIONS * PROGRAMS]);
    } finally {
      await second.stop();
    }
  },
);
