/** What a person names, found in the store: an artifact by its key, a row by its id, a figure or an experiment. */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import {
  StageFailure,
  STAGES,
  Summary,
  type ArtifactKind,
  type ArtifactRef,
  type Manifest,
} from '../../workflows/contract/index.js';
import { refOf } from '../artifacts/manifests.js';
import { RunResults, resultsOf } from '../artifacts/results.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { figuresOfReport, PageFigure, type Figure } from './figures.js';
import type { Target, Tracer } from './trace.js';

type Store = Pick<ArtifactStore, 'fetch' | 'findManifest' | 'getJson' | 'list' | 'manifest'>;

const KEY = /^artifacts\/[^/]+\/[^/]+\.json$/;
/** A row, and of a question the number of one of its kept tests. */
const ROW = /^((?:q|p|pair|r|e)-[0-9a-f]{20})(?:#([1-9]\d*))?$/;
const FIGURE = new RegExp(`^(data|passRateHistogram|comparison|stages|cost|recipe|${STAGES.join('|')})\\.`);
/** Names that are told where one is wrong. */
const NEAR = 40;

/** Kinds in which the row of a name is looked for, by the letter of its id. */
const KINDS_OF: Readonly<Record<string, readonly ArtifactKind[]>> = {
  q: ['filteredQuestions', 'questions'],
  p: ['programs'],
  pair: ['pairs'],
  r: ['rewards', 'rollouts'],
  e: ['evaluation'],
};
/** Kinds in which any other name is looked for. */
const NAMED: readonly ArtifactKind[] = ['seeds', 'replies', 'samples', 'filteredQuestions'];

/** What was named, with the experiment that it belongs to. */
interface Named {
  target?: Target & { test?: number };
  figure?: Figure;
  experiment?: { workflowId: string; figures: Figure[]; results: Record<string, ArtifactRef> };
}

/** The words of a command. */
interface Words {
  /** A key, a row, a figure or an experiment. */
  what: string;
  /** A row or figure of it. */
  which?: string | undefined;
  /** The experiment, where `what` is none. */
  experiment?: string | undefined;
  /** A run of it; absent: the newest. */
  run?: string | undefined;
}

/**
 * What the words name. It reads what they name by key; a row by its id alone reads rows of the experiment, and an
 * experiment that is not said is looked for by one listing of the results.
 *
 * @throws StageFailure `InvalidExperiment` with one sentence where the store has nothing of that name.
 */
export async function named(store: Store, tracer: Tracer, { what, which, experiment, run }: Words): Promise<Named> {
  if (KEY.test(what)) {
    const { kind } = await tracer.manifest(what);
    const { id, test } = rowOf(which);
    return {
      target: { key: what, ...(id === undefined ? {} : { row: id }), ...(test === undefined ? {} : { test }) },
      ...(kind === 'report' && which === undefined ? { experiment: await reportOf(store, what) } : {}),
    };
  }
  const isPart = which === undefined && (ROW.test(what) || FIGURE.test(what));
  const workflowId = experiment ?? (isPart ? await onlyExperiment(store) : what);
  const part = isPart || experiment !== undefined ? what : which;
  const { results } = await resultsOf(store, workflowId, run);
  const { report } = results;
  if (!report) throw new StageFailure('InvalidExperiment', `${workflowId} is no experiment: it has stored no report`);
  const found = await reportOf(store, report.key, results);
  if (part === undefined) return { experiment: found };
  const figure = found.figures.find(({ id }) => id === part);
  if (figure)
    return {
      target: { key: figure.artifact, ...(figure.rows ? { where: figure.rows } : {}) },
      figure,
      experiment: found,
    };
  if (FIGURE.test(part) && !ROW.test(part)) {
    const near = found.figures.filter(({ id }) => id.startsWith(part.slice(0, part.indexOf('.') + 1)));
    const told = near.slice(0, NEAR).map(({ id }) => id);
    const others = near.length > NEAR ? `, and ${near.length - NEAR} more` : '';
    throw new StageFailure(
      'InvalidExperiment',
      `${workflowId} has no figure ${part}; it has ${told.join(', ')}${others}`,
    );
  }
  const target = await rowIn(tracer, part, await tracer.closure([report.key]));
  if (target) return { target, experiment: found };
  throw new StageFailure(
    'InvalidExperiment',
    `${workflowId} has no figure and no row ${part}; npm run trace -- ${workflowId} lists its figures`,
  );
}

function rowOf(text: string | undefined): { id?: string | undefined; test?: number } {
  const [, id, test] = ROW.exec(text ?? '') ?? [];
  return { id: id ?? text, ...(test === undefined ? {} : { test: Number(test) }) };
}

/** The experiment of a report. */
async function reportOf(
  store: Store,
  key: string,
  results: Record<string, ArtifactRef> = {},
): Promise<NonNullable<Named['experiment']>> {
  const manifest = (await store.findManifest(key))!;
  const json = async (wanted: string): Promise<unknown> => {
    const file = manifest.files.find(({ name }) => name === wanted);
    return file && (JSON.parse(await readFile(await store.fetch(file), 'utf8')) as unknown);
  };
  const [stored, page = []] = await Promise.all([json('summary.json'), json('figures.json')]);
  if (stored === undefined)
    throw new StageFailure('InvalidExperiment', `${key} has no summary.json: it is no report of an experiment`);
  const summary = Summary.safeParse(stored);
  if (!summary.success)
    throw new StageFailure('InvalidExperiment', `summary.json of ${key} is of another version of this package`);
  return {
    workflowId: summary.data.experiment,
    figures: figuresOfReport(summary.data, z.array(PageFigure).parse(page)),
    results: { ...results, report: refOf(manifest) },
  };
}

/** The experiment whose results the store holds, where there is but one. */
async function onlyExperiment(store: Store): Promise<string> {
  const ids = new Set<string>();
  for (const { key } of await store.list('results/')) {
    const { data } = RunResults.safeParse(await store.getJson(key));
    if (data?.results['report'] && data.results['evaluation']) ids.add(data.workflowId);
  }
  const [only, ...more] = ids;
  if (only !== undefined && more.length === 0) return only;
  throw new StageFailure(
    'InvalidExperiment',
    only === undefined
      ? 'this store holds no results of an experiment'
      : `which experiment? This store holds results of ${[...ids].slice(0, 10).join(', ')}; say it with --experiment`,
  );
}

/** The first artifact of some in which a row of this name is. */
async function rowIn(
  tracer: Tracer,
  name: string,
  manifests: ReadonlyMap<string, Manifest>,
): Promise<(Target & { test?: number }) | undefined> {
  const { id = name, test } = rowOf(name);
  const kinds = ROW.test(name) ? KINDS_OF[id.slice(0, id.lastIndexOf('-'))]! : NAMED;
  for (const kind of kinds)
    for (const [key, manifest] of manifests) {
      if (manifest.kind !== kind) continue;
      const rows = await tracer.rowsOf(manifest, { key, row: id }).catch((error: unknown) => {
        if (error instanceof StageFailure && error.type === 'InvalidExperiment') return [];
        throw error;
      });
      if (rows.length > 0) return { key, row: id, ...(test === undefined ? {} : { test }) };
    }
  return undefined;
}
