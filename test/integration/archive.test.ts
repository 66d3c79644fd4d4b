/** An experiment as one file: another store takes it in, equal work there is reused, and bad files write nothing. */
import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import tar from 'tar-stream';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import { importArchive } from '../../infra/commands/archive.js';
import { root } from '../../infra/setup/paths.mjs';
import { withoutTemporal } from '../../infra/setup/processes.mjs';
import { PairRow, type StageResult } from '../../workflows/contract/index.js';
import { artifactStore, startWorkflow, workerProcess } from '../fixtures/harness.js';
import { programsFile } from '../fixtures/programs.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-archive-'));
const archive = join(folder, 'pairs.tar');
const input = (): object => ({
  inputs: { programs: { kind: 'programs', path: programsFile(folder) } },
  config: { salt },
});
const salt = randomUUID();
let made: StageResult;

/** Environment of an empty store in the bucket of the run. */
const emptyStore = (): Record<string, string> => ({
  ...inject('environment'),
  ACECODER_S3_PREFIX: `import-${randomUUID()}`,
});
const optionsOf = (environment: Record<string, string>) =>
  storeOptionsFromEnvironment(environment, join(folder, 'cache'));
const importInto = (environment: Record<string, string>, file = archive) =>
  importArchive(optionsOf(environment), file, join(folder, randomUUID()));

interface Entry {
  header: Pick<tar.Header, 'name'> & Partial<Pick<tar.Header, 'type' | 'linkname'>>;
  content: Buffer;
}

async function entriesOf(file: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  const extract = tar.extract();
  extract.end(readFileSync(file));
  for await (const entry of extract) entries.push({ header: entry.header, content: await buffer(entry) });
  return entries;
}

/** An archive with other entries. */
async function changed(change: (entries: Entry[]) => Entry[]): Promise<string> {
  const pack = tar.pack();
  for (const { header, content } of change(await entriesOf(archive)))
    pack.entry({ name: header.name, type: header.type, linkname: header.linkname }, content);
  pack.finalize();
  const file = join(folder, `${randomUUID()}.tar`);
  writeFileSync(file, await buffer(pack));
  return file;
}

/** `npm run export` and `npm run import` of a person who has the store alone. */
async function command(environment: Record<string, string>, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [join(root, 'infra/commands/run.mjs'), ...args], {
    env: { ...withoutTemporal(process.env), ...environment },
  });
  return stdout;
}

beforeAll(async () => {
  made = (await (await startWorkflow('preferences', input())).result()) as StageResult;
  expect(await command(inject('environment'), 'export', made.ref.key, archive)).toContain('documents and');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('an archive', () => {
  it('makes equal work of another store reused, and may be imported again', async () => {
    const environment = emptyStore();
    const first = await importInto(environment);
    expect(first.blobs).toBeGreaterThan(1);
    expect(first.sent).toBe(first.blobs);
    expect(await command(environment, 'import', archive)).toContain('; 0 of the blobs were not there yet');
    expect(await importInto(environment)).toEqual({ ...first, sent: 0 });
    const queue = `import-${randomUUID().slice(0, 8)}`;
    const worker = workerProcess(queue, environment, 'pipeline');
    try {
      const result = (await (
        await startWorkflow('preferences', input(), { taskQueue: queue })
      ).result()) as StageResult;
      expect(result).toMatchObject({ ref: made.ref, reused: true });
    } finally {
      await worker.stop();
    }
    let pairs = 0;
    for await (const pair of artifactStore(environment).rowsOf(made.ref, PairRow)) pairs += pair.id ? 1 : 0;
    expect(pairs).toBe(made.ref.rows);
  });

  it('of which half was written before a kill is finished by the next import', async () => {
    const environment = emptyStore();
    const store = artifactStore(environment);
    await importInto(environment);
    // Names are written last: what a kill leaves lacks some of them, and perhaps blobs.
    const keys = [...(await store.keys('artifacts/'))];
    const blobs = [...(await store.keys('blobs/'))];
    await store.remove([...keys.slice(0, 1), ...blobs.slice(0, 1)]);
    expect((await importInto(environment)).sent).toBe(1);
    expect([...(await store.keys('artifacts/'))]).toEqual(keys);
    expect([...(await store.keys('blobs/'))]).toEqual(blobs);
  });

  it('that is damaged or made to harm is refused with one sentence, and writes nothing', async () => {
    const bytes = readFileSync(archive);
    const cut = (size: number): string => {
      const file = join(folder, `cut-${size}.tar`);
      writeFileSync(file, bytes.subarray(0, size));
      return file;
    };
    const renamed = (name: string) =>
      changed(([index, first, ...rest]) => [index!, { ...first!, header: { ...first!.header, name } }, ...rest]);
    const other = (prefix: string) =>
      changed((entries) => {
        const at = entries.findIndex(({ header }) => header.name.startsWith(prefix));
        const content = Buffer.from(entries[at]!.content);
        content[Math.floor(content.length / 2)]! ^= 1;
        return entries.with(at, { ...entries[at]!, content });
      });
    /** An index that names a document under a key of the attacker, with its right digest. */
    const named = (key: string) =>
      changed(([index, ...rest]) => {
        const document = Buffer.from('{}');
        const sha256 = createHash('sha256').update(document).digest('hex');
        const told = JSON.parse(index!.content.toString()) as { documents: object[] };
        told.documents.push({ key, sha256 });
        return [
          { ...index!, content: Buffer.from(JSON.stringify(told)) },
          ...rest,
          { header: { name: `documents/${key}` }, content: document },
        ];
      });
    const link = (type: 'symlink' | 'link') =>
      changed((entries) => [
        ...entries,
        { header: { name: 'documents/x', type, linkname: '/etc/passwd' }, content: Buffer.alloc(0) },
      ]);
    const text = join(folder, 'text.tar');
    writeFileSync(text, 'no archive at all');
    const empty = join(folder, 'empty.tar');
    writeFileSync(empty, '');
    const bad: [string, RegExp][] = [
      [cut(bytes.length - 1), /is cut short/],
      [cut(512 * Math.floor(bytes.length / 1024)), /is damaged/],
      [cut(1024), /damaged|no archive/],
      [text, /is cut short/],
      [empty, /it is empty/],
      [await other('blobs/'), /has other bytes than its name says/],
      [await other('documents/artifacts/'), /has another digest than the index says/],
      [await changed((entries) => entries.slice(0, -1)), /files are missing/],
      [await changed((entries) => entries.slice(1)), /does not begin with index\.json/],
      [await changed((entries) => [...entries, entries.at(-1)!]), /is in it twice/],
      [await renamed('../../escape'), /is in it twice, or its index does not name it/],
      [await renamed('/tmp/absolute'), /is in it twice, or its index does not name it/],
      [await named('../escape.json'), /is no key of a document/],
      [await named('artifacts/../../escape.json'), /is no key of a document/],
      [await named(`artifacts/pairs/${'0'.repeat(64)}.json`), /is no such document/],
      [await link('symlink'), /which is a symlink and no file/],
      [await link('link'), /which is a link and no file/],
    ];
    const environment = emptyStore();
    const store = artifactStore(environment);
    for (const [file, reason] of bad) {
      const error: unknown = await importInto(environment, file).catch((thrown: unknown) => thrown);
      expect(error, reason.source).toBeInstanceOf(Error);
      expect(String(error)).toMatch(reason);
      expect(String(error)).not.toContain('\n');
    }
    expect((await store.list('')).filter(({ key }) => !key.startsWith('probes/'))).toEqual([]);
    expect(existsSync(join(folder, '..', 'escape.json'))).toBe(false);
  });
});
