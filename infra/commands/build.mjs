// npm run build: compiles what the package publishes. A workflow bundle takes no TypeScript from node_modules.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../setup/paths.mjs';
import { replaceFolder } from './replace-folder.mjs';

// Two runs of npm pack may be at work in one checkout, and each compiles first. dist is therefore never emptied, and
// what both compile alike stays in place while one of them packs it.
mkdirSync(join(root, '.acecoder'), { recursive: true });
const made = mkdtempSync(join(root, '.acecoder/build-'));
process.on('exit', () => rmSync(made, { recursive: true, force: true }));

// Build mode leaves a compiled parser that is up to date as it is: something may be running it.
for (const args of [
  ['-b', join(root, 'infra/nvidia-smi-parser')],
  ['-p', join(root, 'infra/tsconfig.build.json'), '--outDir', made],
]) {
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const { status } = spawnSync(process.execPath, [tsc, ...args], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

// The set-up is JavaScript as it stands, because a checkout runs it before anything is compiled.
for (const name of readdirSync(join(root, 'infra/setup')))
  if (/\.mjs$|\.lock\.txt$/.test(name)) cpSync(join(root, 'infra/setup', name), join(made, 'infra/setup', name));

// The SDK requires this one by its path.
cpSync(join(root, 'workers/payloads/failure-converter.cjs'), join(made, 'workers/payloads/failure-converter.cjs'));

replaceFolder(made, join(root, 'dist'));
