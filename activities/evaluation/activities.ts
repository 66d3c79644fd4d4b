/** Evaluation: policies on benchmarks, greedy and sampled, Best-of-N by the reward model. */
import { z } from 'zod';
import {
  benchmarkName,
  CpuLimits,
  EvaluationConfig,
  EvaluationRow,
  judgedTests,
  Language,
  POLICIES,
  QuestionTest,
  STAGE,
  StageFailure,
} from '../../workflows/contract/index.js';
import { deriveSeed, rowId } from '../artifacts/keys.js';
import { loadBenchmarks } from '../benchmarks/load.js';
import { keyedLanguage } from '../languages/index.js';
import { faultsOf, judgePrograms, notesOf, settled, shortNotes, type Job } from '../execution/execution.js';
import { score } from '../policy/score.js';
import { cancellationSignal, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { intoShards, ShardedStage } from '../runtime/sharded-stage.js';
import { generate, type SampleRequest } from '../policy/generate.js';
import { extractProgram, PROMPT_VERSION, promptOf } from '../policy/prompt.js';
import { selectQuestions } from '../policy/questions.js';
import { comparisonsOf, evaluate, type FigureRow } from './figures.js';

const PlannedTask = z.strictObject({
  policy: z.string(),
  benchmark: z.string(),
  samples: z.number().int(),
  maxNewTokens: z.number().int(),
  task: z.strictObject({
    id: z.string(),
    question: z.string(),
    entryPoint: z.string(),
    language: Language.optional(),
    programPrefix: z.string(),
    tests: z.array(QuestionTest).readonly(),
    checker: z.string().optional(),
    reference: z.string(),
    limits: CpuLimits.optional(),
  }),
});
type PlannedTask = z.infer<typeof PlannedTask>;

const AnsweredTask = PlannedTask.extend({
  answers: z.array(
    z.strictObject({
      mode: z.enum(['greedy', 'sample']),
      sample: z.number().int(),
      text: z.string(),
      finish: z.enum(['stop', 'length']),
    }),
  ),
});
type AnsweredTask = z.infer<typeof AnsweredTask>;

/** An answer; with a `fault`, the checker of a test failed, so that the answer has no verdict. */
const JudgedAnswer = EvaluationRow.extend({ fault: z.string().optional() });
type JudgedAnswer = z.infer<typeof JudgedAnswer>;

/** A task that no policy is compared on, and the answer whose checker failed. */
const DroppedTaskRow = z.strictObject({
  benchmark: z.string(),
  taskId: z.string(),
  policy: z.string(),
  answer: z.string(),
  reason: z.string(),
});

/** Prefix of a policy's name among the stage's inputs. */
const POLICY_INPUT = 'policy:';

/** `evaluation.plan`, `evaluation.generate`, `evaluation.judge`, `evaluation.score`, `evaluation.seal`. */
export function evaluationActivities(services: Services) {
  const { store, models, sandbox, settings } = services;
  const stage = new ShardedStage(STAGE.evaluation);

  const plan = stage.plan({
    row: PlannedTask,
    async run({ config, inputs }) {
      const benchmarks = await loadBenchmarks(config.benchmarks, {
        settings,
        store,
        inputs,
        questions: () => selectQuestions(store, inputs['questions']!, 'heldOut', config.heldOutTasks, config.salt),
      });
      const tasks = benchmarks.flatMap(({ benchmark, name, tasks: asked }) =>
        asked.map((task) => ({
          benchmark: name,
          task,
          samples: benchmark.samples ?? config.samples,
          maxNewTokens: benchmark.maxNewTokens ?? config.maxNewTokens,
        })),
      );
      const policies = Object.keys(inputs)
        .filter((name) => name.startsWith(POLICY_INPUT))
        .map((name) => name.slice(POLICY_INPUT.length))
        .sort();
      // One policy a shard: a GPU worker then loads a model once for all of its tasks.
      return {
        shards: policies.flatMap((policy) =>
          intoShards(
            tasks.map((task) => ({ policy, ...task })),
            config.shardSize,
          ),
        ),
      };
    },
  });

  const answer = stage.step({
    after: [plan],
    row: AnsweredTask,
    async run({ config, inputs, rows, execution }) {
      const planned = rows;
      const { maxRows } = EvaluationConfig.shape.execution.parse(execution);
      const common = ({
        task,
        maxNewTokens,
      }: PlannedTask): Omit<SampleRequest, 'id' | 'n' | 'temperature' | 'topP' | 'seeds'> => ({
        prompt: promptOf(task.question, task.programPrefix, task.language),
        maxNewTokens,
      });
      const requests = planned.flatMap((row): SampleRequest[] => [
        { ...common(row), id: `${row.task.id}/greedy`, n: 1, temperature: 0, topP: 1, seeds: [0] },
        ...(row.samples === 0
          ? []
          : [
              {
                ...common(row),
                id: `${row.task.id}/sample`,
                n: row.samples,
                temperature: config.temperature,
                topP: config.topP,
                seeds: Array.from({ length: row.samples }, (_, sample) =>
                  deriveSeed(config.seed, row.benchmark, row.task.id, sample),
                ),
              },
            ]),
      ]);
      const policy = inputs[POLICY_INPUT + planned[0]!.policy]!;
      const answers = await generate(services, requests, {
        engine: config.engine,
        model: await store.materialise(policy),
        maxRows,
        signal: cancellationSignal(),
        onProgress: (done, total) => reportProgress({ done, total, message: `${planned[0]!.policy}: answers` }),
      });
      let next = 0;
      return {
        rows: planned.map((row): AnsweredTask => ({
          ...row,
          answers: answers.slice(next, (next += 1 + row.samples)).map(({ text, finish }, at) => ({
            mode: at === 0 ? 'greedy' : 'sample',
            sample: Math.max(0, at - 1),
            text,
            finish,
          })),
        })),
        metrics: { tokens: answers.reduce((sum, { completionIds }) => sum + completionIds.length, 0) },
      };
    },
  });

  const judge = stage.step({
    after: [answer],
    row: JudgedAnswer,
    async run({ config, rows }) {
      const answered = rows.flatMap((row) =>
        row.answers.map((answer) => ({
          row,
          answer,
          id: rowId('e', row.policy, row.benchmark, row.task.id, answer.mode, answer.sample),
          program: extractProgram(answer.text, row.task.programPrefix),
        })),
      );
      const tests = new Map(rows.map((row) => [row, judgedTests(row.task)]));
      const { judgements, cpuSeconds, ...about } = await judgePrograms(
        sandbox,
        answered.map(({ id, program, row }): Job => ({ id, program, tests: tests.get(row)!, limits: row.task.limits })),
        {
          limits: config.limits,
          signal: cancellationSignal(),
          onProgress: (done, total) => reportProgress({ done, total, message: 'programs run' }),
        },
      );
      const faults = faultsOf(judgements);
      return {
        rows: settled(judgements).map((judgement, at): JudgedAnswer => {
          const { row, answer, id, program } = answered[at]!;
          return {
            id,
            policy: row.policy,
            benchmark: row.benchmark,
            taskId: row.task.id,
            mode: answer.mode,
            sample: answer.sample,
            question: row.task.question,
            ...keyedLanguage(row.task.language),
            program,
            response: extractProgram(answer.text),
            programPrefix: row.task.programPrefix,
            finish: answer.finish,
            outcomes: judgement.outcomes,
            passed: judgement.judged && judgement.passRate === 1,
            ...(judgement.judged ? {} : { fault: judgement.fault }),
            ...(row.task.limits ? { limits: row.task.limits } : {}),
            harness: about.harness,
          };
        }),
        metrics: { cpuSeconds, ...faults.counts },
        notes: { ...notesOf(about), ...faults.notes },
      };
    },
  });

  const scored = stage.step({
    after: [judge],
    row: JudgedAnswer,
    async run({ inputs, rows, execution }) {
      const answered = rows;
      const rewardModel = inputs['rewardModel'];
      const samples = answered.filter(({ mode }) => mode === 'sample');
      if (!rewardModel || samples.length === 0) return { rows: answered };
      const { microBatch } = EvaluationConfig.shape.execution.parse(execution);
      const scores = await score(
        models,
        store,
        samples.map(({ id, question, response, programPrefix, language }) => ({
          id,
          prompt: promptOf(question, programPrefix, language),
          response,
        })),
        {
          model: await store.materialise(rewardModel),
          microBatch,
          signal: cancellationSignal(),
          onProgress: (done, total) => reportProgress({ done, total, message: 'samples scored' }),
        },
      );
      const byId = new Map(scores.map(({ id, score }) => [id, score]));
      return { rows: answered.map((row) => (byId.has(row.id) ? { ...row, score: byId.get(row.id)! } : row)) };
    },
  });

  return stage.activities(store, {
    plan,
    steps: { generate: answer, judge, score: scored },
    async seal({ config, rows, counts, notes }) {
      const groups = new Map<string, FigureRow[]>();
      if ((notes['harness']?.length ?? 0) > 1) {
        throw new StageFailure(
          'InvalidExperiment',
          `policies were judged in different ways, so they cannot be compared: ${notes['harness']!.join('; ')}`,
        );
      }
      const faulty = counts['checkerFailed'] ? await faultyTasks(rows(scored)) : [];
      const comparable = (): AsyncGenerator<EvaluationRow> => withoutTasks(rows(scored), faulty);
      for await (const row of comparable()) {
        const key = JSON.stringify([row.benchmark, row.policy]);
        groups.set(key, [...(groups.get(key) ?? []), row]);
      }
      const order = config.benchmarks.map(benchmarkName);
      const ordered = [...groups.values()].sort(
        ([a], [b]) => order.indexOf(a!.benchmark) - order.indexOf(b!.benchmark) || (a!.policy < b!.policy ? -1 : 1),
      );
      const { temperature, topP, seed } = config;
      const results = ordered.map((group) => {
        const { benchmark } = group[0]!;
        return {
          ...evaluate(group, config),
          conditions: {
            temperature,
            topP,
            maxNewTokens: config.benchmarks[order.indexOf(benchmark)]?.maxNewTokens ?? config.maxNewTokens,
            prompt: PROMPT_VERSION,
            harness: notes['harness'] ?? [],
          },
        };
      });
      return {
        ...(faulty.length > 0
          ? {
              files: [
                await store.putRows('rows.jsonl', EvaluationRow, comparable()),
                await store.putRows('dropped.jsonl', DroppedTaskRow, faulty),
              ],
              rows: [...groups.values()].reduce((sum, group) => sum + group.length, 0),
            }
          : {}),
        metrics: {
          results,
          comparisons: comparisonsOf(ordered, { base: POLICIES.before, seed }),
          ...(faulty.length > 0 ? { droppedTasks: { checkerFailed: faulty.length } } : {}),
          notes: shortNotes(notes),
          tokens: counts['tokens'] ?? 0,
          cpuSeconds: counts['cpuSeconds'] ?? 0,
        },
      };
    },
  });
}

const taskName = ({ benchmark, taskId }: { benchmark: string; taskId: string }): string =>
  JSON.stringify([benchmark, taskId]);

/** The tasks on which a checker failed for an answer of any policy, each with the first such answer. */
async function faultyTasks(answers: AsyncIterable<JudgedAnswer>): Promise<z.infer<typeof DroppedTaskRow>[]> {
  const tasks = new Map<string, z.infer<typeof DroppedTaskRow>>();
  for await (const row of answers) {
    const { benchmark, taskId, policy, id, fault } = row;
    if (fault === undefined || tasks.has(taskName(row))) continue;
    tasks.set(taskName(row), { benchmark, taskId, policy, answer: id, reason: fault });
  }
  return [...tasks.values()];
}

/**
 * Answers without those to some tasks. Policies are compared on the same tasks: what has no verdict for one of them is
 * left out for all.
 */
async function* withoutTasks(
  answers: AsyncIterable<JudgedAnswer>,
  tasks: readonly { benchmark: string; taskId: string }[],
): AsyncGenerator<EvaluationRow> {
  const names = new Set(tasks.map(taskName));
  for await (const { fault: _, ...row } of answers) if (!names.has(taskName(row))) yield row;
}
