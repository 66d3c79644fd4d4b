// node infra/commands/run.mjs <command> [args]: installs what is missing, then runs the command's module. It lies next
// to this file or in infra/docs-tools.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { onEndSignal } from '../setup/processes.mjs';
import { fail, setup } from '../setup/setup.mjs';

const [command, ...args] = process.argv.slice(2);
const scripts = ['.', '../docs-tools'].map((folder) =>
  fileURLToPath(new URL(`${folder}/${command}.ts`, import.meta.url)),
);
const script = scripts.find((path) => existsSync(path));
if (!script) {
  process.stderr.write(`There is no command ${command}: no file ${scripts.join(' or ')}.\n`);
  process.exit(2);
}

// The other options are the command's own. Tests have homes of their own, which remember nothing.
const options = { store: { type: 'string' }, temporal: { type: 'string' } };
const { store, temporal } = parseArgs({ args, strict: false, options }).values;
await setup({ quiet: true, store, temporal, remember: !command.startsWith('test') }).catch(fail);

// Resolved from here, so that the command works in any working directory.
const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), script, ...args], { stdio: 'inherit' });
onEndSignal((signal) => child.kill(signal));
child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
