/**
 * The alerts of infra/deploy/prometheus: each fires by what a real worker tells while its fault is provoked, and none
 * fires by what a run without a fault tells. promtool evaluates the rules as Prometheus does. Where it is not installed,
 * everything is skipped: `npm run test:alerts` builds it.
 *
 * Scrapes of a fault are put one minute apart, whatever time passed between them, so that half an hour is 31 scrapes.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, type WorkflowHandle } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { runTemporalCli } from '../../infra/stack/embedded-stack.js';
import { freePorts } from '../../infra/stack/server-process.js';
import { root } from '../../infra/setup/paths.mjs';
import { goPrograms } from '../../infra/setup/programs.mjs';
import { SEARCH_ATTRIBUTES } from '../../workflows/contract/index.js';
import { fakeEndpoint, fakeSeeds } from '../fixtures/fake-endpoint.js';
import { breakingStore, statusWhere, temporalClient, workerProcess } from '../fixtures/harness.js';
import { HeldRuntime } from '../fixtures/held-runtime.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { until } from '../fixtures/until.js';

const RULES = join(root, 'infra/deploy/prometheus/acecoder-rules.yaml');
/** What the rules read of a scrape. */
const READ =
  /^(acecoder_\w+|temporal_num_pollers|temporal_worker_task_slots_used|temporal_activity_schedule_to_start_latency_seconds_bucket)[{ ]/;
/** Alerts whose expression or duration is half an hour: they keep it where other alerts may fire at once. */
const SLOW = ['AceCoderNoProgress', 'AceCoderBacklog'];

const promtool = goPrograms('prometheus');
const skipped = promtool.isBuilt ? undefined : 'ALERTS NOT TESTED: there is no promtool; npm run test:alerts builds it';

interface Rule {
  alert: string;
  expr: string;
  for?: string;
}
interface Rules {
  groups: { name: string; rules: Rule[] }[];
}
const rules = parse(readFileSync(RULES, 'utf8')) as Rules;

/** A worker process as Prometheus sees it. */
class Target {
  constructor(readonly address: string) {}

  /** The samples of a scrape by their series; undefined where nothing answers. */
  async scrape(): Promise<Map<string, number> | undefined> {
    const text = await fetch(`http://${this.address}/metrics`).then(
      (response) => response.text(),
      () => undefined,
    );
    if (text === undefined) return undefined;
    return new Map(
      text.split('\n').flatMap((line): [string, number][] => {
        if (!READ.test(line)) return [];
        const [, name, labels, value] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line)!;
        const own = `instance="${this.address}"`;
        return [[`${name}{${labels === undefined ? own : `${labels},${own}`}}`, Number(value)]];
      }),
    );
  }

  /** Sum over the series of a scrape whose text holds all of `parts`. */
  async sum(...parts: string[]): Promise<number> {
    const scraped = [...((await this.scrape()) ?? [])];
    return scraped
      .filter(([series]) => parts.every((part) => series.includes(part)))
      .reduce((sum, [, n]) => sum + n, 0);
  }
}

/** Scrapes in their order. */
class Scrapes {
  readonly #all: (Map<string, number> | undefined)[] = [];

  constructor(private readonly target: Target) {}

  async take(times = 1): Promise<void> {
    for (let time = 0; time < times; time += 1) this.#all.push(await this.target.scrape());
  }

  get length(): number {
    return this.#all.length;
  }

  /** Series as promtool takes them: `_` is no sample, and `stale` what Prometheus writes when a series is gone. */
  series(): { series: string; values: string }[] {
    const names = new Set(this.#all.flatMap((scrape) => [...(scrape?.keys() ?? [])]));
    return [...names].map((series) => {
      const values = this.#all.map((scrape, at) => {
        const value = scrape?.get(series);
        return value ?? (at > 0 && this.#all[at - 1]?.has(series) ? 'stale' : '_');
      });
      return { series, values: values.join(' ') };
    });
  }
}

const folder = mkdtempSync(join(tmpdir(), 'acecoder-alerts-'));

