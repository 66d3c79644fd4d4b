/**
 * Schedules: a workflow from its start to its end, with faults and operators from a seed, held against the same
 * workflow without either.
 */
import { microExperiment } from '../fixtures/micro-experiment.js';
import {
  MESSAGES,
  queueName,
  STAGE,
  STAGES,
  type ExperimentFigures,
  type FailureType,
  type StageName,
  WORKFLOWS,
} from '../../workflows/contract/index.js';
import { isDropped, SimulatedActivities, STEPS_PER_CHECKPOINT } from './activities.js';
import { BUGS, type Bug, type BugName } from './planted-bugs.js';
import { namedRandom, Random } from './random.js';
import { NO_FAULTS, Server, type Faults, type Outcome } from './server.js';
import { LARGEST_HISTORY_BYTES } from './sizes.js';
import { ReplayDiffers, TaskFailed, type Replacement, type WorkflowCode } from './workflow-vm.js';

/** Virtual time after which a workflow that has not ended is taken to hang, in milliseconds. */
const LONGEST_MS = 60 * 24 * 3600 * 1000;
/** Starts that a workflow needs at most until it completes. */
const MOST_STARTS = 30;
/** Of them, those with final failures: at a rate of 0.03 an activity, each start of a long experiment may meet one. */
const STARTS_WITH_FAILURES = 20;
/** Times that an operator runs stages of one experiment again before it is abandoned. */
const PATIENCE = 40;
const ID = 'simulated';
/** Activities of an experiment itself. */
const AROUND_STAGES = /"activityType":{"name":"(inputs|models|artifacts|queues|experiment)\.\w+"/;

/** What operators and others do, and what stops work, in a schedule beside the faults of the server. */
const DISTURBANCES = [
  'pause',
  'retry',
  'garbage',
  'cancel',
  'abandon',
  'terminate',
  'cancelStage',
  'reset',
  'resetStage',
  'outage',
  'noWorkers',
] as const;
type Disturbance = (typeof DISTURBANCES)[number] | 'resetAfter' | 'tightBudget' | 'neighbour';

export type SimulatedWorkflow = (typeof WORKFLOWS)[number];
/** Workflows that are simulated: all. */
export const SIMULATED: readonly SimulatedWorkflow[] = WORKFLOWS;

/** What a schedule came to. */
export interface Schedule {
  seed: number;
  workflow: SimulatedWorkflow;
  /** What must not be. Empty: all is well. */
  violations: string[];
  /** Every fault and disturbance, by a name that repeats it. */
  faults: string[];
  /** Faults, disturbances and what came of them, by kind. */
  happened: Record<string, number>;
  workflowTasks: number;
  replays: number;
  runs: number;
  largestBytes: number;
}

export interface Case {
  workflow: SimulatedWorkflow;
  input: unknown;
  shards: number;
}

const SEEDS = { kind: 'seeds', path: '/data/seeds.jsonl' };
const QUESTIONS = { kind: 'filteredQuestions', path: '/data/questions.jsonl' };
const POLICY = { kind: 'folder', path: '/data/model' };
/** What replies may cost where nobody looks at the price. */
const AMPLE_USD = 1;
/** A teacher that costs money. Nothing is there: replies are modelled. */
const PAID = {
  teacher: { kind: 'openai', model: 'simulated' },
  endpoint: { baseUrl: 'http://127.0.0.1:9/v1', keyVariable: null, prices: { input: 1, output: 2 } },
};

/** The workflow and input of a seed. Few differ, so that their undisturbed runs are made once. */
export function caseOf(workflow: SimulatedWorkflow, variant: number): Case {
  const asynchronous = variant % 2 === 1 ? {} : null;
  const shards = 2 + (variant % 3);
  const rl = {
    rounds: 3 + (variant % 3),
    promptsPerRound: 4,
    samplesPerPrompt: 4,
    asynchronous,
    referenceRefresh: variant % 3 === 0 ? 2 : null,
    algorithm: { batchSize: 2, ...(variant === ADAPTERS ? { lora: {} } : {}) },
    ...(variant === CURRICULUM ? { curriculum: { redraw: {} } } : {}),
    ...(variant === REPAIR ? { repair: { turns: 3 } } : {}),
    execution: { keepRounds: 1 + (variant % 2), ...(variant === GANG ? { hosts: 2 } : { deviceClass: 'train' }) },
  };
  const experiment = microExperiment('simulated', SEEDS.path, POLICY.path) as {
    stages: Record<StageName, Record<string, unknown>>;
  };
  const { stages } = experiment;
  const onHosts = (config: Record<string, unknown>): typeof config => ({
    ...config,
    execution: { ...(config['execution'] as object | undefined), hosts: 2 },
  });
  if (variant === GANG) stages.rewardModel = onHosts(stages.rewardModel);
  const window = 1 + (variant % 4);
  const synthesis =
    variant % 2 === 1
      ? {
          ...stages.synthesis,
          teacher: PAID.teacher,
          execution: { window, endpoint: PAID.endpoint, budgetUsd: AMPLE_USD },
        }
      : stages.synthesis;
  const alone = (inputs: object, config: object): Case => ({
    workflow,
    shards: 9 + variant,
    input: { inputs, config },
  });
  const sampling = { samples: 4, execution: { window } };
  switch (workflow) {
    case 'synthesis':
      return alone({ seeds: SEEDS }, synthesis);
    case 'filtering':
      return alone({ questions: { kind: 'questions', path: '/data/all.jsonl' } }, { execution: { window } });
    case 'sampling':
      return alone({ questions: QUESTIONS, policy: POLICY }, sampling);
    case 'hardening':
      return alone(
        { questions: QUESTIONS, programs: { kind: 'programs', path: '/data/programs.jsonl' } },
        { execution: { window } },
      );
    case 'preferences':
      return alone({ programs: { kind: 'programs', path: '/data/programs.jsonl' } }, { execution: { window } });
    case 'rewardModel':
      return alone({ pairs: { kind: 'pairs', path: '/data/pairs.jsonl' }, backbone: POLICY }, stages.rewardModel);
    case 'rewardModelCard': {
      const { example } = STAGE.rewardModelCard;
      return alone({ ...example.inputs, questions: QUESTIONS }, { execution: { window } });
    }
    case 'fineTuning':
      return alone(
        { programs: { kind: 'programs', path: '/data/programs.jsonl' }, policy: POLICY },
        variant % 2 === 1 ? onHosts(stages.fineTuning) : stages.fineTuning,
      );
    case 'reinforcement':
      return alone({ questions: QUESTIONS, policy: POLICY }, { ...rl, rounds: rl.rounds + 2 });
    case 'evaluation':
      return alone(
        { policies: { base: POLICY }, questions: QUESTIONS },
        { ...stages.evaluation, execution: { window } },
      );
    case 'datasetRefresh':
      return {
        workflow,
        shards,
        input: { name: 'nightly', seeds: SEEDS, synthesis, filtering: { minimumTestCases: 5 } },
      };
    case 'datasetExport':
      return { workflow, shards, input: { format: 'aceCode87K', name: 'exported', inputs: { questions: QUESTIONS } } };
    case 'reverify':
      return {
        workflow,
        shards: 9 + variant,
        input: {
          inputs: {
            programs: { kind: 'programs', path: '/data/programs.jsonl' },
            questions: QUESTIONS,
            tests: { kind: 'tests', path: '/data/tests.jsonl' },
          },
          execution: { window },
        },
      };
    case 'compare':
      return { workflow, shards, input: { of: ['my-run', 'other-run'] } };
    case 'garbageCollection':
      return { workflow, shards, input: { minimumAgeHours: 24, dryRun: false } };
    case 'sweep': {
      const rounds = { ...rl, rounds: 2, execution: { ...rl.execution, keepRounds: null } };
      return {
        workflow,
        shards,
        input: {
          name: CELL,
          base: { ...experiment, stages: { ...stages, reinforcement: { ...stages.reinforcement, ...rounds } } },
          grid: {
            ...(variant % 2 === 0
              ? { 'stages.reinforcement.reward.rewardModelWeight': [0.2, 0.5] }
              : { 'stages.preferences.maximumPerQuestion': [4, 8] }),
            'stages.evaluation.samples': [4, 5],
          },
          atOnce: 1 + (variant % 3),
        },
      };
    }
    case 'preview':
    case 'experiment':
      return {
        workflow,
        shards,
        input: {
          ...experiment,
          onFailure: 'park',
          stages: {
            ...stages,
            synthesis,
            ...(variant === CURRICULUM ? { rewardModelCard: { execution: { window } } } : {}),
            reinforcement: {
              ...stages.reinforcement,
              ...rl,
              ...(variant === CURRICULUM ? { rewardModelGate: {} } : {}),
            },
          },
        },
      };
  }
}
const VARIANTS = 6;
/**
 * The variants whose reward model and policy are trained on two hosts, that choose their questions, behind a gate in experiments,
 * that train adapters, and that mend programs which failed.
 */
const [GANG, CURRICULUM, ADAPTERS, REPAIR] = [1, 2, 4, 5];
/** What the names of a sweep's cells begin with, and how many there are. */
const [CELL, CELLS] = ['cell', 4];
export const CELL_NAMES: readonly string[] = Array.from({ length: CELLS }, (_, at) => `${CELL}-${at + 1}`);
/** Workflows that run beside an experiment, on the same store and the same devices. */
const NEIGHBOURS = ['garbageCollection', 'preview', 'datasetRefresh', 'datasetExport'] as const;
/** Attempts that the workers of each queue take at once. */
const SLOTS: Readonly<Record<string, number>> = {
  [queueName('gpu', 'acecoder')]: 2,
  [queueName('gpu', 'acecoder', 'train')]: 1,
  [queueName('llm', 'acecoder')]: 3,
  [queueName('sandbox', 'acecoder')]: 2,
};
/** Work that a pause holds back. */
const HELD_BY_PAUSE =
  /\.(train|update|rollouts)$|^(synthesis|filtering|sampling|preferences|evaluation)\.(?!plan|seal)/;
/** About how long those take that take long, in milliseconds. */
const LASTS_MS: Partial<Record<SimulatedWorkflow, number>> = { experiment: 90_000, sweep: 200_000 };
/** Time after which a pause has reached every stage, and the shortest pause that is looked at, in milliseconds. */
const PAUSE_SETTLES_MS = 120_000;

/** The cells of a sweep's result; none of another one. */
function cellsIn(result: unknown): { name: string; failure?: string; report?: { digest: string } }[] {
  const { rows } = result as { rows?: unknown };
  return Array.isArray(rows) ? (rows as ReturnType<typeof cellsIn>) : [];
}

/** Digests of what a workflow made, by stage, or of a sweep the reports of its cells. */
function digestsOf(result: unknown): Record<string, string> {
  const { stages, ...made } = result as {
    stages?: { name: string; artifact: { digest: string } }[];
  } & Partial<Record<'ref' | 'dataset' | 'export' | 'page' | 'table', { digest: string }>>;
  const cells = cellsIn(result);
  if (cells.length > 0) return Object.fromEntries(cells.map(({ name, report }) => [name, report?.digest ?? '']));
  const digest = (made.ref ?? made.dataset ?? made.export ?? made.page ?? made.table)?.digest ?? '';
  return stages ? Object.fromEntries(stages.map(({ name, artifact }) => [name, artifact.digest])) : { result: digest };
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

  /**
   * @param workflow absent: a whole experiment, with others beside it
   * @param only the faults that happen, by name; absent: the seed decides
   */
  async schedule(seed: number, workflow?: SimulatedWorkflow, only?: ReadonlySet<string>): Promise<Schedule> {
    const chosen = workflow ?? 'experiment';
    const variant = new Random(seed, 3).int(0, VARIANTS - 1);
    const what = caseOf(chosen, variant);
    const expected = await this.#expected(what, variant);
    const run = new ScheduleRun(this.changed, what, variant, seed, this.bugs, only);
    const violations = await run.play(expected);
    const { server } = run;
    return {
      seed,
      workflow: chosen,
      violations,
      faults: server.occurred,
      happened: Object.fromEntries(server.happened),
      workflowTasks: server.workflowTasks,
      replays: server.replays,
      runs: server.closed.length,
      largestBytes: Math.max(0, ...server.closed.map(({ bytes }) => bytes)),
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
    server.finds = (attempt) => activities.finds(attempt);
    server.tells = (attempt) => activities.told(attempt);
    server.start(workflow, ID, [input]);
    await server.run();
    const outcome = server.outcomes.get(ID);
    if (outcome?.how !== 'completed')
      throw new Error(`The undisturbed ${workflow} ends otherwise: ${JSON.stringify(outcome)}`);
    // A stage that cells share is made by one of them, and the others take it over or find it.
    const twice = [...activities.begun.values()].find((workflows) => workflows.size > 1);
    if (twice) throw new Error(`The undisturbed ${workflow} makes a stage more than once: ${[...twice].join(', ')}`);
    return digestsOf(outcome.result);
  }
}

class ScheduleRun {
  readonly server: Server;
  private readonly random: Random;
  readonly #activities: SimulatedActivities;
  #asked: Set<Disturbance> = new Set();
  /** Of all starts. A reset may go back to a run of an earlier start. */
  readonly #everAsked = new Set<Disturbance>();
  readonly #violations = new Set<string>();
  #patience = PATIENCE;
  #starts = 0;
  readonly #faults: Faults;
  /** Since when the experiment is paused, where nothing has disturbed the pause. In milliseconds since 1970. */
  #pausedAt: number | undefined;
  /** Workflows that have taken a pause. */
  readonly #pausedStages = new Set<string>();
  #children = 0;
  #works = 0;
  #pauses = 0;
  #resumptions = 0;
  /** The largest budget that anybody has given, in US dollars. */
  #budgetUsd = AMPLE_USD;
  #input: unknown;

  constructor(
    code: WorkflowCode,
    private readonly what: Case,
    private readonly variant: number,
    private readonly seed: number,
    bugs: ReadonlySet<BugName>,
    private readonly only: ReadonlySet<string> | undefined,
  ) {
    this.#activities = new SimulatedActivities(() => what.shards, bugs);
    this.random = new Random(seed, 4);
    this.#faults = faultsOf(this.random);
    const historyScale = this.random.pick([1, 15, 60]);
    this.server = new Server(code, seed, (attempt) => this.#activities.run(attempt), this.#faults, {
      historyScale,
      slots: SLOTS,
      only,
    });
    this.server.finds = (attempt) => this.#activities.finds(attempt);
    this.server.tells = (attempt) => this.#activities.told(attempt);
    this.server.onScheduled = (workflowId, activity) => this.#scheduled(workflowId, activity);
    this.server.onChild = (workflowId) => this.#childAsked(workflowId);
    this.server.onBegin = (workflowId) => void this.#pausedStages.delete(workflowId);
    this.server.onSignals = (workflowId, names, when) => {
      // What one task both resumes and asks for is right; of one that pauses, only later tasks are held back.
      const last = names.findLast((name) => name === MESSAGES.pause || name === MESSAGES.resume);
      if (when === 'before' && names.includes(MESSAGES.resume)) this.#pausedStages.delete(workflowId);
      if (when === 'after' && last === MESSAGES.pause) this.#pausedStages.add(workflowId);
    };
    this.#activities.isServed = (queue) => this.server.isServed(queue);
    this.#activities.now = () => this.server.timeline.now;
    this.#activities.isOpen = (workflowId) => this.server.isOpen(workflowId);
    this.#input = what.input;
  }

  /** Plays until the workflow completes; gives what must not be. */
  async play(expected: Record<string, string>): Promise<string[]> {
    try {
      await this.#play(expected);
    } catch (error) {
      if (!(error instanceof ReplayDiffers || error instanceof TaskFailed)) throw error;
      this.#violations.add(error.message);
    } finally {
      await this.server.close();
    }
    return [...this.#violations];
  }

  async #play(expected: Record<string, string>): Promise<void> {
    const { server, what } = this;
    const began = server.timeline.now;
    const tooLate = (): boolean => server.timeline.now - began > LONGEST_MS;
    this.#tightenBudget();
    this.#startNeighbours();
    for (let again = false; ;) {
      if (this.#starts >= MOST_STARTS) {
        this.#violations.add(`${what.workflow} has not completed after ${MOST_STARTS} starts`);
        return;
      }
      this.#starts += 1;
      if (this.#starts > STARTS_WITH_FAILURES) this.#faults.final = 0;
      this.#pausedAt = undefined;
      server.answered.length = 0;
      // What a reset starts has gone through what was asked of the run before.
      if (!again) this.#asked = new Set();
      if (!again) server.start(what.workflow, ID, [this.#input]);
      // Whoever is tired of trouble lets the last starts be.
      if (this.#starts < 3) this.#disturb();
      this.#operate(this.#starts);
      const left = await server.run(() => !server.isOpen(ID) || tooLate());
      if (server.isOpen(ID)) {
        const state = JSON.stringify(server.memo(ID, 'acecoder') ?? {});
        const how = left ? 'has no end' : 'hangs';
        this.#violations.add(`${what.workflow} ${how}: open are ${server.open.join(', ')}; ${state}`);
        return;
      }
      const outcome = server.outcomes.get(ID)!;
      const wrong = this.#wrongEnd(outcome);
      if (wrong !== undefined) this.#violations.add(wrong);
      if (this.#violations.size > 0) return;
      const isWhole = outcome.how === 'completed' && this.#failedCells(outcome.result).length === 0;
      if (isWhole) this.#compare(outcome.result, expected);
      again = this.#starts < 4 && (await this.#resetAfter());
      if (again || !isWhole) continue;
      break;
    }
    // What is left ends by itself: zombies, neighbours, and children that were terminated.
    await server.run(tooLate);
    // A stage that a reset left behind in a pause takes no device, and ends when somebody cancels or resumes it.
    const waits = (id: string): boolean => server.isLeftBehind(id) && this.#pausedStages.has(id);
    for (const id of server.open) if (!waits(id)) this.#violations.add(`${id} never ends`);
    for (const [queue, slots] of Object.entries(SLOTS))
      if (server.taken(queue, slots) !== 0) this.#violations.add(`a slot of ${queue} is never given back`);
    this.#wrongNeighbours();
    if (what.workflow === 'reinforcement') await this.#shorter();
    this.#wrongWork();
  }

  #compare(result: unknown, expected: Record<string, string>): void {
    const made = digestsOf(result);
    for (const [name, digest] of Object.entries(expected))
      if (made[name] !== digest) this.#violations.add(`${name} differs from that of the undisturbed run`);
  }

  /** Why cells of a sweep have failed, which the next start of the sweep runs again. */
  #failedCells(result: unknown): string[] {
    const failed = cellsIn(result).flatMap(({ name, failure }) =>
      failure === undefined ? [] : [`${name}: ${failure}`],
    );
    for (const why of failed)
      if (!why.includes('from the seed') && !(/cancel/i.test(why) && this.#interfered()))
        this.#violations.add(`a cell fails without a fault: ${why}`);
    return failed;
  }

  /** Whether something happens, and what decides how. */
  #happens(kind: Disturbance, name: string, chance: number): Random | undefined {
    const fault = `${kind}:${name}`;
    const random = namedRandom(this.seed, fault);
    const drawn = random.chance(chance);
    if (!(this.only ? this.only.has(fault) : drawn)) return undefined;
    this.server.occurred.push(fault);
    return random;
  }

  /** Lets the replies of an experiment cost more than it may spend at first. */
  #tightenBudget(): void {
    const { what } = this;
    if (what.workflow !== 'experiment' || this.variant % 2 === 0) return;
    const random = this.#happens('tightBudget', ID, 0.4);
    if (!random) return;
    this.#budgetUsd = random.int(4, 30) / 1000;
    const { stages, ...rest } = structuredClone(what.input) as { stages: { synthesis: { execution: object } } };
    Object.assign(stages.synthesis.execution, { budgetUsd: this.#budgetUsd });
    this.#input = { ...rest, stages };
    this.server.count('tightBudget');
  }

  #startNeighbours(): void {
    const { server, what } = this;
    if (what.workflow !== 'experiment') return;
    for (let index = 0; index < 3; index += 1) {
      const random = this.#happens('neighbour', String(index), 0.4);
      if (!random) continue;
      const kind = random.pick(NEIGHBOURS);
      server.count(kind);
      const input = this.#inputOf(kind);
      const begin = (): void => {
        if (!server.isOpen(`${kind}-${index}`)) server.start(kind, `${kind}-${index}`, [input]);
      };
      const at = random.int(0, 60_000);
      server.timeline.after(at, begin);
      // As a schedule does it: the seeds are the same, or others.
      if (kind === 'datasetRefresh' || kind === 'garbageCollection')
        server.timeline.after(at + random.int(60_000, 600_000), begin);
    }
  }

  /** What a neighbour is given, with the budget of the experiment. */
  #inputOf(kind: (typeof NEIGHBOURS)[number]): unknown {
    if (kind === 'preview') return this.#input;
    const { input } = structuredClone(caseOf(kind, this.variant)) as { input: { synthesis?: { execution?: object } } };
    const execution = input.synthesis?.execution;
    if (execution) Object.assign(execution, { budgetUsd: this.#budgetUsd });
    return input;
  }

  /** After its end, the same stage with two rounds: what was pruned is made again. */
  async #shorter(): Promise<void> {
    const { server, what } = this;
    const { inputs, config } = what.input as { inputs: object; config: object };
    for (let start = 1; start < MOST_STARTS; start += 1) {
      server.start(what.workflow, ID, [{ inputs, config: { ...config, rounds: 2 } }]);
      await server.run();
      const outcome = server.outcomes.get(ID);
      if (!outcome) return void this.#violations.add(`${what.workflow} of two rounds hangs`);
      const wrong = this.#wrongEnd(outcome);
      if (wrong !== undefined) return void this.#violations.add(`${wrong}, with two rounds`);
      if (outcome.how !== 'completed') continue;
      const { key } = (outcome.result as { ref: { key: string } }).ref;
      if (this.#activities.pruned.has(key))
        this.#violations.add(`${what.workflow} of two rounds gives a policy that is pruned`);
      return;
    }
    this.#violations.add(`${what.workflow} of two rounds has not completed after ${MOST_STARTS} starts`);
  }

  /** Does some things at moments of the seed. */
  #disturb(): void {
    const { server, what } = this;
    const start = this.#starts;
    for (let index = 0; index < 5; index += 1) {
      for (const kind of DISTURBANCES) {
        const random = this.#happens(kind, `${start}.${index}`, kind === 'pause' ? 0.1 : 0.035);
        if (!random) continue;
        const at = random.int(0, LASTS_MS[what.workflow] ?? 30_000);
        server.timeline.after(at, async () => {
          if (!server.isOpen(ID) || this.#starts !== start) return;
          this.#asked.add(kind);
          this.#everAsked.add(kind);
          server.count(kind);
          await this.#do(kind, random);
        });
      }
    }
  }

  async #do(kind: (typeof DISTURBANCES)[number], random: Random): Promise<void> {
    const { server, what } = this;
    const ofExperiment = what.workflow === 'experiment';
    const lasts = random.chance(0.4) ? random.int(0, 3) : random.chance(0.6) ? random.int(0, 20_000) : 600_000;
    const stage = `${ID}/${random.pick(STAGES)}`;
    if (kind !== 'pause' && kind !== 'outage' && kind !== 'noWorkers') this.#pausedAt = undefined;
    switch (kind) {
      case 'pause':
        return this.#pause(lasts);
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
        if (ofExperiment) server.cancel(stage);
        if (what.workflow === 'sweep') server.cancel(`${ID}/${CELL}-${random.int(1, CELLS)}`);
        return;
      case 'reset':
        return this.#reset(ID, random);
      case 'resetStage':
        if (ofExperiment && server.isOpen(stage)) await this.#reset(stage, random);
        return;
      case 'outage':
        return this.#stop(random.pick(OUTAGES), random.int(1000, 300_000));
      case 'noWorkers':
        return this.#stopWorkers(random.pick(server.queues), random.int(1000, 1_200_000));
    }
  }

  #pause(lasts: number): void {
    const { server } = this;
    const { now } = server.timeline;
    server.signal(ID, MESSAGES.pause);
    // Other workflows take no pause.
    if (this.what.workflow === 'experiment' || Object.hasOwn(STAGE, this.what.workflow)) this.#pausedAt = now;
    this.#pauses += 1;
    server.timeline.after(lasts, () => {
      // A longer pause may have begun since. Whoever resumes ends it too.
      this.#pausedAt = undefined;
      server.signal(ID, MESSAGES.resume);
      this.#goesOn();
    });
  }

  /**
   * Some time after a resumption, no stage is paused: whoever lost the message would wait for ten minutes. One that a
   * reset left behind is nobody's: it stays as it was until the experiment turns to it.
   */
  #goesOn(): void {
    const { server } = this;
    const start = this.#starts;
    this.#resumptions += 1;
    const mine = this.#resumptions;
    server.timeline.after(PAUSE_SETTLES_MS, () => {
      if (this.#pausedAt !== undefined || mine !== this.#resumptions || mine !== this.#pauses || start !== this.#starts)
        return;
      for (const id of this.#pausedStages)
        if (id !== ID && server.isOpen(id) && !server.isLeftBehind(id))
          this.#violations.add(`${id} stays paused after it was resumed`);
    });
  }

  /** An activity was asked for: a pause that has reached everybody holds it back. */
  #scheduled(workflowId: string, activity: string): void {
    if (!HELD_BY_PAUSE.test(activity) || (workflowId !== ID && !workflowId.startsWith(`${ID}/`))) return;
    this.#pauseAtWork();
    // A stage that a reset left behind goes on until the experiment turns to it: no pause reaches it.
    const told = !this.server.isLeftBehind(workflowId);
    const since = (told ? this.#pausedAt : undefined) ?? Number.POSITIVE_INFINITY;
    if (this.#pausedStages.has(workflowId) || this.server.timeline.now - since > PAUSE_SETTLES_MS)
      this.#violations.add(`${workflowId} asks for ${activity} while it is paused`);
  }

  /** A stage is about to start: a pause then comes before anybody can take it. */
  #childAsked(workflowId: string): void {
    if (this.what.workflow !== 'experiment' || !workflowId.startsWith(`${ID}/`)) return;
    this.#children += 1;
    const random = this.#happens('pause', `child ${this.#children}`, 0.02);
    if (!random) return;
    this.server.count('pause');
    this.#pause(random.pick([10_000, 600_000]));
  }

  /** Work is about to begin: a pause then finds some done and some not. */
  #pauseAtWork(): void {
    this.#works += 1;
    // A stage alone has little work.
    const chance = this.what.workflow === 'experiment' ? 0.004 : 0.05;
    const random = this.#happens('pause', `work ${this.#works}`, chance);
    if (!random) return;
    this.server.count('pause');
    // One that is over at once, too.
    this.#pause(random.pick([2, 10_000, 600_000]));
  }

  async #reset(workflowId: string, random: Random): Promise<void> {
    const { server } = this;
    // A preview or refresh that was terminated is not reset but started again: nothing tells it that its stage has
    // gone.
    const { workflow } = this.what;
    const steered = workflow === 'experiment' || Object.hasOwn(STAGE, workflow);
    if (!steered && this.#everAsked.has('terminate')) return;
    const tasks = server.tasksOf(workflowId);
    const newest = tasks.length - 1;
    const run = random.chance(0.7) ? newest : random.int(Math.max(0, newest - 3), newest);
    const most = (tasks[run] ?? 0) - 1;
    if (most < 1) return;
    const share = random.next();
    // Whoever resets an abandoned run leaves out its updates, or they would end it again.
    const updates = !server.answered.includes(`${ID} ${MESSAGES.abandon}`);
    if (!updates) server.answered.length = 0;
    await this.#resetTo(workflowId, run, 1 + Math.floor(share * most), updates);
  }

  async #resetTo(workflowId: string, run: number, task: number, updates: boolean): Promise<void> {
    const { server } = this;
    if (await server.reset(workflowId, run, task, { updates })) {
      server.count('reset done');
      for (const kind of this.#everAsked) this.#asked.add(kind);
    }
    // A workflow task that runs has to end first.
    else if (server.isOpen(workflowId)) server.timeline.after(100, () => this.#resetTo(workflowId, run, task, updates));
  }

  /** Resets a run that has ended. @returns whether it runs again. */
  async #resetAfter(): Promise<boolean> {
    const random = this.#happens('resetAfter', String(this.#starts), 0.15);
    if (!random) return false;
    this.server.count('resetAfter');
    this.#asked.add('resetAfter');
    await this.#reset(ID, random);
    return this.server.isOpen(ID);
  }

  /** Something is away for a while. */
  #stop(what: FailureType, lasts: number): void {
    this.#activities.outage = what;
    this.server.timeline.after(lasts, () => {
      this.#activities.outage = undefined;
    });
  }

  #stopWorkers(queue: string, lasts: number): void {
    this.server.serve(queue, false);
    this.server.timeline.after(lasts, () => this.server.serve(queue, true));
  }

  /**
   * An operator looks every minute, and runs parked stages again. A reset may go back to a run that was paused and whose
   * end of the pause went to another one: then the operator resumes it.
   */
  #operate(start: number): void {
    const { server, what } = this;
    if (what.workflow !== 'experiment' || !server.isOpen(ID)) return;
    server.timeline.after(60_000, () => {
      if (!server.isOpen(ID) || this.#starts !== start) return;
      const { state, stages } = (server.memo(ID, 'acecoder') ?? {}) as Partial<ExperimentFigures>;
      const parked = Object.entries(stages ?? {}).find(([, how]) => how.startsWith('parked'));
      if (state === 'parked' && parked) this.#runAgain(...parked);
      const isReset = (['reset', 'resetAfter'] as const).some((kind) => this.#asked.has(kind));
      if (state === 'paused' && isReset && this.#pauses === this.#resumptions) server.signal(ID, MESSAGES.resume);
      this.#operate(start);
    });
  }

  #runAgain(stage: string, why: string): void {
    const { server } = this;
    const poor = why.includes('BudgetExceeded');
    const cancelled = why.includes('somebody cancelled') && this.#interfered();
    if (!why.includes('from the seed') && !cancelled && !(poor && this.#budgetUsd < AMPLE_USD))
      this.#violations.add(`${stage} is parked without a fault: ${why}`);
    this.#patience -= 1;
    if (this.#patience <= 0) {
      this.#asked.add('abandon');
      server.update(ID, MESSAGES.abandon, { reason: 'tired' });
      return;
    }
    if (poor) this.#budgetUsd *= 1.25;
    server.update(ID, MESSAGES.retryStage, {
      stage,
      ...(poor ? { execution: { budgetUsd: this.#budgetUsd } } : {}),
    });
  }

  /** Whether anybody may have cancelled a stage: an operator, or a run that a reset made. */
  #interfered(): boolean {
    return (['cancelStage', 'reset', 'resetStage', 'resetAfter'] as const).some((kind) => this.#asked.has(kind));
  }

  /** Why a workflow must not have ended so. */
  #wrongEnd(outcome: Outcome): string | undefined {
    const { workflow } = this.what;
    switch (outcome.how) {
      case 'completed':
        return this.server.answered.includes(`${ID} ${MESSAGES.abandon}`)
          ? `${workflow} completes after it was abandoned`
          : undefined;
      case 'cancelled':
        return this.#asked.has('cancel') ? undefined : `${workflow} is cancelled, and nobody asked for it`;
      case 'terminated':
        return this.#asked.has('terminate') ? undefined : `${workflow} is terminated, and nobody asked for it`;
      case 'failed': {
        const text = JSON.stringify(outcome.failure);
        if (workflow === 'experiment') {
          // Before its first stage and after its last one there is nothing to park.
          const around = AROUND_STAGES.test(text) && text.includes('from the seed');
          return around || (this.#asked.has('abandon') && text.includes('Abandoned'))
            ? undefined
            : `experiment fails: ${text}`;
        }
        // A run that a reset made learns how the stage of the run before ended, which an earlier reset may have
        // cancelled.
        if (!Object.hasOwn(STAGE, workflow) && text.includes('canceledFailureInfo') && this.#interfered()) return;
        // A stage alone has nobody who parks it.
        return text.includes('from the seed') ? undefined : `${workflow} fails: ${text}`;
      }
    }
  }

  /** What ran beside an experiment ends well, or by a fault. */
  #wrongNeighbours(): void {
    for (const [id, outcome] of this.server.outcomes) {
      if (!NEIGHBOURS.some((name) => id.startsWith(`${name}-`)) || id.includes('/')) continue;
      const text = JSON.stringify(outcome);
      const explained = text.includes('from the seed') || (this.#budgetUsd < AMPLE_USD && text.includes('Budget'));
      const raced = text.includes('another refresh of');
      if (outcome.how !== 'completed' && !explained && !raced) this.#violations.add(`${id} ends so: ${text}`);
    }
    for (const [name, versions] of this.#activities.versions)
      if (versions.some(({ version }, index) => version !== index + 1))
        this.#violations.add(`versions of ${name} are ${versions.map(({ version }) => version).join(', ')}`);
  }

  #wrongWork(): void {
    const { trainedRounds, sampledFromNothing, made, madeTogether, efforts, endpoint } = this.#activities;
    const add = (text: string): void => void this.#violations.add(text);
    for (const workflowId of this.server.trainedAtOnce) add(`two gangs of ${workflowId} train at once`);
    for (const { round, trained, planned } of trainedRounds) {
      const name = round === 0 ? 'a training' : `round ${round}`;
      const wanted = planned.filter((id) => round === 0 || !isDropped(id)).sort();
      const twice = trained.length - new Set(trained).size;
      if (twice > 0) add(`${name} trains ${twice} rows twice`);
      if ([...new Set(trained)].sort().join() !== wanted.join())
        add(`${name} trains other rows than its plan less the recorded drops`);
    }
    for (const key of sampledFromNothing) add(`${key} is sampled from a policy that is not stored`);
    for (const [key, times] of made) if (times > 1) add(`${key} is made ${times} times`);
    // Cells of the run before a reset go on.
    if (this.what.workflow === 'sweep' && !this.server.happened.has('reset done'))
      for (const what of madeTogether) add(`two cells make at once ${what}`);
    for (const [key, { applied, needed, died }] of efforts)
      if (applied > needed + died * STEPS_PER_CHECKPOINT)
        add(`${key} takes ${applied} optimizer steps for ${needed}, and ${died} of its attempts died`);
    for (const reply of endpoint.askedAgain) add(`the reply ${reply} had arrived and is asked for again`);
    const { happened } = this.server;
    // What goes on after it was given up spends what its successor counts on.
    if (!['zombie', 'terminate', 'reset done'].some((kind) => happened.has(kind)))
      for (const [stage, usd] of endpoint.paidUsd)
        if (usd > Math.max(this.#budgetUsd, 0) + 1e-6) add(`${stage} pays ${usd} of ${this.#budgetUsd} US dollars`);
    for (const { workflowId, bytes } of this.server.closed)
      if (bytes > LARGEST_HISTORY_BYTES) add(`a history of ${workflowId} has ${bytes} bytes`);
  }
}

/** What may be away for a while. */
const OUTAGES = ['StoreUnavailable', 'DiskFull', 'RuntimeLost', 'SandboxUnavailable', 'Stalled'] as const;

/** Each seed has some of the faults, each at a rate of its own. */
function faultsOf(random: Random): Faults {
  const some = (most: number): number => (random.chance(0.6) ? most * random.next() : 0);
  return {
    // Enough for some faults in every schedule.
    crash: 0.02 + some(0.15),
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
export const GARBAGE: readonly unknown[] = [
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
