/** The card of a reward model: texts of each question, their scores, and the figures over all of them. */
import { z } from 'zod';
import { CardRow, FilteredQuestionRow, ProgramRow, STAGE, StageConfigs } from '../../workflows/contract/index.js';
import { collect } from '../artifacts/collections.js';
import { deriveSeed } from '../artifacts/keys.js';
import { notesOf } from '../execution/execution.js';
import { selectQuestions, withHardenedTests } from '../policy/questions.js';
import { score } from '../policy/score.js';
import { cancellationSignal, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { intoShards, ShardedStage } from '../runtime/sharded-stage.js';
import { cardOf } from './card.js';
import { probeQuestions } from './probes.js';

const PlannedQuestion = z.strictObject({ question: FilteredQuestionRow, programs: z.array(ProgramRow) });
type PlannedQuestion = z.infer<typeof PlannedQuestion>;

const NOT_PROBED = 'notProbed.';

/** `rewardModelCard.plan`, `rewardModelCard.probe`, `rewardModelCard.score`, `rewardModelCard.seal`. */
export function rewardModelCardActivities({ store, models, sandbox }: Pick<Services, 'store' | 'models' | 'sandbox'>) {
  const stage = new ShardedStage(STAGE.rewardModelCard);

  const plan = stage.plan({
    row: PlannedQuestion,
    async run({ config: { split, questions, salt, shardSize }, inputs }) {
      const selected = await selectQuestions(store, inputs['questions']!, split, undefined, salt);
      const programsOf = new Map<string, ProgramRow[]>();
      const written = new Set<string>();
      for await (const { questionId } of store.rowsOf(inputs['programs']!, ProgramRow)) written.add(questionId);
      const chosen = selected.filter(({ id }) => written.has(id)).slice(0, questions);
      for (const { id } of chosen) programsOf.set(id, []);
      for await (const row of store.rowsOf(inputs['programs']!, ProgramRow)) programsOf.get(row.questionId)?.push(row);
      const tested = inputs['hardened'] ? await withHardenedTests(store, chosen, inputs['hardened']) : chosen;
      const rows = tested.map((question): PlannedQuestion => ({ question, programs: programsOf.get(question.id)! }));
      return { shards: intoShards(rows, shardSize), metrics: { questions: rows.length } };
    },
  });

  const probe = stage.step({
    after: [plan],
    row: CardRow,
    async run({ config, rows }) {
      const probed = await probeQuestions(
        sandbox,
        rows.map(({ question, programs }) => ({ question, programs, seed: deriveSeed(config.seed, question.id) })),
        config,
        {
          signal: cancellationSignal(),
          onProgress: (done, total, message) => reportProgress({ done, total, message }),
        },
      );
      return {
        rows: probed.rows,
        metrics: {
          cpuSeconds: probed.cpuSeconds,
          ...Object.fromEntries(
            Object.entries(probed.notProbed).map(([reason, times]) => [`${NOT_PROBED}${reason}`, times]),
          ),
        },
        notes: notesOf(probed.about),
      };
    },
  });

  const scored = stage.step({
    after: [probe],
    row: CardRow,
    async run({ inputs, rows, execution }) {
      const { microBatch } = StageConfigs.rewardModelCard.shape.execution.parse(execution);
      // A text that occurs twice in a question has one score.
      const requests = rows.flatMap(({ questionId, question, language, texts }) =>
        [...new Set(texts.map(({ program }) => program))].map((program) => ({
          id: JSON.stringify([questionId, program]),
          question,
          language,
          program,
        })),
      );
      const scores = await score(models, store, requests, {
        model: await store.materialise(inputs['rewardModel']!),
        microBatch,
        signal: cancellationSignal(),
        onProgress: (done, total) => reportProgress({ done, total, message: 'texts scored' }),
      });
      const byId = new Map(scores.map(({ id, score: value }) => [id, value]));
      return {
        rows: rows.map((row) => ({
          ...row,
          texts: row.texts.map((text) => {
            const value = byId.get(JSON.stringify([row.questionId, text.program]));
            return value === undefined ? text : { ...text, score: value };
          }),
        })),
      };
    },
  });

  return stage.activities(store, {
    plan,
    steps: { probe, score: scored },
    async seal({ config, rows, counts, notes }) {
      return {
        metrics: {
          ...cardOf(await collect(rows(scored)), { limit: config.limit, seed: config.seed }),
          notProbed: Object.fromEntries(
            Object.entries(counts)
              .filter(([name]) => name.startsWith(NOT_PROBED))
              .map(([name, times]) => [name.slice(NOT_PROBED.length), times]),
          ),
          visibleTests: config.visibleTests,
          cpuSeconds: counts['cpuSeconds'] ?? 0,
          notes,
        },
      };
    },
  });
}
