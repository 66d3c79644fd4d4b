/** Rows of programs and tests as people write them: for the sandbox from the shell and as an activity. */
import { z } from 'zod';
import { languageOf } from '../languages/index.js';
import type { Job } from './execution.js';

/**
 * What a script reads and must print. `compare` is how: `floats` line by line, with a tolerance of 1e-6 for numbers with
 * a decimal point; `tokens` word by word, whatever the white space; `exact` as a text.
 */
const StdinTest = z.strictObject({
  stdin: z.string(),
  stdout: z.string(),
  compare: z.enum(['floats', 'tokens', 'exact']).optional(),
});

/**
 * A program and its tests. A test is a text (Python statements or a `unittest.TestCase` class), or `{stdin, stdout}`
 * for a
 * program that is run as a script. With `entryPoint`, tests may call the function `candidate`, or define
 * `check(candidate)`. `stdin` is what such a script reads; its tests are then the texts that it must print.
 *
 * @example
 * ```ts
 * import type { SandboxRow } from 'acecoder-temporal';
 *
 * const row: SandboxRow = {
 *   id: 'answer-1',
 *   program: 'def double(n):\n    return 2 * n',
 *   tests: ['assert double(2) == 4', 'assert double(0) == 0'],
 * };
 * ```
 */
export const SandboxRow = z.strictObject({
  id: z.string().min(1),
  program: z.string().max(1_000_000),
  tests: z
    .array(z.union([z.string().max(1_000_000), StdinTest]))
    .min(1)
    .max(1_000),
  entryPoint: z
    .string()
    .regex(/^[A-Za-z_]\w*$/)
    .optional(),
  stdin: z.string().optional(),
});
export type SandboxRow = z.infer<typeof SandboxRow>;

/** The job of a row. @throws Error when texts and `{stdin, stdout}` stand among one row's tests. */
export function jobOf({ id, program, tests, entryPoint, stdin }: SandboxRow): Job {
  if (stdin !== undefined) {
    return { id, program, tests: tests.map((test) => (typeof test === 'string' ? { stdin, stdout: test } : test)) };
  }
  if (new Set(tests.map((test) => typeof test)).size > 1)
    throw new Error('tests: texts and {stdin, stdout} cannot be mixed');
  return { id, program, tests: entryPoint === undefined ? tests : languageOf({}).withEntryPoint(tests, entryPoint) };
}
