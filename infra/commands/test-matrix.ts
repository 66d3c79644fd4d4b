/** `npm run test:matrix`: the whole integration suite on each Temporal server and store, one run after another. */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, copyFileSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { home, logs, postgresqlFolder, root } from '../setup/paths.mjs';
import { onEndSignal, readJson, writeWhole } from '../setup/processes.mjs';
import { findGo, findMinio, goPrograms } from '../setup/programs.mjs';
import type { StoreName } from '../setup/store-choice.mjs';
import type { TemporalName } from '../setup/temporal-choice.mjs';
import { FLAG, runCommand, type CommandLine } from './command.js';
import type { Outcome } from './test-outcomes.js';

const HELP = `npm run test:matrix [-- options] [FILES]

Runs all integration tests, kills included, once for each row:

  minio        the Temporal dev server, MinIO
  seaweedfs    the Temporal dev server, SeaweedFS
  versitygw    the Temporal dev server, VersityGW
  postgresql   the Temporal server in its production form on PostgreSQL, MinIO

What a row needs is built on demand and kept: the Temporal server takes Go 7 minutes, VersityGW one.
A row whose programs
can be neither found nor built is skipped, with the reason. A row that has passed on this commit is not run again.

  FILES...     only these test files; such a run is not remembered
  --only ROW   only this row; may be given several times
  --again      run rows that have passed on this commit, too
  --json       print one JSON object on the last line
  --help       print this

The exit code is 1 when a test failed.`;

interface Row {
  name: string;
  store: StoreName;
  temporal: TemporalName;
}

const ROWS: readonly Row[] = [
  { name: 'minio', store: 'minio', temporal: 'dev-server' },
  { name: 'seaweedfs', store: 'seaweedfs', temporal: 'dev-server' },
  { name: 'versitygw', store: 'versitygw', temporal: 'dev-server' },
  { name: 'postgresql', store: 'minio', temporal: 'postgresql' },
];

/** How a row went. */
export interface RowResult extends Row {
  /** The code that ran: the commit, and a digest of what the working tree has changed. */
  code: string;
  state: 'passed' | 'failed' | 'skipped';
  passed: number;
  failed: number;
  skipped: number;
  seconds: number;
  /** Why it was skipped, or what failed. */
  reason?: string;
  /** When the result is that of an earlier call: its time. */
  of?: string;
}

/**
 * Splits the rows into those to run and those whose earlier pass on the same code stands.
 *
 * @example
 * const earlier = [{ ...rows[0], code: 'c0ffee', state: 'passed', ... }];
 * const { run, kept } = plan(rows, earlier, { code: 'c0ffee', again: false });
 */
export function plan(
  rows: readonly Row[],
  earlier: readonly RowResult[],
  { code, again }: { code: string; again: boolean },
): { run: Row[]; kept: RowResult[] } {
  const passed = (row: Row): RowResult | undefined =>
    earlier.find((result) => result.name === row.name && result.code === code && result.state === 'passed');
  return {
    run: rows.filter((row) => again || !passed(row)),
    kept: again ? [] : rows.flatMap((row) => passed(row) ?? []),
  };
}

