/**
 * Which endpoints an llm worker asks, and which of its variables each may have as a key: `ACECODER_ENDPOINTS`. Whoever
 * may start workflows names an address and a variable, and must not send a secret of the worker to a host of his.
 */
import { StageFailure, type EndpointExecution } from '../../workflows/contract/index.js';

/** How an endpoint is reached, as a configuration says it. */
type Named = Pick<EndpointExecution, 'baseUrl' | 'keyVariable'>;

/** The key of an endpoint. @throws StageFailure `TeacherRejected` for what this worker does not allow. */
export type KeyOf = (endpoint: Named) => string | undefined;

/** An address that may be asked, with what lies below it. */
interface Allowed {
  protocol: string;
  hostname: string;
  /** `*`: any. */
  port: string;
  /** Path without a slash at its end. */
  path: string;
  /** Variables whose values may be sent as a key; none: it is asked without a key alone. */
  keys: readonly string[];
}

/**
 * What is allowed where the variable is not set: known services, each with its own key, and this host without a key.
 */
const USUAL = [
  'https://api.openai.com=OPENAI_API_KEY',
  'https://api.anthropic.com=ANTHROPIC_API_KEY',
  'https://generativelanguage.googleapis.com=GEMINI_API_KEY',
  'https://api.deepseek.com=DEEPSEEK_API_KEY',
  'https://api.mistral.ai=MISTRAL_API_KEY',
  'https://api.together.xyz=TOGETHER_API_KEY',
  'https://api.groq.com=GROQ_API_KEY',
  'https://openrouter.ai=OPENROUTER_API_KEY',
  'http://127.0.0.1:*',
  'http://localhost:*',
  'http://[::1]:*',
].join(',');

const FORM = 'https://host/path=KEY_VARIABLE, with a port of * for any, and without =KEY_VARIABLE for no key';

/**
 * The list of a variable, such as `https://llm.example/v1=LLM_KEY,http://127.0.0.1:*`. A text without entries allows
 * nothing.
 *
 * @throws Error that names an entry which is none.
 */
export function readEndpoints(text = USUAL): Allowed[] {
  const entries = text
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
  return entries.map((entry) => {
    const [, address, keys] = /^([^=]*)(?:=([A-Z][A-Z0-9_]*(?:\|[A-Z][A-Z0-9_]*)*))?$/.exec(entry) ?? [];
    const anyPort = address !== undefined && /^https?:\/\/[^/]+:\*(?:\/|$)/.test(address);
    const url = addressOf(anyPort ? address.replace(':*', '') : (address ?? ''));
    if (!url) throw new Error(`ACECODER_ENDPOINTS holds ${JSON.stringify(entry)}; an entry is ${FORM}.`);
    return { ...url, port: anyPort ? '*' : url.port, keys: keys?.split('|') ?? [] };
  });
}

/** An address in its parts, as a request would use it; undefined where it is none, or holds more than an address. */
function addressOf(text: string): Omit<Allowed, 'keys'> | undefined {
  if (!URL.canParse(text)) return undefined;
  const { protocol, hostname, port, pathname, search, hash, username, password } = new URL(text);
  if (!/^https?:$/.test(protocol) || search + hash + username + password !== '' || /[?#]/.test(text)) return undefined;
  return { protocol, hostname, port, path: pathname.replace(/\/+$/, '') };
}

/**
 * The value of the variable that a configuration names as the key of an endpoint; undefined where it names none.
 *
 * @throws StageFailure `TeacherRejected` for an endpoint or a key that the list does not allow, and for a variable that
 *   is not set. The message names the value and the variable to set.
 */
export function keyFor(
  allowed: readonly Allowed[],
  { baseUrl, keyVariable }: Named,
  env: Readonly<Record<string, string | undefined>>,
): string | undefined {
  const asked = addressOf(baseUrl);
  const matching = allowed.filter(
    ({ protocol, hostname, port, path }) =>
      asked?.protocol === protocol &&
      asked.hostname === hostname &&
      (port === '*' || asked.port === port) &&
      (asked.path === path || asked.path.startsWith(`${path}/`)),
  );
  const names = matching.flatMap(({ keys }) => keys);
  if (matching.length === 0 || (keyVariable !== null && !names.includes(keyVariable))) {
    const keys = names.length > 0 ? `the key of ${[...new Set(names)].join(' or ')}` : 'no key';
    const what =
      matching.length === 0
        ? `may not ask the endpoint ${baseUrl} (execution.endpoint.baseUrl)`
        : `may send ${keys} to the endpoint ${baseUrl}, and not that of ${keyVariable} ` +
          '(execution.endpoint.keyVariable)';
    const entry = `${baseUrl}${keyVariable === null ? '' : `=${keyVariable}`}`;
    throw new StageFailure(
      'TeacherRejected',
      `this llm worker ${what}; to allow it, add ${entry} to ACECODER_ENDPOINTS there and start the worker again`,
    );
  }
  if (keyVariable === null) return undefined;
  const key = Object.hasOwn(env, keyVariable) ? env[keyVariable]?.trim() : undefined;
  if (!key)
    throw new StageFailure(
      'TeacherRejected',
      `the environment variable ${keyVariable}, which execution.endpoint.keyVariable names, is not set on this ` +
        'llm worker; set it there and start the worker again',
    );
  return key;
}
