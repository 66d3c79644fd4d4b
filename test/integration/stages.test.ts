/** Stages and services that are started alone, by the real Temporal CLI and from files. */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import { describe, expect, inject, it } from 'vitest';
import { collect } from '../../activities/artifacts/collections.js';
import { runTemporalCli } from '../../infra/stack/embedded-stack.js';
import {
  EvaluationRow,
  FilteredQuestionRow,
  PairRow,
  ProgramRow,
  type ArtifactRef,
  type EvaluationResult,
  type StageResult,
} from '../../workflows/contract/index.js';
import type { CompareResult } from '../../workflows/compare.js';
import { artifactStore, failureOf, SHARED_QUEUE, startWorkflow } from '../fixtures/harness.js';
import { programsFile } from '../fixtures/programs.js';
import { microExperiment } from '../fixtures/micro-experiment.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-stages-'));

async function cli(...args: string[]): Promise<{ stdout: string; stderr: string; code: number }> {
  return runTemporalCli(inject('stack'), args);
}

describe('preferences by Temporal CLI', () => {
  it('makes pairs from a file, and the same artifact again without doing it again', async () => {
    const input = join(folder, 'input.json');
    writeFileSync(
      input,
      JSON.stringify({ inputs: { programs: { kind: 'programs', path: programsFile(folder) } }, config: {} }),
    );
    const results = [];
    for (const id of ['pairs-1', 'pairs-2']) {
      const { stdout, stderr, code } = await cli(
        'workflow',
        'execute',
        '--type',
        'preferences',
        '--task-queue',
        SHARED_QUEUE,
        '--workflow-id',
        id,
        '--input-file',
        input,
        '--output',
        'json',
      );
      expect(stderr).toBe('');
      expect(code).toBe(0);
      results.push(
        (
          JSON.parse(stdout) as {
            result: { ref: ArtifactRef; reused: boolean; by?: string; metrics: Record<string, unknown> };
          }
        ).result,
      );
    }
    const [first, second] = results;
    expect(first).toMatchObject({ reused: false, metrics: { pairs: 25, heldOutPairs: 5, pairedQuestions: 5 } });
    expect(second).toMatchObject({ reused: true, by: 'pairs-1', ref: first!.ref });
    const pairs: PairRow[] = [];
    for await (const pair of artifactStore().rowsOf(first!.ref, PairRow)) pairs.push(pair);
    expect(
      pairs.every(
        ({ chosenPassRate = NaN, rejectedPassRate = NaN, split }) =>
          split === 'train' &&
          chosenPassRate >= 0.8 &&
          rejectedPassRate > 0 &&
          chosenPassRate - rejectedPassRate > 0.399,
      ),
    ).toBe(true);
  });

  it('works in shards whose size is part of what is made, in a window that is not', async () => {
    const path = programsFile(folder);
    const start = (config: object): Promise<{ ref: ArtifactRef; reused: boolean }> =>
      startWorkflow('preferences', { inputs: { programs: { kind: 'programs', path } }, config }).then(
        (handle) => handle.result() as never,
      );
    const one = await start({ shardSize: 2, execution: { window: 1 } });
    const many = await start({ shardSize: 2, execution: { window: 3 } });
    expect(many).toMatchObject({ reused: true, ref: one.ref });
    const whole = await start({});
    expect(whole.ref.key).not.toBe(one.ref.key);
    expect(whole.ref.digest).toBe(one.ref.digest);
  });

  it('names the line of a file that is wrong, and leaves nothing', async () => {
    const path = join(folder, 'broken.jsonl');
    writeFileSync(path, `${JSON.stringify({ id: 'p' })}\n`);
    const before = (await artifactStore().list('artifacts/programs/')).length;
    const { type, message } = await failureOf(
      await startWorkflow('preferences', { inputs: { programs: { kind: 'programs', path } }, config: {} }),
    );
    expect(type).toBe('InvalidExperiment');
    expect(message).toContain('inputs.programs.path: line 1: questionId: ');
    expect((await artifactStore().list('artifacts/programs/')).length).toBe(before);
  });

  it('refuses an artifact of another kind', async () => {
    const { message } = await failureOf(
      await startWorkflow('preferences', {
        inputs: { programs: { kind: 'pairs', path: 'x' } },
        config: { minimumGap: 2 },
      }),
    );
    expect(message).toContain("must be 'programs'");
    expect(message).toContain('config.minimumGap');
  });
});

