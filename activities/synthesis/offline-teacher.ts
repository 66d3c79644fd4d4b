/**
 * The offline teacher: turns a seed function into a question with test cases without a language model.
 *
 * It stands in for the rewriting LLM of AceCoder (arXiv 2502.01718, section 2.2) where none is to be had. The question
 * comes from the signature and the docstring, the inputs are generated from the annotated types, the expected values
 * come from running the seed in the sandbox (which the caller does), and a stated share of them is corrupted the way an
 * LLM errs, so that the oracle filter has work to do.
 */
import type { SeedRow, TestCase } from '../../workflows/contract/rows.js';
import {
  bool,
  bytes,
  dict,
  float,
  int,
  list,
  parsePyLiteral,
  pyEqual,
  pyLiteral,
  set,
  str,
  tuple,
  type PyValue,
} from './python-literal.js';
import { Random } from '../statistics/random.js';
import type { Searched, Taught } from './teachers/teacher.js';

/** The type of a parameter or return value, as far as the generator of inputs understands annotations. */
type PyType =
  | { kind: 'int' | 'float' | 'bool' | 'str' }
  | { kind: 'list'; item: PyType }
  | { kind: 'tuple'; items: PyType[] }
  | { kind: 'dict'; value: PyType };

type Domain = NonNullable<SeedRow['domain']>[string];

/** One seed function, read from its code. `domain` limits the inputs of the parameters it names. */
export interface Seed {
  name: string;
  parameters: { name: string; type: PyType; domain: Domain }[];
  returns: PyType;
  /** The docstring on one line. */
  docstring: string;
}

function splitAtTopLevel(text: string): string[] {
  const parts = [''];
  let depth = 0;
  for (const character of text) {
    if (character === '[') depth += 1;
    if (character === ']') depth -= 1;
    if (character === ',' && depth === 0) parts.push('');
    else parts[parts.length - 1] += character;
  }
  return parts.map((part) => part.trim()).filter((part, index) => part !== '' || index < parts.length - 1);
}

function parseType(text: string): PyType {
  if (text === 'int' || text === 'float' || text === 'bool' || text === 'str') return { kind: text };
  const generic = /^(list|tuple|dict)\[(.+)\]$/s.exec(text);
  const [container, items] = generic === null ? [] : [generic[1], splitAtTopLevel(generic[2] as string)];
  if (container === 'list' && items?.length === 1) return { kind: 'list', item: parseType(items[0] as string) };
  if (container === 'tuple' && items !== undefined) return { kind: 'tuple', items: items.map(parseType) };
  if (container === 'dict' && items?.length === 2 && items[0] === 'str') {
    return { kind: 'dict', value: parseType(items[1] as string) };
  }
  throw new Error(`the type "${text}" is not made of int, float, bool, str, list[T], tuple[T, ...] and dict[str, T]`);
}

function typeText(type: PyType): string {
  switch (type.kind) {
    case 'list':
      return `list[${typeText(type.item)}]`;
    case 'tuple':
      return `tuple[${type.items.map(typeText).join(', ')}]`;
    case 'dict':
      return `dict[str, ${typeText(type.value)}]`;
    default:
      return type.kind;
  }
}

/**
 * Reads a seed: one top-level function with annotated parameters, an annotated return value and a docstring.
 *
 * @param code the source of the function and nothing else.
 * @param domain limits of inputs by parameter name, as in the seed's row.
 * @throws Error that names what is missing or not understood.
 */
export function parseSeed(code: string, domain: NonNullable<SeedRow['domain']> = {}): Seed {
  const header = /^def ([A-Za-z_]\w*)\(([^)]*)\)(?:\s*->\s*([^:]+?))?\s*:\s*\n/.exec(code);
  if (header === null) throw new Error('the seed does not start with a function header "def name(...) -> type:"');
  const [matched, name, parameterText, returnText] = [header[0], header[1]!, header[2]!, header[3]];
  if (returnText === undefined) throw new Error(`the function ${name} has no annotated return type`);
  const body = code.slice(matched.length);
  if (/^\S/m.test(body)) throw new Error(`the seed holds more than the function ${name}`);
  const docstring = /^\s*"""(.*?)"""/s.exec(body)?.[1]?.replace(/\s+/g, ' ').trim();
  if (!docstring) throw new Error(`the function ${name} has no docstring`);
  const parameters = splitAtTopLevel(parameterText).map((text) => {
    const parts = /^([A-Za-z_]\w*)\s*:\s*([^=]+)$/s.exec(text);
    if (parts === null) throw new Error(`the parameter "${text}" of ${name} is not of the form "name: type"`);
    const parameter = parts[1] as string;
    return { name: parameter, type: parseType((parts[2] as string).trim()), domain: domain[parameter] ?? {} };
  });
  if (parameters.length === 0) throw new Error(`the function ${name} has no parameters, so its calls cannot differ`);
  for (const limited of Object.keys(domain)) {
    if (!parameters.some((parameter) => parameter.name === limited)) {
      throw new Error(`the domain names "${limited}", which is no parameter of ${name}`);
    }
  }
  return { name, parameters, returns: parseType(returnText), docstring };
}

