/** Synthesis: seeds to questions with test cases. */
import { z } from 'zod';
import {
  ArtifactRef,
  QuestionRow,
  ReplyRow,
  SeedRow,
  STAGE,
  StageConfigs,
  TEACHERS,
} from '../../workflows/contract/index.js';
import { collect, count } from '../artifacts/collections.js';
import { deriveSeed, sha256 } from '../artifacts/keys.js';
import { refOf } from '../artifacts/manifests.js';
import { digestsOf, importRows, produce } from '../artifacts/produce.js';
import { RowIndex } from '../artifacts/row-index.js';
import { solvedBy } from '../contamination/by-running.js';
import { ProblemTexts } from '../contamination/likeness.js';
import { problemOf, ProblemRow, problemsOf, readProblems } from '../contamination/problems.js';
import type { Task } from '../benchmarks/benchmark.js';
import { loadBenchmarks } from '../benchmarks/load.js';
import { shardAsks } from '../endpoint/activities.js';
import { paidMetrics, RequestExecution } from '../endpoint/replies.js';
import { languageOf } from '../languages/index.js';
import { NearDuplicates } from '../similarity/similarity.js';
import { evaluateCalls } from '../execution/execution.js';
import { cancellationSignal, currentProducer, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { inShards, readPrepared, ShardedStage } from '../runtime/sharded-stage.js';
import { askTeacher, knownAsks, questionOf } from './asking.js';
import { searchSeeds } from './seed-search.js';
import type { FromSandbox, Taught } from './teachers/teacher.js';

/** Calls of a seed that must give a value, or it is searched. */
const LEAST_TESTS = 5;
const NOTHING = { question: '', entryPoint: '', testCases: [] };

/** Why a seed is left out that repeats a problem of a benchmark. */
const CONTAMINATION = 'benchmarkContamination';

/** A seed with the replies to it: the first one, and the others. Without one where no reply is stored for the seed. */
const AskedRow = z.strictObject({ seed: SeedRow, reply: ReplyRow.optional(), more: z.array(ReplyRow).optional() });
type AskedRow = z.infer<typeof AskedRow>;

/** Problems that no seed may solve: see `problems.ts`. */
const Prepared = z.strictObject({ problems: ArtifactRef });

/** A seed that is left out, and why; a note of the step that runs seeds. */
const ContaminatedSeed = z.strictObject({ seed: z.string(), why: z.string() });

export const synthesisAsks = shardAsks({
  config: StageConfigs.synthesis,
  row: SeedRow,
  model({ teacher }) {
    const { answers } = TEACHERS.of(teacher);
    return answers.from === 'endpoint' ? answers.model : undefined;
  },
  asks({ teacher }, seeds, stored) {
    const { answers } = TEACHERS.of(teacher);
    return answers.from === 'endpoint' ? knownAsks(answers, seeds, stored) : [];
  },
});

/**
 * `synthesis.plan`; `synthesis.prepare` and `synthesis.decontaminate`; `synthesis.ask` of a teacher that runs seeds, or `synthesis.request` and `synthesis.parse`;
 * `synthesis.seal`.
 */
export function synthesisActivities({ store, sandbox, settings, secret }: Services) {
  const stage = new ShardedStage(STAGE.synthesis);

  /** The problems that no seed may repeat as an artifact: sandbox workers have no benchmarks of their own. */
  async function storedProblems(benchmarks: readonly { name: string; tasks: readonly Task[] }[]): Promise<ArtifactRef> {
    const problems = benchmarks.flatMap(({ name, tasks }) => tasks.map((task) => problemOf(name, task)));
    const file = await store.putRows('rows.jsonl', ProblemRow, problems);
    return (await importRows(store, 'tasks', [file], currentProducer())).ref;
  }

  const plan = stage.plan({
    row: SeedRow,
    async run({ config, inputs }) {
      const benchmarks = await loadBenchmarks(config.decontaminate, {
        settings,
        store,
        inputs,
        questions: () => Promise.resolve([]),
      });
      const texts = new ProblemTexts(benchmarks.flatMap(({ tasks }) => tasks));
      const seen = new Set<string>();
      const near = config.nearDuplicate === null ? undefined : new NearDuplicates(config.nearDuplicate);
      const droppedSeeds: Record<string, number> = {};
      const contaminated: { seed: string; why: string }[] = [];
      const metrics = {
        seeds: 0,
        droppedSeeds,
        contaminated,
        ...(benchmarks.length > 0 ? { sameName: 0, problemsArtifact: (await storedProblems(benchmarks)).key } : {}),
      };
      const drop = (reason: string): void => count(droppedSeeds, reason);
      const kept = async function* (): AsyncGenerator<SeedRow> {
        for await (const row of store.rowsOf(inputs['seeds']!, SeedRow)) {
          metrics.seeds += 1;
          const { code, language } = row;
          const name = row.entryPoint ?? languageOf(row).firstFunctionOf(code) ?? '';
          const digest = sha256(code);
          const [copied] = texts.likeCode({ code, language });
          if (metrics.sameName !== undefined && texts.hasName(name)) metrics.sameName += 1;
          if (seen.has(digest)) drop('duplicateSeed');
          else if (copied !== undefined) {
            drop(CONTAMINATION);
            contaminated.push({ seed: row.id, why: `code like ${copied}` });
          } else if (near?.isDuplicate(code)) drop('nearDuplicateSeed');
          else yield row;
          seen.add(digest);
        }
      };
      return { shards: inShards(kept(), config.shardSize), metrics };
    },
  });

  const decontaminate = stage.step({
    after: [plan],
    row: SeedRow,
    async run({ config, rows, stageKey }) {
      const { problems } = Prepared.parse(await readPrepared(store, stageKey));
      const { solved, notRun } = await solvedBy(
        sandbox,
        rows.flatMap(({ code, language = 'python' }, at) =>
          language === 'python' ? [{ id: String(at), program: code }] : [],
        ),
        await readProblems(store, problems),
        {
          memoryBytes: config.limits.memoryBytes,
          signal: cancellationSignal(),
          onProgress: (done, total) => reportProgress({ done, total, message: 'seeds run against benchmarks' }),
        },
      );
      const contaminated = [...solved].map(([at, found]) => ({
        seed: rows[Number(at)]!.id,
        why: found.map(({ taskId, by }) => `${by} solves ${taskId}`).join('; '),
      }));
      return {
        rows: rows.filter((_, at) => !solved.has(String(at))),
        metrics: { [CONTAMINATION]: solved.size, notRun: notRun.length },
        notes: { [CONTAMINATION]: contaminated.map((each) => JSON.stringify(each)) },
      };
    },
  });

  const ask = stage.step({
    after: [plan, decontaminate],
    row: QuestionRow,
    async run({ config, rows }) {
      const { answers } = TEACHERS.of(config.teacher);
      if (answers.from !== 'sandbox') throw new Error(`the teacher '${config.teacher.kind}' runs no seeds`);
      const signal = cancellationSignal();
      const asked = rows.map((seed) => ({ seed, ...understood(answers, seed) }));
      const results = await evaluateCalls(
        sandbox,
        asked.flatMap(({ seed, calls, write }) => (write ? [{ id: seed.id, program: seed.code, calls }] : [])),
        {
          limits: config.limits,
          signal,
          onProgress: (done, total) => reportProgress({ done, total, message: 'seeds run' }),
        },
      );
      let next = 0;
      let failedCalls = 0;
      const taught = asked.map(({ calls, write, failure }): { taught: Taught; isThin: boolean } => {
        if (!write)
          return { taught: { ...NOTHING, failure: 'seedNotUnderstood', failureDetail: failure }, isThin: true };
        const values = results[next++]!;
        const answered = calls.flatMap((call, index) => {
          const value = values[index]!;
          return 'literal' in value ? [{ call, literal: value.literal }] : [];
        });
        failedCalls += calls.length - answered.length;
        return { taught: write(answered), isThin: answered.length < Math.min(LEAST_TESTS, calls.length) };
      });
      // What could not be read, or answers too few of its calls, is searched.
      const thin = taught.flatMap(({ isThin }, at) => (isThin && answers.search ? [at] : []));
      const searches = thin.map((at) => answers.search!(rows[at]!, deriveSeed));
      const found = await searchSeeds(
        sandbox,
        searches.map(({ search }) => search),
        {
          limits: config.limits,
          signal,
          onProgress: (done, total) => reportProgress({ done, total, message: 'seeds searched' }),
        },
      );
      thin.forEach((at, place) => {
        const searched = searches[place]!.write(found[place]!);
        const before = taught[at]!.taught;
        // Few tests that a seed's own description gave are better than none.
        if (searched.failure === undefined || before.testCases.length === 0) taught[at]!.taught = searched;
      });
      return { rows: rows.map((seed, at) => questionOf(seed, taught[at]!.taught)), metrics: { failedCalls } };
    },
  });

  const request = stage.step({
    after: [plan, decontaminate],
    row: AskedRow,
    async run({ config: { teacher }, inputs, rows, execution }) {
      const { answers } = TEACHERS.of(teacher);
      if (answers.from !== 'endpoint') {
        const index = await RowIndex.of(store, inputs['replies']!);
        const ids = rows.map(({ id }) => id);
        const recorded = await index.rowsOf(ids, ReplyRow);
        const asked = rows.map((seed) => askedRow(seed, recorded.get(seed.id)!));
        return { rows: asked, metrics: { replies: asked.filter(({ reply }) => reply).length } };
      }
      const { replies, metrics, notes } = await askTeacher(answers, rows, {
        execution: RequestExecution.parse(execution),
        store,
        secret,
        signal: cancellationSignal(),
        onProgress: (done, total, message) => reportProgress({ done, total, message }),
      });
      if (!replies) return { incomplete: true, metrics };
      return { rows: rows.map((seed, index) => askedRow(seed, replies[index]!)), metrics, notes };
    },
  });

  const parse = stage.step({
    after: [request],
    row: QuestionRow,
    run({ config, rows }) {
      const { answers } = TEACHERS.of(config.teacher);
      if (answers.from === 'sandbox') throw new Error(`the teacher '${config.teacher.kind}' reads no replies`);
      const repairs: Record<string, number> = {};
      const questions = rows.map((row): QuestionRow => {
        const taught = answers.read(row.seed, repliesIn(row));
        for (const repair of new Set(taught.repairs)) count(repairs, `repairs.${repair}`);
        return questionOf(row.seed, taught);
      });
      return Promise.resolve({ rows: questions, metrics: repairs });
    },
  });

  /** Raw replies as an artifact of their own, which a recorded teacher replays. @returns its key. */
  async function keepReplies(
    stageKey: string,
    inputs: Record<string, ArtifactRef>,
    rows: AsyncGenerator<AskedRow>,
  ): Promise<string> {
    const { ref } = await produce(
      store,
      { stage: 'synthesis.request', version: 1, kind: 'replies', semantics: { stageKey }, inputs: digestsOf(inputs) },
      inputs,
      currentProducer(),
      async () => {
        async function* replies(): AsyncGenerator<ReplyRow> {
          for await (const row of rows) yield* repliesIn(row);
        }
        const file = await store.putRows('rows.jsonl', ReplyRow, replies());
        return { files: [file], rows: file.rows ?? 0, metrics: {} };
      },
    );
    return ref.key;
  }

  return stage.activities(store, {
    plan,
    steps: { decontaminate, ask, request, parse },
    async prepare({ config, planMetrics }) {
      const stored = await store.findManifest(planMetrics.problemsArtifact!);
      const problems = await problemsOf(
        { store, sandbox },
        await collect(store.rowsOf(refOf(stored!), ProblemRow)),
        currentProducer(),
        {
          memoryBytes: config.limits.memoryBytes,
          signal: cancellationSignal(),
          onProgress: (done, total) => reportProgress({ done, total, message: 'problems prepared' }),
        },
      );
      return { problems } satisfies z.infer<typeof Prepared>;
    },
    async seal({ stageKey, config, inputs, rows, counts, notes, planMetrics }) {
      const { from } = TEACHERS.of(config.teacher).answers;
      let questions = 0;
      let testCases = 0;
      const failures: Record<string, number> = {};
      const rejectedTests: Record<string, number> = {};
      const testOrigins: Record<string, number> = {};
      const forms: Record<string, number> = {};
      for await (const row of rows(ask, parse)) {
        if (row.failure === undefined) questions += 1;
        else count(failures, row.failure);
        testCases += row.testCases.length;
        for (const { origin } of row.testCases) if (origin !== undefined) count(testOrigins, origin);
        if (row.form !== undefined) count(forms, row.form);
        for (const { reason } of row.rejectedTests ?? []) count(rejectedTests, reason);
      }
      const { droppedSeeds = {}, contaminated = [] } = planMetrics;
      const byRunning = counts[CONTAMINATION] ?? 0;
      if (byRunning > 0) count(droppedSeeds, CONTAMINATION, byRunning);
      const told = (notes[CONTAMINATION] ?? []).map((note) => ContaminatedSeed.parse(JSON.parse(note)));
      const made = {
        questions,
        testCases,
        failures,
        seeds: planMetrics['seeds'] ?? 0,
        droppedSeeds,
        contaminated: [...contaminated, ...told],
        ...(config.decontaminate.length > 0 ? { notRun: counts['notRun'] ?? 0 } : {}),
      };
      if (from === 'sandbox') {
        const searched = Object.keys(testOrigins).length > 0 ? { testOrigins } : {};
        return { metrics: { ...made, failedCalls: counts['failedCalls'] ?? 0, ...searched } };
      }
      const replies = from === 'endpoint' ? await keepReplies(stageKey, inputs, rows(request)) : undefined;
      return {
        metrics: {
          ...made,
          rejectedTests,
          ...countsOf('repairs', counts),
          ...(Object.keys(forms).length > 0 ? { forms } : {}),
          ...paidMetrics(counts),
          ...(replies ? { repliesArtifact: replies } : {}),
          ...(notes['endpoint'] ? { notes } : {}),
        },
      };
    },
  });
}

/** What a teacher runs a seed for; `failure` says what in the seed it did not understand. */
function understood(
  answers: FromSandbox,
  seed: SeedRow,
): Partial<ReturnType<FromSandbox['ask']>> & { calls: string[]; failure?: string } {
  try {
    return answers.ask(seed, deriveSeed);
  } catch (error) {
    return { calls: [], failure: (error as Error).message };
  }
}

/** The counts of a name, without it: a metric that is there where something was counted. */
function countsOf<N extends string>(
  name: N,
  counts: Record<string, number>,
): Partial<Record<N, Record<string, number>>> {
  const own = Object.entries(counts).filter(([each]) => each.startsWith(`${name}.`));
  if (own.length === 0) return {};
  const counted = Object.fromEntries(own.map(([each, times]) => [each.slice(name.length + 1), times]));
  return { [name]: counted } as Record<N, Record<string, number>>;
}

function askedRow(seed: SeedRow, [reply, ...more]: readonly ReplyRow[]): AskedRow {
  return { seed, reply, ...(more.length > 0 ? { more } : {}) };
}

function repliesIn({ reply, more = [] }: AskedRow): ReplyRow[] {
  return reply ? [reply, ...more] : [];
}
