/** Python 3: functions, docstrings, and tests that are `assert` statements. */
import type { LanguageDefinition, TestFault } from './language.js';

const DEFINITION = /^(?:async\s+)?def\s+(\w+)/gm;
const TOP_LEVEL = /^(?:(?:async\s+)?def|class)\s+(\w+)/gm;

/** Modules and functions by what they need; a function of the same name under test needs nothing. */
const NEEDS: [TestFault, RegExp][] = [
  [
    'needsFiles',
    new RegExp(
      [
        String.raw`(?<![\w.])(open|input)\s*\(`,
        String.raw`(?<![\w.])(os|shutil|pathlib|tempfile|glob)\s*\.`,
        String.raw`\bimport\s+(os|shutil|pathlib|tempfile|glob)\b`,
        String.raw`(?<![\w.])(Path)\s*\(`,
      ].join('|'),
    ),
  ],
  [
    'needsNetwork',
    new RegExp(
      [
        String.raw`(?<![\w.])(socket|urllib|requests|httpx|aiohttp|ftplib|smtplib)\s*\.`,
        String.raw`\b(?:import|from)\s+(socket|urllib|requests|httpx|aiohttp|ftplib|smtplib|http)\b`,
      ].join('|'),
    ),
  ],
  [
    'needsProcesses',
    new RegExp(
      [
        String.raw`(?<![\w.])(subprocess|multiprocessing|threading)\s*\.`,
        String.raw`\b(?:import|from)\s+(subprocess|multiprocessing|threading)\b`,
      ].join('|'),
    ),
  ],
];