describe('a filter without an oracle', () => {
  it('keeps what the teacher wrote, right or wrong, and the tests are shown to the sampler where it asks for them', async () => {
    const path = join(folder, 'questions.jsonl');
    const tests = ['assert double(2) == 4', 'assert double(3) == 7'];
    const question = {
      id: 'q-1',
      seedId: 's-1',
      source: 'own',
      question: 'Write double(n).',
      entryPoint: 'double',
      reference: 'def double(n):\n    return 2 * n\n',
      testCases: tests.map((test) => ({ test })),
    };
    writeFileSync(path, `${JSON.stringify(question)}\n`);
    const result = async (stage: string, inputs: object, config: object): Promise<StageResult> =>
      (await (await startWorkflow(stage, { inputs, config })).result()) as StageResult;
    const questions = { kind: 'questions', path };
    const rule = { minimumTestCases: 1, minimumDistinctOutputs: 1, heldOutShare: 0 };
    const filtered = await result('filtering', { questions }, { ...rule, oracle: { kind: 'none' } });
    const rows: FilteredQuestionRow[] = [];
    for await (const row of artifactStore().rowsOf(filtered.ref, FilteredQuestionRow)) rows.push(row);
    expect(rows).toMatchObject([{ tests, reference: '', testCases: 2 }]);
    const judged = await result('filtering', { questions }, rule);
    expect(judged.metrics).toMatchObject({ keptTestCases: 1, droppedTestCases: { assertion_failed: 1 } });

    const inputs = { questions: filtered.ref, policy: { kind: 'folder', path: inject('model') } };
    const config = { samples: 2, maxNewTokens: 8 };
    const plain = await result('sampling', inputs, config);
    const shown = await result('sampling', inputs, { ...config, shownTests: 2 });
    expect([plain.ref.rows, shown.ref.rows]).toEqual([2, 2]);
    expect(shown.ref.digest).not.toBe(plain.ref.digest);
  });
});

describe('a question that the policy cannot read', () => {
  const path = join(folder, 'long-questions.jsonl');
  const questions = [
    'Write double(n).',
    `Write double(n). ${'Mind the zero. '.repeat(3000)}`,
    'Write double(n) again.',
  ];
  const rows = questions.map((question, at): FilteredQuestionRow => ({
    id: `q-${at}`,
    seedId: `s-${at}`,
    source: 'own',
    question,
    entryPoint: 'double',
    reference: 'def double(n):\n    return 2 * n\n',
    tests: ['assert double(2) == 4'],
    split: 'train',
  }));
  writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'));
  const sample = async (path: string): Promise<StageResult> => {
    const inputs = {
      questions: { kind: 'filteredQuestions', path },
      policy: { kind: 'folder', path: inject('model') },
    };
    return (await (
      await startWorkflow('sampling', { inputs, config: { samples: 2, maxNewTokens: 8 } })
    ).result()) as StageResult;
  };

  it('is left out by name, and the others are sampled as without it', async () => {
    const { ref, metrics } = await sample(path);
    expect(metrics).toMatchObject({ questions: 2, programs: 4, droppedQuestions: { promptTooLong: 1 } });
    expect(metrics['notes']).toMatchObject({ promptTooLong: ['q-1'] });
    const programs = await collect(artifactStore().rowsOf(ref, ProgramRow));
    expect([...new Set(programs.map(({ questionId }) => questionId))]).toEqual(['q-0', 'q-2']);
    const others = join(folder, 'short-questions.jsonl');
    writeFileSync(others, [rows[0], rows[2]].map((row) => JSON.stringify(row)).join('\n'));
    const without = await collect(artifactStore().rowsOf((await sample(others)).ref, ProgramRow));
    expect(programs.map(({ program }) => program)).toEqual(without.map(({ program }) => program));
  });
});

