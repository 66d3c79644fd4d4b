/**
 * Requests to the S3-compatible store. This module alone knows `minio`. Every request runs through `#request`, which
 * decides what an error means: a store that cannot be used becomes `StoreUnavailable`, which is retried and never
 * counted against a stage. What may pass at once is tried again for some seconds, so that one busy moment of the store
 * costs no attempt of an activity.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { createHash, randomUUID } from 'node:crypto';
import { open, readFile, stat } from 'node:fs/promises';
import { pipeline, Transform, type Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, CopyDestinationOptions, CopySourceOptions } from 'minio';
import { StageFailure } from '../../workflows/contract/index.js';
import { collect, eachOf } from './collections.js';
import { objectKeys } from './keys.js';
import { elementOf, isOfStore, RefusedAnswer, Silence, StoreTransport, type Exchange } from './transport.js';

/** Where the store is and how to log in. */
export interface S3Options {
  endpoint: string;
  bucket: string;
  prefix?: string;
  accessKey: string;
  secretKey: string;
  region?: string;
  /** Seconds without a byte sent or received after which a request ends; 60 unless told. */
  idleSeconds?: number;
  /** Seconds for which a request that the store fails is tried again before it fails its activity; 3 unless told. */
  retrySeconds?: number;
  /** The signal that ends requests of the work that runs now, such as that of the current activity. */
  signal?: () => AbortSignal | undefined;
  /** Called while bytes move to and from the store, a few times a second at most. */
  moved?: () => void;
}

/** An object as a listing tells it. */
export interface ListedObject {
  key: string;
  bytes: number;
  modified: Date;
}

/** A part of a listing: at most 1,000 objects, and when it was asked for, by `performance.now()`. */
export interface ListedPage {
  objects: ListedObject[];
  asked: number;
}

/** Codes of refusals that another attempt, or time, mends. Every answer of status 5xx, 408, 429 and 499 is one too. */
const PASSING = new Set([
  'BadDigest',
  'ConditionalRequestConflict',
  'ExpiredToken',
  'IncompleteBody',
  'InternalError',
  'InvalidPart',
  'NoSuchUpload',
  'OperationAborted',
  'RequestTimeout',
  'ServiceUnavailable',
  'SlowDown',
  'SlowDownRead',
  'SlowDownWrite',
  'XAmzContentSHA256Mismatch',
  'XMinioServerNotInitialized',
]);
/** Those of them that only a new upload mends. */
const LOST_UPLOAD = new Set(['InvalidPart', 'NoSuchUpload']);
const FULL = 'is full; free space there';
const WRONG_REGION = 'is in another region (ACECODER_S3_REGION)';
/** What says that there is no such object. */
const ABSENT = new Set(['NoSuchKey', 'NotFound']);
/** What says that an object is too large to be copied at once. */
const TOO_LARGE = new Set(['EntityTooLarge', 'InvalidRequest']);
/** Refusals that an operator can end while workers run: which variable is wrong, or what to do. */
const REFUSALS = new Map([
  ['InvalidAccessKeyId', 'does not know the access key (ACECODER_S3_ACCESS_KEY)'],
  // What VersityGW says in its place.
  ['XAdminUserNotFound', 'does not know the access key (ACECODER_S3_ACCESS_KEY)'],
  ['SignatureDoesNotMatch', 'refuses the secret key (ACECODER_S3_SECRET_KEY)'],
  ['AccessDenied', 'denies access with this key (ACECODER_S3_ACCESS_KEY)'],
  ['AccountProblem', 'denies access with this key (ACECODER_S3_ACCESS_KEY)'],
  ['RequestTimeTooSkewed', "refuses requests because this host's clock is more than 15 minutes off; set it by NTP"],
  ['AuthorizationHeaderMalformed', WRONG_REGION],
  ['IllegalLocationConstraintException', WRONG_REGION],
  ['XMinioStorageFull', FULL],
  ['XMinioAdminBucketQuotaExceeded', FULL],
  ['QuotaExceeded', FULL],
]);

