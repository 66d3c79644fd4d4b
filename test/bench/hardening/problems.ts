/**
 * The problems of `npm run bench:hardening`: published questions with programs of real models, each of which passes the
 * question's tests, and with what further published tests or verdicts say of it.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { z } from 'zod';
import { sha256 } from '../../../activities/artifacts/keys.js';
import { publishedRows } from '../../../activities/benchmarks/published.js';
import { judgePrograms, type Job } from '../../../activities/execution/execution.js';
import type { Subject } from '../../../activities/hardening/harden.js';
import type { SandboxOperation } from '../../../activities/runtime/operations.js';
import type { PythonProcess } from '../../../activities/runtime/python-service.js';
import { root } from '../../../infra/setup/paths.mjs';

type Sandbox = PythonProcess<SandboxOperation>;

/** A question with programs that pass its tests, and whether each is right. */
export interface Problem {
  subject: Subject;
  programs: { id: string; program: string; right: boolean }[];
}

/** Where published data lie, unless it is said. */
export const SHARED = join(process.env['ACECODER_SHARED'] ?? join(root, '..', 'shared'), 'data');
/** What the bench reads, in the folder of the published data. */
export const FILES = {
  mbpp: 'evalplus-mbpp/MbppPlus-v0.1.0.jsonl.gz',
  mbppTrain: 'mbpp-train-seeds/mbpp_601_974_not_sanitized.jsonl',
  humaneval: 'humaneval/HumanEval.jsonl.gz',
  outputs: 'qwen2.5-coder-1.5b-base-outputs',
  models: 'llmdebugger-humaneval-4models',
  codegen: 'codet-codegen16b-humaneval',
} as const;

export const LIMITS = { cpuSecondsPerTest: 1, cpuSecondsPerProgram: 20, memoryBytes: 1024 ** 3 };

interface Published {
  solution: string;
  base_status: string;
  plus_status: string;
}

/** Entry points of MBPP+ whose answers EvalPlus compares as sets. */
const AS_SETS = [
  'similar_elements',
  'find_char_long',
  'common_in_nested_lists',
  'extract_singly',
  'larg_nnum',
  'intersection_array',
  'find_dissimilar',
  'Diff',
];

function publishedOf(data: string, benchmark: string): Record<string, Published> {
  const path = join(data, FILES.outputs, `evalplus-${benchmark}-generated_eval_results.json.gz`);
  const { eval: results } = JSON.parse(gunzipSync(readFileSync(path)).toString('utf8')) as {
    eval: Record<string, [Published]>;
  };
  return Object.fromEntries(Object.entries(results).map(([id, [first]]) => [id, first]));
}

/** The one program that was published for a task, if it passes the base tests. */
function passing(id: string, { solution, base_status: base, plus_status: plus }: Published): Problem['programs'] {
  return base === 'pass' ? [{ id, program: solution, right: plus === 'pass' }] : [];
}

/** A seed of a question, for a run of the bench. */
export const seedOf = (id: string, run = 0): number => parseInt(sha256(`${id} ${run}`).slice(0, 12), 16);

const MbppTask = z.object({
  task_id: z.string(),
  entry_point: z.string(),
  canonical_solution: z.string(),
  contract: z.string(),
  assertion: z.string(),
});

