/**
 * Builds the report of an experiment in a folder: `report.html`, `figures.json`, `summary.json` where the experiment is
 * done, and the questions next to them where there are many. The activity stores it, and the command serves it.
 *
 * It reads the store alone. No clock and no host decides what it writes, so that a second attempt writes the same
 * bytes.
 */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  ArtifactRef,
  type Experiment,
  type Frontier,
  type StageName,
  type StageStatus,
} from '../../workflows/contract/index.js';
import { roundsOf } from '../artifacts/pruning.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { aboutOf } from './about.js';
import { embeddedJson, writeQuestions } from './questions.js';
import { roundSources } from './rollouts.js';
import { factsOf, seedsOf, summaryOf, type Manifests } from './summarise.js';
import { manifestsOfRounds } from './timeline.js';
import { pointsOf, type Point } from '../tracking/points.js';
import { eventFile, eventFileName } from '../tracking/tensorboard.js';

export interface ReportSource {
  experiment: Experiment;
  /** Workflow id of the run. */
  name: string;
  /** State of the experiment: `done`, `running`, `parked`, … */
  state: string;
  stages: readonly StageStatus[];
  /** The policy before RL; without it, what the first round trained. */
  policy?: ArtifactRef | undefined;
  /** Policy of the newest round, where the stage still runs. */
  newestRound?: ArtifactRef | undefined;
  /** Folders on this host that hold the trained models, by name. */
  folders?: Record<string, string>;
  /** Of a fork: what it reused, what it made again, and why. */
  fork?: Frontier | undefined;
  /** Of a page that is served while the experiment runs. */
  live?: string;
}

type Reading = Pick<ArtifactStore, 'fetch' | 'getJson' | 'manifest' | 'rowsOf'>;

/** Name of the index of many questions, next to the page. */
const INDEX_FILE = 'questions/index.js';
/** Folder of what TensorBoard reads. */
const EVENTS_FOLDER = 'tensorboard';

/**
 * Writes the report of an experiment into a folder, in the place of an earlier one.
 *
 * @returns names of the files, the page first, relative to the folder.
 * @throws StageFailure where the store does not hold what an artifact names.
 * @throws ZodError that names a figure which is missing.
 * @example
 * await buildReport(store, { experiment, name: 'my-run', state: 'running', stages }, '/tmp/report');
 */
export async function buildReport(
  store: Reading,
  source: ReportSource,
  folder: string,
  { onRow, oneFile }: { onRow?: (rows: number) => void; oneFile?: number } = {},
): Promise<string[]> {
  const { experiment, stages, live } = source;
  // Plots and their library are loaded where a report is built, not in every worker.
  const { renderReport } = await import('./report.js');
  await mkdir(folder, { recursive: true });
  await rm(join(folder, 'questions'), { recursive: true, force: true });
  const refs = artifactsOf(stages);
  const newest = refs.reinforcement ?? source.newestRound;
  const rounds = newest ? [...(await roundsOf(store, newest)).values()] : [];
  const policy = source.policy ?? (await policyBefore(store, rounds[0]));
  const manifests = await manifestsOf(store, Object.values(refs), rounds, policy);
  const facts = factsOf({ ...source, policy, rounds, folders: source.folders ?? {} }, manifests);
  const about = await aboutOf(store, experiment, stages, rounds, manifests, facts.metrics);
  const { tallies, index, shards } = await writeQuestions(
    store,
    {
      questions: refs.synthesis,
      filteredQuestions: refs.filtering,
      programs: refs.sampling,
      evaluation: refs.evaluation,
      hardening: refs.hardening,
      rounds: await roundSources(store, rounds, manifests),
    },
    folder,
    { ...(onRow ? { onRow } : {}), ...(oneFile === undefined ? {} : { oneFile }) },
  );
  const inOneFile = 'texts' in shards;
  const { page, figures } = renderReport({
    ...facts,
    about,
    tallies,
    questions: inOneFile ? { index, texts: shards.texts } : { indexFile: INDEX_FILE, files: shards.files },
    ...(source.fork ? { fork: source.fork } : {}),
    ...(live === undefined ? {} : { live }),
  });
  const summary = source.state === 'done' && { ...summaryOf(facts), ...(source.fork ? { fork: source.fork } : {}) };
  const texts: Record<string, string> = {
    'report.html': page,
    ...(summary ? { 'summary.json': `${JSON.stringify(summary, null, 2)}\n` } : {}),
    'figures.json': `${JSON.stringify(figures, null, 1)}\n`,
    ...(inOneFile ? {} : { [INDEX_FILE]: `acecoderIndex(${embeddedJson(JSON.stringify(index))});\n` }),
  };
  for (const [name, text] of Object.entries(texts)) await writeFile(join(folder, name), text);
  const events = await writeEvents(folder, tracked(refs, rounds, manifests));
  return [...Object.keys(texts), ...events, ...(inOneFile ? [] : shards.files)];
}

