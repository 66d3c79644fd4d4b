/** Search attributes: by what runs are found in a list. */
import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common';
import { upsertSearchAttributes } from '@temporalio/workflow';
import type { SEARCH_ATTRIBUTES } from '../contract/index.js';
import { call } from './activities.js';

/** Search attributes of a type. */
type AttributeOf<T extends string> = {
  [N in keyof typeof SEARCH_ATTRIBUTES]: (typeof SEARCH_ATTRIBUTES)[N] extends T ? N : never;
}[keyof typeof SEARCH_ATTRIBUTES];

export const keyword = (name: AttributeOf<'Keyword'>) => defineSearchAttributeKey(name, SearchAttributeType.KEYWORD);
export const double = (name: AttributeOf<'Double'>) => defineSearchAttributeKey(name, SearchAttributeType.DOUBLE);

/**
 * Sets attributes of a run, where the namespace has them. One that it has not would fail every workflow task, so the
 * server is asked first.
 */
export async function findBy(attributes: Partial<Record<AttributeOf<'Keyword'>, string | null>>): Promise<void> {
  if (!(await call('inputs.searchAttributes', { summary: 'look for search attributes' }, {}))) return;
  upsertSearchAttributes(
    (Object.entries(attributes) as [AttributeOf<'Keyword'>, string | null][]).map(([name, value]) => ({
      key: keyword(name),
      value,
    })),
  );
}
