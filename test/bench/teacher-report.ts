/**
 * What `npm run bench:teacher` makes of rows: seeds for the teacher, figures on the tests that it wrote, and the tables
 * that it prints. Pure.
 */
import { z } from 'zod';
import { sha256 } from '../../activities/artifacts/keys.js';
import {
  areaUnderCurve,
  leaveOneOutAreas,
  passShares,
  qualityWeights,
  type VerdictMatrix,
} from '../../activities/statistics/verifier-quality.js';
import { STAGE, type SeedRow, type StageName, type StageStatus } from '../../workflows/contract/index.js';

/** A row of MBXP's Python part: MBPP as a function head with a docstring, and its reference. */
const MbxpRow = z.object({ task_id: z.string(), prompt: z.string(), canonical_solution: z.string() });

/**
 * A seed out of a row: the reference with its docstring, without the examples in it, which are the tests of MBPP. The
 * teacher has to find tests by itself.
 *
 * @example
 * teacherSeed(JSON.parse(line)).id; // 'MBPP/609'
 */
export function teacherSeed(given: unknown): SeedRow {
  const { task_id: id, prompt, canonical_solution: body } = MbxpRow.parse(given);
  const head = prompt.trim().replace(/\n\s*>>>[\s\S]*?(?=\n\s*""")/, '');
  return { id, source: 'mbxp', code: `${head}\n${body.replace(/^\n+/, '').trimEnd()}\n` };
}

/** A test of the teacher, as the reference and the programs of the sampler judge it. */
export interface JudgedTest {
  questionId: string;
  seedId: string;
  test: string;
  /** Verdict of the reference. */
  reference: string;
  /** Whether the filter kept it; undefined where its question was dropped. */
  kept: boolean | undefined;
  /** From the programs; absent where the question has fewer than two. */
  scores?: { agreement: number; leaveOneOut: number; weight: number };
}

/**
 * Scores of the tests of a question from the verdicts of programs on all of them, kept or not.
 *
 * @returns undefined for fewer than two programs, which cannot be compared.
 * @example
 * scoresOf([[true, false], [true, true]])?.[0]?.agreement; // 1
 */
export function scoresOf(matrix: VerdictMatrix): NonNullable<JudgedTest['scores']>[] | undefined {
  if (matrix.length < 2) return undefined;
  const [shares, areas, { tests: weights }] = [passShares(matrix), leaveOneOutAreas(matrix), qualityWeights(matrix)];
  return shares.map((agreement, test) => ({ agreement, leaveOneOut: areas[test]!, weight: weights[test]! }));
}

/** Weight from which the oracle `weights` keeps a test where nothing else is set. */
const MINIMUM_WEIGHT = 0.4;
/** Tests for a person to judge: as many that the reference fails as it passes. */
const BY_HAND = 20;

const fails = ({ reference }: JudgedTest): boolean => reference !== 'pass';

/**
 * Twenty tests that a person may judge, in an order that says nothing about them: ten that the reference fails, and ten
 * that it passes.
 */
export function byHand(tests: readonly JudgedTest[]): JudgedTest[] {
  const inOrder = [...tests].sort((a, b) => (sha256(a.questionId + a.test) < sha256(b.questionId + b.test) ? -1 : 1));
  const [wrong, right] = [inOrder.filter(fails), inOrder.filter((test) => !fails(test))];
  return [...wrong.slice(0, BY_HAND / 2), ...right.slice(0, BY_HAND / 2)];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n');
}

function counts<T>(all: readonly T[], of: (each: T) => string): string {
  const found = new Map<string, number>();
  for (const each of all) found.set(of(each), (found.get(of(each)) ?? 0) + 1);
  return [...found].map(([name, count]) => `${name} ${count}`).join(', ');
}

const listed = (found: Record<string, number> | undefined): string =>
  Object.entries(found ?? {})
    .map(([name, count]) => `${name} ${count}`)
    .join(', ') || 'none';

/** How well each score tells the tests that the reference passes from those that it fails. */
function scoreTable(tests: readonly JudgedTest[]): string {
  const scored = tests.flatMap((test) => (test.scores ? [{ ...test.scores, right: !fails(test) }] : []));
  const positives = scored.map(({ right }) => right);
  const area = (scores: readonly number[]): string => areaUnderCurve(scores, positives)?.toFixed(3) ?? 'no such figure';
  const dropped = (right: boolean): string => {
    const of = scored.filter((test) => test.right === right);
    return `${of.filter(({ weight }) => weight < MINIMUM_WEIGHT).length} of ${of.length}`;
  };
  return [
    table(
      ['score of a test, from the programs alone', 'area under the curve'],
      [
        ['agreement', area(scored.map(({ agreement }) => agreement))],
        ['leave-one-out area', area(scored.map(({ leaveOneOut }) => leaveOneOut))],
        ['weights', area(scored.map(({ weight }) => weight))],
      ],
    ),
    '',
    `Weights below ${MINIMUM_WEIGHT}: ${dropped(false)} tests that the reference fails, ` +
      `${dropped(true)} that it passes.`,
  ].join('\n');
}

/**
 * The tables of the page of results, as Markdown.
 *
 * @param stages what the experiment says of its stages.
 */
export function teacherReport(stages: readonly StageStatus[], tests: readonly JudgedTest[]): string {
  const stage = (name: StageName): StageStatus | undefined => stages.find((each) => each.name === name);
  const minutes = (name: StageName): string => `${((stage(name)?.seconds ?? 0) / 60).toFixed(0)} min`;
  const synthesis = STAGE.synthesis.metrics.parse(stage('synthesis')?.metrics);
  const filtering = STAGE.filtering.metrics.parse(stage('filtering')?.metrics);
  const sampling = STAGE.sampling.metrics.parse(stage('sampling')?.metrics);
  const hardening = STAGE.hardening.metrics.parse(stage('hardening')?.metrics);
  const preferences = STAGE.preferences.metrics.parse(stage('preferences')?.metrics);
  const wrong = tests.filter(fails);
  return [
    table(
      ['stage', 'what came out', 'left out', 'from its start to its end'],
      [
        [
          'synthesis',
          `${synthesis.questions} questions, ${synthesis.testCases} tests of ${synthesis.seeds} seeds; ` +
            `${synthesis.promptTokens ?? 0} + ${synthesis.completionTokens ?? 0} tokens`,
          `seeds: ${listed({ ...synthesis.droppedSeeds, ...synthesis.failures })}; ` +
            `tests: ${listed(synthesis.rejectedTests)}`,
          minutes('synthesis'),
        ],
        [
          'filtering',
          `${filtering.questions} questions, ${filtering.keptTestCases} of ${filtering.testCases} tests`,
          `questions: ${listed(filtering.droppedQuestions)}; tests: ${listed(filtering.droppedTestCases)}`,
          minutes('filtering'),
        ],
        [
          'sampling',
          `${sampling.programs} programs, mean pass rate ${sampling.meanPassRate.toFixed(3)}; ${sampling.tokens} tokens`,
          listed(sampling.droppedQuestions),
          minutes('sampling'),
        ],
        [
          'hardening',
          `${Object.values(hardening.tests).reduce((sum, each) => sum + each, 0)} tests for ${hardening.hardened} ` +
            `questions; ${hardening.survivors.killed} of ${hardening.survivors.programs} programs that passed ` +
            `all tests killed; mean pass rate ${hardening.meanPassRate.before.toFixed(3)} to ` +
            hardening.meanPassRate.after.toFixed(3),
          listed(hardening.notHardened),
          minutes('hardening'),
        ],
        [
          'preferences',
          `${preferences.pairs} pairs (by the rule of the paper: ${hardening.pairs.before} before hardening, ` +
            `${hardening.pairs.after} after)`,
          '',
          minutes('preferences'),
        ],
      ],
    ),
    '',
    `Tests that the reference fails: ${wrong.length} of ${tests.length} (${counts(wrong, ({ reference }) => reference)}).`,
    '',
    scoreTable(tests),
  ].join('\n');
}