describe('a data set that refreshes', () => {
  it('asks about new seeds only, and tells the difference', async () => {
    const seed = (name: string, factor: number): object => ({
      id: `own/${name}`,
      source: 'own',
      code: `def ${name}(n: int) -> int:\n    """Return the number n times ${factor}."""\n    return n * ${factor}\n`,
    });
    const path = join(folder, 'seeds.jsonl');
    const refresh = async (seeds: object[]): Promise<{ version: number; added: number; total: number }> => {
      writeFileSync(path, seeds.map((row) => `${JSON.stringify(row)}\n`).join(''));
      const handle = await startWorkflow('datasetRefresh', {
        name: 'own',
        seeds: { kind: 'seeds', path },
        synthesis: { decontaminate: [] },
      });
      return handle.result() as never;
    };
    expect(await refresh([seed('triple', 3), seed('quadruple', 4)])).toMatchObject({ version: 1, added: 2, total: 2 });
    expect(await refresh([seed('triple', 3), seed('quadruple', 4)])).toMatchObject({ version: 1, added: 0, total: 2 });
    expect(await refresh([seed('quadruple', 4), seed('quintuple', 5)])).toMatchObject({
      version: 2,
      added: 1,
      total: 3,
    });
    expect(await refresh([seed('triple', 3)])).toMatchObject({ version: 2, added: 0, total: 3 });
  });
});

describe('garbage collection', () => {
  it('counts by default, and spares what is named or young', async () => {
    const store = artifactStore();
    const { ref } = (await (
      await startWorkflow('preferences', {
        inputs: { programs: { kind: 'programs', path: programsFile(folder) } },
        config: { salt: randomUUID() },
      })
    ).result()) as { ref: ArtifactRef };
    const scratch = await store.spoolPath();
    writeFileSync(scratch, randomUUID());
    const unnamed = await store.putFile(scratch, 'nobody.bin');
    const sweep = async (input: object): Promise<{ swept: number }> =>
      (await startWorkflow('garbageCollection', input)).result() as never;
    expect((await sweep({})).swept).toBe(0);
    expect((await sweep({ minimumAgeHours: 0 })).swept).toBeGreaterThan(0);
    expect(await store.list(`blobs/sha256/${unnamed.sha256}`)).toHaveLength(1);
    expect((await sweep({ minimumAgeHours: 1, dryRun: false })).swept).toBe(0);
    expect(await store.list(`blobs/sha256/${unnamed.sha256}`)).toHaveLength(1);
    for await (const pair of artifactStore().rowsOf(ref, PairRow)) expect(pair.id).toBeTruthy();
  });
});

describe('a preview', () => {
  it('takes the first seeds through the data path to a page, from the file of an experiment', async () => {
    const handle = await startWorkflow('preview', microExperiment('looked-at', inject('seeds'), inject('model')));
    const { html, seeds } = (await handle.result()) as { html: string; seeds: number };
    expect(seeds).toBe(5);
    const page = readFileSync(html, 'utf8');
    expect(page).toMatch(/5 seeds, 5 questions, \d after the filter, \d+ programs, \d+ training pairs/);
    expect(page.match(/<h2>/g)).toHaveLength(5);
    expect(page).toContain('(dropped)');
    const { message } = await failureOf(await startWorkflow('preview', { name: 'x' }));
    expect(message).toContain('the input of experiment has');
  });
});

