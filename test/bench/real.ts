/**
 * `npm run bench:real`: a real language model through the chain, on CPU and on a stack of its own, in parts that take
 * hours. What is done stays in the home of the bench: a run that was ended goes on where it was.
 *
 * Workflows have ids that follow from their input, so that a run finds those of the one before. The published data are
 * not in the repository, and the model is no dependency of anything: it comes out of wheels by their hashes.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import { sha256 } from '../../activities/artifacts/keys.js';
import { mbppPlus } from '../../activities/benchmarks/evalplus.js';
import { publishedRows } from '../../activities/benchmarks/published.js';
import { gitCommit } from '../../activities/runtime/package.js';
import { newestHeartbeat } from '../../infra/commands/progress.js';
import { home as acecoderHome, root } from '../../infra/setup/paths.mjs';
import { readJson, withLock, writeWhole } from '../../infra/setup/processes.mjs';
import {
  canonicalJson,
  EvaluationRow,
  ProgramRow,
  type ArtifactKind,
  type ArtifactRef,
  type StageName,
  type StageResult,
} from '../../workflows/contract/index.js';
import { MODELS, modelFile } from './real-model.js';
import { isOfTestSplit, trainQuestion, withoutTasks } from './real-data.js';
import {
  DTYPES,
  PARTS,
  realReport,
  RealRecord,
  type Dtype,
  type Part,
  type PartRecord,
  type StageRecord,
} from './real-report.js';
import { SETTINGS } from './real-settings.js';
import { realSurroundings } from './real-surroundings.js';
import { processTree } from './stage-overhead.js';

const HELP = `npm run bench:real -- [options]

  --only PART   ${PARTS.join(', ')}; may be given several times (all)
  --data DIR    folder of the published data (data in ACECODER_SHARED, or in the folder shared next to the checkout)
  --home DIR    folder of the stack and the results (.acecoder/bench/real)
  --programs DIR  do not sample: take the programs that an earlier run wrote into its home or that are published
  --dtype TYPE  in which the model computes: ${DTYPES.join(' or ')}; one type a home (float32)
  --report      print the tables of what is there, and run nothing
  --json        one JSON object on the last line
  --help        print this

It takes hours. Ctrl-C stops it, and the same command goes on from there.`;

/** The parts that are made of what a part makes. */
const MADE_OF: Record<Part, readonly Part[]> = {
  greedy: [],
  pairs: ['reward-model', 'best-of-n'],
  samples: ['best-of-n'],
  'reward-model': ['best-of-n'],
  'best-of-n': [],
};

/** Files of programs in the home of the bench. */
const PROGRAMS = { pairs: 'programs.jsonl', samples: 'samples.jsonl' } as const;

const QUEUE = 'real';
const POLICY = 'qwen';
/** Seconds between two looks at the clock, the CPU and the progress. */
const LOOK_SECONDS = 30;
/** Clock ticks per second of `/proc`, on every Linux. */
const TICKS = 100;

/** CPU seconds of processes, with those of their children that have ended. */
function cpuSeconds(pids: Iterable<number>): number {
  let ticks = 0;
  for (const pid of pids) {
    try {
      // The name, in brackets, may hold spaces.
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ');
      ticks += fields.slice(11, 15).reduce((sum, value) => sum + Number(value), 0);
    } catch {
      // It has ended since it was listed.
    }
  }
  return ticks / TICKS;
}

/** Files of published data. @throws Error that names what is missing. */
class Data {
  readonly questions: string;
  readonly mbpp: string;

  constructor(
    folder: string,
    readonly home: string,
  ) {
    this.questions = join(folder, 'mbpp-train-seeds/mbpp_601_974_not_sanitized.jsonl');
    this.mbpp = join(folder, 'evalplus-mbpp/MbppPlus-v0.1.0.jsonl.gz');
    const missing = [this.questions, this.mbpp].find((path) => !existsSync(path));
    if (missing)
      throw new Error(
        `There is no ${missing}: this bench needs published data that are not in the repository; ` +
          '--data names their folder.',
      );
  }

