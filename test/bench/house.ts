/**
 * `npm run check:house`: whether the repository keeps to its own rules. What the files say takes a minute; with
 * `--slow` come the set-up of fresh clones and three test runs next to two busy loops.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { logs, root } from '../../infra/setup/paths.mjs';
import { pages, proseLines, sentencesOf, tableCells, wordsOf } from '../fixtures/documentation.js';
import { freshClone } from './fresh-clone.js';
import { report, type Measure } from './table.js';

const HELP = `npm run check:house -- [options]

  --slow   also the set-up of a fresh clone, without and with Go, and three runs of npm test next to two busy loops
  --json   one JSON object on the last line
  --help   print this`;

const BARS = {
  readmeWords: 900,
  sentenceWords: 30,
  columns: 120,
  floors: 8,
  benchmark: 2,
  stage: 3,
  setupSeconds: 120,
};
const TEST_RUNS = 3;

interface Cruise {
  modules: { source: string; dependencies: { resolved: string; circular: boolean }[] }[];
}

const tracked = execFileSync('git', ['ls-files'], { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 26 })
  .split('\n')
  .filter(Boolean);
const textOf = (path: string): string => readFileSync(join(root, path), 'utf8');
const isTest = (path: string): boolean => /\.test\.ts$|(^|\/)tests?\/|conftest\.py$/.test(path);
const production = tracked.filter(
  (path) =>
    /^(workflows|activities|workers|infra)\/.*\.(ts|mjs|py)$/.test(path) && !isTest(path) && !path.includes('/bench/'),
);

function documents(): Measure[] {
  const readme = textOf('README.md').split(/\s+/).filter(Boolean).length;
  const guides = pages().filter(({ path }) => path === 'README.md' || path.startsWith('docs/how-to/'));
  const sentences = guides.flatMap(({ text }) => [
    ...proseLines(text).flatMap(({ line }) => sentencesOf(line)),
    ...tableCells(text).flatMap(sentencesOf),
  ]);
  return [
    { name: 'README', value: readme, unit: 'words', bar: BARS.readmeWords, at: 'most' },
    {
      name: 'longest sentence, README and how-to',
      value: Math.max(...sentences.map(wordsOf)),
      unit: 'words',
      bar: BARS.sentenceWords,
      at: 'most',
      note: `${guides.length} pages, ${sentences.length} sentences`,
    },
  ];
}

/** Prompts, whose lines are what a model reads. */
const TEXTS_FOR_MODELS = ['activities/synthesis/teachers/openai.ts'];

/** A count of places that must be none; the first of them is told. */
function none(name: string, places: readonly string[]): Measure {
  return { name, value: places.length, unit: '', bar: 0, at: 'most', note: places[0] ?? '' };
}

function lines(paths: readonly string[], matches: (line: string) => boolean): string[] {
  return paths.flatMap((path) =>
    textOf(path)
      .split('\n')
      .flatMap((line, index) => (matches(line) ? [`${path}:${index + 1}`] : [])),
  );
}

function code(): Measure[] {
  const written = tracked.filter(
    (path) =>
      /\.(ts|mts|js|mjs|cjs|py)$/.test(path) && !path.startsWith('test/fixtures/') && !TEXTS_FOR_MODELS.includes(path),
  );
  const count = (name: string, pattern: RegExp): Measure =>
    none(
      name,
      lines(production, (line) => pattern.test(line)),
    );
  return [
    none(
      `lines over ${BARS.columns} columns`,
      lines(written, (line) => line.length > BARS.columns),
    ),
    count('as never in production code', /\bas never\b/),
    count('as unknown as in production code', /\bas unknown as\b/),
    count('casts of rows in production code', /\brows(\(.*\))? as \w+(\[\]|<)|\bas AsyncGenerator</i),
  ];
}