/**
 * Curves of an experiment as trackers take them, as far as it is.
 *
 * @throws StageFailure where the store does not hold what an artifact names.
 */
export async function pointsOfExperiment(
  store: Reading,
  { stages, newestRound }: Pick<ReportSource, 'stages' | 'newestRound'>,
): Promise<Point[]> {
  const refs = artifactsOf(stages);
  const newest = refs.reinforcement ?? newestRound;
  const rounds = newest ? [...(await roundsOf(store, newest)).values()] : [];
  return tracked(refs, rounds, await manifestsOf(store, Object.values(refs), rounds, undefined));
}

function artifactsOf(stages: readonly StageStatus[]): Partial<Record<StageName, ArtifactRef>> {
  return Object.fromEntries(stages.flatMap(({ name, artifact }) => (artifact ? [[name, artifact]] : [])));
}

function tracked(
  refs: Partial<Record<StageName, ArtifactRef>>,
  rounds: readonly ArtifactRef[],
  manifests: Manifests,
): Point[] {
  return pointsOf({
    stages: Object.fromEntries(Object.entries(refs).map(([name, { key }]) => [name, manifests.get(key)!])),
    rounds: rounds.map(({ key }) => manifests.get(key)!),
  });
}

/** The event file of TensorBoard in a folder of its own, in the place of an earlier one; none without a point. */
async function writeEvents(folder: string, points: readonly Point[]): Promise<string[]> {
  await rm(join(folder, EVENTS_FOLDER), { recursive: true, force: true });
  if (points.length === 0) return [];
  await mkdir(join(folder, EVENTS_FOLDER));
  const name = join(EVENTS_FOLDER, eventFileName(points));
  await writeFile(join(folder, name), eventFile(points));
  return [name];
}

/** The policy that the first round trained. */
async function policyBefore(
  store: Pick<ArtifactStore, 'manifest'>,
  first: ArtifactRef | undefined,
): Promise<ArtifactRef | undefined> {
  return first && ArtifactRef.parse((await store.manifest(first)).inputs['policy']);
}

/** Manifests of the stages, of what their rounds were made of, of the seeds, and of the policy before RL. */
async function manifestsOf(
  store: Pick<ArtifactStore, 'manifest'>,
  stages: readonly ArtifactRef[],
  rounds: readonly ArtifactRef[],
  policy: ArtifactRef | undefined,
): Promise<Manifests> {
  const manifests = await manifestsOfRounds(rounds, (ref) => store.manifest(ref));
  for (const ref of [...stages, ...(policy ? [policy] : [])])
    if (!manifests.has(ref.key)) manifests.set(ref.key, await store.manifest(ref));
  for (const seeds of [...manifests.values()].filter(({ kind }) => kind === 'questions').map(seedsOf))
    manifests.set(seeds.key, await store.manifest(seeds));
  return manifests;
}
