/** Preferences: programs to preference pairs. Held-out pairs go into a file of their own, which no training reads. */
import { z } from 'zod';
import { PairRow, ProgramRow, Split, StageConfigs } from '../../workflows/contract/index.js';
import type { Services } from '../runtime/services.js';
import { intoShards, shardedStageActivities, type ShardedStage } from '../runtime/sharded-stage.js';
import { pairPrograms, type QuestionPrograms } from './pairs.js';

const PlannedQuestion = z.strictObject({
  questionId: z.string(),
  question: z.string(),
  split: Split,
  programs: z.array(ProgramRow.pick({ id: true, program: true, passRate: true })),
});

/** `preferences.plan`, `preferences.pair`, `preferences.seal`. */
export function preferencesActivities({ store }: Pick<Services, 'store'>) {
  const stage: ShardedStage<z.infer<typeof StageConfigs.preferences>> = {
    stage: 'preferences',
    version: 1,
    kind: 'pairs',
    config: StageConfigs.preferences,
    planned: PlannedQuestion,
    async plan({ config, inputs }) {
      const questions = new Map<string, QuestionPrograms>();
      let programs = 0;
      for await (const row of store.rowsOf(inputs['programs']!, ProgramRow)) {
        programs += 1;
        const { questionId, question, split, id, program, passRate } = row;
        const entry = questions.get(questionId) ?? { questionId, question, split, programs: [] };
        entry.programs.push({ id, program, passRate });
        questions.set(questionId, entry);
      }
      return { shards: intoShards([...questions.values()], config.shardSize), metrics: { programs, questions: questions.size } };
    },
    steps: {
      pair: {
        schema: PairRow,
        async run({ config, rows }) {
          const results = (rows as QuestionPrograms[]).map((question) => pairPrograms(question, config));
          const skipped: Record<string, number> = {};
          for (const result of results) {
            for (const [reason, times] of Object.entries(result.skipped)) skipped[reason] = (skipped[reason] ?? 0) + times;
          }
          return { rows: results.flatMap(({ pairs }) => pairs), metrics: skipped };
        },
      },
    },
    async seal({ rows, counts }) {
      const bySplit: Record<Split, PairRow[]> = { train: [], heldOut: [] };
      for await (const row of rows() as AsyncGenerator<PairRow>) bySplit[row.split].push(row);
      const questions = (split: Split): number => new Set(bySplit[split].map(({ questionId }) => questionId)).size;
      return {
        files: [await store.putRows('rows.jsonl', PairRow, bySplit.train), await store.putRows('heldOut.jsonl', PairRow, bySplit.heldOut)],
        rows: bySplit.train.length,
        metrics: {
          pairs: bySplit.train.length, heldOutPairs: bySplit.heldOut.length,
          pairedQuestions: questions('train'), heldOutPairedQuestions: questions('heldOut'), skipped: counts,
        },
      };
    },
  };
  return shardedStageActivities(store, stage);
}
