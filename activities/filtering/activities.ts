/** Filtering: questions to questions with kept test cases, split into train and held-out. */
import { z } from 'zod';
import {
  CpuLimits,
  FilteredQuestionRow,
  judgedTests,
  QuestionRow,
  QuestionTest,
  SOURCES,
  STAGE,
  StageConfigs,
  TestOutcome,
  type Oracle,
} from '../../workflows/contract/index.js';
import { deriveLimits, judgePrograms, normalTests, notesOf, settled, type Job } from '../execution/execution.js';
import { cancellationSignal, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { inShards, ShardedStage } from '../runtime/sharded-stage.js';
import { shardAsks } from '../endpoint/activities.js';
import { paidMetrics } from '../endpoint/replies.js';
import { keyedLanguage } from '../languages/index.js';
import { programOfReply } from '../policy/prompt.js';
import { asksOfQuestions, modelOf, requestOf, SampledText, textsOf } from '../policy/source.js';
import { filterQuestion, repeatedTests, splitQuestions, type Filtered, type FilterQuality } from './filter.js';
import { agreement, anyOf, weighted, type OracleVerdict } from './oracle.js';
import { count } from '../artifacts/collections.js';

/** A question with the programs that its oracle gave. */
const AskedQuestion = z.strictObject({ question: QuestionRow, samples: z.array(SampledText) });
type AskedQuestion = z.infer<typeof AskedQuestion>;

/**
 * `noProgram` where the oracle gave none that could be run, or fewer than it needs. The question's reference is the
 * program that speaks for the oracle.
 */
const JudgedQuestion = z.strictObject({
  question: QuestionRow,
  outcomes: z.array(TestOutcome),
  /** What each test case is, however it is written. */
  normal: z.array(z.strictObject({ test: z.string(), output: z.string() })).optional(),
  limits: CpuLimits.optional(),
  noProgram: z.literal(true).optional(),
});
type JudgedQuestion = z.infer<typeof JudgedQuestion>;

const DroppedRow = z.strictObject({
  questionId: z.string(),
  seedId: z.string(),
  reason: z.string(),
  testCases: z.number(),
  kept: z.number(),
});
/** A test case that the oracle does not confirm, with its verdict. */
const DroppedTestRow = z.strictObject({ questionId: z.string(), test: QuestionTest, ...TestOutcome.shape });
type DroppedTestRow = z.infer<typeof DroppedTestRow>;

export const filteringAsks = shardAsks({
  config: StageConfigs.filtering,
  row: QuestionRow,
  model({ oracle }) {
    const request = requestOf.oracle(oracle);
    return request && modelOf(request);
  },
  asks({ oracle }, questions) {
    const request = requestOf.oracle(oracle);
    return request
      ? asksOfQuestions(
          request,
          questions.filter(({ testCases }) => testCases.length > 0),
        )
      : [];
  },
});

/** Programs without which an oracle says nothing of a question. */
const leastPrograms = ({ kind }: Oracle): number => (kind === 'weights' ? 2 : 1);

/** What an oracle says of a question's test cases, from the verdicts of its programs. */
function verdictOf(oracle: Oracle, outcomes: readonly (readonly TestOutcome[])[]): OracleVerdict {
  if (oracle.kind === 'agreement') return agreement(outcomes);
  return oracle.kind === 'weights' ? weighted(outcomes, oracle.minimumWeight) : anyOf(outcomes);
}

/** `filtering.plan`; `filtering.request` where the oracle is no reference; `filtering.judge`, `filtering.seal`. */
export function filteringActivities({ store, sandbox, secret }: Services) {
  const stage = new ShardedStage(STAGE.filtering);

  const plan = stage.plan({
    row: QuestionRow,
    run({ config, inputs }) {
      const written = async function* (): AsyncGenerator<QuestionRow> {
        for await (const row of store.rowsOf(inputs['questions']!, QuestionRow))
          if (row.failure === undefined) yield row;
      };
      return Promise.resolve({ shards: inShards(written(), config.shardSize) });
    },
  });

  const request = stage.step({
    after: [plan],
    row: AskedQuestion,
    async run({ config, inputs, rows, execution }) {
      const questions = rows;
      // A question without test cases has nothing to be decided.
      const asked = questions.filter(({ testCases }) => testCases.length > 0);
      const { texts, metrics, notes } = await textsOf(
        requestOf.oracle(config.oracle)!,
        asked,
        {
          store,
          secret,
          signal: cancellationSignal(),
          onProgress: (done, total, message) => reportProgress({ done, total, message }),
        },
        inputs['samples'],
        execution,
      );
      if (!texts) return { incomplete: true, metrics };
      const samples = new Map(asked.map(({ id }, at) => [id, texts[at]!]));
      return {
        rows: questions.map((question): AskedQuestion => ({ question, samples: samples.get(question.id) ?? [] })),
        metrics,
        notes,
      };
    },
  });

  const judge = stage.step({
    after: [plan, request],
    row: JudgedQuestion,
    async run({ config, rows }) {
      const { oracle } = config;
      if (oracle.kind === 'none')
        return {
          rows: rows.map((row): JudgedQuestion => {
            const question = 'samples' in row ? row.question : row;
            // Nobody vouches for the tests, so no program is held to be right.
            return {
              question: { ...question, reference: '' },
              outcomes: question.testCases.map(() => ({ status: 'pass' })),
            };
          }),
          metrics: { cpuSeconds: 0 },
        };
      const asked = rows
        .map((row) =>
          'samples' in row
            ? {
                question: row.question,
                programs: row.samples
                  .map(({ text }) => programOfReply(text, row.question.entryPoint, row.question.language))
                  .filter((program) => program !== ''),
              }
            : { question: row, programs: [row.reference] },
        )
        .map(({ question, programs }) => ({
          question,
          programs: question.testCases.length > 0 && programs.length >= leastPrograms(oracle) ? programs : [],
        }));
      const tests = asked.map(({ question: { testCases, checker } }) =>
        judgedTests({ tests: testCases.map(({ test }) => test), checker }),
      );
      const jobs = asked.flatMap(({ question: { id }, programs }, at) =>
        programs.map((program, index): Job => ({ id: `${id}/${index}`, program, tests: tests[at]! })),
      );
      const { judgements, cpuSeconds, ...about } = await judgePrograms(sandbox, jobs, {
        limits: config.limits,
        signal: cancellationSignal(),
        onProgress: (done, total) => reportProgress({ done, total, message: 'oracle programs run' }),
      });
      // A test whose checker has a fault is dropped, as every test that the oracle does not pass.
      const judged = settled(judgements);
      let next = 0;
      const verdicts = asked.map(({ programs }) => {
        const first = next;
        next += programs.length;
        if (programs.length === 0) return undefined;
        const outcomes = judged.slice(first, next).map((each) => each.outcomes);
        const verdict = verdictOf(oracle, outcomes);
        return { ...verdict, measured: jobs[first + (verdict.program ?? 0)]! };
      });
      // Of several programs only the one that speaks for the oracle is measured.
      const derived = await deriveLimits(
        sandbox,
        verdicts.flatMap((verdict) => verdict?.measured ?? []),
        { limits: config.limits, signal: cancellationSignal() },
      );
      const limits = derived.values();
      const normal = await normalTests(
        sandbox,
        asked.map(({ programs }, at) => ({ tests: tests[at]!, program: programs[verdicts[at]?.program ?? 0] })),
        { limits: config.limits, signal: cancellationSignal() },
      );
      return {
        rows: asked.map(({ question, programs }, at): JudgedQuestion => {
          const verdict = verdicts[at];
          if (!verdict)
            return {
              question,
              outcomes: question.testCases.map(() => ({ status: 'not_run' })),
              ...(question.testCases.length > 0 ? { noProgram: true } : {}),
            };
          return {
            question:
              oracle.kind === 'reference'
                ? question
                : { ...question, reference: verdict.program === undefined ? '' : programs[verdict.program]! },
            outcomes: verdict.outcomes,
            normal: normal[at]!,
            limits: limits.next().value!,
          };
        }),
        metrics: { cpuSeconds },
        notes: notesOf(about),
      };
    },
  });

  return stage.activities(store, {
    plan,
    steps: { request, judge },
    async seal({ config, rows, counts, notes }) {
      // Twice through the rows, because a question's side depends on all that are like it, and all do not stay in
      // memory.
      const kept: Pick<FilteredQuestionRow, 'id' | 'question' | 'reference'>[] = [];
      const dropped: z.infer<typeof DroppedRow>[] = [];
      const droppedQuestions: Record<string, number> = {};
      const droppedTestCases: Record<string, number> = {};
      const quality: FilterQuality = { corrupted: 0, droppedTestCases: 0, droppedCorrupted: 0 };
      let testCases = 0;
      let keptTestCases = 0;
      let weakTestCases = 0;
      let repairedTestCases = 0;
      const judged = (): AsyncGenerator<JudgedQuestion> => rows(judge);
      const filtered = ({ question, outcomes, normal, noProgram }: JudgedQuestion): Filtered =>
        noProgram ? { dropped: 'noOracleProgram', kept: [] } : filterQuestion(question, outcomes, config, normal);
      const droppedTests = async function* (): AsyncGenerator<DroppedTestRow> {
        for await (const row of judged()) {
          const {
            question: { id, seedId, question, reference, testCases: tests },
            outcomes,
          } = row;
          testCases += tests.length;
          const repeated = repeatedTests(row.question, outcomes, row.normal);
          for (const [index, { test, corrupted }] of tests.entries()) {
            const outcome = outcomes[index]!;
            if (corrupted) quality.corrupted += 1;
            if (outcome.status === 'pass' && !repeated.has(index)) {
              if (outcome.weak) weakTestCases += 1;
              if (outcome.repaired) repairedTestCases += 1;
              continue;
            }
            quality.droppedTestCases += 1;
            if (corrupted) quality.droppedCorrupted += 1;
            count(droppedTestCases, repeated.has(index) ? 'repeated' : outcome.status);
            const reason = repeated.has(index) ? { reason: 'an earlier test in another spelling' } : {};
            yield { questionId: id, test, ...outcome, ...reason };
          }
          const result = filtered(row);
          if ('dropped' in result) {
            count(droppedQuestions, result.dropped);
            dropped.push({
              questionId: id,
              seedId,
              reason: result.dropped,
              testCases: tests.length,
              kept: result.kept.length,
            });
          } else {
            keptTestCases += result.kept.length;
            kept.push({ id, question, reference });
          }
        }
      };
      const droppedTestsFile = await store.putRows('droppedTests.jsonl', DroppedTestRow, droppedTests());
      const splits = splitQuestions(kept, config);
      const questions = async function* (): AsyncGenerator<FilteredQuestionRow> {
        let next = 0;
        for await (const row of judged()) {
          const result = filtered(row);
          if ('dropped' in result) continue;
          const {
            question: {
              id,
              seedId,
              source,
              question,
              entryPoint,
              reference,
              language,
              form,
              testCases: { length },
              checker,
              contract,
            },
            limits,
          } = row;
          yield {
            id,
            seedId,
            source,
            question,
            entryPoint,
            reference,
            ...keyedLanguage(language),
            ...(form === undefined ? {} : { form }),
            tests: result.kept,
            ...(checker === undefined ? {} : { checker }),
            ...(contract === undefined ? {} : { contract }),
            testCases: length,
            ...(limits ? { limits } : {}),
            split: splits[next++]!,
          };
        }
      };
      return {
        files: [
          await store.putRows('rows.jsonl', FilteredQuestionRow, questions()),
          await store.putRows('dropped.jsonl', DroppedRow, dropped),
          droppedTestsFile,
        ],
        rows: kept.length,
        metrics: {
          questions: kept.length,
          train: splits.filter((split) => split === 'train').length,
          heldOut: splits.filter((split) => split === 'heldOut').length,
          testCases,
          keptTestCases,
          weakTestCases,
          repairedTestCases,
          droppedQuestions,
          droppedTestCases,
          quality: { ...quality },
          ...(SOURCES.isPaid(requestOf.oracle(config.oracle)?.source) ? paidMetrics(counts) : {}),
          notes,
        },
      };
    },
  });
}
