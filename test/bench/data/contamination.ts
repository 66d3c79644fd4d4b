/**
 * Contamination by running, at HumanEval: programs that are its solutions in other words, and innocent ones.
 *
 * The rewritten programs are made of the references when the bench runs. The innocent ones are MBPP's training problems,
 * where the shared data has them, and functions of Python's standard library. A function that solves a problem is no
 * false alarm, whoever wrote it: `SOLUTIONS` names those that somebody has read and found right.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { loadBenchmarks } from '../../../activities/benchmarks/load.js';
import { solvedBy, type Candidate } from '../../../activities/contamination/by-running.js';
import { ProblemTexts } from '../../../activities/contamination/likeness.js';
import { problemOf, withInputs } from '../../../activities/contamination/problems.js';
import { judgePrograms } from '../../../activities/execution/execution.js';
import { root, venvPython } from '../../../infra/setup/paths.mjs';
import { createServices } from '../../../workers/plugins/services.js';
import type { Measure } from '../table.js';

const REWRITTEN = 40;
const INNOCENT = 500;
/** Seeds of the measurement of time. */
const TIMED = 120;
const MEMORY = 512 * 2 ** 20;
const TRAINING = 'mbpp-train-seeds/mbpp_601_974_not_sanitized.jsonl';

/** Innocent programs that solve a problem of HumanEval all the same, read by a person. */
const SOLUTIONS: Readonly<Record<string, string>> = {
  'MBPP/687 HumanEval/13': 'both are the greatest common divisor',
  'MBPP/712 HumanEval/34': 'both are the different members of a list, sorted',
  'MBPP/813 HumanEval/23': 'both are the length of a text',
  'MBPP/814 HumanEval/45': 'both are half of a product: a rhombus and a triangle',
  'MBPP/873 HumanEval/55': 'both are the Fibonacci numbers',
  'MBPP/960 HumanEval/55': 'tilings are counted by the Fibonacci numbers',
  'MBPP/972 HumanEval/53': 'both are a + b',
  'python3.11:operator.py:add HumanEval/53': 'both are a + b',
};

const Row = z.object({ id: z.string(), code: z.string() });
const Mbxp = z.object({ task_id: z.string(), prompt: z.string(), canonical_solution: z.string() });

/** Rows that a Python file of this folder writes. */
function rowsOf(script: string, input = ''): z.infer<typeof Row>[] {
  const { stdout, stderr, status } = spawnSync(venvPython(), [fileURLToPath(new URL(script, import.meta.url))], {
    input,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    env: { ...process.env, PYTHONPATH: join(root, 'workers') },
  });
  if (status !== 0) throw new Error(`${script} ended with ${status}: ${stderr}`);
  return linesOf(stdout, Row);
}

function linesOf<T>(text: string, schema: z.ZodType<T>): T[] {
  return text
    .trim()
    .split('\n')
    .map((line) => schema.parse(JSON.parse(line)));
}

/** HumanEval comes out of an installed package. */
const noStore = (): never => {
  throw new Error('no store is read here');
};

/** As many of a list, evenly over it. */
function spread<T>(list: readonly T[], count: number): T[] {
  return Array.from({ length: Math.min(count, list.length) }, (_, at) => list[Math.floor((at * list.length) / count)]!);
}

/**
 * Finds rewritten solutions among others, and measures what that takes.
 *
 * @param shared Folder of published data; without it all innocent programs are of the standard library.
 */
