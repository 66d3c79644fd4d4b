/** Preferences: programs to preference pairs. Held-out pairs go into a file of their own, which no training reads. */
import { z } from 'zod';
import { Language, PairRow, ProgramRow, Split, STAGE } from '../../workflows/contract/index.js';
import type { Services } from '../runtime/services.js';
import { inShards, ShardedStage } from '../runtime/sharded-stage.js';
import { byQuestion, pairPrograms, type QuestionPrograms } from './pairs.js';
import { count } from '../artifacts/collections.js';

const PlannedQuestion = z.strictObject({
  questionId: z.string(),
  question: z.string(),
  language: Language.optional(),
  split: Split,
  programs: z.array(ProgramRow.pick({ id: true, program: true, passRate: true })),
});

/** `preferences.plan`, `preferences.pair`, `preferences.seal`. */
export function preferencesActivities({ store }: Pick<Services, 'store'>) {
  const stage = new ShardedStage(STAGE.preferences);

  const plan = stage.plan({
    row: PlannedQuestion,
    run({ config, inputs }) {
      const metrics = { programs: 0, questions: 0 };
      const counted = async function* (): AsyncGenerator<ProgramRow> {
        for await (const row of store.rowsOf(inputs['programs']!, ProgramRow)) {
          metrics.programs += 1;
          yield row;
        }
      };
      const shards = async function* (): AsyncGenerator<QuestionPrograms[]> {
        let last: string | undefined;
        for await (const shard of inShards(byQuestion(counted(), config.denominator), config.shardSize)) {
          // A question of several samplers comes once for each.
          for (const { questionId } of shard) {
            if (questionId !== last) metrics.questions += 1;
            last = questionId;
          }
          yield shard;
        }
      };
      return Promise.resolve({ shards: shards(), metrics });
    },
  });

  const pair = stage.step({
    after: [plan],
    row: PairRow,
    run({ config, rows }) {
      const results = rows.map((question) => pairPrograms(question, config));
      const skipped: Record<string, number> = {};
      for (const result of results) {
        for (const [reason, times] of Object.entries(result.skipped)) count(skipped, reason, times);
      }
      return Promise.resolve({ rows: results.flatMap(({ pairs }) => pairs), metrics: skipped });
    },
  });

  return stage.activities(store, {
    plan,
    steps: { pair },
    async seal({ rows, counts }) {
      const questions = { train: 0, heldOut: 0 };
      let last: string | undefined;
      const counted = async function* (): AsyncGenerator<PairRow> {
        for await (const row of rows(pair)) {
          if (row.questionId !== last) questions[row.split] += 1;
          last = row.questionId;
          yield row;
        }
      };
      const [train, heldOut] = await store.putRowsByFile(
        ['rows.jsonl', 'heldOut.jsonl'],
        PairRow,
        counted(),
        ({ split }) => (split === 'train' ? 0 : 1),
      );
      return {
        files: [train!, heldOut!],
        rows: train!.rows!,
        metrics: {
          pairs: train!.rows!,
          heldOutPairs: heldOut!.rows!,
          pairedQuestions: questions.train,
          heldOutPairedQuestions: questions.heldOut,
          skipped: counts,
        },
      };
    },
  });
}
