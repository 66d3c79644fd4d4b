/**
 * The table of a re-verification: which verdicts, pairs and rewards are others now, and the first RL round whose policy
 * is no longer what it would be. No Temporal, and no program runs here.
 */
import { Readable } from 'node:stream';
import {
  StageFailure,
  type EvaluationResult,
  type Harness,
  type PairSettings,
  type ProgramRow,
  type Reverification,
  type ReverificationRow,
  type RewardRow,
  type TestOutcome,
} from '../../workflows/contract/index.js';
import { count } from '../artifacts/collections.js';
import { judgementOf } from '../execution/execution.js';
import type { FigureRow } from '../evaluation/figures.js';
import { byQuestion, pairPrograms, type RatedPair } from '../preferences/pairs.js';
import { rewardRollouts } from '../reinforcement/rewards.js';
import { verifierOf } from '../statistics/verifier-quality.js';
import {
  harnessText,
  type EvaluationSource,
  type Item,
  type ProgramSource,
  type RoundSource,
  type Source,
} from './sources.js';

/** What the table follows from, beside the sources. */
export interface Rules {
  harness: Harness;
  pairs: { before: PairSettings; after: PairSettings };
  /** The figures of one policy on one benchmark. */
  evaluate: (rows: readonly FigureRow[], config: { passAtK: readonly number[] }) => EvaluationResult;
  /** The outcomes of an item's tests now. It is asked in the order of the items. */
  outcomesOf: (item: Item) => Promise<TestOutcome[]>;
}

/** What the table adds up. */
interface Sums {
  summary: Reverification;
  questions: Set<string>;
  changedQuestions: Set<string>;
  otherHarnesses: Set<string>;
}

export type TableRow = ReverificationRow | ProgramRow;

/**
 * Rows of the table, source after source, and the input `programs` with the verdicts of today. `summary` is whole when
 * all rows were taken.
 */
export function compare(
  sources: readonly Source[],
  rules: Rules,
): { rows: AsyncGenerator<TableRow>; summary: () => Reverification } {
  const sums: Sums = {
    summary: {
      programs: 0,
      questions: 0,
      changedQuestions: 0,
      harness: harnessText(rules.harness),
      otherHarnesses: [],
      verdicts: {},
    },
    questions: new Set(),
    changedQuestions: new Set(),
    otherHarnesses: new Set(),
  };
  async function* rows(): AsyncGenerator<TableRow> {
    for (const source of sources) {
      if (source.kind === 'programs') yield* comparePrograms(source, rules, sums);
      else if (source.kind === 'evaluation') yield* compareAnswers(source, rules, sums);
      else yield* compareRound(source, rules, sums);
    }
  }
  return {
    rows: rows(),
    summary: () => ({
      ...sums.summary,
      questions: sums.questions.size,
      changedQuestions: sums.changedQuestions.size,
      otherHarnesses: [...sums.otherHarnesses].sort(),
    }),
  };
}

/** Takes an item into the sums, and tells which of its verdicts are others. */
function* changesOf(source: string, item: Item, now: readonly TestOutcome[], sums: Sums): Generator<ReverificationRow> {
  const { questionId, before, after, outcomes } = item;
  sums.summary.programs += 1;
  sums.questions.add(questionId);
  if (after !== before) sums.changedQuestions.add(questionId);
  if (item.otherHarness !== undefined) sums.otherHarnesses.add(item.otherHarness);
  const common = { change: 'verdict' as const, source, questionId, program: item.id };
  for (const [at, digest] of before.digests.entries()) {
    const from = outcomes?.[at]?.status;
    if (from === undefined || after.digests.includes(digest)) continue;
    count(sums.summary.verdicts, `${from} -> gone`);
    yield { ...common, test: before.tests[at]!, from };
  }
  for (const [place, digest] of after.digests.entries()) {
    const from = outcomes?.[before.digests.indexOf(digest)]?.status;
    const to = now[place]!.status;
    if (from === to) continue;
    count(sums.summary.verdicts, `${from ?? 'new'} -> ${to}`);
    yield { ...common, test: after.tests[place]!, ...(from === undefined ? {} : { from }), to };
  }
}

