/**
 * The data of `npm run bench:verifier`: programs and asserts that CodeGen-16B wrote for HumanEval (CodeT, arXiv
 * 2207.10397), with the verdicts of this project's sandbox and what is known to be right.
 *
 * Verdicts are kept under `ACECODER_HOME` by the digest of what was run, so that a second run of the bench runs nothing.
 */
import { createReadStream, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createGunzip } from 'node:zlib';
import { sha256 } from '../../activities/artifacts/keys.js';
import { humaneval } from '../../activities/benchmarks/humaneval.js';
import { evaluateCalls, judgePrograms, normalTests, type Job } from '../../activities/execution/execution.js';
import type { SandboxOperation } from '../../activities/runtime/operations.js';
import type { PythonProcess } from '../../activities/runtime/python-service.js';
import { parsePyLiteral } from '../../activities/synthesis/python-literal.js';
import { generateCalls, parseSeed, writeTestCases } from '../../activities/synthesis/offline-teacher.js';
import { home } from '../../infra/setup/paths.mjs';
import { judgedTests, type TestOutcome } from '../../workflows/contract/index.js';
import { labQuestions, type Family } from '../lab/questions.js';

type Sandbox = PythonProcess<SandboxOperation>;

/** Programs of each problem, and asserts of each at most. */
const PROGRAMS = 16;
const MOST_ASSERTS = 20;
const LIMITS = { cpuSecondsPerTest: 1, cpuSecondsPerProgram: 3, memoryBytes: 512 * 1024 * 1024 };
/** What ends a continuation of a prompt, as the publishers of the data cut it. */
const ENDS = ['\nclass', '\ndef', '\n#', '\nif', '\nprint', '\nassert'];

/** A problem with what is known of its programs and asserts. */
export interface MeasuredProblem {
  id: string;
  asserts: MeasuredAssert[];
  /** `outcomes[program][assert]`. */
  outcomes: TestOutcome[][];
  /** Whether each program passes the hidden tests. */
  rightPrograms: boolean[];
}

interface MeasuredAssert {
  text: string;
  /** Whether the canonical solution passes it. */
  right: boolean;
  /** The call and the value that the canonical solution gives, of a right assert that compares them. */
  call?: string;
  value?: string;
}

/** Who wrote the asserts; the programs are those of CodeGen-16B. */
type Writer = 'CodeGen-16B' | 'GPT-4';

interface Problem {
  id: string;
  entryPoint: string;
  programs: string[];
  asserts: { text: string; call?: string }[];
  reference: string;
  hidden: ReturnType<typeof judgedTests>;
}

function linesOf<T>(path: string): T[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
}

