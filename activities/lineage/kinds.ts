/**
 * What a row of each kind of artifact says of itself, and which rows of its inputs it was made of. Both directions of
 * a trace read this table. A new kind of artifact is an entry here. Pure.
 */
import { z } from 'zod';
import {
  CardRow,
  EvaluationRow,
  FilteredQuestionRow,
  PairRow,
  ProgramRow,
  QuestionRow,
  QuestionTest,
  ReplyRow,
  RewardRow,
  RolloutRow,
  RoundPromptRow,
  SampleRow,
  ScoreRow,
  SeedRow,
  testText,
  VerdictRow,
  type ArtifactKind,
  type TestOutcome,
} from '../../workflows/contract/index.js';

/** How rows of an artifact follow from rows of one of its inputs. */
export interface Link<R> {
  /** Names of the input in the manifest. */
  input: RegExp;
  /** What a row says of the rows of the input that it comes from. Absent: all of them together made the artifact. */
  of?: (row: R) => readonly string[];
  /** What a row of the input says of itself, in the same words. */
  is?: (row: unknown) => string;
  /** Texts that stand in the lines of those rows, where that is not what the row says of them. */
  needles?: (row: R) => readonly string[];
  /** Most rows of the input that one row comes from. */
  most?: number;
  /** Of several inputs, the name of the one that a row comes from. */
  named?: (row: R) => string;
  /** Told without its rows, because what led to it is of the same form: the policy before a round. */
  brief?: true;
}

export interface Kind<R> {
  /** One row in a few words. */
  what: string;
  row?: z.ZodType<R>;
  id?: (row: R) => string;
  /** A line about a row. */
  shows?: (row: R) => string;
  /** Verdicts of the tests of the row's question, in their order. */
  outcomes?: (row: R) => readonly TestOutcome[];
  /** Rows that stand for the artifact where none is asked for; absent: the first. */
  example?: (row: R) => boolean;
  /** A part of a row that stands between the row and what it comes from. `user` is the row that led here. */
  part?: { what: string; shows: (row: R, user: unknown) => string };
  /** In the order in which they are told. */
  links: readonly Link<R>[];
}

const id = (row: unknown): string => z.object({ id: z.string() }).parse(row).id;
const seedId = (row: unknown): string => z.object({ seedId: z.string() }).parse(row).seedId;
const questionId = (row: unknown): string => z.object({ questionId: z.string() }).parse(row).questionId;
/** A program among those of its question. */
const text = (question: string, program: string): string => JSON.stringify([question, program]);

const byQuestion = { of: (row: { questionId: string }) => [row.questionId], is: id, most: 1 };
const byId = { of: (row: { id: string }) => [row.id], is: id, most: 1 };
const bySeed = (row: { seedId: string }): readonly string[] => [row.seedId];

const LINE = 100;

/** The first line of a text that says something. */
function lineOf(value: string): string {
  const line = value.split('\n').find((each) => each.trim() !== '') ?? '';
  return line.length > LINE ? `${line.slice(0, LINE - 3)}...` : line;
}

/** Verdicts of a program, counted. */
export function outcomesText(outcomes: readonly TestOutcome[]): string {
  const counts = new Map<string, number>();
  for (const { status } of outcomes) counts.set(status, (counts.get(status) ?? 0) + 1);
  const told = [...counts].map(([status, times]) => `${times} ${status}`).join(', ');
  return `${outcomes.length} tests: ${told || 'none ran'}`;
}

function kind<R>(definition: Kind<R>): Kind<unknown> {
  // Rows are parsed by the schema of the same entry before its functions see them.
  return definition as Kind<unknown>;
}