describe('a benchmark from a file', () => {
  const problem = (task_id: number, factor: number, more = ''): string =>
    JSON.stringify({
      task_id,
      text: `Write a function that returns a number times ${factor}. ${more}`.trim(),
      code:
        `def times_${factor}(n: int) -> int:\n    """Return the number n times ${factor}."""\n` +
        `    return n * ${factor}\n`,
      test_list: [`assert times_${factor}(2) == ${2 * factor}`, `assert times_${factor}(-1) == ${-factor}`],
    });
  const path = join(folder, 'mbpp.jsonl');
  const mbpp = { kind: 'mbpp', data: { kind: 'tasks', path } };

  it('is an input of the stage: evaluated by its content, and refused where it is none', async () => {
    writeFileSync(path, [problem(11, 3), problem(12, 7)].join('\n'));
    const evaluate = (settings: object = {}) =>
      startWorkflow('evaluation', {
        inputs: { policies: { micro: { kind: 'folder', path: inject('model') } } },
        config: { benchmarks: [mbpp], samples: 0, maxNewTokens: 24, ...settings },
      });
    const { ref, metrics } = (await (await evaluate()).result()) as StageResult;
    expect(metrics['results']).toMatchObject([{ benchmark: 'mbpp', policy: 'micro', tasks: 2 }]);
    const { inputs } = await artifactStore().manifest(ref);
    expect(inputs['benchmark:0']).toMatchObject({ kind: 'tasks', rows: 2 });
    expect(await (await evaluate()).result()).toMatchObject({ ref, reused: true });

    // Two evaluations side by side: equal but for the seed of samples that nobody drew, and with shorter answers.
    const of: string[] = [ref.key];
    for (const settings of [{ seed: 1 }, { maxNewTokens: 12 }])
      of.push(((await (await evaluate(settings)).result()) as StageResult).ref.key);
    const compared = (await (await startWorkflow('compare', { of })).result()) as CompareResult;
    expect(compared.verdicts).toEqual([
      expect.stringMatching(/^mbpp: no difference is shown .* on the same 2 tasks: 0 gained, 0 lost/) as string,
      expect.stringContaining(`no verdict on ${of[2]}, because the answers came about differently`) as string,
    ]);
    expect(readFileSync(compared.html!, 'utf8')).toContain('maxNewTokens 24 and 12');
    const { type, message } = await failureOf(await startWorkflow('compare', { of: [ref.key, 'no-such-run'] }));
    expect(type).toBe('InvalidExperiment');
    expect(message).toMatch(/of\.1.*no-such-run/);

    writeFileSync(path, `${problem(11, 3)}\n{"task_id": 12}\n`);
    expect(await failureOf(await evaluate())).toMatchObject({
      type: 'InvalidExperiment',
      message: expect.stringContaining('config.benchmarks.0') as string,
    });
  });

  it('has a finish of its own for a problem that the policy cannot read, which counts as failed', async () => {
    writeFileSync(path, [problem(11, 3), problem(12, 7, 'Mind the zero. '.repeat(3000))].join('\n'));
    const handle = await startWorkflow('evaluation', {
      inputs: { policies: { micro: { kind: 'folder', path: inject('model') } } },
      config: { benchmarks: [mbpp], samples: 2, maxNewTokens: 8 },
    });
    const { ref, metrics } = (await handle.result()) as StageResult;
    const [result] = metrics['results'] as EvaluationResult[];
    expect(result).toMatchObject({ tasks: 2, promptTooLong: 1 });
    // What the policy never began was cut at no limit.
    const rows = await collect(artifactStore().rowsOf(ref, EvaluationRow));
    const unread = rows.filter(({ finish }) => finish === 'promptTooLong');
    expect(unread.map(({ taskId, mode, passed, response }) => [taskId, mode, passed, response])).toEqual(
      ['greedy', 'sample', 'sample'].map((mode) => ['Mbpp/12', mode, false, '']),
    );
    const cut = rows.filter(({ mode, finish }) => mode === 'sample' && finish === 'length').length;
    expect(result!.truncated!.samples).toBe(cut / 4);
  });

  it('has every figure for all, clean and suspect problems, which are found by running', async () => {
    writeFileSync(path, [problem(11, 3), problem(12, 7), problem(13, 5), problem(14, 9)].join('\n'));
    // The first question's reference is another program for a problem, and of the problem it has neither a name nor a
    // word. The third one is the solution of a problem, and no training sees it.
    const references = [
      'def grow(amount):\n    total = 0\n    for _ in range(3):\n        total += amount\n    return total\n',
      'def shout(text):\n    return text.upper()\n',
      'def times_7(n):\n    return n * 7\n',
    ];
    const questions = join(folder, 'trained-questions.jsonl');
    const trained = references.map((reference, at): FilteredQuestionRow => ({
      id: `q-${at}`,
      seedId: `s-${at}`,
      source: 'own',
      question: ['Let it grow.', 'Say it loudly.', 'Week by week.'][at]!,
      entryPoint: /def (\w+)/.exec(reference)![1]!,
      reference,
      tests: ['assert True'],
      split: at === 2 ? 'heldOut' : 'train',
    }));
    writeFileSync(questions, trained.map((row) => JSON.stringify(row)).join('\n'));
    // Of two samples of each problem, so many are right.
    const samples = (name: string, right: number[]): object => {
      const file = join(folder, `${name}.jsonl`);
      const rows = [3, 7, 5, 9].flatMap((factor, at) =>
        [0, 1].map((sample) => ({
          task_id: `Mbpp/${11 + at}`,
          solution: `def times_${factor}(n):\n    return n * ${sample < right[at]! ? factor : factor + 1}\n`,
        })),
      );
      writeFileSync(file, rows.map((row) => JSON.stringify(row)).join('\n'));
      return { kind: 'benchmarkSamples', path: file };
    };
    const inputs = {
      questions: { kind: 'filteredQuestions', path: questions },
      samples: { initial: samples('initial', [2, 1, 0, 0]), trained: samples('trained', [2, 2, 1, 0]) },
    };
    const config = { benchmarks: [mbpp], sampler: { kind: 'recorded' }, passAtK: [1, 2] };
    const { metrics } = (await (await startWorkflow('evaluation', { inputs, config })).result()) as StageResult;
    expect(metrics['benchmarks']).toMatchObject([
      { tasks: 4, suspects: [{ taskId: 'Mbpp/11', questions: 1, question: 'q-0', why: 'grow solves it' }] },
    ]);
    const results = metrics['results'] as EvaluationResult[];
    const figures = results.map(({ policy, clean, suspect, ...all }) =>
      [all, clean!, suspect!].map(({ tasks, mean, passAtK, oracle }) => [policy, tasks, mean, passAtK, oracle]),
    );
    const third = (of: number): unknown => expect.closeTo(of / 3, 9);
    expect(figures).toEqual([
      [
        ['initial', 4, 0.375, { 1: 0.375, 2: 0.5 }, 0.5],
        ['initial', 3, third(0.5), { 1: third(0.5), 2: third(1) }, third(1)],
        ['initial', 1, 1, { 1: 1, 2: 1 }, 1],
      ],
      [
        ['trained', 4, 0.625, { 1: 0.625, 2: 0.75 }, 0.75],
        ['trained', 3, 0.5, { 1: 0.5, 2: third(2) }, third(2)],
        ['trained', 1, 1, { 1: 1, 2: 1 }, 1],
      ],
    ]);
    // No figure is of all problems alone.
    for (const { benchmark: _b, policy: _p, conditions: _c, clean, suspect, ...all } of results)
      for (const part of [clean!, suspect!]) expect(Object.keys(part)).toEqual(Object.keys(all));
    expect(metrics['comparisons']).toMatchObject([
      {
        before: 'initial',
        after: 'trained',
        tasks: 4,
        gained: 2,
        lost: 0,
        clean: { tasks: 3, gained: 2, lost: 0 },
        suspect: { tasks: 1, gained: 0, lost: 0 },
      },
    ]);
  });

  it('keeps its problems out of the questions', async () => {
    writeFileSync(path, `${problem(11, 3)}\n`);
    const seeds = join(folder, 'contaminated.jsonl');
    const repeated = 'def times_3(n: int) -> int:\n    """Return the number n times 3."""\n    return n * 3\n';
    const other =
      'def shout(text: str) -> str:\n    """Return the text in capital letters."""\n    return text.upper()\n';
    const rows = [repeated, other].map((code, index) => JSON.stringify({ id: `own/${index}`, source: 'own', code }));
    writeFileSync(seeds, rows.join('\n'));
    const handle = await startWorkflow('synthesis', {
      inputs: { seeds: { kind: 'seeds', path: seeds } },
      config: { decontaminate: [mbpp], nearDuplicate: null, salt: randomUUID() },
    });
    expect(await handle.result()).toMatchObject({
      metrics: { seeds: 2, questions: 1, droppedSeeds: { benchmarkContamination: 1 } },
    });
  });
});

