/** The Helm chart, and what it says about this package. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { describe, expect, it } from 'vitest';
import { SEARCH_ATTRIBUTES } from '../../workflows/contract/index.js';
import { PACKAGE } from '../../activities/runtime/package.js';
import { home, root } from '../setup/paths.mjs';

const deploy = join(root, 'infra/deploy');
const read = (path: string): string => readFileSync(join(deploy, path), 'utf8');

interface Document {
  kind: string;
  spec?: { template?: { spec: { containers?: { env?: { name: string }[] }[] } } };
}
const cases = readdirSync(join(deploy, 'check/values'));
const documents = cases.flatMap((name) =>
  parseAllDocuments(read(`check/golden/${name}`)).map((document) => document.toJS() as Document),
);

it('the chart has the version of the package, and registers its search attributes', () => {
  const { version, appVersion } = parse(read('helm/Chart.yaml')) as Record<string, string>;
  expect([version, appVersion]).toEqual([PACKAGE.version, PACKAGE.version]);
  expect(JSON.parse(read('helm/search-attributes.json'))).toEqual(SEARCH_ATTRIBUTES);
});

it('every variable that a pod gets is documented', () => {
  const page = readFileSync(join(root, 'docs/reference/environment.md'), 'utf8');
  const names = documents.flatMap(({ spec }) =>
    (spec?.template?.spec.containers ?? []).flatMap(({ env = [] }) => env.map(({ name }) => name)),
  );
  const own = [...new Set(names)].filter((name) => name.startsWith('ACECODER_'));
  expect(own.length).toBeGreaterThan(8);
  expect(own.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
});

describe('the chart, rendered', () => {
  const python = join(home(), 'deploy-check', 'bin/python');
  it('is what the golden files have, and right by the schemas of Kubernetes', { timeout: 120_000 }, (context) => {
    context.skip(!existsSync(python), 'npm run check:deploy has not made its environment (350 MB)');
    const { status, stderr } = spawnSync(python, [join(deploy, 'check/chart.py')], { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(status).toBe(0);
  });
});