/** The name that an assert calls first, behind functions that only change how values are compared. */
const CALLED = /^assert\s+(?:not\s+)?(?:(?:abs|sorted|list|set|len|round|tuple)\s*\(\s*)*([A-Za-z_]\w*)\s*\(/;

function literalOf(value: unknown): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (Array.isArray(value)) return `[${value.map(literalOf).join(', ')}]`;
  if (typeof value !== 'object') return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([name, member]) => `${JSON.stringify(name)}: ${literalOf(member)}`)
    .join(', ')}}`;
}

/** What the interpreter writes before a line that somebody types. */
const PROMPT = /^[ \t]*(?:>>>|\.\.\.)(?: |$)/;

export const python: LanguageDefinition<'python'> = {
  name: 'python',
  answerRequest: 'Answer with one Python code block that holds the complete function and nothing else.',
  fence: 'python',
  isFence: (label) => /^(?:i?py(?:thon)?[\d.]*|sage)?$/i.test(label),
  functionsOf,
  definitionsOf: (code) => [...code.matchAll(TOP_LEVEL)].map(([, name]) => name!),
  defines: (code, name) =>
    new RegExp(`^(?:(?:async[ \\t]+)?def|class)[ \\t]+${name}\\b|^${name}[ \\t]*(?::[^=\\n]*)?=(?!=)`, 'm').test(code),
  isInsideText: (code) => masked(code).open.length === 3,
  repaired: (code) => {
    const lines = code.split('\n');
    const prompted = /^[ \t]*>>> /.test(lines.find((line) => line.trim() !== '') ?? '');
    return (prompted ? lines.filter((line) => PROMPT.test(line)).map((line) => line.replace(PROMPT, '')) : lines)
      .map((line) => line.replace(/^[ \t\u00a0]+/, (blanks) => blanks.replaceAll('\u00a0', ' ')))
      .join('\n');
  },
  isOpen: (code) => !masked(code).whole,
  isProse: (line) => PROSE.test(line) && !/^[\w\s,:.[\]]+=(?!=)/.test(line),
  beginsCode: (line) => /^(?:(?:async\s+)?def\s+\w+|class\s+\w+|import\s+\w|from\s+[\w.]+\s+import\b|@\w)/.test(line),
  formOf(code) {
    const functions = functionsOf(code);
    if (functions.length > 0) return functions.every((name) => python.isAsync(code, name)) ? 'async' : undefined;
    return python.definitionsOf(code).length > 0 ? 'class' : python.readsInput(code) ? 'script' : undefined;
  },
  readsInput: (code) => /(?<![\w.])input\s*\(|\bstdin\b/.test(masked(code).code),
  isAsync: (code, name) => new RegExp(`^async\\s+def\\s+${name}\\b`, 'm').test(code),
  firstFunctionOf: (code) => /^\s*def\s+(\w+)/m.exec(code)?.[1],
  functionOfHeader: (header) => /\bdef\s+(\w+)/.exec(header)?.[1] ?? /^\s*(\w+)\s*\(/.exec(header)?.[1],
  classOfHeader: (header) => /^\s*class\s+(\w+)/.exec(header)?.[1],
  classUnderTest(tests) {
    const made = tests.map((test) => /(?<![\w.])([A-Z]\w*)\(/.exec(masked(test).code)?.[1]);
    const [name] = mostOften(made);
    if (name === undefined) return undefined;
    const method = new RegExp(`^assert\\s+(?:not\\s+)?(?:\\w+\\(\\s*)*${name}\\(\\)\\.(\\w+)\\(`);
    const methods = tests.map((test) => method.exec(masked(test).code)?.[1]);
    const [called] = mostOften(methods);
    return called !== undefined && methods.every((each) => each === called) ? { name, method: called } : { name };
  },
  withoutHolder: (test, holder) => test.replaceAll(new RegExp(`(?<![\\w.])${holder}\\(\\)\\.(?=\\w+\\()`, 'g'), ''),
  awaited,
  literalOf,
  shownHeader: (header) => header.replace(/:$/, ''),
  withoutDocumentation: (code) => code.replace(/"""[\s\S]*?"""|'''[\s\S]*?'''/g, ''),
  functionUnderTest(tests, functions) {
    const texts = tests.map((test) => masked(test).code);
    const [most] = functions
      .map((name) => ({ name, count: texts.filter((text) => calls(text, name)).length }))
      .sort((a, b) => b.count - a.count);
    if (most && most.count > 0) return most.name;
    return texts.map((text) => CALLED.exec(text)?.[1]).find((name) => name !== undefined);
  },
  faultOf(test, entryPoint) {
    const { code, whole } = masked(test);
    if (!/^assert\b/m.test(code)) return 'noAssert';
    if (!whole) return 'doesNotParse';
    if (!calls(code, entryPoint)) return 'wrongFunction';
    return NEEDS.find(([, pattern]) => {
      const name = pattern
        .exec(code)
        ?.slice(1)
        .find((group) => group !== undefined);
      return name !== undefined && name !== entryPoint;
    })?.[0];
  },
  comparedCall(test) {
    const equals = lastTopLevelEquals(test);
    const left = /^assert\s+(.*)$/s.exec(test.slice(0, Math.max(0, equals)))?.[1]?.trim();
    if (left === undefined || !/\w\s*\(/.test(left)) return undefined;
    const [ours, theirs] = [left, test.slice(equals + 2)].map((side) => masked(side).code);
    if (/[;\n<>]|[=!]=|\b(?:and|or|not|in|is|if|lambda)\b/.test(ours!) || /[;\n]/.test(theirs!.trim()))
      return undefined;
    // The side of the expected value may build one, and calls nothing else.
    const called = [...theirs!.matchAll(/([\w.]+)\s*\(/g)].map(([, name]) => name!);
    return called.every((name) => BUILDS_VALUE.test(name)) ? left : undefined;
  },
  expectedOutput(test) {
    const equals = lastTopLevelEquals(test);
    if (equals >= 0) return test.slice(equals + 2).trim();
    const difference = /^assert abs\(.* - (.+)\) < [^<]+$/s.exec(test);
    return difference?.[1] ?? test;
  },
  // HumanEval's style: a test defines `check(candidate)`, which is then called, or calls `candidate` itself.
  withEntryPoint: (tests, entryPoint) =>
    tests.map((test) => {
      if (typeof test !== 'string') return test;
      if (/^def check\(/m.test(test)) return `${test}\ncheck(${entryPoint})`;
      return test.replace(/\bcandidate\b(?=\s*\()/g, entryPoint);
    }),
  exercise: {
    v1: {
      title: 'Python',
      header: 'def add(a: int, b: int) -> int',
      tests: 'independent assert statements',
      test:
        'Each is one line that begins with assert and stands alone: a call of the function with literal arguments, ' +
        '==, and the literal value that is expected.',
      tolerance: 'assert abs(f(2.0) - 1.41421) < 1e-4',
    },
  },
};

/** A call that builds a value. */
const BUILDS_VALUE =
  /^(?:set|frozenset|list|tuple|dict|int|float|complex|str|bytes|(?:\w+\.)?(?:Counter|Decimal|Fraction))$/;

/** A sentence, a heading, an item of a list or a quotation of a page: nothing of it can begin a statement. */
const PROSE = new RegExp(
  [
    String.raw`^#{2,6} |^\*\*|^[-*+] |^\d+[.)] |^> |^\`[^\`]+\` \w`,
    String.raw`^[A-Z][A-Za-z'’-]*(?:[,:!]|\.$|[,:]? [\`"'(*]?[A-Za-z])`,
    String.raw`^(?:here|this|the|it|note|sure|we|you|where|which)[ ,:!]`,
  ].join('|'),
);

function functionsOf(code: string): string[] {
  return [...code.matchAll(DEFINITION)].map(([, name]) => name!);
}

/** The values that are there, the most frequent first. */
function mostOften(values: readonly (string | undefined)[]): string[] {
  const counts = new Map<string, number>();
  for (const value of values) if (value !== undefined) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a).map(([value]) => value);
}

