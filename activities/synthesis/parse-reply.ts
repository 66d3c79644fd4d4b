/**
 * From a reply of a language model to a question with test cases, or to the reason why there is none. Pure: a better
 * parser parses stored replies again, and nothing is paid twice.
 */
import { MAX_TESTS, type QuestionRow, type ReplyRow, type SeedRow } from '../../workflows/contract/index.js';
import { rowId } from '../artifacts/keys.js';
import { contentOf, isHtml, isObject, jsonOf, type EnvelopeFailure } from '../endpoint/content.js';

/** Why a reply gave no question. */
type ReplyFailure =
  | EnvelopeFailure
  | 'noReply'
  | 'cutReply'
  | 'invalidJson'
  | 'wrongShape'
  | 'noEntryPoint'
  | 'otherQuestion'
  | 'noTests';

/** Why a test of a reply cannot be used. Whether it is right, the oracle says. */
type TestRejection =
  | 'notText'
  | 'empty'
  | 'tooLong'
  | 'noAssert'
  | 'doesNotParse'
  | 'wrongFunction'
  | 'needsFiles'
  | 'needsNetwork'
  | 'needsProcesses'
  | 'duplicate'
  | 'tooMany';

/** Characters of a test, at most; a longer one is a data file. */
const TEST_CHARACTERS = 10_000;
/** Tests of a question, at most, as a multiple of what was asked for. */
const TESTS_TIMES_ASKED = 3;

/** The row of one seed. `testCases` is the number of tests that was asked for. */
export function parseReply(seed: SeedRow, reply: ReplyRow | undefined, testCases: number): QuestionRow {
  const base = { id: rowId('q', seed.source, seed.code), seedId: seed.id, source: seed.source, reference: seed.code };
  const none = (failure: ReplyFailure, more: Partial<QuestionRow> = {}): QuestionRow => ({
    ...base,
    question: '',
    entryPoint: '',
    testCases: [],
    failure,
    ...more,
  });
  if (reply === undefined) return none('noReply');
  const content = contentOf(reply);
  if ('failure' in content) return none(content.failure);
  if (content.cut) return none('cutReply');
  const answer = answerOf(content.text);
  if ('failure' in answer) return none(answer.failure);
  const { question, signature, tests } = answer;
  const functions = [...seed.code.matchAll(/^(?:async\s+)?def\s+(\w+)/gm)].map(([, name]) => name!);
  const entryPoint =
    /\bdef\s+(\w+)/.exec(signature)?.[1] ?? /^\s*(\w+)\s*\(/.exec(signature)?.[1] ?? mostCalled(tests, functions);
  if (entryPoint === undefined) return none('noEntryPoint', { question });
  const { kept, rejected } = sortTests(tests, entryPoint, Math.min(MAX_TESTS, TESTS_TIMES_ASKED * testCases));
  const rejectedTests = rejected.length > 0 ? { rejectedTests: rejected } : {};
  // Where the seed has functions, the question has to be about one of them: the seed is a right answer then.
  if (functions.length > 0 && !functions.includes(entryPoint))
    return none('otherQuestion', { question, entryPoint, ...rejectedTests });
  if (kept.length === 0) {
    return none(
      rejected.length > 0 && rejected.every(({ reason }) => reason === 'wrongFunction') ? 'otherQuestion' : 'noTests',
      { question, entryPoint, ...rejectedTests },
    );
  }
  return {
    ...base,
    question: withSignature(question, signature, entryPoint),
    entryPoint,
    testCases: kept.map((test) => ({ test })),
    ...rejectedTests,
  };
}

interface Answer {
  question: string;
  signature: string;
  tests: unknown[];
}

/** The object in what the model wrote: the whole text, a fenced block, or the outermost braces. */
function answerOf(content: string): Answer | { failure: ReplyFailure } {
  const text = content
    .replace(/^\ufeff/, '')
    .replace(/^\s*<think>[\s\S]*?<\/think>/, '')
    .trim();
  if (text === '') return { failure: 'emptyReply' };
  const fenced = text.split('```')[1]?.replace(/^json\b/, '');
  const braces = text.includes('{') ? text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1) : '';
  const value = [text, fenced, braces].map((each) => (each ? jsonOf(each) : undefined)).find(isObject);
  if (value === undefined) return { failure: isHtml(text) ? 'htmlReply' : isRefusal(text) ? 'refused' : 'invalidJson' };
  const { question, signature, tests = value['test_cases'] } = value;
  if (typeof question !== 'string' || question.trim() === '' || !Array.isArray(tests)) return { failure: 'wrongShape' };
  return {
    question: writable(question).trim(),
    signature: typeof signature === 'string' ? writable(signature).trim().replace(/:$/, '') : '',
    tests: tests.map((test: unknown) => (typeof test === 'string' ? writable(test) : test)),
  };
}

