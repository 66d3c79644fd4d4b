/**
 * Scripts that go the same way in the simulation and on Temporal's dev server: the same workflow code, the same
 * modelled activities, and the same deeds at the same moments. A deed happens while one activity is held, so that no
 * course depends on how fast a host is.
 */
import { isDeepStrictEqual } from 'node:util';
import { MESSAGES, type FailureType, type ShardedStageName } from '../../workflows/contract/index.js';
import { SimulatedActivities } from './activities.js';
import { commandText } from './recorded.js';
import { caseOf, GARBAGE, SIMULATED, type SimulatedWorkflow } from './schedules.js';
import { ActivityFails, NO_FAULTS, Server, type Attempt, type Taken } from './server.js';
import { isTakenBack, type WorkflowCode } from './workflow-vm.js';

/** What somebody does to a workflow: to that of the script, or to a stage of it. */
export type Deed = { stage?: string } & (
  | { signal: string; input: readonly unknown[] }
  | { update: string; request: unknown }
  | { do: 'cancel' | 'terminate' }
  /** Resets it to the workflow task that asked first for an activity. */
  | { resetTo: string }
);

/** An attempt of an activity: the `nth` of all that the script sees by that name. */
interface At {
  activity: string;
  nth?: number;
}

export interface Script {
  name: string;
  workflow: SimulatedWorkflow;
  /** The input, from that of the schedules. */
  input?: (usual: Record<string, unknown>) => Record<string, unknown>;
  /** What happens while an attempt is held. */
  moments?: readonly (At & { deeds: readonly Deed[] })[];
  /** Attempts that fail. */
  fails?: readonly (At & { type: FailureType })[];
  /** What follows, each when the step before is over: a deed once the experiment is parked, or another start. */
  then?: readonly ({ parked: Deed } | 'start')[];
}

/** The texts of the commands of each workflow id, in their order. */
export type Courses = Record<string, string[]>;

const VARIANT = 0;
const SHARDS = 2;
/** Stages that work on several shards at once, in any order. Here they take one after the other. */
const SHARDED: readonly ShardedStageName[] = ['synthesis', 'filtering', 'sampling', 'preferences', 'evaluation'];

/** The input of the schedules, with a window of one shard. */
function usualInput(workflow: SimulatedWorkflow): Record<string, unknown> {
  const input = structuredClone(caseOf(workflow, VARIANT).input) as Record<string, unknown>;
  const { base, config } = input as { base?: Record<string, unknown>; config?: object };
  const { stages } = (base ?? input) as { stages?: Record<string, object> };
  const one = { execution: { window: 1 } };
  for (const stage of SHARDED) {
    if (stages) stages[stage] = { ...stages[stage], ...one };
    if (config && stage === workflow) Object.assign(config, one);
    if (workflow === 'datasetRefresh' && (stage === 'synthesis' || stage === 'filtering'))
      input[stage] = { ...(input[stage] as object | undefined), ...one };
  }
  return input;
}

export const inputOf = ({ workflow, input }: Script): unknown =>
  input ? input(usualInput(workflow)) : usualInput(workflow);

const pause: Deed = { signal: MESSAGES.pause, input: [] };
const resume: Deed = { signal: MESSAGES.resume, input: [] };
const retry = (stage: string, more: object = {}): Deed => ({
  update: MESSAGES.retryStage,
  request: { stage, ...more },
});
const abandon: Deed = { update: MESSAGES.abandon, request: { reason: 'the script' } };
const failsForGood = (activity: string, nth = 1): At & { type: FailureType } => ({
  activity,
  nth,
  type: 'RepeatedFailure',
});

const undisturbed = SIMULATED.map((workflow): Script => ({ name: `${workflow}, undisturbed`, workflow }));

