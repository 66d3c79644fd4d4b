/** Published data sets, both ways: the tests of each row, run as they are in the Python environment. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root, venvPython } from '../../../infra/setup/paths.mjs';
import type { Measure } from '../table.js';

/** What published data sets bring, and the tests of the runtime that hold it. */
const ROWS: readonly { name: string; tests: readonly string[] }[] = [
  { name: 'Evol-Instruct is JSON Lines with a name of its own', tests: ['published_file_of_evol_instruct'] },
  { name: 'JSON Lines, JSON, CSV and Parquet, gzipped or not', tests: ['every_form_of_file', 'lists_of_a_csv'] },
  { name: 'one configuration of several, listed where none is named', tests: ['one_configuration_of_several'] },
  { name: 'one split of several, listed where none is named', tests: ['one_split_of_several'] },
  { name: 'the forms in which a card names files', tests: ['forms_in_which_a_card'] },
  { name: 'the entry point is what the tests are about', tests: ['entry_point_is_what'] },
  { name: 'import lines of tests are kept', tests: ['import_lines_of_tests'] },
  { name: 'programs of several samplers stay apart', tests: ['several_samplers'] },
  { name: 'an export has the published features, and comes back row by row', tests: ['export_has_the_features'] },
  { name: 'context_messages is what a chat template takes', tests: ['chat_template_takes'] },
];

/** How many rows are right: a row is where it has tests, and all of them pass. */
export function hub(): Promise<Measure[]> {
  const files = ['runtime/tests/test_hub.py', 'runtime/tests/test_tables.py'];
  const chosen = ROWS.flatMap(({ tests }) => tests).join(' or ');
  const { stdout } = spawnSync(
    venvPython(),
    ['-m', 'pytest', '-vv', '-p', 'no:cacheprovider', '-k', chosen, ...files],
    {
      cwd: join(root, 'workers'),
      encoding: 'utf8',
    },
  );
  const ended = [...stdout.matchAll(/::(test_\S+).* (PASSED|FAILED|ERROR|SKIPPED)/g)].map(([, name, how]) => ({
    name: name!,
    passed: how === 'PASSED',
  }));
  const wrong = ROWS.filter(({ name, tests }) => {
    const own = ended.filter((test) => tests.some((part) => test.name.includes(part)));
    const right = own.length > 0 && own.every(({ passed }) => passed);
    console.error(`  ${right ? 'right' : 'WRONG'}  ${name}, ${own.length} tests`);
    return !right;
  });
  if (wrong.length > 0) console.error(stdout);
  return Promise.resolve([
    {
      name: 'published data sets, both ways: rows that are right',
      value: ROWS.length - wrong.length,
      unit: `of ${ROWS.length}`,
      bar: ROWS.length,
      note:
        wrong.length === 0 ? 'by the tests of workers/runtime' : `wrong: ${wrong.map(({ name }) => name).join('; ')}`,
    },
  ]);
}
