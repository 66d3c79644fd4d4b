/**
 * Contamination by running: which programs solve which problems of benchmarks, whatever their names and words are.
 *
 * Two steps, both in the sandbox. A screen gives the functions of a program the first inputs of each problem with as
 * many arguments, in one process for all problems. What answers them goes through all tests of the problem, in a
 * process of its own, and only that decides.
 */
import { z } from 'zod';
import { judgedTests, type CpuLimits, type SandboxLimits, type Test } from '../../workflows/contract/index.js';
import { evaluateCalls, judgePrograms } from '../execution/execution.js';
import type { SandboxOperation } from '../runtime/operations.js';
import { sentProgram } from '../runtime/package.js';
import type { PythonProcess } from '../runtime/python-service.js';
import { told, type ProblemRow } from './problems.js';

/** A program that may repeat a problem. */
export interface Candidate {
  id: string;
  program: string;
}

/** A problem that a program solves: all of its tests pass. */
interface Solved {
  benchmark: string;
  taskId: string;
  /** The function of the program, with `(b, a)` behind it where it takes its arguments in another order. */
  by: string;
}

export interface Run {
  /** Problems by the id of the candidate that solves them; absent where there are none. */
  solved: Map<string, Solved[]>;
  /** Ids of candidates that cannot be run: they do not load alone. */
  notRun: string[];
}

