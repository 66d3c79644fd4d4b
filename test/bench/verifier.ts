/**
 * `npm run bench:verifier`: how well right tests are told from wrong ones without a reference, on asserts and programs of
 * CodeGen-16B, and how near estimated rates of a verifier come to known ones.
 *
 * Published data are not in the repository: a part whose data are not there is told and left out.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { agreement, anyOf, weighted, type OracleVerdict } from '../../activities/filtering/oracle.js';
import { Random } from '../../activities/statistics/random.js';
import { mean } from '../../activities/statistics/pass-at-k.js';
import {
  areaUnderCurve,
  consensusShare,
  consensusRates,
  latentClassRates,
  leaveOneOutAreas,
  passShares,
  qualityWeights,
  weightedShares,
  type VerdictMatrix,
} from '../../activities/statistics/verifier-quality.js';
import { root } from '../../infra/setup/paths.mjs';
import { createServices } from '../../workers/plugins/services.js';
import { FAMILIES } from '../lab/questions.js';
import { corruptedProblems, laboratory, measuredProblems, type MeasuredProblem } from './codet.js';
import { reportParts, type BenchPart, type Measure } from './table.js';

const PARTS = ['asserts', 'corrupted', 'gpt4', 'planted', 'laboratory'] as const;

const HELP = `npm run bench:verifier -- [options]

  --only PART  ${PARTS.join(', ')}; may be repeated (all)
  --json       one JSON object on the last line
  --help       print this

asserts and corrupted read programs and asserts of CodeGen-16B from ACECODER_SHARED, the folder shared next to the
checkout by default; gpt4 reads asserts of GPT-4 there. Verdicts are kept in bench/verifier of ACECODER_HOME: remove that folder to judge anew.`;

const SHARED = join(process.env['ACECODER_SHARED'] ?? join(root, '..', 'shared'), 'data');
const CODET = join(SHARED, 'codet-codegen16b-humaneval');
const GPT4 = join(SHARED, 'reflexion-gpt4-humaneval-tests');
const SEEDS = [1, 2, 3, 4, 5];
const CORRUPTED_SHARE = 0.15;

/** Scores of the tests of one question; the last one is what the product uses. */
const SCORES = {
  agreement: passShares,
  'leave-one-out': leaveOneOutAreas,
  'agreement x (leave-one-out + 0.5)': (matrix) => {
    const areas = leaveOneOutAreas(matrix);
    return passShares(matrix).map((share, test) => share * (areas[test]! + 0.5));
  },
  'latent-class TPR': (matrix) =>
    latentClassRates(matrix)?.tests.map(({ truePositive }) => truePositive) ?? passShares(matrix),
  weights: (matrix) => qualityWeights(matrix).tests,
} satisfies Record<string, (matrix: VerdictMatrix) => number[]>;
type Score = keyof typeof SCORES;

/** What tells questions with a right program from those without one. */
const BELIEFS = {
  'mean agreement': (matrix) => mean(passShares(matrix))!,
  'mean program quality': (matrix) => mean(qualityWeights(matrix).programs)!,
  'consensus share': consensusShare,
} satisfies Record<string, (matrix: VerdictMatrix) => number>;

/** Oracles that need no reference; weights with several minima. */
const ORACLES: Record<string, (outcomes: MeasuredProblem['outcomes']) => OracleVerdict> = {
  'any of n': anyOf,
  agreement,
  ...Object.fromEntries(
    [0.3, 0.4, 0.5, 0.7].map((minimum) => [
      `weights from ${minimum}`,
      (outcomes: MeasuredProblem['outcomes']) => weighted(outcomes, minimum),
    ]),
  ),
};

/** Of the asserts that each oracle keeps the share that is right, and of the right ones the share that it keeps. */
function oracleMeasures(name: string, problems: readonly MeasuredProblem[]): Measure[] {
  return Object.entries(ORACLES).map(([oracle, verdict]): Measure => {
    const kept = problems.flatMap(({ asserts, outcomes }) =>
      verdict(outcomes).outcomes.flatMap(({ status }, at) => (status === 'pass' ? [asserts[at]!.right] : [])),
    );
    const right = kept.filter(Boolean).length;
    const all = problems.flatMap(({ asserts }) => asserts.filter((each) => each.right)).length;
    const note = `recall ${(right / all).toFixed(3)}, kept ${kept.length}`;
    return { name: `${name}: precision of the oracle ${oracle}`, value: right / kept.length, unit: '', note };
  });
}

