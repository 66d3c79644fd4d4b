/**
 * Schedules: a workflow from its start to its end, with faults and operators from a seed, held against the same
 * workflow without either.
 */
import { microExperiment } from '../fixtures/micro-experiment.js';
import { MESSAGES, STAGES, type ExperimentFigures, type StageName } from '../../workflows/contract/index.js';
import { isDropped, SimulatedActivities } from './activities.js';
import { BUGS, type Bug, type BugName } from './planted-bugs.js';
import { Random } from './random.js';
import { NO_FAULTS, Server, type Faults, type Outcome } from './server.js';
import { LARGEST_HISTORY_BYTES } from './sizes.js';
import { ReplayDiffers, TaskFailed, type Replacement, type WorkflowCode } from './workflow-vm.js';

/** Virtual time after which a workflow that has not ended is taken to hang, in milliseconds. */
const LONGEST_MS = 60 * 24 * 3600 * 1000;
/** Starts that a workflow needs at most until it completes: final failures are rare. */
const MOST_STARTS = 30;
/** Times that an operator runs stages of one experiment again before it is abandoned. */
const PATIENCE = 40;
const ID = 'simulated';
/** Activities of an experiment itself. */
const AROUND_STAGES = /"activityType":{"name":"(inputs|models|artifacts|queues|experiment)\.\w+"/;

/** What goes wrong in a schedule beside the faults of the server: what operators and others do. */
export const DISTURBANCES = ['pause', 'retry', 'garbage', 'cancel', 'abandon', 'terminate', 'cancelStage'] as const;
type Disturbance = (typeof DISTURBANCES)[number];
export type FaultName = keyof Faults | Disturbance;

export const WORKFLOWS = ['experiment', 'reinforcement', 'sampling'] as const;
export type SimulatedWorkflow = (typeof WORKFLOWS)[number];

/** What a schedule came to. */
export interface Schedule {
  seed: number;
  workflow: SimulatedWorkflow;
  /** What must not be. Empty: all is well. */
  violations: string[];
  /** Faults and disturbances, by kind. */
  happened: Record<string, number>;
  workflowTasks: number;
  replays: number;
  runs: number;
  largestBytes: number;
}

interface Case {
  workflow: SimulatedWorkflow;
  input: unknown;
  shards: number;
}

/** The workflow and input of a seed. Few differ, so that their undisturbed runs are made once. */
function caseOf(workflow: SimulatedWorkflow, variant: number): Case {
  const asynchronous = variant % 2 === 1 ? {} : null;
  const rl = {
    rounds: 3 + (variant % 3),
    promptsPerRound: 4,
    samplesPerPrompt: 4,
    asynchronous,
    referenceRefresh: variant % 3 === 0 ? 2 : null,
    algorithm: { batchSize: 2 },
    execution: { keepRounds: 1 + (variant % 2), deviceClass: 'train' },
  };
  const questions = { kind: 'filteredQuestions', path: '/data/questions.jsonl' };
  const policy = { kind: 'folder', path: '/data/model' };
  if (workflow === 'reinforcement')
    return { workflow, shards: 1, input: { inputs: { questions, policy }, config: { ...rl, rounds: rl.rounds + 2 } } };
  if (workflow === 'sampling')
    return {
      workflow,
      shards: 9 + variant,
      input: { inputs: { questions, policy }, config: { samples: 4, execution: { window: 1 + (variant % 4) } } },
    };
  const experiment = microExperiment('simulated', '/data/seeds.jsonl', '/data/model') as {
    stages: Record<StageName, Record<string, unknown>>;
  };
  const { stages } = experiment;
  return {
    workflow,
    shards: 2 + (variant % 3),
    input: {
      ...experiment,
      onFailure: 'park',
      stages: { ...stages, reinforcement: { ...stages.reinforcement, ...rl } },
    },
  };
}
const VARIANTS = 6;

/** Digests of what a workflow made, by stage. */
function digestsOf(result: unknown): Record<string, string> {
  const { stages, ref } = result as {
    stages?: { name: string; artifact: { digest: string } }[];
    ref?: { digest: string };
  };
  return stages
    ? Object.fromEntries(stages.map(({ name, artifact }) => [name, artifact.digest]))
    : { result: ref?.digest ?? '' };
}

/** Runs schedules. The undisturbed run of each case is made once. */
export class Simulator {
  readonly #undisturbed = new Map<string, Promise<Record<string, string>>>();

  /**
   * @param code the workflows as they are
   * @param changed the workflows that run in schedules, where a bug is planted in them
   */
  constructor(
    private readonly code: WorkflowCode,
    private readonly changed: WorkflowCode = code,
    private readonly bugs: ReadonlySet<BugName> = new Set(),
  ) {}

  /** @param without faults and disturbances that are left out, to find which of them a violation needs. */
  async schedule(
    seed: number,
    workflow?: SimulatedWorkflow,
    without: ReadonlySet<FaultName> = new Set(),
  ): Promise<Schedule> {
    const choice = new Random(seed, 1);
    const byChance = choice.chance(0.5) ? 'experiment' : choice.pick(['reinforcement', 'sampling'] as const);
    const chosen = workflow ?? byChance;
    const variant = new Random(seed, 3).int(0, VARIANTS - 1);
    const what = caseOf(chosen, variant);
    const expected = await this.#expected(what, variant);
    const run = new ScheduleRun(this.changed, what, seed, this.bugs, without);
    const violations = await run.play(expected);
    return {
      seed,
      workflow: chosen,
      violations,
      happened: Object.fromEntries(run.server.happened),
      workflowTasks: run.server.workflowTasks,
      replays: run.server.replays,
      runs: run.server.closed.length,
      largestBytes: Math.max(0, ...run.server.closed.map(({ bytes }) => bytes)),
    };
  }

  async #expected(what: Case, variant: number): Promise<Record<string, string>> {
    const name = `${what.workflow}/${variant}`;
    const known = this.#undisturbed.get(name) ?? this.#undisturbedRun(what);
    this.#undisturbed.set(name, known);
    return known;
  }

  async #undisturbedRun({ workflow, input, shards }: Case): Promise<Record<string, string>> {
    const activities = new SimulatedActivities(() => shards);
    const server = new Server(this.code, 0, (attempt) => activities.run(attempt), NO_FAULTS);
    server.start(workflow, ID, [input]);
    await server.run();
    const outcome = server.outcomes.get(ID);
    if (outcome?.how !== 'completed')
      throw new Error(`The undisturbed ${workflow} ends otherwise: ${JSON.stringify(outcome)}`);
    return digestsOf(outcome.result);
  }
}