  #written(name: string, lines: readonly string[]): string {
    const path = join(this.home, name);
    writeFileSync(path, `${lines.join('\n')}\n`);
    return path;
  }

  /** Questions that repeat a task of the test split are left out, and counted. */
  async trainQuestions(): Promise<{ path: string; repeated: number }> {
    const rows: unknown[] = [];
    for await (const { row } of publishedRows(this.testSplit())) rows.push(row);
    const tasks = mbppPlus.tasks({ kind: 'mbppPlus', data: { kind: 'tasks', path: this.mbpp } }, rows);
    const questions = readFileSync(this.questions, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => trainQuestion(JSON.parse(line)));
    const kept = withoutTasks(questions, tasks);
    const path = this.#written(
      'questions.jsonl',
      kept.map((question) => JSON.stringify(question)),
    );
    return { path, repeated: questions.length - kept.length };
  }

  /** Lines stay what they are: their numbers are Python's. */
  testSplit(): string {
    const lines = gunzipSync(readFileSync(this.mbpp)).toString('utf8').trimEnd().split('\n');
    return this.#written('mbpp-test-split.jsonl', lines.filter(isOfTestSplit));
  }

  /** The samples of tasks, as EvalPlus has them, so that somebody else can go on from them. */
  samples(rows: readonly EvaluationRow[]): string {
    return this.#written(
      PROGRAMS.samples,
      rows.map(({ taskId, program }) => JSON.stringify({ task_id: taskId, solution: program })),
    );
  }

  /** The programs of questions, as recorded samples. */
  async programs(rows: AsyncIterable<ProgramRow>): Promise<void> {
    const lines: string[] = [];
    for await (const { questionId, program } of rows)
      lines.push(JSON.stringify({ seedId: questionId, text: `\`\`\`python\n${program}\n\`\`\`` }));
    this.#written(PROGRAMS.pairs, lines);
  }

  /** Programs of an earlier run, gzipped where they are published. */
  given(folder: string, name: string): string {
    const [plain, zipped] = [join(folder, name), join(folder, `${name}.gz`)];
    if (!existsSync(plain) && !existsSync(zipped))
      throw new Error(`--programs is ${folder}: there is neither ${name} nor ${name}.gz.`);
    const text = existsSync(plain) ? readFileSync(plain, 'utf8') : gunzipSync(readFileSync(zipped)).toString('utf8');
    return this.#written(`given-${name}`, text.trimEnd().split('\n'));
  }
}

/** The record in the home of the bench: what is done, and what each part has cost. */
class Results {
  readonly #path: string;
  /** That of the code that runs: the checkout may move on meanwhile. */
  readonly #commit = gitCommit() ?? 'no checkout';
  readonly record: RealRecord;

