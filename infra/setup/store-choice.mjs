// Which program keeps the objects of a home: chosen once, remembered in the home's store.json. Node built-ins only.
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readJson, writeWhole } from './processes.mjs';

/**
 * Every store that is known. A new one also gets a server in `infra/stack/object-store.ts` and a step of the set-up.
 */
const STORES = ['minio', 'seaweedfs', 'versitygw'];

/** The stores in one phrase. */
export const listed = (names, word) => `${names.slice(0, -1).join(', ')} ${word} ${names.at(-1)}`;

/** The file in which a home remembers its store. */
const storeFile = (home) => join(home, 'store.json');

/** The folder that holds the objects. */
export const storeFolder = (home, store) => join(home, 'data', store);

/**
 * The store that the home remembers, or undefined for a new home.
 *
 * @throws {Error} when store.json names no store that is known.
 */
export function rememberedStore(home) {
  const path = storeFile(home);
  // A home from before there was a choice has no such file.
  if (!existsSync(path)) return hasObjects(home, 'minio') ? 'minio' : undefined;
  const store = readJson(path)?.store;
  if (STORES.includes(store)) return store;
  throw new Error(
    `${path} names the store ${JSON.stringify(store)}, and known are ${listed(STORES, 'and')}: write, for example, ` +
      `{"store": "minio"} into it, as the folder in ${join(home, 'data')} is called.`,
  );
}

/**
 * Takes the store that is asked for, or else the one that the home remembers, or else the default, and remembers it.
 *
 * @throws {Error} when another store is asked for than the one that holds the objects of the home.
 */
export function chooseStore(home, asked, byDefault) {
  const remembered = rememberedStore(home);
  const other = asked && STORES.find((store) => store !== asked && hasObjects(home, store));
  if (other) {
    throw new Error(
      `--store ${asked} is refused: ${storeFolder(home, other)} holds objects of ${other}, as ${storeFile(home)} ` +
        'remembers. Leave out --store, or remove the data with npm run clean, or name another home by ACECODER_HOME.',
    );
  }
  const store = asked ?? remembered ?? byDefault();
  if (!existsSync(storeFile(home)) || store !== remembered) {
    mkdirSync(home, { recursive: true });
    writeWhole(storeFile(home), `${JSON.stringify({ store })}\n`);
  }
  return store;
}

/**
 * The value of `--store`.
 *
 * @throws {Error} when it is no store.
 */
export function checkStore(value) {
  if (value === undefined || STORES.includes(value)) return value;
  throw new Error(`--store is ${JSON.stringify(value)}: choose ${listed(STORES, 'or')}.`);
}

function hasObjects(home, store) {
  const folder = storeFolder(home, store);
  return existsSync(folder) && readdirSync(folder).length > 0;
}
