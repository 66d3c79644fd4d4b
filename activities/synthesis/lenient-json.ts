/**
 * JSON as language models write it: read by `jsonrepair` where a strict parser refuses it, with the kinds of mistakes
 * that were mended. Pure.
 */
import { jsonrepair } from 'jsonrepair';
import { jsonOf } from '../endpoint/json.js';

/** What was wrong with a text, or with the shape of what it holds. Counted in the stage's metrics. */
export type Repair =
  | 'trailingComma'
  | 'singleQuotes'
  | 'comment'
  | 'controlCharacter'
  | 'invalidEscape'
  | 'pythonLiteral'
  | 'unquotedKey'
  | 'truncated'
  | 'otherJson'
  | 'wrapperObject'
  | 'otherKeys'
  | 'testsAsText'
  | 'wrappedTests'
  | 'cutButWhole'
  | 'methodOfSolution'
  | 'tags'
  | 'headings'
  | 'bareComparison'
  | 'callPairs';

interface Scan {
  /** The object, with escapes that a strict parser knows. */
  text: string;
  repairs: Set<Repair>;
  /** Whether the text ends inside of a string. */
  insideString: boolean;
}

/**
 * The object that a text begins with, and what in it is no JSON. It ends where its braces do, so that words behind it
 * do no harm.
 */
function scan(given: string): Scan {
  const repairs = new Set<Repair>();
  let text = '';
  let quote = '';
  let depth = 0;
  for (let at = 0; at < given.length; at += 1) {
    const character = given[at]!;
    const rest = (characters: number): string => given.slice(at + 1, at + 1 + characters);
    if (quote !== '') {
      if (character === '\\') {
        const next = given[at + 1] ?? '';
        at += next === '' ? 0 : 1;
        if (/["\\/bfnrt]/.test(next) || (next === 'u' && /^[0-9a-fA-F]{4}/.test(rest(4))) || next === '') {
          text += character + next;
        } else if (next === quote) {
          text += character + next;
        } else {
          repairs.add('invalidEscape');
          // A quote needs no escape; anything else, such as \d, is a backslash that was meant.
          text += /['`]/.test(next) && quote === '"' ? next : /['`]/.test(next) ? `\\${next}` : `\\\\${next}`;
        }
        continue;
      }
      if (character < ' ') repairs.add('controlCharacter');
      if (character === quote) quote = '';
      text += character;
      continue;
    }
    if (character === '"') quote = character;
    else if (/['‘’“”`]/.test(character)) {
      repairs.add('singleQuotes');
      quote = character === '“' ? '”' : character === '‘' ? '’' : character;
    } else if (character === '/' && /[/*]/.test(given[at + 1] ?? '')) {
      repairs.add('comment');
      const end = given[at + 1] === '*' ? given.indexOf('*/', at) + 2 : given.indexOf('\n', at);
      at = (end <= 1 ? given.length : end) - 1;
      continue;
    } else if (character === '#') {
      repairs.add('comment');
      const end = given.indexOf('\n', at);
      at = (end < 0 ? given.length : end) - 1;
      continue;
    } else if (character === ',' && /^\s*(?:(?:\/\/|#)[^\n]*\n\s*)*[\]}]/.test(rest(400))) repairs.add('trailingComma');
    else if (/[A-Za-z_$]/.test(character)) {
      const word = /^[\w$]+/.exec(given.slice(at, at + 200))![0];
      if (/^(?:True|False|None)$/.test(word)) repairs.add('pythonLiteral');
      else if (/^\s*:/.test(given.slice(at + word.length, at + word.length + 40))) repairs.add('unquotedKey');
      text += word;
      at += word.length - 1;
      continue;
    } else if (character === '{' || character === '[') depth += 1;
    else if (character === '}' || character === ']') {
      depth -= 1;
      if (depth === 0) return { text: text + character, repairs, insideString: false };
    }
    text += character;
  }
  repairs.add('truncated');
  return { text, repairs, insideString: quote !== '' };
}

/** Beginnings of an object that are tried: braces may stand in the words before it. */
const BEGINNINGS = 5;

/**
 * The values that a text may hold, each with what was mended; none where there is no object in it. `cut` where the last
 * string is not complete.
 *
 * @example
 * [...lenientObjects("{'a': 1,}")][0]; // { value: { a: 1 }, repairs: ['singleQuotes', 'trailingComma'], cut: false }
 */
export function* lenientObjects(text: string): Generator<{ value: unknown; repairs: Repair[]; cut: boolean }> {
  let from = -1;
  for (let tried = 0; tried < BEGINNINGS; tried += 1) {
    from = text.indexOf('{', from + 1);
    if (from < 0) return;
    const { text: object, repairs, insideString } = scan(text.slice(from));
    let value: unknown;
    try {
      value = jsonOf(jsonrepair(object));
    } catch {
      continue;
    }
    if (value === undefined) continue;
    const kinds = [...repairs].sort();
    // An object inside of words that a strict parser would have taken needs no repair.
    const clean = kinds.length === 0 && jsonOf(object) !== undefined;
    yield { value, repairs: clean || kinds.length > 0 ? kinds : ['otherJson'], cut: insideString };
  }
}