/** A text without what no UTF-8 file or Python program can hold: halves of surrogate pairs and NUL. */
function writable(text: string): string {
  return text.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|\u0000/g, '\ufffd');
}

/** The seed's function that the tests call most often, or else the first name that an assert calls. */
function mostCalled(tests: readonly unknown[], functions: readonly string[]): string | undefined {
  const texts = tests.filter((test) => typeof test === 'string').map((test) => masked(test).code);
  const counts = functions
    .map((name) => ({ name, count: texts.filter((text) => calls(text, name)).length }))
    .sort((a, b) => b.count - a.count);
  if (counts[0] && counts[0].count > 0) return counts[0].name;
  return texts
    .map(
      (text) =>
        /^assert\s+(?:not\s+)?(?:(?:abs|sorted|list|set|len|round|tuple)\s*\(\s*)*([A-Za-z_]\w*)\s*\(/.exec(text)?.[1],
    )
    .find((name) => name !== undefined);
}

/** Tests that can be run, in their order, and the others with the reason. */
function sortTests(
  tests: readonly unknown[],
  entryPoint: string,
  maximum: number,
): { kept: string[]; rejected: { test: string; reason: TestRejection }[] } {
  const kept = new Set<string>();
  const rejected: { test: string; reason: TestRejection }[] = [];
  for (const test of tests) {
    const text = typeof test === 'string' ? test.trim() : '';
    const reason =
      typeof test !== 'string'
        ? 'notText'
        : kept.has(text)
          ? 'duplicate'
          : (rejectionOf(text, entryPoint) ?? (kept.size >= maximum ? 'tooMany' : undefined));
    if (reason === undefined) kept.add(text);
    else
      rejected.push({
        test: (typeof test === 'string' ? test : (JSON.stringify(test) ?? 'null')).slice(0, TEST_CHARACTERS),
        reason,
      });
  }
  return { kept: [...kept], rejected };
}

/** Modules and functions by what they need; a function of the same name under test needs nothing. */
const NEEDS: [TestRejection, RegExp][] = [
  [
    'needsFiles',
    /(?<![\w.])(open|input)\s*\(|(?<![\w.])(os|shutil|pathlib|tempfile|glob)\s*\.|\bimport\s+(os|shutil|pathlib|tempfile|glob)\b|(?<![\w.])(Path)\s*\(/,
  ],
  [
    'needsNetwork',
    /(?<![\w.])(socket|urllib|requests|httpx|aiohttp|ftplib|smtplib)\s*\.|\b(?:import|from)\s+(socket|urllib|requests|httpx|aiohttp|ftplib|smtplib|http)\b/,
  ],
  [
    'needsProcesses',
    /(?<![\w.])(subprocess|multiprocessing|threading)\s*\.|\b(?:import|from)\s+(subprocess|multiprocessing|threading)\b/,
  ],
];

function rejectionOf(text: string, entryPoint: string): TestRejection | undefined {
  if (text === '') return 'empty';
  if (text.length > TEST_CHARACTERS) return 'tooLong';
  const { code, whole } = masked(text);
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
}

function calls(code: string, name: string): boolean {
  return new RegExp(`(?<![\\w.])${name}\\s*\\(`).test(code);
}

const CLOSING: Record<string, string> = { '(': ')', '[': ']', '{': '}' };

/**
 * Python code with the insides of its strings and comments blanked, and whether all strings and brackets are closed. No
 * parser: what is left over, the sandbox tells.
 */
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

/** The question with its signature where the text does not name the function: a program must know what it is called. */
function withSignature(question: string, signature: string, entryPoint: string): string {
  return new RegExp(`\\b${entryPoint}\\b`).test(question)
    ? question
    : `${question}\n\nThe function: \`${signature || `${entryPoint}(...)`}\``;
}

function isRefusal(text: string): boolean {
  return /^(?:I['’]m sorry|I am sorry|Sorry|I can['’]?(?:no|')?t|I cannot|I['’]m unable|I am unable|I won['’]t)\b/i.test(
    text,
  );
}
