/** Keys of replies: what they follow from, and what they do not. */
import { describe, expect, it } from 'vitest';
import { answersOf, configOf, teacherOf } from '../../../test/fixtures/asking.js';
import { canonicalJson, semanticsOf } from '../../../workflows/contract/index.js';
import { asksOf } from '../asking.js';
import { replyKeyOf } from './openai.js';

const replyKey = (...of: Parameters<typeof replyKeyOf>): string => canonicalJson(replyKeyOf(...of));

describe('the configuration', () => {
  it('has model, prompt and sampling in the key of the stage, and nothing of how it is asked', () => {
    expect(semanticsOf(configOf({}, { budgetUsd: 2 }, { baseUrl: 'http://127.0.0.1/v1', concurrency: 3 }))).toEqual(
      semanticsOf(configOf()),
    );
    expect(JSON.stringify(semanticsOf(configOf()))).not.toMatch(/http|KEY/);
    const keys = [
      {},
      { model: 'other' },
      { temperature: 0.1 },
      { topP: 0.5 },
      { maxTokens: 10 },
      { testCases: 5 },
      { seed: 1 },
      { responseFormat: 'text' },
    ].map((changes) => replyKey(teacherOf(changes), { code: 'code' }));
    const own = teacherOf();
    expect(
      new Set([
        ...keys,
        replyKey(own, { code: 'other code' }),
        replyKey(own, { code: 'code', instruction: 'what for' }),
      ]).size,
    ).toBe(10);
  });
});

describe('a version of the prompt', () => {
  const FUNCTION = 'def triple(n):\n    return 3 * n\n';
  const SEEDS = {
    function: FUNCTION,
    class: 'class Stack:\n    def push(self, item):\n        pass\n',
    async: 'async def triple(n):\n    return 3 * n\n',
    script: 'print(3 * int(input()))\n',
  };
  const promptOf = (prompt: string, code: string, more: object = {}) =>
    asksOf(answersOf({ prompt }), { id: 's', source: 's', code, ...more })[0]!.prompt;

  it('2 is version 1 for a function, and asks for what the seed is otherwise', () => {
    expect(promptOf('v2', FUNCTION)).toEqual(promptOf('v1', FUNCTION));
    expect(promptOf('v2', SEEDS.class).user).toContain('solvable by one class');
    expect(promptOf('v2', SEEDS.async).user).toContain('one asynchronous function');
    expect(promptOf('v2', SEEDS.script).user).toContain('"stdin", what the program reads');
    for (const code of Object.values(SEEDS)) expect(promptOf('v2', code).user).toContain(code.trim());
    expect(JSON.stringify(promptOf('v2', SEEDS.script).schema)).toContain('"required":["stdin","stdout"]');
  });

  it('of the paper has one message, with the instruction where there is one, and no signature', () => {
    const { system, user, schema } = promptOf('paper', FUNCTION);
    expect(system).toBeUndefined();
    expect(user).toContain(FUNCTION.trim());
    expect(JSON.stringify(schema)).not.toContain('signature');
    expect(promptOf('paper', FUNCTION, { instruction: 'Triple it.' }).user).toContain('The question:\nTriple it.');
  });

  it('is in the key of the reply', () => {
    const keys = ['v1', 'v2', 'paper'].map(
      (prompt) => asksOf(answersOf({ prompt }), { id: 's', source: 's', code: FUNCTION })[0]!.key,
    );
    expect(new Set(keys).size).toBe(3);
  });
});
