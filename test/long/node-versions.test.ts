/**
 * The packed package on each version of Node that it is for: installed by the npm of that Node, its command, and the
 * application of INTEGRATION.md, whose worker judges a program.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { PACKAGE } from '../../activities/runtime/package.js';
import { root } from '../../infra/setup/paths.mjs';
import { withoutTemporal } from '../../infra/setup/processes.mjs';
import { filesOf } from '../fixtures/documentation.js';
import { NODES, pathWithNode } from '../fixtures/node-versions.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-node-'));
beforeAll(() => {
  execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: root, stdio: 'pipe' });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it.each(NODES)('the package on Node %s is installed, prints its help and judges a program', (version) => {
  const app = join(folder, version);
  mkdirSync(app);
  for (const [name, code] of filesOf('INTEGRATION.md')) writeFileSync(join(app, name), code);
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'))!;
  copyFileSync(join(folder, tarball), join(app, tarball));
  const said = (command: string): string => {
    const env = { ...withoutTemporal(), PATH: pathWithNode(version), TEMPORAL_CONFIG_FILE: inject('stack').configFile };
    const { status, stdout, stderr } = spawnSync('bash', ['-c', command], { cwd: app, encoding: 'utf8', env });
    expect(status, `${command}\n${stdout}\n${stderr}`).toBe(0);
    return stdout;
  };
  expect(said('node --version')).toBe(`v${version}\n`);
  said('npm install --engine-strict --no-audit --no-fund');
  expect(said('npx acecoder-temporal --version').trim()).toBe(PACKAGE.version);
  expect(said('npx acecoder-temporal --help')).toMatch(/^ {2}workers {2,}\S/m);
  expect(said('node app.js')).toMatch(/^pass rate: 0\.5$/m);
});
