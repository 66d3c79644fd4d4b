/** Synthesis: seeds to questions with test cases. */
import { z } from 'zod';
import {
  QuestionRow,
  ReplyRow,
  SeedRow,
  STAGE,
  StageConfigs,
  type ArtifactRef,
  type Teacher,
} from '../../workflows/contract/index.js';
import { count } from '../artifacts/collections.js';
import { deriveSeed, sha256 } from '../artifacts/keys.js';
import { produce, digestsOf } from '../artifacts/produce.js';
import { RowIndex } from '../artifacts/row-index.js';
import { Contamination } from '../similarity/contamination.js';
import { loadBenchmarks } from '../benchmarks/load.js';
import { shardAsks } from '../endpoint/activities.js';
import { askForReplies, paidMetrics, RequestExecution } from '../endpoint/replies.js';
import { languageOf } from '../languages/index.js';
import { NearDuplicates } from '../similarity/similarity.js';
import { evaluateCalls } from '../execution/execution.js';
import { cancellationSignal, currentProducer, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { inShards, ShardedStage } from '../runtime/sharded-stage.js';
import { generateCalls, parseSeed, writeQuestion, writeTestCases, type Seed } from './offline-teacher.js';
import { parseReply, questionBase } from './parse-reply.js';
import { asksOfSeeds, modelOf } from './prompts.js';

type OfTeacher<K extends Teacher['kind']> = Extract<Teacher, { kind: K }>;

/** A seed with the reply to it; without one where a recorded teacher has none. */
const AskedRow = z.strictObject({ seed: SeedRow, reply: ReplyRow.optional() });
type AskedRow = z.infer<typeof AskedRow>;

export const synthesisAsks = shardAsks({
  config: StageConfigs.synthesis,
  row: SeedRow,
  asks: ({ teacher }, seeds) => (teacher.kind === 'openai' ? asksOfSeeds(teacher, seeds) : []),
});

/** `synthesis.plan`; `synthesis.ask` of the offline teacher, or `synthesis.request` and `synthesis.parse`; `synthesis.seal`. */
export function synthesisActivities({ store, sandbox, settings, secret }: Services) {
  const stage = new ShardedStage(STAGE.synthesis);

  const plan = stage.plan({
    row: SeedRow,
    async run({ config, inputs }) {
      const benchmarks = await loadBenchmarks(config.decontaminate, {
        settings,
        store,
        inputs,
        questions: () => Promise.resolve([]),
      });
      const contamination = new Contamination(benchmarks.flatMap(({ tasks }) => tasks));
      const seen = new Set<string>();
      const near = config.nearDuplicate === null ? undefined : new NearDuplicates(config.nearDuplicate);
      const metrics = {
        seeds: 0,
        droppedSeeds: {} as Record<string, number>,
        contaminated: [] as { seed: string; why: string }[],
      };
      const drop = (reason: string): void => {
        count(metrics.droppedSeeds, reason);
      };
      const kept = async function* (): AsyncGenerator<SeedRow> {
        for await (const row of store.rowsOf(inputs['seeds']!, SeedRow)) {
          metrics.seeds += 1;
          const { code, language } = row;
          const name = languageOf(row).firstFunctionOf(code) ?? '';
          const digest = sha256(code);
          const why = contamination.reasonOf({ name, code, language });
          if (seen.has(digest)) drop('duplicateSeed');
          else if (why !== undefined) {
            drop('benchmarkContamination');
            metrics.contaminated.push({ seed: row.id, why });
          } else if (near?.isDuplicate(code)) drop('nearDuplicateSeed');
          else yield row;
          seen.add(digest);
        }
      };
      return { shards: inShards(kept(), config.shardSize), metrics };
    },
  });

  const ask = stage.step({
    after: [plan],
    row: QuestionRow,
    async run({ config, rows }) {
      const teacher = config.teacher as OfTeacher<'offline'>;
      const asked = rows.map((row) => askOffline(row, teacher));
      const calls = asked.flatMap(({ row, parsed, calls }) =>
        parsed ? [{ id: row.id, program: row.code, calls }] : [],
      );
      const results = await evaluateCalls(sandbox, calls, {
        limits: config.limits,
        signal: cancellationSignal(),
        onProgress: (done, total) => reportProgress({ done, total, message: 'seeds run' }),
      });
      let next = 0;
      let failedCalls = 0;
      const questions = asked.map(({ row, parsed, calls, failure }): QuestionRow => {
        const base = questionBase(row);
        if (!parsed) return { ...base, question: '', entryPoint: '', testCases: [], failure: failure! };
        const answers = results[next++]!;
        const literals = answers.map((answer) => ('literal' in answer ? answer.literal : undefined));
        const answered = calls.filter((_, index) => literals[index] !== undefined);
        failedCalls += calls.length - answered.length;
        const testCases = writeTestCases(
          answered,
          literals.filter((literal) => literal !== undefined),
          {
            corruptedShare: teacher.corruptedShare,
            seed: deriveSeed(teacher.seed, row.id, 'tests'),
          },
        );
        return { ...base, question: writeQuestion(parsed), entryPoint: parsed.name, testCases };
      });
      return { rows: questions, metrics: { failedCalls } };
    },
  });

  const request = stage.step({
    after: [plan],
    row: AskedRow,
    async run({ config: { teacher }, inputs, rows, execution }) {
      const seeds = rows;
      if (teacher.kind === 'recorded') {
        const replies = await (
          await RowIndex.of(store, inputs['replies']!)
        ).rowsOf(
          seeds.map(({ id }) => id),
          ReplyRow,
        );
        // Of several replies to a seed the last one counts.
        const asked = seeds.map((seed): AskedRow => ({ seed, reply: replies.get(seed.id)!.at(-1) }));
        return { rows: asked, metrics: { replies: asked.filter(({ reply }) => reply).length } };
      }
      const { replies, metrics } = await askForReplies({
        model: modelOf(teacher as OfTeacher<'openai'>),
        asks: asksOfSeeds(teacher as OfTeacher<'openai'>, seeds),
        execution: RequestExecution.parse(execution),
        store,
        secret,
        signal: cancellationSignal(),
        onProgress: (done, total, message) => reportProgress({ done, total, message }),
      });
      if (!replies) return { incomplete: true, metrics };
      return { rows: seeds.map((seed, index): AskedRow => ({ seed, reply: replies[index]! })), metrics };
    },
  });

  const parse = stage.step({
    after: [request],
    row: QuestionRow,
    run: ({ config, rows }) =>
      Promise.resolve({
        rows: rows.map(({ seed, reply }) => parseReply(seed, reply, config.teacher.testCases)),
      }),
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
          for await (const { reply } of rows) if (reply) yield reply;
        }
        const file = await store.putRows('rows.jsonl', ReplyRow, replies());
        return { files: [file], rows: file.rows ?? 0, metrics: {} };
      },
    );
    return ref.key;
  }

  return stage.activities(store, {
    plan,
    steps: { ask, request, parse },
    async seal({ stageKey, config, inputs, rows, counts, planMetrics }) {
      const { teacher } = config;
      let questions = 0;
      let testCases = 0;
      const failures: Record<string, number> = {};
      const rejectedTests: Record<string, number> = {};
      const count = (into: Record<string, number>, reason: string): void => {
        count(into, reason);
      };
      for await (const row of rows(ask, parse)) {
        if (row.failure === undefined) questions += 1;
        // The offline teacher says in a sentence what it did not understand.
        else count(failures, teacher.kind === 'offline' ? 'seedNotUnderstood' : row.failure);
        testCases += row.testCases.length;
        for (const { reason } of row.rejectedTests ?? []) count(rejectedTests, reason);
      }
      const made = { questions, testCases, failures, seeds: planMetrics['seeds'] ?? 0 };
      if (teacher.kind === 'offline') return { metrics: { ...made, failedCalls: counts['failedCalls'] ?? 0 } };
      const replies = teacher.kind === 'openai' ? await keepReplies(stageKey, inputs, rows(request)) : undefined;
      return {
        metrics: {
          ...made,
          rejectedTests,
          ...paidMetrics(counts),
          ...(replies ? { repliesArtifact: replies } : {}),
        },
      };
    },
  });
}

/** What the offline teacher makes of one seed before it is run; `failure` says what it did not understand. */
function askOffline(
  row: SeedRow,
  teacher: OfTeacher<'offline'>,
): { row: SeedRow; parsed?: Seed; calls: string[]; failure?: string } {
  try {
    const { name } = languageOf(row);
    if (name !== 'python') throw new Error(`the offline teacher reads Python, and the seed is ${String(name)}`);
    const parsed = parseSeed(row.code, row.domain);
    return {
      row,
      parsed,
      calls: generateCalls(parsed, { count: teacher.testCases, seed: deriveSeed(teacher.seed, row.id, 'calls') }),
    };
  } catch (error) {
    return { row, calls: [], failure: (error as Error).message };
  }
}
