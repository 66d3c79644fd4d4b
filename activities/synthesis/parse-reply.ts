/**
 * From a reply of a language model to a question with test cases, or to the reason why there is none. Pure: a better
 * parser parses stored replies again, and nothing is paid twice.
 */
import { canonicalJson } from '../../workflows/contract/canonical.js';
import {
  judgedTest,
  MAX_TESTS,
  QuestionTest,
  type QuestionForm,
  type ReplyRow,
  type SeedRow,
} from '../../workflows/contract/rows.js';
import { languageOf } from '../languages/index.js';
import type { LanguageDefinition, TestFault } from '../languages/language.js';
import { contentOf, type EnvelopeFailure } from '../endpoint/content.js';
import { isHtml, isObject, jsonOf } from '../endpoint/json.js';
import { withoutThoughts } from '../endpoint/thoughts.js';
import { labelledParts, plainName, testsIn } from './labelled-text.js';
import { lenientObjects, type Repair } from './lenient-json.js';
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
  // A body that was cut off here is not whole, whatever it looks like.
  if (content.cut && 'cut' in reply) return none('cutReply');
  const answer = answerOf(content.text);
  // Where headings name the parts, nothing says where the last one ends.
  const open = (['truncated', 'headings'] as const).some(
    (each) => !('failure' in answer) && answer.repairs.includes(each),
  );
  if (content.cut && ('failure' in answer || open)) return none('cutReply');
  if ('failure' in answer) return none(answer.failure);
  const { question, signature } = answer;
  const checker = checked ? answer.checker : undefined;
  const written = checked
    ? answer.tests.map((test) => readTest(test, checker))
    : answer.tests.map((test) => pairedTest(test, language));
  const given = written.map((test) => assertion(test, language));
  const asked = formOf(
    language,
    seed.code,
    signature,
    given.flatMap((test) => writtenTest(test) ?? []),
  );
  const { entryPoint, form } = asked;
  const repairs = [...(content.cut ? (['cutButWhole'] as const) : []), ...answer.repairs];
  if (form !== 'script' && written.some((test, at) => !checked && test !== answer.tests[at])) repairs.push('callPairs');
  if (form !== 'script' && given.some((test, at) => test !== written[at])) repairs.push('bareComparison');
  const told = repairs.length > 0 ? { repairs } : {};
  if (entryPoint === undefined) return none('noEntryPoint', { question, ...told });
  const tests =
    form === 'script'
      ? answer.tests.map((test) => streamTest(checked ? readTest(test, checker) : test))
      : given.map((test) => (typeof test === 'string' ? asked.rewrite(test) : test));
  if (tests.some((test, at) => test !== given[at] && form === undefined)) repairs.push('methodOfSolution');
  const maximum = Math.min(MAX_TESTS, TESTS_TIMES_ASKED * testCases);
  const { kept, rejected } = sortTests(tests, entryPoint, maximum, language);
  const rejectedTests = rejected.length > 0 ? { rejectedTests: rejected } : {};
  const definitions = language.definitionsOf(seed.code);
  // Where the seed defines something, the question has to be about one of them: the seed is a right answer then.
  if (form !== 'script' && definitions.length > 0 && !definitions.includes(entryPoint))
    return none('otherQuestion', { question, entryPoint, ...rejectedTests, ...told });
  if (kept.length === 0) {
    return none(
      rejected.length > 0 && rejected.every(({ reason }) => reason === 'wrongFunction') ? 'otherQuestion' : 'noTests',
      { question, entryPoint, ...rejectedTests, ...told },
    );
  }
  return {
    question: form === 'script' ? question : withSignature(question, language.shownHeader(signature), entryPoint, form),
    entryPoint,
    ...(form === undefined ? {} : { form }),
    testCases: kept.map((test) => ({ test })),
    ...(checker !== undefined && kept.some((test) => typeof test !== 'string') ? { checker } : {}),
    ...rejectedTests,
    ...(repairs.length > 0 ? { repairs } : {}),
  };
}

