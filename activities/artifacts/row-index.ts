/**
 * Where the rows of each seed, or of each value of another field, are in an artifact's files. With it a shard reads its
 * own rows alone. If every shard read all rows, the time would grow with the square of their number.
 */
import { open, type FileHandle } from 'node:fs/promises';
import type { z } from 'zod';
import type { ArtifactRef, ManifestFile } from '../../workflows/contract/index.js';
import { linesOf, rowFiles } from './rows.js';
import type { ArtifactStore } from './store.js';

/** What an index needs of the store. */
type Reading = Pick<ArtifactStore, 'fetch' | 'manifest'>;

interface Place {
  file: number;
  offset: number;
  bytes: number;
}

/** The index of the artifact that was read last, because shards of one stage follow each other. */
let latest: { digest: string; field: string; index: Promise<RowIndex> } | undefined;

export class RowIndex {
  private constructor(
    private readonly store: Reading,
    private readonly files: readonly ManifestFile[],
    private readonly places: ReadonlyMap<string, readonly Place[]>,
  ) {}

  /** The index of an artifact whose rows name their seeds, or something else by a text in `field`. */
  static async of(store: Reading, ref: ArtifactRef, field = 'seedId'): Promise<RowIndex> {
    for (;;) {
      if (latest?.digest !== ref.digest || latest.field !== field) break;
      // Whoever began to read may have been cancelled, which says nothing to the others.
      const index = await latest.index.catch(() => undefined);
      if (index) return index;
    }
    const index = RowIndex.#read(store, ref, field);
    latest = { digest: ref.digest, field, index };
    index.catch(() => {
      if (latest?.index === index) latest = undefined;
    });
    return index;
  }

  static async #read(store: Reading, ref: ArtifactRef, field: string): Promise<RowIndex> {
    // Rows may be large, so the field is looked for in their text. No text inside of a row holds a quote like these.
    const named = new RegExp(`[{,]\\s*"${field}"\\s*:\\s*("(?:[^"\\\\]|\\\\.)*")`);
    const files = rowFiles(await store.manifest(ref));
    const places = new Map<string, Place[]>();
    for (const [file, stored] of files.entries()) {
      let offset = 0;
      for await (const lines of linesOf(await store.fetch(stored))) {
        for (const line of lines) {
          const value = JSON.parse(named.exec(line)?.[1] ?? 'null') as string | null;
          const place = { file, offset, bytes: Buffer.byteLength(line) };
          const known = value === null ? [] : places.get(value);
          if (known) known.push(place);
          else places.set(value!, [place]);
          offset += place.bytes + 1;
        }
      }
    }
    return new RowIndex(store, files, places);
  }

  /** The rows of each of some seeds or other values, in the order of the files, at most the first `limit` of each. */
  async rowsOf<T>(seedIds: Iterable<string>, schema: z.ZodType<T>, limit = Infinity): Promise<Map<string, T[]>> {
    const rows = new Map<string, T[]>();
    const handles = new Map<number, FileHandle>();
    try {
      for (const seedId of seedIds) {
        const found: T[] = [];
        for (const { file, offset, bytes } of (this.places.get(seedId) ?? []).slice(0, limit)) {
          if (!handles.has(file)) handles.set(file, await open(await this.store.fetch(this.files[file]!)));
          const { buffer } = await handles.get(file)!.read(Buffer.alloc(bytes), 0, bytes, offset);
          found.push(schema.parse(JSON.parse(buffer.toString('utf8'))));
        }
        rows.set(seedId, found);
      }
    } finally {
      for (const handle of handles.values()) await handle.close();
    }
    return rows;
  }
}
