/**
 * `npm run bench:hardening`: tests that are added to the base tests of MBPP and HumanEval, against programs of a real
 * model whose verdicts on EvalPlus's further inputs are published.
 *
 * The tests are chosen without those inputs and without those programs. For `agreement` the programs of four other
 * models vouch, which are there for HumanEval alone. Data of others are not in the repository: where they are not there,
 * nothing is measured and that is told.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { judgePrograms, type Job } from '../../activities/execution/execution.js';
import { testOf } from '../../activities/hardening/choose.js';
import {
  harden,
  strangestOf,
  TRUSTS,
  type Hardening,
  type Subject,
  type Trust,
} from '../../activities/hardening/harden.js';
import { propose } from '../../activities/hardening/proposals.js';
import { testText } from '../../workflows/contract/index.js';
import { createServices } from '../../workers/plugins/services.js';
import { gain, heldOut, type Tally } from './hardening/held-out.js';
import {
  FILES,
  humaneval,
  humanevalByFew,
  LIMITS,
  mbpp,
  mbppTrain,
  seedOf,
  SHARED,
  type Problem,
} from './hardening/problems.js';
import { report, type Measure } from './table.js';

const HELP = `npm run bench:hardening -- [options]

  --trust KIND  ${TRUSTS.join(', ')}; may be repeated (all)
  --tasks N     only N tasks, chosen by their ids
  --held-out    the rule's constants on data that did not choose them, in the place of the table
  --more        5,000 inputs of another seed: which mutants they kill
  --again       the same once more: the tests must be the same
  --list        every program that is killed or lost
  --data DIR    folder of the published data (data in ACECODER_SHARED, or in the folder shared next to the checkout)
  --json        one JSON object on the last line
  --help        print this`;

const BUDGET = { inputs: 1500, mutants: 60, executions: 60_000, callSeconds: 0.05 };
const MORE = { ...BUDGET, inputs: 5000, executions: 500_000, seconds: 120 };
const MAXIMUM_TESTS = 20;

const { values } = parseArgs({
  options: {
    trust: { type: 'string', multiple: true },
    tasks: { type: 'string' },
    data: { type: 'string', default: SHARED },
    'held-out': { type: 'boolean', default: false },
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

const BARS: Record<Trust, { killed?: number; lost: number; survivors: boolean }> = {
  reference: { killed: 33, lost: 20, survivors: true },
  contract: { killed: 34, lost: 8, survivors: true },
  agreement: { lost: 1, survivors: false },
};

/** As many tasks as `--tasks` says, chosen by their ids. */
function sampledIds(ids: readonly string[]): ReadonlySet<string> {
  if (values.tasks === undefined) return new Set(ids);
  const order = ids.map((id) => ({ id, seed: seedOf(id, 3) })).sort((a, b) => a.seed - b.seed);
  const some = new Set(order.slice(0, Number(values.tasks)).map(({ id }) => id));
  console.log(`tasks: ${ids.filter((id) => some.has(id)).join(' ')}`);
  return some;
}

function sampled(all: readonly Problem[]): readonly Problem[] {
  const some = sampledIds(all.map(({ subject }) => subject.question.id));
  return all.filter(({ subject }) => some.has(subject.question.id));
}

