/**
 * How good the tests of one question are as a verifier, from the verdicts of programs on them. Pure. Callers: the filter
 * by weights, rewards and Best-of-N by weighted tests, the report, and the bench of verifiers.
 *
 * Two kinds of figures must not be mixed up. {@link knownRates} and {@link mutationScore} need programs that are known
 * to be right or wrong. {@link qualityWeights}, {@link consensusRates} and {@link latentClassRates} know no truth, and
 * hold as far as their assumptions do.
 */
import type { TestOutcome, VerifierQuality } from '../../workflows/contract/index.js';
import { quantile } from './bootstrap.js';
import { wilsonInterval } from './intervals.js';
import { Random } from './random.js';

/** `passed[program][test]`: every program has a verdict on every test. */
export type VerdictMatrix = readonly (readonly boolean[])[];

/** A rate with its interval at 95 %. */
export interface Rate {
  value: number;
  interval: [number, number];
}

/**
 * A verifier against programs that are right or wrong: the share of right programs that it passes, the share of wrong
 * ones that it passes, and Youden's J, the first less the second (Youden 1950). J is 1 for a verifier without errors
 * and 0 for one that says nothing about programs.
 */
export interface VerifierRates {
  truePositive: Rate;
  falsePositive: Rate;
  j: Rate;
}

/** @throws RangeError for no program, no test, or rows of different lengths. */
function checkMatrix(matrix: readonly (readonly unknown[])[]): void {
  const tests = matrix[0]?.length ?? 0;
  if (tests === 0) throw new RangeError('a matrix of verdicts needs at least one program and one test');
  const odd = matrix.findIndex((row) => row.length !== tests);
  if (odd >= 0) throw new RangeError(`program ${odd} has ${matrix[odd]!.length} verdicts, and program 0 has ${tests}`);
}

/**
 * The share of programs that pass each test: plain agreement, in which every program has one vote.
 *
 * @throws RangeError for no program, no test, or rows of different lengths.
 * @example
 * passShares([[true, false], [true, true]]); // [1, 0.5]
 */
export function passShares(matrix: VerdictMatrix): number[] {
  checkMatrix(matrix);
  return matrix[0]!.map((_, test) => matrix.filter((row) => row[test]).length / matrix.length);
}

/**
 * Area under the ROC curve of scores: the chance that a positive has a higher score than a negative, where equal scores
 * count as half (Mann and Whitney 1947). Undefined where one of the two is missing.
 *
 * @throws RangeError for lists of different lengths or a score that is no number.
 * @example
 * areaUnderCurve([0.9, 0.4, 0.4, 0.1], [true, true, false, false]); // 0.875
 */
export function areaUnderCurve(scores: readonly number[], positives: readonly boolean[]): number | undefined {
  if (scores.length !== positives.length || scores.some(Number.isNaN))
    throw new RangeError(`${scores.length} scores and ${positives.length} labels must be as many, and numbers`);
  const order = scores.map((score, at) => ({ score, positive: positives[at]! })).sort((a, b) => a.score - b.score);
  const total = positives.filter(Boolean).length;
  if (total === 0 || total === scores.length) return undefined;
  let ranks = 0;
  for (let first = 0; first < order.length;) {
    let end = first;
    while (end < order.length && order[end]!.score === order[first]!.score) end += 1;
    const among = order.slice(first, end).filter(({ positive }) => positive).length;
    // Equal scores share the mean of their ranks, which count from 1.
    ranks += among * ((first + 1 + end) / 2);
    first = end;
  }
  return (ranks - (total * (total + 1)) / 2) / (total * (scores.length - total));
}

/**
 * Of each test, how well its verdicts agree with the order of the programs by all other tests: the area under the curve
 * of the programs' scores on the others, with the test's verdicts as labels (leave-one-out AUC of ACES, arXiv
 * 2604.03922). 0.5 says nothing, and is the value of a test with one verdict for all programs.
 *
 * @throws RangeError for no program, no test, or rows of different lengths.
 * @example
 * leaveOneOutAreas([[true, true], [false, false]]); // [1, 1]
 */
export function leaveOneOutAreas(matrix: VerdictMatrix): number[] {
  checkMatrix(matrix);
  const passes = matrix.map((row) => row.filter(Boolean).length);
  return matrix[0]!.map((_, test) => {
    const others = matrix.map((row, program) => passes[program]! - (row[test] ? 1 : 0));
    return (
      areaUnderCurve(
        others,
        matrix.map((row) => row[test]!),
      ) ?? 0.5
    );
  });
}

