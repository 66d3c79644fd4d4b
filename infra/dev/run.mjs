// node infra/dev/run.mjs <command> [args]: sets up where something is missing, then runs infra/dev/<command>.ts.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { fail, setup } from './setup.mjs';

const [command, ...args] = process.argv.slice(2);
const script = fileURLToPath(new URL(`${command}.ts`, import.meta.url));
if (!existsSync(script)) {
  process.stderr.write(`There is no command ${command}: no file ${script}.\n`);
  process.exit(2);
}

await setup({ quiet: true }).catch(fail);

// Resolved from here, so that the command works in any working directory.
const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), script, ...args], { stdio: 'inherit' });
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
