/** Keys of replies: what they follow from, and what they do not. */
import { describe, expect, it } from 'vitest';
import { configOf, teacherOf } from '../../../test/fixtures/asking.js';
import { canonicalJson, semanticsOf } from '../../../workflows/contract/index.js';
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
