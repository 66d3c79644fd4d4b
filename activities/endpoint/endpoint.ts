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
import {
  errorInside,
  meaningOf,
  REFUSABLE,
  type Meaning,
  type Refusable,
  type RetryReason,
  type Sent,
} from './meaning.js';
import { pauseMs } from './pace.js';
import type { Refusals } from './refusals.js';
import { saidIn } from './said.js';

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

type Outcome =
  /** `key` is that of the reply: it follows from what was left out of the request. */
  | { kind: 'arrived'; key: string; reply: Arrived }
  /** The row's `reply` where the endpoint answers other rows, and else the stage's `failure`. */
  | { kind: 'refused'; key: string; reply: Arrived; failure: StageFailure }
  | {
      kind: 'again';
      reason: RetryReason;
      afterMs?: number;
      message: string;
      /** What the row has in the end where asking `times` times did not help. */
      lastly?: { times: number; key: string; reply: Arrived };
    };

type ResponseFormat = Exclude<EndpointModel['responseFormat'], 'auto'>;
const FORMATS: readonly ResponseFormat[] = ['json_schema', 'json_object', 'text'];

/** How an endpoint wants to be asked. A process learns it once, from the endpoint's refusals. */
interface Dialect {
  format: ResponseFormat;
  limit: 'max_tokens' | 'max_completion_tokens';
  /** Whether it has answered any request. */
  answered: boolean;
  /** Tokens of the longest reply that it takes. */
  mostTokens: number;
  /** Tokens of its context, and tokens of a byte of a prompt, once it has told. */
  context?: { tokens: number; perByte: number };
}

/** One way of asking for one row. */
interface Way extends Pick<Dialect, 'format' | 'limit'>, Sent {}

const dialects = new Map<string, Dialect>();

/** Bytes of a body that are kept: more than a reply within a model's limits, less than a document of the store. */
const BODY_BYTES = 1024 * 1024;
/** Bytes of an error's body that are kept. */
const ERROR_BYTES = 64 * 1024;

/** How much longer than reckoned a prompt may be, as a share and in tokens, where its reply has to fit behind it. */
const PROMPT_MARGIN = { share: 0.1, tokens: 32 };
/** Tokens of a reply that are asked for at least. */
const LEAST_TOKENS = 64;

/** Bodies of errors by their headers: the client hands out what it understands of one, and not every vendor's form. */
const bodies = new WeakMap<object, string>();

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

/** What an endpoint tells of itself while it is asked. */
interface Listener {
  /** A request was made once more, in another way. */
  count: (name: `retries.${RetryReason}`) => void;
  /** How requests differ from the configuration, in a sentence that is the same for every row. */
  say: (sentence: string) => void;
}

/** An error of an answer: its status, or the one that an error inside HTTP 200 names. */
interface Trouble {
  status: number;
  /** Of the answer, or of the error that it wraps. */
  body: string;
  /** The reply as it came, where it came with HTTP 200. */
  whole?: Arrived;
  message: string;
  afterMs?: number;
}

export class Endpoint {
  readonly #client: OpenAI;
  readonly #dialect: Dialect;

