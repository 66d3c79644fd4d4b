/** Results in the forms of others: what their tools read. Pure. */
import type { EvaluationRow, TestOutcome } from '../../workflows/contract/index.js';

/** The words of EvalPlus and BigCodeBench for what became of the tests of a program. */
type ResultWord = 'pass' | 'fail' | 'timeout';

/**
 * A row of `samples.jsonl`.
 *
 * @example
 * sampleRow(row); // { task_id: 'HumanEval/0', solution: 'def …' }
 */
export function sampleRow({ taskId, program }: EvaluationRow): { task_id: string; solution: string } {
  return { task_id: taskId, solution: program };
}

function wordOf(outcome: TestOutcome): ResultWord {
  return outcome.status === 'pass' || outcome.status === 'timeout' ? outcome.status : 'fail';
}

/** Programs of one task after the other, each task's in the order of its samples. */
function byTask<T>(rows: readonly EvaluationRow[], entry: (row: EvaluationRow) => T): { eval: Record<string, T[]> } {
  const found: Record<string, T[]> = {};
  for (const row of rows) (found[row.taskId] ??= []).push(entry(row));
  return { eval: found };
}

/**
 * The content of EvalPlus's `eval_results.json`, from the rows of the result with all tests. It names no failing
 * inputs, and has no date, so that equal results are equal files. `plus_status` is null where no further inputs were
 * run.
 */
export function evalplusResults(rows: readonly EvaluationRow[]): object {
  return byTask(rows, ({ taskId, program, outcomes: [base, plus] }) => ({
    task_id: taskId,
    solution: program,
    base_status: base ? wordOf(base) : 'fail',
    plus_status: plus ? wordOf(plus) : null,
    base_fail_tests: [],
    plus_fail_tests: [],
  }));
}

/** The content of BigCodeBench's `eval_results.json`. */
export function bigcodebenchResults(rows: readonly EvaluationRow[]): object {
  return byTask(rows, ({ taskId, program, outcomes: [outcome] }) => ({
    task_id: taskId,
    solution: program,
    status: outcome ? wordOf(outcome) : 'fail',
    details: outcome?.reason === undefined ? {} : { ALL: outcome.reason },
  }));
}
