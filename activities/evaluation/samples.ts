/**
 * Samples of others for a benchmark: rows in the form of EvalPlus, BigCodeBench or LiveCodeBench become answers to its
 * tasks. Pure. Nothing is guessed: what does not fit is refused, or counted by the rule that the settings name.
 */
import { StageFailure, type BenchmarkSampleRow } from '../../workflows/contract/index.js';
import type { Task } from '../benchmarks/benchmark.js';
import { programOfReply } from '../policy/programs.js';

/** An answer to a task: what was written, and the program in it. */
export interface GivenAnswer {
  text: string;
  program: string;
}

/** Answers by the id of their task, and how many samples count in a way of their own. */
export interface GivenAnswers {
  answers: Map<string, GivenAnswer[]>;
  counts: Record<string, number>;
}

/** Ids that are told. */
const TOLD = 5;

/** How answers of a policy are told: by the name of the file among the inputs. */
interface Rules {
  name: string;
  benchmark: string;
  unknown: 'refuse' | 'drop';
  missing: 'refuse' | 'fail';
}

type Form = 'solution' | 'completion' | 'code_list' | 'output_list';

/**
 * The answers to tasks, in the order of the tasks, equally many for each.
 *
 * @throws StageFailure `InvalidExperiment` for mixed forms, tasks that the benchmark does not have, tasks without a
 * sample, a task that is there twice with lists, and tasks with different numbers of samples.
 */
export function givenAnswers(tasks: readonly Task[], rows: readonly BenchmarkSampleRow[], rules: Rules): GivenAnswers {
  const refuse = (why: string): never => {
    throw new StageFailure(
      'InvalidExperiment',
      `samples '${rules.name}' for the benchmark '${rules.benchmark}': ${why}`,
    );
  };
  const byId = new Map(tasks.map((task) => [task.id, task]));
  const answers = new Map<string, GivenAnswer[]>();
  const unknown: string[] = [];
  let first: Form | undefined;
  let empty = 0;
  for (const [index, row] of rows.entries()) {
    const form = formOf(row);
    first ??= form;
    if (form !== first) refuse(`row ${index + 1} has '${form}' and the first row '${first}'; give rows of one form`);
    const id = 'task_id' in row ? row.task_id : row.question_id;
    const task = byId.get(id);
    if (!task) {
      unknown.push(id);
      continue;
    }
    const known = answers.get(id) ?? [];
    const isList = form === 'code_list' || form === 'output_list';
    if (isList && known.length > 0) refuse(`${id} is there twice, and each row is a list of all samples of a task`);
    const given = answersOf(row, task);
    empty += given.filter(({ text }) => text.trim() === '').length;
    answers.set(id, [...known, ...given]);
  }
  if (unknown.length > 0 && (rules.unknown === 'refuse' || answers.size === 0)) {
    refuse(
      `${unknown.length} of ${rows.length} samples are of tasks that it does not have (${listed(unknown)}). Is the ` +
        `file of another version of the benchmark, or of another one? "unknown": "drop" leaves them out`,
    );
  }
  const missing = tasks.filter(({ id }) => !answers.has(id)).map(({ id }) => id);
  if (missing.length > 0 && rules.missing === 'refuse') {
    refuse(
      `${missing.length} of its ${tasks.length} tasks have no sample (${listed(missing)}); "missing": "fail" counts ` +
        'them as failed',
    );
  }
  const counts = new Map<number, string>();
  for (const [id, given] of answers) if (!counts.has(given.length)) counts.set(given.length, id);
  const [[most = 1] = [], ...others] = [...counts].sort(([a], [b]) => b - a);
  if (others.length > 0) {
    refuse(
      `${counts.get(most)} has ${most} samples and ${others[0]![1]} has ${others[0]![0]}; ` +
        'every task needs equally many',
    );
  }
  const failing: GivenAnswer[] = Array.from({ length: most }, () => ({ text: '', program: '' }));
  for (const id of missing) answers.set(id, failing);
  return {
    answers,
    counts: {
      rows: rows.length,
      tasks: answers.size - missing.length,
      samplesPerTask: most,
      ...(unknown.length > 0 ? { unknownDropped: unknown.length } : {}),
      ...(missing.length > 0 ? { missingFailed: missing.length } : {}),
      ...(empty > 0 ? { empty } : {}),
    },
  };
}

function formOf(row: BenchmarkSampleRow): Form {
  return (['solution', 'completion', 'code_list', 'output_list'] as const).find((form) => form in row)!;
}

function answersOf(row: BenchmarkSampleRow, task: Task): GivenAnswer[] {
  const program = (text: string): GivenAnswer => ({ text, program: text });
  if ('solution' in row) return [program(row.solution)];
  if ('completion' in row)
    return [{ text: row.completion, program: (task.completes ?? task.programPrefix) + row.completion }];
  if ('code_list' in row) return row.code_list.map(program);
  return row.output_list.map((text) => ({ text, program: programOfReply(text, task.entryPoint) }));
}

function listed(ids: readonly string[]): string {
  const told = [...new Set(ids)];
  return told.length > TOLD ? `${told.slice(0, TOLD).join(', ')} and ${told.length - TOLD} more` : told.join(', ');
}
