/**
 * What an endpoint's answer means: whose trouble it is, and what mends it. One table for all vendors and for every way
 * that a trouble comes: as a status, as an error inside HTTP 200, as a line of a batch, and as a stored reply. Pure.
 *
 * {@link RULES} is the place to add a vendor's way of saying something. The first rule that fits decides.
 */
import { isObject, jsonOf } from './json.js';
import { saidIn, type Said } from './said.js';

/** Why a request is retried. */
export type RetryReason = 'rateLimited' | 'serverError' | 'connection' | 'timeout' | 'brokenReply' | 'invalidJson';

/** Why one row has no reply, where other rows have one. */
export type RowFailure = 'contentFilter' | 'promptTooLong' | 'invalidJson' | 'requestRefused' | 'brokenReply';

/** Parameters of sampling that an endpoint may refuse, with their names in a request. */
export const REFUSABLE = { temperature: 'temperature', topP: 'top_p', seed: 'seed' } as const;
export type Refusable = keyof typeof REFUSABLE;

/** What a request asked for, as far as an answer may refuse it. */
export interface Sent {
  maxTokens: number;
  /** The parameters that it carried, with their values. */
  parameters: Partial<Record<Refusable, number>>;
}

export type Meaning =
  /** Ask the same again later. Where that does not help `atMost` times, the row fails. */
  | { kind: 'again'; reason: RetryReason; atMost?: number; failure?: RowFailure }
  /** This row fails, and no other. */
  | { kind: 'row'; failure: RowFailure }
  /** Nobody knows: the row's where the endpoint answers other rows, and else the stage's. */
  | { kind: 'refused' }
  /** No row gets a reply: key, model, money. */
  | { kind: 'stage' }
  /** Ask at once without these parameters. */
  | { kind: 'leaveOut'; parameters: Refusable[] }
  /** Ask at once for a shorter reply. `context` is the context and what of it the prompt takes, in tokens. */
  | { kind: 'shorter'; maxTokens: number; context?: { tokens: number; prompt: number } }
  /** Ask at once by another name of the limit, in another format, or in plain text. */
  | { kind: 'otherLimit' }
  | { kind: 'otherFormat' }
  | { kind: 'plainText' };

interface Rule {
  /** What happened, and whose words these are. */
  what: string;
  /** Statuses, as a pattern; absent: any. An error inside HTTP 200 has the number that it names, or 0. */
  status?: RegExp;
  /** Any of these makes the rule fit; where neither is given, the status does. */
  code?: RegExp;
  text?: RegExp;
  means: Meaning | ((said: Said, sent: Sent) => Meaning | undefined);
}

/** Tokens of a reply that is worth a request. */
const LEAST_REPLY_TOKENS = 64;
/** Attempts after which an error that names no cause is the row's. */
const UNKNOWN_TIMES = 5;
/** Attempts after which a row that alone needs more than the limit per minute fails. */
const HOPELESS_TIMES = 3;

const TOO_LONG = new RegExp(
  [
    String.raw`(?:context|sequence)[ _-]?(?:length|window|size|limit)`,
    String.raw`maximum (?:model|prompt|input|sequence) (?:length|size)|max_model_len|max_seq_len|max input`,
    String.raw`(?:prompt|input|messages?|request|payload|content|body)\b[^.\n]{0,40} (?:is|are|was) too long`,
    String.raw`(?:prompt|input|messages?|request|payload|content|body)\b[^.\n]{0,40} (?:is|are|was) too large`,
    String.raw`(?:prompt|input|request|entity) too (?:long|large)|too many (?:input |prompt )?tokens`,
    String.raw`token (?:count|limit)[^\n]{0,60}exceed|(?:input|prompt) token count`,
    String.raw`exceed[^\n]{0,60}(?:context|token|maximum (?:length|size|input))`,
    String.raw`reduce (?:the|your) (?:length|message|prompt|input|number of)|too large for model`,
    String.raw`range of input length|\binputs\b.{0,3}(?: tokens \+| must have less)`,
    String.raw`string too long|above[_ ]max[_ ]length`,
  ].join('|'),
  'i',
);
const ABOUT_REPLY =
  /max_?(?:completion_|new_|output_)?tokens|maxOutputTokens|(?:completion|output) tokens|(?:in|for) the completion/i;

