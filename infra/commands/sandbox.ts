/** `npm run sandbox`: judges programs of a JSON Lines file in the sandbox, without Temporal and without a store. */
import { createWriteStream, existsSync } from 'node:fs';
import { truncate } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { linesOf } from '../../activities/artifacts/rows.js';
import { checkerQuality, judgePrograms, type Job } from '../../activities/execution/execution.js';
import { jobOf, SandboxRow } from '../../activities/execution/rows.js';
import { OPERATIONS } from '../../activities/runtime/operations.js';
import { PythonService } from '../../activities/runtime/python-service.js';
import { SandboxLimits } from '../../workflows/contract/index.js';
import { logs, root, venvPython } from '../setup/paths.mjs';

const HELP = `npm run sandbox -- --input programs.jsonl --output verdicts.jsonl [options]

Each input row is {"id", "program", "tests", "entryPoint"?, "stdin"?, "checker"?}. A test is a text (Python statements,
unittest or pytest tests) or {"stdin", "stdout", "compare"?} for a program that is run as a script; "compare" is
"floats", which is the default, "tokens" or "exact". Where several answers are right, a test is {"call", "expect" or
"anyOf", "compare"?, "tolerance"?}, {"call", "property"}, {"call", "checker", "expect"?}, {"stdin", "checker",
"stdout"?} or {"stdin", "anyOf", "compare"?}. With "entryPoint", tests may call
the function \`candidate\`, or define \`check(candidate)\`. A "stdin" is what such a script reads; its tests are then
the texts that it must print. A "checker" is the checker program of all tests that have none. Output rows are {"id", "outcomes", "passRate", "flags"}; what is in the output already is
not run again. The exit code is 1 when a row was refused or could not be judged.

  --workers N                   programs at the same time (the number of cores)
  --cpu-seconds-per-test N      CPU time of one test, in seconds (1)
  --cpu-seconds-per-program N   CPU time of all tests of a program, in seconds (3)
  --memory-mib N                address space of a program, in MiB (512)
  --mutants N                   how good checkers are: rows hold right programs, whose answers are changed in N ways
                                each, and output rows say how many of them are rejected
  --help                        print this`;

/** Programs of one request: what a kill costs, against a pause at the end of each. */
const BATCH = 200;
const MAX_LINE = 8_000_000;

/** @throws Error that says what is wrong with the row. */
function readRow(line: string): Job {
  if (line.length > MAX_LINE) throw new Error(`the row has ${line.length} characters; at most ${MAX_LINE} are allowed`);
  return jobOf(SandboxRow.parse(JSON.parse(textOf(line))));
}

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

/** Limits of the command line. @throws Error that names the option. */
function limitsOf(values: Record<string, string | boolean | undefined>): SandboxLimits {
  const given = (name: string): number | undefined => {
    const value = values[name];
    if (value === undefined) return undefined;
    const number = Number(value);
    if (!(number > 0) || !Number.isFinite(number))
      throw new Error(`--${name} is ${JSON.stringify(value)}: give a number above 0.`);
    return number;
  };
  const memory = given('memory-mib');
  return SandboxLimits.parse({
    cpuSecondsPerTest: given('cpu-seconds-per-test'),
    cpuSecondsPerProgram: given('cpu-seconds-per-program'),
    memoryBytes: memory === undefined ? undefined : Math.round(memory * 1024 * 1024),
  });
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      input: { type: 'string' },
      output: { type: 'string' },
      workers: { type: 'string' },
      'cpu-seconds-per-test': { type: 'string' },
      'cpu-seconds-per-program': { type: 'string' },
      'memory-mib': { type: 'string' },
      mutants: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  const workers = Number(values.workers ?? availableParallelism());
  if (values.help || !values.input || !values.output) {
    console.log(HELP);
    return values.help ? 0 : 2;
  }
  if (!Number.isInteger(workers) || workers < 1)
    throw new Error(`--workers is ${JSON.stringify(values.workers)}: give a number from 1 on.`);
  const limits = limitsOf(values);
  const mutants = values.mutants === undefined ? undefined : Number(values.mutants);
  if (mutants !== undefined && !(Number.isInteger(mutants) && mutants >= 1 && mutants <= 1_000))
    throw new Error(`--mutants is ${JSON.stringify(values.mutants)}: give a number from 1 to 1000.`);
  if (!existsSync(values.input)) throw new Error(`There is no file ${values.input}.`);
  const done = await idsIn(values.output);
  const output = createWriteStream(values.output, { flags: 'a' });
  const sandbox = new PythonService(OPERATIONS, {
    name: 'sandbox-cli',
    python: process.env['ACECODER_SANDBOX_PYTHON'] ?? venvPython(),
    args: ['-m', 'sandbox', '--workers', String(workers)],
    pythonPath: join(root, 'workers'),
    logs: logs(),
    startSeconds: 60,
    graceSeconds: 5,
    lostAs: 'SandboxUnavailable',
  });
  const { isolation, level } = await sandbox.versions();
  console.error(`isolation ${level} (${isolation}); ${done.size} rows are in the output already`);
  let refused = 0;
  let judged = 0;
  let batch: Job[] = [];
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
      const checked = batch.filter(({ tests }) =>
        tests.every((test) => typeof test !== 'string' && ('call' in test || 'checker' in test || 'anyOf' in test)),
      );
      for (const { id } of batch) {
        if (!checked.some((job) => job.id === id)) refuse(id, 'its tests have no checker, property or comparison');
      }
      for (const row of await checkerQuality(sandbox, checked, { limits, mutants }))
        output.write(`${JSON.stringify(row)}\n`);
      judged += checked.length;
      batch = [];
      return;
    }
    const { judgements } = await judgePrograms(sandbox, batch, { limits, onProgress: (count) => show(count) });
    for (const judgement of judgements) {
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
    for await (const lines of linesOf(values.input, 'latin1')) {
      for (const line of lines) {
        number += 1;
        if (line.trim() === '') continue;
        try {
          const job = readRow(line);
          const first = rowOfId.get(job.id);
          if (first !== undefined)
            throw new Error(
              `the id ${JSON.stringify(job.id)} is that of row ${first} already; give every row an id of its own`,
            );
          rowOfId.set(job.id, number);
          if (!done.has(job.id)) batch.push(job);
        } catch (error) {
          const why =
            error instanceof z.ZodError
              ? error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')
              : (error as Error).message;
          refuse(`row ${number}`, why.slice(0, 300));
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

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    console.error(error.message);
    process.exit(1);
  },
);