/** The question in plain words: signature and docstring, without any test case. */
export function writeQuestion(seed: Seed): string {
  const parameters = seed.parameters.map(({ name, type }) => `${name}: ${typeText(type)}`).join(', ');
  const opening = `Write a Python function \`${seed.name}(${parameters}) -> ${typeText(seed.returns)}\``;
  const task = /^Return (.*)$/s.exec(seed.docstring)?.[1];
  return task === undefined ? `${opening} for this task: ${seed.docstring}` : `${opening} that returns ${task}`;
}

/** Names for the keys of dictionaries: few, so that two dictionaries of one call share some. */
const KEYS = ['apple', 'bread', 'cheese', 'milk', 'rice', 'salt'];
const WORDS = [
  ...KEYS,
  'a',
  'of',
  'The',
  'Anna',
  'level',
  'noon',
  'green',
  'River',
  'window',
  'yellow',
  'BIG',
  'data',
  'summer',
  'Queue',
  'x2',
  'mountain',
];
const PHRASES = [
  'hello world',
  'The quick brown fox',
  'one  two   three',
  ' leading space',
  'trailing space ',
  'A1 b2 C3!',
  'it\'s 10:45, "late"',
  'never odd or even',
  'aabbbc',
  '    ',
];
const INT_RANGE = { min: -100, max: 100 };
const LENGTH_RANGE = { minLength: 0, maxLength: 24 };

/** Inputs of one seed, drawn from a stream of choices. Domains hold for a value and for the parts it is made of. */
class InputGenerator {
  constructor(private readonly random: Random) {}

  private intRange(domain: Domain): [number, number] {
    const min = domain.min ?? Math.min(INT_RANGE.min, domain.max ?? 0);
    return [Math.ceil(min), Math.floor(domain.max ?? Math.max(INT_RANGE.max, min))];
  }

  private lengthRange(domain: Domain): [number, number] {
    const min = domain.minLength ?? LENGTH_RANGE.minLength;
    return [min, domain.maxLength ?? Math.max(LENGTH_RANGE.maxLength, min)];
  }

  private text(domain: Domain): string {
    const { random } = this;
    const [minLength, maxLength] = this.lengthRange(domain);
    const alphabet = [...(domain.alphabet ?? 'abcdeuxyzABZ019 .-')];
    const letters = (length: number): string => Array.from({ length }, () => random.pick(alphabet)).join('');
    let text = letters(random.integer(minLength, Math.min(maxLength, minLength + 9)));
    if (domain.alphabet === undefined && random.chance(0.7)) text = random.pick([...WORDS, ...PHRASES]);
    if (random.chance(0.15)) text += [...text].reverse().join('');
    return (text + letters(Math.max(0, minLength - text.length))).slice(0, maxLength);
  }

  private items(type: PyType, domain: Domain): PyValue[] {
    const { random } = this;
    const [minLength, maxLength] = this.lengthRange(domain);
    const itemDomain = { ...domain, minLength: undefined, maxLength: undefined };
    const items: PyValue[] = [];
    const length = random.integer(minLength, Math.min(maxLength, minLength + 7));
    while (items.length < length) {
      items.push(items.length > 0 && random.chance(0.25) ? random.pick(items) : this.value(type, itemDomain));
    }
    if (random.chance(0.2) && items.every((item) => item.kind === 'int')) {
      items.sort((a, b) => (a.value < b.value ? -1 : a.value > b.value ? 1 : 0));
    }
    return items;
  }

