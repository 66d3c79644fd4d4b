/**
 * What must hold after a run with faults: looked up in the store, in the endpoint's log and in the trainings' record.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { z } from 'zod';
import {
  DOCUMENTS,
  Documents,
  neededBlobs,
  prunedParts,
  roundsOf,
  UpdateManifest,
} from '../../activities/artifacts/pruning.js';
import { findReply } from '../../activities/endpoint/replies.js';
import { RewardRow, RolloutRow, type Manifest, type StageName } from '../../workflows/contract/index.js';
import type { FinishedExperiment } from './run.js';
import type { Site } from './site.js';

/** What a check found: figures, and sentences about what does not hold. */
export interface Findings {
  violations: string[];
  figures: Record<string, number>;
}

/** The digests of all stages are those of the undisturbed run. */
export function checkDigests(reference: FinishedExperiment, experiments: readonly FinishedExperiment[]): Findings {
  const violations = experiments.flatMap(({ id, stages }) =>
    (Object.keys(reference.stages) as StageName[]).flatMap((name) => {
      const [wanted, got] = [reference.stages[name]!.digest, stages[name]?.digest];
      return wanted === got ? [] : [`${id}: ${name} has the digest ${got ?? 'of nothing'}, undisturbed ${wanted}`];
    }),
  );
  return { violations, figures: { experiments: experiments.length, otherDigests: violations.length } };
}

/** S3 tells times in whole seconds in some stores. */
const STORE_CLOCK_MS = 1000;

/**
 * A request is repeated only under its own key, and never when its reply is stored. A reply that arrived and could not
 * be stored, because its worker was killed in between, is asked for again. `faults` are times of faults, in
 * milliseconds since 1970.
 */
export async function checkRequests(site: Site, faults: readonly number[]): Promise<Findings> {
  const violations: string[] = [];
  const stored = new Map((await site.store.list('replies/')).map(({ key, modified }) => [key, modified.getTime()]));
  const byKey = new Map<string, typeof site.endpoint.requests>();
  for (const request of site.endpoint.requests) {
    const known = byKey.get(request.idempotencyKey) ?? [];
    byKey.set(request.idempotencyKey, [...known, request]);
  }
  const figures = { requests: site.endpoint.requests.length, askedAgain: 0, arrivedAskedAgain: 0, lostInKills: 0 };
  for (const [key, requests] of byKey) {
    const bodies = new Set(requests.map(({ body }) => JSON.stringify(body)));
    if (bodies.size > 1) violations.push(`the requests with the key ${key} differ`);
    const storedAt = stored.get(`replies/${key.slice(0, 64)}.json`);
    for (const [at, request] of requests.entries()) {
      if (at === 0) continue;
      figures.askedAgain += 1;
      const before = requests[at - 1]!;
      const why =
        storedAt !== undefined && request.at > storedAt + STORE_CLOCK_MS
          ? 'its reply was stored'
          : before.answered && !faults.some((fault) => fault >= before.at - STORE_CLOCK_MS && fault <= request.at)
            ? 'its reply had arrived and nothing was killed meanwhile'
            : undefined;
      if (why !== undefined) {
        figures.arrivedAskedAgain += 1;
        violations.push(
          `${request.name} (${key}) was asked for again at ${new Date(request.at).toISOString()}: ${why}`,
        );
      } else if (before.answered) figures.lostInKills += 1;
    }
  }
  for (const key of stored.keys()) {
    // The document is read by its schema.
    await findReply(site.store, key.slice('replies/'.length, -'.json'.length));
  }
  return { violations, figures };
}

const StepEvent = z.object({
  at: z.number(),
  pid: z.number(),
  key: z.string(),
  event: z.enum(['begin', 'step', 'checkpoint']),
  step: z.number(),
});
type StepEvent = z.infer<typeof StepEvent>;

/** The trainings' record in a file, by the key of the training. */
export function trainingsOf({ record }: { record: string }): Map<string, StepEvent[]> {
  const trainings = new Map<string, StepEvent[]>();
  if (!existsSync(record)) return trainings;
  for (const line of readFileSync(record, 'utf8').split('\n').filter(Boolean)) {
    const event = StepEvent.parse(JSON.parse(line));
    trainings.set(event.key, [...(trainings.get(event.key) ?? []), event]);
  }
  return trainings;
}

/** Steps that were taken again when a training resumed, and how long they had taken, in seconds. */
export interface Repeated {
  steps: number;
  seconds: number;
}

/**
 * What the resumed trainings repeated, and the longest time between two checkpoints of one attempt, in seconds. An
 * attempt whose step is no checkpoint of an earlier one is a violation.
 */
