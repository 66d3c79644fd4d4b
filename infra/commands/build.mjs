// npm run build: compiles what the package publishes. A workflow bundle takes no TypeScript from node_modules.
import { spawnSync } from 'node:child_process';
import { cpSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../setup/paths.mjs';

rmSync(join(root, 'dist'), { recursive: true, force: true });
// Build mode leaves a compiled parser that is up to date as it is: something may be running it.
for (const [mode, project] of [
  ['-b', 'infra/nvidia-smi-parser'],
  ['-p', 'infra/tsconfig.build.json'],
]) {
  const { status } = spawnSync(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), mode, join(root, project)],
    { stdio: 'inherit' },
  );
  if (status !== 0) process.exit(status ?? 1);
}

// The set-up is JavaScript as it stands, because a checkout runs it before anything is compiled.
for (const name of readdirSync(join(root, 'infra/setup')))
  if (/\.mjs$|\.lock\.txt$/.test(name)) cpSync(join(root, 'infra/setup', name), join(root, 'dist/infra/setup', name));

// The SDK requires this one by its path.
cpSync(join(root, 'workers/payloads/failure-converter.cjs'), join(root, 'dist/workers/payloads/failure-converter.cjs'));
