/**
 * From a reply of a language model to a question with test cases, or to the reason why there is none. Pure: a better
 * parser parses stored replies again, and nothing is paid twice.
 */
import { canonicalJson } from '../../workflows/contract/canonical.js';
import { judgedTest, MAX_TESTS, QuestionTest, type ReplyRow, type SeedRow } from '../../workflows/contract/rows.js';
import { languageOf } from '../languages/index.js';
import type { LanguageDefinition, TestFault } from '../languages/language.js';
import { contentOf, isHtml, isObject, jsonOf, type EnvelopeFailure } from '../endpoint/content.js';
import type { Taught } from './teachers/teacher.js';

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
type TestRejection = TestFault | 'notText' | 'empty' | 'tooLong' | 'duplicate' | 'tooMany';

/** Characters of a test, at most; a longer one is a data file. */
const TEST_CHARACTERS = 10_000;
/** Tests of a question, at most, as a multiple of what was asked for. */
const TESTS_TIMES_ASKED = 3;

/**
 * The question in a reply about a seed. `testCases` is the number of tests that was asked for. With `checked`, tests
 * may be data, and the reply may hold their `checker`: somebody wrote it who knows these forms.
 */
export function parseReply(
  seed: SeedRow,
  reply: ReplyRow | undefined,
  testCases: number,
  { checked = false }: { checked?: boolean } = {},
): Taught {
  const language = languageOf(seed);
  const none = (failure: ReplyFailure, more: Partial<Taught> = {}): Taught => ({
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
  const { question, signature } = answer;
  const checker = checked ? answer.checker : undefined;
  const tests = checked ? answer.tests.map((test) => readTest(test, checker)) : answer.tests;
  const functions = language.functionsOf(seed.code);
  const texts = tests.flatMap((test) => writtenTest(test) ?? []);
  const entryPoint = language.functionOfHeader(signature) ?? language.functionUnderTest(texts, functions);
  if (entryPoint === undefined) return none('noEntryPoint', { question });
  const maximum = Math.min(MAX_TESTS, TESTS_TIMES_ASKED * testCases);
  const { kept, rejected } = sortTests(tests, entryPoint, maximum, language);
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
    question: withSignature(question, language.shownHeader(signature), entryPoint),
    entryPoint,
    testCases: kept.map((test) => ({ test })),
    ...(checker !== undefined && kept.some((test) => typeof test !== 'string') ? { checker } : {}),
    ...rejectedTests,
  };
}

interface Answer {
  question: string;
  signature: string;
  tests: unknown[];
  checker: string | undefined;
}

/** A test of a reply that is data, as a row holds it; anything else as it is. */
function readTest(test: unknown, checker: string | undefined): unknown {
  const read = QuestionTest.safeParse(test);
  return read.success && typeof read.data !== 'string' && judgedTest(read.data, checker) ? new Data(read.data) : test;
}

/** A test that was found to be data. */
class Data {
  constructor(readonly test: Exclude<QuestionTest, string>) {}
}

/** A test as the text that it stands for, in which the language finds faults; undefined where there is none. */
function writtenTest(test: unknown): string | undefined {
  if (typeof test === 'string') return test;
  return test instanceof Data && 'call' in test.test ? `assert ${test.test.call}` : undefined;
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
  const { question, signature, checker, tests = value['test_cases'] } = value;
  if (typeof question !== 'string' || question.trim() === '' || !Array.isArray(tests)) return { failure: 'wrongShape' };
  return {
    question: writable(question).trim(),
    signature: typeof signature === 'string' ? writable(signature).trim() : '',
    tests: tests.map((test: unknown) => (typeof test === 'string' ? writable(test) : test)),
    checker: typeof checker === 'string' ? writable(checker) : undefined,
  };
}

/** A text without what no UTF-8 file or program can hold: halves of surrogate pairs and NUL. */
function writable(text: string): string {
  return text.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|\u0000/g, '\ufffd');
}

/** Tests that can be run, in their order, and the others with the reason. */
function sortTests(
  tests: readonly unknown[],
  entryPoint: string,
  maximum: number,
  language: LanguageDefinition,
): { kept: QuestionTest[]; rejected: { test: string; reason: TestRejection }[] } {
  const kept = new Map<string, QuestionTest>();
  const rejected: { test: string; reason: TestRejection }[] = [];
  for (const test of tests) {
    const text = writtenTest(test)?.trim();
    const used = test instanceof Data ? test.test : text;
    const name = test instanceof Data ? canonicalJson(test.test) : text;
    const reason =
      text === undefined || name === undefined
        ? 'notText'
        : kept.has(name)
          ? 'duplicate'
          : (rejectionOf(text, entryPoint, language) ?? (kept.size >= maximum ? 'tooMany' : undefined));
    if (reason === undefined) kept.set(name!, used!);
    else
      rejected.push({
        test: (typeof test === 'string' ? test : (JSON.stringify(used ?? test) ?? 'null')).slice(0, TEST_CHARACTERS),
        reason,
      });
  }
  return { kept: [...kept.values()], rejected };
}

function rejectionOf(text: string, entryPoint: string, language: LanguageDefinition): TestRejection | undefined {
  if (text === '') return 'empty';
  if (text.length > TEST_CHARACTERS) return 'tooLong';
  return language.faultOf(text, entryPoint);
}

/** The question with its signature where the text does not name the function: a program must know what it is called. */
function withSignature(question: string, signature: string, entryPoint: string): string {
  return new RegExp(`\\b${entryPoint}\\b`).test(question)
    ? question
    : `${question}\n\nThe function: \`${signature || `${entryPoint}(...)`}\``;
}

const REFUSAL =
  /^(?:I['’]m sorry|I am sorry|Sorry|I can['’]?(?:no|')?t|I cannot|I['’]m unable|I am unable|I won['’]t)\b/i;

function isRefusal(text: string): boolean {
  return REFUSAL.test(text);
}
