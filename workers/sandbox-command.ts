/**
 * `acecoder-temporal sandbox`, which is `npm run sandbox` in a checkout: judges programs of a JSON Lines file, or of
 * whoever asks over HTTP, without Temporal and without a store.
 */
import { spawnSync } from 'node:child_process';
import { createWriteStream, existsSync } from 'node:fs';
import { truncate } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { linesOf } from '../activities/artifacts/rows.js';
import { checkerQuality, judgePrograms, type Job } from '../activities/execution/execution.js';
import { Lanes } from '../activities/execution/lanes.js';
import { jobOf, referenceOf, SandboxRow, whyNoRow } from '../activities/execution/rows.js';
import { startVerifier } from '../activities/execution/verifier.js';
import { OPERATIONS } from '../activities/runtime/operations.js';
import { PythonService } from '../activities/runtime/python-service.js';
import { settingsFromEnvironment, type Settings } from '../activities/runtime/settings.js';
import { SandboxLimits } from '../workflows/contract/index.js';
import { onEndSignal } from './signals.js';

const HELP = `usage: acecoder-temporal sandbox --input programs.jsonl --output verdicts.jsonl [options]
       acecoder-temporal sandbox --serve [options]

Each input row is {"id", "program", "tests", "entryPoint"?, "stdin"?, "checker"?, "limits"?, "reference"?, "language"?}.
A test is a text (Python statements, unittest or pytest tests) or {"stdin", "stdout", "compare"?} for a program that is
run as a script; "compare" is "floats", which is the default, "tokens" or "exact". Where several answers are right, a
test is {"call", "expect" or "anyOf", "compare"?, "tolerance"?}, {"call", "property"}, {"call", "checker", "expect"?},
{"stdin", "checker", "stdout"?} or {"stdin", "anyOf", "compare"?}. With "entryPoint", tests may call the function
\`candidate\`, or define \`check(candidate)\`. A "stdin" is what such a script reads; its tests are then the texts that
it must print. A "checker" is the checker program of all tests that have none. "limits" are {"cpuSecondsPerTest",
"cpuSecondsPerProgram", "memoryBytes"} of this row, and "reference" is a
program that must pass the same tests, or else the row is refused. Output rows are {"id", "outcomes", "passRate",
"flags"}; what is in the output already is not run again. The exit code is 1 when a row was refused or could not be
judged.

With --serve it answers requests over HTTP until it is stopped, and prints its address.

  --entry-point NAME            the entry point of rows that name none
  --language NAME               the language of rows that name none (python)
  --references FILE             rows whose programs must pass all their tests, before and after each batch
  --workers N                   programs at the same time (the number of cores)
  --cpu-seconds-per-test N      CPU time of one test, in seconds (1)
  --cpu-seconds-per-program N   CPU time of all tests of a program, in seconds (3)
  --memory-mib N                address space of a program, in MiB (512)
  --mutants N                   how good checkers are: rows hold right programs, whose answers are changed in N ways
                                each, and output rows say how many of them are rejected
  --host ADDRESS                where --serve listens (127.0.0.1); others need ACECODER_SANDBOX_TOKEN
  --port N                      port of --serve (8740; 0: any free one)
  --help                        print this`;

const OPTIONS = {
  input: { type: 'string' },
  output: { type: 'string' },
  serve: { type: 'boolean', default: false },
  host: { type: 'string' },
  port: { type: 'string' },
  'entry-point': { type: 'string' },
  language: { type: 'string' },
  references: { type: 'string' },
  workers: { type: 'string' },
  'cpu-seconds-per-test': { type: 'string' },
  'cpu-seconds-per-program': { type: 'string' },
  'memory-mib': { type: 'string' },
  mutants: { type: 'string' },
  help: { type: 'boolean', default: false },
} as const;

/** Programs of one request: what a kill costs, against a pause at the end of each. */
const BATCH = 200;
const MAX_LINE = 8_000_000;
const DEFAULT_PORT = 8740;
const LEAST_PYTHON = [3, 11] as const;

type Values = Record<string, string | boolean | undefined>;

/** The text of a line that was read byte by byte. @throws Error where it is no UTF-8 text. */
function textOf(line: string): string {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(line, 'latin1'));
    if (!text.includes('\0')) return text;
  } catch {
    // said below
  }
  throw new Error('the row is not UTF-8 text');
}

