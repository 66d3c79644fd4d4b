/** Recorded histories (`npm run histories`) replay on the code as it is, with traces and without. */
import { readdirSync, statSync } from 'node:fs';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { DefaultLogger, Runtime, Worker, bundleWorkflowCode } from '@temporalio/worker';
import { beforeAll, describe, expect, it } from 'vitest';
import { workflowSpans } from '../../workers/observability/traces.js';
import { workflowsPath } from '../../workers/plugins/acecoder-plugin.js';
import * as workflows from '../../workflows/index.js';
import { HISTORIES, historyText, NEXT } from './histories.js';

interface History {
  events: {
    eventId: string;
    eventType: string;
    workflowExecutionStartedEventAttributes?: { workflowType: { name: string }; workflowId: string };
  }[];
}

/** Workflow tasks of a history, evenly spread, that are replayed up to. */
const TASKS_WITHOUT_CACHE = 10;

const names = readdirSync(HISTORIES, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.json.gz'));
const next = readdirSync(NEXT);
const historyOf = (name: string): History => JSON.parse(historyText(name)) as History;
const startOf = ({ events: [started] }: History) => started!.workflowExecutionStartedEventAttributes!;

const logger = new DefaultLogger('ERROR');
Runtime.install({ logger });
/** Where the spans of a replay would go. */
const sinks = { acecoderSpans: { ended: { fn: () => undefined } } };

describe('recorded histories', () => {
  it('exist for every workflow, and for the main forms of the experiment', () => {
    const types = new Set(next.map((name) => startOf(historyOf(`next/${name}`)).workflowType.name));
    expect([...types].sort()).toEqual(Object.keys(workflows).sort());
    const forms = ['reused', 'paused', 'parked', 'retried', 'reset', 'abandoned', 'cancelled', 'invalid'].map(
      (form) => `experiment-${form}`,
    );
    expect(next.map((name) => name.replace(/\.json\.gz$/, ''))).toEqual(
      expect.arrayContaining([
        ...forms,
        'synthesis-continued',
        'synthesis-continuation',
        'synthesis-paid',
        'synthesis-overBudget',
        'rewardModel-paused',
        'reinforcement-pruned',
        'reinforcement-redrawn',
        'reinforcement-repaired',
        'reinforcement-ahead',
      ]),
    );
  });

  it('are small, and name no machine', () => {
    expect(next.reduce((sum, name) => sum + statSync(`${NEXT}${name}`).size, 0)).toBeLessThan(500_000);
    for (const name of names) {
      const text = historyText(name).replace(/"data":"([^"]*)"/g, (_, data: string) =>
        Buffer.from(data, 'base64').toString(),
      );
      expect(
        text.match(/(?<![\w./])\/(?!home\/user\/)(tmp|root|home|work|Users|private|var|opt|mnt)\/[^"\\ ]*/g) ?? [],
        name,
      ).toEqual([]);
    }
  });
});

/**
 * Replays histories by one worker, and returns what is wrong with each, in their order.
 *
 * Set-up of a worker and of its workflow VM costs more than a replay.
 */
async function replay(
  histories: { workflowId: string; history: ReturnType<typeof historyFromJSON> }[],
  workflowInterceptorModules: string[] = [],
): Promise<(Error | undefined)[]> {
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: workflowsPath.all,
    workflowInterceptorModules,
    logger,
  });
  const errors: (Error | undefined)[] = [];
  for await (const { error } of Worker.runReplayHistories({ workflowBundle, sinks }, histories)) errors.push(error);
  return errors;
}

/** A worker may begin to send traces, or stop it, in the middle of any run. */
describe.each([
  ['without traces', []],
  ['with traces', [workflowSpans]],
])('histories replay %s', (_, modules) => {
  let errors: (Error | undefined)[];
  beforeAll(async () => {
    const histories = names.map((name) => {
      const history = historyOf(name);
      // The ids of stages follow from the experiment's.
      return { workflowId: startOf(history).workflowId, history: historyFromJSON(history) };
    });
    errors = await replay(histories, modules);
    expect(errors).toHaveLength(names.length);
  });

  it.each(names)('%s', (name) => {
    expect(errors[names.indexOf(name)]).toBeUndefined();
  });
});

/**
 * A worker without a cache gets at every workflow task the history up to that task, and begins anew. A replay worker
 * always caches one run, whatever `maxCachedWorkflows` says. So this test replays up to some tasks of each history.
 */
describe('histories replay without a cache', () => {
  const wrong = new Map<string, string[]>();
  beforeAll(async () => {
    const prefixes = names.flatMap((name) => {
      const { events } = historyOf(name);
      const { workflowId } = startOf({ events });
      const all = events.flatMap(({ eventType }, index) =>
        eventType === 'EVENT_TYPE_WORKFLOW_TASK_STARTED' ? [events.slice(0, index + 1)] : [],
      );
      const tasks = all.filter((_, index) => index % Math.ceil(all.length / TASKS_WITHOUT_CACHE) === 0);
      expect(tasks.length, name).toBeGreaterThan(0);
      return tasks.map((to) => ({ name, workflowId, upTo: to.length, history: historyFromJSON({ events: to }) }));
    });
    const errors = await replay(prefixes);
    expect(errors).toHaveLength(prefixes.length);
    for (const [index, { name, upTo }] of prefixes.entries())
      if (errors[index]) wrong.set(name, [...(wrong.get(name) ?? []), `up to event ${upTo}: ${errors[index].message}`]);
  });

  it.each(names)('%s', (name) => {
    expect(wrong.get(name) ?? []).toEqual([]);
  });
});
