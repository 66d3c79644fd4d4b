/** Python 3: functions, docstrings, and tests that are `assert` statements. */
import type { LanguageDefinition, TestFault } from './language.js';

const DEFINITION = /^(?:async\s+)?def\s+(\w+)/gm;

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

export const python: LanguageDefinition<'python'> = {
  name: 'python',
  answerRequest: 'Answer with one Python code block that holds the complete function and nothing else.',
  fence: 'python',
  isFence: (label) => /^(py(thon)?3?)?$/i.test(label),
  functionsOf,
  firstFunctionOf: (code) => /^\s*def\s+(\w+)/m.exec(code)?.[1],
  functionOfHeader: (header) => /\bdef\s+(\w+)/.exec(header)?.[1] ?? /^\s*(\w+)\s*\(/.exec(header)?.[1],
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

function functionsOf(code: string): string[] {
  return [...code.matchAll(DEFINITION)].map(([, name]) => name!);
}

function calls(code: string, name: string): boolean {
  return new RegExp(`(?<![\\w.])${name}\\s*\\(`).test(code);
}

const CLOSING: Record<string, string> = { '(': ')', '[': ']', '{': '}' };

/** Code with the insides of its strings and comments blanked, and whether all strings and brackets are closed. */
function masked(text: string): { code: string; whole: boolean } {
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
        return { code, whole: false };
      } else code += ' ';
    } else if (character === '"' || character === "'") {
      quote = text.startsWith(character.repeat(3), at) ? character.repeat(3) : character;
      code += quote;
      at += quote.length - 1;
    } else if (character === '#') {
      while (at + 1 < text.length && text[at + 1] !== '\n') at += 1;
    } else {
      if (CLOSING[character]) open.push(CLOSING[character]);
      else if (')]}'.includes(character) && open.pop() !== character) balanced = false;
      code += character;
    }
  }
  return { code, whole: balanced && quote === '' && open.length === 0 };
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
