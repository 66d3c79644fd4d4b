/**
 * Activities by their contract, without their work: a store that answers by key, a sandbox, an endpoint, a sampler and
 * a trainer with checkpoints. Every result is a function of its inputs. Keys are those of the product.
 */
import type { PruneInput } from '../../activities/reinforcement/activities.js';
import { digestsOf } from '../../activities/artifacts/produce.js';
import { objectKeys, rowId, sha256, stageKey, type Recipe } from '../../activities/artifacts/keys.js';
import { stageRecipe, stepRecipe } from '../../activities/artifacts/recipes.js';
import {
  ArtifactRef,
  canonicalJson,
  MESSAGES,
  mistake,
  pinned,
  ReinforcementConfig,
  STAGE,
  type ArtifactKind,
  type Experiment,
  type FailureType,
  type ForkSource,
  type Given,
  type Metrics,
  type PolicyTrained,
  type Produced,
  type RoundCurriculum,
  type RoundRepair,
  type StageName,
  type TrainingStageName,
} from '../../workflows/contract/index.js';
import { SimulatedEndpoint } from './endpoint.js';
import type { BugName } from './planted-bugs.js';
import { ActivityFails, ActivityWaits, type Attempt } from './server.js';

/** Optimizer steps between two checkpoints. */
export const STEPS_PER_CHECKPOINT = 2;
/** Train questions that a round draws from. */
const QUESTIONS = 23;
/** Rows of a training that is no RL update. */
const TRAINING_ROWS = 40;

/** What a trainer has done: the steps and the rows of each, and a digest that depends on both and on their order. */
interface Training {
  steps: string[][];
  digest: string;
}

interface Stored {
  ref: ArtifactRef;
  metrics: Metrics;
  workflowId: string;
  runId: string;
  recipe: Recipe;
  inputs: Record<string, ArtifactRef>;
  content: unknown;
  round?: number;
  /** A sweep took its files while they were written. */
  swept: boolean;
  stored: Storing;
}

/** When something was stored, in milliseconds since 1970, and whether the workflow that asked for it still ran. */
interface Storing {
  at: number;
  open: boolean;
}

/** One version of a data set that refreshes make. */
interface Version {
  version: number;
  dataset: ArtifactRef;
  seeds: ArtifactRef;
  added: number;
  total: number;
  difference: object;
}

/** Optimizer steps of a training, over all of its attempts. */
interface Effort {
  applied: number;
  /** Steps of the trainings that ended. */
  needed: number;
  /** Attempts that died. */
  died: number;
}

interface ShardedPlan {
  stage: StageName;
  shards: number;
  steps: readonly string[];
  recipe: Recipe;
  inputs: Record<string, ArtifactRef>;
}

/** The questions of a draw, in the order in which its rollouts come. Without a curriculum a round has one draw. */
interface Plan {
  round: number;
  draw: number;
  questions: string[];
  /** Of a repair turn, which asks no question: the rollouts that get feedback, and which answer of theirs comes next. */
  mends?: { rollouts: string[]; turn: number };
}

/** Inputs of an update that decide what its training begins with. */
const UPDATE_INPUTS = ['policy', 'reference', 'rewards'] as const;

/** Draws after the first one of a round that a curriculum may make. */
const MOST_DRAWS = 3;

/** What was trained in an RL round, or by a training alone, for those who check it. */
export interface TrainedRound {
  key: string;
  /** 0: a training that has no rounds. */
  round: number;
  trained: string[];
  planned: string[];
}

/** What an activity is asked, as far as the simulation reads it. */
interface RoundInput {
  config: unknown;
  round: number;
  inputs: Record<string, ArtifactRef | undefined>;
}

export class SimulatedActivities {
  readonly artifacts = new Map<string, Stored>();
  readonly #plans = new Map<string, ShardedPlan>();
  /** Rows of each step of each shard, by its object key. */
  readonly #shards = new Map<string, { rows: number; workflowId: string; stored: Storing }>();
  readonly #reverifications = new Map<
    string,
    { recipe: Recipe; inputs: Record<string, ArtifactRef>; shards: number }
  >();
  readonly #checkpoints = new Map<string, Training>();
  /** Keys of policies whose files are gone. */
  readonly pruned = new Set<string>();
  /** How often the artifact of a key was made. */
  readonly made = new Map<string, number>();
  /** Calls by activity. */
  readonly calls = new Map<string, number>();
  readonly trainedRounds: TrainedRound[] = [];
  /** Policies that workers are sending, by the names that they have told. */
  readonly #sending = new Map<string, ArtifactRef>();
  /** Keys of rollouts that were stored before their policy was. */
  readonly sampledFromNothing: string[] = [];
  /** Workflows that have begun to make a stage's artifact, by the stage's key. */
  readonly begun = new Map<string, Set<string>>();
  /** What a workflow made while another one made it too. */
  readonly madeTogether: string[] = [];
  /** Experiments that have ended, as forks find them. */
  readonly #sources = new Map<string, ForkSource>();
  readonly efforts = new Map<string, Effort>();
  readonly endpoint: SimulatedEndpoint;
  /** Versions of data sets by name. */
  readonly versions = new Map<string, Version[]>();
  /** What every activity that it concerns fails with until it is over. */
  outage: FailureType | undefined;
  /** Whether workers serve a queue. */
  isServed: (queue: string) => boolean = () => true;
  /** The time, in milliseconds since 1970. */
  now: () => number = () => 0;
  /** Whether a workflow runs. */
  isOpen: (workflowId: string) => boolean = () => false;
  readonly #sweeps: { at: number; ageMs: number }[] = [];
  #newestRewards: Stored | undefined;
  #shardsMade = 0;

