/** `npm run bench:<name>`: runs `test/bench/<name>.ts`, which has a stack of its own where it needs one. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../setup/paths.mjs';
import { optionProblem } from './command.js';

const [name] = process.argv.splice(2, 1);
const file = join(root, 'test/bench', `${name}.ts`);
if (!name || !existsSync(file)) throw new Error(`There is no bench ${name}: no file ${file}.`);
// The user's Temporal may be production: no bench sees it.
for (const key of Object.keys(process.env)) if (key.startsWith('TEMPORAL_')) delete process.env[key];
try {
  await import(file);
} catch (error) {
  const problem = optionProblem(error, `npm run ${process.env['npm_lifecycle_event'] ?? `bench:${name}`}`);
  const { code = '', message = '' } = error as NodeJS.ErrnoException;
  // What is wrong with an option begins with it. Everything else is a fault of the bench, whose stack helps.
  if (problem === undefined && !message.startsWith('--') && !code.startsWith('ERR_PARSE_ARGS')) throw error;
  console.error(problem ?? message);
  process.exit(1);
}
