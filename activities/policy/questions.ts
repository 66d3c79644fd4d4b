/** Which questions a policy is asked: a selection that depends on ids and salt alone. */
import { FilteredQuestionRow, type ArtifactRef } from '../../workflows/contract/index.js';
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