const SCRIPTS_OF_FAULTS: readonly Script[] = [
  {
    name: 'a pause and its end while programs are sampled',
    workflow: 'experiment',
    moments: [{ activity: 'sampling.generate', deeds: [pause, resume] }],
  },
  {
    name: 'a pause and its end while the reward model is trained',
    workflow: 'experiment',
    moments: [{ activity: 'rewardModel.train', deeds: [pause, resume] }],
  },
  {
    name: 'pauses and their ends in an RL round, and in the next one',
    workflow: 'experiment',
    moments: [
      { activity: 'reinforcement.rollouts', deeds: [pause, resume] },
      { activity: 'reinforcement.update', nth: 2, deeds: [pause, pause, resume] },
    ],
  },
  {
    name: 'a pause before the first stage, ended before it starts',
    workflow: 'experiment',
    moments: [{ activity: 'inputs.check', deeds: [pause, resume] }],
  },
  {
    name: 'a stage alone, paused and resumed',
    workflow: 'sampling',
    moments: [{ activity: 'sampling.judge', deeds: [pause, resume] }],
  },
  {
    name: 'a re-verification, paused and resumed',
    workflow: 'reverify',
    moments: [{ activity: 'reverify.judge', deeds: [pause, resume] }],
  },
  {
    name: 'a re-verification, cancelled while it judges',
    workflow: 'reverify',
    moments: [{ activity: 'reverify.judge', deeds: [{ do: 'cancel' }] }],
  },
  {
    name: 'an experiment, cancelled while questions are asked for',
    workflow: 'experiment',
    moments: [{ activity: 'synthesis.request', deeds: [{ do: 'cancel' }] }],
  },
  {
    name: 'an experiment, cancelled while a policy is updated',
    workflow: 'experiment',
    moments: [{ activity: 'reinforcement.update', deeds: [{ do: 'cancel' }] }],
  },
  {
    name: 'an experiment, cancelled before its first stage, and started again',
    workflow: 'experiment',
    moments: [{ activity: 'experiment.record', deeds: [{ do: 'cancel' }] }],
    then: ['start'],
  },
  {
    name: 'a stage alone, cancelled while it trains',
    workflow: 'rewardModel',
    moments: [{ activity: 'rewardModel.train', deeds: [{ do: 'cancel' }] }],
  },
  {
    name: 'a stage alone, cancelled while it judges',
    workflow: 'filtering',
    moments: [{ activity: 'filtering.judge', deeds: [{ do: 'cancel' }] }],
  },
  {
    name: 'a stage of an experiment, cancelled, and run again',
    workflow: 'experiment',
    moments: [{ activity: 'sampling.generate', deeds: [{ do: 'cancel', stage: 'sampling' }] }],
    then: [{ parked: retry('sampling') }],
  },
  {
    name: 'a final failure, parked and run again with a patch',
    workflow: 'experiment',
    fails: [failsForGood('filtering.judge')],
    then: [{ parked: retry('filtering', { execution: { window: 2 } }) }],
  },
  {
    name: 'two final failures of a training, parked and run again',
    workflow: 'experiment',
    fails: [failsForGood('rewardModel.train'), failsForGood('rewardModel.train', 2)],
    then: [{ parked: retry('rewardModel') }, { parked: retry('rewardModel') }],
  },
  {
    name: 'a final failure in an RL round, parked and run again',
    workflow: 'experiment',
    fails: [failsForGood('reinforcement.update', 2)],
    then: [{ parked: retry('reinforcement') }],
  },
  {
    name: 'a final failure, where the experiment then fails',
    workflow: 'experiment',
    input: (usual) => ({ ...usual, onFailure: 'fail' }),
    fails: [failsForGood('sampling.plan')],
  },
  {
    name: 'a final failure of a seal, of a stage alone, and the next start',
    workflow: 'preferences',
    fails: [failsForGood('preferences.seal')],
    then: ['start'],
  },
  {
    name: 'failures that are retried, in three stages',
    workflow: 'experiment',
    fails: [
      { activity: 'synthesis.request', type: 'StoreUnavailable' },
      { activity: 'sampling.generate', type: 'RuntimeLost' },
      { activity: 'evaluation.judge', type: 'SandboxUnavailable' },
    ],
  },
  {
    name: 'abandoned while it works',
    workflow: 'experiment',
    moments: [{ activity: 'filtering.judge', deeds: [abandon] }],
  },
  {
    name: 'abandoned while it is parked',
    workflow: 'experiment',
    fails: [failsForGood('synthesis.plan')],
    then: [{ parked: abandon }],
  },
  {
    name: 'requests that are refused',
    workflow: 'experiment',
    moments: [
      {
        activity: 'sampling.judge',
        deeds: [
          retry('sampling'),
          retry('nothing'),
          { update: MESSAGES.retryStage, request: { stage: '__proto__' } },
          { update: MESSAGES.abandon, request: {} },
        ],
      },
    ],
  },
  {
    name: 'messages that mean nothing',
    workflow: 'experiment',
    moments: [
      {
        activity: 'filtering.judge',
        deeds: [
          ...GARBAGE.map((input): Deed => ({ signal: MESSAGES.stageProgress, input: [input] })),
          { signal: MESSAGES.pause, input: [Number.MAX_SAFE_INTEGER], stage: 'filtering' },
          { signal: MESSAGES.resume, input: [{}], stage: 'filtering' },
          { signal: 'unknown', input: [] },
        ],
      },
    ],
  },
  {
    name: 'terminated in the middle, and started again',
    workflow: 'experiment',
    moments: [{ activity: 'sampling.judge', deeds: [{ do: 'terminate' }] }],
    then: ['start'],
  },
  {
    name: 'a training, terminated and started again',
    workflow: 'fineTuning',
    moments: [{ activity: 'fineTuning.train', deeds: [{ do: 'terminate' }] }],
    then: ['start'],
  },
  {
    name: 'a stage alone, reset to its plan while it works',
    workflow: 'sampling',
    moments: [{ activity: 'sampling.judge', deeds: [{ resetTo: 'sampling.generate' }] }],
  },
  {
    name: 'a data set, refreshed twice from the same seeds',
    workflow: 'datasetRefresh',
    then: ['start'],
  },
  {
    name: 'RL rounds, started again with fewer rounds',
    workflow: 'reinforcement',
    fails: [failsForGood('reinforcement.rollouts', 3)],
    then: ['start'],
  },
];

