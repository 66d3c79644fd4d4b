/**
 * Rows in files of JSON Lines: written, read and split. Files of an artifact hold checked rows and are stored gzipped.
 * Plain files go to and come from child processes.
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { z } from 'zod';
import type { Manifest, ManifestFile } from '../../workflows/contract/index.js';
import type { BlobCache } from './cache.js';
import { corrupt } from './corrupt.js';
import { READ_BYTES } from './files.js';
import { RowWriter } from './row-writer.js';

/** Rows, all there already or still to come. */
export type Rows<T> = Iterable<T> | AsyncIterable<T>;

/** Files of rows in the store. */
export class RowFiles {
  constructor(private readonly cache: Pick<BlobCache, 'adopt' | 'fetch' | 'makingRoom' | 'putBlob' | 'spoolPath'>) {}

  /**
   * Writes rows as JSON Lines, validating each, and stores them gzipped.
   *
   * @throws StageFailure `ArtifactCorrupt` naming file and row when a row does not fit the schema.
   */
  async put<T>(name: string, schema: z.ZodType<T>, rows: Rows<T>): Promise<ManifestFile> {
    const [file] = await this.putByFile([name], schema, rows, () => 0);
    return file!;
  }

  /** As {@link put}, in one pass into several files: `fileOf` gives the index of a row's file among `names`. */
  putByFile<T>(
    names: readonly string[],
    schema: z.ZodType<T>,
    rows: Rows<T>,
    fileOf: (row: T) => number,
  ): Promise<ManifestFile[]> {
    return this.cache.makingRoom(() => this.#putByFile(names, schema, rows, fileOf));
  }

  async #putByFile<T>(
    names: readonly string[],
    schema: z.ZodType<T>,
    rows: Rows<T>,
    fileOf: (row: T) => number,
  ): Promise<ManifestFile[]> {
    const writers: RowWriter<T>[] = [];
    try {
      for (const name of names)
        writers.push(
          new RowWriter(name, schema, await this.cache.spoolPath('.jsonl'), await this.cache.spoolPath('.gz')),
        );
      await writeAll(rows, (row) => writers[fileOf(row)]!.write(row));
      const files: ManifestFile[] = [];
      for (const writer of writers) {
        const { rows: count, sha256, bytes } = await writer.end();
        await this.cache.adopt(writer.path, sha256);
        await this.cache.putBlob(sha256, writer.zippedPath);
        files.push({ name: writer.name, sha256, bytes, encoding: 'gzip', rows: count });
      }
      return files;
    } finally {
      for (const writer of writers) await writer.discard();
    }
  }

  /**
   * Reads the rows of files in their order as a stream.
   *
   * @throws StageFailure `ArtifactCorrupt` naming file and row when a row does not fit the schema.
   */
  async *read<T>(files: readonly ManifestFile[], schema: z.ZodType<T>): AsyncGenerator<T> {
    for (const file of files) {
      let index = 0;
      for await (const lines of linesOf(await this.cache.fetch(file))) {
        for (const line of lines) {
          const parsed = schema.safeParse(JSON.parse(line));
          if (!parsed.success) throw corrupt(`${file.name} (blob ${file.sha256}), row ${index}`, parsed.error);
          index += 1;
          yield parsed.data;
        }
      }
    }
  }
}

/** Waits for a write only where it asks for that: a wait per row would cost as much as checking the row. */
async function writeAll<T>(rows: Rows<T>, write: (row: T) => Promise<void> | undefined): Promise<void> {
  if (Symbol.asyncIterator in rows) {
    for await (const row of rows) {
      const room = write(row);
      if (room) await room;
    }
  } else {
    for (const row of rows) {
      const room = write(row);
      if (room) await room;
    }
  }
}

/** The files of an artifact that hold its rows: all that are named `rows*`. */
export function rowFiles({ files }: Pick<Manifest, 'files'>): ManifestFile[] {
  return files.filter(({ name }) => name.startsWith('rows'));
}

/** Writes rows to a plain JSON Lines file, for a child process to read. */
export async function writeRows(path: string, rows: Rows<unknown>): Promise<void> {
  async function* lines(): AsyncGenerator<string> {
    for await (const row of rows) yield `${JSON.stringify(row)}\n`;
  }
  await pipeline(Readable.from(lines()), createWriteStream(path));
}

/** Reads a plain JSON Lines file that a child process wrote. */
export async function* readLines<T>(path: string, schema: z.ZodType<T>): AsyncGenerator<T> {
  for await (const lines of linesOf(path)) for (const line of lines) yield schema.parse(JSON.parse(line));
}

/**
 * The lines of a file, as many at once as a read gives, because a wait per line would cost as much as its parsing. Line
 * feeds alone end a line: JSON texts may hold every other separator. A byte order mark is no part of the first line.
 */
export function linesOf(path: string, encoding: 'utf8' | 'latin1' = 'utf8'): AsyncGenerator<string[]> {
  return linesIn(createReadStream(path, { highWaterMark: READ_BYTES }), encoding);
}

/** The lines of a stream of bytes, as {@link linesOf} gives them. */
export async function* linesIn(
  bytes: NodeJS.ReadableStream,
  encoding: 'utf8' | 'latin1' = 'utf8',
): AsyncGenerator<string[]> {
  const mark = Buffer.from('\ufeff').toString(encoding);
  const chunks = bytes.setEncoding(encoding) as AsyncIterable<string>;
  let rest: string | undefined;
  for await (const chunk of chunks) {
    const isMarked = rest === undefined && chunk.startsWith(mark);
    const lines = (isMarked ? chunk.slice(mark.length) : (rest ?? '') + chunk).split('\n');
    rest = lines.pop()!;
    yield lines;
  }
  if (rest) yield [rest];
}
