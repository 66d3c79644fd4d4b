/** What a language decides: keys and prompts of another one are others, and those of Python are what they were. */
import { describe, expect, it } from 'vitest';
import { answersOf, teacherOf } from '../../test/fixtures/asking.js';
import { canonicalJson, SeedRow } from '../../workflows/contract/index.js';
import { asksOfQuestions } from '../policy/source.js';
import { asksOf, questionOf } from '../synthesis/asking.js';
import { replyKeyOf } from '../synthesis/teachers/openai.js';
import { keyedLanguage, languageOf, LANGUAGES } from './index.js';
import { python } from './python.js';

const OTHER = 'made-up';

describe('the language of a row', () => {
  it('is Python where the row names none', () => {
    expect(languageOf({})).toBe(python);
    expect(languageOf({ language: 'python' })).toBe(python);
    expect(() => languageOf({ language: OTHER })).toThrow('there is no language "made-up"');
  });

  it('has a name and a fence of its own', () => {
    expect(new Set(LANGUAGES.map(({ name }) => name)).size).toBe(LANGUAGES.length);
    for (const { fence, isFence } of LANGUAGES) expect([fence, ''].every(isFence)).toBe(true);
  });

  it('is in no key and in no row where it is Python', () => {
    expect(keyedLanguage(undefined)).toEqual({});
    expect(keyedLanguage('python')).toEqual({});
    expect(keyedLanguage(OTHER)).toEqual({ language: OTHER });
  });

  it('is known to the contract', () => {
    const seed = { id: 's', source: 'own', code: 'def f(): pass' };
    expect(SeedRow.parse(seed)).toEqual(seed);
    expect(SeedRow.safeParse({ ...seed, language: 'python' }).success).toBe(true);
    expect(SeedRow.safeParse({ ...seed, language: OTHER }).success).toBe(false);
  });
});

describe('the key of a reply', () => {
  const keyOf = (language?: string) => canonicalJson(replyKeyOf(teacherOf(), { code: 'code', language }));

  it("is another one for another language, and today's for Python", () => {
    expect(keyOf('python')).toBe(keyOf());
    expect(keyOf(OTHER)).not.toBe(keyOf());
    expect(keyOf('made-up-2')).not.toBe(keyOf(OTHER));
    expect(keyOf()).not.toContain('language');
  });

  it('of a program does not change where its question says that it is Python', () => {
    const source = { kind: 'openai', model: 'm' };
    const request = { source, n: 2, temperature: 1, topP: 1, maxNewTokens: 64, seed: 0 };
    const question = { id: 'q-1', seedId: 's-1', question: 'Add.' };
    expect(asksOfQuestions(request, [{ ...question, language: 'python' }])).toEqual(
      asksOfQuestions(request, [question]),
    );
  });
});

describe('the id of a question', () => {
  it("is another one for another language, and today's for Python", () => {
    const seed = { id: 's', source: 'own', code: 'code' };
    const taught = { question: 'q', entryPoint: 'f', testCases: [] };
    expect(questionOf({ ...seed, language: 'python' }, taught)).toEqual(questionOf(seed, taught));
    expect(questionOf(seed, taught)).not.toHaveProperty('language');
  });
});

describe('Python', () => {
  it('knows the functions of a text', () => {
    const code = 'import os\n\nasync def first(x):\n    def inner(): ...\n\ndef second(y):\n    return y\n';
    expect(python.functionsOf(code)).toEqual(['first', 'second']);
    expect(python.firstFunctionOf('class A:\n    def method(self): ...')).toBe('method');
    expect(python.firstFunctionOf('x = 1')).toBeUndefined();
    expect(python.functionOfHeader('def add(a: int) -> int:')).toBe('add');
    expect(python.functionOfHeader('add(a)')).toBe('add');
    expect(python.shownHeader('def add(a):')).toBe('def add(a)');
  });

  it("makes tests that say candidate mean the program's function", () => {
    const tests = ['assert candidate(1) == 2', 'def check(candidate):\n    assert candidate(1) == 2', 'candidate = 3'];
    expect(python.withEntryPoint(tests, 'f')).toEqual([
      'assert f(1) == 2',
      'def check(candidate):\n    assert candidate(1) == 2\ncheck(f)',
      'candidate = 3',
    ]);
  });

  it('is asked for as it has always been', () => {
    const [asked] = asksOf(answersOf(), { id: 's', source: 'own', code: 'def f(x):\n    return x\n' });
    const { system, user, schema } = asked!.prompt;
    expect(system).toMatch(
      /^You write exercises for a programming contest in Python\. From a piece of Python code you/,
    );
    expect(user).toContain(
      'Each is one line that begins with assert and stands alone: a call of the function with literal arguments',
    );
    expect(user).toContain('as in assert abs(f(2.0) - 1.41421) < 1e-4. Cover');
    expect(JSON.stringify(schema)).toContain('such as def add(a: int, b: int) -> int');
  });
});

it('writes a value of JSON as Python does', () => {
  const value = [null, true, false, -1.5, 'a"\n\u2028', { k: [] }, []];
  expect(python.literalOf(value)).toBe('[None, True, False, -1.5, "a\\"\\n\u2028", {"k": []}, []]');
});
