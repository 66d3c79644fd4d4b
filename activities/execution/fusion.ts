/**
 * The request and response forms of SandboxFusion, which verl and other trainers speak. What a form cannot say honestly
 * is refused: a program is never called wrong because of what this server does not have.
 */
import { constants } from 'node:os';
import { z } from 'zod';
import { programOfReply } from '../policy/prompt.js';
import type { ScriptRun } from './lanes.js';
import { jobOf, SandboxRow } from './rows.js';
import type { Job, Judgement } from './execution.js';
import type { SandboxLimits } from '../../workflows/contract/index.js';

/** Bounds of what a request may ask for: CPU seconds of one run, and MiB of address space. */
export const MOST_CPU_SECONDS = 120;
export const MOST_MEMORY_MIB = 1_536;
const LEAST_MEMORY_MIB = 128;
const MIB = 1024 * 1024;

const seconds = z.number().positive().max(MOST_CPU_SECONDS);
const text = z.string().max(1_000_000);
/** Clients send what they leave out as null. */
const limits = { compile_timeout: seconds.nullish(), run_timeout: seconds.nullish() };
/** Below 1 it means that the server chooses. */
const memory = z.number().max(MOST_MEMORY_MIB).nullish();
const language = z.literal('python', { error: 'this server runs python alone' }).nullish();
/** Files would have to be put next to the program, which has no folder. */
const noFiles = z.record(z.string(), z.never({ error: 'this server takes no files' })).nullish();
const noNames = z.array(z.never(), { error: 'this server hands out no files' }).max(0).nullish();

/** A request of `/run_code`. Fields that are unknown here have no effect on a run. */
export const RunCode = z.object({
  code: text,
  language,
  stdin: z.string().max(16_000_000).nullish(),
  ...limits,
  memory_limit_MB: memory,
  files: noFiles,
  fetch_files: noNames,
});

/** Other names than those of the streams are files, which this server does not have. */
const NO_FILES = { error: 'stdin and stdout alone: this server takes no files' };
const OjTest = z.object({
  input: z.strictObject({ stdin: z.string().default('') }, NO_FILES),
  output: z.strictObject({ stdout: z.string() }, NO_FILES),
});
/** The value of a JSON text; what is none is left for the schema to refuse. */
function parsed(given: unknown): unknown {
  if (typeof given !== 'string') return given;
  try {
    return JSON.parse(given) as unknown;
  } catch {
    return given;
  }
}

/** Tests as contests have them, asserts, or a text that stands behind the program; each of them as JSON text too. */
const Tests = z.preprocess(
  parsed,
  z.union(
    [
      z.array(OjTest).min(1).max(1_000),
      z.array(text.min(1)).min(1).max(1_000),
      z.object({ code: text, asset: noFiles }),
    ],
    { error: ({ errors }) => nearest(errors) },
  ),
);

/** What is wrong in the form that a value is nearest to: the one that it fits longest. */
function nearest(errors: unknown): string {
  const Issues = z.array(z.array(z.object({ path: z.array(z.unknown()), message: z.string() })));
  const [first] = Issues.parse(errors)
    .flat()
    .sort((a, b) => b.path.length - a.path.length);
  return `${first?.path.join('.') ?? ''}: ${first?.message ?? 'no tests'}`;
}

const id = z.union([z.string(), z.number()]);
const Question = z.object({
  id: id.optional(),
  test: Tests,
  labels: z.preprocess(
    parsed,
    z.object({ entry_point: z.string().optional(), test_setup_code: z.string().optional() }).nullish(),
  ),
});

/** A request of `/submit` that brings its tests: this server stores no data set. */
export const Submit = z
  .object({
    id: id.optional(),
    completion: text,
    config: z.object({
      language,
      ...limits,
      memory_limit_MB: memory,
      custom_extract_logic: z
        .null({ error: 'this server takes the program out of its fence, by no other logic' })
        .optional(),
      provided_data: z.preprocess(
        (given) => (Array.isArray(given) || !given ? given : [given]),
        z
          .array(Question, {
            error: 'this server stores no data sets: send the question as config.provided_data',
          })
          .min(1),
      ),
    }),
  })
  .transform(({ config: { provided_data: given, ...config }, ...request }, context) => {
    const question = given.length === 1 ? given[0] : given.find((each) => each.id === request.id);
    if (question) return { ...request, config, question };
    context.addIssue({ code: 'custom', path: ['config', 'provided_data'], message: 'none of them has the id' });
    return z.NEVER;
  });

const DEFAULT_SECONDS = 10;

