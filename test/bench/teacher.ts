/**
 * `npm run bench:teacher`: a real language model as the teacher. Qwen2.5-Coder-1.5B-Instruct, behind a llama.cpp server
 * on loopback, writes questions and tests for seeds of MBPP; the 0.5B samples programs. It is one experiment of the
 * product, up to its pairs, on a stack of its own.
 *
 * What is done stays in the home of the bench: a run that was ended goes on where it was, and replies of fewer seeds are
 * those of more. Seeds are not in the repository, and the models are no dependency of anything.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { availableParallelism, cpus } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Client } from '@temporalio/client';
import { sha256 } from '../../activities/artifacts/keys.js';
import type { ArtifactStore } from '../../activities/artifacts/store.js';
import { judgePrograms } from '../../activities/execution/execution.js';
import { gitCommit } from '../../activities/runtime/package.js';
import { lineTeller, parkedText, watch } from '../../infra/commands/progress.js';
import { lockedPython } from '../../infra/setup/locked-python.js';
import { cache, home as acecoderHome, root } from '../../infra/setup/paths.mjs';
import { withLock } from '../../infra/setup/processes.mjs';
import {
  canonicalJson,
  FilteredQuestionRow,
  judgedTests,
  ProgramRow,
  QuestionRow,
  testText,
  type ArtifactRef,
  type StageName,
  type StageStatus,
} from '../../workflows/contract/index.js';
import { createServices } from '../../workers/plugins/services.js';
import { MODELS, modelFile } from './real-model.js';
import { realSurroundings, type RealSurroundings } from './real-surroundings.js';
import { teacherStages } from './teacher-settings.js';
import { byHand, scoresOf, teacherReport, teacherSeed, type JudgedTest } from './teacher-report.js';

const HELP = `npm run bench:teacher -- [options]

  --seeds N     seeds of MBPP's train split (40)
  --model M     the teacher: ${Object.keys(MODELS).join(', ')} (1.5b)
  --threads N   threads of the llama.cpp server (all cores; 1 where other work wants them)
  --slots N     requests that the server answers at once (4)
  --data DIR    folder of the published data (data in ACECODER_SHARED, or in the folder shared next to the checkout)
  --home DIR    folder of the stack and the results (.acecoder/bench/teacher)
  --list        twenty tests for a person to judge, each with its question and reference
  --json        one JSON object on the last line
  --help        print this

It takes an hour or more. Ctrl-C stops it, and the same command goes on from there, also with more seeds.`;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '40' },
    model: { type: 'string', default: '1.5b' },
    threads: { type: 'string', default: String(availableParallelism()) },
    slots: { type: 'string', default: '4' },
    data: { type: 'string', default: join(process.env['ACECODER_SHARED'] ?? join(root, '..', 'shared'), 'data') },
    home: { type: 'string', default: join(acecoderHome(), 'bench', 'teacher') },
    list: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const QUEUE = 'teacher';
/** Tokens of a prompt and its reply; a prompt has some 700, and a reply is limited. */
const CONTEXT = 3072;
/** Seconds between two looks at the server's counters. */
const LOOK_SECONDS = 30;
/** The last stage that this bench is about. */
const LAST: StageName = 'preferences';

/** A port of loopback that stays the same, because a workflow that goes on after a kill asks where it was told to. */
async function portOf(home: string): Promise<number> {
  const path = join(home, 'port');
  if (existsSync(path)) return Number(readFileSync(path, 'utf8'));
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  writeFileSync(path, String(port));
  return port;
}

/** A llama.cpp server for a file, which ends with this process. */
class Llama {
  readonly #child;

  private constructor(
    readonly address: string,
    python: string,
    args: readonly string[],
    log: number,
  ) {
    this.#child = spawn(python, [join(root, 'test/bench/llama_server.py'), ...args], { stdio: ['pipe', log, log] });
  }

