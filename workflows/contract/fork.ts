/**
 * Forks: what an experiment made up to a stage or a round, and a patch of its settings from there on.
 *
 * Earlier stages are taken as they are, by reference. Earlier rounds are found by their keys, because the patch of a
 * round becomes a change of settings from that round on. Pure.
 */
import { z } from 'zod';
import type { ArtifactRef } from './artifacts.js';
import { canonicalJson } from './canonical.js';
import { givenOf, sourcesOf, stagesOf, usedSources, type Source } from './chain.js';
import { Experiment } from './experiment.js';
import type { Given } from './feeds.js';
import type { ForkOrigin, Frontier } from './frontier.js';
import { Name, schemaField } from './fields.js';
import { didYouMean, mistake, mistakesOf, type Mistake } from './mistakes.js';
import { ModelSource } from './models.js';
import { merge } from './presets.js';
import { STAGES, type StageName } from './stages/index.js';
import { ROUND_CHANGES, roundSettings, type ReinforcementConfig } from './stages/reinforcement.js';
import type { StageResult, StageStatus } from './status.js';

const ROUND = /^reinforcement\.round\.([1-9]\d{0,8})$/;
const PLACES = `a stage (${STAGES.join(', ')}), or 'reinforcement.round.N'`;

export const Fork = z.strictObject({
  of: z.string().min(1).max(1000).describe('workflow id of an experiment, or the key of its report'),
  from: z
    .string()
    .refine((from) => ROUND.test(from) || STAGES.some((stage) => stage === from), {
      error: ({ input }) => `must be ${PLACES}${typeof input === 'string' ? didYouMean(input, STAGES) : ''}`,
    })
    .describe(`where the fork begins: ${PLACES}; everything before is reused`),
  patch: z
    .record(z.string(), z.json())
    .describe('fields of the experiment that are others from there on, merged member by member'),
});
export type Fork = z.infer<typeof Fork>;

/**
 * What a user writes to start a fork.
 *
 * @example
 * ```ts
 * import { ForkInput } from 'acecoder-temporal/contract';
 *
 * const patch = { stages: { reinforcement: { reward: { rewardModelWeight: 0.5 } } } };
 * ForkInput.parse({ fork: { of: 'my-run', from: 'reinforcement.round.4', patch } });
 * ```
 */
export const ForkInput = z.strictObject({
  ...schemaField,
  name: Name.optional().describe('name of the fork; absent: that of the experiment'),
  fork: Fork,
});
export type ForkInput = z.infer<typeof ForkInput>;

/** Whether an input of `experiment` asks for a fork. */
export function asksForFork(input: unknown): boolean {
  return typeof input === 'object' && input !== null && Object.hasOwn(input, 'fork');
}

/** An experiment as a fork finds it. */
export interface ForkSource {
  workflowId: string;
  /** As it ran, with references in the place of files and models: see {@link pinned}. */
  experiment: Experiment;
  stages: Pick<StageStatus, 'name' | 'state' | 'artifact' | 'metrics' | 'progress'>[];
}

/** A fork that can run. */
export interface Forked {
  experiment: Experiment;
  origin: ForkOrigin;
  /** Results of the stages before it. */
  results: Partial<Record<StageName, StageResult>>;
}

/**
 * An experiment with references in the place of files and model sources, so that it means the same on every host and
 * at any time.
 *
 * @example
 * pinned(experiment, { seeds: ref, 'models.policy': model }).seeds.key;
 */
export function pinned(experiment: Experiment, given: Partial<Record<Given, ArtifactRef>>): Experiment {
  const model = (source: ModelSource, name: Given): ModelSource =>
    given[name] ? ModelSource.parse({ kind: 'artifact', ref: given[name] }) : source;
  const { models, inputs } = experiment;
  return Experiment.parse({
    ...experiment,
    seeds: given.seeds ?? experiment.seeds,
    models: {
      policy: model(models.policy, 'models.policy'),
      ...(models.sampler ? { sampler: model(models.sampler, 'models.sampler') } : {}),
      ...(models.rewardModel ? { rewardModel: model(models.rewardModel, 'models.rewardModel') } : {}),
    },
    ...(inputs
      ? {
          inputs: Object.fromEntries(
            Object.entries(inputs).map(([name, input]) => [name, given[`inputs.${name}` as Given] ?? input]),
          ),
        }
      : {}),
  });
}

/**
 * The experiment that a fork runs, or every mistake of it. Nothing has run by then.
 *
 * @example
 * const { data, mistakes } = forked(source, { fork: { of: 'my-run', from: 'evaluation', patch } });
 */