/** Who chooses one of the programs of a problem, by a score of each. */
const CHOICES: Record<string, (matrix: VerdictMatrix) => number[]> = {
  'at random': (matrix) => matrix.map(() => 0),
  'passed tests': (matrix) => matrix.map((row) => row.filter(Boolean).length),
  'passed tests by weight': (matrix) => weightedShares(matrix, qualityWeights(matrix).tests),
  'consensus set': (matrix) =>
    matrix.map((row) => row.filter(Boolean).length * matrix.filter((other) => other.join() === row.join()).length),
};

/** The chance that the chosen program of a problem is right: among equal scores, each may be chosen. */
function chosenRight(problems: readonly MeasuredProblem[], choice: string): number {
  return mean(
    problems.map((problem) => {
      const scores = CHOICES[choice]!(matrixOf(problem));
      const best = Math.max(...scores) - 1e-9;
      return mean(problem.rightPrograms.flatMap((right, at) => (scores[at]! >= best ? [Number(right)] : [])))!;
    }),
  )!;
}

const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const services = createServices({ label: 'bench' });
const { sandbox } = services;
const measures: Measure[] = [];

const matrixOf = ({ outcomes }: MeasuredProblem): boolean[][] =>
  outcomes.map((row) => row.map(({ status }) => status === 'pass'));

/** Areas under the curve of right against wrong asserts: over all of them, and the mean of problems that have both. */
function areasOf(problems: readonly MeasuredProblem[], score: Score): { pooled: number; within: number } {
  const scored = problems.map((problem) => ({
    scores: SCORES[score](matrixOf(problem)),
    right: problem.asserts.map(({ right }) => right),
  }));
  const within = scored.flatMap(({ scores, right }) => areaUnderCurve(scores, right) ?? []);
  return {
    pooled: areaUnderCurve(
      scored.flatMap(({ scores }) => scores),
      scored.flatMap(({ right }) => right),
    )!,
    within: mean(within)!,
  };
}

const real = (): Promise<MeasuredProblem[]> => measuredProblems(sandbox, SHARED);

/** Mean J of the tests of a question over programs of which the truth is known; undefined without right or wrong ones. */
function trueJ(problem: MeasuredProblem): number | undefined {
  const of = (right: boolean): boolean[][] => matrixOf(problem).filter((_, at) => problem.rightPrograms[at] === right);
  const [ups, downs] = [of(true), of(false)];
  return ups.length === 0 || downs.length === 0 ? undefined : mean(passShares(ups))! - mean(passShares(downs))!;
}

interface Estimated {
  truth: number;
  estimate: number;
}

const ESTIMATES = { consensus: consensusRates, 'latent class': latentClassRates };
type Estimate = keyof typeof ESTIMATES;
const ESTIMATE_NAMES = Object.keys(ESTIMATES) as Estimate[];

/** The estimate next to the truth; nothing where there is no estimate. */
function estimated(matrix: VerdictMatrix, by: Estimate, truth: number | undefined): Estimated[] {
  const estimate = ESTIMATES[by](matrix)?.j;
  return truth === undefined || estimate === undefined ? [] : [{ truth, estimate }];
}

/** How far estimates are from the truth: in the mean of all questions, and of a question. */
function distances(name: string, all: readonly Estimated[], bar?: number): Measure[] {
  const error = mean(all.map(({ estimate }) => estimate))! - mean(all.map(({ truth }) => truth))!;
  const each = mean(all.map(({ estimate, truth }) => Math.abs(estimate - truth)))!;
  return [
    {
      name: `${name}: error of the mean J`,
      value: Math.abs(error),
      unit: '',
      ...(bar === undefined ? {} : { bar, at: 'most' as const }),
      note: `${error < 0 ? 'too low' : 'too high'}; of one question ${each.toFixed(3)}; ${all.length} questions`,
    },
  ];
}

async function measureAsserts(): Promise<void> {
  const problems = await real();
  measureProblems('real', problems, { pooled: 0.94, within: 0.92 });
}

/** Asserts on which no number of the weights was chosen. */
async function measureGpt4(): Promise<void> {
  measureProblems('GPT-4', await measuredProblems(sandbox, SHARED, 'GPT-4'));
}

