/**
 * How requests travel to the store: with a limit for silence, with the signal of the activity that makes them, and with
 * answers that are errors told as errors. The client of the store tries some of those again by itself, loses their
 * status and prints a line of its own for each, so that none of them may reach it.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { ClientRequest, type IncomingHttpHeaders, type IncomingMessage, type RequestOptions } from 'node:http';
import { add } from '../metrics.js';

/** Bytes of a request's body that are written at once. The store's taking them is seen after each. */
const SLICE_BYTES = 256 * 1024;
/** Characters of an error's document that are read. */
const DOCUMENT_CHARACTERS = 64 * 1024;
/** Looks at a request in its limit of silence, and the longest time between two of them in milliseconds. */
const LOOKS = 20;
const LONGEST_LOOK_MS = 1000;

/** What is known of one request, from its start to the end of its answer's body. */
export interface Exchange {
  /** Ends the request when it is aborted. */
  readonly signal: AbortSignal | undefined;
  method?: string;
  /** Status and headers of the answer, once they are there. */
  status?: number;
  headers?: IncomingHttpHeaders;
  /** Why the request or its answer broke off. */
  broken?: Error;
}

/** An answer that is an error of the store, or no answer of a store at all. */
export class RefusedAnswer extends Error {
  /** Error code and message of the store's document; undefined where it has none. */
  readonly code: string | undefined;
  readonly reason: string | undefined;

  /** @param text of the answer, or its beginning. */
  constructor(
    readonly status: number,
    readonly headers: IncomingHttpHeaders,
    readonly text: string,
  ) {
    super(`status ${status}`);
    this.code = elementOf(text, 'Code');
    this.reason = elementOf(text, 'Message');
  }
}

/** Silence of the store that lasted too long. */
export class Silence extends Error {}

export interface TransportOptions {
  /** Seconds without a byte sent or received after which a request ends. */
  idleSeconds: number;
  /** Called while bytes move, at most once a second for each request and once when it ends. */
  moved: () => void;
}

type OnResponse = (response: IncomingMessage) => void;

/** Makes the requests of the store's client. {@link StoreTransport.exchange} says whose request one is. */
export class StoreTransport {
  readonly #exchanges = new AsyncLocalStorage<Exchange>();

  constructor(private readonly options: TransportOptions) {}

  /** Runs what makes one request, whose course `exchange` takes. */
  exchange<T>(exchange: Exchange, make: () => Promise<T>): Promise<T> {
    return this.#exchanges.run(exchange, make);
  }

  /** What the client of the store calls in place of `http.request` and `https.request`. */
  readonly request = (options: string | URL | RequestOptions, respond?: OnResponse | RequestOptions): ClientRequest => {
    if (typeof options === 'string' || options instanceof URL || typeof respond !== 'function')
      throw new TypeError('a request to the store has options and a function for its answer');
    return new StoreRequest(options, respond, this.#exchanges.getStore() ?? { signal: undefined }, this.options);
  };
}

class StoreRequest extends ClientRequest {
  #response: IncomingMessage | undefined;
  /** What its socket had read and written before this request. */
  #before = { bytesRead: 0, bytesWritten: 0 };

