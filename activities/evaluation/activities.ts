/** Evaluation: policies on benchmarks, greedy and sampled, Best-of-N by the reward model. */
import { z } from 'zod';
import {
  ArtifactRef,
  BenchmarkSampleRow,
  benchmarkFile,
  benchmarkName,
  benchmarkOf,
  benchmarkResults,
  EvaluationConfig,
  EvaluationRow,
  hasReferences,
  POLICIES,
  ReferenceRow,
  STAGE,
  StageFailure,
  TaskRow,
  type AskedBenchmark,
  type ManifestFile,
  type StageConfig,
  type Test,
} from '../../workflows/contract/index.js';
import { collect } from '../artifacts/collections.js';
import { deriveSeed, rowId, safeName } from '../artifacts/keys.js';
import { RowIndex } from '../artifacts/row-index.js';
import type { Task } from '../benchmarks/benchmark.js';
import { loadBenchmarks, taskOfRow } from '../benchmarks/load.js';
import { problemOf, problemsOf, readProblems } from '../contamination/problems.js';
import { keyedLanguage } from '../languages/index.js';
import { faultsOf, judgeInBatches, notesOf, settled, shortNotes } from '../execution/execution.js';
import { score } from '../policy/score.js';
import { cancellationSignal, currentProducer, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { intoShards, readPrepared, ShardedStage } from '../runtime/sharded-stage.js';
import { generate, type SampleRequest } from '../policy/generate.js';
import { extractProgram, PROMPT_VERSION, promptOf } from '../policy/prompt.js';
import { selectQuestions } from '../policy/questions.js';
import { comparisonsOf, evaluate, evaluateParts, type SuspectsOf } from './figures.js';
import { resultFiles } from './result-files.js';
import { referencesOf, refuseBroken } from './references.js';
import { givenAnswers } from './samples.js';
import { Suspects, suspectsOf, suspectTasks } from './suspects.js';
import {
  AnsweredTask,
  judgedTask,
  PlannedTask,
  plannedTask,
  recordedAnswer,
  refuseTooMany,
  sampleKey,
  taskKey,
  type Answer,
} from './tasks.js';

/** What is known before anybody is asked: references of each benchmark that has some, by its name. */
const Prepared = z.strictObject({
  references: z.record(z.string(), ArtifactRef),
  /** Tasks that the training may have seen; absent where no question was given. */
  suspects: Suspects.optional(),
});

/** Prefixes of the names of a policy, and of a file of samples, among the stage's inputs. */
const POLICY_INPUT = 'policy:';
const SAMPLES_INPUT = 'samples:';

/**
 * `evaluation.plan`, `evaluation.prepare`, `evaluation.generate`, `evaluation.judge`, `evaluation.score`,
 * `evaluation.seal`.
 */
export function evaluationActivities(services: Services) {
  const { store, models, sandbox, settings } = services;
  const stage = new ShardedStage(STAGE.evaluation);

  const plan = stage.plan<PlannedTask>({
    row: PlannedTask,
    async run({ config, inputs }) {
      const benchmarks = await loadBenchmarks(config.benchmarks, {
        settings,
        store,
        inputs,
        questions: () => selectQuestions(store, inputs['questions']!, 'heldOut', config.heldOutTasks, config.salt),
      });
      const about = benchmarks.map(({ benchmark, name, tasks, digest, source }): AskedBenchmark => ({
        name,
        results: benchmarkResults(benchmark).map((result) => result.name),
        version: benchmarkOf(benchmark).version,
        ...(digest === undefined ? {} : { digest }),
        ...(source === undefined ? {} : { source }),
        tasks: tasks.length,
        leftOut: [],
      }));
      if (config.sampler.kind === 'recorded') {
        const [{ name, tasks }] = benchmarks as [(typeof benchmarks)[number]];
        const given = await recordedTasks(config, inputs, name, tasks);
        return {
          shards: intoShards(given.planned, config.shardSize),
          metrics: { benchmarks: about, samples: given.counts },
        };
      }
      const tasks = benchmarks.flatMap(({ benchmark, name, tasks: asked }) =>
        asked.map((task) => ({
          benchmark: name,
          task: plannedTask(task),
          samples: benchmark.samples ?? config.samples,
          maxNewTokens: benchmark.maxNewTokens ?? config.maxNewTokens,
        })),
      );
      const policies = namesOf(inputs, POLICY_INPUT);
      // One policy a shard: a GPU worker then loads a model once for all of its tasks.
      return {
        shards: policies.flatMap((policy) =>
          intoShards(
            tasks.map((task) => ({ policy, ...task })),
            config.shardSize,
          ),
        ),
        metrics: { benchmarks: about },
      };
    },
  });

  /** Files in the forms of others, each policy's and benchmark's in a folder of its own. */
  async function resultFilesOf(
    { benchmarks }: StageConfig['evaluation'],
    groups: ReadonlyMap<string, readonly EvaluationRow[]>,
  ): Promise<ManifestFile[]> {
    const made: ManifestFile[] = [];
    for (const benchmark of benchmarks) {
      const form = benchmarkOf(benchmark).resultFiles;
      const whole = benchmarkResults(benchmark).at(-1)!.name;
      if (form === undefined) continue;
      for (const [key, rows] of groups) {
        const [name, policy] = z.tuple([z.string(), z.string()]).parse(JSON.parse(key));
        if (name !== whole) continue;
        const folder = [policy, benchmarkName(benchmark)].map((each) => safeName(each, { keepCase: true })).join('/');
        for (const [file, lines] of Object.entries(resultFiles(form, rows)))
          made.push(await store.putRows(`${folder}/${file}`, z.unknown(), lines));
      }
    }
    return made;
  }

  /** The tasks of a benchmark with the answers of each file of samples. */
  async function recordedTasks(
    config: StageConfig['evaluation'],
    inputs: Record<string, ArtifactRef>,
    benchmark: string,
    tasks: readonly Task[],
  ): Promise<{ planned: PlannedTask[]; counts: Record<string, Record<string, number>> }> {
    const { sampler } = config;
    if (sampler.kind !== 'recorded') throw new Error('nothing is recorded');
    const planned: PlannedTask[] = [];
    const counts: Record<string, Record<string, number>> = {};
    for (const policy of namesOf(inputs, SAMPLES_INPUT)) {
      const rows = await collect(store.rowsOf(inputs[SAMPLES_INPUT + policy]!, BenchmarkSampleRow));
      const given = givenAnswers(tasks, rows, { name: policy, benchmark, ...sampler });
      const { samplesPerTask = 0 } = given.counts;
      refuseTooMany(config, policy, samplesPerTask);
      counts[policy] = given.counts;
      planned.push(
        ...tasks.map((task): PlannedTask => ({
          policy,
          benchmark,
          samples: samplesPerTask > 1 ? samplesPerTask : 0,
          maxNewTokens: 0,
          task: plannedTask(task),
          answers: given.answers.get(task.id)!.map((each, at) => recordedAnswer(each, at, samplesPerTask)),
        })),
      );
    }
    return { planned, counts };
  }

  /** What the step before the first shard found out of each task: nothing where it did not run. */
  async function referenceRows(stageKey: string): Promise<Map<string, ReferenceRow>> {
    const prepared = await readPrepared(store, stageKey);
    const found = new Map<string, ReferenceRow>();
    if (prepared === undefined) return found;
    for (const [benchmark, ref] of Object.entries(Prepared.parse(prepared).references))
      for await (const row of store.rowsOf(ref, ReferenceRow)) found.set(taskKey(benchmark, row.taskId), row);
    return found;
  }

  /** A planned task with all its tests: large ones are read from the row of its benchmark's file. */
  async function withAllTests(
    config: StageConfig['evaluation'],
    inputs: Record<string, ArtifactRef>,
    { benchmark: name, task }: PlannedTask,
  ): Promise<PlannedTask['task']> {
    if (task.more === undefined) return task;
    const at = config.benchmarks.findIndex((each) => benchmarkName(each) === name);
    const benchmark = config.benchmarks[at]!;
    const index = await RowIndex.of(store, inputs[benchmarkFile(at)]!, benchmarkOf(benchmark).rowId);
    const [row] = (await index.rowsOf([task.id], TaskRow, 1)).get(task.id)!;
    if (!row) throw new StageFailure('ArtifactCorrupt', `${name}: its file has no row of task ${task.id}`);
    return { ...task, tests: taskOfRow(benchmark, row).tests };
  }

  /** The tasks whose reference does not fail. */
  async function withoutBroken<T extends PlannedTask>(stageKey: string, rows: readonly T[]): Promise<T[]> {
    const references = await referenceRows(stageKey);
    return rows.filter((row) => references.get(taskKey(row.benchmark, row.task.id))?.failure === undefined);
  }

  const answer = stage.step({
    after: [plan],
    row: AnsweredTask,
    async run({ config, inputs, rows, execution, stageKey }) {
      const planned = await withoutBroken(stageKey, rows);
      if (planned.length === 0) return { rows: [], metrics: { tokens: 0 } };
      const { maxRows } = EvaluationConfig.shape.execution.parse(execution);
      const common = ({
        task,
        maxNewTokens,
      }: PlannedTask): Omit<SampleRequest, 'id' | 'n' | 'temperature' | 'topP' | 'seeds'> => ({
        prompt: promptOf(task.question, task.programPrefix, task.language),
        maxNewTokens,
      });
      const requests = planned.flatMap((row): SampleRequest[] => [
        { ...common(row), id: `${row.task.id}/greedy`, n: 1, temperature: 0, topP: 1, seeds: [0] },
        ...(row.samples === 0
          ? []
          : [
              {
                ...common(row),
                id: `${row.task.id}/sample`,
                n: row.samples,
                temperature: config.temperature,
                topP: config.topP,
                seeds: Array.from({ length: row.samples }, (_, sample) =>
                  deriveSeed(config.seed, row.benchmark, row.task.id, sample),
                ),
              },
            ]),
      ]);
      const policy = inputs[POLICY_INPUT + planned[0]!.policy]!;
      const answers = await generate(services, requests, {
        engine: config.engine,
        model: await store.materialise(policy),
        maxRows,
        signal: cancellationSignal(),
        onProgress: (done, total) => reportProgress({ done, total, message: `${planned[0]!.policy}: answers` }),
      });
      let next = 0;
      // The policy has no answer to a task that it cannot read, which is no fault of the task.
      const tooLong = [...new Set(answers.filter(({ finish }) => finish === 'promptTooLong').map(({ id }) => id))];
      return {
        rows: planned.map((row): AnsweredTask => ({
          ...row,
          answers: answers.slice(next, (next += 1 + row.samples)).map(({ text, finish }, at): Answer => ({
            mode: at === 0 ? 'greedy' : 'sample',
            sample: Math.max(0, at - 1),
            text,
            finish,
          })),
        })),
        metrics: { tokens: answers.reduce((sum, { completionIds }) => sum + completionIds.length, 0) },
        ...(tooLong.length > 0 ? { notes: { promptTooLong: tooLong } } : {}),
      };
    },
  });

  const judge = stage.step({
    after: [answer, plan],
    row: EvaluationRow,
    async run({ config, inputs, rows, stageKey }) {
      const references = await referenceRows(stageKey);
      const results = new Map(config.benchmarks.map((each) => [benchmarkName(each), benchmarkResults(each)]));
      const whole = await withoutBroken(stageKey, rows);
      const referenceOf = ({ benchmark, task }: PlannedTask): ReferenceRow | undefined =>
        references.get(taskKey(benchmark, task.id));
      // Answers to a task follow each other, and its tests may be large: those of one task at a time are held.
      let last: { row: PlannedTask; tests: Promise<Test[]> } | undefined;
      const testsOf = (row: PlannedTask): Promise<Test[]> => {
        if (last?.row !== row) {
          const tests = withAllTests(config, inputs, row).then((task) => judgedTask(task, referenceOf(row)).tests);
          last = { row, tests };
        }
        return last.tests;
      };
      const answered = whole.flatMap((row) => {
        const { limits } = judgedTask(row.task, referenceOf(row));
        return (row.answers ?? []).map((answer) => ({
          row,
          answer,
          limits,
          tests: () => testsOf(row),
          id: rowId('e', row.policy, row.benchmark, row.task.id, answer.mode, answer.sample),
          program: (row.task.precedes ?? '') + (answer.program ?? extractProgram(answer.text, row.task.programPrefix)),
        }));
      });
      const { judgements, cpuSeconds, ...about } = await judgeInBatches(
        sandbox,
        answered.map(({ id, program, tests, limits }) => ({ id, program, tests, limits })),
        {
          limits: config.limits,
          signal: cancellationSignal(),
          onProgress: (done, total) => reportProgress({ done, total, message: 'programs run' }),
        },
      );
      const faults = faultsOf(judgements);
      return {
        rows: settled(judgements).flatMap(({ outcomes: all }, at): EvaluationRow[] => {
          const { row, answer, program, limits } = answered[at]!;
          return results.get(row.benchmark)!.map(({ name: benchmark, tests }) => ({
            id: rowId('e', row.policy, benchmark, row.task.id, answer.mode, answer.sample),
            policy: row.policy,
            benchmark,
            taskId: row.task.id,
            mode: answer.mode,
            sample: answer.sample,
            question: row.task.question,
            ...keyedLanguage(row.task.language),
            program,
            response: answer.program ?? extractProgram(answer.text),
            programPrefix: answer.program === undefined ? row.task.programPrefix : '',
            finish: answer.finish,
            outcomes: all.slice(0, tests),
            passed: all.slice(0, tests).every(({ status }) => status === 'pass'),
            ...(limits ? { limits } : {}),
            harness: about.harness,
          }));
        }),
        metrics: { cpuSeconds, ...faults.counts },
        notes: { ...notesOf(about), ...faults.notes },
      };
    },
  });

  const scored = stage.step({
    after: [judge],
    row: EvaluationRow,
    async run({ inputs, rows, execution }) {
      const answered = rows;
      const rewardModel = inputs['rewardModel'];
      // A sample has a row for each result of its benchmark, and one score.
      const samples = new Map(
        answered.flatMap((row) => (row.mode === 'sample' ? [[sampleKey(row), row] as const] : [])),
      );
      if (!rewardModel || samples.size === 0) return { rows: answered };
      const { microBatch } = EvaluationConfig.shape.execution.parse(execution);
      const scores = await score(
        models,
        store,
        [...samples].map(([id, { question, response, programPrefix, language }]) => ({
          id,
          question,
          language,
          program: `${programPrefix}${response}`,
        })),
        {
          model: await store.materialise(rewardModel),
          microBatch,
          signal: cancellationSignal(),
          onProgress: (done, total) => reportProgress({ done, total, message: 'samples scored' }),
        },
      );
      const byId = new Map(scores.map(({ id, score }) => [id, score]));
      return {
        // The reward model prefers no sample that it cannot read.
        rows: answered.map((row) => {
          const score = row.mode === 'sample' ? byId.get(sampleKey(row)) : undefined;
          return score === undefined ? row : { ...row, score };
        }),
      };
    },
  });

  return stage.activities(store, {
    plan,
    steps: { generate: answer, judge, score: scored },
    async prepare({ stageKey, config, inputs, rows }) {
      const byBenchmark = new Map<string, Map<string, PlannedTask['task']>>();
      for await (const { benchmark, task } of rows(plan)) {
        const known = byBenchmark.get(benchmark) ?? new Map<string, PlannedTask['task']>();
        byBenchmark.set(benchmark, known.set(task.id, task));
      }
      /** The experiment's own questions, which no training saw. */
      const own = new Set(
        config.benchmarks.flatMap((each) => (benchmarkOf(each).data.from === 'questions' ? [benchmarkName(each)] : [])),
      );
      const references: Record<string, ArtifactRef> = {};
      for (const benchmark of config.benchmarks.filter(hasReferences)) {
        const name = benchmarkName(benchmark);
        const tasks = [...(byBenchmark.get(name) ?? new Map<string, PlannedTask['task']>()).values()];
        const ref = await referencesOf({ store, sandbox }, tasks, currentProducer(), {
          cpuSeconds: config.references.cpuSeconds,
          memoryBytes: config.limits.memoryBytes,
          signal: cancellationSignal(),
          onProgress: (done, total) => reportProgress({ done, total, message: `${name}: references` }),
        });
        refuseBroken(name, await collect(store.rowsOf(ref, ReferenceRow)), config.references);
        references[name] = ref;
      }
      const asked = [...byBenchmark].flatMap(([name, tasks]) =>
        own.has(name) ? [] : [...tasks.values()].map((task) => problemOf(name, task)),
      );
      const questions = inputs['questions'];
      if (!questions || asked.length === 0) return { references } satisfies z.infer<typeof Prepared>;
      const common = { memoryBytes: config.limits.memoryBytes, signal: cancellationSignal() };
      const problems = await problemsOf({ store, sandbox }, asked, currentProducer(), {
        ...common,
        onProgress: (done, total) => reportProgress({ done, total, message: 'problems prepared' }),
      });
      const suspects = await suspectsOf({ store, sandbox }, stageKey, questions, await readProblems(store, problems), {
        ...common,
        onProgress: (done, total) => reportProgress({ done, total, message: 'questions run against benchmarks' }),
      });
      return { references, suspects } satisfies z.infer<typeof Prepared>;
    },
    async seal({ config, rows, files, counts, notes, planMetrics, stageKey }) {
      const groups = new Map<string, EvaluationRow[]>();
      if ((notes['harness']?.length ?? 0) > 1) {
        throw new StageFailure(
          'InvalidExperiment',
          `policies were judged in different ways, so they cannot be compared: ${notes['harness']!.join('; ')}`,
        );
      }
      for await (const row of rows(scored, judge)) {
        const key = JSON.stringify([row.benchmark, row.policy]);
        groups.set(key, [...(groups.get(key) ?? []), row]);
      }
      // A benchmark may have several results, each with the settings of the benchmark.
      const asked = config.benchmarks.flatMap((benchmark) =>
        benchmarkResults(benchmark).map(({ name }) => ({ name, benchmark })),
      );
      const order = asked.map(({ name }) => name);
      const ordered = [...groups.values()].sort(
        ([a], [b]) => order.indexOf(a!.benchmark) - order.indexOf(b!.benchmark) || (a!.policy < b!.policy ? -1 : 1),
      );
      const { temperature, topP, seed } = config;
      const prepared = await readPrepared(store, stageKey);
      const { suspects } = prepared === undefined ? {} : Prepared.parse(prepared);
      const suspectsIn: SuspectsOf = suspects ? suspectsByResult(config, suspects) : () => undefined;
      const results = ordered.map((group) => {
        const { benchmark } = group[0]!;
        const known = suspectsIn(benchmark);
        return {
          ...(known ? evaluateParts(group, config, known) : evaluate(group, config)),
          conditions: {
            temperature,
            topP,
            maxNewTokens: asked[order.indexOf(benchmark)]?.benchmark.maxNewTokens ?? config.maxNewTokens,
            prompt: PROMPT_VERSION,
            harness: notes['harness'] ?? [],
          },
        };
      });
      const references = await referenceRows(stageKey);
      const benchmarks = planMetrics.benchmarks?.map((benchmark) => ({
        ...benchmark,
        ...(suspects && benchmark.results.some((name) => suspectsIn(name))
          ? { suspects: suspectTasks(suspects, benchmark.name) }
          : {}),
        leftOut: [...references].flatMap(([key, { taskId, failure }]) =>
          failure !== undefined && key === taskKey(benchmark.name, taskId) ? [{ taskId, reason: failure }] : [],
        ),
      }));
      return {
        files: [...files, ...(await resultFilesOf(config, groups))],
        metrics: {
          results,
          comparisons: comparisonsOf(ordered, { base: POLICIES.before, seed, suspectsOf: suspectsIn }),
          ...(benchmarks ? { benchmarks } : {}),
          notes: shortNotes(notes),
          tokens: counts['tokens'] ?? 0,
          cpuSeconds: counts['cpuSeconds'] ?? 0,
        },
      };
    },
  });
}

/** The suspect tasks of each result; a benchmark may have several. The experiment's own questions have none. */
function suspectsByResult({ benchmarks }: StageConfig['evaluation'], suspects: Suspects): SuspectsOf {
  const byResult = new Map(
    benchmarks
      .filter((benchmark) => benchmarkOf(benchmark).data.from !== 'questions')
      .flatMap((benchmark) => {
        const tasks = new Set(suspectTasks(suspects, benchmarkName(benchmark)).map(({ taskId }) => taskId));
        return benchmarkResults(benchmark).map(({ name }) => [name, tasks] as const);
      }),
  );
  return (benchmark) => byResult.get(benchmark);
}

/** Names of inputs behind a prefix, in order. */
function namesOf(inputs: Readonly<Record<string, ArtifactRef>>, prefix: string): string[] {
  return Object.keys(inputs)
    .filter((name) => name.startsWith(prefix))
    .map((name) => name.slice(prefix.length))
    .sort();
}