export const SCRIPTS: readonly Script[] = [...undisturbed, ...SCRIPTS_OF_FAULTS];

/** The modelled activities of a script, and which of their attempts are held or fail. Both sides have one. */
export class ScriptedActivities {
  readonly model = new SimulatedActivities(() => SHARDS);
  readonly #begun = new Map<string, number>();
  readonly #ended = new Map<string, number>();

  constructor(readonly script: Script) {}

  /** An attempt begins: what happens while it is held, if it is. */
  begins({ name }: Attempt): readonly Deed[] | undefined {
    const nth = counted(this.#begun, name);
    return this.script.moments?.find((at) => at.activity === name && (at.nth ?? 1) === nth)?.deeds;
  }

  /** An attempt ends. @throws ActivityFails */
  ends(attempt: Attempt): unknown {
    const { name } = attempt;
    const nth = counted(this.#ended, name);
    const fails = this.script.fails?.find((at) => at.activity === name && (at.nth ?? 1) === nth);
    if (fails) throw new ActivityFails(fails.type, 'the script says so');
    return this.model.run(attempt);
  }
}

function counted(counts: Map<string, number>, name: string): number {
  const next = (counts.get(name) ?? 0) + 1;
  counts.set(name, next);
  return next;
}

/** A held attempt in the simulation, and when in it the deeds happen, in milliseconds. */
const HELD_MS = 4000;
const DEED_MS = 500;
const USUAL_MS = 5;

/** The course of a script in the simulation. */
export async function simulatedCourses(code: WorkflowCode, script: Script, root: string): Promise<Courses> {
  const courses: Courses = {};
  const activities = new ScriptedActivities(script);
  /** Workflow tasks, by workflow id and the activity that they asked for first. */
  const tasks = new Map<string, { run: number; task: number }>();
  const server = new Server(code, 1, (attempt) => activities.ends(attempt), NO_FAULTS, {
    pace: {
      takes: (attempt) => {
        const deeds = activities.begins(attempt);
        deeds?.forEach((deed, index) => server.timeline.after(DEED_MS * (index / deeds.length + 1), () => act(deed)));
        return deeds ? HELD_MS : USUAL_MS;
      },
    },
  });
  activities.model.now = () => server.timeline.now;
  const act = async (deed: Deed): Promise<void> => {
    const id = deed.stage === undefined ? root : `${root}/${deed.stage}`;
    if ('signal' in deed) server.signal(id, deed.signal, ...deed.input);
    else if ('update' in deed) server.update(id, deed.update, deed.request);
    else if ('resetTo' in deed) {
      const { run, task } = tasks.get(`${id} ${deed.resetTo}`)!;
      if (!(await server.reset(id, run, task))) throw new Error(`the simulation cannot reset ${id} to task ${task}`);
    } else if (deed.do === 'cancel') server.cancel(id);
    else await server.terminate(id);
  };
  server.onScheduled = (workflowId, activity) => {
    const runs = server.tasksOf(workflowId);
    const name = `${workflowId} ${activity}`;
    if (!tasks.has(name)) tasks.set(name, { run: runs.length - 1, task: runs.at(-1)! - 1 });
  };
  server.onCommands = (taken) => {
    (courses[taken.workflowId] ??= []).push(...textsOf(taken));
  };
  const start = (): void => server.start(script.workflow, root, [inputOf(script)]);
  const isParked = (): boolean => (server.memo(root, 'acecoder') as { state?: string } | undefined)?.state === 'parked';
  try {
    start();
    for (const step of script.then ?? []) {
      await server.run(() => !server.isOpen(root) || (step !== 'start' && isParked()));
      if (server.isOpen(root) === (step === 'start')) throw new Error(`the simulation of '${script.name}' ends early`);
      if (step === 'start') start();
      else {
        await act(step.parked);
        await server.run(() => !server.isOpen(root) || !isParked());
      }
    }
    await server.run();
    if (server.open.length > 0) throw new Error(`the simulation of '${script.name}' leaves open ${server.open.join()}`);
  } finally {
    await server.close();
  }
  return told(courses);
}

function textsOf({ commands, update, child, workflowType }: Taken): string[] {
  return commands
    .filter((command) => !isTakenBack(command, commands) && !command.updateResponse?.rejected)
    .map((command) => commandText(command, update, child))
    .map((text) => (text === 'continue undefined' ? `continue "${workflowType}"` : text));
}

/** Fields that tell how long something took, how many events there were, or what was told of progress last. */
const MEASURED = /"(startedAt|endedAt|seconds|resetEventId|at|since|progress)":("[^"]*"|[\d.]+|null|\{[^{}]*\}),?/g;
const RUN_ID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
const CLOCK = /\b1[6-9]\d{11}(\.\d+)?\b/g;
/** What is told again whenever something has moved. How often depends on what one workflow task brings together. */
const TOLD_AGAIN = /^(memo|search attributes|signal \S+ "stageProgress")/;

/** Courses without clocks, ids of runs and what is told of progress. */
export function told(courses: Courses): Courses {
  return Object.fromEntries(
    Object.entries(courses).map(([id, texts]) => [
      id,
      texts
        .filter((text) => !TOLD_AGAIN.test(text))
        .map((text) => text.replace(MEASURED, '').replace(RUN_ID, '<run>').replace(CLOCK, '<time>')),
    ]),
  );
}

/** Where two courses part, in words. Undefined: they do not. */
export function difference(simulated: Courses, real: Courses): string | undefined {
  if (isDeepStrictEqual(simulated, real)) return undefined;
  for (const id of new Set([...Object.keys(simulated), ...Object.keys(real)])) {
    const [one = [], other = []] = [simulated[id], real[id]];
    const at = Array.from({ length: Math.max(one.length, other.length) }).findIndex((_, i) => one[i] !== other[i]);
    if (at < 0) continue;
    const [mine = 'nothing', yours = 'nothing'] = [one[at], other[at]];
    const same = [...mine].findIndex((letter, i) => letter !== yours[i]);
    const shown = (text: string): string =>
      `${text.slice(0, 80)} ... ${text.slice(Math.max(0, same - 80), same + 200)}`;
    return (
      `${id}, command ${at + 1} of ${one.length} and ${other.length}:\n` +
      `  simulation: ${shown(mine)}\n  dev server: ${shown(yours)}`
    );
  }
  return 'the courses have other workflows';
}