  /** A random value of the type within the domain. */
  value(type: PyType, domain: Domain): PyValue {
    const { random } = this;
    switch (type.kind) {
      case 'int': {
        const [min, max] = this.intRange(domain);
        const small = random.chance(0.5) && min <= 10 && max >= -10;
        return int(small ? random.integer(Math.max(min, -10), Math.min(max, 10)) : random.integer(min, max));
      }
      case 'float': {
        const [min, max] = this.intRange(domain);
        return float(random.integer(4 * min, 4 * max) / 4);
      }
      case 'bool':
        return bool(random.chance(0.5));
      case 'str':
        return str(this.text(domain));
      case 'list':
        return list(this.items(type.item, domain));
      case 'tuple':
        return tuple(type.items.map((item) => this.value(item, domain)));
      case 'dict': {
        const [minLength, maxLength] = this.lengthRange(domain);
        const size = random.integer(minLength, Math.max(minLength, Math.min(maxLength, KEYS.length - 1)));
        const keys = random.shuffle(KEYS).slice(0, size);
        const itemDomain = { ...domain, minLength: undefined, maxLength: undefined };
        return dict(keys.map((key) => [str(key), this.value(type.value, itemDomain)]));
      }
    }
  }

  /** The values at which programs go wrong: the ends of the domain, zero, one, empty, single and repeated items. */
  edges(type: PyType, domain: Domain): PyValue[] {
    switch (type.kind) {
      case 'int': {
        const [min, max] = this.intRange(domain);
        const ends = [domain.min, domain.max].filter((end) => end !== undefined);
        return [0, 1, -1, 2, 10, ...ends].filter((n) => n >= min && n <= max).map(int);
      }
      case 'float': {
        const [min, max] = this.intRange(domain);
        return [0, 1, -1, 0.5, min, max].filter((n) => n >= min && n <= max).map(float);
      }
      case 'bool':
        return [bool(true), bool(false)];
      case 'str': {
        const [minLength, maxLength] = this.lengthRange(domain);
        const { alphabet } = domain;
        const texts =
          alphabet === undefined
            ? ['', 'a', 'A', ' ', 'aa', 'Hello, World!']
            : ['', alphabet.slice(0, 1), alphabet.slice(-1), alphabet, [...alphabet].reverse().join('')];
        return texts.filter((text) => text.length >= minLength && text.length <= maxLength).map(str);
      }
      case 'list': {
        const [minLength, maxLength] = this.lengthRange(domain);
        const items = this.edges(type.item, { ...domain, minLength: undefined, maxLength: undefined });
        const [first] = items;
        const lists = first === undefined ? [[]] : [[], [first], [first, first], items, [...items].reverse()];
        return lists.filter((some) => some.length >= minLength && some.length <= maxLength).map(list);
      }
      case 'tuple':
        return [this.value(type, domain)];
      case 'dict':
        return (domain.minLength ?? 0) === 0 ? [dict([])] : [];
    }
  }

  /**
   * Values taken from the arguments before, so that a search finds something and two texts can be anagrams. Only for
   * the scalar types, and only values within the domain.
   */
  related(type: PyType, domain: Domain, before: PyValue[]): PyValue[] {
    const parts = before.flatMap((value): PyValue[] => {
      if (value.kind === 'dict') return value.entries.map(([key]) => key);
      if (value.kind === 'list' || value.kind === 'tuple') return value.items;
      if (value.kind === 'str') {
        const characters = [...value.value];
        return [value, str(this.random.shuffle(characters).join('')), ...characters.map(str)];
      }
      return [value];
    });
    const [min, max] = this.intRange(domain);
    const [minLength, maxLength] = this.lengthRange(domain);
    return parts.filter((part) => {
      if (part.kind === 'int' && type.kind === 'int') return part.value >= min && part.value <= max;
      if (part.kind !== 'str' || type.kind !== 'str') return false;
      const { alphabet } = domain;
      return (
        part.value.length >= minLength &&
        part.value.length <= maxLength &&
        (alphabet === undefined || [...part.value].every((character) => alphabet.includes(character)))
      );
    });
  }
}

