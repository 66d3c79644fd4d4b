/**
 * How a question is put to a policy, and how its answer becomes a program. Sampling, RL rounds, reward-model training
 * and evaluation ask in this one way, because a policy that is asked in two ways is two policies.
 *
 * The answer is opened with a fence of the question's language, so that a small instruct model writes code at once.
 * It ends at the closing fence. Nothing else cuts a program: a cut at `assert` or at `if __name__` would break
 * programs that check their input.
 */
import { testText, type QuestionTest } from '../../workflows/contract/rows.js';
import { languageOf } from '../languages/index.js';

/** Raised when the wording below changes; part of every key that depends on it. */
export const PROMPT_VERSION = 1;

const FENCE = '```';

export interface Prompt {
  messages: { role: 'user'; content: string }[];
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

/** The program in an answer's text: everything before the closing fence, after `programPrefix`. */
export function extractProgram(text: string, programPrefix = ''): string {
  const end = text.indexOf(`\n${FENCE}`);
  return `${programPrefix}${end >= 0 ? text.slice(0, end) : text}`.trimEnd();
}

/**
 * The program in a whole chat reply, which nothing opened. It is the last fenced block of the language, or of no
 * language, that defines the question's function, or else the last such block, or else the whole text. A block that
 * the reply does not close goes to its end.
 */
export function programOfReply(reply: string, entryPoint: string, language?: string): string {
  const { isFence, functionsOf } = languageOf({ language });
  const text = reply.replace(/^\s*<think>[^]*?<\/think>/, '');
  const blocks = [...text.matchAll(/^[ \t]*```([\w+-]*)[^\n]*\n([^]*?)(?:^[ \t]*```[ \t]*$|(?![^]))/gm)]
    .filter(([, label]) => isFence(label!))
    .map(([, , block]) => block!);
  const defines = (block: string): boolean => functionsOf(block).includes(entryPoint);
  return ((entryPoint ? blocks.findLast(defines) : undefined) ?? blocks.at(-1) ?? text).trimEnd();
}
