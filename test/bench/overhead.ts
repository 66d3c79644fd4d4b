/**
 * `npm run bench:overhead`: what Temporal costs an experiment. The experiment runs as workflows on a worker, and next
 * to it as a plain script that calls the same activities in the same order.
 *
 * Both run at the same time, each on half of the cores, the workflows with their worker, Temporal and the store; then
 * again with the halves exchanged. So what makes the host slower for minutes meets both. A side that ends first works
 * on something equal until the other has ended. Both must make the same artifacts.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client, Connection } from '@temporalio/client';
import { createActivities, type Activity } from '../../activities/index.js';
import { eachOf } from '../../activities/artifacts/collections.js';
import type { PlanOutput } from '../../activities/runtime/sharded-stage.js';
import { activityInterceptor, movementLimits } from '../../activities/runtime/interceptor.js';
import { startStack, stackEnvironment, stopStack } from '../../infra/stack/embedded-stack.js';
import { home as acecoderHome, venvPython } from '../../infra/setup/paths.mjs';
import { onEndSignal } from '../../infra/setup/processes.mjs';
import {
  Experiment,
  expandPreset,
  QUEUES,
  ReinforcementConfig,
  STAGE,
  type ActivityName,
  type ArtifactRef,
  type Produced,
  type QueueRole,
  type StageName,
  type StageResult,
} from '../../workflows/contract/index.js';
import { after, initialState, inputsOf, nextStage, type ExperimentState } from '../../workflows/experiment-state.js';
import { decidingInputs } from '../../workflows/lib/stage.js';
import { createServices } from '../../workers/plugins/services.js';
import { Attempt } from '../fixtures/attempt.js';
import { startWorker } from '../fixtures/start-worker.js';
import { halvesOfCores, pin, processTree } from './stage-overhead.js';
import { report } from './table.js';

const HELP = `npm run bench:overhead -- [options]

  --preset NAME  the experiment: a preset with seeds and models of its own (quickstart)
  --turns N      turns, in each both sides, on exchanged halves of the cores (2)
  --json         one JSON object on the last line
  --help         print this

What one stage costs beyond the call that it makes is a part of npm run bench:training -- --only overhead.`;

const OVERHEAD_BAR = 1.05;
/** Where both sides take less, the overhead is that of the start. */
const LEAST_SECONDS = 60;

type Digests = Record<string, string>;
/** Runs the experiment with a salt to its end, or until the signal. */
type Side = (salt: string, signal?: AbortSignal) => Promise<Digests>;

/** The experiment, with a salt in every stage: an equal one would be answered from the store. */
function configOf(preset: string, salt: string): Experiment {
  const { stages, ...more } = Experiment.parse(expandPreset({ extends: preset, name: 'overhead' }));
  const salted = Object.entries(stages).map(([name, config]) => [name, { ...config, salt }]);
  return Experiment.parse({ ...more, stages: Object.fromEntries(salted) });
}

/** The experiment without Temporal: the same activities, one after the other, shards in the same window. */
class PlainScript {
  readonly #activities: Record<string, Activity>;
  readonly #worker = activityInterceptor({ graceSeconds: 45, limits: movementLimits('gpu') });
  readonly #attempts = new Set<Attempt>();

  constructor(services: ReturnType<typeof createServices>) {
    const roles = Object.keys(QUEUES) as QueueRole[];
    this.#activities = Object.assign({}, ...roles.map((role) => createActivities(services, role)));
  }

