/**
 * The data path on what real models wrote for HumanEval: replies of GPT-4 and CodeGen-16B by the recorded teacher, the
 * oracle filter, programs of CodeGen-16B and of four other models as recorded samples, pass rates and pairs. The
 * notices of the data say what is to come out; where a number depends on how it is counted, the test states the rule.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, inject, it } from 'vitest';
import { z } from 'zod';
import { readExperiment } from '../../infra/commands/estimate.js';
import { root, venvPython } from '../../infra/setup/paths.mjs';
import { FilteredQuestionRow, ProgramRow, type ArtifactRef, type StageResult } from '../../workflows/contract/index.js';
import { artifactStore, failureOf, startWorkflow } from '../fixtures/harness.js';

const data = join(root, '../shared/data');
const missing = !existsSync(data);
if (missing) console.warn(`SKIPPED: what real models wrote is not there (${data})`);

const folder = mkdtempSync(join(tmpdir(), 'acecoder-recorded-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Problem {
  task_id: string;
  prompt: string;
  entry_point: string;
  canonical_solution: string;
  test: string;
}

const rowsIn = <T>(path: string): T[] =>
  readFileSync(join(data, path), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as T);

function file(name: string, rows: unknown[]): string {
  const path = join(folder, name);
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return path;
}

const run = async (type: string, inputs: object, config: object): Promise<StageResult> =>
  (await startWorkflow(type, { inputs, config })).result() as Promise<StageResult>;

/**
 * Seeds that are HumanEval's problems with their reference solutions; the example inputs in the prompts are those of
 * the file.
 */
const seedsOf = (problems: readonly Problem[], name: string): object => ({
  kind: 'seeds',
  path: file(
    name,
    problems.map(({ task_id, prompt, canonical_solution }) => ({
      id: task_id,
      source: 'humaneval',
      code: prompt + canonical_solution,
    })),
  ),
});

/** Questions out of stored replies: the prompt is the question, the asserts are the tests. */
async function questionsOf(
  name: string,
  problems: readonly Problem[],
  tests: ReadonlyMap<string, unknown[]>,
  testCases: number,
): Promise<StageResult> {
  const replies = file(
    `${name}-replies.jsonl`,
    problems.map(({ task_id, prompt, entry_point }) => ({
      seedId: task_id,
      text: JSON.stringify({ question: prompt, signature: `def ${entry_point}(...)`, tests: tests.get(task_id) }),
    })),
  );
  return run(
    'synthesis',
    { seeds: seedsOf(problems, `${name}-seeds.jsonl`), replies: { kind: 'replies', path: replies } },
    {
      teacher: { kind: 'recorded', testCases },
      decontaminate: [],
      nearDuplicate: null,
      shardSize: 32,
    },
  );
}

async function programsOf(ref: ArtifactRef): Promise<ProgramRow[]> {
  const rows: ProgramRow[] = [];
  for await (const row of artifactStore().rowsOf(ref, ProgramRow)) rows.push(row);
  return rows;
}

/**
 * The reference load of the sandbox's bench: the first 16 programs of each problem, cut as the notice says, and up to
 * 20 one-line asserts that parse.
 */
interface LoadedProblem extends Problem {
  programs: string[];
  tests: string[];
}

