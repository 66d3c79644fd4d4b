/** `npm run sandbox`: judges programs of a JSON Lines file in the sandbox, without Temporal and without a store. */
import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { truncate } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { judgePrograms, type Job } from '../../activities/execution/execution.js';
import { jobOf, SandboxRow } from '../../activities/execution/rows.js';
import { OPERATIONS } from '../../activities/runtime/operations.js';
import { PythonService } from '../../activities/runtime/python-service.js';
import { SandboxLimits } from '../../workflows/contract/index.js';
import { logs, root, venvPython } from '../setup/paths.mjs';

const HELP = `npm run sandbox -- --input programs.jsonl --output verdicts.jsonl [options]

Each input row is {"id", "program", "tests", "entryPoint"?, "stdin"?}. A test is a text (Python statements or a
unittest.TestCase class) or {"stdin", "stdout"} for a program that is run as a script. With "entryPoint", tests may call
the function \`candidate\`, or define \`check(candidate)\`. A "stdin" is what such a script reads; its tests are then the
texts that it must print. Output rows are {"id", "outcomes", "passRate", "flags"}; what is in the output already is not run
again. The exit code is 1 when a row was refused or could not be judged.

  --workers N   programs at the same time (the number of cores)
  --help        print this`;

/** Programs of one request: what a kill costs, against a pause at the end of each. */
const BATCH = 200;
const MAX_LINE = 8_000_000;

/** @throws Error that says what is wrong with the row. */
function readRow(line: string): Job {
  if (line.length > MAX_LINE) throw new Error(`the row has ${line.length} characters; at most ${MAX_LINE} are allowed`);
  if (line.includes('\uFFFD') || line.includes('\0')) throw new Error('the row is not UTF-8 text');
  return jobOf(SandboxRow.parse(JSON.parse(line)));
}

/** Ids of the complete rows of the output; a row that was cut by a kill is removed. */
async function idsIn(file: string): Promise<Set<string>> {
  const ids = new Set<string>();
  if (!existsSync(file)) return ids;
  let bytes = 0;
  for await (const line of createInterface({ input: createReadStream(file), crlfDelay: Infinity })) {
    try {
      ids.add((JSON.parse(line) as { id: string }).id);
    } catch {
      break;
    }
    bytes += Buffer.byteLength(line) + 1;
  }
  await truncate(file, bytes);
  return ids;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      input: { type: 'string' },
      output: { type: 'string' },
      workers: { type: 'string' },
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
  const limits = SandboxLimits.parse({});
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
    const { judgements } = await judgePrograms(sandbox, batch, { limits, onProgress: (count) => show(count) });
    for (const judgement of judgements) {
      if (!judgement.judged) {
        refuse(judgement.id, 'the sandbox could not judge it; run the command again');
        continue;
      }
      const { id, outcomes, passRate, flags } = judgement;
      if (flags.includes('unparsable')) {
        refuse(id, 'one of its tests is no Python text');
        continue;
      }
      output.write(`${JSON.stringify({ id, outcomes, passRate, flags })}\n`);
    }
    judged += batch.length;
    batch = [];
  }
  let number = 0;
  const rowOfId = new Map<string, number>();
  try {
    for await (const line of createInterface({ input: createReadStream(values.input), crlfDelay: Infinity })) {
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