/** The results as a table, in the order of the rows. */
export function table(results: readonly RowResult[]): string {
  const cells = results.map(({ name, store, temporal, state, passed, failed, skipped, seconds, reason, of }) => [
    name,
    temporal,
    store,
    state,
    ...(state === 'skipped' ? ['', '', '', ''] : [passed, failed, skipped, duration(seconds)].map(String)),
    [of === undefined ? '' : `on ${of}`, reason ?? ''].filter(Boolean).join('; '),
  ]);
  const head = ['row', 'Temporal', 'store', 'state', 'passed', 'failed', 'skipped', 'time', ''];
  const widths = head.map((title, column) => Math.max(title.length, ...cells.map((row) => row[column]!.length)));
  return [head, ...cells]
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function duration(seconds: number): string {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** Why a row cannot run here; undefined where it can. */
function missing({ store, temporal }: Row): string | undefined {
  const go = findGo().reason;
  if (store === 'minio' && !findMinio() && go !== undefined) return `MinIO is missing, and ${go} to build it`;
  if (store === 'versitygw' && !goPrograms('versitygw').isBuilt && go !== undefined)
    return `VersityGW is missing, and ${go} to build it`;
  if (temporal === 'dev-server') return undefined;
  if (postgresqlFolder() === undefined) return 'PostgreSQL is missing: sudo apt-get install postgresql';
  if (!goPrograms('temporal').isBuilt && go !== undefined)
    return `the Temporal server is missing, and ${go} to build it`;
  return undefined;
}

/** The commit, and what tells apart a working tree with changes. */
function codeOfTree(): string {
  const git = (...args: string[]): string => spawnSync('git', args, { cwd: root, encoding: 'utf8' }).stdout.trim();
  const commit = git('rev-parse', 'HEAD');
  if (git('status', '--porcelain') === '') return commit;
  const changes = createHash('sha256').update(git('diff', 'HEAD', '--binary'));
  for (const file of git('ls-files', '--others', '--exclude-standard').split('\n').filter(Boolean))
    changes.update(`${file}\n`).update(readFileSync(join(root, file)));
  return `${commit}+${changes.digest('hex').slice(0, 12)}`;
}

let stopped: NodeJS.Signals | undefined;

async function runRow(row: Row, files: readonly string[], code: string): Promise<RowResult> {
  const log = join(logs(), `matrix-${row.name}.log`);
  const outcomes = join(logs(), 'test-vitest.json');
  const output = openSync(log, 'w');
  const started = performance.now();
  const args = [...files, ...(files.length > 0 ? [] : ['--integration'])];
  const child = spawn(
    process.execPath,
    [join(root, 'infra/commands/run.mjs'), 'test', ...args, '--store', row.store, '--temporal', row.temporal],
    { cwd: root, stdio: ['ignore', output, output] },
  );
  closeSync(output);
  const release = onEndSignal((signal) => {
    stopped = signal;
    child.kill(signal);
  });
  const exit = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  release();
  const seconds = (performance.now() - started) / 1000;
  const isOfThisRun = existsSync(outcomes) && exit !== null && exit < 2;
  const all = isOfThisRun ? (JSON.parse(readFileSync(outcomes, 'utf8')) as Outcome[]) : [];
  if (isOfThisRun) copyFileSync(outcomes, join(logs(), `matrix-${row.name}.json`));
  const count = (state: Outcome['state']): number => all.filter((outcome) => outcome.state === state).length;
  const failures = all.filter(({ state }) => state === 'failed').map(({ name }) => name);
  const reason = failures.length > 0 ? failures.join('; ') : exit === 0 ? undefined : `ended with ${exit}; see ${log}`;
  return {
    ...row,
    code,
    state: exit === 0 ? 'passed' : 'failed',
    passed: count('passed'),
    failed: count('failed'),
    skipped: count('skipped'),
    seconds,
    ...(reason === undefined ? {} : { reason }),
  };
}

const OPTIONS = {
  only: { type: 'string', multiple: true, default: [] as string[] },
  again: FLAG,
  json: FLAG,
} as const;

async function runRows({ values, positionals: files }: CommandLine<typeof OPTIONS>): Promise<number> {
  const names = ROWS.map(({ name }) => name);
  const unknown = values.only.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new Error(`--only is ${JSON.stringify(unknown)}: choose ${names.join(', ')}.`);
  mkdirSync(logs(), { recursive: true });
  const memory = join(home(), 'test-matrix.json');
  const earlier = (readJson(memory) as RowResult[] | undefined) ?? [];
  const code = codeOfTree();
  const wanted = ROWS.filter(({ name }) => values.only.length === 0 || values.only.includes(name));
  const { run, kept } = plan(wanted, earlier, { code, again: values.again || files.length > 0 });
  const results = [...kept];
  for (const { name } of kept) console.log(`${name}: has passed on this commit (--again runs it again)`);
  for (const row of run) {
    if (stopped) break;
    const reason = missing(row);
    if (reason !== undefined) {
      console.log(`${row.name}: SKIPPED: ${reason}`);
      results.push({ ...row, code, state: 'skipped', passed: 0, failed: 0, skipped: 0, seconds: 0, reason });
      continue;
    }
    console.log(`${row.name}: ${row.temporal} and ${row.store}, log in ${join(logs(), `matrix-${row.name}.log`)}`);
    const result = await runRow(row, files, code);
    if (stopped) break;
    console.log(`${row.name}: ${result.state} in ${duration(result.seconds)}`);
    results.push(result);
    if (files.length > 0) continue;
    const of = new Date().toISOString().slice(0, 16);
    const others = ((readJson(memory) as RowResult[] | undefined) ?? []).filter(({ name }) => name !== row.name);
    writeWhole(memory, `${JSON.stringify([...others, { ...result, of }], null, 2)}\n`);
  }
  if (stopped) {
    console.error(`The matrix was stopped by ${stopped}; the next call goes on with the row that was cut short.`);
    return 128 + constants.signals[stopped];
  }
  const ordered = names.flatMap((name) => results.filter((result) => result.name === name));
  console.log(`\n${table(ordered)}`);
  if (values.json) console.log(JSON.stringify({ matrix: ordered }));
  return ordered.some(({ state }) => state === 'failed') ? 1 : 0;
}

if (process.argv[1] === import.meta.filename) runCommand({ help: HELP, options: OPTIONS, run: runRows });
