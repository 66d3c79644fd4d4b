/**
 * A backup of the database of an embedded Temporal server, on a file or on PostgreSQL, and of a store, as files.
 *
 * Histories name artifacts, and no artifact names a history. So the database is copied first: what its histories name
 * is in the store by then. In the store, documents name blobs, so that documents are copied before blobs. What is
 * written meanwhile is in the copy or not, and whatever the copy has is whole. Restoring goes the other way.
 */
import { execFile } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { z } from 'zod';
import { eachOf } from '../../activities/artifacts/collections.js';
import { S3Objects, type S3Options } from '../../activities/artifacts/objects.js';
import { venvPython } from '../setup/paths.mjs';
import { rememberedTemporal, temporalData } from '../setup/temporal-choice.mjs';
import { databasePort } from '../stack/embedded-stack.js';
import { backUpPostgresql, restorePostgresql } from '../stack/temporal-server.js';

const BLOBS = 'blobs/';
/** What concerns processes that run now. */
const PASSING = ['probes/', 'sweeps/', 'uploads/'];
const OBJECTS = 'objects';
const DATABASE = 'temporal.db';
const POSTGRESQL = 'postgresql';
/** Written last: a backup without it was interrupted. */
const COMPLETE = 'complete.json';
const LANES = 8;

const Complete = z.object({ documents: z.number(), blobs: z.number(), bytes: z.number(), at: z.string() });
/** What a backup holds: objects and their bytes as stored. */
export type Complete = z.infer<typeof Complete>;

/** Copies the database of an embedded server that may run. @throws Error where there is none. */
export async function backUpDatabase(home: string, folder: string): Promise<void> {
  const server = rememberedTemporal(home);
  if (server === undefined)
    throw new Error(`${home} holds no workflows; name the home by ACECODER_HOME, or copy the store with --store-only.`);
  await mkdir(folder, { recursive: true });
  if (server === 'postgresql') return backUpPostgresql(home, join(folder, POSTGRESQL), databasePort(home));
  const [from, to] = [temporalData(home, server), join(folder, DATABASE)];
  const part = `${to}.part`;
  await rm(part, { force: true });
  // SQLite's own copy of a database that is in use.
  const script =
    'import sqlite3, sys, urllib.parse\n' +
    'source = sqlite3.connect("file:" + urllib.parse.quote(sys.argv[1]) + "?mode=ro", uri=True, timeout=60)\n' +
    'target = sqlite3.connect(sys.argv[2])\n' +
    'source.backup(target)\n' +
    'target.close()\n';
  await promisify(execFile)(venvPython(), ['-c', script, from, part]);
  await rename(part, to);
}

/** Puts the database of a backup into a home that has none. @throws Error where it has one. */
export async function restoreDatabase(folder: string, home: string): Promise<void> {
  const held = rememberedTemporal(home);
  if (held !== undefined)
    throw new Error(`${temporalData(home, held)} exists: restore into a fresh home (ACECODER_HOME).`);
  if (await stat(join(folder, POSTGRESQL)).catch(() => undefined))
    return restorePostgresql(join(folder, POSTGRESQL), home);
  const to = temporalData(home, 'dev-server');
  await mkdir(dirname(to), { recursive: true });
  const part = `${to}.part`;
  await writeFile(part, await readFile(join(folder, DATABASE)));
  await rename(part, to);
}

/**
 * Copies a store that may be in use into `folder`. A second backup into the same folder copies new blobs only. No
 * garbage collection may run meanwhile.
 */
export async function backUpStore(options: S3Options, folder: string): Promise<Complete> {
  const objects = new S3Objects(options);
  await mkdir(join(folder, OBJECTS), { recursive: true });
  await rm(join(folder, COMPLETE), { force: true });
  const complete: Complete = { documents: 0, blobs: 0, bytes: 0, at: new Date().toISOString() };
  for (const isBlobs of [false, true])
    for await (const page of objects.pages(isBlobs ? BLOBS : '')) {
      const wanted = page.objects.filter(
        ({ key }) => key.startsWith(BLOBS) === isBlobs && !PASSING.some((prefix) => key.startsWith(prefix)),
      );
      await eachOf(wanted.length, LANES, async (at) => {
        const { key, bytes } = wanted[at]!;
        const path = pathOf(folder, key);
        const known = isBlobs ? await stat(path).catch(() => undefined) : undefined;
        if (known?.size !== bytes && !(await copyTo(objects, key, path))) return;
        complete[isBlobs ? 'blobs' : 'documents'] += 1;
        complete.bytes += bytes;
      });
    }
  await writeFile(join(folder, COMPLETE), JSON.stringify(complete));
  return complete;
}

/** Copies an object; false where it is gone meanwhile. */
async function copyTo(objects: S3Objects, key: string, path: string): Promise<boolean> {
  await mkdir(dirname(path), { recursive: true });
  const part = `${path}.part`;
  if (!(await objects.read(key, (body) => pipeline(body, createWriteStream(part))))) return false;
  await rename(part, path);
  return true;
}

/**
 * Puts the objects of a backup into a store, blobs first. It may be repeated; what the store has already stays.
 *
 * @throws Error where the backup was interrupted.
 */
export async function restoreStore(folder: string, options: S3Options): Promise<Complete> {
  const complete = Complete.safeParse(
    await readFile(join(folder, COMPLETE), 'utf8').then(
      (text) => JSON.parse(text) as unknown,
      () => undefined,
    ),
  );
  if (!complete.success) throw new Error(`${folder} is no whole backup: it has no ${COMPLETE}. Back up once more.`);
  const objects = new S3Objects(options);
  await objects.check();
  const root = join(folder, OBJECTS);
  const keys = (await readdir(root, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.part'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join('/'));
  for (const isBlobs of [true, false]) {
    const wanted = keys.filter((key) => key.startsWith(BLOBS) === isBlobs);
    await eachOf(wanted.length, LANES, async (at) => {
      const key = wanted[at]!;
      const path = pathOf(folder, key);
      if (!isBlobs) await objects.putJson(key, JSON.parse(await readFile(path, 'utf8')));
      else if (!(await objects.time(key))) await objects.putFile(key, path);
    });
  }
  return complete.data;
}

/** @throws Error where a key would leave the folder. */
function pathOf(folder: string, key: string): string {
  if (key.split('/').some((part) => part === '' || part === '.' || part === '..'))
    throw new Error(`${JSON.stringify(key)} is no key of this store`);
  return join(folder, OBJECTS, key);
}
