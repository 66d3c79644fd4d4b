/** Preferences: programs to preference pairs. Held-out pairs go into a file of their own, which no training reads. */
import { z } from 'zod';
import {
  Language,
  PairRow,
  ProgramRow,
  Split,
  STAGE,
  VerifierQuality,
  VerifierRow,
  type ArtifactRef,
} from '../../workflows/contract/index.js';
import { HARDENED } from '../policy/questions.js';
import type { ArtifactStore } from '../artifacts/store.js';
import type { Services } from '../runtime/services.js';
import { inShards, readPlan, ShardedStage } from '../runtime/sharded-stage.js';
import { verifierOf } from '../statistics/verifier-quality.js';
import { byQuestion, pairPrograms, type QuestionPrograms } from './pairs.js';
import { count } from '../artifacts/collections.js';

const PlannedQuestion = z.strictObject({
  questionId: z.string(),
  question: z.string(),
  language: Language.optional(),
  split: Split,
  programs: z.array(ProgramRow.pick({ id: true, program: true, passRate: true })),
  verifier: VerifierQuality.optional(),
});

/** What hardening says of the mutants of a reference. */
const HardenedRow = z.object({
  questionId: z.string(),
  mutants: z.object({ made: z.number(), survive: z.number(), killed: z.number() }),
});

/** The share of the mutants of each question's reference that its tests fail; empty where programs were not hardened. */
async function mutationScores(
  store: Pick<ArtifactStore, 'manifest' | 'readRows'>,
  programs: ArtifactRef,
): Promise<Map<string, number>> {
  const scores = new Map<string, number>();
  const file = (await store.manifest(programs)).files.find(({ name }) => name === HARDENED);
  if (!file) return scores;
  for await (const { questionId, mutants } of store.readRows([file], HardenedRow)) {
    const { made, survive, killed } = mutants;
    if (made > 0) scores.set(questionId, (made - survive + killed) / made);
  }
  return scores;
}

/** `preferences.plan`, `preferences.pair`, `preferences.seal`. */
export function preferencesActivities({ store }: Pick<Services, 'store'>) {
  const stage = new ShardedStage(STAGE.preferences);

  const plan = stage.plan({
    row: PlannedQuestion,
    async run({ config, inputs }) {
      const scores = config.verifier ? await mutationScores(store, inputs['programs']!) : new Map<string, number>();
      const quality = (id: string, outcomes: ProgramRow['outcomes'][]): VerifierQuality | undefined => {
        const [verifier, mutationScore] = [verifierOf(outcomes), scores.get(id)];
        return verifier && { ...verifier, ...(mutationScore === undefined ? {} : { mutationScore }) };
      };
      const metrics = { programs: 0, questions: 0 };
      const counted = async function* (): AsyncGenerator<ProgramRow> {
        for await (const row of store.rowsOf(inputs['programs']!, ProgramRow)) {
          metrics.programs += 1;
          yield row;
        }
      };
      const shards = async function* (): AsyncGenerator<QuestionPrograms[]> {
        let last: string | undefined;
        for await (const shard of inShards(
          byQuestion(counted(), config.denominator, config.verifier && quality),
          config.shardSize,
        )) {
          // A question of several samplers comes once for each.
          for (const { questionId } of shard) {
            if (questionId !== last) metrics.questions += 1;
            last = questionId;
          }
          yield shard;
        }
      };
      return { shards: shards(), metrics };
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
    async seal({ config, stageKey, rows, counts }) {
      /** The tests of every question, of those without a pair too. */
      async function* verifiers(): AsyncGenerator<VerifierRow> {
        let latest: string | undefined;
        for await (const { questionId, verifier } of store.readRows(
          (await readPlan(store, stageKey)).shards,
          PlannedQuestion,
        )) {
          if (verifier && questionId !== latest) yield { questionId, ...verifier };
          latest = questionId;
        }
      }
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
        files: [
          train!,
          heldOut!,
          ...(config.verifier ? [await store.putRows('verifiers.jsonl', VerifierRow, verifiers())] : []),
        ],
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
