/** Programs of a language model behind an OpenAI-compatible endpoint. */
import { z } from 'zod';
import { keyedLanguage } from '../../languages/index.js';
import { PROMPT_VERSION, promptOf } from '../prompt.js';
import { defineSource } from './source.js';

/** A program as a chat model gives it, in tokens, where its limit is higher; never measured on a paid model. */
const PROGRAM_TOKENS = 300;
/** Tokens of a question with its instructions. */
const PROMPT_TOKENS = 260;

export const openai = defineSource({
  shape: {
    kind: z
      .literal('openai')
      .describe('a language model behind an OpenAI-compatible endpoint; where and at what price: `execution`'),
    model: z.string().min(1).describe('name of the model at the endpoint'),
  },
  paid: true,
  programs: ({ model }) => ({
    from: 'endpoint',
    model,
    request({ question, language }, { temperature, topP, maxNewTokens, seed }) {
      const { messages } = promptOf(question, '', language);
      return {
        prompt: { user: messages.map(({ content }) => content).join('\n\n') },
        key: {
          model,
          prompt: `program-v${PROMPT_VERSION}`,
          question,
          ...keyedLanguage(language),
          parameters: { temperature, topP, maxNewTokens, seed },
        },
      };
    },
    tokens: (programs, maxNewTokens) => ({
      prompt: programs * PROMPT_TOKENS,
      completion: programs * Math.min(maxNewTokens, PROGRAM_TOKENS),
      completionAtMost: programs * maxNewTokens,
    }),
  }),
});