  constructor(home: string, dtype: Dtype | undefined) {
    this.#path = join(home, 'results.json');
    const machine =
      `${availableParallelism()} cores, ${cpus()[0]?.model ?? ''}, ` + `${Math.round(totalmem() / 1024 ** 3)} GiB`;
    this.record = existsSync(this.#path)
      ? RealRecord.parse(readJson(this.#path))
      : { machine, dtype: dtype ?? 'float32', parts: {}, spent: {} };
    if (dtype !== undefined && dtype !== this.record.dtype)
      throw new Error(
        `--dtype is ${dtype}, and the results in ${home} are in ${this.record.dtype}: --home names another folder.`,
      );
  }

  /** A part that ended with the settings of now. */
  done(part: Part): PartRecord | undefined {
    const found = this.record.parts[part];
    return found && canonicalJson(found.settings) === canonicalJson(SETTINGS[part]) ? found : undefined;
  }

  /** @throws Error that says which part has to run first. */
  need(part: Part, stage: string): StageRecord {
    const found = this.done(part)?.stages[stage];
    if (!found) throw new Error(`The part ${part} has no result yet: run it first.`);
    return found;
  }

  /** Keeps what a part has made, and forgets what was made of an earlier result of it. */
  end(part: Part, made: Pick<PartRecord, 'stages' | 'figures'>): void {
    for (const later of MADE_OF[part]) delete this.record.parts[later];
    this.record.parts[part] = {
      settings: JSON.parse(JSON.stringify(SETTINGS[part])) as PartRecord['settings'],
      commit: this.#commit,
      finished: new Date().toISOString(),
      ...made,
    };
    this.#write();
  }

  spend(part: Part, wallSeconds: number, cpu: number): void {
    const before = this.record.spent[part] ?? { wallSeconds: 0, cpuSeconds: 0 };
    this.record.spent[part] = {
      wallSeconds: before.wallSeconds + wallSeconds,
      cpuSeconds: before.cpuSeconds + Math.max(0, cpu),
    };
    this.#write();
  }

  #write(): void {
    writeWhole(this.#path, `${JSON.stringify(this.record, null, 2)}\n`);
  }
}

async function run(
  home: string,
  data: Data,
  wanted: readonly Part[],
  { dtype, programs: given }: { dtype: Dtype | undefined; programs: string | undefined },
): Promise<void> {
  const results = new Results(home, dtype);
  const model = { kind: 'ggufFile', paths: [await modelFile(MODELS['0.5b'])] };
  const { client, store, servers, ended, close } = await realSurroundings(home, QUEUE, {
    ACECODER_CPU_DTYPE: results.record.dtype,
  });
  const said = new Set<string>();
  const say = (line: string): void => {
    if (said.has(line)) return;
    said.add(line);
    console.error(`${new Date().toISOString().slice(0, 19)} ${line}`);
  };

  /** A stage on its own. One that an earlier run has started is waited for, or answers with its result. */
  const stage = async (name: StageName, title: string, inputs: object, config: object): Promise<StageRecord> => {
    const args = [{ inputs, config }];
    const workflowId = `${title}-${sha256(canonicalJson(args)).slice(0, 12)}`;
    const handle = await client.workflow
      .start(name, {
        taskQueue: QUEUE,
        workflowId,
        args,
        workflowIdReusePolicy: 'ALLOW_DUPLICATE_FAILED_ONLY',
        workflowIdConflictPolicy: 'USE_EXISTING',
      })
      .catch((error: unknown) => {
        if (error instanceof WorkflowExecutionAlreadyStartedError) return client.workflow.getHandle(workflowId);
        throw error;
      });
    const over = new AbortController();
    const telling = (async () => {
      while (!over.signal.aborted) {
        const shards = await handle
          .query<{ progress?: { done: number; total: number; unit: string } }>('status')
          .then(({ progress }) => progress && `${progress.done} of ${progress.total} ${progress.unit}`)
          .catch(() => undefined);
        const activity = await newestHeartbeat(client, workflowId);
        say([title, shards, activity].filter(Boolean).join(', '));
        await sleep(LOOK_SECONDS * 1000, undefined, { signal: over.signal }).catch(() => undefined);
      }
    })();
    try {
      const { ref, metrics } = (await Promise.race([handle.result(), ended])) as StageResult;
      say(`${title} is done`);
      return { ref, metrics };
    } finally {
      over.abort();
      await telling;
    }
  };

  const evaluation = (title: string, benchmark: object, config: object): Promise<StageRecord> =>
    stage('evaluation', title, { policies: { [POLICY]: model } }, { benchmarks: [benchmark], ...config });
  const file = (kind: ArtifactKind, path: string): object => ({ kind, path });
  const sampledRows = async (ref: ArtifactRef): Promise<EvaluationRow[]> => {
    const rows: EvaluationRow[] = [];
    for await (const row of store.rowsOf(ref, EvaluationRow))
      if (row.mode === 'sample' && row.benchmark === 'mbppPlus') rows.push(row);
    return rows;
  };

  const parts: Record<Part, () => Promise<Pick<PartRecord, 'stages' | 'figures'>>> = {
    greedy: async () => {
      const mbpp = { kind: 'mbppPlus', data: file('tasks', data.mbpp) };
      return {
        stages: {
          humaneval: await evaluation('greedy-humaneval', { kind: 'humaneval' }, SETTINGS.greedy),
          mbpp: await evaluation('greedy-mbpp', mbpp, SETTINGS.greedy),
        },
      };
    },
    pairs: async () => {
      const settings = SETTINGS.pairs;
      const { path, repeated } = await data.trainQuestions();
      const written = { questions: file('questions', path) };
      const filtering = await stage('filtering', 'pairs-filtering', written, settings.filtering);
      const recorded = given !== undefined && {
        inputs: { samples: file('samples', data.given(given, PROGRAMS.pairs)) },
        config: { sampler: { kind: 'recorded' } },
      };
      const sampling = await stage(
        'sampling',
        'pairs-sampling',
        { questions: filtering.ref, ...(recorded ? recorded.inputs : { policy: model }) },
        { ...settings.sampling, ...(recorded ? recorded.config : {}) },
      );
      await data.programs(store.rowsOf(sampling.ref, ProgramRow));
      const preferences = await stage('preferences', 'pairs', { programs: sampling.ref }, settings.preferences);
      let [programs, cut] = [0, 0];
      for await (const { finish } of store.rowsOf(sampling.ref, ProgramRow)) {
        programs += 1;
        if (finish === 'length') cut += 1;
      }
      // Nobody says of recorded programs whether they were cut.
      const truncated = recorded ? {} : { truncated: cut / programs };
      return { stages: { filtering, sampling, preferences }, figures: { ...truncated, repeated } };
    },
    samples: async () => {
      const tasks = { kind: 'mbppPlus', data: file('tasks', data.testSplit()) };
      const samples =
        given === undefined
          ? await evaluation('samples', tasks, SETTINGS.samples)
          : await stage(
              'evaluation',
              'samples',
              { samples: { [POLICY]: file('benchmarkSamples', data.given(given, PROGRAMS.samples)) } },
              { benchmarks: [tasks], ...SETTINGS.samples, sampler: { kind: 'recorded' } },
            );
      data.samples(await sampledRows(samples.ref));
      return { stages: { samples } };
    },
    'reward-model': async () => {
      const inputs = { pairs: results.need('pairs', 'preferences').ref, backbone: model };
      return { stages: { rewardModel: await stage('rewardModel', 'reward-model', inputs, SETTINGS['reward-model']) } };
    },
    'best-of-n': async () => {
      const sampled = await sampledRows(results.need('samples', 'samples').ref);
      const inputs = {
        samples: { [POLICY]: file('benchmarkSamples', data.samples(sampled)) },
        rewardModel: results.need('reward-model', 'rewardModel').ref,
      };
      const benchmarks = [{ kind: 'mbppPlus', data: file('tasks', data.testSplit()) }];
      const config = { benchmarks, ...SETTINGS['best-of-n'] };
      return { stages: { scored: await stage('evaluation', 'best-of-n', inputs, config) } };
    },
  };

  try {
    for (const part of wanted) {
      if (results.done(part)) {
        say(`${part} is done already`);
        continue;
      }
      let [at, cpu] = [performance.now(), 0];
      const used = (): number => cpuSeconds(new Set([...processTree(process.pid), ...servers.flatMap(processTree)]));
      cpu = used();
      const look = (): void => {
        const [now, total] = [performance.now(), used()];
        results.spend(part, (now - at) / 1000, total - cpu);
        [at, cpu] = [now, total];
      };
      const timer = setInterval(look, LOOK_SECONDS * 1000);
      try {
        const made = await parts[part]();
        look();
        results.end(part, made);
      } finally {
        clearInterval(timer);
      }
    }
  } finally {
    await close();
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true },
      data: { type: 'string', default: join(process.env['ACECODER_SHARED'] ?? join(root, '..', 'shared'), 'data') },
      home: { type: 'string', default: join(acecoderHome(), 'bench', 'real') },
      report: { type: 'boolean', default: false },
      programs: { type: 'string' },
      dtype: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(HELP);
  const unknown = values.only?.find((name) => !PARTS.some((part) => part === name));
  if (unknown !== undefined) throw new Error(`--only is ${unknown}: the parts are ${PARTS.join(', ')}.`);
  const dtype = DTYPES.find((name) => name === values.dtype);
  if (values.dtype !== undefined && !dtype)
    throw new Error(`--dtype is ${values.dtype}: it is ${DTYPES.join(' or ')}.`);
  const home = resolve(values.home);
  if (!values.report) {
    const data = new Data(resolve(values.data), home);
    mkdirSync(home, { recursive: true });
    await withLock(
      join(home, 'bench.lock'),
      () =>
        run(
          home,
          data,
          PARTS.filter((part) => values.only?.includes(part) ?? true),
          { dtype, programs: values.programs && resolve(values.programs) },
        ),
      (pid) => console.error(`waiting for process ${pid}, which runs this bench in ${home}`),
    );
  }
  const { record } = new Results(home, dtype);
  console.log(realReport(record));
  if (values.json) console.log(JSON.stringify({ bench: 'real', ...record }));
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
