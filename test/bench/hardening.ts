/**
 * `npm run bench:hardening`: tests that are added to the base tests of MBPP and HumanEval, against programs of a real
 * model whose verdicts on EvalPlus's further inputs are published.
 *
 * The tests are chosen without those inputs and without those programs. For `agreement` the programs of four other
 * models vouch, which are there for HumanEval alone. Data of others are not in the repository: where they are not there,
 * nothing is measured and that is told.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { z } from 'zod';
import { sha256 } from '../../activities/artifacts/keys.js';
import { publishedRows } from '../../activities/benchmarks/published.js';
import { judgePrograms, type Job } from '../../activities/execution/execution.js';
import { testOf } from '../../activities/hardening/choose.js';
import { harden, strangestOf, type Hardening, type Subject } from '../../activities/hardening/harden.js';
import { propose } from '../../activities/hardening/proposals.js';
import { root } from '../../infra/setup/paths.mjs';
import { testText } from '../../workflows/contract/index.js';
import { createServices } from '../../workers/plugins/services.js';
import { report, type Measure } from './table.js';

const TRUSTS = ['reference', 'contract', 'agreement'] as const;
type Trust = (typeof TRUSTS)[number];

const HELP = `npm run bench:hardening -- [options]

  --trust KIND  ${TRUSTS.join(', ')}; may be repeated (all)
  --tasks N     only the first N tasks
  --more        5,000 inputs of another seed: which mutants they kill
  --again       the same once more: the tests must be the same
  --list        every program that is killed or lost
  --json        one JSON object on the last line
  --help        print this

Published data are read from ACECODER_SHARED, the folder shared next to the checkout by default.`;

const SHARED = join(process.env['ACECODER_SHARED'] ?? join(root, '..', 'shared'), 'data');
const MBPP = join(SHARED, 'evalplus-mbpp/MbppPlus-v0.1.0.jsonl.gz');
const HUMANEVAL = join(SHARED, 'humaneval/HumanEval.jsonl.gz');
const OUTPUTS = join(SHARED, 'qwen2.5-coder-1.5b-base-outputs');
const VOUCHERS = join(SHARED, 'llmdebugger-humaneval-4models');
const BUDGET = { inputs: 1500, mutants: 60, executions: 60_000, callSeconds: 0.05 };
const MORE = { ...BUDGET, inputs: 5000, executions: 500_000, seconds: 120 };
const LIMITS = { cpuSecondsPerTest: 1, cpuSecondsPerProgram: 20, memoryBytes: 1024 ** 3 };

interface Published {
  solution: string;
  base_status: string;
  plus_status: string;
}

/** A problem with a program of the model, which passes the base tests or not, and the further ones or not. */
interface Problem {
  subject: Subject;
  published: Published;
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

const { values } = parseArgs({
  options: {
    trust: { type: 'string', multiple: true },
    tasks: { type: 'string' },
    more: { type: 'boolean', default: false },
    again: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const services = createServices({ label: 'bench' });
const { sandbox } = services;
const measures: Measure[] = [];

function publishedOf(benchmark: string): Record<string, Published> {
  const path = join(OUTPUTS, `evalplus-${benchmark}-generated_eval_results.json.gz`);
  const { eval: results } = JSON.parse(gunzipSync(readFileSync(path)).toString('utf8')) as {
    eval: Record<string, [Published]>;
  };
  return Object.fromEntries(Object.entries(results).map(([id, [first]]) => [id, first]));
}

/** A seed of a question, for a run of the bench. */
const seedOf = (id: string, run = 0): number => parseInt(sha256(`${id} ${run}`).slice(0, 12), 16);

const MbppTask = z.object({
  task_id: z.string(),
  entry_point: z.string(),
  canonical_solution: z.string(),
  contract: z.string(),
  assertion: z.string(),
});

async function mbpp(): Promise<Problem[]> {
  const published = publishedOf('mbpp');
  const problems: Problem[] = [];
  for await (const { row } of publishedRows(MBPP)) {
    const { task_id: id, entry_point: entryPoint, canonical_solution: reference, ...task } = MbppTask.parse(row);
    const tests = task.assertion.split('\n').filter((line) => line.startsWith('assert '));
    const asked = AS_SETS.includes(entryPoint)
      ? tests.map((test) => test.replace(/^assert (?!set\()(.+?)\s*==\s*(.+)$/, 'assert set($1) == set($2)'))
      : tests;
    // Task 582 has no contract, and nothing that one could refuse.
    const contract = task.contract.trim() === '' ? 'pass' : task.contract;
    problems.push({
      subject: { question: { id, entryPoint, reference, tests: asked, contract }, programs: [], seed: seedOf(id) },
      published: published[id]!,
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

/** HumanEval, with the programs of other models that pass its tests by the verdicts of their origin. */
async function humaneval(): Promise<Problem[]> {
  const published = publishedOf('humaneval');
  const vouchers = new Map<string, string[]>();
  for (const model of ['codellama', 'gpt-3.5-turbo-0613', 'gpt-4-1106-preview', 'starcoder'])
    for (const line of readFileSync(join(VOUCHERS, `${model}.jsonl`), 'utf8')
      .trim()
      .split('\n')) {
      const {
        task_id: id,
        solution,
        is_solved: solved,
      } = JSON.parse(line) as {
        task_id: string;
        solution: string;
        is_solved: boolean;
      };
      if (solved) vouchers.set(id, [...(vouchers.get(id) ?? []), solution]);
    }
  const problems: Problem[] = [];
  for await (const { row } of publishedRows(HUMANEVAL)) {
    const { task_id: id, entry_point: entryPoint, prompt, canonical_solution: body, test } = HumanEvalTask.parse(row);
    const imports = prompt.split('\n').filter((line) => /^(from|import) /.test(line));
    problems.push({
      subject: {
        question: { id, entryPoint, reference: `${prompt}${body}`, tests: [test] },
        programs: (vouchers.get(id) ?? []).map((solution, at) => ({
          id: `${id} ${at}`,
          program: [...imports, solution].join('\n'),
          passes: true,
        })),
        seed: seedOf(id),
      },
      published: published[id]!,
    });
  }
  return problems;
}

const BARS: Record<Trust, { killed?: number; lost: number; survivors: boolean }> = {
  reference: { killed: 33, lost: 20, survivors: true },
  contract: { killed: 34, lost: 8, survivors: true },
  agreement: { lost: 1, survivors: false },
};

async function measure(trust: Trust, all: readonly Problem[]): Promise<void> {
  const whole = values.tasks === undefined;
  const problems = all.slice(0, whole ? undefined : Number(values.tasks));
  const bars = BARS[trust];
  const rule = { trust, maximumTests: 20, budget: BUDGET, limits: LIMITS };
  const subjects = problems.map(({ subject }) => subject);
  const start = performance.now();
  const hardening = await harden(sandbox, subjects, rule);
  const seconds = (performance.now() - start) / 1000;
  const { hardened, refused } = hardening;
  const reasons: Record<string, number> = {};
  for (const { reason } of hardened) if (reason) reasons[reason] = (reasons[reason] ?? 0) + 1;
  console.log(`${trust}: without added tests ${JSON.stringify(reasons)}, inputs refused ${JSON.stringify(refused)}`);

  const jobs = problems.flatMap(({ subject: { question }, published }, at): Job[] => {
    const tests = hardened[at]!.added.map(({ test }) => test);
    const passes = published.base_status === 'pass';
    return passes && tests.length > 0 ? [{ id: question.id, program: published.solution, tests }] : [];
  });
  const { judgements } = await judgePrograms(sandbox, jobs, { limits: LIMITS });
  const outcomes = new Map(judgements.map((each) => [each.id, each.outcomes]));
  const tally = { wrong: 0, killed: 0, right: 0, lost: 0, bySize: 0 };
  for (const [at, { subject, published }] of problems.entries()) {
    if (published.base_status !== 'pass') continue;
    const { id } = subject.question;
    const isRight = published.plus_status === 'pass';
    tally[isRight ? 'right' : 'wrong'] += 1;
    const failed = (outcomes.get(id) ?? []).flatMap((each, place) => (each.status === 'pass' ? [] : [place]));
    if (failed.length > 0) tally[isRight ? 'lost' : 'killed'] += 1;
    if (isRight && failed.some((place) => ['timeout', 'killed'].includes(outcomes.get(id)![place]!.status)))
      tally.bySize += 1;
    if (!values.list) continue;
    if (failed.length === 0 && !isRight) console.log(`  SURVIVES ${id}`);
    for (const place of failed.slice(0, isRight ? 3 : 1)) {
      const { test, strange, kills, asks } = hardened[at]!.added[place]!;
      const { status, reason = '' } = outcomes.get(id)![place]!;
      const why = kills ? `kills ${kills.mutants.join('; ').slice(0, 80)}` : `asks ${asks}`;
      console.log(`  ${isRight ? 'LOST' : 'killed'} ${id} ${testText(test)}: ${status} ${reason} (${strange}; ${why})`);
    }
  }
  const sum = (of: (each: Hardening['hardened'][number]) => number): number =>
    hardened.reduce((total, each) => total + of(each), 0);
  const survive = sum(({ mutants }) => mutants.survive);
  const killed = sum(({ mutants }) => mutants.killed);
  measures.push(
    {
      name: `${trust}: wrong programs killed`,
      value: tally.killed,
      unit: `of ${tally.wrong}`,
      ...(whole && bars.killed !== undefined ? { bar: bars.killed } : {}),
    },
    {
      name: `${trust}: right programs lost`,
      value: tally.lost,
      unit: `of ${tally.right}`,
      ...(whole ? { bar: bars.lost, at: 'most' as const } : {}),
    },
    { name: `${trust}: lost by size or time`, value: tally.bySize, unit: '', bar: 0, at: 'most' },
    {
      name: `${trust}: survivors of the base tests among mutants, killed`,
      value: killed / Math.max(1, survive),
      unit: 'share',
      ...(whole && bars.survivors ? { bar: 0.6 } : {}),
      note: `${killed} of ${survive}; ${sum(({ mutants }) => mutants.made)} made`,
    },
    { name: `${trust}: ${problems.length} questions hardened`, value: seconds, unit: 's', bar: 900, at: 'most' },
    {
      name: `${trust}: tests added per question`,
      value: sum(({ added }) => added.length) / problems.length,
      unit: '',
      bar: 20,
      at: 'most',
    },
  );
  if (values.again) {
    const again = await harden(sandbox, subjects, rule);
    const text = ({ hardened: each }: Hardening): string => JSON.stringify(each.map(({ added }) => added));
    measures.push({
      name: `${trust}: same seed, same tests`,
      value: Number(text(again) === text(hardening)),
      unit: '',
      bar: 1,
    });
  }
  if (values.more && bars.survivors) await measureMore(trust, subjects, hardening);
}

/** Mutants that inputs of another seed kill, and those of them that the added tests kill. */
async function measureMore(trust: Trust, subjects: readonly Subject[], { hardened }: Hardening): Promise<void> {
  const targets = subjects.map(({ question: { contract, ...question } }) => ({
    ...question,
    ...(trust === 'contract' ? { contract } : {}),
    seed: seedOf(question.id, 1),
  }));
  let theirs = 0;
  let ours = 0;
  for (const [at, attack] of (
    await propose(sandbox, targets, { budget: MORE, strangest: strangestOf(trust) })
  ).entries()) {
    const own = hardened[at]!.attack;
    if ('reason' in attack || !own) continue;
    const tests = new Set(hardened[at]!.added.map(({ test }) => testText(test)));
    const fallen = new Set(
      own.candidates
        .filter((candidate) => tests.has(testText(testOf(candidate, own))))
        .flatMap(({ kills }) => kills.map((place) => own.mutants.survivors[place]!.id)),
    );
    for (const { id, killed } of attack.mutants.survivors) {
      if (!killed) continue;
      theirs += 1;
      if (fallen.has(id)) ours += 1;
      else if (values.list) console.log(`  LEFT ${targets[at]!.id} ${id}`);
    }
  }
  measures.push({
    name: `${trust}: killed, of the mutants that 5,000 inputs of another seed kill`,
    value: ours / Math.max(1, theirs),
    unit: 'share',
    ...(values.tasks === undefined ? { bar: 0.95 } : {}),
    note: `${ours} of ${theirs}`,
  });
}

async function main(): Promise<void> {
  for (const trust of TRUSTS)
    if (values.trust?.includes(trust) ?? true)
      await measure(trust, await (trust === 'agreement' ? humaneval() : mbpp()));
  report('hardening', measures, values.json);
}

const missing = [MBPP, HUMANEVAL, OUTPUTS, VOUCHERS].find((path) => !existsSync(path));
const unknown = values.trust?.find((kind) => !TRUSTS.some((known) => known === kind));
try {
  if (values.help) console.log(HELP);
  else if (unknown !== undefined) {
    console.error(`there is no trust ${unknown}; give ${TRUSTS.join(', ')}`);
    process.exitCode = 2;
  } else if (missing !== undefined) console.log(`NOT MEASURED, because ${missing} is not there`);
  else await main();
} finally {
  await services.close();
}