  /** @throws Error where it ends before it answers. */
  static async start(home: string, file: string, name: string, signal: AbortSignal): Promise<Llama> {
    const python = lockedPython(join(cache(), 'llama'), join(root, 'test/bench/llama.lock'));
    const port = await portOf(home);
    mkdirSync(join(home, 'logs'), { recursive: true });
    const log = openSync(join(home, 'logs', 'llama.log'), 'a');
    const args = [file, name, String(port), values.slots, String(CONTEXT), values.threads];
    const llama = new Llama(`http://127.0.0.1:${port}`, python, args, log);
    closeSync(log);
    while (!(await llama.#get('/health'))) {
      if (llama.#child.exitCode !== null) throw new Error(`The llama.cpp server ended; see ${join(home, 'logs')}.`);
      await sleep(1000, undefined, { signal });
    }
    return llama;
  }

  async #get(path: string): Promise<string | undefined> {
    const answer = await fetch(`${this.address}${path}`).catch(() => undefined);
    return answer?.ok ? answer.text() : undefined;
  }

  /** Tokens that it has read and written since its start. */
  async tokens(): Promise<{ read: number; written: number }> {
    const text = (await this.#get('/metrics')) ?? '';
    const of = (name: string): number => Number(new RegExp(`^llamacpp:${name} (\\S+)`, 'm').exec(text)?.[1] ?? 0);
    return { read: of('prompt_tokens_total'), written: of('tokens_predicted_total') };
  }

  stop(): void {
    this.#child.stdin?.end();
  }
}

/** The seeds as a file of the home. @throws Error that names what is missing. */
function seedFile(home: string, count: number): string {
  const from = join(resolve(values.data), 'mbpp-train-seeds/mbpp_601_974_not_sanitized.jsonl');
  if (!existsSync(from))
    throw new Error(
      `There is no ${from}: this bench needs published data that are not in the repository; --data names their folder.`,
    );
  const rows = readFileSync(from, 'utf8').trimEnd().split('\n').slice(0, count);
  const path = join(home, `seeds-${rows.length}.jsonl`);
  writeFileSync(path, rows.map((line) => `${JSON.stringify(teacherSeed(JSON.parse(line)))}\n`).join(''));
  return path;
}

/** The stages of the experiment once it has its pairs. @throws Error where it parks, or a signal ends it. */
async function experiment(
  { client, ended, signal }: RealSurroundings,
  input: object,
  told: () => Promise<string>,
): Promise<StageStatus[]> {
  const workflowId = `teacher-${sha256(canonicalJson([input])).slice(0, 12)}`;
  const handle = await client.workflow.start('experiment', {
    taskQueue: QUEUE,
    workflowId,
    args: [input],
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    workflowIdConflictPolicy: 'USE_EXISTING',
  });
  const say = (line: string): void => console.error(`${new Date().toISOString().slice(0, 19)} ${line}`);
  say(`${workflowId} runs`);
  const over = new AbortController();
  const telling = (async () => {
    while (!over.signal.aborted) {
      say(await told());
      await sleep(LOOK_SECONDS * 1000, undefined, { signal: over.signal }).catch(() => undefined);
    }
  })();
  try {
    return await Promise.race([ended, untilPairs(client, workflowId, lineTeller(say), signal)]);
  } finally {
    over.abort();
    await telling;
    // The reward model and all that follows are not what this bench is about.
    if (!signal.aborted) await handle.cancel();
  }
}

async function untilPairs(
  client: Client,
  workflowId: string,
  tell: (now: Parameters<Parameters<typeof watch>[2]['see']>[0]) => void,
  signal: AbortSignal,
): Promise<StageStatus[]> {
  const enough = new AbortController();
  let found: StageStatus[] | undefined;
  const last = await watch(client, workflowId, {
    see(now) {
      tell(now);
      const stages = now.status?.stages;
      if (stages?.find(({ name }) => name === LAST)?.state !== 'done') return;
      found = stages;
      enough.abort();
    },
    lost: (why) => console.error(why),
    signal: AbortSignal.any([enough.signal, signal]),
  });
  if (found) return found;
  const parked = last?.status && parkedText(last.status);
  throw new Error(parked ? parked.why : `The experiment ended as ${last?.execution ?? 'stopped'}.`);
}

async function rowsOf<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const row of rows) all.push(row);
  return all;
}

