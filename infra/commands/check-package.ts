/**
 * `npm run check:package`: packs the package as it would be published, and has publint and attw look at it. npm then
 * publishes it without sending anything. test/integration/plugin.test.ts installs and uses it.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from '../setup/paths.mjs';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-package-'));

function run(command: string, args: string[]): void {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) throw new Error(error ? error.message : `${command} ${args.join(' ')} failed (${status})`);
}

try {
  // Packing compiles the package into dist first (prepack).
  run('npm', ['pack', '--silent', '--pack-destination', folder]);
  const [name] = readdirSync(folder);
  if (!name) throw new Error('npm pack wrote no file');
  const tarball = join(folder, name);
  const bin = (program: string): string => join(root, 'node_modules/.bin', program);
  run(bin('publint'), ['run', tarball, '--strict']);
  // Temporal's own libraries are loaded by require; this package is for import alone.
  run(bin('attw'), [tarball, '--profile', 'esm-only']);
  const publish = ['publish', tarball, '--dry-run', '--loglevel=warn'];
  const { status, stderr } = spawnSync('npm', publish, { cwd: root, encoding: 'utf8' });
  // Nobody is logged in here, and nothing is sent.
  const warnings = stderr.split('\n').filter((line) => line !== '' && !line.includes('requires you to be logged in'));
  if (status !== 0 || warnings.length > 0) throw new Error(`npm publish would warn:\n${stderr}`);
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