function codegen(): LoadedProblem[] {
  const script =
    'import json; from pathlib import Path; from sandbox.bench.load import questions\n' +
    'print(json.dumps([{"task_id": q.id, "prompt": q.reference, "entry_point": q.entry_point, ' +
    '"canonical_solution": "", "test": q.check, "programs": q.programs, "tests": q.tests} ' +
    `for q in questions(Path(${JSON.stringify(join(root, '../shared'))}))]))`;
  const { stdout, stderr, status } = spawnSync(venvPython(), ['-c', script], {
    encoding: 'utf8',
    env: { PYTHONPATH: join(root, 'workers') },
    maxBuffer: 1 << 28,
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as LoadedProblem[];
}

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

describe.skipIf(missing)('CodeGen-16B’s test texts and programs for HumanEval', () => {
  it('go through filter, pass rates and pairs, and agreement and weights find right asserts without a reference', async () => {
    const problems = codegen();
    const questions = await questionsOf(
      'codegen',
      problems,
      new Map(problems.map(({ task_id, tests }) => [task_id, tests])),
      20,
    );
    const filtered = await run(
      'filtering',
      { questions: questions.ref },
      { minimumTestCases: 1, minimumDistinctOutputs: 1, heldOutShare: 0 },
    );
    // The notice has 864 of 2,869 that hold, where fragments may span lines; of the 2,830 that stand on one line, 33
    // are about another function than the problem's or need what a test may not have, and 894 hold.
    const { testCases, keptTestCases, questions: kept } = filtered.metrics as Record<string, number>;
    const { repeated } = filtered.metrics['droppedTestCases'] as Record<string, number>;
    const rejected = Object.values(questions.metrics['rejectedTests'] as Record<string, number>).reduce(
      (sum, count) => sum + count,
      0,
    );
    console.log(
      `CodeGen-16B: ${keptTestCases} of ${testCases} asserts hold for the reference, ${rejected} were rejected ` +
        `(notice: 864 of 2,869), ${kept} questions`,
    );
    expect(testCases! + rejected).toBe(2830);
    // Some stand there twice, with another message or as 6 and 6.0: the first is kept.
    expect([keptTestCases! + repeated!, repeated]).toEqual([894, 16]);

    const samples = {
      kind: 'samples',
      path: file(
        'codegen-samples.jsonl',
        problems.flatMap(({ task_id, programs }) => programs.map((text) => ({ seedId: task_id, text }))),
      ),
    };
    const sampled = await run(
      'sampling',
      { questions: filtered.ref, samples },
      { sampler: { kind: 'recorded' }, samples: 16, shardSize: 64 },
    );
    const programs = await programsOf(sampled.ref);
    expect(programs).toHaveLength(16 * kept!);
    const pairs = await run('preferences', { programs: sampled.ref }, {});
    expect(Number(pairs.metrics['pairs'])).toBeGreaterThan(0);
    console.log(
      `CodeGen-16B: mean pass rate on kept asserts ${Number(sampled.metrics['meanPassRate']).toFixed(3)}, ` +
        `${Number(pairs.metrics['pairs'])} pairs by the paper's rule`,
    );

    // CodeT's agreement and weights find right asserts without a reference: more of what they keep holds than of what
    // was written.
    const right = new Map((await filteredOf(filtered.ref)).map(({ id, tests: held }) => [id, new Set(held)]));
    for (const kind of ['agreement', 'weights']) {
      const { ref } = await run(
        'filtering',
        { questions: questions.ref, samples },
        {
          oracle: { kind, programs: { kind: 'recorded' }, n: 16 },
          minimumTestCases: 1,
          minimumDistinctOutputs: 1,
          heldOutShare: 0,
          shardSize: 64,
          limits: { cpuSecondsPerTest: 0.2 },
        },
      );
      const held = (await filteredOf(ref)).flatMap(({ id, tests: own }) =>
        own.map((test) => right.get(id)?.has(test) ?? false),
      );
      const precision = held.filter(Boolean).length / held.length;
      console.log(
        `CodeGen-16B: ${kind} of 16 programs keeps ${held.length} asserts, ` +
          `${(100 * precision).toFixed(0)} % of which hold for the reference`,
      );
      expect(precision).toBeGreaterThan(keptTestCases! / testCases! + 0.1);
    }
  });

  it('pass the hidden tests as often as the notices count, as the programs of four other models do', async () => {
    const problems = codegen();
    const questions = (rows: readonly Problem[], name: string): object => ({
      kind: 'filteredQuestions',
      path: file(
        name,
        rows.map(({ task_id, prompt, entry_point, canonical_solution, test }) => ({
          id: task_id,
          seedId: task_id,
          source: 'humaneval',
          question: prompt,
          entryPoint: entry_point,
          reference: prompt + canonical_solution,
          split: 'train',
          tests: [`${test}\n\ncheck(${entry_point})`],
        })),
      ),
    });
    const passed = async (
      name: string,
      rows: readonly Problem[],
      texts: { seedId: string; text: string }[],
      n: number,
      cpuSecondsPerTest: number,
    ): Promise<{ rate: number; count: number; byTask: Map<string, number> }> => {
      const { ref } = await run(
        'sampling',
        {
          questions: questions(rows, `${name}-questions.jsonl`),
          samples: { kind: 'samples', path: file(`${name}.jsonl`, texts) },
        },
        {
          sampler: { kind: 'recorded' },
          samples: n,
          shardSize: 64,
          limits: { cpuSecondsPerTest, cpuSecondsPerProgram: 2 * cpuSecondsPerTest },
        },
      );
      const programs = await programsOf(ref);
      const byTask = new Map<string, number>();
      for (const { questionId, passRate } of programs) byTask.set(questionId, (byTask.get(questionId) ?? 0) + passRate);
      const count = programs.filter(({ passRate }) => passRate === 1).length;
      return { rate: count / programs.length, count, byTask };
    };
    // Endless loops cost what they are allowed, and right programs of this model much less.
    const sampled = await passed(
      'codegen-hidden',
      problems,
      problems.flatMap(({ task_id, programs }) => programs.map((text) => ({ seedId: task_id, text }))),
      16,
      1,
    );
    expect(Number(sampled.rate.toFixed(3)), 'pass@1 of CodeGen-16B').toBe(0.217);
    expect([...sampled.byTask.values()].filter((count) => count > 0)).toHaveLength(87);
    expect([...sampled.byTask.values()].filter((count) => count > 0 && count < 16)).toHaveLength(84);

    // The whole prompt stands before each solution, as the notice counts gpt-3.5. A module-level assert that fails does
    // not keep the sandbox from loading the rest, with which the notice has 144 for gpt-4 in the place of 143.
    const counts: Record<string, number> = {};
    for (const model of ['codellama', 'gpt-3.5-turbo-0613', 'gpt-4-1106-preview', 'starcoder']) {
      const rows = rowsIn<Problem & { solution: string }>(`llmdebugger-humaneval-4models/${model}.jsonl`);
      counts[model] = (
        await passed(
          model,
          rows,
          rows.map(({ task_id, prompt, solution }) => ({ seedId: task_id, text: `${prompt}    pass\n\n${solution}` })),
          1,
          5,
        )
      ).count;
    }
    expect(counts).toEqual({ codellama: 81, 'gpt-3.5-turbo-0613': 123, 'gpt-4-1106-preview': 144, starcoder: 62 });
  });
});

async function filteredOf(ref: ArtifactRef): Promise<FilteredQuestionRow[]> {
  const rows: FilteredQuestionRow[] = [];
  for await (const row of artifactStore().rowsOf(ref, FilteredQuestionRow)) rows.push(row);
  return rows;
}