/** The row of a line, with what the options say for rows that do not. @throws Error that says what is wrong with it. */
function readRow(line: string, defaults: Partial<SandboxRow>): { job: Job; reference: Job | undefined } {
  if (line.length > MAX_LINE) throw new Error(`the row has ${line.length} characters; at most ${MAX_LINE} are allowed`);
  const row = SandboxRow.parse({ ...defaults, ...(JSON.parse(textOf(line)) as object) });
  return { job: jobOf(row), reference: referenceOf(row) };
}

/** Ids of the complete rows of the output; a row that was cut by a kill is removed. */
async function idsIn(file: string): Promise<Set<string>> {
  const ids = new Set<string>();
  if (!existsSync(file)) return ids;
  let bytes = 0;
  for await (const lines of linesOf(file, 'latin1')) {
    for (const line of lines) {
      try {
        ids.add((JSON.parse(textOf(line)) as { id: string }).id);
      } catch {
        await truncate(file, bytes);
        return ids;
      }
      bytes += line.length + 1;
    }
  }
  await truncate(file, bytes);
  return ids;
}

/** The number of an option; undefined where it is not given. @throws Error that names the option. */
function numberOf(values: Values, name: string): number | undefined {
  const value = values[name];
  if (value === undefined) return undefined;
  const number = Number(value);
  if (!(number > 0) || !Number.isFinite(number))
    throw new Error(`--${name} is ${JSON.stringify(value)}: give a number above 0.`);
  return number;
}

/** Limits of the command line. @throws Error that names the option. */
function limitsOf(values: Values): SandboxLimits {
  const memory = numberOf(values, 'memory-mib');
  return SandboxLimits.parse({
    cpuSecondsPerTest: numberOf(values, 'cpu-seconds-per-test'),
    cpuSecondsPerProgram: numberOf(values, 'cpu-seconds-per-program'),
    memoryBytes: memory === undefined ? undefined : Math.round(memory * 1024 * 1024),
  });
}

/** What the options say for rows that do not say it. @throws Error that names the option. */
function defaultsOf(values: Values): Partial<SandboxRow> {
  const given = {
    ...(values['entry-point'] === undefined ? {} : { entryPoint: values['entry-point'] }),
    ...(values['language'] === undefined ? {} : { language: values['language'] }),
  };
  const parsed = SandboxRow.pick({ entryPoint: true, language: true }).safeParse(given);
  if (!parsed.success) throw new Error(`--entry-point or --language: ${whyNoRow(parsed.error)}`);
  return parsed.data;
}

/** @throws Error that says what to type where there is no Python that runs the sandbox. */
function checkPython({ sandboxPython }: Settings): void {
  const wanted = LEAST_PYTHON.join('.');
  const asked = spawnSync(sandboxPython, ['-c', 'import sys; print(*sys.version_info[:2])'], { encoding: 'utf8' });
  const [major = 0, minor = 0] = asked.status === 0 ? asked.stdout.trim().split(' ').map(Number) : [];
  if (major > LEAST_PYTHON[0] || (major === LEAST_PYTHON[0] && minor >= LEAST_PYTHON[1])) return;
  const found = asked.status === 0 ? `${sandboxPython} is Python ${major}.${minor}` : `${sandboxPython} does not start`;
  throw new Error(
    `The sandbox needs Python ${wanted} or newer, and ${found}. Type: sudo apt-get install python3 bubblewrap\n` +
      `Where another interpreter is there already, type: export ACECODER_SANDBOX_PYTHON=/usr/bin/python${wanted}`,
  );
}

/** A sandbox of so many programs at a time. `first` is the number of its first zygote. */
function sandboxOf(settings: Settings, name: string, workers: number, first = 0): PythonService<typeof OPERATIONS> {
  return new PythonService(OPERATIONS, {
    name,
    python: settings.sandboxPython,
    args: [
      ...['-m', 'sandbox', '--workers', String(workers), '--first', String(first)],
      ...['--minimum', settings.sandboxMinimum, '--scratch-mib', String(settings.sandboxScratchMib)],
      ...(settings.sandboxLibraries ? ['--libraries', settings.sandboxLibraries] : []),
      ...(settings.sandboxProcesses ? ['--processes'] : []),
    ],
    pythonPath: settings.pythonPath,
    logs: join(settings.home, 'logs'),
    startSeconds: 60,
    graceSeconds: 5,
    lostAs: 'SandboxUnavailable',
  });
}