export function forked(
  source: ForkSource,
  { name, fork }: ForkInput,
): { data: Forked; mistakes?: undefined } | { mistakes: Mistake[]; data?: undefined } {
  const place = placeOf(fork.from);
  // One of an earlier version lacks the fields that were added since: it ran by their defaults.
  const before = Experiment.safeParse(source.experiment).data ?? source.experiment;
  const { patch, refused } =
    place.round === undefined ? { patch: fork.patch, refused: [] } : fromRound(before, fork, place.round);
  if (refused.length > 0) return { mistakes: refused };
  const written = { ...(merge(before, patch) as object), ...(name === undefined ? {} : { name }) };
  const { data: experiment, error } = Experiment.safeParse(written);
  if (!experiment) return { mistakes: mistakesOf(error, written, Experiment).map(inPatch) };

  const mistakes: Mistake[] = [];
  const refuse = (path: string, value: unknown, message: string): void => {
    mistakes.push(mistake(path, value, message));
  };
  const ran = stagesOf(experiment.stages);
  const order = (stage: StageName): number => STAGES.indexOf(stage);
  const found = differing(asOf(before, place.round), asOf(experiment, place.round));
  const differences = found.map(({ stage: _stage, ...difference }) => difference);
  for (const { field, is, stage } of found) {
    if (stage === undefined || order(stage) >= order(place.stage)) continue;
    refuse(
      `fork.patch.${field}`,
      is,
      `decides ${stage}, which is before ${fork.from}; fork from '${stage}' to change it`,
    );
  }
  if (differences.length === 0)
    refuse('fork.patch', fork.patch, `changes no result: ${source.workflowId} has these values already`);
  if (!ran.includes(place.stage))
    refuse('fork.from', fork.from, `the experiment does not run ${place.stage}; it runs ${ran.join(', ')}`);
  const rounds = experiment.stages.reinforcement?.rounds ?? 0;
  if (place.round !== undefined && place.round > rounds)
    refuse('fork.from', fork.from, `the experiment has ${rounds} rounds; patch stages.reinforcement.rounds for more`);
  const results: Forked['results'] = {};
  for (const stage of ran.filter((each) => order(each) < order(place.stage))) {
    const { state, artifact, metrics = {} } = source.stages.find((each) => each.name === stage) ?? { state: 'waiting' };
    if (state === 'done' && artifact) results[stage] = { ref: artifact, reused: true, by: source.workflowId, metrics };
    // A stage that the patch adds was told above.
    else if (before.stages[stage]) {
      const why = `${source.workflowId} has not done ${stage}, which is ${state}; fork from '${stage}' or before it`;
      refuse('fork.from', fork.from, why);
      break;
    }
  }
  const done = roundsDone(source);
  if (place.round !== undefined && place.round <= rounds && done < place.round - 1)
    refuse(
      'fork.from',
      fork.from,
      `${source.workflowId} has done ${done} rounds; fork from round ${done + 1} or before it`,
    );
  return mistakes.length > 0
    ? { mistakes }
    : { data: { experiment, origin: { of: source.workflowId, from: fork.from, differences }, results } };
}

/**
 * The fields in which two experiments differ that decide results, each with the first stage that it decides.
 *
 * @example
 * differing(one, other)[0]; // { field: 'stages.rewardModel.epochs', was: 1, is: 2, stage: 'rewardModel' }
 */
export function differing(
  before: Experiment,
  after: Experiment,
): (ForkOrigin['differences'][number] & { stage: StageName | undefined })[] {
  const ran = stagesOf(after.stages);
  const given = givenOf<unknown>({ seeds: after.seeds, models: after.models, inputs: after.inputs });
  const used = (stage: StageName): Source[] => usedSources(stage, [...ran, ...(Object.keys(given) as Given[])]);
  return differencesOf(before, after).map((difference) => ({
    ...difference,
    stage: decidedBy(difference.field, ran, used),
  }));
}

/** What became of the stages of a fork, as far as it is. */
export function frontierOf(
  origin: ForkOrigin,
  stages: readonly Pick<StageStatus, 'name' | 'state' | 'reused' | 'steps'>[],
): Frontier {
  const names = stages.map(({ name }) => name);
  const isMade = ({ state, reused }: Pick<StageStatus, 'state' | 'reused'>): boolean => state === 'done' && !reused;
  const made = new Set<string>(stages.filter(isMade).map(({ name }) => name));
  const because = (stage: StageName): string[] => {
    const sources: readonly string[] = sourcesOf(stage);
    const fields = origin.differences
      .map(({ field }) => field)
      .filter(
        (field) =>
          field.startsWith(`stages.${stage}.`) ||
          // A source is no longer given, or no longer made.
          sources.some((source) => within(field, source) || field === `stages.${source}`),
      );
    const all = [...fields, ...names.filter((name) => made.has(name) && sources.includes(name))];
    return all.length > 0 ? all : ['another version of its code, or a result that the store no longer has'];
  };
  return {
    ...origin,
    stages: stages.map((stage) => ({
      name: stage.name,
      ...(stage.state === 'done' ? { reused: stage.reused ?? false } : {}),
      ...(stage.steps ? { steps: stage.steps } : {}),
      because: isMade(stage) ? because(stage.name) : [],
    })),
  };
}

