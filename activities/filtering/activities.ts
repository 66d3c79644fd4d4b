/** Filtering: questions to questions with kept test cases, split into train and held-out. */
import { z } from 'zod';
import { FilteredQuestionRow, QuestionRow, StageConfigs, TestOutcome } from '../../workflows/contract/index.js';
import { allJudged, judgePrograms } from '../execution/execution.js';
import { cancellationSignal, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { intoShards, shardedStageActivities, type ShardedStage } from '../runtime/sharded-stage.js';
import { filterQuestion, splitQuestions, type FilterQuality } from './filter.js';

const JudgedQuestion = z.strictObject({ question: QuestionRow, outcomes: z.array(TestOutcome) });
type JudgedQuestion = z.infer<typeof JudgedQuestion>;

const DroppedRow = z.strictObject({ questionId: z.string(), seedId: z.string(), reason: z.string(), testCases: z.number(), kept: z.number() });

/** `filtering.plan`, `filtering.judge`, `filtering.seal`. */
export function filteringActivities({ store, sandbox }: Services) {
  const stage: ShardedStage<z.infer<typeof StageConfigs.filtering>> = {
    stage: 'filtering',
    version: 2,
    kind: 'filteredQuestions',
    config: StageConfigs.filtering,
    planned: QuestionRow,
    async plan({ config, inputs }) {
      const questions: QuestionRow[] = [];
      for await (const row of store.rowsOf(inputs['questions']!, QuestionRow)) if (row.failure === undefined) questions.push(row);
      return { shards: intoShards(questions, config.shardSize) };
    },
    steps: {
      judge: {
        schema: JudgedQuestion,
        async run({ config, rows }) {
          const questions = rows as QuestionRow[];
          const withTests = questions.filter(({ testCases }) => testCases.length > 0);
          const { judgements, cpuSeconds } = await judgePrograms(
            sandbox,
            withTests.map(({ id, reference, testCases }) => ({ id, program: reference, tests: testCases.map(({ test }) => test) })),
            { limits: config.limits, signal: cancellationSignal(), onProgress: (done, total) => reportProgress({ done, total, message: 'oracle programs run' }) },
          );
          const outcomes = new Map(allJudged(judgements).map((judgement) => [judgement.id, judgement.outcomes]));
          return { rows: questions.map((question): JudgedQuestion => ({ question, outcomes: outcomes.get(question.id) ?? [] })), metrics: { cpuSeconds } };
        },
      },
    },
    async seal({ config, rows }) {
      const kept: Omit<FilteredQuestionRow, 'split'>[] = [];
      const dropped: z.infer<typeof DroppedRow>[] = [];
      const droppedTestCases: Record<string, number> = {};
      const quality: FilterQuality = { corrupted: 0, droppedTestCases: 0, droppedCorrupted: 0 };
      let testCases = 0;
      for await (const { question, outcomes } of rows() as AsyncGenerator<JudgedQuestion>) {
        testCases += question.testCases.length;
        question.testCases.forEach(({ corrupted }, index) => {
          const { status } = outcomes[index]!;
          if (corrupted) quality.corrupted += 1;
          if (status === 'pass') return;
          quality.droppedTestCases += 1;
          if (corrupted) quality.droppedCorrupted += 1;
          droppedTestCases[status] = (droppedTestCases[status] ?? 0) + 1;
        });
        const result = filterQuestion(question, outcomes, config);
        const { id, seedId, source, question: text, entryPoint, reference } = question;
        if ('dropped' in result) {
          dropped.push({ questionId: id, seedId, reason: result.dropped, testCases: question.testCases.length, kept: result.kept.length });
        } else {
          kept.push({ id, seedId, source, question: text, entryPoint, reference, tests: result.kept, testCases: question.testCases.length });
        }
      }
      const splits = splitQuestions(kept, config);
      const questions = kept.map((row, index): FilteredQuestionRow => ({ ...row, split: splits[index]! }));
      const droppedQuestions: Record<string, number> = {};
      for (const { reason } of dropped) droppedQuestions[reason] = (droppedQuestions[reason] ?? 0) + 1;
      return {
        files: [await store.putRows('rows.jsonl', FilteredQuestionRow, questions), await store.putRows('dropped.jsonl', DroppedRow, dropped)],
        rows: questions.length,
        metrics: {
          questions: questions.length,
          train: questions.filter(({ split }) => split === 'train').length,
          heldOut: questions.filter(({ split }) => split === 'heldOut').length,
          testCases,
          keptTestCases: questions.reduce((sum, { tests }) => sum + tests.length, 0),
          droppedQuestions,
          droppedTestCases,
          quality: { ...quality },
        },
      };
    },
  };
  return shardedStageActivities(store, stage);
}
