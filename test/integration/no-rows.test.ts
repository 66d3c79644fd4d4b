/** A stage that makes nothing ends there with the reasons; where nothing is a result too, its workflow goes on. */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WorkflowFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { afterAll, describe, expect, inject, it } from 'vitest';
import type { StageResult } from '../../workflows/contract/index.js';
import { failureOf, startWorkflow, statusWhere, temporalCli, updateOf } from '../fixtures/harness.js';
import { microExperiment } from '../fixtures/micro-experiment.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-no-rows-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, rows: readonly object[]): string {
  const path = join(folder, `${name}.jsonl`);
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return path;
}

/** Functions without annotations and docstrings, which give objects or nothing. */
const plainSeeds = (run = randomUUID()): string =>
  file(
    `plain-${run}`,
    Array.from({ length: 10 }, (_, at) => ({
      id: `own/f${at}`,
      source: 'own',
      code: `def f${at}(a, b):\n    # ${run}\n    return ${at < 4 ? 'object()' : 'None'}\n`,
    })),
  );

/** Replies to those seeds that hold no question. */
const uselessReplies = (): string =>
  file(
    'replies',
    Array.from({ length: 10 }, (_, at) => ({ seedId: `own/f${at}`, text: 'I am sorry, but I cannot help.' })),
  );

const recordedTeacher = { teacher: { kind: 'recorded' }, decontaminate: [], nearDuplicate: null };

const programs = (name: string, passRate: number): string =>
  file(
    name,
    Array.from({ length: 6 }, (_, index) => ({
      id: `p-${index}`,
      questionId: 'q',
      split: 'train',
      question: `Question of ${name}`,
      index,
      program: `def f():\n    return ${index}`,
      finish: 'stop',
      passRate,
      outcomes: [{ status: passRate === 1 ? 'pass' : 'assertion_failed' }],
    })),
  );

/** The failure of a stage that is started alone, and what it made. */
async function nothingOf(
  stage: string,
  inputs: object,
  config: object,
): Promise<{ message: string; made: StageResult }> {
  const handle = await startWorkflow(stage, { inputs, config: { ...config, salt: randomUUID() } });
  const error: unknown = await handle.result().catch((caught: unknown) => caught);
  if (!(error instanceof WorkflowFailedError) || !(error.cause instanceof ApplicationFailure)) throw error;
  expect(error.cause.type).toBe('NoRows');
  return { message: error.cause.message, made: error.cause.details![0] as StageResult };
}

describe('an experiment whose seeds give the offline teacher no question', () => {
  it('parks at synthesis with the counted reasons, and what the teacher needs', async () => {
    const input = { ...microExperiment('plain', plainSeeds(), inject('model')), onFailure: 'park' };
    const handle = await startWorkflow('experiment', input);
    const parked = await statusWhere(handle, ({ state }) => state === 'parked');
    const { failure } = parked.stages.find(({ name }) => name === 'synthesis')!;
    expect(failure?.type).toBe('NoRows');
    expect(failure?.message).toMatch(
      /^synthesis made no questions of 10 seeds: returnsNothing 6, noLiteral 4\. The offline teacher needs a function/,
    );
    await updateOf(handle, 'abandon', { reason: 'test' });
  });

  it('has another word where a model teaches', async () => {
    const inputs = { replies: { kind: 'replies', path: uselessReplies() } };
    const input = microExperiment('plain', plainSeeds(), inject('model'));
    const stages = { ...(input['stages'] as object), synthesis: recordedTeacher };
    const { type, message } = await failureOf(await startWorkflow('experiment', { ...input, inputs, stages }));
    expect(type).toBe('NoRows');
    expect(message).toMatch(/^synthesis: synthesis made no questions of 10 seeds: \w+ 10\. /);
  });
});

