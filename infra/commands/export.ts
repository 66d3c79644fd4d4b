/** `npm run export -- WORKFLOW_ID FILE`: an experiment as one file, which `npm run import` takes into another store. */
import { mkdtemp, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { refOf } from '../../activities/artifacts/manifests.js';
import { resultsOf } from '../../activities/artifacts/results.js';
import { createArtifactStore, storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import { exportArchive } from './archive.js';
import { FLAG, runCommand, type CommandLine } from './command.js';
import { environmentOfStore, WHICH_STORE } from './store-of-environment.js';

const HELP = `npm run export -- WORKFLOW_ID FILE [options]
npm run export -- ARTIFACT_KEY FILE [options]

Writes what an experiment has made, and all that it was made of, to FILE, a tar archive: manifests, blobs, plans and
records. npm run import takes it into another store. The experiment has ended; of another workflow, give the key of
an artifact, such as artifacts/pairs/….json.

  --run RUN_ID  of this run, where a workflow id had several (default: the newest)
  --embedded    the store of the embedded stack, whatever ACECODER_S3_ENDPOINT says
  --help        print this

${WHICH_STORE}`;

const OPTIONS = {
  run: { type: 'string' },
  embedded: FLAG,
} as const;

async function run({ values, positionals }: CommandLine<typeof OPTIONS>): Promise<void> {
  const [what, target, ...more] = positionals;
  if (what === undefined || target === undefined || more.length > 0)
    throw new Error('Give a workflow id and a file: npm run export -- WORKFLOW_ID FILE');
  const file = resolve(target);
  const cache = await mkdtemp(join(dirname(file), '.export-'));
  try {
    const options = storeOptionsFromEnvironment(await environmentOfStore(values.embedded), cache);
    const store = createArtifactStore(options);
    const isKey = /^artifacts\/[^/]+\/[^/]+\.json$/.test(what);
    const manifest = isKey ? await store.findManifest(what) : undefined;
    if (isKey && !manifest) throw new Error(`the store holds no artifact ${what}`);
    const of = manifest ? refOf(manifest) : await resultsOf(store, what, values.run);
    const { documents, blobs, bytes } = await exportArchive(options, of, file);
    console.log(`${file}: ${documents} documents and ${blobs} blobs, ${(bytes / 1e6).toFixed(1)} MB`);
  } finally {
    await rm(cache, { recursive: true, force: true });
  }
}

runCommand({ help: HELP, options: OPTIONS, run });
