/** The experiment's own held-out questions. */
import { z } from 'zod';
import { FilteredQuestionRow } from '../../workflows/contract/rows.js';
import { keyedLanguage } from '../languages/index.js';
import { defineBenchmark } from './benchmark.js';

export const heldOut = defineBenchmark({
  shape: { kind: z.literal('heldOut').describe("the experiment's own held-out questions") },
  version: 1,
  name: () => 'heldOut',
  data: { from: 'questions' },
  public: false,
  size: (_, { heldOut: questions }) => questions,
  tasks: (_, rows) =>
    rows.map((row) => {
      const { id, question, entryPoint, reference, language, tests, checker, limits } = FilteredQuestionRow.parse(row);
      return {
        id,
        question,
        entryPoint,
        ...keyedLanguage(language),
        programPrefix: '',
        tests,
        ...(checker === undefined ? {} : { checker }),
        reference,
        ...(limits ? { limits } : {}),
      };
    }),
});
