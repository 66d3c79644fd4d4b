/** What stored replies cost, for every stage that asks an endpoint. */
import {
  FilteredQuestionRow,
  QuestionRow,
  SeedRow,
  StageConfigs,
  type EndpointExecution,
} from '../../workflows/contract/index.js';
import { asksOfQuestions, requestOf } from '../sampling/source.js';
import { asksOfSeeds } from '../synthesis/prompts.js';
import type { Services } from '../runtime/services.js';
import { reportProgress } from '../runtime/context.js';
import { readPlan, readShard } from '../runtime/sharded-stage.js';
import { costOfStored, type Ask } from './replies.js';

/** Stages that ask an endpoint. */
export type AskingStage = 'synthesis' | 'filtering' | 'sampling';

/** `endpoint.paid`. */
export function endpointActivities({ store }: Pick<Services, 'store'>) {
  /** What a shard of a stage asks; its plan's rows are read again. */
  async function asksOf(
    stage: AskingStage,
    config: unknown,
    file: Parameters<typeof store.readRows>[0][number],
  ): Promise<Ask[]> {
    if (stage === 'synthesis') {
      const { teacher } = StageConfigs.synthesis.parse(config);
      return teacher.kind === 'openai' ? asksOfSeeds(teacher, await all(store.readRows([file], SeedRow))) : [];
    }
    if (stage === 'filtering') {
      const request = requestOf.oracle(StageConfigs.filtering.parse(config).oracle);
      return request
        ? asksOfQuestions(
            request,
            (await all(store.readRows([file], QuestionRow))).filter(({ testCases }) => testCases.length > 0),
          )
        : [];
    }
    const request = requestOf.sampler(StageConfigs.sampling.parse(config));
    return request ? asksOfQuestions(request, await all(store.readRows([file], FilteredQuestionRow))) : [];
  }

  return {
    /** What stored replies cost by shard, in US dollars: those of finished shards, and those that other attempts stored. */
    'endpoint.paid': async ({
      stage,
      stageKey,
      execution: { endpoint },
    }: {
      stage: AskingStage;
      stageKey: string;
      execution: { endpoint: EndpointExecution };
    }): Promise<Record<string, number>> => {
      const plan = await readPlan(store, stageKey);
      const costs: Record<string, number> = {};
      let stored: Set<string> | undefined;
      for (const [index, file] of plan.shards.entries()) {
        const done = await readShard(store, stageKey, index, 'request');
        stored ??= done ? undefined : await store.keys('replies/');
        let cost = done?.metrics['costUsd'] ?? 0;
        if (!done && stored!.size > 0)
          cost = await costOfStored(store, await asksOf(stage, plan.config, file), endpoint, stored!);
        if (cost > 0) costs[index] = cost;
        reportProgress({ done: index + 1, total: plan.shards.length, message: 'shards added up' });
      }
      return costs;
    },
  };
}

async function all<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const row of rows) found.push(row);
  return found;
}
