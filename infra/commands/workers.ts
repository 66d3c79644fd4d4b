/** `npm run workers`: all workers in the foreground, on the user's Temporal server or else on the embedded stack. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { isPackage, venvPython } from '../setup/paths.mjs';
import { onEndSignal } from '../setup/processes.mjs';
import { chooseServer, SERVER_HELP } from '../stack/server.js';
import { findWorkers, workerProgram } from '../stack/worker-process.js';
import { FLAG, runCommand, type CommandLine } from './command.js';

const HELP = `npm run workers [-- options]

Runs the workers of all queues until Ctrl-C. Which Temporal server they serve:
${SERVER_HELP}
The artifact store is that of ACECODER_S3_ENDPOINT, ACECODER_S3_BUCKET, ACECODER_S3_ACCESS_KEY and
ACECODER_S3_SECRET_KEY; in case 3 the embedded stack's.

  --embedded   the embedded stack, whatever else is configured
  --role ROLE  only pipeline, llm, sandbox or gpu
  --wait 60s   end with exit code 1 when Temporal or the store are not there after this time (default: wait)
  --help       print this`;

const ROLES = ['pipeline', 'llm', 'sandbox', 'gpu', 'all'];

const OPTIONS = {
  embedded: FLAG,
  role: { type: 'string', default: 'all' },
  wait: { type: 'string' },
} as const;

async function run({ values }: CommandLine<typeof OPTIONS>): Promise<number> {
  if (!ROLES.includes(values.role))
    throw new Error(`--role is ${JSON.stringify(values.role)}; known are ${ROLES.join(', ')}.`);
  const runsModels = values.role === 'gpu' || values.role === 'all';
  // A checkout has its environment from the set-up, which comes before every command.
  if (isPackage && runsModels && !process.env['ACECODER_PYTHON'] && !existsSync(venvPython()))
    throw new Error(
      `There is no Python environment of the model runtime at ${venvPython()}: npm run setup -- --python makes it. ` +
        'Without it, the roles pipeline, llm and sandbox run.',
    );
  const { environment, stack } = await chooseServer({ embedded: values.embedded });
  const running = stack && findWorkers(stack.home);
  if (running)
    throw new Error(
      `Workers of the embedded stack are running already, as process ${running.pid}; npm run stack:stop ends them.`,
    );
  const wait = values.wait === undefined ? [] : ['--wait', values.wait];
  const child = spawn(process.execPath, [...workerProgram(values.role), ...wait], {
    stdio: 'inherit',
    env: { ACECODER_PYTHON: venvPython(), ...environment },
  });
  onEndSignal(() => child.kill('SIGTERM'));
  return new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
}

runCommand({ help: HELP, options: OPTIONS, words: false, run });
