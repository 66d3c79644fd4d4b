/** Replies of language models, good and bad, to questions with test cases or to the reason why there are none. */
import { describe, expect, it, test } from 'vitest';
import { questionOf } from './asking.js';
import { parseReply as taughtBy } from './parse-reply.js';
import { QuestionRow, type RawReply, type ReplyRow, type SeedRow } from '../../workflows/contract/index.js';
import { completion, exercise } from '../../test/fixtures/fake-endpoint.js';

const SEED: SeedRow = {
  id: 's/triple',
  source: 's',
  code: 'def triple(n: int) -> int:\n    """Return three times n."""\n    return 3 * n\n',
};
const raw = (body: string, more: Partial<RawReply> = {}): RawReply => ({
  seedId: SEED.id,
  key: '0'.repeat(64),
  status: 200,
  body,
  usage: { promptTokens: 1, completionTokens: 1, estimated: false },
  ...more,
});
const parseReply = (seed: SeedRow, reply: ReplyRow | undefined, testCases: number): QuestionRow =>
  questionOf(seed, taughtBy(seed, reply, testCases));
const parsed = (content: string): QuestionRow => QuestionRow.parse(parseReply(SEED, raw(completion(content)), 20));
const withTests = (...tests: unknown[]): QuestionRow => parsed(exercise('triple', { tests }));

describe('a reply as it should be', () => {
  it('becomes a question with its tests', () => {
    const row = parsed(exercise('triple'));
    expect(row).toMatchObject({ seedId: SEED.id, source: 's', entryPoint: 'triple', reference: SEED.code });
    expect(row.question).toBe('Write a function `triple` that multiplies a whole number.');
    expect(row.testCases).toHaveLength(20);
    expect(row).not.toHaveProperty('failure');
    expect(row).not.toHaveProperty('rejectedTests');
  });

  test.each([
    ['fenced', (json: string) => `Here it is:\n\n\`\`\`json\n${json}\n\`\`\`\nHave fun!`],
    ['with words around', (json: string) => `Sure! ${json} Anything else?`],
    ['after thoughts', (json: string) => `<think>{"not": "this"}</think>\n${json}`],
    ['with a byte order mark', (json: string) => `\ufeff${json}`],
  ])('is read %s', (_, around) => {
    expect(parsed(around(exercise('triple'))).testCases).toHaveLength(20);
  });

  it('is read in linear time, however many empty lines it has', () => {
    // In quadratic time this takes hours.
    const empty = '\n'.repeat(5_000_000);
    expect(parsed(`\`\`\`json${empty}${exercise('triple')}${empty}\`\`\``).testCases).toHaveLength(20);
    expect(parsed(`\`\`\`json${empty}`)).toMatchObject({ failure: 'invalidJson' });
  });

  it('holds nothing that a file or a program cannot', () => {
    const row = parsed(
      exercise('triple', {
        question: 'Call triple \ud83d\ude00 \ud83d \u0000',
        tests: ['assert triple(1) == 3  # \udc00'],
      }),
    );
    expect(row).toMatchObject({
      question: 'Call triple \ud83d\ude00 \ufffd \ufffd',
      testCases: [{ test: 'assert triple(1) == 3  # \ufffd' }],
    });
  });

  it('is told the name of its function where the text does not say it', () => {
    expect(parsed(exercise('triple', { question: 'Multiply by three.' })).question).toBe(
      'Multiply by three.\n\nThe function: `def triple(n: int) -> int`',
    );
  });

  it('finds the function in the tests where there is no signature', () => {
    expect(parsed(exercise('triple', { signature: undefined })).entryPoint).toBe('triple');
    const noFunctions = { ...SEED, code: 'print(3 * 4)\n' };
    expect(parseReply(noFunctions, raw(completion(exercise('area', { signature: undefined }))), 20)).toMatchObject({
      entryPoint: 'area',
    });
    expect(
      parseReply(
        noFunctions,
        raw(completion(exercise('area', { signature: undefined, tests: ['assert 1 == 1'] }))),
        20,
      ),
    ).toMatchObject({ failure: 'noEntryPoint' });
  });

  it('from elsewhere is the text alone', () => {
    expect(parseReply(SEED, { seedId: SEED.id, text: exercise('triple') }, 20).testCases).toHaveLength(20);
    expect(parseReply(SEED, undefined, 20).failure).toBe('noReply');
  });
});

