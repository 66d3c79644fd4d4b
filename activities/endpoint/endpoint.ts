/**
 * One request to an OpenAI-compatible endpoint, and what its outcome means. The client's own retries are off, because
 * retries are counted here.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI, { APIConnectionTimeoutError, APIError, toFile } from 'openai';
import {
  estimatedTokens,
  HIDDEN,
  StageFailure,
  withoutSecrets,
  type EndpointExecution,
  type EndpointModel,
  type Prompt,
  type Usage,
} from '../../workflows/contract/index.js';
import { pauseMs } from './pace.js';

/** All characters of a prompt's messages. */
export function textOf({ system = '', user }: Prompt): string {
  return system + user;
}

/** A reply that arrived whole, whatever it says. */
interface Arrived {
  status: number;
  body: string;
  cut?: true;
  usage: Usage;
}

/** Why a request is retried. */
export type RetryReason = 'rateLimited' | 'serverError' | 'connection' | 'timeout' | 'brokenReply';

type Outcome =
  { kind: 'arrived'; reply: Arrived } | { kind: 'again'; reason: RetryReason; afterMs?: number; message: string };

type ResponseFormat = Exclude<EndpointModel['responseFormat'], 'auto'>;
const FORMATS: readonly ResponseFormat[] = ['json_schema', 'json_object', 'text'];

/** How an endpoint wants to be asked. A process learns it once, from the endpoint's refusals. */
interface Dialect {
  format: ResponseFormat;
  limit: 'max_tokens' | 'max_completion_tokens';
}

const dialects = new Map<string, Dialect>();

/** Bytes of a body that are kept: more than a reply within a model's limits, less than a document of the store. */
const BODY_BYTES = 1024 * 1024;

/** Refusals that concern one seed and no other. */
const OF_THE_ROW = new Set([
  'content_filter',
  'content_policy_violation',
  'invalid_prompt',
  'context_length_exceeded',
  'string_above_max_length',
]);

/** A batch's file may hold ten thousand replies: it gets as many times the time of one reply. */
const TRANSFER_TIMES_REPLY = 20;

/** Field of a batch's metadata that holds its name, which finds a batch whose id was never stored. */
const BATCH_NAME = 'acecoder_batch';

/** One line of a batch's results: what the endpoint answered to the request of this key. */
interface BatchLine {
  key: string;
  status: number;
  body: string;
}

/** The line; none where it answers no request. */
function batchLine(line: string): BatchLine[] {
  try {
    const { custom_id: key, response } = JSON.parse(line) as {
      custom_id?: unknown;
      response?: { status_code?: unknown; body?: unknown } | null;
    };
    if (typeof key !== 'string' || typeof response?.status_code !== 'number') return [];
    return [{ key, status: response.status_code, body: JSON.stringify(response.body ?? '') }];
  } catch {
    return [];
  }
}

export class Endpoint {
  readonly #client: OpenAI;
  readonly #dialect: Dialect;