/** The limits that a request asks for. One run has one limit; compiling is no step of Python. */
export function limitsOf(given: {
  run_timeout?: number | null | undefined;
  memory_limit_MB?: number | null | undefined;
}): Partial<SandboxLimits> {
  const cpuSeconds = given.run_timeout ?? DEFAULT_SECONDS;
  const mebibytes = given.memory_limit_MB ?? 0;
  return {
    cpuSecondsPerTest: cpuSeconds,
    cpuSecondsPerProgram: cpuSeconds,
    ...(mebibytes > 0 ? { memoryBytes: Math.round(Math.max(LEAST_MEMORY_MIB, mebibytes)) * MIB } : {}),
  };
}

/** What became of one command. */
interface CommandResult {
  status: 'Finished' | 'Error' | 'TimeLimitExceeded';
  /** CPU seconds: wall time depends on the neighbours. */
  execution_time: number | null;
  return_code: number | null;
  stdout: string | null;
  stderr: string | null;
}

/** The answer of `/run_code`. `SandboxError` says nothing about the program: ask again. */
export interface RunCodeAnswer {
  status: 'Success' | 'Failed' | 'SandboxError';
  message: string;
  compile_result: null;
  run_result: CommandResult | null;
  executor_pod_name: null;
  files: Record<string, never>;
}

function answer(status: RunCodeAnswer['status'], message: string, result: CommandResult | null): RunCodeAnswer {
  return { status, message, compile_result: null, run_result: result, executor_pod_name: null, files: {} };
}

/** The answer about a program that could not be run. */
export function sandboxError(message: string): RunCodeAnswer {
  return answer('SandboxError', message, null);
}

/**
 * The answer about a run.
 *
 * @example
 * const run = { id: 'a', status: 'ended', exitCode: 1, stdout: '', stderr: 'said', cpuSeconds: 0.1 } as const;
 * runCodeAnswer(run).status; // 'Failed'
 */
export function runCodeAnswer({ status, exitCode, stdout, stderr, cpuSeconds, reason = '' }: ScriptRun): RunCodeAnswer {
  const written = { execution_time: cpuSeconds, stdout, stderr };
  switch (status) {
    case 'unjudged':
      return sandboxError(reason);
    case 'ended':
      return answer(exitCode === 0 ? 'Success' : 'Failed', '', {
        ...written,
        status: 'Finished',
        return_code: exitCode,
      });
    case 'timeout':
      return answer('Failed', reason, { ...written, status: 'TimeLimitExceeded', return_code: null });
    case 'killed': {
      const signal = Object.entries(constants.signals).find(([name]) => name === reason)?.[1];
      const how = signal === undefined ? ({ status: 'Error' } as const) : ({ status: 'Finished' } as const);
      return answer('Failed', reason, {
        ...written,
        ...how,
        return_code: signal === undefined ? null : -signal,
      });
    }
  }
}

/** The program of a submission and the job that judges it. @throws Error where its tests are none. */
export function submissionOf({ completion, config, question }: z.infer<typeof Submit>): { program: string; job: Job } {
  const { test, labels } = question;
  const { entry_point: entryPoint, test_setup_code: setup = '' } = labels ?? {};
  const program = programOfReply(completion, entryPoint ?? '');
  const tests = Array.isArray(test)
    ? test.map((each) =>
        typeof each === 'string'
          ? [setup, each].filter((part) => part.trim() !== '').join('\n')
          : { stdin: each.input.stdin, stdout: each.output.stdout },
      )
    : [test.code];
  const job = jobOf(SandboxRow.parse({ id: 'submission', program, tests, ...(entryPoint ? { entryPoint } : {}) }));
  return { program, job: { ...job, limits: limitsOf(config) } };
}

/** The answer of `/submit` about a program that was judged. */
export function submitAnswer(request: z.infer<typeof Submit>, program: string, { outcomes }: Judgement): unknown {
  return {
    id: request.id ?? request.question.id ?? '',
    accepted: outcomes.every(({ status }) => status === 'pass'),
    extracted_code: program,
    full_code: null,
    test_code: null,
    tests: outcomes.map(({ status, reason = '' }) => ({
      passed: status === 'pass',
      exec_info: answer(status === 'pass' ? 'Success' : 'Failed', reason, {
        status: status === 'timeout' ? 'TimeLimitExceeded' : 'Finished',
        execution_time: null,
        return_code: status === 'pass' ? 0 : null,
        stdout: null,
        stderr: null,
      }),
      test_info: { verdict: status },
    })),
    extracted_type: null,
    extra: null,
  };
}