/** What `work` gives, from the file of its digest where that is there. */
async function kept<T>(what: unknown, work: () => Promise<T>): Promise<T> {
  const folder = join(home(), 'bench', 'verifier');
  const path = join(folder, `${sha256(JSON.stringify(what))}.json`);
  if (existsSync(path)) return JSON.parse(readFileSync(path, 'utf8')) as T;
  const made = await work();
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${path}.part`, JSON.stringify(made));
  renameSync(`${path}.part`, path);
  return made;
}

async function judged(sandbox: Sandbox, jobs: readonly Job[]): Promise<TestOutcome[][]> {
  const { harness, python } = await sandbox.versions();
  return kept({ jobs, LIMITS, harness, python }, async () => {
    const { judgements } = await judgePrograms(sandbox, jobs, { limits: LIMITS });
    for (const { id, outcomes } of judgements)
      if (outcomes.some(({ status }) => status === 'unjudged')) throw new Error(`${id} could not be judged`);
    return judgements.map(({ outcomes }) => outcomes);
  });
}

/** The problems with their first programs, and their first distinct asserts that are Python and name the function. */
async function problemsOf(sandbox: Sandbox, shared: string, writer: Writer = 'CodeGen-16B'): Promise<Problem[]> {
  const folder = join(shared, 'codet-codegen16b-humaneval');
  const rows: unknown[] = [];
  const lines = createReadStream(join(shared, 'humaneval/HumanEval.jsonl.gz')).pipe(createGunzip());
  for await (const line of createInterface({ input: lines })) rows.push(JSON.parse(line));
  const tasks = new Map(
    humaneval.tasks({ kind: 'humaneval', every: 1, offset: 0 }, rows).map((task) => [task.id, task]),
  );
  type Task = { task_id: string; prompt: string; entry_point: string };
  type Samples = { prompt: string; samples: string[] };
  const joined = (tasksFile: string, samplesFile: string): Map<string, { task: Task; samples: string[] }> => {
    const samples = new Map(linesOf<Samples>(join(folder, samplesFile)).map((row) => [row.prompt, row.samples]));
    return new Map(
      linesOf<Task>(join(folder, tasksFile)).map((task) => [
        task.task_id,
        { task, samples: samples.get(task.prompt)! },
      ]),
    );
  };
  const code = joined('HumanEval_for_code_generation.jsonl', 'code_solution.jsonl');
  const tests = joined('HumanEval_for_test_case_generation.jsonl', 'test_case.jsonl');
  const written =
    writer === 'GPT-4'
      ? new Map(
          linesOf<{ task_id: string; solution: string[] }>(
            join(shared, 'reflexion-gpt4-humaneval-tests/gpt4_generated_tests.jsonl'),
          ).map(({ task_id, solution }) => [task_id, solution]),
        )
      : new Map([...tests].map(([id, { samples }]) => [id, samples]));
  const fragments = [...code.keys()].map((id) =>
    [
      ...new Set(
        written
          .get(id)!
          .flatMap((text) => text.split(/\bassert\b/))
          .map((fragment) => fragment.trim())
          .filter((fragment) => fragment !== ''),
      ),
    ].map((fragment) => `assert ${fragment}`),
  );
  // A text that is Python comes back without its comment.
  const marked = fragments.map((texts) => texts.map((text) => `${text}\n# end`));
  const normal = await kept({ marked, normal: 2 }, () =>
    normalTests(
      sandbox,
      marked.map((texts) => ({ tests: texts })),
      { limits: LIMITS, signal: new AbortController().signal },
    ),
  );
  return [...code].map(([id, { task, samples }], at) => {
    const { entry_point: entryPoint, prompt } = task;
    const named = new RegExp(`\\b${entryPoint}\\b`);
    const distinct = new Map<string, Problem['asserts'][number]>();
    for (const [place, { test, output }] of normal[at]!.entries()) {
      const text = fragments[at]![place]!;
      if (test === marked[at]![place] || test.includes('\n') || !named.test(test) || distinct.has(test)) continue;
      const end = ` == ${output}`;
      const call = test.endsWith(end) && test.startsWith(`${entryPoint}(`) ? test.slice(0, -end.length) : undefined;
      distinct.set(test, { text, ...(call === undefined ? {} : { call }) });
    }
    const programs = samples.slice(0, PROGRAMS).map((sample) => {
      const ends = ENDS.map((end) => sample.indexOf(end)).filter((place) => place >= 0);
      return prompt + sample.slice(0, Math.min(sample.length, ...ends)).trimEnd();
    });
    const { reference, ...task_ } = tasks.get(id)!;
    return {
      ...{ id, entryPoint, programs, reference },
      asserts: [...distinct.values()].slice(0, MOST_ASSERTS),
      hidden: judgedTests(task_),
    };
  });
}

/**
 * Problems with at least one assert, with their verdicts.
 *
 * @param shared folder that holds `codet-codegen16b-humaneval` and `humaneval`, and for asserts of GPT-4
 *   `reflexion-gpt4-humaneval-tests`.
 */
export async function measuredProblems(
  sandbox: Sandbox,
  shared: string,
  writer: Writer = 'CodeGen-16B',
): Promise<MeasuredProblem[]> {
  const problems = (await problemsOf(sandbox, shared, writer)).filter(({ asserts }) => asserts.length > 0);
  const job = (id: string, program: string, tests: Job['tests']): Job => ({ id, program, tests });
  const outcomes = await judged(
    sandbox,
    problems.flatMap(({ id, programs, reference, asserts }) =>
      [...programs, reference].map((program, at) =>
        job(
          `${id}/${at}`,
          program,
          asserts.map(({ text }) => text),
        ),
      ),
    ),
  );
  const hidden = await judged(
    sandbox,
    problems.flatMap(({ id, programs, hidden: tests }) =>
      programs.map((program, at) => job(`${id}/${at}`, program, tests)),
    ),
  );
  const calls = problems.map(({ id, reference, asserts }) => ({
    id,
    program: reference,
    calls: asserts.map(({ call, text }) => call ?? text.replace(/^assert /, '')),
  }));
  const values = await kept({ calls, values: 1 }, () => evaluateCalls(sandbox, calls, { limits: LIMITS }));
  return problems.map(({ id, asserts }, at) => {
    const own = outcomes.slice(at * (PROGRAMS + 1), (at + 1) * (PROGRAMS + 1));
    const reference = own[PROGRAMS]!;
    return {
      id,
      asserts: asserts.map(({ text, call }, place): MeasuredAssert => {
        const value = values[at]![place]!;
        const right = reference[place]!.status === 'pass';
        const known = right && call !== undefined && value.status === 'value' && isPlain(value.literal);
        return { text, right, ...(known ? { call, value: value.literal } : {}) };
      }),
      outcomes: own.slice(0, PROGRAMS),
      rightPrograms: hidden
        .slice(at * PROGRAMS, (at + 1) * PROGRAMS)
        .map((each) => each.every(({ status }) => status === 'pass')),
    };
  });
}

