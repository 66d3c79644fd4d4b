/** What replies cost: counted, estimated, and agreed to in the configuration. */
import { describe, expect, it } from 'vitest';
import { KEY, PRICES, teacherOf } from '../../test/fixtures/asking.js';
import { checkInput } from './inputs.js';
import { costOf, dollarsText, teacherEstimate } from './cost.js';

describe('money', () => {
  it('is counted from tokens and prices', () => {
    expect(costOf({ promptTokens: 1e6, completionTokens: 5e5 }, { input: 0.15, output: 0.6 })).toBeCloseTo(0.45, 12);
    expect(costOf({ promptTokens: 1e6, completionTokens: 5e5 }, undefined)).toBe(0);
    expect([0, 0.0716, 5].map(dollarsText)).toEqual(['0', '0.0716', '5.00']);
  });

  it('is estimated before anything is asked', () => {
    const teacher = teacherOf({ maxTokens: 900 });
    const { dollars, atMost } = teacherEstimate(teacher, PRICES, 100, 300);
    expect(dollars).toBeGreaterThan(0.1);
    expect(atMost).toBeGreaterThanOrEqual(dollars);
    expect(teacherEstimate(teacher, PRICES, 200, 300).dollars).toBeCloseTo(2 * dollars, 3);
  });
});

describe('the configuration', () => {
  const mistakesOf = (teacher: object, execution: object): string[] =>
    (
      checkInput('synthesis', { inputs: { seeds: { kind: 'seeds', path: 's.jsonl' } }, config: { teacher, execution } })
        .mistakes ?? []
    ).map(({ path, message }) => `${path}: ${message}`);
  const teacher = { kind: 'openai', model: 'fake' };

  it('needs prices, and a budget where something is paid', () => {
    expect(mistakesOf(teacher, {}).join()).toMatch(/^config\.execution\.endpoint\.prices: needed/);
    expect(mistakesOf(teacher, { endpoint: { prices: PRICES } }).join()).toMatch(
      /^config\.execution\.budgetUsd: needed/,
    );
    expect(mistakesOf(teacher, { endpoint: { prices: { input: 0, output: 0 } } })).toEqual([]);
    expect(mistakesOf(teacher, { budgetUsd: 5, endpoint: { prices: PRICES } })).toEqual([]);
    expect(mistakesOf({ kind: 'offline' }, {})).toEqual([]);
  });

  it.each([
    ['a key in the place of its variable', { keyVariable: KEY }],
    ['a secret of the system', { keyVariable: 'ACECODER_S3_SECRET_KEY' }],
    ['a password in the address', { baseUrl: 'https://me:hunter2hunter2@example.org/v1' }],
    ['no address', { baseUrl: 'file:///etc/passwd' }],
  ])('refuses %s, and does not repeat it', (_, endpoint) => {
    const { mistakes } = checkInput('synthesis', {
      inputs: { seeds: { kind: 'seeds', path: 's.jsonl' } },
      config: { teacher, execution: { budgetUsd: 5, endpoint: { prices: PRICES, ...endpoint } } },
    });
    expect(mistakes).toHaveLength(1);
    expect(JSON.stringify(mistakes)).not.toMatch(/0123456789abcdef|hunter2/);
  });
});