/** What the verdicts alone say of the tests of one question. */
export interface TestSetFigures {
  programs: number;
  tests: number;
  /** Tests with the verdicts of an earlier one on all programs. */
  duplicates: number;
  /** Tests that all programs pass, or that none does: they tell no two of these programs apart. */
  constant: number;
  /**
   * Rank of the matrix over the rationals: the number of tests whose verdicts are no linear combination of the others.
   * The remaining ones add no information to a weighted sum of tests.
   */
  rank: number;
  /** Share of the pairs of programs that at least one test tells apart; 0 for a single program. */
  discrimination: number;
}

/**
 * Duplicates, rank and discrimination of the tests of one question.
 *
 * @throws RangeError for no program, no test, or rows of different lengths.
 * @example
 * testSetFigures([[true, true, false], [true, true, true]]);
 * // { programs: 2, tests: 3, duplicates: 1, constant: 2, rank: 2, discrimination: 1 }
 */
export function testSetFigures(matrix: VerdictMatrix): TestSetFigures {
  checkMatrix(matrix);
  const tests = matrix[0]!.length;
  const columns = matrix[0]!.map((_, test) => matrix.map((row) => (row[test] ? '1' : '0')).join(''));
  const rows = new Map<string, number>();
  for (const row of matrix) {
    const text = row.map((passed) => (passed ? '1' : '0')).join('');
    rows.set(text, (rows.get(text) ?? 0) + 1);
  }
  const pairs = (count: number): number => (count * (count - 1)) / 2;
  const alike = [...rows.values()].reduce((sum, count) => sum + pairs(count), 0);
  return {
    programs: matrix.length,
    tests,
    duplicates: tests - new Set(columns).size,
    constant: columns.filter((column) => !column.includes('0') || !column.includes('1')).length,
    rank: rankOf([...new Set(columns)].map((column) => [...column].map(Number))),
    discrimination: matrix.length < 2 ? 0 : 1 - alike / pairs(matrix.length),
  };
}

/**
 * The largest prime below 2^26, so that a product of two remainders is exact in a double. No minor of a matrix of zeros
 * and ones up to 20 x 20 reaches it (the largest is 56,640,625, OEIS A003432), so that up to rank 20 the rank modulo this
 * prime is the rank over the rationals. Beyond that it is so unless the prime divides every minor of that size.
 */
const PRIME = 67_108_859;

/** Rank of whole numbers from 0 to `PRIME - 1`, by elimination modulo the prime. */
function rankOf(rows: number[][]): number {
  const width = rows[0]!.length;
  let rank = 0;
  for (let column = 0; column < width && rank < rows.length; column += 1) {
    const pivot = rows.findIndex((row, at) => at >= rank && row[column] !== 0);
    if (pivot < 0) continue;
    [rows[rank], rows[pivot]] = [rows[pivot]!, rows[rank]!];
    const leading = rows[rank]!;
    const inverse = power(leading[column]!, PRIME - 2);
    for (let at = rank + 1; at < rows.length; at += 1) {
      const row = rows[at]!;
      if (row[column] === 0) continue;
      const factor = (row[column]! * inverse) % PRIME;
      for (let place = column; place < width; place += 1)
        row[place] = (row[place]! + PRIME - ((factor * leading[place]!) % PRIME)) % PRIME;
    }
    rank += 1;
  }
  return rank;
}

function power(base: number, exponent: number): number {
  let [result, square] = [1, base];
  for (let rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result = (result * square) % PRIME;
    square = (square * square) % PRIME;
  }
  return result;
}

/**
 * The share of programs known to be wrong that at least one test fails, with its Wilson interval: mutation score, where
 * the programs are mutants of the reference. Undefined for no program.
 *
 * @param wrong verdicts of programs that are known to be wrong, whatever made them.
 * @example
 * mutationScore([[true, false], [true, true]])?.value; // 0.5
 */
export function mutationScore(wrong: VerdictMatrix): Rate | undefined {
  if (wrong.length === 0) return undefined;
  checkMatrix(wrong);
  return proportion(wrong.filter((row) => !row.every(Boolean)).length, wrong.length);
}

