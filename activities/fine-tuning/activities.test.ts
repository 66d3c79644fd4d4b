/** Programs to fine-tune on: those of train questions that pass, each text once per question. */
import { describe, expect, it } from 'vitest';
import type { ProgramRow } from '../../workflows/contract/index.js';
import { passingPrograms } from './activities.js';

const row = (questionId: string, index: number, program: string, changes: Partial<ProgramRow> = {}): ProgramRow => ({
  id: `${questionId}-${index}`,
  questionId,
  split: 'train',
  question: 'Add.',
  index,
  program,
  finish: 'stop',
  outcomes: [],
  passRate: 1,
  ...changes,
});

async function* stream(rows: ProgramRow[]): AsyncGenerator<ProgramRow> {
  yield* rows;
}

const idsOf = async (rows: ProgramRow[], config: Parameters<typeof passingPrograms>[1]): Promise<string[]> =>
  (await passingPrograms(stream(rows), config)).map(({ id }) => id);

describe('passingPrograms', () => {
  it('leaves out what does not pass, what is held out and what is empty', async () => {
    const rows = [
      row('a', 0, 'right'),
      row('a', 1, 'nearly', { passRate: 0.99 }),
      row('b', 0, 'hidden', { split: 'heldOut' }),
      row('b', 1, '  \n'),
    ];
    expect(await idsOf(rows, { minimumPassRate: 1 })).toEqual(['a-0']);
    expect(await idsOf(rows, { minimumPassRate: 0.5 })).toEqual(['a-0', 'a-1']);
  });

  it('takes each text once per question, and so many of a question as are asked for', async () => {
    const rows = [row('a', 0, 'x'), row('a', 1, 'x'), row('a', 2, 'y'), row('a', 3, 'z'), row('b', 0, 'x')];
    expect(await idsOf(rows, { minimumPassRate: 1 })).toEqual(['a-0', 'a-2', 'a-3', 'b-0']);
    expect(await idsOf(rows, { minimumPassRate: 1, maximumPerQuestion: 2 })).toEqual(['a-0', 'a-2', 'b-0']);
  });
});
