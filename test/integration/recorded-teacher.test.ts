/**
 * The recorded teacher: stored replies and samples in place of models, and what GPT-4 wrote for HumanEval. The notice of
 * the data says what is to come out; where a number depends on how it is counted, the test states the rule.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { z } from 'zod';
import { readExperiment } from '../../infra/commands/estimate.js';
import { root } from '../../infra/setup/paths.mjs';
import { artifactStore, failureOf, startWorkflow } from '../fixtures/harness.js';
import { file, missing, programsOf, questionsOf, rowsIn, run, type Problem } from '../fixtures/humaneval.js';

describe('the example of stored replies and samples', () => {
  it('goes from seeds to pairs without any model', async () => {
    const { seeds, inputs, stages } = readExperiment(join(root, 'infra/experiments/recorded.json'));
    const { replies, samples } = inputs!;
    const { ref: questions, metrics: written } = await run('synthesis', { seeds, replies }, stages.synthesis);
    // Two of the 36 solve a problem of HumanEval.
    expect(written).toMatchObject({
      questions: 34,
      failures: {},
      droppedSeeds: { benchmarkContamination: 2 },
      costUsd: 0,
    });
    const { ref: filtered } = await run('filtering', { questions }, stages.filtering);
    const sampled = await run('sampling', { questions: filtered, samples }, stages.sampling);
    const programs = await programsOf(sampled.ref);
    expect(programs.filter(({ passRate }) => passRate === 1).length).toBeGreaterThanOrEqual(30);
    expect(programs.some(({ passRate }) => passRate < 1)).toBe(true);
    const pairs = await run('preferences', { programs: sampled.ref }, stages.preferences);
    expect(Number(pairs.metrics['pairs'])).toBeGreaterThan(10);
    expect((await run('sampling', { questions: filtered, samples }, stages.sampling)).reused).toBe(true);
  });

  it('gives an experiment its inputs: a preview of it asks no model either', async () => {
    const example = readExperiment(join(root, 'infra/experiments/recorded.json'));
    const models = { policy: { kind: 'folder', path: inject('model') } };
    const handle = await startWorkflow('preview', { ...example, models });
    const { html } = (await handle.result()) as { html: string };
    expect(readFileSync(html, 'utf8')).toMatch(/5 seeds, [45] questions, \d after the filter, [1-9]\d* programs/);
    const { inputs: _inputs, ...without } = example;
    const { message } = await failureOf(await startWorkflow('preview', { ...without, models }));
    expect(message).toContain("inputs.replies: needed, because stages.synthesis.teacher.kind is 'recorded'");
    expect(message).toContain("inputs.samples: needed, because stages.sampling.sampler.kind is 'recorded'");
  });

  it('gives a data set that refreshes its replies', async () => {
    const { seeds, inputs, stages } = readExperiment(join(root, 'infra/experiments/recorded.json'));
    const { synthesis, filtering } = stages;
    const handle = await startWorkflow('datasetRefresh', {
      name: 'recorded',
      seeds,
      inputs: { replies: inputs!.replies },
      synthesis,
      filtering,
    });
    const { added, version } = (await handle.result()) as { added: number; version: number };
    expect(version).toBe(1);
    expect(added).toBeGreaterThan(20);
  });

  it('counts questions without samples', async () => {
    const { seeds, inputs, stages } = readExperiment(join(root, 'infra/experiments/recorded.json'));
    const { replies } = inputs!;
    const { ref: questions } = await run('synthesis', { seeds, replies }, stages.synthesis);
    const { ref: filtered, metrics } = await run('filtering', { questions }, { ...stages.filtering, heldOutShare: 0 });
    const samples = {
      kind: 'samples',
      path: file('one.jsonl', [{ seedId: 'simple/double', text: 'def double(n):\n    return 2 * n' }]),
    };
    const sampled = await run(
      'sampling',
      { questions: filtered, samples },
      { sampler: { kind: 'recorded' }, samples: 2 },
    );
    expect(sampled.metrics).toMatchObject({
      programs: 1,
      questions: 1,
      meanPassRate: 1,
      droppedQuestions: { noSamples: Number(metrics['questions']) - 1 },
    });
  });
});

describe.skipIf(missing)('GPT-4’s asserts for HumanEval', () => {
  it('are kept and dropped as the notice counts them', async () => {
    const problems = rowsIn<Problem & { solution: string[] }>(
      'reflexion-gpt4-humaneval-tests/gpt4_generated_tests.jsonl',
    );
    const questions = await questionsOf(
      'gpt4',
      problems,
      new Map(problems.map(({ task_id, solution }) => [task_id, solution])),
      5,
    );
    const filtered = await run(
      'filtering',
      { questions: questions.ref },
      { minimumTestCases: 1, minimumDistinctOutputs: 1 },
    );
    // The notice counts all 814: 689 hold, 121 fail, 3 raise, 1 times out. Seven are about another function of the
    // problem (10, 38 and 50), so the parser rejects them: six of those that hold, and one that raises.
    expect(questions.metrics).toMatchObject({
      questions: 164,
      testCases: 814 - 7,
      failures: {},
      rejectedTests: { wrongFunction: 7 },
      costUsd: 0,
    });
    expect(filtered.metrics).toMatchObject({
      testCases: 807,
      keptTestCases: 689 - 6,
      droppedTestCases: { assertion_failed: 121, raised: 3 - 1, timeout: 1 },
    });
    // Each of them stands in the artifact with its reason.
    const { files } = await artifactStore().manifest(filtered.ref);
    const dropped: { status: string; reason?: string }[] = [];
    for await (const row of artifactStore().readRows(
      [files.find(({ name }) => name === 'droppedTests.jsonl')!],
      z.looseObject({ status: z.string(), reason: z.string().optional() }),
    ))
      dropped.push(row);
    expect(dropped).toHaveLength(121 + 2 + 1);
    expect(
      dropped.filter(({ status, reason }) => status === 'assertion_failed' && reason?.startsWith('got ')),
    ).toHaveLength(121);
  });
});
