/** Python that benches run: those of `workers/runtime/bench`, and environments of their own. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { home, root, venvPython } from '../../infra/setup/paths.mjs';
import type { Measure } from './table.js';

/** @throws when the bench fails, whose own words are on standard error. */
export function pythonMeasures(bench: string, args: readonly string[]): Measure[] {
  const folder = mkdtempSync(join(tmpdir(), 'acecoder-bench-'));
  try {
    const output = join(folder, 'measures.json');
    const { status } = spawnSync(venvPython(), ['-m', `runtime.bench.${bench}`, '--output', output, ...args], {
      stdio: 'inherit',
      env: { ...process.env, PYTHONPATH: join(root, 'workers') },
    });
    if (status !== 0) throw new Error(`The bench ${bench} failed; see above.`);
    return JSON.parse(readFileSync(output, 'utf8')) as Measure[];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * The interpreter of an environment that a bench has to itself, after pip has run in it with these arguments. What is
 * there and complete stays as it is.
 *
 * @throws Error with the end of what pip said.
 */
export function benchPython(name: string, pip: readonly string[]): string {
  const environment = join(home(), 'bench', name);
  const python = join(environment, 'bin/python');
  const complete = join(environment, 'complete');
  if (existsSync(complete)) return python;
  const run = (command: string, args: readonly string[]): void => {
    const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}: ${stderr.slice(-2000)}`);
  };
  run(venvPython(), ['-m', 'venv', '--clear', environment]);
  run(python, ['-m', 'pip', '--quiet', '--disable-pip-version-check', ...pip]);
  writeFileSync(complete, '');
  return python;
}
