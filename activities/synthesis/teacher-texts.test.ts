/** Texts of language models, whole and broken, and what is read out of each. */
import { describe, expect, it } from 'vitest';
import { seedOf, TEACHER_TEXTS, type TeacherText } from '../../test/fixtures/teacher-texts.js';
import { QuestionRow } from '../../workflows/contract/index.js';
import { questionOf } from './asking.js';
import { parseReply } from './parse-reply.js';

describe('a text of a teacher', () => {
  it.each(TEACHER_TEXTS.map((each): [string, TeacherText] => [each.what, each]))('%s', (_, each) => {
    const seed = seedOf(each);
    const taught = parseReply(seed, { seedId: seed.id, text: each.text }, 20);
    const row = QuestionRow.parse(questionOf(seed, taught));
    const { right } = each;
    if ('failure' in right) return expect(taught.failure).toBe(right.failure);
    expect(taught.failure).toBeUndefined();
    expect(row.testCases).toHaveLength(right.tests);
    expect(taught.repairs ?? []).toEqual(right.repairs ?? []);
    expect(row.form).toBe(right.form);
    if (right.entryPoint !== undefined) expect(row.entryPoint).toBe(right.entryPoint);
    if (right.first !== undefined) expect(row.testCases[0]!.test).toEqual(right.first);
  });

  it('is read in linear time, however it is broken', () => {
    // In quadratic time each of these takes minutes.
    for (const text of [
      '{'.repeat(200_000),
      `{"question": "${'\\d'.repeat(200_000)}`,
      `{${', '.repeat(200_000)}`,
      '<question>'.repeat(200_000),
      '## Question\n'.repeat(200_000),
      `**Question${' '.repeat(200_000)}x`,
    ])
      expect(parseReply(seedOf(TEACHER_TEXTS[0]!), { seedId: 's', text }, 20).failure).toBe('invalidJson');
    const parts = ['`'.repeat(200_000), "'".repeat(200_001), '```x\n'.repeat(100_000), '<test>'.repeat(200_000)];
    for (const part of parts)
      expect(
        parseReply(seedOf(TEACHER_TEXTS[0]!), { seedId: 's', text: `Question: a\nTests:\n- ${part}` }, 20).failure,
      ).toBe('noEntryPoint');
  });
});