export const KINDS: Readonly<Record<ArtifactKind, Kind<unknown>>> = {
  evaluation: kind<EvaluationRow>({
    what: 'evaluation sample',
    row: EvaluationRow,
    id: (row) => row.id,
    shows: ({ benchmark, taskId, policy, mode, sample, passed, outcomes }) =>
      `${policy} on ${benchmark} ${taskId}, ${mode === 'greedy' ? 'greedy' : `sample ${sample}`}: ` +
      `${passed ? 'passed' : 'failed'}, ${outcomesText(outcomes)}`,
    outcomes: (row) => row.outcomes,
    links: [
      { input: /^policy:/, named: (row) => `policy:${row.policy}` },
      { input: /^questions$/, of: (row) => [row.taskId], is: id, most: 1 },
      { input: /^(?!policy:|questions$)/ },
    ],
  }),
  rewards: kind<RewardRow>({
    what: 'reward',
    row: RewardRow,
    id: (row) => row.id,
    shows: ({ reward, dropped, passRate, score }) =>
      `${reward === undefined ? `left out: ${dropped}` : reward.toFixed(3)}` +
      `${passRate === undefined ? '' : `, pass rate ${passRate.toFixed(3)}`}` +
      `${score === undefined ? '' : `, score ${score.toFixed(3)}`}`,
    example: ({ reward }) => reward !== undefined,
    links: [
      { input: /^verdicts$/, ...byId },
      { input: /^scores$/, ...byId },
      { input: /^rollouts$/, ...byId },
      { input: /^rewardModel$/ },
    ],
  }),
  verdicts: kind<VerdictRow>({
    what: 'verdict',
    row: VerdictRow,
    id: (row) => row.id,
    shows: ({ outcomes, harness }) =>
      `${outcomesText(outcomes)}${harness ? `, harness ${harness.version}, Python ${harness.python}` : ''}`,
    outcomes: (row) => row.outcomes,
    links: [{ input: /^rollouts$/, ...byId }],
  }),
  scores: kind<ScoreRow>({
    what: 'score of the reward model',
    row: ScoreRow,
    id: (row) => row.id,
    shows: ({ score }) => score.toFixed(3),
    links: [{ input: /^rollouts$/, ...byId }, { input: /^rewardModel$/ }],
  }),
  rollouts: kind<RolloutRow>({
    what: 'rollout',
    row: RolloutRow,
    id: (row) => row.id,
    shows: ({ text: program, completionIds, finish }) =>
      `${completionIds.length} tokens, ${finish}: ${lineOf(program)}`,
    links: [
      { input: /^plan$/, of: (row) => [row.questionId], is: questionId, most: 1 },
      { input: /^policy$/, brief: true },
    ],
  }),
  roundPlan: kind<RoundPromptRow>({
    what: 'prompt',
    row: RoundPromptRow,
    id: (row) => row.questionId,
    shows: ({ tests, seeds }) => `${seeds.length} samples, ${tests.length} tests`,
    links: [
      { input: /^questions$/, ...byQuestion },
      { input: /^(programs|hardened)$/, of: (row) => [row.questionId], is: questionId },
      // A repair turn asks the questions of the plan before it.
      { input: /^plan$/, of: (row) => [row.questionId], is: questionId, most: 1 },
      { input: /^(rollouts|verdicts)$/, brief: true },
    ],
  }),
  policy: {
    what: 'policy',
    links: [
      { input: /^rewards$/ },
      { input: /^rollouts$/ },
      { input: /^programs$/ },
      { input: /^(policy|reference)$/, brief: true },
    ],
  },
  rewardModel: { what: 'reward model', links: [{ input: /^pairs$/ }, { input: /^backbone$/ }] },
  rewardModelCard: kind<CardRow>({
    what: 'texts of a question for the card of a reward model',
    row: CardRow,
    id: (row) => row.questionId,
    shows: ({ texts, question }) => `${texts.length} texts: ${lineOf(question)}`,
    links: [
      { input: /^questions$/, ...byQuestion },
      { input: /^(programs|hardened)$/, of: (row) => [row.questionId], is: questionId },
      { input: /^rewardModel$/ },
    ],
  }),
  model: { what: 'model as it was given', links: [] },
  pairs: kind<PairRow>({
    what: 'preference pair',
    row: PairRow,
    id: (row) => row.id,
    shows: ({ split, chosenPassRate, rejectedPassRate }) =>
      `${split}, pass rates ${chosenPassRate?.toFixed(3) ?? '?'} and ${rejectedPassRate?.toFixed(3) ?? '?'}`,
    links: [
      {
        input: /^programs$/,
        of: (row) => [text(row.questionId, row.chosen), text(row.questionId, row.rejected)],
        is: (row) => {
          const { questionId: question, program } = z
            .object({ questionId: z.string(), program: z.string() })
            .parse(row);
          return text(question, program);
        },
        needles: (row) => [row.questionId],
        most: 2,
      },
    ],
  }),
  programs: kind<ProgramRow>({
    what: 'program',
    row: ProgramRow,
    id: (row) => row.id,
    shows: ({ passRate, outcomes, program }) =>
      `pass rate ${passRate.toFixed(3)}, ${outcomesText(outcomes)}: ${lineOf(program)}`,
    outcomes: (row) => row.outcomes,
    links: [
      { input: /^programs$/, ...byId },
      { input: /^questions$/, ...byQuestion },
      { input: /^(policy|samples)$/, brief: true },
    ],
  }),
  filteredQuestions: kind<FilteredQuestionRow>({
    what: 'question',
    row: FilteredQuestionRow,
    id: (row) => row.id,
    shows: ({ tests, testCases, split, question }) =>
      `${split}, ${tests.length} of ${testCases ?? tests.length} tests kept: ${lineOf(question)}`,
    links: [
      { input: /^questions$/, ...byId },
      { input: /^samples$/, of: bySeed, is: seedId },
    ],
  }),
  questions: kind<QuestionRow>({
    what: 'question as the teacher wrote it',
    row: QuestionRow,
    id: (row) => row.id,
    shows: ({ failure, testCases, question }) =>
      failure === undefined ? `${testCases.length} test cases: ${lineOf(question)}` : `none: ${lineOf(failure)}`,
    part: {
      what: 'test case',
      shows: ({ testCases }, user) => {
        const kept =
          z
            .object({ tests: z.array(QuestionTest) })
            .safeParse(user)
            .data?.tests.map(testText) ?? [];
        const index = Math.max(
          0,
          testCases.findIndex(({ test }) => kept.includes(testText(test))),
        );
        const { test, corrupted } = testCases[index] ?? { test: 'none' };
        const error = corrupted ? ', with an injected error' : '';
        return `${index + 1} of ${testCases.length}${error}: ${lineOf(testText(test))}`;
      },
    },
    example: ({ failure }) => failure === undefined,
    links: [
      { input: /^replies$/, of: bySeed, is: seedId },
      { input: /^seeds$/, of: bySeed, is: id, most: 1 },
    ],
  }),
  replies: kind<ReplyRow>({
    what: "teacher's reply",
    row: ReplyRow,
    id: (row) => row.seedId,
    shows: (row) => lineOf('text' in row ? row.text : row.body),
    links: [{ input: /^seeds$/, of: bySeed, is: id, most: 1 }],
  }),
  samples: kind<SampleRow>({
    what: 'recorded sample',
    row: SampleRow,
    id: (row) => row.seedId,
    shows: (row) => lineOf(row.text),
    links: [],
  }),
  seeds: kind<SeedRow>({
    what: 'seed',
    row: SeedRow,
    id: (row) => row.id,
    shows: ({ source, code }) => `${source}: ${lineOf(code)}`,
    links: [],
  }),
  report: { what: 'report', links: [{ input: /./ }] },
  dataset: { what: 'version of a data set', links: [{ input: /./ }] },
  export: { what: 'exported data set', links: [{ input: /./ }] },
  tasks: { what: 'tasks of a benchmark', links: [] },
  references: { what: 'what references of a benchmark came to', links: [] },
  benchmarkSamples: { what: 'samples of others', links: [] },
  tests: { what: 'changed tests', links: [] },
  reverification: { what: 'verdicts of a re-verification', links: [{ input: /./ }] },
};