/** What the question is about: a name at the top level of the program, or what the whole program does. */
interface Form {
  entryPoint: string | undefined;
  /** Absent: a function. */
  form?: QuestionForm;
  /** A test as it is run: a call that the program does not offer becomes the one that it does. */
  rewrite: (test: string) => string;
}

/** The form of a question about a seed, from its signature and its tests. */
function formOf(language: LanguageDefinition, code: string, signature: string, tests: readonly string[]): Form {
  const as = (entryPoint: string | undefined, form?: QuestionForm, rewrite = (test: string) => test): Form => ({
    entryPoint,
    ...(form === undefined ? {} : { form }),
    rewrite,
  });
  const functions = language.functionsOf(code);
  const definitions = language.definitionsOf(code);
  if (definitions.length === 0 && language.readsInput(code)) return as('', 'script');
  const header = language.functionOfHeader(signature);
  const holder = language.classOfHeader(signature);
  const called = language.classUnderTest(tests);
  // `Solution().f(1)` about a function f of the seed is the call `f(1)`.
  if (
    called !== undefined &&
    !definitions.includes(called.name) &&
    called.method !== undefined &&
    functions.includes(called.method)
  )
    return as(called.method, undefined, (test) => language.withoutHolder(test, called.name));
  const ofTests = called && definitions.includes(called.name) ? called.name : undefined;
  const name = holder ?? (header !== undefined && functions.includes(header) ? undefined : ofTests);
  if (name !== undefined && (definitions.length === 0 || definitions.includes(name)))
    return as(name, called?.name === name && called.method !== undefined ? 'method' : 'class');
  const entryPoint = header ?? language.functionUnderTest(tests, functions);
  return entryPoint !== undefined && language.isAsync(code, entryPoint)
    ? as(entryPoint, 'async', (test) => language.awaited(test, entryPoint))
    : as(entryPoint);
}

/** A test of a program without a function, under any of the names that models have for its input and its output. */
function streamTest(test: unknown): unknown {
  if (!isObject(test)) return test;
  const of = (...names: string[]): string | undefined => {
    const value = names.map((name) => test[name]).find((each) => typeof each === 'string' || typeof each === 'number');
    return value === undefined ? undefined : String(value);
  };
  const [stdin, stdout] = [of('stdin', 'input'), of('stdout', 'output', 'expected_output', 'expected')];
  return stdin === undefined || stdout === undefined
    ? test
    : new Data({ stdin: writable(stdin), stdout: writable(stdout) });
}

/** A comparison of a call that has no assert in front of it, as a test. */
function assertion(test: unknown, language: LanguageDefinition): unknown {
  if (typeof test !== 'string' || /^\s*(?:assert\b|import\b|from\b)/.test(test)) return test;
  const asserted = `assert ${test.trim()}`;
  return language.comparedCall(asserted) === undefined ? test : asserted;
}

/** A test that is a call and its value, as code or as JSON, under any of the names that models have for them. */
function pairedTest(test: unknown, language: LanguageDefinition): unknown {
  if (!isObject(test)) return test;
  const of = (...names: string[]): unknown =>
    Object.entries(test).find(([name, value]) => names.includes(plainName(name)) && value !== undefined)?.[1];
  const call = of('input', 'call', 'expression', 'functioncall');
  const value = of('output', 'expected', 'expectedoutput', 'expectedresult', 'result');
  if (typeof call !== 'string' || value === undefined) return test;
  const asserted = `assert ${call.trim()} == ${typeof value === 'string' ? value.trim() : language.literalOf(value)}`;
  return language.comparedCall(asserted) === undefined ? test : asserted;
}