  /**
   * @param shardsOf shards of a sharded stage
   * @param bugs what is planted
   */
  constructor(
    private readonly shardsOf: (stage: StageName) => number,
    private readonly bugs: ReadonlySet<BugName> = new Set(),
  ) {
    this.endpoint = new SimulatedEndpoint(bugs);
  }

  /** Runs an attempt. @throws ActivityFails as the activity would. */
  run(attempt: Attempt): unknown {
    const { name, input } = attempt;
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1);
    // What dies before its end has stored nothing, but for a training's checkpoints.
    const [stage, step] = name.split('.') as [StageName, string];
    const isTraining = step === 'train' || step === 'update';
    if (attempt.share < 1 && !isTraining && step !== 'request') return undefined;
    if (this.outage && concerns(this.outage, name)) throw new ActivityFails(this.outage, 'an outage');
    switch (name) {
      case 'inputs.check':
      case 'models.check':
      case 'tables.check':
        return [];
      case 'queues.served': {
        const { queues } = input as { queues: string[] };
        return { unserved: queues.filter((queue) => !this.isServed(queue)), served: queues.filter(this.isServed) };
      }
      case 'artifacts.import':
        return { ref: this.#import(attempt, (input as { input: { kind: ArtifactKind } }).input) };
      case 'models.import':
        return { ref: this.#import(attempt, { ...(input as { source: object }).source, kind: 'model' }) };
      case 'endpoint.paid':
        return this.#paid(input as { stageKey: string });
      case 'experiment.record':
        return { searchAttributes: true };
      case 'inputs.searchAttributes':
        return true;
      case 'experiment.source':
        return this.#source(input as { of: string });
      case 'experiment.report':
        return { artifact: this.#report(attempt) };
      case 'reinforcement.prune':
        return this.#prune(input as PruneInput);
      case 'reinforcement.gate':
        return this.#gate(input as { card: ArtifactRef; rewardModel: ArtifactRef });
      case 'tables.import':
        return { ref: this.#import(attempt, (input as { table: { kind: ArtifactKind } }).table) };
      case 'tables.export':
        return this.#made(attempt, 'datasetExport', 'dataset', input as { inputs: Record<string, ArtifactRef> });
      case 'reverify.plan':
        return this.#reverifyPlan(input as { inputs: Record<string, ArtifactRef>; settings: object });
      case 'reverify.judge':
        return this.#reverifyShard(attempt, input as { stageKey: string; shard: number });
      case 'reverify.table':
        return this.#reverifyTable(attempt, input as { stageKey: string });
      case 'comparison.check':
        return [];
      case 'comparison.make':
        return { ...this.#made(attempt, 'compare', 'report', { inputs: {}, ...(input as object) }), verdicts: [] };
      case 'preview.seeds':
        return { ref: this.#import(attempt, { ...(input as object), kind: 'seeds' }) };
      case 'preview.page':
        return this.#made(attempt, 'preview', 'report', { inputs: refsAmong(input as object) });
      case 'datasetRefresh.plan':
        return this.#newSeeds(attempt, input as { name: string; seeds: ArtifactRef });
      case 'datasetRefresh.publish':
        return this.#publish(attempt, input as PublishInput);
      case 'garbageCollection.sweep':
        return this.#sweep(input as { minimumAgeHours: number; dryRun: boolean });
      default:
        break;
    }
    if (stage === 'reinforcement') return this.#round(attempt, step);
    if (step === 'plan') return this.#plan(attempt, stage);
    if (step === 'seal') return this.#seal(attempt, stage);
    if (step === 'train') return this.#train(attempt, stage as TrainingStageName);
    return this.#step(attempt, step);
  }

  /** Whether the result of a training is in the store. */
  finds({ name, input }: Attempt): boolean {
    if (name === 'reinforcement.update') {
      const given = input as RoundInput | { config: unknown; again: string };
      if ('again' in given) return this.artifacts.has(given.again) && !this.pruned.has(given.again);
      const refs = given.inputs as Record<string, ArtifactRef>;
      const recipe = this.#roundRecipe(ReinforcementConfig.parse(given.config), 'update', refs, given.round);
      return this.artifacts.has(objectKeys.manifest(recipe.kind, stageKey(recipe)));
    }
    const { config, inputs } = input as { config: unknown; inputs: Record<string, ArtifactRef> };
    const recipe = stageRecipe(STAGE[name.split('.')[0] as TrainingStageName], config, inputs);
    return this.artifacts.has(objectKeys.manifest(recipe.kind, stageKey(recipe)));
  }

  #import(attempt: Attempt, input: { kind: ArtifactKind; ref?: unknown }): ArtifactRef {
    // What is in the store already stays what it is.
    const { data } = ArtifactRef.safeParse(input.ref ?? input);
    if (data) return data;
    const recipe: Recipe = { stage: 'import', version: 1, kind: input.kind, semantics: input, inputs: {} };
    return this.#produce(attempt, recipe, {}, () => ({ content: input, metrics: {} })).ref;
  }

  /** Something that is made of artifacts, and published. */
  #made(
    attempt: Attempt,
    stage: string,
    kind: ArtifactKind,
    { inputs, ...semantics }: { inputs: Record<string, ArtifactRef> },
  ): { artifact: ArtifactRef; rows: number; bytes: number } {
    const recipe: Recipe = { stage, version: 1, kind, semantics, inputs: digestsOf(inputs) };
    for (const ref of Object.values(inputs)) this.#needFiles(ref);
    const { ref } = this.#produce(attempt, recipe, inputs, () => ({ content: digestsOf(inputs), metrics: {} }));
    return { artifact: ref, rows: ref.rows ?? 0, bytes: ref.bytes ?? 0 };
  }

  #reverifyPlan({ inputs, settings }: { inputs: Record<string, ArtifactRef>; settings: object }): object {
    const { execution: _execution, ...semantics } = settings as { execution: object };
    const recipe: Recipe = {
      stage: 'reverify',
      version: 1,
      kind: 'reverification',
      semantics,
      inputs: digestsOf(inputs),
    };
    const key = stageKey(recipe);
    for (const ref of Object.values(inputs)) this.#needFiles(ref);
    const shards = this.shardsOf('sampling');
    if (!this.#reverifications.has(key)) this.#reverifications.set(key, { recipe, inputs, shards });
    const made = this.artifacts.has(objectKeys.manifest(recipe.kind, key));
    const work = made ? [] : Array.from({ length: shards }, (_, shard) => shard);
    return { stageKey: key, work, programs: 16 * shards, verdicts: 64 * shards };
  }

  #reverifyShard({ runId }: Attempt, { stageKey: key, shard }: { stageKey: string; shard: number }): object {
    if (!this.#reverifications.has(key)) throw new ActivityFails('ArtifactCorrupt', `there is no plan ${key}`);
    const name = objectKeys.shard(key, shard, 'judge');
    const done = this.#shards.get(name);
    if (!done) this.#shards.set(name, { rows: 16, workflowId: runId, stored: this.#storing(runId) });
    return { cells: done && done.workflowId !== runId ? 0 : 16, compared: 1, differing: [] };
  }

  #reverifyTable(attempt: Attempt, { stageKey: key }: { stageKey: string }): object {
    const plan = this.#reverifications.get(key);
    if (!plan) throw new ActivityFails('ArtifactCorrupt', `there is no plan ${key}`);
    const { recipe, inputs, shards } = plan;
    const { ref } = this.#produce(attempt, recipe, inputs, () => {
      for (let shard = 0; shard < shards; shard += 1)
        if (!this.#shards.has(objectKeys.shard(key, shard, 'judge')))
          throw new ActivityFails('ArtifactCorrupt', `${key} lacks shard ${shard}`);
      return { content: { key, shards }, metrics: {} };
    });
    return { artifact: ref, summary: { programs: 16 * shards } };
  }

  /** Seeds that no version of a data set has seen. In the model, an artifact of seeds is new as a whole or not. */
  #newSeeds(attempt: Attempt, { name, seeds }: { name: string; seeds: ArtifactRef }): object {
    const versions = this.versions.get(name) ?? [];
    const previous = versions.at(-1);
    if (versions.some((version) => version.seeds.key === seeds.key)) return previous ? { previous } : {};
    const fresh = this.#import(attempt, {
      fresh: seeds.digest,
      after: previous?.version ?? 0,
      kind: 'seeds',
    } as object & {
      kind: ArtifactKind;
    });
    return { ...(previous ? { previous } : {}), fresh };
  }

  #publish(attempt: Attempt, { name, previous, seeds, questions }: PublishInput): Version {
    const inputs = { questions, seeds, ...(previous ? { previous: previous.dataset } : {}) };
    const recipe: Recipe = {
      stage: 'datasetRefresh',
      version: 1,
      kind: 'dataset',
      semantics: { name },
      inputs: digestsOf(inputs),
    };
    const { ref } = this.#produce(attempt, recipe, inputs, () => ({ content: digestsOf(inputs), metrics: {} }));
    const versions = this.versions.get(name) ?? [];
    this.versions.set(name, versions);
    const version: Version = {
      version: (previous?.version ?? 0) + 1,
      dataset: ref,
      seeds,
      added: 16,
      total: 16 * ((previous?.version ?? 0) + 1),
      difference: { added: 16, changed: 0, dropped: {}, statistics: {} },
    };
    const standing = versions[version.version - 1];
    if (!standing || this.bugs.has('versionTwice')) versions.push(version);
    else if (standing.dataset.digest !== ref.digest)
      throw new ActivityFails('InvalidExperiment', `another refresh of '${name}' published ${version.version}`);
    return standing ?? version;
  }

  /** Removes what nothing needs: in the model, files that no document names yet. */
  #sweep({ minimumAgeHours, dryRun }: { minimumAgeHours: number; dryRun: boolean }): object {
    if (!dryRun) {
      const ageMs = this.bugs.has('sweepIgnoresAge') ? 0 : minimumAgeHours * 3_600_000;
      this.#sweeps.push({ at: this.now(), ageMs });
      if (this.bugs.has('sweepTakesCheckpoints')) this.#checkpoints.clear();
      if (this.bugs.has('sweepTakesShards')) this.#shards.clear();
    }
    return { documents: this.artifacts.size, blobs: this.artifacts.size, swept: 0, sweptBytes: 0 };
  }

  #source({ of }: { of: string }): object {
    const source = this.#sources.get(of);
    return source ? { source } : { mistakes: [mistake('fork.of', of, 'the store knows no such experiment')] };
  }

  /** Notes who begins a stage that the store does not have. */
  #begins({ kind, ...recipe }: Recipe, { workflowId }: Attempt): void {
    const key = stageKey({ kind, ...recipe });
    if (this.artifacts.has(objectKeys.manifest(kind, key))) return;
    this.begun.set(key, (this.begun.get(key) ?? new Set()).add(workflowId));
  }

  /** Notes what another workflow stored while this one made it. An attempt may go on when its workflow has ended. */
  #finds(what: string, made: { workflowId: string; stored: Storing }, { workflowId, startedAt }: Attempt): void {
    const together = made.stored.open && made.stored.at > startedAt && this.isOpen(workflowId);
    if (made.workflowId !== workflowId && together)
      this.madeTogether.push(`${what}, by ${made.workflowId} and ${workflowId}`);
  }

  #storing(workflowId: string): Storing {
    return { at: this.now(), open: this.isOpen(workflowId) };
  }

  #report({ input, workflowId }: Attempt): ArtifactRef {
    const { experiment, given, stages } = input as {
      experiment: Experiment;
      given: Partial<Record<Given, ArtifactRef>>;
      stages: (ForkSource['stages'][number] & { artifact?: ArtifactRef })[];
    };
    this.#sources.set(workflowId, { workflowId, experiment: pinned(experiment, given), stages });
    const digests = stages.flatMap(({ artifact }) => artifact?.digest ?? []);
    return refOf({ stage: 'report', version: 1, kind: 'report', semantics: { workflowId }, inputs: {} }, digests);
  }

  /** The artifact of a recipe: the stored one, or one that is made now. */
  #produce(
    attempt: Attempt,
    recipe: Recipe,
    inputs: Record<string, ArtifactRef>,
    make: (key: string) => { content: unknown; metrics: Metrics; round?: number },
  ): Produced {
    const { workflowId, runId, startedAt } = attempt;
    const key = objectKeys.manifest(recipe.kind, stageKey(recipe));
    const existing = this.artifacts.get(key);
    // Inputs may be imported by several at once.
    if (existing && recipe.stage !== 'import') this.#finds(key, existing, attempt);
    const ofAnotherRun = this.bugs.has('storeOfRun') && existing?.runId !== runId;
    if (existing && !this.bugs.has('storeOverwrites') && !ofAnotherRun) {
      const own = existing.workflowId === workflowId;
      return {
        ref: existing.ref,
        reused: !own,
        ...(own ? {} : { by: existing.workflowId }),
        metrics: existing.metrics,
      };
    }
    const { content, metrics, round } = make(key);
    const ref = refOf(recipe, content);
    this.made.set(key, (this.made.get(key) ?? 0) + 1);
    // Its files were written while it was made, and the document that names them is written at its end.
    const written = (startedAt + this.now()) / 2;
    const swept = this.#sweeps.some(({ at, ageMs }) => at >= written && written <= at - ageMs);
    const more = round === undefined ? {} : { round };
    const made = { ref, metrics, workflowId, runId, recipe, inputs, content, swept, ...more };
    const stored = { ...made, stored: this.#storing(workflowId) };
    this.artifacts.set(key, stored);
    if (recipe.kind === 'rewards') this.#newestRewards = stored;
    return { ref, reused: false, metrics };
  }

  // --- sharded stages

  #plan(attempt: Attempt, stage: StageName): unknown {
    const { config, inputs } = attempt.input as { config: unknown; inputs: Record<string, ArtifactRef> };
    const recipe = stageRecipe(STAGE[stage], config, inputs);
    const key = stageKey(recipe);
    const shards = this.shardsOf(stage);
    const steps = STAGE[stage].withSettings(config).shardSteps();
    this.#begins(recipe, attempt);
    if (!this.#plans.has(key)) this.#plans.set(key, { stage, shards, steps, recipe, inputs });
    const done = this.artifacts.get(objectKeys.manifest(recipe.kind, key));
    return {
      stageKey: key,
      shards,
      ...(done ? { done: this.#produce(attempt, recipe, inputs, () => ({ content: 0, metrics: {} })) } : {}),
    };
  }

  #step(given: Attempt, step: string): unknown {
    const { input, workflowId, attempt, share } = given;
    const { stageKey: key, shard } = input as { stageKey: string; shard: number };
    const plan = this.#plans.get(key);
    if (!plan) throw new ActivityFails('ArtifactCorrupt', `there is no plan ${key}`);
    const previous = plan.steps[plan.steps.indexOf(step) - 1];
    if (previous !== undefined && !this.#shards.has(objectKeys.shard(key, shard, previous)))
      throw new ActivityFails('ArtifactCorrupt', `shard ${shard} has no ${previous}`);
    const name = objectKeys.shard(key, shard, step);
    const existing = this.#shards.get(name);
    if (step === 'request' && !existing) {
      const { execution } = input as { execution: { share?: { usd?: number } } };
      const { costUsd, incomplete } = this.endpoint.ask(key, name, attempt, share, execution.share?.usd);
      if (share < 1) return undefined;
      if (incomplete) return { rows: 0, reused: false, metrics: { costUsd }, incomplete: true };
    }
    if (share < 1) return undefined;
    if (existing) this.#finds(name, existing, given);
    const paid = step === 'request' ? { costUsd: this.endpoint.costUsd(name) } : {};
    const rows = 1 + (Number.parseInt(sha256(name).slice(0, 4), 16) % 40);
    if (!existing || this.bugs.has('shardsCountedByAttempt')) this.#shardsMade += 1;
    if (!existing)
      this.#shards.set(name, {
        rows: this.bugs.has('rowsOfAttempt') ? rows + attempt - 1 : rows,
        workflowId,
        stored: this.#storing(workflowId),
      });
    return {
      rows,
      reused: existing !== undefined && existing.workflowId !== workflowId,
      metrics: { rows, kept: rows - 1, ...paid },
    };
  }

  /** What stored replies cost, by shard. */
  #paid({ stageKey: key }: { stageKey: string }): Record<string, number> {
    const shards = this.#plans.get(key)?.shards ?? 0;
    const costs = Array.from({ length: shards }, (_, shard): [string, number] => [
      String(shard),
      this.endpoint.costUsd(objectKeys.shard(key, shard, 'request')),
    ]);
    return Object.fromEntries(costs.filter(([, usd]) => usd > 0));
  }

  #seal(attempt: Attempt, _stage: StageName): unknown {
    const { stageKey: key } = attempt.input as { stageKey: string };
    const plan = this.#plans.get(key);
    if (!plan) throw new ActivityFails('ArtifactCorrupt', `there is no plan ${key}`);
    const { recipe, inputs, shards, steps } = plan;
    return this.#produce(attempt, recipe, inputs, () => {
      const missing: number[] = [];
      const rows = Array.from({ length: shards }, (_, shard) => {
        const stored = steps.map((step) => this.#shards.get(objectKeys.shard(key, shard, step)));
        if (stored.includes(undefined)) missing.push(shard);
        return stored.at(-1)?.rows ?? 0;
      });
      if (missing.length > 0)
        throw new ActivityFails('ArtifactCorrupt', `${key} lacks shards ${missing.slice(0, 5).join(', ')}`);
      const sum = rows.reduce((total, each) => total + each, 0);
      const counted = this.bugs.has('shardsCountedByAttempt') ? this.#shardsMade : shards;
      return { content: { key, rows, counted }, metrics: { rows: sum, shards } };
    });
  }

  // --- trainings

  #train(attempt: Attempt, stage: TrainingStageName): unknown {
    const { config, inputs } = attempt.input as { config: unknown; inputs: Record<string, ArtifactRef> };
    const recipe = stageRecipe(STAGE[stage], config, inputs);
    this.#begins(recipe, attempt);
    const rows = Array.from({ length: TRAINING_ROWS }, (_, index) => rowId('t', digestsOf(inputs), index));
    const existing = this.artifacts.has(objectKeys.manifest(recipe.kind, stageKey(recipe)));
    const training = existing ? undefined : this.#optimize(attempt, stageKey(recipe), rows, 4, digestsOf(inputs));
    if (attempt.share < 1) return undefined;
    if (training)
      this.trainedRounds.push({ key: stageKey(recipe), round: 0, trained: training.steps.flat(), planned: rows });
    return this.#produce(attempt, recipe, inputs, () => ({
      content: training,
      metrics: { steps: training!.steps.length },
    }));
  }

  /** Trains on rows, in batches, from the newest checkpoint on. What dies after `share` leaves its checkpoint. */
  #optimize({ share }: Attempt, key: string, rows: readonly string[], batch: number, start: unknown): Training {
    const name = this.bugs.has('checkpointOfAnotherUpdate') ? 'newest' : key;
    const batches = batchesOf(rows, batch);
    const found = this.#checkpoints.get(name);
    const training: Training = found ? structuredClone(found) : { steps: [], digest: sha256(canonicalJson(start)) };
    if (found && this.bugs.has('optimizerStateLost')) training.digest = sha256(canonicalJson(start));
    let next = training.steps.length;
    if (found && this.bugs.has('stepTwiceOnResume')) next = Math.max(0, next - 1);
    if (found && this.bugs.has('cursorAhead')) next += 1;
    const end = next + Math.floor((batches.length - next) * share);
    const effort = this.efforts.get(key) ?? { applied: 0, needed: 0, died: 0 };
    this.efforts.set(key, effort);
    effort.applied += Math.max(0, end - next);
    effort.needed += share === 1 ? batches.length : 0;
    effort.died += share === 1 ? 0 : 1;
    for (; next < end; next += 1) {
      const step = batches[next];
      if (!step) break;
      training.steps.push(step);
      training.digest = sha256(`${training.digest}/${step.join()}`);
      if (training.steps.length % STEPS_PER_CHECKPOINT === 0 && share < 1)
        this.#checkpoints.set(name, structuredClone(training));
    }
    if (share === 1) this.#checkpoints.delete(key);
    return training;
  }

  // --- RL rounds

  #round(attempt: Attempt, step: string): unknown {
    const given = attempt.input as RoundInput | { config: unknown; again: string };
    const config = ReinforcementConfig.parse(given.config);
    if ('again' in given) return this.#again(attempt, config, given.again);
    const { round, inputs } = given;
    const refs = Object.fromEntries(
      Object.entries(inputs).filter((entry): entry is [string, ArtifactRef] => entry[1] !== undefined),
    );
    if (step === 'ahead') return this.#ahead(attempt, given);
    const recipe = this.#roundRecipe(config, step, refs, round);
    const key = objectKeys.manifest(recipe.kind, stageKey(recipe));
    if (step === 'update') return this.#update(attempt, config, recipe, refs, round);
    if (step === 'rollouts') {
      const policy = refs['policy']!;
      if (policy.kind === 'policy' && !this.artifacts.has(policy.key)) this.sampledFromNothing.push(key);
    }
    if (['rollouts', 'merge'].includes(step) && !this.artifacts.has(key) && !this.bugs.has('aheadOfPolicy'))
      this.#needFiles(refs['policy']!);
    return this.#produce(attempt, recipe, refs, () => {
      const content = this.#roundContent(step, config, refs, round, attempt);
      const rollouts = config.promptsPerRound * config.samplesPerPrompt;
      const told: Metrics = {
        ...(config.curriculum && step === 'reward' ? { curriculum: this.#drawn(refs['plan']!) } : {}),
        ...(config.repair && step === 'reward' ? { repair: this.#repaired(refs['rollouts']!) } : {}),
        ...(step === 'repair' ? { asked: (content as Plan).mends!.rollouts.length } : {}),
      };
      return { content, metrics: { rollouts, tokens: rollouts * 71, ...told } };
    });
  }

  /** Sampling from a policy that is being sent. It stores its rollouts once the policy is stored. */
  #ahead(attempt: Attempt, { config, round, inputs, name }: RoundInput & { name?: string }): { sampled: boolean } {
    const policy = this.#sending.get(name ?? '');
    if (!policy) return { sampled: false };
    if (!this.artifacts.has(policy.key) && !this.bugs.has('aheadOfPolicy')) throw new ActivityWaits();
    const input: RoundInput = { config, round, inputs: { ...inputs, policy } };
    this.#round({ ...attempt, name: 'reinforcement.rollouts', input }, 'rollouts');
    return { sampled: true };
  }

  #roundRecipe(config: ReinforcementConfig, step: string, refs: Record<string, ArtifactRef>, round: number): Recipe {
    const { steps } = STAGE.reinforcement;
    const definition = steps[step as Exclude<keyof typeof steps, 'ahead' | 'prune' | 'gate'>];
    const named = this.bugs.has('planWithoutRound') && step === 'plan' ? 0 : round;
    return stepRecipe('reinforcement', step, definition, config, refs, { round: named });
  }

  #roundContent(
    step: string,
    config: ReinforcementConfig,
    refs: Record<string, ArtifactRef>,
    round: number,
    { attempt }: Attempt,
  ): unknown {
    switch (step) {
      case 'plan':
        return this.#planned(config, round, refs['earlier'], refs['rewards']);
      case 'repair':
        return this.#feedback(round, refs);
      case 'rollouts':
        return this.#rolloutsOf(config, refs, this.bugs.has('seedOfAttempt') ? attempt : 1);
      case 'reward': {
        const rollouts = this.#content(refs['rollouts']!) as string[];
        for (const name of ['verdicts', 'scores']) this.#needAbout(refs[name], refs['rollouts']!);
        const judged = ['verdicts', 'scores'].flatMap((name) => refs[name]?.digest ?? []);
        if (this.bugs.has('hashByArrival')) {
          const arrived = [...this.artifacts.keys()];
          const at = (name: string): number => arrived.indexOf(refs[name]?.key ?? '');
          if (at('scores') >= 0 && at('scores') < at('verdicts')) judged.reverse();
        }
        return { judged, trained: rollouts.filter((id) => !isDropped(id)) };
      }
      default:
        return digestsOf(refs);
    }
  }

  /** What an update tells before its policy is stored; undefined where it is stored already. */
  told({ name: activity, input }: Attempt): { signal: string; payload: PolicyTrained } | undefined {
    const { config: given, round, inputs } = input as RoundInput;
    if (activity !== 'reinforcement.update' || (inputs as unknown) === undefined) return undefined;
    const config = ReinforcementConfig.parse(given);
    const refs = inputs as Record<string, ArtifactRef>;
    const recipe = this.#roundRecipe(config, 'update', refs, round);
    if (this.artifacts.has(objectKeys.manifest(recipe.kind, stageKey(recipe)))) return undefined;
    const { trained } = this.#content(refs['rewards']!) as { trained: string[] };
    const { batchSize, epochs } = config.algorithm;
    const rows = Array.from({ length: epochs }, () => trained).flat();
    let digest = sha256(canonicalJson(UPDATE_INPUTS.map((each) => refs[each]!.digest)));
    for (const batch of batchesOf(rows, batchSize)) digest = sha256(`${digest}/${batch.join()}`);
    const name = `trained-${this.#sending.size}`;
    this.#sending.set(name, refOf(recipe, digest));
    return { signal: MESSAGES.policyTrained, payload: { round, name } };
  }

  #update(
    attempt: Attempt,
    config: ReinforcementConfig,
    recipe: Recipe,
    refs: Record<string, ArtifactRef>,
    round: number,
    again = false,
  ): Produced | undefined {
    const key = objectKeys.manifest(recipe.kind, stageKey(recipe));
    const standing = this.artifacts.get(key);
    if (standing && !again) {
      const produced = this.#produce(attempt, recipe, refs, () => ({ content: 0, metrics: {} }));
      return this.pruned.has(key) ? { ...produced, pruned: true } : produced;
    }
    this.#needFiles(refs['policy']!);
    this.#needFiles(refs['reference']!);
    const stored = this.bugs.has('staleRewards') ? this.#newestRewards : undefined;
    const rewards = (stored?.content ?? this.#content(refs['rewards']!)) as { trained: string[] };
    const { batchSize, epochs } = config.algorithm;
    const rows = Array.from({ length: epochs }, () => rewards.trained).flat();
    const start = UPDATE_INPUTS.map((each) => refs[each]!.digest);
    const training = this.#optimize(attempt, stageKey(recipe), rows, batchSize, start);
    if (attempt.share < 1) return undefined;
    const trained = training.steps.flat();
    const planned = this.#rolloutsOf(config, this.artifacts.get(refs['rollouts']!.key)!.inputs);
    this.trainedRounds.push({ key, round, trained, planned });
    if (again) {
      this.pruned.delete(key);
      return { ref: standing!.ref, reused: false, metrics: standing!.metrics };
    }
    return this.#produce(attempt, recipe, refs, () => ({
      content: training.digest,
      metrics: updateMetrics(round, training.steps.length, trained.length),
      round,
    }));
  }

  /** The questions of a draw: in the fixed order of the seed, or those that a curriculum makes of the draw before. */
  #planned(config: ReinforcementConfig, round: number, earlier?: ArtifactRef, rewards?: ArtifactRef): Plan {
    const { seed, promptsPerRound } = config;
    if (!earlier || !rewards) return { round, draw: 0, questions: plannedQuestions(config, round) };
    const before = this.#content(earlier) as Plan;
    // Rewards of another draw say nothing of these questions.
    if (this.artifacts.get(rewards.key)?.inputs['plan']?.key !== earlier.key)
      throw new ActivityFails('InvalidExperiment', `${rewards.key} are no rewards of ${earlier.key}`);
    const draw = before.round === round ? before.draw + 1 : 0;
    const lacking = draw > 0 ? this.#withoutSignal(earlier) : before.questions;
    const isKept = (question: string): boolean => draw > 0 && !lacking.includes(question);
    const questions = Array.from({ length: promptsPerRound }, (_, index) => {
      const standing = before.questions[index]!;
      return isKept(standing)
        ? standing
        : `q-${seed}-${sha256(`${rewards.digest}/${index}`).slice(0, 8)}/${round}.${draw}`;
    });
    return { round, draw, questions };
  }

  /** Questions of a draw whose rewards are all equal. */
  #withoutSignal(plan: ArtifactRef): string[] {
    const { questions } = this.#content(plan) as Plan;
    return questions.filter((question) => Number.parseInt(sha256(question).slice(0, 4), 16) % 3 === 0);
  }

  /** What is told of a round's draws. */
  #drawn(plan: ArtifactRef): RoundCurriculum {
    const { draw, questions } = this.#content(plan) as Plan;
    const withoutSignal = this.#withoutSignal(plan).length;
    return {
      pools: { unsolved: 3, hard: 7, medium: 9, easy: 3, solved: 1 },
      groups: questions.length,
      firstWithoutSignal: withoutSignal,
      withoutSignal,
      draws: draw + 1,
      extraRollouts: draw * questions.length,
      replace: draw < MOST_DRAWS ? withoutSignal : 0,
    };
  }

  /** Rollouts that fail and have had no feedback. Each that is mended makes way for its next answer. */
  #feedback(round: number, { plan, rollouts, verdicts }: Record<'plan' | 'rollouts' | 'verdicts', ArtifactRef>): Plan {
    this.#needAbout(verdicts, rollouts);
    const { mends } = this.#content(plan) as Plan;
    const ids = this.#content(rollouts) as string[];
    const before = new Set(mends?.rollouts);
    // The last answers of their conversations stand at the end, and one that passes ends a conversation.
    const last = mends ? ids.slice(ids.length - before.size) : ids;
    return { round, draw: 0, questions: [], mends: { rollouts: last.filter(isFailed), turn: (mends?.turn ?? 1) + 1 } };
  }

  /** What is told of a round's repair turns. */
  #repaired(rollouts: ArtifactRef): RoundRepair {
    const turns: string[][] = [];
    for (let ref: ArtifactRef | undefined = rollouts; ref; ref = this.artifacts.get(ref.key)!.inputs['earlier'])
      turns.unshift(this.#content(ref) as string[]);
    const first = turns[0]!;
    const repairs = turns.at(-1)!.slice(first.length);
    const passing = (ids: readonly string[]): number => ids.filter((id) => !isFailed(id)).length;
    return {
      conversations: first.length,
      firstPass: passing(first) / first.length,
      lastPass: (passing(first) + passing(repairs)) / first.length,
      repairs: repairs.length,
      repaired: passing(repairs),
    };
  }

  /** Verdicts and scores are about the rollouts that they are used with. @throws ActivityFails where they are not. */
  #needAbout(judged: ArtifactRef | undefined, rollouts: ArtifactRef): void {
    if (judged && this.artifacts.get(judged.key)?.inputs['rollouts']?.key !== rollouts.key)
      throw new ActivityFails('InvalidExperiment', `${judged.key} is not about ${rollouts.key}`);
  }

  /** Ids of the rollouts of a draw or turn: each names the plan that made it and the policy that it came from. */
  #rolloutsOf(config: ReinforcementConfig, inputs: Record<string, ArtifactRef>, salt = 1): string[] {
    const { plan, policy, earlier } = inputs as Record<'plan' | 'policy' | 'earlier', ArtifactRef>;
    const { questions, mends } = this.#content(plan) as Plan;
    const before = earlier && this.artifacts.get(earlier.key)!.inputs;
    if (mends) {
      const next = mends.rollouts.map((id) =>
        rowId('r', plan.digest, policy.digest, id, mends.turn, ...(salt === 1 ? [] : [salt])),
      );
      return [...(before ? this.#rolloutsOf(config, before) : []), ...next];
    }
    const asked = before ? (this.#content(before['plan']!) as Plan).questions : [];
    const standing = before ? this.#rolloutsOf(config, before) : [];
    const { samplesPerPrompt } = config;
    return questions.flatMap((question) => {
      const at = asked.indexOf(question) * samplesPerPrompt;
      if (at >= 0) return standing.slice(at, at + samplesPerPrompt);
      return Array.from({ length: samplesPerPrompt }, (_, sample) =>
        rowId('r', plan.digest, policy.digest, question, sample, ...(salt === 1 ? [] : [salt])),
      );
    });
  }

  /** The gate of the reward model, which lets every one pass. @throws ActivityFails where the card is of another one. */
  #gate({ card, rewardModel }: { card: ArtifactRef; rewardModel: ArtifactRef }): undefined {
    if (this.artifacts.get(card.key)?.inputs['rewardModel']?.digest !== rewardModel.digest)
      throw new ActivityFails('InvalidExperiment', `${card.key} is no card of ${rewardModel.key}`);
    return undefined;
  }

  #again(attempt: Attempt, config: ReinforcementConfig, key: string): Produced | undefined {
    const standing = this.artifacts.get(key);
    if (standing?.round === undefined) throw new ActivityFails('ArtifactPruned', `${key} is made by no round`, [key]);
    const { inputs, round } = standing;
    return this.#update(
      attempt,
      config,
      this.#roundRecipe(config, 'update', inputs, round),
      inputs,
      round,
      this.pruned.has(key),
    );
  }

  #content({ key }: ArtifactRef): unknown {
    const stored = this.artifacts.get(key);
    if (!stored || stored.swept) throw new ActivityFails('ArtifactCorrupt', `there is no ${key}`);
    return stored.content;
  }

  #needFiles({ key }: ArtifactRef): void {
    const stored = this.artifacts.get(key);
    if (!stored || stored.swept) throw new ActivityFails('ArtifactCorrupt', `there is no ${key}`);
    if (this.pruned.has(key)) throw new ActivityFails('ArtifactPruned', `${key} was pruned`, [key]);
  }

  #prune({ newest, from, held, needed, keepRounds, done }: PruneInput): unknown {
    const last = this.artifacts.get(newest.key)?.round ?? 0;
    const candidates = new Map(held.map((ref) => [ref.key, ref]));
    for (let ref: ArtifactRef | undefined = newest; ref;) {
      const stored: Stored | undefined = this.artifacts.get(ref.key);
      if (stored?.round === undefined || (stored.round < from && !done)) break;
      candidates.set(ref.key, ref);
      ref = stored.inputs['policy'];
    }
    const needs = new Set(needed.map(({ key }) => key));
    const holding: ArtifactRef[] = [];
    let rounds = 0;
    for (const [key, ref] of candidates) {
      const round = this.artifacts.get(key)?.round ?? 0;
      if (keepRounds === null || round > last - keepRounds) continue;
      if (needs.has(key)) holding.push(ref);
      else if (!this.pruned.has(key)) {
        this.pruned.add(key);
        rounds += 1;
      }
    }
    const next = keepRounds === null ? last : Math.max(1, last - keepRounds + 1);
    return { rounds, swept: 0, sweptBytes: 0, from: next, held: holding.slice(0, 20) };
  }
}