describe('tables of others', () => {
  it('take in a source tree as seeds, and say what was left out', async () => {
    const tree = join(folder, 'project');
    mkdirSync(tree);
    writeFileSync(
      join(tree, 'numbers.py'),
      'def double(n: int) -> int:\n    """Return twice n."""\n    return 2 * n\n\ndef shout(text):\n    print(text)\n',
    );
    const handle = await startWorkflow('synthesis', {
      inputs: { seeds: { kind: 'seeds', format: 'sourceTree', path: tree } },
      config: { salt: randomUUID() },
    });
    expect(await handle.result()).toMatchObject({ metrics: { questions: 1, seeds: 1 } });
  });

  it('give pairs that come back as they were', async () => {
    const { ref } = (await (
      await startWorkflow('preferences', {
        inputs: { programs: { kind: 'programs', path: programsFile(folder) } },
        config: { salt: randomUUID() },
      })
    ).result()) as { ref: ArtifactRef };
    const name = `pairs-${randomUUID()}`;
    const exported = (await (
      await startWorkflow('datasetExport', { format: 'aceCodePair300K', name, inputs: { pairs: ref } })
    ).result()) as { folder: string; rows: number };
    expect(exported.rows).toBe(ref.rows);
    const card = readFileSync(join(exported.folder, 'README.md'), 'utf8');
    for (const said of [
      `# ${name}`,
      `${ref.rows} rows with the columns of AceCodePair-300K`,
      ref.key,
      ref.digest,
      '"minimumBest": 0.8',
    ])
      expect(card).toContain(said);
    const again = (await (
      await startWorkflow('datasetExport', {
        format: 'aceCodePair300K',
        name,
        inputs: {
          pairs: {
            kind: 'pairs',
            format: 'aceCodePair300K',
            path: exported.folder,
            heldOutShare: 0,
          },
        },
      })
    ).result()) as { rows: number };
    expect(again.rows).toBe(ref.rows);
  });

  it('are refused with their place when they are not there, cannot hold the kind, or are named twice', async () => {
    const failed = async (pairs: object): Promise<string> =>
      (
        await failureOf(
          await startWorkflow('datasetExport', { format: 'aceCodePair300K', name: 'x', inputs: { pairs } }),
        )
      ).message;
    expect(await failed({ kind: 'pairs', format: 'aceCodePair300K', path: '/nowhere/x.parquet' })).toContain(
      'inputs.pairs.path: There is no Parquet, JSON Lines or CSV file at /nowhere/x.parquet on the GPU worker',
    );
    expect(await failed({ kind: 'pairs', format: 'evolInstruct', path: 'x.parquet' })).toContain(
      'inputs.pairs.format: must be a format that holds pairs; evolInstruct holds seeds',
    );
    expect(await failed({ kind: 'pairs', format: 'aceCodePair300K', path: 'x.parquet', dataset: 'y' })).toContain(
      'aceCodePair300K is read from exactly one of path, dataset; given are path, dataset',
    );
  });
});