interface Answer {
  question: string;
  signature: string;
  tests: unknown[];
  checker: string | undefined;
  repairs: Repair[];
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

/** The object in what the model wrote: the whole text, a fenced block, or the outermost braces; strictly at first. */
function answerOf(content: string): Answer | { failure: ReplyFailure } {
  const text = withoutThoughts(content.replace(/^\ufeff/, '')).trim();
  if (text === '') return { failure: content.trim() === '' ? 'emptyReply' : 'onlyReasoning' };
  const quoted = text.startsWith('"') ? jsonOf(text) : undefined;
  if (typeof quoted === 'string') {
    const inner = answerOf(quoted);
    return 'failure' in inner
      ? inner
      : { ...inner, repairs: [...new Set([...inner.repairs, 'wrapperObject' as const])] };
  }
  const fenced = text.split('```')[1]?.replace(/^json\b/, '');
  const braces = text.includes('{') ? text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1) : '';
  const value = [text, fenced, braces].map((each) => (each ? jsonOf(each) : undefined)).find(isObject);
  const strict = value && shapeOf(value);
  if (strict) return strict;
  let cut = false;
  for (const lenient of lenientObjects(text)) {
    const answer = shapeOf(lenient.value);
    if (!answer) continue;
    const { tests, repairs } = answer;
    cut = lenient.cut;
    const whole = cut ? tests.slice(0, -1) : tests;
    if (whole.length > 0 || !lenient.repairs.includes('truncated'))
      return { ...answer, tests: whole, repairs: [...lenient.repairs, ...repairs] };
  }
  const labelled = labelledAnswer(text);
  if (labelled) return labelled;
  if (value) return { failure: 'wrongShape' };
  if (isHtml(text)) return { failure: 'htmlReply' };
  return { failure: isRefusal(text) ? 'refused' : cut ? 'invalidJson' : lenientFailure(text) };
}

/** Why a text without an answer has none: there is an object that is none, or no object at all. */
function lenientFailure(text: string): ReplyFailure {
  const [first] = lenientObjects(text);
  return first && !first.repairs.includes('truncated') && isObject(first.value) ? 'wrongShape' : 'invalidJson';
}

/** The answer in a text that names its parts by tags or headings instead of being JSON. */
function labelledAnswer(text: string): Answer | undefined {
  const found = labelledParts(text, (name) => MEMBER_NAMES.has(name));
  if (!found) return undefined;
  const { tests = '', ...more } = Object.fromEntries(
    Object.entries(found.parts).map(([name, part]) => [MEMBER_NAMES.get(name)!, part]),
  );
  const listed = jsonOf(tests);
  const answer = shapeOf({
    ...more,
    ...(more['signature'] === undefined ? {} : { signature: codeIn(more['signature']) }),
    tests: Array.isArray(listed) ? listed : testsIn(tests),
  });
  return answer && { ...answer, repairs: [found.repair, ...answer.repairs] };
}