  /** @param key of the endpoint. It is sent, and hidden wherever the endpoint repeats it. */
  constructor(
    private readonly model: EndpointModel,
    private readonly execution: Pick<EndpointExecution, 'baseUrl' | 'timeoutSeconds'>,
    private readonly key: string | undefined,
  ) {
    this.#client = new OpenAI({
      // The client reads absent options from the environment, which is no part of the configuration.
      apiKey: key ?? 'none',
      adminAPIKey: null,
      webhookSecret: null,
      fetch: (url, init) => request(url, init, key),
      baseURL: execution.baseUrl,
      organization: null,
      project: null,
      logLevel: 'off',
      maxRetries: 0,
      timeout: execution.timeoutSeconds * 1000,
    });
    const name = `${execution.baseUrl} ${model.model} ${model.responseFormat}`;
    const known = dialects.get(name) ?? {
      format: model.responseFormat === 'auto' ? FORMATS[0]! : model.responseFormat,
      limit: 'max_tokens',
    };
    dialects.set(name, known);
    this.#dialect = known;
  }

  /** The most tokens that a request can be charged for: no token is shorter than a byte. */
  atMost(prompt: Prompt): { promptTokens: number; completionTokens: number } {
    return {
      promptTokens: Buffer.byteLength(textOf(prompt) + JSON.stringify(prompt.schema ?? '')) + 64,
      completionTokens: this.model.maxTokens,
    };
  }

  /**
   * Asks once. Where the endpoint refuses a way of asking, the next way is tried at once.
   *
   * `rowKey` names the request. A retry carries the same `Idempotency-Key`, so a provider that heeds it charges once.
   * `seed` is the sampling seed, which endpoints may ignore.
   *
   * @throws StageFailure `TeacherRejected` for errors that no retry mends: key, model, money, parameters.
   */
  async ask(prompt: Prompt, seed: number, rowKey: string, signal: AbortSignal): Promise<Outcome> {
    for (;;) {
      const dialect = { ...this.#dialect };
      const timeout = AbortSignal.timeout(this.execution.timeoutSeconds * 1000);
      try {
        const response = await this.#client.chat.completions
          .create(this.#request(prompt, seed, dialect), {
            signal: AbortSignal.any([signal, timeout]),
            headers: { 'Idempotency-Key': idempotencyKey(rowKey, dialect) },
          })
          .asResponse();
        return { kind: 'arrived', reply: this.#arrived(response.status, await readBody(response), prompt) };
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (timeout.aborted)
          return {
            kind: 'again',
            reason: 'timeout',
            message: `no whole reply within ${this.execution.timeoutSeconds} s`,
          };
        const outcome = this.#meaning(error, prompt, dialect);
        if (outcome !== 'askOtherwise') return outcome;
      }
    }
  }

  /**
   * Sends requests as one batch, whose metadata carries `name`. @returns the batch's id.
   *
   * @throws StageFailure `TeacherRejected` where the endpoint has no batches, or refuses this one.
   */
  async createBatch(
    name: string,
    requests: readonly { key: string; prompt: Prompt; seed: number }[],
    signal: AbortSignal,
  ): Promise<string> {
    const lines = requests.map(({ key, prompt, seed }) =>
      JSON.stringify({
        custom_id: key,
        method: 'POST',
        url: '/v1/chat/completions',
        body: this.#request(prompt, seed, this.#dialect),
      }),
    );
    const file = await this.#sure(signal, (limited) =>
      toFile(Buffer.from(`${lines.join('\n')}\n`), `${name}.jsonl`).then((upload) =>
        this.#client.files.create({ file: upload, purpose: 'batch' }, { signal: limited }),
      ),
    );
    const { id } = await this.#sure(signal, (limited) =>
      this.#client.batches.create(
        {
          input_file_id: file.id,
          endpoint: '/v1/chat/completions',
          completion_window: '24h',
          metadata: { [BATCH_NAME]: name },
        },
        { signal: limited, headers: { 'Idempotency-Key': name } },
      ),
    );
    return id;
  }

  /** The id of the endpoint's batch of that name; undefined where there is none. */
  async findBatch(name: string, signal: AbortSignal): Promise<string | undefined> {
    return this.#sure(signal, async (limited) => {
      for await (const { id, metadata } of this.#client.batches.list({ limit: 100 }, { signal: limited }))
        if (metadata?.[BATCH_NAME] === name) return id;
      return undefined;
    });
  }

  /**
   * Whether a batch has ended, and the lines of its results.
   *
   * @throws StageFailure `TeacherRejected` for a batch that failed as a whole.
   */
  async batch(
    id: string,
    signal: AbortSignal,
  ): Promise<{ ended: false; done: number } | { ended: true; lines: BatchLine[] }> {
    const batch = await this.#sure(signal, (limited) => this.#client.batches.retrieve(id, { signal: limited }));
    if (batch.status === 'failed') {
      const reasons = (batch.errors?.data ?? []).map(({ message }) => message).join('; ') || 'it does not say why';
      throw this.#rejected(`refuses the batch ${id}: ${withoutSecrets(this.#withoutKey(reasons)).slice(0, 500)}`);
    }
    if (!['completed', 'expired', 'cancelled'].includes(batch.status))
      return { ended: false, done: batch.request_counts?.completed ?? 0 };
    const lines: BatchLine[] = [];
    for (const file of [batch.output_file_id, batch.error_file_id]) {
      if (!file) continue;
      const text = await this.#sure(signal, async (limited) =>
        (await this.#client.files.content(file, { signal: limited })).text(),
      );
      for (const line of text.split('\n')) if (line.trim() !== '') lines.push(...batchLine(line));
    }
    return { ended: true, lines };
  }

  /** The reply in a line of a batch; undefined where its request must be asked by itself. */
  batched({ status, body }: BatchLine, prompt: Prompt): Arrived | undefined {
    if (status === 200)
      return this.#arrived(status, { text: body.slice(0, BODY_BYTES), cut: body.length > BODY_BYTES }, prompt);
    const code = /"code"\s*:\s*"(\w+)"/.exec(body)?.[1] ?? '';
    return OF_THE_ROW.has(code)
      ? { status, body: this.#withoutKey(body), usage: { promptTokens: 0, completionTokens: 0, estimated: false } }
      : undefined;
  }

  /**
   * Retries a call to a busy or broken endpoint until it succeeds. Each attempt has a time limit: `limited` ends it.
   */
  async #sure<T>(signal: AbortSignal, work: (limited: AbortSignal) => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt += 1) {
      const timeout = AbortSignal.timeout(TRANSFER_TIMES_REPLY * this.execution.timeoutSeconds * 1000);
      try {
        return await work(AbortSignal.any([signal, timeout]));
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        const outcome: Outcome | 'askOtherwise' = timeout.aborted
          ? { kind: 'again', reason: 'timeout', message: 'the batch request did not end in time' }
          : this.#meaning(error, { user: '' }, this.#dialect);
        if (outcome === 'askOtherwise' || outcome.kind !== 'again') {
          const reason = error instanceof Error ? this.#withoutKey(error.message) : String(error);
          throw this.#rejected(`refuses a batch: ${reason}`);
        }
        await sleep(pauseMs(attempt, outcome.afterMs, Math.random()), undefined, { signal });
      }
    }
  }

  #request(
    { system, user, schema }: Prompt,
    seed: number,
    { format, limit }: Dialect,
  ): OpenAI.Chat.ChatCompletionCreateParamsNonStreaming {
    const { model, temperature, topP, maxTokens } = this.model;
    return {
      model,
      temperature,
      top_p: topP,
      seed,
      [limit]: maxTokens,
      messages: [
        ...(system === undefined ? [] : [{ role: 'system' as const, content: system }]),
        { role: 'user', content: user },
      ],
      ...(format === 'text' || schema === undefined
        ? {}
        : {
            response_format:
              format === 'json_schema' ? { type: format, json_schema: { ...schema, strict: true } } : { type: format },
          }),
    };
  }

  #arrived(status: number, { text, cut }: { text: string; cut: boolean }, prompt: Prompt): Arrived {
    const body = this.#withoutKey(text);
    return { status, body, ...(cut ? { cut: true } : {}), usage: usageOf(body, prompt) };
  }

  #meaning(error: unknown, prompt: Prompt, dialect: Dialect): Outcome | 'askOtherwise' {
    const message = withoutSecrets(this.#withoutKey(error instanceof Error ? causesOf(error) : String(error))).slice(
      0,
      500,
    );
    if (!(error instanceof APIError)) return { kind: 'again', reason: 'brokenReply', message };
    const { status, code, headers } = error as APIError;
    if (status !== undefined && status >= 300 && status < 400) {
      const location = headers?.get('location') ?? '';
      const target = URL.canParse(location, this.execution.baseUrl)
        ? new URL(location, this.execution.baseUrl).origin
        : 'no address';
      throw this.#rejected(
        `answers with ${status}, a redirect to ${target}, which is not followed, because the request holds a key; ` +
          'give the final address as execution.endpoint.baseUrl',
      );
    }
    if (status === undefined)
      return { kind: 'again', reason: error instanceof APIConnectionTimeoutError ? 'timeout' : 'connection', message };
    // An account without money gets the status of a rate limit too.
    if (status === 429 && code !== 'insufficient_quota') {
      const afterMs = headers ? retryAfterMs(headers, Date.now()) : undefined;
      return { kind: 'again', reason: 'rateLimited', message, ...(afterMs === undefined ? {} : { afterMs }) };
    }
    if (status >= 500 || status === 408 || status === 409 || status === 425) {
      const afterMs = headers ? retryAfterMs(headers, Date.now()) : undefined;
      return { kind: 'again', reason: 'serverError', message, ...(afterMs === undefined ? {} : { afterMs }) };
    }
    if (status === 400 || status === 422) {
      if (this.#askOtherwise(message, dialect)) return 'askOtherwise';
      if (OF_THE_ROW.has(code ?? '')) {
        const body = this.#withoutKey(JSON.stringify({ error: (error.error as unknown) ?? { code, message } }));
        return {
          kind: 'arrived',
          reply: { status, body, usage: { promptTokens: 0, completionTokens: 0, estimated: false } },
        };
      }
    }
    const answer = code ? `${status} (${code})` : String(status);
    throw this.#rejected(`refuses model '${this.model.model}' with ${answer}: ${message}`);
  }

  #rejected(what: string): StageFailure {
    return new StageFailure('TeacherRejected', `the endpoint ${this.execution.baseUrl} ${what}`);
  }

  /** Whether the endpoint refused a way of asking that has an alternative. */
  #askOtherwise(message: string, tried: Dialect): boolean {
    if (/max_completion_tokens/.test(message) && tried.limit === 'max_tokens') {
      this.#dialect.limit = 'max_completion_tokens';
      return true;
    }
    const next = FORMATS[FORMATS.indexOf(tried.format) + 1];
    if (
      this.model.responseFormat !== 'auto' ||
      next === undefined ||
      !/response_format|json_schema|json_object|json mode|structured output/i.test(message)
    )
      return false;
    if (this.#dialect.format === tried.format) this.#dialect.format = next;
    return true;
  }

  #withoutKey(text: string): string {
    return this.key ? text.replaceAll(this.key, HIDDEN) : text;
  }
}

