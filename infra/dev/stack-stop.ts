/** `npm run stack:stop`: stops the embedded stack and the workers that quickstart started on it. */
import { stopStack } from './embedded-stack.js';
import { home } from './paths.mjs';
import { stopWorkers } from './worker-process.js';

if (await stopWorkers(home())) console.log('The workers are stopped.');
const stopped = await stopStack({ home: home(), log: console.log });
console.log(stopped ? 'The stack is stopped; its data stays.' : 'No stack is running.');