/** A place in the chain. The first round is the whole stage. */
function placeOf(from: string): { stage: StageName; round?: number } {
  const round = Number(ROUND.exec(from)?.[1] ?? 1);
  if (ROUND.test(from)) return { stage: 'reinforcement', ...(round > 1 ? { round } : {}) };
  return { stage: from as StageName };
}

/** The patch of a fork at a round, as a change of settings from that round on. */
function fromRound(
  { stages }: Experiment,
  { from, patch }: Fork,
  round: number,
): { patch: unknown; refused: Mistake[] } {
  const { reinforcement, ...others } = membersOf(patch['stages']);
  const { rounds, execution, ...settings } = membersOf(reinforcement);
  const refused = Object.entries(settings)
    .filter(([field]) => !ROUND_CHANGES.some((each) => each === field))
    .map(([field, value]) =>
      mistake(
        `fork.patch.stages.reinforcement.${field}`,
        value,
        `holds for all rounds, and rounds before ${from} are reused; from a round on these may change: ` +
          `rounds, ${ROUND_CHANGES.join(', ')}${didYouMean(field, ROUND_CHANGES)}`,
      ),
    );
  const { changes = [] } = stages.reinforcement ?? {};
  const earlier = changes.filter(({ fromRound: at }) => at < round);
  const own = changes.find(({ fromRound: at }) => at === round);
  const later = changes.filter(({ fromRound: at }) => at > round);
  const changed = (base: unknown): unknown => merge(base, settings);
  const isPatched = Object.keys(settings).length > 0;
  return {
    refused,
    patch: {
      ...patch,
      stages: {
        ...others,
        reinforcement: {
          ...(rounds === undefined ? {} : { rounds }),
          ...(execution === undefined ? {} : { execution }),
          ...(isPatched
            ? {
                changes: [
                  ...earlier,
                  { fromRound: round, settings: changed(own?.settings ?? {}) },
                  // The patch holds for all rounds from there on, also where a later change said something else.
                  ...later.map((change) => ({ ...change, settings: changed(change.settings) })),
                ],
              }
            : {}),
        },
      },
    },
  };
}

/** A mistake of the patched experiment, at its place in the patch. */
function inPatch({ path, ...rest }: Mistake): Mistake {
  return { ...rest, path: `fork.patch.${path.replace(/\.changes\.\d+\.settings\./, '.')}` };
}

/** An experiment as it stands at a round. */
function asOf(experiment: Experiment, round: number | undefined): Experiment {
  if (round === undefined) return experiment;
  const { reinforcement } = experiment.stages;
  if (reinforcement === null) return experiment;
  const settings: ReinforcementConfig = roundSettings(reinforcement, round);
  return { ...experiment, stages: { ...experiment.stages, reinforcement: settings } };
}

/** Fields of an experiment that no key holds. */
const KEYLESS = /^(name|onFailure)$|^stages\.\w+\.execution(\.|$)/;

/** The fields that decide results and are others, by their paths. */
function differencesOf(before: unknown, after: unknown, path = ''): ForkOrigin['differences'] {
  if (KEYLESS.test(path) || canonicalJson(before ?? null) === canonicalJson(after ?? null)) return [];
  if (isObject(before) && isObject(after) && before['kind'] === after['kind'])
    return [...new Set([...Object.keys(before), ...Object.keys(after)])].flatMap((name) =>
      differencesOf(before[name], after[name], path === '' ? name : `${path}.${name}`),
    );
  return [{ field: path, was: jsonOf(before), is: jsonOf(after) }];
}

/** The first stage that a field decides. */
function decidedBy(
  field: string,
  ran: readonly StageName[],
  used: (stage: StageName) => readonly Source[],
): StageName | undefined {
  const own = STAGES.find((stage) => within(field, `stages.${stage}`));
  // A stage that no longer runs decides the next one that does.
  if (own) return ran.find((stage) => STAGES.indexOf(stage) >= STAGES.indexOf(own));
  // A model that is no longer named decides whoever used it.
  const decides = (sources: readonly Source[]): boolean => sources.some((source) => within(field, source));
  return ran.find((stage) => decides(used(stage))) ?? ran.find((stage) => decides(sourcesOf(stage)));
}

/** Whether a path is another one or lies below it. */
function within(path: string, other: string): boolean {
  return path === other || path.startsWith(`${other}.`);
}

/** Rounds of RL that an experiment has done, at least. */
function roundsDone({ experiment, stages }: ForkSource): number {
  const { state, progress } = stages.find(({ name }) => name === 'reinforcement') ?? { state: 'waiting' };
  if (state === 'done') return experiment.stages.reinforcement?.rounds ?? 0;
  return progress?.unit === 'rounds' ? progress.done : 0;
}

function membersOf(value: unknown): Record<string, unknown> {
  return isObject(value) ? value : {};
}

function jsonOf(value: unknown): ForkOrigin['differences'][number]['is'] {
  return value === undefined ? null : z.json().parse(value);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