function isPlain(literal: string): boolean {
  try {
    parsePyLiteral(literal);
    return true;
  } catch {
    return false;
  }
}

/**
 * The same problems with their right asserts alone, a share of which the offline teacher has made wrong. Asserts that
 * compare no call with a plain value are left out.
 */
export async function corruptedProblems(
  sandbox: Sandbox,
  shared: string,
  measured: readonly MeasuredProblem[],
  options: { corruptedShare: number; seed: number },
): Promise<MeasuredProblem[]> {
  const programs = new Map((await problemsOf(sandbox, shared)).map((each) => [each.id, each.programs]));
  const places = measured.flatMap(({ asserts }, problem) =>
    asserts.flatMap(({ call, value }, place) =>
      call === undefined || value === undefined ? [] : [{ problem, place, call, value }],
    ),
  );
  const cases = writeTestCases(
    places.map(({ call }) => call),
    places.map(({ value }) => value),
    options,
  );
  const wrong = places.flatMap((each, at) => (cases[at]!.corrupted ? [{ ...each, text: cases[at]!.test }] : []));
  const outcomes = await judged(
    sandbox,
    wrong.flatMap(({ problem, text }) => {
      const { id } = measured[problem]!;
      return programs.get(id)!.map((program, at): Job => ({ id: `${id}/${at}`, program, tests: [text] }));
    }),
  );
  return measured.flatMap(({ id, asserts, outcomes: own, rightPrograms }, problem): MeasuredProblem[] => {
    const kept_ = places.filter((each) => each.problem === problem);
    if (kept_.length === 0) return [];
    const corrupted = new Map(
      wrong.flatMap((each, at) => (each.problem === problem ? [[each.place, at] as const] : [])),
    );
    return [
      {
        ...{ id, rightPrograms },
        asserts: kept_.map(({ place }) => {
          const at = corrupted.get(place);
          return at === undefined ? asserts[place]! : { text: wrong[at]!.text, right: false };
        }),
        outcomes: own.map((row, program) =>
          kept_.map(({ place }) => {
            const at = corrupted.get(place);
            return at === undefined ? row[place]! : outcomes[at * PROGRAMS + program]![0]!;
          }),
        ),
      },
    ];
  });
}

/** A question of the laboratory: which answer passes which test, the right answer first. */
export interface LaboratoryQuestion {
  passed: boolean[][];
  /** How often the noisy model gives each answer. */
  shares: number[];
  /** Whether each test is right. */
  right: boolean[];
}

/** Questions of the laboratory with tests of the offline teacher, a share of which it has made wrong. */
export async function laboratory(
  sandbox: Sandbox,
  family: Family,
  { questions, tests, corruptedShare }: { questions: number; tests: number; corruptedShare: number },
): Promise<LaboratoryQuestion[]> {
  const asked = labQuestions(family, 1, questions);
  const calls = asked.map(({ seed: { id, code, domain } }, at) => ({
    ...{ id, program: code },
    calls: generateCalls(parseSeed(code, domain), { count: tests, seed: at }),
  }));
  const values = await kept({ calls, values: 1 }, () => evaluateCalls(sandbox, calls, { limits: LIMITS }));
  const cases = calls.map((each, at) =>
    writeTestCases(
      each.calls,
      values[at]!.map((value) => {
        if (value.status !== 'value') throw new Error(`${each.id} gives no value`);
        return value.literal;
      }),
      { corruptedShare, seed: at },
    ),
  );
  const outcomes = await judged(
    sandbox,
    asked.flatMap(({ seed: { id }, answers }, at) =>
      answers.map((program, answer): Job => ({
        ...{ id: `${id}/${answer}`, program },
        tests: cases[at]!.map(({ test }) => test),
      })),
    ),
  );
  let next = 0;
  return asked.map(({ answers, shares }, at) => ({
    shares,
    passed: answers.map(() => outcomes[next++]!.map(({ status }) => status === 'pass')),
    right: cases[at]!.map(({ corrupted }) => !corrupted),
  }));
}
