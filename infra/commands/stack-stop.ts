/** `npm run stack:stop`: stops the embedded stack and the workers that quickstart started on it. */
import { stopStack } from '../stack/embedded-stack.js';
import { home } from '../setup/paths.mjs';
import { stopWorkers } from '../stack/worker-process.js';
import { runCommand } from './command.js';

const HELP = `npm run stack:stop

Stops the embedded stack of ACECODER_HOME (.acecoder), and the workers that quickstart started on it. The data stays.`;

async function run(): Promise<void> {
  if (await stopWorkers(home())) console.log('The workers are stopped.');
  const stopped = await stopStack({ home: home(), log: console.log });
  console.log(stopped ? 'The stack is stopped; its data stays.' : 'No stack is running.');
}

runCommand({ help: HELP, options: {}, words: false, run });