/** Imports between modules, those of types included. */
function imports(): Measure[] {
  const args = ['workflows', 'activities', 'workers', 'infra', '--config', '.dependency-cruiser.cjs'];
  const output = spawnSync(
    join(root, 'node_modules/.bin/depcruise'),
    [...args, '--exclude', '\\.test\\.ts$|node_modules', '--output-type', 'json'],
    { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 28 },
  ).stdout;
  const { modules } = JSON.parse(output) as Cruise;
  const edges = modules.flatMap(({ source, dependencies }) =>
    dependencies.map(({ resolved, circular }) => ({ from: source, to: resolved, circular })),
  );
  const stages = new Set(
    tracked.flatMap((path) => /^workflows\/contract\/stages\/([\w-]+)\.ts$/.exec(path)?.[1] ?? []).map(inKebabCase),
  );
  if (stages.size === 0) throw new Error('No definition of a stage was found in workflows/contract/stages.');
  const roomOf = (path: string): string | undefined => /^activities\/([^/.]+)\//.exec(path)?.[1];
  const betweenStages = edges.filter(({ from, to }) => {
    const [one, other] = [roomOf(from), roomOf(to)];
    return one !== other && stages.has(one ?? '') && stages.has(other ?? '');
  });
  const rooms = new Map<string, Set<string>>(
    modules.flatMap(({ source }) => {
      const room = roomOf(source);
      return room === undefined ? [] : [[room, new Set<string>()] as const];
    }),
  );
  for (const { from, to } of edges) {
    const [one, other] = [roomOf(from), roomOf(to)];
    if (one !== undefined && other !== undefined && one !== other) rooms.get(one)!.add(other);
  }
  return [
    none(
      'stages that import stages',
      betweenStages.map(({ from, to }) => `${from} imports ${to}`),
    ),
    none(
      'circles of imports',
      edges.filter(({ circular }) => circular).map(({ from, to }) => `${from} and ${to}`),
    ),
    floors(rooms),
  ];
}

const inKebabCase = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** The number of rooms on the longest way down; rooms that reach each other count as one. */
function floors(rooms: ReadonlyMap<string, ReadonlySet<string>>): Measure {
  const reached = new Map([...rooms.keys()].map((room) => [room, reach(rooms, room)]));
  const ways = new Map<string, string[]>();
  const way = (room: string): string[] => {
    const known = ways.get(room);
    if (known) return known;
    const others = [...reached.get(room)!].filter((other) => other !== room && reached.get(other)!.has(room));
    const circle = [room, ...others];
    const below = circle.flatMap((each) => [...rooms.get(each)!]).filter((each) => !circle.includes(each));
    const longest = below.map(way).reduce<string[]>((best, each) => (each.length > best.length ? each : best), []);
    const found = [circle.join(' and '), ...longest];
    for (const each of circle) ways.set(each, found);
    return found;
  };
  const longest = [...rooms.keys()].map(way).reduce((best, each) => (each.length > best.length ? each : best));
  return {
    name: 'floors of activities/',
    value: longest.length,
    unit: '',
    bar: BARS.floors,
    at: 'most',
    note: longest.join(' > '),
  };
}

function reach(rooms: ReadonlyMap<string, ReadonlySet<string>>, room: string): Set<string> {
  const found = new Set<string>();
  for (const waiting = [room]; waiting.length > 0;)
    for (const next of rooms.get(waiting.pop()!) ?? [])
      if (!found.has(next)) {
        found.add(next);
        waiting.push(next);
      }
  return found;
}

