/**
 * The sandbox as an HTTP server, for trainers that are no Temporal workflows. The requests and everything in them are
 * hostile: bodies, headers and connections are bounded, and no text of a request reaches a header, a log or a file.
 *
 * What could not be judged is a status that a client retries, and never a verdict.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { once, setMaxListeners } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isIP, type AddressInfo, type Socket } from 'node:net';
import { z } from 'zod';
import { RunCode, runCodeAnswer, limitsOf, sandboxError, Submit, submissionOf, submitAnswer } from './fusion.js';
import { MOST_CPU_SECONDS, MOST_MEMORY_MIB } from './fusion.js';
import { Refused, Unjudged, type JudgedProgram, type Lanes } from './lanes.js';
import { jobOf, referenceOf, RowLimits, SandboxRow, whyNoRow } from './rows.js';

const MIB = 1024 * 1024;

/** Bounds of the server. Times are in seconds. */
const BOUNDS = {
  /** Bytes of one body. */
  bodyBytes: 64 * MIB,
  /** Bytes of all bodies that are read or worked on. */
  allBodyBytes: 512 * MIB,
  /** Programs that wait or run. */
  programs: 4_096,
  /** Rows of one request. */
  rows: 1_000,
  connections: 1_024,
  headerSeconds: 10,
  requestSeconds: 60,
  idleSeconds: 75,
};

export interface VerifierOptions {
  /** Address or name to listen on; any but one of loopback needs a token. */
  host: string;
  /** 0: any free one. */
  port: number;
  /** What requests carry as a bearer token, or as the password of basic authentication. */
  token?: string | undefined;
  bounds?: Partial<typeof BOUNDS>;
}

/** A running server. */
export interface Verifier {
  /** As in `http://127.0.0.1:8740`. */
  url: string;
  /** Takes no more requests, answers those that it has, and ends. */
  close: () => Promise<void>;
}

/** Seconds after which a client may ask again. */
const RETRY_SECONDS = 2;
const LEAST_TOKEN = 16;
/** Seconds for which the rest of a body that was refused is read. */
const DRAIN_SECONDS = 2;

/** An answer other than 200, to be thrown. */
class Answer extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly headers: Record<string, string> = {},
  ) {
    super(message);
  }
}

const busy = (status: number, message: string): Answer =>
  new Answer(status, message, { 'Retry-After': String(RETRY_SECONDS) });

const Verify = z.strictObject({
  rows: z.array(z.unknown()).min(1),
  limits: RowLimits.optional(),
});

/** What `/verify` says of one row. */
type RowAnswer =
  | { id: unknown; judged: true; passRate: number; outcomes: unknown; flags: string[] }
  | { id: unknown; judged: false; passRate: null; retry: boolean; error: string };

function isLoopback(address: string): boolean {
  return address === '::1' || /^(::ffff:)?127\./.test(address);
}

/** The address to listen on. @throws Error that says what to type where it needs a token, or the token is short. */
async function addressOf({ host, token }: VerifierOptions): Promise<string> {
  if (token !== undefined && token.length < LEAST_TOKEN)
    throw new Error(
      `ACECODER_SANDBOX_TOKEN has ${token.length} characters; at least ${LEAST_TOKEN} are needed. ` +
        'Type: export ACECODER_SANDBOX_TOKEN="$(openssl rand -hex 32)"',
    );
  const { address } = isIP(host) ? { address: host } : await lookup(host);
  if (token === undefined && !isLoopback(address))
    throw new Error(
      `${host} is no loopback address, so that others can reach it: a token is needed. ` +
        'Type: export ACECODER_SANDBOX_TOKEN="$(openssl rand -hex 32)"',
    );
  return address;
}

/**
 * Starts the server over lanes, which stay the caller's.
 *
 * @throws Error where the address needs a token and there is none, or cannot be listened on.
 * @example
 * const verifier = await startVerifier(lanes, { host: '127.0.0.1', port: 0 });
 * await verifier.close();
 */