/**
 * Call expressions with literal arguments for a seed function, without two equal ones.
 *
 * The edge cases of the first parameter come first, each with a mix of edge cases and random values for the others;
 * random calls fill the rest. Arguments lie within the domains of their parameters.
 *
 * @param options.count how many calls are wanted; fewer come back where the domain holds fewer.
 * @param options.seed of the choices: equal seeds give equal calls.
 */
export function generateCalls(seed: Seed, options: { count: number; seed: number }): string[] {
  const random = new Random(options.seed);
  const generator = new InputGenerator(random);
  const edges = seed.parameters.map(({ type, domain }) => generator.edges(type, domain));
  const calls = new Set<string>();
  for (let attempt = 0; attempt < 50 * options.count && calls.size < options.count; attempt++) {
    const values: PyValue[] = [];
    seed.parameters.forEach(({ type, domain }, index) => {
      const related = generator.related(type, domain, values);
      const firstEdge = index === 0 ? edges[0]?.[attempt] : undefined;
      const pool = random.chance(0.4) ? related : index > 0 && random.chance(0.3) ? (edges[index] ?? []) : [];
      values.push(firstEdge ?? (pool.length > 0 ? random.pick(pool) : generator.value(type, domain)));
    });
    calls.add(`${seed.name}(${values.map(pyLiteral).join(', ')})`);
  }
  return [...calls];
}

/** What an LLM that errs would have written instead of a value: at least one candidate, none equal to the value. */
function wrongValues(value: PyValue): PyValue[] {
  const candidates = (): PyValue[] => {
    switch (value.kind) {
      case 'int':
        return [value.value + 1n, value.value - 1n, -value.value, value.value * 2n].map(int);
      case 'float':
        return [value.value + 1, value.value - 1, -value.value, Math.round(value.value)].map(float);
      case 'bool':
        return [bool(!value.value)];
      case 'none':
        return [int(0), bool(false), str('')];
      case 'bytes':
        return [bytes(`${value.value}0`), ...wrongOrders([...value.value]).map((order) => bytes(order.join('')))];
      case 'set':
        return [set(value.items.slice(1)), set([...value.items, int(1_000_003)])];
      case 'str': {
        const characters = [...value.value];
        const swapped = characters.map((c) => (c === c.toLowerCase() ? c.toUpperCase() : c.toLowerCase()));
        const texts = wrongOrders(characters).map((order) => order.join(''));
        return [...texts, swapped.join('')].map(str).concat(value.value === '' ? [str(' ')] : []);
      }
      case 'list': {
        const wrong = wrongOrders(value.items).concat(wrongItems(value.items)).map(list);
        // The type of the items of an empty list does not show in its literal.
        return value.items.length === 0 ? [list([int(0)])] : wrong;
      }
      case 'tuple': {
        const wrong = [[...value.items].reverse(), ...wrongItems(value.items)].map(tuple);
        return value.items.length === 0 ? [tuple([int(0)])] : wrong;
      }
      case 'dict': {
        const { entries } = value;
        if (entries.length === 0) return [dict([[str('a'), int(1)]])];
        const changed = entries.flatMap(([key, item], index) =>
          wrongValues(item).map((other) => dict(replaced(entries, index, [key, other]))),
        );
        return [dict(entries.slice(0, -1)), ...changed];
      }
    }
  };
  return candidates().filter((candidate) => !sameExpectation(candidate, value));
}

/** An item dropped, the last one doubled, two neighbours exchanged. */
function wrongOrders<T>(items: T[]): T[][] {
  if (items.length === 0) return [];
  const exchanged = items
    .slice(1)
    .map((item, index) => [...items.slice(0, index), item, items[index] as T, ...items.slice(index + 2)]);
  return [items.slice(1), items.slice(0, -1), [...items, items[items.length - 1] as T], ...exchanged];
}

function wrongItems(items: PyValue[]): PyValue[][] {
  return items.flatMap((item, index) => wrongValues(item).map((other) => replaced(items, index, other)));
}

function replaced<T>(items: T[], index: number, item: T): T[] {
  return items.map((old, position) => (position === index ? item : old));
}

/** Whether the assert for one value also holds for the other. */
function sameExpectation(a: PyValue, b: PyValue): boolean {
  if (a.kind === 'float' && b.kind === 'float') return Math.abs(a.value - b.value) < FLOAT_TOLERANCE;
  return pyEqual(a, b);
}

/** Floats are compared by absolute difference, as asserts that an LLM writes for them do. */
const FLOAT_TOLERANCE = 1e-6;

