/** Measures that a Python bench of `workers/runtime/bench` takes. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, venvPython } from '../../infra/setup/paths.mjs';
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
