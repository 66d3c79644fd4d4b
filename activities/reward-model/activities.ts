/** The reward model: pairs to a Bradley-Terry model, with its held-out accuracy. One long activity with checkpoints. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  PairRow,
  STAGE,
  StageConfigs,
  StageFailure,
  follows,
  type ArtifactRef,
  type GangMember,
  type Produced,
} from '../../workflows/contract/index.js';
import { deriveSeed, stageKey } from '../artifacts/keys.js';
import { stageRecipe } from '../artifacts/recipes.js';
import { writeRows } from '../artifacts/rows.js';
import { dropCheckpoints, train, trainingSettings, withWorkFolder } from '../runtime/checkpoints.js';
import { currentProducer } from '../runtime/context.js';
import { produceByGang } from '../runtime/gang.js';
import type { Services } from '../runtime/services.js';
import { conversationForms } from '../policy/prompt.js';
import { SCORE_SCALE_FILE, type ScoreScale } from '../policy/score.js';
import { bootstrapMeans } from '../statistics/bootstrap.js';
import { accuracyByGap, calibration } from '../statistics/intervals.js';

/** `rewardModel.train`. */
export function rewardModelActivities(services: Services) {
  const { store, models } = services;
  return {
    'rewardModel.train': async (input: {
      config: unknown;
      inputs: { pairs: ArtifactRef; backbone: ArtifactRef };
      gang?: GangMember;
    }): Promise<Produced | undefined> => {
      const config = StageConfigs.rewardModel.parse(input.config);
      const versions = await models.versions();
      const recipe = stageRecipe(STAGE.rewardModel, config, input.inputs);
      const { gang } = input;
      const about = { recipe, inputs: input.inputs, producer: currentProducer(versions) };
      const produced = await produceByGang(services, gang, about, (trainer, key) =>
        withWorkFolder(store, async (work) => {
          const [trainPairs, heldOutPairs]: [PairRow[], PairRow[]] = [[], []];
          // By what each row says, because a file of somebody else's may hold both.
          const { files } = await store.manifest(input.inputs.pairs);
          for await (const row of store.readRows(
            files.filter(({ name }) => /^(rows|heldOut)/.test(name)),
            PairRow,
          ))
            (row.split === 'heldOut' ? heldOutPairs : trainPairs).push(row);
          if (trainPairs.length === 0) {
            throw new StageFailure(
              'NoRows',
              'there is no preference pair to train on; lower preferences.minimumBest or minimumGap, or sample ' +
                'more programs',
            );
          }
          const [trainPath, heldOutPath, output] = [
            join(work, 'train.jsonl'),
            join(work, 'heldOut.jsonl'),
            join(work, 'model'),
          ];
          await writeRows(trainPath, trainPairs.map(asConversation));
          await writeRows(heldOutPath, heldOutPairs.map(asConversation));
          const backbone = await store.materialise(input.inputs.backbone);
          const { execution, salt: _salt, ...semantics } = config;
          const result = await train(trainer, key, 'trainRewardModel', (folders) => ({
            model: backbone,
            train: trainPath,
            heldOut: heldOutPath,
            forms: conversationForms(),
            output,
            ...folders,
            config: {
              ...semantics,
              ...trainingSettings(execution),
              baseline: true,
            },
          }));
          if (follows(gang)) return undefined;
          const scale: ScoreScale = { mean: result.heldOut.scoreMean ?? 0, std: result.heldOut.scoreStd || 1 };
          await writeFile(join(output, SCORE_SCALE_FILE), JSON.stringify(scale));
          const stored = await store.putFolder(output);
          const gapOf = new Map(
            heldOutPairs.flatMap(({ id, chosenPassRate: chosen, rejectedPassRate: rejected }) =>
              chosen === undefined || rejected === undefined ? [] : [[id, chosen - rejected] as const],
            ),
          );
          const margins = result.heldOut.rows.map(({ chosenScore, rejectedScore }) => chosenScore - rejectedScore);
          return {
            files: stored,
            metrics: {
              pairs: result.pairs,
              heldOutAccuracy: result.heldOut.accuracy,
              heldOutPairs: result.heldOut.pairs,
              heldOutQuestions: result.heldOut.questions,
              steps: result.steps,
              tooLong: result.tooLong,
              heldOutTooLong: result.heldOutTooLong,
              meanMargin: result.heldOut.meanMargin,
              interval95: intervalByQuestion(result.heldOut.rows, heldOutPairs, deriveSeed(config.seed, 'heldOut')),
              baselineAccuracy: result.before?.accuracy ?? null,
              calibration: calibration(margins).map((bin) => ({ ...bin })),
              byGap: accuracyByGap(
                result.heldOut.rows.flatMap(({ id }, at) =>
                  gapOf.has(id) ? [{ gap: gapOf.get(id)!, margin: margins[at]! }] : [],
                ),
              ).map((bin) => ({ ...bin })),
              curve: result.curve.map(({ step, loss }) => ({ step, loss })),
              scale: { ...scale },
              environments: result.environments,
            },
          };
        }),
      );
      // Only once the model is committed: until then the newest checkpoint is all that a lost worker leaves.
      if (produced) await dropCheckpoints(store, stageKey(recipe));
      return produced;
    },
  };
}

/**
 * Interval of the held-out accuracy, 95 %. Questions are drawn, because pairs of one question share programs and
 * depend on each other. Null without pairs.
 *
 * @example
 * intervalByQuestion([{ id: 'p', chosenScore: 1, rejectedScore: 0 }], [{ id: 'p', questionId: 'q' }], 7); // [1, 1]
 */
function intervalByQuestion(
  rows: readonly { id: string; chosenScore: number; rejectedScore: number }[],
  pairs: readonly Pick<PairRow, 'id' | 'questionId'>[],
  seed: number,
): [number, number] | null {
  if (rows.length === 0) return null;
  const questionOf = new Map(pairs.map(({ id, questionId }) => [id, questionId]));
  return bootstrapMeans(
    { accuracy: rows.map(({ chosenScore, rejectedScore }) => (chosenScore > rejectedScore ? 1 : 0)) },
    { seed, clusters: rows.map(({ id }) => questionOf.get(id) ?? id) },
  ).accuracy.interval;
}

function asConversation({
  id,
  questionId,
  question,
  language,
  chosen,
  rejected,
  chosenPassRate,
  rejectedPassRate,
}: PairRow) {
  const messages = [{ role: 'user', content: question }];
  return { id, questionId, messages, language, chosen, rejected, chosenPassRate, rejectedPassRate };
}
