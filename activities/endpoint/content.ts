/**
 * Takes the text of the model out of the endpoint's envelope. Every stage that asks an endpoint uses it; it knows none.
 */
import type { ReplyRow } from '../../workflows/contract/rows.js';

/** Why an endpoint's answer holds no text of the model. */
export type EnvelopeFailure =
  'emptyReply' | 'htmlReply' | 'brokenReply' | 'refused' | 'contentFilter' | 'promptTooLong' | 'requestRefused';

/** What the model wrote, or why there is no text. `cut` where the text is not complete. */
export function contentOf(reply: ReplyRow): { text: string; cut?: true } | { failure: EnvelopeFailure } {
  if ('text' in reply) return { text: reply.text };
  const body = reply.body.trim();
  if (reply.status !== 200) {
    const code = codeOf(body);
    return {
      failure:
        /content|prompt_filter|invalid_prompt/.test(code) && code !== 'context_length_exceeded'
          ? 'contentFilter'
          : /length|maximum/.test(code)
            ? 'promptTooLong'
            : 'requestRefused',
    };
  }
  if (body === '') return { failure: 'emptyReply' };
  const envelope = jsonOf(body);
  if (!isObject(envelope)) return { failure: isHtml(body) ? 'htmlReply' : 'brokenReply' };
  const [choice] = Array.isArray(envelope['choices']) ? (envelope['choices'] as unknown[]) : [];
  if (!isObject(choice)) return { failure: envelope['error'] === undefined ? 'emptyReply' : 'brokenReply' };
  const message = isObject(choice['message']) ? choice['message'] : {};
  if (typeof message['refusal'] === 'string' && message['refusal'] !== '') return { failure: 'refused' };
  if (choice['finish_reason'] === 'content_filter') return { failure: 'contentFilter' };
  const parts = message['content'];
  const text =
    typeof parts === 'string'
      ? parts
      : Array.isArray(parts)
        ? parts.map((part) => (isObject(part) && typeof part['text'] === 'string' ? part['text'] : '')).join('')
        : '';
  if (choice['finish_reason'] === 'length' || reply.cut) return { text, cut: true };
  return text.trim() === '' ? { failure: 'emptyReply' } : { text };
}

function codeOf(body: string): string {
  const value = jsonOf(body);
  const error = isObject(value) && isObject(value['error']) ? value['error'] : {};
  const code = error['code'] ?? error['type'];
  return typeof code === 'string' || typeof code === 'number' ? String(code) : '';
}

export function isHtml(text: string): boolean {
  return /^\s*<(?:!doctype|html|head|body|\?xml)/i.test(text);
}

/** The value of a JSON text; undefined where it is none. */
export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
