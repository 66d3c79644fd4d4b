/** `npm run bench:sandbox`: runs the bench of `workers/sandbox/bench` in the project's Python environment. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { home, root, venvPython } from '../setup/paths.mjs';

const { status } = spawnSync(venvPython(), ['-m', 'sandbox.bench', ...process.argv.slice(2)], {
  stdio: 'inherit',
  env: { ...process.env, PYTHONPATH: join(root, 'workers'), PYTHONDONTWRITEBYTECODE: '1', ACECODER_HOME: home() },
});
process.exitCode = status ?? 1;
