/** An experiment on a site, faults from a seed that come meanwhile, and what else goes on there. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ScheduleOverlapPolicy, type WorkflowHandle } from '@temporalio/client';
import { writeWhole } from '../../infra/setup/processes.mjs';
import { ArtifactRef, type ExperimentStatus, type StageName } from '../../workflows/contract/index.js';
import { fakeSeeds } from '../fixtures/fake-endpoint.js';
import { join } from 'node:path';
import { z } from 'zod';
import type { Random } from '../simulation/random.js';
import { FAULTS, type FaultDeck, type Fault, type FaultName } from './faults.js';
import type { Site } from './site.js';
import { isNewWork, lookAt, type Look } from './watch.js';

/** Pause between the work that follows a fault and the next fault. */
const BETWEEN_MS = [300, 3500] as const;
/** Longest wait for new work. A host that is busy with other things may take long; for ever is a violation. */
const NO_WORK_MS = 240_000;
const LONGEST_EXPERIMENT_MS = 1_800_000;
/** Longest wait for an activity that a fault may meet. Some faults come between two of them. */
const MEETING_MS = 3000;
/** A fault that finds nothing to be done to is tried so often. */
const TRIES = 40;
const POLL_MS = 200;

/** A fault as it was inflicted. */
interface Inflicted {
  number: number;
  /** Workflow id of the experiment. */
  id: string;
  fault: FaultName;
  /** When it began, in milliseconds since 1970. */
  at: number;
  /** What ran then: types of activities. */
  during: string[];
  /** Milliseconds from the fault, or its end, to new work; undefined where the experiment ended first, or none came. */
  newWorkMs?: number;
  /** Whether the experiment ended before. */
  ended?: true;
}

export interface FinishedExperiment {
  id: string;
  stages: Partial<Record<StageName, ArtifactRef>>;
  seconds: number;
  faults: number;
}

const Result = z.object({ stages: z.array(z.object({ name: z.string(), artifact: ArtifactRef })) });

export interface ExperimentRun {
  /** Undefined where it did not end well. */
  finished: FinishedExperiment | undefined;
  faults: Inflicted[];
  violations: string[];
}

export interface RunOptions {
  site: Site;
  /** Workflow id of the experiment. */
  id: string;
  /** Its input. */
  input: Record<string, unknown>;
  /** Where moments and lengths of faults come from. */
  random: Random;
  /** Which kind of fault is next. */
  deck: Pick<FaultDeck, 'next'>;
  /** How many faults there are, over all experiments; none for an undisturbed one. */
  budget: Budget | undefined;
  log: (line: string) => void;
}

/** Counts faults of several sites. */
export class Budget {
  taken = 0;

  readonly #until: number;

  /** @param minutes after which there is no further one. */
  constructor(
    readonly faults: number,
    minutes = Infinity,
  ) {
    this.#until = performance.now() + minutes * 60_000;
  }

  get isSpent(): boolean {
    return this.taken >= this.faults || performance.now() > this.#until;
  }

  /** The number of the next fault, from 1; undefined where there are enough. */
  take(): number | undefined {
    if (this.isSpent) return undefined;
    this.taken += 1;
    return this.taken;
  }
}

/** Runs an experiment to its end, with faults until there are enough of them. */
export async function runExperiment({
  site,
  id,
  input,
  random,
  deck,
  budget,
  log,
}: RunOptions): Promise<ExperimentRun> {
  const run: ExperimentRun = { finished: undefined, faults: [], violations: [] };
  const began = performance.now();
  const handle = await insist(() =>
    site.client.workflow.start('experiment', {
      taskQueue: site.queue,
      workflowId: id,
      args: [input],
      // A start whose answer was lost has started it.
      workflowIdConflictPolicy: 'USE_EXISTING',
    }),
  );
  const experiment = new Ending(handle, (violation) => run.violations.push(violation));
  const inflict = async (enough: Budget): Promise<void> => {
    // The start of the workers is none of what is measured.
    await lookForActivity(site, id, NO_WORK_MS);
    for (;;) {
      await sleep(random.int(...BETWEEN_MS));
      const number = experiment.ended ? undefined : enough.take();
      if (number === undefined) return;
      const fault = await inflictOne(site, { id, experiment, deck, random, number });
      run.faults.push(fault);
      const { newWorkMs, ended } = fault;
      const work =
        newWorkMs !== undefined
          ? `new work after ${(newWorkMs / 1000).toFixed(1)} s`
          : ended
            ? 'the experiment ended'
            : 'no new work';
      const during = fault.during.join(', ') || 'no activity';
      log(`fault ${number} of ${enough.faults}: ${fault.fault} in ${during} (${id}); ${work}`);
      if (newWorkMs === undefined && !ended)
        run.violations.push(`fault ${number} (${fault.fault}): no new work in ${NO_WORK_MS / 1000} s`);
    }
  };
  const [finished] = await Promise.all([experiment.wait(), budget && inflict(budget)]);
  const seconds = (performance.now() - began) / 1000;
  log(`experiment ${id} ended after ${seconds.toFixed(0)} s and ${run.faults.length} faults`);
  return { ...run, finished: finished && { id, ...finished, seconds, faults: run.faults.length } };
}

