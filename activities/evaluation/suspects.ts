/**
 * Problems of benchmarks that the training may have seen: those that a question's reference solves, or that a question
 * or its reference is written like. The questions are those that pairs and RL prompts are made of.
 *
 * Batches are kept as they are done, so that a killed worker's successor repeats one of them at most.
 */
import { z } from 'zod';
import { FilteredQuestionRow, type ArtifactRef, type AskedBenchmark } from '../../workflows/contract/index.js';
import { objectKeys } from '../artifacts/keys.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { solvedBy, type RunOptions } from '../contamination/by-running.js';
import { ProblemTexts } from '../contamination/likeness.js';
import type { ProblemRow } from '../contamination/problems.js';
import type { SandboxOperation } from '../runtime/operations.js';
import type { PythonProcess } from '../runtime/python-service.js';
import { taskKey } from './tasks.js';

/** A task that questions repeat: how many, the first of them, and how it does. */
const Suspect = z.strictObject({
  benchmark: z.string(),
  taskId: z.string(),
  questions: z.number().int().positive(),
  question: z.string(),
  why: z.string(),
});
export const Suspects = z.array(Suspect);
export type Suspects = z.infer<typeof Suspects>;

/** Questions of a batch. */
const BATCH = 256;

/**
 * The problems that questions of the split `train` repeat, in the order of the problems.
 *
 * @throws StageFailure `SandboxUnavailable` where the host could not run the references.
 */
export async function suspectsOf(
  {
    store,
    sandbox,
  }: { store: Pick<ArtifactStore, 'getJson' | 'putJson' | 'rowsOf'>; sandbox: PythonProcess<SandboxOperation> },
  stageKey: string,
  questions: ArtifactRef,
  problems: readonly ProblemRow[],
  options: RunOptions,
): Promise<Suspects> {
  const keyed = problems.map((problem) => ({ ...problem, id: taskKey(problem.benchmark, problem.id) }));
  const texts = new ProblemTexts(keyed);
  const found = new Map<string, Suspects[number]>();
  let batch: FilteredQuestionRow[] = [];
  let batches = 0;
  const look = async (): Promise<void> => {
    const document = objectKeys.shard(stageKey, batches, 'suspects');
    const kept = await store.getJson(document);
    const suspects =
      kept === undefined ? await suspectsIn(batch) : z.object({ suspects: Suspects }).parse(kept).suspects;
    if (kept === undefined) await store.putJson(document, { suspects });
    for (const suspect of suspects) {
      const key = taskKey(suspect.benchmark, suspect.taskId);
      const known = found.get(key);
      found.set(key, known ? { ...known, questions: known.questions + suspect.questions } : suspect);
    }
    batches += 1;
    batch = [];
    options.onProgress?.(batches * BATCH, questions.rows ?? 0);
  };
  for await (const row of store.rowsOf(questions, FilteredQuestionRow)) {
    if (row.split !== 'train') continue;
    batch.push(row);
    if (batch.length === BATCH) await look();
  }
  if (batch.length > 0) await look();
  return problems.flatMap(({ benchmark, id }) => found.get(taskKey(benchmark, id)) ?? []);

  /** What one batch repeats; each question counts once for a problem. */
  async function suspectsIn(rows: readonly FilteredQuestionRow[]): Promise<Suspects> {
    const programs = rows.flatMap(({ reference, language = 'python' }, at) =>
      language === 'python' && reference.trim() !== '' ? [{ id: String(at), program: reference }] : [],
    );
    const { onProgress: _onProgress, ...quiet } = options;
    const { solved } = await solvedBy(sandbox, programs, problems, quiet);
    const suspects = new Map<string, Suspects[number]>();
    for (const [at, { id, question, reference: code, language }] of rows.entries()) {
      const why = new Map<string, string>();
      for (const key of texts.likeQuestion(question)) why.set(key, 'asked in nearly the same words');
      for (const key of code.trim() === '' ? [] : texts.likeCode({ code, language })) why.set(key, 'code like it');
      for (const { benchmark, taskId, by } of solved.get(String(at)) ?? [])
        why.set(taskKey(benchmark, taskId), `${by} solves it`);
      for (const [key, said] of why) {
        const known = suspects.get(key);
        const [benchmark, taskId] = z.tuple([z.string(), z.string()]).parse(JSON.parse(key));
        suspects.set(
          key,
          known
            ? { ...known, questions: known.questions + 1 }
            : { benchmark, taskId, questions: 1, question: id, why: said },
        );
      }
    }
    return [...suspects.values()];
  }
}

/** The suspect tasks of a benchmark, as its figures name them. */
export function suspectTasks(suspects: Suspects, benchmark: string): NonNullable<AskedBenchmark['suspects']> {
  return suspects.flatMap(({ benchmark: of, ...task }) => (of === benchmark ? [task] : []));
}
