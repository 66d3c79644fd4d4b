/**
 * What the body of an error says, whichever vendor wrote it. `meaning.ts` reads it; it judges nothing.
 */
import { isObject, jsonOf } from './json.js';

/** An error in one form: its codes in small letters, and all that is said in words. */
export interface Said {
  /** Numbers and words: `code`, `type`, `status` and the like of the error and of what it wraps. */
  codes: string[];
  /** Messages, one after another, with the names of the parameters that the error points at. */
  text: string;
}

const CODES = new Set(
  'code,type,status,status_code,error_code,error_type,errorCode,reason,blockReason,block_reason'.split(','),
);
const TEXTS = new Set(
  'message,msg,detail,description,error_description,error_msg,title,reason,raw,error,explanation'.split(','),
);
/** Names of parameters: `param` of OpenAI, `loc` of pydantic, `field` of Google. */
const NAMES = new Set(['param', 'parameter', 'loc', 'field']);
const NESTED = new Set(
  [
    'error,errors,detail,details,message,metadata,raw,innererror,inner_error,fieldViolations,cause',
    'reasons,promptFeedback',
  ].flatMap((names) => names.split(',')),
);
/** Numbers that llama.cpp gives next to its message. */
const NUMBERS = new Set(['n_ctx', 'n_prompt_tokens']);

/** Bodies that are quoted inside a body, at most. */
const DEPTH = 10;
/** Characters that are read: a message, and no document. */
const CHARACTERS = 20_000;

/**
 * Codes and words of an error's body: an object, an array of one (Gemini), an error in an error's text (gateways), a
 * list of fields (FastAPI), or plain text.
 *
 * @example
 * saidIn('[{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "no"}}]').codes; // ['400', ...]
 */
export function saidIn(body: string): Said {
  const codes: string[] = [];
  const texts: string[] = [];
  const read = (value: unknown, depth: number): void => {
    if (depth > DEPTH) return;
    if (typeof value === 'string') return words(value, depth);
    if (Array.isArray(value)) return value.slice(0, 20).forEach((each) => read(each, depth + 1));
    if (!isObject(value)) return;
    for (const [name, inner] of Object.entries(value)) {
      if (CODES.has(name) && (typeof inner === 'string' || typeof inner === 'number'))
        codes.push(String(inner).toLowerCase());
      if (NAMES.has(name) && inner !== null) texts.push([inner].flat().map(String).join('.'));
      if (NUMBERS.has(name) && typeof inner === 'number') texts.push(`${name}=${inner}`);
      if (typeof inner === 'string' ? TEXTS.has(name) : NESTED.has(name)) read(inner, depth + 1);
    }
  };
  const words = (text: string, depth: number): void => {
    const short = text.slice(0, CHARACTERS);
    const quoted = /^\s*[[{]/.test(short) ? jsonOf(short) : undefined;
    if (quoted === undefined) texts.push(short);
    else read(quoted, depth + 1);
  };
  read(body, 0);
  return { codes, text: texts.join('\n').slice(0, CHARACTERS) };
}