class ScheduleRun {
  readonly server: Server;
  private readonly random: Random;
  readonly #activities: SimulatedActivities;
  #asked: Set<Disturbance> = new Set();
  readonly #unexplained = new Set<string>();
  #patience = PATIENCE;

  constructor(
    code: WorkflowCode,
    private readonly what: Case,
    seed: number,
    bugs: ReadonlySet<BugName>,
    private readonly without: ReadonlySet<FaultName>,
  ) {
    this.#activities = new SimulatedActivities(() => what.shards, bugs);
    this.random = new Random(seed, 4);
    const faults = faultsOf(this.random);
    for (const name of Object.keys(faults) as (keyof Faults)[]) if (without.has(name)) faults[name] = 0;
    const scale = this.random.pick([1, 15, 60]);
    this.server = new Server(code, seed, (attempt) => this.#activities.run(attempt), faults, scale);
  }

  /** Plays until the workflow completes; gives what must not be. */
  async play(expected: Record<string, string>): Promise<string[]> {
    const { server, what, random } = this;
    const began = server.timeline.now;
    const violations: string[] = [];
    try {
      for (let start = 1; ; start += 1) {
        if (start > MOST_STARTS) return [`${what.workflow} has not completed after ${MOST_STARTS} starts`];
        this.#asked = new Set();
        server.answered.length = 0;
        server.start(what.workflow, ID, [what.input]);
        // Whoever is tired of trouble lets the last starts be.
        if (start < 3) this.#disturb(random.int(0, 4));
        this.#operate();
        const left = await server.run(() => !server.isOpen(ID) || server.timeline.now - began > LONGEST_MS);
        if (server.isOpen(ID)) {
          const state = JSON.stringify(server.memo(ID, 'acecoder') ?? {});
          return [`${what.workflow} ${left ? 'has no end' : 'hangs'}: open are ${server.open.join(', ')}; ${state}`];
        }
        const outcome = server.outcomes.get(ID)!;
        const wrong = this.#wrongEnd(outcome);
        if (wrong !== undefined) return [wrong];
        if (outcome.how !== 'completed') continue;
        // What is left ends by itself: zombies, and children that were terminated.
        await server.run(() => server.timeline.now - began > LONGEST_MS);
        violations.push(...this.#unexplained);
        const made = digestsOf(outcome.result);
        for (const [name, digest] of Object.entries(expected))
          if (made[name] !== digest) violations.push(`${name} differs from that of the undisturbed run`);
        if (what.workflow === 'reinforcement') violations.push(...(await this.#shorter()));
        break;
      }
      violations.push(...this.#wrongTraining(), ...this.#wrongHistory());
    } catch (error) {
      if (!(error instanceof ReplayDiffers || error instanceof TaskFailed)) throw error;
      violations.push(error.message);
    } finally {
      await server.close();
    }
    return violations;
  }

  /** After its end, the same stage with two rounds: what was pruned is made again. */
  async #shorter(): Promise<string[]> {
    const { server, what } = this;
    const { inputs, config } = what.input as { inputs: object; config: object };
    for (let start = 1; start < MOST_STARTS; start += 1) {
      server.start(what.workflow, ID, [{ inputs, config: { ...config, rounds: 2 } }]);
      await server.run();
      const outcome = server.outcomes.get(ID);
      if (!outcome) return [`${what.workflow} of two rounds hangs`];
      const wrong = this.#wrongEnd(outcome);
      if (wrong !== undefined) return [`${wrong}, with two rounds`];
      if (outcome.how !== 'completed') continue;
      const { key } = (outcome.result as { ref: { key: string } }).ref;
      return this.#activities.pruned.has(key) ? [`${what.workflow} of two rounds gives a policy that is pruned`] : [];
    }
    return [`${what.workflow} of two rounds has not completed after ${MOST_STARTS} starts`];
  }

  /** Does some things at moments of the seed. */
  #disturb(count: number): void {
    const { server, random, what } = this;
    for (let index = 0; index < count; index += 1) {
      const kind = random.pick(DISTURBANCES);
      const at = random.int(0, what.workflow === 'experiment' ? 90_000 : 30_000);
      const lasts = random.chance(0.5) ? random.int(0, 3) : random.int(0, 20_000);
      const own = new Random(random.int(0, 2 ** 31));
      if (this.without.has(kind)) continue;
      server.timeline.after(at, async () => {
        if (!server.isOpen(ID)) return;
        this.#asked.add(kind);
        server.count(kind);
        await this.#do(kind, lasts, own);
      });
    }
  }

  async #do(kind: Disturbance, lasts: number, random: Random): Promise<void> {
    const { server, what } = this;
    const ofExperiment = what.workflow === 'experiment';
    switch (kind) {
      case 'pause':
        server.signal(ID, MESSAGES.pause);
        server.timeline.after(lasts, () => void server.signal(ID, MESSAGES.resume));
        return;
      case 'retry':
        if (ofExperiment)
          server.update(ID, MESSAGES.retryStage, {
            stage: random.pick(STAGES),
            execution: { window: random.int(1, 3) },
          });
        return;
      case 'garbage':
        server.signal(ID, MESSAGES.stageProgress, random.pick(GARBAGE));
        return;
      case 'cancel':
        server.cancel(ID);
        return;
      case 'abandon':
        if (ofExperiment) server.update(ID, MESSAGES.abandon, { reason: 'the seed' });
        return;
      case 'terminate':
        await server.terminate(ID);
        return;
      case 'cancelStage':
        if (ofExperiment) server.cancel(`${ID}/${random.pick(STAGES)}`);
        return;
    }
  }

  /** An operator looks every minute, and runs parked stages again. */
  #operate(): void {
    const { server, what } = this;
    if (what.workflow !== 'experiment') return;
    const runs = server.isOpen(ID);
    if (!runs) return;
    server.timeline.after(60_000, () => {
      if (!server.isOpen(ID)) return;
      const { state, stages } = (server.memo(ID, 'acecoder') ?? {}) as Partial<ExperimentFigures>;
      const parked = Object.entries(stages ?? {}).find(([, how]) => how.startsWith('parked'));
      if (state === 'parked' && parked) {
        const [stage, why] = parked;
        if (!why.includes('from the seed') && !(why.includes('somebody cancelled') && this.#asked.has('cancelStage')))
          this.#unexplained.add(`${stage} is parked without a fault: ${why}`);
        this.#patience -= 1;
        if (this.#patience > 0) server.update(ID, MESSAGES.retryStage, { stage: parked[0] });
        else {
          this.#asked.add('abandon');
          server.update(ID, MESSAGES.abandon, { reason: 'tired' });
        }
      }
      this.#operate();
    });
  }

  /** Why a workflow must not have ended so. */
  #wrongEnd(outcome: Outcome): string | undefined {
    const { what } = this;
    switch (outcome.how) {
      case 'completed':
        return this.server.answered.includes(`${ID} ${MESSAGES.abandon}`)
          ? `${what.workflow} completes after it was abandoned`
          : undefined;
      case 'cancelled':
        return this.#asked.has('cancel') ? undefined : `${what.workflow} is cancelled, and nobody asked for it`;
      case 'terminated':
        return this.#asked.has('terminate') ? undefined : `${what.workflow} is terminated, and nobody asked for it`;
      case 'failed': {
        const text = JSON.stringify(outcome.failure);
        if (what.workflow === 'experiment') {
          // Before its first stage and after its last one there is nothing to park.
          const around = AROUND_STAGES.test(text) && text.includes('from the seed');
          return around || (this.#asked.has('abandon') && text.includes('Abandoned'))
            ? undefined
            : `experiment fails: ${text}`;
        }
        // A stage alone has nobody who parks it.
        return text.includes('from the seed') ? undefined : `${what.workflow} fails: ${text}`;
      }
    }
  }

  #wrongTraining(): string[] {
    const { trainedRounds, made } = this.#activities;
    const violations = trainedRounds.flatMap(({ round, trained, planned }) => {
      const wanted = planned.filter((id) => !isDropped(id)).sort();
      const twice = trained.length - new Set(trained).size;
      return [
        ...(twice > 0 ? [`round ${round} trains ${twice} rollouts twice`] : []),
        ...([...new Set(trained)].sort().join() === wanted.join()
          ? []
          : [`round ${round} trains other rollouts than its plan less the recorded drops`]),
      ];
    });
    const again = [...made].filter(([, times]) => times > 1);
    return [...new Set([...violations, ...again.map(([key, times]) => `${key} is made ${times} times`)])];
  }

  #wrongHistory(): string[] {
    return this.server.closed
      .filter(({ bytes }) => bytes > LARGEST_HISTORY_BYTES)
      .map(({ workflowId, bytes }) => `a history of ${workflowId} has ${bytes} bytes`);
  }
}

/** Each seed has some of the faults, each at a rate of its own. */
function faultsOf(random: Random): Faults {
  const some = (most: number): number => (random.chance(0.6) ? most * random.next() : 0);
  return {
    crash: some(0.15),
    lost: some(0.1),
    zombie: some(0.08),
    slow: some(0.1),
    retried: some(0.1),
    final: some(0.03),
    evict: some(0.08),
    late: some(0.2),
  };
}

/** What anybody may send as a stage's progress. */
const GARBAGE: readonly unknown[] = [
  null,
  'x',
  {},
  [1],
  { stage: 'nope' },
  { stage: 'synthesis' },
  { stage: '__proto__', progress: { done: 1, total: 2, unit: 'shards' } },
  { stage: 'constructor', progress: {} },
  { stage: 'reinforcement', progress: { done: 'x', total: null, unit: 7 } },
  { stage: 'reinforcement', progress: { done: 1, total: 3, unit: 'rounds' } },
  { stage: 'sampling', progress: { done: 1e308, total: -1, unit: 'x'.repeat(5000) } },
];

/** The replacements in the bundle that bugs need. */
export function replacementsOf(bugs: ReadonlySet<BugName>): Replacement[] {
  return [...bugs].flatMap((name) => {
    const bug: Bug = BUGS[name];
    return bug.replacement ?? [];
  });
}
