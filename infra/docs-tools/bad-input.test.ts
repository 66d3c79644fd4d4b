/** The table of bad inputs: each is refused at once, with all of its mistakes and without its secrets. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { BAD_INPUT_PAGE, badInputPage, badInputs, printedFor } from './bad-input.js';
import {
  checkInput,
  describeMistakes,
  didYouMean,
  HIDDEN,
  mistake,
  withoutSecrets,
} from '../../workflows/contract/index.js';

const seenAtOnce = badInputs().filter(({ lookedUp }) => !lookedUp);
const printed = (title: string): string => printedFor(badInputs().find((each) => each.title === title)!);

describe('the table of bad inputs', () => {
  it('has at least 40 that need no server', () => {
    expect(seenAtOnce.length).toBeGreaterThanOrEqual(40);
    expect(new Set(badInputs().map(({ title }) => title)).size).toBe(badInputs().length);
  });

  it.each(seenAtOnce)('$workflow refuses $title with path, value and what is allowed', (each) => {
    const { mistakes } = checkInput(each.workflow, each.input);
    expect(mistakes?.length).toBeGreaterThan(0);
    for (const { path, message } of mistakes!) {
      expect(path).not.toBe('');
      expect(message).not.toBe('');
      expect(message, 'zod has no sentence of its own for an unexplained refusal').not.toMatch(/^Invalid input$/);
    }
    const lines = printedFor(each).split('\n');
    expect(lines).toHaveLength(mistakes!.length + 1);
    for (const line of lines.slice(1)) expect(line).toMatch(/^.+: .+ \(is .+\)$/);
  });

  it('is documented as it prints: npm run docs:bad-input', () => {
    expect(readFileSync(BAD_INPUT_PAGE, 'utf8')).toBe(badInputPage());
  });
});

describe('mistakes', () => {
  it('are told together, those over several fields too', () => {
    const text = printed('Best-of-N of more than the samples, beside a misspelt field');
    expect(text).toContain('the input of experiment has 2 mistakes');
    expect(text).toContain('stages.evaluation.bestOf.1: 16 is larger than the 4 samples per task (is 16)');
    expect(text).toContain('stages.evaluation.bestof: no such field; did you mean "bestOf"? (is [2])');
  });

  it('of an unknown preset leave out what the preset would have given', () => {
    const text = printed('an unknown preset, and a mistake beside it');
    expect(text).toMatch(
      /^extends: must be one of "quickstart", "paper-7b", .*; did you mean "quickstart"\? \(is "quickstrat"\)$/m,
    );
    expect(text).toContain('stages.sampling.samples');
    expect(text).not.toMatch(/seeds|models/);
  });

  it('name the field that was meant only where one is near', () => {
    expect(didYouMean('temprature', ['temperature', 'samples'])).toBe('; did you mean "temperature"?');
    expect(didYouMean('smaples', ['temperature', 'samples'])).toBe('; did you mean "samples"?');
    expect(didYouMean('colour', ['temperature', 'samples'])).toBe('');
  });

  it.each([
    'a key where none belongs',
    'a key in a place that exists',
    'a password inside a refused object',
    'a token in an address',
  ])('hide %s', (title) => {
    const text = printed(title);
    expect(text).toContain(HIDDEN);
    expect(text).not.toMatch(/0123456789|hunter2/);
  });

  it.each([
    ['openai', 'sk-proj-abcdefghijklmnop'],
    ['hub', 'hf_abcdefghijklmnop'],
    ['github', 'ghp_abcdefghijklmnopqrst'],
    ['aws', 'AKIAABCDEFGHIJKLMNOP'],
    ['jwt', 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc'],
    ['bearer', 'Bearer abcdef'],
  ])('hide what looks like a key (%s), as value, path or text', (_, secret) => {
    const line = describeMistakes([mistake(`stages.${secret}`, { any: [secret] }, `not ${secret}`)]);
    expect(line).not.toContain(secret);
    expect(line.split(HIDDEN)).toHaveLength(4);
  });

  it('show what is no secret, though its name or its length is like one', () => {
    expect(mistake('config.maxNewTokens', -5, '').value).toBe(-5);
    expect(mistake('inputs.programs.key', 'artifacts/programs/none.json', '').value).toBe(
      'artifacts/programs/none.json',
    );
    expect(mistake('inputs.programs.key', 'abc', '').value).toBe(HIDDEN);
    expect(withoutSecrets('0'.repeat(64))).toBe('0'.repeat(64));
  });
});