describe('a stage that makes nothing', () => {
  it('fails with the counted reasons, and its result', async () => {
    const { message, made } = await nothingOf(
      'synthesis',
      { seeds: { kind: 'seeds', path: plainSeeds() }, replies: { kind: 'replies', path: uselessReplies() } },
      recordedTeacher,
    );
    expect(message).toMatch(/^synthesis made no questions of 10 seeds: \w+ 10\. Give other seeds, another teacher/);
    expect(made.ref).toMatchObject({ kind: 'questions', rows: 10 });

    const questions = made.ref;
    const filtered = await nothingOf('filtering', { questions }, {});
    expect(filtered.message).toMatch(
      /^filtering made no questions of 0 test cases, .* confirmed 0: there was nothing to work on\. Lower min/,
    );
    const policy = { kind: 'folder', path: inject('model') };
    const sampled = await nothingOf('sampling', { questions: filtered.made.ref, policy }, { samples: 2 });
    expect(sampled.message).toMatch(
      /^sampling made no programs of 0 questions: there was nothing to work on\. Give more/,
    );
  });

  it('is a preference stage without pairs too, and what is made of it: an export, and a reward model', async () => {
    const { message, made } = await nothingOf(
      'preferences',
      { programs: { kind: 'programs', path: programs('all-fail', 0) } },
      {},
    );
    expect(message).toMatch(
      /^preferences made no pairs of 6 programs for 1 questions .*: \w+ \d+.*\. Lower minimumBest/,
    );
    const exported = await startWorkflow('datasetExport', {
      format: 'aceCodePair300K',
      name: 'nothing',
      inputs: { pairs: made.ref },
    });
    expect(await failureOf(exported)).toEqual({
      type: 'NoRows',
      message: `the export nothing would have no rows: pairs ${made.ref.key} has 0 rows; give other inputs`,
    });
    const backbone = { kind: 'folder', path: inject('model') };
    const trained = await startWorkflow('rewardModel', { inputs: { pairs: made.ref, backbone } });
    expect((await failureOf(trained)).type).toBe('NoRows');
  });

  it('parks an experiment there, which goes on with the setting that the message names', async () => {
    const input = microExperiment('nothing-kept', inject('seeds'), inject('model'));
    const stages = { ...(input['stages'] as object), filtering: { heldOutShare: 0.3, minimumTestCases: 900 } };
    const handle = await startWorkflow('experiment', { ...input, stages, onFailure: 'park' });
    const parked = await statusWhere(handle, ({ state }) => state === 'parked');
    const stage = parked.stages.find(({ name }) => name === 'filtering')!;
    expect(stage.failure?.type).toBe('NoRows');
    expect(stage.failure?.message).toMatch(/^filtering made no questions of \d+ test cases, .*: \w+ \d+/);
    expect(stage.failure?.message).toContain('Lower minimumTestCases');
    await temporalCli(
      ...['workflow', 'update', 'execute', '--workflow-id', handle.workflowId, '--name', 'retryStage', '--input'],
      '{"stage": "filtering", "semantics": {"minimumTestCases": 3}, "allowRepeat": true}',
    );
    await statusWhere(handle, ({ stages: now }) => now.find(({ name }) => name === 'filtering')?.state === 'done');
    await updateOf(handle, 'abandon', { reason: 'test' });
  });
});

describe('where nothing is a result too', () => {
  const recorded = () => ({
    seeds: { kind: 'seeds', path: plainSeeds() },
    inputs: { replies: { kind: 'replies', path: uselessReplies() } },
  });

  it('a night adds nothing, tells why, and asks no more about the same seeds', async () => {
    const input = { name: `empty-${randomUUID()}`, ...recorded(), synthesis: recordedTeacher, filtering: {} };
    const night = async (): Promise<unknown> => (await startWorkflow('datasetRefresh', input)).result();
    const reasons = expect.objectContaining({ added: 0, dropped: expect.any(Object) as object }) as object;
    expect(await night()).toMatchObject({ version: 1, added: 0, total: 0, difference: reasons });
    expect(await night()).toMatchObject({ version: 1, added: 0, total: 0 });
  });

  it('a preview shows the reasons', async () => {
    const input = microExperiment('empty', '', inject('model'));
    const stages = { ...(input['stages'] as object), synthesis: recordedTeacher };
    const { html } = (await (await startWorkflow('preview', { ...input, ...recorded(), stages })).result()) as {
      html: string;
    };
    const page = readFileSync(html, 'utf8');
    expect(page).toContain('5 seeds, 0 questions, 0 after the filter');
    expect(page.match(/No question: /g)).toHaveLength(5);
  });
});
