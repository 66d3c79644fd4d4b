/** Takes the thoughts of a model out of its text, where the endpoint left them in. */

/** Marks around thoughts: DeepSeek-R1 and Qwen, gateways, Magistral. */
const TAGS = [
  ...['think', 'thinking', 'thought', 'thoughts', 'reasoning', 'analysis', 'scratchpad'].map(
    (name) => [`<${name}>`, `</${name}>`] as const,
  ),
  ['[THINK]', '[/THINK]'],
  ['<|begin_of_thought|>', '<|end_of_thought|>'],
] as const;

/** Where the answer of gpt-oss begins, as text. */
const FINAL = '<|channel|>final<|message|>';

/**
 * A text without the thoughts before it. The opening mark may be missing: with some models it stands in the prompt.
 * Thoughts that never end leave nothing.
 *
 * @example
 * withoutThoughts('The user wants ...</think>\n{"question": ""}'); // '{"question": ""}'
 */
export function withoutThoughts(text: string): string {
  const final = text.lastIndexOf(FINAL);
  if (final >= 0) return text.slice(final + FINAL.length).replace(/<\|(?:return|end)\|>\s*$/, '');
  const start = text.replace(/^[\s\ufeff]+/, '');
  const lower = start.toLowerCase();
  for (const [open, close] of TAGS) {
    const opened = lower.startsWith(open.toLowerCase());
    // What an opened thought quotes of its own marks is a thought; the first mark after it ends it.
    const end = lower.indexOf(close.toLowerCase());
    if (opened) return end < 0 ? '' : withoutThoughts(start.slice(end + close.length).replace(/^\s*\n/, ''));
    // A mark inside of an answer is a part of it.
    if (end >= 0 && !lower.slice(0, end).includes(open.toLowerCase()) && !/^[{[]/.test(start))
      return withoutThoughts(start.slice(end + close.length).replace(/^\s*\n/, ''));
  }
  return text;
}
