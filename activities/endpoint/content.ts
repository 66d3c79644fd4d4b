/**
 * Takes the text of the model out of the endpoint's envelope. Every stage that asks an endpoint uses it; it knows none.
 */
import type { ReplyRow } from '../../workflows/contract/rows.js';
import { isHtml, isObject, jsonOf } from './json.js';
import { failureOf, finishOf, type RowFailure } from './meaning.js';

/** Why an endpoint's answer holds no text of the model. */
export type EnvelopeFailure = RowFailure | 'emptyReply' | 'htmlReply' | 'refused' | 'onlyReasoning';

/** Reasons of an end that stand for a filter of contents: OpenAI, Gemini, Zhipu. */
const FILTERED =
  /^(?:content_?filter(?:ed)?|safety|recitation|prohibited_content|blocklist|spii|sensitive|moderation)$/i;
/** Reasons of an end that stand for the limit of tokens. */
const CUT = /^(?:length|max_?(?:output_)?tokens|model_context_window_exceeded|model_length)$/i;

/** What the model wrote, or why there is no text. `cut` where the endpoint ended the text at its limit. */
export function contentOf(reply: ReplyRow): { text: string; cut?: true } | { failure: EnvelopeFailure } {
  if ('text' in reply) return { text: reply.text };
  const body = reply.body.trim();
  if (reply.status !== 200) return { failure: failureOf(reply.status, body) };
  if (body === '') return { failure: 'emptyReply' };
  const envelope = jsonOf(body);
  if (!isObject(envelope)) return { failure: isHtml(body) ? 'htmlReply' : 'brokenReply' };
  const [choice] = Array.isArray(envelope['choices']) ? (envelope['choices'] as unknown[]) : [];
  if (!isObject(choice)) return { failure: envelope['error'] === undefined ? 'emptyReply' : 'brokenReply' };
  const message = isObject(choice['message']) ? choice['message'] : {};
  const finish = finishOf(choice);
  if (isText(message['refusal']) || finish === 'refusal') return { failure: 'refused' };
  if (FILTERED.test(finish)) return { failure: 'contentFilter' };
  const parts = message['content'];
  const text =
    typeof parts === 'string'
      ? parts
      : Array.isArray(parts)
        ? parts.map((part) => (isObject(part) && typeof part['text'] === 'string' ? part['text'] : '')).join('')
        : '';
  if (text.trim() === '') {
    if (hasReasoning(message)) return { failure: 'onlyReasoning' };
    return CUT.test(finish) || reply.cut ? { text, cut: true } : { failure: 'emptyReply' };
  }
  return CUT.test(finish) || reply.cut ? { text, cut: true } : { text };
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value.trim() !== '';
}

/** Whether the model thought aloud, in any of the members in which endpoints hand that out. */
function hasReasoning(message: Record<string, unknown>): boolean {
  const { content, reasoning_content: own, reasoning, reasoning_details: details, thinking } = message;
  const parts = [content, details].flatMap((each) => (Array.isArray(each) ? (each as unknown[]) : []));
  return (
    [own, reasoning, thinking].some(isText) ||
    parts.some((part) => isObject(part) && /think|reason/.test(String(part['type'])))
  );
}
