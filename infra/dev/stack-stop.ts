/** `npm run stack:stop`: stops the embedded stack, however it was started. */
import { stopStack } from './embedded-stack.js';
import { home } from './paths.mjs';

const stopped = await stopStack({ home: home(), log: console.log });
console.log(stopped ? 'The stack is stopped; its data stays.' : 'No stack is running.');