/** Every test of the teacher, with the verdicts of the reference and of the sampled programs, also where it was dropped. */
async function judge(
  store: ArtifactStore,
  refOf: (stage: StageName) => ArtifactRef,
): Promise<{ tests: JudgedTest[]; questions: Map<string, QuestionRow> }> {
  const services = createServices({ label: 'bench' });
  const { sandbox } = services;
  try {
    const taught = await rowsOf(store.rowsOf(refOf('synthesis'), QuestionRow));
    const kept = new Map(
      (await rowsOf(store.rowsOf(refOf('filtering'), FilteredQuestionRow))).map((row) => [row.id, row]),
    );
    const programs = new Map<string, ProgramRow[]>();
    for await (const row of store.rowsOf(refOf('sampling'), ProgramRow))
      programs.set(row.questionId, [...(programs.get(row.questionId) ?? []), row]);
    const questions = taught.filter(({ failure, testCases }) => failure === undefined && testCases.length > 0);
    const jobs = questions.flatMap(({ id, reference, testCases, checker }) => {
      const tests = judgedTests({ tests: testCases.map(({ test }) => test), checker });
      const all = [{ id, program: reference }, ...(programs.get(id) ?? [])];
      return all.map((each) => ({ id: each.id, program: each.program, tests, limits: kept.get(id)?.limits }));
    });
    const { judgements } = await judgePrograms(sandbox, jobs, {
      limits: { cpuSecondsPerTest: 2, cpuSecondsPerProgram: 20, memoryBytes: 1024 ** 3 },
    });
    const outcomes = new Map(judgements.map(({ id, outcomes: found }) => [id, found]));
    const tests = questions.flatMap(({ id, seedId, testCases }): JudgedTest[] => {
      const scores = scoresOf(
        (programs.get(id) ?? []).map((program) => outcomes.get(program.id)!.map(({ status }) => status === 'pass')),
      );
      const keptTests = kept.get(id)?.tests.map(testText);
      return testCases.map(({ test }, at) => ({
        ...{ questionId: id, seedId, test: testText(test), reference: outcomes.get(id)![at]!.status },
        kept: keptTests?.includes(testText(test)),
        ...(scores ? { scores: scores[at]! } : {}),
      }));
    });
    return { tests, questions: new Map(questions.map((row) => [row.id, row])) };
  } finally {
    await services.close();
  }
}

async function run(home: string): Promise<void> {
  const teacher = MODELS[values.model as keyof typeof MODELS];
  const input = { seeds: { kind: 'seeds', path: seedFile(home, Number(values.seeds)) } };
  const [file, sampler] = [await modelFile(teacher), await modelFile(MODELS['0.5b'])];
  const surroundings = await realSurroundings(home, QUEUE);
  let llama: Llama | undefined;
  try {
    llama = await Llama.start(home, file, teacher.name, surroundings.signal);
    let before = { at: performance.now(), read: 0, written: 0 };
    const told = async (): Promise<string> => {
      const [now, { at, read, written }] = [{ at: performance.now(), ...(await llama!.tokens()) }, before];
      before = now;
      const rate = (now.written - written) / ((now.at - at) / 1000);
      return `the teacher wrote ${now.written - written} tokens, ${rate.toFixed(1)} per second, and read ${now.read - read}`;
    };
    const stages = await experiment(
      surroundings,
      {
        ...{ extends: 'quickstart', name: 'teacher', ...input },
        models: { policy: { kind: 'ggufFile', paths: [sampler] } },
        stages: teacherStages(teacher.name, `${llama.address}/v1`, Number(values.slots)),
      },
      told,
    );
    const { tests, questions } = await judge(
      surroundings.store,
      (name) => stages.find((each) => each.name === name)!.artifact!,
    );
    console.log(
      `Machine: ${availableParallelism()} cores, ${cpus()[0]?.model ?? ''}. Commit ${gitCommit() ?? 'unknown'}.`,
    );
    console.log(`Teacher: ${teacher.name}, ${values.threads} threads. Sampler: ${MODELS['0.5b'].name}.\n`);
    console.log(teacherReport(stages, tests));
    if (values.list)
      for (const [at, { questionId, seedId, test, reference, kept, scores }] of byHand(tests).entries()) {
        const { question, reference: code } = questions.get(questionId)!;
        const weight = scores ? `, weight ${scores.weight.toFixed(2)}` : '';
        console.log(`\n-- ${at + 1}: ${seedId}, reference: ${reference}, kept: ${kept ?? 'question dropped'}${weight}`);
        console.log(`${test}\n${question}\n${code}`);
      }
    if (values.json) console.log(JSON.stringify({ bench: 'teacher', stages, tests }));
  } finally {
    llama?.stop();
    await surroundings.close();
  }
}

async function main(): Promise<void> {
  if (values.help) return console.log(HELP);
  if (!(values.model in MODELS))
    throw new Error(`--model is ${values.model}: the models are ${Object.keys(MODELS).join(', ')}.`);
  const home = resolve(values.home);
  mkdirSync(home, { recursive: true });
  await withLock(
    join(home, 'bench.lock'),
    () => run(home),
    (pid) => console.error(`waiting for process ${pid}, which runs this bench in ${home}`),
  );
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