function measureProblems(
  name: string,
  problems: readonly MeasuredProblem[],
  least?: { pooled: number; within: number },
): void {
  const asserts = problems.flatMap((problem) => problem.asserts);
  const withRight = problems.map(({ rightPrograms }) => rightPrograms.some(Boolean));
  measures.push(
    { name: `${name}: asserts`, value: asserts.length, unit: '', note: `${problems.length} problems` },
    { name: `${name}: right asserts`, value: asserts.filter(({ right }) => right).length, unit: '' },
    { name: `${name}: problems with a right program`, value: withRight.filter(Boolean).length, unit: '' },
  );
  const agreement = areasOf(problems, 'agreement');
  for (const score of Object.keys(SCORES) as Score[]) {
    const { pooled, within } = areasOf(problems, score);
    const bars = (bar: number | undefined): Partial<Measure> =>
      score === 'weights' && bar !== undefined ? { bar } : {};
    measures.push(
      {
        name: `${name}: AUC of ${score}`,
        value: pooled,
        unit: '',
        ...bars(least && Math.max(least.pooled, agreement.pooled - 0.005)),
      },
      { name: `${name}: AUC of ${score}, within a problem`, value: within, unit: '', ...bars(least?.within) },
    );
  }
  for (const [by, belief] of Object.entries(BELIEFS))
    measures.push({
      name: `${name}: problems with a right program by ${by}, AUC`,
      value: areaUnderCurve(
        problems.map((problem) => belief(matrixOf(problem))),
        withRight,
      )!,
      unit: '',
    });
  measures.push(...oracleMeasures(name, problems));
  for (const choice of Object.keys(CHOICES))
    measures.push({ name: `${name}: Best-of-16 by ${choice}`, value: chosenRight(problems, choice), unit: '' });
  for (const by of ESTIMATE_NAMES) {
    const all = problems.flatMap((problem) => estimated(matrixOf(problem), by, trueJ(problem)));
    measures.push(...distances(`${name}, ${by}`, all));
  }
}

async function measureCorrupted(): Promise<void> {
  const measured = await real();
  const areas: Record<Score, number[]> = {} as Record<Score, number[]>;
  const apart: Record<string, number[]> = {};
  const chosen: Record<string, number[]> = {};
  for (const seed of SEEDS) {
    const problems = await corruptedProblems(sandbox, SHARED, measured, { corruptedShare: CORRUPTED_SHARE, seed });
    if (seed === SEEDS[0]) measures.push(...oracleMeasures('corrupted, first seed', problems));
    for (const score of Object.keys(SCORES) as Score[]) (areas[score] ??= []).push(areasOf(problems, score).pooled);
    for (const choice of Object.keys(CHOICES)) (chosen[choice] ??= []).push(chosenRight(problems, choice));
    for (const [name, belief] of Object.entries(BELIEFS))
      (apart[name] ??= []).push(
        areaUnderCurve(
          problems.map((problem) => belief(matrixOf(problem))),
          problems.map(({ rightPrograms }) => rightPrograms.some(Boolean)),
        )!,
      );
  }
  for (const [score, own] of Object.entries(areas))
    measures.push({
      name: `corrupted: mean AUC of ${score}`,
      value: mean(own)!,
      unit: '',
      ...(score === 'weights' ? { bar: 0.97 } : {}),
      note: own.map((area) => area.toFixed(3)).join(' '),
    });
  measures.push({
    name: 'corrupted: seeds in which weights are above agreement',
    value: areas.weights.filter((area, at) => area > areas.agreement[at]!).length,
    unit: `of ${SEEDS.length}`,
    bar: SEEDS.length,
  });
  for (const [choice, own] of Object.entries(chosen))
    measures.push({ name: `corrupted: Best-of-16 by ${choice}, mean`, value: mean(own)!, unit: '' });
  for (const [name, own] of Object.entries(apart))
    measures.push({
      name: `corrupted: problems with a right program by ${name}, mean AUC`,
      value: mean(own)!,
      unit: '',
    });
}