const IDLE_SECONDS = 60;
const RETRY_SECONDS = 3;
/** Pauses before a request is tried again: the first, doubled each time, and the longest, in milliseconds. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1000;
/** Time in which the parts of an upload that broke off are removed. Garbage collection removes what is left. */
const ABORT_MS = 5_000;
/** Least time between two calls of `moved` for the same activity. */
const MOVED_MS = 300;
/** Where a store shows whether it honours conditional writes, and the age of a probe that somebody left. */
const PROBES = 'probes/';
const OLD_PROBE_MS = 600_000;
/** Characters of an answer in an error. */
const SHOWN_CHARACTERS = 120;

/** Documents are written by one conditional request, which is not honoured everywhere for multipart uploads. */
const DOCUMENT_BYTES = 5 * 1024 * 1024;
/** Larger files are sent in parts of this size. A part grows where a file would need more than `MOST_PARTS` of them. */
const PART_BYTES = 32 * 1024 * 1024;
const MOST_PARTS = 10_000;
/** The size of a part that a store copies. It says nothing meanwhile, so that it is to take some seconds at most. */
const COPY_BYTES = 1024 ** 3;
/** Parts of one file that are in memory at once. */
const PARTS_AT_ONCE = 4;

/** A store that cannot hold artifacts safely, whatever time passes. */
export class UnfitStore extends Error {}

/** Objects of one bucket below one prefix. Keys are relative to that prefix. */
export class S3Objects {
  readonly bucket: string;
  readonly #client: Client;
  readonly #transport: StoreTransport;
  readonly #prefix: string;
  readonly #endpoint: string;
  readonly #idleSeconds: number;
  readonly #retrySeconds: number;
  readonly #signal: () => AbortSignal | undefined;
  /** Signals that work follows in place of its activity's; see {@link following}. */
  readonly #followed = new AsyncLocalStorage<{ signal: AbortSignal | undefined }>();
  readonly #moved: () => void;
  /** The check of conditional writes, once for a process. */
  #conditions: Promise<void> | undefined;
  /** When `moved` was called last, for each activity. */
  readonly #told = new WeakMap<object, number>();

