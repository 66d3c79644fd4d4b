/**
 * `npm run bench:hardening`: tests that are added to MBPP's base tests, against programs of a real model whose verdicts
 * on MBPP+'s further inputs are published.
 *
 * The tests are chosen without those inputs and without those programs. Data of others are not in the repository: where
 * they are not there, nothing is measured and that is told.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { sha256 } from '../../activities/artifacts/keys.js';
import { judgePrograms, type Job } from '../../activities/execution/execution.js';
import { publishedRows } from '../../activities/benchmarks/published.js';
import { chooseTests, testOf, type ChoosingRule, type Offer } from '../../activities/hardening/choose.js';
import { propose, type Attack, type AttackBudget, type Target } from '../../activities/hardening/proposals.js';
import { root } from '../../infra/setup/paths.mjs';
import { testText } from '../../workflows/contract/index.js';
import { createServices } from '../../workers/plugins/services.js';
import { report, type Measure } from './table.js';

const TRUSTS = ['reference', 'contract'] as const;
type Trust = (typeof TRUSTS)[number];

const HELP = `npm run bench:hardening -- [options]

  --trust KIND  ${TRUSTS.join(' or ')}; may be repeated (both)
  --tasks N     only the first N tasks
  --more        5,000 inputs of another seed: which mutants they kill
  --again       the same once more: the tests must be the same
  --list        every program that is killed or lost
  --json        one JSON object on the last line
  --help        print this`;

const SHARED = join(process.env['ACECODER_SHARED'] ?? join(root, '..', 'shared'), 'data');
const MBPP = join(SHARED, 'evalplus-mbpp/MbppPlus-v0.1.0.jsonl.gz');
const OUTPUTS = join(SHARED, 'qwen2.5-coder-1.5b-base-outputs/evalplus-mbpp-generated_eval_results.json.gz');
const BUDGET: AttackBudget = { inputs: 1500, mutants: 60, executions: 60_000, callSeconds: 0.05, seconds: 20 };
const LIMITS = { cpuSecondsPerTest: 1, cpuSecondsPerProgram: 20, memoryBytes: 1024 ** 3 };

const RULES: Record<Trust, ChoosingRule> = {
  reference: { maximum: 20, killsUpTo: 4, asksUpTo: 2 },
  contract: { maximum: 20, killsUpTo: 8, asksUpTo: 4 },
};

interface MbppTask {
  task_id: string;
  prompt: string;
  entry_point: string;
  canonical_solution: string;
  contract: string;
  assertion: string;
}
interface Published {
  solution: string;
  base_status: string;
  plus_status: string;
}

/** Entry points whose answers EvalPlus compares as sets. */
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