const LIMITED =
  /(?:tokens|requests) per (?:second|minute|hour|day)|\b[TR]P[SMHD]\b|rate limit|too many requests|capacity exceeded/i;
const NEWER_LIMIT =
  /max_completion_tokens['"`]? instead|unsupported parameter:? ['"`]?max_tokens|['"`]max_tokens['"`] is not support/i;
const FORMAT =
  /response_?(?:format|schema|mime_?type)|json[ _]?(?:schema|object|mode)|structured[ _]output|guided|grammar/i;
const BUSY_CODE =
  /overloaded|unavailable|internal_?(?:server_?)?error|server_error|time_?d?_?out|bad_gateway|upstream|abort/;
const BUSY_TEXT =
  /overloaded|(?:temporarily|currently|service) unavailable|bad gateway|upstream|timed out|internal (?:server )?error/i;

const RULES: readonly Rule[] = [
  { what: 'a wrong key', status: /^(401|407)$/, means: { kind: 'stage' } },
  {
    what: 'no money: OpenAI and Moonshot with the status of a rate limit, Anthropic with 400, DeepSeek with 402',
    status: /^[^5]/,
    code: /insufficient_(?:quota|balance|credit|fund)|billing|current_quota|arrear|account_(?:deactiv|suspend)|^402$/,
    text: /credit balance is too low|insufficient (?:account )?(?:balance|credits?|funds)|out of credits|hard limit/i,
    means: { kind: 'stage' },
  },
  { what: 'no money', status: /^402$/, means: { kind: 'stage' } },
  {
    what: 'a filter of contents: OpenAI, Azure, OpenRouter with 403, DeepSeek, Alibaba, Zhipu (1301), Gemini',
    status: /^(?!5)/,
    code: new RegExp(
      'content_?(?:filter|policy|management|moderation)|invalid_prompt|responsibleai|moderation|data_?inspection|' +
        'prohibited_content|safety|sensitive|^1301$|usage_policy|prompt_blocked',
    ),
    text: new RegExp(
      [
        String.raw`content (?:management |usage )?(?:polic|filter)|contentpolicy|usage polic|acceptable use`,
        String.raw`requires moderation|(?:was|were|been) flagged|content exists risk|inappropriate content`,
        String.raw`blocked (?:by|due to|because)[^.\n]*(?:safety|polic|filter|content)`,
        String.raw`safety (?:system|setting|reason)`,
      ].join('|'),
      'i',
    ),
    means: { kind: 'row', failure: 'contentFilter' },
  },
  {
    what: 'a model that did not write the JSON that was asked for: Groq',
    code: /json_validate_failed|json_generation|invalid_json_output/,
    text: /failed to (?:generate|validate|parse) (?:the )?(?:valid )?json|(?:generate|produce)d? (?:in)?valid json/i,
    means: { kind: 'plainText' },
  },
  {
    what: 'a limit per minute or day, or no capacity: 429, 413 of Groq with tokens per minute, 498 of Groq',
    status: /^(429|498)$/,
    means: rateLimit,
  },
  {
    what: 'the same with another status, or inside HTTP 200',
    status: /^(?!5)/,
    code: /rate_?limit|too_?many_?requests|resource_?exhausted|throttl|capacity|quota_exceeded|^(?:429|498|130[235])$/,
    text: LIMITED,
    means: rateLimit,
  },
  {
    what: 'a model that takes the limit of a reply by its newer name: OpenAI',
    text: NEWER_LIMIT,
    means: { kind: 'otherLimit' },
  },
  {
    what: 'a prompt, or a prompt with its reply, that is longer than the context, whatever the status',
    code: /context_(?:length|window|size)|exceed_context|max_length|request_too_large|prompt_too_long|contextwindow/,
    text: TOO_LONG,
    means: lengths,
  },
  {
    what: 'a reply that may be longer than the model writes: Anthropic, Groq, DeepSeek, Gemini',
    status: /^(0|4..)$/,
    text: ABOUT_REPLY,
    means: lengths,
  },
  { what: 'a request that is too large', status: /^413$/, means: { kind: 'row', failure: 'promptTooLong' } },
  {
    what: 'an endpoint that is busy or broken',
    status: /^(5..|408|409|425|499)$/,
    means: { kind: 'again', reason: 'serverError' },
  },
  {
    what: 'the same inside HTTP 200',
    status: /^0$/,
    code: BUSY_CODE,
    text: BUSY_TEXT,
    means: { kind: 'again', reason: 'serverError' },
  },
  {
    what: 'the same behind a gateway that says 400',
    status: /^400$/,
    code: BUSY_CODE,
    text: BUSY_TEXT,
    means: { kind: 'again', reason: 'serverError', atMost: UNKNOWN_TIMES },
  },
  { what: 'a parameter that the model does not take', status: /^(0|400|404|422)$/, means: refusedParameters },
  {
    what: 'a format that the endpoint does not take',
    status: /^(0|400|404|422)$/,
    text: FORMAT,
    means: { kind: 'otherFormat' },
  },
  { what: 'a request that is refused for no known reason', status: /^(400|422|451)$/, means: { kind: 'refused' } },
  { what: 'no such model, no right to it, no such address', status: /^4/, means: { kind: 'stage' } },
  {
    what: 'an error inside HTTP 200 that names no cause',
    means: { kind: 'again', reason: 'brokenReply', atMost: UNKNOWN_TIMES, failure: 'brokenReply' },
  },
];

