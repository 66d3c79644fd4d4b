/** Rows are found by a field, whatever stands in their texts. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { z } from 'zod';
import type { ArtifactRef, Manifest } from '../../workflows/contract/index.js';
import { RowIndex } from './row-index.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-index-'));
afterAll(() => rmSync(folder, { recursive: true }));

const Row = z.object({ id: z.string(), text: z.string() });

it('finds rows by a text, in the order of the files', async () => {
  const files = [
    [
      { text: ',"id":"b"} {"id": "b"', id: 'a' },
      { id: 'b', text: 'first' },
    ],
    [{ id: 'b', text: 'second' }, { id: 'ü"\\', text: 'odd' }, { other: 'nothing' }],
  ];
  files.forEach((rows, at) =>
    writeFileSync(join(folder, `${at}`), rows.map((row) => `${JSON.stringify(row)}\n`).join('')),
  );
  const store = {
    manifest: () =>
      Promise.resolve({
        files: files.map((_, at) => ({ name: `rows-00000${at}.jsonl`, sha256: `${at}` })),
      } as Manifest),
    fetch: ({ sha256 }: { sha256: string }) => Promise.resolve(join(folder, sha256)),
  };
  const index = await RowIndex.of(store, { digest: 'one' } as ArtifactRef, 'id');
  const found = await index.rowsOf(['b', 'a', 'ü"\\', 'c'], Row);
  expect([...found].map(([id, rows]) => [id, rows.map(({ text }) => text)])).toEqual([
    ['b', ['first', 'second']],
    ['a', [',"id":"b"} {"id": "b"']],
    ['ü"\\', ['odd']],
    ['c', []],
  ]);
  expect((await index.rowsOf(['b'], Row, 1)).get('b')).toHaveLength(1);
  // The same file by another field is another index.
  expect(
    (await (await RowIndex.of(store, { digest: 'one' } as ArtifactRef, 'text')).rowsOf(['odd'], Row)).get('odd'),
  ).toHaveLength(1);
});
