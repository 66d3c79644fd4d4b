/**
 * What Temporal, the store and the worker cost a training: the stage `rewardModel` on SmolLM2 beside the same call of the
 * same Python operation, which writes its checkpoints as often. Each side runs twice, in the order direct, stage, stage, direct, so that
 * a host that becomes slower or faster does so for both, after a training of one step that imports the model and warms the
 * process; all must have the same losses.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../infra/dev/paths.mjs';
import { promptOf } from '../../activities/sampling/prompt.js';
import { Experiment, expandPreset, semanticsOf, type PairRow, type StageResult } from '../../workflows/contract/index.js';
import { createServices } from '../../workers/plugins/services.js';
import { workerProcess } from '../fixtures/harness.js';
import type { Surroundings } from './surroundings.js';
import type { Measure } from './table.js';

const OVERHEAD_BAR = 1.05;
const LEAST_SECONDS = 180;

type Curve = { step: number; loss: number }[];

/** Pairs of the project's own seeds: each program against one that returns nothing. */
function pairs(count: number): PairRow[] {
  const seeds = readFileSync(join(root, 'infra/seeds/simple.jsonl'), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as { id: string; code: string });
  return Array.from({ length: count }, (_, index) => {
    const { id, code } = seeds[index % seeds.length]!;
    return {
      id: `${id}/${index}`, questionId: id, split: 'train', question: `Write this function, number ${index}: ${code.split('\n')[0]}`,
      chosen: code, rejected: code.replace(/return .*/g, 'return None'), chosenPassRate: 1, rejectedPassRate: 0,
    };
  });
}

function writeRows(path: string, rows: readonly object[]): string {
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return path;
}

/** Measures of two trainings of `steps` optimizer steps on each side. */
export async function overhead({ client, environment, home }: Surroundings, steps: number): Promise<Measure[]> {
  const { models: { policy: model }, stages: { rewardModel: config } } = Experiment.parse(expandPreset({ extends: 'quickstart', name: 'overhead' }));
  const rows = pairs(steps * config.batchSize);
  const warmUp = rows.slice(0, config.batchSize);
  const queue = 'overhead';
  const workers = workerProcess(queue, environment);
  const services = createServices({ env: environment, label: 'direct' });
  try {
    const staged = async (name: string, some: readonly PairRow[]): Promise<Curve> => {
      const path = writeRows(join(home, `${name}.jsonl`), some);
      // The salt gives each a key of its own, so that none finds the model of another.
      const { metrics, reused } = await client.workflow.execute('rewardModel', {
        taskQueue: queue, workflowId: `overhead-${name}-${Date.now()}`, args: [{ inputs: { pairs: { kind: 'pairs', path }, backbone: model }, config: { ...config, salt: name } }],
      }) as StageResult;
      if (reused) throw new Error(`The stage '${name}' found a model and trained none.`);
      return metrics['curve'] as Curve;
    };
    const folder = join(home, 'direct');
    const backbone = join(folder, 'backbone');
    const direct = async (some: readonly PairRow[]): Promise<Curve> => {
      const conversations = some.map(({ id, questionId, question, chosen, rejected }) => ({ id, questionId, ...promptOf(question), chosen, rejected }));
      const { execution: { microBatch, checkpointSeconds, gradientCheckpointing } } = config;
      const { curve } = await services.models.call<{ curve: Curve }>('trainRewardModel', {
        model: backbone, train: writeRows(join(folder, 'train.jsonl'), conversations), heldOut: writeRows(join(folder, 'heldOut.jsonl'), []),
        output: join(folder, 'model'), checkpoints: join(folder, 'checkpoints'),
        config: { ...semanticsOf(config), microBatch, checkpointSeconds, gradientCheckpointing, baseline: true },
      }, { onCheckpoint: async () => { checkpoints++; } });
      return curve;
    };
    let checkpoints = 0;
    const timed = async (work: Promise<Curve>): Promise<{ losses: string; seconds: number }> => {
      const started = performance.now();
      const curve = await work;
      const seconds = (performance.now() - started) / 1000;
      console.error(`  ${seconds.toFixed(1)} s`);
      return { losses: JSON.stringify(curve.map(({ step, loss }) => [step, loss])), seconds };
    };
    await services.models.call('importModel', { source: model, output: backbone });
    await direct(warmUp);
    await staged('warm-up', warmUp);
    checkpoints = 0;
    const turns = [await timed(direct(rows)), await timed(staged('first', rows)), await timed(staged('second', rows)), await timed(direct(rows))] as const;
    const losses = new Set(turns.map((turn) => turn.losses));
    if (losses.size > 1) throw new Error(`Not all compute the same; steps and losses: ${[...losses].join(' and ')}.`);
    const [directSeconds, stageSeconds] = [[turns[0], turns[3]], [turns[1], turns[2]]].map((two) => two.map(({ seconds }) => seconds)) as [number[], number[]];
    const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    const each = (values: readonly number[]): string => values.map((value) => value.toFixed(1)).join(' and ');
    return [
      { name: 'overhead: stage over direct call', value: mean(stageSeconds) / mean(directSeconds), unit: 'times', bar: OVERHEAD_BAR, at: 'most', note: `twice each; ${checkpoints / 2} checkpoints a call` },
      { name: 'overhead: direct call', value: mean(directSeconds), unit: 's', bar: LEAST_SECONDS, note: `${steps} steps of ${config.batchSize} pairs; ${each(directSeconds)}` },
      { name: 'overhead: stage', value: mean(stageSeconds), unit: 's', note: each(stageSeconds) },
    ];
  } finally {
    await services.close();
    await workers.stop();
  }
}