/** Holds the alerts that fire at any time of scrapes so far apart against those that shall. */
function expectAlerts(scrapes: Scrapes, expected: readonly string[], { every = '1m', using = rules } = {}): void {
  const files = mkdtempSync(join(folder, 'promtool-'));
  writeFileSync(join(files, 'rules.yaml'), stringify(using));
  const [, number, unit] = /^(\d+)([sm])$/.exec(every)!;
  const firing = 'group by (alertname) (last_over_time(ALERTS{alertstate="firing"}[1d]))';
  const test = {
    rule_files: ['rules.yaml'],
    evaluation_interval: every,
    tests: [
      {
        interval: every,
        input_series: scrapes.series(),
        promql_expr_test: [
          {
            expr: firing,
            eval_time: `${(scrapes.length - 1) * Number(number)}${unit}`,
            exp_samples: [...expected].sort().map((alert) => ({ labels: `{alertname="${alert}"}`, value: 1 })),
          },
        ],
      },
    ],
  };
  writeFileSync(join(files, 'test.yaml'), stringify(test));
  const { stdout, stderr, status } = spawnSync(join(promtool.folder, 'promtool'), ['test', 'rules', 'test.yaml'], {
    cwd: files,
    encoding: 'utf8',
  });
  expect(status, `${stdout}\n${stderr}`).toBe(0);
}

/** The rules with another one in the place of each. */
function changed(change: (rule: Rule) => Rule): Rules {
  return { groups: rules.groups.map((group) => ({ ...group, rules: group.rules.map(change) })) };
}

