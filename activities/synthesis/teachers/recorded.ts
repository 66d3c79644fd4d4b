/** The teacher that replays stored replies: raw ones of an earlier run, or texts that somebody else has. */
import { z } from 'zod';
import { KEPT_OF_A_LANGUAGE_MODEL } from '../../../workflows/contract/estimation.js';
import { testCases } from '../../../workflows/contract/fields.js';
import { RECORDED_MOVED } from '../../../workflows/contract/recorded.js';
import { parseReply } from '../parse-reply.js';
import { defineTeacher } from './teacher.js';

export const recorded = defineTeacher({
  shape: {
    kind: z.literal('recorded').describe('replays stored replies, which are among the inputs; nothing is asked'),
    testCases,
  },
  moved: RECORDED_MOVED.synthesis,
  paid: false,
  cost: 'stored replies',
  injectsErrors: false,
  note: 'Questions and test cases are stored replies of a language model, replayed.',
  teach: ({ testCases: asked }) => ({
    keptShare: KEPT_OF_A_LANGUAGE_MODEL,
    // Of several replies to a seed the last one counts. A raw one is read as when it came.
    answers: {
      from: 'recorded',
      read: (seed, replies) => {
        const reply = replies.at(-1);
        return parseReply(seed, reply, asked, { checked: reply !== undefined && 'text' in reply });
      },
    },
  }),
});