/**
 * What an error means.
 *
 * @param status of HTTP; of an error inside HTTP 200, the number that the error names, or 0.
 * @example
 * meaningOf(400, saidIn('{"message": "maximum context length is 8", "code": 400}'), { maxTokens: 9, parameters: {} });
 * // { kind: 'row', failure: 'promptTooLong' }
 */
export function meaningOf(status: number, said: Said, sent: Sent): Meaning {
  for (const { status: statuses, code, text, means } of RULES) {
    if (statuses && !statuses.test(String(status))) continue;
    if ((code ?? text) && !said.codes.some((each) => code?.test(each)) && !text?.test(said.text)) continue;
    const meaning = typeof means === 'function' ? means(said, sent) : means;
    if (meaning) return meaning;
  }
  return { kind: 'refused' };
}

/** Reasons why a choice ended that stand for a failure of the server and not for an end of the text. */
const BROKEN_OFF =
  /^(?:error|abort(?:ed)?|network_error|insufficient_system_resource|cancell?ed|timeout|unknown_error)$/;

/**
 * The error inside an answer with HTTP 200, as OpenRouter and other gateways send it; undefined where the answer is a
 * reply. An error next to a choice that has its text is no error.
 */
export function errorInside(body: string): { status: number; body: string; said: Said } | undefined {
  const parsed = jsonOf(body.trim());
  const envelope: unknown = Array.isArray(parsed) && parsed.length === 1 ? (parsed as unknown[])[0] : parsed;
  if (!isObject(envelope)) return undefined;
  const { choices, error } = envelope;
  const choice: unknown = Array.isArray(choices) ? (choices as unknown[])[0] : undefined;
  if (isObject(choice)) {
    const message = isObject(choice['message']) ? choice['message'] : {};
    const finish = finishOf(choice);
    const inside = choice['error'] ?? message['error'];
    const hasText = typeof message['content'] === 'string' && message['content'].trim() !== '';
    if (!isError(inside) && !BROKEN_OFF.test(finish) && (!isError(error) || hasText)) return undefined;
    return told(isError(inside) ? inside : isError(error) ? error : { message: `ended by ${finish}`, code: 502 });
  }
  // A choice is what makes a reply. An empty list of them without an error is an empty reply.
  if (isError(error)) return told(error);
  const said = saidIn(JSON.stringify(envelope));
  return 'choices' in envelope || (said.codes.length === 0 && said.text === '') ? undefined : told(envelope);
}

