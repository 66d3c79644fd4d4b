/** `npm run stack:stop`: stops the embedded stack and the workers that quickstart started on it. */
import { stopStack } from '../stack/embedded-stack.js';
import { home } from '../setup/paths.mjs';
import { stopWorkers } from '../stack/worker-process.js';

if (await stopWorkers(home())) console.log('The workers are stopped.');
const stopped = await stopStack({ home: home(), log: console.log });
console.log(stopped ? 'The stack is stopped; its data stays.' : 'No stack is running.');
