/**
 * How a question is put to a policy and how its answer becomes a program: one place for sampling, RL rounds, reward-model
 * training and evaluation, because a policy that is asked in two ways is two policies.
 *
 * The answer is opened with a Python fence, so that a small instruct model writes code at once, and ends at the closing
 * fence. Nothing else cuts a program: a cut at `assert` or at `if __name__` would break programs that check their input.
 */

/** Raised when the wording below changes; part of every key that depends on it. */
export const PROMPT_VERSION = 1;

const FENCE = '```';

export interface Prompt {
  messages: { role: 'user'; content: string }[];
  assistantPrefix: string;
  stop: string[];
}

/** The prompt of a question; `programPrefix` is program text that the answer is opened with (HumanEval's function head). */
export function promptOf(question: string, programPrefix = ''): Prompt {
  return {
    messages: [
      {
        role: 'user',
        content: `${question}\n\nAnswer with one Python code block that holds the complete function and nothing else.`,
      },
    ],
    assistantPrefix: `${FENCE}python\n${programPrefix}`,
    stop: [`\n${FENCE}`],
  };
}

/** The program in an answer's text: everything before the closing fence, after `programPrefix`. */
export function extractProgram(text: string, programPrefix = ''): string {
  const end = text.indexOf(`\n${FENCE}`);
  return `${programPrefix}${end >= 0 ? text.slice(0, end) : text}`.trimEnd();
}

/**
 * The program in a whole chat reply, which nothing opened: the last fenced block of Python, or of no language, that defines
 * the question's function, or else the last such block, or else the whole text. A block that the reply does not close
 * goes to its end.
 */
export function programOfReply(reply: string, entryPoint: string): string {
  const text = reply.replace(/^\s*<think>[^]*?<\/think>/, '');
  const blocks = [...text.matchAll(/^[ \t]*```([\w+-]*)[^\n]*\n([^]*?)(?:^[ \t]*```[ \t]*$|(?![^]))/gm)]
    .filter(([, language]) => /^(py(thon)?3?)?$/i.test(language!))
    .map(([, , block]) => block!);
  const defines = (block: string): boolean =>
    [...block.matchAll(/^(?:async\s+)?def\s+(\w+)/gm)].some(([, name]) => name === entryPoint);
  return ((entryPoint ? blocks.findLast(defines) : undefined) ?? blocks.at(-1) ?? text).trimEnd();
}
