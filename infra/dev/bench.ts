/** `npm run bench:<name>`: runs `test/bench/<name>.ts`, on a stack of its own where it needs one. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { root } from './paths.mjs';

const [name, ...args] = process.argv.slice(2);
const file = join(root, 'test/bench', `${name}.ts`);
if (!name || !existsSync(file)) throw new Error(`There is no bench ${name}: no file ${file}.`);
const child = spawn(process.execPath, ['--expose-gc', '--import', import.meta.resolve('tsx'), file, ...args], {
  stdio: 'inherit', env: Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('TEMPORAL_'))),
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal!]));
