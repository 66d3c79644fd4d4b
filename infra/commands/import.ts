/** `npm run import -- FILE`: takes an experiment that `npm run export` wrote into this store. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import { importArchive } from './archive.js';
import { FLAG, runCommand, type CommandLine } from './command.js';
import { environmentOfStore, WHICH_STORE } from './store-of-environment.js';

const HELP = `npm run import -- FILE [options]

Takes an experiment that npm run export wrote into this store. The whole file is checked before anything is written.
What the store holds already stays. An import that was interrupted is run again. An equal experiment then finds every
stage in the store.

  --embedded  the store of the embedded stack, whatever ACECODER_S3_ENDPOINT says
  --help      print this

${WHICH_STORE}`;

const OPTIONS = {
  embedded: FLAG,
} as const;

async function run({ values, positionals }: CommandLine<typeof OPTIONS>): Promise<void> {
  const [file, ...more] = positionals;
  if (file === undefined || more.length > 0) throw new Error('Give a file: npm run import -- FILE');
  const folder = await mkdtemp(join(tmpdir(), 'acecoder-import-'));
  try {
    const options = storeOptionsFromEnvironment(await environmentOfStore(values.embedded), folder);
    const { documents, blobs, sent } = await importArchive(options, resolve(file), folder);
    console.log(`${documents} documents and ${blobs} blobs are in the store; ${sent} of the blobs were not there yet`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

runCommand({ help: HELP, options: OPTIONS, run });
