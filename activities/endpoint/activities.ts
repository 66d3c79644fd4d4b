/**
 * What stored replies cost, for every stage that asks an endpoint. Knows no stage: each one says itself what it asks.
 */
import type { z } from 'zod';
import {
  STAGE,
  type AskingStage,
  type EndpointExecution,
  type EndpointModel,
  type RawReply,
} from '../../workflows/contract/index.js';
import { reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { readPlan, readShard } from '../runtime/sharded-stage.js';
import { collect } from '../artifacts/collections.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { Refusals } from './refusals.js';
import { costOfStored, findReply, type Ask } from './replies.js';

/** What a stage asks about the rows of a shard, as its request step gets them. */
export interface ShardAsks<C, R> {
  config: z.ZodType<C>;
  row: z.ZodType<R>;
  /** The model that it asks; undefined where it asks none. */
  model: (config: C) => EndpointModel | undefined;
  /** `stored` reads replies, for what is asked after them. */
  asks: (config: C, rows: R[], stored: (key: string) => Promise<RawReply | undefined>) => Ask[] | Promise<Ask[]>;
}

/** How the asks of a shard are made again from its rows, as the keys of their replies: see {@link shardAsks}. */
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

/** The step that asks, of every stage that asks an endpoint. */
const REQUEST = 'request';

/** `endpoint.paid`. */
export function endpointActivities(
  { store }: Pick<Services, 'store'>,
  stages: Readonly<Record<AskingStage, AsksReader>>,
) {
  return {
    /**
     * What stored replies cost by shard, in US dollars: those of finished shards, and those that other attempts stored.
     *
     * A step before the requests may drop rows. Their replies, which another stage may have stored, are none of this
     * one. A shard that has not come so far has asked for nothing yet.
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
      const steps = STAGE[stage].withSettings(plan.config).shardSteps();
      const before = steps[steps.indexOf(REQUEST) - 1];
      let stored: Set<string> | undefined;
      for (const [index, file] of plan.shards.entries()) {
        const done = await readShard(store, stageKey, index, REQUEST);
        stored ??= done ? undefined : await store.keys('replies/');
        let cost = done?.metrics['costUsd'] ?? 0;
        const asked = before === undefined ? file : (await readShard(store, stageKey, index, before))?.file;
        if (!done && asked && stored!.size > 0)
          cost = await costOfStored(
            store,
            await stages[stage](plan.config, (row) => collect(store.readRows([asked], row)), store, endpoint),
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