  constructor(
    options: RequestOptions,
    respond: OnResponse,
    private readonly exchange: Exchange,
    private readonly limits: TransportOptions,
  ) {
    super(options);
    exchange.method = this.method;
    this.once('error', (error) => (exchange.broken ??= error));
    this.once('socket', ({ bytesRead, bytesWritten }) => (this.#before = { bytesRead, bytesWritten }));
    this.once('response', (response) => this.#take(response, respond));
    this.#watch();
  }

  /** Sends a body in slices, so that a store which stops taking it is seen. The client gives bodies as a whole. */
  override end(body?: unknown): this {
    if (Buffer.isBuffer(body) && body.length > 0) this.#write(body, 0);
    else super.end(typeof body === 'string' && body !== '' ? body : undefined);
    return this;
  }

  #write(body: Buffer, from: number): void {
    if (from >= body.length) {
      super.end();
      return;
    }
    this.write(body.subarray(from, from + SLICE_BYTES), (error) => {
      if (!error && !this.destroyed) this.#write(body, from + SLICE_BYTES);
    });
  }

  #take(response: IncomingMessage, respond: OnResponse): void {
    const { exchange } = this;
    const status = response.statusCode ?? 0;
    this.#response = response;
    exchange.status = status;
    exchange.headers = response.headers;
    response.once('error', (error) => (exchange.broken ??= error));
    if (isError(status) || (status < 300 && !isOfStore(response.headers))) void this.#refuse(status, response);
    else respond(response);
  }

  async #refuse(status: number, response: IncomingMessage): Promise<void> {
    let text = '';
    try {
      for await (const chunk of response) {
        text += String(chunk);
        if (text.length > DOCUMENT_CHARACTERS) break;
      }
    } catch {
      // The status says enough.
    }
    this.emit('error', new RefusedAnswer(status, response.headers, text));
  }

  /** Looks whether bytes move, and ends the request when none did for long or its signal is aborted. */
  #watch(): void {
    const { idleSeconds, moved } = this.limits;
    const { signal } = this.exchange;
    const everyMs = Math.min(LONGEST_LOOK_MS, (idleSeconds * 1000) / LOOKS);
    let bytes: number | undefined;
    let quiet = 0;
    // Looks are counted, not time: a host that was suspended has lost one look, however long it slept.
    const timer = setInterval(() => {
      const { socket } = this;
      const now = socket ? socket.bytesRead + socket.bytesWritten : 0;
      const isMoving = bytes !== undefined && now !== bytes;
      bytes = now;
      if (isMoving) moved();
      // What has come and waits for its reader is no silence of the store.
      if (isMoving || this.#response?.readableLength) quiet = 0;
      else quiet += 1;
      if (quiet * everyMs >= idleSeconds * 1000) this.#fail(new Silence(`nothing for ${idleSeconds} s`));
    }, everyMs);
    const abort = (): void => this.#fail(signal?.reason instanceof Error ? signal.reason : new Error('aborted'));
    signal?.addEventListener('abort', abort, { once: true });
    this.once('close', () => {
      this.#meter();
      clearInterval(timer);
      signal?.removeEventListener('abort', abort);
      if (this.#response?.complete) moved();
    });
  }

  #meter(): void {
    const { status, broken } = this.exchange;
    add('storeRequests', 1, {
      outcome: status !== undefined && isError(status) ? 'refused' : broken ? 'broken' : 'ok',
    });
    const { bytesRead = 0, bytesWritten = 0 } = this.socket ?? {};
    add('storeBytes', bytesWritten - this.#before.bytesWritten, { direction: 'sent' });
    add('storeBytes', bytesRead - this.#before.bytesRead, { direction: 'received' });
  }

  #fail(error: Error): void {
    this.exchange.broken ??= error;
    (this.#response ?? this).destroy(error);
  }
}

/** Whether an answer of this status goes to our own classification: what may pass, and what leads elsewhere. */
function isError(status: number): boolean {
  return status >= 500 || status === 408 || status === 429 || status === 499 || (status >= 300 && status < 400);
}

/** Whether the answer comes from a store. What stands before a store may answer 200 with a page of its own. */
export function isOfStore(headers: IncomingHttpHeaders): boolean {
  return (
    headers.etag !== undefined ||
    /xml/.test(headers['content-type'] ?? '') ||
    Object.keys(headers).some((name) => name.startsWith('x-amz-'))
  );
}

/** Text of the first element of a name in a document of the store. */
export function elementOf(text: string, name: string): string | undefined {
  const found = new RegExp(`<${name}>([^<]*)</${name}>`).exec(text)?.[1]?.trim();
  return found === '' ? undefined : found;
}
