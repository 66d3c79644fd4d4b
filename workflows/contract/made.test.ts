/** The sentence of a stage that made nothing, from the metrics of each stage. */
import { describe, expect, it } from 'vitest';
import { noRowsText, STAGE, STAGES } from './index.js';

const MADE = { what: 'questions', count: 0, of: '10 seeds', leftOut: [], advice: 'Ask again.' };

describe('a stage that made nothing', () => {
  it('tells the reasons, the most frequent first, and no more than fit', () => {
    expect(noRowsText('synthesis', { ...MADE, leftOut: [{ a: 2, none: 0 }, undefined, { b: 8 }] })).toBe(
      'synthesis made no questions of 10 seeds: b 8, a 2. Ask again.',
    );
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, at) => [`reason${at}`, 1]));
    const text = noRowsText('synthesis', { ...MADE, leftOut: [many] })!;
    expect(text).toContain(', and 488 more reasons. Ask again.');
    expect(text.length).toBeLessThan(400);
    expect(noRowsText('synthesis', MADE)).toContain(': there was nothing to work on. ');
  });

  it('is none that made something', () => {
    expect(noRowsText('synthesis', { ...MADE, count: 1, leftOut: [{ a: 9 }] })).toBeUndefined();
  });

  it('is known by the metrics of its artifact, and names what the offline teacher needs', () => {
    const metrics = { seeds: 10, droppedSeeds: {}, contaminated: [], questions: 0, testCases: 0, failedCalls: 0 };
    const failures = { noLiteral: 3, returnsNothing: 7 };
    expect(STAGE.synthesis.noRows({ ...metrics, failures })).toMatch(
      /^synthesis made no questions of 10 seeds: returnsNothing 7, noLiteral 3\. The offline teacher needs a function/,
    );
    expect(STAGE.synthesis.noRows({ ...metrics, questions: 1, failures })).toBeUndefined();
  });

  it('is none where metrics are those of an earlier version', () => {
    for (const stage of STAGES) expect(STAGE[stage].noRows({})).toBeUndefined();
  });
});
