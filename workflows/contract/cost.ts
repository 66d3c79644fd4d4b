/** What replies of a language model cost. Pure. */
import type { EndpointExecution } from './endpoint.js';
import type { RawReply, Usage } from './rows.js';

type Prices = NonNullable<EndpointExecution['prices']>;

/** Cost of a reply in US dollars, out of a batch or by itself. */
export function costOfReply(
  { usage, batch }: Pick<RawReply, 'usage' | 'batch'>,
  endpoint: Pick<EndpointExecution, 'prices' | 'batch'>,
): number {
  return costOf(usage, endpoint.prices) * (batch ? (endpoint.batch?.priceFactor ?? 1) : 1);
}

/** Price of tokens in US dollars. Without prices nothing is paid. */
export function costOf(
  { promptTokens, completionTokens }: Pick<Usage, 'promptTokens' | 'completionTokens'>,
  prices: Prices | undefined,
): number {
  return prices === undefined ? 0 : (promptTokens * prices.input + completionTokens * prices.output) / 1e6;
}

/** Code and English have 3 to 4 characters per token; the smaller number counts more tokens. */
const CHARACTERS_PER_TOKEN = 3;

/** Tokens of a text, estimated. */
export function estimatedTokens(text: string): number {
  return Math.ceil(text.length / CHARACTERS_PER_TOKEN);
}

/** Tokens of instructions and reply, as lengths of the prompt and of JSON replies suggest; never measured on a paid model. */
const INSTRUCTION_TOKENS = 560;
const QUESTION_TOKENS = 260;
const TEST_CASE_TOKENS = 36;

/** What bounds the length of a teacher's reply. */
interface LimitedReply {
  maxTokens: number;
  testCases: number;
}

/** Tokens of a usual reply. */
export function expectedReplyTokens({ maxTokens, testCases }: LimitedReply): number {
  return Math.min(maxTokens, QUESTION_TOKENS + TEST_CASE_TOKENS * testCases);
}

/** What a teacher's replies to `seeds` seeds of `seedBytes` bytes on average will cost: expected, and when each reply is as long as it may be. */
export function teacherEstimate(
  teacher: LimitedReply,
  prices: Prices | undefined,
  seeds: number,
  seedBytes: number,
): { promptTokens: number; completionTokens: number; dollars: number; atMost: number } {
  const promptTokens = Math.round(seeds * (INSTRUCTION_TOKENS + seedBytes / CHARACTERS_PER_TOKEN));
  const completionTokens = Math.round(seeds * expectedReplyTokens(teacher));
  return {
    promptTokens,
    completionTokens,
    dollars: costOf({ promptTokens, completionTokens }, prices),
    atMost: costOf({ promptTokens, completionTokens: seeds * teacher.maxTokens }, prices),
  };
}

/** Money with the digits that matter: cents from a dollar on, four places below. */
export function dollarsText(dollars: number): string {
  return dollars === 0 ? '0' : dollars.toFixed(dollars < 1 ? 4 : 2);
}

/** A program as a chat model gives it, in tokens, where its limit is higher; never measured on a paid model. */
const PROGRAM_TOKENS = 300;
/** Tokens of a question with its instructions. */
const PROGRAM_PROMPT_TOKENS = 260;

/** Tokens of a usual program. */
export function expectedProgramTokens(maxNewTokens: number): number {
  return Math.min(maxNewTokens, PROGRAM_TOKENS);
}

/** What `programs` programs of an endpoint will cost: expected, and when each is as long as it may be. */
export function programsEstimate(
  programs: number,
  maxNewTokens: number,
  prices: Prices | undefined,
): { promptTokens: number; completionTokens: number; dollars: number; atMost: number } {
  const promptTokens = programs * PROGRAM_PROMPT_TOKENS;
  const completionTokens = programs * expectedProgramTokens(maxNewTokens);
  return {
    promptTokens,
    completionTokens,
    dollars: costOf({ promptTokens, completionTokens }, prices),
    atMost: costOf({ promptTokens, completionTokens: programs * maxNewTokens }, prices),
  };
}