/** Waits for the end of an experiment, and continues it where it is parked, which counts as a violation. */
class Ending {
  ended = false;

  constructor(
    private readonly handle: WorkflowHandle,
    private readonly violate: (violation: string) => void,
  ) {}

  async wait(): Promise<Pick<FinishedExperiment, 'stages'> | undefined> {
    const { workflowId } = this.handle;
    const until = performance.now() + LONGEST_EXPERIMENT_MS;
    let parked = false;
    try {
      for (;;) {
        await sleep(500);
        // The server is away now and then.
        const described = await this.handle.describe().catch(() => undefined);
        if (performance.now() > until) {
          this.violate(`${workflowId} did not end in ${LONGEST_EXPERIMENT_MS / 60_000} minutes`);
          await insist(() => this.handle.terminate('it takes too long'));
          return undefined;
        }
        if (!described) continue;
        if (described.status.name === 'COMPLETED') break;
        if (described.status.name !== 'RUNNING') {
          const why = await this.handle.result().catch((error: unknown) => error);
          this.violate(`${workflowId} ended as ${described.status.name}: ${reasonOf(why)}`);
          return undefined;
        }
        const state = described.searchAttributes['AceCoderState']?.[0];
        if (state === 'parked' && !parked) parked = await this.#retry();
        else if (state !== 'parked') parked = false;
      }
    } finally {
      this.ended = true;
    }
    const result = Result.parse(await insist(() => this.handle.result()));
    const stages: FinishedExperiment['stages'] = {};
    for (const { name, artifact } of result.stages) stages[name as StageName] = artifact;
    return { stages };
  }

  /** Continues the stage that is parked. Whether it did. */
  async #retry(): Promise<boolean> {
    try {
      const { stages } = await this.handle.query<ExperimentStatus>('status');
      const stage = stages.find(({ state }) => state === 'parked');
      if (!stage) return false;
      const { type, message } = stage.failure ?? { type: 'no failure', message: '' };
      this.violate(`${this.handle.workflowId} parked in ${stage.name}: ${type}: ${message}`);
      await this.handle.executeUpdate('retryStage', { args: [{ stage: stage.name }] });
      return true;
    } catch {
      // No worker, or no server: the next look tries again.
      return false;
    }
  }
}

async function inflictOne(
  site: Site,
  {
    id,
    experiment,
    deck,
    random,
    number,
  }: { id: string; experiment: Ending; deck: Pick<FaultDeck, 'next'>; random: Random; number: number },
): Promise<Inflicted> {
  let fault = deck.next();
  for (let tries = 1; ; tries += 1) {
    const look = await lookForActivity(site, id, MEETING_MS);
    const at = Date.now();
    const { inflict, lasts }: Fault = FAULTS[fault];
    if (await inflict(site, random)) {
      const since = lasts ? Date.now() : at;
      const during = [...new Set([...(look?.running.values() ?? [])].map(({ type }) => type))];
      const newWorkAt = await newWork(site, id, experiment, since, lasts ? undefined : look);
      const inflicted = { number, id, fault, at, during };
      if (newWorkAt === 'ended') return { ...inflicted, ended: true };
      return newWorkAt === undefined ? inflicted : { ...inflicted, newWorkMs: Math.max(0, newWorkAt - since) };
    }
    // What it would be done to does not run, perhaps for long: another kind takes its place.
    if (tries % TRIES === 0) fault = deck.next();
    await sleep(POLL_MS);
  }
}

/** What runs, as soon as anything does. After some time, or where the server is away, what there is. */
async function lookForActivity(site: Site, id: string, milliseconds: number): Promise<Look | undefined> {
  const until = performance.now() + milliseconds;
  for (;;) {
    const look = await lookAt(site.client, id).catch(() => undefined);
    if (look?.ended || (look && look.running.size > 0) || performance.now() > until) return look;
    await sleep(POLL_MS);
  }
}

/** When new work was seen after a fault; undefined where none came. */
async function newWork(
  site: Site,
  id: string,
  experiment: Ending,
  since: number,
  before: Look | undefined,
): Promise<number | 'ended' | undefined> {
  const until = performance.now() + NO_WORK_MS;
  let first = before;
  while (performance.now() < until) {
    if (experiment.ended) return 'ended';
    try {
      const now = await lookAt(site.client, id);
      if (now.ended) return 'ended';
      first ??= now;
      if (isNewWork(first, now, since)) {
        // An activity's start has a time of its own, and the look comes later.
        const starts = [...now.running.values()].map(({ startedAt }) => startedAt).filter((at) => at > since);
        return starts.length > 0 ? Math.min(...starts) : Date.now();
      }
    } catch {
      // The server is away.
    }
    await sleep(POLL_MS);
  }
  return undefined;
}