interface PublishInput {
  name: string;
  previous?: Version;
  seeds: ArtifactRef;
  questions: ArtifactRef;
}

/** Whether an outage stops an activity. */
function concerns(outage: FailureType, name: string): boolean {
  const step = name.slice(name.indexOf('.') + 1);
  switch (outage) {
    case 'RuntimeLost':
      return ['train', 'update', 'rollouts', 'generate', 'score'].includes(step);
    case 'SandboxUnavailable':
      return step === 'judge';
    case 'Stalled':
      return step === 'request';
    default:
      // The server is asked without the store.
      return name !== 'queues.served';
  }
}

function refsAmong(input: object): Record<string, ArtifactRef> {
  return Object.fromEntries(
    Object.entries(input).filter((entry): entry is [string, ArtifactRef] => typeof entry[1] === 'object'),
  );
}

/** The questions of a round, in the fixed order of the seed. */
function plannedQuestions({ seed, promptsPerRound }: ReinforcementConfig, round: number): string[] {
  return Array.from(
    { length: promptsPerRound },
    (_, index) => `q-${seed}-${((round - 1) * promptsPerRound + index) % QUESTIONS}/${round}`,
  );
}

/** Whether the program of a rollout fails a test. */
function isFailed(id: string): boolean {
  return Number.parseInt(sha256(id).slice(4, 8), 16) % 3 === 0;
}

