/** The offline teacher: questions from signatures and docstrings, test cases by running the seed. Python only. */
import { z } from 'zod';
import { seed, share, testCases } from '../../../workflows/contract/fields.js';
import { languageOf } from '../../languages/index.js';
import { python } from '../../languages/python.js';
import { generateCalls, parseSeed, writeQuestion, writeSearched, writeTestCases } from '../offline-teacher.js';
import { isPyLiteral } from '../python-literal.js';
import { defineTeacher } from './teacher.js';

/** Calls that are tried for one seed, at most. */
const ATTEMPTS = 600;

export const offline = defineTeacher({
  shape: {
    kind: z
      .literal('offline')
      .describe('writes questions from signatures and docstrings, test cases by running the seed; no language model'),
    testCases,
    corruptedShare: share.default(0.15).describe('share of expected values that are made wrong on purpose'),
    seed: seed.default(0),
  },
  paid: false,
  cost: 'the offline teacher calls no paid service',
  injectsErrors: true,
  note:
    'Questions and test cases were written by the offline teacher: no language model, but signatures, docstrings and ' +
    'outputs of the seed functions, with a stated share of expected values corrupted on purpose. ' +
    'What the filter drops measures the filter, not a language model.',
  teach: ({ testCases: count, corruptedShare, seed: own }) => ({
    keptShare: 1 - corruptedShare,
    answers: {
      from: 'sandbox',
      ask(row, derive) {
        if (languageOf(row) !== python) throw new Error(`the offline teacher reads no ${languageOf(row).fence}`);
        const parsed = parseSeed(row.code, row.domain);
        return {
          calls: generateCalls(parsed, { count, seed: derive(own, row.id, 'calls') }),
          write: (answered) => {
            const usable = answered.filter(({ literal }) => isPyLiteral(literal));
            return {
              question: writeQuestion(parsed),
              entryPoint: parsed.name,
              testCases: writeTestCases(
                usable.map(({ call }) => call),
                usable.map(({ literal }) => literal),
                { corruptedShare, seed: derive(own, row.id, 'tests') },
              ),
            };
          },
        };
      },
      search: (row, derive) => ({
        search: {
          code: row.code,
          ...(row.entryPoint === undefined ? {} : { entryPoint: row.entryPoint }),
          ...(row.calls === undefined ? {} : { calls: row.calls }),
          // By the content of the seed: the same function has the same tests, whatever it is called in its file.
          seed: derive(own, row.code, 'search'),
          tests: count,
          attempts: ATTEMPTS,
        },
        write: (found) => writeSearched(found, { corruptedShare, seed: derive(own, row.code, 'tests') }),
      }),
    },
  }),
});
