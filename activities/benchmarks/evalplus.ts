/**
 * HumanEval+ and MBPP+ (EvalPlus, arXiv 2305.01210), from a file of the user's in the form that EvalPlus publishes.
 *
 * Each task has two tests: the base inputs, which are those of the benchmark without the plus, and the further ones. A
 * reference answers them in the sandbox. `rules` names the version of EvalPlus whose comparisons hold.
 */
import { z } from 'zod';
import type { SuiteTest } from '../../workflows/contract/rows.js';
import { defineBenchmark, everyNth, sliced, sliceName, slicing, taskRows, type Task } from './benchmark.js';

/** Fields whose numbers JavaScript cannot hold: an import keeps them as JSON texts. */
export const EXACT_FIELDS = ['base_input', 'plus_input'] as const;

const NEWEST_RULES = '0.3.1';

const inputs = z.string({
  error: 'needed as it stands in the published file: give the file as a path {"kind": "tasks", "path": …}',
});
const Problem = z.object({
  task_id: z.string(),
  prompt: z.string(),
  entry_point: z.string().min(1),
  canonical_solution: z.string(),
  base_input: inputs,
  plus_input: inputs,
  atol: z.number().nonnegative(),
});
type Problem = z.infer<typeof Problem>;

/** What differs between the two benchmarks. */
interface Form<K extends string> {
  kind: K;
  about: string;
  /** What the ids of its tasks begin with. */
  ids: string;
  problems: number;
  asked: (problem: Problem) => Pick<Task, 'question' | 'programPrefix'>;
}

function evalplus<const K extends string>({ kind, about, ids, problems, asked }: Form<K>) {
  const nameOf = (slice: { rules: string; every: number; offset: number }): string =>
    sliceName(slice.rules === NEWEST_RULES ? kind : `${kind}@${slice.rules}`, slice);
  return defineBenchmark({
    shape: {
      kind: z.literal(kind).describe(about),
      data: taskRows,
      rules: z
        .enum(['0.2.1', '0.3.1'])
        .default(NEWEST_RULES)
        .describe('version of EvalPlus whose rules compare answers; 0.2.1 made the results published until mid 2024'),
      tests: z
        .enum(['base', 'plus'])
        .default('plus')
        .describe(
          "'base': the inputs of the benchmark without the plus; 'plus': these and those of EvalPlus, as two results",
        ),
      ...slicing,
    },
    check: sliced,
    version: 2,
    name: nameOf,
    results: (slice) => {
      const name = nameOf(slice);
      const base = { name: `${name} base`, tests: 1 };
      return slice.tests === 'base' ? [base] : [base, { name }];
    },
    data: { from: 'file' },
    resultFiles: 'evalplus',
    public: true,
    size: ({ every, offset }) => Math.ceil((problems - offset) / every),
    tasks: (slice, rows) => {
      const parsed = rows.map((row) => Problem.parse(row));
      const stranger = parsed.find(({ task_id }) => !task_id.startsWith(ids));
      if (stranger) throw new Error(`task ${stranger.task_id}: the tasks of ${kind} have ids that begin with '${ids}'`);
      return everyNth(parsed, slice).map((problem): Task => {
        const { task_id: id, prompt, entry_point: entryPoint, canonical_solution, atol } = problem;
        const suite = (given: string): SuiteTest => ({ suite: given, task: id, entryPoint, rules: slice.rules, atol });
        return {
          id,
          ...asked(problem),
          entryPoint,
          tests: [problem.base_input, ...(slice.tests === 'plus' ? [problem.plus_input] : [])].map(suite),
          reference: prompt + canonical_solution,
          completes: prompt,
        };
      });
    },
  });
}

export const humanevalPlus = evalplus({
  kind: 'humanevalPlus',
  about: 'HumanEval and HumanEval+, from a file of yours in the form of EvalPlus',
  ids: 'HumanEval/',
  problems: 164,
  asked: ({ prompt }) => ({
    question: `Complete this Python function so that it does what its docstring says.\n\n${prompt.trim()}`,
    programPrefix: prompt,
  }),
});

export const mbppPlus = evalplus({
  kind: 'mbppPlus',
  about: 'MBPP and MBPP+, from a file of yours in the form of EvalPlus',
  ids: 'Mbpp/',
  problems: 378,
  asked: ({ prompt }) => {
    const [problem = '', ...examples] = prompt
      .replaceAll('"""', '')
      .trim()
      .split(/\n(?=assert )/);
    return {
      question: `${problem.trim()}\n\nYour code should pass this test:\n\n${examples.join('\n').trim()}`,
      programPrefix: '',
    };
  },
});