  /** @param key of the endpoint. It is sent, and hidden wherever the endpoint repeats it. */
  constructor(
    private readonly model: EndpointModel,
    private readonly execution: Pick<EndpointExecution, 'baseUrl' | 'timeoutSeconds'>,
    private readonly key: string | undefined,
    private readonly refusals: Refusals,
    private readonly listener: Listener,
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
      answered: false,
      mostTokens: Infinity,
    };
    dialects.set(name, known);
    this.#dialect = known;
    if (refusals.names.length > 0) this.#sayLeftOut();
  }

  /** Whether the endpoint has answered any request of this process with this model. */
  get answered(): boolean {
    return this.#dialect.answered;
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
   * `baseKey` names what is asked. A retry carries the same `Idempotency-Key`, so a provider that heeds it charges
   * once. `seed` is the sampling seed, which endpoints may ignore; null: it is not sent.
   *
   * @throws StageFailure `TeacherRejected` for errors that no retry mends: key, model, money.
   */
  async ask(prompt: Prompt, seed: number | null, baseKey: string, signal: AbortSignal): Promise<Outcome> {
    let plain = false;
    let maxTokens = this.#room(prompt);
    for (;;) {
      const way = { ...this.#way(seed, maxTokens), ...(plain ? { format: 'text' as const } : {}) };
      const key = this.refusals.keyOf(baseKey);
      const timeout = AbortSignal.timeout(this.execution.timeoutSeconds * 1000);
      let trouble: Trouble | Outcome;
      try {
        const response = await this.#client.chat.completions
          .create(this.#request(prompt, way), {
            signal: AbortSignal.any([signal, timeout]),
            headers: { 'Idempotency-Key': this.#idempotencyKey(key, way) },
          })
          .asResponse();
        const whole = this.#arrived(response.status, await readBody(response), prompt);
        const inside = errorInside(whole.body);
        if (!inside) {
          this.#dialect.answered = true;
          return { kind: 'arrived', key, reply: whole };
        }
        trouble = { ...inside, whole, message: inside.said.text.slice(0, 500), ...pauseOf(response.headers) };
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        trouble = timeout.aborted
          ? { kind: 'again', reason: 'timeout', message: `no whole reply within ${this.execution.timeoutSeconds} s` }
          : this.#troubleOf(error);
      }
      if ('kind' in trouble) return trouble;
      const { status, body, message } = trouble;
      const meaning = meaningOf(status, saidIn(body), way);
      const reply = rowOf(trouble);
      switch (meaning.kind) {
        case 'again': {
          const { reason, atMost } = meaning;
          return {
            kind: 'again',
            reason,
            message,
            ...(trouble.afterMs === undefined ? {} : { afterMs: trouble.afterMs }),
            ...(atMost === undefined
              ? {}
              : {
                  lastly: {
                    times: atMost,
                    key,
                    reply: meaning.failure === 'brokenReply' ? (trouble.whole ?? reply) : reply,
                  },
                }),
          };
        }
        case 'row':
          return { kind: 'arrived', key, reply };
        case 'stage':
          throw this.#refusal(trouble);
        case 'plainText':
          if (way.format === 'text' || prompt.schema === undefined) return { kind: 'arrived', key, reply };
          plain = true;
          this.listener.count('retries.invalidJson');
          continue;
        case 'leaveOut':
          await this.refusals.add(meaning.parameters, message);
          this.#sayLeftOut();
          continue;
        case 'shorter':
          maxTokens = meaning.maxTokens;
          this.#learnLengths(meaning, prompt);
          continue;
        case 'otherLimit':
          if (way.limit === 'max_completion_tokens') break;
          this.#dialect.limit = 'max_completion_tokens';
          continue;
        case 'otherFormat':
          if (!plain && this.#nextFormat(way.format)) continue;
          break;
        case 'refused':
      }
      return { kind: 'refused', key, reply, failure: this.#refusal(trouble) };
    }
  }

  /**
   * Sends requests as one batch, whose metadata carries `name`. @returns the batch's id.
   *
   * @throws StageFailure `TeacherRejected` where the endpoint has no batches, or refuses this one.
   */
  async createBatch(
    name: string,
    requests: readonly { key: string; prompt: Prompt; seed: number | null }[],
    signal: AbortSignal,
  ): Promise<string> {
    const lines = requests.map(({ key, prompt, seed }) =>
      JSON.stringify({
        custom_id: key,
        method: 'POST',
        url: '/v1/chat/completions',
        body: this.#request(prompt, this.#way(seed, this.#room(prompt))),
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
    if (status === 200) {
      const arrived = this.#arrived(status, { text: body.slice(0, BODY_BYTES), cut: body.length > BODY_BYTES }, prompt);
      return errorInside(arrived.body) ? undefined : arrived;
    }
    const meaning = meaningOf(status, saidIn(body), this.#way(null, this.model.maxTokens));
    return meaning.kind === 'row' ? rowOf({ status, body: this.#withoutKey(body), message: '' }) : undefined;
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
        const trouble = timeout.aborted ? undefined : this.#troubleOf(error);
        if (trouble && !('kind' in trouble)) {
          const meaning = meaningOf(trouble.status, saidIn(trouble.body), this.#way(null, this.model.maxTokens));
          if (meaning.kind === 'stage') throw this.#refusal(trouble);
          if (meaning.kind !== 'again') throw this.#rejected(`refuses a batch: ${trouble.message}`);
        }
        await sleep(pauseMs(attempt, trouble?.afterMs, Math.random()), undefined, { signal });
      }
    }
  }

  /** The parameters of sampling that a request carries: those that are set and not refused. */
  #way(seed: number | null, maxTokens: number): Way {
    const { temperature, topP } = this.model;
    const { format, limit } = this.#dialect;
    const set: [Refusable, number | null][] = [
      ['temperature', temperature],
      ['topP', topP],
      ['seed', seed],
    ];
    const refused = this.refusals.names;
    const parameters = Object.fromEntries(set.filter(([name, value]) => value !== null && !refused.includes(name)));
    return { format, limit, maxTokens, parameters };
  }

  #request(
    { system, user, schema }: Prompt,
    { format, limit, maxTokens, parameters }: Way,
  ): OpenAI.Chat.ChatCompletionCreateParamsNonStreaming {
    return {
      model: this.model.model,
      ...Object.fromEntries(Object.entries(parameters).map(([name, value]) => [REFUSABLE[name as Refusable], value])),
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

  /** The limit of a reply to this prompt: what the endpoint is known to leave for it. */
  #room(prompt: Prompt): number {
    const { mostTokens, context } = this.#dialect;
    const most = Math.min(this.model.maxTokens, mostTokens);
    if (!context) return most;
    const prompted = bytesOf(prompt) * context.perByte * (1 + PROMPT_MARGIN.share) + PROMPT_MARGIN.tokens;
    return Math.min(most, Math.max(LEAST_TOKENS, Math.floor(context.tokens - prompted)));
  }

  /** Keeps what the endpoint said of its context, for later rows. */
  #learnLengths({ maxTokens, context }: Extract<Meaning, { kind: 'shorter' }>, prompt: Prompt): void {
    const { maxTokens: configured } = this.model;
    if (context) {
      const perByte = Math.max(context.prompt / bytesOf(prompt), this.#dialect.context?.perByte ?? 0);
      this.#dialect.context = { tokens: context.tokens, perByte };
      this.listener.say(
        `maxTokens ${configured} is more than the context of ${context.tokens} tokens leaves; it is lowered to fit`,
      );
    } else {
      this.#dialect.mostTokens = Math.min(this.#dialect.mostTokens, maxTokens);
      this.listener.say(`maxTokens ${configured} is more than the model takes; it is lowered`);
    }
  }

  #sayLeftOut(): void {
    const names = this.refusals.names.map((name) => REFUSABLE[name]).join(', ');
    this.listener.say(`the model '${this.model.model}' refuses ${names}; requests leave that out`);
  }

  #arrived(status: number, { text, cut }: { text: string; cut: boolean }, prompt: Prompt): Arrived {
    const body = this.#withoutKey(text);
    return { status, body, ...(cut ? { cut: true } : {}), usage: usageOf(body, prompt) };
  }

  /**
   * What went wrong with a request, or that it is asked again because no whole answer came.
   *
   * @throws StageFailure `TeacherRejected` for a redirect.
   */
  #troubleOf(error: unknown): Trouble | (Extract<Outcome, { kind: 'again' }> & { afterMs?: number }) {
    const message = withoutSecrets(this.#withoutKey(error instanceof Error ? causesOf(error) : String(error))).slice(
      0,
      500,
    );
    if (!(error instanceof APIError)) return { kind: 'again', reason: 'brokenReply', message };
    const { status, headers } = error as APIError;
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
    const body = this.#withoutKey((headers && bodies.get(headers)) ?? message);
    const said = withoutSecrets(saidIn(body).text).trim().slice(0, 500);
    return { status, body, message: said === '' ? message : said, ...(headers ? pauseOf(headers) : {}) };
  }

  /** That no row gets a reply. */
  #refusal({ status, body, message }: Trouble): StageFailure {
    const code = saidIn(body).codes.find((each) => !/^\d+$/.test(each) && each !== 'invalid_request_error');
    const answer = code === undefined ? String(status) : `${status} (${code})`;
    return this.#rejected(`refuses model '${this.model.model}' with ${answer}: ${message}`);
  }

  #rejected(what: string): StageFailure {
    return new StageFailure('TeacherRejected', `the endpoint ${this.execution.baseUrl} ${what}`);
  }

  /** Whether there is a format behind one that the endpoint refused. */
  #nextFormat(tried: ResponseFormat): boolean {
    const next = FORMATS[FORMATS.indexOf(tried) + 1];
    if (this.model.responseFormat !== 'auto' || next === undefined) return false;
    if (this.#dialect.format === tried) this.#dialect.format = next;
    return true;
  }

  /** The key of one request. It includes the way of asking, because equal keys must carry equal bodies. */
  #idempotencyKey(rowKey: string, { format, limit, maxTokens }: Way): string {
    return `${rowKey}-${format}-${limit}${maxTokens === this.model.maxTokens ? '' : `-${maxTokens}`}`;
  }

  #withoutKey(text: string): string {
    return this.key ? text.replaceAll(this.key, HIDDEN) : text;
  }
}

