/**
 * The program in what a model wrote: the one place where answers become programs. `test/fixtures/answers.json` has the
 * shapes of answers; the Python client reads the same ones.
 *
 * What is no part of a program is cut, such as fences, thoughts and prose, and nothing of the program ever is. A cut at
 * `assert` or at `if __name__` would break programs that check their input.
 */
import { isObject, jsonOf } from '../endpoint/json.js';
import { withoutThoughts } from '../endpoint/thoughts.js';
import { languageOf } from '../languages/index.js';
import type { LanguageDefinition } from '../languages/language.js';

/** A line that may open a fenced block: three or more marks and a label. */
const OPENING = /^[ \t]*(`{3,}|~{3,})[ \t]*\{?\.?([\w+.-]*)\}?[^`\n]*$/;
/** A whole block in one line. */
const ONE_LINE = /^[ \t]*`{3,}[ \t]*([^`\n]*\S)[ \t]*`{3,}[ \t]*$/;
/** Tags around an answer. */
const TAGS = /<(answer|code|pre|solution|program|final_answer|final)(?:\s[^>\n]{0,200})?>([^]*?)(?:<\/\1>|(?![^]))/gi;
/** Other marks around an answer: those of prompts, and environments of LaTeX. */
const MARKS = [
  /\[(?:BEGIN|PYTHON|CODE)\][ \t]*\n([^]*?)(?:\[(?:DONE|END|\/PYTHON|\/CODE)\]|(?![^]))/,
  /\\begin\{(?:lstlisting|minted|verbatim)\}[^\n]*\n([^]*?)(?:\\end\{|(?![^]))/,
];
/** A mark of a chat template at the end of an answer, and how many characters such a mark has at most. */
const END_MARK = /(?:<\|[\w ]{1,40}\|>|<\/s>|<eos>|<end_of_turn>)$/;
const END_MARK_CHARACTERS = 44;
/** Tags in tags that are opened, at most. */
const NESTED_TAGS = 3;
const ENTITIES: Record<string, string> = { '&lt;': '<', '&gt;': '>', '&amp;': '&', '&quot;': '"', '&#39;': "'" };
/** Members of an object that hold a program. */
const MEMBERS = ['code', 'program', 'solution', 'answer', 'completion', 'response', 'python'];

/** Lines of an answer for which the text before them is read again, at most. */
const LOOKS = 200;

interface Piece {
  code: string;
  /** Whether it stood in a fence with a label of the language or without one. */
  fenced: boolean;
}

/**
 * The program in a whole chat reply, which nothing opened. It is the last fenced block of the language, or of no
 * language, that defines the question's function, or else a part outside of fences that does. Where nothing defines
 * it, it is the last block that is code, or the text without the prose around its code. A block that the reply does not
 * close goes to its end.
 *
 * @example
 * programOfReply('Sure:\n~~~python\ndef f(x): return x\n~~~\nIt is short.', 'f'); // 'def f(x): return x'
 */
export function programOfReply(reply: string, entryPoint: string, language?: string): string {
  const words = languageOf({ language });
  const text = insideOf(unwrapped(withoutThoughts(withoutEndMarks(reply.replace(/^\ufeff/, ''))), words));
  const pieces = piecesOf(text, words);
  const blocks = pieces.filter(({ fenced }) => fenced).map(({ code }) => code);
  const others = pieces.filter(({ fenced }) => !fenced).map(({ code }) => withoutProse(code, words));
  const defines = (code: string): boolean => entryPoint !== '' && words.defines(code, entryPoint);
  const isCode = (code: string): boolean => code.trim() !== '' && !words.isProse(firstLine(code));
  const found =
    blocks.findLast(defines) ??
    others.findLast(defines) ??
    blocks.findLast(isCode) ??
    others.findLast((code) => words.functionsOf(code).length > 0) ??
    blocks.at(-1) ??
    withoutProse(text, words);
  return found.trimEnd();
}

/**
 * The program in an answer that was opened with a fence and `programPrefix`: everything before the closing fence, which
 * may be indented or stand behind the last line. An answer that opens the fence again, or begins with its label, is
 * read as if it had not.
 *
 * @example
 * extractProgram('```python\ndef f(x):\n    return x\n```'); // 'def f(x):\n    return x'
 */
export function extractProgram(text: string, programPrefix = '', language?: string): string {
  const words = languageOf({ language });
  const whole = withoutEndMarks(text);
  const lines = whole.split('\n');
  const fence = lines.findIndex((line) => OPENING.test(line) || ONE_LINE.test(line));
  const label = fence < 0 ? '' : (OPENING.exec(lines[fence]!)?.[2] ?? '');
  const before = lines.slice(0, Math.max(0, fence)).join('\n');
  const inside = firstLine(lines.slice(fence + 1).join('\n'));
  const reopened =
    fence >= 0 &&
    (before.trim() === '' || words.isProse(firstLine(before))) &&
    (label === ''
      ? before.trim() === '' && (words.beginsCode(inside) || ONE_LINE.test(lines[fence]!))
      : words.isFence(label));
  if (reopened) {
    const block = programOfReply(lines.slice(fence).join('\n'), '', language);
    const opened = words.functionsOf(programPrefix).at(-1);
    return (opened !== undefined && words.defines(block, opened) ? block : `${programPrefix}${block}`).trimEnd();
  }
  const { code } = bodyOf(withoutLabel(whole, words).split('\n'), 0, '```', words, {
    before: programPrefix,
    anyFence: true,
  });
  return `${programPrefix}${code}`.trimEnd();
}

