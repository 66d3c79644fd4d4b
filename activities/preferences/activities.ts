/** Preferences: programs to preference pairs. Held-out pairs go into a file of their own, which no training reads. */
import { z } from 'zod';
import { PairRow, ProgramRow, Split, StageConfigs, type ManifestFile } from '../../workflows/contract/index.js';
import type { Services } from '../runtime/services.js';
import { inShards, shardedStageActivities, type ShardedStage } from '../runtime/sharded-stage.js';
import { byQuestion, pairPrograms, type QuestionPrograms } from './pairs.js';

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
      const metrics = { programs: 0, questions: 0 };
      const counted = async function* (): AsyncGenerator<ProgramRow> {
        for await (const row of store.rowsOf(inputs['programs']!, ProgramRow)) {
          metrics.programs += 1;
          yield row;
        }
      };
      const shards = async function* (): AsyncGenerator<QuestionPrograms[]> {
        for await (const shard of inShards(byQuestion(counted(), config.denominator), config.shardSize)) {
          metrics.questions += shard.length;
          yield shard;
        }
      };
      return { shards: shards(), metrics };
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
      // Once through the rows for each split: hundreds of thousands of pairs do not stay in memory.
      const put = async (name: string, split: Split): Promise<{ file: ManifestFile; questions: number }> => {
        let questions = 0;
        const ofSplit = async function* (): AsyncGenerator<PairRow> {
          let last: string | undefined;
          for await (const row of rows() as AsyncGenerator<PairRow>) {
            if (row.split !== split) continue;
            if (row.questionId !== last) questions += 1;
            last = row.questionId;
            yield row;
          }
        };
        return { file: await store.putRows(name, PairRow, ofSplit()), questions };
      };
      const train = await put('rows.jsonl', 'train');
      const heldOut = await put('heldOut.jsonl', 'heldOut');
      return {
        files: [train.file, heldOut.file],
        rows: train.file.rows ?? 0,
        metrics: {
          pairs: train.file.rows ?? 0, heldOutPairs: heldOut.file.rows ?? 0,
          pairedQuestions: train.questions, heldOutPairedQuestions: heldOut.questions, skipped: counts,
        },
      };
    },
  };
  return shardedStageActivities(store, stage);
}