describe('a reply that is none', () => {
  const error = (code: string): string => JSON.stringify({ error: { message: 'no', code } });
  test.each<[string, string, Partial<RawReply>]>([
    ['emptyReply', '', {}],
    ['emptyReply', '  \n', {}],
    ['emptyReply', completion(''), {}],
    ['emptyReply', completion(null), {}],
    ['emptyReply', '{"choices": []}', {}],
    ['htmlReply', '<!DOCTYPE html><html><body>502</body></html>', {}],
    ['htmlReply', completion('<html>Sign in</html>'), {}],
    ['brokenReply', '{"choices": [{"mess', {}],
    ['brokenReply', 'null', {}],
    ['brokenReply', error('overloaded'), {}],
    ['refused', completion(null, { refusal: 'I cannot help with that.' }), {}],
    ['refused', completion("I'm sorry, but I can't help with that."), {}],
    ['contentFilter', completion('{"question"', { finish: 'content_filter' }), {}],
    ['contentFilter', error('content_filter'), { status: 400 }],
    ['promptTooLong', error('context_length_exceeded'), { status: 400 }],
    ['requestRefused', error('something'), { status: 422 }],
    ['cutReply', completion(exercise('triple').slice(0, 200), { finish: 'length' }), {}],
    ['cutReply', completion(exercise('triple')), { cut: true }],
    ['cutReply', completion('## Question\nMultiply.\n## Tests\nassert triple(1) == 3', { finish: 'length' }), {}],
    ['invalidJson', completion('{"question": "a", "tests": ["assert'), {}],
    ['invalidJson', completion('Lorem ipsum'), {}],
    ['wrongShape', completion('{"question": "a"}'), {}],
    ['wrongShape', completion('{"question": 7, "tests": []}'), {}],
    ['wrongShape', completion('{"tests": ["assert triple(1) == 3"]}'), {}],
    ['noTests', completion(exercise('triple', { tests: [] })), {}],
    ['otherQuestion', completion(exercise('fibonacci')), {}],
    [
      'otherQuestion',
      completion(exercise('triple', { tests: ['assert double(1) == 2', 'assert double(2) == 4'] })),
      {},
    ],
  ])('is %s: %s', (failure, body, more) => {
    const row = QuestionRow.parse(parseReply(SEED, raw(body, more), 20));
    expect(row).toMatchObject({ failure, testCases: [], seedId: SEED.id, reference: SEED.code });
  });
});

