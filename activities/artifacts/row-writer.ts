/**
 * Rows on their way into a blob. Each row is checked. Each chunk of rows is hashed and spooled while another thread
 * gzips it. No file is read a second time.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGzip, type Gzip } from 'node:zlib';
import type { z } from 'zod';
import { corrupt } from './corrupt.js';

/** Characters of a chunk: a thousand rows cost one write and little memory. */
const CHUNK = 256 * 1024;

interface WrittenRows {
  rows: number;
  /** SHA-256 of the JSON Lines before gzip, in hexadecimal, and their length. */
  sha256: string;
  bytes: number;
}

export class RowWriter<T> {
  readonly #hash = createHash('sha256');
  readonly #gzip: Gzip = createGzip();
  readonly #zipped: Promise<void>;
  #plain: Promise<FileHandle> | undefined;
  #text = '';
  #rows = 0;
  #bytes = 0;

  /** @param name of the file in errors. `path` takes the JSON Lines, `zippedPath` the same gzipped. */
  constructor(
    readonly name: string,
    private readonly schema: z.ZodType<T>,
    readonly path: string,
    readonly zippedPath: string,
  ) {
    this.#zipped = pipeline(this.#gzip, createWriteStream(zippedPath));
    this.#zipped.catch(() => undefined);
  }

  /**
   * Takes a row. Wait for the returned promise, where there is one, before the next row.
   *
   * @throws StageFailure `ArtifactCorrupt` naming file and row when the row does not fit the schema.
   */
  write(row: T): Promise<void> | undefined {
    const parsed = this.schema.safeParse(row);
    if (!parsed.success) throw corrupt(`${this.name}, row ${this.#rows}`, parsed.error);
    this.#rows += 1;
    this.#text += `${JSON.stringify(parsed.data)}\n`;
    return this.#text.length < CHUNK ? undefined : this.#flush();
  }

  /** Ends both files. */
  async end(): Promise<WrittenRows> {
    await this.#flush();
    await (await this.#plain!).close();
    this.#plain = undefined;
    this.#gzip.end();
    await this.#zipped;
    return { rows: this.#rows, sha256: this.#hash.digest('hex'), bytes: this.#bytes };
  }

  /** Removes what is left of both files. */
  async discard(): Promise<void> {
    await this.#plain?.then(
      (file) => file.close(),
      () => undefined,
    );
    this.#gzip.destroy();
    await this.#zipped.catch(() => undefined);
    await Promise.all([rm(this.path, { force: true }), rm(this.zippedPath, { force: true })]);
  }

  async #flush(): Promise<void> {
    const chunk = Buffer.from(this.#text);
    this.#text = '';
    this.#bytes += chunk.length;
    const room = this.#gzip.write(chunk);
    this.#hash.update(chunk);
    await (await (this.#plain ??= open(this.path, 'w'))).appendFile(chunk);
    if (!room && this.#gzip.writableNeedDrain) await Promise.race([once(this.#gzip, 'drain'), this.#zipped]);
  }
}
