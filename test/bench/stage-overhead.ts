/**
 * What Temporal, the store and the worker cost a training: the stage `rewardModel` on SmolLM2 next to the same call of
 * the same Python operation, which writes its checkpoints as often.
 *
 * Both run at the same time, each on half of the cores, the stage with its worker, Temporal and the store; then again
 * with the halves exchanged. So what makes the host slower for minutes meets both. One after the other, they differ by
 * more than the bar allows: two calls of the same training took 326 s and 285 s. All must have the same losses.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../infra/setup/paths.mjs';
import { conversationForms } from '../../activities/policy/prompt.js';
import {
  Experiment,
  expandPreset,
  semanticsOf,
  type PairRow,
  type StageResult,
} from '../../workflows/contract/index.js';
import { createServices } from '../../workers/plugins/services.js';
import { startWorker } from '../fixtures/start-worker.js';
import type { Surroundings } from './surroundings.js';
import type { Measure } from './table.js';

const OVERHEAD_BAR = 1.05;
const LEAST_SECONDS = 180;

type Curve = { step: number; loss: number }[];

/** Pairs of the project's own seeds: each program against one that returns nothing. */
function pairs(count: number): PairRow[] {
  const seeds = readFileSync(join(root, 'infra/seeds/simple.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { id: string; code: string });
  return Array.from({ length: count }, (_, index) => {
    const { id, code } = seeds[index % seeds.length]!;
    return {
      id: `${id}/${index}`,
      questionId: id,
      split: 'train',
      question: `Write this function, number ${index}: ${code.split('\n')[0]}`,
      chosen: code,
      rejected: code.replace(/return .*/g, 'return None'),
      chosenPassRate: 1,
      rejectedPassRate: 0,
    };
  });
}

function writeRows(path: string, rows: readonly object[]): string {
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return path;
}

/** The cores of this host in two halves, as `taskset` takes them. */
export function halvesOfCores(): [string, string] {
  const allowed = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]!;
  const cores = allowed.split(',').flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number) as [number, number?];
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
  const half = Math.floor(cores.length / 2);
  if (half === 0)
    throw new Error(`The overhead is measured on two halves of the cores, and there is one core: ${allowed}.`);
  return [cores.slice(0, half).join(','), cores.slice(half, 2 * half).join(',')];
}

/** A process and all below it, without those that end meanwhile. */
export function processTree(pid: number): number[] {
  try {
    const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    );
    return [pid, ...children.flatMap(processTree)];
  } catch {
    return [pid];
  }
}

/** Keeps processes and what they start to some cores. */
export function pin(pids: readonly number[], cores: string): void {
  for (const pid of pids) {
    const { status, error, stderr } = spawnSync('taskset', ['--all-tasks', '--cpu-list', '--pid', cores, String(pid)], {
      encoding: 'utf8',
    });
    if (error || (status !== 0 && existsSync(`/proc/${pid}`)))
      throw new Error(
        `taskset (util-linux) cannot keep process ${pid} to the cores ${cores}: ${error?.message ?? stderr}`,
      );
  }
}

