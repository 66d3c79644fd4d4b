/**
 * The oracle filter (paper, section 2.2): test cases that the oracle's program fails are dropped, then thin
 * questions.
 */
import type { FilteredQuestionRow, QuestionRow, Split, TestOutcome } from '../../workflows/contract/index.js';
import { sha256 } from '../artifacts/keys.js';
import { languageOf } from '../languages/index.js';
import { nearDuplicateGroups } from '../similarity/similarity.js';

export interface FilterRule {
  minimumTestCases: number;
  minimumDistinctOutputs: number;
}

export type Filtered =
  | { kept: string[] }
  | { dropped: 'noTestCases' | 'noOracleProgram' | 'tooFewTestCases' | 'tooFewDistinctOutputs'; kept: string[] };

/**
 * Applies the rule to one question. `outcomes[i]` is the oracle's verdict on `question.testCases[i]`; only `pass`
 * keeps a test case.
 */
export function filterQuestion(question: QuestionRow, outcomes: readonly TestOutcome[], rule: FilterRule): Filtered {
  if (outcomes.length !== question.testCases.length) {
    throw new RangeError(`${question.id} has ${question.testCases.length} test cases and ${outcomes.length} outcomes`);
  }
  const kept = question.testCases.filter((_, index) => outcomes[index]!.status === 'pass').map(({ test }) => test);
  if (question.testCases.length === 0) return { dropped: 'noTestCases', kept };
  if (kept.length < rule.minimumTestCases) return { dropped: 'tooFewTestCases', kept };
  if (new Set(kept.map(languageOf(question).expectedOutput)).size < rule.minimumDistinctOutputs)
    return { dropped: 'tooFewDistinctOutputs', kept };
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