export async function startVerifier(lanes: Lanes, options: VerifierOptions): Promise<Verifier> {
  const address = await addressOf(options);
  const bounds = { ...BOUNDS, ...options.bounds };
  const handler = new Handler(lanes, bounds, options.token);
  const server = createServer(
    {
      maxHeaderSize: 16_384,
      headersTimeout: bounds.headerSeconds * 1000,
      requestTimeout: bounds.requestSeconds * 1000,
      keepAliveTimeout: bounds.idleSeconds * 1000,
      connectionsCheckingInterval: Math.min(1_000, bounds.headerSeconds * 500),
      requireHostHeader: true,
      insecureHTTPParser: false,
    },
    (request, response) => void handler.handle(request, response),
  );
  server.on('checkContinue', (request, response) => void handler.handle(request, response));
  boundConnections(server, bounds.connections);
  server.listen(options.port, address);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const shown = isIP(address) === 6 ? `[${address}]` : address;
  return {
    url: `http://${shown}:${port}`,
    close: async () => {
      handler.isClosing = true;
      const closed = once(server, 'close');
      server.close();
      server.closeIdleConnections();
      await closed;
    },
  };
}

/**
 * Keeps the number of connections within `most`: a new one takes the place of the oldest that waits for a request.
 * Half-open connections thus keep nobody out.
 */
function boundConnections(server: Server, most: number): void {
  const idle = new Set<Socket>();
  let count = 0;
  server.on('connection', (socket: Socket) => {
    count += 1;
    idle.add(socket);
    socket.on('close', () => {
      count -= 1;
      idle.delete(socket);
    });
    if (count <= most) return;
    const [oldest] = idle;
    oldest?.destroy();
  });
  const atWork = (request: IncomingMessage, response: ServerResponse): void => {
    idle.delete(request.socket);
    response.on('close', () => {
      if (!request.socket.destroyed) idle.add(request.socket);
    });
  };
  server.prependListener('request', atWork);
  server.prependListener('checkContinue', atWork);
}

type Route = (body: unknown, signal: AbortSignal) => Promise<unknown>;

class Handler {
  isClosing = false;
  #bodyBytes = 0;
  readonly #token: Buffer | undefined;
  readonly #routes: Record<string, { route: Route; busy: number }>;

