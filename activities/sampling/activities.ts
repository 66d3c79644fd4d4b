/** Sampling: questions to programs with verdicts and pass rates. */
import { z } from 'zod';
import { FilteredQuestionRow, ProgramRow, SamplingConfig, StageConfigs, type ArtifactRef } from '../../workflows/contract/index.js';
import { deriveSeed, rowId, sha256 } from '../artifacts/keys.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { allJudged, judgePrograms } from '../execution/execution.js';
import { cancellationSignal, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { intoShards, shardedStageActivities, type ShardedStage } from '../runtime/sharded-stage.js';
import { generate } from './generate.js';
import { extractProgram, PROMPT_VERSION, promptOf } from './prompt.js';

const SampledQuestion = z.strictObject({
  question: FilteredQuestionRow,
  samples: z.array(z.strictObject({ text: z.string(), finish: z.enum(['stop', 'length']) })),
});
type SampledQuestion = z.infer<typeof SampledQuestion>;

/** Questions of a shard whose references are run beside its programs: a host on which they fail gives no verdicts. */
const REFERENCES = 8;

/** `sampling.plan`, `sampling.generate`, `sampling.judge`, `sampling.seal`. */
export function samplingActivities({ store, models, sandbox }: Services) {
  const stage: ShardedStage<z.infer<typeof StageConfigs.sampling>> = {
    stage: 'sampling',
    version: PROMPT_VERSION,
    kind: 'programs',
    config: StageConfigs.sampling,
    planned: FilteredQuestionRow,
    async plan({ config, inputs }) {
      const train = await selectQuestions(store, inputs['questions']!, 'train', config.questions.train, config.salt);
      const heldOut = await selectQuestions(store, inputs['questions']!, 'heldOut', config.questions.heldOut, config.salt);
      return { shards: intoShards([...train, ...heldOut], config.shardSize), metrics: { train: train.length, heldOut: heldOut.length } };
    },
    steps: {
      generate: {
        schema: SampledQuestion,
        async run({ config, inputs, rows, execution }) {
          const questions = rows as FilteredQuestionRow[];
          const { maxRows } = SamplingConfig.shape.execution.parse(execution);
          const answers = await generate(models, store, questions.map(({ id, question }) => ({
            id,
            prompt: promptOf(question),
            n: config.samples,
            temperature: config.temperature,
            topP: config.topP,
            maxNewTokens: config.maxNewTokens,
            seeds: Array.from({ length: config.samples }, (_, index) => deriveSeed(config.seed, id, index)),
          })), {
            model: await store.materialise(inputs['policy']!),
            maxRows,
            signal: cancellationSignal(),
            onProgress: (done, total) => reportProgress({ done, total, message: 'programs sampled' }),
          });
          return {
            rows: questions.map((question, at): SampledQuestion => ({
              question,
              samples: answers.slice(at * config.samples, (at + 1) * config.samples).map(({ text, finish }) => ({ text, finish })),
            })),
            metrics: { tokens: answers.reduce((sum, { completionIds }) => sum + completionIds.length, 0) },
          };
        },
      },
      judge: {
        schema: ProgramRow,
        async run({ config, inputs, rows }) {
          const model = inputs['policy']!.digest;
          const { samples: _n, seed, temperature, topP, maxNewTokens } = config;
          const programs = (rows as SampledQuestion[]).flatMap(({ question, samples }) => samples.map(({ text, finish }, index) => ({
            id: rowId('p', question.id, model, { seed, temperature, topP, maxNewTokens }, index),
            question, index, finish, program: extractProgram(text),
          })));
          const { judgements, cpuSeconds } = await judgePrograms(
            sandbox,
            programs.map(({ id, program, question }) => ({ id, program, tests: question.tests })),
            {
              limits: config.limits,
              references: (rows as SampledQuestion[]).slice(0, REFERENCES).map(({ question: { id, reference, tests } }) => ({ id, program: reference, tests })),
              signal: cancellationSignal(), onProgress: (done, total) => reportProgress({ done, total, message: 'programs run' }),
            },
          );
          return {
            rows: allJudged(judgements).map(({ outcomes, passRate }, at): ProgramRow => {
              const { id, question, index, finish, program } = programs[at]!;
              return { id, questionId: question.id, split: question.split, question: question.question, index, program, finish, outcomes, passRate, testCases: question.testCases };
            }),
            metrics: { cpuSeconds },
          };
        },
      },
    },
    async seal({ rows, counts, planMetrics }) {
      const histogram = Array.from({ length: 10 }, () => 0);
      const verdicts: Record<string, number> = {};
      let programs = 0;
      let sum = 0;
      for await (const { passRate, outcomes } of rows() as AsyncGenerator<ProgramRow>) {
        programs += 1;
        sum += passRate;
        histogram[Math.min(9, Math.floor(passRate * 10))]! += 1;
        for (const { status } of outcomes) verdicts[status] = (verdicts[status] ?? 0) + 1;
      }
      return {
        metrics: {
          programs, meanPassRate: programs === 0 ? 0 : sum / programs, histogram, verdicts,
          questions: Number(planMetrics['train']) + Number(planMetrics['heldOut']), tokens: counts['tokens'] ?? 0, cpuSeconds: counts['cpuSeconds'] ?? 0,
        },
      };
    },
  };
  return shardedStageActivities(store, stage);
}

/** The first `limit` questions of a split in an order that depends on their ids and the salt alone. */
export async function selectQuestions(
  store: ArtifactStore, ref: ArtifactRef, split: FilteredQuestionRow['split'], limit: number | undefined, salt: string,
): Promise<FilteredQuestionRow[]> {
  const found: FilteredQuestionRow[] = [];
  for await (const row of store.rowsOf(ref, FilteredQuestionRow)) if (row.split === split) found.push(row);
  const order = new Map(found.map(({ id }) => [id, sha256(`${salt}/${id}`)]));
  return found.sort((a, b) => (order.get(a.id)! < order.get(b.id)! ? -1 : 1)).slice(0, limit);
}
