import { main } from './run-workers.js';

main(['gpu']);
