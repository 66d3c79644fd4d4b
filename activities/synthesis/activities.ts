/** Synthesis: seeds to questions with test cases. */
import type { z } from 'zod';
import { QuestionRow, SeedRow, StageConfigs, type Benchmark } from '../../workflows/contract/index.js';
import { deriveSeed, rowId } from '../artifacts/keys.js';
import { contamination } from '../benchmarks/contamination.js';
import { humanEvalTasks, type Task } from '../benchmarks/humaneval.js';
import { evaluateCalls } from '../execution/execution.js';
import { cancellationSignal, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { intoShards, shardedStageActivities, type ShardedStage } from '../runtime/sharded-stage.js';
import { generateCalls, parseSeed, writeQuestion, writeTestCases, type Seed } from './offline-teacher.js';

type Config = z.infer<typeof StageConfigs.synthesis>;

/** `synthesis.plan`, `synthesis.ask`, `synthesis.seal`. */
export function synthesisActivities({ store, sandbox, settings }: Services) {
  const benchmarkTasks = async (benchmarks: readonly Benchmark[]): Promise<Task[]> => {
    const slices = await Promise.all(benchmarks.map((benchmark) => (benchmark.kind === 'humaneval' ? humanEvalTasks(settings, benchmark) : [])));
    return slices.flat();
  };

  const stage: ShardedStage<Config> = {
    stage: 'synthesis',
    version: 1,
    kind: 'questions',
    config: StageConfigs.synthesis,
    planned: SeedRow,
    async plan({ config, inputs }) {
      const tasks = await benchmarkTasks(config.decontaminate);
      const kept: SeedRow[] = [];
      const seen = new Set<string>();
      const dropped: Record<string, number> = {};
      const matched: { seed: string; why: string }[] = [];
      const drop = (reason: string): void => { dropped[reason] = (dropped[reason] ?? 0) + 1; };
      let seeds = 0;
      for await (const row of store.rowsOf(inputs['seeds']!, SeedRow)) {
        seeds += 1;
        const name = /^\s*def\s+(\w+)/m.exec(row.code)?.[1] ?? '';
        const why = contamination({ name, code: row.code }, tasks);
        if (seen.has(row.code)) drop('duplicateSeed');
        else if (why !== undefined) {
          drop('benchmarkContamination');
          matched.push({ seed: row.id, why });
        } else kept.push(row);
        seen.add(row.code);
      }
      return { shards: intoShards(kept, config.shardSize), metrics: { seeds, droppedSeeds: dropped, contaminated: matched } };
    },
    steps: {
      ask: {
        schema: QuestionRow,
        async run({ config, rows }) {
          const asked = (rows as SeedRow[]).map((row) => askOffline(row, config));
          const calls = asked.flatMap(({ row, parsed, calls }) => (parsed ? [{ id: row.id, program: row.code, calls }] : []));
          const results = await evaluateCalls(sandbox, calls, {
            limits: config.limits, signal: cancellationSignal(), onProgress: (done, total) => reportProgress({ done, total, message: 'seeds run' }),
          });
          let next = 0;
          let failedCalls = 0;
          const questions = asked.map(({ row, parsed, calls, failure }): QuestionRow => {
            const base = { id: rowId('q', row.source, row.code), seedId: row.id, source: row.source, reference: row.code };
            if (!parsed) return { ...base, question: '', entryPoint: '', testCases: [], failure: failure! };
            const answers = results[next++]!;
            const literals = answers.map((answer) => ('literal' in answer ? answer.literal : undefined));
            const answered = calls.filter((_, index) => literals[index] !== undefined);
            failedCalls += calls.length - answered.length;
            const testCases = writeTestCases(answered, literals.filter((literal) => literal !== undefined), {
              corruptedShare: config.teacher.corruptedShare, seed: deriveSeed(config.teacher.seed, row.id, 'tests'),
            });
            return { ...base, question: writeQuestion(parsed), entryPoint: parsed.name, testCases };
          });
          return { rows: questions, metrics: { failedCalls } };
        },
      },
    },
    async seal({ rows, counts, planMetrics }) {
      let questions = 0;
      let testCases = 0;
      const failures: Record<string, number> = {};
      for await (const row of rows() as AsyncGenerator<QuestionRow>) {
        if (row.failure === undefined) questions += 1;
        else failures['seedNotUnderstood'] = (failures['seedNotUnderstood'] ?? 0) + 1;
        testCases += row.testCases.length;
      }
      return { metrics: { questions, testCases, failures, failedCalls: counts['failedCalls'] ?? 0, seeds: planMetrics['seeds'] ?? 0 } };
    },
  };
  return shardedStageActivities(store, stage);
}

/** What the offline teacher makes of one seed before it is run; `failure` says what it did not understand. */
function askOffline(row: SeedRow, config: Config): { row: SeedRow; parsed?: Seed; calls: string[]; failure?: string } {
  try {
    const parsed = parseSeed(row.code, row.domain);
    return { row, parsed, calls: generateCalls(parsed, { count: config.teacher.testCases, seed: deriveSeed(config.teacher.seed, row.id, 'calls') }) };
  } catch (error) {
    return { row, calls: [], failure: (error as Error).message };
  }
}
