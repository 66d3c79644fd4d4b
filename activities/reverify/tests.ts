/** The tests of questions before and after a change. Pure. */
import {
  judgedTest,
  judgedTests,
  QuestionTest,
  StageFailure,
  type CpuLimits,
  type FilteredQuestionRow,
  type TestsRow,
} from '../../workflows/contract/index.js';
import type { z } from 'zod';
import { jobOf, SandboxRow } from '../execution/rows.js';
import { testDigest } from './cells.js';

/** A list of tests, with what names each. */
export interface TestList {
  tests: readonly z.core.util.JSONType[];
  digests: readonly string[];
  /** The checker of the question, which is in those of its tests that left it open how they are judged. */
  checker?: string | undefined;
}

type Json = z.core.util.JSONType;

/** A list of tests. @throws StageFailure `InvalidExperiment` where the sandbox would not take it. */
function listOf(questionId: string, tests: readonly Json[], checker: string | undefined): TestList {
  const refused = (why: string): StageFailure =>
    new StageFailure('InvalidExperiment', `inputs.tests: the tests of question ${questionId}: ${why}`);
  const row = SandboxRow.safeParse({ id: questionId, program: '', tests });
  if (!row.success)
    throw refused(row.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '));
  try {
    jobOf(row.data);
  } catch (error) {
    throw refused((error as Error).message);
  }
  return testList(tests, checker);
}

function testList(tests: readonly Json[], checker: string | undefined): TestList {
  return { tests, digests: tests.map(testDigest), checker };
}

/**
 * A test with the checker of its question, where it leaves open how it is judged; what is no test stays as it is.
 *
 * @example
 * withChecker({ call: 'f(1)' }, checker); // { call: 'f(1)', checker }
 */
export function withChecker(test: Json, checker: string | undefined): Json {
  if (checker === undefined) return test;
  const known = QuestionTest.safeParse(test);
  return known.success ? (judgedTest(known.data, checker) ?? test) : test;
}

/** Undoes {@link withChecker}, for tests of a question that has this checker. */
export function withoutChecker(test: Json, checker: string | undefined): Json {
  if (checker === undefined || !isObject(test) || test['checker'] !== checker) return test;
  const { checker: _, ...bare } = test;
  return bare;
}

/** Changes of tests, by question. */
export class TestChanges {
  readonly #rows = new Map<string, TestsRow>();
  readonly #limits = new Map<string, CpuLimits>();
  /** Lists that were made already, by question: many programs answer one question. */
  readonly #made = new Map<string, { before: readonly string[]; after: TestList }>();
  readonly #used = new Set<string>();

  /** Takes the tests of a question as they are now. */
  replace({ id, tests, checker, limits }: Pick<FilteredQuestionRow, 'id' | 'tests' | 'checker' | 'limits'>): void {
    this.#rows.set(id, { questionId: id, tests, ...(checker === undefined ? {} : { checker }) });
    if (limits) this.#limits.set(id, limits);
  }

  /** @throws StageFailure `InvalidExperiment` where there is another change of the question. */
  take(row: TestsRow): void {
    if (this.#rows.has(row.questionId))
      throw new StageFailure('InvalidExperiment', `inputs.tests: question ${row.questionId} is there more than once`);
    this.#rows.set(row.questionId, row);
  }

  /** Limits that come with the changed tests of a question. */
  limitsOf(questionId: string): CpuLimits | undefined {
    return this.#limits.get(questionId);
  }

  /**
   * The tests of a question now.
   *
   * @throws StageFailure `InvalidExperiment` where a test that is to leave is none of them, or where none would stay.
   */
  after(questionId: string, before: TestList): TestList {
    const row = this.#rows.get(questionId);
    if (!row) return before;
    this.#used.add(questionId);
    const made = this.#made.get(questionId);
    if (made && made.before === before.digests) return made.after;
    // New tests bring their checker, and edited ones have that of the question.
    const checker = 'tests' in row ? row.checker : (row.checker ?? before.checker);
    const tests =
      'tests' in row
        ? row.tests.map((test) => withChecker(test, checker))
        : edited(questionId, rechecked(before, checker), row, checker);
    const after = listOf(questionId, tests, checker);
    this.#made.set(questionId, { before: before.digests, after });
    return after;
  }

  /** Questions with changed tests, and how many of them have programs here. */
  get used(): { given: number; used: number } {
    return { given: this.#rows.size, used: this.#used.size };
  }
}

/** Tests of a question whose checker is another one now. */
function rechecked(before: TestList, checker: string | undefined): TestList {
  if (checker === before.checker) return before;
  const tests = before.tests.map((test) => withChecker(withoutChecker(test, before.checker), checker));
  return testList(tests, checker);
}

function isObject(test: Json): test is { [name: string]: Json } {
  return typeof test === 'object' && test !== null && !Array.isArray(test);
}

/** The tests without those that leave, and with those that come; both as they are judged, with the checker. */
function edited(
  questionId: string,
  { tests, digests }: TestList,
  given: { add?: Json[] | undefined; remove?: Json[] | undefined },
  checker: string | undefined,
): Json[] {
  const whole = (listed: Json[] = []): Json[] => listed.map((test) => withChecker(test, checker));
  const [add, remove] = [whole(given.add), whole(given.remove)];
  const leaving = new Map(remove.map((test) => [testDigest(test), test]));
  for (const [digest, test] of leaving)
    if (!digests.includes(digest))
      throw new StageFailure(
        'InvalidExperiment',
        `inputs.tests: question ${questionId} has no test ${JSON.stringify(test)} that could be removed`,
      );
  const staying = tests.filter((_, at) => !leaving.has(digests[at]!));
  const coming = add.filter((test) => !digests.includes(testDigest(test)) || leaving.has(testDigest(test)));
  return [...staying, ...coming];
}

/** The tests that programs were judged against, by question. Equal lists of one question are made once. */
export class JudgedTests {
  readonly #lists = new Map<string, TestList>();

  add(questionId: string, question: { tests: readonly QuestionTest[]; checker?: string | undefined }): void {
    this.#lists.set(questionId, testList(judgedTests(question), question.checker));
  }

  /** @throws StageFailure `InvalidExperiment` where the question is missing or has another number of tests. */
  of(questionId: string, { id, outcomes }: { id: string; outcomes?: readonly unknown[] | undefined }): TestList {
    const list = this.#lists.get(questionId);
    if (!list)
      throw new StageFailure(
        'InvalidExperiment',
        `inputs.questions: there is no question ${questionId}, which program ${id} answers`,
      );
    if (outcomes && outcomes.length !== list.tests.length)
      throw new StageFailure(
        'InvalidExperiment',
        `inputs.questions: program ${id} has ${outcomes.length} verdicts, and question ${questionId} has ` +
          `${list.tests.length} tests: give the questions that the programs were judged against`,
      );
    return list;
  }
}
