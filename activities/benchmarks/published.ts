/**
 * Rows of files that others publish: JSON Lines, gzipped or not, or one JSON document that holds all rows. Nothing of
 * them is lost on the way to JavaScript.
 */
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip, inflateSync } from 'node:zlib';
import { isUtf8 } from 'node:buffer';
import { z } from 'zod';
import { linesIn, linesOf } from '../artifacts/rows.js';
import { EXACT_FIELDS } from './evalplus.js';
import { PICKLED_FIELD } from './livecodebench.js';
import { dataOfPickle, RefusedPickle } from './pickle.js';

/** A row of a file, by its line or its place in the document, counted from 1, or why there is none. */
export type PublishedRow = { line: number; text: string } & (
  { row: Record<string, unknown>; fault?: undefined } | { row?: undefined; fault: string }
);

/** The longest document that is read as a whole, in characters. */
const MAX_DOCUMENT = 256 * 1024 * 1024;

/**
 * The rows of a file, in order. A file that begins with `[`, or is one object that holds rows, is one document: rows by
 * their ids, or a result file, whose rows are programs.
 *
 * @example
 * for await (const { line, row, fault } of publishedRows('MbppPlus.jsonl.gz')) console.log(line, row ?? fault);
 */
export async function* publishedRows(path: string): AsyncGenerator<PublishedRow> {
  const seen = { lines: 0 };
  try {
    for await (const found of rowsOf(path, seen)) yield withOpenedTests(found);
  } catch (error) {
    if (!path.endsWith('.gz') || !(error as NodeJS.ErrnoException).code?.startsWith('Z_')) throw error;
    yield {
      line: seen.lines + 1,
      text: '',
      fault: `no gzip, although its name ends with .gz: ${(error as Error).message}`,
    };
  }
}

