/**
 * BigCodeBench (arXiv 2406.15877), from a file of the user's in its published form. Programs use many libraries, so the
 * sandbox needs an environment that has them. Each task has one test: a text of `unittest` classes, which runs in the
 * module of the program.
 */
import { z } from 'zod';
import { defineBenchmark, everyNth, sliced, sliceName, slicing, taskRows, type Task } from './benchmark.js';

/** Problems of each subset. */
const PROBLEMS = { full: 1_140, hard: 148 };
/** CPU seconds of a program with its tests. */
const SECONDS = 120;

const Problem = z.object({
  task_id: z.string().startsWith('BigCodeBench/'),
  complete_prompt: z.string(),
  instruct_prompt: z.string(),
  code_prompt: z.string(),
  canonical_solution: z.string(),
  test: z.string().min(1),
  entry_point: z.string().min(1),
});

export const bigcodebench = defineBenchmark({
  shape: {
    kind: z.literal('bigcodebench').describe('BigCodeBench, from a file of yours in its published form'),
    data: taskRows,
    subset: z
      .enum(['full', 'hard'])
      .default('full')
      .describe('which problems the file has: part of the name in results'),
    split: z
      .enum(['complete', 'instruct'])
      .default('complete')
      .describe("how a problem is put: 'complete' continues a function's head, 'instruct' is asked in words"),
    calibrated: z
      .boolean()
      .default(true)
      .describe(
        "whether the imports and head of the problem stand in front of each program, as BigCodeBench's `calibrated`",
      ),
    ...slicing,
  },
  check: sliced,
  version: 1,
  name: (slice) => {
    const subset = slice.subset === 'hard' ? '-hard' : '';
    return sliceName(`bigcodebench${subset}-${slice.split}${slice.calibrated ? '' : '-uncalibrated'}`, slice);
  },
  data: { from: 'file' },
  resultFiles: 'bigcodebench',
  public: true,
  size: ({ subset, every, offset }) => Math.ceil((PROBLEMS[subset] - offset) / every),
  tasks: (slice, rows) =>
    everyNth(rows, slice).map((row): Task => {
      const { task_id: id, complete_prompt, instruct_prompt, code_prompt, ...problem } = Problem.parse(row);
      const complete = slice.split === 'complete';
      return {
        id,
        question: complete
          ? `Complete this Python function so that it does what its docstring says.\n\n${complete_prompt.trim()}`
          : instruct_prompt.trim(),
        entryPoint: problem.entry_point,
        programPrefix: complete ? complete_prompt : '',
        tests: [{ module: problem.test }],
        reference: `${complete_prompt}\n${problem.canonical_solution}`,
        completes: complete_prompt,
        ...(slice.calibrated ? { precedes: `${code_prompt}\n    pass\n` } : {}),
        limits: { cpuSecondsPerTest: SECONDS, cpuSecondsPerProgram: SECONDS },
      };
    }),
});