export interface RunOptions {
  memoryBytes: number;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** Lines that a call of the screen may run: enough for the first inputs of tests, and an end for endless loops. */
const STEPS = 100_000;
/** Problems in one call of the screen: of a call that takes too long, the problems are asked one by one. */
const PROBLEMS_PER_CALL = 24;
/** CPU seconds of a call of the screen, of one about a single problem, and of a program in all of them. */
const SCREEN_SECONDS = { call: 2, single: 0.5, program: 30 };
/** CPU seconds in which a program passes the tests of a problem, where the problem says nothing else. */
const TEST_SECONDS = { cpuSecondsPerTest: 5, cpuSecondsPerProgram: 20 };
/** Most problems of one program whose tests are all run: a program that answers more is a constant or worse. */
const MOST_SUSPECTED = 64;

/** What `__acecoder_screen__` says. A program can say it in its place, so nothing of it is believed without tests. */
const Hit = z.strictObject({
  problem: z.number().int().nonnegative(),
  function: z.string().regex(/^(\w+|\(lambda \*given: \w+\(\)\.\w+\(\*given\)\))$/u),
  order: z.array(z.number().int().nonnegative()).max(99),
  cast: z.enum(['', 'list', 'tuple']),
});
type Hit = z.infer<typeof Hit>;

/**
 * Which candidates solve which problems.
 *
 * @throws StageFailure `SandboxUnavailable` where the host could not judge.
 * @example
 * const { solved } = await solvedBy(sandbox, [{ id: 's', program }], problems, { memoryBytes: 2 ** 29 });
 * solved.get('s'); // [{ benchmark: 'humaneval', taskId: 'HumanEval/0', by: 'near' }]
 */
export async function solvedBy(
  sandbox: PythonProcess<SandboxOperation>,
  candidates: readonly Candidate[],
  problems: readonly ProblemRow[],
  options: RunOptions,
): Promise<Run> {
  const { memoryBytes, signal } = options;
  const common = signal ? { signal } : {};
  const { hits, notRun } = await screened(sandbox, candidates, problems, options);
  const asked = hits.flatMap(({ candidate, hit }) => {
    const problem = problems[hit.problem];
    return problem ? [{ candidate, hit, problem }] : [];
  });
  const expected = await answersOf(sandbox, [...new Set(asked.map(({ problem }) => problem))], options);
  const jobs = asked.map(({ candidate, hit, problem }, at) => {
    const tests = judgedTests(problem).map((test, place): Test => {
      const answers = expected.get(problem)?.[place];
      return typeof test !== 'string' && 'suite' in test && answers !== undefined
        ? { ...test, expected: answers }
        : test;
    });
    return {
      id: String(at),
      program: `${problem.precedes ?? ''}${candidate.program}\n\n\n${adapter(hit, problem)}\n`,
      tests,
      limits: limitsOf(problem),
    };
  });
  const runnable = jobs.filter(({ tests }) => tests.every((test) => !isOpenSuite(test)));
  const { judgements } = await judgePrograms(sandbox, runnable, {
    limits: { ...TEST_SECONDS, memoryBytes },
    ...common,
  });
  const solved = new Map<string, Solved[]>();
  for (const judgement of judgements) {
    if (!judgement.judged || judgement.passRate < 1) continue;
    const { candidate, hit, problem } = asked[Number(judgement.id)]!;
    const found: Solved = { benchmark: problem.benchmark, taskId: problem.id, by: shown(hit) };
    const known = solved.get(candidate.id) ?? [];
    // Two functions of one program may solve the same problem.
    if (!known.some(({ benchmark, taskId }) => benchmark === found.benchmark && taskId === found.taskId))
      solved.set(candidate.id, [...known, found]);
  }
  return { solved, notRun };
}

/** Problems that functions of candidates may solve, by their answers to the first inputs. */
async function screened(
  sandbox: PythonProcess<SandboxOperation>,
  candidates: readonly Candidate[],
  problems: readonly ProblemRow[],
  { memoryBytes, signal, onProgress }: RunOptions,
): Promise<{ hits: { candidate: Candidate; hit: Hit }[]; notRun: string[] }> {
  const known = problems.flatMap(({ inputs }, at) => (inputs ? [[at, inputs.arguments, inputs.packed] as const] : []));
  if (known.length === 0) return { hits: [], notRun: [] };
  const screen = sentProgram('screen.py');
  const driver = `\n\n\n${screen}\n__acecoder_problems__ = ${JSON.stringify(known)}\n`;
  const callOf = (from: number, to: number): string =>
    `__acecoder_screen__(__acecoder_problems__[${from}:${to}], ${STEPS})`;
  const starts = Array.from(
    { length: Math.ceil(known.length / PROBLEMS_PER_CALL) },
    (_, index) => index * PROBLEMS_PER_CALL,
  );
  const calls = starts.map((from) => callOf(from, from + PROBLEMS_PER_CALL));
  const limits = (cpuSecondsPerTest: number): SandboxLimits => ({
    cpuSecondsPerTest,
    cpuSecondsPerProgram: SCREEN_SECONDS.program,
    memoryBytes,
  });
  const common = { ...(signal ? { signal } : {}) };
  const jobs = candidates.map(({ program }, at) => ({ id: String(at), program: program + driver, calls }));
  const values = await evaluateCalls(sandbox, jobs, {
    limits: limits(SCREEN_SECONDS.call),
    ...common,
    ...(onProgress ? { onProgress } : {}),
  });
  const notRun = candidates.flatMap(({ id }, at) =>
    values[at]!.every((value) => !('literal' in value) && value.status === 'load_error') ? [id] : [],
  );
  // A call that did not end, and those behind it that were not run, are asked again, each problem alone.
  const again = candidates.flatMap(({ program }, at) => {
    const left = values[at]!.flatMap((value, call) =>
      !('literal' in value) && ['timeout', 'not_run', 'killed'].includes(value.status) ? [starts[call]!] : [],
    );
    const single = left.flatMap((from) =>
      Array.from({ length: Math.min(PROBLEMS_PER_CALL, known.length - from) }, (_, index) =>
        callOf(from + index, from + index + 1),
      ),
    );
    return single.length === 0 ? [] : [{ id: String(at), program: program + driver, calls: single }];
  });
  const singles = await evaluateCalls(sandbox, again, { limits: limits(SCREEN_SECONDS.single), ...common });
  const hits = new Map<number, Hit[]>();
  const read = (at: number, found: (typeof values)[number]): void => {
    const own = found.flatMap((value) => ('literal' in value ? hitsIn(value.literal) : []));
    hits.set(at, [...(hits.get(at) ?? []), ...own]);
  };
  values.forEach((found, at) => read(at, found));
  singles.forEach((found, at) => read(Number(again[at]!.id), found));
  return {
    hits: [...hits].flatMap(([at, own]) =>
      own.slice(0, MOST_SUSPECTED).map((hit) => ({ candidate: candidates[at]!, hit })),
    ),
    notRun,
  };
}

/** Hits as a program told them; none where it told something else. */
function hitsIn(literal: string): Hit[] {
  try {
    return z.array(Hit).parse(told(literal));
  } catch {
    return [];
  }
}

/** What makes the function of a program the one that the tests of a problem call. */
function adapter({ function: name, order, cast }: Hit, { entryPoint, tests }: ProblemRow): string {
  const ofClass = tests.some((test) => JSON.stringify(test).includes(`Solution().${entryPoint}(`));
  const places = order.map((_, at) => `given_${at}`);
  const moved = order.some((place, at) => place !== at);
  const call = `${name}(${order.map((place) => `given_${place}`).join(', ')})`;
  // A function that takes its arguments as they come may have more of them, with defaults.
  const value = moved ? `lambda ${places.join(', ')}: ${call}` : `lambda *given: ${name}(*given)`;
  const made = cast === '' ? value : value.replace(/: (.*)$/su, `: ${cast}($1)`);
  if (ofClass) return `class Solution:\n    ${entryPoint} = staticmethod(${made})`;
  // A name that is the right one already stays what it is, so that a function may call itself.
  return name === entryPoint && !moved && cast === '' ? '' : `${entryPoint} = ${distinct(made, name, entryPoint)}`;
}

/** The expression with another name for a function that the entry point takes the name of. */
function distinct(expression: string, name: string, entryPoint: string): string {
  if (name !== entryPoint) return expression;
  return `(lambda __acecoder_own__: ${expression.replaceAll(`${name}(`, '__acecoder_own__(')})(${name})`;
}

function shown({ function: name, order }: Hit): string {
  const method = /^\(lambda \*given: (\w+\(\)\.\w+)\(/u.exec(name)?.[1] ?? name;
  const letters = order.map((place) => String.fromCharCode(97 + place));
  return order.every((place, at) => place === at) ? method : `${method}(${letters.join(', ')})`;
}

function limitsOf({ limits }: ProblemRow): CpuLimits {
  return limits ?? TEST_SECONDS;
}

function isOpenSuite(test: Test): boolean {
  return typeof test !== 'string' && 'suite' in test && test.expected === undefined;
}

/** What the references of problems with suites answer to their inputs, by the problem; absent where they fail. */
async function answersOf(
  sandbox: PythonProcess<SandboxOperation>,
  problems: readonly ProblemRow[],
  { memoryBytes, signal }: RunOptions,
): Promise<Map<ProblemRow, string[]>> {
  const suites = problems.filter(({ tests }) => tests.some((test) => typeof test !== 'string' && 'suite' in test));
  if (suites.length === 0) return new Map();
  const jobs = suites.map((problem, at) => ({
    id: String(at),
    program: problem.reference,
    tests: judgedTests(problem),
  }));
  const limits = { ...TEST_SECONDS, cpuSecondsPerProgram: 60, memoryBytes };
  const { answers } = await sandbox.call('answers', { jobs, limits }, signal ? { signal } : {});
  return new Map(
    answers.flatMap(({ id, suites: found }): [ProblemRow, string[]][] => {
      const good = found.flatMap((each) => (each.status === 'answers' ? [each.answers] : []));
      return good.length === found.length ? [[suites[Number(id)]!, good]] : [];
    }),
  );
}
