/**
 * `npm run bench:reverify`: stored programs under changed tests, by the real workflow on workers of its own.
 *
 * 40 questions with 6 programs each get a test more, and then the same again. A larger set loses a test, where nothing
 * runs: what that takes is reading, comparing and writing.
 */
import { randomUUID } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client, Connection } from '@temporalio/client';
import { venvPython } from '../../infra/setup/paths.mjs';
import { startStack, stackEnvironment, stopStack } from '../../infra/stack/embedded-stack.js';
import { createServices } from '../../workers/plugins/services.js';
import type { FilteredQuestionRow, Harness, ProgramRow } from '../../workflows/contract/index.js';
import type { ReverifyResult } from '../../workflows/reverify.js';
import { startWorker } from '../fixtures/start-worker.js';
import { report, type Measure } from './table.js';

const HELP = `npm run bench:reverify -- [options]

  --questions N  questions of the larger set, with 16 programs each (1000)
  --json         one JSON object on the last line
  --help         print this`;

const SMALL = { questions: 40, programs: 6 };
const LARGE_PROGRAMS = 16;
/** The most MiB that a worker may take, whatever the number of programs is. */
const MEMORY_BAR = 1_024;
/** Seconds of a re-verification of which everything is known. */
const UNCHANGED_BAR = 5;
const SMALL_CELLS = SMALL.questions * SMALL.programs;

interface Files {
  programs: { kind: 'programs'; path: string };
  questions: { kind: 'filteredQuestions'; path: string };
  tests: { kind: 'tests'; path: string };
}

/** Questions whose programs all pass, and a change of each. */
function filesOf(
  folder: string,
  { questions, programs }: { questions: number; programs: number },
  harness: Harness,
  change: (at: number, tests: FilteredQuestionRow['tests']) => object,
): Files {
  const name = randomUUID();
  const write = <K extends string>(kind: K, rows: Iterable<object>): { kind: K; path: string } => {
    const path = join(folder, `${kind}-${name}.jsonl`);
    const file = openSync(path, 'w');
    for (const row of rows) writeSync(file, `${JSON.stringify(row)}\n`);
    closeSync(file);
    return { kind, path };
  };
  const asked = Array.from({ length: questions }, (_, at): FilteredQuestionRow => ({
    ...{ id: `q${at}`, seedId: `s${at}`, source: 'own', question: `Add ${at}.`, entryPoint: `f${at}`, split: 'train' },
    reference: `def f${at}(n):\n    return n + ${at}`,
    tests: Array.from({ length: 10 }, (_, n) => `assert f${at}(${n}) == ${n + at}`),
  }));
  function* rows(): Generator<ProgramRow> {
    for (const { id, question, reference, tests } of asked)
      for (let index = 0; index < programs; index += 1)
        yield {
          ...{ id: `${id}/${index}`, questionId: id, split: 'train', question, index, finish: 'stop', passRate: 1 },
          harness,
          program: `${reference}\n# ${name} ${index}`,
          outcomes: tests.map(() => ({ status: 'pass' })),
        };
  }
  return {
    programs: write('programs', rows()),
    questions: write('filteredQuestions', asked),
    tests: write(
      'tests',
      asked.map(({ id, tests }, at) => ({ questionId: id, ...change(at, tests) })),
    ),
  };
}

/** The most MiB that a process had in memory. */
function peakMebibytes(pid: number): number {
  return Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      questions: { type: 'string', default: '1000' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(HELP);
  const questions = Number(values.questions);
  if (!Number.isInteger(questions) || questions < 1)
    throw new Error(`--questions is ${values.questions}: give a whole number.`);
  const home = mkdtempSync(join(tmpdir(), 'acecoder-bench-'));
  const stack = await startStack({ home, ports: { frontend: 0, ui: 0, store: 0 } });
  const environment = Object.fromEntries(
    Object.entries({ ...stackEnvironment(stack), ACECODER_PYTHON: venvPython() }).filter(
      (entry): entry is [string, string] => entry[1] !== undefined,
    ),
  );
  const services = createServices({ env: environment, label: 'bench' });
  const { harness: version, python, importPolicy } = await services.sandbox.versions();
  await services.close();
  const harness = { version: version!, python: python!, importPolicy: importPolicy! };
  const connection = await Connection.connect({ address: stack.address });
  const queue = 'bench-reverify';
  const workers = (['pipeline', 'sandbox'] as const).map((role) => ({
    role,
    ...startWorker(queue, environment, role),
  }));
  try {
    const { workflow } = new Client({ connection, namespace: stack.namespace });
    const run = async (inputs: object): Promise<{ seconds: number; result: ReverifyResult }> => {
      const started = performance.now();
      const result = await workflow.execute('reverify', {
        taskQueue: queue,
        workflowId: `reverify-${randomUUID()}`,
        args: [{ inputs }],
      });
      return { seconds: (performance.now() - started) / 1000, result: result as ReverifyResult };
    };
    const added = filesOf(home, SMALL, harness, (at) => ({ add: [`assert f${at}(99) == ${99 + at}`] }));
    // The first run waits for the workers.
    await run({ programs: added.programs, questions: added.questions });
    const first = await run(added);
    const again = await run(added);
    const large = { questions, programs: LARGE_PROGRAMS };
    const removed = await run(filesOf(home, large, harness, (_, tests) => ({ remove: [tests[3]] })));
    const measures: Measure[] = [
      { name: 'a test added to 40 x 6 programs', value: first.result.cells, unit: 'cells', bar: SMALL_CELLS },
      { name: '... at most', value: first.result.cells, unit: 'cells', bar: SMALL_CELLS, at: 'most' },
      { name: '... in', value: first.seconds, unit: 's' },
      { name: 'the same again', value: again.result.cells, unit: 'cells', bar: 0, at: 'most' },
      { name: '... in', value: again.seconds, unit: 's', bar: UNCHANGED_BAR, at: 'most' },
      {
        name: `a test removed from ${questions} x ${LARGE_PROGRAMS} programs`,
        value: removed.result.cells,
        unit: 'cells',
        bar: 0,
        at: 'most',
      },
      {
        name: '... read, compared and written',
        value: (questions * LARGE_PROGRAMS) / removed.seconds,
        unit: 'programs/s',
        note: `${removed.seconds.toFixed(1)} s`,
      },
      ...workers.map(({ role, child }): Measure => ({
        name: `... memory of the ${role} worker`,
        value: peakMebibytes(child.pid!),
        unit: 'MiB',
        bar: MEMORY_BAR,
        at: 'most',
      })),
    ];
    report('reverify', measures, values.json);
  } finally {
    for (const worker of workers) await worker.stop();
    await connection.close();
    await stopStack({ home });
    rmSync(home, { recursive: true, force: true });
  }
}

await main();
