/** The simulation itself: its byte model against recorded histories, and a few schedules. */
import { readdirSync } from 'node:fs';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import proto from '@temporalio/proto';
import { beforeAll, describe, expect, it } from 'vitest';
import { workflowSpans } from '../../workers/observability/traces.js';
import { MESSAGES } from '../../workflows/contract/index.js';
import { HISTORIES, historyText, NEXT } from '../replay/histories.js';
import { SimulatedActivities } from './activities.js';
import { difference, inputOf, SCRIPTS, simulatedCourses, type Script } from './conformance.js';
import { History } from './history.js';
import { simulateNights } from './nights.js';
import { BUGS, type Bug } from './planted-bugs.js';
import { compared } from './recorded.js';
import { grow, LARGEST_HISTORY_BYTES, LARGEST_PAYLOAD_BYTES } from './sizes.js';
import { shrunk } from './search.js';
import { caseOf, replacementsOf, SIMULATED, Simulator } from './schedules.js';
import { NO_FAULTS, Server } from './server.js';
import { bundledWorkflows, checkSdk, WorkflowCode } from './workflow-vm.js';

type Event = proto.temporal.api.history.v1.IHistoryEvent;
const recordings = readdirSync(HISTORIES, { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.json.gz'),
);
const { EventType } = proto.temporal.api.enums.v1;

/** Writes a recorded event as the simulation would, from what a simulation knows of it. */
function rewrite(history: History, event: Event): void {
  const { userMetadata } = event;
  const payloadsOf = (payloads: proto.temporal.api.common.v1.IPayloads | null | undefined) => payloads?.payloads ?? [];
  const id = (of: unknown): number => Number(of);
  const {
    workflowExecutionStartedEventAttributes: started,
    workflowTaskScheduledEventAttributes: task,
    activityTaskScheduledEventAttributes: scheduled,
    activityTaskCompletedEventAttributes: completed,
    signalExternalWorkflowExecutionInitiatedEventAttributes: sent,
    workflowExecutionSignaledEventAttributes: signalled,
    startChildWorkflowExecutionInitiatedEventAttributes: initiated,
    childWorkflowExecutionStartedEventAttributes: childStarted,
    childWorkflowExecutionCompletedEventAttributes: childCompleted,
    upsertWorkflowSearchAttributesEventAttributes: upserted,
    workflowPropertiesModifiedEventAttributes: modified,
    timerStartedEventAttributes: timer,
  } = event;
  switch (event.eventType) {
    case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
      return history.started({
        workflowType: started!.workflowType!.name!,
        workflowId: started!.workflowId!,
        taskQueue: started!.taskQueue!.name!,
        input: payloadsOf(started!.input),
        summary: userMetadata?.summary,
        parent: started!.parentWorkflowExecution?.workflowId ?? undefined,
        memo: started!.memo?.fields ?? {},
        searchAttributes: started!.searchAttributes?.indexedFields ?? {},
        continued: Boolean(started!.continuedExecutionRunId),
      });
    case EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
      return history.taskScheduled(
        task!.taskQueue!.normalName || task!.taskQueue!.name!,
        Number(task!.taskQueue!.kind) === 2,
      );
    case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
      return history.taskStarted();
    case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
      return history.taskCompleted();
    case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
      return history.activityScheduled({
        ...(userMetadata ? { userMetadata } : {}),
        scheduleActivity: {
          seq: id(event.eventId),
          activityId: scheduled!.activityId!,
          activityType: scheduled!.activityType!.name!,
          taskQueue: scheduled!.taskQueue!.name!,
          arguments: payloadsOf(scheduled!.input),
          startToCloseTimeout: scheduled!.startToCloseTimeout!,
          heartbeatTimeout: scheduled!.heartbeatTimeout!,
          retryPolicy: scheduled!.retryPolicy!,
        },
      });
    case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
      // Written together with what ends the attempt.
      return;
    case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
      return history.activityCompleted(id(completed!.scheduledEventId), payloadsOf(completed!.result)[0]);
    case EventType.EVENT_TYPE_TIMER_STARTED:
      return history.timerStarted({
        ...(userMetadata ? { userMetadata } : {}),
        startTimer: { seq: id(event.eventId), startToFireTimeout: timer!.startToFireTimeout! },
      });
    case EventType.EVENT_TYPE_TIMER_CANCELED:
      return history.timerCancelled(id(event.eventId));
    case EventType.EVENT_TYPE_TIMER_FIRED:
      return history.timerFired(id(event.eventId));
    case EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED:
      return history.signalInitiated(sent!.workflowExecution!.workflowId!, sent!.signalName!, payloadsOf(sent!.input));
    case EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED:
      return history.signalAnswered(
        event.externalWorkflowExecutionSignaledEventAttributes!.workflowExecution!.workflowId!,
        false,
      );
    case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
      return history.signalled(
        signalled!.signalName!,
        payloadsOf(signalled!.input),
        signalled!.externalWorkflowExecution?.workflowId ?? undefined,
      );
    case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
      return history.childInitiated({
        ...(userMetadata ? { userMetadata } : {}),
        startChildWorkflowExecution: {
          workflowId: initiated!.workflowId!,
          workflowType: initiated!.workflowType!.name!,
          taskQueue: initiated!.taskQueue!.name!,
          input: payloadsOf(initiated!.input),
          ...(initiated!.searchAttributes ? { searchAttributes: initiated!.searchAttributes } : {}),
        },
      });
    case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
      return history.childStarted(childStarted!.workflowType!.name!, childStarted!.workflowExecution!.workflowId!);
    case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED: {
      const [result] = payloadsOf(childCompleted!.result);
      return history.childEnded(
        childCompleted!.workflowType!.name!,
        childCompleted!.workflowExecution!.workflowId!,
        result ? { result } : {},
      );
    }
    case EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
      return history.searchAttributesUpserted(upserted!.searchAttributes!.indexedFields!);
    case EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED:
      return history.memoUpserted(modified!.upsertedMemo!.fields!);
    default:
      throw new Error(`no case for ${EventType[event.eventType!]}`);
  }
}

/** The last size that the server told, and what the model says there. */
function sizesOf(name: string): { told: number; modelled: number } | undefined {
  const { events } = historyFromJSON(JSON.parse(historyText(`next/${name}`)));
  const last = events!.findLastIndex(({ eventType }) => eventType === EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED);
  const before = events!.slice(0, last);
  // A recorded failure has lost its stack trace, which the server counted; and who resets copies another history.
  const usual = before.every(
    ({ eventType }) => !/FAILED|CANCEL_REQ|ACTIVITY_TASK_CANCELED|UPDATE/.test(EventType[eventType!]),
  );
  if (!usual) return undefined;
  const history = new History();
  for (const event of before) rewrite(history, event);
  return { told: Number(events![last]!.workflowTaskStartedEventAttributes!.historySizeBytes), modelled: history.bytes };
}

describe('the byte model', () => {
  const compared = readdirSync(NEXT).flatMap((name) => {
    const sizes = sizesOf(name);
    return sizes ? [{ name, ...sizes }] : [];
  });

  it('is held against most recorded histories', () => {
    expect(compared.length).toBeGreaterThan(20);
  });

  it.each(compared)('$name: within 10 % of the $told bytes that the server told', ({ told, modelled }) => {
    expect(modelled / told).toBeGreaterThan(0.9);
    expect(modelled / told).toBeLessThan(1.1);
  });
});

describe.each([
  ['without traces', []],
  ['with traces', [workflowSpans]],
])('recorded histories %s', (_, interceptors) => {
  let code: WorkflowCode;
  beforeAll(async () => {
    code = await WorkflowCode.load(await bundledWorkflows(interceptors));
  });

  it.each(recordings)('%s gives the same commands', async (name) => {
    const { events } = historyFromJSON(JSON.parse(historyText(name)));
    const { recorded, simulated } = await compared(code, events!);
    expect(simulated.length).toBeGreaterThan(0);
    expect(simulated).toEqual(recorded);
  });
});

describe('simulated workflows', () => {
  let bundle: string;
  let code: WorkflowCode;
  let simulator: Simulator;
  beforeAll(async () => {
    bundle = await bundledWorkflows();
    code = await WorkflowCode.load(bundle);
    simulator = new Simulator(code);
  });

  it('of 100 rounds go on as new runs, and no history passes 2 MiB', async () => {
    const { runs, largestBytes } = await grow(code, 'rounds', 100, 1);
    expect(runs).toBeGreaterThan(1);
    expect(largestBytes).toBeLessThan(LARGEST_HISTORY_BYTES);
  });

  it('of 1,000 shards have no payload above 64 KiB', async () => {
    const { runs, largestEventBytes } = await grow(code, 'shards', 1000, 1);
    expect(runs).toBeGreaterThan(1);
    expect(largestEventBytes).toBeLessThan(LARGEST_PAYLOAD_BYTES);
  });

  it('of whole experiments in schedules with faults make what they make without', async () => {
    for (let seed = 1; seed <= 15; seed += 1) {
      const { violations, faults } = await simulator.schedule(seed);
      expect(violations, `seed ${seed}`).toEqual([]);
      expect(faults.length, `seed ${seed}`).toBeGreaterThanOrEqual(3);
    }
  });

  it.each(SIMULATED)('%s with faults makes what it makes without', async (workflow) => {
    const schedules = workflow === 'reinforcement' ? 8 : 2;
    let faults = 0;
    for (let seed = 1; seed <= schedules; seed += 1) {
      const schedule = await simulator.schedule(seed, workflow);
      expect(schedule.violations, `seed ${seed}`).toEqual([]);
      faults += schedule.faults.length;
    }
    expect(faults).toBeGreaterThan(0);
  });

  it('of asynchronous rounds never ask for two samplings at once, also where a pause keeps the first', async () => {
    const asked: { activity: string; task: number }[] = [];
    const activities = new SimulatedActivities(() => 2);
    let isPaused = false;
    const server = new Server(code, 1, (attempt) => activities.run(attempt), NO_FAULTS, {
      pace: {
        takes: ({ name }) => {
          if (name === 'reinforcement.plan' && !isPaused) {
            isPaused = true;
            // While the first plan is made; the end of the pause comes when nothing can be in work any more.
            server.timeline.after(10, () => void server.signal('rounds', MESSAGES.pause));
            server.timeline.after(60_000, () => void server.signal('rounds', MESSAGES.resume));
          }
          return 50;
        },
      },
    });
    activities.now = () => server.timeline.now;
    server.onScheduled = (workflowId, activity) => asked.push({ activity, task: server.tasksOf(workflowId).at(-1)! });
    try {
      server.start('reinforcement', 'rounds', [caseOf('reinforcement', 1).input]);
      await server.run();
    } finally {
      await server.close();
    }
    const samplings = asked.filter(({ activity }) => activity === 'reinforcement.rollouts').map(({ task }) => task);
    expect(isPaused).toBe(true);
    expect(samplings.length).toBe(6);
    expect(new Set(samplings).size, `asked for by workflow tasks ${samplings.join()}`).toBe(samplings.length);
  });

  it('of asynchronous rounds end when a cancellation comes together with the result of any activity', async () => {
    const slow = new Set(Array.from({ length: 60 }, (_, task) => `slow:rounds.1/t${task}`));
    const ended: string[] = [];
    for (let cancelled = 1; cancelled <= 12; cancelled += 1) {
      const activities = new SimulatedActivities(() => 2);
      let begun = 0;
      // A slow workflow task takes what comes within a second of its first news.
      const server = new Server(code, 1, (attempt) => activities.run(attempt), NO_FAULTS, {
        only: slow,
        pace: {
          takes: () => {
            begun += 1;
            if (begun === cancelled) server.timeline.after(60, () => void server.cancel('rounds'));
            return 50;
          },
        },
      });
      activities.now = () => server.timeline.now;
      try {
        server.start('reinforcement', 'rounds', [caseOf('reinforcement', 1).input]);
        await server.run();
      } finally {
        await server.close();
      }
      ended.push(`${cancelled}: ${server.outcomes.get('rounds')?.how ?? 'hangs'}`);
    }
    expect(ended).toEqual(ended.map((_, index) => `${index + 1}: cancelled`));
  });

  it('have the same course again from the same seed, and from its list of faults', async () => {
    const schedule = await simulator.schedule(3);
    expect(await simulator.schedule(3)).toEqual(schedule);
    expect(await simulator.schedule(3, undefined, new Set(schedule.faults))).toEqual(schedule);
  });

  it.each(['stepTwiceOnResume', 'staleRewards', 'preparedForgotten'] as const)(
    'with the planted bug %s are found',
    async (bug) => {
      const bugs = new Set([bug]);
      const changed = await WorkflowCode.load(bundle, replacementsOf(bugs));
      const planted = new Simulator(code, changed, bugs);
      let found = false;
      for (let seed = 1; seed <= 20 && !found; seed += 1)
        found = (await planted.schedule(seed, 'reinforcement')).violations.length > 0;
      expect(found).toBe(true);
    },
  );

  it('of a nightly refresh follow each other, whatever happens to a night, and ask nothing twice', async () => {
    const { versions, skipped, seeds, asked, violations } = await simulateNights(code, 8, 2);
    expect(violations).toEqual([]);
    expect(versions).toBeGreaterThan(2);
    expect({ skipped, asked }).toEqual({ skipped: 0, asked: seeds });
    const { violations: found } = await simulateNights(code, 12, 1, new Set(['repliesForgotten']));
    expect(found).not.toEqual([]);
  });

  it('shrink a violation to the fewest faults, which give it again', async () => {
    const bugs = new Set(['stepTwiceOnResume'] as const);
    const planted = new Simulator(code, code, bugs);
    let found = await planted.schedule(1, 'rewardModel');
    for (let seed = 2; seed <= 40 && found.violations.length === 0; seed += 1)
      found = await planted.schedule(seed, 'rewardModel');
    expect(found.violations).not.toEqual([]);
    const needs = await shrunk(planted, found);
    expect(needs.length).toBeLessThan(found.faults.length);
    // Without any of them all is well.
    for (const fault of needs) {
      const others = new Set(needs.filter((each) => each !== fault));
      expect((await planted.schedule(found.seed, found.workflow, others)).violations, fault).toEqual([]);
    }
    const { violations } = await planted.schedule(found.seed, found.workflow, new Set(needs));
    expect(violations).not.toEqual([]);
  });

  it.each(SCRIPTS)('end by the script: $name', async (script) => {
    const courses = await simulatedCourses(code, script, 'scripted');
    expect(courses['scripted']!.length).toBeGreaterThan(1);
    const other = { ...courses, scripted: [...courses['scripted']!.slice(0, -1), 'complete'] };
    expect(difference(courses, courses)).toBeUndefined();
    expect(difference(courses, other)).toContain(`scripted, command ${courses['scripted']!.length} of`);
  });

  it('that are cancelled while they train ask the server for nothing after their end', async () => {
    const script = SCRIPTS.find(({ name }) => name === 'a stage alone, cancelled while it trains')!;
    const { scripted } = await simulatedCourses(code, script, 'scripted');
    expect(scripted!.slice(-3)).toEqual(['cancel activity ', 'cancel timer ', 'cancelled ']);
  });

  it('that are reset to any task after their end go on as soon as somebody asks, also at once', async () => {
    const script: Script = { name: 'reset', workflow: 'experiment' };
    const timeOf = async (task: number): Promise<{ tasks: number; ms: number }> => {
      let tasks = 0;
      const activities = new SimulatedActivities(() => 2);
      const server = new Server(code, 1, (attempt) => activities.run(attempt), NO_FAULTS);
      server.onScheduled = (workflowId, activity) => {
        if (tasks > 0 || activity !== 'sampling.judge') return;
        tasks = server.tasksOf('reset')[0]!;
        server.timeline.after(1, async () => {
          expect(await server.terminate('reset')).toBe(true);
          if (!(await server.reset('reset', 0, task))) throw new Error(`no reset to task ${task} of ${tasks}`);
          server.signal('reset', MESSAGES.resume);
        });
      };
      const began = server.timeline.now;
      server.start('experiment', 'reset', [inputOf(script)]);
      await server.run(() => server.outcomes.get('reset')?.how === 'completed');
      const ms = server.timeline.now - began;
      await server.close();
      return { tasks, ms };
    };
    const { tasks } = await timeOf(1);
    expect(tasks).toBeGreaterThan(5);
    // The modelled stages take less than a minute together, and the first look by itself comes after ten.
    const late: number[] = [];
    for (let task = 1; task < tasks; task += 1) if ((await timeOf(task)).ms > 5 * 60_000) late.push(task);
    expect(late).toEqual([]);
  });

  it('are refused on another version of the SDK, in one sentence', () => {
    expect(() => checkSdk('1.25.0')).toThrow(
      /^The simulation drives the workflow VM of @temporalio\/worker 1\.24\.0, and 1\.25\.0 is installed: compare /,
    );
  });

  it('have a place for each planted bug that changes them', () => {
    const places = Object.entries(BUGS).flatMap(([name, { replacement }]: [string, Bug]) =>
      replacement ? [[name, bundle.split(replacement.search).length - 1]] : [],
    );
    expect(places.length).toBeGreaterThan(10);
    expect(places.filter(([, count]) => count !== 1)).toEqual([]);
  });

  it('are refused where the text of a planted bug no longer stands in the bundle', async () => {
    await expect(WorkflowCode.load(bundle, [{ search: 'no such text', replace: '' }])).rejects.toThrow('0 places');
  });
});
