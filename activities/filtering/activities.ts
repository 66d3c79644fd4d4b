/** Filtering: questions to questions with kept test cases, split into train and held-out. */
import { z } from 'zod';
import { CpuLimits, FilteredQuestionRow, QuestionRow, StageConfigs, TestOutcome } from '../../workflows/contract/index.js';
import { allJudged, deriveLimits, judgePrograms, notesOf } from '../execution/execution.js';
import { cancellationSignal, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { intoShards, shardedStageActivities, type ShardedStage } from '../runtime/sharded-stage.js';
import { paidMetrics } from '../endpoint/replies.js';
import { programOfReply } from '../sampling/prompt.js';
import { requestOf, SampledText, textsOf } from '../sampling/source.js';
import { filterQuestion, splitQuestions, type FilterQuality } from './filter.js';
import { agreement, anyOf } from './oracle.js';

/** A question with the programs that its oracle gave. */
const AskedQuestion = z.strictObject({ question: QuestionRow, samples: z.array(SampledText) });
type AskedQuestion = z.infer<typeof AskedQuestion>;

/** `noProgram` where the oracle gave none that could be run. The question's reference is the program that speaks for the oracle. */
const JudgedQuestion = z.strictObject({ question: QuestionRow, outcomes: z.array(TestOutcome), limits: CpuLimits.optional(), noProgram: z.literal(true).optional() });
type JudgedQuestion = z.infer<typeof JudgedQuestion>;

const DroppedRow = z.strictObject({ questionId: z.string(), seedId: z.string(), reason: z.string(), testCases: z.number(), kept: z.number() });

/** `filtering.plan`; `filtering.request` where the oracle is no reference; `filtering.judge`, `filtering.seal`. */
export function filteringActivities({ store, sandbox, secret }: Services) {
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
    stepsOf: ({ oracle }) => (oracle.kind === 'reference' ? ['judge'] : ['request', 'judge']),
    steps: {
      request: {
        schema: AskedQuestion,
        async run({ config, inputs, rows, execution }) {
          const questions = rows as QuestionRow[];
          // A question without test cases has nothing to be decided.
          const asked = questions.filter(({ testCases }) => testCases.length > 0);
          const { texts, metrics } = await textsOf(requestOf.oracle(config.oracle)!, asked, { store, secret }, inputs['samples'], execution);
          if (!texts) return { incomplete: true, metrics };
          const samples = new Map(asked.map(({ id }, at) => [id, texts[at]!]));
          return { rows: questions.map((question): AskedQuestion => ({ question, samples: samples.get(question.id) ?? [] })), metrics };
        },
      },
      judge: {
        schema: JudgedQuestion,
        async run({ config, rows }) {
          const { oracle } = config;
          const asked = (oracle.kind === 'reference' ? (rows as QuestionRow[]).map((question) => ({ question, programs: [question.reference] }))
            : (rows as AskedQuestion[]).map(({ question, samples }) => ({ question, programs: samples.map(({ text }) => programOfReply(text, question.entryPoint)).filter((program) => program !== '') })))
            .map(({ question, programs }) => ({ question, programs: question.testCases.length > 0 ? programs : [] }));
          const jobs = asked.flatMap(({ question: { id, testCases }, programs }) => programs.map((program, index) => ({ id: `${id}/${index}`, program, tests: testCases.map(({ test }) => test) })));
          const { judgements, cpuSeconds, ...about } = await judgePrograms(sandbox, jobs, {
            limits: config.limits, signal: cancellationSignal(), onProgress: (done, total) => reportProgress({ done, total, message: 'oracle programs run' }),
          });
          const judged = allJudged(judgements);
          let next = 0;
          const verdicts = asked.map(({ programs }) => {
            const first = next;
            next += programs.length;
            if (programs.length === 0) return undefined;
            const outcomes = judged.slice(first, next).map((each) => each.outcomes);
            const verdict = oracle.kind === 'agreement' ? agreement(outcomes) : anyOf(outcomes);
            return { ...verdict, measured: jobs[first + (verdict.program ?? 0)]! };
          });
          // Of several programs only the one that speaks for the oracle is measured.
          const derived = await deriveLimits(sandbox, verdicts.flatMap((verdict) => verdict?.measured ?? []), { limits: config.limits, signal: cancellationSignal() });
          const limits = derived.values();
          return {
            rows: asked.map(({ question, programs }, at): JudgedQuestion => {
              const verdict = verdicts[at];
              if (!verdict) return { question, outcomes: question.testCases.map(() => ({ status: 'not_run' })), ...(question.testCases.length > 0 ? { noProgram: true } : {}) };
              return {
                question: oracle.kind === 'reference' ? question : { ...question, reference: verdict.program === undefined ? '' : programs[verdict.program]! },
                outcomes: verdict.outcomes, limits: limits.next().value!,
              };
            }),
            metrics: { cpuSeconds }, notes: notesOf(about),
          };
        },
      },
    },
    async seal({ config, rows, counts, notes }) {
      const kept: Omit<FilteredQuestionRow, 'split'>[] = [];
      const dropped: z.infer<typeof DroppedRow>[] = [];
      const droppedTestCases: Record<string, number> = {};
      const quality: FilterQuality = { corrupted: 0, droppedTestCases: 0, droppedCorrupted: 0 };
      let testCases = 0;
      for await (const { question, outcomes, limits, noProgram } of rows() as AsyncGenerator<JudgedQuestion>) {
        testCases += question.testCases.length;
        question.testCases.forEach(({ corrupted }, index) => {
          const { status } = outcomes[index]!;
          if (corrupted) quality.corrupted += 1;
          if (status === 'pass') return;
          quality.droppedTestCases += 1;
          if (corrupted) quality.droppedCorrupted += 1;
          droppedTestCases[status] = (droppedTestCases[status] ?? 0) + 1;
        });
        const result = noProgram ? { dropped: 'noOracleProgram' as const, kept: [] } : filterQuestion(question, outcomes, config);
        const { id, seedId, source, question: text, entryPoint, reference } = question;
        if ('dropped' in result) {
          dropped.push({ questionId: id, seedId, reason: result.dropped, testCases: question.testCases.length, kept: result.kept.length });
        } else {
          kept.push({ id, seedId, source, question: text, entryPoint, reference, tests: result.kept, testCases: question.testCases.length, ...(limits ? { limits } : {}) });
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
          ...(requestOf.oracle(config.oracle)?.source.kind === 'openai' ? paidMetrics(counts) : {}),
          notes,
        },
      };
    },
  };
  return shardedStageActivities(store, stage);
}