/**
 * Rates of a verifier on programs of which the truth is known. The interval of J is that of Newcombe (1998, method 10).
 * Undefined where there is no right program or no wrong one.
 *
 * @param passed whether the verifier passes each program; `row.every(Boolean)` where it is all tests of a question.
 * @param right whether each program is right.
 * @throws RangeError for lists of different lengths.
 * @example
 * knownRates([true, true, false, false], [true, true, true, false])?.j.value; // 0.667
 */
export function knownRates(passed: readonly boolean[], right: readonly boolean[]): VerifierRates | undefined {
  if (passed.length !== right.length)
    throw new RangeError(`${passed.length} verdicts and ${right.length} truths must be as many`);
  const count = (of: boolean): { passed: number; all: number } => {
    const own = passed.filter((_, at) => right[at] === of);
    return { passed: own.filter(Boolean).length, all: own.length };
  };
  return countedRates({ right: count(true), wrong: count(false) });
}

/**
 * As {@link knownRates}, from counts: of things that are right and of things that are wrong, how many pass.
 *
 * @example
 * countedRates({ right: { passed: 9, all: 10 }, wrong: { passed: 2, all: 10 } })?.j.value; // 0.7
 */
export function countedRates({
  right,
  wrong,
}: Record<'right' | 'wrong', { passed: number; all: number }>): VerifierRates | undefined {
  if (right.all === 0 || wrong.all === 0) return undefined;
  const truePositive = proportion(right.passed, right.all);
  const falsePositive = proportion(wrong.passed, wrong.all);
  const value = truePositive.value - falsePositive.value;
  const below = Math.hypot(
    truePositive.value - truePositive.interval[0],
    falsePositive.interval[1] - falsePositive.value,
  );
  const above = Math.hypot(
    truePositive.interval[1] - truePositive.value,
    falsePositive.value - falsePositive.interval[0],
  );
  return { truePositive, falsePositive, j: { value, interval: [value - below, value + above] } };
}

function proportion(successes: number, trials: number): Rate {
  return { value: successes / trials, interval: wilsonInterval(successes, trials)! };
}

/** What is believed of the tests and programs of one question, without any truth. */
export interface QualityWeights {
  /** Of each test from 0 to 1: the share of good programs that pass it, drawn towards a prior where few are good. */
  tests: number[];
  /** Of each program from 0 to 1: the share of good tests that it passes. */
  programs: number[];
}

/** Rounds of the fixed point, after which no weight of 16 programs and 20 tests moves by more than 0.001. */
const ROUNDS = 20;
/**
 * The prior of a test: so many good programs, of which so large a share passes it. A test that no program passes thus
 * weighs less where good programs fail it than where there are none: the second says little about the test.
 */
const PRIOR = { programs: 2, share: 0.1 };

/**
 * Weights of tests by the quality of the programs that pass them, and of programs by the quality of the tests that they
 * pass: the fixed point of the two, from plain agreement on, as mutual reinforcement of hubs and authorities
 * (Kleinberg 1999), with a prior at the end. Ranks right tests above wrong ones without a reference.
 *
 * @throws RangeError for no program, no test, or rows of different lengths.
 * @example
 * qualityWeights([[true, false], [true, false]]).tests; // [0.55, 0.05]
 */
export function qualityWeights(matrix: VerdictMatrix): QualityWeights {
  let tests = passShares(matrix);
  let programs = matrix.map(() => 0);
  for (let round = 0; round < ROUNDS; round += 1) {
    programs = weightedShares(matrix, tests);
    const good = Math.max(sum(programs), Number.MIN_VALUE);
    tests = passing(matrix, programs).map((passed) => passed / good);
  }
  const good = sum(programs);
  return {
    tests: passing(matrix, programs).map((passed) => (passed + PRIOR.programs * PRIOR.share) / (good + PRIOR.programs)),
    programs,
  };
}

/**
 * Of each program the share of the tests that it passes, where each test counts by its weight; 0 where no weight is
 * above 0.
 *
 * @throws RangeError where there are not as many weights as tests.
 * @example
 * weightedShares([[true, false], [true, true]], [0.9, 0.1]); // [0.9, 1]
 */
