/** Tests that do not name the function they test. */
import type { Job } from './execution.js';

/**
 * Makes tests that say `candidate` (HumanEval's style) mean the program's function `entryPoint`: a test that defines
 * `check(candidate)` calls it, and other tests find the function under that name.
 */
export function withEntryPoint(
  { program, tests }: Pick<Job, 'program' | 'tests'>,
  entryPoint: string | undefined,
): Pick<Job, 'program' | 'tests'> {
  if (entryPoint === undefined) return { program, tests };
  const called = tests.map((test) => {
    if (typeof test !== 'string') return test;
    if (/^def check\(/m.test(test)) return `${test}\ncheck(${entryPoint})`;
    return test.replace(/\bcandidate\b(?=\s*\()/g, entryPoint);
  });
  return { program, tests: called };
}
