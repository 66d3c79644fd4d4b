/** Rows of programs and tests as people write them: for the sandbox from the shell and as an activity. */
import { z } from 'zod';
import { judgedTest, TEST_OBJECTS, type SandboxLimits, type Test } from '../../workflows/contract/index.js';
import { LANGUAGES, languageOf, type LanguageName } from '../languages/index.js';
import type { Job } from './execution.js';

/** Characters of a refusal, at most. */
const MAX_REASON = 300;

/** Limits as a row or a request gives them; what is absent is that of the call. Bounds are those of the sandbox. */
export const RowLimits = z
  .strictObject({
    cpuSecondsPerTest: z.number().positive().max(3_600),
    cpuSecondsPerProgram: z.number().positive().max(36_000),
    memoryBytes: z.int().min(128 * 1024 * 1024),
  } satisfies Record<keyof SandboxLimits, z.ZodType>)
  .partial();

/**
 * A program and its tests. A test is a text (Python statements or a `unittest.TestCase` class), `{stdin, stdout}` for a
 * program that is run as a script, or a `CheckedTest` where several answers are right. With `entryPoint`, tests may
 * call the function `candidate`, or define `check(candidate)`. `stdin` is what such a script reads; its tests are then
 * the texts that it must print. `checker` is the checker program of all tests `{call, expect?}` and `{stdin, stdout?}`.
 * `limits` are those of this row, `reference` is a program that is to pass the same tests, and `language` is that of
 * all texts.
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
    .array(z.union([z.string().max(1_000_000), ...TEST_OBJECTS]))
    .min(1)
    .max(1_000),
  checker: z.string().min(1).max(65_536).optional(),
  entryPoint: z
    .string()
    .regex(/^[A-Za-z_]\w*$/)
    .optional(),
  stdin: z.string().optional(),
  limits: RowLimits.optional(),
  reference: z.string().max(1_000_000).optional(),
  language: z.enum(LANGUAGES.map(({ name }) => name) as [LanguageName]).optional(),
});
export type SandboxRow = z.infer<typeof SandboxRow>;

/**
 * The job of a row.
 *
 * @throws Error when tests of scripts and others stand among one row's tests, or one says nothing of right answers.
 */
export function jobOf({ id, program, tests, entryPoint, stdin, checker, limits, language }: SandboxRow): Job {
  const job = { id, program, ...(limits ? { limits } : {}) };
  const given = tests.map((test, index): Test => {
    if (typeof test === 'string') return stdin === undefined ? test : { stdin, stdout: test };
    const judged = judgedTest(test, checker);
    if (judged === undefined) throw new Error(`tests.${index}: give it an expected answer, a property or a checker`);
    return judged;
  });
  if (new Set(given.map((test) => typeof test !== 'string' && 'stdin' in test)).size > 1)
    throw new Error('tests: texts and {stdin, stdout} cannot be mixed');
  const { withEntryPoint } = languageOf({ language });
  return {
    ...job,
    tests: entryPoint === undefined ? given : given.map((test) => named(test, entryPoint, withEntryPoint)),
  };
}

/** A test that calls `entryPoint` where it says `candidate`. */
function named(test: Test, entryPoint: string, withEntryPoint: ReturnType<typeof languageOf>['withEntryPoint']): Test {
  const rename = (text: string): string => {
    const [renamed] = withEntryPoint([text], entryPoint);
    return typeof renamed === 'string' ? renamed : text;
  };
  if (typeof test === 'string') return rename(test);
  return 'call' in test ? { ...test, call: rename(test.call) } : test;
}

/** The job of a row's reference; undefined where it has none. */
export function referenceOf(row: SandboxRow): Job | undefined {
  return row.reference === undefined ? undefined : jobOf({ ...row, program: row.reference });
}

/**
 * What a value that is no row of programs and tests does wrong, in a few words.
 *
 * @example
 * whyNoRow(SandboxRow.safeParse({ id: 'a' }).error); // 'program: Invalid input: ...; tests: Invalid input: ...'
 */
export function whyNoRow(error: unknown): string {
  const why =
    error instanceof z.ZodError
      ? error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')
      : (error as Error).message;
  return why.slice(0, MAX_REASON);
}
