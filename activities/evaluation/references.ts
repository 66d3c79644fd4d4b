/**
 * References of benchmarks. They run before anybody is asked: a task whose reference fails says nothing about programs
 * and is left out. What a reference answers to the inputs of a suite is what programs are to answer.
 *
 * The rows are an artifact under a key of their content, so that the same references run once for all evaluations. Rows
 * are kept as they are made, so that a killed worker's successor repeats one call of the sandbox at most.
 */
import { z } from 'zod';
import {
  canonicalJson,
  judgedTests,
  ManifestFile,
  ReferenceRow,
  STAGE,
  StageFailure,
  type ArtifactRef,
  type CpuLimits,
  type StageConfig,
  type Producer,
  type SuiteTest,
} from '../../workflows/contract/index.js';
import { collect } from '../artifacts/collections.js';
import { objectKeys, sha256 } from '../artifacts/keys.js';
import { produce } from '../artifacts/produce.js';
import type { ArtifactStore } from '../artifacts/store.js';
import type { Task } from '../benchmarks/benchmark.js';
import type { PythonProcess } from '../runtime/python-service.js';
import type { SandboxOperation } from '../runtime/operations.js';
import { judgePrograms, type Job } from '../execution/execution.js';

/** What of a task decides its reference's row. */
export type ReferenceTask = Pick<Task, 'id' | 'reference' | 'tests' | 'checker' | 'limits'>;

/** Tasks in one call of the sandbox, so that a cancellation waits for few of them, and a kill repeats few. */
const TASKS_AT_ONCE = 32;

/** Rows of the references of one call. */
const CallDocument = z.object({ file: ManifestFile });

/** CPU seconds of one input that programs may get, from which the first is taken that is long enough. */
const STEPS = [1, 2, 5, 10, 20, 60];
/** How often the time of the reference a program may take for one input: the factor of EvalPlus. */
const FACTOR = 4;
/** CPU seconds after which EvalPlus ends a program with all inputs of a suite. */
const SUITE_SECONDS = 60;

/**
 * Limits of programs for a suite whose slowest input takes a reference so many CPU seconds: one of few steps, so that a
 * noisy measurement gives the same limits again.
 *
 * @example
 * suiteLimits(0.7); // { cpuSecondsPerTest: 5, cpuSecondsPerProgram: 60 }
 */
function suiteLimits(slowest: number): CpuLimits {
  return {
    cpuSecondsPerTest: STEPS.find((step) => step >= FACTOR * slowest) ?? STEPS.at(-1)!,
    cpuSecondsPerProgram: SUITE_SECONDS,
  };
}

/** A test that is judged by what the reference answers. */
export function isSuite(test: Task['tests'][number]): test is SuiteTest {
  return typeof test !== 'string' && 'suite' in test;
}