async function* comparePrograms(source: ProgramSource, rules: Rules, sums: Sums): AsyncGenerator<TableRow> {
  const pairs = { before: 0, after: 0, gained: 0, lost: 0 };
  const rates = { before: 0, after: 0 };
  let rows = 0;
  const finished = new Set<string>();
  let question: { before: ProgramRow[]; after: ProgramRow[] } = { before: [], after: [] };
  const ended = async function* (): AsyncGenerator<ReverificationRow> {
    const before = await pairsOf(question.before, rules.pairs.before);
    const after = await pairsOf(question.after, rules.pairs.after);
    pairs.before += before.size;
    pairs.after += after.size;
    for (const [texts, pair] of before) if (!after.has(texts)) yield* told('pairLost', pair);
    for (const [texts, pair] of after) if (!before.has(texts)) yield* told('pairGained', pair);
  };
  function* told(change: 'pairGained' | 'pairLost', pair: RatedPair): Generator<ReverificationRow> {
    const { questionId, split, chosen, rejected, chosenPassRate, rejectedPassRate } = pair;
    pairs[change === 'pairGained' ? 'gained' : 'lost'] += 1;
    yield { change, source: source.name, questionId, split, chosen, rejected, chosenPassRate, rejectedPassRate };
  }
  for await (const { row, ...item } of source.items()) {
    if (row.questionId !== question.before[0]?.questionId) {
      yield* ended();
      question = { before: [], after: [] };
      if (finished.has(row.questionId))
        throw new StageFailure(
          'InvalidExperiment',
          `the programs of question ${row.questionId} do not stand together: sort the rows by questionId`,
        );
      finished.add(row.questionId);
    }
    const now = await rules.outcomesOf(item);
    const judged = programNow(row, item, now, rules.harness);
    yield* changesOf(source.name, item, now, sums);
    question.before.push(row);
    if (judged === undefined) {
      leftOut(sums);
      continue;
    }
    yield judged;
    question.after.push(judged);
    rows += 1;
    rates.before += row.passRate;
    rates.after += judged.passRate;
  }
  yield* ended();
  sums.summary.pairs = pairs;
  if (rows > 0) sums.summary.passRate = { before: rates.before / rows, after: rates.after / rows };
}

/** Counts what has no verdict, because a checker has a fault. */
function leftOut({ summary }: Sums): void {
  summary.checkerFailed = (summary.checkerFailed ?? 0) + 1;
}

/**
 * A program's row with the verdicts of today; the row itself where nothing about it is another, and undefined where a
 * checker has a fault, so that it has no pass rate.
 */
function programNow(
  row: ProgramRow,
  { before, after, limits, run }: Item,
  now: TestOutcome[],
  harness: Harness,
): ProgramRow | undefined {
  if (after === before && run) return row;
  const judgement = judgementOf(row.id, now);
  if (!judgement.judged) return undefined;
  const { cpuSecondsPerTest, cpuSecondsPerProgram } = limits;
  return {
    ...row,
    outcomes: now,
    passRate: judgement.passRate,
    ...(row.testCases === undefined ? {} : { testCases: row.testCases + after.tests.length - before.tests.length }),
    ...(row.limits || !run ? { limits: { cpuSecondsPerTest, cpuSecondsPerProgram } } : {}),
    harness,
  };
}

/** The pairs of one question by their texts. */
async function pairsOf(rows: readonly ProgramRow[], rule: PairSettings): Promise<Map<string, RatedPair>> {
  const pairs = new Map<string, RatedPair>();
  // Mutants are not judged again, so what they say of a question decides nothing here.
  const verifier = rule.verifier && { ...rule.verifier, minimumMutationScore: undefined };
  const quality = verifier && ((_: string, outcomes: TestOutcome[][]) => verifierOf(outcomes));
  for await (const question of byQuestion(Readable.from(rows), rule.denominator, quality))
    for (const pair of pairPrograms(question, { ...rule, verifier }).pairs)
      pairs.set(JSON.stringify([pair.chosen, pair.rejected]), pair);
  return pairs;
}

async function* compareAnswers(source: EvaluationSource, rules: Rules, sums: Sums): AsyncGenerator<ReverificationRow> {
  const groups = new Map<string, { before: FigureRow[]; after: FigureRow[] }>();
  const faulty = new Set<string>();
  for await (const { row, ...item } of source.items()) {
    const now = await rules.outcomesOf(item);
    yield* changesOf(source.name, item, now, sums);
    const name = JSON.stringify([row.benchmark, row.policy]);
    const group = groups.get(name) ?? { before: [], after: [] };
    groups.set(name, group);
    // All answers stay in memory until the last one, and no more of them than the figures need.
    const { benchmark, policy, taskId, mode, passed, outcomes, finish, program, score } = row;
    const answered = { benchmark, policy, taskId, mode, finish, program, ...(score === undefined ? {} : { score }) };
    group.before.push({ ...answered, passed, outcomes });
    group.after.push({ ...answered, passed: now.every(({ status }) => status === 'pass'), outcomes: now });
    if (judgementOf(item.id, now).judged) continue;
    leftOut(sums);
    faulty.add(JSON.stringify([row.benchmark, row.taskId]));
  }
  // As in the stage, policies are compared on the tasks that have verdicts for all of them.
  const comparable = ({ benchmark, taskId }: FigureRow): boolean => !faulty.has(JSON.stringify([benchmark, taskId]));
  const compared = [...groups.values()]
    .map(({ before, after }) => ({ before: before.filter(comparable), after: after.filter(comparable) }))
    .filter(({ after }) => after.length > 0);
  sums.summary.evaluation = compared.map(({ before, after }) => {
    const [was, is] = [before, after].map((rows) => rules.evaluate(rows, source)) as [
      EvaluationResult,
      EvaluationResult,
    ];
    return {
      benchmark: is.benchmark,
      policy: is.policy,
      tasks: is.tasks,
      greedyBefore: was.greedy,
      greedyAfter: is.greedy,
      meanBefore: was.mean,
      meanAfter: is.mean,
    };
  });
}

