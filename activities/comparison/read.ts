/** Reads what is compared out of the store: no worker and no Temporal server is needed for it. */
import { readFile } from 'node:fs/promises';
import {
  type ArtifactRef,
  EvaluationRow,
  metricsOf,
  STAGES,
  StageFailure,
  Summary,
  type Manifest,
} from '../../workflows/contract/index.js';
import { ManifestKey } from '../../workflows/contract/safe-text.js';
import { sha256 } from '../artifacts/keys.js';
import { refOf } from '../artifacts/manifests.js';
import { resultsOf } from '../artifacts/results.js';
import type { ArtifactStore } from '../artifacts/store.js';
import type { ComparedRow, Side } from './compare.js';

/** What of a store is read. */
export type ReadStore = Pick<ArtifactStore, 'fetch' | 'findManifest' | 'getJson' | 'list' | 'manifest' | 'rowsOf'>;

/**
 * A finished experiment by its workflow id, or an evaluation by the key of its artifact.
 *
 * @throws StageFailure `InvalidExperiment` where the store holds no such thing, or it has no evaluation.
 */
export async function readSide(store: ReadStore, name: string): Promise<Side> {
  const artifacts = ManifestKey.safeParse(name).success
    ? await evaluationOf(store, name)
    : await experimentOf(store, name);
  const manifests: Record<string, Manifest> = {};
  for (const stage of STAGES) if (artifacts[stage]) manifests[stage] = await store.manifest(artifacts[stage]);
  const evaluation = artifacts['evaluation'];
  if (!evaluation || !manifests['evaluation']) {
    throw new StageFailure(
      'InvalidExperiment',
      `${name} has no evaluation, so there is nothing to compare; it has ${Object.keys(artifacts).join(', ')}`,
    );
  }
  const rows: ComparedRow[] = [];
  for await (const row of store.rowsOf(evaluation, EvaluationRow)) {
    const { benchmark, policy, taskId, mode, passed, outcomes, finish, program, score, harness, question } = row;
    rows.push({
      ...{ benchmark, policy, taskId, mode, passed, outcomes, finish, program, harness },
      ...(score === undefined ? {} : { score }),
      question: sha256(question),
    });
  }
  const { results, benchmarks = [] } = metricsOf('evaluation', manifests['evaluation']);
  const suspects = new Map(
    benchmarks.flatMap(({ results: names, suspects: tasks }) =>
      tasks ? names.map((each) => [each, new Set(tasks.map(({ taskId }) => taskId))] as const) : [],
    ),
  );
  return {
    name,
    artifacts,
    manifests,
    summary: await summaryOf(store, artifacts['report']),
    results,
    rows,
    suspectsOf: (benchmark) => suspects.get(benchmark),
  };
}

async function evaluationOf(store: ReadStore, key: string): Promise<Record<string, ArtifactRef>> {
  const manifest = await store.findManifest(key);
  if (!manifest) throw new StageFailure('InvalidExperiment', `the store holds no artifact ${key}`);
  if (manifest.kind !== 'evaluation')
    throw new StageFailure('InvalidExperiment', `${key} is of kind ${manifest.kind}; give one of kind evaluation`);
  return { evaluation: refOf(manifest) };
}

async function experimentOf(store: ReadStore, workflowId: string): Promise<Record<string, ArtifactRef>> {
  return (await resultsOf(store, workflowId)).results;
}

async function summaryOf(store: ReadStore, report: ArtifactRef | undefined): Promise<Summary | undefined> {
  if (!report) return undefined;
  const { files } = await store.manifest(report);
  const file = files.find(({ name }) => name === 'summary.json');
  if (!file) return undefined;
  // A summary of another version is left out: nothing but curves and cost are read from it.
  return Summary.safeParse(JSON.parse(await readFile(await store.fetch(file), 'utf8'))).data;
}