async function* rowsOf(path: string, seen: { lines: number }): AsyncGenerator<PublishedRow> {
  let document: string[] | undefined;
  let characters = 0;
  // Bytes as characters, so that a line that is no UTF-8 is found instead of being read with other characters in it.
  for await (const lines of path.endsWith('.gz') ? linesIn(unzipped(path), 'latin1') : linesOf(path, 'latin1')) {
    for (const text of lines) {
      // A document that is written over several lines opens in the first one.
      if (document === undefined && seen.lines === 0 && /^\s*(?:\[|\{\s*$)/.test(text)) document = [];
      seen.lines += 1;
      const line = seen.lines;
      if (document === undefined) {
        yield* rowsOfLine(text, line);
        continue;
      }
      document.push(text);
      characters += text.length;
      if (characters > MAX_DOCUMENT) {
        yield { line, text: '', fault: 'the document is larger than 256 MiB; save it as JSON Lines' };
        return;
      }
    }
  }
  if (document !== undefined) yield* rowsOfDocument(document.join('\n'));
}

function unzipped(path: string): NodeJS.ReadableStream {
  const unzip = createGunzip();
  pipeline(createReadStream(path), unzip, () => undefined);
  return unzip;
}

const Row = z.looseObject({ task_id: z.string() });
/** Documents of one object: rows by their ids, and the result files of EvalPlus and BigCodeBench. */
const RowsById = z.record(z.string(), Row);
const Results = z.object({ eval: z.record(z.string(), z.array(Row)) });

/** The rows of one object that holds them; undefined where it is a row itself. */
function rowsInside(value: unknown): Record<string, unknown>[] | undefined {
  const results = Results.safeParse(value);
  if (results.success) return Object.values(results.data.eval).flat();
  const byId = RowsById.safeParse(value);
  return byId.success && Object.keys(byId.data).length > 0 ? Object.values(byId.data) : undefined;
}

/** One row, or all rows of a document of one line. */
function* rowsOfLine(text: string, line: number): Generator<PublishedRow> {
  const { value, fault } = valueOf(text);
  const rows = line === 1 ? rowsInside(value) : undefined;
  if (fault !== undefined) yield { line, text, fault };
  else if (rows) yield* placed(rows);
  else if (isObject(value)) yield { line, text, row: value };
  else yield { line, text, fault: 'no object' };
}

function* rowsOfDocument(text: string): Generator<PublishedRow> {
  const { value, fault } = valueOf(text);
  if (fault !== undefined) yield { line: 1, text: '', fault };
  else yield* placed(Array.isArray(value) ? value : (rowsInside(value) ?? [value]));
}

function* placed(rows: readonly unknown[]): Generator<PublishedRow> {
  for (const [index, row] of rows.entries())
    yield isObject(row) ? { line: index + 1, text: '', row } : { line: index + 1, text: '', fault: 'no object' };
}

function valueOf(text: string): { value?: unknown; fault?: string } {
  const bytes = Buffer.from(text, 'latin1');
  if (!isUtf8(bytes)) return { fault: 'no UTF-8; save the file as UTF-8' };
  try {
    return { value: JSON.parse(withExactTexts(bytes.toString('utf8'), EXACT_FIELDS)) };
  } catch {
    return { fault: 'no JSON' };
  }
}

/** The largest private tests of a problem, in bytes of JSON. */
const MAX_TESTS_BYTES = 256 * 1024 * 1024;

/** A row whose compressed tests are a JSON text; a fault where they hold anything but data. */
function withOpenedTests(found: PublishedRow): PublishedRow {
  const packed = found.row?.[PICKLED_FIELD];
  if (!found.row || typeof packed !== 'string' || /^\s*\[/.test(packed)) return found;
  const { line, text } = found;
  try {
    const bytes = inflateSync(Buffer.from(packed, 'base64'), { maxOutputLength: MAX_TESTS_BYTES });
    const opened = dataOfPickle(bytes);
    if (typeof opened !== 'string') throw new RefusedPickle('the pickle holds no text');
    return { line, text, row: { ...found.row, [PICKLED_FIELD]: opened } };
  } catch (error) {
    const why = error instanceof RefusedPickle ? error.message : 'no JSON, and no pickle that is compressed by zlib';
    return { line, text, fault: `${PICKLED_FIELD}: ${why}` };
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * A JSON text of an object in which the values of some of its fields are their own JSON texts. Numbers of Python stay
 * what they are: 1.0 no integer, 2 ** 64 exact, and Infinity, which is no JSON.
 *
 * @example
 * withExactTexts('{"id": 1, "input": [1.0]}', ['input']); // {"id": 1, "input": "[1.0]"}
 */
export function withExactTexts(line: string, fields: readonly string[]): string {
  if (!fields.some((field) => line.includes(`"${field}"`))) return line;
  let out = '';
  let done = 0;
  let at = skip(line, 0);
  if (line[at] !== '{') return line;
  at = skip(line, at + 1);
  while (line[at] === '"') {
    const keyEnd = stringEnd(line, at);
    const key: unknown = JSON.parse(line.slice(at, keyEnd));
    at = skip(line, keyEnd);
    if (line[at] !== ':') return line;
    const start = skip(line, at + 1);
    const end = valueEnd(line, start);
    if (fields.includes(key as string) && line[start] !== '"') {
      out += line.slice(done, start) + JSON.stringify(line.slice(start, end).trimEnd());
      done = end;
    }
    at = skip(line, end);
    if (line[at] !== ',') break;
    at = skip(line, at + 1);
  }
  return out + line.slice(done);
}

function skip(text: string, from: number): number {
  let at = from;
  while (text[at] === ' ' || text[at] === '\t' || text[at] === '\r' || text[at] === '\n') at += 1;
  return at;
}

/** Where a string that begins at `from` ends. */
function stringEnd(text: string, from: number): number {
  let at = from + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at + 1;
}

/** Where a value that begins at `from` ends: at the comma or bracket behind it. */
function valueEnd(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; at += 1) {
    const character = text[at]!;
    if (character === '"') at = stringEnd(text, at) - 1;
    else if (character === '[' || character === '{') depth += 1;
    else if (depth > 0 && (character === ']' || character === '}')) depth -= 1;
    else if (depth === 0 && (character === ',' || character === '}' || character === ']')) return at;
  }
  return text.length;
}
