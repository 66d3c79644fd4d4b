import { readFileSync } from 'node:fs';
import { describe, expect, it, test } from 'vitest';
import { SeedRow } from '../../workflows/contract/rows.js';
import { generateCalls, parseSeed, writeQuestion, writeSearched, writeTestCases } from './offline-teacher.js';
import {
  bytes,
  float,
  int,
  list,
  none,
  parsePyLiteral,
  pyEqual,
  pyLiteral,
  set,
  str,
  tuple,
  type PyValue,
} from './python-literal.js';
import type { Searched } from './teachers/teacher.js';

const SEEDS = readFileSync(new URL('../../infra/seeds/simple.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .map((line) => SeedRow.parse(JSON.parse(line)));

const CLAMP = `def clamp(
    n: int, limits: tuple[int, int],
    labels: dict[str, list[int]] ) -> list[str]:
    """Return n limited
    to the limits."""
    return []
`;

describe('parseSeed', () => {
  it('reads name, typed parameters, return type and a docstring over several lines', () => {
    expect(parseSeed(CLAMP, { n: { min: 0 } })).toEqual({
      name: 'clamp',
      parameters: [
        { name: 'n', type: { kind: 'int' }, domain: { min: 0 } },
        { name: 'limits', type: { kind: 'tuple', items: [{ kind: 'int' }, { kind: 'int' }] }, domain: {} },
        { name: 'labels', type: { kind: 'dict', value: { kind: 'list', item: { kind: 'int' } } }, domain: {} },
      ],
      returns: { kind: 'list', item: { kind: 'str' } },
      docstring: 'Return n limited to the limits.',
    });
  });

  test.each([
    ['x = 1\n', 'does not start with a function header'],
    ['def f(n: int):\n    """Doc."""\n    return n\n', 'no annotated return type'],
    ['def f(n: int) -> int:\n    return n\n', 'no docstring'],
    ['def f() -> int:\n    """Doc."""\n    return 1\n', 'no parameters'],
    ['def f(n) -> int:\n    """Doc."""\n    return n\n', 'the parameter "n" of f is not of the form "name: type"'],
    ['def f(n: int = 3) -> int:\n    """Doc."""\n    return n\n', 'the parameter "n: int = 3"'],
    ['def f(n: set[int]) -> int:\n    """Doc."""\n    return 1\n', 'the type "set[int]"'],
    ['def f(n: dict[int, int]) -> int:\n    """Doc."""\n    return 1\n', 'the type "dict[int, int]"'],
    ['def f(n: int) -> int:\n    """Doc."""\n    return n\nprint(f(1))\n', 'more than the function f'],
  ])('names what is wrong with %j', (code, message) => {
    expect(() => parseSeed(code)).toThrow(message);
  });

  it('refuses a domain for a parameter that does not exist', () => {
    expect(() => parseSeed(CLAMP, { m: { min: 0 } })).toThrow('"m", which is no parameter of clamp');
  });
});

describe('the seeds of the project', () => {
  it('are many, distinct and of three difficulties', () => {
    expect(SEEDS.length).toBeGreaterThanOrEqual(96);
    expect(new Set(SEEDS.map((seed) => seed.id)).size).toBe(SEEDS.length);
    expect(new Set(SEEDS.map((seed) => seed.difficulty))).toEqual(new Set([1, 2, 3]));
  });

  test.each(SEEDS.map((row) => [row.id, row] as const))('%s parses and gives calls within its domain', (id, row) => {
    const seed = parseSeed(row.code, row.domain);
    expect(`simple/${seed.name}`).toBe(id);
    const calls = generateCalls(seed, { count: 20, seed: 7 });
    expect(calls.length).toBeGreaterThanOrEqual(12);
    expect(new Set(calls).size).toBe(calls.length);
    for (const call of calls) {
      const values = parsePyLiteral(`(${call.slice(seed.name.length + 1, -1)},)`) as { items: PyValue[] };
      expect(values.items.map((value) => value.kind)).toEqual(seed.parameters.map(({ type }) => type.kind));
      seed.parameters.forEach(({ domain }, index) => expectWithin(values.items[index] as PyValue, domain));
    }
  });
});

/** Checks the limits on the value itself and those that hold for its items. */
function expectWithin(
  value: PyValue,
  { minLength = 0, maxLength = Infinity, ...items }: NonNullable<SeedRow['domain']>[string],
): void {
  const { min = -Infinity, max = Infinity, alphabet } = items;
  if (value.kind === 'int' || value.kind === 'float') {
    expect(Number(value.value)).toBeGreaterThanOrEqual(min);
    expect(Number(value.value)).toBeLessThanOrEqual(max);
  } else if (value.kind === 'str') {
    expect(value.value.length).toBeGreaterThanOrEqual(minLength);
    expect(value.value.length).toBeLessThanOrEqual(maxLength);
    if (alphabet !== undefined)
      expect([...value.value].filter((character) => !alphabet.includes(character))).toEqual([]);
  } else if (value.kind === 'list') {
    expect(value.items.length).toBeGreaterThanOrEqual(minLength);
    expect(value.items.length).toBeLessThanOrEqual(maxLength);
    value.items.forEach((item) => expectWithin(item, items));
  }
}

describe('writeQuestion', () => {
  it('holds the signature and the docstring', () => {
    expect(writeQuestion(parseSeed(CLAMP))).toBe(
      'Write a Python function `clamp(n: int, limits: tuple[int, int], labels: dict[str, list[int]]) -> list[str]` ' +
        'that returns n limited to the limits.',
    );
    const other = parseSeed('def f(n: int) -> int:\n    """Add one to n and return it."""\n    return n + 1\n');
    expect(writeQuestion(other)).toBe(
      'Write a Python function `f(n: int) -> int` for this task: Add one to n and return it.',
    );
  });
});

describe('generateCalls', () => {
  const seed = parseSeed('def f(n: int, names: list[str]) -> int:\n    """Return n."""\n    return n\n');

  it('gives the same calls for the same seed and others for another', () => {
    expect(generateCalls(seed, { count: 20, seed: 1 })).toEqual(generateCalls(seed, { count: 20, seed: 1 }));
    expect(generateCalls(seed, { count: 20, seed: 1 })).not.toEqual(generateCalls(seed, { count: 20, seed: 2 }));
  });

  it('begins with the edge cases of the first parameter', () => {
    const single = parseSeed('def f(n: int) -> int:\n    """Return n."""\n    return n\n', { n: { min: -1, max: 7 } });
    expect(generateCalls(single, { count: 9, seed: 3 }).slice(0, 5)).toEqual(['f(0)', 'f(1)', 'f(-1)', 'f(2)', 'f(7)']);
    expect(generateCalls(single, { count: 9, seed: 3 }).sort()).toEqual(
      [-1, 0, 1, 2, 3, 4, 5, 6, 7].map((n) => `f(${n})`).sort(),
    );
  });

  it('gives fewer calls where the domain holds fewer', () => {
    const flag = parseSeed('def f(flag: bool) -> bool:\n    """Return flag."""\n    return flag\n');
    expect(generateCalls(flag, { count: 20, seed: 1 })).toEqual(['f(True)', 'f(False)']);
  });

  it('takes some arguments from the ones before, so that a search finds something', () => {
    const search = parseSeed(
      'def f(numbers: list[int], target: int) -> bool:\n    """Return True."""\n    return True\n',
    );
    const found = generateCalls(search, { count: 40, seed: 1 }).filter((call) => {
      const [, numbers, target] = /^f\(\[(.*)\], (-?\d+)\)$/.exec(call) as unknown as [string, string, string];
      return numbers.split(', ').includes(target);
    });
    expect(found.length).toBeGreaterThan(5);
    expect(found.length).toBeLessThan(35);
  });
});

describe('writeTestCases', () => {
  const truths: PyValue[] = [
    int(0),
    int(-7),
    int(10n ** 30n),
    float(0),
    float(-2.5),
    float(1 / 3),
    str(''),
    str('a'),
    str('Hello'),
    str('11'),
    list([]),
    list([int(1)]),
    list([int(2), int(2)]),
    list([str('b'), str('a')]),
    tuple([int(1), int(1)]),
    tuple([int(1), int(2)]),
    { kind: 'bool', value: true },
    { kind: 'bool', value: false },
    none,
    bytes(''),
    bytes('ab'),
    set([]),
    set([int(1), int(2)]),
    { kind: 'dict', entries: [] },
    {
      kind: 'dict',
      entries: [
        [str('a'), int(1)],
        [str('b'), int(0)],
      ],
    },
  ];
  const literals = truths.map(pyLiteral);
  const calls = truths.map((_, index) => `f(${index})`);

  function expected(testText: string): { call: string; value: PyValue } {
    const match = /^assert abs\((.*?) - (.*)\) < 1e-6$/.exec(testText) ?? /^assert (.*?) == (.*)$/.exec(testText);
    const [, call, literal] = match as unknown as [string, string, string];
    return { call, value: parsePyLiteral(literal) };
  }

  test.each([0, 0.1, 0.25, 0.33, 1])('corrupts exactly the share %d', (corruptedShare) => {
    for (let seed = 0; seed < 20; seed++) {
      const cases = writeTestCases(calls, literals, { corruptedShare, seed });
      expect(cases.filter(({ corrupted }) => corrupted).length).toBe(Math.round(corruptedShare * calls.length));
      cases.forEach(({ test: text, corrupted }, index) => {
        const { call, value } = expected(text);
        const truth = truths[index] as PyValue;
        expect(call).toBe(calls[index]);
        if (truth.kind !== 'none') expect(value.kind).toBe(truth.kind);
        expect(pyEqual(value, truth)).toBe(!corrupted);
        if (corrupted && value.kind === 'float' && truth.kind === 'float') {
          expect(Math.abs(value.value - truth.value)).toBeGreaterThan(1e-6);
        }
      });
    }
  });

  it('depends on the seed only', () => {
    const write = (seed: number) => writeTestCases(calls, literals, { corruptedShare: 0.3, seed });
    expect(write(5)).toEqual(write(5));
    expect(write(5)).not.toEqual(write(6));
  });

  it('refuses what it cannot use', () => {
    const options = { corruptedShare: 0.5, seed: 0 };
    expect(() => writeTestCases(['f(1)'], [], options)).toThrow('1 calls but 0 expected values');
    expect(() => writeTestCases(['f(1)'], ['<object at 0x7f>'], options)).toThrow('not a Python literal');
    expect(() => writeTestCases(['f(1)'], ['1'], { corruptedShare: 1.5, seed: 0 })).toThrow('between 0 and 1');
  });
});

describe('writeSearched', () => {
  const found: Searched = {
    entryPoint: 'words',
    header: 'def words(text, sep=None)',
    documentation: 'The words of a text, in their order, split at the separator.',
    isClass: false,
    tests: [
      { call: "list(words('a b'))", literal: "['a', 'b']", origin: 'docstring' },
      { call: "list(words(''))", literal: '[]', origin: 'tree' },
      ...Array.from({ length: 8 }, (_, at) => ({
        call: `list(words('${'x '.repeat(at)}y'))`,
        literal: `[${"'x', ".repeat(at)}'y']`,
        origin: 'trial' as const,
      })),
    ],
    reached: 3,
    lines: 3,
    wrongClaims: 0,
  };
  const options = { corruptedShare: 0.5, seed: 1 };

  it('asks with header and documentation, and never corrupts what a docstring promises', () => {
    const { question, entryPoint, testCases } = writeSearched(found, options);
    expect(entryPoint).toBe('words');
    expect(question).toBe(
      'Write a Python function `words(text, sep=None)` for this task: ' +
        'The words of a text, in their order, split at the separator.',
    );
    expect(testCases).toHaveLength(10);
    expect(testCases[0]).toEqual({
      test: "assert list(words('a b')) == ['a', 'b']",
      corrupted: false,
      origin: 'docstring',
    });
    expect(testCases.filter(({ corrupted }) => corrupted)).toHaveLength(5);
    expect(writeSearched(found, options)).toEqual(writeSearched(found, options));
  });

  it('shows examples where the documentation says little', () => {
    const { question } = writeSearched({ ...found, documentation: 'Words.' }, options);
    expect(question).toContain("It must do what these examples show:\n\n>>> list(words('a b'))\n['a', 'b']\n>>> ");
    const shown = writeSearched({ ...found, documentation: '', isClass: true, header: 'class A:' }, options).question;
    expect(shown).toMatch(/^Write a Python class with these methods:\n\nclass A:\.\n\nIt must do/);
  });

  it('is a reason with its detail where there is no question', () => {
    const none = { ...found, tests: [], reason: 'noLiteral' as const, detail: 'a value of type A' };
    expect(writeSearched(none, options)).toEqual({
      question: '',
      entryPoint: 'words',
      testCases: [],
      failure: 'noLiteral',
      failureDetail: 'a value of type A',
    });
  });
});

describe('Python literals', () => {
  const written = [
    [str(`it's`), `"it's"`],
    [str(`it's "so"`), `'it\\'s "so"'`],
    [str('a\\b\n\t\u0000\u00e9\u20ac\u{1f600}'), `'a\\\\b\\n\\t\\x00\\xe9\\u20ac\\U0001f600'`],
    [float(2), '2.0'],
    [float(-0), '-0.0'],
    [float(1e21), '1e+21'],
    [tuple([int(1)]), '(1,)'],
    [none, 'None'],
    [bytes('a\u0000\u00ff'), "b'a\\x00\\xff'"],
    [set([]), 'set()'],
    [set([int(1), str('a')]), "{1, 'a'}"],
    [list([tuple([]), list([])]), '[(), []]'],
    [{ kind: 'dict', entries: [[str('k'), { kind: 'bool', value: true }]] }, `{'k': True}`],
  ] satisfies [PyValue, string][];

  test.each(written.map(([value, text]) => [text, value] as const))('%s is written and read again', (text, value) => {
    expect(pyLiteral(value)).toBe(text);
    expect(parsePyLiteral(text)).toEqual(value);
  });

  test.each(['', 'nan', '[1 2]', '[1,,2]', '{1: 2, 3}', "'open", '1 2', 'f(1)', '1.2.3', '0x10', '1+2j'])(
    'refuses %j',
    (text) => {
      expect(() => parsePyLiteral(text)).toThrow('not a Python literal');
    },
  );

  it('has no text for an infinite float', () => {
    expect(() => pyLiteral(float(Infinity))).toThrow(RangeError);
  });

  it('compares dictionaries without their order', () => {
    expect(pyEqual(parsePyLiteral("{'a': 1, 'b': 2}"), parsePyLiteral("{'b': 2, 'a': 1}"))).toBe(true);
    expect(pyEqual(parsePyLiteral("{'a': 1, 'b': 2}"), parsePyLiteral("{'b': 1, 'a': 2}"))).toBe(false);
    expect(pyEqual(parsePyLiteral('[1]'), parsePyLiteral('(1,)'))).toBe(false);
  });
});