/** Whether the reward of a rollout leaves it out, which it records. */
export function isDropped(id: string): boolean {
  return Number.parseInt(sha256(id).slice(0, 4), 16) % 17 === 0;
}

function batchesOf(rows: readonly string[], size: number): string[][] {
  return Array.from({ length: Math.ceil(rows.length / size) }, (_, index) =>
    rows.slice(index * size, (index + 1) * size),
  );
}

function refOf(recipe: Recipe, content: unknown): ArtifactRef {
  return {
    kind: recipe.kind,
    key: objectKeys.manifest(recipe.kind, stageKey(recipe)),
    digest: sha256(canonicalJson({ kind: recipe.kind, content })),
    rows: 16,
    bytes: 12_768_862,
  };
}

/** As many figures as a real update tells, because they are in the history. */
function updateMetrics(round: number, steps: number, trained: number): Metrics {
  const figure = (name: string): number => Number.parseInt(sha256(`${name}/${round}`).slice(0, 13), 16) / 2 ** 52;
  return {
    ...Object.fromEntries(
      ['loss', 'clipFraction', 'gradNorm', 'rewardMean', 'rewardStd', 'kl', 'entropy', 'advantageStd'].map((name) => [
        name,
        figure(name),
      ]),
    ),
    nonZeroAdvantages: trained,
    round,
    steps,
    rollouts: trained,
    trained,
    dropped: {},
    environments: [
      {
        step: 0,
        torch: '2.15.0+cu132',
        device: 'cpu',
        cpuCapability: 'AVX512',
        threads: 1,
        processes: 1,
        microBatch: 8,
        sharding: 'none',
      },
    ],
  };
}