describe('tests that cannot be used', () => {
  const good = 'assert triple(1) == 3';
  test.each<[string, unknown]>([
    ['notText', 7],
    ['notText', null],
    ['empty', '  '],
    ['noAssert', 'triple(1)'],
    ['noAssert', 'n = triple(1)\nn == 3'],
    ['noAssert', 'n == 3'],
    ['noAssert', '"assert triple(1)"'],
    ['doesNotParse', 'assert triple((1) == 3'],
    ['doesNotParse', 'assert triple(1) == "3'],
    ['doesNotParse', "assert triple(1]) == '3'"],
    ['wrongFunction', 'assert double(1) == 2'],
    ['wrongFunction', 'assert 3 == 3  # triple(1)'],
    ['wrongFunction', "assert other('triple(1)') == 3"],
    ['needsFiles', 'assert triple(int(open("n.txt").read())) == 3'],
    ['needsFiles', 'import os\nassert triple(len(os.listdir("."))) == 3'],
    ['needsNetwork', 'import requests\nassert triple(requests.get("http://x").status_code) == 600'],
    ['needsProcesses', 'assert triple(subprocess.call("ls")) == 0'],
    ['duplicate', good],
    ['tooLong', `assert triple(${'1'.repeat(10_001)}) == 3`],
  ])('%s: %s', (reason, bad) => {
    const row = withTests(good, bad);
    expect(row.testCases).toEqual([{ test: good }]);
    expect(row.rejectedTests).toHaveLength(1);
    expect(row.rejectedTests![0]!.reason).toBe(reason);
    expect(row).not.toHaveProperty('failure');
  });

  test.each([
    'assert triple(1) == 3  # (one',
    'assert triple(len("it\'s (")) == 15',
    'assert triple(len("""a"b\n""")) == 12',
    'values = [1, 2]\nassert triple(values[0]) == 3',
    'assert triple(len("open(os.path)")) == 39',
    'assert triple(len("http://a.b")) == 30',
    'assert not triple(0)',
    'assert abs(triple(1) - 3) < 1e-6',
  ])('are not these: %s', (text) => {
    expect(withTests(text)).toMatchObject({ testCases: [{ test: text }] });
  });

  it('may call what the function under test is called', () => {
    const seed = { ...SEED, code: 'def open(n: int) -> int:\n    return n\n' };
    expect(parseReply(seed, raw(completion(exercise('open'))), 20).testCases).toHaveLength(20);
  });

  it('beyond three times what was asked for are too many, and none is lost', () => {
    const row = withTests(...Array.from({ length: 1000 }, (_, n) => `assert triple(${n}) == ${3 * n}`));
    expect(row.testCases).toHaveLength(60);
    expect(row.rejectedTests).toHaveLength(940);
    expect(new Set(row.rejectedTests!.map(({ reason }) => reason))).toEqual(new Set(['tooMany']));
  });

  it('stand in the row of a question that none is left of', () => {
    expect(withTests('assert triple(', 7)).toMatchObject({
      failure: 'noTests',
      rejectedTests: [{ reason: 'doesNotParse' }, { test: '7', reason: 'notText' }],
    });
  });
});

describe('a reply that somebody wrote who knows checked tests', () => {
  const checker = 'def check(input, output, answer):\n    return output == 3 * input[0]';
  const property = { call: 'triple(2)', property: 'result == 6' };
  const tests = [
    'assert triple(1) == 3',
    property,
    { call: 'triple(3)' },
    { call: 'triple(3)' },
    { call: 'double(3)', expect: '6' },
    { call: 'triple(1)', expect: 3 },
  ];
  const text = (more: object): string =>
    JSON.stringify({ ...(JSON.parse(exercise('triple', { tests })) as object), ...more });
  const read = (more: object, checked: boolean): QuestionRow =>
    QuestionRow.parse(questionOf(SEED, taughtBy(SEED, { seedId: SEED.id, text: text(more) }, 20, { checked })));

  it('keeps tests that are data, with their checker, and says why it does not', () => {
    const row = read({ checker }, true);
    expect(row.testCases.map(({ test }) => test)).toEqual([tests[0], property, { call: 'triple(3)' }]);
    expect(row.checker).toBe(checker);
    expect(row.rejectedTests!.map(({ reason }) => reason)).toEqual(['duplicate', 'wrongFunction', 'notText']);
  });

  it('leaves out what its missing checker would have to judge', () => {
    const row = read({}, true);
    expect(row.testCases.map(({ test }) => test)).toEqual([tests[0], property]);
    expect(row).not.toHaveProperty('checker');
  });

  it('is texts alone where a language model wrote it', () => {
    const row = read({ checker }, false);
    expect(row.testCases.map(({ test }) => test)).toEqual([tests[0]]);
    expect(row).not.toHaveProperty('checker');
    expect(new Set(row.rejectedTests!.map(({ reason }) => reason))).toEqual(new Set(['notText']));
  });
});