/**
 * Sends a request of the client with headers of our own: the client adds those of `OPENAI_CUSTOM_HEADERS`. A redirect
 * is an answer and is not followed, so that neither key nor prompts go to another host.
 */
function request(url: string | URL | Request, init: RequestInit = {}, key?: string): Promise<Response> {
  const headers = new Headers({ accept: 'application/json', authorization: `Bearer ${key ?? 'none'}` });
  if (typeof init.body === 'string') headers.set('content-type', 'application/json');
  const idempotencyKey = new Headers(init.headers).get('idempotency-key');
  if (idempotencyKey !== null) headers.set('idempotency-key', idempotencyKey);
  return fetch(url, { ...init, headers, redirect: 'manual' });
}

/** The key of one request. It includes the way of asking, because equal keys must carry equal bodies. */
function idempotencyKey(rowKey: string, { format, limit }: Dialect): string {
  return `${rowKey}-${format}-${limit}`;
}

/**
 * Milliseconds that an answer asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date. Undefined where
 * it does not say.
 */
export function retryAfterMs(headers: Pick<Headers, 'get'>, now: number): number | undefined {
  const [milliseconds, after] = [headers.get('retry-after-ms'), headers.get('retry-after')];
  const value =
    milliseconds !== null && Number.isFinite(Number(milliseconds))
      ? Number(milliseconds)
      : after === null
        ? NaN
        : Number.isFinite(Number(after))
          ? Number(after) * 1000
          : Date.parse(after) - now;
  return Number.isFinite(value) ? Math.max(0, value) : undefined;
}