async function measure(trust: Trust, all: readonly Problem[]): Promise<void> {
  const whole = values.tasks === undefined;
  const problems = sampled(all);
  const bars = BARS[trust];
  const rule = { trust, maximumTests: MAXIMUM_TESTS, budget: BUDGET, limits: LIMITS };
  const subjects = problems.map(({ subject }) => subject);
  const start = performance.now();
  const hardening = await harden(sandbox, subjects, rule);
  const seconds = (performance.now() - start) / 1000;
  const { hardened, refused } = hardening;
  const reasons: Record<string, number> = {};
  for (const { reason } of hardened) if (reason) reasons[reason] = (reasons[reason] ?? 0) + 1;
  console.log(`${trust}: without added tests ${JSON.stringify(reasons)}, inputs refused ${JSON.stringify(refused)}`);

  const { tally, bySize } = await tallied(problems, hardening);
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
    { name: `${trust}: lost by size or time`, value: bySize, unit: '', bar: 0, at: 'most' },
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
      bar: MAXIMUM_TESTS,
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

/** What the added tests do to the programs of each problem; with `--list` one line for each that they decide. */
async function tallied(
  problems: readonly Problem[],
  { hardened }: Hardening,
): Promise<{ tally: Tally; bySize: number }> {
  const jobs = problems.flatMap(({ programs }, at): Job[] => {
    const tests = hardened[at]!.added.map(({ test }) => test);
    return tests.length === 0 ? [] : programs.map(({ id, program }) => ({ id, program, tests }));
  });
  const { judgements } = await judgePrograms(sandbox, jobs, { limits: LIMITS });
  const outcomes = new Map(judgements.map((each) => [each.id, each.outcomes]));
  const tally = { wrong: 0, killed: 0, right: 0, lost: 0 };
  let bySize = 0;
  for (const [at, { programs }] of problems.entries())
    for (const { id, right } of programs) {
      const failed = (outcomes.get(id) ?? []).flatMap((each, place) =>
        each.status === 'pass' ? [] : [{ ...each, place }],
      );
      tally[right ? 'right' : 'wrong'] += 1;
      if (failed.length > 0) tally[right ? 'lost' : 'killed'] += 1;
      if (right && failed.some(({ status }) => status === 'timeout' || status === 'killed')) bySize += 1;
      if (!values.list) continue;
      if (failed.length === 0 && !right) console.log(`  SURVIVES ${id}`);
      for (const { place, status, reason = '' } of failed.slice(0, right ? 3 : 1)) {
        const { test, strange, kills, asks } = hardened[at]!.added[place]!;
        const why = kills ? `kills ${kills.mutants.join('; ').slice(0, 80)}` : `asks ${asks}`;
        console.log(`  ${right ? 'LOST' : 'killed'} ${id} ${testText(test)}: ${status} ${reason} (${strange}; ${why})`);
      }
    }
  return { tally, bySize };
}

/**
 * The constants of the rule were chosen on MBPP's programs. Here rules that win on one half of these are measured on the
 * other, and the product's rule is measured on HumanEval and on MBPP's training tasks, which chose nothing.
 */
async function measureHeldOut(trust: Trust): Promise<void> {
  const told = (name: string, { wrong, killed, right, lost }: Tally): void => {
    const value = gain({ wrong, killed, right, lost });
    const note = `killed ${killed} of ${wrong}, lost ${lost} of ${right}`;
    measures.push({ name: `${trust}: ${name}`, value, unit: 'J', note });
  };
  const cross = async (name: string, all: readonly Problem[]): Promise<void> => {
    const options = { maximum: MAXIMUM_TESTS, budget: { ...BUDGET, seconds: 20 } };
    const { own, best, crossed } = await heldOut(sandbox, all, trust, options);
    told(`${name}, the product's rule`, own);
    told(`${name}, the rule that wins on one half, on the other half`, crossed);
    told(`${name}, the rule that wins on all`, best);
  };
  if (trust === 'agreement') return;
  await cross('MBPP', sampled(await mbpp(values.data)));
  if (trust !== 'reference') return;
  await cross('HumanEval by three asserts', await humanevalByFew(values.data, sandbox, sampledIds));
  const rule = { trust, maximumTests: MAXIMUM_TESTS, budget: BUDGET, limits: LIMITS };
  for (const [name, problems] of [
    ['HumanEval by all its tests', sampled(await humaneval(values.data))],
    ["MBPP's training tasks", sampled(mbppTrain(values.data))],
  ] as const) {
    // Nobody else vouches or attacks.
    const subjects = problems.map(({ subject }) => ({ ...subject, programs: [] }));
    const hardening = await harden(sandbox, subjects, rule);
    const { tally } = await tallied(problems, hardening);
    if (tally.wrong > 0) told(`${name}, the product's rule`, tally);
    const [survive, killed] = (['survive', 'killed'] as const).map((of) =>
      hardening.hardened.reduce((total, { mutants }) => total + mutants[of], 0),
    );
    measures.push({
      name: `${trust}: ${name}, surviving mutants killed`,
      value: killed! / Math.max(1, survive!),
      unit: 'share',
      note: `${killed} of ${survive}`,
    });
  }
}

/** Mutants that inputs of another seed kill, and those of them that the added tests kill. */
async function measureMore(trust: Trust, subjects: readonly Subject[], { hardened }: Hardening): Promise<void> {
  const targets = subjects.map(({ question }) => ({
    ...question,
    obeysContract: trust === 'contract',
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
  for (const trust of TRUSTS) {
    if (!(values.trust?.includes(trust) ?? true)) continue;
    if (values['held-out']) await measureHeldOut(trust);
    else await measure(trust, await (trust === 'agreement' ? humaneval : mbpp)(values.data));
  }
  report('hardening', measures, values.json);
}

const missing = Object.values(FILES)
  .map((path) => join(values.data, path))
  .find((path) => !existsSync(path));
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