/** Code without the fence or the marks around it. */
function codeIn(part: string): string {
  return (/^[ \t]*```[^\n`]*\n([^]*?)^[ \t]*```/m.exec(part)?.[1] ?? part.replace(/^`+|`+$/g, '')).trim();
}

/** Names of the members as models write them, in small letters and without what is no letter. */
const MEMBERS = {
  question: ['question', 'exercise', 'problem', 'problemstatement', 'instruction', 'prompt'],
  signature: ['signature', 'functionsignature', 'header', 'functionheader'],
  tests: ['tests', 'testcases', 'unittests', 'assertions', 'asserts', 'testlist'],
  checker: ['checker'],
} as const;

/** The member that a name stands for. */
const MEMBER_NAMES: ReadonlyMap<string, keyof typeof MEMBERS> = new Map(
  (Object.keys(MEMBERS) as (keyof typeof MEMBERS)[]).flatMap((member) =>
    MEMBERS[member].map((name): [string, keyof typeof MEMBERS] => [name, member]),
  ),
);

/** Names of the member that holds a test, where each test is an object. */
const OF_A_TEST = ['test', 'testcase', 'assertion', 'assert', 'code', 'case', 'statement', 'expression'];

/** A test without an object that only describes it. One whose members say what is called or read is data. */
function unwrappedTest(test: unknown): unknown {
  if (!isObject(test) || ['call', 'stdin', 'stdout', 'checker'].some((name) => name in test)) return test;
  const texts = Object.entries(test).filter(
    ([name, member]) => OF_A_TEST.includes(plainName(name)) && typeof member === 'string',
  );
  return texts.length === 1 ? texts[0]![1] : test;
}

/** Objects that are around an answer, at most. */
const WRAPPERS = 3;

/** The question and its tests in an object, whatever its members are called, and whatever is around it. */
function shapeOf(value: unknown, depth = 0): Answer | undefined {
  if (typeof value === 'string') return depth > 0 && depth <= WRAPPERS ? shapeOf(jsonOf(value), depth + 1) : undefined;
  if (Array.isArray(value)) return value.length === 1 && depth <= WRAPPERS ? shapeOf(value[0], depth + 1) : undefined;
  if (!isObject(value)) return undefined;
  const byName = new Map(Object.entries(value).map(([name, member]) => [plainName(name), member]));
  const member = (name: keyof typeof MEMBERS): unknown =>
    MEMBERS[name].map((each) => byName.get(each)).find((each) => each !== undefined);
  const [question, signature, checker, given] = [
    member('question'),
    member('signature'),
    member('checker'),
    member('tests'),
  ];
  const asText = typeof given === 'string';
  const list: unknown = asText ? given.split(/\n(?=\s*assert\b)/) : isObject(given) ? Object.values(given) : given;
  if (typeof question === 'string' && question.trim() !== '' && Array.isArray(list)) {
    const tests = list.map(unwrappedTest);
    const isWrapped = isObject(given) || tests.some((test, at) => test !== list[at]);
    const known = 'question' in value && ('tests' in value || 'test_cases' in value);
    return {
      question: writable(question).trim(),
      signature: typeof signature === 'string' ? writable(signature).trim() : '',
      tests: tests.map((test: unknown) => (typeof test === 'string' ? writable(test) : test)),
      checker: typeof checker === 'string' ? writable(checker) : undefined,
      repairs: [
        ...(depth > 0 ? (['wrapperObject'] as const) : []),
        ...(known ? [] : (['otherKeys'] as const)),
        ...(asText ? (['testsAsText'] as const) : []),
        ...(isWrapped ? (['wrappedTests'] as const) : []),
      ],
    };
  }
  if (depth >= WRAPPERS) return undefined;
  for (const inner of Object.values(value)) {
    const found =
      isObject(inner) || Array.isArray(inner) || typeof inner === 'string' ? shapeOf(inner, depth + 1) : undefined;
    if (found) return found;
  }
  return undefined;
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
    const stream = test instanceof Data && 'stdin' in test.test;
    const text = writtenTest(test)?.trim();
    const used = test instanceof Data ? test.test : text;
    const name = test instanceof Data ? canonicalJson(test.test) : text;
    const reason =
      name === undefined || (text === undefined && !stream) || (entryPoint === '' && !stream)
        ? 'notText'
        : kept.has(name)
          ? 'duplicate'
          : ((text === undefined
              ? name.length > TEST_CHARACTERS
                ? 'tooLong'
                : undefined
              : rejectionOf(text, entryPoint, language)) ?? (kept.size >= maximum ? 'tooMany' : undefined));
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
function withSignature(question: string, signature: string, entryPoint: string, form?: QuestionForm): string {
  const what = form === 'class' || form === 'method' ? 'class' : 'function';
  return new RegExp(`\\b${entryPoint}\\b`).test(question)
    ? question
    : `${question}\n\nThe ${what}: \`${signature || `${entryPoint}(...)`}\``;
}

const REFUSAL =
  /^(?:I['’]m sorry|I am sorry|Sorry|I can['’]?(?:no|')?t|I cannot|I['’]m unable|I am unable|I won['’]t)\b/i;

function isRefusal(text: string): boolean {
  return REFUSAL.test(text);
}