async function* compareRound(source: RoundSource, rules: Rules, sums: Sums): AsyncGenerator<ReverificationRow> {
  const scores = await source.scores();
  const rollouts = [];
  for await (const { row, ...item } of source.items()) {
    const now = source.isJudged ? await rules.outcomesOf(item) : undefined;
    if (now) yield* changesOf(source.name, item, now, sums);
    const judgement = now && judgementOf(item.id, now);
    if (judgement?.judged === false) leftOut(sums);
    rollouts.push({
      id: item.id,
      questionId: item.questionId,
      ...(row.turn === undefined ? {} : { turn: row.turn, repairs: row.repairs }),
      promptTokens: row.promptIds.length,
      completionTokens: row.completionIds.length,
      truncated: row.finish === 'length',
      passRate: judgement?.judged ? judgement.passRate : undefined,
      passed: now?.map(({ status }) => status === 'pass'),
      score: scores.get(item.id),
    });
  }
  const before = await source.rewards();
  const after = rewardRollouts(rollouts, source.after);
  const was = new Map(before.map((row) => [row.id, row]));
  let changed = 0;
  for (const row of after) {
    const [from, to] = [saidOf(was.get(row.id)), saidOf(row)];
    if (from === to) continue;
    changed += 1;
    yield { change: 'reward', source: source.name, questionId: row.questionId, rollout: row.id, from, to };
  }
  const rounds = (sums.summary.rounds ??= []);
  rounds.push({
    round: source.round,
    rollouts: after.length,
    ...{ meanBefore: meanReward(before), meanAfter: meanReward(after) },
    ...{ trainedBefore: trained(before).length, trainedAfter: trained(after).length },
    changed,
    rolloutsHold: rounds.every((round) => round.changed === 0),
  });
  sums.summary.firstChangedRound = rounds.find((round) => round.changed > 0)?.round ?? null;
}

/** What the update of a policy reads of a reward: the number, or why the rollout is left out. */
function saidOf(row: RewardRow | undefined): number | string {
  return row?.reward ?? row?.dropped ?? 'none';
}

const trained = (rows: readonly RewardRow[]): number[] => rows.flatMap(({ reward }) => reward ?? []);

function meanReward(rows: readonly RewardRow[]): number | null {
  const rewards = trained(rows);
  return rewards.length === 0 ? null : rewards.reduce((sum, each) => sum + each, 0) / rewards.length;
}

const figure = (value: number | null): string => (value === null ? '-' : String(Math.round(value * 10_000) / 10_000));

/** The summary for people, in Markdown. */
export function summaryText(summary: Reverification): string {
  const { programs, questions, changedQuestions, verdicts, passRate, pairs, evaluation = [], rounds = [] } = summary;
  const { checkerFailed } = summary;
  const lines = [
    '# Re-verification',
    '',
    `- programs: ${programs}, for ${questions} questions, of which ${changedQuestions} have other tests`,
    `- harness: ${summary.harness}`,
    ...(summary.otherHarnesses.length > 0
      ? [`- verdicts of another harness, all judged again: ${summary.otherHarnesses.join(' | ')}`]
      : []),
    ...(checkerFailed ? [`- without a verdict, because a checker has a fault: ${checkerFailed}`] : []),
    ...(passRate ? [`- mean pass rate: ${figure(passRate.before)} -> ${figure(passRate.after)}`] : []),
    ...(pairs ? [`- pairs: ${pairs.before} -> ${pairs.after}, ${pairs.gained} gained, ${pairs.lost} lost`] : []),
    ...(summary.firstChangedRound === undefined
      ? []
      : [`- first round whose policy is no longer what it would be: ${summary.firstChangedRound ?? 'none'}`]),
    '',
    ...table(
      ['verdict', 'tests'],
      Object.entries(verdicts).sort(([, a], [, b]) => b - a),
    ),
    ...table(
      ['benchmark', 'policy', 'tasks', 'greedy', 'mean'],
      evaluation.map((each) => [
        each.benchmark,
        each.policy,
        each.tasks,
        `${figure(each.greedyBefore)} -> ${figure(each.greedyAfter)}`,
        `${figure(each.meanBefore)} -> ${figure(each.meanAfter)}`,
      ]),
    ),
    ...table(
      ['round', 'rollouts', 'mean reward', 'trained', 'rewards changed', 'rollouts'],
      rounds.map((each) => [
        each.round,
        each.rollouts,
        `${figure(each.meanBefore)} -> ${figure(each.meanAfter)}`,
        `${each.trainedBefore} -> ${each.trainedAfter}`,
        each.changed,
        each.rolloutsHold ? 'hold' : 'of a policy that would be another',
      ]),
    ),
  ];
  return `${lines.join('\n').trimEnd()}\n`;
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string[] {
  if (rows.length === 0) return [];
  const line = (cells: readonly (string | number)[]): string =>
    `| ${cells.map((cell) => String(cell).replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line), ''];
}
