/** What `npm run bench:real` makes of published data: questions to train on, and the tasks of MBPP's test split. Pure. */
import { z } from 'zod';
import type { Task } from '../../activities/benchmarks/benchmark.js';
import { ProblemTexts } from '../../activities/contamination/likeness.js';
import type { QuestionRow } from '../../workflows/contract/index.js';

/** A row of MBXP's Python part: MBPP as a function head with a docstring, and its tests in a function `check`. */
const MbxpRow = z.object({
  task_id: z.string(),
  prompt: z.string(),
  canonical_solution: z.string(),
  entry_point: z.string(),
  test: z.string(),
  description: z.string(),
});

/**
 * A question with test cases, asked in the words in which tasks of MBPP+ are asked: the problem and its first test.
 *
 * @throws Error naming the row whose tests cannot be read.
 * @example
 * trainQuestion(JSON.parse(line)).question; // 'Write a function to …\n\nYour code should pass this test:\n\nassert …'
 */
export function trainQuestion(given: unknown): QuestionRow {
  const row = MbxpRow.parse(given);
  const tests = row.test.split('\n').flatMap((line) => {
    const text = line.trim();
    return text.startsWith('assert ') ? [text.replace(/\bcandidate\(/g, `${row.entry_point}(`)] : [];
  });
  if (tests.length === 0) throw new Error(`${row.task_id}: no line of its tests begins with 'assert '`);
  return {
    id: row.task_id,
    seedId: row.task_id,
    source: 'mbxp',
    question: `${row.description.trim()}\n\nYour code should pass this test:\n\n${tests[0]}`,
    entryPoint: row.entry_point,
    reference: `${row.prompt.trim()}\n${row.canonical_solution.replace(/^\n+/, '')}`,
    testCases: tests.map((test) => ({ test })),
  };
}

/** The questions that repeat none of the tasks, by the name of their function or by their code. */
export function withoutTasks(questions: readonly QuestionRow[], tasks: readonly Task[]): QuestionRow[] {
  const texts = new ProblemTexts(tasks);
  return questions.filter(
    ({ entryPoint, reference }) => !texts.hasName(entryPoint) && texts.likeCode({ code: reference }).length === 0,
  );
}

/** First and last id of MBPP's test split. */
const TEST_SPLIT = { first: 11, last: 510 };

/**
 * Whether a line of MBPP+ is a task of the test split of MBPP, from which few-shot prompts and training are drawn apart.
 * The line is not parsed, because it may hold numbers of Python that are no JSON, such as `-Infinity`.
 *
 * @example
 * isOfTestSplit('{"task_id": "Mbpp/404", "base_input": [[-Infinity]]}'); // true
 */
export function isOfTestSplit(line: string): boolean {
  const number = Number(/^\{\s*"task_id"\s*:\s*"Mbpp\/(\d+)"/.exec(line)?.[1]);
  return number >= TEST_SPLIT.first && number <= TEST_SPLIT.last;
}