/** How isolated programs are. @throws Error that says why no program can be run. */
async function isolationOf(sandbox: PythonService<typeof OPERATIONS>): Promise<string> {
  const { isolation, level, trouble } = await sandbox.versions();
  if (trouble) throw new Error(trouble);
  return `isolation ${level} (${isolation})`;
}

/**
 * Runs the command.
 *
 * @returns the exit code.
 * @throws Error that says what is wrong with the options, or what is missing on this host.
 * @example
 * process.exitCode = await sandboxCommand(['--help']);
 */
export async function sandboxCommand(args: string[], env: NodeJS.ProcessEnv = process.env): Promise<number> {
  const { values } = parseArgs({ args, options: OPTIONS });
  if (values.help || !(values.serve || (values.input && values.output))) {
    console.log(HELP);
    return values.help ? 0 : 2;
  }
  const workers = Number(values.workers ?? availableParallelism());
  if (!Number.isInteger(workers) || workers < 1)
    throw new Error(`--workers is ${JSON.stringify(values.workers)}: give a number from 1 on.`);
  const settings = settingsFromEnvironment(env);
  const limits = limitsOf(values);
  const mutants = values.mutants === undefined ? undefined : Number(values.mutants);
  if (mutants !== undefined && !(Number.isInteger(mutants) && mutants >= 1 && mutants <= 1_000))
    throw new Error(`--mutants is ${JSON.stringify(values.mutants)}: give a number from 1 to 1000.`);
  const port = Number(values.port ?? DEFAULT_PORT);
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new Error(`--port is ${JSON.stringify(values.port)}: give a number from 0 to 65535.`);
  if (values.serve) {
    checkPython(settings);
    const listen = { host: values.host ?? '127.0.0.1', port, token: env['ACECODER_SANDBOX_TOKEN'] || undefined };
    return serve(settings, workers, limits, listen);
  }
  const { input, output } = values;
  for (const file of [input!, ...(values.references ? [values.references] : [])])
    if (!existsSync(file)) throw new Error(`There is no file ${file}.`);
  const defaults = defaultsOf(values);
  checkPython(settings);
  const references = values.references ? await referencesIn(values.references, defaults) : [];
  return judgeFile(sandboxOf(settings, 'sandbox-cli', workers), {
    input: input!,
    output: output!,
    limits,
    defaults,
    references,
    mutants,
  });
}

/** Answers requests until this process is told to end. */
async function serve(
  settings: Settings,
  workers: number,
  limits: SandboxLimits,
  listen: { host: string; port: number; token: string | undefined },
): Promise<number> {
  const ended = new Promise<void>((resolve) => onEndSignal(() => resolve()));
  const sandboxes = Array.from({ length: workers }, (_, at) => sandboxOf(settings, `sandbox-serve-${at}`, 1, at));
  try {
    const [isolation] = await Promise.all(sandboxes.map((sandbox) => isolationOf(sandbox)));
    const verifier = await startVerifier(new Lanes(sandboxes, limits), listen);
    console.error(isolation);
    console.log(`listening on ${verifier.url}`);
    await ended;
    await verifier.close();
  } finally {
    await Promise.all(sandboxes.map((sandbox) => sandbox.close()));
  }
  return 0;
}

/** The rows of a file of references. @throws Error that names the row which is none. */
async function referencesIn(file: string, defaults: Partial<SandboxRow>): Promise<Job[]> {
  const jobs: Job[] = [];
  let number = 0;
  for await (const lines of linesOf(file, 'latin1')) {
    for (const line of lines) {
      number += 1;
      if (line.trim() === '') continue;
      try {
        jobs.push(readRow(line, defaults).job);
      } catch (error) {
        throw new Error(`${file}, row ${number}: ${whyNoRow(error)}`, { cause: error });
      }
    }
  }
  return jobs;
}

