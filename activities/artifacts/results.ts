/**
 * Results of a workflow in the store: reports, pages, exports and trained models are artifacts, and one document names
 * those of a run. Whoever reads the store needs no worker and no Temporal server to find them.
 */
import { chmod, copyFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import {
  ArtifactRef,
  StageFailure,
  type ArtifactKind,
  type Manifest,
  type ManifestFile,
  type Producer,
  type PublishedResult,
} from '../../workflows/contract/index.js';
import { linkOrCopy } from './files.js';
import { artifactDigest, isTrainingState, objectKeys } from './keys.js';
import { digestsOf, produce } from './produce.js';
import type { ArtifactStore } from './store.js';

/** What one run of a workflow made. */
export const RunResults = z.object({
  workflowId: z.string(),
  runId: z.string(),
  at: z.string(),
  /** References by what they are: `report`, `page`, `export`, or a stage. */
  results: z.record(z.string(), ArtifactRef),
});
export type RunResults = z.infer<typeof RunResults>;

/** Where and how a worker publishes. */
export interface Publishing {
  /** Hours until the link to a page or data set expires; 0: no link is made. */
  linkHours: number;
}

/** Stores texts as the files of an artifact, which is named by its content. */
export async function storeTexts(
  store: Pick<ArtifactStore, 'commit' | 'findManifest' | 'putFile' | 'spoolPath'>,
  kind: ArtifactKind,
  texts: Record<string, string>,
  inputs: Record<string, ArtifactRef>,
  producer: Producer,
): Promise<ArtifactRef> {
  const files: ManifestFile[] = [];
  for (const [name, text] of Object.entries(texts)) {
    const path = await store.spoolPath('.text');
    try {
      await writeFile(path, text);
      files.push(await store.putFile(path, name));
    } finally {
      await rm(path, { force: true });
    }
  }
  return named(store, kind, files, inputs, producer);
}

/** Stores files of a folder, named relative to it, as an artifact that is named by its content. */
export async function storeFiles(
  store: Pick<ArtifactStore, 'commit' | 'findManifest' | 'putFile'>,
  kind: ArtifactKind,
  folder: string,
  names: readonly string[],
  inputs: Record<string, ArtifactRef>,
  producer: Producer,
): Promise<ArtifactRef> {
  const files: ManifestFile[] = [];
  for (const name of names) files.push(await store.putFile(join(folder, name), name));
  return named(store, kind, files, inputs, producer);
}

async function named(
  store: Pick<ArtifactStore, 'commit' | 'findManifest'>,
  kind: ArtifactKind,
  files: ManifestFile[],
  inputs: Record<string, ArtifactRef>,
  producer: Producer,
): Promise<ArtifactRef> {
  const semantics = { digest: artifactDigest(kind, files) };
  const recipe = { stage: 'results', version: 1, kind, semantics, inputs: digestsOf(inputs) };
  return (await produce(store, recipe, inputs, producer, () => Promise.resolve({ files, metrics: {} }))).ref;
}

/**
 * Writes the document that names the results of this run, and returns the first of them with a link to its file `file`.
 * Where an earlier attempt wrote one, that one holds.
 */
export async function publish(
  store: Pick<ArtifactStore, 'getJson' | 'link' | 'manifest' | 'putJson'>,
  { linkHours }: Publishing,
  { workflowId, runId }: Pick<Producer, 'workflowId' | 'runId'>,
  results: Record<string, ArtifactRef>,
  file: string,
): Promise<PublishedResult> {
  const key = objectKeys.result(workflowId, runId);
  const mine: RunResults = { workflowId, runId, at: new Date().toISOString(), results };
  const published = (await store.putJson(key, mine)) ? mine : RunResults.parse(await store.getJson(key));
  const [name] = Object.keys(results);
  const artifact = published.results[name!]!;
  if (linkHours === 0) return { artifact };
  const { files } = await store.manifest(artifact);
  const linked = files.find((each) => each.name === file);
  if (!linked) return { artifact };
  const seconds = linkHours * 3600;
  const expires = new Date(Date.now() + seconds * 1000).toISOString();
  return { artifact, link: { url: await store.link(linked, seconds), expires } };
}

/**
 * What the newest run of a workflow made, or that of one run.
 *
 * @throws StageFailure `InvalidExperiment` where the store holds no result of it.
 */
export async function resultsOf(
  store: Pick<ArtifactStore, 'getJson' | 'list'>,
  workflowId: string,
  runId?: string,
): Promise<RunResults> {
  const wanted = runId === undefined ? undefined : objectKeys.result(workflowId, runId);
  const found = (await store.list(objectKeys.results(workflowId)))
    .filter(({ key }) => wanted === undefined || key === wanted)
    .sort((a, b) => a.modified.getTime() - b.modified.getTime());
  const newest = found.at(-1);
  if (!newest)
    throw new StageFailure(
      'InvalidExperiment',
      `the store holds no result of workflow ${JSON.stringify(workflowId)}` +
        (runId === undefined ? '' : `, run ${JSON.stringify(runId)}`) +
        ': an experiment, preview or export stores it when it ends',
    );
  return RunResults.parse(await store.getJson(newest.key));
}

/** The files of an artifact that people want: a policy's, without the optimizer's state. */
export function filesOfResult({ files }: Pick<Manifest, 'files'>): ManifestFile[] {
  return files.filter(({ name }) => !isTrainingState(name));
}

/**
 * Puts files into a folder, each whole or not at all, in the place of files of the same names. They are copies of those
 * in the cache, or links to them: a link is for files that nobody may edit, or for a cache that goes right after.
 */
export async function placeFiles(
  store: Pick<ArtifactStore, 'fetch'>,
  files: readonly ManifestFile[],
  folder: string,
  how: 'copy' | 'link',
  onFile: (path: string) => void = () => undefined,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const file of files) {
    const target = join(folder, file.name);
    const part = `${target}.part`;
    await rm(part, { force: true });
    const cached = await store.fetch(file);
    await mkdir(dirname(part), { recursive: true });
    await (how === 'link' ? linkOrCopy(cached, part) : copyFile(cached, part));
    await rename(part, target);
    // A link onto the same file is not renamed.
    await rm(part, { force: true });
    onFile(target);
  }
}

/**
 * Puts an artifact into a folder of its own, which is the old one or the new one, whole. Its files are links to the
 * cache where the disk allows it, and may not be written to, so that no edit reaches the cache.
 */
export async function placeFolder(
  store: Pick<ArtifactStore, 'fetch' | 'wholeManifest'>,
  ref: ArtifactRef,
  folder: string,
): Promise<void> {
  const building = join(folder, '..', `.${basename(folder)}.part`);
  await rm(building, { recursive: true, force: true });
  const files = filesOfResult(await store.wholeManifest(ref));
  await placeFiles(store, files, building, 'link');
  for (const { name } of files) await chmod(join(building, name), 0o444);
  await rm(folder, { recursive: true, force: true });
  await rename(building, folder);
}