/** Asks the server until it answers. */
async function insist<T>(ask: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await ask();
    } catch (error) {
      if (tries === 100) throw error;
      await sleep(500);
    }
  }
}

function reasonOf(error: unknown): string {
  const reasons: string[] = [];
  for (let each = error; each instanceof Error; each = each.cause) reasons.push(each.message);
  return reasons.join(': ') || String(error);
}

const EVERY_SEED_MS = 8000;
const MOST_SEEDS = 60;
const REFRESH_SECONDS = 30;
/** The least that is safe next to running work. */
const MINIMUM_AGE_HOURS = 12;

const Refreshed = z.object({ version: z.number(), total: z.number() });

/** A data set that a schedule refreshes while it grows, and garbage collection in a loop. */
export class Background {
  #seeds = 0;
  #running = true;
  readonly #loops: Promise<void>[];
  refreshes = 0;
  collections = 0;

  private constructor(
    private readonly site: Site,
    private readonly name: string,
    private readonly file: string,
  ) {
    this.#grow();
    this.#loops = [this.#growing(), this.#collecting()];
  }

  static async start(site: Site, name: string, home: string): Promise<Background> {
    const background = new Background(site, name, join(home, 'seeds-of-the-schedule.jsonl'));
    await site.client.schedule.create({
      scheduleId: name,
      spec: { intervals: [{ every: `${REFRESH_SECONDS}s` }] },
      policies: { overlap: ScheduleOverlapPolicy.SKIP },
      action: {
        type: 'startWorkflow',
        workflowType: 'datasetRefresh',
        workflowId: name,
        taskQueue: site.queue,
        workflowExecutionTimeout: '20m',
        args: [background.#input()],
      },
    });
    return background;
  }

  /** Ends both, and refreshes once more when nothing disturbs. @returns what does not hold. */
  async finish(): Promise<string[]> {
    const { client } = this.site;
    this.#running = false;
    await Promise.all(this.#loops);
    await insist(() => client.schedule.getHandle(this.name).delete());
    const ids: string[] = [];
    for await (const { workflowId } of client.workflow.list({ query: `TemporalScheduledById = '${this.name}'` }))
      ids.push(workflowId);
    this.refreshes = ids.length;
    const violations: string[] = [];
    for (const id of ids) {
      const handle = client.workflow.getHandle(id);
      await handle.result().catch((error: unknown) => violations.push(`${id}: ${reasonOf(error)}`));
    }
    const last = Refreshed.parse(
      await client.workflow.execute('datasetRefresh', {
        taskQueue: this.site.queue,
        workflowId: `${this.name}-last`,
        args: [this.#input()],
      }),
    );
    if (last.total !== this.#seeds)
      violations.push(`the data set has ${last.total} questions, of ${this.#seeds} seeds`);
    return violations;
  }

  #input(): object {
    return {
      name: this.name,
      seeds: { kind: 'seeds', path: this.file },
      synthesis: {
        teacher: { kind: 'openai', model: `refresh-${this.name}` },
        decontaminate: [],
        nearDuplicate: null,
        shardSize: 4,
        execution: endpointExecution(this.site),
      },
    };
  }

  #grow(): void {
    if (this.#seeds >= MOST_SEEDS) return;
    this.#seeds += 1;
    // A refresh may read it at any moment.
    writeWhole(this.file, fakeSeeds(this.#seeds, 'nightly'));
  }

  async #growing(): Promise<void> {
    while (this.#running) {
      await sleep(EVERY_SEED_MS);
      this.#grow();
    }
  }

  async #collecting(): Promise<void> {
    for (let number = 0; this.#running; number += 1) {
      await sleep(EVERY_SEED_MS);
      const id = `collection-${this.name}-${number}`;
      await insist(() =>
        this.site.client.workflow.execute('garbageCollection', {
          taskQueue: this.site.queue,
          workflowId: id,
          workflowIdConflictPolicy: 'USE_EXISTING',
          args: [{ minimumAgeHours: MINIMUM_AGE_HOURS, dryRun: false }],
        }),
      );
      this.collections += 1;
    }
  }
}

/** How a stage asks the endpoint of a site. */
export function endpointExecution({ endpoint }: Site): object {
  return {
    window: 2,
    endpoint: {
      baseUrl: endpoint.url,
      keyVariable: null,
      concurrency: 4,
      prices: { input: 0, output: 0 },
      timeoutSeconds: 20,
    },
  };
}