/** Verdicts of tests that err independently of each other, by rates that are drawn around the given ones. */
function plantedQuestion(random: Random, { share, truePositive, falsePositive, tests }: Planted): Estimated[] {
  const near = (rate: number): number => Math.min(0.99, Math.max(0.01, rate + 0.3 * (random.next() - 0.5)));
  const rates = Array.from({ length: tests }, () => [near(truePositive), near(falsePositive)] as const);
  const matrix = Array.from({ length: 16 }, () => {
    const right = random.chance(share);
    return rates.map(([tpr, fpr]) => random.chance(right ? tpr : fpr));
  });
  return estimated(matrix, 'latent class', mean(rates.map(([tpr, fpr]) => tpr - fpr))!);
}

interface Planted {
  /** Chance of a program to be right. */
  share: number;
  truePositive: number;
  falsePositive: number;
  tests: number;
}

const PLANTED: readonly Planted[] = [
  { share: 0.5, truePositive: 0.85, falsePositive: 0.2, tests: 8 },
  { share: 0.5, truePositive: 0.85, falsePositive: 0.2, tests: 20 },
  { share: 0.3, truePositive: 0.85, falsePositive: 0.3, tests: 12 },
  { share: 0.7, truePositive: 0.9, falsePositive: 0.5, tests: 12 },
  { share: 0.5, truePositive: 0.7, falsePositive: 0.3, tests: 20 },
];

function measurePlanted(): Promise<void> {
  for (const planted of PLANTED) {
    const random = new Random(2027);
    const all = Array.from({ length: 200 }, () => plantedQuestion(random, planted)).flat();
    const { share, truePositive, falsePositive, tests } = planted;
    measures.push(
      ...distances(`planted: TPR ${truePositive}, FPR ${falsePositive}, ${share} right, ${tests} tests`, all, 0.05),
    );
  }
  return Promise.resolve();
}

/**
 * The laboratory's questions, whose wrong programs are few and share their mistakes. Its tests cover the whole domain,
 * so that an answer with the verdicts of the right one is right.
 */
async function measureLaboratory(): Promise<void> {
  for (const family of FAMILIES) {
    const questions = await laboratory(sandbox, family, { questions: 60, tests: 19, corruptedShare: CORRUPTED_SHARE });
    const random = new Random(2027);
    const drawn = questions.map(({ passed, shares, right }) => {
      const programs = Array.from({ length: 16 }, () => drawnBy(shares, random));
      return { matrix: programs.map((program) => passed[program]!), right, truth: laboratoryJ(passed, shares) };
    });
    const labels = drawn.flatMap(({ right }) => right);
    for (const score of Object.keys(SCORES) as Score[])
      measures.push({
        name: `laboratory, ${family}: AUC of ${score}`,
        value: areaUnderCurve(
          drawn.flatMap(({ matrix }) => SCORES[score](matrix)),
          labels,
        )!,
        unit: '',
      });
    for (const by of ESTIMATE_NAMES) {
      const all = drawn.flatMap(({ matrix, truth }) => estimated(matrix, by, truth));
      measures.push(...distances(`laboratory, ${family}, ${by}`, all, by === 'consensus' ? 0.05 : undefined));
    }
  }
}

function drawnBy(shares: readonly number[], random: Random): number {
  let rest = random.next();
  const found = shares.findIndex((share) => (rest -= share) < 0);
  return found < 0 ? shares.length - 1 : found;
}

/** Mean J of the tests of a question of the laboratory; undefined where every answer is right. */
function laboratoryJ(passed: readonly (readonly boolean[])[], shares: readonly number[]): number | undefined {
  const [right] = passed;
  const wrong = passed.flatMap((row, answer) =>
    row.join() === right!.join() ? [] : [{ row, share: shares[answer]! }],
  );
  const rate = (row: readonly boolean[]): number => mean(row.map(Number))!;
  const total = wrong.reduce((sum, { share }) => sum + share, 0);
  return total === 0
    ? undefined
    : rate(right!) - wrong.reduce((sum, { row, share }) => sum + share * rate(row), 0) / total;
}

const RUNS: Record<(typeof PARTS)[number], BenchPart> = {
  asserts: { needs: [CODET, join(SHARED, 'humaneval')], run: measureAsserts },
  corrupted: { needs: [CODET, join(SHARED, 'humaneval')], run: measureCorrupted },
  gpt4: { needs: [CODET, join(SHARED, 'humaneval'), GPT4], run: measureGpt4 },
  planted: { needs: [], run: measurePlanted },
  laboratory: { needs: [], run: measureLaboratory },
};

try {
  await reportParts('verifier', RUNS, measures, { help: HELP, values });
} finally {
  await services.close();
}
