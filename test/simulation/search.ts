/** Searches among seeds: many schedules, planted bugs, and what a violation needs. */
import { BUGS, type BugName } from './planted-bugs.js';
import {
  DISTURBANCES,
  replacementsOf,
  Simulator,
  type FaultName,
  type Schedule,
  type SimulatedWorkflow,
} from './schedules.js';
import { NO_FAULTS, type Faults } from './server.js';
import { bundledWorkflows, WorkflowCode } from './workflow-vm.js';

/** Work for one process. */
export type Task =
  | { kind: 'schedule'; seed: number; workflow?: SimulatedWorkflow | undefined; bug?: BugName | undefined }
  | { kind: 'find'; bug: BugName; seed: number; most: number };

export type Answer =
  | { kind: 'schedule'; schedule: Schedule; needs: FaultName[] }
  | { kind: 'find'; bug: BugName; schedules: number; found?: Schedule };

/** Does tasks in this process. The bundle is made once, and loaded once for each bug that changes it. */
export class Searcher {
  readonly #bundle = bundledWorkflows();
  #plain: Promise<WorkflowCode> | undefined;
  readonly #simulators = new Map<BugName | undefined, Promise<Simulator>>();

  async answer(task: Task): Promise<Answer> {
    const simulator = await this.#simulator(task.bug);
    if (task.kind === 'schedule') {
      const schedule = await simulator.schedule(task.seed, task.workflow);
      const needs = schedule.violations.length > 0 ? await this.#needs(simulator, schedule) : [];
      return { kind: 'schedule', schedule, needs };
    }
    const { bug, seed, most } = task;
    for (let index = 0; index < most; index += 1) {
      const schedule = await simulator.schedule(seed + index);
      if (schedule.violations.length > 0) return { kind: 'find', bug, schedules: index + 1, found: schedule };
    }
    return { kind: 'find', bug, schedules: most };
  }

  #simulator(bug: BugName | undefined): Promise<Simulator> {
    const known = this.#simulators.get(bug) ?? this.#made(bug);
    this.#simulators.set(bug, known);
    return known;
  }

  async #made(bug: BugName | undefined): Promise<Simulator> {
    const bundle = await this.#bundle;
    const plain = await (this.#plain ??= WorkflowCode.load(bundle));
    if (bug === undefined) return new Simulator(plain);
    const bugs = new Set([bug]);
    const replacements = replacementsOf(bugs);
    return new Simulator(plain, replacements.length > 0 ? await WorkflowCode.load(bundle, replacements) : plain, bugs);
  }

  /** The kinds of faults without which the seed has no violation: those that are left when others are taken away. */
  async #needs(simulator: Simulator, { seed, workflow }: Schedule): Promise<FaultName[]> {
    const without = new Set<FaultName>();
    const all = [...(Object.keys(NO_FAULTS) as (keyof Faults)[]), ...DISTURBANCES];
    for (const kind of all) {
      const { violations } = await simulator.schedule(seed, workflow, new Set([...without, kind]));
      if (violations.length > 0) without.add(kind);
    }
    return all.filter((kind) => !without.has(kind));
  }
}

export function isBug(name: string): name is BugName {
  return Object.hasOwn(BUGS, name);
}