/** Puts each call of a coroutine function into `asyncio.run`, where nothing of the test waits for it yet. */
function awaited(test: string, name: string): string {
  const { code } = masked(test, true);
  if (/\basyncio\s*\.|\brun\s*\(|\basync\s+def\b/.test(code)) return withAsyncio(test);
  let out = '';
  let done = 0;
  for (const match of code.matchAll(new RegExp(`(?<![\\w.])(?:await\\s+)?${name}\\s*\\(`, 'g'))) {
    if (match.index < done) continue;
    let depth = 1;
    let end = match.index + match[0].length;
    while (end < code.length && depth > 0) {
      if ('([{'.includes(code[end]!)) depth += 1;
      else if (')]}'.includes(code[end]!)) depth -= 1;
      end += 1;
    }
    const call = test.slice(match.index, end).replace(/^await\s+/, '');
    out += `${test.slice(done, match.index)}asyncio.run(${call})`;
    done = end;
  }
  return done === 0 ? test : withAsyncio(out + test.slice(done));
}

function withAsyncio(test: string): string {
  return /^import asyncio\b/m.test(test) ? test : `import asyncio\n${test}`;
}

function calls(code: string, name: string): boolean {
  return new RegExp(`(?<![\\w.])${name}\\s*\\(`).test(code);
}

const CLOSING: Record<string, string> = { '(': ')', '[': ']', '{': '}' };

/**
 * Code with the insides of its strings and comments blanked, and whether all strings and brackets are closed. With
 * `inPlace`, comments leave spaces, so that places in it are places in the text.
 */
function masked(text: string, inPlace = false): { code: string; whole: boolean; open: string } {
  let code = '';
  let quote = '';
  const open: string[] = [];
  let balanced = true;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at]!;
    if (quote) {
      if (character === '\\') {
        at += 1;
        code += '  ';
      } else if (text.startsWith(quote, at)) {
        code += quote;
        at += quote.length - 1;
        quote = '';
      } else if (character === '\n' && quote.length === 1) {
        return { code, whole: false, open: quote };
      } else code += ' ';
    } else if (character === '"' || character === "'") {
      quote = text.startsWith(character.repeat(3), at) ? character.repeat(3) : character;
      code += quote;
      at += quote.length - 1;
    } else if (character === '#') {
      const from = at;
      while (at + 1 < text.length && text[at + 1] !== '\n') at += 1;
      if (inPlace) code += ' '.repeat(at + 1 - from);
    } else {
      if (CLOSING[character]) open.push(CLOSING[character]);
      else if (')]}'.includes(character) && open.pop() !== character) balanced = false;
      code += character;
    }
  }
  return { code, whole: balanced && quote === '' && open.length === 0, open: quote };
}

/** Where the last `==` outside strings and brackets begins; -1 where there is none. */
function lastTopLevelEquals(text: string): number {
  let found = -1;
  let depth = 0;
  let quote = '';
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at]!;
    if (quote) {
      if (character === '\\') at += 1;
      else if (character === quote) quote = '';
    } else if (character === '"' || character === "'") quote = character;
    else if ('([{'.includes(character)) depth += 1;
    else if (')]}'.includes(character)) depth -= 1;
    else if (depth === 0 && text.startsWith('==', at)) {
      found = at;
      at += 1;
    }
  }
  return found;
}