export function weightedShares(matrix: VerdictMatrix, weights: readonly number[]): number[] {
  const total = sum(weights);
  return matrix.map((row) => {
    if (row.length !== weights.length) throw new RangeError(`${weights.length} weights for ${row.length} tests`);
    let passed = 0;
    for (let test = 0; test < weights.length; test += 1) if (row[test]) passed += weights[test]!;
    return total > 0 ? passed / total : 0;
  });
}

/** Of each test the sum of the weights of the programs that pass it. A loop, because reports ask it of many questions. */
function passing(matrix: VerdictMatrix, programs: readonly number[]): number[] {
  const sums = new Array<number>(matrix[0]!.length).fill(0);
  for (let program = 0; program < matrix.length; program += 1) {
    const [row, weight] = [matrix[program]!, programs[program]!];
    for (let test = 0; test < sums.length; test += 1) if (row[test]) sums[test]! += weight;
  }
  return sums;
}

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}

/**
 * How much of the matrix the best consensus set covers, from 0 to 1: the programs with equal verdicts times the tests
 * that they pass, over all programs times all tests (the score of CodeT, arXiv 2207.10397). It is high where a right
 * program is likely among them.
 *
 * @throws RangeError for no program, no test, or rows of different lengths.
 * @example
 * consensusShare([[true, true], [true, true], [false, true]]); // 4 of 6
 */
export function consensusShare(matrix: VerdictMatrix): number {
  checkMatrix(matrix);
  const sets = new Map<string, number>();
  for (const row of matrix) {
    const text = row.join();
    sets.set(text, (sets.get(text) ?? 0) + row.filter(Boolean).length);
  }
  return Math.max(...sets.values()) / (matrix.length * matrix[0]!.length);
}

/** Rates without truth: means over the tests of a question, and J of each test. */
export interface EstimatedRates {
  truePositive: number;
  falsePositive: number;
  j: number;
  tests: { truePositive: number; falsePositive: number; j: number }[];
  /** Of each program, the probability that it is right. */
  programs: number[];
}

/** Differences of quality that rounding alone makes. */
const EQUAL = 1e-9;

/**
 * TPR, FPR and J of the tests of one question where right programs give equal verdicts, as programs without chance do:
 * the programs of highest quality by {@link qualityWeights} are taken for the right ones, and all others for wrong ones.
 *
 * Where no program is right, the best wrong ones take their place, and J comes out too high.
 *
 * @returns undefined where all programs are of one quality, so that nothing tells right from wrong.
 * @throws RangeError for no program, no test, or rows of different lengths.
 * @example
 * consensusRates([[true, true], [true, true], [true, false]])?.j; // 0.5
 */
export function consensusRates(matrix: VerdictMatrix): EstimatedRates | undefined {
  const { programs } = qualityWeights(matrix);
  const best = Math.max(...programs);
  const right = programs.map((quality) => (quality >= best - EQUAL ? 1 : 0));
  if (right.every((chance) => chance === 1)) return undefined;
  const share = (of: readonly number[]): number[] => passing(matrix, of).map((passed) => passed / sum(of));
  return estimate(share(right), share(right.map((chance) => 1 - chance)), right);
}

function estimate(ofRight: readonly number[], ofWrong: readonly number[], programs: readonly number[]): EstimatedRates {
  const mean = (values: readonly number[]): number => sum(values) / values.length;
  const [truePositive, falsePositive] = [mean(ofRight), mean(ofWrong)];
  return {
    ...{ truePositive, falsePositive, j: truePositive - falsePositive },
    tests: ofRight.map((own, test) => ({
      ...{ truePositive: own, falsePositive: ofWrong[test]!, j: own - ofWrong[test]! },
    })),
    programs: [...programs],
  };
}

/** Programs that a test's rates are drawn to the mean of its question by. */
const SHRINKAGE = 2;
const STEPS = 60;
const TINY = 1e-3;

/**
 * TPR, FPR and J of the tests of one question where verdicts have chance in them, by a latent-class model: a program is right or wrong, a test passes right
 * programs by its own TPR and wrong ones by its own FPR, and tests err independently of each other (Dawid and Skene
 * 1979, fitted by expectation maximisation). Rates are drawn to the mean of the question, because programs are few.
 *
 * The model takes the programs that pass more for the right ones. Where wrong programs share a mistake, or none is
 * right, it takes the better wrong programs for right ones, and J comes out too high.
 *
 * @returns undefined where all programs pass as many tests, so that nothing tells right from wrong.
 * @throws RangeError for no program, no test, or rows of different lengths.
 * @example
 * latentClassRates(matrix)?.j; // 0.62
 */
