/**
 * The part `seeds` of `npm run bench:data`: real source trees through the stages `synthesis` and `filtering`, with the
 * offline teacher. A question counts if the oracle keeps five tests of it, with two different values.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { lockedPython } from '../../../infra/setup/locked-python.js';
import { home, root, venvPython } from '../../../infra/setup/paths.mjs';
import type { StageResult } from '../../../workflows/contract/index.js';
import type { Measure } from '../table.js';

const LEAST_TESTS = 5;
const LEAST_OUTPUTS = 2;
/** Questions of the standard library of Python 3.11; it has 710 functions that need nothing of their modules. */
const LEAST_OF_THE_LIBRARY = 400;

/** Runs a stage on a worker. */
type OnWorker = (type: string, input: unknown) => Promise<{ seconds: number; result: StageResult }>;

/** Writes the seeds of a tree as JSON Lines, and prints what was left out. */
const EXTRACT = `
import json, sys
from collections import Counter
from pathlib import Path
from runtime.source_trees import seeds_of
drops = Counter()
with open(sys.argv[3], "w") as output:
    for row in seeds_of(sys.argv[1], Path(sys.argv[2]), drops):
        output.write(json.dumps(row) + "\\n")
print(json.dumps(drops))
`;

function runPython(python: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(python, args, {
    encoding: 'utf8',
    env: { ...process.env, PYTHONPATH: join(root, 'workers') },
  });
  if (status !== 0) throw new Error(`${python} ended with ${status}: ${stderr.slice(-2000)}`);
  return stdout.trim();
}

/** Name and folder of each tree. */
function trees(): { name: string; folder: string; least?: number }[] {
  const python = lockedPython(join(home(), 'bench', 'trees'), join(root, 'test/bench/data/trees.lock'));
  const library = runPython(venvPython(), ['-c', 'import sysconfig; print(sysconfig.get_path("stdlib"))']);
  const packages = runPython(python, ['-c', 'import sysconfig; print(sysconfig.get_path("purelib"))']);
  return [
    { name: 'standard library', folder: library, least: LEAST_OF_THE_LIBRARY },
    ...['more_itertools', 'toolz', 'boltons'].map((name) => {
      if (!readdirSync(packages).includes(name)) throw new Error(`There is no ${name} in ${packages}.`);
      return { name, folder: join(packages, name) };
    }),
  ];
}

const told = (counts: unknown): string =>
  Object.entries((counts ?? {}) as Record<string, number>)
    .sort(([, a], [, b]) => b - a)
    .map(([reason, times]) => `${reason} ${times}`)
    .join(', ');

/** The measures of the trees with these names, or of all; `folder` is for the seeds' files. */
export async function seedMeasures(
  folder: string,
  onWorker: OnWorker,
  names: readonly string[] = [],
): Promise<Measure[]> {
  const measures: Measure[] = [];
  const known = trees();
  const unknown = names.find((name) => !known.some((tree) => tree.name === name));
  if (unknown !== undefined)
    throw new Error(`--tree is ${unknown}: the trees are ${known.map(({ name }) => name).join(', ')}.`);
  for (const { name, folder: tree, least } of known.filter((each) => names.length === 0 || names.includes(each.name))) {
    console.error(`  ${name} ...`);
    const path = join(folder, `${name.replace(' ', '-')}.jsonl`);
    const drops = JSON.parse(runPython(venvPython(), ['-c', EXTRACT, name, tree, path])) as unknown;
    const config = { teacher: { kind: 'offline' }, decontaminate: [], nearDuplicate: null };
    const taught = await onWorker('synthesis', { inputs: { seeds: { kind: 'seeds', path } }, config });
    console.error(`  ${name}: ${taught.result.ref.rows} questions in ${taught.seconds.toFixed(0)} s, filtering ...`);
    const filtered = await onWorker('filtering', {
      inputs: { questions: taught.result.ref },
      config: { minimumTestCases: LEAST_TESTS, minimumDistinctOutputs: LEAST_OUTPUTS },
    });
    const { seeds, failures } = taught.result.metrics as { seeds: number; failures: unknown };
    const questions = filtered.result.ref.rows ?? 0;
    measures.push(
      { name: `${name}: seeds`, value: seeds, unit: 'seeds', note: `left out: ${told(drops)}` },
      {
        name: `${name}: questions with ${LEAST_TESTS} kept tests and ${LEAST_OUTPUTS} values`,
        value: questions,
        unit: 'questions',
        bar: least ?? seeds / 2,
        note: `no question: ${told(failures)}`,
      },
      { name: `${name}: synthesis`, value: (1000 * taught.seconds) / seeds, unit: 'ms a seed' },
    );
  }
  return measures;
}
