/**
 * How a question is put to a policy, and how its answer becomes a program. Sampling, RL rounds, reward-model training
 * and evaluation ask in this one way, because a policy that is asked in two ways is two policies.
 *
 * The answer is opened with a fence of the question's language, so that a small instruct model writes code at once.
 * It ends at the closing fence. `programs.ts` takes the program out of it.
 */
import { testText, type QuestionTest } from '../../workflows/contract/rows.js';
import { LANGUAGES, languageOf } from '../languages/index.js';

export { extractProgram, programOfReply } from './programs.js';

/** Raised when the wording below changes; part of every key that depends on it. */
export const PROMPT_VERSION = 1;

const FENCE = '```';

export interface Prompt {
  messages: { role: 'user' | 'assistant'; content: string }[];
  assistantPrefix: string;
  stop: string[];
}

/**
 * The prompt of a question. `programPrefix` is program text that the answer is opened with: a function's head.
 *
 * @example
 * promptOf('Write double(n).').assistantPrefix; // '```python\n'
 */
export function promptOf(question: string, programPrefix = '', language?: string): Prompt {
  const { answerRequest, fence } = languageOf({ language });
  return {
    messages: [{ role: 'user', content: `${question}\n\n${answerRequest}` }],
    assistantPrefix: `${FENCE}${fence}\n${programPrefix}`,
    stop: [`\n${FENCE}`],
  };
}

/**
 * What stands around question and program in a conversation of a reward model, by language: the request behind the
 * question, and what opens the answer. It is what {@link promptOf} gives a policy; the first language is the default.
 *
 * @example
 * conversationForms()['python']!.opening; // '```python\n'
 */
export function conversationForms(): Record<string, { request: string; opening: string }> {
  return Object.fromEntries(
    LANGUAGES.map(({ name, answerRequest, fence }) => [
      name,
      { request: `\n\n${answerRequest}`, opening: `${FENCE}${fence}\n` },
    ]),
  );
}

/**
 * A question with the first `shown` of its tests under it, as the authors of the paper show two to whoever writes a
 * program.
 *
 * @example
 * questionWithTests('Write double(n).', ['assert double(2) == 4'], 1);
 */
export function questionWithTests(question: string, tests: readonly QuestionTest[], shown: number | undefined): string {
  const texts = tests.slice(0, shown ?? 0).map(testText);
  return texts.length === 0
    ? question
    : `${question}\n\nYour code should pass ${texts.length === 1 ? 'this test' : 'these tests'}:\n\n${texts.join('\n')}`;
}