/** A text without marks of chat templates at its end. */
function withoutEndMarks(text: string): string {
  let whole = text;
  for (;;) {
    const rest = whole.trimEnd();
    const mark = END_MARK.exec(rest.slice(-END_MARK_CHARACTERS))?.[0];
    if (mark === undefined) return whole;
    whole = rest.slice(0, -mark.length);
  }
}

/** A text without a label of the language in a line of its own before it. */
function withoutLabel(text: string, words: LanguageDefinition): string {
  const labelled = /^[ \t]*([\w.]+)[ \t]*\n/.exec(text);
  return labelled && words.isFence(labelled[1]!) ? text.slice(labelled[0].length) : text;
}

/** A text without what stands around all of it: marks of a quotation, a span of code, a label, or marks of prompts. */
function unwrapped(text: string, words: LanguageDefinition): string {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  if (lines.length > 0 && lines.every((line) => /^>(?!>)/.test(line))) return text.replaceAll(/^> ?/gm, '');
  const [, span] = /^\s*`([^`\n]+)`\s*$/.exec(text) ?? [];
  if (span !== undefined) return span;
  const marked = FENCES.test(text)
    ? undefined
    : MARKS.map((mark) => mark.exec(text)?.[1]).find((inner) => inner?.trim());
  return marked ?? withoutLabel(text, words);
}

const FENCES = /```|~~~/;

