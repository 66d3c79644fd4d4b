/**
 * What Temporal, the store and the worker cost a training: the stage `rewardModel` on SmolLM2 beside the same call of the
 * same Python operation, which writes its checkpoints as often. Each side runs once, after a training of one step that
 * imports the model and warms the process; both must have the same losses.
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

/** Measures of one training of `steps` optimizer steps on each side. */
export async function overhead({ client, environment, home }: Surroundings, steps: number): Promise<Measure[]> {
  const { models: { policy: model }, stages: { rewardModel: config } } = Experiment.parse(expandPreset({ extends: 'quickstart', name: 'overhead' }));
  const rows = pairs(steps * config.batchSize);
  const warmUp = rows.slice(0, config.batchSize);
  const queue = 'overhead';
  const workers = workerProcess(queue, environment);
  const services = createServices({ env: environment, label: 'direct' });
  try {
    const staged = async (name: string, some: readonly PairRow[]): Promise<StageResult> => {
      const path = writeRows(join(home, `${name}.jsonl`), some);
      return client.workflow.execute('rewardModel', {
        taskQueue: queue, workflowId: `overhead-${name}-${Date.now()}`, args: [{ inputs: { pairs: { kind: 'pairs', path }, backbone: model }, config }],
      }) as Promise<StageResult>;
    };
    const folder = join(home, 'direct');
    const backbone = join(folder, 'backbone');
    const direct = async (some: readonly PairRow[]): Promise<{ curve: Curve }> => {
      const conversations = some.map(({ id, questionId, question, chosen, rejected }) => ({ id, questionId, ...promptOf(question), chosen, rejected }));
      const { execution: { microBatch, checkpointSeconds, gradientCheckpointing } } = config;
      return services.models.call('trainRewardModel', {
        model: backbone, train: writeRows(join(folder, 'train.jsonl'), conversations), heldOut: writeRows(join(folder, 'heldOut.jsonl'), []),
        output: join(folder, 'model'), checkpoints: join(folder, 'checkpoints'),
        config: { ...semanticsOf(config), microBatch, checkpointSeconds, gradientCheckpointing, baseline: true },
      }, { onCheckpoint: async () => { checkpoints++; } });
    };
    let checkpoints = 0;
    const timed = async <T>(work: Promise<T>): Promise<{ result: T; seconds: number }> => {
      const started = performance.now();
      return { result: await work, seconds: (performance.now() - started) / 1000 };
    };
    await services.models.call('importModel', { source: model, output: backbone });
    await direct(warmUp);
    await staged('warm-up', warmUp);
    checkpoints = 0;
    const own = await timed(direct(rows));
    const stage = await timed(staged('pairs', rows));
    const [ofStage, ofCall] = [stage.result.metrics['curve'] as Curve, own.result.curve].map((curve) => JSON.stringify(curve.map(({ step, loss }) => [step, loss])));
    if (ofStage !== ofCall) throw new Error(`The two sides do not compute the same; steps and losses: ${ofStage} and ${ofCall}.`);
    return [
      { name: 'overhead: stage over direct call', value: stage.seconds / own.seconds, unit: 'times', bar: OVERHEAD_BAR, at: 'most', note: `once each; ${checkpoints} checkpoints` },
      { name: 'overhead: direct call', value: own.seconds, unit: 's', bar: LEAST_SECONDS, note: `${steps} steps of ${config.batchSize} pairs` },
      { name: 'overhead: stage', value: stage.seconds, unit: 's' },
    ];
  } finally {
    await services.close();
    await workers.stop();
  }
}
