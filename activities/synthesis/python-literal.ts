/** Python values that a literal can write, and their text: what test cases are made of. */

/** A Python value. `int` is a bigint because Python's has no limit; a dictionary keeps its order. */
export type PyValue =
  | { kind: 'int'; value: bigint }
  | { kind: 'float'; value: number }
  | { kind: 'bool'; value: boolean }
  | { kind: 'none' }
  | { kind: 'str'; value: string }
  /** One character per byte. */
  | { kind: 'bytes'; value: string }
  | { kind: 'list' | 'tuple' | 'set'; items: PyValue[] }
  | { kind: 'dict'; entries: [PyValue, PyValue][] };

export const int = (value: number | bigint): PyValue => ({ kind: 'int', value: BigInt(value) });
export const float = (value: number): PyValue => ({ kind: 'float', value });
export const bool = (value: boolean): PyValue => ({ kind: 'bool', value });
export const none: PyValue = { kind: 'none' };
export const str = (value: string): PyValue => ({ kind: 'str', value });
export const bytes = (value: string): PyValue => ({ kind: 'bytes', value });
export const list = (items: PyValue[]): PyValue => ({ kind: 'list', items });
export const tuple = (items: PyValue[]): PyValue => ({ kind: 'tuple', items });
export const set = (items: PyValue[]): PyValue => ({ kind: 'set', items });
export const dict = (entries: [PyValue, PyValue][]): PyValue => ({ kind: 'dict', entries });

const ESCAPES: Record<string, string> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
const UNESCAPES: Record<string, string> = { n: '\n', r: '\r', t: '\t', '\\': '\\', "'": "'", '"': '"' };

function strLiteral(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let body = '';
  for (const character of text) {
    const code = character.codePointAt(0) as number;
    if (character in ESCAPES) body += ESCAPES[character];
    else if (character === quote) body += `\\${quote}`;
    else if (code >= 0x20 && code < 0x7f) body += character;
    else if (code <= 0xff) body += `\\x${code.toString(16).padStart(2, '0')}`;
    else if (code <= 0xffff) body += `\\u${code.toString(16).padStart(4, '0')}`;
    else body += `\\U${code.toString(16).padStart(8, '0')}`;
  }
  return quote + body + quote;
}

/**
 * The Python literal of a value, in ASCII, in the form that Python's `repr` has for ASCII values.
 *
 * @throws RangeError for a float that has no literal (infinity, NaN).
 */
export function pyLiteral(value: PyValue): string {
  switch (value.kind) {
    case 'int':
      return String(value.value);
    case 'float': {
      if (!Number.isFinite(value.value)) throw new RangeError(`Python has no literal for the float ${value.value}`);
      if (Object.is(value.value, -0)) return '-0.0';
      const text = String(value.value);
      return /[.e]/.test(text) ? text : `${text}.0`;
    }
    case 'bool':
      return value.value ? 'True' : 'False';
    case 'none':
      return 'None';
    case 'str':
      return strLiteral(value.value);
    case 'bytes':
      return `b${strLiteral(value.value)}`;
    case 'set':
      return value.items.length === 0 ? 'set()' : `{${value.items.map(pyLiteral).join(', ')}}`;
    case 'list':
      return `[${value.items.map(pyLiteral).join(', ')}]`;
    case 'tuple':
      return `(${value.items.map(pyLiteral).join(', ')}${value.items.length === 1 ? ',' : ''})`;
    case 'dict':
      return `{${value.entries.map(([key, item]) => `${pyLiteral(key)}: ${pyLiteral(item)}`).join(', ')}}`;
  }
}

/**
 * The value of a Python literal as `repr` writes it.
 *
 * @throws Error that quotes the text when it is no literal of the kinds above (`nan`, an object, a complex number).
 */