  constructor(
    readonly lanes: Lanes,
    readonly bounds: typeof BOUNDS,
    token: string | undefined,
  ) {
    this.#token = token === undefined ? undefined : digest(token);
    this.#routes = {
      // verl's client asks again after 504 alone, and takes every other error for the program's.
      '/run_code': { route: (body, signal) => this.#runCode(body, signal), busy: 504 },
      '/submit': { route: (body, signal) => this.#submit(body, signal), busy: 503 },
      '/verify': { route: (body, signal) => this.#verify(body, signal), busy: 503 },
    };
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    // Each row of a request waits for it.
    setMaxListeners(0, gone.signal);
    response.on('close', () => {
      if (!response.writableFinished) gone.abort(new Error('the client has gone'));
    });
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    let taken = 0;
    const take = (bytes: number): void => {
      taken += bytes;
      this.#bodyBytes += bytes;
    };
    let reply: { status: number; headers: Record<string, string>; body: unknown };
    try {
      reply = { status: 200, headers: {}, body: await this.#answer(request, response, take, gone.signal) };
    } catch (error) {
      if (gone.signal.aborted) return;
      const { status, headers, message } = error instanceof Answer ? error : new Answer(500, 'the server failed');
      if (!(error instanceof Answer)) console.error(`verifier: ${(error as Error).stack ?? String(error)}`);
      // verl's form has a word for it.
      reply = { status, headers, body: status === 504 ? sandboxError(message) : { error: message } };
    } finally {
      this.#bodyBytes -= taken;
    }
    const { status, headers, body } = reply;
    const text = Buffer.from(JSON.stringify(body));
    // A client that still sends reads no answer. What is left after a while would be read as the next request.
    if (!request.complete && isWorthDraining(request, 2 * this.bounds.bodyBytes))
      await drained(request, 2 * this.bounds.bodyBytes);
    const isUnread = !request.complete;
    response.writeHead(status, {
      'Content-Type': 'application/json; charset=utf-8',
      'Content-Length': text.length,
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
      ...headers,
      ...(isUnread || this.isClosing ? { Connection: 'close' } : {}),
    });
    response.end(text, () => {
      if (isUnread) request.socket.destroySoon();
    });
  }

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    take: (bytes: number) => void,
    signal: AbortSignal,
  ): Promise<unknown> {
    this.#checkCaller(request);
    const { method, url = '' } = request;
    const path = url.split('?', 1)[0]!;
    if (path === '/health') {
      if (method !== 'GET') throw new Answer(405, 'GET is the only method here', { Allow: 'GET' });
      return this.#health();
    }
    const found = Object.hasOwn(this.#routes, path) ? this.#routes[path]! : undefined;
    if (!found) throw new Answer(404, 'there are /run_code, /submit, /verify and /health');
    if (method !== 'POST') throw new Answer(405, 'POST is the only method here', { Allow: 'POST' });
    // A page in a browser can send other types to this address, and not this one.
    if (!/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? ''))
      throw new Answer(415, 'the body must be application/json');
    if (request.headers['content-encoding']) throw new Answer(415, 'the body must not be compressed');
    if (this.isClosing) throw busy(found.busy, 'the server is ending');
    if (this.lanes.size >= this.bounds.programs) throw busy(busyStatus(found.busy), 'too many programs wait');
    if (Number(request.headers['content-length'] ?? 0) > this.bounds.bodyBytes) throw this.#tooLarge();
    if (request.headers.expect !== undefined) response.writeContinue();
    const body = await this.#read(request, take, busyStatus(found.busy));
    try {
      return await found.route(body, signal);
    } catch (error) {
      if (error instanceof Unjudged) throw busy(found.busy, 'the sandbox could not judge it; ask again');
      if (error instanceof Refused) throw new Answer(400, error.message.slice(0, 300));
      if (error instanceof z.ZodError) throw new Answer(400, whyNoRow(error));
      throw error;
    }
  }

  /**
   * @throws Answer where a token is needed and is not there, or where a page in a browser may have sent the request.
   */
  #checkCaller({ headers }: IncomingMessage): void {
    if (this.#token) {
      const [, scheme, value = ''] = /^(bearer|basic) +(.+)$/i.exec(headers.authorization ?? '') ?? [];
      const given =
        scheme?.toLowerCase() === 'basic'
          ? Buffer.from(value, 'base64')
              .toString()
              .replace(/^[^:]*:/, '')
          : value;
      if (!timingSafeEqual(digest(given), this.#token))
        throw new Answer(401, 'the token is missing or wrong', { 'WWW-Authenticate': 'Bearer' });
      return;
    }
    const name = (headers.host ?? '').replace(/:\d*$/, '').replace(/^\[|\]$/g, '');
    if (!(name === 'localhost' || (isIP(name) > 0 && isLoopback(name))) || headers.origin !== undefined)
      throw new Answer(403, 'without a token this server answers programs on its own host only');
  }

  #tooLarge(): Answer {
    return new Answer(413, `the body must not have more than ${this.bounds.bodyBytes} bytes`);
  }

  async #read(request: IncomingMessage, take: (bytes: number) => void, busyNow: number): Promise<unknown> {
    const parts: Buffer[] = [];
    let size = 0;
    // Ended by an error, the usual iterator would end the connection too, and the answer with it.
    for await (const part of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      size += part.length;
      if (size > this.bounds.bodyBytes) throw this.#tooLarge();
      take(part.length);
      if (this.#bodyBytes > this.bounds.allBodyBytes) throw busy(busyNow, 'too many bodies are in work');
      parts.push(part);
    }
    try {
      return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts))) as unknown;
    } catch {
      throw new Answer(400, 'the body is not JSON in UTF-8');
    }
  }

  async #health(): Promise<unknown> {
    const lane = this.lanes.sandboxes[0]!;
    const { harness, python, level, trouble } = await lane.versions().catch((error: Error) => {
      throw busy(503, `the sandbox does not start: ${error.message}`);
    });
    if (trouble) throw busy(503, trouble);
    return {
      status: 'ok',
      harness,
      python,
      level,
      workers: this.lanes.sandboxes.length,
      programs: this.lanes.size,
    };
  }

  async #runCode(body: unknown, signal: AbortSignal): Promise<unknown> {
    const request = RunCode.parse(body);
    const script = { program: request.code, stdin: request.stdin ?? '', limits: limitsOf(request) };
    const run = await this.lanes.run(script, signal);
    if (run.status === 'unjudged') throw new Unjudged(run.reason ?? '');
    return runCodeAnswer(run);
  }

  async #submit(body: unknown, signal: AbortSignal): Promise<unknown> {
    const request = Submit.parse(body);
    const { program, job } = submissionOf(request);
    const { judgement } = await this.lanes.judge({ job }, signal);
    if (!judgement.judged) throw new Unjudged('not judged');
    if (judgement.flags.includes('unparsable')) throw new Refused('one of the tests is no Python text');
    return submitAnswer(request, program, judgement);
  }

  async #verify(body: unknown, signal: AbortSignal): Promise<unknown> {
    const { rows, limits } = Verify.parse(body);
    if (rows.length > this.bounds.rows)
      throw new Answer(413, `a request has ${this.bounds.rows} rows at most, and this one has ${rows.length}`);
    if (this.lanes.size + rows.length > this.bounds.programs) throw busy(429, 'too many programs wait');
    let harness: JudgedProgram['harness'] | undefined;
    // Samples of one question are often equal.
    const known = new Map<string, Promise<RowAnswer>>();
    const verdicts = await Promise.all(
      rows.map(async (given): Promise<RowAnswer> => {
        const id = (given as { id?: unknown } | null)?.id;
        const refuse = (error: string): RowAnswer => ({
          id: typeof id === 'string' ? id : null,
          judged: false,
          passRate: null,
          retry: false,
          error,
        });
        let row: SandboxRow;
        try {
          row = SandboxRow.parse(given);
          row = { ...row, limits: checked({ ...limits, ...row.limits }) };
          const job = jobOf(row);
          const reference = referenceOf(row);
          const key = JSON.stringify({ ...row, id: '' });
          const verdict =
            known.get(key) ??
            this.lanes.judge({ job, reference }, signal).then(
              (judged) => {
                harness = judged.harness;
                return rowAnswer(judged);
              },
              (error: Error) => {
                if (!(error instanceof Unjudged)) throw error;
                return { ...refuse('the sandbox could not judge it; ask again'), retry: true } as RowAnswer;
              },
            );
          known.set(key, verdict);
          return { ...(await verdict), id: row.id };
        } catch (error) {
          if (signal.aborted || !(error instanceof Refused || error instanceof z.ZodError || isMistake(error)))
            throw error;
          return refuse(whyNoRow(error));
        }
      }),
    );
    if (verdicts.every((verdict) => !verdict.judged && verdict.retry)) throw new Unjudged('no row');
    return { verdicts, harness: harness ?? null };
  }
}