/**
 * One assert for each call, a stated share of them wrong.
 *
 * Exactly `round(corruptedShare * calls.length)` expected values are replaced by a wrong one of the same kind: off by
 * one, another sign, a flipped truth value, an item dropped, doubled or in the wrong place, swapped case. Which ones
 * and how follows from `seed`.
 *
 * @param calls call expressions, as {@link generateCalls} returns them.
 * @param literals the Python literals (`repr`) of their true values, in the same order.
 * @throws Error when the lists differ in length, the share is outside [0, 1] or a text is no literal.
 */
export function writeTestCases(
  calls: string[],
  literals: string[],
  options: { corruptedShare: number; seed: number },
): { test: string; corrupted: boolean }[] {
  if (calls.length !== literals.length) {
    throw new Error(`there are ${calls.length} calls but ${literals.length} expected values`);
  }
  if (!(options.corruptedShare >= 0 && options.corruptedShare <= 1)) {
    throw new Error(`corruptedShare must be between 0 and 1, not ${options.corruptedShare}`);
  }
  const random = new Random(options.seed);
  const corruptedCount = Math.round(options.corruptedShare * calls.length);
  const corruptedIndexes = new Set(random.shuffle(calls.map((_, index) => index)).slice(0, corruptedCount));
  return calls.map((call, index) => {
    const truth = parsePyLiteral(literals[index] as string);
    const corrupted = corruptedIndexes.has(index);
    const expected = corrupted ? random.pick(wrongValues(truth)) : truth;
    const test =
      expected.kind === 'float'
        ? `assert abs(${call} - ${pyLiteral(expected)}) < ${FLOAT_TOLERANCE.toExponential()}`
        : `assert ${call} == ${pyLiteral(expected)}`;
    return { test, corrupted };
  });
}

/** Characters of the documentation that a question holds. */
const DOCUMENTATION = 2_000;
/** Characters of a documentation that may say enough without examples. */
const LEAST_DOCUMENTATION = 40;
/** Examples that a question without such a documentation shows. */
const SHOWN_EXAMPLES = 5;
const MOST_SHOWN = 200;

/**
 * The question and tests of a seed that was searched.
 *
 * The question is what the seed's own text says: headers and documentation. Where it says little, examples of its tests
 * are the specification. Tests that a docstring promises are never corrupted, because they are its author's word.
 *
 * @example
 * writeSearched(found, { corruptedShare: 0.15, seed: 1 }).testCases.length;
 */
export function writeSearched(found: Searched, options: { corruptedShare: number; seed: number }): Taught {
  const { entryPoint, header, documentation, isClass, tests, reason, detail } = found;
  if (reason !== undefined) {
    const failureDetail = detail === undefined || detail === '' ? {} : { failureDetail: detail };
    return { question: '', entryPoint, testCases: [], failure: reason, ...failureDetail };
  }
  const promised = tests.filter(({ origin }) => origin === 'docstring');
  const others = tests.filter(({ origin }) => origin !== 'docstring');
  const write = (some: typeof tests, corruptedShare: number): TestCase[] =>
    writeTestCases(
      some.map(({ call }) => call),
      some.map(({ literal }) => literal),
      { ...options, corruptedShare },
    ).map(({ test, corrupted }, at) => ({ test, corrupted, origin: some[at]!.origin }));
  const opening = isClass
    ? `Write a Python class with these methods:\n\n${header}`
    : `Write a Python function \`${header.replace(/^def /, '')}\``;
  const text = documentation.slice(0, DOCUMENTATION).trim();
  const short = tests.filter(({ call, literal }) => call.length + literal.length <= MOST_SHOWN);
  const examples = text.length >= LEAST_DOCUMENTATION ? [] : short.slice(0, SHOWN_EXAMPLES);
  return {
    question: [
      text === '' ? `${opening}.` : `${opening}${isClass ? '\n\n' : ' for this task: '}${text}`,
      ...(examples.length === 0
        ? []
        : [
            'It must do what these examples show:\n\n' +
              examples.map(({ call, literal }) => `>>> ${call}\n${literal}`).join('\n'),
          ]),
    ].join('\n\n'),
    entryPoint,
    testCases: [...write(promised, 0), ...write(others, options.corruptedShare)],
  };
}
