/** Answers of models in all their shapes, and the program in each. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { extractProgram, programOfReply } from './programs.js';

const Answers = z.object({
  replies: z.array(z.object({ what: z.string(), answer: z.string(), entryPoint: z.string(), program: z.string() })),
  opened: z.array(z.object({ what: z.string(), answer: z.string(), programPrefix: z.string(), program: z.string() })),
});
const { replies, opened } = Answers.parse(
  JSON.parse(readFileSync(new URL('../../test/fixtures/answers.json', import.meta.url), 'utf8')),
);

describe('the program of a whole reply', () => {
  it.each(replies.map((each) => [each.what, each] as const))('is found in %s', (_, { answer, entryPoint, program }) => {
    expect(programOfReply(answer, entryPoint)).toBe(program);
  });

  it('is found in linear time', () => {
    const fences = '```\n'.repeat(50_000);
    const prose = 'This is it.\n'.repeat(50_000);
    for (const text of [fences, `(${prose}`, `"""${fences}`, `def f(:\n${prose}`]) programOfReply(text, 'f');
    // In quadratic time each of these takes minutes, and tags in tags overflow the stack.
    const [blanks, tags, open] = [' \n', '<code>', '<code '].map((each) => each.repeat(200_000));
    for (const text of [`f${blanks}x`, tags!, open!, '<|im_end|>'.repeat(50_000)]) programOfReply(text, 'f');
  });
});

describe('the program of an opened answer', () => {
  it.each(opened.map((each) => [each.what, each] as const))('is found in %s', (_, each) => {
    expect(extractProgram(each.answer, each.programPrefix)).toBe(each.program);
  });
});