interface RunOptions {
  cpuSeconds: number;
  memoryBytes: number;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/**
 * The references of tasks: the stored rows, or those of a run now.
 *
 * @throws StageFailure `SandboxUnavailable` where the host could not judge.
 */
export async function referencesOf(
  {
    store,
    sandbox,
  }: {
    store: Pick<ArtifactStore, 'commit' | 'findManifest' | 'getJson' | 'putJson' | 'putRows' | 'readRows'>;
    sandbox: PythonProcess<SandboxOperation>;
  },
  tasks: readonly ReferenceTask[],
  producer: Producer,
  options: RunOptions,
): Promise<ArtifactRef> {
  const { harness, python, importPolicy } = await sandbox.versions();
  const { version } = STAGE.evaluation.steps.prepare;
  const content = tasks.map(({ limits, ...task }) => ({
    id: task.id,
    reference: task.reference,
    tests: judgedTests(task),
    ...(limits ? { limits } : {}),
  }));
  const semantics = {
    tasks: sha256(canonicalJson(content)),
    cpuSeconds: options.cpuSeconds,
    memoryBytes: options.memoryBytes,
    harness: [harness!, python!, importPolicy!],
  };
  const recipe = { stage: 'evaluation.prepare', version, kind: 'references' as const, semantics, inputs: {} };
  const { ref } = await produce(store, recipe, {}, producer, async (key) => {
    const rows: ReferenceRow[] = [];
    for (let from = 0; from < tasks.length; from += TASKS_AT_ONCE) {
      const document = objectKeys.shard(key, from / TASKS_AT_ONCE, 'references');
      const kept = await store.getJson(document);
      if (kept === undefined) {
        const made = await runReferences(sandbox, tasks.slice(from, from + TASKS_AT_ONCE), options);
        await store.putJson(document, { file: await store.putRows('rows.jsonl', ReferenceRow, made) });
        rows.push(...made);
      } else rows.push(...(await collect(store.readRows([CallDocument.parse(kept).file], ReferenceRow))));
      options.onProgress?.(rows.length, tasks.length);
    }
    const file = await store.putRows('rows.jsonl', ReferenceRow, rows);
    const failed = rows.filter(({ failure }) => failure !== undefined).length;
    return { files: [file], rows: rows.length, metrics: { failed } };
  });
  return ref;
}

/**
 * Rows of references, in order. A task without a reference has a row that says nothing.
 *
 * @throws StageFailure `SandboxUnavailable` where the host could not judge.
 */
export async function runReferences(
  sandbox: PythonProcess<SandboxOperation>,
  tasks: readonly ReferenceTask[],
  { cpuSeconds, memoryBytes, signal }: RunOptions,
): Promise<ReferenceRow[]> {
  const limits = { cpuSecondsPerTest: cpuSeconds, cpuSecondsPerProgram: cpuSeconds, memoryBytes };
  const jobs = tasks.flatMap((task): Job[] =>
    task.reference === '' ? [] : [{ id: task.id, program: task.reference, tests: judgedTests(task) }],
  );
  const isOfSuites = ({ tests }: Job): boolean => tests.some((test) => isSuite(test));
  const suites = jobs.filter(isOfSuites);
  const rows = new Map<string, ReferenceRow>();
  if (suites.length > 0) {
    const { answers } = await sandbox.call('answers', { jobs: suites, limits }, signal ? { signal } : {});
    for (const { id, suites: found } of answers) {
      const failed = found.findIndex(({ status }) => status !== 'answers');
      const good = found.flatMap((each) => (each.status === 'answers' ? [each] : []));
      const bad = found[failed];
      rows.set(
        id,
        bad && bad.status !== 'answers'
          ? { taskId: id, failure: failureText(id, failed, bad) }
          : {
              taskId: id,
              expected: good.map(({ answers: text }) => text),
              limits: suiteLimits(Math.max(0, ...good.map(({ slowest }) => slowest))),
            },
      );
    }
  }
  const others = jobs.filter((job) => !isOfSuites(job));
  const { judgements } = await judgePrograms(sandbox, others, { limits, ...(signal ? { signal } : {}) });
  for (const { id, outcomes } of judgements) {
    const failed = outcomes.findIndex(({ status }) => status !== 'pass');
    rows.set(id, { taskId: id, ...(failed < 0 ? {} : { failure: failureText(id, failed, outcomes[failed]!) }) });
  }
  return tasks.map(({ id }) => rows.get(id) ?? { taskId: id });
}

function failureText(
  id: string,
  test: number,
  { status, reason }: { status: string; reason?: string | undefined },
): string {
  if (status === 'unjudged')
    throw new StageFailure(
      'SandboxUnavailable',
      `the reference of ${id} could not be judged: ${reason ?? 'no reason'}`,
    );
  return `test ${test}: ${status}${reason === undefined ? '' : ` (${reason})`}`;
}

/** References that are told where a benchmark loses too many. */
const TOLD = 10;

/**
 * Refuses a benchmark of which too many tasks are left out.
 *
 * @throws StageFailure `InvalidExperiment` naming the tasks and why their references fail.
 */
export function refuseBroken(
  name: string,
  rows: readonly ReferenceRow[],
  { mostLost }: StageConfig['evaluation']['references'],
): void {
  const failed = rows.filter(({ failure }) => failure !== undefined);
  if (failed.length <= mostLost * rows.length) return;
  const told = failed.slice(0, TOLD).map(({ taskId, failure }) => `${taskId}: ${failure}`);
  const more = failed.length > TOLD ? `; and ${failed.length - TOLD} more` : '';
  throw new StageFailure(
    'InvalidExperiment',
    `the benchmark '${name}' is not scored, because ${failed.length} of its ${rows.length} references fail, and ` +
      `references.mostLost allows ${mostLost * 100} %: ${told.join('; ')}${more}. Give the sandbox the ` +
      'libraries that it needs, raise references.cpuSeconds or limits.memoryBytes, or mend the file',
  );
}