  constructor(options: S3Options) {
    const url = new URL(options.endpoint);
    const secure = url.protocol === 'https:';
    this.#idleSeconds = options.idleSeconds ?? IDLE_SECONDS;
    this.#retrySeconds = options.retrySeconds ?? RETRY_SECONDS;
    this.#signal = options.signal ?? (() => undefined);
    this.#moved = options.moved ?? (() => undefined);
    this.#transport = new StoreTransport({ idleSeconds: this.#idleSeconds, moved: () => this.#tellMoved() });
    this.#client = new Client({
      endPoint: url.hostname,
      port: url.port ? Number(url.port) : secure ? 443 : 80,
      useSSL: secure,
      accessKey: options.accessKey,
      secretKey: options.secretKey,
      region: options.region ?? 'us-east-1',
      transport: this.#transport,
    });
    this.#endpoint = url.origin;
    this.bucket = options.bucket;
    this.#prefix = options.prefix ? `${options.prefix.replace(/\/+$/, '')}/` : '';
  }

  /**
   * Runs work whose requests end with `signal`, or with nothing but silence where there is none. Without this, requests
   * of an activity end with the activity's cancellation. What is stored because of that must not.
   */
  following<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    return this.#followed.run({ signal }, work);
  }

  /**
   * Fails with a sentence that names address and bucket when the store cannot be used.
   *
   * @throws UnfitStore where the store overwrites what a conditional write must not: attempts at the same work, and
   * workers that were thought dead, would replace each other's results.
   */
  async check(): Promise<void> {
    // A listing, because its answer says why it is refused. The answer to the cheaper HEAD does not.
    await this.#page('', '', { most: 1 });
    this.#conditions ??= this.#checkConditions().catch((error: unknown) => {
      this.#conditions = undefined;
      throw error;
    });
    await this.#conditions;
  }

  /** Each process has a key of its own, so that workers that start at once do not mislead each other. */
  async #checkConditions(): Promise<void> {
    const key = `${PROBES}${randomUUID()}.json`;
    const unfit = (how: string): UnfitStore =>
      new UnfitStore(
        `the store at ${this.#endpoint} (ACECODER_S3_ENDPOINT) ${how} a write with ` +
          'If-None-Match: *, by which the first ' +
          'result of equal work stays; use a store that honours it, such as MinIO or SeaweedFS',
      );
    try {
      if (!(await this.putJson(key, { first: true }))) throw unfit('refuses, where no object is,');
      if (await this.putJson(key, { first: false })) throw unfit('overwrites an object by');
    } catch (error) {
      if (error instanceof UnfitStore) throw error;
      const refusal = error instanceof StageFailure ? error.cause : error;
      if (error instanceof StageFailure && codeOf(refusal) !== 'NotImplemented') throw error;
      throw unfit(`does not know (${codeOf(refusal) || messageOf(refusal)})`);
    } finally {
      await this.#removeProbes(key).catch(() => undefined);
    }
  }

  /** Removes a probe, and those of processes that were killed at theirs. */
  async #removeProbes(own: string): Promise<void> {
    const old = (await this.list(PROBES)).filter(({ modified }) => Date.now() - modified.getTime() > OLD_PROBE_MS);
    await this.remove([own, ...old.map(({ key }) => key)]);
  }

  /** Stores a document where there is none; false when there is one already. At most 5 MiB. */
  async putJson(key: string, value: unknown): Promise<boolean> {
    const body = Buffer.from(JSON.stringify(value));
    if (body.length > DOCUMENT_BYTES)
      throw new Error(`${key} has ${body.length} bytes; documents hold at most ${DOCUMENT_BYTES / 1024 ** 2} MiB`);
    let tries = 0;
    try {
      await this.#request(`a write of ${key}`, () => {
        tries += 1;
        return this.#client.putObject(this.bucket, this.#prefix + key, body, body.length, {
          'Content-Type': 'application/json',
          'If-None-Match': '*',
        });
      });
      return true;
    } catch (error) {
      if (codeOf(error) !== 'PreconditionFailed') throw error;
      // The answer to an earlier try may be lost although its document was stored.
      return tries > 1 && (await this.#bytes(key))?.equals(body) === true;
    }
  }

  /** Reads a document; undefined where there is none. @throws StageFailure `ArtifactCorrupt` where it is no JSON. */
  async getJson(key: string): Promise<unknown> {
    let document: unknown;
    await this.read(key, async (body) => {
      const text = await textOf(body);
      try {
        document = JSON.parse(text);
      } catch (error) {
        throw new StageFailure('ArtifactCorrupt', `${key} is no JSON: ${(error as Error).message}`, { cause: error });
      }
    });
    return document;
  }

  /**
   * Hands the bytes of an object to `use`; false where there is no such object. Where the bytes break off, `use` is
   * called again with all of them.
   */
  async read(key: string, use: (body: Readable) => Promise<void>): Promise<boolean> {
    return this.#unlessAbsent(
      `a read of ${key}`,
      async (exchange) => {
        const answer = await this.#client.getObject(this.bucket, this.#prefix + key);
        const stated = exchange.headers?.['content-length'];
        let bytes = Number(stated ?? 0);
        const counting = new Transform({
          transform(chunk: Buffer, _encoding, done) {
            bytes += chunk.length;
            done(null, chunk);
          },
        });
        // Of an answer without a length, Node cannot tell that it ended too early.
        const body = stated === undefined ? pipeline(answer, counting, () => undefined) : answer;
        try {
          await use(body);
        } catch (error) {
          if (!exchange.broken && !(error instanceof Error && 'syscall' in error))
            await this.#requireSize(key, bytes, exchange);
          throw new UseFailed(error);
        } finally {
          if (!answer.readableEnded) answer.destroy();
        }
        return true;
      },
      false,
    );
  }

  /** When an object was stored or touched; undefined where there is none. */
  async time(key: string): Promise<Date | undefined> {
    return (await this.#stat(key))?.modified;
  }

  /**
   * Sets an object's time to now by copying it onto itself inside the store; false where it is gone. VersityGW leaves
   * the time as it was at such a copy, and S3 refuses one of more than 5 GiB: the copy then goes in parts, which makes
   * a new object.
   *
   * @param before its time, as the store tells it.
   */
  async touch(key: string, before: Date): Promise<boolean> {
    try {
      if (!(await this.#copyOntoItself(key))) return false;
    } catch (error) {
      if (!TOO_LARGE.has(codeOf(error))) throw error;
    }
    const after = await this.#stat(key);
    if (!after || after.modified > before) return after !== undefined;
    return this.#copyInParts(key, after.bytes);
  }

  async #copyOntoItself(key: string): Promise<boolean> {
    const target = { Bucket: this.bucket, Object: this.#prefix + key };
    return this.#unlessAbsent(
      `a copy of ${key}`,
      async () => {
        await this.#client.copyObject(
          new CopySourceOptions(target),
          // A store refuses to copy an object onto itself unless the copy changes something of it.
          new CopyDestinationOptions({
            ...target,
            MetadataDirective: 'REPLACE',
            UserMetadata: { touched: new Date().toISOString() },
          }),
        );
        return true;
      },
      false,
    );
  }

  /** Sends a file. A large one goes in parts, several at once; the client's own way takes twice as long. */
  async putFile(key: string, path: string): Promise<void> {
    const { size } = await stat(path);
    if (size > PART_BYTES) return this.#putParts(key, path, size);
    const body = await readFile(path);
    await this.#request(`a write of ${key}`, () =>
      this.#client.putObject(this.bucket, this.#prefix + key, body, body.length, {
        'Content-Type': 'application/octet-stream',
      }),
    );
  }

  /**
   * A link with which anybody may read one object until it expires. It makes no request.
   *
   * @param seconds until it expires; a week at most.
   * @param headers of the answer, such as `response-content-type`.
   */
  async link(key: string, seconds: number, headers: Record<string, string> = {}): Promise<string> {
    return this.#client.presignedGetObject(this.bucket, this.#prefix + key, seconds, headers);
  }

  /** Names, sizes and times of the objects under a prefix, in name order. */
  async list(prefix: string): Promise<ListedObject[]> {
    const found: ListedObject[] = [];
    await this.#eachUnder(prefix, (object) => found.push(object));
    return found;
  }

  /** Names of the objects under a prefix. Of hundreds of thousands, memory holds the names alone. */
  async keys(prefix: string): Promise<Set<string>> {
    const found = new Set<string>();
    await this.#eachUnder(prefix, ({ key }) => found.add(key));
    return found;
  }

  /**
   * The objects under a prefix in name order, page by page, so that memory holds a page of millions of objects.
   *
   * @param options.after a key; only what comes after it is listed.
   * @param options.ahead whether the next page is asked for while this one is worked on.
   */
  async *pages(
    prefix: string,
    { after = '', ahead = false }: { after?: string; ahead?: boolean } = {},
  ): AsyncGenerator<ListedPage> {
    interface Asked {
      asked: number;
      page: Promise<Page>;
    }
    const ask = (token: string): Asked => {
      const asked = performance.now();
      const page = this.#page(prefix, token, { after });
      // Who asks ahead looks at it later, or never.
      page.catch(() => undefined);
      return { asked, page };
    };
    for (let request: Asked | undefined = ask(''); request;) {
      const { asked, page }: Asked = request;
      const { objects, next }: Page = await page;
      const following: Asked | undefined = ahead && next !== undefined ? ask(next) : undefined;
      yield {
        objects: objects.map((object) => ({ ...object, key: object.key.slice(this.#prefix.length) })),
        asked,
      };
      request = next === undefined ? undefined : (following ?? ask(next));
    }
  }

  /** Ends an upload in parts that nobody ends, which removes its parts. One that is gone counts as ended. */
  async abortUpload(key: string, uploadId: string): Promise<void> {
    try {
      await this.#request(`the removal of an unfinished upload of ${key}`, () =>
        this.#client.abortMultipartUpload(this.bucket, this.#prefix + key, uploadId),
      );
    } catch (error) {
      if (codeOf(error instanceof StageFailure ? error.cause : error) !== 'NoSuchUpload') throw error;
    }
  }

  /** Removes objects; one that is gone already counts as removed. */
  async remove(keys: readonly string[]): Promise<void> {
    for (let start = 0; start < keys.length; start += 1000) {
      const batch = keys.slice(start, start + 1000);
      const objects = batch.map((key) => `<Object><Key>${escaped(this.#prefix + key)}</Key></Object>`);
      const body = Buffer.from(`<Delete><Quiet>true</Quiet>${objects.join('')}</Delete>`);
      await this.#request(`a delete of ${batch[0]} and ${batch.length - 1} more`, async () => {
        const answer = await this.#client.makeRequestAsync(
          {
            method: 'POST',
            bucketName: this.bucket,
            query: 'delete',
            headers: { 'content-md5': createHash('md5').update(body).digest('base64') },
          },
          body,
        );
        // The client takes any text for success, and hands over what was not removed as a result.
        requireRemoved(await textOf(answer));
      });
    }
  }

  async #eachUnder(prefix: string, visit: (object: ListedObject) => void): Promise<void> {
    for await (const { objects } of this.pages(prefix)) objects.forEach(visit);
  }

  /** One page of a listing. The client takes the beginning of a page for a whole one, so that it is read here. */
  #page(prefix: string, token: string, { most = 1000, after = '' } = {}): Promise<Page> {
    const query = Object.entries({
      'continuation-token': token,
      'encoding-type': 'url',
      'list-type': '2',
      'max-keys': String(most),
      prefix: this.#prefix + prefix,
      'start-after': token === '' && after !== '' ? this.#prefix + after : '',
    })
      .filter(([, value]) => value !== '')
      .map(([name, value]) => `${name}=${encodeURIComponent(value).replace(/[!'()*]/g, percented)}`)
      .join('&');
    return this.#request(`a listing of ${this.#prefix}${prefix}`, async () => {
      const answer = await this.#client.makeRequestAsync({ method: 'GET', bucketName: this.bucket, query });
      return pageOf(await textOf(answer));
    });
  }

  async #stat(key: string): Promise<{ bytes: number; modified: Date } | undefined> {
    return this.#unlessAbsent(
      `a look at ${key}`,
      async () => {
        const { size, lastModified } = await this.#client.statObject(this.bucket, this.#prefix + key);
        return { bytes: size, modified: lastModified };
      },
      undefined,
    );
  }

  /** The bytes of a small object; undefined where there is none. */
  async #bytes(key: string): Promise<Buffer | undefined> {
    let bytes: Buffer | undefined;
    await this.read(key, async (body) => {
      bytes = Buffer.concat(await collect<Buffer>(body));
    });
    return bytes;
  }

  async #putParts(key: string, path: string, size: number): Promise<void> {
    const partBytes = Math.max(PART_BYTES, Math.ceil(size / MOST_PARTS));
    const count = Math.ceil(size / partBytes);
    const file = await open(path);
    try {
      const buffers: Buffer[] = [];
      await this.#upload(key, size, count, async (upload, at, lane) => {
        const bytes = (buffers[lane] ??= Buffer.allocUnsafe(partBytes)).subarray(0, size - at * partBytes);
        const { bytesRead } = await file.read(bytes, 0, bytes.length, at * partBytes);
        if (bytesRead < bytes.length) throw new Error(`${path} became shorter during its upload`);
        const { etag } = await this.#request(`part ${at + 1} of ${count} of an upload of ${key}`, () =>
          this.#client.uploadPart({ ...upload, headers: { 'Content-Length': bytesRead } }, bytes),
        );
        return etag;
      });
    } finally {
      await file.close();
    }
  }

  /** Makes an object of its own bytes anew, inside the store; false where it is gone. */
  async #copyInParts(key: string, size: number): Promise<boolean> {
    const source = encodeURI(`/${this.bucket}/${this.#prefix}${key}`);
    const count = Math.max(1, Math.ceil(size / COPY_BYTES));
    try {
      await this.#upload(key, size, count, async (upload, at) => {
        const last = Math.min(size, (at + 1) * COPY_BYTES) - 1;
        const range = size === 0 ? {} : { 'x-amz-copy-source-range': `bytes=${at * COPY_BYTES}-${last}` };
        const { etag } = await this.#request(`a copy of part ${at + 1} of ${count} of ${key}`, () =>
          this.#client.uploadPart({ ...upload, headers: { 'x-amz-copy-source': source, ...range } }),
        );
        return etag;
      });
      return true;
    } catch (error) {
      if (ABSENT.has(codeOf(error))) return false;
      throw error;
    }
  }

  /** Makes an object out of parts, several at once; `send` returns the ETag of the part with the number `at` from 0. */
  async #upload(
    key: string,
    size: number,
    count: number,
    send: (
      upload: { bucketName: string; objectName: string; uploadID: string; partNumber: number },
      at: number,
      lane: number,
    ) => Promise<string>,
  ): Promise<void> {
    const object = this.#prefix + key;
    const uploadID = await this.#request(`the start of an upload of ${key}`, () =>
      this.#client.initiateNewMultipartUpload(this.bucket, object, {}),
    );
    const etags: { part: number; etag: string }[] = [];
    // Not every store lists its unfinished uploads. By this, garbage collection finds those of killed workers.
    const note = objectKeys.upload(randomUUID());
    try {
      await this.putJson(note, { key, uploadId: uploadID });
      await eachOf(count, PARTS_AT_ONCE, async (at, lane) => {
        const upload = { bucketName: this.bucket, objectName: object, uploadID, partNumber: at + 1 };
        etags[at] = { part: at + 1, etag: await send(upload, at, lane) };
      });
      await this.#endUpload(key, uploadID, etags, size);
    } catch (error) {
      // Parts of an unfinished upload take room. Where the store cannot be reached, garbage collection removes them.
      await this.following(AbortSignal.timeout(ABORT_MS), async () => {
        await this.#once(() => this.#client.abortMultipartUpload(this.bucket, object, uploadID));
        await this.remove([note]);
      }).catch(() => undefined);
      throw error;
    }
    await this.remove([note]).catch(() => undefined);
  }

  async #endUpload(
    key: string,
    uploadID: string,
    etags: { part: number; etag: string }[],
    size: number,
  ): Promise<void> {
    let tries = 0;
    try {
      await this.#request(`the end of an upload of ${key}`, () => {
        tries += 1;
        return this.#client.completeMultipartUpload(this.bucket, this.#prefix + key, uploadID, etags);
      });
    } catch (error) {
      // The answer to an earlier try may be lost although the upload had ended. Content names what is sent in parts.
      if (tries === 1 || (await this.#stat(key).catch(() => undefined))?.bytes !== size) throw error;
    }
  }

  async #unlessAbsent<T>(what: string, request: (exchange: Exchange) => Promise<T>, absent: T): Promise<T> {
    try {
      return await this.#request(what, request);
    } catch (error) {
      if (ABSENT.has(codeOf(error))) return absent;
      throw error;
    }
  }

  /**
   * Makes one request, its body included, and again where the store fails it, for `retrySeconds` from its first failure
   * on. The one place where the error of a request is classified.
   *
   * @param what the request is, for errors, such as `a read of plans/x.json`.
   * @throws StageFailure `StoreUnavailable`, the reason of the signal, or an error with the store's code.
   */
  async #request<T>(what: string, request: (exchange: Exchange) => Promise<T>): Promise<T> {
    const signal = this.#current();
    let until: number | undefined;
    for (let attempt = 0; ; attempt += 1) {
      signal?.throwIfAborted();
      const exchange: Exchange = { signal };
      try {
        return await this.#transport.exchange(exchange, () => request(exchange));
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        const failure = this.#failureOf(what, error, exchange);
        until ??= performance.now() + this.#retrySeconds * 1000;
        const pause = Math.min(FIRST_PAUSE_MS * 2 ** attempt, LONGEST_PAUSE_MS) * (0.5 + Math.random() / 2);
        if (!failure.again || performance.now() + pause > until) throw failure.error;
        await sleep(pause, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** Makes a request whose failure does not matter. */
  #once<T>(request: () => Promise<T>): Promise<T> {
    return this.#transport.exchange({ signal: this.#current() }, request);
  }

  /** What an error of a request means, and whether the same request may succeed a moment later. */
  #failureOf(what: string, thrown: unknown, exchange: Exchange): { error: unknown; again: boolean } {
    // Who reads a body tells that it closed too early, and not why.
    const error = exchange.broken ?? thrown;
    if (error instanceof UseFailed) return { error: error.cause, again: false };
    if (error instanceof StageFailure) return { error, again: false };
    const unavailable = (says: string, again: boolean): { error: StageFailure; again: boolean } => ({
      error: new StageFailure(
        'StoreUnavailable',
        `the store at ${this.#endpoint} (ACECODER_S3_ENDPOINT) ${says}`,
        // An error's document comes as a plain object, and its code is asked for.
        { cause: error instanceof Error ? error : asError(error) },
      ),
      again,
    });
    if (error instanceof Silence)
      return unavailable(
        `has sent nothing for ${this.#idleSeconds} s (ACECODER_STORE_IDLE_SECONDS) during ${what}`,
        false,
      );
    const refused = error instanceof RefusedAnswer ? error : undefined;
    const code = codeOf(error);
    const status = refused?.status ?? exchange.status;
    const refusal =
      code === 'NoSuchBucket' ? `has no bucket '${this.bucket}' (ACECODER_S3_BUCKET)` : REFUSALS.get(code);
    if (refusal !== undefined) return unavailable(`${refusal}; status ${status} to ${what}`, false);
    if (status !== undefined && status >= 300 && status < 400)
      return unavailable(
        `sends ${what} elsewhere (status ${status} to ${exchange.headers?.location ?? 'no address'}); ` +
          'name that address or its region (ACECODER_S3_REGION)',
        false,
      );
    const isForeign =
      (refused && refused.status < 300) ||
      (!exchange.broken && code === '') ||
      (code === 'NotFound' && exchange.method !== 'HEAD' && !isOfStore(exchange.headers ?? {}));
    if (isForeign && status !== undefined)
      return unavailable(
        `answers ${what} with status ${status} and something that is not of an S3 store: ` +
          shown(refused?.text ?? messageOf(error)),
        true,
      );
    if (refused ?? PASSING.has(code)) {
      const document = [code, refused?.reason ?? messageOf(error)].filter(Boolean).join(': ');
      return unavailable(
        `answers ${what} with status ${status}${document ? ` (${shown(document)})` : ''}`,
        !LOST_UPLOAD.has(code),
      );
    }
    if (exchange.broken) {
      const reason = code || messageOf(error);
      return status === undefined
        ? unavailable(`does not answer: ${reason}, during ${what}`, true)
        : unavailable(`broke off its answer to ${what}: ${reason}`, true);
    }
    return { error: error instanceof Error ? error : asError(error), again: false };
  }

  /** Tells a body that ended too early from one that is damaged in the store. @throws Error where it did. */
  async #requireSize(key: string, bytes: number, exchange: Exchange): Promise<void> {
    const stored = await this.#stat(key);
    if (stored && stored.bytes !== bytes)
      exchange.broken = new Error(`it ended after ${bytes} of ${stored.bytes} bytes`);
  }

  /** The signal that ends requests of the work that runs now. */
  #current(): AbortSignal | undefined {
    const followed = this.#followed.getStore();
    return followed ? followed.signal : this.#signal();
  }

  #tellMoved(): void {
    const whose = this.#signal() ?? this;
    const now = performance.now();
    if (now - (this.#told.get(whose) ?? -Infinity) < MOVED_MS) return;
    this.#told.set(whose, now);
    this.#moved();
  }
}