export function parsePyLiteral(text: string): PyValue {
  let rest = text.trim();
  const fail = (): never => {
    throw new Error(
      `not a Python literal of int, float, bool, None, str, bytes, list, tuple, set or dict: ${text.slice(0, 200)}`,
    );
  };
  /** Consumes the match of an anchored pattern and the spaces after it. */
  const take = (pattern: RegExp): string | undefined => {
    const match = pattern.exec(rest);
    if (match === null) return undefined;
    rest = rest.slice(match[0].length).trimStart();
    return match[0];
  };
  const expect = (pattern: RegExp): string => take(pattern) ?? fail();
  const sequence = <T>(end: RegExp, item: () => T): { items: T[]; comma: boolean } => {
    const items: T[] = [];
    let comma = false;
    while (take(end) === undefined) {
      if (items.length > 0 && !comma) fail();
      items.push(item());
      comma = take(/^,/) !== undefined;
    }
    return { items, comma };
  };
  const unescape = (quoted: string): string =>
    quoted
      .slice(1, -1)
      .replace(/\\(?:x(.{2})|u(.{4})|U(.{8})|([^]))/g, (_, x?: string, u?: string, U?: string, single: string = '') => {
        const code = x ?? u ?? U;
        if (code === undefined) return UNESCAPES[single] ?? fail();
        return /^[\da-f]+$/i.test(code) ? String.fromCodePoint(parseInt(code, 16)) : fail();
      });
  const value = (): PyValue => {
    if (take(/^\[/)) return list(sequence(/^\]/, value).items);
    if (take(/^\(/)) {
      const { items, comma } = sequence(/^\)/, value);
      return items.length === 1 && !comma ? (items[0] as PyValue) : tuple(items);
    }
    if (take(/^set\(\)/)) return set([]);
    if (take(/^\{/)) {
      const { items } = sequence(/^\}/, (): [PyValue, PyValue?] => {
        const key = value();
        return take(/^:/) === undefined ? [key] : [key, value()];
      });
      const entries = items.filter((item): item is [PyValue, PyValue] => item.length === 2);
      if (entries.length === items.length) return dict(entries);
      return entries.length === 0 ? set(items.map(([item]) => item)) : fail();
    }
    if (take(/^None\b/)) return none;
    const word = take(/^(?:True|False)\b/);
    if (word !== undefined) return bool(word === 'True');
    const quoted = take(/^b?(?:'(?:[^'\\\n]|\\[^])*'|"(?:[^"\\\n]|\\[^])*")/);
    if (quoted !== undefined) return quoted.startsWith('b') ? bytes(unescape(quoted.slice(1))) : str(unescape(quoted));
    const number = expect(/^-?\d+(?:\.\d*)?(?:e[+-]?\d+)?(?![\w.])/i);
    return /^-?\d+$/.test(number) ? int(BigInt(number)) : float(Number(number));
  };
  const parsed = value();
  return rest === '' ? parsed : fail();
}

/**
 * Whether a text is a literal that can be written again. A value that a program gives may be none, such as a complex
 * number or infinity.
 *
 * @example
 * isPyLiteral('[1, None]'); // true
 */
export function isPyLiteral(text: string): boolean {
  try {
    pyLiteral(parsePyLiteral(text));
    return true;
  } catch {
    return false;
  }
}

/** Whether two values are equal in the sense of Python's `==`, between values of the same kind. */
export function pyEqual(a: PyValue, b: PyValue): boolean {
  if (a.kind === 'dict' && b.kind === 'dict') {
    return (
      a.entries.length === b.entries.length &&
      a.entries.every(([key, item]) =>
        b.entries.some(([otherKey, otherItem]) => pyEqual(key, otherKey) && pyEqual(item, otherItem)),
      )
    );
  }
  if (a.kind === 'none') return b.kind === 'none';
  if (a.kind === 'set' && b.kind === 'set') {
    return a.items.length === b.items.length && a.items.every((item) => b.items.some((other) => pyEqual(item, other)));
  }
  if ('items' in a && 'items' in b) {
    return (
      a.kind === b.kind &&
      a.items.length === b.items.length &&
      a.items.every((item, index) => pyEqual(item, b.items[index] as PyValue))
    );
  }
  return a.kind === b.kind && 'value' in a && 'value' in b && a.value === b.value;
}