describe.skipIf(skipped)(`the alerts${skipped ? ` (${skipped})` : ''}`, () => {
  const namespace = `alerts-${randomUUID().slice(0, 8)}`;
  const stops: (() => unknown)[] = [];
  let client: Client;
  let fake: Awaited<ReturnType<typeof fakeEndpoint>>;

  afterAll(async () => {
    for (const stop of stops.reverse()) await stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** A worker of its own queue, ready. */
  async function worker(
    environment: Record<string, string> = {},
    role: 'all' | 'sandbox' | 'llm' | 'pipeline' = 'all',
    queue = `alerts-${randomUUID().slice(0, 8)}`,
  ) {
    const target = new Target(`127.0.0.1:${(await freePorts(1))[0]!}`);
    const own = { ...inject('environment'), TEMPORAL_NAMESPACE: namespace, ACECODER_METRICS: target.address };
    const started = workerProcess(queue, { ...own, ...environment }, role);
    stops.push(() => started.stop());
    await until(
      () => target.sum('acecoder_ready', 'condition="Workers"'),
      (ready) => ready === 1,
    );
    return { ...started, queue, target, scrapes: () => new Scrapes(target) };
  }

  /** The micro experiment, of which nothing is in the store. */
  async function start(queue: string): Promise<WorkflowHandle> {
    const workflowId = `${queue}-${randomUUID().slice(0, 8)}`;
    const micro = microExperiment(queue, inject('seeds'), inject('model')) as { stages: Record<string, object> };
    for (const stage of ['synthesis', 'filtering', 'sampling'])
      micro.stages[stage] = { ...micro.stages[stage], salt: workflowId };
    const started = { taskQueue: queue, workflowId, args: [{ ...micro, onFailure: 'park' }] };
    return client.workflow.start('experiment', started);
  }

  beforeAll(async () => {
    const operator = async (...args: string[]): Promise<void> => {
      await until(
        () => runTemporalCli(inject('stack'), ['operator', ...args]),
        ({ code }) => code === 0,
      );
    };
    await operator('namespace', 'create', '--namespace', namespace);
    for (const [name, type] of Object.entries(SEARCH_ATTRIBUTES))
      await operator('search-attribute', 'create', '--namespace', namespace, '--name', name, '--type', type);
    const { connection } = await temporalClient();
    client = new Client({ connection, namespace });
    fake = await fakeEndpoint();
    stops.push(() => fake.close());
  });

  it('are right by promtool', () => {
    execFileSync(join(promtool.folder, 'promtool'), ['check', 'rules', RULES], { stdio: 'pipe' });
  });

  it('do not fire in a run without a fault, also without waiting', async () => {
    const { queue, target, scrapes } = await worker();
    await until(
      () => target.sum('acecoder_ready', 'condition="Device"'),
      (ready) => ready === 1,
    );
    const taken = scrapes();
    const experiment = await start(queue);
    let isWatched = true;
    const pairs = statusWhere(experiment, ({ stages }) =>
      stages.some(({ name, state }) => name === 'preferences' && state === 'done'),
    ).finally(() => (isWatched = false));
    while (isWatched) {
      await taken.take();
      await sleep(1000);
    }
    await pairs;
    await experiment.terminate('the test is over');
    const atOnce = changed(({ for: waits, ...rule }) => (SLOW.includes(rule.alert) ? { ...rule, for: waits! } : rule));
    expectAlerts(taken, [], { every: '1s', using: atOnce });
  });

  it('fire for a parked experiment and a spent budget', async () => {
    const { queue, target, scrapes } = await worker();
    writeFileSync(join(folder, 'seeds.jsonl'), fakeSeeds(40));
    const endpoint = { baseUrl: fake.url, keyVariable: null, concurrency: 6, prices: { input: 1, output: 2 } };
    const teacher = { kind: 'openai', model: `fake-${randomUUID()}`, testCases: 10 };
    const execution = { window: 3, budgetUsd: 0.04, endpoint };
    const seeds = { kind: 'seeds', path: join(folder, 'seeds.jsonl') };
    const experiment = await client.workflow.start('experiment', {
      taskQueue: queue,
      workflowId: `${queue}-budget`,
      args: [
        {
          name: 'spent',
          seeds,
          models: { policy: { kind: 'folder', path: inject('model') } },
          stages: { synthesis: { teacher, decontaminate: [], shardSize: 10, execution } },
        },
      ],
    });
    await until(
      () => target.sum('acecoder_experiments', 'state="parked"'),
      (parked) => parked > 0,
    );
    const taken = scrapes();
    await taken.take(8);
    expectAlerts(taken, ['AceCoderBudget', 'AceCoderParked']);
    await experiment.terminate('the test is over');
  });

  it('fire for work that stands still, a store that is away, a sick device, and a worker that is gone', async () => {
    const held = new HeldRuntime(join(folder, 'held'));
    let isStoreAway = false;
    const store = await breakingStore(() => isStoreAway);
    stops.push(() => store.close());
    const { queue, target, scrapes, kill, child } = await worker({
      ...store.environment,
      TEMPORAL_NAMESPACE: namespace,
      ACECODER_PYTHON: held.python,
    });
    held.hold('sample');
    const experiment = await start(queue);
    await held.held('sample');

    const still = scrapes();
    await still.take(66);
    expectAlerts(still, ['AceCoderNoProgress']);

    isStoreAway = true;
    held.release('sample');
    await until(
      () => target.sum('acecoder_ready', 'condition="Artifact store"'),
      (ready) => ready === 0,
    );
    const away = scrapes();
    await away.take();
    const broken = (): Promise<number> => target.sum('acecoder_store_requests_total', 'outcome="broken"');
    for (let times = 0; times < 6; times += 1) {
      const before = await broken();
      await until(broken, (now) => now > before);
      await away.take(2);
    }
    expectAlerts(away, ['AceCoderNotReady', 'AceCoderStoreErrors']);

    isStoreAway = false;
    await until(
      () => target.sum('acecoder_ready', 'condition="Artifact store"'),
      (ready) => ready === 1,
    );
    held.sicken();
    for (const pid of runtimesOf(child.pid!)) process.kill(pid, 'SIGKILL');
    await until(
      () => target.sum('acecoder_ready', 'condition="Device"'),
      (ready) => ready === 0,
    );
    const sick = scrapes();
    await sick.take(8);
    expectAlerts(sick, ['AceCoderDeviceLost']);

    const gone = scrapes();
    await gone.take(2);
    await kill();
    await gone.take(8);
    expectAlerts(gone, ['AceCoderNoWorkers']);
    await experiment.terminate('the test is over');
  });

  it('fire for a failure that is final, also the first of its class', async () => {
    const held = new HeldRuntime(join(folder, 'failing'));
    const { queue, target, scrapes } = await worker({ ACECODER_PYTHON: held.python });
    const taken = scrapes();
    await taken.take(2);
    held.fail('sample', 'OutOfMemory');
    const experiment = await start(queue);
    await until(
      () => target.sum('acecoder_failures_total', 'class="OutOfMemory"'),
      (failures) => failures > 0,
    );
    await taken.take(3);
    // The experiment parks, for less than that alert waits.
    expectAlerts(taken, ['AceCoderFinalFailures']);
    await experiment.terminate('the test is over');
  });

  it('fire for a disk with little room', async ({ skip }) => {
    const home = join(folder, 'small-disk');
    mkdirSync(home);
    const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2g', 'tmpfs', home]);
    skip(status !== 0, 'ALERT OF THE DISK NOT TESTED: a small disk cannot be mounted here, which takes root');
    stops.push(() => spawnSync('umount', ['-l', home]));
    const { target, scrapes, stop } = await worker({ ACECODER_HOME: home }, 'llm');
    await until(
      () => target.sum('acecoder_disk_free_bytes'),
      (bytes) => bytes > 0,
    );
    const taken = scrapes();
    await taken.take(8);
    expectAlerts(taken, ['AceCoderDiskFull']);
    await stop();
  });

  it('fire for work that waits, by a limit of one second in the place of half an hour', async () => {
    const { queue } = await worker({}, 'pipeline');
    const seeds = { kind: 'seeds', path: inject('seeds') };
    // All shards wait at once, so that each of them waits long.
    const execution = { window: 100 };
    const stage = await client.workflow.start('synthesis', {
      taskQueue: queue,
      workflowId: queue,
      args: [{ inputs: { seeds }, config: { decontaminate: [], shardSize: 1, salt: queue, execution } }],
    });
    await until(
      async () => ((await stage.describe()).raw.pendingActivities ?? []).map(({ activityType }) => activityType?.name),
      (pending) => pending.includes('synthesis.ask'),
    );
    await sleep(3000);
    const { scrapes, target } = await worker({}, 'sandbox', queue);
    const taken = scrapes();
    const waited = (): Promise<number> =>
      target.sum('temporal_activity_schedule_to_start_latency_seconds_bucket', 'le="+Inf"');
    await until(waited, (count) => count > 0);
    await taken.take(2);
    const first = await waited();
    await until(waited, (count) => count > first);
    await taken.take(70);
    const finite = [...(await target.scrape())!.keys()].filter((series) => series.includes('le="3600"'));
    expect(finite, 'a bucket beyond the limit of the rule').not.toEqual([]);
    const short = changed((rule) => ({ ...rule, for: '10m', expr: rule.expr.replace('> 1800', '> 1') }));
    // By this rule alone: on a slow host nothing else goes on meanwhile, which another alert says.
    for (const group of short.groups) group.rules = group.rules.filter(({ alert }) => alert === 'AceCoderBacklog');
    short.groups = short.groups.filter((group) => group.rules.length > 0);
    expect(short.groups[0]!.rules[0]!.expr).not.toBe(
      rules.groups.flatMap((group) => group.rules).find(({ alert }) => alert === 'AceCoderBacklog')!.expr,
    );
    expectAlerts(taken, ['AceCoderBacklog'], { using: short });
    await stage.terminate('the test is over');
  });

  it('are all provoked here', () => {
    const text = readFileSync(import.meta.filename, 'utf8');
    const names = rules.groups.flatMap((group) => group.rules.map(({ alert }) => alert));
    expect(names.length).toBeGreaterThan(8);
    expect(names.filter((name) => !new RegExp(`expectAlerts\\(.*'${name}'`).test(text))).toEqual([]);
  });
});

/** Processes of the model runtime that a worker has started. */
function runtimesOf(worker: number): number[] {
  return readdirSync('/proc').flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) return [];
    try {
      const parent = Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return parent === worker &&
        command.some((word) => word.endsWith('held_runtime.py')) &&
        command.includes('runtime')
        ? [pid]
        : [];
    } catch {
      return [];
    }
  });
}