/** MBPP by its base tests, with the programs of Qwen2.5-Coder-1.5B that pass them; EvalPlus's further inputs judge. */
export async function mbpp(data: string): Promise<Problem[]> {
  const published = publishedOf(data, 'mbpp');
  const problems: Problem[] = [];
  for await (const { row } of publishedRows(join(data, FILES.mbpp))) {
    const { task_id: id, entry_point: entryPoint, canonical_solution: reference, ...task } = MbppTask.parse(row);
    const tests = task.assertion.split('\n').filter((line) => line.startsWith('assert '));
    const asked = AS_SETS.includes(entryPoint)
      ? tests.map((test) => test.replace(/^assert (?!set\()(.+?)\s*==\s*(.+)$/, 'assert set($1) == set($2)'))
      : tests;
    // Task 582 has no contract, and nothing that one could refuse.
    const contract = task.contract.trim() === '' ? 'pass' : task.contract;
    problems.push({
      subject: { question: { id, entryPoint, reference, tests: asked, contract }, programs: [], seed: seedOf(id) },
      programs: passing(id, published[id]!),
    });
  }
  return problems;
}

const HumanEvalTask = z.object({
  task_id: z.string(),
  entry_point: z.string(),
  prompt: z.string(),
  canonical_solution: z.string(),
  test: z.string(),
});

const MODELS = ['codellama', 'gpt-3.5-turbo-0613', 'gpt-4-1106-preview', 'starcoder'];
const ModelRow = z.object({ task_id: z.string(), solution: z.string(), is_solved: z.boolean() });
type ModelRow = z.infer<typeof ModelRow>;

interface HumanEvalProblem extends z.infer<typeof HumanEvalTask> {
  reference: string;
  /** The import lines of the prompt, which models leave out. */
  imports: string;
}

async function humanevalTasks(data: string): Promise<HumanEvalProblem[]> {
  const tasks: HumanEvalProblem[] = [];
  for await (const { row } of publishedRows(join(data, FILES.humaneval))) {
    const task = HumanEvalTask.parse(row);
    const imports = task.prompt.split('\n').filter((line) => /^(from|import) /.test(line));
    tasks.push({ ...task, reference: `${task.prompt}${task.canonical_solution}`, imports: imports.join('\n') });
  }
  return tasks;
}

function linesOf<T>(path: string, row: z.ZodType<T>): T[] {
  const lines = readFileSync(path, 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => row.parse(JSON.parse(line)));
}

/** Programs of four models, by their tasks. */
function programsOfModels(data: string): Map<string, ModelRow[]> {
  const programs = new Map<string, ModelRow[]>();
  for (const row of MODELS.flatMap((model) => linesOf(join(data, FILES.models, `${model}.jsonl`), ModelRow)))
    programs.set(row.task_id, [...(programs.get(row.task_id) ?? []), row]);
  return programs;
}

/**
 * HumanEval by all of its tests, with the programs of Qwen2.5-Coder-1.5B that pass them; EvalPlus's further inputs judge.
 * Programs of four other models, which pass by the verdicts of their origin, vouch and attack.
 */
export async function humaneval(data: string): Promise<Problem[]> {
  const published = publishedOf(data, 'humaneval');
  const models = programsOfModels(data);
  return (await humanevalTasks(data)).map(({ task_id: id, entry_point: entryPoint, reference, imports, test }) => ({
    subject: {
      question: { id, entryPoint, reference, tests: [test] },
      programs: (models.get(id) ?? [])
        .filter(({ is_solved: solved }) => solved)
        .map(({ solution }, at) => ({ id: `${id} ${at}`, program: `${imports}\n${solution}`, passes: true })),
      seed: seedOf(id),
    },
    programs: passing(id, published[id]!),
  }));
}

/** Tests that MBPP has of a task, and a task of HumanEval by its first asserts. */
const FEW = 3;
/** Programs of CodeGen-16B for each task. */
const SAMPLES = 16;
/** What ends a continuation of a prompt, as the publishers of the data cut it. */
const ENDS = /\n(?:class|def|#|if|print|assert)/;

const CodeGenTask = z.object({ task_id: z.string(), prompt: z.string() });
const CodeGenRow = z.object({ prompt: z.string(), samples: z.array(z.string()) });

/**
 * HumanEval by the first three asserts of each task, as many as MBPP has; the task's other tests judge. The programs are
 * those of Qwen2.5-Coder-1.5B, of four other models, and 16 of CodeGen-16B, each text once. Only tasks that `sampled`
 * chooses are judged.
 */
export async function humanevalByFew(
  data: string,
  sandbox: Sandbox,
  sampled: (ids: readonly string[]) => ReadonlySet<string>,
): Promise<Problem[]> {
  const published = publishedOf(data, 'humaneval');
  const models = programsOfModels(data);
  const samples = new Map(
    linesOf(join(data, FILES.codegen, 'code_solution.jsonl'), CodeGenRow).map(({ prompt, samples: texts }) => [
      prompt,
      texts,
    ]),
  );
  const continued = new Map(
    linesOf(join(data, FILES.codegen, 'HumanEval_for_code_generation.jsonl'), CodeGenTask).map(
      ({ task_id: id, prompt }) => [
        id,
        samples
          .get(prompt)!
          .slice(0, SAMPLES)
          .map((text) => `${prompt}${text.split(ENDS)[0]!}\n`),
      ],
    ),
  );
  const all = (await humanevalTasks(data)).flatMap(
    ({ task_id: id, entry_point: entryPoint, reference, imports, test }) => {
      const asserts = test
        .split('\n')
        .filter((line) => /^ {4}assert .*\bcandidate\(/.test(line))
        .map((line) => line.trim().replaceAll(/\bcandidate\(/g, `${entryPoint}(`));
      if (asserts.length <= FEW) return [];
      const texts = [
        published[id]!.solution,
        ...(models.get(id) ?? []).map(({ solution }) => `${imports}\n${solution}`),
        ...continued.get(id)!,
      ];
      return [
        {
          question: { id, entryPoint, reference, tests: asserts.slice(0, FEW) },
          whole: `${test}\ncheck(${entryPoint})`,
          // The published verdict is by EvalPlus's further inputs too.
          refuted: published[id]!.plus_status === 'pass' ? undefined : published[id]!.solution,
          texts: [...new Set(texts)],
        },
      ];
    },
  );
  const some = sampled(all.map(({ question }) => question.id));
  const asked = all.filter(({ question }) => some.has(question.id));
  const jobs = asked.flatMap(({ question, whole, texts }) =>
    [question.reference, ...texts].map((program, at): Job => ({
      id: `${question.id} ${at}`,
      program,
      tests: [...question.tests, whole],
    })),
  );
  const { judgements } = await judgePrograms(sandbox, jobs, { limits: LIMITS });
  const verdicts = new Map(judgements.map(({ id, outcomes }) => [id, outcomes.map(({ status }) => status === 'pass')]));
  return asked.flatMap(({ question, refuted, texts }): Problem[] => {
    const passes = (at: number): boolean[] => verdicts.get(`${question.id} ${at}`)!;
    // A reference that cannot be judged here says nothing.
    if (!passes(0).every(Boolean)) return [];
    const programs = texts.flatMap((program, at) => {
      const said = passes(at + 1);
      const right = said[FEW]! && program !== refuted;
      return said.slice(0, FEW).every(Boolean) ? [{ id: `${question.id} ${at + 1}`, program, right }] : [];
    });
    return [{ subject: { question, programs: [], seed: seedOf(question.id) }, programs }];
  });
}

const TrainTask = z.object({
  task_id: z.string(),
  prompt: z.string(),
  canonical_solution: z.string(),
  entry_point: z.string(),
  test: z.string(),
});

/** MBPP's own training tasks, without programs: their mutants alone are asked for. */
export function mbppTrain(data: string): Problem[] {
  return linesOf(join(data, FILES.mbppTrain), TrainTask).map(
    ({ task_id: id, entry_point: entryPoint, prompt, test, ...task }) => ({
      subject: {
        question: {
          id,
          entryPoint,
          reference: `${prompt}${task.canonical_solution}\n`,
          tests: test
            .split('\n')
            .filter((line) => line.startsWith('    assert '))
            .map((line) => line.trim().replaceAll(/\bcandidate\(/g, `${entryPoint}(`)),
        },
        programs: [],
        seed: seedOf(id),
      },
      programs: [],
    }),
  );
}
