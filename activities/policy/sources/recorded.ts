/** Programs that somebody else had written: the first stored samples of a question's seed. */
import { z } from 'zod';
import { RECORDED_MOVED } from '../../../workflows/contract/recorded.js';
import { defineSource } from './source.js';

export const recorded = defineSource({
  shape: {
    kind: z
      .literal('recorded')
      .describe(
        'programs that somebody else had written, among the inputs; no model is asked; ' +
          'of a seed, the first ones are taken',
      ),
  },
  moved: RECORDED_MOVED,
  paid: false,
  programs: () => ({ from: 'recorded' }),
});