/** Why a choice ended, in the endpoint's word; empty where it does not say. */
export function finishOf(choice: Record<string, unknown>): string {
  return typeof choice['finish_reason'] === 'string' ? choice['finish_reason'] : '';
}

function isError(value: unknown): boolean {
  return isObject(value) || (typeof value === 'string' && value !== '') || (Array.isArray(value) && value.length > 0);
}

/** An error in the form of a whole answer. */
function told(error: unknown): { status: number; body: string; said: Said } {
  const body = JSON.stringify({ error });
  const said = saidIn(body);
  const status = said.codes.map(Number).find((code) => code >= 400 && code < 600) ?? 0;
  return { status, body, said };
}

/**
 * A wait for a limit. A row that by itself needs more than the limit would be waited for without end, and fails
 * instead.
 */
function rateLimit({ text }: Said): Meaning {
  const [, limit, requested] = /limit:? (\d+)\b[^\n]*requested:? (\d+)/i.exec(text) ?? [];
  const hopeless = limit !== undefined && Number(requested) > Number(limit);
  return {
    kind: 'again',
    reason: 'rateLimited',
    ...(hopeless ? { atMost: HOPELESS_TIMES, failure: 'promptTooLong' } : {}),
  };
}

/** Ways in which a message gives the tokens of the context, of the prompt, of both, and of the longest reply. */
const CONTEXT = [
  /n_ctx=(\d+)/,
  /\d+ \+ \d+ > (\d+)/,
  /maximum\D{0,20} (?:context|sequence|model)[ _-]?(?:length|window|size|limit)\D{0,30}?(\d+)/i,
  /(?:context|sequence|model)[ _-]?(?:length|window|size|limit)\D{0,30}?(\d+)/i,
  /(\d+) maximum context/i,
  /tokens \+ .{0,20}tokens.{0,3} must be <=? ?(\d+)/i,
  /tokens > (\d+) maximum/i,
  /maximum number of (?:input )?tokens allowed \(?(\d+)/i,
];
const PROMPT = [
  /(\d+) (?:tokens )?(?:in|from|of) (?:the |your )?(?:input|messages?|prompt)/i,
  /(\d+) .?(?:input|inputs|prompt).? tokens/i,
  /(?:messages|prompt|input) (?:resulted in|contains|has|is too long:) (\d+)/i,
  /prompt is (\d+) tokens/i,
  /n_prompt_tokens=(\d+)/,
  /(\d+) \+ \d+ > \d+/,
  /input token count \(?(\d+)/i,
  /request \((\d+) tokens\)/i,
  /> \d+ - (\d+)\)/,
];
const BOTH = [/requested (?:a total of )?(\d+) tokens/i, /requested token count (\d+)/i];
const LONGEST = [
  /at most (\d+) (?:completion |output )?tokens/i,
  /> (\d+), which is the maximum/i,
  /(?:less than or equal to|<=|at most|cannot exceed|not exceed|maximum (?:value )?(?:of|is)) .?(\d+)/i,
  /\[\d+, ?(\d+)\]/,
  /to (\d+) \(inclusive/i,
  /between \d+ and (\d+)/i,
];

function numberBy(patterns: readonly RegExp[], text: string): number | undefined {
  for (const pattern of patterns) {
    const [, digits] = pattern.exec(text) ?? [];
    if (digits !== undefined) return Number(digits);
  }
  return undefined;
}

/** What the context leaves for the reply, or that the prompt alone is too long for it. */
function lengths(said: Said, { maxTokens }: Sent): Meaning | undefined {
  const text = said.text.replace(/(\d)[,_](?=\d{3}\b)/g, '$1');
  const tooLong: Meaning = { kind: 'row', failure: 'promptTooLong' };
  const tokens = numberBy(CONTEXT, text);
  const both = numberBy(BOTH, text);
  const prompt = numberBy(PROMPT, text) ?? (both === undefined ? undefined : both - maxTokens);
  if (tokens !== undefined && prompt !== undefined && prompt > 0) {
    const left = tokens - prompt;
    return left >= LEAST_REPLY_TOKENS && left < maxTokens
      ? { kind: 'shorter', maxTokens: left, context: { tokens, prompt } }
      : tooLong;
  }
  if (ABOUT_REPLY.test(text)) {
    const [, beyond] = /to (\d+) \(exclusive/i.exec(text) ?? [];
    const most = beyond === undefined ? numberBy(LONGEST, text) : Number(beyond) - 1;
    if (most !== undefined && most >= 1 && most < maxTokens) return { kind: 'shorter', maxTokens: most };
    // A parameter that is refused for another reason than its size is not the length's.
    if (!/too (?:large|high|big|long)|exceed|greater|invalid|larger|maximum/i.test(text) && !TOO_LONG.test(text))
      return undefined;
    const half = Math.floor(maxTokens / 2);
    return half >= LEAST_REPLY_TOKENS ? { kind: 'shorter', maxTokens: half } : tooLong;
  }
  return tooLong;
}

const REFUSES = new RegExp(
  [
    String.raw`unsupported|not (?:be )?(?:supported|permitted|allowed|accepted|available|recogni[sz]ed|valid)`,
    String.raw`not compatible|(?:does|do|can)(?: ?not|n't) (?:support|accept|allow|take|be|both|set|use)`,
    String.raw`extra_forbidden|extra (?:input|field)`,
    String.raw`unrecogni[sz]ed|unknown|unexpected|mutually exclusive|incompatible|deprecated|no longer|fixed (?:at|to)`,
    String.raw`(?:may|can|must) only|unset|only (?:the )?default|only one of|either|must not|should not|may not|remove`,
  ].join('|'),
  'i',
);
/** A value outside of its range is a mistake of the configuration, which only its owner mends. */
const RANGE = /between|out of range|in (?:the )?range|(?:less|greater) than|at (?:most|least)|[<>]=|must be [-\d<>]/i;

/** The parameters that an error names and refuses, as far as the request carried them. */
function refusedParameters({ codes, text }: Said, { parameters }: Sent): Meaning | undefined {
  const named = (Object.keys(REFUSABLE) as Refusable[]).filter(
    (name) =>
      parameters[name] !== undefined &&
      new RegExp(`(?<![A-Za-z])(?:${REFUSABLE[name]}|${name})(?![A-Za-z])`).test(text),
  );
  const codedRefusal = codes.some((code) => /unsupported|unknown_?param|unrecogni|extra_forbidden/.test(code));
  if (named.length === 0) return undefined;
  // 1 is all of the nucleus, which is what an endpoint does unless told: nothing is lost without it.
  if (named.join() === 'topP' && parameters.topP === 1) return { kind: 'leaveOut', parameters: named };
  if (!codedRefusal && !REFUSES.test(text)) return undefined;
  if (RANGE.test(text) && !codedRefusal && !/default|unsupported|not support|unset/i.test(text)) return undefined;
  const both = named.includes('temperature') && named.includes('topP') && /both|either|only one|exclusive/i.test(text);
  if (!both) return { kind: 'leaveOut', parameters: named };
  // Either may stay. A value of 1 changes nothing where the other is given.
  return {
    kind: 'leaveOut',
    parameters: [parameters.topP !== 1 && parameters.temperature === 1 ? 'temperature' : 'topP'],
  };
}

/** Why a stored answer that is an error gave no reply. @see meaningOf */
export function failureOf(status: number, body: string): RowFailure {
  const meaning = meaningOf(status, saidIn(body), { maxTokens: 0, parameters: {} });
  if (meaning.kind === 'row') return meaning.failure;
  if (meaning.kind === 'plainText') return 'invalidJson';
  if (meaning.kind === 'shorter') return 'promptTooLong';
  return meaning.kind === 'again' ? (meaning.failure ?? 'requestRefused') : 'requestRefused';
}
