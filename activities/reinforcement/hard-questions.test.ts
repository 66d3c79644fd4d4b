import { describe, expect, it } from 'vitest';
import { hardQuestions, type RatedProgram } from './hard-questions.js';

async function hard(rates: Record<string, number[]>): Promise<string[]> {
  async function* rows(): AsyncGenerator<RatedProgram> {
    for (const [questionId, list] of Object.entries(rates)) for (const passRate of list) yield { questionId, passRate };
  }
  return [...(await hardQuestions(rows()))].sort();
}

describe('hardQuestions', () => {
  it('takes those that are mostly failed and of those the ones that spread', async () => {
    expect(await hard({ easy: [1, 1], solved: [1, 0.9], mixed: [0, 1], hopeless: [0, 0], slight: [0.1, 0.2] })).toEqual(
      ['mixed', 'slight'],
    );
  });

  it('is about a quarter of many', async () => {
    const rates = Object.fromEntries(
      Array.from({ length: 1000 }, (_, id) => [
        `q${id}`,
        [((id * 7919) % 1000) / 1000, ((id * 104729) % 997) / 997, ((id * 31) % 101) / 101],
      ]),
    );
    const found = await hard(rates);
    expect(found.length).toBeGreaterThan(230);
    expect(found.length).toBeLessThan(280);
  });

  it('takes all of questions that are alike, and none of none', async () => {
    expect(await hard({ a: [0.5], b: [0.5] })).toEqual(['a', 'b']);
    expect(await hard({})).toEqual([]);
  });
});
