/**
 * MBPP (arXiv 2108.07732) from a JSON Lines file of the user's, in the form of the original release (`text`) or of the
 * sanitized one (`prompt`, `test_imports`).
 */
import { z } from 'zod';
import { defineBenchmark, everyNth, sliced, sliceName, slicing, taskRows } from './benchmark.js';

/** Problems of the test split (task ids 11 to 510), which results are usually reported on. */
const TEST_SPLIT = 500;

const Problem = z
  .object({
    task_id: z.union([z.number().int(), z.string().min(1)]),
    text: z.string().optional(),
    prompt: z.string().optional(),
    code: z.string(),
    test_list: z.array(z.string().min(1)).min(1),
    test_setup_code: z.string().default(''),
    test_imports: z.array(z.string()).default([]),
  })
  .refine(({ text, prompt }) => text !== undefined || prompt !== undefined, {
    path: ['text'],
    error: 'needed: the problem in words (`text`, or `prompt` in the sanitized release)',
  });

/** The function of the reference that the tests call: the last one that is defined and named in the first test. */
function entryPointOf(code: string, test: string): string | undefined {
  const defined = [...code.matchAll(/^(?:async\s+)?def\s+(\w+)/gm)].map(([, name]) => name!);
  return defined.findLast((name) => new RegExp(`\\b${name}\\s*\\(`).test(test));
}

export const mbpp = defineBenchmark({
  shape: {
    kind: z.literal('mbpp').describe('MBPP, from a file of yours in its published form'),
    data: taskRows,
    ...slicing,
  },
  check: sliced,
  version: 2,
  name: (slice) => sliceName('mbpp', slice),
  data: { from: 'file' },
  public: true,
  size: ({ every, offset }) => Math.ceil((TEST_SPLIT - offset) / every),
  tasks: (slice, rows) =>
    everyNth(rows, slice).map((row) => {
      const { task_id, text, prompt, code, test_list, test_setup_code, test_imports } = Problem.parse(row);
      const setup = [...test_imports, test_setup_code].filter((line) => line.trim() !== '').join('\n');
      const entryPoint = entryPointOf(code, test_list[0]!);
      if (entryPoint === undefined) {
        throw new Error(`task ${task_id}: its first test calls no function that its code defines (${test_list[0]})`);
      }
      return {
        id: `Mbpp/${task_id}`,
        question: `${(text ?? prompt)!.trim()}\n\nYour code should pass this test:\n\n${test_list[0]!.trim()}`,
        entryPoint,
        programPrefix: '',
        tests: test_list.map((test) => (setup === '' ? test : `${setup}\n${test}`)),
        reference: code,
      };
    }),
});
