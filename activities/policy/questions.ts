/** Which questions a policy is asked: a selection that depends on ids and salt alone. */
import { FilteredQuestionRow, StageFailure, type ArtifactRef } from '../../workflows/contract/index.js';
import { sha256 } from '../artifacts/keys.js';
import type { ArtifactStore } from '../artifacts/store.js';

/** The first `limit` questions of a split in an order that depends on their ids and the salt alone. */
export async function selectQuestions(
  store: ArtifactStore,
  ref: ArtifactRef,
  split: FilteredQuestionRow['split'],
  limit: number | undefined,
  salt: string,
): Promise<FilteredQuestionRow[]> {
  const found: FilteredQuestionRow[] = [];
  for await (const row of store.rowsOf(ref, FilteredQuestionRow)) if (row.split === split) found.push(row);
  const order = new Map(found.map(({ id }) => [id, sha256(`${salt}/${id}`)]));
  return found.sort((a, b) => (order.get(a.id)! < order.get(b.id)! ? -1 : 1)).slice(0, limit);
}

/** Name of the file of a hardening's artifact that holds its questions, with all their tests. */
export const HARDENED_QUESTIONS = 'questions.jsonl';

/** Its file of what it did for each question. */
export const HARDENED = 'hardened.jsonl';

/**
 * Questions with the tests that hardening gave them. One that it did not see keeps its own.
 *
 * @throws StageFailure `InvalidExperiment` where the artifact was made by no hardening.
 */
export async function withHardenedTests(
  store: ArtifactStore,
  questions: readonly FilteredQuestionRow[],
  hardened: ArtifactRef,
): Promise<FilteredQuestionRow[]> {
  const file = (await store.manifest(hardened)).files.find(({ name }) => name === HARDENED_QUESTIONS);
  if (!file)
    throw new StageFailure(
      'InvalidExperiment',
      `inputs.hardened is ${hardened.key}, which has no ${HARDENED_QUESTIONS}: give what the stage hardening made`,
    );
  const found = new Map<string, FilteredQuestionRow>();
  for await (const row of store.readRows([file], FilteredQuestionRow)) found.set(row.id, row);
  return questions.map((question) => found.get(question.id) ?? question);
}
