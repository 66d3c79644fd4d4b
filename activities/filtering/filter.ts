/**
 * The oracle filter (paper, section 2.2): test cases that the oracle's program fails are dropped, then thin
 * questions.
 */
import {
  testText,
  type FilteredQuestionRow,
  type QuestionRow,
  type QuestionTest,
  type Split,
  type TestOutcome,
} from '../../workflows/contract/index.js';
import { sha256 } from '../artifacts/keys.js';
import { languageOf } from '../languages/index.js';
import { nearDuplicateGroups } from '../similarity/similarity.js';

export interface FilterRule {
  minimumTestCases: number;
  minimumDistinctOutputs: number;
}

export type Filtered =
  | { kept: QuestionTest[] }
  | {
      dropped: 'noTestCases' | 'noOracleProgram' | 'tooFewTestCases' | 'tooFewDistinctOutputs' | 'checkerFailed';
      kept: QuestionTest[];
    };

/** What a test is, however it is written: both texts are equal where tests differ in spelling only. */
export interface NormalTest {
  test: string;
  /** The value that it expects. */
  output: string;
}

/** Indexes of test cases that the oracle passes and that are an earlier one in another spelling. */
export function repeatedTests(
  question: QuestionRow,
  outcomes: readonly TestOutcome[],
  normal?: readonly NormalTest[],
): Set<number> {
  const seen = new Set<string>();
  const repeated = new Set<number>();
  question.testCases.forEach(({ test }, index) => {
    if (outcomes[index]!.status !== 'pass') return;
    const name = normal?.[index]?.test ?? testText(test);
    if (seen.has(name)) repeated.add(index);
    seen.add(name);
  });
  return repeated;
}

/**
 * Applies the rule to one question. `outcomes[i]` is the oracle's verdict on `question.testCases[i]`; only `pass`
 * keeps a test case, and of several spellings of one test the first. A question that has too few test cases because its
 * checkers have faults says so.
 */
export function filterQuestion(
  question: QuestionRow,
  outcomes: readonly TestOutcome[],
  rule: FilterRule,
  normal?: readonly NormalTest[],
): Filtered {
  if (outcomes.length !== question.testCases.length) {
    throw new RangeError(`${question.id} has ${question.testCases.length} test cases and ${outcomes.length} outcomes`);
  }
  const repeated = repeatedTests(question, outcomes, normal);
  const at = question.testCases.flatMap((_, index) =>
    outcomes[index]!.status === 'pass' && !repeated.has(index) ? [index] : [],
  );
  const kept = at.map((index) => question.testCases[index]!.test);
  if (question.testCases.length === 0) return { dropped: 'noTestCases', kept };
  if (kept.length < rule.minimumTestCases) {
    const faults = outcomes.filter(({ status }) => status === 'checker_failed').length;
    return { dropped: kept.length + faults < rule.minimumTestCases ? 'tooFewTestCases' : 'checkerFailed', kept };
  }
  const { expectedOutput } = languageOf(question);
  const outputs = at.map((index) => {
    const { test } = question.testCases[index]!;
    return normal?.[index]?.output ?? (typeof test === 'string' ? expectedOutput(test) : testText(test));
  });
  if (new Set(outputs).size < rule.minimumDistinctOutputs) return { dropped: 'tooFewDistinctOutputs', kept };
  return { kept };
}

/**
 * Which side each question is on, by the hash of the first question of its near-duplicate group: near-duplicates stay
 * together, and another question in the data set moves nothing but its own group.
 */
export function splitQuestions(
  questions: readonly Pick<FilteredQuestionRow, 'id' | 'question' | 'reference'>[],
  rule: { heldOutShare: number; nearDuplicate: number; salt: string },
): Split[] {
  const groups = nearDuplicateGroups(
    questions.map(({ question, reference }) => `${question}\n${reference}`),
    rule.nearDuplicate,
  );
  const leaders = new Map<number, string>();
  questions.forEach(({ id }, index) => {
    const leader = leaders.get(groups[index]!);
    if (leader === undefined || id < leader) leaders.set(groups[index]!, id);
  });
  return questions.map((_, index) => {
    const position = Number.parseInt(sha256(`${rule.salt}/${leaders.get(groups[index]!)!}`).slice(0, 12), 16) / 2 ** 48;
    return position < rule.heldOutShare ? 'heldOut' : 'train';
  });
}

/** Test cases that the filter dropped against the errors that an offline teacher injected: its precision and recall. */
export interface FilterQuality {
  corrupted: number;
  droppedTestCases: number;
  droppedCorrupted: number;
}