/** What tags or an object of JSON hold, where the whole answer is in them. */
function insideOf(text: string, depth = 0): string {
  const object = jsonOf(text.trim().replace(/^```(?:json)?\s*\n([^]*)\n```$/, '$1'));
  if (isObject(object)) {
    const program = MEMBERS.map((name) => object[name]).find((value) => typeof value === 'string');
    if (typeof program === 'string') return program;
  }
  const tagged = [...text.matchAll(TAGS)].filter(([, , inner]) => inner!.trim() !== '');
  // A tag in a string of a program is no tag of the answer, and neither is one in the prose around a block.
  const isCode = /^(?:def|class|import|from) /m.test(text.slice(0, text.search(TAGS)));
  const last = tagged.at(-1);
  if (!last || depth >= NESTED_TAGS || isCode || FENCES.test(text.replaceAll(TAGS, ''))) return text;
  const [, tag, inner] = last;
  const isEscaped = /^(?:pre|code)$/i.test(tag!) && !/[<>]/.test(inner!.replaceAll(TAGS, '$2'));
  const told = insideOf(inner!.replace(/^\n+/, ''), depth + 1);
  return isEscaped ? told.replaceAll(/&(?:lt|gt|amp|quot|#39);/g, (entity) => ENTITIES[entity]!) : told;
}

/** Fenced blocks of the language, and what stands between them, in order. */
function piecesOf(text: string, words: LanguageDefinition): Piece[] {
  const pieces: Piece[] = [];
  const lines = text.split('\n');
  let outside: string[] = [];
  const flush = (): void => {
    if (outside.some((line) => line.trim() !== ''))
      pieces.push({ code: words.repaired(outside.join('\n')), fenced: false });
    outside = [];
  };
  let looks = 0;
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at]!;
    const [, inline] = ONE_LINE.exec(line) ?? [];
    const [, marks, label] = OPENING.exec(line) ?? [];
    if (inline !== undefined) {
      flush();
      const [, first = '', more = ''] = /^([\w.+-]+)[ \t]+([^]*)$/.exec(inline) ?? [];
      pieces.push({ code: first !== '' && words.isFence(first) ? more : inline, fenced: true });
    } else if (marks !== undefined && (looks++ > LOOKS || !words.isInsideText(outside.join('\n')))) {
      flush();
      const { code, next } = bodyOf(lines, at + 1, marks, words);
      at = next - 1;
      if (words.isFence(label!))
        pieces.push({ code: words.repaired(dedented(code, /^[ \t]*/.exec(line)![0].length)), fenced: true });
    } else outside.push(line);
  }
  flush();
  return pieces;
}

/** Code without the indentation that a list gives it, which is at most that of its fence. */
function dedented(code: string, most: number): string {
  const indents = code.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.search(/\S/)]));
  const common = Math.min(most, ...indents);
  return common > 0 ? code.replaceAll(new RegExp(`^[ \\t]{1,${common}}`, 'gm'), '') : code;
}

/**
 * The lines from `from` on up to the fence that closes a block, and the line behind that. A fence in a text of the
 * program, such as a docstring, closes nothing. The block goes to the end where nothing closes it. `before` stands
 * before the lines; with `anyFence` the next block ends this one.
 */
function bodyOf(
  lines: readonly string[],
  from: number,
  marks: string,
  words: LanguageDefinition,
  { before = '', anyFence = false } = {},
): { code: string; next: number } {
  const closing = new RegExp(`^(.*?)[ \\t]*(?:${marks[0]!}){${marks.length},}[ \\t]*$`);
  let candidate: { code: string; next: number } | undefined;
  let looks = 0;
  for (let at = from; at < lines.length && looks <= LOOKS; at += 1) {
    const line = lines[at]!;
    const last = anyFence && OPENING.test(line) ? '' : closing.exec(line)?.[1];
    if (last === undefined) continue;
    looks += 1;
    const code = [...lines.slice(from, at), ...(last.trim() === '' ? [] : [last])].join('\n');
    const found = { code, next: at + 1 };
    if (!words.isInsideText(before + code)) return found;
    candidate ??= last.trim() === '' && !/^[ \t]/.test(line) ? found : undefined;
  }
  return candidate ?? { code: lines.slice(from).join('\n'), next: lines.length };
}

/** A text from the first line that begins code to the first line behind it that is prose; whole where it is code. */
function withoutProse(text: string, words: LanguageDefinition): string {
  const lines = text.split('\n');
  const first = lines.findIndex((line) => line.trim() !== '');
  if (first < 0) return text;
  const begin = words.isProse(lines[first]!) ? lines.findIndex((line) => words.beginsCode(line)) : 0;
  if (begin < 0) return text;
  const code: string[] = [];
  let looks = 0;
  for (const line of lines.slice(begin)) {
    if (words.isProse(line) && looks++ < LOOKS && !words.isOpen(code.join('\n'))) break;
    code.push(line);
  }
  return code.join('\n');
}

function firstLine(text: string): string {
  return text.split('\n').find((line) => line.trim() !== '') ?? '';
}
