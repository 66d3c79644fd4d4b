/** The laboratory in a small version: the chain must learn, not only run. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, inject, it } from 'vitest';
import labFile from '../../infra/experiments/lab.json' with { type: 'json' };
import { merge } from '../../workflows/contract/presets.js';
import { createServices } from '../../workers/plugins/services.js';
import { artifactStore, SHARED_QUEUE, temporalClient } from '../fixtures/harness.js';
import { runSeed, type LabSettings } from '../lab/run.js';

const SMALL = {
  questions: 300,
  unseen: 8,
  model: { ...labFile.model, steps: 260 },
  stages: {
    sampling: { samples: 8, questions: { train: 60, heldOut: 20 } },
    rewardModel: { learningRate: 0.001, batchSize: 16, execution: { microBatch: 16 } },
    reinforcement: {
      rounds: 5,
      promptsPerRound: 20,
      samplesPerPrompt: 8,
      algorithm: { learningRate: 0.0005, batchSize: 40 },
    },
    evaluation: { samples: 8, bestOf: [8], heldOutTasks: 40 },
  },
  // What a policy learns is looked at with reward from tests.
  recipes: { best: { rewardModel: { epochs: 3 }, reinforcement: { rounds: 1 } } },
};

it('learns from tests, and its reward model ranks programs of questions never seen', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'acecoder-lab-'));
  const services = createServices({ env: inject('environment'), label: 'lab' });
  try {
    const settings = merge(labFile, SMALL) as LabSettings;
    const context = {
      client: await temporalClient(),
      taskQueue: SHARED_QUEUE,
      models: services.models,
      store: artifactStore(),
      folder,
      say: () => undefined,
    };
    const { base, recipes, unseen, wrongJudgedRight } = await runSeed(
      context,
      { ...settings, recipes: { best: settings.recipes['best']!, tests: settings.recipes['tests']! } },
      'structural',
      1,
    );
    expect(wrongJudgedRight, 'wrong answers that pass all tests').toBe(0);
    expect(base.mean).toBeGreaterThan(0.1);
    expect(base.mean).toBeLessThan(0.5);
    expect(recipes['best']!.pairAccuracy).toBeGreaterThan(0.7);
    expect(recipes['best']!.closed).toBeGreaterThan(0.2);
    expect(recipes['tests']!.mean).toBeGreaterThan(base.mean + 0.1);
    expect(unseen.tasks).toBe(8);
    expect(Object.keys(unseen.policies).sort()).toEqual(['base', 'best', 'tests']);
  } finally {
    await services.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