/** What the reader of a body failed with, which is no failure of the store. */
class UseFailed extends Error {
  constructor(cause: unknown) {
    super('the reader of a body failed', { cause });
  }
}

/** A page of a listing: whole keys, and what asks for the page after it. */
interface Page {
  objects: ListedObject[];
  next: string | undefined;
}

/** @throws Error where the text is no whole page. */
function pageOf(text: string): Page {
  requireDocument(text, 'ListBucketResult');
  const isEncoded = elementOf(text, 'EncodingType') === 'url';
  const objects = [...text.matchAll(/<Contents>[^]*?<\/Contents>/g)].map(([found]) => {
    const key = unescaped(elementOf(found, 'Key') ?? '');
    return {
      key: isEncoded ? decodeURIComponent(key.replaceAll('+', ' ')) : key,
      bytes: Number(elementOf(found, 'Size')),
      modified: new Date(elementOf(found, 'LastModified') ?? 0),
    };
  });
  if (elementOf(text, 'IsTruncated') !== 'true') return { objects, next: undefined };
  const next = elementOf(text, 'NextContinuationToken');
  if (next === undefined) throw new Error('a listing that goes on and does not say where');
  return { objects, next: unescaped(next) };
}

/** @throws Error where the answer to a delete is another one, or names what was not removed. */
function requireRemoved(text: string): void {
  requireDocument(text, 'DeleteResult');
  for (const [error] of text.matchAll(/<Error>[^]*?<\/Error>/g))
    if (!ABSENT.has(elementOf(error, 'Code') ?? '')) throw errorOf(error);
}

