/**
 * The application of docs/how-to/other-plugins.md, with the plugins of the AI SDK and OpenTelemetry next to ours, on a
 * Node that they take. Its language model is a named fake, which speaks the interface of the AI SDK's providers.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { root } from '../../infra/setup/paths.mjs';
import { withoutTemporal } from '../../infra/setup/processes.mjs';
import { commandsOf, copiesOf, filesOf, shellBlocks } from '../fixtures/documentation.js';
import { NODES, pathWithNode } from '../fixtures/node-versions.js';

const path = 'docs/how-to/other-plugins.md';
const app = mkdtempSync(join(tmpdir(), 'acecoder-others-'));
beforeAll(() => {
  execFileSync('npm', ['pack', '--silent', '--pack-destination', app], { cwd: root, stdio: 'pipe' });
  for (const [name, code] of filesOf(path)) writeFileSync(join(app, name), code);
});
afterAll(() => rmSync(app, { recursive: true, force: true }));

it('follows the page: a model mends a program that was judged, in one trace, and its history replays', () => {
  const commands = shellBlocks({ path, text: readFileSync(join(root, path), 'utf8') }).flatMap(commandsOf);
  const PATH = pathWithNode(NODES.find((version) => version.startsWith('22.'))!);
  const profile = inject('stack').configFile;
  const said = (command: string): string => {
    const env = { ...withoutTemporal(), PATH };
    const { status, stdout, stderr } = spawnSync('bash', ['-c', command], { cwd: app, encoding: 'utf8', env });
    expect(status, `${command}\n${stdout}\n${stderr}`).toBe(0);
    return stdout;
  };
  expect(commands).toEqual(['npm install', 'TEMPORAL_CONFIG_FILE=.acecoder/temporal.toml node writing-app.js']);
  expect(said(commands[0]!)).toMatch(/added \d+ packages/);
  for (const library of ['activity', 'client', 'common', 'plugin', 'proto', 'worker', 'workflow'])
    expect([library, copiesOf(library, app)]).toEqual([library, 1]);
  const output = said(commands[1]!.replace('.acecoder/temporal.toml', profile));
  expect(output).toMatch(/^passes at attempt 2$/m);
  const spans = [...output.matchAll(/^span (\w+) (\S+)$/gm)];
  expect(new Set(spans.map(([, trace]) => trace)).size).toBe(1);
  expect(spans.map(([, , name]) => name)).toEqual(
    expect.arrayContaining([
      'StartWorkflow:writeProgram',
      'RunWorkflow:writeProgram',
      'RunActivity:invokeModel',
      'RunActivity:sandbox.judge',
    ]),
  );
  expect(output).toMatch(/^replayed with 0 new spans$/m);
});