export function checkTrainings(trainings: ReadonlyMap<string, readonly StepEvent[]>): Findings & {
  repeated: Repeated[];
  interval: number;
} {
  const violations: string[] = [];
  const repeated: Repeated[] = [];
  let interval = 0;
  let resumed = 0;
  for (const [key, events] of trainings) {
    const attempts: StepEvent[][] = [];
    for (const begin of events.filter(({ event }) => event === 'begin')) {
      // A process trains one model at a time. A zombie's steps go on after the next attempt has begun.
      const own = events.filter(({ pid, at }) => pid === begin.pid && at >= begin.at);
      const next = own.findIndex(({ event }, index) => index > 0 && event === 'begin');
      attempts.push(next < 0 ? own : own.slice(0, next));
    }
    for (const [index, attempt] of attempts.entries()) {
      const [begin, ...rest] = attempt as [StepEvent, ...StepEvent[]];
      rest
        .filter(({ event }) => event === 'step')
        .forEach(({ step }, at) => {
          if (step !== begin.step + at + 1) violations.push(`${key}: step ${step} comes ${at + 1} after ${begin.step}`);
        });
      const marks = [
        rest[0]?.at ?? begin.at,
        ...rest.filter(({ event }) => event === 'checkpoint').map(({ at }) => at),
      ];
      marks.push(rest.at(-1)?.at ?? begin.at);
      for (let at = 1; at < marks.length; at += 1) interval = Math.max(interval, marks[at]! - marks[at - 1]!);
      if (index === 0) {
        if (begin.step !== 0) violations.push(`${key}: its first attempt begins at step ${begin.step}`);
        continue;
      }
      resumed += 1;
      const earlier = attempts
        .slice(0, index)
        .flat()
        .filter(({ at }) => at <= begin.at);
      if (begin.step > 0 && !earlier.some(({ event, step }) => event === 'checkpoint' && step === begin.step))
        violations.push(`${key}: it resumes from step ${begin.step}, of which there was no checkpoint`);
      const again = earlier.filter(({ event, step }) => event === 'step' && step > begin.step);
      const steps = new Set(again.map(({ step }) => step)).size;
      const last = attempts
        .slice(0, index)
        .map((each) => each.filter(({ event, at, step }) => event === 'step' && at <= begin.at && step > begin.step))
        .map((each) => (each.length === 0 ? 0 : each.at(-1)!.at - each[0]!.at));
      repeated.push({ steps, seconds: Math.max(0, ...last) });
    }
  }
  return { violations, repeated, interval, figures: { trainings: trainings.size, resumed } };
}

const Curve = z.array(z.object({ step: z.number() }));

/** Every model was trained in the steps 1 to n, each once, and rounds on what their plan says. */
export async function checkModels(site: Site, { stages }: FinishedExperiment): Promise<Findings> {
  const violations: string[] = [];
  let rounds = 0;
  for (const name of ['rewardModel', 'fineTuning'] as const) {
    const stage = stages[name];
    if (!stage) continue;
    const { metrics } = await site.store.manifest(stage);
    const steps = Curve.parse(metrics['curve']).map(({ step }) => step);
    if (steps.length !== metrics['steps'] || steps.some((step, at) => step !== at + 1))
      violations.push(`${name} was trained in the steps ${steps.join(', ')}`);
  }
  if (!stages.reinforcement) return { violations, figures: { rounds } };
  for (const [round, policy] of await roundsOf(site.store, stages.reinforcement)) {
    rounds += 1;
    const { inputs } = UpdateManifest.parse(await site.store.manifest(policy));
    const [rollouts, rewards] = [
      await idsOf(site.store.rowsOf(inputs.rollouts, RolloutRow)),
      await idsOf(site.store.rowsOf(inputs.rewards, RewardRow)),
    ];
    if (JSON.stringify(rollouts) !== JSON.stringify(rewards) || new Set(rollouts).size !== rollouts.length)
      violations.push(`round ${round} was trained on other rollouts than its plan says`);
  }
  return { violations, figures: { rounds } };
}

async function idsOf(rows: AsyncGenerator<{ id: string }>): Promise<string[]> {
  const ids: string[] = [];
  for await (const { id } of rows) ids.push(id);
  return ids;
}

/** No training began after its model was stored. */
export async function checkNoneTrainedAgain(
  site: Site,
  trainings: ReadonlyMap<string, readonly StepEvent[]>,
): Promise<Findings> {
  // From the host's clock, which the store has, to the monotonic one of the record, in seconds.
  const offset = Number(process.hrtime.bigint()) / 1e9 - Date.now() / 1000;
  const violations: string[] = [];
  const made = new Map<string, number>();
  for (const kind of ['rewardModel', 'policy', 'model'])
    for (const { key, modified } of await site.store.list(`artifacts/${kind}/`))
      made.set(key.slice(`artifacts/${kind}/`.length, -'.json'.length), modified.getTime() / 1000 + offset);
  for (const [key, events] of trainings) {
    const stored = made.get(key);
    const late = events.find(({ event, at }) => event === 'begin' && stored !== undefined && at > stored + 1);
    if (late) violations.push(`${key} was trained again after its model was stored`);
  }
  return { violations, figures: { trainedAgain: violations.length } };
}

/** Every document of the bucket reads, and every blob that one names is there with its bytes. */
export async function checkStored(site: Site): Promise<Findings> {
  const { store } = site;
  const violations: string[] = [];
  const manifests: Manifest[] = [];
  for (const { key } of await store.list('artifacts/')) {
    try {
      const manifest = await store.findManifest(key);
      if (manifest) manifests.push(manifest);
    } catch (error) {
      violations.push(`${key}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  const documents = await new Documents(store, DOCUMENTS).read();
  const needed = neededBlobs(documents, await prunedParts(store));
  const there = new Set((await store.list('blobs/')).map(({ key }) => key.slice('blobs/sha256/'.length)));
  const checked = new Set<string>();
  for (const { files } of manifests) {
    for (const file of files) {
      if (checked.has(file.sha256) || !there.has(file.sha256)) continue;
      checked.add(file.sha256);
      try {
        // The store verifies what it reads; the bytes on this disk are looked at once more.
        const digest = await digestOf(await store.fetch(file));
        if (digest !== file.sha256) violations.push(`blob ${file.sha256} of ${file.name} has the digest ${digest}`);
      } catch (error) {
        violations.push(`blob ${file.sha256}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }
  for (const sha256 of needed) if (!there.has(sha256)) violations.push(`blob ${sha256} is named and is not there`);
  // A worker that is killed in an upload leaves a document about it, by which garbage collection finds it.
  const uploads = (await store.list('uploads/')).length;
  return {
    violations,
    figures: {
      documents: documents.size,
      manifests: manifests.length,
      blobs: checked.size,
      unfinishedUploads: uploads,
    },
  };
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
