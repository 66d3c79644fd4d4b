/**
 * Requests to the S3-compatible store. This module alone knows `minio`. Every request runs through `#request`, which
 * decides what an error means: a store that cannot be used becomes `StoreUnavailable`, which is retried and never
 * counted against a stage.
 */
import { open, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { Client, CopyDestinationOptions, CopySourceOptions } from 'minio';
import { StageFailure } from '../../workflows/contract/index.js';
import { collect, eachOf } from './collections.js';

/** Where the store is and how to log in. */
export interface S3Options {
  endpoint: string;
  bucket: string;
  prefix?: string;
  accessKey: string;
  secretKey: string;
  region?: string;
}

/** An object as a listing tells it. */
export interface ListedObject {
  key: string;
  bytes: number;
  modified: Date;
}

const UNAVAILABLE = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ETIMEDOUT',
  'EPIPE',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EAI_AGAIN',
  'ENOTFOUND',
  'ERR_STREAM_PREMATURE_CLOSE',
  'SlowDown',
  'SlowDownRead',
  'SlowDownWrite',
  'InternalError',
  'ServiceUnavailable',
  'XMinioServerNotInitialized',
  'RequestTimeout',
  'NoSuchUpload',
]);
const ABSENT = new Set(['NoSuchKey', 'NotFound']);
/** Refusals that an operator can end while workers run: which variable is wrong, or what to do. */
const REFUSALS: Record<string, string> = {
  InvalidAccessKeyId: 'does not know the access key (ACECODER_S3_ACCESS_KEY)',
  SignatureDoesNotMatch: 'refuses the secret key (ACECODER_S3_SECRET_KEY)',
  AccessDenied: 'denies access with this key (ACECODER_S3_ACCESS_KEY)',
  RequestTimeTooSkewed: "refuses requests because this host's clock is more than 15 minutes off; set it by NTP",
  XMinioStorageFull: 'is full; free space there',
};

/** Documents are written by one conditional request, which is not honoured everywhere for multipart uploads. */
const DOCUMENT_BYTES = 5 * 1024 * 1024;
/** Larger files are sent in parts of this size. A part grows where a file would need more than `MOST_PARTS` of them. */
const PART_BYTES = 32 * 1024 * 1024;
const MOST_PARTS = 10_000;
/** Parts of one file that are in memory at once. */
const PARTS_AT_ONCE = 4;

/** Objects of one bucket below one prefix. Keys are relative to that prefix. */
export class S3Objects {
  readonly bucket: string;
  readonly #client: Client;
  readonly #prefix: string;
  readonly #endpoint: string;

