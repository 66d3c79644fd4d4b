/** Fine-tuning: the policy on programs that pass. One long activity with checkpoints. */
import { join } from 'node:path';
import {
  ProgramRow,
  STAGE,
  StageConfigs,
  StageFailure,
  follows,
  type ArtifactRef,
  type GangMember,
  type Produced,
} from '../../workflows/contract/index.js';
import { stageKey } from '../artifacts/keys.js';
import { stageRecipe } from '../artifacts/recipes.js';
import { writeRows } from '../artifacts/rows.js';
import { promptOf } from '../policy/prompt.js';
import { dropCheckpoints, train, trainingSettings, withWorkFolder } from '../runtime/checkpoints.js';
import { currentProducer } from '../runtime/context.js';
import { produceByGang } from '../runtime/gang.js';
import type { Services } from '../runtime/services.js';

/** `fineTuning.train`. */
export function fineTuningActivities(services: Services) {
  const { store, models } = services;
  return {
    'fineTuning.train': async (input: {
      config: unknown;
      inputs: { programs: ArtifactRef; policy: ArtifactRef };
      gang?: GangMember;
    }): Promise<Produced | undefined> => {
      const config = StageConfigs.fineTuning.parse(input.config);
      const { programs: programsRef, policy } = input.inputs;
      const recipe = stageRecipe(STAGE.fineTuning, config, input.inputs);
      const { gang } = input;
      const about = { recipe, inputs: input.inputs, producer: currentProducer(await models.versions()) };
      const produced = await produceByGang(services, gang, about, (trainer, key) =>
        withWorkFolder(store, async (work) => {
          const programs = await passingPrograms(store.rowsOf(programsRef, ProgramRow), config);
          if (programs.length === 0) {
            throw new StageFailure(
              'NoRows',
              `no sampled program passes at least ${config.minimumPassRate} of its test cases: lower ` +
                `fineTuning.minimumPassRate, or sample more programs`,
            );
          }
          const [rows, output] = [join(work, 'rows.jsonl'), join(work, 'policy')];
          await writeRows(rows, programs.map(asConversation));
          const model = await store.materialise(policy);
          const { learningRate, epochs, batchSize, maxLength, upperLayers, warmupRatio, schedule, seed } = config;
          const result = await train(trainer, key, 'fineTune', (folders) => ({
            ...folders,
            model,
            rows,
            output,
            config: {
              ...{ learningRate, epochs, batchSize, maxLength, upperLayers, warmupRatio, schedule, seed },
              ...trainingSettings(config.execution),
            },
          }));
          if (follows(gang)) return undefined;
          return {
            files: await store.putFolder(output),
            metrics: {
              programs: programs.length,
              questions: new Set(programs.map(({ questionId }) => questionId)).size,
              trained: result.rows,
              tooLong: result.tooLong,
              steps: result.steps,
              tokens: result.tokens,
              curve: result.curve,
              environments: result.environments,
            },
          };
        }),
      );
      // Only once the policy is committed: until then the newest checkpoint is all that a lost worker leaves.
      if (produced) await dropCheckpoints(store, stageKey(recipe));
      return produced;
    },
  };
}

/**
 * Programs of train questions that pass, each text once per question, in the order of sampling.
 *
 * @example
 * await passingPrograms(rows, { minimumPassRate: 1, maximumPerQuestion: 4 });
 */
export async function passingPrograms(
  rows: AsyncIterable<ProgramRow>,
  {
    minimumPassRate,
    maximumPerQuestion = Infinity,
  }: { minimumPassRate: number; maximumPerQuestion?: number | undefined },
): Promise<ProgramRow[]> {
  const chosen: ProgramRow[] = [];
  const texts = new Map<string, Set<string>>();
  for await (const row of rows) {
    if (row.split !== 'train' || row.passRate < minimumPassRate || row.program.trim() === '') continue;
    const known = texts.get(row.questionId) ?? new Set();
    if (known.has(row.program) || known.size >= maximumPerQuestion) continue;
    texts.set(row.questionId, known.add(row.program));
    chosen.push(row);
  }
  return chosen;
}

function asConversation({ id, questionId, question, language, program }: ProgramRow) {
  const { messages, assistantPrefix } = promptOf(question, '', language);
  return { id, questionId, messages, assistantPrefix, completion: program };
}