/** Measures of two trainings of `steps` optimizer steps on each side. */
export async function stageOverhead(
  { client, environment: all, home, servers }: Surroundings,
  steps: number,
): Promise<Measure[]> {
  const {
    models: { policy: model },
    stages: { rewardModel: config },
  } = Experiment.parse(expandPreset({ extends: 'quickstart', name: 'overhead' }));
  const rows = pairs(steps * config.batchSize);
  const warmUp = rows.slice(0, config.batchSize);
  const halves = halvesOfCores();
  const environment = { ...all, ACECODER_TORCH_THREADS: String(halves[0].split(',').length) };
  const queue = 'overhead';
  const workers = startWorker(queue, environment);
  const services = createServices({ env: environment, label: 'direct' });
  try {
    const staged = async (name: string, some: readonly PairRow[]): Promise<Curve> => {
      const path = writeRows(join(home, `${name}.jsonl`), some);
      // The salt gives each a key of its own, so that none finds the model of another.
      const { metrics, reused } = (await client.workflow.execute('rewardModel', {
        taskQueue: queue,
        workflowId: `overhead-${name}-${Date.now()}`,
        args: [{ inputs: { pairs: { kind: 'pairs', path }, backbone: model }, config: { ...config, salt: name } }],
      })) as StageResult;
      if (reused) throw new Error(`The stage '${name}' found a model and trained none.`);
      return metrics['curve'] as Curve;
    };
    const folder = join(home, 'direct');
    const backbone = join(folder, 'backbone');
    const direct = async (some: readonly PairRow[], signal?: AbortSignal): Promise<Curve> => {
      const conversations = some.map(({ id, questionId, question, chosen, rejected }) => ({
        id,
        questionId,
        messages: [{ role: 'user', content: question }],
        chosen,
        rejected,
      }));
      const {
        execution: { microBatch, checkpointSeconds, gradientCheckpointing },
      } = config;
      const { curve } = await services.models.call(
        'trainRewardModel',
        {
          model: backbone,
          train: writeRows(join(folder, 'train.jsonl'), conversations),
          heldOut: writeRows(join(folder, 'heldOut.jsonl'), []),
          forms: conversationForms(),
          output: join(folder, 'model'),
          checkpoints: join(folder, 'checkpoints'),
          config: { ...semanticsOf(config), microBatch, checkpointSeconds, gradientCheckpointing, baseline: true },
        },
        {
          ...(signal ? { signal } : {}),
          onCheckpoint: async () => {
            if (!signal) checkpoints++;
          },
        },
      );
      return curve;
    };
    let checkpoints = 0;
    const timed = async (side: string, work: Promise<Curve>): Promise<{ losses: string; seconds: number }> => {
      const started = performance.now();
      const curve = await work;
      const seconds = (performance.now() - started) / 1000;
      console.error(`  ${side} ${seconds.toFixed(1)} s`);
      return { losses: JSON.stringify(curve.map(({ step, loss }) => [step, loss])), seconds };
    };
    /** Both sides at once, each on a half of the cores. */
    const pair = async (name: string, [ofStage, ofCall]: readonly [string, string]) => {
      const stageProcesses = [...servers, ...processTree(workers.child.pid!)];
      pin(stageProcesses, ofStage);
      pin(
        processTree(process.pid).filter((pid) => !stageProcesses.includes(pid)),
        ofCall,
      );
      const stage = timed('stage', staged(name, rows));
      // It may fail before it is waited for.
      stage.catch(() => undefined);
      const own = await timed('direct', direct(rows));
      // A side that has the memory to itself is faster: the call goes on until the stage has ended too.
      const ended = new AbortController();
      const beside = direct(rows, ended.signal).catch((error: unknown) => {
        if (!ended.signal.aborted) throw error;
      });
      try {
        return { stage: await stage, own };
      } finally {
        ended.abort(new Error('The stage has ended.'));
        await beside;
      }
    };
    if (model.kind === 'artifact') throw new Error('The preset quickstart names a stored model.');
    await services.models.call('importModel', { source: model, output: backbone });
    await direct(warmUp);
    await staged('warm-up', warmUp);
    checkpoints = 0;
    const pairsOfSides = [await pair('first', [halves[0], halves[1]]), await pair('second', [halves[1], halves[0]])];
    const losses = new Set(pairsOfSides.flatMap(({ stage, own }) => [stage.losses, own.losses]));
    if (losses.size > 1) throw new Error(`Not all compute the same; steps and losses: ${[...losses].join(' and ')}.`);
    const [stageSeconds, directSeconds] = [
      pairsOfSides.map(({ stage }) => stage.seconds),
      pairsOfSides.map(({ own }) => own.seconds),
    ];
    const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    const each = (values: readonly number[]): string => values.map((value) => value.toFixed(1)).join(' and ');
    return [
      {
        name: 'overhead: stage over direct call',
        value: mean(stageSeconds) / mean(directSeconds),
        unit: 'times',
        bar: OVERHEAD_BAR,
        at: 'most',
        note:
          `side by side, cores ${halves[0]} and ${halves[1]}, then exchanged; ` +
          `${checkpoints / 2} checkpoints per call`,
      },
      {
        name: 'overhead: direct call',
        value: mean(directSeconds),
        unit: 's',
        bar: LEAST_SECONDS,
        note: `${steps} steps of ${config.batchSize} pairs; ${each(directSeconds)}`,
      },
      { name: 'overhead: stage', value: mean(stageSeconds), unit: 's', note: each(stageSeconds) },
    ];
  } finally {
    pin([process.pid], halves.join(','));
    await services.close();
    await workers.stop();
  }
}
