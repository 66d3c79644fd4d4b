/**
 * A reply that names its parts instead of being JSON: by tags, by headings, or by labels as YAML has them. Pure.
 */
import type { Repair } from './lenient-json.js';

/** Opening tags that are looked at: a text of many tags is a page, and no reply. */
const TAGS = 64;

/** A name in small letters and without what is no letter. */
export const plainName = (name: string): string => name.toLowerCase().replace(/[^a-z]/g, '');

/**
 * The parts of a text by their names, under which `isMember` knows them; undefined where it names none. Where a text
 * has tags, these are its parts. Else a part begins at a line with its name, and ends where the next one begins.
 *
 * @example
 * labelledParts('## Question\nAdd.\n## Tests\n- `assert add(1, 2) == 3`', isMember);
 * // { parts: { question: 'Add.', tests: '- `assert add(1, 2) == 3`' }, repair: 'headings' }
 */
export function labelledParts(
  text: string,
  isMember: (name: string) => boolean,
): { parts: Record<string, string>; repair: Repair } | undefined {
  const unix = text.replaceAll('\r\n', '\n');
  const tagged = partsOfTags(unix, isMember);
  if (tagged.size > 1) return { parts: Object.fromEntries(tagged), repair: 'tags' };
  const headed = partsOfLines(unix, isMember);
  return headed.size > 1 ? { parts: Object.fromEntries(headed), repair: 'headings' } : undefined;
}

function partsOfTags(text: string, isMember: (name: string) => boolean): Map<string, string> {
  const parts = new Map<string, string>();
  let at = 0;
  for (let seen = 0; seen < TAGS; seen += 1) {
    const open = /<([A-Za-z][\w-]{0,30})>/g;
    open.lastIndex = at;
    const found = open.exec(text);
    if (!found) break;
    at = open.lastIndex;
    const tag = found[1]!;
    const name = plainName(tag);
    const end = isMember(name) && !parts.has(name) ? text.indexOf(`</${tag}>`, at) : -1;
    if (end < 0) continue;
    const inner = text.slice(at, end);
    // A tag around the others.
    if ([...inner.matchAll(/<([A-Za-z][\w-]{0,30})>/g)].some(([, tag]) => isMember(plainName(tag!)))) continue;
    parts.set(name, unescaped(inner));
    at = end;
  }
  return parts;
}

/** The text inside of a tag, with the characters that XML writes in another way. */
function unescaped(inner: string): string {
  const data = /^\s*<!\[CDATA\[([^]*)\]\]>\s*$/.exec(inner);
  if (data) return data[1]!;
  const names: Record<string, string> = { lt: '<', gt: '>', quot: '"', apos: "'", '#39': "'", amp: '&' };
  return inner.replace(/&(lt|gt|quot|apos|#39|amp);/g, (_, name: string) => names[name]!);
}

/** What may stand before a name: the marks of a heading, a number, the marks of bold. */
const BEFORE = /^[ \t]{0,3}(#{1,6}[ \t]*)?(?:\d{1,2}[.)][ \t]*)?(\*\*|__)?(?=[A-Za-z])/;
/** A name, and behind it the end of the line, or a colon and the text of the part. Marks of bold end before or after. */
const NAME = /^([A-Za-z _-]{3,40}?)[ \t]*(?:(\*\*|__)?[ \t#]*$|(?::(?:\*\*|__)|(?:\*\*|__)?:)[ \t]*(.*)$)/;

/** The name that a line begins a part with, and what follows on the line. */
function labelOf(line: string): { name: string; rest: string } | undefined {
  if (line.length > 2_000) return undefined;
  const before = BEFORE.exec(line);
  const label = before && NAME.exec(line.slice(before[0].length));
  if (!label) return undefined;
  const [, name, , rest] = label;
  // A line of words is a label only where its marks say so.
  const isMarked = before[1] !== undefined || before[2] !== undefined || rest !== undefined;
  return isMarked ? { name: plainName(name!), rest: rest ?? '' } : undefined;
}

function partsOfLines(text: string, isMember: (name: string) => boolean): Map<string, string> {
  const parts = new Map<string, string>();
  let current: { name: string; lines: string[] } | undefined;
  const close = (): void => {
    if (current && !parts.has(current.name)) parts.set(current.name, current.lines.join('\n').trim());
  };
  for (const line of text.split('\n')) {
    const label = labelOf(line);
    if (label && isMember(label.name)) {
      close();
      // `|` and `>` are how YAML opens a text of several lines.
      current = { name: label.name, lines: /^[|>][+-]?$/.test(label.rest) ? [] : [label.rest] };
    } else current?.lines.push(line);
  }
  close();
  return parts;
}

/**
 * The tests in a part of a text: those of its code blocks, else those of its list, else its statements.
 *
 * @example
 * testsIn('1. `assert f(1) == 2`\n2. `assert f(2) == 3`'); // ['assert f(1) == 2', 'assert f(2) == 3']
 */
export function testsIn(part: string): string[] {
  const elements = [...part.matchAll(/<(test|testcase|test_case|case|assert)>([^<]*)<\/\1>/g)].map(([, , inner]) =>
    inner!.trim(),
  );
  if (elements.length > 0) return elements;
  const blocks = [...part.matchAll(/^[ \t]*```[^\n`]*\n([^]*?)^[ \t]*```/gm)].map(([, code]) => code!);
  const lines = (blocks.length > 0 ? blocks.join('\n') : part)
    .split('\n')
    .filter((line) => !/^\s*(?:```.*)?$/.test(line));
  const listed = lines.map((line) => /^\s*(?:[-*+]|\d{1,3}[.)])\s+(.*)$/.exec(line)?.[1]);
  if (lines.length > 0 && listed.every((item) => item !== undefined)) return listed.map((item) => unquoted(item));
  return dedented(lines).split(/\n(?=assert\b)/);
}

/** An item of a list without the marks of code and of texts around it. */
function unquoted(item: string): string {
  const text = item.trim();
  const ticks = /^`*/.exec(text)![0];
  if (ticks !== '' && text.length > 2 * ticks.length && text.endsWith(ticks))
    return text.slice(ticks.length, -ticks.length).trim();
  // A test with words behind it.
  const explained = /^`(assert\b[^`]*)`/.exec(text);
  if (explained) return explained[1]!.trim();
  if (/^".*"$/.test(text)) {
    try {
      return JSON.parse(text) as string;
    } catch {
      return text;
    }
  }
  return /^'(?:[^']|'')*'$/.test(text) ? text.slice(1, -1).replaceAll("''", "'") : text;
}

/** Lines without the blanks with which all of them begin. */
function dedented(lines: readonly string[]): string {
  const blanks = Math.min(...lines.map((line) => /^[ \t]*/.exec(line)![0].length));
  return lines.map((line) => line.slice(blanks)).join('\n');
}
