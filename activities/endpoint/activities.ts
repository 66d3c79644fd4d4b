/**
 * What stored replies cost, for every stage that asks an endpoint. Knows no stage: each one says itself what it asks.
 */
import type { z } from 'zod';
import type { AskingStage, EndpointExecution, EndpointModel, RawReply } from '../../workflows/contract/index.js';
import { reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { readPlan, readShard } from '../runtime/sharded-stage.js';
import { collect } from '../artifacts/collections.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { Refusals } from './refusals.js';
import { costOfStored, findReply, type Ask } from './replies.js';

/** What a stage asks about the rows that its plan gives a shard. */
export interface ShardAsks<C, R> {
  config: z.ZodType<C>;
  row: z.ZodType<R>;
  /** The model that it asks; undefined where it asks none. */
  model: (config: C) => EndpointModel | undefined;
  /** `stored` reads replies, for what is asked after them. */
  asks: (config: C, rows: R[], stored: (key: string) => Promise<RawReply | undefined>) => Ask[] | Promise<Ask[]>;
}

/** How the asks of a shard are made again from its plan, as the keys of their replies: see {@link shardAsks}. */
export type AsksReader = (
  config: unknown,
  rows: <R>(row: z.ZodType<R>) => Promise<R[]>,
  store: Pick<ArtifactStore, 'getJson' | 'putJson'>,
  endpoint: EndpointExecution,
) => Promise<{ keys: string[] }[]>;

/** Keeps the types of a stage's configuration and rows together, and forgets them for the table of all stages. */
export function shardAsks<C, R>({ config, row, model: modelOf, asks }: ShardAsks<C, R>): AsksReader {
  return async (unparsed, rows, store, endpoint) => {
    const parsed = config.parse(unparsed);
    const model = modelOf(parsed);
    if (!model) return [];
    const refusals = await Refusals.of(store, endpoint, model);
    const stored = (key: string): Promise<RawReply | undefined> => findReply(store, ...refusals.keysOf(key));
    return (await asks(parsed, await rows(row), stored)).map(({ key }) => ({ keys: refusals.keysOf(key) }));
  };
}

/** `endpoint.paid`. */
export function endpointActivities(
  { store }: Pick<Services, 'store'>,
  stages: Readonly<Record<AskingStage, AsksReader>>,
) {
  return {
    /**
     * What stored replies cost by shard, in US dollars: those of finished shards, and those that other attempts stored.
     */
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
          cost = await costOfStored(
            store,
            await stages[stage](plan.config, (row) => collect(store.readRows([file], row)), store, endpoint),
            endpoint,
            stored!,
          );
        if (cost > 0) costs[index] = cost;
        reportProgress({ done: index + 1, total: plan.shards.length, message: 'shards added up' });
      }
      return costs;
    },
  };
}