/** @throws Error where a text is not the whole document of that name; with the store's code where it is an error's. */
function requireDocument(text: string, name: string): void {
  if (/^(<\?[^>]*\?>)?\s*<Error[\s>]/.test(text.trimStart())) throw errorOf(text);
  const isWhole = new RegExp(`<${name}(\\s[^>]*)?(/>|>[^]*</${name}>)\\s*$`).test(text);
  if (!isWhole) throw new Error(shown(text));
}

/** The error of a document of the store. */
function errorOf(document: string): Error {
  const [key, message, code] = ['Key', 'Message', 'Code'].map((name) => elementOf(document, name));
  return Object.assign(new Error([key, message].filter(Boolean).join(': ')), { code });
}

async function textOf(body: AsyncIterable<unknown>): Promise<string> {
  return Buffer.concat((await collect(body)).filter((chunk) => Buffer.isBuffer(chunk))).toString('utf8');
}

/** As S3 wants it in a signed query: everything but letters, digits and `-._~`. */
function percented(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
}

function escaped(text: string): string {
  return text.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
}

const ENTITIES = new Map([
  ['amp', '&'],
  ['lt', '<'],
  ['gt', '>'],
  ['quot', '"'],
  ['apos', "'"],
]);

function unescaped(text: string): string {
  return text.replace(/&(?:#(\d+)|#x([\da-f]+)|(\w+));/gi, (whole, decimal?: string, hex?: string, name?: string) => {
    if (name !== undefined) return ENTITIES.get(name) ?? whole;
    return String.fromCodePoint(decimal === undefined ? Number.parseInt(hex!, 16) : Number(decimal));
  });
}

/** An error of the document that the client of the store throws as it is. */
function asError(document: unknown): Error {
  return Object.assign(new Error(messageOf(document)), { code: codeOf(document) });
}

/** Code of an error of the store, of its client, or of the network; empty where it has none. */
function codeOf(error: unknown): string {
  return memberOf(error, 'code') ?? memberOf(error, 'Code') ?? '';
}

function messageOf(error: unknown): string {
  return memberOf(error, 'message') ?? memberOf(error, 'Message') ?? 'no reason given';
}

/** A member of an error, or of the document of one, that is a text. */
function memberOf(error: unknown, name: string): string | undefined {
  const value: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, name) : undefined;
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined;
}

/** The beginning of a text, in one line. */
function shown(text: string): string {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > SHOWN_CHARACTERS ? `${line.slice(0, SHOWN_CHARACTERS)}…` : line;
}
