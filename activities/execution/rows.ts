/** Rows of programs and tests as people write them: for the sandbox from the shell and as an activity. */
import { z } from 'zod';
import type { SandboxLimits } from '../../workflows/contract/index.js';
import { LANGUAGES, languageOf, type LanguageName } from '../languages/index.js';
import type { Job } from './execution.js';

/** Characters of a refusal, at most. */
const MAX_REASON = 300;

/**
 * What a script reads and must print. `compare` is how: `floats` line by line, with a tolerance of 1e-6 for numbers with
 * a decimal point; `tokens` word by word, whatever the white space; `exact` as a text.
 */
const StdinTest = z.strictObject({
  stdin: z.string(),
  stdout: z.string(),
  compare: z.enum(['floats', 'tokens', 'exact']).optional(),
});

/** Limits as a row or a request gives them; what is absent is that of the call. Bounds are those of the sandbox. */
export const RowLimits = z
  .strictObject({
    cpuSecondsPerTest: z.number().positive().max(3_600),
    cpuSecondsPerProgram: z.number().positive().max(36_000),
    memoryBytes: z.int().min(128 * 1024 * 1024),
  } satisfies Record<keyof SandboxLimits, z.ZodType>)
  .partial();

/**
 * A program and its tests. A test is a text (Python statements or a `unittest.TestCase` class), or `{stdin, stdout}`
 * for a
 * program that is run as a script. With `entryPoint`, tests may call the function `candidate`, or define
 * `check(candidate)`. `stdin` is what such a script reads; its tests are then the texts that it must print. `limits`
 * are those of this row, `reference` is a program that is to pass the same tests, and `language` is that of all texts.
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
  limits: RowLimits.optional(),
  reference: z.string().max(1_000_000).optional(),
  language: z.enum(LANGUAGES.map(({ name }) => name) as [LanguageName]).optional(),
});
export type SandboxRow = z.infer<typeof SandboxRow>;

/** The job of a row. @throws Error when texts and `{stdin, stdout}` stand among one row's tests. */
export function jobOf({ id, program, tests, entryPoint, stdin, limits, language }: SandboxRow): Job {
  const job = { id, program, ...(limits ? { limits } : {}) };
  if (stdin !== undefined) {
    return { ...job, tests: tests.map((test) => (typeof test === 'string' ? { stdin, stdout: test } : test)) };
  }
  if (new Set(tests.map((test) => typeof test)).size > 1)
    throw new Error('tests: texts and {stdin, stdout} cannot be mixed');
  const { withEntryPoint } = languageOf({ language });
  return { ...job, tests: entryPoint === undefined ? tests : withEntryPoint(tests, entryPoint) };
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