/** Whether something beside equality decides each test of a row. */
function hasChecker({ tests }: Job): boolean {
  return tests.every((test) => typeof test !== 'string' && ('call' in test || 'checker' in test || 'anyOf' in test));
}

/** Judges the rows of a file. @returns the exit code. */
async function judgeFile(
  sandbox: PythonService<typeof OPERATIONS>,
  {
    input,
    output: outputFile,
    limits,
    defaults,
    references,
    mutants,
  }: {
    input: string;
    output: string;
    limits: SandboxLimits;
    defaults: Partial<SandboxRow>;
    references: Job[];
    mutants: number | undefined;
  },
): Promise<number> {
  const done = await idsIn(outputFile);
  const output = createWriteStream(outputFile, { flags: 'a' });
  let refused = 0;
  let judged = 0;
  let batch: { job: Job; reference: Job | undefined }[] = [];
  const refuse = (what: string, why: string): void => {
    refused += 1;
    console.error(`${what}: ${why}`);
  };
  const show = (count: number): void => {
    if (process.stderr.isTTY) process.stderr.write(`\r${judged + count} programs judged`);
  };
  async function run(): Promise<void> {
    if (batch.length === 0) return;
    if (mutants !== undefined) {
      const jobs = batch.map(({ job }) => job);
      const checked = jobs.filter(hasChecker);
      for (const job of jobs) if (!hasChecker(job)) refuse(job.id, 'its tests have no checker, property or comparison');
      for (const row of await checkerQuality(sandbox, checked, { limits, mutants }))
        output.write(`${JSON.stringify(row)}\n`);
      judged += checked.length;
      batch = [];
      return;
    }
    // The names of rows and of references may be equal; those of this call are not.
    const own = batch.flatMap(({ reference }, at) => (reference ? [{ ...reference, id: `row ${at}` }] : []));
    const shared = references.map((reference, at) => ({ ...reference, id: `reference ${at}` }));
    const { judgements, brokenReferences } = await judgePrograms(
      sandbox,
      batch.map(({ job }) => job),
      { limits, references: [...shared, ...own], onProgress: (count) => show(count) },
    );
    const broken = new Map(brokenReferences.map(({ id, test }) => [id, test]));
    const failing = references.filter((_, at) => broken.has(`reference ${at}`));
    if (failing.length > 0)
      throw new Error(`References fail their own tests: ${failing.map(({ id }) => id).join(', ')}. Mend them first.`);
    for (const [at, judgement] of judgements.entries()) {
      const fails = broken.get(`row ${at}`);
      if (fails !== undefined) {
        refuse(judgement.id, `its reference fails the test ${fails}`);
        continue;
      }
      if (judgement.flags.includes('unparsable')) {
        refuse(judgement.id, 'one of its tests is no Python text');
        continue;
      }
      if (!judgement.judged) {
        refuse(judgement.id, judgement.fault ?? 'the sandbox could not judge it; run the command again');
        continue;
      }
      const { id, outcomes, passRate, flags } = judgement;
      output.write(`${JSON.stringify({ id, outcomes, passRate, flags })}\n`);
    }
    judged += batch.length;
    batch = [];
  }
  let number = 0;
  const rowOfId = new Map<string, number>();
  try {
    const isolation = await isolationOf(sandbox);
    console.error(`${isolation}; ${done.size} rows are in the output already`);
    for await (const lines of linesOf(input, 'latin1')) {
      for (const line of lines) {
        number += 1;
        if (line.trim() === '') continue;
        try {
          const row = readRow(line, defaults);
          const { id } = row.job;
          const first = rowOfId.get(id);
          if (first !== undefined)
            throw new Error(
              `the id ${JSON.stringify(id)} is that of row ${first} already; give every row an id of its own`,
            );
          rowOfId.set(id, number);
          if (!done.has(id)) batch.push(row);
        } catch (error) {
          refuse(`row ${number}`, whyNoRow(error));
        }
        if (batch.length === BATCH) await run();
      }
    }
    await run();
  } finally {
    await sandbox.close();
    await new Promise((resolve) => {
      output.end(resolve);
    });
  }
  if (process.stderr.isTTY) process.stderr.write('\n');
  console.error(`${judged} programs judged, ${refused} rows refused`);
  return refused > 0 ? 1 : 0;
}