/** Files that name an addition, in their own name or in their code; a comment is not code. */
function additions(): Measure[] {
  // What `npm run stages` writes follows from the list of stages.
  const isMade = (path: string): boolean => textOf(path).startsWith('// Made by ');
  const naming = (pattern: RegExp, but: (path: string) => boolean): string[] =>
    production
      .filter((path) => !path.startsWith('infra/') && !isMade(path) && !but(path))
      .filter((path) => {
        const withoutComments = textOf(path).replaceAll(/\/\*[\s\S]*?\*\/|(^|\s)\/\/.*$/gm, '');
        return pattern.test(path) || pattern.test(withoutComments);
      });
  const mbpp = naming(/\bmbpp\b/i, () => false);
  const fineTuning = naming(/\bfine-?tuning\b/i, (path) => path.endsWith('.py'));
  const files = (name: string, paths: string[], bar: number): Measure => ({
    name,
    // What is not there has not been shown to need few files.
    value: paths.length || Number.NaN,
    unit: 'files',
    bar,
    at: 'most',
    note: paths.join(' ') || 'is not there',
  });
  return [
    files('production files for MBPP', mbpp, BARS.benchmark),
    files('files by hand for fineTuning, its Python operation apart', fineTuning, BARS.stage),
  ];
}

/** Keys of stored artifacts and of paid replies that are not what the golden list says. */
function goldenKeys(): Measure {
  const test = 'activities/artifacts/recipes.test.ts';
  const args = ['run', '--project', 'unit', test, '--reporter', 'json'];
  const { stdout } = spawnSync(join(root, 'node_modules/.bin/vitest'), args, { cwd: root, encoding: 'utf8' });
  const { numFailedTests, numPassedTests } = JSON.parse(stdout.slice(stdout.indexOf('{'))) as {
    numFailedTests: number;
    numPassedTests: number;
  };
  if (numPassedTests + numFailedTests === 0) throw new Error(`${test} ran no test: ${stdout}`);
  return {
    name: 'keys of stored artifacts and paid replies that change',
    value: numFailedTests,
    unit: '',
    bar: 0,
    at: 'most',
    note: `${numPassedTests} tests of the golden list pass`,
  };
}

/** Seconds from a clone until the experiment starts. Without Go there is a bar; with it, MinIO is compiled first. */
async function setupSeconds(go: boolean): Promise<Measure> {
  const clone = freshClone({ go });
  const log = join(logs(), `house-set-up-${go ? 'with' : 'without'}-go.log`);
  try {
    const { seconds, code: exit } = await clone.run('npm run quickstart', log, 'Started the experiment');
    if (exit !== undefined) throw new Error(`quickstart ended (${exit}) before the experiment started; see ${log}`);
    const name = `fresh clone with${go ? '' : 'out'} Go: until the experiment starts`;
    return { name, value: seconds, unit: 's', ...(go ? {} : { bar: BARS.setupSeconds, at: 'most' as const }) };
  } finally {
    await clone.remove();
  }
}

/** Runs `npm test` in one fresh clone, several times, next to a busy loop on each of two cores. */
async function busyTests(): Promise<Measure[]> {
  const clone = freshClone({ go: true });
  const measures: Measure[] = [];
  try {
    for (let run = 1; run <= TEST_RUNS; run += 1) {
      const loops = [1, 2].map(() => spawn('sh', ['-c', 'while :; do :; done'], { stdio: 'ignore' }));
      try {
        const { seconds, code: exit } = await clone.run('npm test', join(logs(), `house-test-${run}.log`));
        measures.push({
          name: `npm test next to two busy loops, run ${run}: exit code`,
          value: exit ?? -1,
          unit: '',
          bar: 0,
          at: 'most',
          note: `${Math.round(seconds)} s${run === 1 ? ', set-up included' : ''}`,
        });
      } finally {
        for (const loop of loops) loop.kill('SIGKILL');
      }
    }
  } finally {
    await clone.remove();
  }
  return measures;
}

const { values } = parseArgs({
  options: {
    slow: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) console.log(HELP);
else {
  mkdirSync(logs(), { recursive: true });
  const measures = [...additions(), ...documents(), ...code(), ...imports(), goldenKeys()];
  if (values.slow) measures.push(await setupSeconds(false), await setupSeconds(true), ...(await busyTests()));
  report('house', measures, values.json);
}
