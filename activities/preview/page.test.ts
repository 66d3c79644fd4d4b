/** The page of a preview with one version of the prompt, and with others next to it. */
import { describe, expect, it } from 'vitest';
import type { QuestionRow, SeedRow } from '../../workflows/contract/index.js';
import { renderPreview } from './page.js';

const seed: SeedRow = { id: 's/triple', source: 's', code: 'def triple(n):\n    return 3 * n\n' };
const question = (text: string, changes: Partial<QuestionRow> = {}): QuestionRow => ({
  id: 'q-1',
  seedId: seed.id,
  source: 's',
  question: text,
  entryPoint: 'triple',
  reference: seed.code,
  testCases: [{ test: 'assert triple(1) == 3' }],
  ...changes,
});
const rows = { name: 'mine', seeds: [seed], filtered: [], programs: [], pairs: [] };

describe('the page of a preview', () => {
  it('shows what each version of the prompt made of a seed, side by side', () => {
    const page = renderPreview({
      ...rows,
      questions: [question('Multiply by three.')],
      prompt: 'v1',
      others: [
        { prompt: 'paper', questions: [question('Triple <it>.')] },
        { prompt: 'v2', questions: [question('', { failure: 'noTests', testCases: [] })] },
      ],
    });
    const sections = page.split('<section>').slice(1);
    expect(sections.map((section) => /<h3>(.*?)<\/h3>/.exec(section)?.[1])).toEqual([
      'prompt v1',
      'prompt paper',
      'prompt v2',
    ]);
    expect(sections[0]).toContain('Multiply by three.');
    expect(sections[1]).toContain('Triple &lt;it&gt;.');
    expect(sections[2]).toContain('No question: noTests');
  });

  it('has one column where one version was asked', () => {
    const page = renderPreview({ ...rows, questions: [question('Multiply by three.')] });
    expect(page).toContain('Multiply by three.');
    expect(page).not.toContain('<section>');
  });
});