  async run(config: Experiment, signal?: AbortSignal): Promise<Digests> {
    signal?.addEventListener('abort', () => {
      for (const { cancelled } of this.#attempts) cancelled.abort(signal.reason);
    });
    const { seeds, models } = config;
    const [questionsFrom, policy] = await Promise.all([
      this.#call<Produced>('artifacts.import', { input: seeds }),
      this.#call<Produced>('models.import', { source: models.policy }),
    ]);
    await this.#call('experiment.record', { experiment: config });
    let state: ExperimentState = after(initialState(config), {
      type: 'inputsKnown',
      given: { seeds: questionsFrom.ref, 'models.policy': policy.ref },
    });
    for (let stage = nextStage(state); stage !== undefined; stage = nextStage(state)) {
      signal?.throwIfAborted();
      state = after(state, { type: 'stageStarted', stage, at: Date.now(), resetEventId: 1 });
      const result = await this.#stage(stage, config.stages[stage], inputsOf(state, stage));
      state = after(state, { type: 'stageDone', stage, at: Date.now(), result });
    }
    await this.#call('experiment.report', { experiment: config, stages: [...state.stages], policy: policy.ref });
    return Object.fromEntries(state.stages.map(({ name, artifact }) => [name, artifact!.digest]));
  }

  #call<T>(name: ActivityName, input: unknown): Promise<T> {
    const attempt = new Attempt({ activityType: name, worker: this.#worker });
    this.#attempts.add(attempt);
    const activity = this.#activities[name]!;
    return attempt.run(() => activity(input as never)).finally(() => this.#attempts.delete(attempt)) as Promise<T>;
  }

  #stage(stage: StageName, config: unknown, inputs: object): Promise<StageResult> {
    const settings = STAGE[stage].withSettings(config);
    const deciding = decidingInputs(inputs as Record<string, ArtifactRef>, settings);
    if (stage === 'reinforcement')
      return this.#rounds(ReinforcementConfig.parse(config), inputs as Record<string, ArtifactRef>);
    if ('train' in STAGE[stage].steps)
      return this.#call(`${stage}.train` as ActivityName, { config, inputs: deciding });
    return this.#shards(stage, config as { execution: { window: number } }, deciding);
  }

  async #shards(
    stage: StageName,
    config: { execution: { window: number } },
    inputs: Record<string, ArtifactRef>,
  ): Promise<StageResult> {
    const { stageKey, shards } = await this.#call<PlanOutput>(`${stage}.plan` as ActivityName, { config, inputs });
    const settings = STAGE[stage].withSettings(config);
    if (settings.prepares()) await this.#call(`${stage}.prepare` as ActivityName, { stageKey });
    const steps = settings.shardSteps();
    const { execution } = config;
    await eachOf(shards, execution.window, async (shard) => {
      for (const step of steps) await this.#call(`${stage}.${step}` as ActivityName, { stageKey, shard, execution });
    });
    return this.#call(`${stage}.seal` as ActivityName, { stageKey });
  }

  /** Synchronous rounds, as the workflow `reinforcement` has them. */
  async #rounds(config: ReinforcementConfig, inputs: Record<string, ArtifactRef>): Promise<StageResult> {
    const { questions, rewardModel } = inputs;
    const { reward, rounds, execution } = config;
    const reference = inputs['policy']!;
    let trained: Produced = { ref: reference, reused: true, metrics: {} };
    let pruned: { from: number; held: ArtifactRef[] } = { from: 1, held: [] };
    let pruning: Promise<void> = Promise.resolve();
    for (let round = 1; round <= rounds; round += 1) {
      const of = async (step: string, refs: object): Promise<Produced> =>
        this.#call(`reinforcement.${step}` as ActivityName, { config, round, inputs: refs });
      const policy = trained.ref;
      const { ref: plan } = await of('plan', { questions });
      const { ref: rollouts } = await of('rollouts', { plan, policy });
      const [verdicts, scores] = await Promise.all([
        reward.testsWeight > 0 ? of('judge', { plan, rollouts }) : undefined,
        reward.rewardModelWeight > 0 ? of('score', { plan, rollouts, rewardModel }) : undefined,
      ]);
      const { ref: rewards } = await of('reward', {
        rollouts,
        verdicts: verdicts?.ref,
        scores: scores?.ref,
        rewardModel: scores ? rewardModel : undefined,
      });
      trained = await of('update', { policy, reference, rollouts, rewards });
      const newest = trained.ref;
      pruning = pruning.then(async () => {
        const { keepRounds } = execution;
        const done = round === rounds;
        pruned = await this.#call('reinforcement.prune', { newest, ...pruned, needed: [reference], keepRounds, done });
      });
    }
    await pruning;
    return trained;
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      preset: { type: 'string', default: 'quickstart' },
      turns: { type: 'string', default: '2' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(HELP);
  const turns = Number(values.turns);
  if (!Number.isInteger(turns) || turns < 2) throw new Error(`--turns is ${values.turns}: give a number from 2 on.`);
  configOf(values.preset, '');
  const halves = halvesOfCores();

  const home = mkdtempSync(join(tmpdir(), 'acecoder-bench-'));
  const stack = await startStack({ home, ports: { frontend: 0, ui: 0, store: 0 } });
  /** Each side has a home and a part of the bucket, so that it makes everything itself. */
  const environmentOf = (side: string): Record<string, string> => ({
    ...Object.fromEntries(
      Object.entries(stackEnvironment(stack)).filter((entry): entry is [string, string] => entry[1] !== undefined),
    ),
    ACECODER_PYTHON: venvPython(),
    ACECODER_VENV: join(acecoderHome(), 'venv'),
    ACECODER_TORCH_THREADS: String(halves[0].split(',').length),
    ACECODER_HOME: join(home, side),
    ACECODER_S3_PREFIX: side,
  });
  const connection = await Connection.connect({ address: stack.address });
  const client = new Client({ connection, namespace: stack.namespace });
  const queue = 'overhead';
  const workers = startWorker(queue, environmentOf('workflows'));
  const services = createServices({ env: environmentOf('plain'), label: 'plain' });
  const stopped = new Promise<never>((_, reject) => {
    onEndSignal((signal) => reject(new Error(`Ended by ${signal}.`)));
  });
  const workflows: Side = async (salt, signal) => {
    const handle = await client.workflow.start('experiment', {
      taskQueue: queue,
      workflowId: `overhead-${randomUUID()}`,
      args: [configOf(values.preset, salt)],
    });
    signal?.addEventListener('abort', () => void handle.cancel().catch(() => undefined));
    const { stages } = (await handle.result()) as { stages: { name: string; artifact: ArtifactRef }[] };
    return Object.fromEntries(stages.map(({ name, artifact }) => [name, artifact.digest]));
  };
  const script = new PlainScript(services);
  const plain: Side = (salt, signal) => script.run(configOf(values.preset, salt), signal);

  /** Seconds of a side, which goes on with equal work until the other side has ended. */
  const timed = async (name: string, side: Side, salt: string, other: AbortSignal, ended: () => void) => {
    const started = performance.now();
    const digests = await side(salt);
    const seconds = (performance.now() - started) / 1000;
    console.error(`  ${name} ${seconds.toFixed(1)} s`);
    ended();
    if (!other.aborted) await side(`${salt}, beside`, other).catch(() => undefined);
    return { seconds, digests };
  };
  const pair = async (turn: number) => {
    const [ofWorkflows, ofPlain] = turn % 2 === 0 ? [halves[0], halves[1]] : [halves[1], halves[0]];
    const theirs = [...Object.values(stack.pids), ...processTree(workers.child.pid!)];
    pin(theirs, ofWorkflows);
    pin(
      processTree(process.pid).filter((pid) => !theirs.includes(pid)),
      ofPlain,
    );
    const [workflowsEnd, plainEnd] = [new AbortController(), new AbortController()];
    const [one, two] = await Promise.all([
      timed('workflows', workflows, `turn ${turn}`, plainEnd.signal, () => workflowsEnd.abort(new Error('ended'))),
      timed('plain script', plain, `turn ${turn}`, workflowsEnd.signal, () => plainEnd.abort(new Error('ended'))),
    ]);
    if (JSON.stringify(one.digests) !== JSON.stringify(two.digests))
      throw new Error(`Not both made the same: ${JSON.stringify(one.digests)} and ${JSON.stringify(two.digests)}.`);
    return { workflows: one.seconds, plain: two.seconds };
  };
  try {
    // Processes start and models load before anything is measured.
    await Promise.all([services.models.versions(), services.sandbox.versions()]);
    const pairs: Awaited<ReturnType<typeof pair>>[] = [];
    for (let turn = 0; turn < turns; turn += 1) {
      console.error(`turn ${turn + 1} of ${turns} ...`);
      pairs.push(await Promise.race([pair(turn), stopped]));
    }
    const sum = (side: 'workflows' | 'plain'): number => pairs.reduce((total, each) => total + each[side], 0);
    const each = (side: 'workflows' | 'plain'): string =>
      pairs.map((seconds) => seconds[side].toFixed(1)).join(' and ');
    const ratios = pairs.map(({ workflows, plain }) => (workflows / plain).toFixed(3)).join(' and ');
    report(
      'overhead',
      [
        {
          name: `overhead: ${values.preset} over the plain script`,
          value: sum('workflows') / sum('plain'),
          unit: 'times',
          bar: OVERHEAD_BAR,
          at: 'most',
          note: `side by side, cores ${halves[0]} and ${halves[1]}, then exchanged; ${ratios}`,
        },
        {
          name: 'plain script',
          value: sum('plain') / turns,
          unit: 's',
          bar: LEAST_SECONDS,
          note: each('plain'),
        },
        { name: 'workflows', value: sum('workflows') / turns, unit: 's', note: each('workflows') },
      ],
      values.json,
    );
  } finally {
    pin([process.pid], halves.join(','));
    await services.close();
    await workers.stop();
    await connection.close();
    await stopStack({ home });
    rmSync(home, { recursive: true, force: true });
  }
}

await main();