/** Where too much waits, verl's status stays; the others have a word for it. */
function busyStatus(status: number): number {
  return status === 504 ? 504 : 429;
}

/** What `jobOf` says of rows is a plain error. */
function isMistake(error: unknown): boolean {
  return error instanceof Error && error.constructor === Error;
}

/** @throws Error where a limit is above what one caller may ask of all. */
function checked(limits: z.infer<typeof RowLimits>): z.infer<typeof RowLimits> {
  const most = Math.max(limits.cpuSecondsPerTest ?? 0, limits.cpuSecondsPerProgram ?? 0);
  if (most > MOST_CPU_SECONDS) throw new Error(`limits: ${MOST_CPU_SECONDS} CPU seconds are the most that is given`);
  if ((limits.memoryBytes ?? 0) > MOST_MEMORY_MIB * MIB)
    throw new Error(`limits: ${MOST_MEMORY_MIB} MiB are the most that is given`);
  return limits;
}

function rowAnswer({ judgement, brokenReference }: JudgedProgram): RowAnswer {
  const { id, outcomes, flags } = judgement;
  const none = { id, judged: false, passRate: null } as const;
  if (brokenReference !== undefined)
    return { ...none, retry: false, error: `its reference fails the test ${brokenReference}` };
  // A checker with a fault has it the next time too.
  if (!judgement.judged && judgement.fault !== undefined) return { ...none, retry: false, error: judgement.fault };
  if (!judgement.judged) return { ...none, retry: true, error: 'the sandbox could not judge it; ask again' };
  if (flags.includes('unparsable')) return { ...none, retry: false, error: 'one of its tests is no Python text' };
  return { id, judged: true, passRate: judgement.passRate, outcomes, flags };
}

/** Whether a client whose request was refused still sends, and no more than `most` bytes. */
function isWorthDraining({ headers }: IncomingMessage, most: number): boolean {
  return headers.expect === undefined && Number(headers['content-length'] ?? 0) <= most;
}

/** Drops what a client still sends, for a short time and up to `most` bytes. */
async function drained(request: IncomingMessage, most: number): Promise<void> {
  let size = 0;
  const timer = setTimeout(() => request.emit('drained'), DRAIN_SECONDS * 1000);
  const done = Promise.race([once(request, 'close'), once(request, 'end'), once(request, 'drained')]);
  request.on('data', (part: Buffer) => {
    size += part.length;
    if (size > most) request.emit('drained');
  });
  await done.catch(() => undefined);
  clearTimeout(timer);
  request.pause();
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
