/** What the bench of a real teacher makes of seeds and verdicts, and the tables that it prints. */
import { describe, expect, it } from 'vitest';
import { Experiment, expandPreset, SeedRow, type StageStatus } from '../../workflows/contract/index.js';
import { byHand, scoresOf, teacherReport, teacherSeed, type JudgedTest } from './teacher-report.js';
import { teacherStages } from './teacher-settings.js';

const ROW = {
  task_id: 'MBPP/601',
  prompt:
    '\n\ndef double(n):\n\t"""\n\tWrite a function to double.\n\t>>> double(2)\n\t4\n\t>>> double(0)\n\t0\n\t"""\n',
  canonical_solution: '\tm = 2 * n\n\treturn m',
};

it('gives the teacher the reference and its task, and no test of MBPP', () => {
  const seed = teacherSeed(ROW);
  expect(SeedRow.safeParse(seed).success).toBe(true);
  expect(seed.code).toBe('def double(n):\n\t"""\n\tWrite a function to double.\n\t"""\n\tm = 2 * n\n\treturn m\n');
});

it('has settings that an experiment takes, which are told before an hour has passed', () => {
  const input = {
    ...{ extends: 'quickstart', name: 'teacher', seeds: { kind: 'seeds', path: 'seeds.jsonl' } },
    models: { policy: { kind: 'ggufFile', paths: ['a.gguf'] } },
    stages: teacherStages('m', 'http://127.0.0.1:8080/v1', 4),
  };
  const { data, error } = Experiment.safeParse(expandPreset(input));
  expect(error).toBeUndefined();
  expect(data!.stages.hardening).toBeDefined();
});

describe('tests by the programs', () => {
  it('are scored where there are programs to compare', () => {
    expect(scoresOf([[true, false]])).toBeUndefined();
    const [right, wrong] = scoresOf([
      [true, false],
      [true, false],
      [false, false],
    ])!;
    expect(right!.weight).toBeGreaterThan(wrong!.weight);
    expect([right!.agreement, wrong!.agreement]).toEqual([2 / 3, 0]);
  });

  it('are chosen for a person by halves, always the same', () => {
    const tests = Array.from({ length: 40 }, (_, at) => test(`assert f(${at}) == 1`, at % 4 === 0 ? 'raised' : 'pass'));
    const chosen = byHand(tests);
    expect(chosen.map(({ reference }) => reference === 'pass')).toEqual([
      ...Array<boolean>(10).fill(false),
      ...Array<boolean>(10).fill(true),
    ]);
    expect(byHand([...tests].reverse())).toEqual(chosen);
  });
});

function test(text: string, reference: string, weight?: number): JudgedTest {
  return {
    ...{ questionId: 'q', seedId: 's', test: text, reference, kept: reference === 'pass' },
    ...(weight === undefined ? {} : { scores: { agreement: weight, leaveOneOut: 0.5, weight } }),
  };
}

it('prints what came out of each stage, and how well scores tell right tests from wrong ones', () => {
  const paid = { promptTokens: 700, completionTokens: 300 };
  const metrics: Record<string, object> = {
    synthesis: {
      ...{ seeds: 3, droppedSeeds: {}, contaminated: [], questions: 2, testCases: 3, failures: { cutReply: 1 } },
      ...paid,
    },
    filtering: {
      ...{ questions: 1, train: 1, heldOut: 0, testCases: 3, keptTestCases: 2, droppedQuestions: { fewTestCases: 1 } },
      ...{ droppedTestCases: { assertion_failed: 1 } },
      quality: { corrupted: 0, droppedTestCases: 1, droppedCorrupted: 0 },
      notes: {},
    },
    sampling: {
      ...{ train: 1, heldOut: 0, questions: 1, programs: 8, meanPassRate: 0.5, histogram: [], verdicts: {} },
      ...{ droppedQuestions: {}, notes: {}, tokens: 400, cpuSeconds: 1 },
    },
    hardening: {
      ...{ trust: 'reference', questions: 1, hardened: 1, programs: 8, tests: { program: 2, mutant: 1, kind: 3 } },
      ...{ mutants: { made: 9, survive: 4, killed: 3 }, survivors: { programs: 4, killed: 1 } },
      ...{ meanPassRate: { before: 0.5, after: 0.4 }, pairs: { before: 2, after: 3 }, notHardened: {}, refused: {} },
      ...{ notes: {}, executions: 1, cpuSeconds: 1, rank: { proposed: 6, added: 6 } },
      trusts: Object.fromEntries(
        ['reference', 'contract', 'agreement'].map((trust) => [trust, { tests: 6, killed: 1 }]),
      ),
    },
    preferences: {
      ...{ programs: 8, questions: 1, pairs: 5, heldOutPairs: 0, pairedQuestions: 1, heldOutPairedQuestions: 0 },
      skipped: {},
    },
  };
  const stages = Object.entries(metrics).map(([name, each]) => ({
    ...{ name, state: 'done', seconds: 120, metrics: each },
  })) as StageStatus[];
  const text = teacherReport(stages, [
    test('assert f(1) == 1', 'pass', 0.9),
    test('assert f(2) == 2', 'pass', 0.3),
    test('assert f(3) == 4', 'assertion_failed', 0.1),
  ]);
  expect(text).toContain('| synthesis | 2 questions, 3 tests of 3 seeds; 700 + 300 tokens | seeds: cutReply 1;');
  expect(text).toContain('6 tests for 1 questions; 1 of 4 programs');
  expect(text).toContain('Tests that the reference fails: 1 of 3 (assertion_failed 1).');
  expect(text).toContain('| weights | 1.000 |');
  expect(text).toContain('Weights below 0.4: 1 of 1 tests that the reference fails, 1 of 2 that it passes.');
});
