/** Rows of programs and tests as people write them: for the sandbox from the shell and as an activity. */
import { z } from 'zod';
import { CheckedTest, StdinTest } from '../../workflows/contract/index.js';
import { languageOf } from '../languages/index.js';
import type { Job, Test } from './execution.js';

const Call = z.strictObject({ call: z.string().min(1), expect: z.string().min(1).optional() });
const Stdin = z.strictObject({ stdin: z.string(), stdout: z.string().optional() });

/**
 * A program and its tests. A test is a text (Python statements or a `unittest.TestCase` class), `{stdin, stdout}` for a
 * program that is run as a script, or a `CheckedTest` where several answers are right. With `entryPoint`, tests may call
 * the function `candidate`, or define `check(candidate)`. `stdin` is what such a script reads; its tests are then the
 * texts that it must print. `checker` is the checker program of all tests `{call, expect?}` and `{stdin, stdout?}`.
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
    .array(z.union([z.string().max(1_000_000), StdinTest, CheckedTest, Call, Stdin]))
    .min(1)
    .max(1_000),
  checker: z.string().min(1).max(65_536).optional(),
  entryPoint: z
    .string()
    .regex(/^[A-Za-z_]\w*$/)
    .optional(),
  stdin: z.string().optional(),
});
export type SandboxRow = z.infer<typeof SandboxRow>;

/**
 * The job of a row.
 *
 * @throws Error when tests of scripts and others stand among one row's tests, or one says nothing of right answers.
 */
export function jobOf({ id, program, tests, entryPoint, stdin, checker }: SandboxRow): Job {
  const given = tests.map((test, index): Test => {
    if (typeof test === 'string') return stdin === undefined ? test : { stdin, stdout: test };
    const checked = checker === undefined || !isBare(test) ? test : { ...test, checker };
    const parsed = z.union([StdinTest, CheckedTest]).safeParse(checked);
    if (!parsed.success) throw new Error(`tests.${index}: give it an expected answer, a property or a checker`);
    return parsed.data;
  });
  if (new Set(given.map((test) => typeof test !== 'string' && 'stdin' in test)).size > 1)
    throw new Error('tests: texts and {stdin, stdout} cannot be mixed');
  return { id, program, tests: entryPoint === undefined ? given : given.map((test) => named(test, entryPoint)) };
}

/** Whether a test leaves it to the row how its answer is judged. */
function isBare(test: object): boolean {
  return Object.keys(test).every((name) => ['call', 'expect', 'stdin', 'stdout'].includes(name));
}

/** A test that calls `entryPoint` where it says `candidate`. */
function named(test: Test, entryPoint: string): Test {
  const rename = (text: string): string => {
    const [renamed] = languageOf({}).withEntryPoint([text], entryPoint);
    return typeof renamed === 'string' ? renamed : text;
  };
  if (typeof test === 'string') return rename(test);
  return 'call' in test ? { ...test, call: rename(test.call) } : test;
}