/**
 * Sends a request of the client with headers of our own: the client adds those of `OPENAI_CUSTOM_HEADERS`. A redirect
 * is an answer and is not followed, so that neither key nor prompts go to another host.
 */
async function request(url: string | URL | Request, init: RequestInit = {}, key?: string): Promise<Response> {
  const headers = new Headers({ accept: 'application/json', authorization: `Bearer ${key ?? 'none'}` });
  if (typeof init.body === 'string') headers.set('content-type', 'application/json');
  const idempotencyKey = new Headers(init.headers).get('idempotency-key');
  if (idempotencyKey !== null) headers.set('idempotency-key', idempotencyKey);
  const response = await fetch(url, { ...init, headers, redirect: 'manual' });
  if (response.status < 400) return response;
  const { text } = await readBody(response);
  const { status, statusText } = response;
  const answer = new Response(text, { status, statusText, headers: response.headers });
  bodies.set(answer.headers, text);
  return answer;
}

/** The row that a trouble of its own leaves: the error as it came, and nothing to pay. */
function rowOf({ status, body }: Trouble): Arrived {
  return {
    // An error inside HTTP 200 that names no status is a refusal.
    status: status === 0 ? 400 : status,
    body: body.slice(0, ERROR_BYTES),
    usage: { promptTokens: 0, completionTokens: 0, estimated: false },
  };
}

/** Bytes of a prompt's messages. */
function bytesOf(prompt: Prompt): number {
  return Math.max(1, Buffer.byteLength(textOf(prompt)));
}

/** The pause that headers ask for, where they do. */
function pauseOf(headers: Pick<Headers, 'get'>): { afterMs?: number } {
  const afterMs = retryAfterMs(headers, Date.now());
  return afterMs === undefined ? {} : { afterMs };
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
