/** The laboratory in a small version: the chain must learn, not only run. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, inject, it } from 'vitest';
import labFile from '../../infra/experiments/lab.json' with { type: 'json' };
import { merge } from '../../workflows/contract/presets.js';
import { createServices } from '../../workers/plugins/services.js';
import { artifactStore, SHARED_QUEUE, temporalClient } from '../fixtures/harness.js';
import { allQuestions, FAMILIES, labQuestions } from '../lab/questions.js';
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

it('asks validation questions of nobody else', () => {
  for (const family of FAMILIES) {
    const of = (seed: number): string[] =>
      (['seen', 'unseen'] as const).flatMap((kinds) =>
        labQuestions(family, seed, Infinity, kinds).map(({ seed: { id } }) => id),
      );
    const validation = new Set(of(0));
    const others = of(1);
    expect(others.filter((id) => validation.has(id))).toEqual([]);
    expect(validation.size + others.length).toBe(allQuestions(family).length);
  }
});

it('keeps whole kinds of question for the end', () => {
  for (const family of FAMILIES) {
    const [seen, unseen] = (['seen', 'unseen'] as const).map(
      (kinds) => new Set(labQuestions(family, 1, Infinity, kinds).map(({ kind }) => kind)),
    );
    expect([...unseen!].filter((kind) => seen!.has(kind))).toEqual([]);
    expect(unseen!.size).toBe(2);
  }
});

it('gives every question one right answer and wrong ones that differ, in shares of one', () => {
  for (const { answers, shares } of FAMILIES.flatMap(allQuestions)) {
    expect(new Set(answers).size).toBe(answers.length);
    expect(shares).toHaveLength(answers.length);
    expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 9);
  }
});

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