export function latentClassRates(matrix: VerdictMatrix): EstimatedRates | undefined {
  checkMatrix(matrix);
  const passes = matrix.map((row) => row.filter(Boolean).length);
  const [least, most] = [Math.min(...passes), Math.max(...passes)];
  if (least === most) return undefined;
  let right = passes.map((own) => 0.1 + (0.8 * (own - least)) / (most - least));
  let ofRight: number[] = [];
  let ofWrong: number[] = [];
  for (let step = 0; step < STEPS; step += 1) {
    ofRight = ratesOf(matrix, right);
    ofWrong = ratesOf(
      matrix,
      right.map((chance) => 1 - chance),
    );
    const share = (sum(right) + 1) / (matrix.length + 2);
    const prior = Math.log(share / (1 - share));
    const odds = ofRight.map((own, test) => ({
      pass: Math.log(own / ofWrong[test]!),
      fail: Math.log((1 - own) / (1 - ofWrong[test]!)),
    }));
    const next = matrix.map((row) => {
      const all = row.reduce((total, pass, test) => total + (pass ? odds[test]!.pass : odds[test]!.fail), prior);
      return Math.min(1 - 1e-6, Math.max(1e-6, 1 / (1 + Math.exp(-all))));
    });
    const moved = Math.max(...next.map((chance, program) => Math.abs(chance - right[program]!)));
    right = next;
    if (moved < 1e-6) break;
  }
  return estimate(ofRight, ofWrong, right);
}

/** The rate at which each test passes programs of one class, drawn to the mean of the class. */
function ratesOf(matrix: VerdictMatrix, chances: readonly number[]): number[] {
  const size = sum(chances);
  const passed = passing(matrix, chances);
  const mean = sum(passed) / (size * passed.length);
  return passed.map((own) => Math.min(1 - TINY, Math.max(TINY, (own + SHRINKAGE * mean) / (size + SHRINKAGE))));
}

/**
 * The quality of one question's tests.
 *
 * @param outcomes `outcomes[program][test]`; what could not be judged counts as not passed.
 * @returns undefined where there is no program, no test, or programs were judged by different tests.
 * @example
 * verifierOf([[{ status: 'pass' }], [{ status: 'timeout' }]])?.j; // 1
 */
export function verifierOf(outcomes: readonly (readonly TestOutcome[])[]): VerifierQuality | undefined {
  const matrix = outcomes.map((each) => each.map(({ status }) => status === 'pass'));
  const tests = matrix[0]?.length ?? 0;
  if (tests === 0 || matrix.some(({ length }) => length !== tests)) return undefined;
  const rates = consensusRates(matrix);
  const { truePositive, falsePositive, j } = rates ?? {};
  return {
    ...testSetFigures(matrix),
    ...(rates ? { truePositive: truePositive!, falsePositive: falsePositive!, j: j! } : {}),
  };
}

/**
 * The interval of an estimated J at 95 %, by a bootstrap over programs: percentiles of the draws in which the estimate
 * exists. Undefined where there is none for the matrix itself.
 *
 * @param rates {@link consensusRates} or {@link latentClassRates}.
 * @param options.seed decides the draws: equal seeds give equal intervals.
 * @param options.resamples draws with replacement; 200 by default.
 * @throws RangeError for no program, no test, or rows of different lengths.
 * @example
 * estimatedInterval(matrix, consensusRates, { seed: 1 }); // [0.41, 0.78]
 */
export function estimatedInterval(
  matrix: VerdictMatrix,
  rates: (drawn: VerdictMatrix) => EstimatedRates | undefined,
  { seed, resamples = 200 }: { seed: number; resamples?: number },
): [number, number] | undefined {
  if (!rates(matrix)) return undefined;
  const random = new Random(seed);
  const draws: number[] = [];
  for (let draw = 0; draw < resamples; draw += 1) {
    const drawn = rates(matrix.map(() => random.pick(matrix)));
    if (drawn) draws.push(drawn.j);
  }
  const sorted = Float64Array.from(draws).sort();
  return draws.length === 0 ? undefined : [quantile(sorted, 0.025), quantile(sorted, 0.975)];
}
