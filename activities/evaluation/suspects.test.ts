/** Problems that questions of the training repeat, by running and by their words, and batches that are done already. */
import { expect, it } from 'vitest';
import type { ArtifactRef, FilteredQuestionRow } from '../../workflows/contract/index.js';
import { problemOf, withInputs } from '../contamination/problems.js';
import { ownSandbox } from '../../test/fixtures/own-sandbox.js';
import { suspectsOf } from './suspects.js';

const sandbox = ownSandbox();

const OPTIONS = { memoryBytes: 512 * 2 ** 20 };
const WORDS = 'Write a function that says how many of the given numbers are even and larger than a limit.';

it('are those that a reference solves or that are asked in nearly the same words, of the training alone', async () => {
  const task = { question: '', programPrefix: '', reference: 'def twice(n):\n    return 2 * n\n' };
  const problems = await withInputs(
    sandbox,
    [
      problemOf('own', {
        ...task,
        id: 'a',
        entryPoint: 'twice',
        tests: ['assert twice(2) == 4', 'assert twice(0) == 0'],
      }),
      problemOf('own', { ...task, id: 'b', question: WORDS, entryPoint: 'f', reference: '', tests: ['assert f(1)'] }),
      problemOf('own', {
        ...task,
        id: 'c',
        question: 'Sort them.',
        entryPoint: 'g',
        reference: '',
        tests: ['assert g(1)'],
      }),
    ],
    OPTIONS,
  );
  const rowOf = (id: string, split: 'train' | 'heldOut', question: string, reference: string): FilteredQuestionRow => ({
    ...{ id, seedId: id, source: 'own', question, entryPoint: '', reference, tests: ['assert True'], split },
  });
  const rows = [
    rowOf('q1', 'train', 'Double it.', 'def doubled(value):\n    return value + value\n'),
    rowOf('q2', 'train', 'Double it, please.', 'def d(x):\n    return x * 2\n'),
    rowOf('q3', 'train', `${WORDS} Return the number.`, ''),
    rowOf('q4', 'heldOut', 'Sort them.', ''),
  ];
  const documents = new Map<string, unknown>();
  const store = {
    getJson: (key: string) => Promise.resolve(documents.get(key)),
    putJson: (key: string, document: unknown) => Promise.resolve(documents.set(key, document).has(key)),
    async *rowsOf<T>() {
      yield* (await Promise.resolve(rows)) as T[];
    },
  };
  const questions: ArtifactRef = {
    ...{ kind: 'filteredQuestions', key: 'artifacts/filteredQuestions/x.json', digest: 'd'.repeat(64), bytes: 1 },
  };
  const found = await suspectsOf({ store, sandbox }, 'k', questions, problems, OPTIONS);
  expect(found).toEqual([
    { benchmark: 'own', taskId: 'a', questions: 2, question: 'q1', why: 'doubled solves it' },
    { benchmark: 'own', taskId: 'b', questions: 1, question: 'q3', why: 'asked in nearly the same words' },
  ]);
  // What is stored is not run again.
  await sandbox.close();
  expect(documents.size).toBe(1);
  expect(await suspectsOf({ store, sandbox }, 'k', questions, problems, OPTIONS)).toEqual(found);
});