  constructor(options: S3Options) {
    const url = new URL(options.endpoint);
    const secure = url.protocol === 'https:';
    this.#client = new Client({
      endPoint: url.hostname,
      port: url.port ? Number(url.port) : secure ? 443 : 80,
      useSSL: secure,
      accessKey: options.accessKey,
      secretKey: options.secretKey,
      region: options.region ?? 'us-east-1',
    });
    this.#endpoint = url.origin;
    this.bucket = options.bucket;
    this.#prefix = options.prefix ? `${options.prefix.replace(/\/+$/, '')}/` : '';
  }

  /** Fails with a sentence that names address and bucket when the store cannot be used. */
  async check(): Promise<void> {
    // A listing, because its answer says why it is refused. The answer to the cheaper HEAD does not.
    await this.#request(() => this.#client.listObjectsV2Query(this.bucket, this.#prefix, '', '', 1, ''));
  }

  /** Stores a document where there is none; false when there is one already. At most 5 MiB. */
  async putJson(key: string, value: unknown): Promise<boolean> {
    const body = Buffer.from(JSON.stringify(value));
    if (body.length > DOCUMENT_BYTES)
      throw new Error(`${key} has ${body.length} bytes; documents hold at most ${DOCUMENT_BYTES / 1024 ** 2} MiB`);
    try {
      await this.#request(() =>
        this.#client.putObject(this.bucket, this.#prefix + key, body, body.length, {
          'Content-Type': 'application/json',
          'If-None-Match': '*',
        }),
      );
      return true;
    } catch (error) {
      if (codeOf(error) === 'PreconditionFailed') return false;
      throw error;
    }
  }

  /** Reads a document; undefined where there is none. */
  async getJson(key: string): Promise<unknown> {
    let chunks: Buffer[] = [];
    const found = await this.read(key, async (body) => {
      chunks = await collect<Buffer>(body);
    });
    return found ? (JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown) : undefined;
  }

  /** Hands the bytes of an object to `use`; false where there is no such object. */
  async read(key: string, use: (body: Readable) => Promise<void>): Promise<boolean> {
    return this.#unlessAbsent(async () => {
      await use(await this.#client.getObject(this.bucket, this.#prefix + key));
      return true;
    }, false);
  }

  /** When an object was stored or touched; undefined where there is none. */
  async time(key: string): Promise<Date | undefined> {
    return this.#unlessAbsent(
      async () => (await this.#client.statObject(this.bucket, this.#prefix + key)).lastModified,
      undefined,
    );
  }

  /** Sets an object's time to now by copying it onto itself inside the store; false where it is gone. */
  async touch(key: string): Promise<boolean> {
    const target = { Bucket: this.bucket, Object: this.#prefix + key };
    return this.#unlessAbsent(async () => {
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
    }, false);
  }

  /** Sends a file. */
  async putFile(key: string, path: string): Promise<void> {
    await this.#request(() => this.#send(this.#prefix + key, path));
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

  /** Removes objects; one that is gone already counts as removed. */
  async remove(keys: readonly string[]): Promise<void> {
    for (let start = 0; start < keys.length; start += 1000) {
      const batch = keys.slice(start, start + 1000).map((key) => this.#prefix + key);
      await this.#request(() => this.#client.removeObjects(this.bucket, batch));
    }
  }

  async #eachUnder(prefix: string, visit: (object: ListedObject) => void): Promise<void> {
    await this.#request(async () => {
      for await (const item of this.#client.listObjectsV2(this.bucket, this.#prefix + prefix, true)) {
        const { name, size, lastModified } = item as { name?: string; size: number; lastModified?: Date };
        if (name) visit({ key: name.slice(this.#prefix.length), bytes: size, modified: lastModified ?? new Date(0) });
      }
    });
  }

  /** Sends a large file in parts, several at once, each hashed once. The client's own way takes twice as long. */
  async #send(key: string, path: string): Promise<void> {
    const { size } = await stat(path);
    if (size <= PART_BYTES) {
      await this.#client.fPutObject(this.bucket, key, path, {});
      return;
    }
    const partBytes = Math.max(PART_BYTES, Math.ceil(size / MOST_PARTS));
    const count = Math.ceil(size / partBytes);
    const uploadID = await this.#client.initiateNewMultipartUpload(this.bucket, key, {});
    const file = await open(path);
    const etags: { part: number; etag: string }[] = [];
    try {
      const buffers: Buffer[] = [];
      await eachOf(count, PARTS_AT_ONCE, async (at, lane) => {
        const bytes = (buffers[lane] ??= Buffer.allocUnsafe(partBytes)).subarray(0, size - at * partBytes);
        const { bytesRead } = await file.read(bytes, 0, bytes.length, at * partBytes);
        if (bytesRead < bytes.length) throw new Error(`${path} became shorter during its upload`);
        const { etag } = await this.#client.uploadPart(
          {
            bucketName: this.bucket,
            objectName: key,
            uploadID,
            partNumber: at + 1,
            headers: { 'Content-Length': bytesRead },
          },
          bytes,
        );
        etags[at] = { part: at + 1, etag };
      });
      await this.#client.completeMultipartUpload(this.bucket, key, uploadID, etags);
    } catch (error) {
      // Parts of an unfinished upload take room. A store that cannot be reached removes them by itself after a day.
      await this.#client.abortMultipartUpload(this.bucket, key, uploadID).catch(() => undefined);
      throw error;
    } finally {
      await file.close();
    }
  }

  async #unlessAbsent<T>(request: () => Promise<T>, absent: T): Promise<T> {
    try {
      return await this.#request(request);
    } catch (error) {
      if (ABSENT.has(codeOf(error))) return absent;
      throw error;
    }
  }

  /** Runs a request, its body included. The one place where the error of a request is classified. */
  async #request<T>(request: () => Promise<T>): Promise<T> {
    try {
      return await request();
    } catch (error) {
      const code = codeOf(error);
      const refusal = code === 'NoSuchBucket' ? `has no bucket '${this.bucket}' (ACECODER_S3_BUCKET)` : REFUSALS[code];
      if (refusal === undefined && !UNAVAILABLE.has(code)) throw error;
      throw new StageFailure(
        'StoreUnavailable',
        `the store at ${this.#endpoint} (ACECODER_S3_ENDPOINT) ${refusal ?? `does not answer: ${code}`}`,
        { cause: error },
      );
    }
  }
}

function codeOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
}