export async function contamination(shared: string): Promise<Measure[]> {
  const services = createServices({ label: 'bench-contamination' });
  const { sandbox, settings } = services;
  try {
    const [humaneval] = await loadBenchmarks([{ kind: 'humaneval', every: 1, offset: 0 }], {
      settings,
      store: { rowsOf: noStore, manifest: noStore },
      inputs: {},
      questions: () => Promise.resolve([]),
    });
    const { tasks, name } = humaneval!;
    await sandbox.versions();
    const recording = performance.now();
    const problems = await withInputs(
      sandbox,
      tasks.map((task) => problemOf(name, task)),
      { memoryBytes: MEMORY },
    );
    const recordingSeconds = (performance.now() - recording) / 1000;

    // A rewriting that breaks a program makes no solution of it.
    const rewritten = rowsOf(
      'rewrite.py',
      tasks.map(({ id, reference }) => JSON.stringify({ id, code: reference })).join('\n'),
    );
    const { solved: rewrittenSolve } = await solvedBy(
      sandbox,
      rewritten.map(({ id, code }) => ({ id, program: code })),
      problems,
      { memoryBytes: MEMORY },
    );
    const broken = await brokenOf(rewritten, tasks);
    const good = rewritten.filter(({ id }) => !broken.has(id));
    const chosen = spread(good, REWRITTEN);
    const found = (rows: typeof rewritten): typeof rewritten =>
      rows.filter(({ id }) => rewrittenSolve.get(id)?.some(({ taskId }) => taskId === id));
    for (const { id } of good) if (!found(good).some((row) => row.id === id)) console.error(`  not found: ${id}`);
    const texts = new ProblemTexts(tasks);

    const path = join(shared, TRAINING);
    const training = existsSync(path) ? linesOf(readFileSync(path, 'utf8'), Mbxp) : [];
    if (training.length === 0)
      console.error(`  ${path} is not there: all innocent programs are of the standard library`);
    const innocent: Candidate[] = [
      ...training.map((row) => ({ id: row.task_id, program: row.prompt + row.canonical_solution })),
    ];
    const library = rowsOf('functions.py').map(({ id, code }): Candidate => ({ id, program: code }));
    innocent.push(...spread(library, INNOCENT - innocent.length));
    const { solved, notRun } = await solvedBy(sandbox, innocent, problems, { memoryBytes: MEMORY });
    const alarms = [...solved].flatMap(([id, all]) =>
      all.map(({ taskId, by }) => ({ id, taskId, by, read: SOLUTIONS[`${id} ${taskId}`] })),
    );
    for (const { id, taskId, by, read } of alarms)
      console.error(`  ${id} solves ${taskId} by ${by}: ${read ?? 'it is none, or nobody has read it'}`);
    const falsely = new Set(alarms.flatMap(({ id, read }) => (read === undefined ? [id] : [])));

    const seeds = innocent.slice(0, TIMED);
    const started = performance.now();
    await solvedBy(sandbox, seeds, problems, { memoryBytes: MEMORY });
    const seconds = (performance.now() - started) / 1000;
    return [
      {
        name: 'rewritten solutions of HumanEval that are found',
        value: found(chosen).length,
        unit: `of ${chosen.length}`,
        bar: 38,
        note: `every name new, arguments turned round, loops rewritten; ${found(good).length} of all ${good.length}`,
      },
      {
        name: 'the same by likeness of code alone',
        value: chosen.filter(({ id, code }) => texts.likeCode({ code }).includes(id)).length,
        unit: `of ${chosen.length}`,
      },
      {
        name: 'innocent programs that solve a problem of HumanEval',
        value: solved.size,
        unit: `of ${innocent.length}`,
        note: `${training.length} of MBPP's training, the others of the standard library; ${notRun.length} do not load`,
      },
      {
        name: 'of these, false alarms',
        value: (100 * falsely.size) / innocent.length,
        unit: '%',
        bar: 1,
        at: 'most',
        note: 'those that nobody has read and found to be solutions',
      },
      {
        name: `${TIMED} seeds against ${problems.length} problems`,
        value: seconds,
        unit: 's',
        bar: 120,
        at: 'most',
        note: 'with the tests of what the screen suspects',
      },
      { name: 'recording of the first inputs, once per benchmark', value: recordingSeconds, unit: 's' },
    ];

    /** Ids of rewritten programs that do not pass the tests, with the name and the order that these call. */
    async function brokenOf(rows: typeof rewritten, all: typeof tasks): Promise<Set<string>> {
      const jobs = rows.map(({ id, code }) => {
        const { entryPoint, tests } = all.find((task) => task.id === id)!;
        const [, own = '', given = ''] = [...code.matchAll(/^def (\w+)\((.*)\):$/gm)].at(-1) ?? [];
        const size = given === '' ? 0 : given.split(',').length;
        const turned = size > 1 && !given.includes('=');
        const program = `${code}\n${entryPoint} = lambda *given: ${own}(*${turned ? 'reversed(given)' : 'given'})\n`;
        return { id, program, tests: tests.filter((test) => typeof test === 'string') };
      });
      const limits = { cpuSecondsPerTest: 5, cpuSecondsPerProgram: 20, memoryBytes: MEMORY };
      const { judgements } = await judgePrograms(sandbox, jobs, { limits });
      return new Set(judgements.flatMap((each) => (each.judged && each.passRate === 1 ? [] : [each.id])));
    }
  } finally {
    await services.close();
  }
}
