/** Searches among seeds: many schedules, planted bugs, and what a violation needs. */
import { BUGS, type Bug, type BugName } from './planted-bugs.js';
import { replacementsOf, Simulator, type Schedule, type SimulatedWorkflow } from './schedules.js';
import { bundledWorkflows, WorkflowCode } from './workflow-vm.js';

/** Work for one process. */
export type Task =
  | {
      kind: 'schedule';
      seed: number;
      workflow?: SimulatedWorkflow | undefined;
      bug?: BugName | undefined;
      /** The faults that happen; absent: the seed decides. */
      only?: string[] | undefined;
    }
  | { kind: 'find'; bug: BugName; seed: number; most: number };

export type Answer =
  | { kind: 'schedule'; schedule: Schedule; needs: string[] }
  | { kind: 'find'; bug: BugName; schedules: number; found?: Schedule };

/** Does tasks in this process. The bundle is made once, and loaded once for each bug that changes it. */
export class Searcher {
  readonly #bundle = bundledWorkflows();
  #plain: Promise<WorkflowCode> | undefined;
  readonly #simulators = new Map<BugName | undefined, Promise<Simulator>>();

  async answer(task: Task): Promise<Answer> {
    const simulator = await this.simulatorFor(task.bug);
    if (task.kind === 'schedule') {
      const schedule = await simulator.schedule(task.seed, task.workflow, task.only && new Set(task.only));
      const needs = schedule.violations.length > 0 ? await shrunk(simulator, schedule) : [];
      return { kind: 'schedule', schedule, needs };
    }
    const { bug, seed, most } = task;
    const { workflow }: Bug = BUGS[bug];
    for (let index = 0; index < most; index += 1) {
      const schedule = await simulator.schedule(seed + index, workflow);
      if (schedule.violations.length > 0) return { kind: 'find', bug, schedules: index + 1, found: schedule };
    }
    return { kind: 'find', bug, schedules: most };
  }

  /** The simulator that has a bug planted, or none. */
  simulatorFor(bug: BugName | undefined): Promise<Simulator> {
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
}

/** Schedules that shrinking one violation may take. */
const MOST_TRIES = 250;

/**
 * The fewest faults with which a seed still has a violation: all of a kind are taken away first, then halves, quarters
 * and so on of what is left, down to single ones.
 */
export async function shrunk(
  simulator: Pick<Simulator, 'schedule'>,
  { seed, workflow, faults }: Pick<Schedule, 'seed' | 'workflow' | 'faults'>,
): Promise<string[]> {
  let tries = 0;
  const stillWrong = async (some: readonly string[]): Promise<boolean> => {
    tries += 1;
    return (await simulator.schedule(seed, workflow, new Set(some))).violations.length > 0;
  };
  let left = [...new Set(faults)];
  if (await stillWrong([])) return [];
  for (const kind of new Set(left.map(kindOf))) {
    const others = left.filter((fault) => kindOf(fault) !== kind);
    if (others.length < left.length && (await stillWrong(others))) left = others;
  }
  for (const fault of left) if (tries < MOST_TRIES && (await stillWrong([fault]))) return [fault];
  for (let parts = 2; left.length > 1 && tries < MOST_TRIES;) {
    const size = Math.ceil(left.length / parts);
    const places = Array.from({ length: Math.ceil(left.length / size) }, (_, index) => index * size);
    const smaller = await firstOf(
      [
        ...places.map((at) => ({ some: left.slice(at, at + size), parts: 2 })),
        ...places.map((at) => ({
          some: [...left.slice(0, at), ...left.slice(at + size)],
          parts: Math.max(2, parts - 1),
        })),
      ],
      ({ some }) => (tries < MOST_TRIES ? stillWrong(some) : Promise.resolve(false)),
    );
    if (smaller) ({ some: left, parts } = smaller);
    else if (size === 1) break;
    else parts = Math.min(2 * parts, left.length);
  }
  return left;
}

async function firstOf<T>(items: readonly T[], holds: (item: T) => Promise<boolean>): Promise<T | undefined> {
  for (const item of items) if (await holds(item)) return item;
  return undefined;
}

function kindOf(fault: string): string {
  return fault.slice(0, fault.indexOf(':'));
}

export function isBug(name: string): name is BugName {
  return Object.hasOwn(BUGS, name);
}
