/** `npm run restore -- FOLDER`: a backup into a fresh embedded stack, or its store into another one. */
import { resolve } from 'node:path';
import { storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import { home as acecoderHome } from '../setup/paths.mjs';
import { stackEnvironment, startStack } from '../stack/embedded-stack.js';
import { restoreDatabase, restoreStore } from './backup-files.js';
import { FLAG, runCommand, type CommandLine } from './command.js';

const HELP = `npm run restore -- FOLDER [options]

Puts a backup into the embedded stack of a fresh home (ACECODER_HOME), and leaves that stack running. Start workers
when it is done: open runs go on then.

  --store-only  the store alone, into that of ACECODER_S3_ENDPOINT: before workers of a restored Temporal server start
  --help        print this`;

const OPTIONS = {
  'store-only': FLAG,
} as const;

async function run({ values, positionals }: CommandLine<typeof OPTIONS>): Promise<void> {
  const [source, ...more] = positionals;
  if (source === undefined || more.length > 0) throw new Error('Give a folder: npm run restore -- FOLDER');
  const folder = resolve(source);
  let environment: NodeJS.ProcessEnv = process.env;
  if (!values['store-only']) {
    const home = acecoderHome();
    await restoreDatabase(folder, home);
    environment = stackEnvironment(await startStack({ home, log: console.log }));
  }
  const { documents, blobs } = await restoreStore(folder, storeOptionsFromEnvironment(environment, folder));
  console.log(`${documents} documents and ${blobs} blobs are in the store; now start workers: npm run workers`);
}

runCommand({ help: HELP, options: OPTIONS, run });
