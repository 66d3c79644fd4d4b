/** `npm run fetch -- WORKFLOW_ID [FOLDER]`: gets what a workflow made out of the store, without a worker. */
import { randomUUID } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { safeName } from '../../activities/artifacts/keys.js';
import { refOf } from '../../activities/artifacts/manifests.js';
import { filesOfResult, placeFiles, resultsOf } from '../../activities/artifacts/results.js';
import {
  createArtifactStore,
  storeOptionsFromEnvironment,
  type ArtifactStore,
} from '../../activities/artifacts/store.js';
import { modelCard, startModel } from '../../activities/artifacts/model-card.js';
import { TRAINED, type ArtifactRef, type Manifest, type ManifestFile } from '../../workflows/contract/index.js';
import { FLAG, runCommand, type CommandLine } from './command.js';
import { environmentOfStore, WHICH_STORE } from './store-of-environment.js';

const HELP = `npm run fetch -- WORKFLOW_ID [FOLDER] [options]
npm run fetch -- ARTIFACT_KEY [FOLDER] [options]

Gets the results of an experiment, a preview or an export out of the store: the report, the page or the data
set. It asks the store alone, so no worker and no Temporal server need run. FOLDER is made where there is none;
without it, it is a folder of the workflow's name in the working folder. With the key of an artifact, such as
artifacts/pairs/….json, it gets that one.

  --models      the trained models too, as Hugging Face folders in FOLDER/models, each with a model card
  --all         every artifact of the stages too, each in a folder of the stage's name
  --run RUN_ID  of this run, where a workflow id had several (default: the newest)
  --link        get nothing, and print links that open without a key
  --hours N     hours until such a link expires, 168 at most (24)
  --embedded    the store of the embedded stack, whatever ACECODER_S3_ENDPOINT says
  --help        print this

${WHICH_STORE}`;

/** The model card, by the name that the hub shows. */
const CARD = 'README.md';

/** A file that is wanted, and its folder below the target. */
interface Wanted {
  folder: string;
  files: ManifestFile[];
  /** Of a trained model, which gets a card. */
  trained?: { name: string; manifest: Manifest };
}

/** The artifact of a key, in the folder itself. */
async function artifactOf(store: ArtifactStore, key: string): Promise<Wanted[]> {
  const manifest = await store.findManifest(key);
  if (!manifest) throw new Error(`the store holds no artifact ${key}`);
  return [{ folder: '', files: filesOfResult(await store.wholeManifest(refOf(manifest))) }];
}

/** Which artifacts of a run are wanted, and the folder of each. */
async function resultOf(
  store: ArtifactStore,
  workflowId: string,
  { run, models, all }: { run: string | undefined; models: boolean; all: boolean },
): Promise<Wanted[]> {
  const { results } = await resultsOf(store, workflowId, run);
  const folderOf = (name: string, { kind }: ArtifactRef): string | undefined => {
    if (kind === 'report' || kind === 'export') return '';
    const trained = TRAINED.find((each) => each.name === name);
    if (trained && (models || all)) return join('models', trained.model);
    return all ? safeName(name, { keepCase: true }) : undefined;
  };
  const wanted: Wanted[] = [];
  for (const [name, ref] of Object.entries(results)) {
    const folder = folderOf(name, ref);
    if (folder === undefined) continue;
    const manifest = await store.wholeManifest(ref);
    const model = TRAINED.find((each) => each.name === name)?.model;
    wanted.push({
      folder,
      files: filesOfResult(manifest),
      ...(model === undefined ? {} : { trained: { name: `${workflowId}, ${model}`, manifest } }),
    });
  }
  return wanted;
}

const OPTIONS = {
  models: FLAG,
  all: FLAG,
  run: { type: 'string' },
  link: FLAG,
  hours: { type: 'string', default: '24' },
  embedded: FLAG,
} as const;

async function run({ values, positionals }: CommandLine<typeof OPTIONS>): Promise<void> {
  const [what, target, ...more] = positionals;
  if (what === undefined || more.length > 0)
    throw new Error('Give a workflow id and perhaps a folder: npm run fetch -- WORKFLOW_ID [FOLDER]');
  const hours = Number(values.hours);
  if (!(hours > 0 && hours <= 168)) throw new Error(`--hours is ${values.hours}; it is above 0, and 168 at most.`);
  const folder = resolve(target ?? safeName(what));
  // Below the folder, so that a file of it is renamed and not copied.
  const cache = join(folder, `.fetch-${randomUUID()}`);
  const store = createArtifactStore(storeOptionsFromEnvironment(await environmentOfStore(values.embedded), cache));
  const wanted = /^artifacts\/[^/]+\/[^/]+\.json$/.test(what)
    ? await artifactOf(store, what)
    : await resultOf(store, what, { run: values.run, models: values.models, all: values.all });
  if (values.link) {
    console.log(
      `Whoever has a link can read its file until ${new Date(Date.now() + hours * 3_600_000).toISOString()}:`,
    );
    for (const each of wanted)
      for (const file of each.files)
        console.log(`${join(each.folder, file.name)}\n  ${await store.link(file, hours * 3600)}`);
    return;
  }
  try {
    const told = (path: string): void => console.log(relative(process.cwd(), path) || path);
    for (const { files, folder: below, trained } of wanted) {
      await placeFiles(store, files, join(folder, below), 'link', told);
      if (!trained || files.some(({ name }) => name === CARD)) continue;
      const card = join(folder, below, CARD);
      await writeFile(card, modelCard(trained.name, trained.manifest, await startModel(store, trained.manifest)));
      told(card);
    }
  } finally {
    await rm(cache, { recursive: true, force: true });
  }
}

runCommand({ help: HELP, options: OPTIONS, run });
