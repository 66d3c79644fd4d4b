/** Tasks of an evaluation as its plan has them, with answers, and as they are judged. Pure. */
import { z } from 'zod';
import {
  CpuLimits,
  EvaluationRow,
  judgedTests,
  Language,
  ModuleTest,
  QuestionTest,
  StageFailure,
  SuiteTest,
  type ReferenceRow,
  type StageConfig,
  type Test,
} from '../../workflows/contract/index.js';
import { rowId } from '../artifacts/keys.js';
import type { Task } from '../benchmarks/benchmark.js';
import { isSuite } from './references.js';
import type { GivenAnswer } from './samples.js';

/** An answer to a task, before it is judged. */
export const Answer = z.strictObject({
  mode: z.enum(['greedy', 'sample']),
  sample: z.number().int(),
  text: z.string(),
  finish: EvaluationRow.shape.finish,
  /** A program that stands as it is; absent: it is read out of the text. */
  program: z.string().optional(),
});
export type Answer = z.infer<typeof Answer>;

/** A task as the plan has it, for one policy. */
export const PlannedTask = z.strictObject({
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
    precedes: z.string().optional(),
    tests: z.array(z.union([QuestionTest, SuiteTest, ModuleTest])).readonly(),
    checker: z.string().optional(),
    reference: z.string(),
    limits: CpuLimits.optional(),
    more: z.int().positive().optional(),
  }),
  /** Answers that others gave; absent: the policy is asked. */
  answers: z.array(Answer).optional(),
});
export type PlannedTask = z.infer<typeof PlannedTask>;

/** A task with the answers of its policy. */
export const AnsweredTask = PlannedTask.extend({ answers: z.array(Answer) });
export type AnsweredTask = z.infer<typeof AnsweredTask>;

/** Names a task among those of all benchmarks. */
export function taskKey(benchmark: string, taskId: string): string {
  return JSON.stringify([benchmark, taskId]);
}

/** What rows of one sample have in common, and those of others have not. */
export function sampleKey({ policy, taskId, sample, question, programPrefix, response }: EvaluationRow): string {
  return rowId('s', policy, taskId, sample, question, programPrefix, response);
}

/** What of a task stands in the plan. */
export function plannedTask({ completes: _completes, ...task }: Task): PlannedTask['task'] {
  return task;
}

/** One answer of a task is the greedy one; more are samples. */
export function recordedAnswer({ text, program }: GivenAnswer, at: number, samples: number): Answer {
  return {
    mode: samples > 1 ? 'sample' : 'greedy',
    sample: at,
    text,
    finish: 'stop',
    program,
  };
}

/** @throws StageFailure `InvalidExperiment` where a k or N is larger than the number of samples. */
export function refuseTooMany(
  { passAtK: ks, bestOf = [] }: StageConfig['evaluation'],
  policy: string,
  samples: number,
): void {
  for (const [setting, values] of Object.entries({ passAtK: ks, bestOf })) {
    const large = values.find((value) => value > samples);
    if (large === undefined) continue;
    throw new StageFailure(
      'InvalidExperiment',
      `config.${setting} has ${large}, and the samples '${policy}' are ${samples} per task`,
    );
  }
}

/** The tests and limits of a task with what its reference came to. */
export function judgedTask(
  task: PlannedTask['task'],
  reference: ReferenceRow | undefined,
): { tests: Test[]; limits?: CpuLimits } {
  const tests = judgedTests(task).map((test, at) => {
    const expected = reference?.expected?.[at];
    return isSuite(test) && expected !== undefined ? { ...test, expected } : test;
  });
  const limits = task.limits ?? reference?.limits;
  return { tests, ...(limits ? { limits } : {}) };
}
