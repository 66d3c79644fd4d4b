/** Results in the forms of others: what their tools read. Pure. */
import type { EvaluationRow, TestOutcome } from '../../workflows/contract/index.js';
import type { ResultFiles } from '../benchmarks/benchmark.js';

/**
 * The files of a policy's programs on one benchmark: the samples and their results, as lines by the name of the file.
 * Greedy answers next to samples have files of their own, because tools count all programs of a file for pass@k.
 *
 * @example
 * Object.keys(resultFiles('bigcodebench', rows)); // ['samples.jsonl', 'samples_eval_results.json']
 */
export function resultFiles(form: ResultFiles, rows: readonly EvaluationRow[]): Record<string, object[]> {
  const samples = rows.filter(({ mode }) => mode === 'sample');
  if (samples.length === 0 || samples.length === rows.length) return filesOf(form, 'samples', rows);
  const greedy = rows.filter(({ mode }) => mode === 'greedy');
  return { ...filesOf(form, 'samples', samples), ...filesOf(form, 'greedy', greedy) };
}

function filesOf(form: ResultFiles, name: string, rows: readonly EvaluationRow[]): Record<string, object[]> {
  if (form === 'livecodebench')
    return {
      [`${name}.json`]: [livecodebenchSamples(rows)],
      [`${name}_eval_all.json`]: [livecodebenchResults(rows)],
    };
  const results = form === 'evalplus' ? evalplusResults(rows) : bigcodebenchResults(rows);
  return { [`${name}.jsonl`]: rows.map(sampleRow), [`${name}_eval_results.json`]: [results] };
}

/** The words of EvalPlus and BigCodeBench for what became of the tests of a program. */
type ResultWord = 'pass' | 'fail' | 'timeout';

/**
 * A row of `samples.jsonl`.
 *
 * @example
 * sampleRow(row); // { task_id: 'HumanEval/0', solution: 'def …' }
 */
function sampleRow({ taskId, program }: EvaluationRow): { task_id: string; solution: string } {
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
function evalplusResults(rows: readonly EvaluationRow[]): object {
  return byTask(rows, ({ taskId, program, outcomes: [base, plus] }) => ({
    task_id: taskId,
    solution: program,
    base_status: base ? wordOf(base) : 'fail',
    plus_status: plus ? wordOf(plus) : null,
    base_fail_tests: [],
    plus_fail_tests: [],
  }));
}

/** What LiveCodeBench's `custom_evaluator` reads: all programs of each task, without the imports in front of them. */
function livecodebenchSamples(rows: readonly EvaluationRow[]): object[] {
  return livecodebenchResults(rows).map(({ question_id, code_list }) => ({ question_id, code_list }));
}

/** The content of LiveCodeBench's `eval_all.json`, without the texts of the problems. */
function livecodebenchResults(
  rows: readonly EvaluationRow[],
): { question_id: string; code_list: string[]; graded_list: boolean[]; 'pass@1': number }[] {
  return Object.entries(byTask(rows, (row) => row).eval).map(([question_id, own]) => ({
    question_id,
    code_list: own.map(({ programPrefix, response }) => programPrefix + response),
    graded_list: own.map(({ passed }) => passed),
    'pass@1': own.filter(({ passed }) => passed).length / own.length,
  }));
}

/** The content of BigCodeBench's `eval_results.json`. */
function bigcodebenchResults(rows: readonly EvaluationRow[]): object {
  return byTask(rows, ({ taskId, program, outcomes: [outcome] }) => ({
    task_id: taskId,
    solution: program,
    status: outcome ? wordOf(outcome) : 'fail',
    details: outcome?.reason === undefined ? {} : { ALL: outcome.reason },
  }));
}