function targetOf(task: MbppTask, trust: Trust, seed = 0): Target {
  const tests = task.assertion.split('\n').filter((line) => line.startsWith('assert '));
  const asked = AS_SETS.includes(task.entry_point)
    ? tests.map((test) => test.replace(/^assert (?!set\()(.+?)\s*==\s*(.+)$/, 'assert set($1) == set($2)'))
    : tests;
  return {
    id: task.task_id,
    reference: task.canonical_solution,
    entryPoint: task.entry_point,
    tests: asked,
    ...(trust === 'contract' ? { contract: task.contract } : {}),
    seed: parseInt(sha256(`${task.task_id} ${seed}`).slice(0, 12), 16),
  };
}

const services = createServices({ label: 'bench' });
const measures: Measure[] = [];

function offersOf(attack: Attack): (Offer & { call: string })[] {
  const { survivors } = attack.mutants;
  return attack.candidates.map((candidate) => ({
    ...candidate,
    kills: candidate.kills.map((at) => survivors[at]!.id),
  }));
}

async function measure(trust: Trust, tasks: readonly MbppTask[], published: Record<string, Published>): Promise<void> {
  const { sandbox } = services;
  const targets = tasks.map((task) => targetOf(task, trust));
  const start = performance.now();
  const proposals = await propose(sandbox, targets, { budget: BUDGET });
  const reasons: Record<string, number> = {};
  const refused: Record<string, number> = {};
  let made = 0;
  let survive = 0;
  let killable = 0;
  let killed = 0;
  const added = new Map<string, ReturnType<typeof chooseTests<Offer & { call: string }>>>();
  const attacks = new Map<string, Attack>();
  for (const [at, attack] of proposals.entries()) {
    const { id } = targets[at]!;
    if ('reason' in attack) {
      reasons[attack.reason] = (reasons[attack.reason] ?? 0) + 1;
      if (values.list) console.log(`  ${id}: ${attack.reason}`);
      continue;
    }
    for (const [reason, times] of Object.entries(attack.refused)) refused[reason] = (refused[reason] ?? 0) + times;
    const chosen = chooseTests(offersOf(attack), attack.known, RULES[trust]);
    added.set(id, chosen);
    attacks.set(id, attack);
    made += attack.mutants.made;
    survive += attack.mutants.survivors.length;
    killable += attack.mutants.survivors.filter((each) => each.killed).length;
    const fallen = new Set(chosen.flatMap(({ offer }) => offer.kills));
    killed += attack.mutants.survivors.filter(({ id: name }) => fallen.has(name)).length;
  }
  const seconds = (performance.now() - start) / 1000;
  console.log(trust, 'not attacked:', JSON.stringify(reasons), 'refused:', JSON.stringify(refused));
  const jobs = tasks.flatMap(({ task_id: id }): Job[] => {
    const chosen = added.get(id);
    if (!chosen || chosen.length === 0 || published[id]?.base_status !== 'pass') return [];
    return [{ id, program: published[id].solution, tests: chosen.map(({ offer }) => testOf(offer, attacks.get(id)!)) }];
  });
  const { judgements } = await judgePrograms(sandbox, jobs, { limits: LIMITS });
  const tally = { wrong: 0, wrongKilled: 0, right: 0, rightLost: 0, lostBySize: 0 };
  const passing = tasks.filter(({ task_id: id }) => published[id]?.base_status === 'pass');
  tally.wrong = passing.filter(({ task_id: id }) => published[id]!.plus_status !== 'pass').length;
  tally.right = passing.length - tally.wrong;
  for (const [at, { id, outcomes }] of judgements.entries()) {
    const first = outcomes.findIndex(({ status }) => status !== 'pass');
    const isRight = published[id]!.plus_status === 'pass';
    const failed = outcomes.flatMap((outcome, place) => (outcome.status === 'pass' ? [] : [place]));
    if (first < 0) {
      if (values.list && !isRight) console.log(`  SURVIVES ${id}`);
      continue;
    }
    if (isRight) {
      tally.rightLost += 1;
      if (outcomes.some(({ status }) => status === 'timeout' || status === 'killed')) tally.lostBySize += 1;
    } else tally.wrongKilled += 1;
    if (values.list)
      for (const place of failed.slice(0, isRight ? 4 : 1)) {
        const { why, offer } = added.get(id)![place]!;
        const outcome = outcomes[place]!;
        console.log(
          `  ${isRight ? 'LOST' : 'killed'} ${id} ${testText(jobs[at]!.tests[place] as string)} (${outcome.status} ` +
            `${outcome.reason ?? ''}) strange ${offer.strange} ${JSON.stringify(why).slice(0, 100)}`,
        );
      }
  }
  const bars = { reference: { killed: 33, lost: 20 }, contract: { killed: 34, lost: 8 } }[trust];
  const whole = values.tasks === undefined;
  measures.push(
    {
      name: `${trust}: wrong programs killed`,
      value: tally.wrongKilled,
      unit: `of ${tally.wrong}`,
      ...(whole ? { bar: bars.killed } : {}),
    },
    {
      name: `${trust}: right programs lost`,
      value: tally.rightLost,
      unit: `of ${tally.right}`,
      ...(whole ? { bar: bars.lost, at: 'most' as const } : {}),
    },
    { name: `${trust}: lost by size or time`, value: tally.lostBySize, unit: '', bar: 0, at: 'most' },
    {
      name: `${trust}: mutants that survive the base tests and are killed`,
      value: killed / Math.max(1, survive),
      unit: 'share',
      bar: 0.6,
      note: `${killed} of ${survive}; ${made} made, ${killable} killed by some candidate`,
    },
    { name: `${trust}: ${tasks.length} questions hardened`, value: seconds, unit: 's', bar: 900, at: 'most' },
    {
      name: `${trust}: tests added per question`,
      value: [...added.values()].reduce((sum, { length }) => sum + length, 0) / Math.max(1, added.size),
      unit: '',
      bar: 20,
      at: 'most',
    },
  );
  if (values.again) {
    const again = await propose(sandbox, targets, { budget: BUDGET });
    const same = again.every((each, at) => JSON.stringify(each) === JSON.stringify(proposals[at]));
    measures.push({ name: `${trust}: same seed, same tests`, value: same ? 1 : 0, unit: '', bar: 1 });
  }
  if (values.more) {
    const others = tasks.map((task) => targetOf(task, trust, 1));
    const more = await propose(sandbox, others, {
      budget: { ...BUDGET, inputs: 5000, executions: 500_000, seconds: 120 },
    });
    let theirs = 0;
    let ours = 0;
    for (const [at, attack] of more.entries()) {
      if ('reason' in attack) continue;
      const fallen = new Set((added.get(others[at]!.id) ?? []).flatMap(({ offer }) => offer.kills));
      for (const { id, killed: can } of attack.mutants.survivors) {
        if (!can) continue;
        theirs += 1;
        if (fallen.has(id)) ours += 1;
        else if (values.list) console.log(`  LEFT ${others[at]!.id} ${id}`);
      }
    }
    measures.push({
      name: `${trust}: killed, of the mutants that 5,000 inputs of another seed kill`,
      value: ours / Math.max(1, theirs),
      unit: 'share',
      bar: 0.95,
      note: `${ours} of ${theirs}`,
    });
  }
}

if (values.help) console.log(HELP);
else if (!existsSync(MBPP) || !existsSync(OUTPUTS))
  console.log(`NOT MEASURED, because ${MBPP} or ${OUTPUTS} is not there`);
else await main();

async function main(): Promise<void> {
  const tasks: MbppTask[] = [];
  for await (const { row } of publishedRows(MBPP))
    if (tasks.length < Number(values.tasks ?? Infinity)) tasks.push(row as MbppTask);
  const { eval: results } = JSON.parse(gunzipSync(readFileSync(OUTPUTS)).toString('utf8')) as { eval: Record<string, [Published]> };
  const published = Object.fromEntries(Object.entries(results).map(([id, [first]]) => [id, first]));
  try {
    for (const trust of TRUSTS)
      if (values.trust?.includes(trust) ?? true) await measure(trust, tasks, published);
    report('hardening', measures, values.json);
  } finally {
    await services.close();
  }
}