/** Tokens as the endpoint reports them, or estimated from the characters. */
function usageOf(body: string, prompt: Prompt): Usage {
  const fallback = {
    promptTokens: estimatedTokens(textOf(prompt)),
    completionTokens: estimatedTokens(body),
    estimated: true,
  };
  try {
    const { usage } = JSON.parse(body) as { usage?: { prompt_tokens?: unknown; completion_tokens?: unknown } };
    const [promptTokens, completionTokens] = [usage?.prompt_tokens, usage?.completion_tokens].map((each) =>
      Number.isInteger(each) && (each as number) >= 0 ? (each as number) : undefined,
    );
    return promptTokens === undefined || completionTokens === undefined
      ? fallback
      : { promptTokens, completionTokens, estimated: false };
  } catch {
    return fallback;
  }
}

/** The text of a body, up to {@link BODY_BYTES}. Bytes that are no UTF-8 become replacement characters. */
async function readBody(response: Response): Promise<{ text: string; cut: boolean }> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  if (response.body) {
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > BODY_BYTES) break;
    }
  }
  // Not every form of storage takes a text with NUL, and a reply has no use for one.
  return {
    text: Buffer.concat(chunks).subarray(0, BODY_BYTES).toString('utf8').replaceAll('\u0000', '\ufffd'),
    cut: bytes > BODY_BYTES,
  };
}

/** Messages of an error and its causes, because a failed fetch says why in its cause alone. */
function causesOf(error: Error): string {
  const cause = error.cause instanceof Error ? causesOf(error.cause) : '';
  const code = 'code' in error && typeof error.code === 'string' ? ` (${error.code})` : '';
  return [`${error.message}${code}`, cause].filter(Boolean).join(': ');
}
