/** What replies of a language model cost. Pure. */
import { SOURCES } from '../../activities/policy/sources/index.js';
import { TEACHERS } from '../../activities/synthesis/teachers/index.js';
import { CHARACTERS_PER_TOKEN, type EndpointExecution, type Tokens } from './endpoint.js';
import { NO_REPLIES, type RepliesEstimate } from './estimation.js';
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

/** Tokens of a text, estimated. */
export function estimatedTokens(text: string): number {
  return Math.ceil(text.length / CHARACTERS_PER_TOKEN);
}

/** What replies will cost: expected, and when each is as long as it may be. Without tokens nothing is asked. */
export function repliesEstimate(tokens: Tokens | undefined, prices: Prices | undefined): RepliesEstimate {
  if (!tokens) return NO_REPLIES;
  const { prompt: promptTokens, completion: completionTokens, completionAtMost } = tokens;
  return {
    promptTokens,
    completionTokens,
    dollars: costOf({ promptTokens, completionTokens }, prices),
    atMost: costOf({ promptTokens, completionTokens: completionAtMost }, prices),
  };
}

/** What a teacher's replies to `seeds` seeds of `seedBytes` bytes on average will cost. */
export function teacherEstimate(
  teacher: { kind: string },
  prices: Prices | undefined,
  seeds: number,
  seedBytes: number,
): RepliesEstimate {
  const { answers } = TEACHERS.of(teacher);
  return repliesEstimate(answers.from === 'endpoint' ? answers.tokens(seeds, seedBytes) : undefined, prices);
}

/** What `programs` programs of a source will cost; undefined where it asks for none. */
export function programsEstimate(
  source: { kind: string },
  programs: number,
  maxNewTokens: number,
  prices: Prices | undefined,
): RepliesEstimate | undefined {
  const found = SOURCES.of(source);
  return found.from === 'endpoint' ? repliesEstimate(found.tokens(programs, maxNewTokens), prices) : undefined;
}

/** Money with the digits that matter: cents from a dollar on, four places below. */
export function dollarsText(dollars: number): string {
  return dollars === 0 ? '0' : dollars.toFixed(dollars < 1 ? 4 : 2);
}
