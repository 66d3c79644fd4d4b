/** `npm run backup -- FOLDER`: the database of the embedded Temporal server, then the store, as files. */
import { resolve } from 'node:path';
import { storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import { home as acecoderHome } from '../setup/paths.mjs';
import { backUpDatabase, backUpStore } from './backup-files.js';
import { FLAG, runCommand, type CommandLine } from './command.js';
import { environmentOfStore, WHICH_STORE } from './store-of-environment.js';

const HELP = `npm run backup -- FOLDER [options]

Copies the database of the embedded Temporal server and then the store into FOLDER. Servers and workers may run; no
garbage collection may. A second backup into the same folder copies new blobs only.

  --store-only  the store alone: after a backup of the database of your own Temporal server
  --embedded    the store of the embedded stack, whatever ACECODER_S3_ENDPOINT says
  --help        print this

${WHICH_STORE}`;

const OPTIONS = {
  'store-only': FLAG,
  embedded: FLAG,
} as const;

async function run({ values, positionals }: CommandLine<typeof OPTIONS>): Promise<void> {
  const [target, ...more] = positionals;
  if (target === undefined || more.length > 0) throw new Error('Give a folder: npm run backup -- FOLDER');
  const folder = resolve(target);
  const options = storeOptionsFromEnvironment(await environmentOfStore(values.embedded), folder);
  if (!values['store-only']) await backUpDatabase(acecoderHome(), folder);
  const { documents, blobs, bytes } = await backUpStore(options, folder);
  console.log(`${folder}: ${documents} documents and ${blobs} blobs, ${(bytes / 1e6).toFixed(1)} MB`);
}

runCommand({ help: HELP, options: OPTIONS, run });
